//! Chance writes the stories: specs, tempers, commands, daemons that die between any two actions. `PROPTEST_CASES` says how many, and
//! draws them anew; without it they are the same 10,000 each time, so that a change is blamed for its own faults only.

use crate::app::plain;
use crate::kernel::{Start, Temper, WhenTold};
use crate::laws::{self, broken};
use crate::world::{World, apply, apply_by};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, RngSeed, TestCaseResult, TestError, TestRunner};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use stead::core::change::{self, Effect};
use stead::core::clock::{Millis, Wall};
use stead::core::command::{Command, Terms};
use stead::core::cron::Cron;
use stead::core::event::ExitStatus;
use stead::core::fleet::Fleet;
use stead::core::instance::{Instance, Phase, Want};
use stead::core::name::AppName;
use stead::core::record::{NextAction, SpawnFailure};
use stead::core::spec::{
    EndKind, HealthCheck, KillMode, Listen, Need, Policy, Probe, Reaction, Readiness, Reload, Signal, Spec, Stop,
};
use stead::core::watch::{WATCH_DELAY, Watch};

/// Names such that one app's instance may be called as another app.
const NAMES: [&str; 3] = ["api", "web", "api-1"];

#[derive(Clone)]
struct Plan {
    cpus: usize,
    latency: u64,
    apps: Vec<AppPlan>,
    /// Each after some milliseconds.
    deeds: Vec<(u64, Deed)>,
}

/// On few lines: a plan that failed is to be read.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = format!("{} cpus, latency {}", self.cpus, self.latency);
        let apps: String = self.apps.iter().map(|app| format!("\n  {app:?}")).collect();
        let deeds: String = self.deeds.iter().map(|deed| format!("\n  {deed:?}")).collect();
        write!(f, "{head}{apps}{deeds}")
    }
}

#[derive(Clone, Debug)]
struct AppPlan {
    instances: Option<u32>,
    autostart: bool,
    policy: Policy,
    stop: Stop,
    listens: bool,
    reload_timeout: u64,
    readiness: Readiness,
    /// On the apps before it.
    depends_on: [Option<Need>; 2],
    /// Of the first, second … run; later ones live.
    tempers: Vec<Temper>,
}

#[derive(Clone, Debug)]
enum Deed {
    Ask {
        verb: Verb,
        wait: bool,
    },
    /// The file changes: something that takes a restart, or something that does not.
    Edit {
        app: usize,
        restart: bool,
    },
    /// A watched file.
    Touch(usize),
    MemoryIsShort {
        killed: bool,
    },
    DaemonDies,
    DaemonDiesAfter(usize),
    KeeperDies,
    Reboot,
    Term,
    StartStead,
}

#[derive(Clone, Debug)]
enum Verb {
    StartFile,
    Plan { prune: bool },
    Prune,
    Start(usize),
    Stop(usize),
    Restart(usize),
    Reload(usize),
    Delete(usize),
    Scale(usize, u32),
    Reset(usize),
    Hup(usize),
    Flush(usize),
    Save,
    Resurrect,
    Kill,
}

