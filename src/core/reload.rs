//! A reload without a gap: the next run starts beside the present one, on the same listening sockets; when it is proven it takes
//! over, and the old one ends what it has begun.
//!
//! It is one instance with two runs: one name, one journal, one tally. The main run is in `phase`, the other in `beside`; until it is
//! proven the successor is beside, from then on the predecessor. Both answer by the same `match`; only what follows their end differs.

use super::action::{Action, Streak, To};
use super::clock::{Millis, Mono, Now};
use super::event::{Exit, Intent, Sent, Why};
use super::instance::{Input, Instance, Part, Phase, Run};
use super::name::RunId;
use super::record::{Cause, Next, NextAction};
use super::spec::Spec;
use std::sync::Arc;

/// The second of an instance's two runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Beside {
    /// A successor that waits for its turn.
    Awaited { why: Why },
    /// A successor, or a predecessor; the phase has a run.
    Living(Box<Phase>),
}

impl Beside {
    /// The second run's phase, while it has a run.
    #[must_use]
    pub fn phase(&self) -> Option<&Phase> {
        match self {
            Beside::Living(phase) => Some(phase),
            Beside::Awaited { .. } => None,
        }
    }
}

impl Instance {
    /// Every run that is not yet forgotten, the main one first.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.phases().filter_map(Phase::run)
    }

    /// The phase that a run of this instance is in.
    #[must_use]
    pub fn phase_of(&self, run: RunId) -> Option<&Phase> {
        self.phases().find(|phase| phase.run().is_some_and(|life| life.id == run))
    }

    #[must_use]
    pub fn lives(&self) -> bool {
        self.runs().next().is_some()
    }

    /// The phases of its runs, the main one's first.
    pub fn phases(&self) -> impl Iterator<Item = &Phase> {
        std::iter::once(&self.phase).chain(self.beside.as_ref().and_then(Beside::phase))
    }

    pub(super) fn phases_mut(&mut self) -> impl Iterator<Item = &mut Phase> {
        let second = match &mut self.beside {
            Some(Beside::Living(phase)) => Some(&mut **phase),
            Some(Beside::Awaited { .. }) | None => None,
        };
        std::iter::once(&mut self.phase).chain(second)
    }

    pub(super) fn successor(&self) -> Option<&Run> {
        let run = self.beside.as_ref().and_then(Beside::phase).and_then(Phase::run);
        run.filter(|run| matches!(run.part, Part::Successor { .. }))
    }

    /// Is there a successor, be it one that was given up and has not ended yet?
    pub(super) fn has_successor(&self) -> bool {
        self.successor().is_some()
    }

    /// Is a successor there, or to come?
    pub(super) fn is_reloading(&self) -> bool {
        self.has_successor() || matches!(self.beside, Some(Beside::Awaited { .. }))
    }

    /// Would a reload leave no gap? Only where both runs accept from the same sockets: whoever connects meanwhile waits in their queue.
    #[must_use]
    pub fn can_hand_over(&self, spec: &Spec) -> bool {
        let shared = |run: &Run| !spec.listen.is_empty() && run.spec.listen == spec.listen;
        matches!(&self.phase, Phase::Online { run, .. } if shared(run))
    }

    /// A new run is to take the place of the main run, which [can hand over](Instance::can_hand_over).
    pub(super) fn reload(&mut self, why: Why) {
        self.beside = Some(Beside::Awaited { why });
    }

    /// An input of the second run.
    pub(super) fn handle_beside(&mut self, now: Now, spec: &Arc<Spec>, input: Input, out: &mut Vec<Action>) {
        self.answer_beside(now, spec, input, out);
        self.hand_over(now, spec, out);
    }

    /// The turn of a successor.
    pub(super) fn turn_beside(&mut self, now: Now, spec: &Arc<Spec>, input: Input, out: &mut Vec<Action>) {
        let phase = self.answer(now, spec, Phase::Queued, input, out);
        self.beside = Some(Beside::Living(Box::new(phase)));
    }

    /// Wishes hold for both runs: whoever stops or restarts an instance means all of it. Time passes for both.
    pub(super) fn tell_beside(&mut self, now: Now, spec: &Arc<Spec>, input: &Input, out: &mut Vec<Action>) {
        match input {
            Input::Cycle { .. } | Input::Down { .. } | Input::End { .. } => match self.beside.take() {
                None | Some(Beside::Awaited { .. }) => {}
                Some(Beside::Living(phase)) => match *phase {
                    // Its patience is over.
                    Phase::Stopping { run, pid, intent } if intent.sent == Sent::ReloadSignal => {
                        let phase = self.send(now, run, pid, intent, out);
                        self.beside = Some(Beside::Living(Box::new(phase)));
                    }
                    phase => {
                        self.beside = Some(Beside::Living(Box::new(phase)));
                        self.answer_beside(now, spec, input.clone(), out);
                    }
                },
            },
            Input::Due | Input::CheckChanged => self.answer_beside(now, spec, input.clone(), out),
            Input::Up
            | Input::Turn { .. }
            | Input::Spawned { .. }
            | Input::SpawnFailed { .. }
            | Input::Exited { .. }
            | Input::OverCap { .. }
            | Input::OomKill { .. }
            | Input::Ready
            | Input::Probed { .. }
            | Input::Finished { .. } => {}
        }
    }

    /// The second run's deadline, or the moment at which it is proven.
    pub(super) fn beside_deadline(&self) -> Option<Mono> {
        let phase = self.beside.as_ref()?.phase()?;
        phase.deadline().into_iter().chain(proven_at(phase)).min()
    }

    /// Lets the successor take over, where its time has come: it is proven, or the main run ends by itself.
    pub(super) fn hand_over(&mut self, now: Now, spec: &Arc<Spec>, out: &mut Vec<Action>) {
        if let Some(Beside::Awaited { .. }) = self.beside {
            if !matches!(self.phase, Phase::Online { .. }) {
                // The ordinary next run serves the wish.
                self.beside = None;
                if let Phase::Ending { again, .. } = &mut self.phase {
                    *again = true;
                }
            }
            return;
        }
        let Some(next) = self.beside.as_ref().and_then(Beside::phase) else { return };
        let Some(why) = candidate(next).cloned() else { return };
        let main_lives = matches!(self.phase, Phase::Readying { .. } | Phase::Online { .. } | Phase::Stopping { .. });
        if main_lives && proven_at(next).is_none_or(|at| at > now.mono) {
            return;
        }
        let Some(Beside::Living(next)) = self.beside.take() else { return };
        // A wish has come true; one that fails changes nothing, not even what is counted against the app.
        self.streak = Streak::default();
        let old = std::mem::replace(&mut self.phase, with_part(*next, Part::Main));
        let old = match with_part(old, Part::Predecessor) {
            Phase::Readying { run, pid, .. } | Phase::Online { run, pid } => {
                self.relieve(now, spec, run, pid, why, out)
            }
            old => old,
        };
        // Behind the old one's note, which alone says already who has taken over from whom, and why.
        if let Some(run) = self.phase.run() {
            out.push(Action::Note { run: run.id, note: self.note(run, None) });
        }
        self.beside = old.run().is_some().then(|| Beside::Living(Box::new(old)));
    }

    /// Ends a run that did not come up, or does not answer any more.
    pub(super) fn end_ill(&self, now: Now, spec: &Spec, run: Run, pid: i32, why: Why, out: &mut Vec<Action>) -> Phase {
        if leaves(&run.part, why.cause) {
            self.relieve(now, spec, run, pid, why, out)
        } else {
            self.stop(now, run, pid, why, out)
        }
    }

    /// Ends a run of a reload that [leaves] its sockets to the other.
    pub(super) fn relieve(&self, now: Now, spec: &Spec, run: Run, pid: i32, why: Why, out: &mut Vec<Action>) -> Phase {
        if spec.reload.reload_timeout == Millis(0) {
            return self.stop(now, run, pid, why, out);
        }
        let kill_at = now.mono + spec.reload.reload_timeout;
        let intent = Intent { why, since: now.mono, kill_at, sent: Sent::Nothing, crossing: None };
        out.push(Action::Note { run: run.id, note: self.note(&run, Some(intent.clone())) });
        self.send_reload_signal(now, spec, run, pid, intent, out)
    }

    /// Sends the reload signal of an intent that is noted, and notes that it is sent.
    pub(super) fn send_reload_signal(
        &self,
        now: Now,
        spec: &Spec,
        run: Run,
        pid: i32,
        intent: Intent,
        out: &mut Vec<Action>,
    ) -> Phase {
        out.push(Action::Signal { run: run.id, to: To::Main, signal: spec.reload.reload_signal });
        let kill_at = now.mono + spec.reload.reload_timeout;
        let intent = Intent { kill_at, sent: Sent::ReloadSignal, ..intent };
        out.push(Action::Note { run: run.id, note: self.note(&run, Some(intent.clone())) });
        Phase::Stopping { run, pid, intent }
    }

    /// Says so where a run that leaves took longer than it may.
    pub(super) fn patience_ended(&self, spec: &Spec, run: &Run, intent: &Intent, exit: &Exit) -> Option<String> {
        let reload = &spec.reload;
        let relieved = leaves(&run.part, intent.why.cause);
        let late = reload.reload_timeout > Millis(0) && exit.at.mono - intent.since >= reload.reload_timeout;
        let said = format!("; {} did not end it within reload_timeout {}", reload.reload_signal, reload.reload_timeout);
        (relieved && late).then_some(said)
    }

    /// What follows the end of the second run: nothing, for there is the other.
    pub(super) fn other_stays(&self, run: &Run) -> Next {
        let reason = match (&run.part, &self.phase) {
            (Part::Predecessor, phase) => match phase.run() {
                Some(next) => format!("{}#{} has taken its place", self.name, next.seq),
                None => "another run has taken its place".into(),
            },
            (Part::Main | Part::Successor { .. }, Phase::Online { run, .. }) => {
                format!("{}#{} runs on", self.name, run.seq)
            }
            (Part::Main | Part::Successor { .. }, _) => "the reload was given up".into(),
        };
        Next { action: NextAction::RunsOn, delay_ms: None, reason }
    }

    fn answer_beside(&mut self, now: Now, spec: &Arc<Spec>, input: Input, out: &mut Vec<Action>) {
        let Some(Beside::Living(phase)) = self.beside.take() else { return };
        let phase = self.answer(now, spec, *phase, input, out);
        if phase.run().is_some() {
            self.beside = Some(Beside::Living(Box::new(phase)));
        }
    }
}

