//! How a child begins, what becomes of the rest of its tree, and how its end is told.

use crate::harness::{LIMIT, Stead, begun, eventually, eventually_within, is_alive, is_root, signal, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const KILL: i32 = 9;

/// Executes stead as an untidy caller would: signals ignored and blocked, a low limit, a strict umask, open files.
const UNTIDY: &str = "
import os, resource, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD])
resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.umask(0o027)
os.dup2(os.open('/dev/null', os.O_RDONLY), 9)
os.set_inheritable(9, True)
os.execv(sys.argv[1], sys.argv[1:])
";

/// Runs `stead start ecosystem.yaml` for an untidy caller with these variables.
fn start_untidily(stead: &Stead, ecosystem: &str, variables: &[(&str, &str)]) {
    stead.file("untidy.py", UNTIDY);
    stead.file("ecosystem.yaml", ecosystem);
    let mut command = Command::new("python3");
    command.args(["untidy.py", env!("CARGO_BIN_EXE_stead"), "start", "ecosystem.yaml"]);
    command.current_dir(&stead.work).env("STEAD_HOME", &stead.home).envs(variables.iter().copied());
    let said = begun(command).end();
    assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
}

fn read(stead: &Stead, name: &str) -> String {
    eventually(name, || std::fs::read_to_string(stead.work.join(name)).map_err(|error| error.to_string()))
}

