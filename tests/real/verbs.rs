//! Every verb, by what it does to real processes and when it returns.

use crate::harness::{Said, Stead, eventually, is_alive, said, signal, until};
use crate::look::{command_line, environment, through};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// An app for each of these names.
fn sleepers(names: &[&str]) -> String {
    let app = |name: &&str| format!("  - {{name: {name}, script: /bin/sleep, args: '1000'}}\n");
    format!("apps:\n{}", names.iter().map(app).collect::<String>())
}

fn names(stead: &Stead) -> Vec<String> {
    let all = stead.json(["list", "--json"]);
    all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn statuses(stead: &Stead) -> Vec<(String, String)> {
    let all = stead.json(["list", "--json"]);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|one| (word(&one["name"]), word(&one["status"]))).collect()
}

fn refused(said: &Said, status: i32, words: &[&str]) {
    assert_eq!(said.status, Some(status), "{said:#?}");
    assert!(said.stderr.starts_with("error: "), "{said:#?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is missing in {said:#?}");
    }
}

#[test]
fn help_lists_every_verb() {
    let stead = Stead::new();
    let help = stead.ok(["--help"]);
    for verb in [
        "start",
        "stop",
        "restart",
        "reload",
        "delete",
        "list",
        "ls",
        "status",
        "describe",
        "show",
        "why",
        "logs",
        "flush",
        "save",
        "resurrect",
        "scale",
        "reset",
        "signal",
        "jlist",
        "check",
        "kill",
        "ping",
        "daemon",
        "completions",
    ] {
        let is_word = |line: &str| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == verb);
        assert!(help.lines().any(is_word), "{verb} is missing in {help}");
    }
    assert!(!stead.home.exists(), "help needs no home");
}

#[test]
fn start_without_argument_looks_for_ecosystem_yaml() {
    let stead = Stead::new();
    refused(&stead.run(["start"]), 2, &["ecosystem.yaml", "hint: "]);
    stead.file("ecosystem.yaml", &sleepers(&["a", "b"]));
    let said = stead.ok(["start"]);
    assert!(said.contains('a') && said.contains("online"), "{said}");
    assert_eq!(statuses(&stead), [("a".into(), "online".into()), ("b".into(), "online".into())]);
}

#[test]
fn start_takes_a_script_and_its_attributes() {
    let stead = Stead::new();
    stead.file("job.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.ok(["start", "./job.sh"]);
    assert_eq!(stead.instance("job")["status"], "online");
    stead.file("app.py", "import sys, time\nprint(sys.argv[1:])\ntime.sleep(1000)\n");
    stead.ok([
        "start",
        "app.py",
        "--name",
        "x",
        "--interpreter",
        "python3",
        "--max-memory-restart",
        "300M",
        "--",
        "--port",
        "5000",
    ]);
    let x = stead.instance("x");
    assert_eq!((&x["status"], &x["memory_cap_bytes"]), (&json!("online"), &json!(300 << 20)));
    until("it has its arguments", || stead.log("x", "out") == "['--port', '5000']\n");
}

#[test]
fn start_takes_names_of_what_was_stopped() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b", "c"]));
    stead.ok(["stop", "all"]);
    stead.ok(["start", "a", "c"]);
    let wanted = [("a", "online"), ("b", "stopped"), ("c", "online")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(statuses(&stead), wanted);
    let pid = stead.pid("a");
    stead.ok(["start", "all"]);
    assert_eq!(stead.pid("a"), pid, "it ran already");
    assert_eq!(stead.instance("b")["status"], "online");
}

#[test]
fn start_takes_some_apps_of_a_file() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", &sleepers(&["a", "b", "c"]));
    stead.ok(["start", "ecosystem.yaml", "--only", "a,c"]);
    assert_eq!(names(&stead), ["a", "c"]);
    refused(&stead.run(["start", "ecosystem.yaml", "--only", "a,bb"]), 3, &["bb", "did you mean `b`?"]);
    assert_eq!(names(&stead), ["a", "c"]);
}

