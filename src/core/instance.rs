//! One instance: what people want of it, the phase it is in, and its past.
//!
//! Every phase answers every event; the compiler proves it. A restart is an end while the instance is wanted up: no flag says so.

use super::action::{Action, Entry, Line, Order, Streak, To};
use super::backoff::{self, UnplannedEnd};
use super::cause::{self, Verdict};
use super::clock::{Millis, Mono, Now, Wall};
use super::event::{Exit, ExitStatus, Facts, Grounds, Intent, Killed, RunNote, Sent, Why};
use super::name::{AppName, Id, RunId};
use super::record::{Cause, Crossing, Evidence, Incident, Memory, Next, NextAction, Oom, Record, SpawnFailure, Tally};
use super::signature;
use super::spec::{Env, KillMode, OomPolicy, Signal, Spec};
use super::view::Status;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An end so soon after a kill in its tree is what came of the kill: a shell that exits with its child's status, say.
const AFTERMATH: Millis = Millis(2_000);

/// A process that SIGKILL did not end is in the kernel's hands; it is asked again this often.
const KILL_AGAIN: Millis = Millis(1000);

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
    /// Kills by the kernel in its tree that the journal tells of.
    pub kills: u64,
    /// When the last of them was told; `None`: by a daemon before.
    pub killed_at: Option<Mono>,
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
    /// In backoff.
    Waiting {
        until: Mono,
        shown: Wall,
        reason: String,
    },
    /// Wants to start and waits for its turn.
    Queued,
    /// The spawn has been asked for. `then`: a stop was wished meanwhile.
    Starting {
        run: Run,
        then: Option<Why>,
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
    },
    Spawned {
        pid: i32,
        at: Now,
    },
    SpawnFailed {
        failure: SpawnFailure,
    },
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
    pub seq: u64,
    pub last_run: RunId,
    pub tally: Tally,
    pub streak: Streak,
    pub last: Option<Box<Record>>,
}

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
            seq: 0,
            last_run: RunId(0),
            tally: Tally::default(),
            streak: Streak::default(),
            last: None,
        }
    }

    /// Answers an input. `spec` is the app's present wish.
    pub fn handle(&mut self, now: Now, spec: &Arc<Spec>, input: Input, out: &mut Vec<Action>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Stopped);
        self.phase = match (phase, input) {
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
            (phase @ Phase::Online { .. }, Input::Up) => {
                self.want = Want::Up;
                phase
            }
            (Phase::Online { run, pid }, Input::Cycle { why }) => {
                self.want = Want::Up;
                self.streak = Streak::default();
                self.stop(now, run, pid, why, out)
            }
            (Phase::Online { run, pid }, Input::Down { why, gone }) => {
                self.want = down(gone);
                self.stop(now, run, pid, why, out)
            }
            (Phase::Online { run, pid }, Input::End { why }) => self.stop(now, run, pid, why, out),
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
            (Phase::Queued, Input::Turn { run: id, environment, revision }) => {
                self.begin(id, self.seq + 1);
                let run =
                    Run { id, seq: self.seq, started: now, spec: spec.clone(), revision, kills: 0, killed_at: None };
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
                    None => Phase::Online { run, pid },
                    Some(why) => self.stop(now, run, pid, why, out),
                }
            }
            (Phase::Starting { run, .. }, Input::SpawnFailed { failure }) => {
                let verdict = cause::spawn_failed(&run.spec, &failure);
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
                    evidence: Evidence { spawn: Some(failure), ..Evidence::default() },
                    signature: None,
                    actor: None,
                };
                self.conclude(spec, run, verdict, end, out)
            }
            (Phase::Online { run, pid }, Input::OomKill { killed }) => match run.spec.allowance.oom_policy {
                OomPolicy::Kill => self.stop(now, run, pid, Why::asked(cause::of_kill(&killed.oom), None), out),
                OomPolicy::Continue => Phase::Online { run: self.went_on(now, run, *killed, out), pid },
            },
            (Phase::Online { run, pid }, Input::OverCap { crossing }) => {
                self.stop_over_cap(now, run, pid, crossing, out)
            }
            (Phase::Online { run, pid }, Input::Exited { exit, left }) => {
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
                let acted_at = intent.as_ref().map(|intent| intent.since);
                let why = intent.map(|intent| intent.why);
                let mut verdict = cause::verdict(spec, why.as_ref(), &exit, uptime, &facts);
                if let Some(crossing) = crossing.as_ref().filter(|_| verdict.cause == Cause::MemoryCap) {
                    verdict.summary.push_str(&cause::crossed(spec, crossing));
                }
                let used = crossing.as_ref().map(|crossing| crossing.usage_bytes).max(facts.memory.last_bytes);
                let (lived, starved) = match verdict.cause {
                    Cause::MemoryCap => (acted_at.unwrap_or(exit.at.mono) - run.started.mono, used),
                    Cause::OomKill => {
                        (acted_at.unwrap_or(exit.at.mono) - run.started.mono, spec.wall().map(|wall| wall.0).max(used))
                    }
                    _ => (uptime, None),
                };
                // In any other end a traceback in the log is no more than that: Python writes one when it is asked to end.
                let exception = facts.exception.filter(|_| verdict.cause == Cause::ExitCode);
                let signature = exception.as_ref().map(|one| signature::signature(&one.kind, &one.message));
                let (actor, grounds) = why.map_or((None, None), |why| (why.actor, why.grounds));
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
                    lived,
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
                        stderr_tail: facts.stderr_tail,
                        exception,
                        oom: facts.oom,
                        kernel_log: facts.kernel_log,
                        cap_crossed_at: crossing.as_ref().map(|crossing| crossing.at),
                        cap_crossing: crossing.map(|crossing| *crossing),
                        watch_path,
                        probe,
                        ..Evidence::default()
                    },
                    signature,
                    actor,
                };
                self.conclude(spec, run, verdict, end, out)
            }

            // Time.
            (Phase::Waiting { until, .. }, Input::Due) if now.mono >= until => Phase::Queued,
            (Phase::Stopping { run, pid, mut intent }, Input::Due) => {
                if now.mono >= intent.kill_at {
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
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Starting { .. }
                | Phase::Online { .. }),
                Input::Due,
            ) => phase,

            // What cannot come in this phase, or comes a second time after a crash of the daemon, changes nothing.
            (
                phase @ (Phase::Stopped
                | Phase::Errored { .. }
                | Phase::Waiting { .. }
                | Phase::Starting { .. }
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
        };
    }

    /// When it next has something to do by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Stopping { intent, .. } => Some(intent.kill_at),
            Phase::Ending { kill_at, .. } => *kill_at,
            Phase::Stopped | Phase::Errored { .. } | Phase::Queued | Phase::Starting { .. } | Phase::Online { .. } => {
                None
            }
        }
    }

    /// The run that lives, from the asking for its spawn to its record.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Starting { run, .. }
            | Phase::Online { run, .. }
            | Phase::Stopping { run, .. }
            | Phase::Ending { run, .. } => Some(run),
            Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Queued => None,
        }
    }

    /// The main process, while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.phase {
            Phase::Online { pid, .. } | Phase::Stopping { pid, .. } => Some(*pid),
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
            Phase::Queued | Phase::Starting { .. } => Status::Launching,
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
            tally: self.tally.clone(),
            streak: self.streak.clone(),
            entry,
        }
    }

    pub(super) fn write_start(&self, run: &Run, pid: i32, out: &mut Vec<Action>) {
        self.write(self.line(run.id, run.seq, Entry::Start { pid, at: run.started.wall }), out);
    }

    /// A run is begun; one that follows another is a restart.
    pub(super) fn begin(&mut self, run: RunId, seq: u64) {
        if self.last_run > RunId(0) {
            self.tally.restarts += 1;
            if self.last.as_ref().is_some_and(|record| !record.planned) {
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
                Want::Up => Next { action: NextAction::Restart, delay_ms: Some(Millis(0)), reason: "wanted up".into() },
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
            (_, KillMode::Tree | KillMode::Mixed, Sent::Nothing) => {
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
        let next = self.decide(spec, &verdict, &end);
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
            NextAction::Restart if cause == Cause::Shutdown => Phase::Queued,
            NextAction::Restart => match next.delay_ms.unwrap_or_default() {
                Millis(0) => Phase::Queued,
                delay => Phase::Waiting {
                    until: end.at.mono + delay,
                    shown: Wall(end.at.wall.0.saturating_add_unsigned(delay.0)),
                    reason: next.reason,
                },
            },
            NextAction::Stop | NextAction::Delete => Phase::Stopped,
            NextAction::GiveUp => Phase::Errored { reason: next.reason },
        }
    }

    /// What follows, from the wish first, then from the policy.
    fn decide(&mut self, spec: &Arc<Spec>, verdict: &Verdict, end: &Ended) -> Next {
        let plain = |action, delay_ms, reason: &str| Next { action, delay_ms, reason: reason.to_owned() };
        // A run that lived long proves the app well, however it ended.
        if backoff::is_stable(&spec.policy, end.uptime) {
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
        match verdict.cause {
            Cause::Shutdown => plain(NextAction::Restart, None, "starts again with stead"),
            Cause::Manual | Cause::Reload | Cause::ConfigChange | Cause::Cron | Cause::Watch => {
                plain(NextAction::Restart, Some(Millis(0)), "asked for")
            }
            Cause::Success if verdict.planned => {
                let by = if spec.policy.autorestart { "stop_exit_codes" } else { "done, and autorestart is false" };
                plain(NextAction::Stop, None, by)
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
                let ended = UnplannedEnd { status: end.status, uptime, at, starved };
                let mut next = backoff::after(&spec.policy, &mut self.streak, ended);
                if let Some(starved) = backoff::starved(&self.streak).filter(|_| next.action == NextAction::GiveUp) {
                    next.reason = cause::starves(spec, starved);
                }
                next
            }
        }
    }

    fn write_end(&mut self, run: &Run, at: Mono, record: Record, out: &mut Vec<Action>) {
        self.tally.count(&record);
        let record = Box::new(record);
        self.last = Some(record.clone());
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

    fn note(&self, run: &Run, intent: Option<Intent>) -> RunNote {
        RunNote {
            id: self.id,
            app: self.app.to_string(),
            instance: self.name.clone(),
            seq: run.seq,
            revision: run.revision,
            intent,
        }
    }
}

/// What `conclude` needs of an end beside its verdict.
struct Ended {
    pid: Option<i32>,
    status: Option<ExitStatus>,
    at: Now,
    uptime: Millis,
    /// Up to its own end, or to the moment in which stead ended it for its memory.
    lived: Millis,
    /// Bytes in use, where it ended at its own memory limit.
    starved: Option<u64>,
    again: bool,
    left: u32,
    memory: Memory,
    evidence: Evidence,
    signature: Option<String>,
    actor: Option<super::record::Actor>,
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

fn down(gone: bool) -> Want {
    if gone { Want::Gone } else { Want::Down }
}

fn kill_target(run: &Run) -> To {
    match run.spec.stop.kill_mode {
        KillMode::Tree | KillMode::Mixed => To::Tree,
        KillMode::Main => To::Main,
    }
}
