//! Every phase asked by every event: nobody panics, and what tells of another run changes nothing.

use crate::app::plain;
use crate::world::environment;
use std::collections::BTreeSet;
use stead::core::action::Action;
use stead::core::clock::{Millis, Mono, Now, Wall};
use stead::core::command::{Asked, Command};
use stead::core::event::{Event, Exit, ExitStatus, Facts, Usage};
use stead::core::fleet::Fleet;
use stead::core::instance::Phase;
use stead::core::name::{RunId, Ticket};
use stead::core::record::{Actor, Crossing, SpawnFailure};
use stead::core::spec::Signal;

const NAME: &str = "api";

/// The run that lives in each phase with a run, and one that never was or is over.
const LIVE: RunId = RunId(1);
const STALE: RunId = RunId(77);

/// The way to each phase: what is asked and what happens, one after another.
fn phases() -> Vec<(&'static str, Vec<Event>)> {
    let start = || asked(apply(true));
    let spawned = || Event::Spawned { run: LIVE, pid: 101, at: now(5) };
    let stop = || asked(Command::Stop { targets: vec![NAME.into()] });
    vec![
        ("nothing", vec![]),
        ("stopped", vec![asked(apply(false))]),
        ("starting", vec![start()]),
        ("starting, to be stopped", vec![start(), stop()]),
        ("starting, to be deleted", vec![start(), asked(Command::Delete { targets: vec![NAME.into()] })]),
        ("queued", vec![asked(apply_many())]),
        ("online", vec![start(), spawned()]),
        ("stopping", vec![start(), spawned(), stop()]),
        (
            "stopping, to be started",
            vec![start(), spawned(), stop(), asked(Command::Start { targets: vec![NAME.into()] })],
        ),
        ("ending", vec![start(), spawned(), exited(LIVE, 0)]),
        ("ending, with children", vec![start(), spawned(), exited(LIVE, 2)]),
        ("ending a stop", vec![start(), spawned(), stop(), exited(LIVE, 2)]),
        ("waiting", vec![start(), spawned(), exited(LIVE, 0), finished(LIVE)]),
        ("errored", vec![start(), failed(LIVE), Event::Due, failed(RunId(2))]),
        ("stopped after a run", vec![start(), spawned(), stop(), exited(LIVE, 0), finished(LIVE)]),
        ("the end of stead", vec![start(), spawned(), term()]),
        ("after the end of stead", vec![start(), term(), failed(LIVE)]),
    ]
}

/// Every event: those of a run by its number, and those of nobody.
fn events(run: RunId) -> Vec<Event> {
    vec![
        Event::Spawned { run, pid: 102, at: now(6) },
        failed(run),
        exited(run, 0),
        exited(run, 3),
        over_cap(run),
        Event::OomKill { run },
        finished(run),
    ]
}

fn commands() -> Vec<Event> {
    let targets = || vec![NAME.to_owned()];
    let mut commands = vec![apply(true), apply(false)];
    commands.extend([
        Command::Start { targets: targets() },
        Command::Stop { targets: targets() },
        Command::Restart { targets: targets(), environment: None },
        Command::Restart { targets: targets(), environment: Some(environment()) },
        Command::Reload { targets: targets() },
        Command::Delete { targets: targets() },
        Command::Scale { app: NAME.into(), count: 3 },
        Command::Reset { targets: targets() },
        Command::Signal { signal: Signal::HUP, targets: targets() },
        Command::Flush { targets: targets() },
        Command::Save { force: false },
        Command::Resurrect,
        Command::Kill,
    ]);
    commands.into_iter().map(asked).chain([term(), Event::Due]).collect()
}