#[test]
fn start_says_what_changed_and_leaves_the_rest() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b"]));
    let (a, b) = (stead.pid("a"), stead.pid("b"));
    let changed = sleepers(&["a", "b"]).replacen("args: '1000'", "args: '1000', env: {PORT: 5001}", 1);
    stead.file("ecosystem.yaml", &changed);
    let shown = stead.ok(["start"]);
    assert!(shown.contains("env.PORT"), "it says which field: {shown}");
    assert_ne!(stead.pid("a"), a);
    assert!(!is_alive(a));
    assert_eq!(environment(stead.pid("a"))["PORT"], "5001");
    assert_eq!(stead.pid("b"), b);
    let record = stead.newest_record("a");
    assert_eq!((&record["cause"], &record["planned"]), (&json!("config-change"), &json!(true)));
}

#[test]
fn start_tells_why_a_first_run_failed() {
    let stead = Stead::new();
    let script = stead.file("app.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh, interpreter: none}\n");
    stead.ok(["stop", "web"]);
    std::fs::remove_file(script).unwrap();
    let said = stead.run(["start", "web"]);
    refused(&said, 1, &["web", "no such file"]);
}

#[test]
fn start_of_a_job_returns_when_it_has_ended() {
    let stead = Stead::new();
    stead.file("job.sh", "#!/bin/sh\nread line < gate\necho done\n");
    let gate = stead.work.join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    stead.file("ecosystem.yaml", "apps:\n  - {name: job, script: ./job.sh, autorestart: false}\n");
    stead.ok(["start", "--no-wait"]);
    stead.until_status("job", "online");
    std::fs::write(&gate, "go\n").unwrap();
    let job = stead.until_status("job", "stopped");
    let last = &job["last_exit"];
    assert_eq!((&last["cause"], &last["planned"], &last["exit_code"]), (&json!("success"), &json!(true), &json!(0)));
    assert_eq!(stead.log("job", "out"), "done\n");
}

#[test]
fn stop_returns_when_the_tree_is_gone_and_its_last_words_are_in_the_log() {
    let stead = Stead::new();
    stead.file(
        "app.sh",
        "#!/bin/bash\nsleep 1000 & child=$!\necho $child > child\ntrap 'for i in $(seq 500); do echo $i; done; exit 0' INT\necho up\nwhile :; do wait; done\n",
    );
    stead.start("apps:\n  - {name: web, script: ./app.sh, kill_timeout: 20s}\n");
    until("it is up", || stead.log("web", "out") == "up\n");
    let child: i32 = std::fs::read_to_string(stead.work.join("child")).unwrap().trim().parse().unwrap();
    let pid = stead.pid("web");
    stead.ok(["stop", "web"]);
    assert!(!is_alive(pid) && !is_alive(child));
    assert!(stead.log("web", "out").ends_with("499\n500\n"), "{}", stead.log("web", "out"));
    let web = stead.instance("web");
    assert_eq!((&web["status"], &web["pid"], &web["uptime_ms"]), (&json!("stopped"), &Value::Null, &Value::Null));
    let record = stead.newest_record("web");
    assert_eq!((&record["cause"], &record["exit_code"]), (&json!("manual"), &json!(0)));
    stead.ok(["stop", "web"]);
    assert_eq!(stead.json(["why", "web", "--json"])["total"], 1, "what is stopped can't be stopped again");
}

