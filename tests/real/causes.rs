//! Every cause, driven by a real process: the word, how sure it is, and the evidence that it rests on. Nothing is certain that is not.

use crate::harness::{Stead, eventually, is_alive, is_root, signal, until};
use serde_json::{Value, json};

/// An end of an app by itself, and what its record must say.
struct End {
    name: &'static str,
    /// Attributes of the app.
    app: &'static str,
    /// The script, where `app` names `NAME.py`.
    script: &'static str,
    cause: &'static str,
    confidence: &'static str,
    /// Parts of the summary.
    says: &'static [&'static str],
    /// Values within the record, by JSON pointer.
    holds: &'static [(&'static str, &'static str)],
}

const PLAIN: End =
    End { name: "", app: "", script: "", cause: "exit-code", confidence: "certain", says: &[], holds: &[] };

/// Prints a traceback that nobody needs to believe.
const CAUGHT: &str = "import sys, time, traceback\ntry:\n    {}['x']\nexcept KeyError:\n    traceback.print_exc()\n";

const ENDS: &[End] = &[
    End {
        name: "success",
        app: "script: /bin/true",
        cause: "success",
        says: &["exited with code 0"],
        holds: &[("/planned", "false"), ("/exit_code", "0")],
        ..PLAIN
    },
    End {
        name: "job",
        app: "script: /bin/true, autorestart: false",
        cause: "success",
        holds: &[("/planned", "true")],
        ..PLAIN
    },
    End {
        name: "exception",
        app: "script: exception.py",
        script: "print('about to')\ndef f(row):\n    raise ValueError(f'bad row {row}')\nf(17)\n",
        says: &["exited with code 1 after ", ": ValueError: bad row 17 at ", "exception.py:3"],
        holds: &[
            ("/evidence/exception/type", "\"ValueError\""),
            ("/signature", "\"ValueError: bad row <n>\""),
            ("/evidence/stdout_tail", "[\"about to\"]"),
        ],
        ..PLAIN
    },
    End {
        name: "import",
        app: "script: import.py",
        script: "import flaskk\n",
        says: &["ModuleNotFoundError: No module named 'flaskk' at ", "import.py:1"],
        ..PLAIN
    },
    End {
        name: "logged",
        app: "script: logged.py",
        script: "import logging, sys\ntry:\n    {}['x']\nexcept KeyError:\n    logging.exception('no x')\n    sys.exit(1)\n",
        confidence: "likely",
        says: &["most likely by KeyError: 'x' at ", "logged.py:3"],
        ..PLAIN
    },
    End {
        name: "decided",
        app: "script: decided.py",
        script: "import sys, traceback\ntry:\n    {}['x']\nexcept KeyError:\n    traceback.print_exc()\nsys.exit(3)\n",
        confidence: "likely",
        says: &["exited with code 3 after ", "most likely by KeyError"],
        ..PLAIN
    },
    End {
        name: "unrelated",
        app: "script: unrelated.py",
        script: CAUGHT,
        says: &["exited with code 1 after ", "the last exception in its log need not be why: KeyError"],
        holds: &[("/signature", "null"), ("/evidence/exception/type", "\"KeyError\"")],
        ..PLAIN
    },
    End {
        name: "three",
        app: "script: three.py",
        script: "import sys\nsys.exit(3)\n",
        says: &["exited with code 3 after "],
        holds: &[("/evidence/exception", "null"), ("/evidence/exit_meaning", "null")],
        ..PLAIN
    },
    End {
        name: "timeout",
        app: "script: timeout.py",
        script: "raise TimeoutError('prices')\n",
        says: &["TimeoutError: prices at "],
        holds: &[("/evidence/hint", "\"an answer did not come\"")],
        ..PLAIN
    },
    End {
        name: "missing",
        app: "script: /bin/bash, args: [-c, no-such-command]",
        says: &["exited with code 127 after ", ", as a shell reports a command that was not found"],
        ..PLAIN
    },
    End {
        name: "wrapper",
        app: "script: /bin/bash, args: [-c, 'bash -c \"kill -9 \\$\\$\"; exit $?']",
        confidence: "likely",
        says: &["exited with code 137 after ", "128 + 9, as a shell reports a child that was ended by SIGKILL"],
        holds: &[("/exit_code", "137"), ("/signal", "null"), ("/evidence/exit_meaning/signal", "\"SIGKILL\"")],
        ..PLAIN
    },
    End {
        name: "grandchild",
        app: "script: grandchild.py",
        script: "\
import os, sys, time
r, w = os.pipe()
if os.fork() == 0:
    child = os.getpid()
    if os.fork() == 0:
        while os.getppid() == child: time.sleep(0.01)
        os.write(w, str(os.getpid()).encode())
        os.kill(os.getpid(), 9)
    os._exit(0)
os.wait()
pid = int(os.read(r, 20))
while os.path.exists(f'/proc/{pid}'): time.sleep(0.01)
sys.exit(5)
",
        says: &["exited with code 5 after ", "shortly before, its process ", "was ended by SIGKILL"],
        holds: &[("/evidence/children/0/signal", "\"SIGKILL\"")],
        ..PLAIN
    },
    End {
        name: "fault",
        app: "script: fault.py, limits: {core: 0}",
        script: "import ctypes\nctypes.string_at(0)\n",
        cause: "signal",
        says: &["crashed with SIGSEGV after "],
        holds: &[("/signal", "\"SIGSEGV\""), ("/core_dumped", "false")],
        ..PLAIN
    },
    End {
        name: "realtime",
        app: "script: /bin/bash, args: [-c, 'kill -40 $$']",
        cause: "signal",
        says: &["ended by SIGRTMIN+6 after ", "who sent it is not known"],
        holds: &[("/evidence/sender", "null"), ("/exit_code", "null")],
        ..PLAIN
    },
    End {
        name: "another",
        app: "script: another.py",
        script: "import sys\nprint('Traceback (most recent call last):\\n  File \"/srv/other.py\", line 3, in f\\nKeyError: 1', file=sys.stderr)\n",
        cause: "success",
        says: &["exited with code 0"],
        holds: &[("/evidence/exception", "null"), ("/signature", "null")],
        ..PLAIN
    },
    End {
        name: "secret",
        app: "script: secret.py, env: {API_KEY: sk-live-4FjLq09x}",
        script: "import os\nprint(os.environ['API_KEY'])\nraise SystemError('401 for ' + os.environ['API_KEY'])\n",
        says: &["SystemError: 401 for *** at "],
        holds: &[("/evidence/stdout_tail", "[\"***\"]")],
        ..PLAIN
    },
];

