//! `stead why` and the journal behind it: who ended, how often, by what, and what to do.

use crate::harness::{Stead, is_alive, signal, until};
use crate::look::{command_line, on_terminal_seen};
use serde_json::{Value, json};

/// Fails at once, again and again, with last words.
const FAILS: &str = "#!/bin/sh\necho 'cannot open the database' >&2\nexit 3\n";

/// An app that gave up after three ends, and one that is well.
fn fleet(stead: &Stead) {
    stead.file("fails.sh", FAILS);
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: fails, script: ./fails.sh, max_restarts: 3}
  - {name: well, script: /bin/sleep, args: '1000'}
",
    );
    stead.run(["start"]);
    stead.until_status("fails", "errored");
}

fn runs(why: &Value) -> Vec<&str> {
    why["records"].as_array().unwrap().iter().map(|record| record["run"].as_str().unwrap()).collect()
}

#[test]
fn why_alone_has_a_line_for_each_app_that_ended_unasked() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", "apps: [{name: well, script: /bin/sleep, args: '1000'}]\n");
    assert_eq!(stead.ok(["why"]), "no apps yet: `stead start FILE` starts some\n");
    stead.ok(["start"]);
    stead.ok(["restart", "well"]);
    assert_eq!(stead.ok(["why"]), "the one app has run as it should: no end that nobody asked for\n");
    assert_eq!(stead.json(["why", "--json"]), json!([]));
    fleet(&stead);
    let shown = stead.ok(["why"]);
    assert!(shown.starts_with("1 of 2 apps ended and nobody asked for it\n"), "{shown}");
    assert!(shown.contains("fails") && shown.contains("exit-code (3)") && !shown.contains("well"), "{shown}");
    assert!(shown.contains("exited with code 3"), "{shown}");
    assert_eq!(stead.json(["why", "--json"])[0]["name"], "fails");
    let none = stead.ok(["why", "--cause", "oom-kill"]);
    assert_eq!(none, "all apps have run as they should: no end that nobody asked for (by oom-kill)\n");
}

#[test]
fn a_page_tells_counts_advice_the_newest_end_and_those_before() {
    let stead = Stead::new();
    fleet(&stead);
    let shown = stead.ok(["why", "fails"]);
    for words in [
        "fails: 3 runs have ended since ",
        ": 3 unplanned, 0 planned",
        "\n    3  exit-code  ",
        "what to do",
        "`stop_exit_codes: [3]`",
        "fails#3  exit-code: exited with code 3",
        "then        gave up: 3 ends below min_uptime 1 s",
        "| cannot open the database",
        "before that",
        "fails#2",
        "docs/causes.md",
    ] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    assert_eq!(shown.matches("cannot open the database").count(), 1, "one is told in full:\n{shown}");
    assert_eq!(stead.ok(["why", "fails", "--last", "9"]).matches("cannot open the database").count(), 3);
}

#[test]
fn filters_hold_together_and_sums_tell_of_all() {
    let stead = Stead::new();
    stead.start("apps: [{name: web, script: /bin/sleep, args: '1000'}]\n");
    for sent in [9, 15, 9] {
        let pid = stead.pid("web");
        signal(pid, sent);
        until("it has restarted", || {
            !is_alive(pid) && stead.instance("web")["pid"].as_i64().is_some_and(|new| new != pid as i64)
        });
    }
    stead.ok(["restart", "web"]);
    let why = |args: &[&str]| stead.json(["why"].iter().chain(args).chain(&["--json"]).collect::<Vec<_>>());
    assert_eq!(runs(&why(&["web"])), ["web#4", "web#3", "web#2", "web#1"]);
    let signals = why(&["web", "--cause", "signal"]);
    assert_eq!(runs(&signals), ["web#3", "web#2", "web#1"]);
    assert_eq!((&signals["total"], &signals["by_cause"][0]["count"]), (&json!(4), &json!(3)));
    assert_eq!(signals["by_cause"].as_array().unwrap().len(), 1);
    assert_eq!(runs(&why(&["web", "--cause", "signal,manual", "--last", "2"])), ["web#4", "web#3"]);
    for args in
        [&["web#2"][..], &["web", "--run", "2"], &["--run", "web#2"], &["web", "--run", "web#2", "--since", "1h"]]
    {
        let one = why(args);
        let one = if one.is_array() { one[0].clone() } else { one };
        assert_eq!((runs(&one), &one["by_cause"][0]["count"]), (vec!["web#2"], &json!(1)), "{args:?}");
    }
    assert_eq!(runs(&why(&["web", "--since", "2000-01-01"])).len(), 4);
    assert!(runs(&why(&["web", "--since", "0s"])).is_empty());
    assert!(runs(&why(&["web", "--run", "web#99"])).is_empty());
    let shown = stead.ok(["why", "web", "--cause", "manual"]);
    assert!(shown.contains("asked for: by manual: 1\n") && shown.contains("by `stead restart web`"), "{shown}");
}

