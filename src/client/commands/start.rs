//! `stead start`: what a file says, a script, or apps that are known. A file or script already running as it says is left alone.

use super::{Fleet as Shown, caps, environment, usage};
use crate::client::cli::{ScriptArgs, StartArgs};
use crate::client::connect::{Daemon, path_with};
use crate::client::render::{plan, screen};
use crate::client::{Context, Outcome};
use crate::config::{self, Ecosystem, Problem, Problems, Surroundings};
use crate::core::action::Action;
use crate::core::command::{Asked, Command, Origin, Refusal, RefusalKind, Reply, Terms};
use crate::core::event::Event;
use crate::core::fleet::Fleet;
use crate::core::name::{Ticket, nearest};
use crate::core::record::Actor;
use crate::core::recover::Found;
use crate::core::spec::Spec;
use crate::core::view::{Description, InstanceView, Pong};
use crate::os::{clock, process, user};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What one argument means.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    File(PathBuf),
    Script(String),
    App(String),
}

pub async fn run(context: &Context, mut args: StartArgs) -> Outcome {
    let words = std::mem::take(&mut args.targets);
    let described = attributes(&args.script);
    let is_script = !described.is_empty() || !args.args.is_empty();
    let mut named = Vec::new();
    for word in words {
        named.push(meaning(context, word, is_script).await?);
    }
    if named.is_empty() {
        named.push(Named::File(default_file()?));
    }
    refuse_what_does_not_fit(&named, &args, described.first().map(|(name, _)| name.as_str()))?;
    let (mut specs, mut rules, mut notifiers) = (Vec::new(), None, None);
    let mut targets = Vec::new();
    let mut origins = Vec::new();
    for one in named {
        let of_script = matches!(one, Named::Script(_));
        let file = match &one {
            // What comes by a pipe does not come again under the same name.
            Named::File(path) => path.canonicalize().ok().filter(|path| path.is_file()),
            Named::Script(_) | Named::App(_) => None,
        };
        let read = match one {
            Named::App(target) => {
                targets.push(target);
                continue;
            }
            Named::File(path) => ecosystem(&path, args.env.as_deref()),
            Named::Script(script) => {
                let mut given = vec![("script".to_owned(), Value::from(script))];
                given.extend(described.iter().cloned());
                if !args.args.is_empty() {
                    given.push(("args".to_owned(), args.args.clone().into()));
                }
                around(|surroundings| config::script(given, surroundings))
            }
        };
        match read {
            Ok(ecosystem) => {
                tell(context, &ecosystem.warnings);
                if of_script {
                    refuse_another_of_that_name(context, &ecosystem.specs).await?;
                }
                let names = ecosystem.specs.iter().map(|spec| spec.name.clone()).collect();
                origins.extend(file.map(|file| Origin { file, names }));
                specs.extend(ecosystem.specs);
                rules = ecosystem.rules.or(rules);
                notifiers = ecosystem.notifiers.or(notifiers);
            }
            Err(problems) => {
                complain(context, &problems);
                return Ok(2);
            }
        }
    }
    if !args.only.is_empty() {
        specs = only(specs, &args.only)?;
    }
    let wait = !args.wait.no_wait;
    let mut reply = Reply::default();
    let capped = !caps::of_specs(&specs).is_empty();
    if !specs.is_empty() {
        let of_file = !origins.is_empty();
        let apply = |specs, dry_run| {
            let terms = Terms { dry_run, prune: args.prune, origins: origins.clone() };
            Command::Apply {
                specs,
                environment: environment(),
                rules: rules.clone(),
                notifiers: notifiers.clone(),
                terms,
            }
        };
        if args.dry_run {
            let plan = would(context, apply(specs, true)).await?;
            screen::print(&plan::plan(&context.screen, &plan))?;
            return Ok(0);
        }
        // Where more is done than to start what is new, it is said before it is done.
        let planned = match of_file {
            true => Some(context.ask(apply(specs.clone(), true), true).await?).filter(plan::touches),
            false => None,
        };
        if let Some(plan) = &planned {
            screen::print(&plan::plan(&context.screen, plan))?;
        }
        reply = context.ask(apply(specs, false), wait).await?;
        if planned.is_some() {
            plan::forget_what_was_said(&mut reply);
        }
    }
    if !targets.is_empty() {
        let command = match args.update_env {
            true => Command::Restart { targets, environment: Some(environment()) },
            false => Command::Start { targets },
        };
        let more = context.ask(command, wait).await?;
        reply.changes.extend(more.changes);
        reply.failures.extend(more.failures);
        reply.warnings.extend(more.warnings);
    }
    if capped {
        let views: Vec<InstanceView> = context.daemon.view("/v1/list").await?;
        reply.warnings.extend(caps::warning(&caps::of_views(&views)));
    }
    context.report("start", &reply, Shown::Shown).await
}

