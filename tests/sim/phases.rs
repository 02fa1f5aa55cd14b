//! Every phase asked by every event: nobody panics, and what tells of another run changes nothing.

use crate::app::plain;
use crate::world::environment;
use std::collections::BTreeSet;
use stead::core::action::Action;
use stead::core::clock::{Millis, Mono, Now, Wall};
use stead::core::command::{Asked, Command, Terms};
use stead::core::event::{Event, Exit, ExitStatus, Facts, Killed, Usage};
use stead::core::fleet::Fleet;
use stead::core::instance::Phase;
use stead::core::name::{AppName, RunId, Ticket};
use stead::core::probe::Outcome;
use stead::core::record::{Actor, Crossing, Oom, SpawnFailure};
use stead::core::spec::{Listen, Signal};
use stead::core::watch::{WATCH_DELAY, Watch};

const NAME: &str = "api";

/// The run that lives in each phase with a run, and one that never was or is over.
const LIVE: RunId = RunId(1);
const STALE: RunId = RunId(77);

/// The second run, where there is one.
const NEXT: RunId = RunId(2);

/// The way to each phase: what is asked and what happens, one after another.
fn phases() -> Vec<(&'static str, Vec<Event>)> {
    let start = || asked(apply(true));
    let proven = || asked(apply_with_proof());
    let spawned = || Event::Spawned { run: LIVE, pid: 101, at: now(5) };
    let stop = || asked(Command::Stop { targets: vec![NAME.into()] });
    let reload = [start(), spawned(), asked(Command::Reload { targets: vec![NAME.into()] })];
    let next_spawned = || Event::Spawned { run: NEXT, pid: 103, at: now(400) };
    // By then the successor has lived for `min_uptime`.
    let later = || Event::Due;
    vec![
        ("nothing", vec![]),
        ("stopped", vec![asked(apply(false))]),
        ("starting", vec![start()]),
        ("starting, to be stopped", vec![start(), stop()]),
        ("starting, to be deleted", vec![start(), asked(Command::Delete { targets: vec![NAME.into()] })]),
        ("queued", vec![asked(apply_many())]),
        ("online", vec![start(), spawned()]),
        ("readying", vec![proven(), spawned()]),
        ("readying, and ready", vec![proven(), spawned(), Event::Ready { run: LIVE }]),
        ("readying, and asked", vec![proven(), spawned(), Event::Ready { run: LIVE }, Event::Due]),
        ("readying, to be stopped", vec![proven(), spawned(), stop()]),
        ("online, and well", vec![proven(), spawned(), Event::Ready { run: LIVE }, Event::Due, probed(LIVE, true)]),
        ("stopping", vec![start(), spawned(), stop()]),
        (
            "stopping, to be started",
            vec![start(), spawned(), stop(), asked(Command::Start { targets: vec![NAME.into()] })],
        ),
        ("ending", vec![start(), spawned(), exited(LIVE, 0)]),
        ("ending, with children", vec![start(), spawned(), exited(LIVE, 2)]),
        ("ending a stop", vec![start(), spawned(), stop(), exited(LIVE, 2)]),
        ("reloading, the successor starts", reload.to_vec()),
        ("reloading, the successor is up", [&reload[..], &[next_spawned()]].concat()),
        ("reloading, the successor is given up", [&reload[..], &[next_spawned(), over_cap(NEXT)]].concat()),
        ("reloading, the successor ends", [&reload[..], &[next_spawned(), exited(NEXT, 2)]].concat()),
        ("reloaded, the old run leaves", [&reload[..], &[next_spawned(), later()]].concat()),
        ("reloaded, the old run ends", [&reload[..], &[next_spawned(), exited(LIVE, 2)]].concat()),
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
        Event::Ready { run },
        probed(run, true),
        probed(run, false),
        oom_kill(run, 1),
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
    commands.into_iter().map(asked).chain([term(), changed(), Event::ClockSet, Event::Due]).collect()
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
            Phase::Readying { .. } => "readying",
            Phase::Online { .. } => "online",
            Phase::Stopping { .. } => "stopping",
            Phase::Ending { .. } => "ending",
        }));
    }
    let all = ["ending", "errored", "online", "queued", "readying", "starting", "stopped", "stopping", "waiting"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_phase_answers_every_event_and_every_second_one() {
    for (phase, way) in phases() {
        for first in commands().into_iter().chain(events(LIVE)).chain(events(NEXT)) {
            for second in commands().into_iter().chain(events(LIVE)).chain(events(NEXT)) {
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
        for event in events(LIVE).into_iter().chain(events(NEXT)) {
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
    spec.watch = Some(Watch { paths: vec!["/srv".into()], ignore: Vec::new(), delay: WATCH_DELAY });
    spec.policy.min_uptime = Millis(100);
    spec.listen = vec![Listen::Tcp(":80".into())];
    Command::Apply {
        specs: vec![spec],
        environment: environment(),
        rules: None,
        notifiers: None,
        terms: Terms::default(),
    }
}

/// More than may start at once.
fn apply_many() -> Command {
    let mut spec = plain(NAME);
    spec.instances = Some(4);
    Command::Apply {
        specs: vec![spec],
        environment: environment(),
        rules: None,
        notifiers: None,
        terms: Terms::default(),
    }
}

/// Online when it has said so and is well.
fn apply_with_proof() -> Command {
    let spec = crate::app::spec(&format!("{NAME} wait_ready=true health_check=100ms/1/0"));
    Command::Apply {
        specs: vec![spec],
        environment: environment(),
        rules: None,
        notifiers: None,
        terms: Terms::default(),
    }
}

fn probed(run: RunId, ok: bool) -> Event {
    Event::Probed { run, outcome: Outcome { ok, said: String::new(), took: Millis(1) } }
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

/// So many kills in its tree since it began.
pub fn oom_kill(run: RunId, kills: u64) -> Event {
    let oom = Oom { own: kills, host: 0, killed_pid: Some(4242), killed_name: Some("worker".into()) };
    Event::OomKill { run, killed: Box::new(Killed { oom, kernel_log: Vec::new() }) }
}

fn finished(run: RunId) -> Event {
    Event::Finished { run, facts: Box::new(Facts::default()) }
}

fn failed(run: RunId) -> Event {
    Event::SpawnFailed { run, failure: SpawnFailure { stage: "exec".into(), errno: "ENOENT".into() }, holder: None }
}

fn changed() -> Event {
    Event::Changed { app: AppName::parse(NAME).unwrap(), path: "app.py".into() }
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
