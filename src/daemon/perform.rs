//! The daemon's hands: each action of the core becomes calls, and each answer an event. Nothing is decided here.

use super::driver::{SWEEP_AGAIN, actor, event_of};
use super::health::Scale;
use super::history::History;
use super::journal::Journal;
use super::kernel;
use super::link::{self, Ends, Envelope, Link};
use super::logs::Told;
use super::memory::{Found, Memory};
use super::notify::Notify;
use super::output::Output;
use super::pid_files::PidFiles;
use super::server::{self, Answer, Question};
use super::store::Store;
use super::tree::Runs;
use super::views::{self, Meter, Usage};
use crate::core::action::{Action, Order, To};
use crate::core::clock::{Millis, Mono, Now};
use crate::core::command::{Asked, Change, ChangeKind, Command, PROTOCOL, Refusal, Reply};
use crate::core::event::{Event, ExitStatus, Facts};
use crate::core::fleet::Fleet;
use crate::core::name::{AppName, Id, RunId, Ticket};
use crate::core::record::{Actor, SpawnFailure, Tally};
use crate::core::spec::{Env, Listen, OomPolicy, Signal, Spec};
use crate::core::traceback::{self, Standing};
use crate::core::trend::Trend;
use crate::core::view::{Description, InstanceView, Pong, WhyView};
use crate::keeper::message::{FromDaemon, FromKeeper};
use crate::os::cgroup::leaf::{self, Join, Leaf, Limits};
use crate::os::cgroup::site::Site;
use crate::os::process::Snapshot;
use crate::os::spawn::{Credentials, Plan};
use crate::os::strings::Strings;
use crate::os::{clock, file, process, socket};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Lines of stderr that go into a record.
const RECORD_LINES: usize = 50;

/// Rotated logs are looked at for their age this often.
const TIDY_EVERY: Millis = Millis(3_600_000);

/// After the keeper's end the apps get their kill_timeout, but no longer than this.
const LONGEST_FAREWELL: Millis = Millis(10_000);

/// The daemon's state: the fleet, and the means to make its actions real.
pub struct Daemon {
    pub fleet: Fleet,
    pub link: Link,
    pub said_bye: bool,
    pub(super) output: Output,
    pid_files: PidFiles,
    pub(super) journal: Journal,
    store: Store,
    pub(super) runs: Runs,
    pub(super) memory: Memory,
    pub(super) site: Site,
    leaves: BTreeMap<RunId, Leaf>,
    /// Of ended runs, with something still in them.
    leftovers: Vec<Leaf>,
    envelopes: BTreeMap<RunId, Envelope>,
    finishing: BTreeMap<RunId, Finishing>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    flushing: BTreeMap<Ticket, Vec<Change>>,
    next_ticket: u64,
    queue: VecDeque<Event>,
    pub(super) meter: Meter,
    pub(super) history: History,
    /// Of the last full look.
    pub(super) usages: BTreeMap<RunId, Usage>,
    pub(super) trends: BTreeMap<String, Trend>,
    pub(super) scale: Scale,
    pub notify: Notify,
    /// When rotated logs were looked at for their age.
    tidied: Option<Mono>,
    /// Why the history cannot be written.
    pub(super) history_fault: Option<String>,
    boot_id: String,
    pub(super) keeper: i32,
    pub(super) starts: u64,
    held: BTreeMap<String, OwnedFd>,
    /// The wanted set could not be written; it is tried again with every beat.
    pub(super) unwritten: bool,
}

/// What a daemon works with, as it finds it when it begins.
pub struct Means {
    pub link: Link,
    pub output: Output,
    pub journal: Journal,
    pub store: Store,
    pub memory: Memory,
    pub history: History,
    pub notify: Notify,
    pub site: Site,
    /// Listening sockets by name.
    pub held: BTreeMap<String, OwnedFd>,
    pub boot_id: String,
    /// The keeper's pid.
    pub keeper: i32,
    /// How many daemons this keeper has started.
    pub starts: u64,
}

/// How far the end of a run has come.
#[derive(Clone, Copy, Debug)]
enum Finishing {
    /// The tree is not empty yet.
    Sweeping { look_at: Mono, most: u32 },
    /// Its output is being brought home.
    Draining { most: u32 },
}

