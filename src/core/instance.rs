//! One instance: what people want of it, the phase it is in, and its past.
//!
//! Every phase answers every event; the compiler proves it. A restart is an end while the instance is wanted up: no flag says so.

use super::action::{Action, Entry, Line, Order, Streak, To};
use super::backoff::{self, UnplannedEnd};
use super::cause::{self, Verdict};
use super::clock::{Millis, Mono, Now, Wall};
use super::cron::{Calendar, Cron};
use super::event::{Exit, ExitStatus, Facts, Grounds, Intent, Killed, Reached, RunNote, Sent, Signalled, Why};
use super::name::{AppName, Id, RunId};
use super::port;
use super::probe::{self, Finding, Health, Outcome};
use super::record::{
    Actor, Cause, Crossing, Evidence, Incident, Memory, Next, NextAction, Oom, PortHolder, Record, SpawnFailure,
    TakenPort, Tally,
};
use super::reload::Beside;
use super::signature;
use super::spec::{Env, KillMode, OomPolicy, Signal, Spec};
use super::view::Status;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An end so soon after a kill in its tree is what came of the kill: a shell that exits with its child's status, say.
const AFTERMATH: Millis = Millis(2_000);

/// A process that SIGKILL did not end is in the kernel's hands; it is asked again this often.
const KILL_AGAIN: Millis = Millis(1000);

/// What was said while no daemon lived is heard within this time after one has begun.
pub(super) const HEARING: Millis = Millis(1000);

/// What people want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    Up,
    Down,
    /// To be forgotten as soon as nothing of it lives.
    Gone,
}

/// A life under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub seq: u64,
    pub started: Now,
    /// The wish it was started with: it is also stopped by it.
    pub spec: Arc<Spec>,
    /// The app's at its start.
    pub revision: u32,
    /// The last signal that somebody asked stead to send to it.
    pub signalled: Option<Signalled>,
    /// Kills by the kernel in its tree that the journal tells of.
    pub kills: u64,
    /// When the last of them was told; `None`: by a daemon before.
    pub killed_at: Option<Mono>,
    pub part: Part,
    pub reached: Reached,
    /// While it is asked how it is.
    pub health: Option<Health>,
}

/// What a run is to its instance. There are two runs at once during a reload only.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Main,
    /// Of a reload: it runs beside the main run until it is proven.
    Successor {
        why: Why,
    },
    /// Another run has taken its place.
    Predecessor,
}

impl Run {
    /// What the kernel did in the tree long ago, and the journal told then, says nothing of this end.
    fn forget_told(&self, end: Mono, facts: &mut Facts) {
        let fresh = (facts.oom.own + facts.oom.host).saturating_sub(self.kills);
        if self.kills == 0 || self.killed_at.is_some_and(|at| end - at <= AFTERMATH) {
            return;
        }
        match (fresh, facts.oom.own) {
            (0, _) => {
                facts.oom = Oom::default();
                facts.kernel_log.clear();
            }
            (_, 0) => facts.oom.host = fresh,
            (_, _) => facts.oom.own = fresh,
        }
    }
}

/// Where it is in its life; each phase carries its own facts.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    Stopped,
    /// Gave up; only a wish leads out.
    Errored {
        reason: String,
    },
    /// In backoff, or (`scheduled`) a job until its time.
    Waiting {
        until: Mono,
        shown: Wall,
        reason: String,
        scheduled: bool,
    },
    /// Wants to start and waits for its turn.
    Queued,
    /// The spawn has been asked for. `then`: a stop was wished meanwhile.
    Starting {
        run: Run,
        then: Option<Why>,
    },
    /// It runs, and has yet to say that it is ready (`until` then), or to be found well.
    Readying {
        run: Run,
        pid: i32,
        until: Option<Mono>,
    },
    Online {
        run: Run,
        pid: i32,
    },
    Stopping {
        run: Run,
        pid: i32,
        intent: Intent,
    },
    /// The main process ended; what is left of the tree is ended, and its output is brought home.
    Ending {
        run: Run,
        pid: i32,
        exit: Exit,
        left: u32,
        intent: Option<Intent>,
        kill_at: Option<Mono>,
        /// Somebody wants another run after this one: it follows whatever the policy says.
        again: bool,
    },
}

impl Phase {
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self {
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Stopping { intent, .. } => Some(intent.kill_at),
            Phase::Ending { kill_at, .. } => *kill_at,
            Phase::Readying { until: Some(until), .. } => Some(*until),
            Phase::Readying { run, until: None, .. } | Phase::Online { run, .. } => {
                run.health.as_ref().and_then(Health::deadline)
            }
            Phase::Stopped | Phase::Errored { .. } | Phase::Queued | Phase::Starting { .. } => None,
        }
    }

    /// The run that is in this phase.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Phase::Starting { run, .. }
            | Phase::Readying { run, .. }
            | Phase::Online { run, .. }
            | Phase::Stopping { run, .. }
            | Phase::Ending { run, .. } => Some(run),
            Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued => None,
        }
    }
}

/// What comes to an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants it up.
    Up,
    /// Somebody wants it down, or (`gone`) forgotten.
    Down {
        why: Why,
        gone: bool,
    },
    /// Somebody wants a new run in the place of the present one.
    Cycle {
        why: Why,
    },
    /// stead ends: the run is ended, the wish stays.
    End {
        why: Why,
    },
    /// Its turn to start.
    Turn {
        run: RunId,
        environment: Arc<Env>,
        revision: u32,
        part: Part,
    },
    Spawned {
        pid: i32,
        at: Now,
    },
    SpawnFailed {
        failure: SpawnFailure,
        holder: Option<PortHolder>,
    },
    /// It said that it is ready.
    Ready,
    /// How it answered its health check.
    Probed {
        outcome: Outcome,
    },
    /// Its health check is another one from now on.
    CheckChanged,
    Exited {
        exit: Exit,
        left: u32,
    },
    OverCap {
        crossing: Box<Crossing>,
    },
    /// The kernel killed a process of the tree for want of memory, and the main process lives.
    OomKill {
        killed: Box<Killed>,
    },
    Finished {
        facts: Box<Facts>,
    },
    Due,
}