#[test]
fn every_child_starts_clean() {
    let stead = Stead::new();
    // No shell and no Python here: both set signals for themselves.
    stead.file(
        "look.py",
        "
import json, os, resource
status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
fds = {}
for fd in os.listdir('/proc/self/fd'):
    try:
        fds[fd] = os.readlink('/proc/self/fd/' + fd)
    except OSError:
        pass
umask = os.umask(0)
look = {
    'session': os.getsid(0) == os.getpid() == os.getpgid(0),
    'nofile': resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    'umask': umask,
    'fds': fds,
    'env': dict(os.environ),
    'cwd': os.getcwd(),
    'oom_score_adj': int(open('/proc/self/oom_score_adj').read()),
}
json.dump(look, open('look.new', 'w'))
os.rename('look.new', 'look.json')
import time
time.sleep(1000)
",
    );
    let variables = [
        ("NOTIFY_SOCKET", "/run/notify"),
        ("WATCHDOG_USEC", "1000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "x"),
        ("INVOCATION_ID", "0"),
        ("JOURNAL_STREAM", "8:1"),
        ("XDG_SESSION_ID", "1"),
        ("XDG_SESSION_TYPE", "tty"),
        ("SSH_CLIENT", "::1"),
        ("SSH_AUTH_SOCK", "/tmp/agent"),
        ("TERM", "xterm"),
        ("STEAD_RUN", "other#1"),
        ("KEPT", "yes"),
    ];
    start_untidily(
        &stead,
        "apps:\n  - {name: look, script: ./look.py, env: {OWN: '1'}}\n  - {name: cat, script: /bin/cat, args: /proc/self/status, autorestart: false}\n",
        &variables,
    );
    let look: Value = serde_json::from_str(&read(&stead, "look.json")).unwrap();
    assert_eq!(look["session"], true, "a session of its own");
    assert_eq!(look["nofile"], 300, "the limit that the caller had");
    assert_eq!(look["umask"], 0o027);
    assert_eq!(look["cwd"], stead.work.to_str().unwrap());
    assert!(look["oom_score_adj"].as_i64().unwrap() >= 0);
    let fds = look["fds"].as_object().unwrap();
    assert_eq!(fds.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["0", "1", "2"]), "{fds:?}");
    assert_eq!(fds["0"], "/dev/null");

    let env = look["env"].as_object().unwrap();
    for (name, _) in &variables[..13] {
        assert!(!env.contains_key(*name), "{name} is none of the app's business");
    }
    for (name, value) in [
        ("STEAD_HOME", stead.home.to_str().unwrap()),
        ("STEAD_NAME", "look"),
        ("STEAD_RUN", "look#1"),
        ("PYTHONUNBUFFERED", "1"),
        ("KEPT", "yes"),
        ("OWN", "1"),
    ] {
        assert_eq!(env.get(name), Some(&json!(value)), "{name}");
    }

    until("cat has told its signals", || stead.log("cat", "out").contains("SigCgt"));
    let status = stead.log("cat", "out");
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

#[test]
fn python_hears_sigint_though_stead_was_started_deaf() {
    let stead = Stead::new();
    stead.file("app.py", "open('ready', 'w')\nimport time\ntime.sleep(1000)\n");
    let mut script = Command::new("sh");
    script.args(["-c", &format!("trap '' INT; exec {} start app.py --kill-timeout 20s", env!("CARGO_BIN_EXE_stead"))]);
    script.env("STEAD_HOME", &stead.home).current_dir(&stead.work);
    assert_eq!(begun(script).end().status, Some(0));
    until("it is up", || stead.work.join("ready").exists());
    stead.ok(["stop", "app"]);
    let record = stead.newest_record("app");
    assert_eq!((&record["signal"], &record["exit_code"]), (&"SIGINT".into(), &Value::Null), "{record:#}");
    assert!(record["evidence"]["stderr_tail"].to_string().contains("KeyboardInterrupt"), "{record:#}");
}

#[test]
fn limits_umask_nice_and_user_are_the_apps_own() {
    let what = "user and nice of an app";
    if !is_root(what) {
        return;
    }
    let stead = Stead::new();
    std::fs::set_permissions(stead.work.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&stead.work, std::fs::Permissions::from_mode(0o777)).unwrap();
    stead.file(
        "app.sh",
        "#!/bin/sh\necho $(id -un) $(id -gn) $USER $(ulimit -n) $(umask) $(nice) >said\nid -G >groups\nexec sleep 1000\n",
    );
    stead
        .start("apps:\n  - {name: app, script: ./app.sh, user: nobody, umask: '077', nice: 5, limits: {nofile: 99}}\n");
    until("it has looked", || stead.work.join("groups").exists());
    assert_eq!(read(&stead, "said").trim(), "nobody nogroup nobody 99 0077 5");
    until("its groups", || {
        !read(&stead, "groups").split_whitespace().any(|group| group == "0") && !read(&stead, "groups").is_empty()
    });
}

/// Leaves a child and a grandchild in a session of its own, and ends by `go`; the first run only.
const LEAVES: &str = "
from kit import *
lock = alone()
def member(name):
    def heard(*_):
        note('SIGINT', name)
        if sys.argv[1] == 'obeys':
            os._exit(0)
    signal.signal(signal.SIGINT, heard)
    note(str(os.getpid()), name)
    forever()
first = not os.path.exists('child.diary')
note(f'run {time.time()}')
if not first:
    forever()
if os.fork() == 0:
    member('child')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        member('grandchild')
    os._exit(0)
os.wait()
wait_for('go')
note(f'ends {time.time()}')
os._exit(3)
";

fn leaving(how: &str, attributes: &str) -> (Stead, i32, i32) {
    let stead = Stead::new();
    stead.kit();
    stead.file("leaves.py", LEAVES);
    stead.start(&format!("apps:\n  - {{name: app, script: ./leaves.py, args: {how}, {attributes}}}\n"));
    let pid = |name: &str| {
        eventually("it is there", || match stead.diary(name).first() {
            Some(pid) => Ok(pid.parse::<i32>().unwrap()),
            None => Err(stead.own_log()),
        })
    };
    let (child, grandchild) = (pid("child"), pid("grandchild"));
    (stead, child, grandchild)
}

/// Seconds between the end of the first run and the start of the second, by the app's own clock.
fn gap(stead: &Stead) -> f64 {
    let at = |line: &str| line.split_once(' ').unwrap().1.parse::<f64>().unwrap();
    let diary = stead.diary("app");
    at(&diary[2]) - at(&diary[1])
}

#[test]
fn what_is_left_of_a_tree_is_ended_before_the_next_run() {
    let (stead, child, grandchild) = leaving("obeys", "kill_timeout: 20s");
    stead.file("go", "");
    until("the next run", || stead.diary("app").len() == 3);
    for (name, pid) in [("child", child), ("grandchild", grandchild)] {
        assert!(!is_alive(pid));
        assert_eq!(stead.diary(name)[1..], ["SIGINT"], "{name}");
    }
    assert_eq!(stead.diary("two"), Vec::<String>::new(), "the next run began while the old tree lived");
    let record = stead.newest_record("app");
    assert_eq!((&record["exit_code"], &record["cause"]), (&3.into(), &"exit-code".into()));
    assert_eq!(record["left_behind"], 2, "{record:#}");
}

#[test]
fn what_is_left_and_does_not_obey_is_killed_after_kill_timeout() {
    let (stead, child, grandchild) = leaving("defies", "kill_timeout: 1500");
    stead.file("go", "");
    until("the next run", || stead.diary("app").len() == 3);
    for (name, pid) in [("child", child), ("grandchild", grandchild)] {
        assert!(!is_alive(pid));
        assert_eq!(stead.diary(name)[1..], ["SIGINT"], "{name}");
    }
    assert!(gap(&stead) >= 1.45, "they had kill_timeout: {}", gap(&stead));
    assert_eq!(stead.diary("two"), Vec::<String>::new(), "the next run began while the old tree lived");
    assert_eq!(stead.newest_record("app")["left_behind"], 2);
}

#[test]
fn what_is_left_is_ended_though_the_daemon_dies_over_it() {
    let (stead, child, grandchild) = leaving("defies", "kill_timeout: 3s");
    stead.file("go", "");
    until("they were asked", || stead.diary("child").len() == 2 && stead.diary("grandchild").len() == 2);
    stead.kill_daemon();
    until("the next run", || stead.diary("app").len() == 3);
    assert!(!is_alive(child) && !is_alive(grandchild));
    assert_eq!(stead.diary("two"), Vec::<String>::new(), "the next run began while the old tree lived");
    let record = stead.newest_record("app");
    assert_eq!((&record["exit_code"], &record["left_behind"]), (&3.into(), &2.into()), "{record:#}");
}

#[test]
fn stop_returns_when_the_whole_tree_is_gone() {
    let (stead, child, grandchild) = leaving("obeys", "kill_timeout: 20s");
    let main = stead.pid("app");
    stead.ok(["stop", "app"]);
    for pid in [main, child, grandchild] {
        assert!(!is_alive(pid));
    }
    assert_eq!(stead.diary("child")[1..], ["SIGINT"]);
    assert_eq!(stead.diary("grandchild")[1..], ["SIGINT"]);
    assert_eq!(stead.newest_record("app")["cause"], "manual");
}

#[test]
fn a_tree_that_ignores_the_kill_signal_is_killed_as_a_whole() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "deaf.py",
        "from kit import *\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nos.fork()\nos.fork()\nnote(str(os.getpid()))\nforever()\n",
    );
    stead.start("apps:\n  - {name: deaf, script: ./deaf.py, kill_timeout: 1s}\n");
    until("four of them", || stead.diary("deaf").len() == 4);
    stead.ok(["stop", "deaf"]);
    assert!(stead.diary("deaf").iter().all(|pid| !is_alive(pid.parse().unwrap())));
    let record = stead.newest_record("deaf");
    assert_eq!((&record["signal"], &record["cause"]), (&"SIGKILL".into(), &"manual".into()), "{record:#}");
}

