//! What clients ask for: a wish for each target, and the answer once it has come true.

use super::action::{Action, Entry, Streak};
use super::change::{self, Difference, Effect};
use super::clock::Now;
use super::command::{Asked, Change, ChangeKind, Command, Failure, Origin, Refusal, RefusalKind, Reply, Terms};
use super::event::Why;
use super::fleet::{App, Ending, Fleet};
use super::instance::{Input, Instance, Phase, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::record::{Actor, Cause, Tally};
use super::spec::{Env, Spec};
use super::wait::{Goal, Wait};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More instances than this is a slip of the keyboard.
const MOST_INSTANCES: u32 = 1000;

impl Fleet {
    pub(super) fn ask(&mut self, now: Now, ticket: Ticket, asked: Asked, out: &mut Vec<Action>) {
        let mut wait = Wait { ticket, goals: Vec::new(), reply: Reply::default() };
        let actor = asked.actor;
        if self.ending.is_some() && asked.command != Command::Kill {
            out.push(Action::Reply { ticket, result: Err(ending()) });
            return;
        }
        let result = match asked.command {
            Command::Apply { specs, environment, terms, .. } if terms.dry_run => {
                let result = self.plan(now, specs, &Arc::new(environment), &terms, &actor);
                out.push(Action::Reply { ticket, result });
                return;
            }
            Command::Apply { specs, environment, rules, notifiers, terms } => {
                if let Some(rules) = rules.filter(|rules| *rules != self.rules) {
                    self.rules = rules;
                    out.push(Action::Persist);
                }
                if let Some(notifiers) = notifiers.filter(|notifiers| *notifiers != self.notifiers) {
                    self.notifiers = notifiers;
                    out.push(Action::Persist);
                }
                self.apply(now, specs, &Arc::new(environment), &terms, &actor, &mut wait, out)
            }
            Command::Start { targets } => self.start(now, &targets, &mut wait, out),
            Command::Stop { targets } => self.stop(now, &targets, &actor, &mut wait, out),
            Command::Restart { targets, environment } => self.cycle(now, &targets, environment, &actor, &mut wait, out),
            Command::Reload { targets } => self.reload(now, &targets, &actor, &mut wait, out),
            Command::Delete { targets } => self.delete(now, &targets, &actor, &mut wait, out),
            Command::Scale { app, count } => self.scale(now, &app, count, &actor, &mut wait, out),
            Command::Reset { targets } => self.reset(now, &targets, &mut wait, out),
            Command::Signal { signal, targets } => self.targets(&targets).map(|ids| {
                for id in ids {
                    let Some(instance) = self.instances.get_mut(&id) else { continue };
                    let name = instance.name.clone();
                    if instance.send_for(now, signal, &actor, out) {
                        wait.reply.changes.push(changed(name, ChangeKind::Signalled, Some(signal.to_string())));
                    } else {
                        wait.reply.failures.push(Failure {
                            name,
                            reason: format!("{}: there is no process to signal", instance.status().word()),
                            tail: Vec::new(),
                        });
                    }
                }
            }),
            Command::Flush { targets } => match self.targets(&targets) {
                Ok(ids) => {
                    out.push(Action::Flush { ticket, ids });
                    return;
                }
                Err(refusal) => Err(refusal),
            },
            Command::Save { force } => {
                out.push(Action::Save { ticket, force });
                return;
            }
            // The daemon reads the file and asks with `restore`.
            Command::Resurrect => Ok(()),
            Command::Kill => {
                self.kill(now, ticket, &actor, out);
                return;
            }
        };
        match result {
            Err(refusal) => out.push(Action::Reply { ticket, result: Err(refusal) }),
            Ok(()) => {
                if !asked.wait {
                    wait.goals.clear();
                }
                self.waits.push(wait);
            }
        }
    }

    /// What [`Fleet::apply`] would do: it is done to a copy.
    fn plan(
        &self,
        now: Now,
        specs: Vec<Spec>,
        environment: &Arc<Env>,
        terms: &Terms,
        actor: &Actor,
    ) -> Result<Reply, Refusal> {
        let mut wait = Wait { ticket: Ticket(0), goals: Vec::new(), reply: Reply::default() };
        self.clone().apply(now, specs, environment, terms, actor, &mut wait, &mut Vec::new())?;
        for change in &mut wait.reply.changes {
            if !self.instances.values().any(|one| one.name == change.name && one.want != Want::Gone) {
                change.detail = Some(change.detail.take().map_or("new".into(), |detail| format!("new, {detail}")));
            }
        }
        Ok(wait.reply)
    }

    /// Starts what is new, restarts what changed, leaves the rest.
    #[allow(clippy::too_many_arguments)]
    fn apply(
        &mut self,
        now: Now,
        specs: Vec<Spec>,
        environment: &Arc<Env>,
        terms: &Terms,
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        self.refuse_clashes(&specs)?;
        self.refuse_dependencies(&specs)?;
        let before = self.wanted("");
        let (mut ups, mut cycles, mut new, mut leaving, mut checked) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            let name = spec.name.clone();
            let (count, want) = (spec.instances.unwrap_or(1), if spec.autostart { Want::Up } else { Want::Down });
            let mut changes = Vec::new();
            match self.apps.get_mut(&name).filter(|app| app.count > 0) {
                Some(app) => {
                    changes = change::between(&app.spec, &spec);
                    if app.is_unknown() {
                        app.environment = environment.clone();
                    }
                    app.spec = Arc::new(spec);
                    app.count = count;
                    app.revision += u32::from(changes.iter().any(|one| one.effect == Effect::Restart));
                }
                // New, or still about to leave: nothing of before is its own.
                None => {
                    let app = App {
                        spec: Arc::new(spec),
                        environment: environment.clone(),
                        count,
                        revision: 0,
                        created_at: now.wall,
                        file: None,
                    };
                    self.apps.insert(name.clone(), app);
                }
            }
            if changes.iter().any(|one| one.is_of("readiness.health_check")) {
                checked.extend(self.members(&name));
            }
            let gone = self.shrink(&name);
            let present: Vec<Id> =
                self.members(&name).into_iter().filter(|id| self.instances[id].want != Want::Gone).collect();
            let added = self.grow(&name, want);
            for id in present {
                match self.apply_to(id, &changes, wait) {
                    Standing::Left => {}
                    Standing::Up => ups.push(id),
                    Standing::Cycle => cycles.push(id),
                }
            }
            self.show_resized(&added, &gone, wait);
            new.extend(added);
            leaving.extend(gone);
            let origin = terms.origins.iter().find(|origin| origin.names.contains(&name));
            if let (Some(origin), Some(app)) = (origin, self.apps.get_mut(&name)) {
                app.file = Some(origin.file.clone());
            }
        }
        for origin in &terms.origins {
            leaving.extend(self.gone_from(origin, terms.prune, wait));
        }
        // What starts with the file starts what it needs.
        let starts = |id: &Id| self.instances[id].want == Want::Up && self.instances[id].phase == Phase::Queued;
        let begun: Vec<Id> = new.into_iter().filter(starts).chain(ups.iter().chain(&cycles).copied()).collect();
        ups.extend(self.pull(&begun, wait));
        for id in ups {
            self.input(now, id, Input::Up, out);
        }
        if self.wanted("") != before {
            out.push(Action::Persist);
        }
        for id in checked {
            self.input(now, id, Input::CheckChanged, out);
        }
        let why = Why::asked(Cause::ConfigChange, Some(actor.clone()));
        // Who leaves is known first: what it needs waits for its end.
        self.leave(now, &leaving, actor, out);
        self.part(now, &cycles, &why, false, out);
        Ok(())
    }

    /// What came from a file and is not in it any more: said, or (`prune`) to leave.
    fn gone_from(&mut self, origin: &Origin, prune: bool, wait: &mut Wait) -> Vec<Id> {
        let from_here = |app: &&mut App| app.count > 0 && app.file.as_ref() == Some(&origin.file);
        let gone = self.apps.values_mut().filter(from_here).filter(|app| !origin.names.contains(&app.spec.name));
        let mut names = Vec::new();
        for app in gone {
            if prune {
                app.count = 0;
            }
            names.push(app.spec.name.clone());
        }
        let mut leaving = Vec::new();
        for name in names {
            let beyond = self.shrink(&name);
            if beyond.is_empty() {
                let file = origin.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                for id in self.members(&name).into_iter().filter(|id| self.instances[id].want != Want::Gone) {
                    let name = self.instances[&id].name.clone();
                    wait.reply.changes.push(changed(name, ChangeKind::Gone, Some(format!("gone from {file}"))));
                }
            }
            self.show_resized(&[], &beyond, wait);
            leaving.extend(beyond);
        }
        leaving
    }

    /// What a changed wish, or the same one again, means for an instance that is there.
    fn apply_to(&self, id: Id, changes: &[Difference], wait: &mut Wait) -> Standing {
        let instance = &self.instances[&id];
        let spec = &self.apps[&instance.app].spec;
        let effect = changes.iter().map(|one| one.effect).max().unwrap_or(Effect::None);
        let detail =
            (!changes.is_empty()).then(|| changes.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join(", "));
        let under_way = instance.want == Want::Up && !matches!(instance.phase, Phase::Stopped | Phase::Errored { .. });
        let (standing, kind) = match effect {
            Effect::Restart if under_way => (Standing::Cycle, ChangeKind::Restarted),
            _ if !under_way && spec.autostart && (effect == Effect::Restart || !is_done(instance)) => {
                (Standing::Up, ChangeKind::Started)
            }
            Effect::None => (Standing::Left, ChangeKind::Unchanged),
            Effect::Live | Effect::Restart => (Standing::Left, ChangeKind::Updated),
        };
        let after = match (&standing, &instance.phase) {
            (Standing::Up | Standing::Cycle, _) | (Standing::Left, Phase::Queued) => Some(self.last_run()),
            (Standing::Left, Phase::Starting { run, .. } | Phase::Readying { run, .. }) => Some(RunId(run.id.0 - 1)),
            (
                Standing::Left,
                Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Online { .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. },
            ) => None,
        };
        wait.goals.extend(after.map(|after| (id, instance.name.clone(), Goal::UpAfter(after))));
        wait.reply.changes.push(changed(instance.name.clone(), kind, detail));
        standing
    }

    fn start(&mut self, now: Now, targets: &[String], wait: &mut Wait, out: &mut Vec<Action>) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        self.refuse_unknown(&ids)?;
        let after = self.last_run();
        let mut wishes = Vec::new();
        for id in ids {
            let instance = &self.instances[&id];
            let name = instance.name.clone();
            match (&instance.phase, instance.want) {
                (Phase::Online { .. }, Want::Up) => {
                    wait.reply.changes.push(changed(name, ChangeKind::Unchanged, Some("online".into())));
                }
                (Phase::Queued, Want::Up) => wait.goals.push((id, name, Goal::UpAfter(after))),
                (Phase::Starting { run, .. } | Phase::Readying { run, .. }, Want::Up) => {
                    wait.goals.push((id, name, Goal::UpAfter(RunId(run.id.0 - 1))));
                }
                _ => {
                    wishes.push(id);
                    // One that ends by itself amid its reload: its successor is the run that is waited for.
                    let after = instance.successor().map_or(after, |run| RunId(run.id.0 - 1));
                    wait.goals.push((id, name.clone(), Goal::UpAfter(after)));
                    wait.reply.changes.push(changed(name, ChangeKind::Started, None));
                }
            }
        }
        wishes.extend(self.pull(&wishes, wait));
        self.wish(now, &wishes, Want::Up, None, out);
        Ok(())
    }

    fn stop(
        &mut self,
        now: Now,
        targets: &[String],
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        for id in &ids {
            let instance = &self.instances[id];
            let kind = match (&instance.phase, instance.want) {
                (Phase::Stopped, Want::Down) => ChangeKind::Unchanged,
                _ => ChangeKind::Stopped,
            };
            wait.reply.changes.push(changed(instance.name.clone(), kind, None));
            wait.goals.push((*id, instance.name.clone(), Goal::DownUpTo(self.last_run())));
        }
        let why = Why::asked(Cause::Manual, Some(actor.clone()));
        self.wish(now, &ids, Want::Down, Some(&why), out);
        Ok(())
    }

    fn cycle(
        &mut self,
        now: Now,
        targets: &[String],
        environment: Option<Env>,
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        self.refuse_unknown(&ids)?;
        if let Some(environment) = environment.map(Arc::new) {
            for id in &ids {
                if let Some(app) = self.apps.get_mut(&self.instances[id].app) {
                    app.environment = environment.clone();
                }
            }
            out.push(Action::Persist);
        }
        let after = self.last_run();
        for id in &ids {
            let instance = &self.instances[id];
            wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Restarted, None));
            wait.goals.push((*id, instance.name.clone(), Goal::UpAfter(after)));
        }
        let pulled = self.pull(&ids, wait);
        self.wish(now, &pulled, Want::Up, None, out);
        let why = Why::asked(Cause::Manual, Some(actor.clone()));
        self.wish(now, &ids, Want::Up, Some(&why), out);
        Ok(())
    }

    fn reload(
        &mut self,
        now: Now,
        targets: &[String],
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        self.refuse_unknown(&ids)?;
        let after = self.last_run();
        let (mut beside, mut cycles) = (Vec::new(), Vec::new());
        for id in ids {
            let instance = &self.instances[&id];
            let name = instance.name.clone();
            let spec = &self.apps[&instance.app].spec;
            if instance.beside.is_some() {
                let reason = "it is being reloaded already; ask again when that is done".into();
                wait.reply.failures.push(Failure { name, reason, tail: Vec::new() });
            } else if instance.can_hand_over(spec) && instance.want == Want::Up {
                beside.push(id);
                wait.goals.push((id, name.clone(), Goal::ReloadedAfter(after)));
                wait.reply.changes.push(changed(name, ChangeKind::Reloaded, None));
            } else {
                cycles.push(id);
                wait.goals.push((id, name.clone(), Goal::UpAfter(after)));
                let gap = spec.listen.is_empty().then(|| "stopped first, for it has no `listen`".into());
                wait.reply.changes.push(changed(name, ChangeKind::Restarted, gap));
            }
        }
        let why = Why::asked(Cause::Reload, Some(actor.clone()));
        for id in beside {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.reload(why.clone());
            }
        }
        let pulled = self.pull(&cycles, wait);
        self.wish(now, &pulled, Want::Up, None, out);
        self.wish(now, &cycles, Want::Up, Some(&why), out);
        Ok(())
    }

    fn delete(
        &mut self,
        now: Now,
        targets: &[String],
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        // Those that leave already are waited for: whoever asks twice hears the same.
        let leaving = self.leaving(targets);
        let ids = match self.targets(targets) {
            Err(_) if !leaving.is_empty() => Vec::new(),
            found => found?,
        };
        for id in ids.iter().chain(&leaving) {
            let instance = &self.instances[id];
            wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Deleted, None));
            wait.goals.push((*id, instance.name.clone(), Goal::DownUpTo(self.last_run())));
        }
        for id in &ids {
            let instance = &self.instances[id];
            let app = instance.app.clone();
            if let Some(app) = self.apps.get_mut(&app) {
                app.count = app.count.saturating_sub(1);
            }
        }
        let why = Why::asked(Cause::Manual, Some(actor.clone()));
        self.wish(now, &ids, Want::Gone, Some(&why), out);
        Ok(())
    }

    fn scale(
        &mut self,
        now: Now,
        target: &str,
        count: u32,
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        if count > MOST_INSTANCES {
            return Err(Refusal {
                kind: RefusalKind::Usage,
                error: format!("{count} instances are too many (at most {MOST_INSTANCES})"),
                hint: None,
            });
        }
        if count == 0 {
            return Err(Refusal {
                kind: RefusalKind::Usage,
                error: "an app has at least one instance".into(),
                hint: Some(format!("`stead stop {target}` stops it, `stead delete {target}` forgets it")),
            });
        }
        let ids = self.targets(&[target.to_owned()])?;
        let name = self.instances[&ids[0]].app.clone();
        if ids.iter().any(|id| self.instances[id].app != name) {
            return Err(Refusal {
                kind: RefusalKind::Usage,
                error: format!("`{target}` means more than one app"),
                hint: None,
            });
        }
        let names: Vec<String> = (0..count).map(|slot| self.instance_name(&name, slot)).collect();
        self.refuse_taken(&name, &names)?;
        if let Some(app) = self.apps.get_mut(&name) {
            app.count = count;
        }
        let gone = self.shrink(&name);
        for id in self.members(&name).into_iter().filter(|id| self.instances[id].want != Want::Gone) {
            wait.reply.changes.push(changed(self.instances[&id].name.clone(), ChangeKind::Unchanged, None));
        }
        let added = self.grow(&name, Want::Up);
        self.show_resized(&added, &gone, wait);
        out.push(Action::Persist);
        self.leave(now, &gone, actor, out);
        Ok(())
    }

    fn reset(&mut self, now: Now, targets: &[String], wait: &mut Wait, out: &mut Vec<Action>) -> Result<(), Refusal> {
        let mut errored = Vec::new();
        for id in self.targets(targets)? {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            instance.tally = Tally { since: Some(now.wall), ..Tally::default() };
            instance.streak = Streak::default();
            instance.last = None;
            let line = instance.line(instance.last_run, instance.seq, Entry::Reset { at: now.wall });
            instance.write(line, out);
            wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Reset, None));
            if matches!(instance.phase, Phase::Errored { .. }) && instance.want == Want::Up {
                errored.push(id);
            }
        }
        for id in errored {
            self.input(now, id, Input::Up, out);
        }
        Ok(())
    }

    fn kill(&mut self, now: Now, ticket: Ticket, actor: &Actor, out: &mut Vec<Action>) {
        if let Some(ending) = &mut self.ending {
            ending.tickets.push(ticket);
            return;
        }
        let ids: Vec<Id> = self.instances.values().filter(|one| one.want != Want::Gone).map(|one| one.id).collect();
        let why = Why::asked(Cause::Manual, Some(actor.clone()));
        self.wish(now, &ids, Want::Down, Some(&why), out);
        self.ending = Some(Ending { tickets: vec![ticket], said_bye: false });
    }

    /// Has the wish of each written, and lets it come true: `why` its present run ends, `None` where it may go on. The order matters:
    /// a crash before the first signal must find the wish, and one after it no record that speaks for the wish of before.
    fn wish(&mut self, now: Now, ids: &[Id], want: Want, why: Option<&Why>, out: &mut Vec<Action>) {
        let turned: Vec<Id> =
            ids.iter().copied().filter(|id| self.instances.get(id).is_some_and(|one| one.want != want)).collect();
        let same: Vec<Id> = ids.iter().copied().filter(|id| !turned.contains(id)).collect();
        let mut later = Vec::new();
        for id in &turned {
            let Some(one) = self.instances.get_mut(id) else { continue };
            let lives = matches!(one.phase, Phase::Starting { .. } | Phase::Readying { .. } | Phase::Online { .. });
            one.want = want;
            match why {
                // It can signal nobody, and is written as what comes of it.
                Some(why) if want == Want::Up && !lives => {
                    self.input(now, *id, Input::Cycle { why: why.clone() }, out);
                }
                None => self.input(now, *id, Input::Up, out),
                Some(_) => later.push(*id),
            }
        }
        if !turned.is_empty() {
            out.push(Action::Persist);
        }
        match why {
            Some(why) => {
                later.extend(same);
                self.part(now, &later, why, false, out);
            }
            None => same.iter().for_each(|id| self.input(now, *id, Input::Up, out)),
        }
    }

    /// Makes the instances that are missing up to the app's count.
    fn grow(&mut self, name: &AppName, want: Want) -> Vec<Id> {
        let count = self.apps.get(name).map_or(0, |app| app.count);
        let taken = |fleet: &Fleet, slot| {
            fleet.instances.values().any(|one| one.app == *name && one.slot == slot && one.want != Want::Gone)
        };
        let missing: Vec<u32> = (0..count).filter(|slot| !taken(self, *slot)).collect();
        missing.into_iter().map(|slot| self.add(name, slot, self.instance_name(name, slot), want)).collect()
    }

    pub(super) fn add(&mut self, app: &AppName, slot: u32, name: String, want: Want) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        let mut instance = Instance::new(id, app.clone(), slot, name, want);
        instance.seed = self.seed;
        if want == Want::Up {
            instance.phase = Phase::Queued;
        }
        self.instances.insert(instance);
        id
    }

    /// Marks the instances beyond the app's count: they are to leave.
    fn shrink(&mut self, name: &AppName) -> Vec<Id> {
        let count = self.apps.get(name).map_or(0, |app| app.count);
        let beyond = |one: &&mut Instance| one.app == *name && one.slot >= count && one.want != Want::Gone;
        let leaving = self.instances.values_mut().filter(beyond).map(|one| {
            one.want = Want::Gone;
            one.id
        });
        leaving.collect()
    }

    fn leave(&mut self, now: Now, ids: &[Id], actor: &Actor, out: &mut Vec<Action>) {
        let why = Why::asked(Cause::Manual, Some(actor.clone()));
        self.part(now, ids, &why, false, out);
    }

    /// Says, and waits for, what comes and goes.
    fn show_resized(&self, added: &[Id], gone: &[Id], wait: &mut Wait) {
        for id in added {
            let name = self.instances[id].name.clone();
            if self.instances[id].want == Want::Up {
                wait.goals.push((*id, name.clone(), Goal::UpAfter(self.last_run())));
                wait.reply.changes.push(changed(name, ChangeKind::Started, None));
            } else {
                wait.reply.changes.push(changed(name, ChangeKind::Added, Some("autostart is false".into())));
            }
        }
        for id in gone {
            let name = self.instances[id].name.clone();
            wait.goals.push((*id, name.clone(), Goal::DownUpTo(self.last_run())));
            wait.reply.changes.push(changed(name, ChangeKind::Deleted, None));
        }
    }

    /// The last run that was given a number.
    pub(super) fn last_run(&self) -> RunId {
        RunId(self.next_run - 1)
    }

    pub(super) fn members(&self, name: &AppName) -> Vec<Id> {
        self.instances.of(name).map(|one| one.id).collect()
    }

    /// `NAME` for the only instance of an app without `instances`, else `NAME-<slot>`. An instance keeps its name for life.
    fn instance_name(&self, app: &AppName, slot: u32) -> String {
        let present = self.instances.values().find(|one| one.app == *app && one.slot == slot && one.want != Want::Gone);
        if let Some(present) = present {
            return present.name.clone();
        }
        let single = self.apps.get(app).is_some_and(|app| app.spec.instances.is_none());
        if single && slot == 0 { app.to_string() } else { format!("{app}-{slot}") }
    }

    fn refuse_clashes(&self, specs: &[Spec]) -> Result<(), Refusal> {
        let mut given: BTreeMap<String, &AppName> = BTreeMap::new();
        for spec in specs {
            let names = names(spec);
            self.refuse_taken(&spec.name, &names)?;
            for name in names {
                if let Some(other) = given.insert(name.clone(), &spec.name) {
                    return Err(clash(&spec.name, &name, other));
                }
            }
        }
        Ok(())
    }

    /// What runs and is not known any more cannot be started again.
    fn refuse_unknown(&self, ids: &[Id]) -> Result<(), Refusal> {
        let mut apps = ids.iter().filter_map(|id| self.apps.get(&self.instances[id].app));
        apps.find(|app| app.is_unknown()).map_or(Ok(()), |app| {
            Err(Refusal::failed(format!("{}: what it is to run is not known any more", app.spec.name))
                .hint("state.json was lost; `stead start FILE` with its file makes it known again"))
        })
    }

    pub(super) fn refuse_taken(&self, app: &AppName, names: &[String]) -> Result<(), Refusal> {
        let taken =
            self.instances.values().find(|one| one.app != *app && one.want != Want::Gone && names.contains(&one.name));
        taken.map_or(Ok(()), |other| Err(clash(app, &other.name, &other.app)))
    }
}

/// What becomes of an instance when its file is applied.
enum Standing {
    Left,
    Up,
    Cycle,
}

/// The names of an app's instances.
fn names(spec: &Spec) -> Vec<String> {
    match spec.instances {
        None => vec![spec.name.to_string()],
        Some(count) => (0..count).map(|slot| format!("{}-{slot}", spec.name)).collect(),
    }
}

fn clash(app: &AppName, name: &str, other: &AppName) -> Refusal {
    Refusal {
        kind: RefusalKind::Usage,
        error: format!("an instance of {app} would be called `{name}`, as one of {other} is"),
        hint: Some("give one of them another name".into()),
    }
}

/// Why nothing is done for a client any more.
pub(super) fn ending() -> Refusal {
    Refusal::failed("stead is ending").hint("ask again when it has ended: it is started by the next command")
}

/// A job that did what it should: starting the file again is no reason to run it again.
fn is_done(instance: &Instance) -> bool {
    instance.want == Want::Up
        && instance.phase == Phase::Stopped
        && instance.last.as_ref().is_some_and(|record| record.cause == Cause::Success)
}

fn changed(name: String, kind: ChangeKind, detail: Option<String>) -> Change {
    Change { name, kind, detail }
}