/// An app that is deaf to its stop signal, for so long that only SIGKILL can end it within a test.
fn deaf(stead: &Stead) -> i32 {
    stead.file("deaf.sh", "#!/bin/sh\ntrap '' INT TERM\necho up\nwhile :; do read line < gate; done\n");
    nix::unistd::mkfifo(&stead.work.join("gate"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    stead.start("apps:\n  - {name: deaf, script: ./deaf.sh, kill_timeout: 10m}\n");
    until("it is up", || stead.log("deaf", "out") == "up\n");
    stead.pid("deaf")
}

#[test]
fn no_wait_returns_while_it_stops() {
    let stead = Stead::new();
    let pid = deaf(&stead);
    stead.ok(["stop", "deaf", "--no-wait"]);
    let one = stead.instance("deaf");
    assert_eq!((&one["status"], &one["pid"]), (&json!("stopping"), &json!(pid)));
    assert!(is_alive(pid));
    signal(pid, 9);
    stead.until_status("deaf", "stopped");
    assert_eq!(stead.newest_record("deaf")["cause"], "manual", "the wish came first, whoever sent the signal");
}

#[test]
fn no_wait_returns_while_it_restarts_and_while_it_is_deleted() {
    let stead = Stead::new();
    let pid = deaf(&stead);
    stead.ok(["restart", "deaf", "--no-wait"]);
    assert!(is_alive(pid));
    signal(pid, 9);
    eventually("another run is online", || {
        let one = stead.instance("deaf");
        if one["status"] == "online" && one["pid"] != pid { Ok(()) } else { Err(one.to_string()) }
    });
    until("it is deaf again", || stead.log("deaf", "out") == "up\nup\n");
    let pid = stead.pid("deaf");
    stead.ok(["delete", "deaf", "--no-wait"]);
    assert!(is_alive(pid));
    signal(pid, 9);
    until("it is forgotten", || names(&stead).is_empty());
}

#[test]
fn no_wait_of_kill_returns_while_apps_still_stop() {
    let stead = Stead::new();
    let pid = deaf(&stead);
    let keeper = stead.keeper_pid();
    stead.ok(["kill", "--no-wait"]);
    assert!(is_alive(pid) && is_alive(keeper));
    signal(pid, 9);
    until("stead has ended", || !is_alive(keeper));
}

#[test]
fn restart_ends_the_old_run_first_and_counts_it_as_planned() {
    let stead = Stead::new();
    stead.start(&sleepers(&["web"]));
    let old = stead.pid("web");
    stead.ok(["restart", "web"]);
    let web = stead.instance("web");
    assert_eq!(
        (&web["status"], &web["restarts"], &web["restarts_unplanned"]),
        (&json!("online"), &json!(1), &json!(0))
    );
    assert!(!is_alive(old));
    assert_ne!(web["pid"], old);
    let record = stead.newest_record("web");
    assert_eq!((&record["cause"], &record["planned"], &record["pid"]), (&json!("manual"), &json!(true), &json!(old)));
    let actor = &record["actor"];
    assert_eq!(actor["uid"], nix::unistd::getuid().as_raw());
    assert!(actor["command"].as_str().unwrap().contains("restart web"), "{actor}");
    assert!(actor["pid"].is_i64());
    stead.ok(["stop", "web"]);
    stead.ok(["restart", "web"]);
    assert_eq!(stead.instance("web")["status"], "online", "restart starts what was stopped");
}

#[test]
fn restart_keeps_the_environment_until_it_is_told_otherwise() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", &sleepers(&["web"]).replace("'1000'", "'1000', env: {OWN: file}"));
    let run = |args: &[&str], color: Option<&str>| {
        let mut command = stead.command(args);
        command.env("OWN", "shell").env_remove("COLOR");
        command.envs(color.map(|color| ("COLOR", color)));
        let said = said(command);
        assert_eq!(said.status, Some(0), "{said:#?}");
        let found = environment(stead.pid("web"));
        assert_eq!(found["OWN"], "file", "the file goes before the shell");
        found.get("COLOR").cloned()
    };
    assert_eq!(run(&["start"], Some("red")), Some("red".into()));
    assert_eq!(run(&["restart", "web"], Some("blue")), Some("red".into()));
    let pid = stead.pid("web");
    assert_eq!(run(&["start"], Some("blue")), Some("red".into()), "the shell is no part of the file");
    assert_eq!(stead.pid("web"), pid);
    assert_eq!(run(&["restart", "web", "--update-env"], Some("blue")), Some("blue".into()));
    assert_eq!(run(&["restart", "web", "--update-env"], None), None, "what the shell has no more is gone");
}

#[test]
fn reload_is_a_restart_that_is_told_apart() {
    let stead = Stead::new();
    stead.start(&sleepers(&["web"]));
    let old = stead.pid("web");
    stead.ok(["reload", "web"]);
    assert!(!is_alive(old));
    let web = stead.instance("web");
    assert_eq!(
        (&web["status"], &web["restarts"], &web["restarts_unplanned"]),
        (&json!("online"), &json!(1), &json!(0))
    );
    let record = stead.newest_record("web");
    assert_eq!((&record["cause"], &record["planned"]), (&json!("reload"), &json!(true)));
}

#[test]
fn delete_forgets_and_gives_no_id_twice() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b"]));
    let (pid, id) = (stead.pid("a"), stead.instance("a")["id"].clone());
    stead.ok(["delete", "a"]);
    assert!(!is_alive(pid));
    assert_eq!(names(&stead), ["b"]);
    refused(&stead.run(["delete", "a"]), 3, &["`a`"]);
    stead.ok(["start"]);
    assert!(stead.instance("a")["id"].as_i64() > id.as_i64());
    stead.ok(["delete", "all"]);
    assert!(names(&stead).is_empty());
    assert!(stead.ok(["list"]).contains("stead start"), "an empty list says how to begin");
}

