//! Whether a live run is well: the answers of its health check, and what they add up to.

use super::clock::{Millis, Mono, Now, Wall};
use super::spec::HealthCheck;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Until a run was well once it is asked this often: people wait for it to come up.
const WARMING_UP: Millis = Millis(1_000);

/// Answers that are kept, as docker keeps them.
const KEPT: usize = 5;

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ok: bool,
    /// What was answered, or what went wrong: `HTTP 503 Service Unavailable`, `connection refused`.
    pub said: String,
    pub took: Millis,
}

/// An answer that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub at: Wall,
    pub ok: bool,
    pub said: String,
    pub took_ms: Millis,
}

/// The health of a run that is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `None`: it has been asked, and the answer is still to come.
    next: Option<Mono>,
    /// In a row; those of the start period are not among them.
    pub failures: u32,
    /// The last failure that counted, or the start of the run.
    counted: Mono,
    /// It was well at least once.
    proven: bool,
    /// By its last answer.
    pub well: bool,
    /// The newest last.
    pub answers: VecDeque<Answer>,
}

/// What an answer adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Nothing,
    /// It is well for the first time.
    Proven,
    /// It failed too often in a row.
    Ill,
}

impl Health {
    /// To be asked at once. `proven`: it is known to have been well.
    #[must_use]
    pub fn new(now: Mono, started: Mono, proven: bool) -> Health {
        Health { next: Some(now), failures: 0, counted: started, proven, well: proven, answers: VecDeque::new() }
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.next
    }

    /// Whether it is to be asked now; then an answer is awaited.
    pub fn ask(&mut self, now: Mono) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// Counts an answer. One that was not asked for counts nothing.
    pub fn answered(&mut self, now: Now, started: Mono, check: &HealthCheck, outcome: Outcome) -> Finding {
        if self.next.is_some() {
            return Finding::Nothing;
        }
        let Outcome { ok, said, took } = outcome;
        self.answers.push_back(Answer { at: now.wall, ok, said, took_ms: took });
        while self.answers.len() > KEPT {
            self.answers.pop_front();
        }
        self.well = ok;
        let first = ok && !self.proven;
        self.proven |= ok;
        self.next = Some(now.mono + if self.proven { check.interval } else { check.interval.min(WARMING_UP) });
        if ok {
            self.failures = 0;
            return if first { Finding::Proven } else { Finding::Nothing };
        }
        // One that was never well is asked more often than its interval says, and judged no sooner.
        let over = now.mono >= started + check.start_period && now.mono - self.counted >= check.interval;
        if self.proven || over {
            self.failures += 1;
            self.counted = now.mono;
        }
        if self.failures >= check.retries { Finding::Ill } else { Finding::Nothing }
    }

    /// What an end for its health rests on.
    #[must_use]
    pub fn evidence(&self, check: &HealthCheck) -> Value {
        json!({ "check": check.probe.to_string(), "failures": self.failures, "answers": self.answers })
    }

    /// `health check: HTTP 503 (2 of 3 failures)`, while it is not well.
    #[must_use]
    pub fn complaint(&self, check: &HealthCheck) -> Option<String> {
        let last = self.answers.back().filter(|answer| !answer.ok)?;
        Some(format!("health check: {} ({} of {} failures)", last.said, self.failures, check.retries))
    }
}

/// The last answer of an evidence, to be put behind a summary.
#[must_use]
pub fn last_words(evidence: &Value) -> Option<String> {
    let said = evidence["answers"].as_array()?.last()?["said"].as_str()?;
    let times = evidence["failures"].as_u64()?;
    let (check, times) =
        (evidence["check"].as_str()?, if times == 1 { "once".into() } else { format!("{times} times in a row") });
    Some(format!(" {times}: {check}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::spec::Probe;

    fn check(interval: u64, start_period: u64) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp("127.0.0.1:5000".into()),
            interval: Millis(interval),
            timeout: Millis(30_000),
            retries: 3,
            start_period: Millis(start_period),
        }
    }

    /// Asked and answered with a failure whenever it is due, until it is ill: when that is.
    fn ill_at(check: &HealthCheck, mut health: Health) -> u64 {
        for _ in 0..10_000 {
            let at = health.deadline().expect("it is asked again");
            assert!(health.ask(at));
            let outcome = Outcome { ok: false, said: "connection refused".into(), took: Millis(0) };
            if health.answered(Now { mono: at, wall: Wall(0) }, Mono(0), check, outcome) == Finding::Ill {
                return at.0;
            }
        }
        panic!("never ill");
    }

    #[test]
    fn one_that_never_comes_up_is_judged_when_docker_would() {
        assert_eq!(ill_at(&check(30_000, 0), Health::new(Mono(0), Mono(0), false)), 90_000);
        assert_eq!(ill_at(&check(500, 0), Health::new(Mono(0), Mono(0), false)), 1_500);
        assert_eq!(ill_at(&check(1_000, 10_000), Health::new(Mono(0), Mono(0), false)), 12_000);
    }

    #[test]
    fn one_that_was_well_is_judged_by_its_failures_whatever_the_start_period() {
        assert_eq!(ill_at(&check(1_000, 60_000), Health::new(Mono(5_000), Mono(0), true)), 7_000);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_counts_nothing() {
        let mut health = Health::new(Mono(0), Mono(0), true);
        let outcome = Outcome { ok: false, said: String::new(), took: Millis(0) };
        assert_eq!(health.answered(Now::default(), Mono(0), &check(1, 0), outcome), Finding::Nothing);
        assert_eq!(health.failures, 0);
    }
}
