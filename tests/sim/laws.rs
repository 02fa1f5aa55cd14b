//! What must hold in every world, each law by its name. They are checked at each action, before it is performed.

use crate::kernel::{Kept, Kernel};
use crate::world::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stead::core::action::{Action, Entry, Line, Order, To};
use stead::core::cause::is_planned;
use stead::core::clock::{Millis, Mono, Now, Wall};
use stead::core::command::{Command, Refusal, Reply};
use stead::core::cron::{Calendar, Cron};
use stead::core::event::{Exit, ExitStatus, RunNote, Sent};
use stead::core::fleet::Fleet;
use stead::core::instance::{Instance, Want};
use stead::core::name::{AppName, Id, RunId, Ticket};
use stead::core::record::{Cause, NextAction};
use stead::core::recover::{HeldState, Wanted};
use stead::core::spec::{KillMode, Need, Policy, Signal, Spec};

/// What the world knows of a run, whatever the daemon forgets.
#[derive(Clone, Debug)]
struct Life {
    shown: String,
    id: Id,
    spec: Arc<Spec>,
    /// When its start was asked for.
    asked_at: Wall,
    records: u32,
    start_lines: u32,
    /// A reset wrote its number.
    mentioned: bool,
    /// Of a reload: it may live beside the run before it.
    successor: bool,
    /// Of a reload: a later run has taken over.
    relieved: bool,
    /// The reload signal.
    asked_to_leave: Option<Mono>,
    /// The first signal of a stop.
    told: Option<Mono>,
    /// Its stop has been written down when all was to end at once: no order is kept then, by whoever finds the note neither.
    noted_at_once: bool,
    /// SIGKILL has been written down when it was due: who finds the note may send it.
    kill_noted: bool,
    /// SIGKILL has been sent.
    killed: bool,
    /// A daemon has heard of its end.
    heard_of_end: bool,
    /// The keeper or the machine went down with it.
    lost: bool,
}

impl Life {
    fn grace_is_over(&self, now: Now) -> bool {
        self.told.is_some_and(|at| now.mono >= at + self.spec.stop.kill_timeout)
    }
}

/// What an instance's tally must say.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    planned: u64,
    unplanned: u64,
    restarts: u64,
    /// Runs ever spawned.
    runs: u64,
    /// `streak.short` after the last record.
    short: u32,
    /// Short lives since anybody wished anything, as far as they count for sure.
    failures: u32,
    /// What follows by the last record of a run that was no second one.
    follows: Option<NextAction>,
    /// A job that waits for its time, since this end.
    awaits_time: Option<Wall>,
    /// The last time of `cron_restart` that came.
    time: Option<Wall>,
}

#[derive(Debug, Default)]
pub struct Laws {
    pub cpus: usize,
    /// The command under way sends a signal of the client's choice.
    pub signal_verb: bool,
    /// The keeper was told to end.
    pub told_to_end: bool,
    /// How often the present daemon was told to end; the second time means at once.
    pub told_daemon: u32,
    lives: BTreeMap<RunId, Life>,
    names: BTreeSet<String>,
    counts: BTreeMap<Id, Count>,
    waiting: BTreeSet<Ticket>,
}

impl Laws {
    pub fn asked(&mut self, ticket: Ticket, command: &Command) {
        self.waiting.insert(ticket);
        self.wished();
        self.signal_verb = matches!(command, Command::Signal { .. });
        if *command == Command::Kill {
            self.told_daemon = self.told_daemon.max(1);
        }
    }

    /// Somebody wishes something: what was counted against an app may be forgiven, and a job may run at any time.
    pub fn wished(&mut self) {
        for count in self.counts.values_mut() {
            (count.failures, count.awaits_time) = (0, None);
        }
    }

    pub fn answered(&mut self, ticket: Ticket, _result: &Result<Reply, Refusal>, story: &str) {
        if !self.waiting.remove(&ticket) {
            broken("each client is answered once", &format!("{ticket:?}"), story);
        }
    }