#[test]
fn every_end_of_an_app_by_itself_has_its_cause() {
    let stead = Stead::new();
    let mut apps = String::from("apps:\n");
    for end in ENDS {
        apps.push_str(&format!("  - {{name: {}, restart_delay: 60s, {}}}\n", end.name, end.app));
        // Life goes on after it, silently and for longer than an exception takes to end a process.
        let life = if end.name == "unrelated" { "time.sleep(3)\nsys.exit(1)\n" } else { "" };
        stead.file(&format!("{}.py", end.name), &format!("{}{life}", end.script));
    }
    stead.file("ecosystem.yaml", &apps);
    stead.run(["start", "ecosystem.yaml"]);
    let mut wrong = Vec::new();
    for end in ENDS {
        let record = first_end(&stead, end.name);
        let told = (record["cause"].as_str().unwrap(), record["confidence"].as_str().unwrap());
        let summary = record["summary"].as_str().unwrap();
        let right = told == (end.cause, end.confidence)
            && end.says.iter().all(|words| summary.contains(words))
            && end.holds.iter().all(|(at, value)| {
                let value: Value = serde_json::from_str(value).unwrap();
                record.pointer(at) == Some(&value)
            });
        if !right {
            wrong.push(format!("{}: {record:#}", end.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let secret = std::fs::read_dir(stead.home.join("journal"))
        .unwrap()
        .flatten()
        .any(|file| std::fs::read_to_string(file.path()).unwrap_or_default().contains("sk-live-4FjLq09x"));
    assert!(!secret, "the journal keeps a secret for ever");
}

#[test]
fn a_locked_database_names_who_locked_it() {
    let stead = Stead::new();
    stead.file(
        "holder.py",
        "import sqlite3, time\nc = sqlite3.connect('fleet.db', isolation_level=None)\nc.execute('create table if not exists t (x)')\n\
         c.execute('begin exclusive')\nopen('locked', 'w').close()\ntime.sleep(1000)\n",
    );
    stead.file(
        "writer.py",
        "import os, sqlite3, time\nwhile not os.path.exists('locked'): time.sleep(0.01)\n\
         c = sqlite3.connect('fleet.db', timeout=0.2)\nc.execute('insert into t values (1)')\n",
    );
    // The database is closed before the words are out.
    stead.file(
        "tidy.py",
        "import contextlib, os, sqlite3, time\nwhile not os.path.exists('locked'): time.sleep(0.01)\n\
         with contextlib.closing(sqlite3.connect('fleet.db', timeout=0.2)) as c:\n    c.execute('insert into t values (1)')\n",
    );
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: holder, script: holder.py}\n  - {name: writer, script: writer.py, restart_delay: 60s}\n\
         \x20 - {name: tidy, script: tidy.py, restart_delay: 60s}\n",
    );
    stead.run(["start", "ecosystem.yaml"]);
    for name in ["writer", "tidy"] {
        let record = first_end(&stead, name);
        let holder = &record["evidence"]["lock_holder"];
        assert_eq!(
            (&record["cause"], &record["confidence"], &holder["instance"], &holder["pid"]),
            (&json!("exit-code"), &json!("certain"), &json!("holder"), &json!(stead.pid("holder"))),
            "{record:#}"
        );
        assert!(holder["command"].as_str().unwrap().contains("holder.py"), "{record:#}");
        let summary = record["summary"].as_str().unwrap();
        for words in ["sqlite3.OperationalError: database is locked at ", "fleet.db was held by pid ", " of holder (`"]
        {
            assert!(summary.contains(words), "{summary}");
        }
    }
}

#[test]
fn a_lock_that_nobody_was_seen_to_hold_is_nobodys() {
    let stead = Stead::new();
    stead.file("app.py", "import sqlite3\nraise sqlite3.OperationalError('database is locked')\n");
    stead.file("ecosystem.yaml", "apps: [{name: app, script: app.py, restart_delay: 60s}]");
    stead.run(["start", "ecosystem.yaml"]);
    let record = first_end(&stead, "app");
    assert_eq!(record["evidence"]["lock_holder"], Value::Null);
    assert!(!record["summary"].as_str().unwrap().contains("held by"), "{record:#}");
}

#[test]
fn who_sent_a_signal_is_named_only_where_it_is_known() {
    let stead = Stead::new();
    stead.start("apps: [{name: web, script: /bin/sleep, args: '1000'}, {name: api, script: /bin/sleep, args: '1000'}]");
    signal(stead.pid("web"), 15);
    let record = first_end(&stead, "web");
    assert_eq!(
        (&record["cause"], &record["confidence"], &record["planned"], &record["evidence"]["sender"]),
        (&json!("signal"), &json!("certain"), &json!(false), &Value::Null),
        "{record:#}"
    );
    assert!(record["summary"].as_str().unwrap().ends_with("; who sent it is not known"), "{record:#}");
    stead.ok(["signal", "TERM", "api"]);
    let record = first_end(&stead, "api");
    let sender = &record["evidence"]["sender"];
    assert_eq!(
        (&record["cause"], &record["confidence"], &record["planned"], &sender["uid"]),
        (&json!("signal"), &json!("certain"), &json!(false), &json!(nix::unistd::geteuid().as_raw())),
        "{record:#}"
    );
    assert!(sender["command"].as_str().unwrap().ends_with("signal TERM api"), "{record:#}");
    assert!(record["summary"].as_str().unwrap().ends_with(" sent"), "{record:#}");
    stead.until_status("api", "online");
}

#[test]
fn a_signal_that_was_asked_for_is_known_after_a_crash_of_the_daemon() {
    let stead = Stead::new();
    // It takes its time to die, so that another daemon sees it.
    stead.file(
        "slow.py",
        "import os, signal, time\ndef end(*_):\n    open('told', 'w').close()\n    while not os.path.exists('go'): time.sleep(0.01)\n\
         \x20   signal.signal(signal.SIGTERM, signal.SIG_DFL)\n    os.kill(os.getpid(), signal.SIGTERM)\n\
         signal.signal(signal.SIGTERM, end)\nopen('ready', 'w').close()\nwhile True: time.sleep(1000)\n",
    );
    stead.start("apps: [{name: slow, script: slow.py, restart_delay: 60s}]");
    until("it listens", || stead.work.join("ready").exists());
    stead.ok(["signal", "TERM", "slow"]);
    until("it has heard", || stead.work.join("told").exists());
    stead.kill_daemon();
    stead.ping();
    stead.file("go", "");
    let record = first_end(&stead, "slow");
    let command = record["evidence"]["sender"]["command"].as_str().unwrap_or_default();
    assert!(command.ends_with("signal TERM slow"), "{record:#}");
}

#[test]
fn a_core_dump_is_told_from_a_plain_fault() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", "apps: [{name: dump, script: /bin/sh, args: [-c, 'kill -ABRT $$'], restart_delay: 60s, limits: {core: unlimited}}]");
    stead.run(["start", "ecosystem.yaml"]);
    let record = first_end(&stead, "dump");
    assert_eq!(record["signal"], "SIGABRT", "{record:#}");
    if record["core_dumped"] != true {
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        eprintln!("SKIPPED: this machine writes no core (core_pattern {})", pattern.trim());
        assert_eq!(record["cause"], "signal", "{record:#}");
        return;
    }
    assert_eq!((&record["cause"], &record["confidence"]), (&json!("core-dump"), &json!("certain")), "{record:#}");
    assert!(record["summary"].as_str().unwrap().contains("and dumped core"), "{record:#}");
}

#[test]
fn what_stead_did_itself_is_planned_and_has_who_asked() {
    let stead = Stead::new();
    let apps = |more: &str| {
        let names = ["stopped", "restarted", "reloaded", "changed", "ended"];
        let apps = names.map(|name| {
            format!(
                "  - {{name: {name}, script: /bin/sleep, args: '1000'{}}}\n",
                if name == "changed" { more } else { "" }
            )
        });
        format!("apps:\n{}", apps.concat())
    };
    stead.start(&apps(""));
    stead.ok(["stop", "stopped"]);
    stead.ok(["restart", "restarted"]);
    stead.ok(["reload", "reloaded"]);
    stead.start(&apps(", env: {A: b}"));
    let keeper = stead.keeper_pid();
    for (name, cause, asked) in [
        ("stopped", "manual", "stop stopped"),
        ("restarted", "manual", "restart restarted"),
        ("reloaded", "reload", "reload reloaded"),
        ("changed", "config-change", "start ecosystem.yaml"),
    ] {
        let record = first_end(&stead, name);
        assert_eq!(
            (&record["cause"], &record["planned"], &record["confidence"]),
            (&json!(cause), &json!(true), &json!("certain")),
            "{record:#}"
        );
        assert!(record["actor"]["command"].as_str().unwrap().ends_with(asked), "{record:#}");
    }
    signal(keeper, 15);
    until("stead has ended", || !is_alive(keeper));
    let record = first_end(&stead, "ended");
    assert_eq!(
        (&record["cause"], &record["planned"], &record["actor"]["pid"]),
        (&json!("shutdown"), &json!(true), &json!(std::process::id())),
        "{record:#}"
    );
}

#[test]
fn what_nothing_watched_is_lost_and_not_guessed() {
    let stead = Stead::new();
    stead.file("web.sh", "#!/bin/sh\necho run >>web.diary\nexec sleep 1000\n");
    stead.start("apps: [{name: web, script: ./web.sh}]");
    until("it runs", || stead.diary("web").len() == 1);
    signal(stead.keeper_pid(), 9);
    until("it runs again", || stead.diary("web").len() == 2);
    let record = first_end(&stead, "web");
    assert_eq!(
        (&record["cause"], &record["confidence"], &record["exit_code"], &record["signal"]),
        (&json!("lost"), &json!("unknown"), &Value::Null, &Value::Null),
        "{record:#}"
    );
}

#[test]
fn a_spawn_that_fails_names_step_and_reason() {
    let stead = Stead::new();
    let script = stead.file("gone.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.start("apps: [{name: gone, script: ./gone.sh, interpreter: none, restart_delay: 60s}]");
    std::fs::remove_file(script).unwrap();
    assert_eq!(stead.run(["restart", "gone"]).status, Some(1));
    let record = stead.newest_record("gone");
    assert_eq!(
        (&record["cause"], &record["confidence"], &record["evidence"]["spawn"]),
        (&json!("spawn-failed"), &json!("certain"), &json!({"stage": "exec", "errno": "ENOENT"})),
        "{record:#}"
    );
}

#[test]
fn the_cap_and_the_wall_are_told_apart() {
    let stead = Stead::new();
    stead.file(
        "leak.py",
        "import time\nkept = []\nwhile True:\n    kept.append(bytearray(b'x' * (1 << 20)))\n    time.sleep(0.01)\n",
    );
    stead.file("burst.py", "kept = b'x' * (800 << 20)\n");
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: cap, script: leak.py, max_memory_restart: 60M, restart_delay: 60s}\n\
         \x20 - {name: wall, script: burst.py, memory_max: 50M, restart_delay: 60s}\n",
    );
    stead.run(["start", "ecosystem.yaml"]);
    if stead.instance("cap")["memory_enforcement"] == "polling" {
        eprintln!("SKIPPED: no cgroup can be made here, so the kernel cannot keep a cap");
        return;
    }
    for (name, cause) in [("cap", "memory-cap"), ("wall", "oom-kill")] {
        let record = first_end(&stead, name);
        assert_eq!(
            (&record["cause"], &record["planned"], &record["confidence"]),
            (&json!(cause), &json!(false), &json!("certain")),
            "{record:#}"
        );
    }
}

