//! One app of the file becomes a spec.

use super::attributes::{ATTRIBUTES, Attribute, COMMENT, Standing, find, is_comment, like, nearest};
use super::file::step;
use super::node::{Entry, Kind, Node, Value};
use super::policy;
use super::problem::{Fault, Place, Problem, located, shown};
use super::surroundings::Surroundings;
use super::value::{self, boolean, integer, span, text, wanted, word};
use crate::core::clock::Millis;
use crate::core::name::AppName;
use crate::core::spec::{self, KillMode, Listen, Policy, Reload, Signal, Spec, Stop};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// More instances of one app are a slip of the pen.
const MAX_INSTANCES: u32 = 1000;

/// Beyond it `stead why` would take seconds.
const MAX_JOURNAL_KEEP: i64 = 1_000_000;

/// Where the attributes come from.
pub(super) struct Source<'a> {
    /// As the user named it. `None`: the command line.
    pub file: Option<&'a Path>,
    /// What relative paths start from.
    pub base: PathBuf,
    /// Of `--env`.
    pub env_name: Option<&'a str>,
    pub around: &'a Surroundings<'a>,
}

/// An app as written, and what is wrong with it so far.
pub(super) struct App<'a> {
    pub source: &'a Source<'a>,
    /// `apps[2]`.
    path: String,
    line: usize,
    given: BTreeMap<&'static str, &'a Entry>,
    /// The `env_<name>` attributes.
    pub environments: Vec<(&'a str, &'a Entry)>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// What became of an app.
pub(super) struct Outcome<'a> {
    /// `None`: there are problems.
    pub spec: Option<Spec>,
    pub name: Option<AppName>,
    pub instances: Option<u32>,
    /// Where it got its name.
    pub place: Place,
    pub listen: Vec<(Listen, Place)>,
    /// Where it says what it depends on.
    pub depends_on: Place,
    pub environments: Vec<&'a str>,
    /// Attributes that stead does not act upon.
    pub unused: Vec<(&'static Attribute, Place)>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Makes a spec of the attributes of one app.
pub(super) fn resolve<'a>(source: &'a Source<'a>, path: String, line: usize, entries: &'a [Entry]) -> Outcome<'a> {
    let mut app = App {
        source,
        path,
        line,
        given: BTreeMap::new(),
        environments: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    // What the app says itself first: a merged alias then finds the attribute taken.
    for entry in entries.iter().filter(|entry| !entry.merged).chain(entries.iter().filter(|entry| entry.merged)) {
        app.admit(entry);
    }
    app.outcome()
}

impl<'a> App<'a> {
    fn admit(&mut self, entry: &'a Entry) {
        if let Some(attribute) = find(&entry.key) {
            match self.given.get(attribute.name) {
                Some(_) if entry.merged => {}
                Some(first) => {
                    let message = format!("is the same attribute as `{}` in line {}", shown(&first.key), first.line);
                    self.complain(self.place(entry), Fault::new(message));
                }
                None => {
                    self.given.insert(attribute.name, entry);
                }
            }
        } else if let Some(name) = environment_name(&entry.key) {
            self.environments.push((name, entry));
        } else if !entry.key.starts_with("x-") {
            let fault = Fault::new("unknown attribute");
            let fault = match nearest(&entry.key) {
                _ if is_comment(&entry.key) => fault.hint(COMMENT),
                Some(known) => fault.hint(format!("did you mean `{known}`?")),
                None => fault,
            };
            self.complain(self.place(entry), fault);
        }
    }

    pub fn complain(&mut self, place: Place, fault: Fault) {
        self.problems.push(fault.at(place));
    }

    pub fn warn(&mut self, place: Place, fault: Fault) {
        self.warnings.push(fault.at(place));
    }

    /// The place of an attribute.
    pub fn place(&self, entry: &Entry) -> Place {
        match self.source.file {
            Some(_) => self.at(entry.line, format!("{}{}", self.path, step(&self.path, &entry.key))),
            None => self.at(0, format!("--{}", entry.key.replace('_', "-"))),
        }
    }

    /// A place within the app's file.
    pub fn at(&self, line: usize, path: String) -> Place {
        let file = self.source.file.map(Path::to_owned);
        Place { line: file.as_ref().map(|_| line), file, path }
    }