    /// Connections break with the daemon.
    pub fn daemon_died(&mut self, kernel: &Kernel) {
        self.told_daemon = 0;
        self.waiting.clear();
        let unknown =
            |(run, life): &(&RunId, &Life)| life.records == 0 && !life.lost && !kernel.table.contains_key(run);
        let unknown: Vec<RunId> = self.lives.iter().filter(unknown).map(|(run, _)| *run).collect();
        for run in unknown {
            self.never_was(run);
        }
    }

    pub fn lost_everything(&mut self) {
        self.wished();
        self.waiting.clear();
        self.told_to_end = false;
        self.told_daemon = 0;
        for life in self.lives.values_mut().filter(|life| life.records == 0) {
            life.lost = true;
            // That it was ended for its time only the keeper knew.
            if life.told.is_some() {
                self.counts.entry(life.id).or_default().time = None;
            }
        }
        let unknown = |(_, life): &(&RunId, &Life)| life.lost && life.start_lines == 0;
        let unknown: Vec<RunId> = self.lives.iter().filter(unknown).map(|(run, _)| *run).collect();
        for run in unknown {
            self.never_was(run);
        }
    }

    /// Neither the keeper nor the journal was told of it: for everybody but this world the run never was.
    fn never_was(&mut self, run: RunId) {
        let Some(life) = self.lives.remove(&run).filter(|life| !life.mentioned) else { return };
        self.names.remove(&life.shown);
        let count = self.counts.entry(life.id).or_default();
        count.runs -= 1;
        count.restarts = count.restarts.saturating_sub(1);
    }

    pub fn heard_of_end(&mut self, run: RunId) {
        if let Some(life) = self.lives.get_mut(&run) {
            life.heard_of_end = true;
        }
    }

    pub fn shown(&self, run: RunId) -> String {
        self.lives.get(&run).map_or_else(|| format!("run {}", run.0), |life| life.shown.clone())
    }

    /// The wish that a run was started with.
    pub fn started_with(&self, run: RunId) -> Option<&Spec> {
        self.lives.get(&run).map(|life| &*life.spec)
    }

    /// What follows by the last record that decides it: of a reload's two runs, one that ends beside the other decides nothing.
    pub fn follows(&self, id: Id) -> Option<NextAction> {
        self.counts.get(&id)?.follows
    }

    pub fn nobody_waits(&self, story: &str) {
        if let Some(ticket) = self.waiting.first() {
            broken("each client is answered", &format!("{ticket:?} still waits"), story);
        }
    }

    pub fn deadline_moves_on(&self, now: Now, deadline: Option<Mono>, story: &str) {
        if deadline.is_some_and(|at| at <= now.mono) {
            broken("a Due never leaves a deadline in the past", &format!("{deadline:?} at {:?}", now.mono), story);
        }
    }

    /// What the core has at hand of its instances is what it would find if it looked at each.
    pub fn nothing_is_overlooked(&self, now: Now, fleet: &Fleet, story: &str) {
        if !fleet.overlooks_nothing(now) {
            broken("what is at hand is what a look at all finds", &format!("at {:?}", now.mono), story);
        }
    }

    pub fn bye(&mut self, kernel: &Kernel, story: &str) {
        for (run, kept) in &kernel.table {
            if kept.main_lives() {
                broken("nothing lives when stead ends", &self.shown(*run), story);
            }
        }
        self.nobody_waits(story);
        self.told_to_end = false;
        self.told_daemon = 0;
    }

    /// Every run that is over has its record; one that was lost together with the wish for its app is nobody's.
    pub fn all_is_written(&self, kernel: &Kernel, fleet: &Fleet, story: &str) {
        for (run, life) in self.lives.iter().filter(|(_, life)| !life.lost || fleet.instance(life.id).is_some()) {
            let expected = u32::from(!kernel.table.contains_key(run));
            if life.records != expected {
                let detail = format!("{} has {} records, not {expected}", life.shown, life.records);
                broken("exactly one record per run", &detail, story);
            }
        }
    }

