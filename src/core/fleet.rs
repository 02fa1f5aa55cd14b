//! All instances, and who gets a turn. One owner of the state: events in, actions out.

use super::action::{Action, Entry};
use super::clock::{Mono, Now, Wall};
use super::command::{Refusal, Reply};
use super::cron::Calendar;
use super::depend::Leaving;
use super::event::{Event, Grounds, Why};
use super::health::Rules;
use super::instance::{Input, Instance, Part, Phase, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::notify::Notifier;
use super::record::{Actor, Cause};
use super::reload::Beside;
use super::roll::Roll;
use super::spec::{Env, Spec};
use super::wait::Wait;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The state of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    pub(super) apps: BTreeMap<AppName, App>,
    pub(super) instances: Roll,
    pub(super) next_id: u32,
    pub(super) next_run: u64,
    /// The first run of this boot.
    pub(super) first_run: u64,
    /// The highest number of a run that each name has had, whoever bore it: `api#3` is said once in a home.
    pub(super) numbers: BTreeMap<String, u64>,
    /// Of `stead health`.
    pub(super) rules: Rules,
    pub(super) notifiers: Vec<Notifier>,
    pub(super) waits: Vec<Wait>,
    pub(super) ending: Option<Ending>,
    /// In the order of the asking.
    pub(super) leaving: Vec<Leaving>,
    pub(super) calendar: Calendar,
    /// Of all jitter.
    pub(super) seed: u64,
    starts_at_once: usize,
}

/// An app as wished.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub spec: Arc<Spec>,
    pub environment: Arc<Env>,
    /// Instances wanted; `scale` moves it away from the file's number.
    pub count: u32,
    /// Goes up by one with each change that takes a restart: who finds a run tells by it whether the run has this wish.
    pub revision: u32,
    pub created_at: Wall,
    /// The ecosystem file that it came from last.
    pub file: Option<PathBuf>,
}

