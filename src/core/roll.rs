//! The instances, and what a look at all of them would find: who has something to do next, whose turn it is, whose run it is.
//!
//! Whoever may change an instance takes it from here, and so it is looked at again; nobody else has to keep anything up to date.

use super::clock::Mono;
use super::instance::{Instance, Phase, Want};
use super::name::{AppName, Id, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;

/// All instances. What is found by anything but their ids and apps is as of the last [`look`](Roll::look).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Roll {
    all: BTreeMap<Id, Instance>,
    apps: BTreeMap<AppName, BTreeSet<Id>>,
    /// Changed, perhaps, since the last look.
    touched: BTreeSet<Id>,
    found: Found,
}

/// What looking at each would find.
#[derive(Clone, Debug, Default, PartialEq)]
struct Found {
    marks: BTreeMap<Id, Marks>,
    deadlines: BTreeSet<(Mono, Id)>,
    alarms: BTreeSet<(Mono, Id)>,
    runs: BTreeMap<RunId, Id>,
    waiting: BTreeSet<Id>,
    gone: BTreeSet<Id>,
    starting: usize,
}

/// By what an instance is found.
#[derive(Clone, Debug, PartialEq)]
struct Marks {
    deadline: Option<Mono>,
    alarm: Option<Mono>,
    runs: Vec<RunId>,
    waits: bool,
    gone: bool,
    starting: usize,
}

impl Marks {
    fn of(one: &Instance) -> Marks {
        Marks {
            deadline: one.deadline(),
            alarm: one.alarm.as_ref().map(|alarm| alarm.due),
            runs: one.runs().map(|run| run.id).collect(),
            waits: one.phase == Phase::Queued || one.beside.is_some(),
            gone: one.want == Want::Gone,
            starting: one.phases().filter(|phase| matches!(phase, Phase::Starting { .. })).count(),
        }
    }
}

impl Found {
    /// `None`: it is not there any more.
    fn put(&mut self, id: Id, marks: Option<Marks>) {
        if self.marks.get(&id) == marks.as_ref() {
            return;
        }
        if let Some(before) = self.marks.remove(&id) {
            before.deadline.map(|at| self.deadlines.remove(&(at, id)));
            before.alarm.map(|at| self.alarms.remove(&(at, id)));
            for run in &before.runs {
                self.runs.remove(run);
            }
            self.waiting.remove(&id);
            self.gone.remove(&id);
            self.starting -= before.starting;
        }
        if let Some(marks) = marks {
            self.deadlines.extend(marks.deadline.map(|at| (at, id)));
            self.alarms.extend(marks.alarm.map(|at| (at, id)));
            self.runs.extend(marks.runs.iter().map(|run| (*run, id)));
            self.waiting.extend(marks.waits.then_some(id));
            self.gone.extend(marks.gone.then_some(id));
            self.starting += marks.starting;
            self.marks.insert(id, marks);
        }
    }

    /// Is it found by these marks?
    fn has(&self, id: Id, marks: &Marks) -> bool {
        self.marks.get(&id) == Some(marks)
            && marks.deadline.is_none_or(|at| self.deadlines.contains(&(at, id)))
            && marks.alarm.is_none_or(|at| self.alarms.contains(&(at, id)))
            && marks.runs.iter().all(|run| self.runs.get(run) == Some(&id))
            && marks.waits == self.waiting.contains(&id)
            && marks.gone == self.gone.contains(&id)
    }

    /// Is nothing found but by marks?
    fn is_no_more(&self) -> bool {
        let count = |has: fn(&Marks) -> usize| self.marks.values().map(has).sum::<usize>();
        self.deadlines.len() == count(|marks| usize::from(marks.deadline.is_some()))
            && self.alarms.len() == count(|marks| usize::from(marks.alarm.is_some()))
            && self.runs.len() == count(|marks| marks.runs.len())
            && self.waiting.len() == count(|marks| usize::from(marks.waits))
            && self.gone.len() == count(|marks| usize::from(marks.gone))
            && self.starting == count(|marks| marks.starting)
    }
}

impl Roll {
    pub(super) fn insert(&mut self, one: Instance) {
        self.touched.insert(one.id);
        self.apps.entry(one.app.clone()).or_default().insert(one.id);
        self.all.insert(one.id, one);
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Instance> {
        let one = self.all.remove(&id)?;
        self.touched.insert(id);
        if let Some(members) = self.apps.get_mut(&one.app) {
            members.remove(&id);
            if members.is_empty() {
                self.apps.remove(&one.app);
            }
        }
        Some(one)
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Instance> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Instance> {
        let one = self.all.get_mut(id)?;
        self.touched.insert(*id);
        Some(one)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Instance> {
        self.all.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.touch_all();
        self.all.values_mut()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Id> {
        self.all.keys()
    }

    pub(super) fn contains_key(&self, id: &Id) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The instances of an app.
    pub(super) fn of(&self, app: &AppName) -> impl Iterator<Item = &Instance> {
        self.apps.get(app).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// What is wished of them may have changed.
    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.all.keys());
    }

    /// Looks again at those that may have changed, and tells which.
    pub(super) fn look(&mut self) -> BTreeSet<Id> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            self.found.put(*id, self.all.get(id).map(Marks::of));
        }
        touched
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.found.deadlines.first().map(|(at, _)| *at)
    }

    /// Those whose deadline has come.
    pub(super) fn due(&self, now: Mono) -> BTreeSet<Id> {
        until(&self.found.deadlines, now)
    }

    /// Those whose time of `cron_restart` has come, whether or not they are in a phase that heeds it.
    pub(super) fn rung(&self, now: Mono) -> BTreeSet<Id> {
        until(&self.found.alarms, now)
    }

    /// Whose run it is, while it is not yet forgotten.
    pub(super) fn instance_of(&self, run: RunId) -> Option<&Instance> {
        self.found.runs.get(&run).and_then(|id| self.all.get(id))
    }

    /// Those that wait for a turn, or have a reload under way.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Instance> {
        self.found.waiting.iter().filter_map(|id| self.all.get(id))
    }

    /// Those that are to be forgotten.
    pub(super) fn gone(&self) -> impl Iterator<Item = &Instance> {
        self.found.gone.iter().filter_map(|id| self.all.get(id))
    }

    /// Starts that are under way.
    pub(super) fn starting(&self) -> usize {
        self.found.starting
    }

    /// Is all found that a look at each would find, and nothing else?
    pub(super) fn is_true(&self) -> bool {
        let is_listed = |one: &Instance| self.apps.get(&one.app).is_some_and(|members| members.contains(&one.id));
        let listed: usize = self.apps.values().map(BTreeSet::len).sum();
        let is_found = |one: &Instance| self.found.has(one.id, &Marks::of(one));
        listed == self.all.len()
            && self.found.marks.len() == self.all.len()
            && self.found.is_no_more()
            && self.all.values().all(|one| is_listed(one) && is_found(one))
    }
}

impl Index<&Id> for Roll {
    type Output = Instance;
    fn index(&self, id: &Id) -> &Instance {
        &self.all[id]
    }
}

fn until(times: &BTreeSet<(Mono, Id)>, now: Mono) -> BTreeSet<Id> {
    times.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
}