/// Does a run that ends for this cause leave connections to the other that it shares its sockets with? It may have accepted some
/// already, the successor that was never ready too: it ends what it has begun.
pub(super) fn leaves(part: &Part, cause: Cause) -> bool {
    match part {
        Part::Main => false,
        Part::Successor { .. } => matches!(cause, Cause::StartTimeout | Cause::HealthCheck),
        Part::Predecessor => cause == Cause::Reload,
    }
}

/// Why it is to take over, where it is a successor that nobody has given up.
fn candidate(phase: &Phase) -> Option<&Why> {
    match phase {
        Phase::Starting { run: Run { part: Part::Successor { why }, .. }, then: None }
        | Phase::Readying { run: Run { part: Part::Successor { why }, .. }, .. }
        | Phase::Online { run: Run { part: Part::Successor { why }, .. }, .. } => Some(why),
        Phase::Starting { .. }
        | Phase::Readying { .. }
        | Phase::Online { .. }
        | Phase::Stopping { .. }
        | Phase::Ending { .. }
        | Phase::Stopped
        | Phase::Errored { .. }
        | Phase::Waiting { .. }
        | Phase::Queued => None,
    }
}

/// When a successor may take over: as soon as it has said that it is ready, where it is to say so; else when it has lived for
/// `min_uptime`, be it found well before: whoever asks on a port that both share may be answered by the other.
fn proven_at(phase: &Phase) -> Option<Mono> {
    match phase {
        Phase::Online { run: run @ Run { part: Part::Successor { .. }, .. }, .. } => {
            let wait = if run.spec.readiness.wait_ready { Millis(0) } else { run.spec.policy.min_uptime };
            Some(run.started.mono + wait)
        }
        Phase::Online { .. }
        | Phase::Readying { .. }
        | Phase::Starting { .. }
        | Phase::Stopping { .. }
        | Phase::Ending { .. }
        | Phase::Stopped
        | Phase::Errored { .. }
        | Phase::Waiting { .. }
        | Phase::Queued => None,
    }
}

fn with_part(mut phase: Phase, part: Part) -> Phase {
    if let Phase::Starting { run, .. }
    | Phase::Readying { run, .. }
    | Phase::Online { run, .. }
    | Phase::Stopping { run, .. }
    | Phase::Ending { run, .. } = &mut phase
    {
        run.part = part;
    }
    phase
}