    /// The place of an attribute by its name; where it is not given, that of the app.
    pub fn place_of(&self, name: &str) -> Place {
        match self.given.get(name) {
            Some(entry) => self.place(entry),
            None => {
                self.at(self.line, if self.source.file.is_some() { self.path.clone() } else { format!("--{name}") })
            }
        }
    }

    /// The entry of an attribute, if it is given and not null.
    pub fn entry(&mut self, name: &'static str) -> Option<&'a Entry> {
        debug_assert!(ATTRIBUTES.iter().any(|known| known.name == name && known.standing == Standing::Used));
        self.given.get(name).copied().filter(|entry| !entry.value.is_null())
    }

    /// An attribute's value. A bad one is a problem, and reads as if it were not there.
    pub fn get<T>(&mut self, name: &'static str, read: impl FnOnce(&Node) -> Result<T, Fault>) -> Option<T> {
        let entry = self.entry(name)?;
        let read = match &entry.value.value {
            Value::Scalar { kind: Kind::Empty, .. } => {
                Err(Fault::new("has no value").hint("write a value, or `null` for the default"))
            }
            _ => read(&entry.value),
        };
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                self.complain(self.place(entry), fault);
                None
            }
        }
    }

    /// A path relative to the file.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let source = self.source;
        self.get(name, |node| Ok(source.around.path(&source.base, &word(node)?)))
    }

    fn outcome(mut self) -> Outcome<'a> {
        let env = self.environment();
        let cwd = self.cwd();
        let program = self.program(cwd.as_deref(), &env);
        let name = self.name(program.as_ref().map(|program| program.stem.as_str()));
        let instances = self.instances();
        let listen = self.listen();
        self.refuse_cluster();
        let place = self.place_of("name");
        let depends_on = self.place_of("depends_on");
        let namespace = self.get("namespace", |node| AppName::parse(&word(node)?).map_err(Fault::new));
        let cap = self.get("max_memory_restart", value::cap).flatten();
        let spec = Spec {
            name: name.clone().unwrap_or_else(placeholder),
            namespace: namespace.map_or_else(|| "default".into(), String::from),
            script: self.get("script", text).unwrap_or_default(),
            instances,
            instance_var: self.get("instance_var", variable).unwrap_or_else(|| "NODE_APP_INSTANCE".into()),
            autostart: self.get("autostart", boolean).unwrap_or(true),
            policy: self.policy(),
            readiness: self.readiness(),
            depends_on: self.depends_on(),
            stop: self.stop(),
            reload: self.reload(!listen.is_empty()),
            identity: self.identity(),
            no_new_privileges: self.get("no_new_privileges", boolean).unwrap_or(false),
            umask: self.get("umask", value::umask),
            nice: self.get("nice", |node| integer(node, -20, 19)).map(|nice| nice as i32),
            limits: self.limits(),
            logs: self.logs(),
            pid_file: self.path("pid_file"),
            max_memory_restart: cap,
            allowance: self.allowance(cap),
            health: self.health(),
            notify: self.notify(),
            watch: self.watch(cwd.as_deref()),
            listen: listen.iter().map(|(listen, _)| listen.clone()).collect(),
            journal_keep: self
                .get("journal_keep", |node| integer(node, 1, MAX_JOURNAL_KEEP))
                .map_or_else(spec::journal_keep, |keep| keep as u32),
            env: program.as_ref().map_or_else(|| env.clone(), |program| program.env(env.clone())),
            command: program.map(|program| program.command).unwrap_or_default(),
            cwd: cwd.unwrap_or_default(),
        };
        self.warn_of_seconds();
        Outcome {
            spec: self.problems.is_empty().then_some(spec),
            name,
            instances,
            place,
            listen,
            depends_on,
            environments: self.environments.iter().map(|(name, _)| *name).collect(),
            unused: self.unused(),
            problems: self.problems,
            warnings: self.warnings,
        }
    }

    fn name(&mut self, stem: Option<&str>) -> Option<AppName> {
        let prefix = self.get("name_prefix", text).unwrap_or_default();
        let append = self.get("append_env_to_name", boolean).unwrap_or(false);
        let given = self.entry("name").is_some();
        let name = match self.get("name", word) {
            Some(name) => name,
            None if given => return None,
            None => stem?.to_owned(),
        };
        let suffix = self.source.env_name.filter(|_| append).map(|env| format!("-{env}")).unwrap_or_default();
        match AppName::parse(&format!("{prefix}{name}{suffix}")) {
            Ok(name) => {
                if name.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
                    let fault = Fault::new(format!("`{}` reads like an id", name.as_str()));
                    let fault =
                        fault.hint("verbs take it as the name; the app with that id is then meant by its name only");
                    self.warn(self.place_of("name"), fault);
                }
                Some(name)
            }
            Err(message) => {
                let fault = Fault::new(message);
                let fault = if given { fault } else { fault.hint("give the app a `name`") };
                self.complain(self.place_of("name"), fault);
                None
            }
        }
    }

    fn cwd(&mut self) -> Option<PathBuf> {
        let Some(entry) = self.entry("cwd") else { return Some(self.source.base.clone()) };
        let cwd = self.path("cwd")?;
        // What is in a directory can be seen only by whom it lets in.
        let fault = match std::fs::metadata(cwd.join(".")) {
            Ok(_) => return Some(cwd),
            Err(error) => Fault::new(format!("{}: {}", located(&cwd), super::file::sentence(&error))),
        };
        self.complain(self.place(entry), fault);
        None
    }

    fn instances(&mut self) -> Option<u32> {
        let cpus = self.source.around.cpus.max(1);
        self.get("instances", |node| match &node.value {
            Value::Scalar { text, .. } if text == "max" => Ok(cpus),
            _ => match integer(node, -(1 << 16), i64::from(u32::MAX)) {
                Ok(0) => Ok(cpus),
                Ok(count) if count > i64::from(MAX_INSTANCES) => {
                    Err(Fault::new(format!("{count} instances are too many (at most {MAX_INSTANCES})")))
                }
                Ok(count) if count < 0 => Ok((i64::from(cpus) + count).max(1) as u32),
                Ok(count) => Ok(count as u32),
                Err(fault) => Err(fault.hint("a number, `max` or 0 for one per CPU, or -1 for one less than that")),
            },
        })
    }

    fn refuse_cluster(&mut self) {
        self.get("exec_mode", |node| match word(node)?.as_str() {
            "fork" | "fork_mode" => Ok(()),
            "cluster" | "cluster_mode" => Err(Fault::new("stead has no cluster mode, which is of Node.js").hint(
                "share a port by `listen: [':5000']` and `instances`, or let gunicorn or uvicorn run its workers",
            )),
            _ => Err(wanted("an exec mode", node).hint("write `fork`")),
        });
    }

    fn policy(&mut self) -> Policy {
        let default = Policy::default();
        Policy {
            autorestart: self.get("autorestart", boolean).unwrap_or(default.autorestart),
            restart_delay: self.get("restart_delay", span).unwrap_or(default.restart_delay),
            exp_backoff_restart_delay: self.get("exp_backoff_restart_delay", span).filter(|delay| delay.0 > 0),
            min_uptime: self.get("min_uptime", min_uptime).unwrap_or(default.min_uptime),
            max_restarts: self
                .get("max_restarts", |node| integer(node, 0, i64::from(u32::MAX)))
                .map_or(default.max_restarts, |count| count as u32),
            stop_exit_codes: self.get("stop_exit_codes", exit_codes).unwrap_or_default(),
            cron_restart: self.get("cron_restart", policy::cron).flatten(),
            jitter: self.get("jitter", policy::jitter).unwrap_or_default(),
            restart_on: self.get("restart_on", policy::restart_on).unwrap_or_default(),
        }
    }

    fn stop(&mut self) -> Stop {
        let default = Stop::default();
        let mode = self.get("kill_mode", |node| match text(node)?.as_str() {
            "tree" => Ok(KillMode::Tree),
            "mixed" => Ok(KillMode::Mixed),
            "main" => Ok(KillMode::Main),
            _ => Err(wanted("a kill mode", node).hint("write `tree`, `mixed` or `main`")),
        });
        let tree = self.get("treekill", boolean);
        if let (Some(mode), Some(tree)) = (mode, tree)
            && tree == (mode == KillMode::Main)
        {
            let fault = Fault::new(format!("contradicts `treekill: {tree}`")).hint("keep `kill_mode` only");
            self.complain(self.place_of("kill_mode"), fault);
        }
        Stop {
            kill_signal: self.get("kill_signal", signal).unwrap_or(default.kill_signal),
            kill_timeout: self.get("kill_timeout", span).unwrap_or(default.kill_timeout),
            kill_mode: mode.unwrap_or(if tree == Some(false) { KillMode::Main } else { default.kill_mode }),
        }
    }

    fn reload(&mut self, listens: bool) -> Reload {
        let default = Reload::default();
        for name in ["reload_signal", "reload_timeout"] {
            if let Some(entry) = self.entry(name).filter(|_| !listens) {
                let fault = Fault::new("does nothing without `listen`").hint(
                    "the two runs of a reload can share only sockets that stead holds; without them it is a restart",
                );
                self.warn(self.place(entry), fault);
            }
        }
        Reload {
            reload_signal: self.get("reload_signal", signal).unwrap_or(default.reload_signal),
            reload_timeout: self.get("reload_timeout", span).unwrap_or(default.reload_timeout),
        }
    }

    /// PM2's numbers are milliseconds, which people forget.
    fn warn_of_seconds(&mut self) {
        for name in [
            "kill_timeout",
            "reload_timeout",
            "restart_delay",
            "exp_backoff_restart_delay",
            "jitter",
            "watch_delay",
            "listen_timeout",
        ] {
            if let Some(entry) = self.entry(name)
                && let Value::Scalar { kind: Kind::Integer(number @ 1..=60), .. } = entry.value.value
            {
                let fault = Fault::new(format!("{number} is {number} milliseconds"))
                    .hint(format!("write `{number}s` for seconds, or `{number}ms`"));
                self.warn(self.place(entry), fault);
            }
        }
    }

    fn unused(&self) -> Vec<(&'static Attribute, Place)> {
        let attributes = self.given.iter().filter_map(|(name, entry)| Some((find(name)?, *entry)));
        attributes
            .filter(|(attribute, entry)| match attribute.standing {
                Standing::Used => false,
                Standing::Later => !entry.value.is_off(),
                Standing::Foreign => true,
            })
            .map(|(attribute, entry)| (attribute, self.place(entry)))
            .collect()
    }
}

