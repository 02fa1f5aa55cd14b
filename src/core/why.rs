//! `stead why`, decided: which ends are asked about, how they are counted, and what stead itself did to make them so many.

use super::backoff::STABLE;
use super::clock::{Millis, Wall};
use super::record::{Cause, CauseCount, NextAction};
use super::spec::Policy;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The few fields of a record that decide whether it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Brief<'a> {
    #[serde(borrow)]
    pub run: Cow<'a, str>,
    #[serde(borrow)]
    pub instance: Cow<'a, str>,
    pub ended_at: Wall,
    pub uptime_ms: Option<Millis>,
    pub cause: Cause,
    pub planned: bool,
    #[serde(borrow)]
    pub signature: Option<Cow<'a, str>>,
    pub next: BriefNext,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct BriefNext {
    pub action: NextAction,
}

/// Which ends are asked about: those that pass every part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Empty: whatever the cause.
    pub causes: Vec<Cause>,
    pub since: Option<Wall>,
    /// `flask-app#3`, or `3` of any instance.
    pub run: Option<String>,
}

impl Filter {
    #[must_use]
    pub fn takes(&self, end: &Brief<'_>) -> bool {
        (self.causes.is_empty() || self.causes.contains(&end.cause))
            && self.since.is_none_or(|since| end.ended_at >= since)
            && self.run.as_ref().is_none_or(|run| is_run(&end.run, run))
    }

    /// The counters know causes and no times: where nothing else is asked, they answer for ends whose records are gone, too.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.since.is_none() && self.run.is_none()
    }
}

fn is_run(run: &str, asked: &str) -> bool {
    run == asked || run.rsplit_once('#').is_some_and(|(_, seq)| seq == asked.trim_start_matches('#'))
}

/// Counts ends as a tally does.
#[derive(Clone, Debug, Default)]
pub struct Counted(BTreeMap<(Cause, Option<String>), CauseCount>);

impl Counted {
    pub fn add(&mut self, end: &Brief<'_>) {
        let signature = end.signature.as_deref().map(str::to_owned);
        let row = self.0.entry((end.cause, signature.clone())).or_insert_with(|| CauseCount {
            cause: end.cause,
            signature,
            count: 0,
            first_at: end.ended_at,
            last_at: end.ended_at,
        });
        row.count += 1;
        row.first_at = row.first_at.min(end.ended_at);
        row.last_at = row.last_at.max(end.ended_at);
    }

    /// Most frequent first.
    #[must_use]
    pub fn rows(self) -> Vec<CauseCount> {
        let mut rows: Vec<CauseCount> = self.0.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.count, row.last_at)));
        rows
    }
}

/// Restarts in a row from which on the policy is spoken of.
const LOOP_RESTARTS: u64 = 5;

/// Slower than one in this time, nobody calls it eager.
const EAGER: Millis = Millis(10_000);

/// What stead itself did in the newest row of ends, and by which attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eager {
    pub instance: String,
    pub restarts: u64,
    pub within_ms: Millis,
    /// One sentence.
    pub text: String,
}

/// The newest ends of an instance that nobody asked for, as far back as one followed the other.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    restarts: u64,
    short: u64,
    ends: u64,
    newest: Option<Wall>,
    oldest: Wall,
    gave_up: bool,
    broken: bool,
}

impl Streak {
    /// Takes the next older end. False: it is not of this row, and no older one is.
    pub fn take(&mut self, end: &Brief<'_>, policy: &Policy) -> bool {
        if self.broken || end.planned {
            self.broken = true;
            return false;
        }
        let uptime = end.uptime_ms.unwrap_or(STABLE);
        if self.newest.is_none() {
            self.newest = Some(end.ended_at);
            self.gave_up = end.next.action == NextAction::GiveUp;
        }
        self.ends += 1;
        self.oldest = end.ended_at;
        self.restarts += u64::from(end.next.action == NextAction::Restart);
        self.short += u64::from(uptime < policy.min_uptime);
        // Before a run that lived long there is another row.
        self.broken = uptime >= STABLE;
        true
    }

