//! The JSON of list, describe, why and ping, to the letter: every key is there, null where unknown.

use crate::harness::{Stead, eventually, is_alive, signal, until};
use serde_json::{Value, json};

/// What a value may be. `Maybe` is null or that.
enum Form {
    Text,
    Number,
    Flag,
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    Texts,
    Object(&'static [(&'static str, Form)]),
    Maybe(&'static Form),
    Anything,
}

use Form::{Anything, Flag, Maybe, Number, Object, Text, Texts, Time, Word};

const ACTOR: Form = Object(&[("uid", Maybe(&Number)), ("pid", Maybe(&Number)), ("command", Maybe(&Text))]);

const CAUSES: &[&str] = &[
    "success",
    "exit-code",
    "signal",
    "core-dump",
    "memory-cap",
    "oom-kill",
    "oom-kill-host",
    "health-check",
    "start-timeout",
    "spawn-failed",
    "lost",
    "manual",
    "reload",
    "config-change",
    "cron",
    "watch",
    "shutdown",
];

const RECORD: Form = Object(&[
    ("run", Text),
    ("instance", Text),
    ("pid", Maybe(&Number)),
    ("started_at", Maybe(&Time)),
    ("ended_at", Time),
    ("uptime_ms", Maybe(&Number)),
    ("cause", Word(CAUSES)),
    ("planned", Flag),
    ("confidence", Word(&["certain", "likely", "unknown"])),
    ("summary", Text),
    ("exit_code", Maybe(&Number)),
    ("signal", Maybe(&Text)),
    ("core_dumped", Flag),
    ("signature", Maybe(&Text)),
    ("actor", Maybe(&ACTOR)),
    (
        "memory",
        Object(&[
            ("last_bytes", Maybe(&Number)),
            ("peak_bytes", Maybe(&Number)),
            ("cap_bytes", Maybe(&Number)),
            ("wall_bytes", Maybe(&Number)),
        ]),
    ),
    (
        "evidence",
        Object(&[
            ("stderr_tail", Texts),
            ("exception", Maybe(&Object(&[("type", Text), ("message", Text), ("location", Maybe(&Text))]))),
            (
                "oom",
                Object(&[
                    ("own", Number),
                    ("host", Number),
                    ("killed_pid", Maybe(&Number)),
                    ("killed_name", Maybe(&Text)),
                ]),
            ),
            ("kernel_log", Texts),
            ("probe", Anything),
            ("watch_path", Maybe(&Text)),
            ("spawn", Maybe(&Object(&[("stage", Text), ("errno", Text)]))),
            ("sender", Maybe(&ACTOR)),
            ("stdout_tail", Texts),
            ("exit_meaning", Maybe(&Object(&[("words", Text), ("signal", Maybe(&Text))]))),
            (
                "lock_holder",
                Maybe(&Object(&[
                    ("pid", Number),
                    ("command", Maybe(&Text)),
                    ("instance", Maybe(&Text)),
                    ("path", Text),
                    ("seen_at", Time),
                ])),
            ),
            ("children", Anything),
            ("hint", Maybe(&Text)),
        ]),
    ),
    ("left_behind", Number),
    (
        "next",
        Object(&[
            ("action", Word(&["restart", "stop", "give-up", "delete"])),
            ("delay_ms", Maybe(&Number)),
            ("reason", Text),
        ]),
    ),
]);

const INSTANCE: Form = Object(&[
    ("name", Text),
    ("app", Text),
    ("namespace", Text),
    ("id", Number),
    ("status", Word(&["launching", "online", "stopping", "stopped", "waiting", "errored"])),
    ("pid", Maybe(&Number)),
    ("uptime_ms", Maybe(&Number)),
    ("restarts", Number),
    ("restarts_unplanned", Number),
    ("memory_bytes", Maybe(&Number)),
    ("memory_cap_bytes", Maybe(&Number)),
    ("memory_enforcement", Word(&["cgroup2", "cgroup1", "polling", "none"])),
    ("cpu_percent", Maybe(&Number)),
    ("processes", Maybe(&Number)),
    ("next_start_at", Maybe(&Time)),
    ("last_exit", Maybe(&RECORD)),
]);

const WHY: Form = Object(&[
    ("name", Text),
    ("total", Number),
    ("planned", Number),
    ("unplanned", Number),
    ("since", Maybe(&Time)),
    ("by_cause", Anything),
    ("records", Anything),
    ("advice", Anything),
    ("loops", Anything),
    ("notes", Texts),
]);

