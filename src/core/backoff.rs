//! Whether, and after how long, a run is followed by another.

use super::action::{Starved, Streak};
use super::clock::{Millis, Mono};
use super::event::ExitStatus;
use super::record::{Cause, Next, NextAction, SpawnFailure, TakenPort};
use super::spec::{EndKind, Policy, Reaction};

/// A run that lives this long proves the app well: counts and delays start again. PM2's EXP_BACKOFF_RESET_TIMER.
pub const STABLE: Millis = Millis(30_000);

/// A spawn that fails does so at once: without a pause all tries would be over before what is missing could come, and a large
/// `max_restarts` would keep the daemon busy with nothing else.
pub const SPAWN_AGAIN: Millis = Millis(100);

/// The first delay of `restart_on: backoff` where `exp_backoff_restart_delay` says nothing. PM2's example.
pub const FIRST_DELAY: Millis = Millis(100);

/// The longest delay of the exponential backoff. PM2's.
pub const LONGEST_DELAY: Millis = Millis(15_000);

/// The first delay of one whose port is taken, or for which the machine is short of something: who has it may be on its way out.
pub const TRY_AGAIN: Millis = Millis(1_000);

/// Unplanned ends in [`LOOP_WINDOW`] that are called a crash loop.
pub const LOOP_ENDS: usize = 10;
pub const LOOP_WINDOW: Millis = Millis(600_000);

/// Why nothing follows an end of an app that is not to be started again.
pub const NO_AUTORESTART: &str = "autorestart is false";

/// An end that nobody asked for.
#[derive(Clone, Copy, Debug)]
pub struct UnplannedEnd<'a> {
    pub cause: Cause,
    /// `None`: the spawn failed.
    pub status: Option<ExitStatus>,
    /// What stead itself ended for its memory lived up to that moment.
    pub uptime: Millis,
    pub at: Mono,
    /// Bytes in use, where it ended at its own memory limit.
    pub starved: Option<u64>,
    /// It did not get its port. That is no fault of its own: it waits, and is not given up for it.
    pub port: Option<&'a TakenPort>,
    /// It could not be spawned for want of what the machine has too little of: the same holds for it.
    pub want: Option<&'a SpawnFailure>,
}

/// Does this end need no other run: a job that is done, or a code the file names?
#[must_use]
pub fn is_done(policy: &Policy, status: ExitStatus) -> bool {
    match status {
        ExitStatus::Code(code) => policy.stop_exit_codes.contains(&code) || (code == 0 && !policy.autorestart),
        ExitStatus::Signal { .. } => false,
    }
}

/// Did it live long enough to prove the app well? Never less than the file's own measure.
#[must_use]
pub fn is_stable(policy: &Policy, uptime: Millis) -> bool {
    uptime >= STABLE.max(policy.min_uptime)
}

/// What `restart_on` says of an end, and by which of its keys. An exit code is nearer than a cause.
fn rule(policy: &Policy, end: &UnplannedEnd<'_>) -> Option<(EndKind, Reaction)> {
    let code = match end.status {
        Some(ExitStatus::Code(code)) if matches!(end.cause, Cause::ExitCode | Cause::Success) => Some(code),
        _ => None,
    };
    let keys = code.map(EndKind::Code).into_iter().chain([EndKind::Cause(end.cause)]);
    keys.into_iter().find_map(|key| Some((key, *policy.restart_on.get(&key)?)))
}

