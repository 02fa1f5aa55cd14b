//! A reader who has nothing but `stead why NAME` can tell what happened, for each fault that a fleet meets.

use crate::causes::first_end;
use crate::harness::{Stead, eventually, signal, until};
use crate::look::on_terminal;
use std::time::Duration;

/// A fault, and the words without which a newcomer could not tell what happened.
struct Fault {
    name: &'static str,
    /// Attributes of the app.
    app: &'static str,
    /// The script `NAME.py`.
    script: &'static str,
    words: &'static [&'static str],
}

/// What apps do by themselves.
const FAULTS: &[Fault] = &[
    Fault {
        name: "raises",
        app: "script: raises.py",
        script: "print('opening the book')\nraise ValueError('bad row 17')\n",
        words: &["ValueError: bad row 17", "raises.py:2", "fix ValueError at", "opening the book"],
    },
    Fault {
        name: "helped",
        app: "script: helped.py",
        script: "import helper\nhelper.load({})\n",
        words: &["KeyError: 'price'", "helper.py:2"],
    },
    Fault {
        name: "chained",
        app: "script: chained.py",
        script: "try:\n    {}['x']\nexcept KeyError as error:\n    raise RuntimeError('no price table') from error\n",
        words: &["RuntimeError: no price table", "chained.py:4", "direct cause", "KeyError: 'x'"],
    },
    Fault {
        name: "syntax",
        app: "script: syntax.py",
        script: "x = 1\ndef f(:\n    pass\n",
        words: &["SyntaxError", "syntax.py:2"],
    },
    Fault {
        name: "imports",
        app: "script: imports.py",
        script: "import flaskk\n",
        words: &["ModuleNotFoundError: No module named 'flaskk'", "imports.py:1", "install it", "`interpreter`"],
    },
    Fault {
        name: "absent",
        app: "script: absent.py",
        script: "open('rates.csv')\n",
        words: &["FileNotFoundError", "rates.csv", "absent.py:1"],
    },
    Fault {
        name: "three",
        app: "script: three.py",
        script: "import sys\nprint('the port is bad')\nsys.exit(3)\n",
        words: &["exited with code 3", "`stop_exit_codes: [3]`", "the port is bad"],
    },
    Fault {
        name: "returns",
        app: "script: returns.py",
        script: "print('nothing to do')\n",
        words: &["exited with code 0", "`autorestart: false`", "nothing to do"],
    },
    Fault {
        name: "segv",
        app: "script: segv.py, limits: {core: 0}",
        script: "import ctypes\nctypes.string_at(0)\n",
        words: &["crashed with SIGSEGV", "native code", "PYTHONFAULTHANDLER=1"],
    },
    Fault {
        name: "wrapped",
        app: "script: /bin/bash, args: [-c, 'bash -c \"kill -9 \\$\\$\"; exit $?']",
        script: "",
        words: &[
            "exited with code 137",
            "a child that was ended by SIGKILL",
            "likely, not certain",
            "without a shell around it",
        ],
    },
    Fault {
        name: "no-command",
        app: "script: /bin/bash, args: [-c, no-such-command]",
        script: "",
        words: &["code 127", "a command that was not found", "no-such-command", "PATH in `env`"],
    },
    Fault {
        name: "reads",
        app: "script: reads.py",
        script: "\
import socket, urllib.request
silent = socket.socket()
silent.bind(('127.0.0.1', 0))
silent.listen()
urllib.request.urlopen(f'http://127.0.0.1:{silent.getsockname()[1]}/', timeout=0.2)
",
        words: &["TimeoutError: timed out", "reads.py:5", "did not answer in time", "`timeout=`"],
    },
    Fault {
        name: "writer",
        app: "script: writer.py",
        script: "\
import os, sqlite3, time
while not os.path.exists('locked'): time.sleep(0.01)
c = sqlite3.connect('fleet.db', timeout=0.2)
c.execute('insert into t values (1)')
",
        words: &[
            "database is locked",
            "writer.py:4",
            "fleet.db was held by pid",
            "of holder",
            "holder (pid",
            "`PRAGMA journal_mode=WAL`",
        ],
    },
    Fault {
        name: "unwell",
        app: "script: /bin/sleep, args: '1000', health_check: {command: 'echo the queue is full; exit 1', interval: 200, retries: 2}",
        script: "",
        words: &[
            "its health check failed",
            "2 times in a row",
            "not well:",
            "the queue is full",
            "its own log says why",
        ],
    },
    Fault {
        name: "unready",
        app: "script: /bin/sleep, args: '1000', wait_ready: true, listen_timeout: 500",
        script: "",
        words: &["was not ready in time", "listen_timeout", "READY=1", "500 ms"],
    },
    Fault {
        name: "clock",
        app: "script: /bin/sleep, args: '1000', cron_restart: '*/2 * * * * *'",
        script: "",
        words: &["restarted by its schedule", "`cron_restart: */2 * * * * *`", "0 unplanned"],
    },
    Fault {
        name: "leaks",
        app: "script: leaks.py, max_memory_restart: 60M",
        script: "import time\nkept = []\nwhile True:\n    kept.append(bytearray(b'x' * (1 << 20)))\n    time.sleep(0.01)\n",
        words: &["at its memory cap", "of 60M", "more than", "leaks.py", "`max_memory_restart: 60M`"],
    },
    Fault {
        name: "bursts",
        app: "script: bursts.py, memory_max: 50M",
        script: "kept = b'x' * (800 << 20)\n",
        words: &["killed by the kernel", "hard memory limit of 50M", "`memory_max: 50M`"],
    },
];

