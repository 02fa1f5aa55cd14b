//! One file per verb.

mod caps;
mod check;
mod completions;
mod delete;
mod describe;
mod flush;
mod health;
mod jlist;
mod kill;
mod list;
mod logs;
pub mod mirror;
mod notify;
mod ping;
mod reload;
mod reset;
mod restart;
mod resurrect;
mod save;
mod scale;
mod schema;
mod signal;
mod start;
mod startup;
mod stop;
mod trend;
mod upgrade;
mod why;

use super::cli::Command as Verb;
use super::connect::path_with;
use super::render::screen::{self, Screen};
use super::render::{list as table, reply};
use super::{Context, Outcome, progress};
use crate::core::command::{Command, Refusal, RefusalKind, Reply};
use crate::core::view::{Enforcement, InstanceView, Pong};
use crate::os::clock;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs a verb.
pub async fn run(context: Context, verb: Verb) -> Outcome {
    let context = &context;
    match verb {
        Verb::Start(args) => start::run(context, *args).await,
        Verb::Stop(args) => stop::run(context, args).await,
        Verb::Restart(args) => restart::run(context, args).await,
        Verb::Reload(args) => reload::run(context, args).await,
        Verb::Delete(args) => delete::run(context, args).await,
        Verb::List(args) => list::run(context, &args).await,
        Verb::Describe(args) => describe::run(context, &args).await,
        Verb::Why(args) => why::run(context, &args).await,
        Verb::Health(args) => health::run(context, &args).await,
        Verb::Notify(args) => notify::run(context, &args).await,
        Verb::Trend(args) => trend::run(context, &args).await,
        Verb::Logs(args) => logs::run(context, &args).await,
        Verb::Flush(args) => flush::run(context, args).await,
        Verb::Save(args) => save::run(context, &args).await,
        Verb::Resurrect(wait) => resurrect::run(context, wait).await,
        Verb::Scale(args) => scale::run(context, args).await,
        Verb::Reset(args) => reset::run(context, args).await,
        Verb::Signal(args) => signal::run(context, args).await,
        Verb::Jlist(args) => jlist::run(context, &args).await,
        Verb::Check(args) => check::run(context, &args),
        Verb::Schema => schema::run(),
        Verb::Kill(wait) => kill::run(context, wait).await,
        Verb::Ping(args) => ping::run(context, &args).await,
        Verb::Upgrade(args) => upgrade::run(context, args).await,
        Verb::Startup(args) => startup::run(context, &args).await,
        Verb::Unstartup(args) => startup::undo(context, &args).await,
        Verb::Completions(args) => completions::run(&args),
        Verb::Daemon(_) => Err(usage("`stead daemon` is a role of its own")),
    }
}

impl Context {
    /// Sends a command; on a terminal, shows how far it is.
    async fn ask(&self, command: Command, wait: bool) -> Result<Reply, Refusal> {
        let targets = targets_of(&command).to_vec();
        let shown = progress::Progress::of(&command).filter(|_| wait);
        let asking = self.daemon.command(command, wait);
        let reply = match shown {
            Some(progress) => progress.show(&self.daemon, &self.errors, asking).await,
            None => asking.await,
        };
        reply.map_err(|refusal| self.or_elsewhere(refusal, &targets))
    }

    /// Reads something about a target.
    async fn about<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Refusal> {
        let targets: Vec<String> =
            query.iter().filter(|(name, _)| *name == "target").map(|(_, target)| (*target).to_owned()).collect();
        let view = self.daemon.view(&path_with(path, query)).await;
        view.map_err(|refusal| self.or_elsewhere(refusal, &targets))
    }

    /// An app that is not here may be in another user's stead, and a file is no app.
    fn or_elsewhere(&self, mut refusal: Refusal, targets: &[String]) -> Refusal {
        if refusal.kind == RefusalKind::NoSuchApp {
            let is_file = targets.iter().any(|target| target.ends_with(".yaml") || target.ends_with(".yml"));
            let file = is_file.then(|| "a file is for `stead start`; other verbs take names".to_owned());
            let elsewhere = targets.iter().find_map(|target| self.daemon.home.elsewhere(target));
            let hints: Vec<String> = [refusal.hint.take(), file, elsewhere].into_iter().flatten().collect();
            refusal.hint = (!hints.is_empty()).then(|| hints.join("\n"));
        }
        refusal
    }

