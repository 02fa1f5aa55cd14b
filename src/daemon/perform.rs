//! The daemon's hands: each action of the core becomes calls, and each answer an event. Nothing is decided here.

use super::database::{self, Holder};
use super::driver::{SWEEP_AGAIN, actor, event_of};
use super::health::Scale;
use super::history::History;
use super::journal::Journal;
use super::kernel;
use super::link::{self, Ends, Envelope, Heard, Link};
use super::logs::Told;
use super::memory::{Found, Memory};
use super::notify::Notify;
use super::output::Output;
use super::pid_files::PidFiles;
use super::probe::{self, Question as Probing};
use super::server::{self, Answer, Question};
use super::store::{self, Store};
use super::tree::Runs;
use super::upgrade::Upgrades;
use super::views::{self, Meter, Usage};
use super::watch::{self, Watcher};
use super::why;
use crate::core::action::{Action, Order, To};
use crate::core::clock::{Millis, Mono, Now};
use crate::core::command::{Asked, Change, ChangeKind, Command, PROTOCOL, Refusal, Reply};
use crate::core::event::{Event, Exit, ExitStatus, Facts, Killed, Killer};
use crate::core::fleet::Fleet;
use crate::core::instance::{Instance, Phase, Want};
use crate::core::log_name::LogFiles;
use crate::core::name::{AppName, Id, RunId, Ticket};
use crate::core::probe::Outcome;
use crate::core::record::{
    Actor, ChildEnd, Evidence, LockHolder, Oom, PortHolder, Record, SpawnFailure, TakenPort, Tally,
};
use crate::core::recover::Wanted;
use crate::core::spec::{self, Env, Listen, OomPolicy, Probe, Signal, Spec};
use crate::core::traceback::{self, Standing, Traceback};
use crate::core::trend::Trend;
use crate::core::view::{Description, InstanceView, LogMark, Pong, RunView, WhyView};
use crate::core::why::Filter;
use crate::core::{database as sqlite, hint, port, secret};
use crate::keeper::message::{FromDaemon, FromKeeper, Orphan};
use crate::os::cgroup::leaf::{self, Join, Leaf, Limits};
use crate::os::cgroup::site::Site;
use crate::os::notify::{self, Said};
use crate::os::process::Snapshot;
use crate::os::spawn::{Credentials, Plan, Stage};
use crate::os::strings::Strings;
use crate::os::{clock, crash, file, ports, process, socket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Lines of stderr, and of stdout, that go into a record.
const RECORD_LINES: usize = 50;

/// Rotated logs are looked at for their age this often.
const TIDY_EVERY: Millis = Millis(3_600_000);
/// Ends of a run's orphans that are remembered, the newest.
const MOST_CHILDREN: usize = 10;

/// A run that says again and again that its database is locked is looked after this often.
const LOOK_AGAIN: Millis = Millis(250);

/// A holder of a lock that was seen longer ago than this has nothing to do with an end.
const SEEN_LATELY: Millis = Millis(60_000);

/// After the keeper's end the apps get their kill_timeout, but no longer than this.
const LONGEST_FAREWELL: Millis = Millis(10_000);

/// The name under which the keeper holds the socket for `READY=1`: no app's, for theirs begin with the app's name.
const NOTIFY: &str = "\nnotify";

/// What found no place for want of descriptors is asked for again after this time.
const ASK_AGAIN: Millis = Millis(1_000);

/// Of those who said that they are ready before the keeper said that they run.
const MOST_EARLY: usize = 64;

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
    watcher: Watcher,
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
    pub notifiers: Notify,
    /// When rotated logs were looked at for their age.
    tidied: Option<Mono>,
    /// Why the history cannot be written.
    pub(super) history_fault: Option<String>,
    boot_id: String,
    pub(super) keeper: i32,
    pub(super) starts: u64,
    /// Of these, by an upgrade.
    pub(super) upgraded: u64,
    pub(super) upgrades: Upgrades,
    held: BTreeMap<String, OwnedFd>,
    /// `$NOTIFY_SOCKET`.
    notify: String,
    probed: mpsc::UnboundedSender<(RunId, Outcome)>,
    /// Who said that it is ready, and is of no run that is known yet; the pidfd makes sure that it is still the same process.
    early: VecDeque<(i32, OwnedFd)>,
    /// Why the wanted set could not be written; it is tried again with every beat.
    pub(super) unwritten: Option<String>,
    pub(super) short_of_descriptors: bool,
    kernel_log: kernel::Log,
    /// Orphans of live runs that ended badly, and when.
    children: BTreeMap<RunId, VecDeque<(Mono, ChildEnd)>>,
    locked: BTreeMap<RunId, Locked>,
    /// Runs whose descriptors found no place, and when the keeper is asked for them again.
    pub(super) bare: BTreeMap<RunId, Mono>,
}

/// What was seen when a run said that its database is locked.
#[derive(Debug)]
struct Locked {
    at: Mono,
    /// The databases that it had open.
    paths: Vec<std::path::PathBuf>,
    holder: Option<LockHolder>,
}