/// The main process and a child that note what they hear.
const PAIR: &str = "
from kit import *
name = 'main'
def heard(*_):
    note('SIGINT', name)
    if name == 'main':
        sys.exit(0)
signal.signal(signal.SIGINT, heard)
if os.fork() == 0:
    name = 'child'
note(str(os.getpid()), name)
forever()
";

fn pair(attributes: &str) -> (Stead, i32) {
    let stead = Stead::new();
    stead.kit();
    stead.file("pair.py", PAIR);
    stead.start(&format!("apps:\n  - {{name: app, script: ./pair.py, kill_timeout: 20s, {attributes}}}\n"));
    until("both are there", || stead.diary("main").len() == 1 && stead.diary("child").len() == 1);
    let child = stead.diary("child")[0].parse().unwrap();
    (stead, child)
}

#[test]
fn kill_mode_mixed_asks_the_main_process_and_kills_the_rest() {
    let (stead, child) = pair("kill_mode: mixed");
    stead.ok(["stop", "app"]);
    assert_eq!(stead.diary("main")[1..], ["SIGINT"]);
    assert_eq!(stead.diary("child").len(), 1, "the child was not asked");
    assert!(!is_alive(child));
    assert_eq!(stead.newest_record("app")["exit_code"], 0);
}

#[test]
fn kill_mode_main_and_treekill_false_let_the_rest_live() {
    for attributes in ["kill_mode: main", "treekill: false"] {
        let (stead, child) = pair(attributes);
        stead.ok(["stop", "app"]);
        assert_eq!(stead.diary("main")[1..], ["SIGINT"]);
        assert_eq!(stead.diary("child").len(), 1);
        assert!(is_alive(child), "{attributes}");
        signal(child, KILL);
    }
}

