//! Many instances, and a long time.

use crate::app;
use crate::world::{World, apply};
use std::time::Instant;
use stead::core::clock::Millis;
use stead::core::command::Command;
use stead::core::fleet::Fleet;
use stead::core::view::Status;

const DAY: Millis = Millis(86_400_000);

/// What the core keeps, written out: all of it, and nothing but it.
fn kept(world: &World) -> usize {
    world.fleet.as_ref().map_or(0, |fleet| format!("{fleet:?}").len())
}

/// Whatever happens again and again leaves nothing behind: restarts by the clock and by the policy, jobs, probes, changes of files,
/// reloads, instances that come and go under new ids, commands and daemons.
#[test]
fn what_the_core_keeps_does_not_grow_in_a_year() {
    let mut world = World::untold(2);
    let apps = [
        "by-clock cron_restart=0_*/6_*_*_*",
        "job autorestart=false cron_restart=30_*/3_*_*_* jitter=5m",
        "crashes restart_delay=3h",
        "leaks max_memory_restart=100000000 exp_backoff_restart_delay=10s",
        "web listen=:80 watch=/srv health_check=1h/3/0 depends_on=by-clock",
        "workers instances=2",
    ];
    let file: Vec<_> = apps.into_iter().map(app::spec).collect();
    for (name, temper) in [
        ("job", "exits 3 after 5s"),
        ("crashes", "exits 1 after 2m, children 2"),
        ("workers", "ignores signals"),
        ("web", "ill after 100h"),
    ] {
        world.tempers.insert(name.into(), app::temper(temper));
    }
    world.ask(apply(&file), true);
    let mut sizes = Vec::new();
    for day in 0..365u32 {
        let targets = |name: &str| vec![name.to_owned()];
        world.pass(Millis(DAY.0 / 2));
        world.memory_is_short(day % 2 == 0);
        world.file_changes("web", &format!("day{day}.py"));
        world.pass(Millis(60_000));
        for command in [
            Command::Scale { app: "workers".into(), count: 2 + day % 3 },
            Command::Reload { targets: targets("web") },
            Command::Restart { targets: targets("job"), environment: None },
            Command::Delete { targets: targets("leaks") },
            apply(&file),
        ] {
            world.ask(command, true);
            world.pass(Millis(60_000));
        }
        if day % 7 == 6 {
            world.daemon_dies();
        }
        world.pass(Millis(DAY.0 / 2 - 360_000));
        // Each is a day after the daemon of the week began, and has as many workers.
        if day % 21 == 7 {
            sizes.push(kept(&world));
        }
    }
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    // The numbers have grown by some digits.
    assert!(last <= first + first / 20, "{sizes:?}");
}

/// `STEAD_INSTANCES=1000 cargo test --profile sim --test sim a_day_of -- --nocapture` says how long a day of so many takes.
#[test]
fn a_day_of_many_instances_passes() {
    let asked = std::env::var("STEAD_INSTANCES").ok().map(|text| text.parse().expect("a number of instances"));
    let tenth: u32 = asked.unwrap_or(50) / 10;
    let mut world = World::untold(2);
    let apps = [
        format!("quiet instances={}", tenth * 6),
        format!("asked instances={tenth} health_check=30s/3/0"),
        format!("crashes instances={tenth} restart_delay=10s"),
        format!("job instances={tenth} autorestart=false cron_restart=*/10_*_*_*_* jitter=1m"),
        format!("nightly instances={tenth} cron_restart=30_3_*_*_* depends_on=asked"),
    ];
    let file: Vec<_> = apps.iter().map(|text| app::spec(text)).collect();
    world.tempers.insert("crashes".into(), app::temper("exits 1 after 1h"));
    world.tempers.insert("job".into(), app::temper("exits 0 after 20s"));
    let began = Instant::now();
    world.ask(apply(&file), true);
    world.pass(DAY);
    println!("a day of {} instances: {} events in {:.1} s", tenth * 10, world.events, began.elapsed().as_secs_f32());
    let all = || world.fleet.iter().flat_map(Fleet::instances);
    assert_eq!(all().count(), tenth as usize * 10);
    for one in all() {
        let is_well = matches!(one.status(), Status::Online | Status::Waiting);
        let ended = match one.app.as_str() {
            "crashes" => 23,
            "job" => 143,
            "nightly" => 1,
            _ => 0,
        };
        assert!(is_well && one.tally.total.abs_diff(ended) <= 1, "{}: {:?}, {:?}", one.name, one.phase, one.tally);
    }
}
