//! Another binary takes the place of the running stead: keeper, apps, sockets and output are the same afterwards, or nothing has changed.

use crate::counter::{assert_all_lines, counters};
use crate::harness::{
    LIMIT, Said, Stead, children, daemon_of, eventually, eventually_within, free_port, freeze, is_alive, said, signal,
    state, until,
};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const HUP: i32 = 1;
const KILL: i32 = 9;
const TERM: i32 = 15;

/// Answers each connection with its pid.
const SERVER: &str = "
from kit import *
import socket
door = socket.socket(fileno=3)
while True:
    one = door.accept()[0]
    one.sendall(f'{os.getpid()}\\n'.encode())
    one.close()
";

/// Ends with 7 when it is told to.
const SEVEN: &str = "from kit import *\nwait_for('seven')\nprint('last words', file=sys.stderr)\nsys.exit(7)\n";

/// Ends with 7 all the time until it is over, and notes each run.
const CRASHER: &str = "#!/bin/sh\n[ -e over ] && exec sleep 1000\necho run >>crasher.diary\necho once\nexit 7\n";

const PORT_APP: &str = "  - {name: server, script: ./server.py, listen: ['127.0.0.1:PORT']}\n";

/// A fleet of counters beside what else is named; `PORT` in it is a free one.
fn fleet(count: usize, others: &str) -> (Stead, u16) {
    let stead = Stead::new();
    let file = counters(&stead, count);
    for (name, text) in [("server", SERVER), ("seven", SEVEN)] {
        stead.file(&format!("{name}.py"), text);
    }
    stead.file("crasher.sh", CRASHER);
    let port = free_port();
    stead.start(&(file + &others.replace("PORT", &port.to_string())));
    until_they_count(&stead, count);
    (stead, port)
}

/// And know by now how they are stopped.
fn until_they_count(stead: &Stead, count: usize) {
    (0..count).for_each(|n| until("it counts", || !stead.log(&format!("counter-{n}"), "out").is_empty()));
}

/// The binary under test at another place. By cp(1): a file that this process has open for writing could not be executed while
/// another test forks.
fn copy(stead: &Stead, name: &str) -> PathBuf {
    let path = stead.work.join(name);
    let mut cp = Command::new("cp");
    cp.arg("--reflink=auto").arg(env!("CARGO_BIN_EXE_stead")).arg(&path);
    assert!(cp.status().unwrap().success());
    path
}

