//! What the machine may be short of: supervision goes on, the fault is said once, and it is over when its cause is.

use crate::harness::{Stead, eventually, is_alive, signal, until};
use std::process::Command;

/// Writes numbered lines without an end.
const COUNTER: &str = "from kit import *\nfor n in range(100000000):\n    print(n)\n    time.sleep(0.002)\n";

fn counters(count: usize, attributes: &str) -> Stead {
    let stead = Stead::new();
    stead.kit();
    stead.file("counter.py", COUNTER);
    let app = |n| format!("  - {{name: c{n}, script: ./counter.py, {attributes}}}\n");
    stead.start(&format!("apps:\n{}", (0..count).map(app).collect::<String>()));
    stead
}

/// Sets the soft limit of open files of a process, so that it can be set back.
fn limit_files(pid: i32, limit: &str) {
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]).status();
    assert!(status.unwrap().success());
}

/// From now on no descriptor is free there.
fn exhaust(pid: i32) -> String {
    let hard = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let hard = hard.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let hard = hard.split_whitespace().nth(4).unwrap().to_owned();
    let free = (0..).find(|n| !std::path::Path::new(&format!("/proc/{pid}/fd/{n}")).exists()).unwrap();
    limit_files(pid, &free.to_string());
    hard
}

fn finding(stead: &Stead, area: &str) -> Option<String> {
    let said = stead.run(["health", "--json"]);
    let health: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let findings = health["stead"]["findings"].as_array().unwrap().clone();
    findings.iter().find(|one| one["area"] == area).map(|one| one["reason"].as_str().unwrap().to_owned())
}

fn lines_of_own_log(stead: &Stead, words: &str) -> usize {
    stead.own_log().lines().filter(|line| line.contains(words)).count()
}

/// Each run's lines are there, from 0 on without a gap.
fn assert_no_line_lost(stead: &Stead, name: &str) {
    let text = stead.log(name, "out");
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut expected = 0;
    for line in whole.lines() {
        let n: u64 = line.parse().unwrap_or_else(|_| panic!("{name}: {line:?}"));
        assert!(n == expected || n == 0, "{name}: {n} comes where {expected} should");
        expected = n + 1;
    }
}

#[test]
fn a_daemon_without_free_descriptors_brings_apps_back_and_answers_and_says_so_once() {
    let stead = counters(3, "");
    let (daemon, other) = (stead.daemon_pid(), stead.pid("c1"));
    let hard = exhaust(daemon);
    let before = stead.pid("c0");
    signal(before, 9);
    let one = eventually("it is back", || match stead.instance("c0") {
        one if one["status"] == "online" && one["pid"] != before => Ok(one),
        one => Err(format!("{one:#}\n{}", stead.own_log())),
    });
    assert_eq!(one["last_exit"]["cause"], "signal");
    until("health names it", || finding(&stead, "descriptors").is_some());
    let list = stead.ok(["list"]);
    assert!(list.contains("stead itself: descriptors: the daemon has no free descriptor"), "{list}");
    assert_eq!(lines_of_own_log(&stead, "no descriptor is free: what needs one"), 1, "{}", stead.own_log());

    limit_files(daemon, &hard);
    until("health is silent", || finding(&stead, "descriptors").is_none());
    assert!(!stead.ok(["list"]).contains("stead itself"));
    let behind = stead.log("c0", "out").len();
    until("its output is written", || stead.log("c0", "out").len() > behind);
    stead.ok(["stop", "all"]);
    assert_eq!((stead.daemon_pid(), is_alive(other)), (daemon, false));
    for name in ["c0", "c1", "c2"] {
        assert_no_line_lost(&stead, name);
    }
    assert!(std::fs::read_dir(stead.home.join("journal")).unwrap().flatten().count() == 3, "nothing was put aside");
}

#[test]
fn a_keeper_without_free_descriptors_keeps_its_daemon_and_gives_no_app_up() {
    let stead = counters(2, "max_restarts: 2, exp_backoff_restart_delay: 50");
    let (keeper, daemon) = (stead.keeper_pid(), stead.daemon_pid());
    let hard = exhaust(keeper);
    signal(stead.pid("c0"), 9);
    let record = eventually("tried more often than max_restarts", || {
        let why = stead.json(["why", "c0", "--json"]);
        let records = why["records"].as_array().unwrap().clone();
        if records.len() > 4 { Ok(records[0].clone()) } else { Err(format!("{why:#}")) }
    });
    assert_eq!(
        (&record["cause"], &record["next"]["action"]),
        (&"spawn-failed".into(), &"restart".into()),
        "{record:#}"
    );
    assert!(finding(&stead, "spawn").is_some_and(|what| what.starts_with("c0 cannot be started for now")));
    limit_files(keeper, &hard);
    stead.until_status("c0", "online");
    assert_eq!(finding(&stead, "spawn"), None);
    assert_eq!((stead.keeper_pid(), stead.daemon_pid()), (keeper, daemon), "both are the same");
    assert_eq!(stead.instance("c1")["restarts"], 0);
}

#[test]
fn a_daemon_without_room_for_all_runs_takes_the_rest_over_when_there_is() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("SKIPPED, for only root raises a hard limit again");
        return;
    }
    let stead = Stead::new();
    stead.kit();
    stead.file("counter.py", COUNTER);
    let app = |n| format!("  - {{name: c{n}, script: ./counter.py}}\n");
    stead.file("ecosystem.yaml", &format!("apps:\n{}", (0..12).map(app).collect::<String>()));
    let mut command = Command::new("sh");
    // Enough for what the keeper holds of twelve runs, not for the daemon, which has their logs open as well.
    let script = format!("ulimit -n 100 && exec {} daemon ecosystem.yaml", env!("CARGO_BIN_EXE_stead"));
    command.args(["-c", &script]).current_dir(&stead.work);
    let _foreground = stead.foreground_by(command);
    let raise = || {
        let daemon = stead.daemon_pid().to_string();
        assert!(Command::new("prlimit").args(["--pid", &daemon, "--nofile=4096:4096"]).status().unwrap().success());
    };
    until("all are online", || (0..12).all(|n| stead.instance(&format!("c{n}"))["status"] == "online"));
    until("it says so", || lines_of_own_log(&stead, "some runs cannot be taken over yet") == 1);
    assert!(finding(&stead, "descriptors").is_some_and(|what| what.contains("cannot be taken over yet")));
    stead.kill_daemon();
    until("its successor says so", || lines_of_own_log(&stead, "some runs cannot be taken over yet") == 2);
    let pids: Vec<i32> = (0..12).map(|n| stead.pid(&format!("c{n}"))).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    // One that is not taken over yet ends: how is known once it is.
    signal(pids[11], 9);
    raise();
    until("all are taken over", || lines_of_own_log(&stead, "all runs are taken over") == 1);
    let one = eventually("the one that ended is back", || match stead.instance("c11") {
        one if one["status"] == "online" && one["pid"] != pids[11] => Ok(one),
        one => Err(format!("{one:#}\n{}", stead.own_log())),
    });
    assert_eq!((&one["last_exit"]["cause"], &one["last_exit"]["signal"]), (&"signal".into(), &"SIGKILL".into()));
    assert_eq!((0..11).map(|n| stead.pid(&format!("c{n}"))).collect::<Vec<_>>(), pids[..11]);
    until("health is silent", || finding(&stead, "descriptors").is_none());
}