#[test]
fn targets_are_names_ids_namespaces_instances_and_all() {
    let stead = Stead::new();
    stead.start(
        "apps:
  - {name: web, script: /bin/sleep, args: '1000', instances: 2, namespace: front}
  - {name: one, script: /bin/sleep, args: '1000', namespace: front}
  - {name: db, script: /bin/sleep, args: '1000'}
",
    );
    let stopped = |targets: &[&str]| -> Vec<String> {
        stead.ok([&["stop"], targets].concat());
        let down = statuses(&stead).into_iter().filter(|(_, status)| status == "stopped").map(|(name, _)| name);
        let down = down.collect();
        stead.ok(["start", "all"]);
        assert!(statuses(&stead).iter().all(|(_, status)| status == "online"));
        down
    };
    let id = stead.instance("db")["id"].to_string();
    assert_eq!(stopped(&["web"]), ["web-0", "web-1"]);
    assert_eq!(stopped(&["web-1"]), ["web-1"]);
    assert_eq!(stopped(&["one-0"]), ["one"], "targets accept both forms");
    assert_eq!(stopped(&["front"]), ["web-0", "web-1", "one"]);
    assert_eq!(stopped(&[&id]), ["db"]);
    assert_eq!(stopped(&["web-0", "db"]), ["web-0", "db"]);
    assert_eq!(stopped(&["all"]).len(), 4);
    assert_eq!(stead.json(["describe", "front", "--json"]).as_array().unwrap().len(), 3);
}

#[test]
fn an_unknown_target_disturbs_nothing() {
    let stead = Stead::new();
    stead.start(&sleepers(&["web", "collector"]));
    let pids = (stead.pid("web"), stead.pid("collector"));
    for verb in ["stop", "restart", "reload", "delete", "reset", "describe", "why", "logs", "flush", "start"] {
        refused(&stead.run([verb, "colector"]), 3, &["colector", "hint: did you mean `collector`?"]);
    }
    refused(&stead.run(["stop", "web", "nosuch"]), 3, &["nosuch"]);
    refused(&stead.run(["signal", "HUP", "nosuch"]), 3, &["nosuch"]);
    refused(&stead.run(["scale", "nosuch", "2"]), 3, &["nosuch"]);
    assert_eq!((stead.pid("web"), stead.pid("collector")), pids);
    assert_eq!(stead.instance("web")["restarts"], 0);
}

