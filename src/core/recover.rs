//! How a daemon begins: from what was wanted, what the keeper holds, and what the journal says last. A first start is the same
//! with nothing held.

use super::action::{Action, Entry, Line, Streak};
use super::ask::ending;
use super::clock::{Millis, Mono, Now, Wall};
use super::command::{Change, ChangeKind, Failure, Reply};
use super::cron::Calendar;
use super::event::{Exit, Reached, RunNote, Sent, Why};
use super::fleet::{App, Fleet};
use super::health::Rules;
use super::instance::{HEARING, Input, Instance, Part, Phase, Run, SCHEDULED, Want, on_trial};
use super::name::{self, AppName, Id, RunId, Ticket};
use super::notify::Notifier;
use super::record::{Cause, Next, NextAction, SpawnFailure};
use super::reload::{Beside, leaves};
use super::spec::{Env, Policy, Spec};
use super::wait::{Goal, Wait};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Version of `state.json` and `saved.json`.
pub const WANTED_VERSION: u32 = 1;

/// The wanted set: `state.json` and `saved.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub version: u32,
    /// Of the boot in which it was written; another boot starts every wanted instance anew.
    pub boot_id: String,
    /// Runs before this one are of an earlier boot.
    pub first_run: u64,
    pub next_id: u32,
    pub next_run: u64,
    /// Base environments, each once.
    pub environments: Vec<Arc<Env>>,
    pub apps: Vec<WantedApp>,
    #[serde(default)]
    pub rules: Rules,
    #[serde(default)]
    pub notifiers: Vec<Notifier>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedApp {
    pub spec: Arc<Spec>,
    /// Index into `environments`.
    pub environment: usize,
    pub count: u32,
    pub revision: u32,
    pub created_at: Wall,
    #[serde(default)]
    pub file: Option<PathBuf>,
    pub instances: Vec<WantedInstance>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedInstance {
    pub id: Id,
    pub slot: u32,
    #[serde(deserialize_with = "name::instance")]
    pub name: String,
    pub want: Want,
}

/// A run in the keeper's inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub run: RunId,
    pub pid: i32,
    pub started: Now,
    pub state: HeldState,
    pub note: RunNote,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HeldState {
    Starting,
    Live,
    Ended { exit: Exit },
    Failed { failure: SpawnFailure },
}

/// All that a daemon finds when it begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub wanted: Wanted,
    pub boot_id: String,
    pub highest_run: RunId,
    pub held: Vec<Held>,
    pub tails: BTreeMap<Id, Tail>,
    pub calendar: Calendar,
}

/// The end of an instance's journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    pub last: Line,
    /// The newest run, and its number.
    pub newest: (RunId, u64),
    /// The newest end, be it before a reset.
    pub last_end: Option<Line>,
    /// The end that says what follows, be it before a reset; nothing where somebody asked for a run since.
    pub to_follow: Option<Line>,
    /// Starts without an end, be they before a reset: two during a reload.
    pub open: Vec<Line>,
    /// The runs that have their end written.
    pub ended: BTreeSet<RunId>,
    /// Kills by the kernel in the trees of open runs that are written down.
    pub kills: BTreeMap<RunId, u64>,
}

/// The end of every instance's journal, from its lines in the order of writing. By id: a name may be given again.
#[must_use]
pub fn tails(lines: impl IntoIterator<Item = Line>) -> BTreeMap<Id, Tail> {
    let mut tails = BTreeMap::new();
    lines.into_iter().for_each(|line| learn(&mut tails, line));
    tails
}

/// The next line of the journal.
pub fn learn(tails: &mut BTreeMap<Id, Tail>, line: Line) {
    let tail = tails.entry(line.id).or_insert_with(|| Tail {
        last: line.clone(),
        newest: (RunId(0), 0),
        last_end: None,
        to_follow: None,
        open: Vec::new(),
        ended: BTreeSet::new(),
        kills: BTreeMap::new(),
    });
    tail.newest = tail.newest.max(line.later.unwrap_or((line.run, line.seq)));
    match &line.entry {
        Entry::Start { .. } => {
            tail.open.retain(|open| open.run != line.run);
            tail.open.push(line.clone());
        }
        Entry::End { record, .. } => {
            tail.open.retain(|open| open.run != line.run);
            tail.ended.insert(line.run);
            tail.kills.remove(&line.run);
            // The first since a reset is the last word in any case.
            let last = tail.last_end.as_ref().filter(|_| line.tally.total > 1).and_then(Line::end);
            if !last.is_some_and(|last| last.outlasts(record)) {
                tail.last_end = Some(line.clone());
            }
            if record.next.action != NextAction::RunsOn {
                tail.to_follow = Some(line.clone());
            }
        }
        Entry::Incident(incident) => {
            *tail.kills.entry(line.run).or_default() += incident.oom.own + incident.oom.host;
        }
        Entry::Asked { .. } => tail.to_follow = None,
        Entry::Reset { .. } => {}
    }
    tail.last = line;
}