/// What would be done. Where no daemon runs, what one would do that begins with what is wanted; none is started for this.
async fn would(context: &Context, command: Command) -> Result<Reply, Refusal> {
    let asleep = Daemon { home: context.daemon.home.clone(), starts: false };
    if asleep.view::<Pong>("/v1/ping").await.is_ok() {
        return context.ask(command, true).await;
    }
    let state = context.daemon.home.path.join("state.json");
    let wanted = std::fs::read(state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let now = clock::now();
    let (mut fleet, _) = Fleet::recover(1, now, Found { wanted, ..Found::default() });
    let asked = Asked { command, wait: false, actor: Actor { uid: None, pid: None, command: None } };
    let said = fleet.handle(now, Event::Asked { ticket: Ticket(0), asked });
    let reply = said.into_iter().find_map(|action| match action {
        Action::Reply { result, .. } => Some(result),
        _ => None,
    });
    reply.unwrap_or_else(|| Ok(Reply::default()))
}

/// A script's name is mostly its file's, and many are called `app.py`: another one must not take the place of what runs.
async fn refuse_another_of_that_name(context: &Context, specs: &[Spec]) -> Result<(), Refusal> {
    for spec in specs {
        let path = path_with("/v1/describe", &[("target", spec.name.as_str())]);
        let Ok(known) = context.daemon.view::<Vec<Description>>(&path).await else { continue };
        let same = |one: &Description| {
            (&one.spec.script, &one.spec.cwd) == (&spec.script, &spec.cwd) || one.view.app != spec.name.as_str()
        };
        if let Some(other) = known.iter().find(|one| !same(one)) {
            let error =
                format!("`{}` is another app: {} in {}", spec.name, other.spec.script, other.spec.cwd.display());
            let hint = format!("give this one a name of its own with --name, or `stead delete {}` first", spec.name);
            return Err(usage(error).hint(hint));
        }
    }
    Ok(())
}

/// A file by its extension; an app that is known; else a script. `is_script`: it is described as only a script is.
async fn meaning(context: &Context, word: String, is_script: bool) -> Result<Named, Refusal> {
    let path = Path::new(&word);
    if config::is_ecosystem(&word) {
        return Ok(Named::File(path.to_owned()));
    }
    if [".config.js", ".config.cjs", ".config.mjs"].iter().any(|ending| word.ends_with(ending)) {
        let refusal = usage(format!("{word} is JavaScript, and an ecosystem file is YAML or JSON"));
        return Err(
            refusal.hint("the attributes have the same names: write them as ecosystem.yaml, and `stead check` it")
        );
    }
    if is_script || word.contains('/') {
        return Ok(Named::Script(word));
    }
    match context.daemon.get(&path_with("/v1/describe", &[("target", &word)])).await {
        Ok(_) => Ok(Named::App(word)),
        Err(refusal) if refusal.kind != RefusalKind::NoSuchApp => Err(refusal),
        Err(_) if word != "all" && (path.exists() || word.contains(' ')) => Ok(Named::Script(word)),
        Err(mut refusal) => {
            refusal.error.push_str(", and no file of that name here");
            Err(context.or_elsewhere(refusal, &[word]))
        }
    }
}

pub fn default_file() -> Result<PathBuf, Refusal> {
    let found = config::DEFAULT_NAMES.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| {
        usage(format!("there is no {} here", config::DEFAULT_NAMES[0]))
            .hint("`stead start FILE`, `stead start SCRIPT` or `stead start NAME`")
    })
}

fn refuse_what_does_not_fit(named: &[Named], args: &StartArgs, described: Option<&str>) -> Result<(), Refusal> {
    let files = named.iter().any(|one| matches!(one, Named::File(_)));
    let others = named.iter().any(|one| !matches!(one, Named::Script(_)));
    let flag = described.map(|name| format!("--{}", name.replace('_', "-")));
    if let Some(flag) = flag.or((!args.args.is_empty()).then(|| "what follows `--`".to_owned())) {
        if others {
            return Err(usage(format!("{flag} is said of a script; a file or a known app says it itself"))
                .hint("change it in the ecosystem file and `stead start` that again"));
        }
        if named.len() > 1 {
            return Err(usage(format!("{flag} would hold for {} scripts", named.len())).hint("start them one by one"));
        }
    }
    if !files && (!args.only.is_empty() || args.env.is_some()) {
        let flag = if args.env.is_some() { "--env" } else { "--only" };
        return Err(usage(format!("{flag} chooses from an ecosystem file, and none is given")));
    }
    if !files && (args.prune || args.dry_run) {
        let flag = if args.prune { "--prune" } else { "--dry-run" };
        return Err(usage(format!("{flag} is about an ecosystem file, and none is given")));
    }
    if args.dry_run && named.iter().any(|one| matches!(one, Named::App(_))) {
        return Err(usage("--dry-run is about ecosystem files: a known app by its name is simply started"));
    }
    if args.update_env && named.iter().any(|one| !matches!(one, Named::App(_))) {
        return Err(usage("--update-env is for apps that are known").hint("`stead restart NAME --update-env`"));
    }
    Ok(())
}