/// The unit of supervision.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: Id,
    pub app: AppName,
    pub slot: u32,
    pub name: String,
    pub want: Want,
    pub phase: Phase,
    /// The other run of a reload.
    pub beside: Option<Beside>,
    pub seq: u64,
    pub last_run: RunId,
    pub tally: Tally,
    pub streak: Streak,
    pub last: Option<Box<Record>>,
    /// The next time of `cron_restart`, while it is wanted up.
    pub alarm: Option<Alarm>,
    /// The last time that came. The two clocks are read apart: by the wall it may be yet to come, and it comes once.
    pub came: Option<Wall>,
    /// Of the jitter.
    pub seed: u64,
}

/// A time of `cron_restart` that is to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// The line that it is of.
    pub cron: Cron,
    /// As the line says, without jitter.
    pub at: Wall,
    /// With jitter.
    pub shown: Wall,
    pub due: Mono,
}

/// What begins the reason of a job's wait for its time; a daemon that begins tells such a wait from a backoff by it.
pub(super) const SCHEDULED: &str = "cron_restart ";

/// A clock that is set back by less than this runs nothing a second time. As cron(8).
const SET_BACK: i64 = 3 * 3_600_000;

/// The clocks' readings differ by less. As above, of a run that a daemon before this one started.
const APART: i64 = 10;

/// A daemon that was not there at the time catches up for so long.
const CATCH_UP: i64 = 60_000;

impl Instance {
    #[must_use]
    pub fn new(id: Id, app: AppName, slot: u32, name: String, want: Want) -> Instance {
        Instance {
            id,
            app,
            slot,
            name,
            want,
            phase: Phase::Stopped,
            beside: None,
            seq: 0,
            last_run: RunId(0),
            tally: Tally::default(),
            streak: Streak::default(),
            last: None,
            alarm: None,
            came: None,
            seed: 0,
        }
    }

    /// Answers an input. `spec` is the app's present wish.
    pub fn handle(&mut self, now: Now, spec: &Arc<Spec>, input: Input, out: &mut Vec<Action>) {
        self.tell_beside(now, spec, &input, out);
        let phase = std::mem::replace(&mut self.phase, Phase::Stopped);
        self.phase = self.answer(now, spec, phase, input, out);
        self.hand_over(now, spec, out);
    }