/// A script that does something before it becomes the binary under test.
fn wrapper(stead: &Stead, name: &str, before: &str) -> PathBuf {
    stead.file(name, &format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_stead")))
}

/// A script that is asked for this and waits for `go` before it becomes the binary under test. It starts nothing: a shell would reap
/// what is not its own.
fn slow(stead: &Stead, at: &str) -> PathBuf {
    let work = stead.work.display();
    let wait = format!("case \"$*\" in *{at}*) : >{work}/reached; while [ ! -e {work}/go ]; do :; done;; esac");
    wrapper(stead, "new", &wait)
}

fn upgrade(stead: &Stead, binary: &Path) -> Said {
    stead.run(["upgrade".as_ref(), "--binary".as_ref(), binary.as_os_str()])
}

fn program(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn answers(port: u16) -> i32 {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()).read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

/// Stops the counters; each has all its lines in the log, each once.
fn assert_no_line_lost(stead: &Stead, count: usize) {
    stead.ok(["stop", "all"]);
    (0..count).for_each(|n| assert_all_lines(stead, &format!("counter-{n}")));
}

/// What must be the same before and after.
fn lives(stead: &Stead) -> Vec<(Value, Value, Value)> {
    let list = stead.json(["list", "--json"]);
    let one = |one: &Value| (one["name"].clone(), one["pid"].clone(), one["restarts"].clone());
    list.as_array().unwrap().iter().filter(|one| one["status"] == "online").map(one).collect()
}

#[test]
fn an_upgrade_costs_no_app_no_line_no_connection_and_no_exit_status() {
    let seven = "  - {name: seven, script: ./seven.py, autorestart: false}\n";
    let (stead, port) = fleet(4, &format!("{PORT_APP}{seven}"));
    let (before, ping, server, seven) = (lives(&stead), stead.ping(), stead.pid("server"), stead.pid("seven"));
    assert_eq!(answers(port), server);
    // It stands still where nobody is keeper, until an app has ended.
    let new = slow(&stead, "--take-over");
    let running = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("nobody is keeper", || stead.work.join("reached").exists());
    stead.file("seven", "");
    until("seven is a zombie", || state(seven) == Some('Z'));
    signal(ping["keeper_pid"].as_i64().unwrap() as i32, HUP);
    let asked = std::thread::spawn(move || answers(port));
    stead.file("go", "");
    let said = running.end();
    assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
    assert_eq!(asked.join().unwrap(), server);

    let after = stead.ping();
    assert_eq!((&after["keeper_pid"], &after["daemon_starts"]), (&ping["keeper_pid"], &json!(2)));
    assert_ne!(after["daemon_pid"], ping["daemon_pid"]);
    let shown = format!(
        "stead 0.1.0 → 0.1.0: keeper {} is the same process, daemon {} → {}; no app was touched\n",
        ping["keeper_pid"], ping["daemon_pid"], after["daemon_pid"]
    );
    assert_eq!(said.stdout, shown.replace("0.1.0", env!("CARGO_PKG_VERSION")));
    let goes_on: Vec<_> = before.into_iter().filter(|one| one.0 != "seven").collect();
    assert_eq!(lives(&stead), goes_on);
    assert_eq!(answers(port), server);
    let why = stead.json(["why", "seven", "--json"]);
    assert_eq!((&why["total"], &why["records"][0]["exit_code"]), (&json!(1), &json!(7)), "{why:#}");
    assert_eq!(why["records"][0]["evidence"]["stderr_tail"], json!(["last words"]));
    assert!(stead.own_log().contains(" upgraded from="), "{}", stead.own_log());
    assert!(!stead.run(["health"]).stdout.contains("was started again"), "what was asked for is no crash");
    assert_no_line_lost(&stead, 4);
}

#[test]
fn a_binary_that_replaced_the_running_one_takes_over() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", &counters(&stead, 1));
    let (path, new) = (copy(&stead, "stead"), copy(&stead, "new"));
    let by_path = |args: &[&str]| {
        let mut command = Command::new(&path);
        command.args(args).current_dir(&stead.work).env("STEAD_HOME", &stead.home);
        let said = said(command);
        assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
    };
    by_path(&["start", "ecosystem.yaml"]);
    until_they_count(&stead, 1);
    let (keeper, before) = (stead.keeper_pid(), lives(&stead));
    assert_eq!(program(keeper), path);
    std::fs::rename(new, &path).unwrap();
    assert!(program(keeper).to_string_lossy().ends_with(" (deleted)"));
    by_path(&["upgrade"]);
    assert_eq!((program(keeper), program(stead.daemon_pid())), (path.clone(), path));
    assert_eq!((stead.keeper_pid(), lives(&stead)), (keeper, before));
    assert_no_line_lost(&stead, 1);
}

#[test]
fn a_binary_that_says_no_or_nothing_changes_nothing() {
    let (stead, _) = fleet(1, "");
    let work = stead.work.to_str().unwrap().to_owned();
    stead.file("no", "#!/bin/sh\necho '{\"answer\": \"no\", \"reason\": \"stead 9 cannot read it\"}'\n");
    stead.file("complains", "#!/bin/sh\necho 'libc.so.9: not found' >&2\nexit 127\n");
    stead.file("chatters", "#!/bin/sh\nexec yes\n");
    stead.file("hangs", &format!("#!/bin/sh\nsleep 1000 &\necho $! >{work}/sleeper\nwait\n"));
    stead.file("text", "no program at all\n");
    stead.file("is-executable", "#!\n");
    std::fs::create_dir(stead.work.join("folder")).unwrap();
    let (before, ping) = (lives(&stead), stead.ping());
    for (binary, reason) in [
        ("no", "stead 9 cannot read it"),
        ("complains", "it did not answer as stead does, and ended with status 127: libc.so.9: not found"),
        ("chatters", "it did not answer within 10 s"),
        ("hangs", "it did not answer within 10 s"),
        ("text", "it cannot be executed: permission denied"),
        ("is-executable", "it cannot be executed: exec format error"),
        ("folder", "it is no file"),
        ("absent", "no such file or directory"),
        ("/bin/true", "it did not answer as stead does, and ended with status 0"),
    ] {
        let path = stead.work.join(binary);
        let said = upgrade(&stead, &path);
        assert_eq!((said.status, said.stdout.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.stderr.starts_with(&format!("error: not upgraded: {}: {reason}\n", path.display())), "{said:?}");
        let version = env!("CARGO_PKG_VERSION");
        if !["folder", "absent"].contains(&binary) {
            assert!(
                said.stderr.ends_with(&format!("hint: nothing has changed: stead {version} goes on\n")),
                "{said:?}"
            );
        }
        assert_eq!((lives(&stead), stead.ping()), (before.clone(), ping.clone()));
    }
    let sleeper: i32 = std::fs::read_to_string(stead.work.join("sleeper")).unwrap().trim().parse().unwrap();
    until("what a binary that hangs had started is gone", || !is_alive(sleeper));
    assert_no_line_lost(&stead, 1);
}

#[test]
fn twenty_upgrades_under_load_lose_no_line_and_no_exit() {
    let crasher = "  - {name: crasher, script: ./crasher.sh, max_restarts: 100000, journal_keep: 100000}\n";
    let (stead, port) = fleet(3, &format!("{PORT_APP}{crasher}"));
    let (both, keeper, server) = ([copy(&stead, "a"), copy(&stead, "b")], stead.keeper_pid(), stead.pid("server"));
    let lives = || lives(&stead).into_iter().filter(|one| one.0 != "crasher").collect::<Vec<_>>();
    let before = lives();
    let over = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(answers(port), server);
                stead.ok(["list"]);
            }
        });
        for n in 0..20 {
            let begun = Instant::now();
            let said = upgrade(&stead, &both[n % 2]);
            assert_eq!(said.status, Some(0), "upgrade {n}: {said:?}\n{}", stead.own_log());
            longest = longest.max(begun.elapsed());
            assert_eq!(program(keeper), both[n % 2]);
        }
        over.store(true, Ordering::Relaxed);
    });
    eprintln!("the longest of 20 upgrades took {longest:?}");
    assert_eq!((stead.keeper_pid(), lives()), (keeper, before));
    assert_eq!(stead.ping()["daemon_starts"], 21);
    let fds = std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap().count();
    assert!(fds < 60, "{fds} descriptors: some are left of each upgrade");
    stead.file("over", "");
    let runs = || stead.diary("crasher").len();
    let records = eventually("each run has its record", || {
        let why = stead.json(["why", "crasher", "--json"]);
        let records = why["records"].as_array().unwrap().clone();
        if records.len() == runs() { Ok(records) } else { Err(format!("{} runs, {} records", runs(), records.len())) }
    });
    assert!(runs() > 100, "{} runs", runs());
    assert!(records.iter().all(|record| record["exit_code"] == 7), "{records:#?}");
    assert_eq!(stead.log("crasher", "out").lines().count(), runs());
    assert_no_line_lost(&stead, 3);
}

