use super::*;

const NOW: Wall = Wall(1_795_465_800_000);
const GIB: u64 = 1 << 30;

fn well(name: &str) -> AppFacts {
    AppFacts {
        name: name.into(),
        status: Status::Online,
        rules: HealthRules::default(),
        crash_loop: false,
        backs_off: false,
        restarts_unplanned: 3,
        ends_last_hour: 0,
        note: None,
        last: Some(("exit-code".into(), "exited with code 1 after 3 s".into())),
        memory_bytes: Some(50 << 20),
        cap_bytes: Some(300 << 20),
        enforcement: Enforcement::Cgroup2,
        leak: None,
        log_bytes_lost: 0,
        log_fault: None,
    }
}

fn machine() -> Host {
    Host {
        memory_total_bytes: Some(8 * GIB),
        memory_available_bytes: Some(5 * GIB),
        swap_total_bytes: Some(2 * GIB),
        swap_free_bytes: Some(2 * GIB),
        disks: vec![Disk {
            path: "/var/lib/stead/logs".into(),
            holds: "logs".into(),
            total_bytes: 100 * GIB,
            available_bytes: 60 * GIB,
        }],
        caps_bytes: GIB,
        ..Host::default()
    }
}

fn own() -> OwnFacts {
    OwnFacts {
        version: "0.1.0".into(),
        daemon_pid: 2,
        keeper_pid: 1,
        daemon_starts: 1,
        upgrades: 0,
        enforcement: Enforcement::Cgroup2,
        polling: None,
        faults: Vec::new(),
        notifiers: Vec::new(),
    }
}

#[test]
fn where_all_is_well_nothing_is_said() {
    let health = examine(NOW, &Rules::default(), &[well("a"), well("b")], machine(), own());
    assert_eq!((health.verdict, health.exit), (Verdict::Ok, 0));
    assert!(health.apps.iter().all(|one| one.reason.is_none() && one.advice.is_none()));
    assert!(health.host.findings.is_empty() && health.stead.findings.is_empty());
}

#[test]
fn each_rule_of_an_app_has_its_verdict_and_its_words() {
    let rules = |rules: HealthRules| AppFacts { rules, ..well("api") };
    let table: Vec<(AppFacts, Verdict, &str)> = vec![
        (
            AppFacts { status: Status::Errored, note: Some("16 ends below min_uptime 1 s".into()), ..well("api") },
            Verdict::Critical,
            "gave up: 16 ends below min_uptime 1 s; the last end: exited with code 1 after 3 s",
        ),
        (
            AppFacts { crash_loop: true, ends_last_hour: 10, ..well("api") },
            Verdict::Critical,
            "crash loop: 10 unplanned ends within the hour: exited with code 1 after 3 s",
        ),
        (
            AppFacts { leak: Some((12.0 * 1_048_576.0, Some(1800.0))), ..well("api") },
            Verdict::Critical,
            "leaks +12M an hour, and reaches its cap in 30m",
        ),
        (
            AppFacts { leak: Some((12.0 * 1_048_576.0, Some(33_000.0))), ..well("api") },
            Verdict::Warning,
            "leaks +12M an hour, and reaches its cap in 9h 10m",
        ),
        (AppFacts { leak: Some((1_048_576.0, None)), ..well("api") }, Verdict::Warning, "leaks +1M an hour"),
        (
            AppFacts { log_bytes_lost: 5000, log_fault: Some("no space left".into()), ..well("api") },
            Verdict::Critical,
            "its output cannot be written (no space left): 4.9K of it are lost within the hour",
        ),
        (
            AppFacts { log_bytes_lost: 5000, ..well("api") },
            Verdict::Warning,
            "4.9K of its output could not be written within the hour",
        ),
        (
            rules(HealthRules { memory_warn: Some(Bytes(40 << 20)), ..HealthRules::default() }),
            Verdict::Warning,
            "uses 50M, more than its memory_warn of 40M",
        ),
        (AppFacts { memory_bytes: Some(290 << 20), ..well("api") }, Verdict::Warning, "uses 290M of its cap of 300M"),
        (
            AppFacts { ends_last_hour: 6, ..well("api") },
            Verdict::Warning,
            "6 unplanned ends within the hour: exited with code 1 after 3 s",
        ),
        (
            AppFacts {
                ends_last_hour: 1,
                last: Some(("memory-cap".into(), "restarted at 300M".into())),
                ..well("api")
            },
            Verdict::Warning,
            "was ended for its memory within the hour: restarted at 300M",
        ),
        (
            AppFacts { restarts_unplanned: 51, ..well("api") },
            Verdict::Warning,
            "51 unplanned restarts in all: exited with code 1 after 3 s",
        ),
        (
            AppFacts { status: Status::Waiting, ends_last_hour: 1, note: Some("backoff 2 s".into()), ..well("api") },
            Verdict::Warning,
            "waits to start again (backoff 2 s): exited with code 1 after 3 s",
        ),
    ];
    for (facts, verdict, reason) in table {
        let health = examine(NOW, &Rules::default(), &[facts], machine(), own());
        let one = &health.apps[0];
        assert_eq!((one.verdict, one.reason.as_deref()), (verdict, Some(reason)));
        assert!(one.advice.is_some(), "{reason}");
        assert_eq!((health.verdict, health.exit), (verdict, verdict.exit()));
    }
}