    /// The phase that follows: every phase answers every input.
    pub(super) fn answer(
        &mut self,
        now: Now,
        spec: &Arc<Spec>,
        phase: Phase,
        input: Input,
        out: &mut Vec<Action>,
    ) -> Phase {
        match (phase, input) {
            // Wishes, while nothing lives.
            (
                Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued,
                Input::Up | Input::Cycle { .. },
            ) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                if self.last_run > RunId(0) {
                    self.write(self.line(self.last_run, self.seq, Entry::Asked { at: now.wall }), out);
                }
                Phase::Queued
            }
            (
                Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued,
                Input::Down { gone, .. },
            ) => {
                self.want = down(gone);
                Phase::Stopped
            }
            // An end of stead leaves the wish as it is; a wait goes on after it.
            (
                phase @ (Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued),
                Input::End { .. },
            ) => phase,

            // Wishes, while something lives.
            // A stop that was wished first stays: as with one under way, the wish is served by the next run. First cause sticks.
            (phase @ Phase::Starting { .. }, Input::Up) => {
                self.want = Want::Up;
                phase
            }
            (Phase::Starting { run, then }, Input::Cycle { why }) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                Phase::Starting { run, then: then.or(Some(why)) }
            }
            (Phase::Starting { run, then }, Input::Down { why, gone }) => {
                self.want = down(gone);
                Phase::Starting { run, then: then.or(Some(why)) }
            }
            (Phase::Starting { run, then }, Input::End { why }) => Phase::Starting { run, then: then.or(Some(why)) },
            (phase @ (Phase::Readying { .. } | Phase::Online { .. }), Input::Up) => {
                self.want = Want::Up;
                phase
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::Cycle { why }) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                self.stop(now, run, pid, why, out)
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::Down { why, gone }) => {
                self.want = down(gone);
                self.stop(now, run, pid, why, out)
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::End { why }) => {
                self.stop(now, run, pid, why, out)
            }
            (phase @ Phase::Stopping { .. }, Input::Up | Input::Cycle { .. }) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                phase
            }
            (Phase::Ending { run, pid, exit, left, intent, kill_at, .. }, Input::Up | Input::Cycle { .. }) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                Phase::Ending { run, pid, exit, left, intent, kill_at, again: true }
            }
            (phase @ (Phase::Stopping { .. } | Phase::Ending { .. }), Input::Down { gone, .. }) => {
                self.want = down(gone);
                phase
            }
            (phase @ (Phase::Stopping { .. } | Phase::Ending { .. }), Input::End { .. }) => phase,

            // A turn.
            (Phase::Queued, Input::Turn { run: id, environment, revision, part }) => {
                self.begin(id, self.seq + 1, &part);
                let run = Run {
                    id,
                    seq: self.seq,
                    started: now,
                    spec: spec.clone(),
                    revision,
                    signalled: None,
                    kills: 0,
                    killed_at: None,
                    part,
                    reached: Reached::Spawned,
                    health: None,
                };
                out.push(Action::Spawn(Box::new(Order {
                    run: id,
                    slot: self.slot,
                    note: self.note(&run, None),
                    spec: spec.clone(),
                    environment,
                })));
                Phase::Starting { run, then: None }
            }

            // The life of a run.
            (Phase::Starting { run, then }, Input::Spawned { pid, at }) => {
                let run = Run { started: at, ..run };
                self.write_start(&run, pid, out);
                match then {
                    None => on_trial(now, spec, run, pid, None),
                    Some(why) => self.stop(now, run, pid, why, out),
                }
            }
            (Phase::Starting { run, .. }, Input::SpawnFailed { failure, holder }) => {
                let port = port::not_bound(&failure).map(|taken| TakenPort { holder, ..taken });
                let verdict = cause::spawn_failed(&run.spec, &failure, port.as_ref());
                let end = Ended {
                    pid: None,
                    status: None,
                    at: now,
                    uptime: Millis(0),
                    lived: Millis(0),
                    starved: None,
                    again: false,
                    left: 0,
                    memory: Memory::default(),
                    evidence: Evidence { spawn: Some(failure), port, ..Evidence::default() },
                    signature: None,
                    actor: None,
                };
                self.conclude(spec, run, verdict, end, out)
            }
            (Phase::Readying { mut run, pid, until: Some(_) }, Input::Ready) => {
                run.reached = Reached::Ready;
                self.say_reached(&run, out);
                ready(now, spec, run, pid)
            }
            (phase @ (Phase::Readying { until: None, .. } | Phase::Online { .. }), Input::Probed { outcome }) => {
                self.probed(now, spec, phase, outcome, out)
            }
            (Phase::Readying { run, pid, until: None } | Phase::Online { run, pid }, Input::CheckChanged) => {
                let phase = ready(now, spec, run, pid);
                // What was online without a check stays so, and the next daemon is to know.
                if let Phase::Online { run, .. } = &phase {
                    self.say_reached(run, out);
                }
                phase
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::OomKill { killed })
                if run.spec.allowance.oom_policy == OomPolicy::Kill =>
            {
                self.stop(now, run, pid, Why::asked(cause::of_kill(&killed.oom), None), out)
            }
            (Phase::Readying { run, pid, until }, Input::OomKill { killed }) => {
                Phase::Readying { run: self.went_on(now, run, *killed, out), pid, until }
            }
            (Phase::Online { run, pid }, Input::OomKill { killed }) => {
                Phase::Online { run: self.went_on(now, run, *killed, out), pid }
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::OverCap { crossing }) => {
                self.stop_over_cap(now, run, pid, crossing, out)
            }
            (Phase::Readying { run, pid, .. } | Phase::Online { run, pid }, Input::Exited { exit, left }) => {
                self.ending(now, run, pid, exit, Some(left), None, out)
            }
            (Phase::Stopping { run, pid, intent }, Input::Exited { exit, left }) => {
                self.ending(now, run, pid, exit, Some(left), Some(intent), out)
            }
            (Phase::Ending { run, pid, exit, left, intent, again, .. }, Input::Finished { mut facts }) => {
                run.forget_told(exit.at.mono, &mut facts);
                let uptime = exit.at.mono - run.started.mono;
                // First cause sticks: a stop that was noted only after the death did not cause it.
                let intent = intent.filter(|intent| intent.since <= exit.at.mono);
                let crossing = intent.as_ref().and_then(|intent| intent.crossing.clone());
                let patience = intent.as_ref().and_then(|intent| self.patience_ended(spec, &run, intent, &exit));
                let acted_at = intent.as_ref().map(|intent| intent.since);
                let why = intent.map(|intent| intent.why);
                let why_is_ours = why.is_some();
                let mut verdict = cause::verdict(spec, &run, why.as_ref(), &exit, &facts);
                if let Some(crossing) = crossing.as_ref().filter(|_| verdict.cause == Cause::MemoryCap) {
                    verdict.summary.push_str(&cause::crossed(spec, crossing));
                }
                verdict.summary.push_str(&patience.unwrap_or_default());
                let used = crossing.as_ref().map(|crossing| crossing.usage_bytes).max(facts.memory.last_bytes);
                let (lived, starved) = match verdict.cause {
                    Cause::MemoryCap => (acted_at.unwrap_or(exit.at.mono) - run.started.mono, used),
                    Cause::OomKill => {
                        (acted_at.unwrap_or(exit.at.mono) - run.started.mono, spec.wall().map(|wall| wall.0).max(used))
                    }
                    _ => (uptime, None),
                };
                // In any other end a traceback in the log is no more than that: Python writes one when it is asked to end.
                let exception =
                    facts.exception.map(|found| found.exception).filter(|_| verdict.cause == Cause::ExitCode);
                let signature = exception
                    .as_ref()
                    .filter(|_| verdict.by_exception)
                    .map(|one| signature::signature(&one.kind, &one.message));
                let relieved = run.part == Part::Predecessor && verdict.cause == Cause::Reload;
                let (actor, grounds) = why.map_or((None, None), |why| (why.actor, why.grounds));
                if let (Cause::HealthCheck, Some(Grounds::Probe(answers))) = (verdict.cause, &grounds) {
                    verdict.summary.push_str(&probe::last_words(answers).unwrap_or_default());
                }
                let (watch_path, probe) = match grounds {
                    None => (None, None),
                    Some(Grounds::WatchPath(path)) => (Some(path), None),
                    Some(Grounds::Probe(answers)) => (None, Some(answers)),
                };
                let end = Ended {
                    pid: Some(pid),
                    status: Some(exit.status),
                    at: exit.at,
                    uptime,
                    lived: if run.reached == Reached::Online { lived } else { Millis(0) },
                    starved,
                    again,
                    // A daemon that took the run over after its end was not told how many it left.
                    left: left.max(facts.left),
                    // The present wish's: a changed cap holds for the run that is under way.
                    memory: Memory {
                        cap_bytes: spec.max_memory_restart.map(|bytes| bytes.0),
                        wall_bytes: spec.wall().map(|bytes| bytes.0),
                        peak_bytes: facts.memory.peak_bytes.or(Some(exit.usage.max_rss_bytes)),
                        ..facts.memory
                    },
                    evidence: Evidence {
                        // The last lines are those of its successor, who writes into the same file.
                        stderr_tail: if relieved { Vec::new() } else { facts.stderr_tail },
                        exception,
                        oom: facts.oom,
                        kernel_log: facts.kernel_log,
                        cap_crossed_at: crossing.as_ref().map(|crossing| crossing.at),
                        cap_crossing: crossing.map(|crossing| *crossing),
                        watch_path,
                        probe,
                        spawn: None,
                        sender: verdict.sender.clone(),
                        stdout_tail: facts.stdout_tail,
                        exit_meaning: verdict.exit_meaning.clone(),
                        lock_holder: facts.lock_holder,
                        // Those that stead itself ended tell nothing.
                        children: if why_is_ours { Vec::new() } else { facts.children },
                        hint: facts.hint,
                        port: facts.port.filter(|_| verdict.cause == Cause::ExitCode),
                    },
                    signature,
                    actor,
                };
                self.conclude(spec, run, verdict, end, out)
            }

            // Time.
            // Of a job: an app that is to be restarted for it has been.
            (Phase::Online { run, pid }, Input::Due) if run.part == Part::Main && self.rings(now) => {
                let text =
                    "cron_restart: the run before is still at work; it is left to, and no other is started".into();
                out.push(Action::Report { instance: self.name.clone(), text });
                // Its health may be due at the same moment.
                self.answer(now, spec, Phase::Online { run, pid }, Input::Due, out)
            }
            (Phase::Waiting { until, scheduled, .. }, Input::Due) if now.mono >= until => {
                if scheduled {
                    self.came = self.alarm.take().map(|alarm| alarm.at);
                }
                Phase::Queued
            }
            (Phase::Stopping { run, pid, mut intent }, Input::Due) => {
                if now.mono >= intent.kill_at {
                    if intent.sent == Sent::ReloadSignal {
                        return self.send(now, run, pid, intent, out);
                    }
                    intent.sent = Sent::SigKill;
                    intent.kill_at = now.mono + KILL_AGAIN;
                    self.signal(&run, Some(&intent), kill_target(&run), Signal::KILL, out);
                }
                Phase::Stopping { run, pid, intent }
            }
            (Phase::Ending { run, pid, exit, left, intent, kill_at, again }, Input::Due) => {
                let kill_at = match kill_at {
                    Some(at) if now.mono >= at => {
                        self.signal(&run, intent.as_ref(), To::Tree, Signal::KILL, out);
                        Some(now.mono + KILL_AGAIN)
                    }
                    at => at,
                };
                Phase::Ending { run, pid, exit, left, intent, kill_at, again }
            }
            (Phase::Readying { run, pid, until: Some(until) }, Input::Due) if now.mono >= until => {
                self.end_ill(now, spec, run, pid, Why::asked(Cause::StartTimeout, None), out)
            }
            (Phase::Readying { mut run, pid, until }, Input::Due) => {
                ask(now, spec, &mut run, out);
                Phase::Readying { run, pid, until }
            }
            (Phase::Online { mut run, pid }, Input::Due) => {
                ask(now, spec, &mut run, out);
                Phase::Online { run, pid }
            }
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }),
                Input::Due,
            ) => phase,

            // What cannot come in this phase, or comes a second time after a crash of the daemon, changes nothing.
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Starting { .. }
                | Phase::Readying { .. }
                | Phase::Online { .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. }),
                Input::Turn { .. },
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Readying { .. }
                | Phase::Online { .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. }),
                Input::Spawned { .. } | Input::SpawnFailed { .. },
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Ending { .. }),
                Input::Exited { .. },
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Readying { .. }
                | Phase::Online { .. }
                | Phase::Stopping { .. }),
                Input::Finished { .. },
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. }),
                Input::OverCap { .. } | Input::OomKill { .. },
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Readying { until: None, .. }
                | Phase::Online { .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. }),
                Input::Ready,
            ) => phase,
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Readying { until: Some(_), .. }
                | Phase::Stopping { .. }
                | Phase::Ending { .. }),
                Input::Probed { .. } | Input::CheckChanged,
            ) => phase,
        }
    }

    /// Sees to it that the alarm is that of the present wish. `since`: times up to it are over; `None`: as far as is known here.
    pub(super) fn arm(&mut self, now: Now, spec: &Spec, calendar: Calendar, since: Option<Wall>) {
        let policy = &spec.policy;
        // A job that is done and now has times waits for them; one that has lost its times waits no more.
        match (&self.phase, self.want, policy.schedule()) {
            (Phase::Stopped, Want::Up, Some(cron)) => {
                let reason = format!("{SCHEDULED}{cron}");
                self.phase = Phase::Waiting { until: Mono(u64::MAX), shown: Wall(i64::MAX), reason, scheduled: true };
            }
            // With autorestart it is no job any more: it is to run.
            (Phase::Waiting { scheduled: true, .. }, Want::Up, None) if policy.autorestart => {
                self.phase = Phase::Queued
            }
            (Phase::Waiting { scheduled: true, .. }, _, None) => self.phase = Phase::Stopped,
            _ => {}
        }
        let cron = policy.cron_restart.as_ref().filter(|_| self.want == Want::Up);
        let Some(cron) = cron.filter(|_| !matches!(self.phase, Phase::Stopped | Phase::Errored { .. })) else {
            self.alarm = None;
            return;
        };
        let rings = matches!(self.phase, Phase::Online { .. } | Phase::Waiting { scheduled: true, .. });
        let stands = |alarm: &Alarm| alarm.cron == *cron && (rings || alarm.due > now.mono) && since.is_none();
        if !self.alarm.as_ref().is_some_and(stands) {
            self.alarm = (calendar.0)(cron, since.unwrap_or_else(|| self.not_again(now))).map(|at| {
                let jitter = backoff::jitter(self.seed, at.0.unsigned_abs() ^ u64::from(self.id.0), policy.jitter);
                let wait = u64::try_from(at.0.saturating_sub(now.wall.0)).unwrap_or(0);
                // Of a time that is already over the jitter may be over too.
                let late = u64::try_from(now.wall.0.saturating_sub(at.0)).unwrap_or(0);
                let due = now.mono + Millis(wait + jitter.0.saturating_sub(late));
                Alarm { cron: cron.clone(), at, shown: Wall(at.0.saturating_add_unsigned(jitter.0)), due }
            });
        }
        if let (Phase::Waiting { until, shown, reason, scheduled: true }, Some(alarm)) = (&mut self.phase, &self.alarm)
        {
            *until = alarm.due;
            *shown = alarm.shown;
            *reason = format!("{SCHEDULED}{cron}");
        }
    }

    /// Would arming it now change nothing?
    pub(super) fn is_armed(&self, now: Now, spec: &Spec, calendar: Calendar) -> bool {
        let scheduled = matches!(self.phase, Phase::Waiting { scheduled: true, .. });
        if spec.policy.cron_restart.is_none() && self.alarm.is_none() && !scheduled {
            return true;
        }
        // An alarm that stands is not weighed against the last run.
        let again = Instance::new(self.id, self.app.clone(), self.slot, String::new(), self.want);
        let mut again = Instance { phase: self.phase.clone(), alarm: self.alarm.clone(), ..again };
        again.arm(now, spec, calendar, None);
        again.phase == self.phase && again.alarm == self.alarm
    }

    /// The wall clock was set: a time that it went over comes now, once; any other is looked for anew.
    pub(super) fn clock_set(&mut self, now: Now, spec: &Spec, calendar: Calendar) {
        let Some(alarm) = self.alarm.take() else { return };
        let since = if alarm.at <= now.wall { Wall(alarm.at.0 - 1) } else { self.not_again(now) };
        self.arm(now, spec, calendar, Some(since));
    }

    /// Arms after a time in which no daemon was there. `begun`: a run that is not recalled yet.
    pub(super) fn catch_up(&mut self, now: Now, spec: &Spec, calendar: Calendar, begun: Option<Wall>) {
        let missed = now.wall.0.saturating_sub(CATCH_UP).saturating_sub_unsigned(spec.policy.jitter.0);
        let last = self.last_start().max(begun);
        let since = last.map_or(now.wall, |last| Wall((last.0 + APART).max(missed)));
        // What came while a job was at work was left out, and an app that starts after a time needs no restart for it. How long a lost
        // job was at work is not known.
        let at_work = self.last.as_ref().filter(|last| spec.policy.autorestart || last.cause != Cause::Lost);
        let since = at_work.map_or(since, |last| since.max(last.ended_at));
        self.arm(now, spec, calendar, Some(since));
    }

    /// From when on a time is looked for: what came already comes again only where the clock was set back far.
    fn not_again(&self, now: Now) -> Wall {
        let last = self.came.max(self.last_start()).unwrap_or(now.wall);
        if last.0 - now.wall.0 < SET_BACK { last.max(now.wall) } else { now.wall }
    }

    /// The last run's start.
    fn last_start(&self) -> Option<Wall> {
        let recorded = self.last.as_ref().and_then(|record| record.started_at);
        self.run().map(|run| run.started.wall).or(recorded)
    }

    /// Takes the alarm if its time has come.
    fn rings(&mut self, now: Now) -> bool {
        let came = self.alarm.take_if(|alarm| alarm.due <= now.mono).map(|alarm| alarm.at);
        self.came = came.or(self.came);
        came.is_some()
    }

    /// Is an app to be restarted, for its time has come? One that is being reloaded gets another run anyway.
    pub(super) fn rings_for_a_restart(&mut self, now: Now, spec: &Spec) -> bool {
        let online = matches!(self.phase, Phase::Online { .. }) && spec.policy.autorestart;
        online && self.rings(now) && !self.is_reloading()
    }

    /// When it next has something to do by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let alarm = self.alarm.as_ref().filter(|_| matches!(self.phase, Phase::Online { .. })).map(|alarm| alarm.due);
        self.phase.deadline().into_iter().chain(self.beside_deadline()).chain(alarm).min()
    }

    /// The run that lives, from the asking for its spawn to its record; of a reload, the one that counts.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.phase.run()
    }

    /// The main process, while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.phase {
            Phase::Readying { pid, .. } | Phase::Online { pid, .. } | Phase::Stopping { pid, .. } => Some(*pid),
            Phase::Stopped
            | Phase::Errored { .. }
            | Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ending { .. } => None,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Stopped => Status::Stopped,
            Phase::Errored { .. } => Status::Errored,
            Phase::Waiting { .. } => Status::Waiting,
            // Its end is wished, and waits for that of its dependents.
            Phase::Readying { .. } | Phase::Online { .. } if self.want != Want::Up => Status::Stopping,
            Phase::Queued | Phase::Starting { .. } | Phase::Readying { .. } => Status::Launching,
            Phase::Online { .. } => Status::Online,
            Phase::Stopping { .. } | Phase::Ending { .. } => Status::Stopping,
        }
    }

    /// A line of the journal.
    #[must_use]
    pub fn line(&self, run: RunId, seq: u64, entry: Entry) -> Line {
        Line {
            instance: self.name.clone(),
            id: self.id,
            run,
            seq,
            later: (self.last_run > run).then_some((self.last_run, self.seq)),
            tally: self.tally.clone(),
            streak: self.streak.clone(),
            entry,
        }
    }

    pub(super) fn write_start(&self, run: &Run, pid: i32, out: &mut Vec<Action>) {
        self.write(self.line(run.id, run.seq, Entry::Start { pid, at: run.started.wall }), out);
    }

    /// A run is begun; one that follows another is a restart.
    pub(super) fn begin(&mut self, run: RunId, seq: u64, part: &Part) {
        if self.last_run > RunId(0) {
            self.tally.restarts += 1;
            if *part == Part::Main && self.last.as_ref().is_some_and(|record| !record.planned) {
                self.tally.restarts_unplanned += 1;
            }
        }
        self.last_run = run;
        self.seq = seq;
    }

    /// Writes the record of a run that ended while nothing watched.
    pub fn lost(&mut self, now: Now, run: &Run, pid: i32, same_boot: bool, out: &mut Vec<Action>) {
        let record = Record {
            run: format!("{}#{}", self.name, run.seq),
            instance: self.name.clone(),
            pid: Some(pid),
            started_at: Some(run.started.wall),
            ended_at: now.wall,
            uptime_ms: None,
            left_behind: 0,
            exit_code: None,
            signal: None,
            core_dumped: false,
            signature: None,
            actor: None,
            memory: Memory { cap_bytes: run.spec.max_memory_restart.map(|bytes| bytes.0), ..Memory::default() },
            evidence: Evidence::default(),
            next: match self.want {
                Want::Up => self.at_its_time(&run.spec, now.mono).unwrap_or(Next {
                    action: NextAction::Restart,
                    delay_ms: Some(Millis(0)),
                    reason: "wanted up".into(),
                }),
                Want::Down | Want::Gone => {
                    Next { action: NextAction::Stop, delay_ms: None, reason: "wanted down".into() }
                }
            },
            ..with(cause::lost(same_boot))
        };
        self.write_end(run, now.mono, record, out);
    }

    pub(super) fn stop(&self, now: Now, run: Run, pid: i32, why: Why, out: &mut Vec<Action>) -> Phase {
        let kill_at = now.mono + run.spec.stop.kill_timeout;
        let intent = Intent { why, since: now.mono, kill_at, sent: Sent::Nothing, crossing: None };
        self.note_and_send(now, run, pid, intent, out)
    }

    /// An answer of its health check; the phase is one that asks for it.
    fn probed(&self, now: Now, spec: &Spec, phase: Phase, outcome: Outcome, out: &mut Vec<Action>) -> Phase {
        let (Phase::Readying { mut run, pid, .. } | Phase::Online { mut run, pid }) = phase else { return phase };
        let online = run.reached == Reached::Online;
        let finding = match (&mut run.health, &spec.readiness.health_check) {
            (Some(health), Some(check)) => health.answered(now, run.started.mono, check, outcome),
            (Some(_), None) | (None, Some(_) | None) => Finding::Nothing,
        };
        match finding {
            Finding::Ill => {
                let check = spec.readiness.health_check.as_ref();
                let answers = run.health.as_ref().zip(check).map(|(health, check)| health.evidence(check));
                let why = Why { grounds: answers.map(Grounds::Probe), ..Why::asked(Cause::HealthCheck, None) };
                self.end_ill(now, spec, run, pid, why, out)
            }
            Finding::Proven if !online => {
                run.reached = Reached::Online;
                self.say_reached(&run, out);
                Phase::Online { run, pid }
            }
            Finding::Proven | Finding::Nothing if online => Phase::Online { run, pid },
            Finding::Proven | Finding::Nothing => Phase::Readying { run, pid, until: None },
        }
    }

    /// How far a run has come is for the next daemon to know.
    fn say_reached(&self, run: &Run, out: &mut Vec<Action>) {
        out.push(Action::Note { run: run.id, note: self.note(run, None) });
    }

    /// Ends a run for its memory, and keeps what was seen.
    fn stop_over_cap(&self, now: Now, run: Run, pid: i32, crossing: Box<Crossing>, out: &mut Vec<Action>) -> Phase {
        let why = Why::asked(Cause::MemoryCap, None);
        let kill_at = now.mono + run.spec.stop.kill_timeout;
        let intent = Intent { why, since: now.mono, kill_at, sent: Sent::Nothing, crossing: Some(crossing) };
        self.note_and_send(now, run, pid, intent, out)
    }

    /// The kernel killed in the tree, and the app goes on: that is told, once.
    fn went_on(&self, now: Now, run: Run, killed: Killed, out: &mut Vec<Action>) -> Run {
        let Killed { mut oom, kernel_log } = killed;
        let kills = oom.own + oom.host;
        let cause = cause::of_kill(&oom);
        let fresh = kills.saturating_sub(run.kills);
        if fresh == 0 {
            return run;
        }
        (oom.own, oom.host) = if cause == Cause::OomKill { (fresh, 0) } else { (0, fresh) };
        let incident = Incident {
            run: format!("{}#{}", self.name, run.seq),
            instance: self.name.clone(),
            at: now.wall,
            cause,
            summary: cause::went_on(&run.spec, &oom),
            oom,
            kernel_log,
        };
        self.write(self.line(run.id, run.seq, Entry::Incident(Box::new(incident))), out);
        Run { kills, killed_at: Some(now.mono), ..run }
    }

    fn note_and_send(&self, now: Now, run: Run, pid: i32, intent: Intent, out: &mut Vec<Action>) -> Phase {
        out.push(Action::Note { run: run.id, note: self.note(&run, Some(intent.clone())) });
        self.send(now, run, pid, intent, out)
    }

    /// Sends the kill signal of a stop whose intent is noted. Noted again behind it: a daemon that begins meanwhile neither leaves
    /// the signal out nor sends it twice, for many a program takes a second one as a wish to end without grace.
    pub(super) fn send(&self, now: Now, run: Run, pid: i32, intent: Intent, out: &mut Vec<Action>) -> Phase {
        let to = match run.spec.stop.kill_mode {
            KillMode::Tree => To::Tree,
            KillMode::Mixed | KillMode::Main => To::Main,
        };
        out.push(Action::Signal { run: run.id, to, signal: run.spec.stop.kill_signal });
        // The grace period begins with the signal.
        let kill_at = now.mono + run.spec.stop.kill_timeout;
        let intent = Intent { kill_at, sent: Sent::KillSignal, ..intent };
        out.push(Action::Note { run: run.id, note: self.note(&run, Some(intent.clone())) });
        Phase::Stopping { run, pid, intent }
    }

    /// Sends a signal for somebody to the main process. It is noted before, for it may end the run; `false`: nothing lives.
    pub(super) fn send_for(&mut self, now: Now, signal: Signal, actor: &Actor, out: &mut Vec<Action>) -> bool {
        let signalled = Some(Signalled { signal, at: now.mono, actor: actor.clone() });
        let (run, intent) = match &mut self.phase {
            Phase::Readying { run, .. } | Phase::Online { run, .. } => (run, None),
            Phase::Stopping { run, intent, .. } => (run, Some(intent.clone())),
            Phase::Stopped
            | Phase::Errored { .. }
            | Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Starting { .. }
            | Phase::Ending { .. } => return false,
        };
        run.signalled = signalled;
        let run = run.clone();
        out.push(Action::Note { run: run.id, note: self.note(&run, intent) });
        out.push(Action::Signal { run: run.id, to: To::Main, signal });
        true
    }

    /// The main process ended: see to what it left; `None`: nobody has looked yet, the signals find nobody or those who have to go.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn ending(
        &self,
        now: Now,
        run: Run,
        pid: i32,
        exit: Exit,
        left: Option<u32>,
        intent: Option<Intent>,
        out: &mut Vec<Action>,
    ) -> Phase {
        let stop = &run.spec.stop;
        let sent = intent.as_ref().map_or(Sent::Nothing, |intent| intent.sent);
        let kill_at = match (&intent, stop.kill_mode, sent) {
            (_, KillMode::Main, _) => None,
            _ if left == Some(0) => None,
            (Some(intent), KillMode::Tree, Sent::KillSignal) => Some(intent.kill_at),
            (_, KillMode::Tree | KillMode::Mixed, Sent::Nothing | Sent::ReloadSignal) => {
                self.signal(&run, None, To::Tree, stop.kill_signal, out);
                Some(now.mono + stop.kill_timeout)
            }
            (_, KillMode::Tree | KillMode::Mixed, Sent::KillSignal | Sent::SigKill) => {
                self.signal(&run, intent.as_ref(), To::Tree, Signal::KILL, out);
                Some(now.mono + KILL_AGAIN)
            }
        };
        out.push(Action::Finish { run: run.id, tree: stop.kill_mode != KillMode::Main });
        // The policy has no say in the end of a stop: not even where the run ended by itself a moment before the signal.
        let again = self.want == Want::Up
            && intent
                .as_ref()
                .is_some_and(|intent| cause::is_planned(intent.why.cause) && intent.why.cause != Cause::Shutdown);
        Phase::Ending { run, pid, exit, left: left.unwrap_or(0), intent, kill_at, again }
    }

    /// Writes the record and goes on as the policy says.
    fn conclude(&mut self, spec: &Arc<Spec>, run: Run, verdict: Verdict, end: Ended, out: &mut Vec<Action>) -> Phase {
        let cause = verdict.cause;
        let next = self.decide(spec, &run, &verdict, &end);
        let record = Record {
            run: format!("{}#{}", self.name, run.seq),
            instance: self.name.clone(),
            pid: end.pid,
            started_at: Some(run.started.wall),
            ended_at: end.at.wall,
            uptime_ms: Some(end.uptime),
            exit_code: match end.status {
                Some(ExitStatus::Code(code)) => Some(code),
                Some(ExitStatus::Signal { .. }) | None => None,
            },
            signal: match end.status {
                Some(ExitStatus::Signal { signal, .. }) => Some(signal),
                Some(ExitStatus::Code(_)) | None => None,
            },
            core_dumped: matches!(end.status, Some(ExitStatus::Signal { core_dumped: true, .. })),
            signature: end.signature,
            actor: end.actor,
            memory: end.memory,
            evidence: end.evidence,
            left_behind: end.left,
            next: next.clone(),
            ..with(verdict)
        };
        self.write_end(&run, end.at.mono, record, out);
        out.push(Action::Forget { run: run.id });
        match next.action {
            NextAction::Restart if cause == Cause::Shutdown && next.delay_ms.is_none() => Phase::Queued,
            NextAction::Restart => match next.delay_ms.unwrap_or_default() {
                Millis(0) => Phase::Queued,
                delay => Phase::Waiting {
                    until: end.at.mono + delay,
                    shown: Wall(end.at.wall.0.saturating_add_unsigned(delay.0)),
                    scheduled: next.reason.starts_with(SCHEDULED),
                    reason: next.reason,
                },
            },
            NextAction::Stop | NextAction::Delete | NextAction::RunsOn => Phase::Stopped,
            NextAction::GiveUp => Phase::Errored { reason: next.reason },
        }
    }

    /// What follows, from the wish first, then from the policy.
    fn decide(&mut self, spec: &Arc<Spec>, run: &Run, verdict: &Verdict, end: &Ended) -> Next {
        let plain = |action, delay_ms, reason: &str| Next { action, delay_ms, reason: reason.to_owned() };
        // The successor of a run that is done and over is what comes back with stead.
        let stays = verdict.cause != Cause::Shutdown || run.part == Part::Predecessor || self.phase != Phase::Stopped;
        if run.part != Part::Main && self.want == Want::Up && stays {
            return self.other_stays(run);
        }
        // A run that lived long proves the app well, however it ended.
        if backoff::is_stable(&spec.policy, end.lived) {
            self.streak.short = 0;
            self.streak.delay = None;
            self.streak.starved = None;
        }
        match self.want {
            Want::Gone => return plain(NextAction::Delete, None, "deleted"),
            Want::Down => return plain(NextAction::Stop, None, "stopped on request"),
            Want::Up if end.again => return plain(NextAction::Restart, Some(Millis(0)), "asked for"),
            Want::Up => {}
        }
        // A job has its times, however it ends.
        let scheduled = self.at_its_time(spec, end.at.mono);
        match verdict.cause {
            Cause::Shutdown => scheduled.unwrap_or_else(|| plain(NextAction::Restart, None, "starts again with stead")),
            Cause::Manual | Cause::Reload | Cause::ConfigChange | Cause::Cron | Cause::Watch => {
                plain(NextAction::Restart, Some(Millis(0)), "asked for")
            }
            Cause::Success if verdict.planned => {
                let by = if spec.policy.autorestart { "stop_exit_codes" } else { "done, and autorestart is false" };
                scheduled.unwrap_or_else(|| plain(NextAction::Stop, None, by))
            }
            Cause::Success
            | Cause::ExitCode
            | Cause::Signal
            | Cause::CoreDump
            | Cause::MemoryCap
            | Cause::OomKill
            | Cause::OomKillHost
            | Cause::HealthCheck
            | Cause::StartTimeout
            | Cause::SpawnFailed
            | Cause::Lost => {
                let (uptime, at, starved) = (end.lived, end.at.mono, end.starved);
                let port = end.evidence.port.as_ref();
                let want = end.evidence.spawn.as_ref().filter(|failure| failure.is_for_want());
                let (cause, status) = (verdict.cause, end.status);
                let ended = UnplannedEnd { cause, status, uptime, at, starved, port, want };
                let mut next = backoff::after(&spec.policy, &mut self.streak, ended);
                if let Some(starved) = backoff::starved(&self.streak).filter(|_| next.action == NextAction::GiveUp) {
                    next.reason = cause::starves(spec, starved);
                }
                match (next.action, next.delay_ms) {
                    (NextAction::Stop, _) => scheduled.unwrap_or(next),
                    (NextAction::Restart, Some(delay)) => {
                        let more = backoff::jitter(self.seed, self.last_run.0, spec.policy.jitter);
                        Next { delay_ms: Some(Millis(delay.0 + more.0)), ..next }
                    }
                    _ => next,
                }
            }
        }
    }

    /// What follows the end of a job that runs by the clock.
    fn at_its_time(&self, spec: &Spec, ended: Mono) -> Option<Next> {
        let (cron, alarm) = spec.policy.schedule().zip(self.alarm.as_ref())?;
        let delay_ms = Some(alarm.due - ended);
        Some(Next { action: NextAction::Restart, delay_ms, reason: format!("{SCHEDULED}{cron}") })
    }

    fn write_end(&mut self, run: &Run, at: Mono, record: Record, out: &mut Vec<Action>) {
        self.tally.count(&record);
        let record = Box::new(record);
        if !self.last.as_ref().is_some_and(|last| last.outlasts(&record)) {
            self.last = Some(record.clone());
        }
        self.write(self.line(run.id, run.seq, Entry::End { record, at }), out);
    }

    pub(super) fn write(&self, line: Line, out: &mut Vec<Action>) {
        out.push(Action::Journal { app: self.app.clone(), line: Box::new(line) });
    }

    fn signal(&self, run: &Run, intent: Option<&Intent>, to: To, signal: Signal, out: &mut Vec<Action>) {
        if let Some(intent) = intent {
            out.push(Action::Note { run: run.id, note: self.note(run, Some(intent.clone())) });
        }
        out.push(Action::Signal { run: run.id, to, signal });
    }

    pub(super) fn note(&self, run: &Run, intent: Option<Intent>) -> RunNote {
        RunNote {
            id: self.id,
            app: self.app.to_string(),
            instance: self.name.clone(),
            seq: run.seq,
            revision: run.revision,
            intent,
            signalled: run.signalled.clone(),
            reload: match &run.part {
                Part::Successor { why } => Some(why.clone()),
                Part::Main | Part::Predecessor => None,
            },
            reached: run.reached,
        }
    }
}