/// What a daemon works with, as it finds it when it begins.
pub struct Means {
    pub link: Link,
    pub output: Output,
    pub journal: Journal,
    pub store: Store,
    pub memory: Memory,
    pub history: History,
    pub notifiers: Notify,
    pub watcher: Watcher,
    pub site: Site,
    /// Listening sockets, and what waits for room on the disk, by name.
    pub held: BTreeMap<String, OwnedFd>,
    /// Where the answers to health checks go.
    pub probed: mpsc::UnboundedSender<(RunId, Outcome)>,
    pub boot_id: String,
    /// The keeper's pid.
    pub keeper: i32,
    /// How many daemons this keeper has started.
    pub starts: u64,
    /// How many of these because of an upgrade.
    pub upgraded: u64,
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
        let Means {
            link,
            output,
            journal,
            store,
            memory,
            history,
            notifiers,
            watcher,
            site,
            held,
            probed,
            boot_id,
            keeper,
            starts,
            upgraded,
        } = means;
        Daemon {
            memory,
            history,
            usages: BTreeMap::new(),
            trends: BTreeMap::new(),
            scale: Scale::default(),
            notifiers,
            tidied: None,
            history_fault: None,
            watcher,
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
            upgraded,
            upgrades: Upgrades::default(),
            held,
            notify: String::new(),
            probed,
            early: VecDeque::new(),
            unwritten: None,
            short_of_descriptors: false,
            kernel_log: kernel::Log::default(),
            children: BTreeMap::new(),
            locked: BTreeMap::new(),
            bare: BTreeMap::new(),
        }
    }

    /// The socket on which apps say that they are ready: the one that the keeper holds, else a new one.
    ///
    /// # Errors
    /// Where it cannot be bound, or the keeper does not listen.
    pub fn notify_socket(&mut self) -> io::Result<OwnedFd> {
        if !self.held.contains_key(NOTIFY) {
            let socket = notify::bind()?;
            self.link.say(&FromDaemon::Hold { name: NOTIFY.into() }, &[socket.as_fd()])?;
            self.held.insert(NOTIFY.into(), socket);
        }
        let socket = self.held[NOTIFY].try_clone()?;
        self.notify = notify::name(&socket)?;
        Ok(socket)
    }

    /// Somebody said something on the notify socket. It counts where it is of a run that is waited for.
    pub fn notified(&mut self, said: &Said) {
        if !said.text.lines().any(|line| line.trim_end() == "READY=1") {
            return;
        }
        // Opened before its membership is looked at: what is looked at is the sender.
        let Ok(pidfd) = process::pidfd_open(said.pid) else {
            tracing::warn!(pid = said.pid, uid = said.uid, "said READY=1 and had ended before it could be looked at");
            return;
        };
        if self.is_ready(said.pid) {
            return;
        }
        if self.somebody_starts() && self.early.len() < MOST_EARLY {
            self.early.push_back((said.pid, pidfd));
        } else {
            tracing::warn!(pid = said.pid, uid = said.uid, "said READY=1, and no run of it is waited for");
        }
    }

    /// Those who spoke before their run was known.
    fn hear_early(&mut self) {
        for (pid, pidfd) in std::mem::take(&mut self.early) {
            if !process::has_ended(pidfd.as_fd()) && !self.is_ready(pid) {
                self.early.push_back((pid, pidfd));
            }
        }
        if !self.somebody_starts() {
            self.early.clear();
        }
    }

    fn somebody_starts(&self) -> bool {
        self.fleet.instances().flat_map(Instance::phases).any(|phase| matches!(phase, Phase::Starting { .. }))
    }

    fn is_ready(&mut self, pid: i32) -> bool {
        let waits = |phase: &Phase| match phase {
            Phase::Readying { run, until: Some(_), .. } => Some(run.id),
            _ => None,
        };
        let waiting: Vec<RunId> = self.fleet.instances().flat_map(Instance::phases).filter_map(waits).collect();
        let snapshot = std::cell::OnceCell::new();
        let is_of = |run: &RunId| {
            self.runs.main(*run) == Some(pid)
                || self.runs.members(self.keeper, *run, snapshot.get_or_init(Snapshot::take)).contains(&pid)
        };
        let Some(run) = waiting.into_iter().find(is_of) else { return false };
        tracing::info!(run = self.shown(run), pid, "ready");
        self.happened(Event::Ready { run });
        true
    }

    /// Asks a run how it is.
    fn probe(&self, run: RunId, spec: &Spec) {
        let Some(check) = &spec.readiness.health_check else { return };
        let question = match &check.probe {
            Probe::Http(url) => probe::http(url),
            Probe::Tcp(address) => Probing::Tcp(address.clone()),
            Probe::Command(words) => match self.probe_plan(run, spec, words) {
                Ok(plan) => {
                    // In the run's own group: it is counted and, at the end, killed with it.
                    let join = self.leaves.get(&run).and_then(|leaf| leaf.join().ok()).unwrap_or_default();
                    let plan = Plan { into_group: join.into.is_some(), ..plan };
                    Probing::Command(Box::new(plan), join)
                }
                Err(failure) => Probing::Impossible(format!("could not be run: {} {}", words[0], failure.errno)),
            },
        };
        probe::ask(run, question, check.timeout, self.probed.clone());
    }

    fn probe_plan(&self, run: RunId, spec: &Spec, words: &[String]) -> Result<Plan, SpawnFailure> {
        let one = self.fleet.instance_of(run);
        let environment = one.and_then(|one| self.fleet.app(&one.app)).map(|app| app.environment.clone());
        let env = self.environment(
            spec,
            &environment.unwrap_or_default(),
            one.map_or(0, |one| one.slot),
            &self.envelopes[&run],
        );
        Ok(Plan { dies_with_parent: true, ..plan(spec, words, &env)? })
    }

    /// Takes over the descriptors of the runs that the keeper holds.
    pub fn take_over(&mut self, ends: BTreeMap<RunId, (Envelope, Ends)>, bare: BTreeMap<RunId, Envelope>) {
        let mut groups = leaf::names(&self.site);
        for (run, envelope) in bare {
            self.find_leaf(run, &envelope, &mut groups);
            self.envelopes.insert(run, envelope);
            self.is_bare(run);
        }
        for (run, (envelope, ends)) in ends {
            let pid = self.fleet.instance_of(run).and_then(|one| held_pid(one.phase_of(run)?));
            self.find_leaf(run, &envelope, &mut groups);
            self.envelopes.insert(run, envelope);
            // One that is still starting is told of again, with its descriptors.
            if let (Some(pid), Some(pidfd)) = (pid, ends.pidfd) {
                tracing::info!(run = self.shown(run), pid, "taken over");
                self.attach(run, pid, pidfd, (ends.out, ends.err));
            }
        }
        // Of runs that never came to be, or that are forgotten already.
        self.leftovers = groups.iter().map(|name| Leaf::found(&self.site, name)).collect();
        self.leftovers.retain(|leaf| !leaf.remove());
    }

    /// Takes a run's group out of those that were found.
    fn find_leaf(&mut self, run: RunId, envelope: &Envelope, groups: &mut BTreeSet<String>) {
        let name = leaf::name(&envelope.core.instance, run.0);
        let leaf = groups.contains(&name).then(|| Leaf::found(&self.site, &name));
        // One that could not be joined when the run was spawned has nobody in it, and signals would reach nobody.
        let pid = self.fleet.instance_of(run).and_then(|one| held_pid(one.phase_of(run)?));
        let lives = pid.and_then(process::Stat::read).is_some_and(|stat| stat.state != 'Z');
        let is_outside =
            |leaf: &Leaf| lives && leaf.members().is_some_and(|all| !pid.is_some_and(|pid| all.contains(&pid)));
        if let Some(leaf) = leaf.filter(|leaf| !is_outside(leaf)) {
            groups.remove(&name);
            self.leaves.insert(run, leaf);
        }
    }

    /// A run's descriptors found no place here: the keeper has them, and is asked for them again.
    fn is_bare(&mut self, run: RunId) {
        if self.bare.is_empty() {
            tracing::error!("no descriptor is free: some runs cannot be taken over yet, and are asked for again");
        }
        let at = clock::now().mono + ASK_AGAIN;
        self.bare.insert(run, at);
    }

    /// Asks the keeper for what found no place.
    fn ask_again(&mut self, now: Mono) {
        let due: Vec<RunId> = self.bare.iter().filter(|(_, at)| **at <= now).map(|(run, _)| *run).collect();
        for run in due {
            self.bare.insert(run, now + ASK_AGAIN);
            // Of a run that is known it only tells again.
            self.say(&FromDaemon::Spawn { run, note: String::new() });
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
        Some(self.fleet.instance_of(run)?.phase_of(run)?.run()?.spec.clone())
    }

    /// When something is to be done without anything having happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let sweeps = self.finishing.values().filter_map(|finishing| match finishing {
            Finishing::Sweeping { look_at, .. } => Some(*look_at),
            Finishing::Draining { .. } => None,
        });
        let readings = (!self.runs.is_empty()).then(|| self.history.deadline());
        let asks = self.bare.values().copied();
        let others = sweeps.chain(asks).chain(self.memory.deadline()).chain(readings).chain(self.notifiers.deadline());
        self.fleet.deadline().into_iter().chain(others).min()
    }

    /// The wall clock was set.
    pub fn clock_set(&mut self) {
        self.happened(Event::ClockSet);
    }

    pub fn due(&mut self) {
        crash::point("before", "due");
        let now = clock::now();
        self.ask_again(now.mono);
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
        if self.journal.is_behind() {
            self.journal.flush();
        }
        if self.unwritten.is_some() {
            self.persist();
        }
        self.leftovers.retain(|leaf| !leaf.remove());
        self.look_at_descriptors();
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
                    tracing::warn!(run = self.shown(run), "the kernel killed a process of it for want of memory");
                    if self.spec_of(run).is_some_and(|spec| spec.allowance.oom_policy == OomPolicy::Continue) {
                        self.tell_of_kill(clock::now(), run);
                    }
                    let killed = Box::new(self.killed(run));
                    self.happened(Event::OomKill { run, killed });
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
            let Some(app) = self.fleet.app(&one.app) else { continue };
            for run in one.runs() {
                let cap = app.spec.max_memory_restart.map(|cap| cap.0);
                self.memory.limit(run.id, cap, &allowed(&app.spec), now);
            }
        }
    }

    /// The files of whatever is wanted up are watched as its wish says.
    fn follow_files(&mut self) {
        let mut tasks: BTreeMap<AppName, watch::Task> = BTreeMap::new();
        for one in self.fleet.instances().filter(|one| one.want == Want::Up) {
            let Some(spec) = self.fleet.app(&one.app).map(|app| app.spec.clone()) else { continue };
            let Some(watch) = &spec.watch else { continue };
            let task = tasks.entry(one.app.clone()).or_insert_with(|| watch::Task {
                watch: watch.clone(),
                cwd: spec.cwd.clone(),
                own: vec![self.output.home().to_owned()],
            });
            task.own.extend(self.output.files(&spec, &one.name, one.slot).paths());
        }
        self.watcher.follow(tasks);
    }

    pub fn watch_says(&mut self, told: watch::Told) {
        match told {
            watch::Told::Changed { app, path } => {
                tracing::info!(%app, path, "a watched file changed");
                self.happened(Event::Changed { app, path });
            }
            watch::Told::Trouble { app, why } => self.watcher.has_trouble(app, why),
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
            debug(&event);
            let actions = self.fleet.handle(clock::now(), event);
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let word = action.word();
            crash::point("before", word);
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
                Action::Probe { run, spec } => self.probe(run, &spec),
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
                    let keep = self.fleet.app(&app).map_or_else(spec::journal_keep, |app| app.spec.journal_keep);
                    let begun = clock::precise();
                    self.journal.write(&app, &line, keep);
                    let micros = (clock::precise() - begun).as_micros() as u64;
                    tracing::debug!(run = format!("{}#{}", line.instance, line.seq), micros, "journaled");
                    self.tell_of(&app, &line);
                }
                Action::Forget { run } => {
                    self.say(&FromDaemon::Forget { run });
                    self.finishing.remove(&run);
                    self.bare.remove(&run);
                    self.runs.remove(run);
                    if let Some(ended) = self.envelopes.remove(&run) {
                        self.mark_anew(ended.core.id);
                    }
                    self.output.forget(run);
                    self.pid_files.remove(run);
                    self.memory.remove(run);
                    self.children.remove(&run);
                    self.locked.remove(&run);
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
                Action::Report { instance, text } => tracing::warn!(instance, "{text}"),
                Action::Bye => {
                    tracing::info!("all has ended");
                    self.say(&FromDaemon::Bye);
                    self.said_bye = true;
                }
            }
            crash::point("after", word);
        }
    }

    pub fn keeper_says(&mut self, heard: Heard) {
        crash::point("before", "told");
        let Heard { message, fds, cut } = heard;
        if let FromKeeper::Failed { stage: Stage::Descriptors, errno, .. } = message
            && process::errno_name(errno) == "EBADF"
        {
            self.hold_again();
        }
        if let Some(event) = event_of(&message) {
            self.happened(event);
            return;
        }
        match message {
            FromKeeper::Spawned { run, pid, at } => {
                let mut fds = fds.into_iter();
                match (fds.next(), fds.next(), fds.next()) {
                    _ if cut => self.is_bare(run),
                    (Some(pidfd), Some(out), Some(err)) => {
                        if self.bare.remove(&run).is_some() && self.bare.is_empty() {
                            tracing::info!("descriptors are free again: all runs are taken over");
                        }
                        self.attach(run, pid, pidfd, (out, err));
                    }
                    _ => {}
                }
                self.happened(Event::Spawned { run, pid, at });
                self.hear_early();
            }
            // What it wrote last and what it left behind are not to be had yet: it is told again with them.
            FromKeeper::Exited { run, .. } if self.bare.contains_key(&run) => {}
            FromKeeper::Exited { run, status, usage, at } => {
                let left = self.runs.left(self.keeper, run);
                self.happened(Event::Exited { run, exit: link::exit(status, usage, at), left });
            }
            FromKeeper::Orphan { pid, status, was } => {
                tracing::debug!(pid, ?status, "an orphan ended");
                if let Some(was) = was.filter(|_| status != ExitStatus::Code(0)) {
                    self.child_ended(pid, status, was);
                }
                self.sweep(Now { mono: Mono(u64::MAX), ..clock::now() });
            }
            FromKeeper::Upgrade { report, news } => self.upgrade_came(report, news),
            FromKeeper::Retire => self.retire(),
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
                crash::point("before", "drained");
                if let Some(Finishing::Draining { most }) = self.finishing.get(&run).copied() {
                    self.finishing.remove(&run);
                    let facts = self.gather(run, most);
                    self.happened(Event::Finished { run, facts: Box::new(facts) });
                }
            }
            Told::Flushed { ticket } => {
                let changes = self.flushing.remove(&ticket).unwrap_or_default();
                self.reply(ticket, Ok(Reply { changes, ..Reply::default() }));
            }
            Told::Locked { run } => self.look_for_lock(run),
            Told::Lost { path, bytes } => self.output.count_lost(path, bytes, clock::now().mono),
            Told::Fault { path, why } => self.output.has_fault(path, why),
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
        crash::point("before", "asked");
        let now = clock::now();
        let result = match question {
            Question::Command { request, actor } => {
                let Actor { uid, pid, command } = &actor;
                tracing::info!(command, uid, pid, "asked");
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.waiting.insert(ticket, answer);
                self.command(now, ticket, request.command, request.wait, actor);
                return;
            }
            Question::Upgrade { order, actor } => return self.upgrade(order, &actor, answer),
            Question::Ping => Ok(json(&Pong {
                version: env!("CARGO_PKG_VERSION").into(),
                protocol: PROTOCOL,
                daemon_pid: process::pid(),
                keeper_pid: self.keeper,
                daemon_starts: self.starts,
                memory_trouble: self.site.trouble.clone(),
                memory_remedy: self.site.remedy.clone(),
                faults: self.faults().into_iter().map(|(area, what)| format!("{area}: {what}")).collect(),
            })),
            Question::List => Ok(json(&self.list(now))),
            Question::Describe { target, show_env } => self.describe(now, &target, show_env),
            Question::Runs { target } => self.runs(&target),
            Question::Why { target, filter, last } => match self.fleet.targets(&[target]) {
                Ok(ids) => return self.why(&ids, &filter, last, answer),
                Err(refusal) => Err(refusal),
            },
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
                self.notifiers.follow(self.fleet.notifiers());
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
        tracing::info!(run = format!("{}#{}", order.note.instance, order.note.seq), app = %order.spec.name, "starts");
        match self.prepare(&order) {
            Ok((mut plan, envelope)) => {
                let note = serde_json::to_string(&envelope).unwrap_or_default();
                self.envelopes.insert(run, envelope);
                let join = self.make_leaf(run, &order);
                plan.into_group = join.into.is_some();
                crash::point("amid", "spawn");
                let bytes = json(&plan);
                let sent = file::briefly(|| {
                    let plan = file::memory_file(c"stead-plan", &bytes)?;
                    let groups = join.into.iter().chain(&join.tasks).map(AsFd::as_fd);
                    let fds: Vec<_> = std::iter::once(plan.as_fd()).chain(groups).collect();
                    self.link.say(&FromDaemon::Spawn { run, note: note.clone() }, &fds)
                });
                if let Err(error) = sent {
                    let failure = SpawnFailure { stage: "fork".into(), errno: io_errno(&error) };
                    self.queue.push_back(Event::SpawnFailed { run, failure, holder: None });
                }
            }
            Err(failure) => {
                let holder = port::not_bound(&failure).and_then(|taken| self.port_holder(taken.port?));
                self.queue.push_back(Event::SpawnFailed { run, failure, holder });
            }
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
            // At once: who comes next must not take it for the run's.
            self.leaves.remove(&run);
            let begun = Leaf::found(&self.site, &leaf::name(&order.note.instance, run.0));
            self.leftovers.extend(Some(begun).filter(|leaf| !leaf.remove()));
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
        let envelope = Envelope { core: order.note.clone(), marks };
        let env = self.environment(spec, &order.environment, order.slot, &envelope);
        let plan = plan(spec, &spec.command, &env)?;
        Ok((Plan { listen, ..plan }, envelope))
    }

    /// What a process of a run has in its environment.
    fn environment(&self, spec: &Spec, base: &Env, slot: u32, envelope: &Envelope) -> Env {
        let mut env: Env = base.clone();
        if let Some(who) = &spec.identity {
            env.insert("USER".into(), who.user.clone());
            env.insert("LOGNAME".into(), who.user.clone());
            if let Some(home) = process::home_of(who.uid) {
                env.insert("HOME".into(), home);
            }
        }
        env.extend(spec.env.clone());
        if spec.instances.is_some() || slot > 0 {
            env.insert(spec.instance_var.clone(), slot.to_string());
        }
        if spec.readiness.wait_ready {
            env.insert("NOTIFY_SOCKET".into(), self.notify.clone());
        }
        env.insert("STEAD_HOME".into(), self.output.home().to_string_lossy().into_owned());
        env.insert("STEAD_NAME".into(), envelope.core.instance.clone());
        env.insert("STEAD_RUN".into(), shown(envelope));
        env
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

    /// A socket found no place in the keeper when it was brought there.
    fn hold_again(&self) {
        for (name, fd) in &self.held {
            if let Err(error) = self.link.say(&FromDaemon::Hold { name: name.clone() }, &[fd.as_fd()]) {
                tracing::error!(%error, "the keeper does not listen");
            }
        }
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

    /// Of two runs that wrote into the same files one has ended: what it wrote is not the other's.
    fn mark_anew(&mut self, id: Id) {
        let others: Vec<RunId> =
            self.envelopes.iter().filter(|(_, envelope)| envelope.core.id == id).map(|(run, _)| *run).collect();
        let Some(files) = self.files(id).filter(|_| !others.is_empty()) else { return };
        let Ok(marks) = self.output.marks(&files) else { return };
        for run in others {
            let Some(envelope) = self.envelopes.get_mut(&run) else { continue };
            envelope.marks = marks;
            let note = serde_json::to_string(&*envelope).unwrap_or_default();
            self.say(&FromDaemon::Note { run, note });
        }
    }

    fn drain(&mut self, run: RunId, most: u32, leave_open: bool) {
        self.finishing.insert(run, Finishing::Draining { most });
        self.output.drain(run, leave_open);
    }

    /// An orphan of a run ended badly: it may be why the run will.
    fn child_ended(&mut self, pid: i32, status: ExitStatus, was: Orphan) {
        let Some(run) = self.runs.run_of_orphan(was.session, was.group.as_deref()) else { return };
        let (exit_code, signal) = match status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal { signal, .. } => (None, Some(signal)),
        };
        let ends = self.children.entry(run).or_default();
        if ends.len() == MOST_CHILDREN {
            ends.pop_front();
        }
        ends.push_back((was.at.mono, ChildEnd { pid, name: was.name, exit_code, signal, ended_at: was.at.wall }));
    }

    /// A run said that its database is locked: who holds the lock now is who held it then.
    fn look_for_lock(&mut self, run: RunId) {
        let now = clock::now();
        if self.locked.get(&run).is_some_and(|locked| now.mono - locked.at < LOOK_AGAIN) {
            return;
        }
        let Some(spec) = self.spec_of(run) else { return };
        let paths = database::open_in(&self.runs.members(self.keeper, run, &Snapshot::take()));
        let holder = self.lock_holder(run, &paths, &spec, now);
        if !paths.is_empty() || holder.is_some() {
            self.locked.insert(run, Locked { at: now.mono, paths, holder });
        }
    }

    fn lock_holder(&self, run: RunId, paths: &[std::path::PathBuf], spec: &Spec, now: Now) -> Option<LockHolder> {
        let own = self.fleet.instance_of(run).and_then(|one| held_pid(one.phase_of(run)?));
        let Holder { pid, command, path, seen_at } = database::holder(paths, &spec.cwd, own, now.wall)?;
        let instance = self.runs.run_of(pid).and_then(|run| self.fleet.instance_of(run)).map(|one| one.name.clone());
        Some(LockHolder { pid, command, instance, path: path.to_string_lossy().into_owned(), seen_at })
    }

    /// Who listens on a port: an app's process before stead itself, which holds sockets for apps.
    fn port_holder(&self, port: u16) -> Option<PortHolder> {
        let root = Path::new("/proc");
        let pids = ports::holders(root, &ports::listening(root, port));
        let of = |pid: i32| self.runs.run_of(pid).and_then(|run| self.fleet.instance_of(run));
        let pid = pids.iter().copied().find(|pid| of(*pid).is_some()).or(pids.first().copied())?;
        let held_for = || {
            let held = |name: &&String| name.ends_with(&format!(":{port}"));
            let name = self.held.keys().find(held).filter(|_| [self.keeper, process::pid()].contains(&pid))?;
            name.split_once('\n').map(|(app, _)| app.to_owned())
        };
        let instance = of(pid).map(|one| one.name.clone()).or_else(held_for);
        Some(PortHolder { pid, command: process::command_line(pid), instance })
    }

    /// The port that a run that failed did not get. The lines of a file that others write to as well may be theirs: there only
    /// what is seen counts.
    fn taken_port(&self, run: RunId, found: Option<&Traceback>, facts: &Facts) -> Option<TakenPort> {
        let one = self.fleet.instance_of(run)?;
        let app = self.fleet.app(&one.app)?;
        let tails = [facts.stderr_tail.as_slice(), facts.stdout_tail.as_slice()];
        let taken = port::taken(found, tails, &*self.spec_of(run)?, &app.environment)?;
        let holder = taken.port.and_then(|port| self.port_holder(port));
        let is_shared = || self.output.stderr_file(run).is_some_and(|(path, _)| self.is_shared(one.id, path));
        (holder.is_some() || !is_shared()).then_some(TakenPort { holder, ..taken })
    }

    /// Do other instances write to this file?
    fn is_shared(&self, own: Id, path: &Path) -> bool {
        let writes = |id: Id| self.files(id).is_some_and(|files| files.paths().iter().any(|other| other == path));
        self.fleet.instances().any(|one| one.id != own && writes(one.id))
    }

    /// Everything that can be known of a run that has ended, before anything of it is cleaned up.
    fn gather(&mut self, run: RunId, left: u32) -> Facts {
        let marks = self.envelopes.get(&run).map(|envelope| envelope.marks).unwrap_or_default();
        let mut tail = self.output.stderr_tail(run, marks.err);
        let one = self.fleet.instance_of(run);
        let pid = one.and_then(|one| held_pid(one.phase_of(run)?));
        let end = one.and_then(|one| how_it_ended(one.phase_of(run)?));
        // Only a run that exited with a code can have ended by an exception: for all others the search is saved.
        let failed = matches!(end, Some((Exit { status: ExitStatus::Code(1..), .. }, _)));
        let spec = self.spec_of(run).filter(|_| failed);
        let found = spec.and_then(|spec| traceback::last_exception(&tail, &spec.cwd));
        tail.drain(..tail.len().saturating_sub(RECORD_LINES));
        let exit = end.map(|(exit, _)| exit.clone());
        let is_asked_for = end.is_some_and(|(_, is_asked_for)| is_asked_for);
        let mut facts = Facts { left, stderr_tail: tail, ..Facts::default() };
        facts.stdout_tail = self.output.stdout_tail(run, marks.out, RECORD_LINES);
        if failed {
            self.weigh_log(run, found, exit.as_ref(), &mut facts);
        }
        self.mask_secrets(run, &mut facts);
        facts.memory.last_bytes = self.memory.last(run);
        facts.memory.peak_bytes = self.memory.peak(run);
        if let (Some(exit), Some(pid)) = (&exit, pid) {
            let ends = self.children.remove(&run).unwrap_or_default();
            facts.children = ends.into_iter().filter(|(at, _)| *at <= exit.at.mono).map(|(_, end)| end).collect();
            if !is_asked_for {
                self.ask_kernel(run, pid, exit, &mut facts);
            }
        }
        let Killed { oom, kernel_log } = self.killed(run);
        facts.oom = oom;
        if !kernel_log.is_empty() {
            facts.kernel_log = kernel_log;
        }
        facts
    }

    /// What the kernel killed in a run's group: by the group's counters, and whom by its log.
    fn killed(&mut self, run: RunId) -> Killed {
        let kills = self.memory.oom_kills(run);
        if kills.kills == 0 {
            return Killed::default();
        }
        let leaf = self.envelopes.get(&run).map(|envelope| leaf::name(&envelope.core.instance, run.0));
        let told = self.kernel_log.oom_kill(&leaf.unwrap_or_default());
        let own = told.host.map_or(kills.own_limit, |host| !host);
        let (own, host) = if own { (kills.kills, 0) } else { (0, kills.kills) };
        Killed { oom: Oom { own, host, killed_pid: told.pid, killed_name: told.name }, kernel_log: told.lines }
    }

    /// What the log of a run that failed has to do with its end.
    fn weigh_log(&self, run: RunId, found: Option<Traceback>, exit: Option<&Exit>, facts: &mut Facts) {
        facts.hint = hint::hint(found.as_ref().map(|found| &found.exception), &facts.stderr_tail);
        if facts.stderr_tail.iter().any(|line| sqlite::is_locked(line)) {
            facts.lock_holder = self.last_lock_holder(run);
        }
        facts.port = self.taken_port(run, found.as_ref(), facts);
        // What by its own words ended less than the process did not end the run.
        facts.exception = found.filter(|found| found.standing != Standing::Aside);
        if let (Some(_), Some(exit), Some((path, written))) = (&facts.exception, exit, self.output.stderr_file(run)) {
            let quiet = exit.at.wall.0 - written.0;
            // Moved to the file long after the end: a daemon was away, and when it was written is not known.
            facts.quiet = (quiet > -1_000).then(|| Millis(quiet.max(0) as u64));
            facts.log_is_shared = self.fleet.instance_of(run).is_some_and(|one| self.is_shared(one.id, path));
        }
    }

    /// Who was seen to hold the lock when the run said so, else who holds it now.
    fn last_lock_holder(&self, run: RunId) -> Option<LockHolder> {
        let now = clock::now();
        let seen = self.locked.get(&run).filter(|locked| now.mono - locked.at <= SEEN_LATELY);
        if let Some(holder) = seen.and_then(|locked| locked.holder.clone()) {
            return Some(holder);
        }
        let spec = self.spec_of(run)?;
        let paths = seen.map(|locked| locked.paths.clone()).unwrap_or_default();
        self.lock_holder(run, &paths, &spec, now)
    }

    /// What the kernel's log, and killers for want of memory, say of a death by a signal.
    fn ask_kernel(&mut self, run: RunId, pid: i32, exit: &Exit, facts: &mut Facts) {
        let ExitStatus::Signal { signal, .. } = exit.status else { return };
        let ago = clock::now().mono - exit.at.mono;
        if matches!(signal, Signal::KILL | Signal::TERM) {
            if self.leaves.get(&run).is_some_and(Leaf::is_marked_by_oomd) {
                facts.killer = Some(Killer::SystemdOomd);
            } else if let Some(line) = self.kernel_log.earlyoom(pid, ago) {
                facts.killer = Some(Killer::Earlyoom);
                facts.kernel_log.push(line);
            }
        } else {
            facts.kernel_log.extend(self.kernel_log.fault(pid, ago));
        }
    }

    /// Secrets of the environment do not get into records, though the app itself printed them.
    fn mask_secrets(&self, run: RunId, facts: &mut Facts) {
        let Some(app) = self.fleet.instance_of(run).and_then(|one| self.fleet.app(&one.app)) else { return };
        let Some(spec) = self.spec_of(run) else { return };
        let secrets = secret::secrets(app.environment.iter().chain(&spec.env));
        if secrets.is_empty() {
            return;
        }
        let message = facts.exception.as_mut().map(|found| &mut found.exception.message);
        let texts = facts.stderr_tail.iter_mut().chain(&mut facts.stdout_tail).chain(message).chain(&mut facts.hint);
        texts.for_each(|text| secret::mask(text, &secrets));
    }

    fn persist(&mut self) {
        // Whatever changes what is to be watched is a wish.
        self.follow_files();
        let wanted = self.fleet.wanted(&self.boot_id);
        let is_held = self.held.contains_key(store::HELD);
        // First: what is held is never older than what is on the disk.
        if is_held {
            self.hold_wish(&wanted);
        }
        match self.store.persist(&wanted) {
            Ok(()) => {
                self.release(store::HELD, &[]);
                if self.unwritten.take().is_some() {
                    tracing::info!("state.json can be written again");
                }
            }
            Err(error) => {
                if !is_held {
                    self.hold_wish(&wanted);
                }
                if self.unwritten.is_none() {
                    tracing::error!(%error, "state.json cannot be written");
                }
                self.unwritten = Some(error.to_string());
            }
        }
    }

    /// A wish that is not on the disk is with the keeper, for the next daemon.
    fn hold_wish(&mut self, wanted: &Wanted) {
        let held = file::memory_file(c"stead-state", &json(wanted)).and_then(|file| {
            self.link.say(&FromDaemon::Hold { name: store::HELD.into() }, &[file.as_fd()])?;
            Ok(file)
        });
        match held {
            Ok(file) => drop(self.held.insert(store::HELD.into(), file)),
            Err(error) => tracing::error!(%error, "a wish that cannot be written would not outlive this daemon"),
        }
    }

    fn reply(&mut self, ticket: Ticket, mut result: Result<Reply, Refusal>) {
        if let (Ok(reply), true) = (&mut result, self.unwritten.is_some()) {
            reply
                .warnings
                .push("state.json cannot be written: should the machine go down, this wish is not remembered".into());
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
        let usages = self.meter.look(now, &self.fleet, &self.runs, |run| self.memory.of(run), self.keeper);
        self.views(now, &usages)
    }

    pub(super) fn views(&self, now: Now, usages: &BTreeMap<RunId, Usage>) -> Vec<InstanceView> {
        self.fleet
            .instances()
            .map(|one| {
                let usage = one.run().and_then(|run| usages.get(&run.id)).filter(|_| one.pid().is_some());
                let watch_trouble = self.watcher.trouble(&one.app).cloned();
                InstanceView { watch_trouble, ..views::instance(now, &self.fleet, one, usage, &self.site) }
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
                    log_bytes_lost: self.output.lost(&files),
                    tree: run.map(|run| views::tree(&self.runs, self.keeper, run.id)).unwrap_or_default(),
                    note: views::reason(&self.fleet, one),
                    answers: run
                        .and_then(|run| run.health.as_ref())
                        .map(|health| health.answers.iter().cloned().collect())
                        .unwrap_or_default(),
                })
            })
            .collect();
        Ok(json(&described))
    }

    /// Answered by a thread of its own: a long journal is read for longer than anybody may wait for the loop.
    fn why(&self, ids: &[Id], filter: &Filter, last: Option<usize>, answer: oneshot::Sender<Answer>) {
        let mut apps: BTreeMap<AppName, Vec<&Instance>> = BTreeMap::new();
        for one in ids.iter().filter_map(|id| self.fleet.instance(*id)) {
            apps.entry(one.app.clone()).or_default().push(one);
        }
        let asked: Vec<why::Asked> = apps
            .into_iter()
            .filter_map(|(app, members)| {
                let spec = self.fleet.app(&app)?.spec.clone();
                let whole = self.fleet.instances().filter(|one| one.app == app).count() == members.len();
                let names: Vec<&str> = members.iter().map(|one| one.name.as_str()).collect();
                Some(why::Asked {
                    name: if whole { app.to_string() } else { names.join(", ") },
                    ids: members.iter().map(|one| (one.id, one.name.clone())).collect(),
                    tally: Tally::merged(members.iter().map(|one| &one.tally)),
                    journal: self.journal.reader(&app, spec.journal_keep),
                    spec,
                    filter: filter.clone(),
                    last,
                })
            })
            .collect();
        let heard = aside("why", move || json(&asked.iter().map(why::Asked::answer).collect::<Vec<WhyView>>()));
        tokio::task::spawn_local(async move {
            let said = heard.await;
            let _ =
                answer.send(said.map_err(|_| Refusal::failed("the journal cannot be read: no thread can be started")));
        });
    }

    /// The runs whose output is followed. Cheap: nothing of the machine is looked at.
    fn runs(&self, target: &str) -> Answer {
        let ids = self.fleet.targets(&[target.to_owned()])?;
        let view = |one: &Instance| {
            let envelope = one.run().and_then(|run| self.envelopes.get(&run.id));
            let files = self.files(one.id).unwrap_or_default();
            let mark = |path: &Option<PathBuf>, mark: &link::Mark| {
                let (ino, offset) = (mark.ino, mark.offset);
                path.clone().map(|path| LogMark { path, ino, offset })
            };
            let marks = envelope.map(|envelope| &envelope.marks);
            let files = marks.map(|marks| [mark(&files.out, &marks.out), mark(&files.err, &marks.err)]);
            RunView {
                name: one.name.clone(),
                files: files.into_iter().flatten().flatten().collect(),
                last_exit: one.last.as_deref().map(|record| Record { evidence: Evidence::default(), ..record.clone() }),
            }
        };
        Ok(json(&ids.iter().filter_map(|id| self.fleet.instance(*id)).map(view).collect::<Vec<_>>()))
    }

    pub(super) fn files(&self, id: Id) -> Option<LogFiles> {
        let one = self.fleet.instance(id)?;
        let app = self.fleet.app(&one.app)?;
        Some(self.output.files(&app.spec, &one.name, one.slot))
    }

    fn shown(&self, run: RunId) -> String {
        self.envelopes.get(&run).map(shown).unwrap_or_default()
    }
}

/// A program as the app's own processes run: as its user, in its directory, with its limits.
fn plan(spec: &Spec, words: &[String], env: &Env) -> Result<Plan, SpawnFailure> {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let no_exec = |errno| SpawnFailure { stage: "exec".into(), errno: format!("{errno:?}") };
    let program = process::find_program(name, env.get("PATH").map(String::as_str)).map_err(no_exec)?;
    Ok(Plan {
        program,
        argv: Strings::new(words).map_err(no_exec)?,
        env: Strings::new(env.iter().map(|(key, value)| format!("{key}={value}"))).map_err(no_exec)?,
        cwd: spec.cwd.to_string_lossy().into_owned(),
        identity: spec.identity.as_ref().map(|who| Credentials {
            uid: who.uid,
            gid: who.gid,
            groups: who.groups.clone(),
        }),
        no_new_privileges: spec.no_new_privileges,
        umask: spec.umask,
        nice: spec.nice,
        limits: spec.limits.iter().map(|(resource, limit)| (*resource, *limit)).collect(),
        oom_score_adj: spec.allowance.oom_score_adj.or(process::own_oom_score_adj().filter(|adj| *adj < 0).map(|_| 0)),
        ..Plan::default()
    })
}

/// Does what takes its time in a thread of its own; the answer never comes where none can be started. Not tokio's pool: it panics then.
pub(super) fn aside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (tell, told) = oneshot::channel();
    let begun = std::thread::Builder::new().name(name.into()).spawn(move || drop(tell.send(work())));
    if let Err(error) = begun {
        tracing::error!(%error, name, "no thread can be started");
    }
    told
}