/// What others do to apps that sleep.
const DEEDS: &[(&str, &[&str])] = &[
    ("shot", &["ended by SIGKILL", "who sent it is not known", "somebody outside of stead"]),
    ("told", &["ended by SIGTERM", "stead signal TERM told", "sent by"]),
    ("restarted", &["stopped on request", "stead restart restarted", "0 unplanned"]),
    ("changed", &["restarted with a changed configuration", "stead start ecosystem.yaml"]),
    ("watched", &["a watched file changed", "watched/app.cfg", "`ignore_watch`"]),
    ("gone", &["could not be started", "gone.sh", "no such file or directory", "`script` or `interpreter`"]),
];

fn ecosystem(more: &str) -> String {
    let mut apps = String::from("apps:\n  - {name: holder, script: holder.py}\n");
    for Fault { name, app, .. } in FAULTS {
        apps.push_str(&format!("  - {{name: {name}, restart_delay: 60s, {app}}}\n"));
    }
    for name in ["shot", "told", "restarted"] {
        apps.push_str(&format!("  - {{name: {name}, script: /bin/sleep, args: '1000', restart_delay: 60s}}\n"));
    }
    apps.push_str(&format!("  - {{name: changed, script: /bin/sleep, args: '1000'{more}}}\n"));
    apps.push_str("  - {name: watched, script: /bin/sleep, args: '1000', watch: [watched], watch_delay: 50}\n");
    apps.push_str("  - {name: gone, script: ./gone.sh, interpreter: none, restart_delay: 60s}\n");
    apps
}

#[test]
fn a_reader_of_why_alone_can_tell_what_happened() {
    let stead = Stead::new();
    stead.file("helper.py", "def load(row):\n    return row['price']\n");
    stead.file(
        "holder.py",
        "import sqlite3, time\nc = sqlite3.connect('fleet.db', isolation_level=None)\nc.execute('create table t (x)')\n\
         c.execute('begin exclusive')\nopen('locked', 'w').close()\ntime.sleep(1000)\n",
    );
    for Fault { name, script, .. } in FAULTS {
        stead.file(&format!("{name}.py"), script);
    }
    stead.file("watched/app.cfg", "");
    let gone = stead.file("gone.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.file("ecosystem.yaml", &ecosystem(""));
    stead.run(["start", "ecosystem.yaml"]);
    signal(stead.pid("shot"), 9);
    stead.ok(["signal", "TERM", "told"]);
    stead.ok(["restart", "restarted"]);
    stead.file("ecosystem.yaml", &ecosystem(", env: {A: b}"));
    stead.ok(["start", "ecosystem.yaml", "--only", "changed"]);
    std::fs::remove_file(gone).unwrap();
    stead.run(["restart", "gone"]);
    // Nothing tells when the watch has begun; the first change that it sees is enough.
    // Between two changes there is a quiet longer than watch_delay, or the restart would wait for ever.
    let mut changed: Option<std::time::Instant> = None;
    until("the change is seen", || {
        if changed.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            changed = Some(std::time::Instant::now());
            stead.file("watched/app.cfg", &format!("{changed:?}"));
        }
        stead.json(["why", "watched", "--json"])["total"] != 0
    });
    let capped = stead.instance("leaks")["memory_enforcement"] != "polling";
    if !capped {
        eprintln!("SKIPPED: no cgroup can be made here, so the kernel cannot keep a limit");
    }
    let all = FAULTS.iter().map(|fault| (fault.name, fault.words)).chain(DEEDS.iter().copied());
    let mut told = 0;
    let mut wrong = Vec::new();
    for (name, words) in all.filter(|(name, _)| capped || !["leaks", "bursts"].contains(name)) {
        first_end(&stead, name);
        if name == "gone" {
            eventually("its failed start is told", || match stead.newest_record("gone") {
                record if record["cause"] == "spawn-failed" => Ok(()),
                record => Err(record.to_string()),
            });
        }
        let piped = stead.ok(["why", name]);
        let terminal = on_terminal(stead.command(["why", name]), 80);
        // A sentence that was wrapped is one sentence still.
        for (how, shown) in [("piped", &piped), ("at 80 columns", &bare(&terminal))] {
            let flat = flat(shown);
            for word in words.iter().filter(|word| !flat.contains(&self::flat(word))) {
                wrong.push(format!("{name}, {how}: {word:?} is missing in\n{shown}"));
            }
        }
        told += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told >= 20, "{told} faults are too few");
}

/// Without blanks and line breaks: a wrap may stand within any sentence, and within a path.
fn flat(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Without colours.
fn bare(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| shown + part.split_once('m').map_or(part, |(_, rest)| rest))
}