    /// The daemon is about to do this.
    pub fn performed(&mut self, now: Now, action: &Action, world: (&Kernel, &Disk, &Fleet), story: &str) {
        let (kernel, disk, fleet) = world;
        match action {
            Action::Spawn(order) => {
                self.starts_after_what_it_needs(order, kernel, fleet, story);
                self.comes_at_its_time(order, now, story);
                self.spawn(order, now, kernel, story);
            }
            Action::Signal { run, to, signal } => {
                self.ends_after_what_needs_it(*run, kernel, fleet, story);
                self.signal(now, *run, *to, *signal, kernel, story);
            }
            Action::Journal { line, .. } => self.journal(line, kernel, fleet, story),
            Action::Forget { run } => {
                if self.lives.get(run).is_none_or(|life| life.records != 1) {
                    broken("forgotten only after its record", &self.shown(*run), story);
                }
            }
            Action::Reply { result: Ok(_), .. } => {
                if wishes(&disk.wanted) != wishes(&fleet.wanted("")) {
                    broken("Persist before the client's answer", "the wishes on disk are others", story);
                }
            }
            Action::Note { run, note } => {
                self.is_restarted_at_its_time(now, *run, note, kernel, fleet, story);
                self.note(now, *run, note, story);
            }
            Action::Probe { .. }
            | Action::Finish { .. }
            | Action::Persist
            | Action::Save { .. }
            | Action::Reply { .. }
            | Action::Flush { .. }
            | Action::Release { .. }
            | Action::Report { .. }
            | Action::Bye => {}
        }
    }

    fn spawn(&mut self, order: &Order, now: Now, kernel: &Kernel, story: &str) {
        let shown = format!("{}#{}", order.note.instance, order.note.seq);
        let successor = order.note.reload.is_some();
        let mut others = 0;
        for (run, kept) in kernel.table.iter().filter(|(_, kept)| kept.note.instance == order.note.instance) {
            let Some(life) = self.lives.get(run) else { continue };
            if kept.main_lives() || (kept.lives() && life.spec.stop.kill_mode != KillMode::Main) {
                others += 1;
                if !(life.relieved || (successor && life.id == order.note.id)) {
                    broken("at most one live run per instance", &format!("{shown} beside {}", life.shown), story);
                }
            }
        }
        if others > 1 {
            broken("never more than two live runs per instance", &format!("{shown} is the third"), story);
        }
        if successor && self.reloading(&order.note, kernel) {
            broken("the instances of an app are reloaded one after another", &shown, story);
        }
        let open = |(run, life): &(&RunId, &Life)| {
            life.id == order.note.id
                && life.records == 0
                && (life.start_lines > 0 || kernel.table.contains_key(run))
                && !(successor || life.relieved)
        };
        if let Some((_, life)) = self.lives.iter().find(open) {
            broken("Journal before the next Spawn", &format!("{shown}, and {} has no record", life.shown), story);
        }
        if !self.names.insert(shown.clone()) {
            broken("the name of a run never comes again", &shown, story);
        }
        if self.lives.last_key_value().is_some_and(|(last, _)| *last >= order.run) {
            broken("the number of a run never comes again", &format!("{:?}", order.run), story);
        }
        let starting = kernel.table.values().filter(|kept| kept.state == HeldState::Starting).count();
        if starting >= 2 * self.cpus {
            broken("at most two starts per processor at once", &format!("{shown} is one more"), story);
        }
        if !order.environment.contains_key("PATH") {
            broken("every run has its client's environment", &shown, story);
        }
        let count = self.counts.entry(order.note.id).or_default();
        let most = order.spec.policy.max_restarts.max(1);
        if count.failures >= most && !successor {
            let detail = format!("{shown} follows {} short lives, max_restarts is {most}", count.failures);
            broken("max_restarts is kept", &detail, story);
        }
        count.runs += 1;
        count.restarts += u64::from(count.runs > 1);
        self.lives.insert(
            order.run,
            Life {
                shown,
                id: order.note.id,
                spec: order.spec.clone(),
                asked_at: now.wall,
                records: 0,
                start_lines: 0,
                mentioned: false,
                successor,
                noted_at_once: false,
                relieved: false,
                asked_to_leave: None,
                told: None,
                kill_noted: false,
                killed: false,
                heard_of_end: false,
                lost: false,
            },
        );
    }

