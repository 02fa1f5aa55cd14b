//! All instances, and who gets a turn. One owner of the state: events in, actions out.

use super::action::Action;
use super::clock::{Mono, Now, Wall};
use super::command::{Refusal, Reply};
use super::event::{Event, Why};
use super::instance::{Input, Instance, Phase, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::record::{Actor, Cause};
use super::spec::{Env, Spec};
use super::wait::Wait;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    pub(super) apps: BTreeMap<AppName, App>,
    pub(super) instances: BTreeMap<Id, Instance>,
    pub(super) next_id: u32,
    pub(super) next_run: u64,
    /// The first run of this boot.
    pub(super) first_run: u64,
    pub(super) waits: Vec<Wait>,
    pub(super) ending: Option<Ending>,
    starts_at_once: usize,
}

/// An app as wished.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub spec: Arc<Spec>,
    pub environment: Arc<Env>,
    /// Instances wanted; `scale` moves it away from the file's number.
    pub count: u32,
    pub created_at: Wall,
}

/// stead itself is to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The `kill` commands to be answered.
    pub tickets: Vec<Ticket>,
    pub said_bye: bool,
}

impl Fleet {
    /// An empty fleet on a machine with `cpus` processors. At most two starts per processor are under way at once.
    #[must_use]
    pub fn new(cpus: usize) -> Fleet {
        Fleet {
            apps: BTreeMap::new(),
            instances: BTreeMap::new(),
            next_id: 0,
            next_run: 1,
            first_run: 1,
            waits: Vec::new(),
            ending: None,
            starts_at_once: 2 * cpus.max(1),
        }
    }

    /// Answers an event.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Asked { ticket, asked } => self.ask(now, ticket, asked, &mut out),
            Event::Spawned { run, pid, at } => self.input_of(now, run, Input::Spawned { pid, at }, &mut out),
            Event::SpawnFailed { run, failure } => {
                self.input_of(now, run, Input::SpawnFailed { failure }, &mut out);
            }
            Event::Exited { run, exit, left } => self.input_of(now, run, Input::Exited { exit, left }, &mut out),
            Event::Finished { run, facts } => self.input_of(now, run, Input::Finished { facts }, &mut out),
            Event::Term { actor } => self.term(now, actor, &mut out),
            Event::Due => {
                let due: Vec<Id> = self
                    .instances
                    .values()
                    .filter(|instance| instance.deadline().is_some_and(|at| at <= now.mono))
                    .map(|instance| instance.id)
                    .collect();
                for id in due {
                    self.input(now, id, Input::Due, &mut out);
                }
            }
        }
        self.settle(now, &mut out);
        out
    }

    /// When `Event::Due` is to come. Computed, never armed: a stale timer cannot exist.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.instances.values().filter_map(Instance::deadline).min()
    }

    /// The instance that a run belongs to, while the run is not yet forgotten.
    #[must_use]
    pub fn instance_of(&self, run: RunId) -> Option<&Instance> {
        self.instances.values().find(|instance| instance.run().is_some_and(|life| life.id == run))
    }

    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    #[must_use]
    pub fn instance(&self, id: Id) -> Option<&Instance> {
        self.instances.get(&id)
    }

    #[must_use]
    pub fn app(&self, name: &AppName) -> Option<&App> {
        self.apps.get(name)
    }

    pub(super) fn input(&mut self, now: Now, id: Id, input: Input, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        instance.handle(now, &app.spec, input, out);
    }

    /// An event of a run that has ended or was never ours changes nothing.
    fn input_of(&mut self, now: Now, run: RunId, input: Input, out: &mut Vec<Action>) {
        if let Some(id) = self.instance_of(run).map(|instance| instance.id) {
            self.input(now, id, input, out);
        }
    }

    /// Begins to end. A second time: at once.
    fn term(&mut self, now: Now, actor: Actor, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            let live: Vec<Id> = self.instances.keys().copied().collect();
            for id in live {
                if let Some(Phase::Stopping { intent, .. }) = self.instances.get_mut(&id).map(|one| &mut one.phase) {
                    intent.kill_at = now.mono;
                }
                self.input(now, id, Input::Due, out);
            }
            return;
        }
        self.ending = Some(Ending { tickets: Vec::new(), said_bye: false });
        let why = Why { cause: Cause::Shutdown, actor: Some(actor) };
        let ids: Vec<Id> = self.instances.keys().copied().collect();
        for id in ids {
            self.input(now, id, Input::End { why: why.clone() }, out);
        }
    }

    /// After every event: forget what is gone, give turns, answer who waits.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Action>) {
        self.bury(out);
        if self.ending.is_none() {
            self.give_turns(now, out);
        }
        self.answer(out);
        let live = self.instances.values().any(|instance| instance.run().is_some());
        if let Some(ending) = &mut self.ending
            && !live
            && !ending.said_bye
        {
            ending.said_bye = true;
            for ticket in std::mem::take(&mut ending.tickets) {
                out.push(Action::Reply { ticket, result: Ok(Reply::default()) });
            }
            for wait in std::mem::take(&mut self.waits) {
                let refusal = Refusal::failed("stead has ended");
                out.push(Action::Reply { ticket: wait.ticket, result: Err(refusal) });
            }
            out.push(Action::Bye);
        }
    }

    fn bury(&mut self, out: &mut Vec<Action>) {
        let gone = |instance: &Instance| instance.want == Want::Gone && instance.run().is_none();
        if !self.instances.values().any(gone) {
            return;
        }
        self.instances.retain(|_, instance| !gone(instance));
        let empty: Vec<AppName> = self
            .apps
            .iter()
            .filter(|(name, app)| app.count == 0 && !self.instances.values().any(|one| one.app == **name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in empty {
            self.apps.remove(&name);
            out.push(Action::Release { app: name });
        }
    }

    fn give_turns(&mut self, now: Now, out: &mut Vec<Action>) {
        let starting =
            self.instances.values().filter(|instance| matches!(instance.phase, Phase::Starting { .. })).count();
        let free = self.starts_at_once.saturating_sub(starting);
        let turns: Vec<Id> = self
            .instances
            .values()
            .filter(|instance| instance.phase == Phase::Queued)
            .map(|instance| instance.id)
            .take(free)
            .collect();
        for id in turns {
            let run = RunId(self.next_run);
            self.next_run += 1;
            let Some(environment) = self
                .instances
                .get(&id)
                .and_then(|instance| self.apps.get(&instance.app))
                .map(|app| app.environment.clone())
            else {
                continue;
            };
            self.input(now, id, Input::Turn { run, environment }, out);
        }
    }
}