#[test]
fn a_bad_question_is_refused_with_a_hint() {
    let stead = Stead::new();
    stead.start("apps: [{name: web, script: /bin/sleep, args: '1000'}]\n");
    for (args, status, words) in [
        (
            &["why", "web", "--cause", "oomkill"][..],
            2,
            "error: unknown cause `oomkill`\nhint: did you mean `oom-kill`?\n",
        ),
        (&["why", "web", "--since", "soon"], 2, "error: `soon` is no time\n"),
        (&["why", "--run", "7"], 2, "error: run 7 of which app?\n"),
        (&["why", "webb"], 3, "hint: did you mean `web`?\n"),
        (&["why", "nosuch#3"], 3, "no app, namespace or id `nosuch`"),
    ] {
        let said = stead.run(args);
        assert_eq!(said.status, Some(status), "{args:?}: {said:#?}");
        assert!(said.stderr.contains(words), "{args:?}: {said:#?}");
    }
}

#[test]
fn counts_survive_rotation_daemons_and_the_end_of_stead() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    stead.file("ecosystem.yaml", "apps: [{name: fails, script: ./fails.sh, max_restarts: 9, journal_keep: 2}]\n");
    stead.run(["start"]);
    stead.until_status("fails", "errored");
    let check = || {
        let why = stead.json(["why", "fails", "--json"]);
        assert_eq!((&why["total"], &why["unplanned"]), (&json!(9), &json!(9)), "{why:#}");
        assert_eq!(why["by_cause"][0]["count"], 9);
        assert_eq!(runs(&why), ["fails#9", "fails#8"]);
        let note = "2 records are still kept of 9 (journal_keep 2); the counts above tell of all";
        assert_eq!(why["notes"], json!([note]));
    };
    check();
    stead.kill_daemon();
    check();
    stead.ok(["kill"]);
    check();
    // A power cut in the middle of a line, and a line of a stead to come.
    let path = stead.home.join("journal/fails.jsonl");
    stead.ok(["kill"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let newer = text.lines().last().unwrap().replacen("\"v\":1", "\"v\":9", 1);
    std::fs::write(&path, format!("{text}{newer}\n{{\"v\":1,\"insta")).unwrap();
    let why = stead.json(["why", "fails", "--json"]);
    assert_eq!((&why["total"], runs(&why).len()), (&json!(9), 2), "{why:#}");
    assert!(why["notes"][0].as_str().unwrap().starts_with("1 line of "), "{why:#}");
    assert_eq!(std::fs::read_to_string(path.with_extension("jsonl.torn")).unwrap(), "{\"v\":1,\"insta\n");
    assert!(stead.own_log().contains("the last line of the journal was torn"));
}

#[test]
fn a_fast_loop_says_what_stead_did_and_by_which_attribute() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    stead.file("ecosystem.yaml", "apps: [{name: fails, script: ./fails.sh, max_restarts: 12}]\n");
    stead.run(["start"]);
    stead.until_status("fails", "errored");
    let why = stead.json(["why", "fails", "--json", "--last", "1"]);
    let text = why["loops"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("min_uptime 1 s, restart_delay 0: 11 restarts in "), "{text}");
    assert!(text.contains(", then it gave up (max_restarts 12); `exp_backoff_restart_delay: 100`"), "{text}");
    assert!(stead.ok(["why", "fails"]).contains("  policy     min_uptime 1 s"));
}