#[test]
fn the_end_of_a_process_is_told_as_it_was() {
    let stead = Stead::new();
    stead.file("die.py", "import os, sys\nos.kill(os.getpid(), int(sys.argv[1]))\n");
    stead.start(
        "
apps:
  - {name: zero, script: 'exit 0', interpreter: none, autorestart: false}
  - {name: five, script: 'exit 5', interpreter: none, autorestart: false}
  - {name: killed, script: ./die.py, args: '9', autorestart: false}
  - {name: term, script: ./die.py, args: '15', autorestart: false}
  - {name: segv, script: ./die.py, args: '11', autorestart: false, limits: {core: 0}}
",
    );
    for (name, cause, code, killer, planned) in [
        ("zero", "success", json!(0), Value::Null, true),
        ("five", "exit-code", json!(5), Value::Null, false),
        ("killed", "signal", Value::Null, json!("SIGKILL"), false),
        ("term", "signal", Value::Null, json!("SIGTERM"), false),
        ("segv", "signal", Value::Null, json!("SIGSEGV"), false),
    ] {
        stead.until_status(name, "stopped");
        let record = stead.newest_record(name);
        let said = json!([record["cause"], record["exit_code"], record["signal"], record["planned"]]);
        assert_eq!(said, json!([cause, code, killer, planned]), "{record:#}");
        assert_eq!(record["core_dumped"], false);
    }
}

#[test]
fn a_core_dump_is_a_cause_of_its_own() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap().1;
    if pattern.starts_with('|') || pattern.starts_with('/') || hard < 1 << 20 {
        eprintln!("SKIPPED, for cores go elsewhere here ({}): core dumps", pattern.trim());
        return;
    }
    let stead = Stead::new();
    stead.start("apps:\n  - {name: app, script: 'kill -SEGV $$', interpreter: none, autorestart: false, limits: {core: unlimited}}\n");
    stead.until_status("app", "stopped");
    let record = stead.newest_record("app");
    let said = json!([record["cause"], record["signal"], record["core_dumped"], record["exit_code"]]);
    assert_eq!(said, json!(["core-dump", "SIGSEGV", true, null]), "{record:#}");
}