impl App {
    /// Its wish was lost with the wanted set; only its runs told of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.spec.command.is_empty()
    }
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
            instances: Roll::default(),
            next_id: 0,
            next_run: 1,
            first_run: 1,
            numbers: BTreeMap::new(),
            rules: Rules::default(),
            notifiers: Vec::new(),
            waits: Vec::new(),
            ending: None,
            leaving: Vec::new(),
            calendar: Calendar::default(),
            seed: 0,
            starts_at_once: 2 * cpus.max(1),
        }
    }

    /// Answers an event.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Asked { ticket, asked } => {
                self.instances.touch_all();
                self.ask(now, ticket, asked, &mut out);
            }
            Event::Spawned { run, pid, at } => self.input_of(now, run, Input::Spawned { pid, at }, &mut out),
            Event::SpawnFailed { run, failure, holder } => {
                self.input_of(now, run, Input::SpawnFailed { failure, holder }, &mut out);
            }
            Event::Exited { run, exit, left } => self.input_of(now, run, Input::Exited { exit, left }, &mut out),
            Event::Ready { run } => self.input_of(now, run, Input::Ready, &mut out),
            Event::Probed { run, outcome } => self.input_of(now, run, Input::Probed { outcome }, &mut out),
            Event::OverCap { run, crossing } => self.input_of(now, run, Input::OverCap { crossing }, &mut out),
            Event::OomKill { run, killed } => self.input_of(now, run, Input::OomKill { killed }, &mut out),
            Event::Finished { run, facts } => self.input_of(now, run, Input::Finished { facts }, &mut out),
            Event::Changed { app, path } => self.changed(now, &app, path, &mut out),
            Event::Term { actor } => self.term(now, actor, &mut out),
            Event::ClockSet => {
                for instance in self.instances.values_mut() {
                    if let Some(app) = self.apps.get(&instance.app) {
                        instance.clock_set(now, &app.spec, self.calendar);
                    }
                }
            }
            Event::Due => {
                for id in self.instances.due(now.mono) {
                    self.ring(now, id, &mut out);
                    self.input(now, id, Input::Due, &mut out);
                }
            }
        }
        self.settle(now, &mut out);
        out
    }

    /// When `Event::Due` is to come. Computed from the instances, never armed: a stale timer cannot exist.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.instances.deadline()
    }

    /// The instance that a run belongs to, while the run is not yet forgotten.
    #[must_use]
    pub fn instance_of(&self, run: RunId) -> Option<&Instance> {
        self.instances.instance_of(run)
    }

    /// Would a look at every instance find what is at hand, and leave each as it is? For tests, after an event at this moment.
    #[must_use]
    pub fn overlooks_nothing(&self, now: Now) -> bool {
        let is_armed =
            |one: &Instance| self.apps.get(&one.app).is_none_or(|app| one.is_armed(now, &app.spec, self.calendar));
        self.instances.is_true() && self.instances.values().all(is_armed)
    }

    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    #[must_use]
    pub fn instance(&self, id: Id) -> Option<&Instance> {
        self.instances.get(&id)
    }

    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    #[must_use]
    pub fn notifiers(&self) -> &[Notifier] {
        &self.notifiers
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
        let Some((id, main)) = self.instance_of(run).map(|one| (one.id, one.run().is_some_and(|life| life.id == run)))
        else {
            return;
        };
        if main {
            self.input(now, id, input, out);
        } else {
            self.input_beside(now, id, input, out);
        }
    }

    fn input_beside(&mut self, now: Now, id: Id, input: Input, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        let was_successor = instance.has_successor();
        instance.handle_beside(now, &app.spec, input, out);
        // What fails for one instance is not tried on the next.
        let failed = instance.beside.is_none() && instance.last.as_ref().is_some_and(|record| !record.planned);
        if was_successor && failed {
            let app = instance.app.clone();
            for one in self.instances.values_mut().filter(|one| one.app == app) {
                one.beside.take_if(|beside| matches!(beside, Beside::Awaited { .. }));
            }
        }
    }

    /// Sources changed: each instance that is wanted up gets a new run. One that gave up gets a new chance; one that somebody
    /// stopped stays down.
    fn changed(&mut self, now: Now, app: &AppName, path: String, out: &mut Vec<Action>) {
        let watches = self.apps.get(app).is_some_and(|app| app.spec.watch.is_some());
        if !watches || self.ending.is_some() {
            return;
        }
        let why = Why { cause: Cause::Watch, actor: None, grounds: Some(Grounds::WatchPath(path)) };
        let up = |one: &&Instance| one.app == *app && one.want == Want::Up;
        let ids: Vec<Id> = self.instances.values().filter(up).map(|one| one.id).collect();
        self.part(now, &ids, &why, false, out);
    }

    /// Restarts an app whose time of `cron_restart` has come. That is nobody's wish: nothing starts anew by it.
    fn ring(&mut self, now: Now, id: Id, out: &mut Vec<Action>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&instance.app) else { return };
        if instance.rings_for_a_restart(now, &app.spec) {
            self.part(now, &[id], &Why::asked(Cause::Cron, None), true, out);
        }
    }

    /// Begins to end. A second time: at once.
    fn term(&mut self, now: Now, actor: Actor, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            self.let_all_go(now, out);
            let live: Vec<Id> = self.instances.keys().copied().collect();
            for id in live {
                self.instances.get_mut(&id).into_iter().flat_map(Instance::phases_mut).for_each(|phase| match phase {
                    Phase::Stopping { intent, .. } => intent.kill_at = now.mono,
                    Phase::Ending { kill_at: Some(kill_at), .. } => *kill_at = now.mono,
                    _ => {}
                });
                self.input(now, id, Input::Due, out);
            }
            return;
        }
        self.ending = Some(Ending { tickets: Vec::new(), said_bye: false });
        let why = Why::asked(Cause::Shutdown, Some(actor));
        let ids: Vec<Id> = self.instances.keys().copied().collect();
        self.part(now, &ids, &why, true, out);
    }

    /// After every event: forget what is gone, give turns, answer who waits.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Action>) {
        let parting = !self.leaving.is_empty();
        self.let_go(now, out);
        let touched = self.instances.look();
        if self.bury() || parting {
            self.forget_apps(out);
        }
        // Before the next turns: what a client waits for may have failed, and be tried again in the same moment.
        self.weigh();
        // Before the turns: a job that has become an app is to have one.
        self.arm(now, touched);
        self.instances.look();
        if self.ending.is_none() {
            self.give_turns(now, out);
        }
        self.answer(out);
        if let Some(ending) = &mut self.ending
            && !ending.said_bye
            && !self.instances.values().any(Instance::lives)
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
        self.instances.look();
    }

    /// An alarm is another one only where the instance has changed, or the alarm's time has come.
    fn arm(&mut self, now: Now, touched: BTreeSet<Id>) {
        for id in touched.into_iter().chain(self.instances.rung(now.mono)) {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let Some(app) = self.apps.get(&instance.app) else { continue };
            instance.arm(now, &app.spec, self.calendar, None);
        }
    }

    /// Is anybody buried?
    fn bury(&mut self) -> bool {
        let buried: Vec<Id> = self.instances.gone().filter(|one| !one.lives()).map(|one| one.id).collect();
        let any = !buried.is_empty();
        for instance in buried.into_iter().filter_map(|id| self.instances.remove(id)) {
            let number = self.numbers.entry(instance.name).or_default();
            *number = instance.seq.max(*number);
        }
        any
    }

    /// Forgets apps that are deleted, but not while others end one after the other: the order may go by what this one depends on.
    pub(super) fn forget_apps(&mut self, out: &mut Vec<Action>) {
        if !self.leaving.is_empty() {
            return;
        }
        let is_empty = |name: &AppName, app: &mut App| app.count == 0 && self.instances.of(name).next().is_none();
        for (name, _) in self.apps.extract_if(.., is_empty) {
            out.push(Action::Release { app: name });
        }
    }

    fn give_turns(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.instances.waiting().next().is_none() {
            return;
        }
        let free = self.starts_at_once.saturating_sub(self.instances.starting());
        // One that is deleted and added again waits until the old one is gone: they share a name, its logs and its port.
        let leaving: Vec<&str> = self.instances.gone().map(|one| one.name.as_str()).collect();
        let mut turns: Vec<(RunId, Id)> = self
            .instances
            .waiting()
            .filter(|one| one.phase == Phase::Queued && !leaving.contains(&one.name.as_str()))
            // One whose reload was given up waits until the successor is gone.
            .filter(|one| !one.has_successor() && self.waits_for(one).is_none())
            .map(|one| (one.last_run, one.id))
            .chain(self.next_reloads())
            .collect();
        // Whose last start is longest ago comes first: those that crash in a loop would else take every turn from the rest.
        turns.sort_unstable();
        for (_, id) in turns.into_iter().take(free) {
            let run = RunId(self.next_run);
            self.next_run += 1;
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let Some(app) = self.apps.get(&instance.app) else { continue };
            let (environment, revision) = (app.environment.clone(), app.revision);
            if instance.seq == 0
                && let Some(number) = self.numbers.get(&instance.name)
            {
                // What another of this name did is not its past; only the numbers of the runs go on.
                instance.seq = *number;
                let line = instance.line(instance.last_run, instance.seq, Entry::Reset { at: now.wall });
                instance.write(line, out);
            }
            match instance.beside.take_if(|beside| matches!(beside, Beside::Awaited { .. })) {
                Some(Beside::Awaited { why }) => {
                    let part = Part::Successor { why };
                    instance.turn_beside(now, &app.spec, Input::Turn { run, environment, revision, part }, out);
                }
                _ => self.input(now, id, Input::Turn { run, environment, revision, part: Part::Main }, out),
            }
        }
    }

    /// Of each app the next instance whose successor waits: the instances of an app are reloaded one after another.
    fn next_reloads(&self) -> Vec<(RunId, Id)> {
        let mut next: BTreeMap<&AppName, Option<(RunId, Id)>> = BTreeMap::new();
        for one in self.instances.waiting() {
            match &one.beside {
                None => {}
                Some(Beside::Living(_)) => drop(next.insert(&one.app, None)),
                Some(Beside::Awaited { .. }) => drop(next.entry(&one.app).or_insert(Some((one.last_run, one.id)))),
            }
        }
        next.into_values().flatten().collect()
    }
}