#[test]
fn list_has_three_names_and_describe_two() {
    let stead = Stead::new();
    stead.start(&sleepers(&["web"]));
    let pid = stead.pid("web").to_string();
    for verb in ["list", "ls", "status"] {
        let shown = stead.ok([verb]);
        assert!(shown.contains("web") && shown.contains("online") && shown.contains(&pid), "{shown}");
        assert_eq!(stead.json([verb, "--json"])[0]["name"], "web");
    }
    for verb in ["describe", "show"] {
        let shown = stead.ok([verb, "web"]);
        for fact in ["web", "online", &pid, "/bin/sleep 1000", "web.out.log", "SIGINT"] {
            assert!(shown.contains(fact), "{fact} is missing in {shown}");
        }
        assert_eq!(stead.json([verb, "web", "--json"])[0]["name"], "web");
    }
}

#[test]
fn logs_show_the_last_lines_of_both_streams_or_of_one() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nfor i in $(seq 100); do echo out $i; echo err $i >&2; done\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh}\n");
    until("all is written", || {
        stead.log("web", "out").ends_with("100\n") && stead.log("web", "err").ends_with("100\n")
    });
    let out = stead.ok(["logs", "web", "--out", "--lines", "3"]);
    let last: Vec<&str> = out.lines().collect();
    assert_eq!(last.len(), 3, "{out}");
    assert!(last[0].ends_with("out 98") && last[2].ends_with("out 100"), "{out}");
    let err = stead.ok(["logs", "web", "--err", "--lines", "2"]);
    assert!(!err.contains("out") && err.trim_end().ends_with("err 100") && err.lines().count() == 2, "{err}");
    let both = stead.ok(["logs", "web", "--lines", "200"]);
    assert_eq!(both.lines().count(), 200);
    assert!(both.contains("out 1\n") && both.contains("err 100\n"));
    assert_eq!(stead.ok(["logs", "web", "--lines", "0"]), "");
    refused(&stead.run(["logs", "nosuch"]), 3, &["nosuch"]);
}

#[test]
fn logs_of_several_apps_bear_their_names() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\necho I am $STEAD_NAME\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh}\n  - {name: db, script: ./app.sh}\n");
    until("all is written", || stead.log("web", "out").len() + stead.log("db", "out").len() == 17);
    for args in [&["logs"][..], &["logs", "web", "db"], &["logs", "all"]] {
        let shown = stead.ok(args);
        for name in ["web", "db"] {
            let line = shown.lines().find(|line| line.ends_with(&format!("I am {name}")));
            assert!(line.unwrap_or_else(|| panic!("{name} is missing in {shown}")).starts_with(name), "{shown}");
        }
        assert!(!shown.contains('\x1b'), "no colour where it is piped");
    }
    let shown = crate::look::on_terminal(stead.command(["logs"]), 80);
    assert!(shown.contains("\x1b["), "colours on a terminal: {shown:?}");
}

#[test]
fn logs_follow_what_comes_across_restarts() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\necho run $STEAD_RUN\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh}\n");
    until("it wrote", || !stead.log("web", "out").is_empty());
    let mut command = stead.command(["logs", "web", "-f", "--lines", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let (lines, seen) = std::sync::mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let next = || seen.recv_timeout(crate::harness::LIMIT).expect("a line");
    let first = next();
    assert!(first.contains("run "), "{first}");
    stead.ok(["restart", "web"]);
    let second = next();
    assert!(second.contains("run ") && first != second, "{first} {second}");
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap().unwrap();
}

#[test]
fn flush_empties_logs_and_writing_goes_on_at_their_beginning() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/bash\ntrap 'echo more; echo worse >&2' USR1\necho first; echo bad >&2\nwhile :; do sleep 1000 & wait; kill $!; done\n");
    stead.start("apps:\n  - {name: a, script: ./app.sh}\n  - {name: b, script: ./app.sh}\n");
    let both = |name: &str| (stead.log(name, "out"), stead.log(name, "err"));
    let first = ("first\n".to_owned(), "bad\n".to_owned());
    until("both wrote", || both("a") == first && both("b") == first);
    stead.ok(["flush", "a"]);
    assert_eq!(both("a"), (String::new(), String::new()));
    assert_eq!(both("b"), first);
    stead.ok(["signal", "USR1", "a"]);
    until("it writes at the beginning, without a hole", || both("a") == ("more\n".into(), "worse\n".into()));
    stead.ok(["flush"]);
    assert_eq!(both("a"), both("b"));
    assert!(is_alive(stead.pid("a")));
}