    /// Set back far enough, the clock brings its times again.
    pub fn clock_is_set(&mut self, by: i64) {
        if by <= -3 * 3_600_000 {
            self.counts.values_mut().for_each(|count| (count.time, count.awaits_time) = (None, None));
        }
    }

    /// A job that waits for its time starts at it, and at no other; later only where it has to wait for a turn too. It starts for the
    /// first time that came, be the next one there already.
    fn comes_at_its_time(&mut self, order: &Order, now: Now, story: &str) {
        let count = self.counts.entry(order.note.id).or_default();
        let Some(ended) = count.awaits_time.take() else { return };
        let policy = &order.spec.policy;
        // Of a time that came amid the last run the jitter may be yet to come.
        let since = Wall(ended.0.saturating_sub_unsigned(policy.jitter.0 + 1));
        let since = count.time.map_or(since, |last| last.max(since));
        let time = policy.cron_restart.as_ref().and_then(|cron| time_between(cron, since, now.wall));
        let shown = format!("{}#{}", order.note.instance, order.note.seq);
        self.time_comes(order.note.id, time, &shown, story);
    }

    /// So does a restart by the clock.
    fn is_restarted_at_its_time(
        &mut self,
        now: Now,
        run: RunId,
        note: &RunNote,
        kernel: &Kernel,
        fleet: &Fleet,
        story: &str,
    ) {
        let by_clock = |note: &RunNote| note.intent.as_ref().is_some_and(|intent| intent.why.cause == Cause::Cron);
        if by_clock(note) && !kernel.table.get(&run).is_some_and(|kept| by_clock(&kept.note)) {
            let cron = fleet.instance(note.id).and_then(|one| fleet.app(&one.app)?.spec.policy.cron_restart.clone());
            let time = cron.and_then(|cron| last_time(&cron, now.wall));
            self.time_comes(note.id, time, &self.shown(run), story);
        }
    }

    fn time_comes(&mut self, id: Id, time: Option<Wall>, shown: &str, story: &str) {
        let count = self.counts.entry(id).or_default();
        if time <= count.time {
            broken("a time of cron comes once, and no sooner", shown, story);
        }
        count.time = time;
    }

    fn starts_after_what_it_needs(&self, order: &Order, kernel: &Kernel, fleet: &Fleet, story: &str) {
        // A successor starts beside a run that is left alone when what it needs goes away.
        if order.note.reload.is_some() {
            return;
        }
        for (app, need) in &order.spec.depends_on {
            let members: Vec<_> = fleet.instances().filter(|one| one.app == *app && one.want != Want::Gone).collect();
            let lives = |one: &Instance| {
                // As far as the daemon has heard.
                let runs = |(run, kept): (&RunId, &Kept)| {
                    kept.note.id == one.id && self.lives.get(run).is_some_and(|life| !life.heard_of_end)
                };
                one.want == Want::Up && *need != Need::Done && kernel.table.iter().any(runs)
            };
            let done = |one: &Instance| one.last.as_ref().is_some_and(|last| last.cause == Cause::Success);
            if members.is_empty() || !members.into_iter().all(|one| lives(one) || done(one)) {
                let detail = format!("{}#{} starts without {app}", order.note.instance, order.note.seq);
                broken("what is needed is there before those who need it start", &detail, story);
            }
        }
    }

    /// The first signal of a stop.
    fn ends_after_what_needs_it(&self, run: RunId, kernel: &Kernel, fleet: &Fleet, story: &str) {
        let (Some(life), Some(kept)) = (self.lives.get(&run), kernel.table.get(&run)) else { return };
        let planned = kept.note.intent.as_ref().is_some_and(|intent| is_planned(intent.why.cause));
        let at_once = self.told_daemon > 1 || life.noted_at_once;
        if self.signal_verb || life.told.is_some() || !planned || at_once || !kept.main_lives() {
            return;
        }
        // Of a reload: the other run is what they need.
        if life.relieved || kept.note.reload.is_some() {
            return;
        }
        for (other, dependent) in kernel.table.iter().filter(|(_, other)| other.main_lives()) {
            let Some(one) = fleet.instance(dependent.note.id) else { continue };
            let ends_too = one.want != Want::Up
                || (self.told_daemon == 1 && fleet.instance(life.id).is_some_and(|it| it.want == Want::Up));
            let mine = one.run().is_some_and(|life| life.id == *other);
            if ends_too && mine && needs(fleet, &dependent.note.app, &kept.note.app) {
                let detail = format!("{} is ended while {} lives", life.shown, self.shown(*other));
                broken("what is needed ends after those who need it", &detail, story);
            }
        }
    }