fn temper() -> impl Strategy<Value = Temper> {
    let start = prop_oneof![
        8 => select(vec![1, 5, 80]).prop_map(|ms| Start::After(Millis(ms))),
        1 => Just(Start::Fails(SpawnFailure { stage: "exec".into(), errno: "ENOENT".into() })),
        1 => Just(Start::Unprepared(SpawnFailure { stage: "listen :80".into(), errno: "EADDRINUSE".into() })),
        1 => Just(Start::Unprepared(SpawnFailure { stage: "log".into(), errno: "EACCES".into() })),
    ];
    let status = prop_oneof![
        3 => select(vec![0, 1, 3]).prop_map(ExitStatus::Code),
        1 => Just(ExitStatus::Signal { signal: Signal(11), core_dumped: true }),
        1 => Just(ExitStatus::Signal { signal: Signal::KILL, core_dumped: false }),
    ];
    let life = prop_oneof![
        2 => Just(None),
        3 => (select(vec![0, 1, 20, 900, 1_100, 31_000]), status).prop_map(|(ms, status)| Some((Millis(ms), status))),
    ];
    let when_told = prop_oneof![
        4 => (select(vec![0, 10, 90, 1_000]), select(vec![None, Some(0), Some(3)]))
            .prop_map(|(ms, code)| WhenTold::Ends(Millis(ms), code)),
        1 => Just(WhenTold::Ignores),
    ];
    let ready = select(vec![None, Some(Millis(0)), Some(Millis(20)), Some(Millis(700)), Some(Millis(5_000))]);
    let port = select(vec![None, None, None, Some(80)]);
    let well = (select(vec![0, 0, 300, 4_000]), select(vec![None, None, Some(3_000), Some(40_000)]))
        .prop_map(|(from, to)| (Millis(from), to.map(Millis)));
    (start, life, when_told, select(vec![0, 0, 0, 1, 3]), any::<bool>(), ready, well, port).prop_map(
        |(start, life, when_told, children, stubborn_children, ready, well, port)| Temper {
            port,
            ready,
            well,
            start,
            life,
            when_told,
            children,
            stubborn_children,
        },
    )
}