#[test]
fn resurrect_brings_back_what_save_kept() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b"]));
    stead.ok(["stop", "b"]);
    stead.ok(["save"]);
    stead.ok(["delete", "all"]);
    let empty = stead.run(["save"]);
    assert_eq!(empty.status, Some(1), "an empty list is no list to save: {empty:?}");
    assert!(empty.stderr.contains("--force"), "{empty:?}");
    stead.ok(["kill"]);
    stead.ok(["resurrect"]);
    assert_eq!(stead.instance("a")["status"], "online");
    let pid = stead.pid("a");
    assert_eq!(command_line(pid), ["/bin/sleep", "1000"]);
    stead.ok(["resurrect"]);
    assert_eq!(stead.pid("a"), pid, "what runs is left alone");
    stead.ok(["delete", "all"]);
    stead.ok(["save", "--force"]);
    stead.ok(["resurrect"]);
    assert!(names(&stead).is_empty());
}

#[test]
fn a_state_that_cannot_be_read_is_kept_and_its_emptiness_is_not_saved() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b"]));
    stead.ok(["stop", "b"]);
    stead.ok(["save"]);
    stead.ok(["kill"]);
    let state = stead.home.join("state.json");
    let torn = &std::fs::read(&state).unwrap()[..40];
    std::fs::write(&state, torn).unwrap();
    assert!(names(&stead).is_empty());
    assert_eq!(std::fs::read(stead.home.join("state.json.unreadable")).unwrap(), torn);
    assert!(stead.own_log().contains("state.json cannot be read and is kept aside"), "{}", stead.own_log());
    let saved = std::fs::read(stead.home.join("saved.json")).unwrap();
    assert_eq!(stead.run(["save"]).status, Some(1));
    assert_eq!(std::fs::read(stead.home.join("saved.json")).unwrap(), saved);
    stead.ok(["resurrect"]);
    assert_eq!(stead.instance("a")["status"], "online");
    assert_eq!(stead.instance("b")["status"], "stopped");
}

#[test]
fn resurrect_without_a_saved_list_says_so() {
    let stead = Stead::new();
    refused(&stead.run(["resurrect"]), 1, &["save"]);
}