impl Daemon {
    pub fn new(fleet: Fleet, means: Means) -> Daemon {
        let Means { link, output, journal, store, memory, history, notify, site, held, boot_id, keeper, starts } =
            means;
        Daemon {
            memory,
            history,
            usages: BTreeMap::new(),
            trends: BTreeMap::new(),
            scale: Scale::default(),
            notify,
            tidied: None,
            history_fault: None,
            site,
            leaves: BTreeMap::new(),
            leftovers: Vec::new(),
            fleet,
            link,
            said_bye: false,
            output,
            pid_files: PidFiles::default(),
            journal,
            store,
            runs: Runs::default(),
            envelopes: BTreeMap::new(),
            finishing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            flushing: BTreeMap::new(),
            next_ticket: 1,
            queue: VecDeque::new(),
            meter: Meter::default(),
            boot_id,
            keeper,
            starts,
            held,
            unwritten: false,
        }
    }

    /// Takes over the descriptors of the runs that the keeper holds.
    pub fn take_over(&mut self, ends: BTreeMap<RunId, (Envelope, Ends)>) {
        for (run, (envelope, ends)) in ends {
            let pid = self.fleet.instance_of(run).and_then(held_pid);
            let name = leaf::name(&envelope.core.instance, run.0);
            self.envelopes.insert(run, envelope);
            // One that is still starting is told of again, with its descriptors.
            if let (Some(pid), Some(pidfd)) = (pid, ends.pidfd) {
                let leaf = self.site.serves().then(|| Leaf::found(&self.site, &name));
                if let Some(leaf) = leaf.filter(Leaf::exists) {
                    self.leaves.insert(run, leaf);
                }
                self.attach(run, pid, pidfd, (ends.out, ends.err));
            }
        }
    }

    /// A run lives: its processes can be found, its memory is watched, its output goes to its files.
    fn attach(&mut self, run: RunId, pid: i32, pidfd: OwnedFd, pipes: (OwnedFd, OwnedFd)) {
        let Some(envelope) = self.envelopes.get(&run) else { return };
        let spec = self.spec_of(run);
        let slot = self.fleet.instance_of(run).map_or(0, |one| one.slot);
        self.runs.insert(run, pid, pidfd, shown(envelope), self.leaves.get(&run).cloned());
        self.output.attach(run, spec.as_deref(), &envelope.core, slot, pipes);
        if let Some(spec) = spec {
            let cap = spec.max_memory_restart.map(|cap| cap.0);
            let leaf = self.leaves.get(&run).cloned();
            self.memory.insert(run, leaf, cap, spec.wall().map(|wall| wall.0), clock::now().mono);
            self.pid_files.write(run, &spec, slot, pid);
        }
    }

    /// The wish that a run was started with.
    fn spec_of(&self, run: RunId) -> Option<Arc<Spec>> {
        Some(self.fleet.instance_of(run)?.run()?.spec.clone())
    }