/// Decides what follows an unplanned end, and counts it.
pub fn after(policy: &Policy, streak: &mut Streak, end: UnplannedEnd<'_>) -> Next {
    let rule = rule(policy, &end);
    let reaction = rule.map(|(_, reaction)| reaction);
    let blameless = end.port.map(ToString::to_string).or_else(|| end.want.map(short_of)).filter(|_| reaction.is_none());
    let counts = blameless.is_none() && reaction != Some(Reaction::Always);
    streak.recent.push_back(end.at);
    while streak.recent.len() > LOOP_ENDS {
        streak.recent.pop_front();
    }
    if is_stable(policy, end.uptime) {
        streak.short = 0;
        streak.delay = None;
        streak.starved = None;
    } else if counts && (end.uptime < policy.min_uptime || end.status.is_none()) {
        streak.short += 1;
        let before = streak.starved.unwrap_or(Starved { ends: 0, needs_bytes: 0 });
        streak.starved =
            end.starved.map(|bytes| Starved { ends: before.ends + 1, needs_bytes: before.needs_bytes.max(bytes) });
    }
    let by = rule.map(|(key, reaction)| format!("restart_on {key}: {}", reaction.word()));
    if let (Some(Reaction::Never), Some(reason)) = (reaction, &by) {
        // An app that is done by its own word did not fail.
        let action = if end.cause == Cause::Success { NextAction::Stop } else { NextAction::GiveUp };
        return Next { action, delay_ms: None, reason: reason.clone() };
    }
    if !policy.autorestart && reaction.is_none() {
        return Next { action: NextAction::Stop, delay_ms: None, reason: NO_AUTORESTART.into() };
    }
    if counts && streak.short > 0 && streak.short >= policy.max_restarts {
        return Next {
            action: NextAction::GiveUp,
            delay_ms: None,
            reason: format!(
                "{} ends below min_uptime {} without a run of {STABLE} between them: max_restarts {}",
                streak.short, policy.min_uptime, policy.max_restarts
            ),
        };
    }
    let growing = match reaction {
        Some(Reaction::Backoff) => Some(policy.exp_backoff_restart_delay.unwrap_or(FIRST_DELAY)),
        None if blameless.is_some() => {
            Some(policy.exp_backoff_restart_delay.unwrap_or(TRY_AGAIN.max(policy.restart_delay)))
        }
        Some(Reaction::Always | Reaction::Never) | None => policy.exp_backoff_restart_delay,
    };
    let (delay, reason) = match growing {
        Some(first) => {
            let delay = match streak.delay {
                None => first,
                Some(last) => Millis((last.0.saturating_mul(3) / 2).min(LONGEST_DELAY.0.max(first.0))),
            };
            streak.delay = Some(delay);
            (
                delay,
                blameless.map_or_else(|| format!("exp_backoff_restart_delay {first}"), |why| tried_again(&why, delay)),
            )
        }
        None if policy.restart_delay == Millis(0) => (Millis(0), "autorestart".to_owned()),
        None => (policy.restart_delay, format!("restart_delay {}", policy.restart_delay)),
    };
    // One that may die for ever without being given up gets the same pause as a spawn that fails.
    let unbounded = reaction == Some(Reaction::Always) && end.uptime < policy.min_uptime;
    let delay = if end.status.is_none() || unbounded { delay.max(SPAWN_AGAIN) } else { delay };
    Next { action: NextAction::Restart, delay_ms: Some(delay), reason: by.unwrap_or(reason) }
}

fn tried_again(why: &str, delay: Millis) -> String {
    format!("{why}: tried again in {delay}")
}

fn short_of(failure: &SpawnFailure) -> String {
    format!("{} {}", failure.stage, failure.errno)
}

/// A number up to `most`, the same for the same seed and salt (splitmix64).
#[must_use]
pub fn jitter(seed: u64, salt: u64, most: Millis) -> Millis {
    let mut x = seed.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Millis((x ^ (x >> 31)) % (most.0 + 1))
}

/// Where most of the short lives that an app gave up after ended at its own memory limits.
#[must_use]
pub fn starved(streak: &Streak) -> Option<Starved> {
    streak.starved.filter(|starved| starved.ends > streak.short / 2)
}