#[test]
fn a_daemon_that_is_killed_meanwhile_does_not_matter() {
    let (stead, _) = fleet(2, "");
    let before = lives(&stead);
    let keeper = stead.keeper_pid();
    // It does not answer before the daemon that asked is dead.
    let new = slow(&stead, "--check");
    let running = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("the new binary is asked", || stead.work.join("reached").exists());
    let second = upgrade(&stead, &new);
    assert_eq!(second.status, Some(1));
    assert!(second.stderr.starts_with("error: not upgraded: another upgrade is under way\n"), "{second:?}");
    stead.kill_daemon();
    stead.file("go", "");
    let said = running.end();
    assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
    // And killed whenever one is there, before and after the exec.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3 {
                let old = eventually("a daemon", || daemon_of(keeper).ok_or("none".into()));
                let begun = stead.begin(["upgrade"]);
                if n > 0 {
                    until("it ends", || daemon_of(keeper) != Some(old));
                }
                daemon_of(keeper).into_iter().for_each(|daemon| signal(daemon, KILL));
                let said = begun.end();
                assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
            }
            over.store(true, Ordering::Relaxed);
        });
    });
    assert!(over.load(Ordering::Relaxed));
    assert_eq!((stead.keeper_pid(), lives(&stead)), (keeper, before));
    assert_no_line_lost(&stead, 2);
}

