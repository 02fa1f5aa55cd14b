//! `depends_on`: who waits for whom, when it starts and when it ends. The order holds both ways: a dependent starts when what it
//! needs is there, and what it needs is ended when the dependent is gone.

use super::action::Action;
use super::clock::{Millis, Now};
use super::command::{Change, ChangeKind, Refusal, RefusalKind};
use super::event::Why;
use super::fleet::Fleet;
use super::instance::{Input, Instance, Phase, Want};
use super::name::{AppName, Id, RunId, nearest};
use super::record::Cause;
use super::spec::{Need, Spec};
use super::view::Status;
use super::wait::{Goal, Wait};
use std::collections::{BTreeMap, BTreeSet};

/// An end that has been wished, and waits for that of the dependents.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaving {
    id: Id,
    /// `None`: nothing of it lived.
    run: Option<RunId>,
    why: Why,
    /// stead ends, or the clock says so: the wish stays as it is.
    end: bool,
}

/// What an instance still waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub app: AppName,
    /// The instance that is not there; `None`: there is no such app.
    status: Option<Status>,
    pub need: Need,
    /// It comes without anybody's doing.
    pub is_coming: bool,
}

impl Unmet {
    /// `waits for db, which is errored`.
    #[must_use]
    pub fn text(&self) -> String {
        let state = match (self.status, self.need) {
            (None, _) => "not there",
            (Some(Status::Online), Need::Healthy) => "not healthy",
            (Some(Status::Online), Need::Started | Need::Done) => "not done",
            (Some(status), _) => status.word(),
        };
        format!("waits for {}, which is {state}", self.app)
    }
}

impl Fleet {
    /// The first dependency that is not there yet.
    #[must_use]
    pub fn waits_for(&self, one: &Instance) -> Option<Unmet> {
        let wish = &self.apps.get(&one.app)?.spec;
        wish.depends_on.iter().find_map(|(app, need)| self.unmet(app, *need))
    }