/// Ten unplanned ends within ten minutes, the last of them too.
#[must_use]
pub fn is_crash_loop(streak: &Streak, now: Mono) -> bool {
    streak.recent.len() >= LOOP_ENDS && streak.recent.front().is_some_and(|first| now - *first <= LOOP_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(uptime: u64) -> UnplannedEnd<'static> {
        UnplannedEnd {
            cause: Cause::ExitCode,
            status: Some(ExitStatus::Code(1)),
            uptime: Millis(uptime),
            at: Mono(uptime),
            starved: None,
            port: None,
            want: None,
        }
    }

    #[test]
    fn exponential_backoff_grows_by_half_up_to_15_s_and_starts_again_after_30_s_of_life() {
        let policy = Policy { exp_backoff_restart_delay: Some(Millis(100)), max_restarts: 1000, ..Policy::default() };
        let mut streak = Streak::default();
        let delays: Vec<u64> = (0..15).map(|_| after(&policy, &mut streak, end(5)).delay_ms.unwrap().0).collect();
        assert_eq!(delays[..6], [100, 150, 225, 337, 505, 757]);
        assert_eq!(delays[14], 15_000);
        assert_eq!(after(&policy, &mut streak, end(29_999)).delay_ms, Some(Millis(15_000)));
        assert_eq!(after(&policy, &mut streak, end(30_000)).delay_ms, Some(Millis(100)));
    }

    #[test]
    fn sixteen_short_lives_are_enough_however_long_the_delays() {
        let policy = Policy { restart_delay: Millis(60_000), ..Policy::default() };
        let mut streak = Streak::default();
        for n in 1..16 {
            assert_eq!(after(&policy, &mut streak, end(10)).action, NextAction::Restart, "end {n}");
        }
        assert_eq!(after(&policy, &mut streak, end(10)).action, NextAction::GiveUp);
    }

    #[test]
    fn lives_between_min_uptime_and_30_s_neither_count_nor_reset() {
        let policy = Policy { max_restarts: 2, ..Policy::default() };
        let mut streak = Streak::default();
        assert_eq!(after(&policy, &mut streak, end(10)).action, NextAction::Restart);
        assert_eq!(after(&policy, &mut streak, end(1_100)).action, NextAction::Restart);
        assert_eq!(streak.short, 1);
        assert_eq!(after(&policy, &mut streak, end(31_000)).action, NextAction::Restart);
        assert_eq!(streak.short, 0);
    }

    #[test]
    fn who_gives_up_for_want_of_memory_is_known_by_the_last_of_its_short_lives() {
        let policy = Policy { max_restarts: 4, ..Policy::default() };
        let live = |starved: &[Option<u64>]| {
            let mut streak = Streak::default();
            let next =
                starved.iter().map(|starved| after(&policy, &mut streak, UnplannedEnd { starved: *starved, ..end(5) }));
            assert_eq!(next.last().unwrap().action, NextAction::GiveUp);
            super::starved(&streak)
        };
        assert_eq!(live(&[None, Some(60), Some(62), Some(61)]), Some(Starved { ends: 3, needs_bytes: 62 }));
        assert_eq!(live(&[Some(60), Some(62), Some(61), None]), None);
        assert_eq!(live(&[Some(60), None, Some(62), Some(61)]), None, "half of them is not most");
    }

    #[test]
    fn one_that_dies_again_and_again_after_min_uptime_is_called_a_crash_loop() {
        let mut streak = Streak::default();
        for n in 1..=10u64 {
            let at = Mono(n * 1_100);
            assert!(!is_crash_loop(&streak, at));
            let _ = after(&Policy::default(), &mut streak, UnplannedEnd { at, ..end(1_100) });
        }
        assert!(is_crash_loop(&streak, Mono(11_000)));
        assert!(!is_crash_loop(&streak, Mono(700_000)));
    }

    #[test]
    fn restart_on_says_otherwise_for_some_ends() {
        let rules = [
            (EndKind::Cause(Cause::ExitCode), Reaction::Backoff),
            (EndKind::Cause(Cause::Success), Reaction::Never),
            (EndKind::Code(3), Reaction::Never),
            (EndKind::Code(4), Reaction::Always),
        ];
        let policy = Policy { restart_on: rules.into(), ..Policy::default() };
        let mut streak = Streak::default();
        let coded = |code| UnplannedEnd { status: Some(ExitStatus::Code(code)), ..end(5) };
        assert_eq!(after(&policy, &mut streak, coded(1)).delay_ms, Some(Millis(100)));
        let second = after(&policy, &mut streak, coded(1));
        assert_eq!((second.delay_ms, second.reason.as_str()), (Some(Millis(150)), "restart_on exit-code: backoff"));
        let never = after(&policy, &mut streak, coded(3));
        assert_eq!((never.action, never.reason.as_str()), (NextAction::GiveUp, "restart_on 3: never"));
        let done = after(&policy, &mut streak, UnplannedEnd { cause: Cause::Success, ..coded(0) });
        assert_eq!(done.action, NextAction::Stop);
        let short = streak.short;
        for _ in 0..100 {
            let next = after(&policy, &mut streak, coded(4));
            assert_eq!((next.action, next.delay_ms), (NextAction::Restart, Some(SPAWN_AGAIN)));
        }
        assert_eq!(streak.short, short);
        let job = Policy { autorestart: false, ..policy };
        assert_eq!(after(&job, &mut streak, coded(1)).action, NextAction::Restart);
    }

    #[test]
    fn one_for_which_the_machine_is_short_of_something_waits_longer_each_time_and_is_never_given_up() {
        let failure = |stage: &str, errno: &str| SpawnFailure { stage: stage.into(), errno: errno.into() };
        let (no_pid, no_program) = (failure("fork", "EAGAIN"), failure("exec", "ENOENT"));
        assert!(no_pid.is_for_want() && failure("descriptors", "EBADF").is_for_want());
        assert!(!no_program.is_for_want() && !failure("exec", "ENOMEM").is_for_want());
        let without = UnplannedEnd { cause: Cause::SpawnFailed, status: None, want: Some(&no_pid), ..end(0) };
        let (policy, mut streak) = (Policy::default(), Streak::default());
        let first = after(&policy, &mut streak, without);
        assert_eq!((first.delay_ms, first.reason.as_str()), (Some(TRY_AGAIN), "fork EAGAIN: tried again in 1 s"));
        let last = (0..50).map(|_| after(&policy, &mut streak, without)).last().unwrap();
        assert_eq!((last.action, last.delay_ms, streak.short), (NextAction::Restart, Some(LONGEST_DELAY), 0));
    }

    #[test]
    fn one_whose_port_is_taken_waits_longer_each_time_and_is_never_given_up() {
        let taken = TakenPort { port: Some(5000), holder: None };
        let without = |status| UnplannedEnd { port: Some(&taken), status, ..end(5) };
        let mut streak = Streak::default();
        let first = after(&Policy::default(), &mut streak, without(None));
        assert_eq!(
            (first.delay_ms, first.reason.as_str()),
            (Some(TRY_AGAIN), "port 5000 is taken: tried again in 1 s")
        );
        let delays: Vec<u64> = (0..100)
            .map(|_| after(&Policy::default(), &mut streak, without(Some(ExitStatus::Code(1)))).delay_ms.unwrap().0)
            .collect();
        assert_eq!((delays[0], delays[1], delays[99]), (1_500, 2_250, 15_000));
        assert_eq!(streak.short, 0);
        let own = Policy { exp_backoff_restart_delay: Some(Millis(100)), ..Policy::default() };
        assert_eq!(after(&own, &mut Streak::default(), without(None)).delay_ms, Some(Millis(100)));
        let slow = Policy { restart_delay: Millis(60_000), ..Policy::default() };
        assert_eq!(after(&slow, &mut Streak::default(), without(None)).delay_ms, Some(Millis(60_000)));
        let never = [(EndKind::Cause(Cause::ExitCode), Reaction::Never)];
        let ruled = Policy { restart_on: never.into(), ..Policy::default() };
        assert_eq!(after(&ruled, &mut streak, without(None)).action, NextAction::GiveUp);
        assert_eq!(streak.short, 1, "a rule of the user's goes first");
        let job = Policy { autorestart: false, ..Policy::default() };
        assert_eq!(after(&job, &mut streak, without(None)).action, NextAction::Stop);
    }

    #[test]
    fn jitter_stays_within_its_bound_and_spreads() {
        let all: std::collections::BTreeSet<u64> = (0..1000).map(|run| jitter(7, run, Millis(500)).0).collect();
        assert!(all.len() > 400 && *all.last().unwrap() <= 500, "{} different ones", all.len());
        assert_eq!(jitter(7, 1, Millis(0)), Millis(0));
    }
}