    /// What is to be said of it, where stead restarted fast and often.
    #[must_use]
    pub fn eager(&self, instance: &str, policy: &Policy) -> Option<Eager> {
        let within = Millis((self.newest?.0 - self.oldest.0).max(0) as u64);
        if self.restarts < LOOP_RESTARTS || within.0 / self.restarts > EAGER.0 {
            return None;
        }
        let Policy { min_uptime, restart_delay, exp_backoff_restart_delay, max_restarts, .. } = policy;
        let delay = match exp_backoff_restart_delay {
            Some(first) => format!("exp_backoff_restart_delay {first}"),
            None if restart_delay.0 == 0 => "restart_delay 0".into(),
            None => format!("restart_delay {restart_delay}"),
        };
        let gave_up = if self.gave_up { format!(", then it gave up (max_restarts {max_restarts})") } else { "".into() };
        let long = !self.gave_up && self.short * 2 < self.ends;
        let slower = exp_backoff_restart_delay.is_none() && restart_delay.0 == 0;
        let mut advice = String::new();
        if long {
            advice.push_str(
                "; most of these runs outlive min_uptime, so max_restarts does not count them: `min_uptime: 30s` would",
            );
        }
        if slower {
            advice.push_str("; `exp_backoff_restart_delay: 100` makes stead wait longer each time");
        }
        let restarts = self.restarts;
        let text = format!("min_uptime {min_uptime}, {delay}: {restarts} restarts in {within}{gave_up}{advice}");
        Some(Eager { instance: instance.to_owned(), restarts, within_ms: within, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(run: &str, cause: Cause, at: i64, uptime: u64) -> Brief<'_> {
        Brief {
            run: run.into(),
            instance: "web".into(),
            ended_at: Wall(at),
            uptime_ms: Some(Millis(uptime)),
            cause,
            planned: false,
            signature: None,
            next: BriefNext { action: NextAction::Restart },
        }
    }

    #[test]
    fn the_parts_of_a_filter_hold_together() {
        let end = end("web-1#3", Cause::OomKill, 1000, 5);
        let filter = |causes: &[Cause], since, run: Option<&str>| Filter {
            causes: causes.to_vec(),
            since,
            run: run.map(str::to_owned),
        };
        assert!(filter(&[], None, None).takes(&end));
        assert!(filter(&[Cause::Lost, Cause::OomKill], Some(Wall(1000)), Some("web-1#3")).takes(&end));
        assert!(filter(&[], None, Some("3")).takes(&end) && filter(&[], None, Some("#3")).takes(&end));
        assert!(!filter(&[Cause::Lost], None, None).takes(&end));
        assert!(!filter(&[], Some(Wall(1001)), None).takes(&end));
        for other in ["web#3", "web-1#33", "33", ""] {
            assert!(!filter(&[], None, Some(other)).takes(&end), "{other}");
        }
    }

    #[test]
    fn ends_are_counted_by_cause_and_signature() {
        let mut counted = Counted::default();
        let mut raised = end("web#2", Cause::ExitCode, 20, 5);
        raised.signature = Some("KeyError: 'x'".into());
        // Newest first, as the journal is read.
        for end in [&raised, &end("web#1", Cause::ExitCode, 15, 5), &Brief { ended_at: Wall(10), ..raised.clone() }] {
            counted.add(end);
        }
        let rows = counted.rows();
        assert_eq!((rows.len(), rows[0].count, rows[0].first_at, rows[0].last_at), (2, 2, Wall(10), Wall(20)));
        assert_eq!(rows[1].signature, None);
    }

    fn eager(policy: &Policy, ends: &[Brief<'_>]) -> Option<Eager> {
        let mut streak = Streak::default();
        for end in ends {
            streak.take(end, policy);
        }
        streak.eager("web", policy)
    }

    #[test]
    fn a_fast_loop_says_what_stead_did_and_by_which_attribute() {
        let policy = Policy { max_restarts: 1000, ..Policy::default() };
        let ends: Vec<Brief<'_>> = (0..40).rev().map(|n| end("web#1", Cause::ExitCode, n * 307, 200)).collect();
        let said = eager(&policy, &ends).unwrap();
        assert_eq!((said.restarts, said.within_ms), (40, Millis(11_973)));
        assert!(said.text.starts_with("min_uptime 1 s, restart_delay 0: 40 restarts in 11 s;"), "{}", said.text);
    }

    #[test]
    fn giving_up_and_runs_that_outlive_min_uptime_are_said() {
        let policy = Policy { exp_backoff_restart_delay: Some(Millis(100)), ..Policy::default() };
        let mut ends: Vec<Brief<'_>> = (0..16).rev().map(|n| end("web#1", Cause::ExitCode, n * 400, 200)).collect();
        ends[0].next.action = NextAction::GiveUp;
        let said = eager(&policy, &ends).unwrap().text;
        assert_eq!(
            said,
            "min_uptime 1 s, exp_backoff_restart_delay 100 ms: 15 restarts in 6 s, then it gave up (max_restarts 16)"
        );
        let ends: Vec<Brief<'_>> = (0..9).rev().map(|n| end("web#1", Cause::ExitCode, n * 1400, 1200)).collect();
        let said = eager(&Policy::default(), &ends).unwrap().text;
        assert!(said.contains("most of these runs outlive min_uptime"), "{said}");
    }

    #[test]
    fn slow_or_asked_for_restarts_are_no_loop() {
        let policy = Policy::default();
        let slow: Vec<Brief<'_>> = (0..9).rev().map(|n| end("web#1", Cause::ExitCode, n * 20_000, 200)).collect();
        assert_eq!(eager(&policy, &slow), None);
        let mut fast: Vec<Brief<'_>> = (0..9).rev().map(|n| end("web#1", Cause::ExitCode, n * 100, 50)).collect();
        fast[3].planned = true;
        assert_eq!(eager(&policy, &fast), None, "what is before a planned end is another story");
        fast[3].planned = false;
        fast[5].uptime_ms = Some(STABLE);
        assert_eq!(eager(&policy, &fast).unwrap().restarts, 6, "a run that lived long begins the row");
    }
}