#[test]
fn a_rule_that_is_raised_is_kept_and_a_job_that_waits_for_its_time_is_well() {
    let calm = [
        AppFacts {
            restarts_unplanned: 51,
            rules: HealthRules { restarts: Some(100), ..HealthRules::default() },
            ..well("api")
        },
        AppFacts {
            ends_last_hour: 6,
            rules: HealthRules { restarts_per_hour: Some(9), ..HealthRules::default() },
            ..well("api")
        },
        AppFacts { status: Status::Waiting, note: Some("next run at 03:00".into()), ..well("api") },
        AppFacts { status: Status::Stopped, memory_bytes: None, ..well("api") },
    ];
    for facts in calm {
        assert_eq!(examine(NOW, &Rules::default(), &[facts], machine(), own()).verdict, Verdict::Ok);
    }
}

#[test]
fn each_rule_of_the_machine_has_its_verdict() {
    let kill = |host, ago_ms| OomVictim {
        at: Some(Wall(NOW.0 - ago_ms)),
        pid: 7,
        name: "git".into(),
        bytes: Some(6_900 << 20),
        host,
        app: None,
    };
    let full = |used: u64| Disk {
        path: "/srv".into(),
        holds: "data".into(),
        total_bytes: 100 * GIB,
        available_bytes: (100 - used) * GIB,
    };
    let table: Vec<(Host, Verdict, &str)> = vec![
        (Host { memory_available_bytes: Some(GIB), ..machine() }, Verdict::Warning, "88% of 8G is in use"),
        (Host { memory_available_bytes: Some(GIB / 10), ..machine() }, Verdict::Critical, "99% of 8G is in use"),
        (Host { swap_free_bytes: Some(GIB / 4), ..machine() }, Verdict::Warning, "88% of 2G is in use"),
        (Host { disks: vec![full(89)], ..machine() }, Verdict::Ok, ""),
        (Host { disks: vec![full(91)], ..machine() }, Verdict::Warning, "91% of 100G is in use, 9G are left for data"),
        (Host { disks: vec![full(98)], ..machine() }, Verdict::Critical, "98% of 100G is in use"),
        (
            Host { oom_kills: vec![kill(true, 3_600_000)], ..machine() },
            Verdict::Warning,
            "the machine was out of memory once within a day; the kernel killed `git` (pid 7) with 6.7G last",
        ),
        (Host { oom_kills: vec![kill(true, 90_000_000), kill(false, 1000)], ..machine() }, Verdict::Ok, ""),
        (Host { caps_bytes: 9 * GIB, ..machine() }, Verdict::Warning, "all caps together are 9G, the machine has 8G"),
        (Host { memory_total_bytes: None, ..machine() }, Verdict::Unknown, ""),
        (Host { swap_total_bytes: Some(0), swap_free_bytes: Some(0), ..machine() }, Verdict::Ok, ""),
    ];
    for (host, verdict, reason) in table {
        let health = examine(NOW, &Rules::default(), &[], host, own());
        assert_eq!(health.verdict, verdict, "{reason}");
        let said = health.host.findings.first().map_or("", |finding| finding.reason.as_str());
        assert!(said.starts_with(reason), "{said}");
    }
    let strict = Rules { memory: 10, ..Rules::default() };
    assert_eq!(examine(NOW, &strict, &[], machine(), own()).verdict, Verdict::Warning);
}

#[test]
fn stead_tells_on_itself() {
    let polling = Some(("no cgroup may be made here".to_owned(), "Delegate=yes".to_owned()));
    let health = |facts: OwnFacts, apps: &[AppFacts]| examine(NOW, &Rules::default(), apps, machine(), facts);
    let one = health(OwnFacts { polling: polling.clone(), ..own() }, &[well("api")]);
    assert_eq!(one.stead.findings[0].reason, "caps are kept by polling: no cgroup may be made here");
    assert_eq!(one.exit, 1);
    // Without a cap there is nothing to keep.
    let uncapped = AppFacts { cap_bytes: None, ..well("api") };
    assert_eq!(health(OwnFacts { polling, ..own() }, &[uncapped]).exit, 0);
    assert_eq!(health(OwnFacts { daemon_starts: 3, ..own() }, &[]).exit, 1);
    let notifiers = vec![("webhook https://hooks.example".to_owned(), "answered 500".to_owned())];
    let told = health(OwnFacts { notifiers, ..own() }, &[]);
    assert_eq!((told.exit, told.stead.findings[0].reason.as_str()), (1, "webhook https://hooks.example: answered 500"));
    let faults = vec![("journal".to_owned(), "no space left on device".to_owned())];
    assert_eq!(health(OwnFacts { faults, ..own() }, &[]).exit, 2);
}

#[test]
fn the_worst_comes_first() {
    let apps = [
        well("a"),
        AppFacts { restarts_unplanned: 99, ..well("b") },
        AppFacts { status: Status::Errored, ..well("c") },
        AppFacts { status: Status::Errored, ..well("bb") },
    ];
    let health = examine(NOW, &Rules::default(), &apps, machine(), own());
    let names: Vec<&str> = health.apps.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["bb", "c", "b", "a"]);
}