impl Fleet {
    /// The wanted set as it is to be written.
    #[must_use]
    pub fn wanted(&self, boot_id: &str) -> Wanted {
        let mut environments: Vec<Arc<Env>> = Vec::new();
        let mut apps = Vec::new();
        for (name, app) in &self.apps {
            let instances: Vec<WantedInstance> = self
                .instances
                .values()
                // How one that leaves is to be ended stays known until it has left.
                .filter(|one| one.app == *name && (one.want != Want::Gone || one.lives()))
                .map(|one| WantedInstance { id: one.id, slot: one.slot, name: one.name.clone(), want: one.want })
                .collect();
            if instances.is_empty() {
                continue;
            }
            let environment = environments
                .iter()
                .position(|known| Arc::ptr_eq(known, &app.environment) || *known == app.environment)
                .unwrap_or_else(|| {
                    environments.push(app.environment.clone());
                    environments.len() - 1
                });
            apps.push(WantedApp {
                spec: app.spec.clone(),
                environment,
                count: app.count,
                revision: app.revision,
                created_at: app.created_at,
                file: app.file.clone(),
                instances,
            });
        }
        Wanted {
            version: WANTED_VERSION,
            boot_id: boot_id.to_owned(),
            first_run: self.first_run,
            next_id: self.next_id,
            next_run: self.next_run,
            environments,
            apps,
            rules: self.rules.clone(),
            notifiers: self.notifiers.clone(),
        }
    }

    /// Begins from what was found. Join of three tables: the wanted set, the keeper's inventory, the journal.
    pub fn recover(cpus: usize, now: Now, found: Found) -> (Fleet, Vec<Action>) {
        let mut fleet = Fleet::new(cpus);
        fleet.calendar = found.calendar;
        // FNV-1a: no two boots have the same chance.
        fleet.seed = found
            .boot_id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut out = Vec::new();
        let journaled = found.tails.values().map(|tail| tail.newest.0).max().unwrap_or_default();
        fleet.next_id = found.tails.keys().map(|id| id.0 + 1).max().unwrap_or(0).max(found.wanted.next_id);
        fleet.next_run = found.wanted.next_run.max(found.highest_run.0 + 1).max(journaled.0 + 1);
        for Tail { last, newest, .. } in found.tails.values() {
            let number = fleet.numbers.entry(last.instance.clone()).or_default();
            *number = newest.1.max(*number);
        }
        let same_boot = found.wanted.boot_id == found.boot_id;
        fleet.rules = found.wanted.rules;
        fleet.notifiers = found.wanted.notifiers;
        fleet.first_run = if same_boot { found.wanted.first_run } else { fleet.next_run };
        for wanted in found.wanted.apps {
            let environment = found.wanted.environments.get(wanted.environment).cloned().unwrap_or_default();
            let name = wanted.spec.name.clone();
            for one in wanted.instances {
                fleet.next_id = fleet.next_id.max(one.id.0 + 1);
                fleet.instances.insert(Instance::new(one.id, name.clone(), one.slot, one.name, one.want));
            }
            fleet.apps.insert(
                name,
                App {
                    spec: wanted.spec,
                    environment,
                    count: wanted.count,
                    revision: wanted.revision,
                    created_at: wanted.created_at,
                    file: wanted.file,
                },
            );
        }
        let mut held: BTreeMap<Id, Vec<Held>> = BTreeMap::new();
        for run in found.held {
            let ended = matches!(run.state, HeldState::Ended { .. } | HeldState::Failed { .. });
            let written = found.tails.get(&run.note.id).is_some_and(|tail| tail.ended.contains(&run.run));
            if ended && written {
                out.push(Action::Forget { run: run.run });
                continue;
            }
            fleet.ensure_instance(now, &run.note, run.note.id.0 >= found.wanted.next_id);
            held.entry(run.note.id).or_default().push(run);
        }
        let ids: Vec<Id> = fleet.instances.keys().copied().collect();
        for id in ids {
            let tail = found.tails.get(&id);
            fleet.recall(id, tail);
            let open = tail.into_iter().flat_map(|tail| &tail.open).filter_map(|line| match line.entry {
                Entry::Start { at, .. } => Some(at),
                _ => None,
            });
            let begun = held.get(&id).into_iter().flatten().map(|one| one.started.wall).chain(open).max();
            fleet.catch_up(now, id, begun);
            match held.remove(&id) {
                Some(runs) => fleet.adopt(now, id, runs, tail, &mut out),
                None => fleet.resume(now, id, tail, &mut out),
            }
            fleet.catch_up(now, id, None);
        }
        out.push(Action::Persist);
        fleet.settle(now, &mut out);
        (fleet, out)
    }