const BY_CAUSE: Form = Object(&[
    ("cause", Word(CAUSES)),
    ("signature", Maybe(&Text)),
    ("count", Number),
    ("first_at", Time),
    ("last_at", Time),
]);

const PONG: Form = Object(&[
    ("version", Text),
    ("protocol", Number),
    ("daemon_pid", Number),
    ("keeper_pid", Number),
    ("daemon_starts", Number),
]);

/// Complains by the value's path.
fn has_form(value: &Value, form: &Form, path: &str) {
    match (form, value) {
        (Anything, _)
        | (Maybe(_), Value::Null)
        | (Text, Value::String(_))
        | (Number, Value::Number(_))
        | (Flag, Value::Bool(_)) => {}
        (Maybe(form), value) => has_form(value, form, path),
        (Time, Value::String(text)) => {
            // RFC 3339 with offset: `2026-11-24T07:00:00.123+01:00`.
            let is_time = text.parse::<jiff::Timestamp>().is_ok() && text.as_bytes()[10] == b'T';
            let zone = &text[text.len().saturating_sub(6)..];
            let is_offset = zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':';
            assert!(is_time && is_offset, "{path}: {text}");
        }
        (Word(words), Value::String(text)) => assert!(words.contains(&text.as_str()), "{path}: {text}"),
        (Texts, Value::Array(texts)) => assert!(texts.iter().all(Value::is_string), "{path}: {value}"),
        (Object(entries), Value::Object(map)) => {
            for (key, form) in *entries {
                let path = format!("{path}.{key}");
                has_form(map.get(*key).unwrap_or_else(|| panic!("{path} is missing in {value:#}")), form, &path);
            }
        }
        (_, value) => panic!("{path}: {value}"),
    }
}