    /// When something is to be done without anything having happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let sweeps = self.finishing.values().filter_map(|finishing| match finishing {
            Finishing::Sweeping { look_at, .. } => Some(*look_at),
            Finishing::Draining { .. } => None,
        });
        let readings = (!self.runs.is_empty()).then(|| self.history.deadline());
        let others = sweeps.chain(self.memory.deadline()).chain(readings).chain(self.notify.deadline());
        self.fleet.deadline().into_iter().chain(others).min()
    }

    pub fn due(&mut self) {
        let now = clock::now();
        self.sweep(now);
        self.look_at_memory();
        self.take_readings(now);
        self.tell(now);
        if self.fleet.deadline().is_some_and(|at| at <= now.mono) {
            self.happened(Event::Due);
        }
    }

    /// With every beat: what could not be written is tried again.
    pub fn tick(&mut self) {
        if self.journal.is_behind() && self.journal.flush().is_ok() {
            tracing::info!("the journal can be written again");
        }
        if self.unwritten {
            self.persist();
        }
        self.leftovers.retain(|leaf| !leaf.remove());
        let now = clock::now().mono;
        if self.tidied.is_none_or(|at| now - at >= TIDY_EVERY) {
            self.tidy(now);
        }
    }

    /// Removes rotated logs that are too old for their app's `log_max_age`.
    fn tidy(&mut self, now: Mono) {
        self.tidied = Some(now);
        let mut aged = Vec::new();
        for one in self.fleet.instances() {
            let Some(age) = self.fleet.app(&one.app).and_then(|app| app.spec.logs.max_age) else { continue };
            let files = self.files(one.id).into_iter().flat_map(|files| files.paths());
            aged.extend(files.map(|path| (path, age)));
        }
        self.output.tidy(aged);
    }

    /// Readable when a cap is crossed.
    ///
    /// # Errors
    /// Of dup(2).
    pub fn memory_alarm(&self) -> io::Result<OwnedFd> {
        self.memory.alarm()
    }

    /// Looks at the memory of those whose time has come.
    pub fn look_at_memory(&mut self) {
        let snapshot = std::cell::OnceCell::new();
        let members = |run| self.runs.members(self.keeper, run, snapshot.get_or_init(Snapshot::take));
        for found in self.memory.look(&members) {
            match found {
                Found::OverCap(run, crossing) => {
                    tracing::info!(run = self.shown(run), usage = crossing.usage_bytes, "above its cap");
                    self.happened(Event::OverCap { run, crossing });
                }
                Found::OomKill(run) => {
                    tracing::warn!(run = self.shown(run), "the kernel killed a process of it at its hard limit");
                    if self.spec_of(run).is_some_and(|spec| spec.allowance.oom_policy == OomPolicy::Continue) {
                        self.tell_of_kill(clock::now(), run);
                    }
                    self.happened(Event::OomKill { run });
                }
                Found::GroupGone(run) => {
                    tracing::warn!(run = self.shown(run), "somebody removed its group: its memory is polled");
                }
            }
        }
    }

    /// The limits of live runs follow the present wish.
    fn follow_limits(&mut self) {
        let now = clock::now().mono;
        for one in self.fleet.instances() {
            if let (Some(run), Some(app)) = (one.run(), self.fleet.app(&one.app)) {
                let allowed = allowed(&app.spec);
                let cap = app.spec.max_memory_restart.map(|cap| cap.0);
                self.memory.limit(run.id, cap, allowed.wall, allowed.swap, now);
            }
        }
    }

    /// An event, and all that follows from it.
    pub fn happened(&mut self, event: Event) {
        self.queue.push_back(event);
        self.act(Vec::new());
    }

    /// Actions, and all that follows from them.
    pub fn act(&mut self, actions: Vec<Action>) {
        self.perform(actions);
        while let Some(event) = self.queue.pop_front() {
            tracing::debug!(?event);
            let actions = self.fleet.handle(clock::now(), event);
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Spawn(order) => self.spawn(*order),
                Action::Note { run, note } => {
                    if let Some(envelope) = self.envelopes.get_mut(&run) {
                        envelope.core = note;
                        let note = serde_json::to_string(&*envelope).unwrap_or_default();
                        self.say(&FromDaemon::Note { run, note });
                    }
                }
                Action::Signal { run, to, signal } => {
                    tracing::info!(run = self.shown(run), %signal, ?to, "signals");
                    match to {
                        To::Main => self.runs.signal_main(run, signal.0),
                        To::Tree => self.runs.signal_tree(self.keeper, run, signal.0),
                    }
                }
                Action::Finish { run, tree } => {
                    let now = clock::now();
                    if tree {
                        self.finishing.insert(run, Finishing::Sweeping { look_at: now.mono, most: 0 });
                        self.sweep(now);
                    } else {
                        self.drain(run, 0, true);
                    }
                }
                Action::Journal { app, line } => {
                    log_line(&line);
                    self.journal.write(&app, &line);
                    self.tell_of(&app, &line);
                }
                Action::Forget { run } => {
                    self.say(&FromDaemon::Forget { run });
                    self.finishing.remove(&run);
                    self.runs.remove(run);
                    self.envelopes.remove(&run);
                    self.output.forget(run);
                    self.pid_files.remove(run);
                    self.memory.remove(run);
                    self.leftovers.extend(self.leaves.remove(&run));
                    self.leftovers.retain(|leaf| !leaf.remove());
                }
                Action::Persist => self.persist(),
                Action::Save { ticket, force } => {
                    let saved = self.store.save(&self.fleet.wanted(&self.boot_id), force);
                    let result = match saved {
                        Ok(()) => Ok(Reply {
                            changes: vec![Change { name: "saved.json".into(), kind: ChangeKind::Saved, detail: None }],
                            ..Reply::default()
                        }),
                        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                            Err(Refusal::failed(format!("could not save: {error}"))
                                .hint("`stead save --force` replaces what was saved by an empty list"))
                        }
                        Err(error) => Err(Refusal::failed(format!("could not write saved.json: {error}"))),
                    };
                    self.reply(ticket, result);
                }
                Action::Reply { ticket, result } => self.reply(ticket, result),
                Action::Flush { ticket, ids } => {
                    let changes = ids.iter().filter_map(|id| self.fleet.instance(*id)).map(|one| Change {
                        name: one.name.clone(),
                        kind: ChangeKind::Flushed,
                        detail: None,
                    });
                    self.flushing.insert(ticket, changes.collect());
                    let files = ids.iter().filter_map(|id| self.files(*id)).flat_map(|files| files.paths()).collect();
                    self.output.flush(ticket, files);
                }
                Action::Release { app } => {
                    self.release(&format!("{app}\n"), &[]);
                    self.forget_history(&app);
                }
                Action::Bye => {
                    tracing::info!("all has ended");
                    self.say(&FromDaemon::Bye);
                    self.said_bye = true;
                }
            }
        }
    }

    pub fn keeper_says(&mut self, message: FromKeeper, fds: Vec<OwnedFd>) {
        if let Some(event) = event_of(&message) {
            self.happened(event);
            return;
        }
        match message {
            FromKeeper::Spawned { run, pid, at } => {
                let mut fds = fds.into_iter();
                if let (Some(pidfd), Some(out), Some(err)) = (fds.next(), fds.next(), fds.next()) {
                    self.attach(run, pid, pidfd, (out, err));
                }
                self.happened(Event::Spawned { run, pid, at });
            }
            FromKeeper::Exited { run, status, usage, at } => {
                let left = self.runs.left(self.keeper, run);
                self.happened(Event::Exited { run, exit: link::exit(status, usage, at), left });
            }
            FromKeeper::Orphan { pid, status } => {
                tracing::debug!(pid, ?status, "an orphan ended");
                self.sweep(Now { mono: Mono(u64::MAX), ..clock::now() });
            }
            FromKeeper::Term { .. } => self.output.reopen(),
            FromKeeper::Hello { .. }
            | FromKeeper::Socket { .. }
            | FromKeeper::Run { .. }
            | FromKeeper::End { .. }
            | FromKeeper::Failed { .. }
            | FromKeeper::Unknown => {}
        }
    }

    pub fn pump_says(&mut self, told: Told) {
        match told {
            Told::Drained { run } => {
                if let Some(Finishing::Draining { most }) = self.finishing.get(&run).copied() {
                    self.finishing.remove(&run);
                    let facts = self.gather(run, most);
                    self.happened(Event::Finished { run, facts: Box::new(facts) });
                }
            }
            Told::NewFile { run, stream, file } => {
                if let Err(error) = self.link.say(&FromDaemon::Log { run, stream }, &[file.as_fd()]) {
                    tracing::error!(%error, "the keeper does not listen");
                }
            }
            Told::Flushed { ticket } => {
                let changes = self.flushing.remove(&ticket).unwrap_or_default();
                self.reply(ticket, Ok(Reply { changes, ..Reply::default() }));
            }
            Told::Lost { path, bytes } => self.output.count_lost(path, bytes),
        }
    }

    /// A signal came to the daemon itself: as if it had come to the keeper.
    pub fn signalled(&mut self, signal: i32, pid: i32, uid: u32) {
        if signal == Signal::HUP.0 {
            self.output.reopen();
        } else {
            self.happened(Event::Term { actor: actor(pid, uid) });
        }
    }

    pub fn asked(&mut self, question: Question, answer: oneshot::Sender<Answer>) {
        let now = clock::now();
        let result = match question {
            Question::Command { request, actor } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.waiting.insert(ticket, answer);
                self.command(now, ticket, request.command, request.wait, actor);
                return;
            }
            Question::Ping => Ok(json(&Pong {
                version: env!("CARGO_PKG_VERSION").into(),
                protocol: PROTOCOL,
                daemon_pid: process::pid(),
                keeper_pid: self.keeper,
                daemon_starts: self.starts,
                memory_trouble: self.site.trouble.clone(),
                memory_remedy: self.site.remedy.clone(),
            })),
            Question::List => Ok(json(&self.list(now))),
            Question::Describe { target, show_env } => self.describe(now, &target, show_env),
            Question::Why { target, last } => self.why(target, last),
            Question::Health => Ok(json(&self.health(now))),
            Question::TestNotifiers => return self.test_notifiers(now, answer),
            Question::Trend { target } => match self.charted(target) {
                Ok(of) => return self.tell_trends(of, answer),
                Err(refusal) => Err(refusal),
            },
            Question::History { target } => match self.charted(target) {
                Ok(of) => return self.tell_history(of, answer),
                Err(refusal) => Err(refusal),
            },
        };
        let _ = answer.send(result);
    }

    /// The keeper is gone: what it held is ended, so that nothing ever runs twice. What does not obey in time is killed by the
    /// next keeper, which looks for it before it begins.
    pub fn end_all_runs(&self) {
        let mut longest = Millis(0);
        for run in self.envelopes.keys() {
            let stop = self.spec_of(*run).map(|spec| spec.stop.clone()).unwrap_or_default();
            longest = longest.max(stop.kill_timeout);
            self.runs.signal_abandoned(*run, stop.kill_signal.0);
        }
        self.runs.wait_ended(Duration::from_millis(longest.min(LONGEST_FAREWELL).0));
    }

    fn command(&mut self, now: Now, ticket: Ticket, command: Command, wait: bool, actor: Actor) {
        if command != Command::Resurrect {
            let applies = matches!(command, Command::Apply { .. });
            self.happened(Event::Asked { ticket, asked: Asked { command, wait, actor } });
            if applies {
                self.follow_limits();
                self.notify.follow(self.fleet.notifiers());
                self.tidy(now.mono);
            }
            return;
        }
        match self.store.saved() {
            Ok(saved) => {
                let actions = self.fleet.restore(now, ticket, saved, wait);
                self.act(actions);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let refusal = Refusal::failed("nothing was saved").hint("`stead save` saves what there is now");
                self.reply(ticket, Err(refusal));
            }
            Err(error) => self.reply(ticket, Err(Refusal::failed(format!("could not read saved.json: {error}")))),
        }
    }

    fn spawn(&mut self, order: Order) {
        let run = order.run;
        match self.prepare(&order) {
            Ok((mut plan, envelope)) => {
                let note = serde_json::to_string(&envelope).unwrap_or_default();
                self.envelopes.insert(run, envelope);
                let join = self.make_leaf(run, &order);
                plan.into_group = join.into.is_some();
                let sent = file::memory_file(c"stead-plan", &json(&plan)).and_then(|plan| {
                    let groups = join.into.iter().chain(&join.tasks).map(AsFd::as_fd);
                    let fds: Vec<_> = std::iter::once(plan.as_fd()).chain(groups).collect();
                    self.link.say(&FromDaemon::Spawn { run, note }, &fds)
                });
                if let Err(error) = sent {
                    let failure = SpawnFailure { stage: "fork".into(), errno: io_errno(&error) };
                    self.queue.push_back(Event::SpawnFailed { run, failure });
                }
            }
            Err(failure) => self.queue.push_back(Event::SpawnFailed { run, failure }),
        }
    }

    /// A fresh group for the run. Where none can be had it runs without, and is watched as a tree.
    fn make_leaf(&mut self, run: RunId, order: &Order) -> Join {
        if !self.site.serves() {
            return Join::default();
        }
        let made = Leaf::make(&self.site, &leaf::name(&order.note.instance, run.0), &allowed(&order.spec));
        let joined = made.and_then(|leaf| {
            let join = leaf.join();
            self.leaves.insert(run, leaf);
            join
        });
        joined.unwrap_or_else(|error| {
            tracing::error!(%error, run = order.note.instance, "no group for this run: its memory is polled");
            if let Some(leaf) = self.leaves.remove(&run) {
                self.leftovers.push(leaf);
            }
            Join::default()
        })
    }

    /// From the wish to a plan of plain numbers and strings.
    fn prepare(&mut self, order: &Order) -> Result<(Plan, Envelope), SpawnFailure> {
        let spec = &order.spec;
        let listen = self.hold(spec)?;
        let files = self.output.files(spec, &order.note.instance, order.slot);
        let marks = self.output.marks(&files).map_err(|(path, error)| {
            tracing::error!(%error, path = %path.display(), "a log file cannot be opened");
            SpawnFailure { stage: "log".into(), errno: io_errno(&error) }
        })?;
        let mut env: Env = (*order.environment).clone();
        if let Some(who) = &spec.identity {
            env.insert("USER".into(), who.user.clone());
            env.insert("LOGNAME".into(), who.user.clone());
            if let Some(home) = process::home_of(who.uid) {
                env.insert("HOME".into(), home);
            }
        }
        env.extend(spec.env.clone());
        if spec.instances.is_some() || order.slot > 0 {
            env.insert(spec.instance_var.clone(), order.slot.to_string());
        }
        let envelope = Envelope { core: order.note.clone(), marks };
        env.insert("STEAD_HOME".into(), self.output.home().to_string_lossy().into_owned());
        env.insert("STEAD_NAME".into(), order.note.instance.clone());
        env.insert("STEAD_RUN".into(), shown(&envelope));
        let name = spec.command.first().map(String::as_str).unwrap_or_default();
        let no_exec = |errno| SpawnFailure { stage: "exec".into(), errno: format!("{errno:?}") };
        let program = process::find_program(name, env.get("PATH").map(String::as_str)).map_err(no_exec)?;
        let plan = Plan {
            program,
            argv: Strings::new(&spec.command).map_err(no_exec)?,
            env: Strings::new(env.iter().map(|(key, value)| format!("{key}={value}"))).map_err(no_exec)?,
            cwd: spec.cwd.to_string_lossy().into_owned(),
            identity: spec.identity.as_ref().map(|who| Credentials {
                uid: who.uid,
                gid: who.gid,
                groups: who.groups.clone(),
            }),
            umask: spec.umask,
            nice: spec.nice,
            limits: spec.limits.iter().map(|(resource, limit)| (*resource, *limit)).collect(),
            oom_score_adj: spec
                .allowance
                .oom_score_adj
                .or(process::own_oom_score_adj().filter(|adj| *adj < 0).map(|_| 0)),
            listen,
            into_group: false,
        };
        Ok((plan, envelope))
    }

    /// Binds the app's sockets that are not held yet, lets go of those it no longer names.
    fn hold(&mut self, spec: &Spec) -> Result<Vec<String>, SpawnFailure> {
        let prefix = format!("{}\n", spec.name);
        let names: Vec<String> = spec.listen.iter().map(|one| format!("{prefix}{one}")).collect();
        self.release(&prefix, &names);
        for (one, name) in spec.listen.iter().zip(&names) {
            if self.held.contains_key(name) {
                continue;
            }
            let bound = match one {
                Listen::Tcp(address) => socket::bind_tcp(address),
                Listen::Unix(path) => socket::bind_unix(path, 0o660),
            };
            let bound = bound.and_then(|fd| {
                self.link.say(&FromDaemon::Hold { name: name.clone() }, &[fd.as_fd()])?;
                Ok(fd)
            });
            match bound {
                Ok(fd) => {
                    self.held.insert(name.clone(), fd);
                }
                Err(error) => {
                    tracing::error!(%error, app = %spec.name, address = %one, "cannot listen");
                    return Err(SpawnFailure { stage: format!("listen {one}"), errno: io_errno(&error) });
                }
            }
        }
        Ok(names)
    }

    fn release(&mut self, prefix: &str, keep: &[String]) {
        let gone: Vec<String> =
            self.held.keys().filter(|name| name.starts_with(prefix) && !keep.contains(name)).cloned().collect();
        for name in gone {
            self.held.remove(&name);
            self.say(&FromDaemon::Unhold { name: name.clone() });
            if let Some(path) = name.strip_prefix(prefix).filter(|address| address.starts_with('/')) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Looks again at the trees that were not empty.
    fn sweep(&mut self, now: Now) {
        let due = |(run, finishing): (&RunId, &Finishing)| match finishing {
            Finishing::Sweeping { look_at, most } if *look_at <= now.mono => Some((*run, *most)),
            Finishing::Sweeping { .. } | Finishing::Draining { .. } => None,
        };
        let due: Vec<(RunId, u32)> = self.finishing.iter().filter_map(due).collect();
        for (run, most) in due {
            let left = self.runs.left(self.keeper, run);
            let most = most.max(left);
            if left == 0 {
                self.drain(run, most, false);
            } else {
                let look_at = clock::now().mono + SWEEP_AGAIN;
                self.finishing.insert(run, Finishing::Sweeping { look_at, most });
            }
        }
    }

    fn drain(&mut self, run: RunId, most: u32, leave_open: bool) {
        self.finishing.insert(run, Finishing::Draining { most });
        self.output.drain(run, leave_open);
    }

    fn gather(&self, run: RunId, left: u32) -> Facts {
        let tail = self.envelopes.get(&run).map(|envelope| self.output.stderr_tail(run, envelope.marks.err));
        let mut tail = tail.unwrap_or_default();
        // Only a run that exited with a code can have ended by an exception: for all others the search is saved.
        let spec = self.spec_of(run).filter(|_| self.fleet.instance_of(run).is_some_and(exited_with_a_code));
        let found = spec.and_then(|spec| traceback::last_exception(&tail, &spec.cwd));
        // What by its own words ended less than the process did not end the run.
        let exception = found.filter(|found| found.standing != Standing::Aside).map(|found| found.exception);
        tail.drain(..tail.len().saturating_sub(RECORD_LINES));
        let kills = self.memory.oom_kills(run);
        let mut facts = Facts { left, stderr_tail: tail, exception, ..Facts::default() };
        facts.memory.last_bytes = self.memory.last(run);
        facts.memory.peak_bytes = self.memory.peak(run);
        if kills.kills > 0 {
            let leaf = self.envelopes.get(&run).map(|envelope| leaf::name(&envelope.core.instance, run.0));
            let told = kernel::oom_kill(&leaf.unwrap_or_default());
            let own = told.host.map_or(kills.own_limit, |host| !host);
            (facts.oom.own, facts.oom.host) = if own { (kills.kills, 0) } else { (0, kills.kills) };
            (facts.oom.killed_pid, facts.oom.killed_name) = (told.pid, told.name);
            facts.kernel_log = told.lines;
        }
        facts
    }

    fn persist(&mut self) {
        let result = self.store.persist(&self.fleet.wanted(&self.boot_id));
        match result {
            Ok(()) => self.unwritten = false,
            Err(error) => {
                if !self.unwritten {
                    tracing::error!(%error, "state.json cannot be written");
                }
                self.unwritten = true;
            }
        }
    }

    fn reply(&mut self, ticket: Ticket, mut result: Result<Reply, Refusal>) {
        if let (Ok(reply), true) = (&mut result, self.unwritten) {
            reply
                .warnings
                .push("state.json cannot be written: after a crash of stead this wish is not remembered".into());
        }
        if let Some(answer) = self.waiting.remove(&ticket) {
            let _ = answer.send(server::reply(result));
        }
    }

    fn say(&self, message: &FromDaemon) {
        if let Err(error) = self.link.say(message, &[]) {
            tracing::error!(%error, "the keeper does not listen");
        }
    }

    pub(super) fn list(&mut self, now: Now) -> Vec<InstanceView> {
        let usages = self.meter.look(now, &self.fleet, &self.runs, &self.memory, self.keeper);
        self.views(now, &usages)
    }

    pub(super) fn views(&self, now: Now, usages: &BTreeMap<RunId, Usage>) -> Vec<InstanceView> {
        self.fleet
            .instances()
            .map(|one| {
                let usage = one.run().and_then(|run| usages.get(&run.id)).filter(|_| one.pid().is_some());
                views::instance(now, &self.fleet, one, usage, &self.site)
            })
            .collect()
    }

    fn describe(&mut self, now: Now, target: &str, show_env: bool) -> Answer {
        let ids = self.fleet.targets(&[target.to_owned()])?;
        let views = self.list(now);
        let described: Vec<Description> = ids
            .into_iter()
            .filter_map(|id| {
                let one = self.fleet.instance(id)?;
                let app = self.fleet.app(&one.app)?;
                let view = views.iter().find(|view| view.id == id)?.clone();
                let files = self.files(id)?;
                let mut spec = Spec::clone(&app.spec);
                if !show_env {
                    spec.env.values_mut().for_each(|value| "***".clone_into(value));
                }
                let run = one.run();
                Some(Description {
                    view,
                    run: run.map(|run| format!("{}#{}", one.name, run.seq)),
                    started_at: run.map(|run| run.started.wall),
                    created_at: app.created_at,
                    spec,
                    out_file: files.out.clone(),
                    error_file: files.err.clone(),
                    log_file: files.combined.clone(),
                    log_bytes_lost: self.output.lost(files),
                    tree: run.map(|run| views::tree(&self.runs, self.keeper, run.id)).unwrap_or_default(),
                    note: views::reason(one),
                })
            })
            .collect();
        Ok(json(&described))
    }

    fn why(&self, target: Option<String>, last: Option<usize>) -> Answer {
        let ids: Vec<Id> = match target {
            Some(target) => self.fleet.targets(&[target])?,
            None => self.fleet.instances().map(|one| one.id).collect(),
        };
        let mut apps: BTreeMap<AppName, Vec<Id>> = BTreeMap::new();
        for id in ids {
            if let Some(one) = self.fleet.instance(id) {
                apps.entry(one.app.clone()).or_default().push(id);
            }
        }
        let views: Vec<WhyView> = apps
            .into_iter()
            .map(|(app, ids)| {
                let members: Vec<_> = ids.iter().filter_map(|id| self.fleet.instance(*id)).collect();
                let whole = self.fleet.instances().filter(|one| one.app == app).count() == members.len();
                let tally = Tally::merged(members.iter().map(|one| &one.tally));
                let names: Vec<&str> = members.iter().map(|one| one.name.as_str()).collect();
                let mut records = self.journal.records(&app);
                records.retain(|record| names.contains(&record.instance.as_str()));
                records.truncate(last.unwrap_or(usize::MAX));
                WhyView {
                    name: if whole { app.to_string() } else { names.join(", ") },
                    total: tally.total,
                    planned: tally.planned,
                    unplanned: tally.unplanned,
                    since: tally.since,
                    by_cause: tally.by_cause,
                    records,
                }
            })
            .collect();
        Ok(json(&views))
    }

    pub(super) fn files(&self, id: Id) -> Option<super::output::Files> {
        let one = self.fleet.instance(id)?;
        let app = self.fleet.app(&one.app)?;
        Some(self.output.files(&app.spec, &one.name, one.slot))
    }

    fn shown(&self, run: RunId) -> String {
        self.envelopes.get(&run).map(shown).unwrap_or_default()
    }
}

fn shown(envelope: &Envelope) -> String {
    format!("{}#{}", envelope.core.instance, envelope.core.seq)
}

fn exited_with_a_code(one: &crate::core::instance::Instance) -> bool {
    use crate::core::instance::Phase;
    matches!(&one.phase, Phase::Ending { exit, .. } if matches!(exit.status, ExitStatus::Code(code) if code != 0))
}

fn held_pid(one: &crate::core::instance::Instance) -> Option<i32> {
    use crate::core::instance::Phase;
    match &one.phase {
        Phase::Online { pid, .. } | Phase::Stopping { pid, .. } | Phase::Ending { pid, .. } => Some(*pid),
        Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued | Phase::Starting { .. } => None,
    }
}

/// What the group of a run of this app allows.
fn allowed(spec: &Spec) -> Limits {
    /// The kernel's usual period, in microseconds.
    const PERIOD: u64 = 100_000;
    Limits {
        wall: spec.wall().map(|wall| wall.0),
        swap: spec.allowance.memory_swap_max.map_or(0, |swap| swap.0),
        whole: spec.allowance.oom_policy == OomPolicy::Kill,
        pids: spec.allowance.pids_max,
        cpu: spec.allowance.cpu_max.map(|thousandths| (u64::from(thousandths) * PERIOD / 1000, PERIOD)),
    }
}

fn log_line(line: &crate::core::action::Line) {
    use crate::core::action::Entry;
    let run = format!("{}#{}", line.instance, line.seq);
    match &line.entry {
        Entry::Start { pid, .. } => tracing::info!(run, pid, "online"),
        Entry::End { record, .. } => {
            let next = record.next.action;
            tracing::info!(
                run,
                cause = record.cause.word(),
                planned = record.planned,
                summary = record.summary,
                ?next,
                "ended"
            );
        }
        Entry::Reset { .. } => tracing::info!(instance = line.instance, "counters reset"),
        Entry::Asked { .. } => tracing::info!(instance = line.instance, "asked for"),
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn io_errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => process::errno_name(errno),
        None => error.kind().to_string(),
    }
}