    /// Sends a command, and shows what became of it and of the fleet.
    async fn change(&self, verb: &str, command: Command, wait: bool) -> Outcome {
        let reply = self.ask(command, wait).await?;
        self.report(verb, &reply, Fleet::Shown).await
    }

    /// Below what was shown of apps: what stead cannot do for the moment, why caps are kept by polling, and what would help.
    async fn tell_troubles(&self, views: impl IntoIterator<Item = &InstanceView>) -> Outcome {
        let polled =
            |view: &InstanceView| view.memory_cap_bytes.is_some() && view.memory_enforcement == Enforcement::Polling;
        let pong: Pong = self.daemon.view("/v1/ping").await?;
        screen::print(&table::faults(&self.screen, &pong))?;
        if views.into_iter().any(polled) {
            screen::print(&table::remedy(&self.screen, &pong))?;
        }
        Ok(0)
    }

    /// Shows what became of a command. Failures come last, where they are seen.
    async fn report(&self, verb: &str, reply: &Reply, fleet: Fleet) -> Outcome {
        for warning in &reply.warnings {
            screen::warn(&self.errors, warning);
        }
        let mut shown = reply::changes(&self.screen, reply);
        if fleet == Fleet::Shown {
            let views: Vec<InstanceView> = self.daemon.view("/v1/list").await?;
            shown.push_str(&table::after(&self.screen.of_tables(), clock::now().wall, &views, reply));
        }
        screen::print(&shown)?;
        for failure in &reply.failures {
            screen::note(&reply::failure(&self.errors, verb, failure));
        }
        Ok(u8::from(!reply.failures.is_empty()))
    }
}

/// Whether a verb shows the list when it is done, as PM2's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fleet {
    Shown,
    Left,
}

fn targets_of(command: &Command) -> &[String] {
    match command {
        Command::Start { targets }
        | Command::Stop { targets }
        | Command::Restart { targets, .. }
        | Command::Reload { targets }
        | Command::Delete { targets }
        | Command::Reset { targets }
        | Command::Signal { targets, .. }
        | Command::Flush { targets } => targets,
        Command::Scale { app, .. } => std::slice::from_ref(app),
        Command::Apply { .. } | Command::Save { .. } | Command::Resurrect | Command::Kill => &[],
    }
}

fn usage(error: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Usage, error: error.into(), hint: None }
}

/// No target is all of them.
fn or_all(targets: Vec<String>) -> Vec<String> {
    if targets.is_empty() { vec!["all".into()] } else { targets }
}

/// For programs: one line where it is piped, indented where a person looks at it.
fn print_json(screen: &Screen, value: &impl Serialize) -> Outcome {
    let text = if screen.is_terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text = text.map_err(|error| Refusal::failed(format!("could not write JSON: {error}")))?;
    screen::print(&(text + "\n"))?;
    Ok(0)
}

/// This shell's environment, the base of an app's: without what belongs to our own session and service, without the
/// marks of an app that may have called us, and without what is no UTF-8.
fn environment() -> crate::core::spec::Env {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| is_of_the_app(name)).collect()
}

fn is_of_the_app(name: &str) -> bool {
    let families = ["WATCHDOG_", "LISTEN_", "XDG_SESSION_", "SSH_", "STEAD_"];
    let single = ["NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "TERM"];
    !single.contains(&name) && !families.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_gets_nothing_of_our_own_session() {
        for gone in [
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "LISTEN_FDS",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "XDG_SESSION_ID",
            "SSH_AUTH_SOCK",
            "TERM",
            "STEAD_RUN",
        ] {
            assert!(!is_of_the_app(gone), "{gone}");
        }
        for stays in ["PATH", "HOME", "LANG", "TERMINFO", "XDG_RUNTIME_DIR", "VIRTUAL_ENV"] {
            assert!(is_of_the_app(stays), "{stays}");
        }
    }
}