/// `why NAME --json`, whose sums must be right.
fn why(stead: &Stead, name: &str) -> Value {
    let why = stead.json(["why", name, "--json"]);
    has_form(&why, &WHY, name);
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(number(&why["total"]), number(&why["planned"]) + number(&why["unplanned"]), "{why:#}");
    let rows = why["by_cause"].as_array().unwrap();
    rows.iter().for_each(|row| has_form(row, &BY_CAUSE, "by_cause"));
    assert_eq!(rows.iter().map(|row| number(&row["count"])).sum::<u64>(), number(&why["total"]));
    let records = why["records"].as_array().unwrap();
    records.iter().for_each(|record| has_form(record, &RECORD, "records"));
    assert_eq!(records.len() as u64, number(&why["total"]), "all are kept");
    let planned = records.iter().filter(|record| record["planned"] == true).count();
    assert_eq!(planned as u64, number(&why["planned"]));
    let ends: Vec<jiff::Timestamp> =
        records.iter().map(|record| record["ended_at"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ends.is_sorted_by(|a, b| a >= b), "newest first: {ends:?}");
    why
}

/// Waits until so many runs have followed another, and the last one is up.
fn until_restarts(stead: &Stead, name: &str, restarts: u64) {
    eventually(&format!("{name} has restarted {restarts} times"), || {
        let one = stead.instance(name);
        if one["restarts"] == restarts && one["status"] == "online" { Ok(()) } else { Err(one.to_string()) }
    });
}

const OBEYS: &str = "#!/bin/bash
# Does what is written into `gate`.
exec 3<>gate
while read -r line <&3; do eval \"$line\"; done
";

/// An app that does what it is told.
fn obedient(stead: &Stead, attributes: &str) -> impl Fn(&str) + use<> {
    stead.file("obeys", OBEYS);
    let gate = stead.work.join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    stead.start(&format!("apps:\n  - {{name: web, script: ./obeys, {attributes}}}\n"));
    move |line| std::fs::write(&gate, format!("{line}\n")).unwrap()
}

#[test]
fn list_and_describe_have_every_key_in_every_status() {
    let stead = Stead::new();
    stead.file("gone.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.file("fails.sh", "#!/bin/sh\necho bad >&2\nexit 1\n");
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: up, script: /bin/sleep, args: '1000', instances: 2, namespace: two}
  - {name: capped, script: /bin/sleep, args: '1000', max_memory_restart: 300M}
  - {name: down, script: /bin/sleep, args: '1000', autostart: false}
  - {name: bad, script: ./fails.sh, max_restarts: 2, min_uptime: 1m}
  - {name: later, script: ./fails.sh, restart_delay: 10m}
  - {name: gone, script: ./gone.sh, interpreter: none, restart_delay: 10m}
",
    );
    stead.run(["start"]);
    stead.until_status("bad", "errored");
    stead.until_status("later", "waiting");
    std::fs::remove_file(stead.work.join("gone.sh")).unwrap();
    assert_eq!(stead.run(["restart", "gone"]).status, Some(1));
    let all = stead.json(["list", "--json"]);
    for one in all.as_array().unwrap() {
        has_form(one, &INSTANCE, one["name"].as_str().unwrap());
    }
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["up-0", "up-1", "capped", "down", "bad", "later", "gone"]);
    let up = &all[1];
    assert_eq!((&up["app"], &up["namespace"], &up["processes"]), (&json!("up"), &json!("two"), &json!(1)));
    assert!(up["uptime_ms"].is_u64() && up["memory_bytes"].as_u64() > Some(0), "{up:#}");
    assert_eq!(
        (&up["last_exit"], &up["next_start_at"], &up["memory_cap_bytes"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(all[2]["memory_cap_bytes"], 300 << 20);
    for nothing in ["pid", "uptime_ms", "memory_bytes", "cpu_percent", "processes", "next_start_at"] {
        assert_eq!(all[3][nothing], Value::Null, "{nothing}");
    }
    assert_eq!(all[4]["last_exit"]["next"]["action"], "give-up");
    assert_eq!(all[4]["next_start_at"], Value::Null);
    assert!(all[5]["next_start_at"].is_string());
    for one in stead.json(["describe", "all", "--json"]).as_array().unwrap() {
        has_form(one, &INSTANCE, one["name"].as_str().unwrap());
    }
}

#[test]
fn ping_has_its_keys() {
    let stead = Stead::new();
    stead.start("apps: [{name: a, script: /bin/sleep, args: '1000'}]\n");
    has_form(&stead.json(["ping", "--json"]), &PONG, "ping");
}

#[test]
fn an_empty_fleet_is_an_empty_array() {
    let stead = Stead::new();
    assert_eq!(stead.json(["list", "--json"]), json!([]));
    assert_eq!(stead.json(["jlist"]), json!([]));
}

#[test]
fn an_exit_code_has_its_number_its_last_words_and_no_signal() {
    let stead = Stead::new();
    let tell = obedient(&stead, "");
    let pid = stead.pid("web");
    tell("echo first >&2; echo last >&2; exit 3");
    until_restarts(&stead, "web", 1);
    let record = why(&stead, "web")["records"][0].clone();
    assert_eq!((&record["cause"], &record["planned"]), (&json!("exit-code"), &json!(false)));
    assert_eq!(
        (&record["exit_code"], &record["signal"], &record["core_dumped"]),
        (&json!(3), &Value::Null, &json!(false))
    );
    assert_eq!(record["evidence"]["stderr_tail"], json!(["first", "last"]));
    assert_eq!((&record["run"], &record["instance"], &record["pid"]), (&json!("web#1"), &json!("web"), &json!(pid)));
    assert_eq!((&record["signature"], &record["actor"]), (&Value::Null, &Value::Null));
    assert_eq!(record["confidence"], "certain");
    assert!(record["summary"].as_str().unwrap().contains('3'), "{record:#}");
    assert!(record["memory"]["peak_bytes"].as_u64() > Some(0));
    let list = stead.instance("web");
    assert_eq!((&list["last_exit"], &list["restarts"], &list["restarts_unplanned"]), (&record, &json!(1), &json!(1)));
}

#[test]
fn a_signal_has_its_name_and_no_exit_code() {
    let stead = Stead::new();
    let _tell = obedient(&stead, "limits: {core: 0}");
    for (restarts, (number, name)) in [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM")].into_iter().enumerate() {
        let restarts = restarts as u64 + 1;
        signal(stead.pid("web"), number);
        until_restarts(&stead, "web", restarts);
        let record = stead.newest_record("web");
        has_form(&record, &RECORD, name);
        assert_eq!((&record["signal"], &record["exit_code"]), (&json!(name), &Value::Null));
        assert_eq!((&record["planned"], &record["cause"]), (&json!(false), &json!("signal")));
        assert!(record["summary"].as_str().unwrap().contains(name), "{record:#}");
    }
    let why = why(&stead, "web");
    assert_eq!((&why["total"], &why["unplanned"], &why["by_cause"][0]["count"]), (&json!(3), &json!(3), &json!(3)));
}

#[test]
fn success_of_a_daemon_is_unplanned() {
    let stead = Stead::new();
    let tell = obedient(&stead, "");
    tell("exit 0");
    until_restarts(&stead, "web", 1);
    let record = why(&stead, "web")["records"][0].clone();
    let facts = (&record["cause"], &record["planned"], &record["exit_code"]);
    assert_eq!(facts, (&json!("success"), &json!(false), &json!(0)));
}

#[test]
fn a_failed_spawn_has_stage_and_errno() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nexec sleep 1000\n");
    std::fs::create_dir(stead.work.join("sub")).unwrap();
    stead.start(
        "apps:
  - {name: exec, script: ./app.sh, interpreter: none, restart_delay: 10m}
  - {name: cwd, script: /bin/sleep, args: '1000', cwd: sub, restart_delay: 10m}
",
    );
    std::fs::remove_file(stead.work.join("app.sh")).unwrap();
    std::fs::remove_dir(stead.work.join("sub")).unwrap();
    assert_eq!(stead.run(["restart", "all"]).status, Some(1));
    for (name, path) in [("exec", "app.sh"), ("cwd", "/sub")] {
        let why = why(&stead, name);
        let record = &why["records"][0];
        assert_eq!(record["evidence"]["spawn"], json!({"stage": name, "errno": "ENOENT"}));
        assert_eq!(
            (&record["cause"], &record["pid"], &record["exit_code"]),
            (&json!("spawn-failed"), &Value::Null, &Value::Null)
        );
        let summary = record["summary"].as_str().unwrap();
        assert!(summary.contains(path) && summary.contains("no such file or directory"), "{summary}");
        assert_eq!((&why["total"], &why["planned"], &why["unplanned"]), (&json!(2), &json!(1), &json!(1)));
    }
}

#[test]
fn planned_ends_say_who_asked() {
    let stead = Stead::new();
    let file = "apps:\n  - {name: web, script: /bin/sleep, args: '1000'}\n";
    stead.start(file);
    stead.ok(["restart", "web"]);
    stead.ok(["reload", "web"]);
    stead.start(&file.replace("1000", "2000"));
    stead.ok(["stop", "web"]);
    let why = why(&stead, "web");
    let causes: Vec<&Value> = why["records"].as_array().unwrap().iter().map(|record| &record["cause"]).collect();
    assert_eq!(causes, ["manual", "config-change", "reload", "manual"]);
    for record in why["records"].as_array().unwrap() {
        assert_eq!(record["planned"], true);
        assert_eq!(record["actor"]["uid"], nix::unistd::getuid().as_raw());
        assert!(record["actor"]["command"].as_str().unwrap().contains("stead"), "{record:#}");
    }
    assert_eq!((&why["total"], &why["planned"], &why["unplanned"]), (&json!(4), &json!(4), &json!(0)));
    let web = stead.instance("web");
    assert_eq!((&web["restarts"], &web["restarts_unplanned"]), (&json!(3), &json!(0)), "runs that followed another");
}

#[test]
fn an_orderly_end_of_stead_is_a_shutdown() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000'}\n");
    let (keeper, pid) = (stead.keeper_pid(), stead.pid("web"));
    signal(keeper, 15);
    until("all has ended", || !is_alive(keeper) && !is_alive(pid));
    let record = stead.newest_record("web");
    has_form(&record, &RECORD, "record");
    assert_eq!((&record["cause"], &record["planned"]), (&json!("shutdown"), &json!(true)));
    assert_eq!(stead.instance("web")["status"], "online", "what was wanted up comes back");
}

