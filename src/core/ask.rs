//! What clients ask for: a wish for each target, and the answer once it has come true.

use super::action::{Action, Entry, Line};
use super::action::{Streak, To};
use super::change::{self, Effect};
use super::clock::Now;
use super::command::{Asked, Change, ChangeKind, Command, Failure, Refusal, RefusalKind, Reply};
use super::event::Why;
use super::fleet::{App, Ending, Fleet};
use super::instance::{Input, Instance, Phase, Want};
use super::name::{AppName, Id, RunId, Ticket};
use super::record::{Actor, Cause, Tally};
use super::spec::{Env, Spec};
use super::wait::{Goal, Wait};
use std::sync::Arc;

/// More instances than this is a slip of the keyboard.
const MOST_INSTANCES: u32 = 1000;

impl Fleet {
    pub(super) fn ask(&mut self, now: Now, ticket: Ticket, asked: Asked, out: &mut Vec<Action>) {
        let mut wait = Wait { ticket, goals: Vec::new(), reply: Reply::default() };
        let actor = asked.actor;
        if self.ending.is_some() && asked.command != Command::Kill {
            let refusal = Refusal::failed("stead is ending")
                .hint("ask again when it has ended: it is started by the next command");
            out.push(Action::Reply { ticket, result: Err(refusal) });
            return;
        }
        let result = match asked.command {
            Command::Apply { specs, environment } => {
                self.apply(now, specs, &Arc::new(environment), &actor, &mut wait, out)
            }
            Command::Start { targets } => self.start(now, &targets, &mut wait, out),
            Command::Stop { targets } => self.stop(now, &targets, &actor, &mut wait, out),
            Command::Restart { targets, environment } => {
                self.cycle(now, &targets, environment, Cause::Manual, &actor, &mut wait, out)
            }
            Command::Reload { targets } => self.cycle(now, &targets, None, Cause::Reload, &actor, &mut wait, out),
            Command::Delete { targets } => self.delete(now, &targets, &actor, &mut wait, out),
            Command::Scale { app, count } => self.scale(now, &app, count, &actor, &mut wait, out),
            Command::Reset { targets } => self.reset(now, &targets, &mut wait, out),
            Command::Signal { signal, targets } => self.targets(&targets).map(|ids| {
                for id in ids {
                    let instance = &self.instances[&id];
                    let name = instance.name.clone();
                    match (instance.pid(), instance.run()) {
                        (Some(_), Some(run)) => {
                            out.push(Action::Signal { run: run.id, to: To::Main, signal });
                            wait.reply.changes.push(changed(name, ChangeKind::Signalled, Some(signal.to_string())));
                        }
                        _ => wait.reply.failures.push(Failure {
                            name,
                            reason: format!("{}: there is no process to signal", instance.status().word()),
                            tail: Vec::new(),
                        }),
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

    /// Starts what is new, restarts what changed, leaves the rest.
    fn apply(
        &mut self,
        now: Now,
        specs: Vec<Spec>,
        environment: &Arc<Env>,
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        self.refuse_clashes(&specs)?;
        let mut queue = Vec::new();
        for spec in specs {
            let name = spec.name.clone();
            let count = spec.instances.unwrap_or(1);
            match self.apps.get_mut(&name) {
                None => {
                    let spec = Arc::new(spec);
                    self.apps.insert(
                        name.clone(),
                        App { spec, environment: environment.clone(), count, created_at: now.wall },
                    );
                    self.resize(now, &name, actor, out);
                }
                Some(app) => {
                    let changes = change::between(&app.spec, &spec);
                    let resized = app.count != count;
                    let detail = (!changes.is_empty())
                        .then(|| changes.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join(", "));
                    let effect = changes.iter().map(|one| one.effect).max().unwrap_or(Effect::None);
                    app.spec = Arc::new(spec);
                    app.count = count;
                    let present: Vec<Id> = self.members(&name);
                    if resized {
                        self.resize(now, &name, actor, out);
                    }
                    for id in present.into_iter().filter(|id| self.instances[id].want != Want::Gone) {
                        self.apply_to(id, effect, detail.as_deref(), actor, &mut queue, wait);
                    }
                }
            }
            for id in self.members(&name) {
                let instance = &self.instances[&id];
                if instance.seq == 0 && instance.want == Want::Up && instance.phase == Phase::Queued {
                    wait.goals.push((id, instance.name.clone(), Goal::UpAfter(RunId(self.next_run - 1))));
                    wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Started, None));
                } else if instance.seq == 0 && instance.want == Want::Down {
                    let detail = Some("autostart is false".to_owned());
                    wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Added, detail));
                }
            }
        }
        out.push(Action::Persist);
        for (id, input) in queue {
            self.input(now, id, input, out);
        }
        Ok(())
    }

    fn apply_to(
        &self,
        id: Id,
        effect: Effect,
        detail: Option<&str>,
        actor: &Actor,
        queue: &mut Vec<(Id, Input)>,
        wait: &mut Wait,
    ) {
        let instance = &self.instances[&id];
        let spec = &self.apps[&instance.app].spec;
        let name = instance.name.clone();
        let detail = detail.map(str::to_owned);
        let up = (id, name.clone(), Goal::UpAfter(RunId(self.next_run - 1)));
        let lives = instance.run().is_some() || instance.phase == Phase::Queued;
        match (lives, effect) {
            (true, Effect::Restart) => {
                let why = Why { cause: Cause::ConfigChange, actor: Some(actor.clone()) };
                queue.push((id, Input::Cycle { why }));
                wait.goals.push(up);
                wait.reply.changes.push(changed(name, ChangeKind::Restarted, detail));
            }
            (true, Effect::Live) => wait.reply.changes.push(changed(name, ChangeKind::Updated, detail)),
            (true, Effect::None) if instance.want == Want::Up => {
                wait.reply.changes.push(changed(name, ChangeKind::Unchanged, None));
            }
            (false, _) if !spec.autostart || is_done(instance) && effect != Effect::Restart => {
                let kind = if effect == Effect::None { ChangeKind::Unchanged } else { ChangeKind::Updated };
                wait.reply.changes.push(changed(name, kind, detail));
            }
            (true, Effect::None) | (false, _) => {
                queue.push((id, Input::Up));
                wait.goals.push(up);
                wait.reply.changes.push(changed(name, ChangeKind::Started, detail));
            }
        }
    }

    fn start(&mut self, now: Now, targets: &[String], wait: &mut Wait, out: &mut Vec<Action>) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        let after = RunId(self.next_run - 1);
        let mut wishes = Vec::new();
        for id in ids {
            let instance = &self.instances[&id];
            let name = instance.name.clone();
            match (&instance.phase, instance.want) {
                (Phase::Online { .. }, Want::Up) => {
                    wait.reply.changes.push(changed(name, ChangeKind::Unchanged, Some("online".into())));
                }
                (Phase::Queued, Want::Up) => wait.goals.push((id, name, Goal::UpAfter(after))),
                (Phase::Starting { run, .. }, Want::Up) => {
                    wait.goals.push((id, name, Goal::UpAfter(RunId(run.id.0 - 1))));
                }
                _ => {
                    wishes.push(id);
                    wait.goals.push((id, name.clone(), Goal::UpAfter(after)));
                    wait.reply.changes.push(changed(name, ChangeKind::Started, None));
                }
            }
        }
        self.wish(now, &wishes, Want::Up, |_| Input::Up, out);
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
            wait.goals.push((*id, instance.name.clone(), Goal::Down));
        }
        let why = Why { cause: Cause::Manual, actor: Some(actor.clone()) };
        self.wish(now, &ids, Want::Down, |_| Input::Down { why: why.clone(), gone: false }, out);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn cycle(
        &mut self,
        now: Now,
        targets: &[String],
        environment: Option<Env>,
        cause: Cause,
        actor: &Actor,
        wait: &mut Wait,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let ids = self.targets(targets)?;
        if let Some(environment) = environment.map(Arc::new) {
            for id in &ids {
                if let Some(app) = self.apps.get_mut(&self.instances[id].app) {
                    app.environment = environment.clone();
                }
            }
            out.push(Action::Persist);
        }
        let after = RunId(self.next_run - 1);
        for id in &ids {
            let instance = &self.instances[id];
            wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Restarted, None));
            wait.goals.push((*id, instance.name.clone(), Goal::UpAfter(after)));
        }
        let why = Why { cause, actor: Some(actor.clone()) };
        self.wish(now, &ids, Want::Up, |_| Input::Cycle { why: why.clone() }, out);
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
        let ids = self.targets(targets)?;
        for id in &ids {
            let instance = &self.instances[id];
            wait.reply.changes.push(changed(instance.name.clone(), ChangeKind::Deleted, None));
            wait.goals.push((*id, instance.name.clone(), Goal::Down));
            let app = instance.app.clone();
            if let Some(app) = self.apps.get_mut(&app) {
                app.count = app.count.saturating_sub(1);
            }
        }
        let why = Why { cause: Cause::Manual, actor: Some(actor.clone()) };
        self.wish(now, &ids, Want::Gone, |_| Input::Down { why: why.clone(), gone: true }, out);
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
        let before = self.members(&name);
        let names: Vec<String> = (0..count).map(|slot| self.instance_name(&name, slot)).collect();
        self.refuse_taken(&name, &names)?;
        if let Some(app) = self.apps.get_mut(&name) {
            app.count = count;
        }
        let after = RunId(self.next_run - 1);
        self.resize(now, &name, actor, out);
        out.push(Action::Persist);
        for id in self.members(&name) {
            let instance = &self.instances[&id];
            let shown = instance.name.clone();
            match (before.contains(&id), instance.want) {
                (false, _) => {
                    wait.goals.push((id, shown.clone(), Goal::UpAfter(after)));
                    wait.reply.changes.push(changed(shown, ChangeKind::Started, None));
                }
                (true, Want::Gone) => {
                    wait.goals.push((id, shown.clone(), Goal::Down));
                    wait.reply.changes.push(changed(shown, ChangeKind::Deleted, None));
                }
                (true, Want::Up | Want::Down) => {
                    wait.reply.changes.push(changed(shown, ChangeKind::Unchanged, None));
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self, now: Now, targets: &[String], wait: &mut Wait, out: &mut Vec<Action>) -> Result<(), Refusal> {
        let mut errored = Vec::new();
        for id in self.targets(targets)? {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            instance.tally = Tally { since: Some(now.wall), ..Tally::default() };
            instance.streak = Streak::default();
            instance.last = None;
            let line = Line {
                instance: instance.name.clone(),
                id,
                run: instance.last_run,
                seq: instance.seq,
                tally: instance.tally.clone(),
                streak: Streak::default(),
                entry: Entry::Reset { at: now.wall },
            };
            out.push(Action::Journal { app: instance.app.clone(), line: Box::new(line) });
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
        let ids: Vec<Id> = self.instances.keys().copied().collect();
        let why = Why { cause: Cause::Manual, actor: Some(actor.clone()) };
        self.wish(now, &ids, Want::Down, |_| Input::Down { why: why.clone(), gone: false }, out);
        self.ending = Some(Ending { tickets: vec![ticket], said_bye: false });
    }

    /// Sets the wish of each, has it written, and lets it come true. The order matters: a crash in between must find the wish.
    fn wish(&mut self, now: Now, ids: &[Id], want: Want, input: impl Fn(Id) -> Input, out: &mut Vec<Action>) {
        let mut changes = false;
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                changes |= instance.want != want;
                instance.want = want;
            }
        }
        if changes {
            out.push(Action::Persist);
        }
        for id in ids {
            self.input(now, *id, input(*id), out);
        }
    }

    /// Makes instances up to the app's count and lets go of those beyond it.
    pub(super) fn resize(&mut self, now: Now, name: &AppName, actor: &Actor, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(name) else { return };
        let (count, autostart) = (app.count, app.spec.autostart);
        for slot in 0..count {
            let taken =
                self.instances.values().any(|one| one.app == *name && one.slot == slot && one.want != Want::Gone);
            if taken {
                continue;
            }
            let id = Id(self.next_id);
            self.next_id += 1;
            let shown = self.instance_name(name, slot);
            let want = if autostart { Want::Up } else { Want::Down };
            let mut instance = Instance::new(id, name.clone(), slot, shown, want);
            if want == Want::Up {
                instance.phase = Phase::Queued;
            }
            self.instances.insert(id, instance);
        }
        let beyond: Vec<Id> =
            self.instances.values().filter(|one| one.app == *name && one.slot >= count).map(|one| one.id).collect();
        let why = Why { cause: Cause::Manual, actor: Some(actor.clone()) };
        for id in beyond {
            self.input(now, id, Input::Down { why: why.clone(), gone: true }, out);
        }
    }

    pub(super) fn members(&self, name: &AppName) -> Vec<Id> {
        self.instances.values().filter(|one| one.app == *name).map(|one| one.id).collect()
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
        for spec in specs {
            let names: Vec<String> = match spec.instances {
                None => vec![spec.name.to_string()],
                Some(count) => (0..count).map(|slot| format!("{}-{slot}", spec.name)).collect(),
            };
            self.refuse_taken(&spec.name, &names)?;
        }
        Ok(())
    }

    fn refuse_taken(&self, app: &AppName, names: &[String]) -> Result<(), Refusal> {
        let taken =
            self.instances.values().find(|one| one.app != *app && one.want != Want::Gone && names.contains(&one.name));
        match taken {
            None => Ok(()),
            Some(other) => Err(Refusal {
                kind: RefusalKind::Usage,
                error: format!("an instance of {app} would be called `{}`, as one of {} is", other.name, other.app),
                hint: Some(format!("give one of them another name, or `stead delete {}`", other.app)),
            }),
        }
    }
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