/// The apps of these names and, said, what they depend on.
fn only(specs: Vec<Spec>, names: &[String]) -> Result<Vec<Spec>, Refusal> {
    for name in names {
        if !specs.iter().any(|spec| spec.name.as_str() == name) {
            let known = specs.iter().map(|spec| spec.name.as_str());
            let error = format!("the file has no app `{name}`");
            let hint = nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
            return Err(Refusal { kind: RefusalKind::NoSuchApp, error, hint });
        }
    }
    let mut chosen = names.to_vec();
    let mut next = 0;
    while let Some(of) = chosen.get(next).cloned() {
        next += 1;
        let Some(spec) = specs.iter().find(|spec| spec.name.as_str() == of) else { continue };
        for name in spec.depends_on.keys().map(ToString::to_string) {
            if !chosen.contains(&name) && specs.iter().any(|other| other.name.as_str() == name) {
                screen::note(&format!("with {name}: {of} depends on it\n"));
                chosen.push(name);
            }
        }
    }
    Ok(specs.into_iter().filter(|spec| chosen.iter().any(|name| spec.name.as_str() == name)).collect())
}

/// The attributes that flags give, under the names that the ecosystem file has for them.
fn attributes(script: &ScriptArgs) -> Vec<(String, Value)> {
    let text = |value: &Option<String>| value.clone().map(Value::from);
    // A number is a number there too: `5000` are milliseconds or bytes, `5s` and `300M` carry their unit.
    let number = |value: &Option<String>| {
        value.as_ref().map(|text| text.parse::<i64>().map_or_else(|_| Value::from(text.as_str()), Value::from))
    };
    let flag = |set: bool, value: bool| set.then_some(Value::from(value));
    let list = |values: &[String]| (!values.is_empty()).then(|| Value::from(values));
    let codes = &script.stop_exit_codes;
    [
        ("name", text(&script.name)),
        ("namespace", text(&script.namespace)),
        ("interpreter", text(&script.interpreter)),
        ("interpreter_args", text(&script.interpreter_args)),
        ("cwd", text(&script.cwd)),
        ("env_file", text(&script.env_file)),
        ("instances", number(&script.instances)),
        ("max_memory_restart", number(&script.max_memory_restart)),
        ("autorestart", flag(script.no_autorestart, false)),
        ("stop_exit_codes", (!codes.is_empty()).then(|| Value::from(codes.as_slice()))),
        ("restart_delay", number(&script.restart_delay)),
        ("exp_backoff_restart_delay", number(&script.exp_backoff_restart_delay)),
        ("min_uptime", number(&script.min_uptime)),
        ("max_restarts", number(&script.max_restarts)),
        ("kill_signal", text(&script.kill_signal)),
        ("kill_timeout", number(&script.kill_timeout)),
        ("out_file", text(&script.output)),
        ("error_file", text(&script.error)),
        ("log_file", text(&script.log)),
        ("time", flag(script.time, true)),
        ("log_date_format", text(&script.log_date_format)),
        ("merge_logs", flag(script.merge_logs, true)),
        ("user", text(&script.user)),
        ("group", text(&script.group)),
        ("listen", list(&script.listen)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// Reads an ecosystem file.
///
/// # Errors
/// All that is wrong with it.
pub fn ecosystem(path: &Path, env: Option<&str>) -> Result<Ecosystem, Problems> {
    around(|surroundings| config::read(path, env, surroundings))
}

fn around<T>(read: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    read(&Surroundings {
        cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        path: std::env::var("PATH").ok(),
        home_dir: std::env::var("HOME").ok().or_else(|| process::home_of(process::uid())),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        uid: process::uid(),
        user: &user::user,
        group: &user::group,
        executable: &user::executable,
    })
}

/// Warnings, each with its hint.
pub fn tell(context: &Context, warnings: &[Problem]) {
    for warning in warnings {
        let hint = warning.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        screen::warn(&context.errors, &(sentence(warning) + &hint));
    }
}

/// Everything that is wrong with a file or with flags, at once.
pub fn complain(context: &Context, problems: &Problems) {
    for problem in &problems.0 {
        screen::note(&screen::complaint(&context.errors, &sentence(problem), problem.hint.as_deref()));
    }
}

/// On the command line the script is no flag: what is wrong with it names it already.
fn sentence(problem: &Problem) -> String {
    let is_script = problem.place.file.is_none() && problem.place.path == "--script";
    if is_script { problem.message.clone() } else { problem.to_string() }
}