#[test]
fn a_new_daemon_that_does_not_come_up_is_replaced_by_the_previous_one() {
    let (stead, port) = fleet(2, PORT_APP);
    let (before, keeper) = (lives(&stead), stead.keeper_pid());
    let (was, new) = (program(keeper), copy(&stead, "new"));
    // What the check does not see.
    std::fs::write(stead.home.join("crash-plan"), "after greeting 1 0 0\n".repeat(3)).unwrap();
    let running = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("the new one runs", || program(keeper) == new);
    until("the previous one runs", || program(keeper) == was);
    let said = running.end();
    assert_eq!((said.status, said.stdout.as_str()), (Some(1), ""), "{said:?}\n{}", stead.own_log());
    let expected = format!(
        "error: not upgraded: {}: the new daemon did not come up: it was ended by SIGKILL, 3 times; the previous one serves again\n\
         hint: {}/stead.log may say more\n",
        new.display(),
        stead.home.display()
    );
    assert_eq!(said.stderr, expected);
    assert_eq!((stead.keeper_pid(), program(keeper), lives(&stead)), (keeper, was, before));
    assert_eq!(answers(port), stead.pid("server"));
    assert!(stead.own_log().contains(" not upgraded "), "{}", stead.own_log());
    // And the next one is no worse for it.
    assert_eq!(stead.run(["upgrade"]).status, Some(0));
    assert_no_line_lost(&stead, 2);
}

#[test]
fn a_new_daemon_that_hangs_is_replaced_by_the_previous_one() {
    let (stead, _) = fleet(1, "");
    let (before, keeper) = (lives(&stead), stead.keeper_pid());
    let (was, new) = (program(keeper), copy(&stead, "new"));
    std::fs::write(stead.home.join("crash-plan"), "after greeting 1 0 0 hangs\n").unwrap();
    let running = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("the new one runs", || program(keeper) == new);
    eventually_within(Duration::from_secs(60), "the previous one runs", || {
        if program(keeper) == was { Ok(()) } else { Err(format!("{:?}", program(keeper))) }
    });
    let said = running.end();
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("the new daemon did not come up: it did not serve within 20 s"), "{said:?}");
    assert_eq!((stead.keeper_pid(), lives(&stead)), (keeper, before));
    assert_no_line_lost(&stead, 1);
}

#[test]
fn where_the_exec_itself_fails_the_keeper_goes_on() {
    let (stead, port) = fleet(1, PORT_APP);
    let (before, keeper) = (lives(&stead), stead.keeper_pid());
    let was = program(keeper);
    let new = wrapper(&stead, "new", "chmod a-x \"$0\"");
    let said = upgrade(&stead, &new);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("new: it cannot be executed: permission denied\n"), "{said:?}");
    assert_eq!((stead.keeper_pid(), program(keeper), lives(&stead)), (keeper, was, before));
    assert_eq!(answers(port), stead.pid("server"));
    // Nothing of what was open for the exec is open for children.
    stead.ok(["restart", "counter-0"]);
    let pid = stead.pid("counter-0");
    eventually("it is the program of its script", || {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let mut fds: Vec<_> = fds.map(|fd| fd.file_name().into_string().unwrap()).collect();
        fds.sort();
        if fds == ["0", "1", "2"] { Ok(()) } else { Err(format!("{fds:?}")) }
    });
}