#[test]
fn kill_marks_all_down_and_returns_when_stead_is_gone() {
    let stead = Stead::new();
    stead.start(&sleepers(&["a", "b"]));
    let pids = [stead.pid("a"), stead.pid("b"), stead.daemon_pid(), stead.keeper_pid()];
    stead.ok(["kill"]);
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
    assert!(stead.processes().is_empty());
    stead.ok(["kill"]);
    assert!(stead.processes().is_empty(), "kill starts nothing");
    let wanted = [("a", "stopped"), ("b", "stopped")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(statuses(&stead), wanted);
}

#[test]
fn scale_goes_up_and_down_and_never_renames() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000', instances: 2}\n  - {name: one, script: /bin/sleep, args: '1000'}\n");
    let web = |stead: &Stead| names(stead).into_iter().filter(|name| name.starts_with("web")).collect::<Vec<_>>();
    let first = stead.pid("web-0");
    stead.ok(["scale", "web", "4"]);
    assert_eq!(web(&stead), ["web-0", "web-1", "web-2", "web-3"]);
    assert!(statuses(&stead).iter().all(|(_, status)| status == "online"));
    let last = stead.pid("web-3");
    stead.ok(["scale", "web", "-1"]);
    assert!(!is_alive(last), "the newest goes");
    stead.ok(["scale", "web", "+2"]);
    assert_eq!(web(&stead).len(), 5);
    stead.ok(["scale", "web", "1"]);
    assert_eq!(web(&stead), ["web-0"]);
    assert_eq!(stead.pid("web-0"), first, "what stays is not touched");
    let one = stead.pid("one");
    stead.ok(["scale", "one", "2"]);
    assert_eq!(stead.pid("one"), one);
    assert_eq!(names(&stead).len(), 3);
    refused(&stead.run(["scale", "web", "0"]), 2, &["hint: `stead stop web`"]);
    refused(&stead.run(["scale", "web", "many"]), 2, &["many"]);
    refused(&stead.run(["scale", "web", "100000"]), 2, &["100000"]);
    assert_eq!(web(&stead), ["web-0"]);
}

#[test]
fn reset_sets_counters_to_zero_and_leaves_the_process() {
    let stead = Stead::new();
    stead.start(&sleepers(&["web"]));
    stead.ok(["restart", "web"]);
    signal(stead.pid("web"), 9);
    eventually("it is back", || {
        let web = stead.instance("web");
        let is_back = web["restarts"] == 2 && web["restarts_unplanned"] == 1 && web["status"] == "online";
        if is_back { Ok(()) } else { Err(web.to_string()) }
    });
    let pid = stead.pid("web");
    stead.ok(["reset", "web"]);
    let web = stead.instance("web");
    assert_eq!((&web["restarts"], &web["restarts_unplanned"], &web["pid"]), (&json!(0), &json!(0), &json!(pid)));
    let why = stead.json(["why", "web", "--json"]);
    assert_eq!((&why["total"], &why["by_cause"]), (&json!(0), &json!([])));
}

#[test]
fn signal_reaches_the_main_process() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/bash\ntrap 'echo usr1' USR1\ntrap 'echo hup' HUP\necho up\nwhile :; do sleep 1000 & wait; kill $!; done\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh}\n  - {name: off, script: ./app.sh, autostart: false}\n");
    let pid = stead.pid("web");
    let mut heard = "up\n".to_owned();
    until("it is up", || stead.log("web", "out") == heard);
    for (word, line) in [("SIGUSR1", "usr1\n"), ("usr1", "usr1\n"), ("10", "usr1\n"), ("HUP", "hup\n")] {
        stead.ok(["signal", word, "web"]);
        heard.push_str(line);
        until(word, || stead.log("web", "out") == heard);
    }
    assert_eq!(stead.pid("web"), pid);
    refused(&stead.run(["signal", "FOO", "web"]), 2, &["FOO"]);
    refused(&stead.run(["signal", "HUP", "off"]), 1, &["off"]);
}

