//! Who waits for what, and when it is answered.

use super::action::Action;
use super::command::{Failure, Reply};
use super::fleet::Fleet;
use super::instance::{Instance, Phase};
use super::name::{Id, RunId, Ticket};
use super::record::{Cause, Record};

/// A client that waits until all its goals are reached or out of reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    pub ticket: Ticket,
    pub goals: Vec<(Id, String, Goal)>,
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A run later than this one has been online, or it failed, or (a job) it is done.
    UpAfter(RunId),
    /// A run later than this one has taken over, and the one before it is gone.
    ReloadedAfter(RunId),
    /// Neither this run nor an earlier one lives.
    DownUpTo(RunId),
}

enum Progress {
    Reached,
    Failed(Failure),
    Open,
}

impl Fleet {
    /// Strikes the goals that are reached, or out of reach.
    pub(super) fn weigh(&mut self) {
        let mut waits = std::mem::take(&mut self.waits);
        for wait in &mut waits {
            let reply = &mut wait.reply;
            wait.goals.retain(|(id, name, goal)| match self.progress(*id, name, *goal) {
                Progress::Open => true,
                Progress::Reached => false,
                Progress::Failed(failure) => {
                    reply.failures.push(failure);
                    false
                }
            });
        }
        self.waits = waits;
    }

    /// Answers those who have nothing left to wait for.
    pub(super) fn answer(&mut self, out: &mut Vec<Action>) {
        self.weigh();
        let (done, open): (Vec<Wait>, Vec<Wait>) =
            std::mem::take(&mut self.waits).into_iter().partition(|wait| wait.goals.is_empty());
        self.waits = open;
        out.extend(done.into_iter().map(|wait| Action::Reply { ticket: wait.ticket, result: Ok(wait.reply) }));
    }
}

impl Fleet {
    fn progress(&self, id: Id, name: &str, goal: Goal) -> Progress {
        let instance = self.instances.get(&id);
        let blocked = instance.filter(|one| one.phase == Phase::Queued).and_then(|one| self.waits_for(one));
        match (goal, blocked) {
            (Goal::UpAfter(_) | Goal::ReloadedAfter(_), Some(unmet)) if !unmet.is_coming => {
                Progress::Failed(Failure { name: name.to_owned(), reason: unmet.text(), tail: Vec::new() })
            }
            _ => progress(instance, name, goal),
        }
    }
}

fn progress(instance: Option<&Instance>, name: &str, goal: Goal) -> Progress {
    let failed = |reason: String, tail: Vec<String>| Progress::Failed(Failure { name: name.to_owned(), reason, tail });
    match (goal, instance) {
        (Goal::DownUpTo(_), None) => Progress::Reached,
        (Goal::UpAfter(_) | Goal::ReloadedAfter(_), None) => failed("deleted meanwhile".into(), Vec::new()),
        // A later run: wanted up again by somebody else.
        (Goal::DownUpTo(last), Some(instance)) => match instance.runs().any(|run| run.id <= last) {
            true => Progress::Open,
            false => Progress::Reached,
        },
        (Goal::ReloadedAfter(_), Some(instance)) if instance.beside.is_some() => Progress::Open,
        (Goal::ReloadedAfter(after), Some(Instance { phase: Phase::Online { run, .. }, last_run, last, .. }))
            if run.id <= after =>
        {
            match last.as_ref().filter(|_| *last_run > after) {
                Some(record) => failed(
                    format!("{}; {name}#{} runs on", record.summary, run.seq),
                    record.evidence.stderr_tail.clone(),
                ),
                None => {
                    failed(format!("the reload of another instance failed; {name}#{} runs on", run.seq), Vec::new())
                }
            }
        }
        (Goal::UpAfter(after) | Goal::ReloadedAfter(after), Some(instance)) => match &instance.phase {
            Phase::Online { run, .. } if run.id > after => Progress::Reached,
            Phase::Queued if instance.last_run > after => match &instance.last {
                Some(record) if !record.planned => failed(record.summary.clone(), record.evidence.stderr_tail.clone()),
                Some(_) | None => Progress::Open,
            },
            Phase::Queued
            | Phase::Starting { .. }
            | Phase::Readying { .. }
            | Phase::Online { .. }
            | Phase::Stopping { .. }
            | Phase::Ending { .. } => Progress::Open,
            Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } => match &instance.last {
                Some(record) if instance.last_run > after && is_waited_for(instance, record) => {
                    failed(format!("{}; stead waits for it", record.summary), record.evidence.stderr_tail.clone())
                }
                Some(record) if instance.last_run > after && record.cause == Cause::Success => Progress::Reached,
                Some(record) if instance.last_run > after => {
                    failed(record.summary.clone(), record.evidence.stderr_tail.clone())
                }
                Some(_) | None => failed("stopped meanwhile".into(), Vec::new()),
            },
        },
    }
}

/// Will it be tried again once its port is free, or what the machine is short of is there?
fn is_waited_for(instance: &Instance, record: &Record) -> bool {
    record.evidence.is_blameless() && matches!(instance.phase, Phase::Waiting { .. })
}
