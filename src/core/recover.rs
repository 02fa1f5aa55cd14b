//! How a daemon begins: from what was wanted, what the keeper holds, and what the journal says last. A first start is the same
//! with nothing held.

use super::action::{Action, Entry, Line, Streak};
use super::ask::ending;
use super::clock::{Millis, Mono, Now, Wall};
use super::command::{Change, ChangeKind, Failure, Reply};
use super::event::{Exit, RunNote, Sent, Why};
use super::fleet::{App, Fleet};
use super::health::Rules;
use super::instance::{Input, Instance, Phase, Run, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::notify::Notifier;
use super::record::{Cause, Next, NextAction, SpawnFailure};
use super::spec::{Env, Policy, Spec};
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
    /// The newest end, be it before a reset: what follows it is still to be done.
    pub last_end: Option<Line>,
    /// A start without an end, be it before a reset.
    pub open: Option<Line>,
}

/// The end of every instance's journal, from its lines in the order of writing. By id: a name may be given again.
#[must_use]
pub fn tails(lines: impl IntoIterator<Item = Line>) -> BTreeMap<Id, Tail> {
    let mut tails: BTreeMap<Id, Tail> = BTreeMap::new();
    for line in lines {
        let (last_end, open) = match (&line.entry, tails.remove(&line.id)) {
            (Entry::End { .. }, _) => (Some(line.clone()), None),
            (Entry::Start { .. }, before) => (before.and_then(|tail| tail.last_end), Some(line.clone())),
            (Entry::Reset { .. } | Entry::Asked { .. }, before) => {
                before.map_or((None, None), |tail| (tail.last_end, tail.open))
            }
        };
        tails.insert(line.id, Tail { last: line, last_end, open });
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
            let instances: Vec<WantedInstance> = self
                .instances
                .values()
                // How one that leaves is to be ended stays known until it has left.
                .filter(|one| one.app == *name && (one.want != Want::Gone || one.run().is_some()))
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
        let mut out = Vec::new();
        let journaled = found.tails.values().map(|tail| tail.last.run).max().unwrap_or_default();
        fleet.next_id = found.tails.keys().map(|id| id.0 + 1).max().unwrap_or(0).max(found.wanted.next_id);
        fleet.next_run = found.wanted.next_run.max(found.highest_run.0 + 1).max(journaled.0 + 1);
        for Tail { last, .. } in found.tails.values() {
            let number = fleet.numbers.entry(last.instance.clone()).or_default();
            *number = last.seq.max(*number);
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
                fleet.instances.insert(one.id, Instance::new(one.id, name.clone(), one.slot, one.name, one.want));
            }
            fleet.apps.insert(
                name,
                App {
                    spec: wanted.spec,
                    environment,
                    count: wanted.count,
                    revision: wanted.revision,
                    created_at: wanted.created_at,
                },
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
            fleet.ensure_instance(now, &run.note, run.note.id.0 >= found.wanted.next_id);
            held.insert(run.note.id, run);
        }
        let ids: Vec<Id> = fleet.instances.keys().copied().collect();
        for id in ids {
            let tail = found.tails.get(&id);
            fleet.recall(id, tail);
            match held.remove(&id) {
                Some(run) => fleet.adopt(now, id, run, tail, &mut out),
                None => fleet.resume(now, id, tail, &mut out),
            }
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
                let (spec, count, created_at) = (app.spec, app.count, app.created_at);
                self.apps.insert(name.clone(), App { spec, environment, count, revision: 0, created_at });
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
        instance.seq = tail.last.seq;
        instance.last_run = tail.last.run;
        instance.tally = tail.last.tally.clone();
        instance.streak = tail.last.streak.clone();
        instance.last =
            tail.last_end.as_ref().filter(|_| instance.tally.total > 0).and_then(|line| match &line.entry {
                Entry::End { record, .. } => Some(record.clone()),
                Entry::Start { .. } | Entry::Reset { .. } | Entry::Asked { .. } => None,
            });
    }

    /// Goes on with a run that the keeper holds.
    fn adopt(&mut self, now: Now, id: Id, held: Held, tail: Option<&Tail>, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        let spec = app.spec.clone();
        let run = Run {
            id: held.run,
            seq: held.note.seq,
            started: held.started,
            spec: spec.clone(),
            revision: held.note.revision,
        };
        if instance.last_run < held.run {
            instance.begin(held.run, held.note.seq);
        }
        let written = tail.and_then(|tail| tail.open.as_ref()).is_some_and(|open| open.run == held.run);
        if !written && !matches!(held.state, HeldState::Starting | HeldState::Failed { .. }) {
            instance.write_start(&run, held.pid, out);
        }
        // Its wish changed between the writing of the wish and the first signal.
        let cause = match instance.want {
            Want::Up if held.note.revision == app.revision => None,
            Want::Up => Some(Cause::ConfigChange),
            Want::Down | Want::Gone => Some(Cause::Manual),
        };
        let unwanted = cause.map(|cause| Why::asked(cause, None));
        match held.state {
            HeldState::Starting => instance.phase = Phase::Starting { run, then: unwanted },
            HeldState::Failed { failure } => {
                instance.phase = Phase::Starting { run, then: None };
                instance.handle(now, &spec, Input::SpawnFailed { failure }, out);
            }
            HeldState::Live => {
                instance.phase = match (held.note.intent, unwanted) {
                    (Some(intent), _) if intent.sent == Sent::Nothing => instance.send(now, run, held.pid, intent, out),
                    (Some(intent), _) => Phase::Stopping { run, pid: held.pid, intent },
                    (None, Some(why)) => instance.stop(now, run, held.pid, why, out),
                    (None, None) => Phase::Online { run, pid: held.pid },
                };
            }
            HeldState::Ended { exit } => {
                instance.phase = instance.ending(now, run, held.pid, exit, None, held.note.intent, out);
            }
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
        let Some(Tail { last, last_end, open }) = tail else {
            instance.phase = if instance.want == Want::Up { Phase::Queued } else { Phase::Stopped };
            return;
        };
        if let Some(Line { run: id, seq, entry: Entry::Start { pid, at }, .. }) = open {
            let started = Now { mono: now.mono, wall: *at };
            let run = Run { id: *id, seq: *seq, started, spec: app.spec.clone(), revision: app.revision };
            instance.lost(now, &run, *pid, of_this_boot(*id), out);
        }
        let last_end = last_end.as_ref().filter(|end| of_this_boot(end.run));
        instance.phase = match (instance.want, &last.entry, last_end.map(|end| &end.entry)) {
            (Want::Down | Want::Gone, _, _) => Phase::Stopped,
            (Want::Up, Entry::End { .. } | Entry::Reset { .. }, Some(Entry::End { record, at })) if open.is_none() => {
                after(&record.next, *at, record.ended_at)
            }
            (Want::Up, _, _) => Phase::Queued,
        };
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
        });
        app.count += u32::from(never_wanted);
        let want = if never_wanted { Want::Up } else { Want::Gone };
        let instance = Instance::new(note.id, name, slot.unwrap_or(0), note.instance.clone(), want);
        self.instances.insert(note.id, instance);
    }
}

/// Where a record left an instance that is wanted up.
fn after(next: &Next, at: Mono, shown: Wall) -> Phase {
    match (next.action, next.delay_ms.unwrap_or_default()) {
        (NextAction::GiveUp, _) => Phase::Errored { reason: next.reason.clone() },
        (NextAction::Stop, _) => Phase::Stopped,
        (NextAction::Restart | NextAction::Delete, Millis(0)) => Phase::Queued,
        (NextAction::Restart | NextAction::Delete, delay) => Phase::Waiting {
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
