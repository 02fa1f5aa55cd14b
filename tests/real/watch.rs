//! Restarts for files that change.

use crate::harness::{Stead, eventually, signal, until};
use serde_json::{Value, json};
use std::fs;

const SLEEPS: &str = "#!/bin/sh\necho up\nexec sleep 1000\n";

/// A folder `src` that an app `web` watches with these attributes more, online.
fn watching(attributes: &str) -> Stead {
    let stead = Stead::new();
    stead.file("src/app.sh", SLEEPS);
    stead.file("src/deep/er/mod.py", "");
    stead.start(&format!("apps:\n  - {{name: web, cwd: src, script: ./app.sh, watch: true{attributes}}}\n"));
    until_watched(&stead, 3);
    stead
}

/// Once it has restarted so often, for a change, its newest record.
fn restarted(stead: &Stead, times: u64) -> Value {
    until("it restarts", || {
        let web = stead.instance("web");
        web["restarts"] == times && web["status"] == "online"
    });
    let record = stead.newest_record("web");
    assert_eq!((&record["cause"], &record["planned"]), (&json!("watch"), &json!(true)), "{record:#}");
    record
}

/// Changes a file; the next restart is for it.
fn change(stead: &Stead, file: &str, times: u64) -> Value {
    stead.file(file, "changed\n");
    restarted(stead, times)
}

/// When the daemon has so many folders under its eyes: nothing else says that it has begun to watch.
fn until_watched(stead: &Stead, folders: usize) {
    until("the folders are watched", || {
        let daemon = stead.json(["ping", "--json"])["daemon_pid"].clone();
        let infos = fs::read_dir(format!("/proc/{daemon}/fdinfo")).into_iter().flatten().flatten();
        let infos: String = infos.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
        infos.lines().filter(|line| line.starts_with("inotify ")).count() == folders
    });
}

#[test]
fn a_change_restarts_and_the_record_names_the_file() {
    let stead = watching("");
    let record = change(&stead, "src/deep/er/mod.py", 1);
    assert_eq!(record["evidence"]["watch_path"], "deep/er/mod.py");
    let summary = "restarted because a watched file changed: deep/er/mod.py";
    assert_eq!(record["summary"], summary);
    assert!(stead.ok(["why", "web"]).contains(summary));
    // A folder that comes later is watched too, and what is renamed into place.
    stead.file("new.txt", "");
    fs::create_dir(stead.work.join("src/later")).unwrap();
    fs::rename(stead.work.join("new.txt"), stead.work.join("src/later/new.txt")).unwrap();
    assert_eq!(restarted(&stead, 2)["evidence"]["watch_path"], "later/new.txt");
    fs::remove_file(stead.work.join("src/later/new.txt")).unwrap();
    assert_eq!(restarted(&stead, 3)["evidence"]["watch_path"], "later/new.txt");
}

#[test]
fn what_an_app_and_its_tools_write_restarts_nothing() {
    let stead = watching(", out_file: src/my.out, ignore_watch: [data, '*.csv', '!*.jsonl']");
    change(&stead, "src/first.py", 1);
    let seen = stead.instance("web")["restarts"].clone();
    for quiet in [
        ".git/index",
        "__pycache__/m.pyc",
        "app.db",
        "app.db-journal",
        "app.db-wal",
        "data/x/y",
        "a.csv",
        "app.log",
        ".app.py.swp",
        "my.out.1",
        "node_modules/x/y.js",
    ] {
        stead.file(&format!("src/{quiet}"), "x");
    }
    assert!(
        fs::read_to_string(stead.work.join("src/my.out")).unwrap().contains("up"),
        "its log is in the watched folder"
    );
    assert_eq!(stead.instance("web")["restarts"], seen);
    stead.file("src/last.jsonl", "taken back by !");
    // Were any of those before seen, it would be named, and this restart would not be the next.
    assert_eq!(restarted(&stead, 2)["evidence"]["watch_path"], "last.jsonl");
}

#[test]
fn five_thousand_files_at_once_are_one_restart() {
    let stead = watching("");
    change(&stead, "src/first.py", 1);
    for n in 0..5_000 {
        stead.file(&format!("src/many/{}/{n}.py", n % 50), "x");
    }
    let record = restarted(&stead, 2);
    assert!(record["evidence"]["watch_path"].as_str().unwrap().starts_with("many/"), "{record:#}");
    stead.file("src/last.py", "");
    assert_eq!(restarted(&stead, 3)["evidence"]["watch_path"], "last.py");
}

#[test]
fn a_change_is_a_new_chance_for_who_gave_up_and_none_for_who_was_stopped() {
    let stead = Stead::new();
    stead.file("bad.sh", "#!/bin/sh\nexit 1\n");
    let app = |name: &str| {
        format!("  - {{name: {name}, script: ./bad.sh, watch: bad.sh, max_restarts: 2, min_uptime: 1m}}\n")
    };
    stead.file("ecosystem.yaml", &format!("apps:\n{}{}", app("web"), app("down")));
    stead.run(["start"]);
    stead.until_status("web", "errored");
    stead.ok(["stop", "down"]);
    until_watched(&stead, 1);
    stead.file("bad.sh", SLEEPS);
    stead.until_status("web", "online");
    assert_eq!(stead.instance("down")["status"], "stopped");
}

#[test]
fn a_daemon_that_begins_anew_watches_again() {
    let stead = watching("");
    change(&stead, "src/a.py", 1);
    let daemon = stead.json(["ping", "--json"])["daemon_pid"].as_i64().unwrap() as i32;
    signal(daemon, 9);
    eventually("another daemon is there", || match stead.json(["ping", "--json"])["daemon_pid"].as_i64() {
        Some(pid) if pid as i32 != daemon => Ok(()),
        other => Err(format!("{other:?}")),
    });
    until_watched(&stead, 3);
    change(&stead, "src/b.py", 2);
    // And no longer when its file says so.
    let off = "apps:\n  - {name: web, cwd: src, script: ./app.sh}\n";
    stead.file("ecosystem.yaml", off);
    assert!(stead.ok(["start"]).contains("updated web"), "no restart for that");
    assert_eq!(stead.describe("web")["spec"]["watch"], Value::Null);
}

#[test]
fn a_watched_folder_that_is_made_anew_is_a_change() {
    let stead = Stead::new();
    stead.file("app.sh", SLEEPS);
    stead.file("build/main.js", "");
    stead.start("apps:\n  - {name: web, script: ./app.sh, watch: [build]}\n");
    until_watched(&stead, 1);
    change(&stead, "build/main.js", 1);
    fs::remove_dir_all(stead.work.join("build")).unwrap();
    restarted(&stead, 2);
    stead.file("build/main.js", "new");
    restarted(&stead, 3);
    until_watched(&stead, 1);
    change(&stead, "build/main.js", 4);
}

#[test]
fn what_cannot_be_watched_is_an_error_before_anything_starts() {
    let stead = Stead::new();
    stead.file("app.sh", SLEEPS);
    for (watch, error) in [
        ("[gone]", "watch: "),
        ("/", "the whole machine cannot be watched"),
        ("true, cwd: /", "the whole machine cannot be watched"),
        ("true, ignore_watch: ['a[b']", "a `[` is never closed"),
    ] {
        let script = stead.work.join("app.sh");
        stead.file("e.yaml", &format!("apps:\n  - {{name: web, script: {}, watch: {watch}}}\n", script.display()));
        let said = stead.run(["check", "e.yaml"]);
        assert!(said.status == Some(2) && said.stderr.contains(error), "{watch}: {said:#?}");
    }
}