/// What `conclude` needs of an end beside its verdict.
struct Ended {
    pid: Option<i32>,
    status: Option<ExitStatus>,
    at: Now,
    uptime: Millis,
    /// What the policy counts: up to its own end, or to the moment in which stead ended it for its memory; one that was never online did
    /// not live at all.
    lived: Millis,
    /// Bytes in use, where it ended at its own memory limit.
    starved: Option<u64>,
    again: bool,
    left: u32,
    memory: Memory,
    evidence: Evidence,
    signature: Option<String>,
    actor: Option<Actor>,
}

/// A record that holds a verdict and is else to be filled.
fn with(verdict: Verdict) -> Record {
    Record {
        run: String::new(),
        instance: String::new(),
        pid: None,
        started_at: None,
        ended_at: Wall(0),
        uptime_ms: None,
        cause: verdict.cause,
        planned: verdict.planned,
        confidence: verdict.confidence,
        summary: verdict.summary,
        exit_code: None,
        signal: None,
        core_dumped: false,
        signature: None,
        actor: None,
        memory: Memory::default(),
        evidence: Evidence::default(),
        left_behind: 0,
        next: Next { action: NextAction::Stop, delay_ms: None, reason: String::new() },
    }
}

/// A run that has been spawned: online, or on its way there. `heard`: by when what it said before would have been heard.
pub(super) fn on_trial(now: Now, spec: &Spec, mut run: Run, pid: i32, heard: Option<Mono>) -> Phase {
    if run.spec.readiness.wait_ready && run.reached == Reached::Spawned {
        let until = run.started.mono + spec.readiness.listen_timeout;
        return Phase::Readying { run, pid, until: Some(heard.map_or(until, |heard| until.max(heard))) };
    }
    run.reached = run.reached.max(Reached::Ready);
    ready(now, spec, run, pid)
}

/// A run of which nothing more is to be said by itself: its health is still to be seen, where it has a check.
fn ready(now: Now, spec: &Spec, mut run: Run, pid: i32) -> Phase {
    let online = run.reached == Reached::Online;
    let check = spec.readiness.health_check.as_ref();
    run.health = check.map(|_| Health::new(now.mono, run.started.mono, online));
    if run.health.is_some() && !online {
        return Phase::Readying { run, pid, until: None };
    }
    run.reached = Reached::Online;
    Phase::Online { run, pid }
}

/// Asks how it is, if it is time to.
fn ask(now: Now, spec: &Arc<Spec>, run: &mut Run, out: &mut Vec<Action>) {
    if run.health.as_mut().is_some_and(|health| health.ask(now.mono)) {
        out.push(Action::Probe { run: run.id, spec: spec.clone() });
    }
}

fn down(gone: bool) -> Want {
    if gone { Want::Gone } else { Want::Down }
}

fn kill_target(run: &Run) -> To {
    match run.spec.stop.kill_mode {
        KillMode::Tree | KillMode::Mixed => To::Tree,
        KillMode::Main => To::Main,
    }
}