/// Stands in a spec that is thrown away.
fn placeholder() -> AppName {
    AppName::parse("unnamed").expect("it is a name")
}

/// `env_production` is the environment `production`; what is one letter from `env_file` is not `env_<name>`.
fn environment_name(key: &str) -> Option<&str> {
    let name = key.strip_prefix("env_").filter(|name| !name.is_empty())?;
    let near = key.len() < 16 && strsim::damerau_levenshtein(key, "env_file") <= 1;
    (!near).then_some(name)
}

/// The name of a variable.
pub(super) fn variable(node: &Node) -> Result<String, Fault> {
    let name = word(node)?;
    if is_variable(&name) { Ok(name) } else { Err(wanted("the name of a variable", node)) }
}

pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !name.chars().any(char::is_whitespace)
}

fn min_uptime(node: &Node) -> Result<Millis, Fault> {
    match span(node)? {
        Millis(ms) if ms < 100 => Err(Fault::new(format!("{ms} ms is too short (at least 100)"))
            .hint("a number is milliseconds; with a unit: `10s`")),
        span => Ok(span),
    }
}

fn signal(node: &Node) -> Result<Signal, Fault> {
    Signal::parse(&value::short(node)?).map_err(Fault::new)
}

fn exit_codes(node: &Node) -> Result<BTreeSet<i32>, Fault> {
    value::many(node).into_iter().map(|code| Ok(integer(code, 0, 255)? as i32)).collect()
}

/// The name that a wrong environment most likely meant.
pub(super) fn similar<'k>(name: &str, known: &BTreeSet<&'k str>) -> Option<&'k str> {
    like(&name.chars().take(40).collect::<String>(), known.iter().copied())
}
