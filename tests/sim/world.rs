//! The simulated world: virtual time, the kernel, the disk, and a daemon that lives and dies between them.

use crate::kernel::{Kept, Kernel, News, Start, Temper};
use crate::laws::{Laws, broken};
use crate::phases::{oom_kill, over_cap};
use crate::words;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write;
use stead::core::action::{Action, To};
use stead::core::clock::{Millis, Mono, Now, Wall};
use stead::core::command::{Asked, Change, ChangeKind, Command, Origin, Refusal, Reply, Terms};
use stead::core::cron::Calendar;
use stead::core::event::Event;
use stead::core::fleet::Fleet;
use stead::core::instance::Want;
use stead::core::name::{AppName, Id, RunId, Ticket};
use stead::core::probe::Outcome;
use stead::core::record::{Actor, SpawnFailure};
use stead::core::recover::{Found, HeldState, Tail, Wanted, learn};
use stead::core::spec::{Env, Spec};

/// The keeper starts the next daemon so soon.
const NEXT_DAEMON: Millis = Millis(10);

/// A boot begins at this reading of the clock.
const BOOT: u64 = 500;

pub struct World {
    pub now: Now,
    pub cpus: usize,
    pub fleet: Option<Fleet>,
    pub kernel: Kernel,
    pub disk: Disk,
    pub laws: Laws,
    /// What happened so far, in words; no wall time is among them.
    pub transcript: String,
    /// Is the story told, and are the laws asked? They remember every run.
    is_told: bool,
    /// So many the daemons have heard of.
    pub events: u64,
    /// By run (`api#2`), instance or app; the nearest holds.
    pub tempers: BTreeMap<String, Temper>,
    /// From what happens to the daemon's hearing of it.
    pub latency: Millis,
    mail: BTreeMap<(Mono, u64), Letter>,
    letters: u64,
    finishing: BTreeMap<RunId, bool>,
    /// In the socket that the keeper holds.
    said_ready: Vec<RunId>,
    /// The daemon dies when it has performed so many actions.
    dies_after: Option<usize>,
    begins: Option<Mono>,
    tickets: u64,
    boot: u32,
    /// Time that passed before this boot.
    before_boot: u64,
}

/// Files of the home.
#[derive(Debug, Default)]
pub struct Disk {
    pub wanted: Wanted,
    pub saved: Option<Wanted>,
    /// What the journal says last of each instance.
    pub journal: BTreeMap<Id, Tail>,
}

#[derive(Clone, Debug)]
enum Letter {
    News(News),
    Unprepared(RunId, SpawnFailure),
    Finished(RunId),
    Probed(RunId, Outcome),
}

impl World {
    /// A home that was never used, and its first daemon.
    pub fn new(cpus: usize) -> World {
        let wall = Wall(1_800_000_000_000);
        let mut world = World {
            now: Now { mono: Mono(0), wall },
            cpus,
            fleet: None,
            kernel: Kernel::default(),
            disk: Disk::default(),
            laws: Laws::default(),
            transcript: String::new(),
            is_told: true,
            events: 0,
            tempers: BTreeMap::new(),
            latency: Millis(0),
            mail: BTreeMap::new(),
            letters: 0,
            finishing: BTreeMap::new(),
            said_ready: Vec::new(),
            dies_after: None,
            begins: Some(Mono(0)),
            tickets: 0,
            boot: 1,
            before_boot: 0,
        };
        world.laws.cpus = cpus;
        world.begin();
        world.transcript.clear();
        world
    }

    /// One that is too long to be told.
    pub fn untold(cpus: usize) -> World {
        World { is_told: false, ..World::new(cpus) }
    }

    /// Time since the world began; a boot does not set it back.
    pub fn elapsed(&self) -> Millis {
        Millis(self.before_boot + self.now.mono.0)
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Millis) {
        let mut left = span;
        while let Some(wait) = self.until_next().filter(|wait| *wait <= left) {
            self.shift(wait);
            left = Millis(left.0 - wait.0);
            self.step();
        }
        self.shift(left);
    }