#[test]
fn a_signal_to_end_that_comes_while_nobody_is_keeper_is_heard() {
    let (stead, _) = fleet(1, "");
    let (keeper, new) = (stead.keeper_pid(), slow(&stead, "--take-over"));
    let running = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("nobody is keeper", || stead.work.join("reached").exists());
    signal(keeper, TERM);
    stead.file("go", "");
    running.end();
    until("all has ended", || stead.processes().is_empty());
    assert_eq!(stead.diary("counter-0").len(), 1, "the app ended by itself");
    stead.until_status("counter-0", "online");
    assert_eq!(stead.newest_record("counter-0")["cause"], "shutdown");
}

#[test]
fn a_foreground_stead_is_upgraded_in_its_place() {
    let stead = Stead::new();
    stead.kit();
    stead.file("app.py", "from kit import *\nprint('first', file=sys.stderr)\nwait_for('go')\nprint('second', file=sys.stderr)\nforever()\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py}\n");
    let manager = UnixDatagram::bind(stead.work.join("manager")).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let heard = |word: &str| {
        let mut buffer = [0; 4096];
        let mut said =
            || manager.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()).unwrap();
        while !said().contains(word) {}
    };
    let mut command = stead.command(["daemon", "--app-logs", "named", "ecosystem.yaml"]);
    command.env("NOTIFY_SOCKET", stead.work.join("manager"));
    let mut foreground = stead.foreground_by(command);
    heard("READY=1");
    until("what the app writes is copied", || foreground.said().contains("app | first\n"));
    let (before, new) = (lives(&stead), copy(&stead, "new"));
    let said = upgrade(&stead, &new);
    assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
    assert_eq!((stead.keeper_pid(), program(foreground.pid()), lives(&stead)), (foreground.pid(), new, before));
    assert!(foreground.said().contains(" upgraded from="), "{}", foreground.said());
    heard("WATCHDOG=1");
    stead.file("go", "");
    until("it is still copied", || foreground.said().contains("app | second\n"));
    assert_eq!(children(foreground.pid()).len(), 3, "daemon, mirror and app");
    signal(foreground.pid(), TERM);
    heard("STOPPING=1");
    assert_eq!(foreground.ended(), Some(0));
    for once in ["app | first\n", "app | second\n"] {
        assert_eq!(foreground.said().matches(once).count(), 1, "{}", foreground.said());
    }
    assert_eq!((stead.processes(), stead.groups()), (Vec::new(), Vec::new()));
}

#[test]
fn what_a_newer_stead_left_is_refused_and_not_overwritten() {
    let (stead, _) = fleet(1, "");
    let (before, state) = (lives(&stead), stead.home.join("state.json"));
    let newer = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replacen(from, to, 1);
        std::fs::write(path, &text).unwrap();
        text
    };
    let version = env!("CARGO_PKG_VERSION");
    newer(&state, "\"version\":1", "\"version\":2");
    let said = stead.run(["upgrade"]);
    let refusal = format!("state.json is of a newer stead: it has version 2, and stead {version} reads up to 1\n");
    assert!(said.status == Some(1) && said.stderr.contains(&refusal), "{said:?}");
    assert_eq!(lives(&stead), before);
    newer(&state, "\"version\":2", "\"version\":1");
    stead.ok(["restart", "counter-0"]);
    stead.ok(["kill"]);

    let text = newer(&state, "\"version\":1", "\"version\":2");
    let said = stead.run(["list"]);
    assert!(said.status == Some(1) && said.stderr.contains(&refusal), "{said:?}");
    let said = stead.run(["daemon"]);
    assert!(said.status == Some(1) && said.stderr.contains(&refusal), "{said:?}");
    assert_eq!(std::fs::read_to_string(&state).unwrap(), text);
    newer(&state, "\"version\":2", "\"version\":1");
    assert_eq!(stead.instance("counter-0")["status"], "stopped");

    let journal = stead.home.join("journal/counter-0.jsonl");
    let lines = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, lines.replace("\"v\":1", "\"v\":2")).unwrap();
    let said = stead.run(["upgrade"]);
    let refusal = "journal/counter-0.jsonl is of a newer stead: it has version 2";
    assert!(said.status == Some(1) && said.stderr.contains(refusal), "{said:?}");
    std::fs::write(&journal, lines).unwrap();
}