    fn signal(&mut self, now: Now, run: RunId, to: To, signal: Signal, kernel: &Kernel, story: &str) {
        let shown = self.shown(run);
        let detail = format!("{signal} to {to:?} of {shown}");
        let (Some(life), Some(kept)) = (self.lives.get_mut(&run), kernel.table.get(&run)) else {
            broken("no signal to what is not there", &detail, story);
        };
        if life.heard_of_end && (to == To::Main || life.spec.stop.kill_mode == KillMode::Main) {
            broken("no signal to an ended pid", &detail, story);
        }
        if kept.state == HeldState::Starting {
            broken("no signal before the exec", &detail, story);
        }
        if self.signal_verb {
            return;
        }
        let intent = kept.note.intent.as_ref();
        if !life.heard_of_end && intent.is_none() {
            broken("Note before the first signal of a stop", &detail, story);
        }
        let leave =
            (life.relieved || kept.note.reload.is_some()) && to == To::Main && signal == life.spec.reload.reload_signal;
        if leave && life.asked_to_leave.is_none() && life.told.is_none() {
            life.asked_to_leave = Some(now.mono);
            return;
        }
        if signal != Signal::KILL {
            life.told.get_or_insert(now.mono);
            return;
        }
        let mixed = life.heard_of_end && life.spec.stop.kill_mode == KillMode::Mixed && intent.is_some();
        if !life.grace_is_over(now) && !mixed && !life.killed && !life.kill_noted && self.told_daemon < 2 {
            broken("the grace period is kept", &format!("{detail}, told at {:?}", life.told), story);
        }
        life.killed = true;
    }

    /// SIGKILL is written down no sooner than it may be sent.
    fn note(&mut self, now: Now, run: RunId, note: &RunNote, story: &str) {
        let shown = self.shown(run);
        self.takes_over(run, note);
        let Some(life) = self.lives.get_mut(&run) else { return };
        life.noted_at_once |= self.told_daemon > 1 && note.intent.is_some();
        if note.intent.as_ref().is_none_or(|intent| intent.sent != Sent::SigKill) {
            return;
        }
        if !life.grace_is_over(now) && !life.killed && !life.kill_noted && self.told_daemon < 2 {
            broken("the grace period is kept", &format!("SIGKILL noted for {shown}, told at {:?}", life.told), story);
        }
        life.kill_noted = true;
    }

    /// Does another instance of the app, or this one, have two runs?
    fn reloading(&self, note: &RunNote, kernel: &Kernel) -> bool {
        let mut runs: BTreeMap<&str, u32> = BTreeMap::new();
        for (run, kept) in kernel.table.iter().filter(|(_, kept)| kept.note.app == note.app) {
            if self.lives.get(run).is_some_and(|life| life.records == 0) {
                *runs.entry(&kept.note.instance).or_default() += 1;
            }
        }
        runs.values().any(|count| *count > 1)
    }

    /// A successor that takes over says so in its note, or in that of the run before it.
    fn takes_over(&mut self, run: RunId, note: &RunNote) {
        let asked = note.intent.as_ref().is_some_and(|intent| intent.why.cause == Cause::Reload);
        let Some(life) = self.lives.get_mut(&run) else { return };
        if asked || (life.successor && note.reload.is_none()) {
            self.counts.entry(life.id).or_default().failures = 0;
        }
        let (id, next) = (life.id, life.successor && note.reload.is_none());
        let newer = self.lives.range(run..).skip(1).any(|(_, one)| one.id == id && one.successor && one.records == 0);
        if asked
            && newer
            && let Some(life) = self.lives.get_mut(&run)
        {
            life.relieved = true;
        }
        if next {
            for (_, older) in self.lives.range_mut(..run).filter(|(_, one)| one.id == id) {
                older.relieved = true;
            }
        }
    }