#[test]
fn a_line_between_two_runs_is_for_who_follows_on_a_terminal_alone() {
    let stead = Stead::new();
    stead.file(
        "talks.sh",
        "#!/bin/sh\necho \"begin $STEAD_RUN\"\nread -r _ < gate\necho \"last words of $STEAD_RUN\" >&2\nexit 3\n",
    );
    nix::unistd::mkfifo(&stead.work.join("gate"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    stead.start("apps: [{name: talks, script: ./talks.sh}]\n");
    until("it talks", || stead.log("talks", "out").contains("begin talks#1"));
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(stead.work.join("gate")).unwrap();
    let mut gate = open();
    let client =
        || stead.processes().into_iter().find(|pid| command_line(*pid).get(1).is_some_and(|verb| verb == "logs"));
    let (mut told, mut ended) = (false, false);
    let shown = on_terminal_seen(stead.command(["logs", "talks", "-f"]), 120, |shown| {
        use std::io::Write;
        if shown.contains("begin talks#1") && !told {
            told = true;
            gate.write_all(b"\n").unwrap();
        }
        if shown.contains("begin talks#2") && !ended {
            ended = true;
            signal(client().unwrap(), 15);
        }
    });
    let at = |words: &str| shown.find(words).unwrap_or_else(|| panic!("{words:?} is missing in {shown}"));
    let line = at("── talks#1 exit-code: exited with code 3 after ");
    assert!(at("last words of talks#1") < line && line < at("begin talks#2"), "{shown}");
    assert!(!stead.log("talks", "out").contains("──") && !stead.log("talks", "err").contains("──"));
    let piped = stead.ok(["logs", "talks"]);
    assert!(piped.contains("last words") && !piped.contains("──"), "{piped}");
}

#[test]
fn steads_own_log_has_an_event_for_each_step_of_a_run_as_json_where_wished() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    let file = stead.file(
        "ecosystem.yaml",
        "apps: [{name: fails, script: ./fails.sh, max_restarts: 2, env: {TOKEN: hunter2}}, {name: web, script: /bin/sleep, args: '9999'}]\n",
    );
    let mut foreground = stead.foreground(["--log-format", "json", file.to_str().unwrap()]);
    stead.until_status("fails", "errored");
    stead.until_status("web", "online");
    stead.ok(["stop", "web"]);
    stead.ok(["kill"]);
    foreground.ended();
    let said = foreground.said();
    let events: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let steps = |run: &str| -> Vec<&str> {
        events.iter().filter(|event| event["run"] == run).map(|event| event["message"].as_str().unwrap()).collect()
    };
    assert_eq!(steps("fails#1"), ["starts", "runs", "ended"]);
    assert_eq!(steps("web#1"), ["starts", "runs", "signals", "ended"]);
    let end = events.iter().find(|event| event["run"] == "fails#2" && event["message"] == "ended").unwrap();
    assert_eq!((&end["cause"], &end["next"], &end["planned"]), (&json!("exit-code"), &json!("give-up"), &json!(false)));
    assert!(events.iter().any(|event| event["message"] == "asked" && event["command"] == "stead stop web"), "{said}");
    assert!(events.iter().all(|event| event["timestamp"].is_string() && event["level"].is_string()));
    assert!(!said.contains("hunter2"));
}

#[test]
fn steads_own_log_says_more_where_it_is_asked_to() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    let mut start = stead.command(["start", "./fails.sh", "--max-restarts", "2"]);
    start.env("STEAD_LOG", "debug");
    crate::harness::said(start);
    stead.until_status("fails", "errored");
    assert!(stead.own_log().contains("DEBUG journaled run=\"fails#2\""), "{}", stead.own_log());
}