#[test]
fn left_behind_are_those_that_outlive_the_main_process() {
    let stead = Stead::new();
    let tell = obedient(&stead, "");
    tell("sleep 1000 & echo $!");
    let child: i32 = eventually("the child runs", || {
        let log = stead.log("web", "out");
        log.trim().parse().map_err(|_| log)
    });
    tell("exit 3");
    until_restarts(&stead, "web", 1);
    assert!(!is_alive(child), "the next run begins when the tree is empty");
    assert_eq!(stead.newest_record("web")["left_behind"], 1);
}

#[test]
fn why_of_an_app_merges_its_instances() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000', instances: 2}\n");
    signal(stead.pid("web-0"), 9);
    until_restarts(&stead, "web-0", 1);
    stead.ok(["restart", "web-1"]);
    let merged = why(&stead, "web");
    assert_eq!((&merged["name"], &merged["total"]), (&json!("web"), &json!(2)));
    assert_eq!((&merged["planned"], &merged["unplanned"]), (&json!(1), &json!(1)));
    let own = why(&stead, "web-1");
    assert_eq!((&own["total"], &own["records"][0]["instance"]), (&json!(1), &json!("web-1")));
    let last = stead.json(["why", "web", "--json", "--last", "1"]);
    assert_eq!((last["records"].as_array().unwrap().len(), &last["total"]), (1, &json!(2)));
}
