//! How a daemon begins: from what was wanted, what the keeper holds, and what the journal says last. A first start is the same
//! with nothing held.

use super::action::{Action, Entry, Line, Streak, To};
use super::clock::{Millis, Now, Wall};
use super::command::Reply;
use super::event::{Exit, RunNote};
use super::fleet::{App, Fleet};
use super::instance::{Input, Instance, Phase, Run, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::record::{Actor, Cause, NextAction, SpawnFailure};
use super::spec::{Env, Logs, Policy, Signal, Spec, Stop};
use super::wait::{Goal, Wait};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of `state.json` and `saved.json`.
pub const WANTED_VERSION: u32 = 1;

/// The wanted set: `state.json` and `saved.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub version: u32,
    /// Of the boot in which it was written; another boot starts every wanted instance anew.
    pub boot_id: String,
    pub next_id: u32,
    pub next_run: u64,
    /// Base environments, each once.
    pub environments: Vec<Arc<Env>>,
    pub apps: Vec<WantedApp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedApp {
    pub spec: Arc<Spec>,
    /// Index into `environments`.
    pub environment: usize,
    pub count: u32,
    pub created_at: Wall,
    pub instances: Vec<WantedInstance>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WantedInstance {
    pub id: Id,
    pub slot: u32,
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
}

/// The end of an instance's journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    pub last: Line,
    /// The newest end since the last reset.
    pub last_end: Option<Line>,
}

/// The end of every instance's journal, from its lines in the order of writing. By id: a name may be given again.
#[must_use]
pub fn tails(lines: impl IntoIterator<Item = Line>) -> BTreeMap<Id, Tail> {
    let mut tails: BTreeMap<Id, Tail> = BTreeMap::new();
    for line in lines {
        let last_end = match &line.entry {
            Entry::End { .. } => Some(line.clone()),
            Entry::Start { .. } => tails.remove(&line.id).and_then(|tail| tail.last_end),
            Entry::Reset { .. } => None,
        };
        tails.insert(line.id, Tail { last: line, last_end });
    }
    tails
}

impl Fleet {
    /// The wanted set as it is to be written.
    #[must_use]
    pub fn wanted(&self, boot_id: &str) -> Wanted {
        let mut environments: Vec<Arc<Env>> = Vec::new();
        let mut apps = Vec::new();
        for (name, app) in &self.apps {
            let environment = environments
                .iter()
                .position(|known| Arc::ptr_eq(known, &app.environment) || *known == app.environment)
                .unwrap_or_else(|| {
                    environments.push(app.environment.clone());
                    environments.len() - 1
                });
            let instances: Vec<WantedInstance> = self
                .instances
                .values()
                .filter(|one| one.app == *name && one.want != Want::Gone)
                .map(|one| WantedInstance { id: one.id, slot: one.slot, name: one.name.clone(), want: one.want })
                .collect();
            if !instances.is_empty() {
                apps.push(WantedApp {
                    spec: app.spec.clone(),
                    environment,
                    count: app.count,
                    created_at: app.created_at,
                    instances,
                });
            }
        }
        Wanted {
            version: WANTED_VERSION,
            boot_id: boot_id.to_owned(),
            next_id: self.next_id,
            next_run: self.next_run,
            environments,
            apps,
        }
    }

    /// Begins from what was found. Join of three tables: the wanted set, the keeper's inventory, the journal.
    pub fn recover(cpus: usize, now: Now, found: Found) -> (Fleet, Vec<Action>) {
        let mut fleet = Fleet::new(cpus);
        let mut out = Vec::new();
        let same_boot = found.wanted.boot_id == found.boot_id;
        let journaled = found.tails.values().map(|tail| tail.last.run).max().unwrap_or_default();
        fleet.next_id = found.wanted.next_id;
        fleet.next_run = found.wanted.next_run.max(found.highest_run.0 + 1).max(journaled.0 + 1);
        for wanted in found.wanted.apps {
            let environment = found.wanted.environments.get(wanted.environment).cloned().unwrap_or_default();
            let name = wanted.spec.name.clone();
            for one in wanted.instances {
                fleet.next_id = fleet.next_id.max(one.id.0 + 1);
                fleet.instances.insert(one.id, Instance::new(one.id, name.clone(), one.slot, one.name, one.want));
            }
            fleet.apps.insert(
                name,
                App { spec: wanted.spec, environment, count: wanted.count, created_at: wanted.created_at },
            );
        }
        let mut held: BTreeMap<Id, Held> = BTreeMap::new();
        for run in found.held {
            let ended = matches!(run.state, HeldState::Ended { .. } | HeldState::Failed { .. });
            let written = found
                .tails
                .get(&run.note.id)
                .and_then(|tail| tail.last_end.as_ref())
                .is_some_and(|end| end.run >= run.run);
            if ended && written {
                out.push(Action::Forget { run: run.run });
                continue;
            }
            fleet.ensure_instance(now, &run.note);
            held.insert(run.note.id, run);
        }
        let ids: Vec<Id> = fleet.instances.keys().copied().collect();
        for id in ids {
            let tail = found.tails.get(&id);
            fleet.recall(id, tail);
            match held.remove(&id) {
                Some(run) => fleet.adopt(now, id, run, tail, &mut out),
                None => fleet.resume(now, id, tail, same_boot, &mut out),
            }
        }
        out.push(Action::Persist);
        fleet.settle(now, &mut out);
        (fleet, out)
    }

    /// Puts back what `saved.json` holds: what is missing is made, what was wanted up is started.
    pub fn restore(&mut self, now: Now, ticket: Ticket, saved: Wanted, wait_for_it: bool) -> Vec<Action> {
        let mut out = Vec::new();
        let mut reply = Reply::default();
        let mut goals = Vec::new();
        let after = RunId(self.next_run - 1);
        let nobody = Actor { uid: None, pid: None, command: None };
        for app in saved.apps {
            let name = app.spec.name.clone();
            if !self.apps.contains_key(&name) {
                let environment = saved.environments.get(app.environment).cloned().unwrap_or_default();
                self.apps.insert(
                    name.clone(),
                    App { spec: app.spec, environment, count: app.count, created_at: app.created_at },
                );
                self.resize(now, &name, &nobody, &mut out);
                for id in self.members(&name) {
                    let Some(instance) = self.instances.get_mut(&id) else { continue };
                    let saved = app.instances.iter().find(|one| one.slot == instance.slot);
                    instance.want = saved.map_or(Want::Down, |one| one.want);
                    instance.phase = Phase::Stopped;
                    if let Some(saved) = saved {
                        instance.name.clone_from(&saved.name);
                    }
                }
            }
            for one in app.instances.iter().filter(|one| one.want == Want::Up) {
                let found = self.members(&name).into_iter().find(|id| self.instances[id].slot == one.slot);
                let Some(id) = found else { continue };
                let instance = &self.instances[&id];
                let idle = matches!(instance.phase, Phase::Stopped | Phase::Errored { .. });
                let kind =
                    if idle { super::command::ChangeKind::Started } else { super::command::ChangeKind::Unchanged };
                reply.changes.push(super::command::Change { name: instance.name.clone(), kind, detail: None });
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
        instance.seq = tail.last.seq;
        instance.last_run = tail.last.run;
        instance.tally = tail.last.tally.clone();
        instance.streak = tail.last.streak.clone();
        instance.last = tail.last_end.as_ref().and_then(|line| match &line.entry {
            Entry::End { record, .. } => Some(record.clone()),
            Entry::Start { .. } | Entry::Reset { .. } => None,
        });
    }

    /// Goes on with a run that the keeper holds.
    fn adopt(&mut self, now: Now, id: Id, held: Held, tail: Option<&Tail>, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        let spec = app.spec.clone();
        let started = Now { wall: held.note.started_at, ..held.started };
        let run = Run { id: held.run, seq: held.note.seq, started, spec: spec.clone() };
        instance.seq = instance.seq.max(held.note.seq);
        instance.last_run = instance.last_run.max(held.run);
        let unwritten_start = tail.is_none_or(|tail| tail.last.run < held.run);
        if unwritten_start && !matches!(held.state, HeldState::Starting | HeldState::Failed { .. }) {
            let entry = Entry::Start { pid: held.pid, at: started.wall };
            out.push(Action::Journal { app: instance.app.clone(), line: Box::new(instance.line(&run, entry)) });
        }
        match held.state {
            HeldState::Starting => instance.phase = Phase::Starting { run, then: None },
            HeldState::Failed { failure } => {
                instance.phase = Phase::Starting { run, then: None };
                instance.handle(now, &spec, Input::SpawnFailed { failure }, out);
            }
            HeldState::Live => {
                instance.phase = match held.note.intent {
                    Some(intent) => Phase::Stopping { run, pid: held.pid, intent },
                    None => Phase::Online { run, pid: held.pid },
                };
                self.make_wish_true(now, id, out);
            }
            HeldState::Ended { exit } => {
                // What is left of its tree is not known yet: the signal finds nobody, or those who have to go.
                let stop = spec.stop.clone();
                out.push(Action::Signal { run: run.id, to: To::Tree, signal: stop.kill_signal });
                out.push(Action::Finish { run: run.id, tree: stop.kill_mode != super::spec::KillMode::Main });
                let kill_at = Some(now.mono + stop.kill_timeout);
                instance.phase = Phase::Ending { run, pid: held.pid, exit, left: 0, intent: held.note.intent, kill_at };
            }
        }
    }

    /// A live run whose wish changed between the writing of the wish and the first signal.
    fn make_wish_true(&mut self, now: Now, id: Id, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let why = super::event::Why { cause: Cause::Manual, actor: None };
        let input = match (instance.want, &instance.phase) {
            (Want::Down, Phase::Online { .. }) => Input::Down { why, gone: false },
            (Want::Gone, Phase::Online { .. }) => Input::Down { why, gone: true },
            _ => return,
        };
        self.input(now, id, input, out);
    }

    /// Goes on with an instance of which nothing lives.
    fn resume(&mut self, now: Now, id: Id, tail: Option<&Tail>, same_boot: bool, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        if let Some(Tail { last: Line { entry: Entry::Start { pid, at }, run, seq, .. }, .. }) = tail {
            let run = Run { id: *run, seq: *seq, started: Now { mono: now.mono, wall: *at }, spec: app.spec.clone() };
            instance.lost(now, &run, *pid, same_boot, out);
        }
        if !same_boot {
            instance.streak = Streak::default();
        }
        let lost = instance.last.as_ref().is_some_and(|record| record.cause == Cause::Lost);
        instance.phase = match (instance.want, tail.and_then(|tail| tail.last_end.as_ref())) {
            (Want::Down | Want::Gone, _) => Phase::Stopped,
            (Want::Up, Some(Line { entry: Entry::End { record, at }, .. })) if same_boot && !lost => {
                match record.next.action {
                    NextAction::GiveUp => Phase::Errored { reason: record.next.reason.clone() },
                    NextAction::Stop if record.cause == Cause::Success || !app.spec.policy.autorestart => {
                        Phase::Stopped
                    }
                    NextAction::Restart if record.next.delay_ms.unwrap_or_default() > Millis(0) => {
                        let delay = record.next.delay_ms.unwrap_or_default();
                        Phase::Waiting {
                            until: *at + delay,
                            shown: Wall(record.ended_at.0.saturating_add_unsigned(delay.0)),
                            reason: record.next.reason.clone(),
                        }
                    }
                    NextAction::Restart | NextAction::Stop | NextAction::Delete => Phase::Queued,
                }
            }
            (Want::Up, _) => Phase::Queued,
        };
    }

    /// A run that the keeper holds for an instance that is not wanted any more (its deletion was written, its end was not) is
    /// ended as any other.
    fn ensure_instance(&mut self, now: Now, note: &RunNote) {
        if self.instances.contains_key(&note.id) {
            return;
        }
        let Ok(name) = AppName::parse(&note.app) else { return };
        self.next_id = self.next_id.max(note.id.0 + 1);
        self.apps.entry(name.clone()).or_insert_with(|| App {
            spec: Arc::new(unknown_spec(&name)),
            environment: Arc::default(),
            count: 0,
            created_at: now.wall,
        });
        let instance = Instance::new(note.id, name, u32::MAX, note.instance.clone(), Want::Gone);
        self.instances.insert(note.id, instance);
    }
}

/// The wish for a run whose wish is no longer known: end it as PM2 would.
fn unknown_spec(name: &AppName) -> Spec {
    Spec {
        name: name.clone(),
        namespace: "default".into(),
        script: String::new(),
        command: Vec::new(),
        cwd: "/".into(),
        env: Env::new(),
        instances: None,
        instance_var: String::new(),
        autostart: false,
        policy: Policy::default(),
        stop: Stop { kill_signal: Signal::INT, ..Stop::default() },
        identity: None,
        umask: None,
        nice: None,
        limits: BTreeMap::new(),
        logs: Logs::default(),
        pid_file: None,
        max_memory_restart: None,
        listen: Vec::new(),
    }
}