    /// Puts back what `saved.json` holds: what is missing is made, what was wanted up is started.
    pub fn restore(&mut self, now: Now, ticket: Ticket, saved: Wanted, wait_for_it: bool) -> Vec<Action> {
        let mut out = Vec::new();
        if self.ending.is_some() {
            return vec![Action::Reply { ticket, result: Err(ending()) }];
        }
        if let Err(refusal) = self.refuse_circle(saved.apps.iter().map(|app| &*app.spec)) {
            return vec![Action::Reply { ticket, result: Err(refusal) }];
        }
        self.instances.touch_all();
        let mut reply = Reply::default();
        let mut goals = Vec::new();
        let after = self.last_run();
        for mut app in saved.apps {
            app.instances.retain(|one| one.want != Want::Gone);
            if app.instances.is_empty() {
                continue;
            }
            let name = app.spec.name.clone();
            if self.apps.get(&name).is_none_or(|app| app.count == 0) {
                let names: Vec<String> = app.instances.iter().map(|one| one.name.clone()).collect();
                if let Err(refusal) = self.refuse_taken(&name, &names) {
                    reply.failures.push(Failure { name: name.to_string(), reason: refusal.error, tail: Vec::new() });
                    continue;
                }
                let environment = saved.environments.get(app.environment).cloned().unwrap_or_default();
                let (spec, count, created_at, file) = (app.spec, app.count, app.created_at, app.file);
                self.apps.insert(name.clone(), App { spec, environment, count, revision: 0, created_at, file });
                for one in &app.instances {
                    self.add(&name, one.slot, one.name.clone(), Want::Down);
                }
            }
            for one in app.instances.iter().filter(|one| one.want == Want::Up) {
                let slot = |id: &Id| self.instances[id].slot == one.slot && self.instances[id].want != Want::Gone;
                let Some(id) = self.members(&name).into_iter().find(slot) else { continue };
                let instance = &self.instances[&id];
                let idle = matches!(instance.phase, Phase::Stopped | Phase::Errored { .. });
                let kind = if idle { ChangeKind::Started } else { ChangeKind::Unchanged };
                reply.changes.push(Change { name: instance.name.clone(), kind, detail: None });
                if idle {
                    goals.push((id, instance.name.clone(), Goal::UpAfter(after)));
                    self.input(now, id, Input::Up, &mut out);
                }
            }
        }
        out.push(Action::Persist);
        if !wait_for_it {
            goals.clear();
        }
        self.waits.push(Wait { ticket, goals, reply });
        self.settle(now, &mut out);
        out
    }

    /// What the journal remembers of an instance.
    fn recall(&mut self, id: Id, tail: Option<&Tail>) {
        let (Some(instance), Some(tail)) = (self.instances.get_mut(&id), tail) else { return };
        (instance.last_run, instance.seq) = tail.newest;
        instance.tally = tail.last.tally.clone();
        instance.streak = tail.last.streak.clone();
        let last_end = tail.last_end.as_ref().filter(|_| instance.tally.total > 0);
        instance.last = last_end.and_then(Line::end).cloned().map(Box::new);
    }