    fn unmet(&self, app: &AppName, need: Need) -> Option<Unmet> {
        let mut members = self.instances.of(app).filter(|one| one.want != Want::Gone).peekable();
        let missing = match members.peek() {
            None => None,
            Some(_) => Some(members.find(|one| !self.meets(one, need))?),
        };
        let is_coming = missing.is_some_and(|one| match one.phase {
            Phase::Queued => self.waits_for(one).is_none_or(|unmet| unmet.is_coming),
            Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } => false,
            Phase::Starting { .. }
            | Phase::Readying { .. }
            | Phase::Online { .. }
            | Phase::Stopping { .. }
            | Phase::Ending { .. } => true,
        });
        Some(Unmet { app: app.clone(), status: missing.map(Instance::status), need, is_coming })
    }

    fn meets(&self, one: &Instance, need: Need) -> bool {
        let done = one.phase == Phase::Stopped && one.last.as_ref().is_some_and(|last| last.cause == Cause::Success);
        match (&one.phase, need) {
            (Phase::Online { .. }, Need::Started) => one.want == Want::Up,
            (Phase::Online { run, .. }, Need::Healthy) => {
                one.want == Want::Up && run.health.as_ref().is_none_or(|health| health.well)
            }
            _ => done,
        }
    }

    /// What the starts of these need and nobody has started is started too. Said, and waited for.
    pub(super) fn pull(&self, ids: &[Id], wait: &mut Wait) -> Vec<Id> {
        let mut pulled = Vec::new();
        let mut open: Vec<Id> = ids.to_vec();
        while let Some(id) = open.pop() {
            let one = &self.instances[&id];
            let Some(wish) = self.apps.get(&one.app).map(|app| app.spec.clone()) else { continue };
            for (app, need) in &wish.depends_on {
                for needed in self.members(app) {
                    let other = &self.instances[&needed];
                    let idle = matches!(other.phase, Phase::Stopped | Phase::Errored { .. });
                    if !idle || other.want == Want::Gone || self.meets(other, *need) {
                        continue;
                    }
                    if ids.contains(&needed) || pulled.contains(&needed) {
                        continue;
                    }
                    pulled.push(needed);
                    open.push(needed);
                    wait.goals.push((needed, other.name.clone(), Goal::UpAfter(self.last_run())));
                    // One that the same file adds without starting it is said once.
                    wait.reply.changes.retain(|change| change.name != other.name);
                    wait.reply.changes.push(Change {
                        name: other.name.clone(),
                        kind: ChangeKind::Started,
                        detail: Some(format!("{} depends on it", one.app)),
                    });
                }
            }
        }
        pulled
    }

    /// Ends these, each when the dependents that are to end too are gone. What becomes of it then is as it is wanted then.
    pub(super) fn part(&mut self, now: Now, ids: &[Id], why: &Why, end: bool, out: &mut Vec<Action>) {
        for id in ids {
            self.give_up_reload(now, *id, why, end, out);
            let Some(one) = self.instances.get(id) else { continue };
            let run = one.run().map(|run| run.id);
            // First cause sticks.
            if !self.leaving.iter().any(|leaving| leaving.id == *id && leaving.run == run) {
                self.leaving.push(Leaving { id: *id, run, why: why.clone(), end });
            }
        }
        self.let_go(now, out);
    }

    /// To be ended when all are known.
    pub(super) fn leave_later(&mut self, id: Id, why: Why) {
        let run = self.instances.get(&id).and_then(Instance::run).map(|run| run.id);
        self.leaving.push(Leaving { id, run, why, end: false });
    }

    /// Ends those of them that nobody holds any more.
    pub(super) fn let_go(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.leaving.is_empty() {
            return;
        }
        let held = self.held();
        let (held, free): (Vec<Leaving>, Vec<Leaving>) =
            std::mem::take(&mut self.leaving).into_iter().partition(|leaving| held.contains(&leaving.id));
        self.leaving = held;
        self.end_these(now, free, out);
    }

    /// Ends all of them, in whatever order.
    pub(super) fn let_all_go(&mut self, now: Now, out: &mut Vec<Action>) {
        let all = std::mem::take(&mut self.leaving);
        self.end_these(now, all, out);
    }

    fn end_these(&mut self, now: Now, leaving: Vec<Leaving>, out: &mut Vec<Action>) {
        for Leaving { id, run, why, end } in leaving {
            let Some(one) = self.instances.get(&id) else { continue };
            // The run that was meant has ended by itself meanwhile.
            if one.run().map(|run| run.id) != run {
                continue;
            }
            let input = ending(one.want, why, end);
            self.input(now, id, input, out);
        }
    }

    /// Nobody depends on a successor: it is ended at once, and takes over from no run that is to end.
    fn give_up_reload(&mut self, now: Now, id: Id, why: &Why, end: bool, out: &mut Vec<Action>) {
        let Some(one) = self.instances.get_mut(&id) else { return };
        let Some(app) = self.apps.get(&one.app) else { return };
        if one.is_reloading() {
            let input = ending(one.want, why.clone(), end);
            one.tell_beside(now, &app.spec, &input, out);
        }
    }

    /// Who among those that are to end cannot yet: mostly for a live dependent that ends too.
    fn held(&self) -> BTreeSet<Id> {
        let ending: BTreeSet<&AppName> = self
            .instances
            .values()
            .filter(|one| one.lives())
            .filter(|one| {
                one.phases().any(|phase| {
                    matches!(
                        phase,
                        Phase::Starting { then: Some(_), .. } | Phase::Stopping { .. } | Phase::Ending { .. }
                    )
                }) || self.leaving.iter().any(|leaving| leaving.id == one.id)
            })
            .map(|one| &one.app)
            .collect();
        let needed: BTreeSet<AppName> = ending
            .into_iter()
            .flat_map(|app| self.needed_by(app).into_iter().filter(move |other| other != app))
            .collect();
        let is_held = |one: &Instance| match one.phase {
            // Nobody can be signalled yet, and until then a dependent may come to end too.
            Phase::Starting { .. } => true,
            Phase::Readying { .. } | Phase::Online { .. } => needed.contains(&one.app),
            Phase::Stopped
            | Phase::Errored { .. }
            | Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Stopping { .. }
            | Phase::Ending { .. } => false,
        };
        let ids = self.leaving.iter().map(|leaving| leaving.id);
        ids.filter(|id| self.instances.get(id).is_some_and(is_held)).collect()
    }

    /// All that an app depends on, and what that depends on.
    fn needed_by(&self, app: &AppName) -> BTreeSet<AppName> {
        let mut needed = BTreeSet::new();
        let mut open = vec![app.clone()];
        while let Some(app) = open.pop() {
            let Some(wish) = self.apps.get(&app).map(|app| &app.spec) else { continue };
            for other in wish.depends_on.keys() {
                if needed.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
        needed
    }

    /// What is to be there must be known, and nobody can wait for itself, whichever file says so.
    pub(super) fn refuse_dependencies(&self, specs: &[Spec]) -> Result<(), Refusal> {
        let mut wishes = self.dependencies();
        wishes.extend(specs.iter().map(|spec| (&spec.name, &spec.depends_on)));
        for spec in specs {
            if let Some(missing) = spec.depends_on.keys().find(|name| !wishes.contains_key(name)) {
                let near = nearest(missing.as_str(), wishes.keys().map(|name| name.as_str()));
                let hint = near.map_or_else(
                    || "start it first, or have it in the same file".into(),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(Refusal {
                    kind: RefusalKind::Usage,
                    error: format!("{} depends on `{missing}`, and there is no such app", spec.name),
                    hint: Some(hint),
                });
            }
        }
        self.refuse_circle(specs)
    }

    /// Nobody can wait for itself.
    pub(super) fn refuse_circle<'s>(&'s self, specs: impl IntoIterator<Item = &'s Spec>) -> Result<(), Refusal> {
        let mut wishes = self.dependencies();
        wishes.extend(specs.into_iter().map(|spec| (&spec.name, &spec.depends_on)));
        match cycle(&wishes) {
            Some(way) => Err(Refusal {
                kind: RefusalKind::Usage,
                error: format!("apps depend on each other in a circle: {way}"),
                hint: Some("one of them has to start without the other".into()),
            }),
            None => Ok(()),
        }
    }

    fn dependencies(&self) -> BTreeMap<&AppName, &BTreeMap<AppName, Need>> {
        self.apps.iter().filter(|(_, app)| app.count > 0).map(|(name, app)| (name, &app.spec.depends_on)).collect()
    }
}

/// What ends an instance that is wanted so.
fn ending(want: Want, why: Why, end: bool) -> Input {
    match want {
        _ if end => Input::End { why },
        Want::Up => Input::Cycle { why },
        Want::Down => Input::Down { why, gone: false },
        Want::Gone => Input::Down { why, gone: true },
    }
}

/// The longest that it may take until all of these have stopped: twice its `kill_timeout` each, for what a main process leaves behind
/// has as long again; one after the other where they depend on each other.
#[must_use]
pub fn longest_stop<'s>(specs: impl IntoIterator<Item = &'s Spec>) -> Millis {
    let specs: BTreeMap<&AppName, &Spec> = specs.into_iter().map(|spec| (&spec.name, spec)).collect();
    let mut ends: BTreeMap<&AppName, u64> = BTreeMap::new();
    // No chain is longer than there are apps.
    for _ in 0..specs.len() {
        let before = ends.clone();
        for (name, spec) in &specs {
            let needed = spec.depends_on.keys().filter_map(|need| before.get(need)).max().copied();
            ends.insert(name, (spec.stop.kill_timeout.0.saturating_mul(2)).saturating_add(needed.unwrap_or(0)));
        }
        if ends == before {
            break;
        }
    }
    Millis(ends.into_values().max().unwrap_or(0))
}

/// A circle of dependencies in full: `a → b → a`.
#[must_use]
pub fn cycle(wishes: &BTreeMap<&AppName, &BTreeMap<AppName, Need>>) -> Option<String> {
    let mut clear: BTreeSet<&AppName> = BTreeSet::new();
    wishes.keys().find_map(|start| {
        let mut way = Vec::new();
        walk(start, wishes, &mut way, &mut clear)
    })
}

fn walk<'w>(
    app: &'w AppName,
    wishes: &BTreeMap<&'w AppName, &'w BTreeMap<AppName, Need>>,
    way: &mut Vec<&'w AppName>,
    clear: &mut BTreeSet<&'w AppName>,
) -> Option<String> {
    if let Some(from) = way.iter().position(|seen| *seen == app) {
        let names: Vec<&str> = way[from..].iter().chain([&app]).map(|name| name.as_str()).collect();
        return Some(names.join(" → "));
    }
    if clear.contains(app) {
        return None;
    }
    way.push(app);
    let found = wishes.get(app).and_then(|needs| needs.keys().find_map(|next| walk(next, wishes, way, clear)));
    way.pop();
    clear.insert(app);
    found
}