#[test]
fn there_is_nothing_to_upgrade_where_nothing_runs() {
    let stead = Stead::new();
    let said = stead.run(["upgrade"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.starts_with("error: stead is not running"), "{said:?}");
    let frozen = fleet(0, "  - {name: nap, script: /bin/sleep, args: '1000'}\n").0;
    freeze(frozen.pid("nap"));
    assert_eq!(frozen.run(["upgrade"]).status, Some(0), "an app that stands still is upgraded around");
}

#[test]
fn a_client_of_a_newer_protocol_may_ask_for_an_upgrade() {
    let stead = Stead::new();
    stead.ok(["list"]);
    let asked = |line: &str| {
        let mut stream = UnixStream::connect(stead.home.join("stead.sock")).unwrap();
        let head = "host: stead\r\nstead-protocol: 99\r\ncontent-length: 2\r\nconnection: close";
        write!(stream, "{line} HTTP/1.1\r\n{head}\r\n\r\n{{}}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(asked("GET /v1/list").contains("`stead upgrade` puts the new version in its place"));
    let answer = asked("POST /v1/upgrade");
    assert!(answer.contains("the request cannot be read: missing field `id`"), "{answer}");
}

/// The daemon has ended by then, and nobody holds what the keeper held: all start anew, once, and the upgrade is not begun again.
#[test]
fn a_new_keeper_that_dies_as_it_takes_over_is_a_keeper_that_was_killed() {
    const ALONE: &str = "from kit import *\nlock = alone()\nnote(str(os.getpid()))\nforever()\n";
    let stead = Stead::new();
    stead.kit();
    stead.file("alone.py", ALONE);
    stead.start("apps:\n  - {name: a, script: ./alone.py}\n  - {name: b, script: ./alone.py}\n");
    until("both are up", || ["a", "b"].iter().all(|name| stead.diary(name).len() == 1));
    let new = wrapper(&stead, "new", "case \"$*\" in *--take-over*) kill -9 $$;; esac");
    let (before, keeper) = (lives(&stead), stead.keeper_pid());
    let refused = upgrade(&stead, &new);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("it ended as it took over, and the keeper with it"), "{refused:?}");
    assert!(refused.stderr.contains("hint: `stead list` starts stead again"), "{refused:?}");
    assert!(!is_alive(keeper));
    until("both are up again", || lives(&stead).len() == 2 && stead.diary("b").len() == 2);
    for (name, pid, _) in before {
        let name = name.as_str().unwrap();
        let one = stead.instance(name);
        assert_eq!((&one["restarts"], &one["last_exit"]["cause"]), (&json!(1), &json!("lost")), "{one:#}");
        assert!(!is_alive(pid.as_i64().unwrap() as i32));
        until("its second run has begun", || stead.diary(name).len() == 2);
    }
    assert_eq!(stead.diary("two"), [""; 0], "never two copies");

    // Somebody starts a keeper at once, as systemd would.
    let keeper = stead.keeper_pid();
    let asked = stead.begin(["upgrade".as_ref(), "--binary".as_ref(), new.as_os_str()]);
    until("the keeper is dead", || !is_alive(keeper));
    stead.ok(["list"]);
    let second = stead.keeper_pid();
    let refused = asked.end();
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("it ended as it took over"), "{refused:?}");
    assert_eq!(stead.keeper_pid(), second, "and is not upgraded into its death");
    until("both are up once more", || ["a", "b"].iter().all(|name| stead.diary(name).len() == 3));
    assert_eq!(stead.diary("two"), [""; 0], "never two copies");
}