    pub fn pass_until(&mut self, elapsed: Millis) {
        self.pass(Millis(elapsed.0.saturating_sub(self.elapsed().0)));
    }

    /// A client asks. `None`: there is no daemon.
    pub fn ask(&mut self, command: Command, wait: bool) -> Option<Ticket> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let heading = format!("{} asks: {}", words::ticket(ticket), words::command(&command));
        let Some(fleet) = &mut self.fleet else {
            self.say(&format!("{heading}: nobody is there"));
            return None;
        };
        if self.is_told {
            self.laws.asked(ticket, &command);
        }
        if command == Command::Resurrect
            && let Some(saved) = &self.disk.saved
        {
            let actions = fleet.restore(self.now, ticket, through_json(saved), wait);
            self.laws.nothing_is_overlooked(self.now, fleet, &self.transcript);
            self.say(&heading);
            self.perform(actions);
        } else {
            let actor = Actor { uid: Some(1000), pid: Some(4000 + self.tickets as i32), command: Some("stead".into()) };
            self.handle(&heading, Event::Asked { ticket, asked: Asked { command, wait, actor } });
        }
        self.laws.signal_verb = false;
        Some(ticket)
    }

    /// The first run that lives grows above its cap, or the kernel kills one of its tree for its limit.
    pub fn memory_is_short(&mut self, killed: bool) {
        let live = |(_, kept): &(&RunId, &Kept)| kept.state == HeldState::Live;
        let Some(run) = self.kernel.table.iter().find(live).map(|(run, _)| *run) else { return };
        let event = if killed { self.kills(run, 1) } else { over_cap(run) };
        let heading = words::event(&event, |run| self.laws.shown(run));
        self.handle(&heading, event);
    }

    /// A file that an app watches changes; without a daemon nobody sees it.
    pub fn file_changes(&mut self, app: &str, path: &str) {
        let Ok(app) = AppName::parse(app) else { return };
        let wants = |world: &World| -> Vec<(Id, Want)> {
            world.fleet.iter().flat_map(Fleet::instances).map(|one| (one.id, one.want)).collect()
        };
        let before = wants(self);
        let event = Event::Changed { app, path: path.to_owned() };
        let heading = words::event(&event, |run| self.laws.shown(run));
        self.laws.wished();
        if self.fleet.is_some() {
            self.handle(&heading, event);
        }
        if self.fleet.is_some() && wants(self) != before {
            broken("a change of a file is nobody's wish", &heading, &self.transcript);
        }
    }

    /// A daemon that begins finds what the kernel has counted for the first run that lives.
    pub fn kills_are_found_again(&mut self) {
        let live = |(_, kept): &(&RunId, &Kept)| kept.state == HeldState::Live;
        let Some(run) = self.kernel.table.iter().find(live).map(|(run, _)| *run) else { return };
        let event = self.kills(run, 0);
        let heading = words::event(&event, |run| self.laws.shown(run));
        self.handle(&heading, event);
    }

    fn kills(&mut self, run: RunId, more: u64) -> Event {
        let kills = self.kernel.table.get_mut(&run).map_or(0, |kept| {
            kept.kills += more;
            kept.kills
        });
        oom_kill(run, kills)
    }

    /// Somebody tells stead to end.
    pub fn term(&mut self) {
        if self.has_ended() {
            return;
        }
        self.laws.told_to_end = true;
        if self.fleet.is_some() {
            self.laws.told_daemon += 1;
            let actor = Actor { uid: Some(0), pid: Some(1), command: Some("systemd".into()) };
            self.handle("SIGTERM to stead", Event::Term { actor });
        }
    }

    pub fn daemon_dies(&mut self) {
        if self.fleet.take().is_some() {
            self.say("the daemon dies");
            self.laws.daemon_died(&self.kernel);
            let unread = self.mail.values().filter_map(|letter| match letter {
                Letter::News(News::Ready(run)) => Some(*run),
                _ => None,
            });
            self.said_ready.extend(unread);
            self.mail.clear();
            self.finishing.clear();
            self.dies_after = None;
            self.begins = Some(self.now.mono + NEXT_DAEMON);
        }
    }

    pub fn daemon_dies_after(&mut self, actions: usize) {
        self.dies_after = Some(actions);
    }

    /// A daemon that was to die later lives on.
    pub fn daemon_lives_on(&mut self) {
        self.dies_after = None;
    }

    /// The keeper is killed; what it held is ended, and a new keeper starts a new daemon.
    pub fn keeper_dies(&mut self) {
        if self.has_ended() {
            return;
        }
        self.say("the keeper dies");
        self.lose_everything();
        self.begins = Some(self.now.mono + NEXT_DAEMON);
    }

    pub fn reboot(&mut self) {
        self.say("the machine restarts");
        self.lose_everything();
        self.boot += 1;
        self.before_boot += self.now.mono.0 - BOOT.min(self.now.mono.0);
        self.now.mono = Mono(BOOT);
        self.begins = Some(Mono(BOOT) + NEXT_DAEMON);
    }

    /// Starts stead where it has ended.
    pub fn start_stead(&mut self) {
        if self.has_ended() {
            self.begin();
        }
    }

    /// There is neither a daemon nor a keeper to start one.
    fn has_ended(&self) -> bool {
        self.fleet.is_none() && self.begins.is_none()
    }

    /// The wall clock steps; nothing else does.
    pub fn wall_steps(&mut self, by: i64) {
        self.now.wall = Wall(self.now.wall.0 + by);
        self.laws.clock_is_set(by);
        self.handle("the clock is set", Event::ClockSet);
    }

    /// A note of the story itself.
    pub fn say(&mut self, line: &str) {
        if !self.is_told {
            return;
        }
        let elapsed = self.elapsed().0;
        let _ = writeln!(self.transcript, "{:>8}.{:03}  {line}", elapsed / 1000, elapsed % 1000);
    }

    pub fn says(&mut self, line: &str) {
        let _ = writeln!(self.transcript, "{:14}{line}", "");
    }

    fn until_next(&self) -> Option<Millis> {
        let deadline = self.fleet.as_ref().and_then(Fleet::deadline);
        let mail = self.mail.keys().next().map(|(at, _)| *at);
        [self.kernel.next(), mail, deadline, self.begins].into_iter().flatten().min().map(|at| at - self.now.mono)
    }

    fn shift(&mut self, span: Millis) {
        self.now.mono = self.now.mono + span;
        self.now.wall = Wall(self.now.wall.0.saturating_add_unsigned(span.0));
    }

    /// What is due now, one thing of it.
    fn step(&mut self) {
        let now = self.now;
        if self.kernel.next().is_some_and(|at| at <= now.mono) {
            match self.kernel.happen(now) {
                // The keeper holds the socket: what is said while no daemon lives waits there.
                Some(News::Ready(run)) if self.fleet.is_none() => self.said_ready.push(run),
                Some(news) if self.fleet.is_some() => self.post(self.latency, Letter::News(news)),
                Some(_) | None => {}
            }
            return;
        }
        if self.begins.is_some_and(|at| at <= now.mono) {
            self.begin();
            return;
        }
        if let Some(entry) = self.mail.first_entry().filter(|entry| entry.key().0 <= now.mono) {
            let letter = entry.remove();
            self.deliver(letter);
            return;
        }
        self.handle("due", Event::Due);
        let deadline = self.fleet.as_ref().and_then(Fleet::deadline);
        self.laws.deadline_moves_on(now, deadline, &self.transcript);
    }

    fn deliver(&mut self, letter: Letter) {
        let event = match letter {
            Letter::News(News::Orphan(run)) => return self.sweep(run),
            Letter::Finished(run) => Event::Finished { run, facts: Box::new(self.kernel.facts(run)) },
            Letter::Probed(run, outcome) => Event::Probed { run, outcome },
            Letter::News(News::Ready(run)) => Event::Ready { run },
            Letter::Unprepared(run, failure) => Event::SpawnFailed { run, failure, holder: None },
            Letter::News(News::Spawned(run)) => {
                let Some(kept) = self.kernel.table.get(&run) else { return };
                Event::Spawned { run, pid: kept.pid, at: kept.started }
            }
            Letter::News(News::Failed(run)) => match self.kernel.table.get(&run).map(|kept| &kept.state) {
                Some(HeldState::Failed { failure }) => {
                    Event::SpawnFailed { run, failure: failure.clone(), holder: None }
                }
                _ => return,
            },
            Letter::News(News::Exited(run)) => {
                let Some(kept) = self.kernel.table.get(&run) else { return };
                let HeldState::Ended { exit } = &kept.state else { return };
                self.laws.heard_of_end(run);
                Event::Exited { run, exit: exit.clone(), left: kept.children }
            }
        };
        let heading = if self.is_told { words::event(&event, |run| self.laws.shown(run)) } else { String::new() };
        self.handle(&heading, event);
    }

    fn handle(&mut self, heading: &str, event: Event) {
        let Some(fleet) = &mut self.fleet else { return };
        self.events += 1;
        let actions = fleet.handle(self.now, event);
        if self.is_told {
            self.laws.nothing_is_overlooked(self.now, fleet, &self.transcript);
        }
        if !matches!(heading, "due" | "the clock is set") || !actions.is_empty() {
            self.say(heading);
        }
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            if self.dies_after == Some(0) {
                return self.daemon_dies();
            }
            if let Some(fleet) = self.fleet.as_ref().filter(|_| self.is_told) {
                let line = words::action(&action, |run| self.laws.shown(run));
                let _ = writeln!(self.transcript, "{:14}{line}", "");
                self.laws.performed(self.now, &action, (&self.kernel, &self.disk, fleet), &self.transcript);
            }
            self.act(action);
            self.dies_after = self.dies_after.map(|left| left - 1);
            if self.dies_after == Some(0) {
                return self.daemon_dies();
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Spawn(order) => {
                let mut temper = self.temper(&order.note.instance, &order.note.app, order.note.seq);
                // Without a socket there is nobody to say it to.
                temper.ready = temper.ready.filter(|_| order.spec.readiness.wait_ready);
                match temper.start.clone() {
                    Start::Unprepared(failure) => {
                        self.post(Millis(0), Letter::Unprepared(order.run, failure));
                    }
                    Start::After(_) | Start::Fails(_) => self.kernel.spawn(now, order.run, order.note, temper),
                }
            }
            Action::Note { run, note } => {
                if let Some(kept) = self.kernel.table.get_mut(&run) {
                    kept.note = note;
                }
            }
            Action::Probe { run, .. } => {
                let outcome = self.kernel.probe(now, run).unwrap_or_else(refused);
                self.post(Millis(1), Letter::Probed(run, outcome));
            }
            Action::Signal { run, to, signal } => self.kernel.signal(now, run, to == To::Tree, signal),
            Action::Finish { run, tree } => {
                self.finishing.insert(run, tree);
                self.sweep(run);
            }
            Action::Journal { line, .. } => learn(&mut self.disk.journal, *line),
            Action::Forget { run } => drop(self.kernel.table.remove(&run)),
            Action::Persist => self.persist(),
            Action::Save { ticket, .. } => {
                self.disk.saved = self.fleet.as_ref().map(|fleet| fleet.wanted(""));
                let saved = Change { name: "saved.json".into(), kind: ChangeKind::Saved, detail: None };
                self.answer(ticket, &Ok(Reply { changes: vec![saved], ..Reply::default() }));
            }
            Action::Reply { ticket, result } => self.answer(ticket, &result),
            Action::Flush { ticket, .. } => self.answer(ticket, &Ok(Reply::default())),
            Action::Release { .. } | Action::Report { .. } => {}
            Action::Bye => {
                self.laws.bye(&self.kernel, &self.transcript);
                self.fleet = None;
                self.mail.clear();
                self.finishing.clear();
                self.kernel.end();
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, result: &Result<Reply, Refusal>) {
        if self.is_told {
            self.laws.answered(ticket, result, &self.transcript);
        }
    }

    fn persist(&mut self) {
        if let Some(fleet) = &self.fleet {
            self.disk.wanted = fleet.wanted(&self.boot_id());
        }
    }

    /// All that `Finish` waits for has come.
    fn sweep(&mut self, run: RunId) {
        let Some(tree) = self.finishing.get(&run) else { return };
        if !*tree || self.kernel.table.get(&run).is_none_or(|kept| kept.children == 0) {
            self.finishing.remove(&run);
            self.post(Millis(1), Letter::Finished(run));
        }
    }

    fn post(&mut self, after: Millis, letter: Letter) {
        self.letters += 1;
        self.mail.insert((self.now.mono + after, self.letters), letter);
    }

    fn begin(&mut self) {
        self.begins = None;
        let found = Found {
            wanted: through_json(&self.disk.wanted),
            boot_id: self.boot_id(),
            highest_run: self.kernel.highest,
            held: self.kernel.inventory(),
            calendar: Calendar::default(),
            tails: self
                .disk
                .journal
                .iter()
                .map(|(id, tail)| {
                    let (last, last_end) = (through_json(&tail.last), through_json(&tail.last_end));
                    let (to_follow, open) = (through_json(&tail.to_follow), through_json(&tail.open));
                    let (newest, ended, kills) = (tail.newest, tail.ended.clone(), tail.kills.clone());
                    (*id, Tail { last, newest, last_end, to_follow, open, ended, kills })
                })
                .collect(),
        };
        for held in &found.held {
            if matches!(held.state, HeldState::Ended { .. } | HeldState::Failed { .. }) {
                self.laws.heard_of_end(held.run);
            }
        }
        let (fleet, actions) = Fleet::recover(self.cpus, self.now, found);
        self.laws.nothing_is_overlooked(self.now, &fleet, &self.transcript);
        self.fleet = Some(fleet);
        self.say("a daemon begins");
        self.perform(actions);
        for run in std::mem::take(&mut self.said_ready) {
            self.post(self.latency, Letter::News(News::Ready(run)));
        }
        if self.laws.told_to_end && self.fleet.is_some() {
            self.laws.told_daemon += 1;
            let actor = Actor { uid: Some(0), pid: Some(1), command: Some("systemd".into()) };
            self.handle("SIGTERM to stead, told again", Event::Term { actor });
        }
    }

    fn lose_everything(&mut self) {
        self.laws.lost_everything();
        self.fleet = None;
        self.mail.clear();
        self.finishing.clear();
        self.said_ready.clear();
        self.dies_after = None;
        self.kernel.end();
    }

    fn temper(&self, instance: &str, app: &str, seq: u64) -> Temper {
        let run = format!("{instance}#{seq}");
        [run.as_str(), instance, app].iter().find_map(|name| self.tempers.get(*name)).cloned().unwrap_or_default()
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }
}

/// The answer where nobody listens.
fn refused() -> Outcome {
    Outcome { ok: false, said: "connection refused".into(), took: Millis(0) }
}

/// What clients of the world have in their environment.
pub fn environment() -> Env {
    Env::from([("PATH".into(), "/usr/bin".into())])
}

/// `stead start FILE`.
pub fn apply(file: &[Spec]) -> Command {
    apply_by(file, Terms::default())
}

/// The same on other terms.
pub fn apply_by(file: &[Spec], terms: Terms) -> Command {
    let names = file.iter().map(|spec| spec.name.clone()).collect();
    let origins = vec![Origin { file: "/srv/ecosystem.yaml".into(), names }];
    Command::Apply {
        specs: file.to_vec(),
        environment: environment(),
        rules: None,
        notifiers: None,
        terms: Terms { origins, ..terms },
    }
}

/// What was written is read again: nothing may depend on what does not reach the disk.
fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}