#[test]
fn jlist_serves_scripts_written_for_pm2() {
    let stead = Stead::new();
    stead.start(
        "apps:
  - {name: web, script: /bin/sleep, args: '1000', instances: 2, namespace: front}
  - {name: off, script: /bin/sleep, args: '1000', autostart: false, max_memory_restart: 300M}
",
    );
    stead.ok(["restart", "web-0"]);
    let script = "
import json, sys
for p in json.load(sys.stdin):
    e = p['pm2_env']
    up = e['pm_uptime'] > 1e12 if e['status'] == 'online' else p['pid'] == 0
    print(p['pm_id'], p['name'], e['status'], e['restart_time'], up, p['monit']['memory'] > 0, p['monit']['cpu'] >= 0,
          e['pm_exec_path'], e['args'], e['namespace'], e['exec_mode'], e['autorestart'], e['unstable_restarts'],
          e['pm_out_log_path'].endswith('out.log'), e['max_memory_restart'])
";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    let lines = through(python, &stead.ok(["jlist"]));
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "0 web online 1 True True True /bin/sleep ['1000'] front fork_mode True 0 True None",
            "1 web online 0 True True True /bin/sleep ['1000'] front fork_mode True 0 True None",
            "2 off stopped 0 True False True /bin/sleep ['1000'] default fork_mode True 0 True 314572800",
        ]
    );
    let web = &stead.json(["jlist"])[0];
    assert_eq!(web["pid"], stead.pid("web-0"));
    for key in [
        "created_at",
        "exit_code",
        "pm_cwd",
        "exec_interpreter",
        "pm_err_log_path",
        "pm_pid_path",
        "watch",
        "version",
        "username",
        "treekill",
        "prev_restart_delay",
        "env",
        "axm_actions",
        "axm_monitor",
        "axm_options",
    ] {
        assert!(web["pm2_env"].get(key).is_some(), "{key} is missing in {web:#}");
    }
}

#[test]
fn check_reads_a_file_and_does_nothing_else() {
    let stead = Stead::new();
    stead.file("good.yaml", &sleepers(&["a", "b"]));
    stead.file("bad.yaml", "apps:\n  - name: a\n    scirpt: /bin/sleep\n");
    let good = stead.ok(["check", "good.yaml"]);
    assert!(good.contains("good.yaml"), "{good}");
    refused(&stead.run(["check", "bad.yaml"]), 2, &["bad.yaml:3: apps[0].scirpt: ", "did you mean `script`?"]);
    refused(&stead.run(["check", "gone.yaml"]), 2, &["gone.yaml", "no such file"]);
    refused(&stead.run(["check"]), 2, &["ecosystem.yaml"]);
    assert!(!stead.home.exists(), "nothing was started");
}

#[test]
fn ping_starts_nothing() {
    let stead = Stead::new();
    refused(&stead.run(["ping"]), 1, &["not running"]);
    refused(&stead.run(["ping", "--json"]), 1, &["not running"]);
    assert!(stead.processes().is_empty());
    stead.start(&sleepers(&["a"]));
    let pong = stead.json(["ping", "--json"]);
    assert_eq!(pong["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&pong["protocol"], &pong["daemon_starts"]), (&json!(1), &json!(1)));
    for pid in ["daemon_pid", "keeper_pid"] {
        assert!(is_alive(pong[pid].as_i64().unwrap() as i32), "{pong}");
    }
    assert!(stead.ok(["ping"]).contains(&pong["keeper_pid"].to_string()));
}

#[test]
fn completions_are_what_shells_read() {
    let stead = Stead::new();
    let mut bash = Command::new("bash");
    bash.arg("-n");
    let text = stead.ok(["completions", "bash"]);
    through(bash, &text);
    assert!(text.contains("resurrect") && text.contains("complete -F"), "{text}");
    assert!(stead.ok(["completions", "zsh"]).starts_with("#compdef stead"));
    assert!(stead.ok(["completions", "fish"]).contains("complete -c stead"));
    refused(&stead.run(["completions", "cmd.exe"]), 2, &["cmd.exe"]);
    assert!(!stead.home.exists());
}

#[test]
fn usage_errors_are_2_and_say_what_was_meant() {
    let stead = Stead::new();
    for (args, words) in [
        (&["strat"][..], &["strat", "start"][..]),
        (&["stop"], &["NAME"]),
        (&["start", "--frob"], &["--frob"]),
        (&["logs", "--lines", "many"], &["many"]),
        (&["logs", "--err", "--out"], &["--out"]),
        (&[], &[]),
    ] {
        let said = stead.run(args);
        assert_eq!(said.status, Some(2), "{args:?}: {said:#?}");
        for word in words {
            assert!(said.stderr.contains(word), "{word} is missing in {said:#?}");
        }
    }
    assert!(stead.processes().is_empty());
}