    fn journal(&mut self, line: &Line, kernel: &Kernel, fleet: &Fleet, story: &str) {
        let shown = format!("{}#{}", line.instance, line.seq);
        let count = self.counts.entry(line.id).or_default();
        if let Some(life) = line.later.and_then(|(run, _)| self.lives.get_mut(&run)) {
            life.mentioned = true;
        }
        match &line.entry {
            Entry::Start { .. } => {
                if let Some(life) = self.lives.get_mut(&line.run) {
                    life.start_lines += 1;
                }
            }
            Entry::Incident(_) | Entry::Asked { .. } => {}
            Entry::Reset { .. } => {
                *count = Count { runs: count.runs, time: count.time, ..Count::default() };
                if let Some(life) = self.lives.get_mut(&line.run) {
                    life.mentioned = true;
                }
            }
            Entry::End { record, .. } => {
                *(if record.planned { &mut count.planned } else { &mut count.unplanned }) += 1;
                if record.planned && line.streak.short > count.short {
                    broken("planned restarts never use up max_restarts", &shown, story);
                }
                // A rule of the user's goes first, the present one or that of its start.
                let present = fleet.instance(line.id).and_then(|one| fleet.app(&one.app)).map(|app| &app.spec);
                let own = self.lives.get(&line.run).map(|life| &life.spec);
                let ruled = present.into_iter().chain(own).any(|spec| !spec.policy.restart_on.is_empty());
                if record.evidence.port.is_some() && !ruled && line.streak.short > count.short {
                    broken("a taken port does not use up max_restarts", &shown, story);
                }
                count.short = line.streak.short;
                if (record.cause == Cause::Watch) != record.evidence.watch_path.is_some() {
                    broken("a restart for a change names the file", &format!("{record:?}"), story);
                }
                let Some(life) = self.lives.get_mut(&line.run) else {
                    broken("no record without a run", &shown, story);
                };
                life.records += 1;
                if life.records > 1 {
                    broken("exactly one record per run", &format!("{shown} has a second"), story);
                }
                let state = kernel.table.get(&line.run);
                let policy = fleet
                    .instance(line.id)
                    .and_then(|one| fleet.app(&one.app))
                    .map_or_else(|| life.spec.policy.clone(), |app| app.spec.policy.clone());
                let truth = match state.map(|kept| (&kept.state, &kept.note.intent)) {
                    _ if life.lost => Cause::Lost,
                    None | Some((HeldState::Failed { .. }, _)) => Cause::SpawnFailed,
                    Some((HeldState::Ended { exit }, Some(intent))) if intent.since <= exit.at.mono => intent.why.cause,
                    Some((HeldState::Ended { exit }, _)) => cause(exit, &policy),
                    Some((HeldState::Starting | HeldState::Live, _)) => {
                        broken("no record of a run that lives", &shown, story);
                    }
                };
                if record.cause != truth {
                    let detail = format!("{shown}: {} is written, {} is true", record.cause.word(), truth.word());
                    broken("the record has the true cause", &detail, story);
                }
                let counts = !record.planned
                    && !ruled
                    && policy.autorestart
                    && record.evidence.port.is_none()
                    && record.next.reason != "asked for"
                    && record.next.action != NextAction::RunsOn;
                if let Some((HeldState::Ended { exit }, kept)) = state.map(|kept| (&kept.state, kept)) {
                    let uptime = exit.at.mono - kept.started.mono;
                    let status = match (record.exit_code, record.signal) {
                        (Some(code), None) => ExitStatus::Code(code),
                        (None, Some(signal)) => ExitStatus::Signal { signal, core_dumped: record.core_dumped },
                        _ => broken("code and signal are never mixed", &shown, story),
                    };
                    if status != exit.status || record.uptime_ms != Some(uptime) || record.ended_at != exit.at.wall {
                        broken("the record has the true status and times", &format!("{record:?}"), story);
                    }
                    if record.started_at != Some(kept.started.wall) {
                        broken("the record has the true start", &format!("{record:?}"), story);
                    }
                    if uptime >= STABLE.max(policy.min_uptime) {
                        count.failures = 0;
                    } else if counts && uptime < policy.min_uptime {
                        count.failures += 1;
                    }
                } else if counts && truth == Cause::SpawnFailed {
                    count.failures += 1;
                }
                if record.next.action != NextAction::RunsOn {
                    count.follows = Some(record.next.action);
                }
                let since = match record.cause {
                    // How long it was at work is not known: a time since its start is caught up with.
                    Cause::Lost => record.started_at.unwrap_or(record.ended_at),
                    // It was never at work, and left no time to another.
                    Cause::SpawnFailed => life.asked_at,
                    _ => record.ended_at,
                };
                count.awaits_time = record.next.reason.starts_with("cron_restart ").then_some(since);
            }
        }
        let tally = &line.tally;
        let said = (tally.total, tally.planned, tally.unplanned, tally.restarts);
        let truth = (count.planned + count.unplanned, count.planned, count.unplanned, count.restarts);
        if said != truth {
            let detail = format!("{shown}: {said:?} is written, {truth:?} is true");
            broken("the tally counts every record and every restart, planned ones apart", &detail, story);
        }
    }
}