/// What is asked for may hold an environment, and that is nobody's business.
fn debug(event: &Event) {
    match event {
        Event::Asked { ticket, asked } => tracing::debug!(ticket = ticket.0, actor = ?asked.actor, "asked"),
        event => tracing::debug!(?event),
    }
}

fn shown(envelope: &Envelope) -> String {
    format!("{}#{}", envelope.core.instance, envelope.core.seq)
}

/// How the main process ended, and whether stead had been ending it.
fn how_it_ended(phase: &Phase) -> Option<(&Exit, bool)> {
    match phase {
        Phase::Ending { exit, intent, .. } => Some((exit, intent.is_some())),
        Phase::Stopped
        | Phase::Errored { .. }
        | Phase::Waiting { .. }
        | Phase::Queued
        | Phase::Starting { .. }
        | Phase::Readying { .. }
        | Phase::Online { .. }
        | Phase::Stopping { .. } => None,
    }
}

fn held_pid(phase: &Phase) -> Option<i32> {
    match phase {
        Phase::Readying { pid, .. }
        | Phase::Online { pid, .. }
        | Phase::Stopping { pid, .. }
        | Phase::Ending { pid, .. } => Some(*pid),
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
        Entry::Start { pid, .. } => tracing::info!(run, pid, "runs"),
        Entry::End { record, .. } => {
            let next = &record.next;
            tracing::info!(
                run,
                pid = record.pid,
                cause = record.cause.word(),
                planned = record.planned,
                summary = record.summary,
                next = next.action.word(),
                delay_ms = next.delay_ms.map(|delay| delay.0),
                reason = next.reason,
                "ended"
            );
        }
        Entry::Incident(incident) => {
            tracing::warn!(run, cause = incident.cause.word(), summary = incident.summary, "went on");
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