fn app() -> impl Strategy<Value = AppPlan> {
    let policy = (
        prop::bool::weighted(0.8),
        select(vec![0, 50, 2_000]),
        select(vec![None, None, Some(100)]),
        select(vec![0, 1, 2, 3, 16]),
        select(vec![vec![], vec![3]]),
        select(vec![None, None, None, Some("* * * * *"), Some("*/7 * * * * *"), Some("@daily")]),
        select(vec![0, 0, 300]),
        select(vec![
            vec![],
            vec![],
            vec![("exit-code", Reaction::Backoff), ("3", Reaction::Never)],
            vec![("signal", Reaction::Always), ("success", Reaction::Never)],
        ]),
    )
        .prop_map(|(autorestart, delay, exp, max_restarts, codes, cron, jitter, rules)| Policy {
            autorestart,
            restart_delay: Millis(delay),
            exp_backoff_restart_delay: exp.map(Millis),
            max_restarts,
            stop_exit_codes: codes.into_iter().collect(),
            cron_restart: cron.map(|line| Cron::parse(line).unwrap()),
            jitter: Millis(jitter),
            restart_on: rules.into_iter().map(|(kind, what)| (EndKind::parse(kind).unwrap(), what)).collect(),
            ..Policy::default()
        });
    let stop = (select(vec![100, 1_600]), select(vec![KillMode::Tree, KillMode::Mixed, KillMode::Main]))
        .prop_map(|(timeout, kill_mode)| Stop { kill_timeout: Millis(timeout), kill_mode, ..Stop::default() });
    let reload = (any::<bool>(), select(vec![0, 200, 3_000]));
    let check = (select(vec![200, 1_000, 30_000]), 1..4u32, select(vec![0, 0, 2_000])).prop_map(
        |(interval, retries, start_period)| HealthCheck {
            probe: Probe::Tcp("127.0.0.1:1".into()),
            interval: Millis(interval),
            timeout: Millis(1_000),
            retries,
            start_period: Millis(start_period),
        },
    );
    let readiness = (prop::bool::weighted(0.3), select(vec![100, 3_000]), proptest::option::weighted(0.3, check))
        .prop_map(|(wait_ready, timeout, health_check)| Readiness {
            wait_ready,
            listen_timeout: Millis(timeout),
            health_check,
        });
    let instances = select(vec![None, None, Some(1), Some(2), Some(3)]);
    let need = || select(vec![None, None, None, Some(Need::Started), Some(Need::Healthy), Some(Need::Done)]);
    let depends_on = (need(), need()).prop_map(|(first, second)| [first, second]);
    (instances, prop::bool::weighted(0.85), policy, stop, readiness, depends_on, reload, vec(temper(), 0..6)).prop_map(
        |(instances, autostart, policy, stop, readiness, depends_on, (listens, reload_timeout), tempers)| AppPlan {
            depends_on,
            instances,
            autostart,
            policy,
            stop,
            listens,
            reload_timeout,
            readiness,
            tempers,
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    let app = || 0..NAMES.len() + 1;
    let verb = prop_oneof![
        3 => Just(Verb::StartFile),
        1 => any::<bool>().prop_map(|prune| Verb::Plan { prune }),
        1 => Just(Verb::Prune),
        3 => app().prop_map(Verb::Start),
        4 => app().prop_map(Verb::Stop),
        3 => app().prop_map(Verb::Restart),
        4 => app().prop_map(Verb::Reload),
        3 => app().prop_map(Verb::Delete),
        3 => (0..NAMES.len(), 1..5u32).prop_map(|(app, count)| Verb::Scale(app, count)),
        2 => app().prop_map(Verb::Reset),
        1 => app().prop_map(Verb::Hup),
        1 => app().prop_map(Verb::Flush),
        1 => Just(Verb::Save),
        1 => Just(Verb::Resurrect),
        1 => Just(Verb::Kill),
    ];
    prop_oneof![
        12 => (verb, prop::bool::weighted(0.7)).prop_map(|(verb, wait)| Deed::Ask { verb, wait }),
        2 => (0..NAMES.len(), any::<bool>()).prop_map(|(app, restart)| Deed::Edit { app, restart }),
        2 => (0..NAMES.len()).prop_map(Deed::Touch),
        1 => any::<bool>().prop_map(|killed| Deed::MemoryIsShort { killed }),
        2 => Just(Deed::DaemonDies),
        4 => (0..25usize).prop_map(Deed::DaemonDiesAfter),
        1 => Just(Deed::KeeperDies),
        1 => Just(Deed::Reboot),
        1 => Just(Deed::Term),
        1 => Just(Deed::StartStead),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let gap = select(vec![0, 0, 1, 4, 12, 100, 1_700, 40_000]);
    (1..3usize, select(vec![0, 0, 3, 30]), vec(app(), 1..=NAMES.len()), vec((gap, deed()), 0..25))
        .prop_map(|(cpus, latency, apps, deeds)| Plan { cpus, latency, apps, deeds })
}

/// Lets a plan happen, and then lets it come to rest.
fn live(plan: &Plan, wall_steps: &[i64]) -> World {
    let mut world = World::new(plan.cpus);
    world.latency = Millis(plan.latency);
    let mut file: Vec<Spec> = NAMES.iter().zip(&plan.apps).map(|(name, app)| spec(name, app)).collect();
    for (name, app) in NAMES.iter().zip(&plan.apps) {
        for (seq, temper) in app.tempers.iter().enumerate() {
            let instances = (0..5).map(|slot| format!("{name}-{slot}")).chain([(*name).to_owned()]);
            for instance in instances {
                world.tempers.insert(format!("{instance}#{}", seq + 1), temper.clone());
            }
        }
    }
    world.ask(apply(&file), true);
    let mut steps = wall_steps.iter();
    for (gap, deed) in &plan.deeds {
        world.pass(Millis(*gap));
        if let Some(by) = steps.next() {
            world.wall_steps(*by);
        }
        happens(&mut world, &mut file, deed);
    }
    world.pass(laws::QUIET);
    world.start_stead();
    world.daemon_lives_on();
    world.pass(laws::QUIET);
    rests(&mut world);
    ask_again(&mut world, &file);
    world
}

fn happens(world: &mut World, file: &mut [Spec], deed: &Deed) {
    match deed {
        Deed::Ask { verb: verb @ Verb::Plan { .. }, wait } => {
            // An alarm that is over is set anew by whatever comes next.
            let state = |fleet: &Fleet| {
                let phases: Vec<_> = fleet.instances().map(|one| (one.id, one.want, one.phase.clone())).collect();
                (fleet.wanted(""), phases)
            };
            let before = world.fleet.as_ref().map(state);
            world.ask(command(verb, file), *wait);
            if world.fleet.is_some() && world.fleet.as_ref().map(state) != before {
                broken("a dry run changes nothing", &format!("{verb:?}"), &world.transcript);
            }
        }
        Deed::Ask { verb, wait } => {
            world.ask(command(verb, file), *wait);
        }
        Deed::Edit { app, restart } => {
            let Some(spec) = file.get_mut(*app) else { return };
            if *restart {
                let value = spec.env.len().to_string();
                spec.env.insert(format!("K{value}"), value);
            } else {
                spec.policy.autorestart = !spec.policy.autorestart;
            }
        }
        Deed::Touch(app) => world.file_changes(NAMES[*app], "app.py"),
        Deed::MemoryIsShort { killed } => world.memory_is_short(*killed),
        Deed::DaemonDies => world.daemon_dies(),
        Deed::DaemonDiesAfter(actions) => world.daemon_dies_after(*actions),
        Deed::KeeperDies => world.keeper_dies(),
        Deed::Reboot => world.reboot(),
        Deed::Term => world.term(),
        Deed::StartStead => world.start_stead(),
    }
}

fn command(verb: &Verb, file: &[Spec]) -> Command {
    let targets = |app: &usize| vec![NAMES.get(*app).map_or("all", |name| name).to_owned()];
    match verb {
        Verb::StartFile => apply(file),
        Verb::Plan { prune } => apply_by(file, Terms { dry_run: true, prune: *prune, ..Terms::default() }),
        // Of the first app alone: the others are gone from the file, until it is applied again.
        Verb::Prune => apply_by(&file[..1], Terms { prune: true, ..Terms::default() }),
        Verb::Start(app) => Command::Start { targets: targets(app) },
        Verb::Stop(app) => Command::Stop { targets: targets(app) },
        Verb::Restart(app) => Command::Restart { targets: targets(app), environment: None },
        Verb::Reload(app) => Command::Reload { targets: targets(app) },
        Verb::Delete(app) => Command::Delete { targets: targets(app) },
        Verb::Scale(app, count) => Command::Scale { app: NAMES[*app].into(), count: *count },
        Verb::Reset(app) => Command::Reset { targets: targets(app) },
        Verb::Hup(app) => Command::Signal { signal: Signal::HUP, targets: targets(app) },
        Verb::Flush(app) => Command::Flush { targets: targets(app) },
        Verb::Save => Command::Save { force: false },
        Verb::Resurrect => Command::Resurrect,
        Verb::Kill => Command::Kill,
    }
}

fn spec(name: &str, app: &AppPlan) -> Spec {
    Spec {
        instances: app.instances,
        autostart: app.autostart,
        policy: app.policy.clone(),
        stop: app.stop.clone(),
        watch: Some(Watch { paths: vec!["/srv".into()], ignore: Vec::new(), delay: WATCH_DELAY }),
        listen: if app.listens { vec![Listen::Tcp(":80".into())] } else { Vec::new() },
        reload: Reload { reload_timeout: Millis(app.reload_timeout), ..Reload::default() },
        readiness: app.readiness.clone(),
        depends_on: NAMES
            .iter()
            .take_while(|other| **other != name)
            .zip(app.depends_on)
            .filter_map(|(other, need)| Some((AppName::parse(other).expect("it is a name"), need?)))
            .collect(),
        ..plain(name)
    }
}

/// After a long quiet, everything is where it should be.
fn rests(world: &mut World) {
    let story = world.transcript.clone();
    let fleet = world.fleet.as_ref().expect("a daemon lives");
    // For the end of a job that goes on and on one may wait, also while something else is restarted by the clock at this moment.
    let waits =
        |one: &Instance| one.phase == Phase::Queued && fleet.waits_for(one).is_some_and(|unmet| unmet.is_coming);
    let for_an_end = |one: &Instance| {
        fleet.app(&one.app).is_some_and(|app| app.spec.depends_on.values().any(|need| *need == Need::Done))
    };
    if !fleet.instances().any(|one| waits(one) && for_an_end(one)) {
        world.laws.nobody_waits(&story);
    }
    world.laws.all_is_written(&world.kernel, fleet, &story);
    for one in fleet.instances() {
        came_true(world, fleet, one, &story);
    }
    for (run, kept) in &world.kernel.table {
        if kept.lives() && fleet.instance_of(*run).is_none() {
            broken("nothing lives that nobody knows", &format!("{}#{}", kept.note.instance, kept.note.seq), &story);
        }
    }
    no_daemon_makes_a_difference(world);
}

fn came_true(world: &World, fleet: &Fleet, one: &Instance, story: &str) {
    let detail = format!("{} is {:?}", one.name, one.phase);
    match (one.want, &one.phase) {
        (Want::Gone, _) => broken("what is deleted goes", &detail, story),
        (Want::Down, Phase::Stopped) => {}
        (Want::Down, _) => broken("what is wanted down goes down", &detail, story),
        (Want::Up, Phase::Stopped) => {
            // Without a last record it was reset.
            let follows = one.last.as_ref().and_then(|_| world.laws.follows(one.id));
            if one.seq == 0 || follows.is_some_and(|action| action != NextAction::Stop) {
                broken("what is wanted up goes up", &detail, story);
            }
        }
        (Want::Up, Phase::Queued) if fleet.waits_for(one).is_some() => {}
        // Just now the clock restarts more than may start at once.
        (Want::Up, Phase::Queued) if starts(fleet) >= 2 * world.cpus => {}
        (Want::Up, Phase::Queued) => broken("everybody gets a turn", &detail, story),
        (Want::Up, Phase::Online { run, .. }) => {
            let wish = &fleet.app(&one.app).expect("an instance has an app").spec;
            let Some(spec) = world.laws.started_with(run.id) else { broken("no run that never began", &detail, story) };
            let differences = change::between(spec, wish);
            if differences.iter().any(|one| one.effect == Effect::Restart) {
                broken("what runs is what is wished", &format!("{}: {differences:?}", one.name), story);
            }
            let ago = |at: Wall| world.now.wall.0 - at.0;
            let time = wish.policy.cron_restart.as_ref().and_then(|cron| laws::last_time(cron, world.now.wall));
            // Long enough ago for the jitter and for the ends of dependents, and since the last deed.
            let missed = |at: &Wall| (10_000..50_000).contains(&ago(*at)) && ago(run.started.wall) > ago(*at) + 10_000;
            if wish.policy.autorestart && wish.readiness.is_immediate() && time.as_ref().is_some_and(missed) {
                broken("each time of cron comes", &detail, story);
            }
        }
        (
            Want::Up,
            Phase::Errored { .. }
            | Phase::Waiting { .. }
            | Phase::Starting { .. }
            | Phase::Readying { .. }
            | Phase::Stopping { .. }
            | Phase::Ending { .. },
        ) => {}
    }
}

/// Starts that are under way.
fn starts(fleet: &Fleet) -> usize {
    fleet.instances().flat_map(Instance::phases).filter(|phase| matches!(phase, Phase::Starting { .. })).count()
}

/// A daemon that dies at rest is replaced by one that knows the same.
fn no_daemon_makes_a_difference(world: &mut World) {
    let known = |world: &World| -> Vec<String> {
        let fleet = world.fleet.as_ref().expect("a daemon lives");
        // What moves in these milliseconds, moves in either case.
        let still = |one: &&Instance| {
            one.deadline().is_none_or(|at| at > world.now.mono + Millis(50))
                && matches!(
                    one.phase,
                    Phase::Stopped | Phase::Errored { .. } | Phase::Waiting { .. } | Phase::Online { .. }
                )
        };
        let show = |one: &Instance| {
            let last = one.last.as_ref().map(|last| last.run.clone());
            let phase = match &one.phase {
                Phase::Online { run, pid } => format!("online {:?} {} {:?} {pid}", run.id, run.seq, run.started),
                other => format!("{other:?}"),
            };
            format!(
                "{:?} {} {:?} {phase} {:?} seq {} {:?} {:?} {last:?}",
                one.id,
                one.name,
                one.want,
                one.runs().map(|run| run.id).collect::<Vec<_>>(),
                one.seq,
                one.tally,
                one.streak
            )
        };
        fleet.instances().filter(still).map(show).collect()
    };
    let before = known(world);
    world.daemon_dies();
    world.pass(Millis(10));
    let after = known(world);
    for line in before {
        let id = line.split(' ').next().expect("an id");
        if let Some(now) = after.iter().find(|now| now.split(' ').next() == Some(id))
            && *now != line
        {
            let detail = format!("\nbefore: {line}\nafter:  {now}\n");
            broken("a restart of the daemon loses and doubles nothing", &detail, &world.transcript);
        }
    }
}

/// `start FILE` twice: the second changes nothing that lives.
fn ask_again(world: &mut World, file: &[Spec]) {
    world.ask(apply(file), true);
    world.pass(laws::QUIET);
    world.transcript.push_str("(the same file again)\n");
    let from = world.transcript.len();
    world.ask(apply(file), true);
    let answered = world.transcript[from..].to_owned();
    let signalled = |line: &str| line.trim_start().starts_with("note ") || line.trim_start().starts_with("SIG");
    if answered.lines().any(signalled) {
        broken("the same file again is no action", &answered, &world.transcript);
    }
}

/// Worlds that are drawn one after another, from one seed. Who repeats a failure has only so many to go through.
const LOT: u64 = 500;

/// How many worlds, and the seed of the first lot; the next lot has the next one.
fn asked_for() -> (u64, u64) {
    let asked = |name| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")));
    let worlds = asked("PROPTEST_CASES");
    let seed = match worlds {
        Some(_) => asked("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(())),
        None => 1,
    };
    (worlds.unwrap_or(10_000), seed)
}

/// Draws worlds on all processors and asks each. What comes of a seed depends on nothing else.
fn in_worlds<S: Strategy>(
    share: u64,
    strategy: impl Fn() -> S + Sync,
    holds: impl Fn(S::Value) -> TestCaseResult + Sync,
) where
    S::Value: fmt::Debug,
{
    let (worlds, seed) = asked_for();
    let worlds = worlds / share;
    let began = Instant::now();
    let (next, first_fault) = (AtomicU64::new(0), Mutex::new(None));
    let work = || {
        loop {
            let lot = next.fetch_add(1, Ordering::Relaxed);
            let cases = worlds.saturating_sub(lot.saturating_mul(LOT)).min(LOT) as u32;
            if cases == 0 {
                return;
            }
            let own = seed.wrapping_add(lot);
            let config = ProptestConfig {
                cases,
                rng_seed: RngSeed::Fixed(own),
                rng_algorithm: RngAlgorithm::XorShift,
                max_shrink_iters: 10_000,
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            if let Err(fault) = TestRunner::new(config).run(&strategy(), &holds) {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                let fault = match fault {
                    TestError::Fail(why, plan) => format!("{why}\nthe smallest plan that leads there: {plan:?}"),
                    TestError::Abort(why) => why.to_string(),
                };
                let again = format!("PROPTEST_CASES={} PROPTEST_RNG_SEED={own}", u64::from(cases) * share);
                first_fault.lock().unwrap().get_or_insert(format!("{fault}\n{again} draws it again"));
            }
        }
    };
    std::thread::scope(|scope| {
        let others = std::thread::available_parallelism().map_or(0, |all| all.get() - 1);
        (0..others).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    if let Some(fault) = first_fault.into_inner().unwrap() {
        panic!("{fault}");
    }
    println!("{worlds} worlds from seed {seed} in {:.1} s: the laws hold", began.elapsed().as_secs_f32());
}

#[test]
fn the_laws_hold_in_every_world() {
    in_worlds(1, plan, |plan| {
        live(&plan, &[]);
        Ok(())
    });
}

#[test]
fn steps_of_the_wall_clock_change_nothing_but_times_of_cron() {
    let with_steps = || (plan(), vec(-10_000_000..10_000_000i64, 25));
    in_worlds(10, with_steps, |(mut plan, steps)| {
        plan.apps.iter_mut().for_each(|app| app.policy.cron_restart = None);
        prop_assert_eq!(live(&plan, &steps).transcript, live(&plan, &[]).transcript);
        Ok(())
    });
}