/// An app that runs, loses something, and is killed: each further start fails at `stage` with `errno` until it is given up.
fn cannot_come_back(attributes: &str, lose: impl FnOnce(&Stead), stage: &str, errno: &str) {
    let stead = Stead::new();
    std::fs::create_dir_all(stead.work.join("place")).unwrap();
    std::fs::copy("/bin/sleep", stead.work.join("nap")).unwrap();
    stead.file("script.sh", "#!/bin/sh\nexec sleep 1000\n");
    stead.start(&format!("apps:\n  - {{name: app, max_restarts: 3, {attributes}}}\n"));
    lose(&stead);
    signal(stead.pid("app"), KILL);
    let one = stead.until_status("app", "errored");
    let why = stead.json(["why", "app", "--json"]);
    let failed: Vec<&Value> =
        why["records"].as_array().unwrap().iter().filter(|record| record["cause"] == "spawn-failed").collect();
    assert!((2..=3).contains(&failed.len()), "failed spawns count towards max_restarts: {why:#}");
    for record in &failed {
        let spawn = &record["evidence"]["spawn"];
        assert!(spawn["stage"].as_str().unwrap().starts_with(stage) && spawn["errno"] == errno, "{record:#}");
        assert_eq!((&record["pid"], &record["planned"]), (&Value::Null, &false.into()));
        assert_eq!((&record["exit_code"], &record["signal"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(why["total"], why["records"].as_array().unwrap().len());
    assert_eq!(one["last_exit"]["next"]["action"], "give-up");
    let again = stead.run(["start", "app"]);
    assert_eq!(again.status, Some(1), "its first run failed: {again:?}");
    assert!(again.stderr.contains(errno) || again.stderr.contains(stage), "{again:?}");
}

#[test]
fn a_program_that_vanished_is_a_failed_spawn() {
    let lose = |stead: &Stead| std::fs::remove_file(stead.work.join("nap")).unwrap();
    cannot_come_back("script: ./nap, args: '1000'", lose, "exec", "ENOENT");
}

#[test]
fn a_program_that_may_not_be_executed_is_a_failed_spawn() {
    let lose = |stead: &Stead| {
        std::fs::set_permissions(stead.work.join("nap"), std::fs::Permissions::from_mode(0o644)).unwrap()
    };
    cannot_come_back("script: ./nap, args: '1000'", lose, "exec", "EACCES");
}

#[test]
fn an_interpreter_that_vanished_is_a_failed_spawn() {
    let lose = |stead: &Stead| drop(stead.file("script.sh", "#!/nowhere/sh\n"));
    cannot_come_back("script: ./script.sh, interpreter: none", lose, "exec", "ENOENT");
}

#[test]
fn a_working_directory_that_vanished_is_a_failed_spawn() {
    let lose = |stead: &Stead| std::fs::remove_dir(stead.work.join("place")).unwrap();
    cannot_come_back("script: /bin/sleep, args: '1000', cwd: ./place", lose, "cwd", "ENOENT");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_failed_spawn() {
    let lose = |stead: &Stead| {
        std::fs::remove_file(stead.work.join("place/out.log")).unwrap();
        std::fs::remove_dir_all(stead.work.join("place")).unwrap();
        stead.file("place", "in the way");
    };
    cannot_come_back("script: /bin/sleep, args: '1000', out_file: ./place/out.log", lose, "log", "ENOTDIR");
}

#[test]
fn two_hundred_apps_that_crash_in_a_loop_lose_no_record() {
    let stead = Stead::new();
    let app = |n: usize| {
        format!(
            "  - {{name: app-{n}, script: 'echo run >>app-{n}.diary; exit 3', interpreter: none, max_restarts: 4, min_uptime: 1m}}\n"
        )
    };
    let file = format!("apps:\n{}", (0..200).map(app).collect::<String>());
    stead.file("ecosystem.yaml", &file);
    let said = stead.run(["start", "ecosystem.yaml", "--no-wait"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    until("some have begun", || stead.work.join("app-150.diary").exists());
    stead.kill_daemon();
    // 800 runs: they take a second, or a minute where the machine is busy.
    eventually_within(4 * LIMIT, "all have given up", || {
        let list = stead.json(["list", "--json"]);
        let left = list.as_array().unwrap().iter().filter(|one| one["status"] != "errored").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    let all = stead.json(["why", "all", "--json"]);
    assert_eq!(all.as_array().unwrap().len(), 200);
    for why in all.as_array().unwrap() {
        let runs = stead.diary(why["name"].as_str().unwrap()).len();
        assert_eq!((&why["total"], &why["unplanned"]), (&runs.into(), &runs.into()), "{why:#}");
        assert_eq!(why["by_cause"][0]["count"], runs);
        assert_eq!(why["records"].as_array().unwrap().len(), runs);
        assert!(why["records"].as_array().unwrap().iter().all(|record| record["exit_code"] == 3), "{why:#}");
    }
}

#[test]
fn a_storm_of_crashes_keeps_no_client_and_no_other_app_waiting() {
    let stead = Stead::new();
    let app = |n: usize| format!("  - {{name: app-{n}, script: 'exit 3', interpreter: none, max_restarts: 1000000}}\n");
    stead.start(&format!("apps:\n{}", (0..60).map(app).collect::<String>()));
    for _ in 0..10 {
        stead.ok(["ping"]);
        stead.ok(["list"]);
    }
    stead.ok(["stop", "all"]);
    let list = stead.json(["list", "--json"]);
    assert!(list.as_array().unwrap().iter().all(|one| one["status"] == "stopped"), "{list:#}");
}