    /// Goes on with the runs that the keeper holds: one, or the two of a reload.
    fn adopt(&mut self, now: Now, id: Id, mut held: Vec<Held>, tail: Option<&Tail>, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        held.sort_by_key(|one| one.run);
        let handed_over = |older: &Held| older.note.intent.as_ref().is_some_and(|it| it.why.cause == Cause::Reload);
        let reload = match &held[..] {
            [older, newer] if !handed_over(older) => newer.note.reload.clone(),
            _ => None,
        };
        let newest = held.last().map(|one| one.run);
        // Whoever took its place has ended already, and what follows that is written.
        let end = tail.and_then(|tail| tail.last_end.as_ref()).filter(|end| newest < Some(end.run));
        let main_ended = end.and_then(Line::end).is_some_and(|record| record.next.action != NextAction::RunsOn)
            && held.last().is_some_and(handed_over);
        if main_ended {
            let to_follow = tail.and_then(|tail| tail.to_follow.as_ref()).filter(|end| newest < Some(end.run));
            instance.phase = follows(instance.want, to_follow);
        }
        let mut ends = None;
        for one in held {
            let is_newest = Some(one.run) == newest;
            let part = match (&reload, is_newest) {
                (Some(why), true) => Part::Successor { why: why.clone() },
                (None, true) if main_ended => Part::Predecessor,
                (Some(_), false) | (None, true) => Part::Main,
                (None, false) => Part::Predecessor,
            };
            let written = tail.is_some_and(|tail| tail.open.iter().any(|open| open.run == one.run));
            let kills = tail.and_then(|tail| tail.kills.get(&one.run)).copied().unwrap_or(0);
            let second = part != Part::Main;
            let (phase, unwanted) = instance.adopt(now, app, one, part, (written, kills), out);
            if !second {
                instance.phase = phase;
                ends = unwanted;
            } else if phase.run().is_some() {
                instance.beside = Some(Beside::Living(Box::new(phase)));
            }
        }
        let spec = app.spec.clone();
        if let Some(why) = ends {
            self.leave_later(id, why);
        } else {
            instance.hand_over(now, &spec, out);
        }
    }

    /// Goes on with an instance of which nothing lives.
    fn resume(&mut self, now: Now, id: Id, tail: Option<&Tail>, out: &mut Vec<Action>) {
        let first_run = self.first_run;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        let of_this_boot = |run: RunId| run.0 >= first_run;
        if !of_this_boot(instance.last_run) {
            instance.streak = Streak::default();
        }
        let Some(Tail { last, last_end, to_follow, open, .. }) = tail else {
            instance.phase = if instance.want == Want::Up { Phase::Queued } else { Phase::Stopped };
            return;
        };
        for line in open {
            let Line { run: id, seq, entry: Entry::Start { pid, at }, .. } = line else { continue };
            let started = Now { mono: now.mono, wall: *at };
            let run = Run {
                id: *id,
                seq: *seq,
                started,
                spec: app.spec.clone(),
                revision: app.revision,
                signalled: None,
                kills: 0,
                killed_at: None,
                part: Part::Main,
                reached: Reached::Spawned,
                health: None,
            };
            instance.lost(now, &run, *pid, of_this_boot(*id), out);
        }
        let ran = last_end.is_some() || !open.is_empty();
        let asked = matches!(last.entry, Entry::Asked { .. });
        let to_follow = to_follow.as_ref().filter(|end| open.is_empty() && of_this_boot(end.run));
        // A job that was cut short, or was waiting in an earlier boot, waits for its time.
        let waits = to_follow.is_none() && ran && !asked && app.spec.policy.schedule().is_some();
        instance.phase = if waits { Phase::Stopped } else { follows(instance.want, to_follow) };
    }

    fn catch_up(&mut self, now: Now, id: Id, begun: Option<Wall>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.seed = self.seed;
        if let Some(app) = self.apps.get(&instance.app) {
            instance.catch_up(now, &app.spec, self.calendar, begun);
        }
    }

    /// A run that the keeper holds for an instance that is not wanted. Where it was `never_wanted`, the wanted set was written before
    /// it, or is lost: the run goes on, for nobody wished its end. Else its deletion was written and its end was not: it is ended.
    fn ensure_instance(&mut self, now: Now, note: &RunNote, never_wanted: bool) {
        if self.instances.contains_key(&note.id) {
            return;
        }
        let Ok(name) = AppName::parse(&note.app) else { return };
        self.next_id = self.next_id.max(note.id.0 + 1);
        let slot = note.instance.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let app = self.apps.entry(name.clone()).or_insert_with(|| App {
            spec: Arc::new(unknown_spec(&name)),
            environment: Arc::default(),
            count: 0,
            revision: note.revision,
            created_at: now.wall,
            file: None,
        });
        app.count += u32::from(never_wanted);
        let want = if never_wanted { Want::Up } else { Want::Gone };
        let instance = Instance::new(note.id, name, slot.unwrap_or(0), note.instance.clone(), want);
        self.instances.insert(instance);
    }
}