#[test]
fn what_earlyoom_says_in_the_log_names_it_and_is_no_proof() {
    if !is_root("a line in the kernel's log") || std::fs::File::options().write(true).open("/dev/kmsg").is_err() {
        return;
    }
    let stead = Stead::new();
    stead.start("apps: [{name: web, script: /bin/sleep, args: '1000'}]");
    let pid = stead.pid("web");
    let line = format!("earlyoom: sending SIGTERM to process {pid} uid 0 \"sleep\": oom_score 800, VmRSS 1 MiB\n");
    std::fs::write("/dev/kmsg", line).unwrap();
    signal(pid, 15);
    let record = first_end(&stead, "web");
    assert_eq!(
        (&record["cause"], &record["confidence"], &record["evidence"]["sender"]["command"]),
        (&json!("signal"), &json!("likely"), &json!("earlyoom")),
        "{record:#}"
    );
}

#[test]
fn a_flood_without_an_end_of_line_makes_a_small_record() {
    let stead = Stead::new();
    stead.file(
        "flood.py",
        "import os\nfor _ in range(256): os.write(2, b'\\xff\\x1b[2J\\0' * (1 << 15))\nraise SystemExit(4)\n",
    );
    stead.file("ecosystem.yaml", "apps: [{name: flood, script: flood.py, restart_delay: 60s}]");
    stead.run(["start", "ecosystem.yaml"]);
    let record = first_end(&stead, "flood");
    assert_eq!((&record["cause"], &record["exit_code"]), (&json!("exit-code"), &json!(4)));
    let size = record.to_string().len();
    assert!(size < 64 << 10, "{size} bytes");
}

fn first_end(stead: &Stead, name: &str) -> Value {
    eventually(&format!("{name} has ended once"), || {
        let all = stead.json(["why", name, "--json"]);
        all["records"].as_array().unwrap().last().cloned().ok_or_else(|| all.to_string())
    })
}