/// Whether one app depends on another, be it by a third.
fn needs(fleet: &Fleet, app: &str, other: &str) -> bool {
    let Ok(name) = AppName::parse(app) else { return false };
    let Some(wish) = fleet.app(&name) else { return false };
    wish.spec.depends_on.keys().any(|next| next.as_str() == other || needs(fleet, next.as_str(), other))
}

fn cause(exit: &Exit, policy: &Policy) -> Cause {
    match exit.status {
        ExitStatus::Code(0) => Cause::Success,
        ExitStatus::Code(code) if policy.stop_exit_codes.contains(&code) => Cause::Success,
        ExitStatus::Code(_) => Cause::ExitCode,
        ExitStatus::Signal { core_dumped: true, .. } => Cause::CoreDump,
        ExitStatus::Signal { core_dumped: false, .. } => Cause::Signal,
    }
}

/// The part of the wanted set that is somebody's wish.
pub fn wishes(wanted: &Wanted) -> Wanted {
    let mut wanted =
        Wanted { version: 0, boot_id: String::new(), first_run: 0, next_id: 0, next_run: 0, ..wanted.clone() };
    for app in &mut wanted.apps {
        app.instances.retain(|one| one.want != Want::Gone);
    }
    wanted.apps.retain(|app| !app.instances.is_empty());
    if wanted.apps.is_empty() {
        wanted.environments.clear();
    }
    wanted
}

/// The first time of a line that is later than the one, and not later than the other.
fn time_between(cron: &Cron, after: Wall, until: Wall) -> Option<Wall> {
    (Calendar::default().0)(cron, after).filter(|at| *at <= until)
}

/// The last time of a line that is not later than this, within the two days before.
pub fn last_time(cron: &Cron, until: Wall) -> Option<Wall> {
    let next = |after: Wall| time_between(cron, after, until);
    // Times come close together or far apart: looked for from near before from far.
    let near = [60_000, 3_600_000, 172_800_000].into_iter().find_map(|back| next(Wall(until.0 - back)));
    std::iter::successors(near, |time| next(*time)).last()
}

/// A run that lives this long proves its app well.
const STABLE: Millis = Millis(30_000);

/// How long a story has to be quiet to be called settled: longer than any delay of the policy.
pub const QUIET: Millis = Millis(60_000);

/// Says which law was broken, and what led to it.
pub fn broken(law: &str, detail: &str, story: &str) -> ! {
    let lines: Vec<&str> = story.lines().collect();
    let from = lines.len().saturating_sub(80);
    // Said by whoever catches it: the shrinking of a plan breaks the law some thousand times.
    std::panic::resume_unwind(Box::new(format!("law broken: {law}: {detail}\nafter:\n{}\n", lines[from..].join("\n"))));
}