impl Instance {
    /// The phase of a run that the keeper holds, and why it is to end, where its turn to do so is still to come. `written`: its start
    /// is in the journal; `kills`: so many kills in its tree are, too.
    fn adopt(
        &mut self,
        now: Now,
        app: &App,
        held: Held,
        part: Part,
        (written, kills): (bool, u64),
        out: &mut Vec<Action>,
    ) -> (Phase, Option<Why>) {
        let spec = app.spec.clone();
        if self.last_run < held.run {
            self.begin(held.run, held.note.seq, &part);
        }
        let run = Run {
            id: held.run,
            seq: held.note.seq,
            started: held.started,
            spec: spec.clone(),
            revision: held.note.revision,
            signalled: held.note.signalled.clone(),
            kills,
            killed_at: None,
            part,
            reached: match held.state {
                HeldState::Live | HeldState::Ended { .. } if spec.readiness.is_immediate() => Reached::Online,
                _ => held.note.reached,
            },
            health: None,
        };
        if !written && !matches!(held.state, HeldState::Starting | HeldState::Failed { .. }) {
            self.write_start(&run, held.pid, out);
        }
        // Its wish changed between the writing of the wish and the first signal.
        let cause = match self.want {
            Want::Up if held.note.revision == app.revision => None,
            Want::Up => Some(Cause::ConfigChange),
            Want::Down | Want::Gone => Some(Cause::Manual),
        };
        let unwanted = cause.map(|cause| Why::asked(cause, None));
        let (pid, is_main) = (held.pid, run.part == Part::Main);
        let phase = match held.state {
            HeldState::Starting if is_main => return (Phase::Starting { run, then: None }, unwanted),
            HeldState::Starting => Phase::Starting { run, then: unwanted },
            HeldState::Failed { failure } => {
                let phase = Phase::Starting { run, then: None };
                self.answer(now, &spec, phase, Input::SpawnFailed { failure, holder: None }, out)
            }
            HeldState::Live => match (held.note.intent, unwanted) {
                (Some(intent), None) if leaves(&run.part, intent.why.cause) && intent.sent == Sent::Nothing => {
                    self.send_reload_signal(now, &spec, run, pid, intent, out)
                }
                (Some(intent), _) if intent.sent == Sent::Nothing => self.send(now, run, pid, intent, out),
                (Some(intent), Some(_)) if intent.sent == Sent::ReloadSignal => self.send(now, run, pid, intent, out),
                (Some(intent), _) => Phase::Stopping { run, pid, intent },
                (None, why) if is_main => return (on_trial(now, &spec, run, pid, Some(now.mono + HEARING)), why),
                (None, Some(why)) => self.stop(now, run, pid, why, out),
                (None, None) if run.part == Part::Predecessor => {
                    self.relieve(now, &spec, run, pid, Why::asked(Cause::Reload, None), out)
                }
                (None, None) => on_trial(now, &spec, run, pid, Some(now.mono + HEARING)),
            },
            HeldState::Ended { exit } => self.ending(now, run, pid, exit, None, held.note.intent, out),
        };
        (phase, None)
    }
}

/// Where the end that says what follows left an instance; `None`: a run is asked for since.
fn follows(want: Want, end: Option<&Line>) -> Phase {
    match (want, end.map(|end| &end.entry)) {
        (Want::Down | Want::Gone, _) => Phase::Stopped,
        (Want::Up, Some(Entry::End { record, at })) => after(&record.next, *at, record.ended_at),
        (Want::Up, _) => Phase::Queued,
    }
}

/// Where a record left an instance that is wanted up.
fn after(next: &Next, at: Mono, shown: Wall) -> Phase {
    match (next.action, next.delay_ms.unwrap_or_default()) {
        (NextAction::GiveUp, _) => Phase::Errored { reason: next.reason.clone() },
        (NextAction::Stop | NextAction::RunsOn, _) => Phase::Stopped,
        (NextAction::Restart | NextAction::Delete, Millis(0)) => Phase::Queued,
        (NextAction::Restart | NextAction::Delete, delay) => Phase::Waiting {
            scheduled: next.reason.starts_with(SCHEDULED),
            until: at + delay,
            shown: Wall(shown.0.saturating_add_unsigned(delay.0)),
            reason: next.reason.clone(),
        },
    }
}

/// The wish for a run whose wish is no longer known: it is ended as PM2 would, and not started again.
fn unknown_spec(name: &AppName) -> Spec {
    let policy = Policy { autorestart: false, ..Policy::default() };
    Spec { autostart: false, policy, instance_var: String::new(), ..Spec::plain(name.clone()) }
}