#[test]
fn every_phase_is_among_them() {
    let mut seen = BTreeSet::new();
    for (_, way) in phases() {
        let mut fleet = Fleet::new(1);
        happen(&mut fleet, &way);
        seen.extend(fleet.instances().map(|one| match one.phase {
            Phase::Stopped => "stopped",
            Phase::Errored { .. } => "errored",
            Phase::Waiting { .. } => "waiting",
            Phase::Queued => "queued",
            Phase::Starting { .. } => "starting",
            Phase::Online { .. } => "online",
            Phase::Stopping { .. } => "stopping",
            Phase::Ending { .. } => "ending",
        }));
    }
    let all = ["ending", "errored", "online", "queued", "starting", "stopped", "stopping", "waiting"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_phase_answers_every_event_and_every_second_one() {
    for (phase, way) in phases() {
        for first in commands().into_iter().chain(events(LIVE)) {
            for second in commands().into_iter().chain(events(LIVE)) {
                let mut fleet = Fleet::new(1);
                happen(&mut fleet, &way);
                for event in [&first, &second] {
                    let late = now(100_000);
                    let _ = fleet.handle(late, event.clone());
                    let _ = fleet.handle(late, Event::Due);
                    let deadline = fleet.deadline();
                    assert!(
                        deadline.is_none_or(|at| at > late.mono),
                        "{phase}, {first:?}, {second:?}: a deadline in the past: {deadline:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_event_of_another_run_changes_nothing() {
    for (phase, way) in phases() {
        let mut fleet = Fleet::new(1);
        happen(&mut fleet, &way);
        for event in events(STALE) {
            let before = fleet.clone();
            let actions = fleet.handle(now(50), event.clone());
            assert_eq!(actions, Vec::<Action>::new(), "{phase}, {event:?}");
            assert_eq!(fleet, before, "{phase}, {event:?}");
        }
    }
}

/// What a daemon hears twice, because it was told before and after it began.
#[test]
fn an_event_that_comes_twice_changes_nothing_the_second_time() {
    for (phase, way) in phases() {
        for event in events(LIVE) {
            let mut fleet = Fleet::new(1);
            happen(&mut fleet, &way);
            let _ = fleet.handle(now(50), event.clone());
            let before = fleet.clone();
            let actions = fleet.handle(now(50), event.clone());
            assert_eq!(actions, Vec::<Action>::new(), "{phase}, {event:?}");
            assert_eq!(fleet, before, "{phase}, {event:?}");
        }
    }
}

fn happen(fleet: &mut Fleet, way: &[Event]) {
    for (step, event) in way.iter().enumerate() {
        // Far enough apart for the pause between two spawns that fail.
        let _ = fleet.handle(now(step as u64 * 200), event.clone());
    }
}

fn apply(autostart: bool) -> Command {
    let mut spec = plain(NAME);
    spec.autostart = autostart;
    spec.policy.max_restarts = 2;
    spec.policy.restart_delay = Millis(100);
    Command::Apply { specs: vec![spec], environment: environment(), rules: None, notifiers: None }
}

/// More than may start at once.
fn apply_many() -> Command {
    let mut spec = plain(NAME);
    spec.instances = Some(4);
    Command::Apply { specs: vec![spec], environment: environment(), rules: None, notifiers: None }
}

fn asked(command: Command) -> Event {
    Event::Asked { ticket: Ticket(1), asked: Asked { command, wait: true, actor: somebody() } }
}

fn exited(run: RunId, left: u32) -> Event {
    let exit = Exit { status: ExitStatus::Code(1), usage: Usage::default(), at: now(20) };
    Event::Exited { run, exit, left }
}

pub fn over_cap(run: RunId) -> Event {
    let crossing = Crossing {
        at: now(20).wall,
        usage_bytes: 400 << 20,
        growth_bytes: 100 << 20,
        growth_ms: Millis(60_000),
        processes: Vec::new(),
    };
    Event::OverCap { run, crossing: Box::new(crossing) }
}

fn finished(run: RunId) -> Event {
    Event::Finished { run, facts: Box::new(Facts::default()) }
}

fn failed(run: RunId) -> Event {
    Event::SpawnFailed { run, failure: SpawnFailure { stage: "exec".into(), errno: "ENOENT".into() } }
}

fn term() -> Event {
    Event::Term { actor: somebody() }
}

fn somebody() -> Actor {
    Actor { uid: Some(0), pid: Some(1), command: None }
}

fn now(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(1_800_000_000_000 + ms as i64) }
}
