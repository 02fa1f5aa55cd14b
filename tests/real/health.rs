//! `stead health`: one line where all is well, else what is not, and an exit status for scripts.

use crate::harness::{Stead, eventually, until};
use serde_json::Value;

/// Rules that no shared machine breaks by itself.
const CALM: &str = "health: {memory: 100, swap: 100, disk: 100}\n";

fn health(stead: &Stead) -> (Option<i32>, Value) {
    let said = stead.run(["health", "--json"]);
    (said.status, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

fn verdict<'v>(health: &'v Value, name: &str) -> &'v Value {
    let apps = health["apps"].as_array().unwrap();
    apps.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{health}"))
}

#[test]
fn each_verdict_has_its_exit_status() {
    let stead = Stead::new();
    stead.start(&format!("{CALM}apps: [{{name: calm, script: sleep, args: '1000'}}]"));
    let (status, all) = health(&stead);
    assert_eq!((status, &all["verdict"], &all["exit"]), (Some(0), &"ok".into(), &0.into()), "{all:#}");
    assert_eq!(verdict(&all, "calm")["reason"], Value::Null);
    let page = stead.run(["health"]);
    assert_eq!((page.status, page.stdout.lines().count()), (Some(0), 1), "{page:?}");
    assert!(page.stdout.starts_with("ok: 1 app is well; memory "), "{page:?}");

    // A rule of the app's own: any process uses more than this.
    stead.file("grown.py", "import time\nkept = b'x' * (8 << 20)\nprint('grown', flush=True)\ntime.sleep(1000)\n");
    stead.start("apps: [{name: grown, script: grown.py, memory_warn: 4M}]");
    until("it has grown", || stead.log("grown", "out").contains("grown"));
    eventually("a warning is 1", || {
        let (status, all) = health(&stead);
        let reason = verdict(&all, "grown")["reason"].as_str().unwrap_or_default().to_owned();
        let told = status == Some(1) && reason.contains("more than its memory_warn of 4M");
        if told { Ok(()) } else { Err(format!("{status:?}: {all:#}")) }
    });

    let said = stead.run(["start", "/bin/false", "--name", "broken", "--no-wait"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    stead.until_status("broken", "errored");
    let (status, all) = health(&stead);
    assert_eq!(
        (status, &all["verdict"], &all["apps"][0]["name"]),
        (Some(2), &"critical".into(), &"broken".into()),
        "{all:#}"
    );
    assert!(verdict(&all, "broken")["advice"].as_str().unwrap().contains("`stead why broken`"));
    let page = stead.run(["health"]);
    assert!(page.stdout.starts_with("critical  broken: gave up: "), "{page:?}");
    assert!(page.stdout.lines().all(|line| !line.contains('\u{1b}')));
}

#[test]
fn the_rules_of_the_file_hold_until_another_file_has_some_and_outlive_the_daemon() {
    let stead = Stead::new();
    stead.start("health: {memory: 1, swap: 100, disk: 100}\napps: [{name: calm, script: sleep, args: '1000'}]");
    let strict = |all: &Value| all["host"]["findings"].as_array().unwrap().iter().any(|one| one["area"] == "memory");
    assert!(strict(&health(&stead).1), "1 % is in use everywhere");
    stead.start("apps: [{name: other, script: sleep, args: '1000'}]");
    assert!(strict(&health(&stead).1), "a file without rules changes none");
    stead.kill_daemon();
    eventually("the next daemon knows the rules and that there was another", || {
        let (_, all) = health(&stead);
        let told = all["stead"]["findings"].as_array().unwrap().iter().any(|one| one["area"] == "daemon");
        if strict(&all) && told { Ok(()) } else { Err(format!("{all:#}")) }
    });
    stead.start(&format!("{CALM}apps: [{{name: calm, script: sleep, args: '1000'}}]"));
    assert!(!strict(&health(&stead).1));
}

#[test]
fn the_biggest_data_folders_are_weighed_in_the_background() {
    let stead = Stead::new();
    std::fs::create_dir_all(stead.work.join("data/big")).unwrap();
    std::fs::write(stead.work.join("data/big/rows"), vec![1; 3 << 20]).unwrap();
    std::fs::write(stead.work.join("data/small"), vec![1; 100]).unwrap();
    stead.start("health: {data: data, disk: 100}\napps: [{name: calm, script: sleep, args: '1000'}]");
    let data = eventually("they are weighed", || {
        let (_, all) = health(&stead);
        let measured = all["host"]["data_measured_at"].is_string();
        if measured { Ok(all["host"]["data"].clone()) } else { Err(all.to_string()) }
    });
    assert!(data[0]["path"].as_str().unwrap().ends_with("data/big"), "{data}");
    assert!((3 << 20..4 << 20).contains(&data[0]["bytes"].as_u64().unwrap()), "{data}");
}

#[test]
fn the_report_names_what_happened() {
    let stead = Stead::new();
    stead.file("bad.py", "raise ValueError('no row 17')\n");
    stead.run(["start", "bad.py", "--max-restarts", "2"]);
    stead.until_status("bad", "errored");
    let said = stead.run(["health", "--report"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    let page = &said.stdout;
    assert!(page.starts_with("# Health of 1 apps: critical\n"), "{page}");
    assert!(page.contains("1. **bad** (critical): gave up"), "{page}");
    assert!(page.contains("| bad | exit-code | 2 |"), "{page}");
    assert!(page.contains("ValueError: no row 17 at bad.py:1") || page.contains("bad.py:1"), "{page}");
}
