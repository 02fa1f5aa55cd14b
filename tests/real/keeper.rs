//! The keeper: one per home, in the foreground and as PID 1, told to end, and killed against all reason.

use crate::harness::{
    Foreground, Stead, begun, children, daemon_of, eventually, freeze, is_alive, is_root, signal, state, until,
    variable,
};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

const HUP: i32 = 1;
const INT: i32 = 2;
const KILL: i32 = 9;
const TERM: i32 = 15;

/// Notes its runs and that it was asked to end; `two.diary` tells of a second copy.
const ALONE: &str = "
from kit import *
lock = alone()
signal.signal(signal.SIGINT, lambda *_: (note('bye'), sys.exit(0)))
note('run')
print('hello', flush=True)
forever()
";

const THREE: &str = "apps:\n  - {name: a, script: ./alone.py, kill_timeout: 20s}\n  - {name: b, script: ./alone.py, kill_timeout: 20s}\n  - {name: c, script: ./alone.py, kill_timeout: 20s}\n";

const NAMES: [&str; 3] = ["a", "b", "c"];

fn three() -> Stead {
    let stead = Stead::new();
    stead.kit();
    stead.file("alone.py", ALONE);
    stead.file("ecosystem.yaml", THREE);
    stead
}

fn until_diaries(stead: &Stead, expected: &[&str]) {
    for name in NAMES {
        eventually(&format!("{name} has {expected:?}"), || {
            let diary = stead.diary(name);
            if diary == expected { Ok(()) } else { Err(format!("{diary:?}\n{}", stead.own_log())) }
        });
    }
}

fn pids(stead: &Stead) -> Vec<i32> {
    NAMES.iter().map(|name| stead.pid(name)).collect()
}

fn assert_never_two(stead: &Stead) {
    assert_eq!(stead.diary("two"), Vec::<String>::new(), "two copies at once");
}

/// Processes of this home that are stead itself and serve it: keeper and daemon.
fn steads(stead: &Stead) -> Vec<i32> {
    stead.processes().into_iter().filter(|pid| variable(*pid, "STEAD_RUN").is_none()).collect()
}

#[test]
fn a_killed_keeper_is_followed_by_another_and_the_wanted_set_comes_back() {
    let stead = three();
    stead.ok(["start", "ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    stead.ok(["stop", "c"]);
    let (keeper, old) = (stead.keeper_pid(), [stead.pid("a"), stead.pid("b")]);
    signal(keeper, KILL);
    until("the old runs are gone", || old.iter().all(|pid| !is_alive(*pid)));
    for name in ["a", "b"] {
        eventually("it comes back", || match stead.diary(name) {
            diary if diary == ["run", "bye", "run"] => Ok(()),
            diary => Err(format!("{name} {diary:?}\n{}", stead.own_log())),
        });
        let record = stead.newest_record(name);
        assert_eq!((&record["cause"], &record["planned"]), (&"lost".into(), &false.into()), "{record:#}");
        assert_eq!((&record["exit_code"], &record["signal"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        let one = stead.until_status(name, "online");
        assert_eq!((&one["restarts"], &one["restarts_unplanned"]), (&1.into(), &1.into()));
    }
    assert_eq!(stead.diary("c"), ["run", "bye"], "what was wanted down stays down");
    assert_eq!(stead.instance("c")["status"], "stopped");
    assert_ne!(stead.keeper_pid(), keeper);
    assert_never_two(&stead);
}

#[test]
fn keeper_and_daemon_killed_at_once_leave_no_second_copy() {
    let stead = three();
    stead.ok(["start", "ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    let (keeper, daemon, old) = (stead.keeper_pid(), stead.daemon_pid(), pids(&stead));
    freeze(keeper);
    signal(daemon, KILL);
    signal(keeper, KILL);
    until("both are gone", || !is_alive(keeper) && !is_alive(daemon));
    assert!(old.iter().all(|pid| is_alive(*pid)), "nobody ended the apps");
    assert!(stead.home.join("stead.sock").exists(), "a stale socket");
    let list = stead.json(["list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 3, "{list:#}");
    assert!(old.iter().all(|pid| !is_alive(*pid)), "what was left is ended before anything is started");
    until_diaries(&stead, &["run", "run"]);
    NAMES.iter().for_each(|name| assert_eq!(stead.newest_record(name)["cause"], "lost"));
    assert_never_two(&stead);
}

#[test]
fn a_stale_socket_is_cleaned_up() {
    let stead = Stead::new();
    std::fs::create_dir(&stead.home).unwrap();
    std::fs::set_permissions(&stead.home, std::fs::Permissions::from_mode(0o700)).unwrap();
    drop(UnixListener::bind(stead.home.join("stead.sock")).unwrap());
    assert_eq!(stead.run(["ping"]).status, Some(1), "nobody is there, and ping starts nothing");
    assert_eq!(stead.json(["list", "--json"]), serde_json::json!([]));
    let mode = std::fs::metadata(stead.home.join("stead.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn clients_that_come_at_once_start_one_keeper() {
    let stead = Stead::new();
    let app = |n: usize| {
        ["start".into(), "/bin/sleep".into(), "--name".into(), format!("app-{n}"), "--".into(), "1000".into()]
    };
    let clients: Vec<_> = (0..6).map(|n| stead.begin(app(n))).collect();
    for client in clients {
        let said = client.end();
        assert_eq!(said.status, Some(0), "{said:?}\n{}", stead.own_log());
    }
    assert_eq!(stead.json(["list", "--json"]).as_array().unwrap().len(), 6);
    let ping = stead.ping();
    assert_eq!(ping["daemon_starts"], 1);
    let mut both = vec![ping["keeper_pid"].as_i64().unwrap() as i32, ping["daemon_pid"].as_i64().unwrap() as i32];
    both.sort_unstable();
    let mut found = steads(&stead);
    found.sort_unstable();
    assert_eq!(found, both);
}

#[test]
fn a_second_daemon_says_who_holds_the_home() {
    let stead = Stead::new();
    let first = stead.foreground(["--log-format", "human"]);
    let second = stead.run(["daemon"]);
    assert_eq!(second.status, Some(1));
    let expected = format!("error: pid {} holds the home {}", first.pid(), stead.home.display());
    assert!(second.stderr.starts_with(&expected), "{second:?}");
    assert!(second.stderr.contains("\nhint: "), "{second:?}");
    assert_eq!(stead.keeper_pid(), first.pid());
}

/// What the signal does to a `stead daemon`; the wish stays.
fn is_ended_orderly_by(number: i32, to_whom: impl FnOnce(&Stead, &Foreground) -> i32) {
    let stead = three();
    let mut first = stead.foreground(["ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    stead.ok(["stop", "c"]);
    let old = [stead.pid("a"), stead.pid("b")];
    signal(to_whom(&stead, &first), number);
    assert_eq!(first.ended(), Some(0), "{}", first.said());
    for (name, pid) in ["a", "b"].into_iter().zip(old) {
        assert!(!is_alive(pid));
        assert_eq!(stead.diary(name), ["run", "bye"]);
    }
    assert_eq!(stead.processes(), Vec::<i32>::new());
    assert!(!stead.home.join("stead.sock").exists());

    let _second = stead.foreground::<&str>([]);
    for name in ["a", "b"] {
        until("it comes back", || stead.diary(name) == ["run", "bye", "run"]);
        let record = stead.newest_record(name);
        assert_eq!((&record["cause"], &record["planned"]), (&"shutdown".into(), &true.into()), "{record:#}");
        assert_eq!(record["actor"]["pid"], std::process::id(), "who sent the signal");
    }
    assert_eq!(stead.instance("c")["status"], "stopped");
    assert_never_two(&stead);
}

#[test]
fn sigterm_to_the_foreground_stops_all_and_the_wish_stays() {
    is_ended_orderly_by(TERM, |_, foreground| foreground.pid());
}

#[test]
fn sigint_to_the_foreground_stops_all_and_the_wish_stays() {
    is_ended_orderly_by(INT, |_, foreground| foreground.pid());
}

#[test]
fn sigterm_to_the_daemon_alone_stops_all_and_the_wish_stays() {
    is_ended_orderly_by(TERM, |stead, _| stead.daemon_pid());
}

#[test]
fn signals_that_come_while_it_ends_bring_nothing_back() {
    let stead = three();
    let mut foreground = stead.foreground(["ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    // One of them shall fall between the daemon's goodbye and its end.
    until("it has ended", || {
        signal(foreground.pid(), TERM);
        foreground.has_ended()
    });
    assert_eq!(foreground.ended(), Some(0));
    assert_eq!(stead.processes(), Vec::<i32>::new());
    NAMES.iter().for_each(|name| assert_eq!(stead.diary(name).iter().filter(|line| *line == "run").count(), 1));
}

#[test]
fn a_wish_to_end_outlives_a_daemon_that_dies_over_it() {
    let stead = three();
    stead.ok(["start", "ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    let (keeper, daemon) = (stead.keeper_pid(), stead.daemon_pid());
    freeze(daemon);
    signal(keeper, TERM);
    signal(daemon, KILL);
    until("all is gone", || stead.processes().is_empty());
    until_diaries(&stead, &["run", "bye"]);
    stead.ok(["list"]);
    until_diaries(&stead, &["run", "bye", "run"]);
    assert_never_two(&stead);
}

#[test]
fn kill_ends_keeper_and_daemon_and_marks_all_down() {
    let stead = three();
    stead.ok(["start", "ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    stead.ok(["kill"]);
    assert_eq!(stead.processes(), Vec::<i32>::new());
    assert_eq!(stead.run(["ping"]).status, Some(1));
    let list = stead.json(["list", "--json"]);
    assert!(list.as_array().unwrap().iter().all(|one| one["status"] == "stopped"), "{list:#}");
    until_diaries(&stead, &["run", "bye"]);
}

#[test]
fn sighup_reopens_the_logs() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "app.py",
        "from kit import *\nprint('before')\nwait_for('go')\nprint('between')\nwait_for('on')\nprint('after')\nforever()\n",
    );
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py}\n");
    let foreground = stead.foreground(["ecosystem.yaml"]);
    until("its first line is there", || stead.log("app", "out") == "before\n");
    let (log, moved) = (stead.home.join("logs/app.out.log"), stead.work.join("moved.log"));
    std::fs::rename(&log, &moved).unwrap();
    stead.file("go", "");
    let read = || std::fs::read_to_string(&moved).unwrap();
    until("lines follow the file that was moved", || read() == "before\nbetween\n");
    assert!(!log.exists());
    signal(foreground.pid(), HUP);
    until("a new file is there", || log.exists());
    stead.file("on", "");
    until("new lines go to it", || stead.log("app", "out") == "after\n");
    assert_eq!(read(), "before\nbetween\n");
    assert_eq!(stead.instance("app")["restarts"], 0, "SIGHUP is no reason to end anything");
}

#[test]
fn as_pid_1_it_reaps_orphans_and_ends_all_at_sigterm() {
    let what = "stead as PID 1 of a namespace";
    if !is_root(what) {
        return;
    }
    let possible = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED, for no pid namespace can be had here: {what}: {possible:?}");
        return;
    }
    let stead = Stead::new();
    stead.kit();
    // A daughter whose mother ends at once, in a session of her own; and one of no run, as `docker exec` brings them.
    stead.file(
        "app.py",
        "
from kit import *
signal.signal(signal.SIGINT, lambda *_: (note('bye'), sys.exit(0)))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        wait_for('go')
        note('daughter')
        os._exit(0)
    os._exit(0)
os.wait()
note('run')
forever()
",
    );
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py, kill_timeout: 20s}\n");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_stead"), "daemon", "ecosystem.yaml"]);
    command.current_dir(&stead.work);
    let mut outside = stead.foreground_by(command);
    let keeper = children(outside.pid())[0];
    assert_eq!(stead.keeper_pid(), 1, "as it sees itself");
    until("the app runs", || stead.diary("app") == ["run"]);
    let stranger = |script: &str| {
        let target = keeper.to_string();
        Command::new("nsenter").args(["-t", &target, "-p", "-m", "sh", "-c", script]).status().unwrap()
    };
    assert!(stranger("setsid sleep 0.05 & setsid true &").success());
    stead.file("go", "");
    until("the daughter has ended", || stead.diary("app") == ["run", "daughter"]);
    until("no zombie is left", || children(keeper).into_iter().all(|pid| state(pid) != Some('Z')));
    until("keeper, daemon, app", || children(keeper).len() == 2);
    assert_eq!(stead.instance("app")["status"], "online");
    signal(keeper, TERM);
    assert_eq!(outside.ended(), Some(0), "{}", outside.said());
    assert_eq!(stead.diary("app"), ["run", "daughter", "bye"]);
}

#[test]
fn a_foreground_keeper_that_is_killed_leaves_nothing_twice() {
    let stead = three();
    let mut first = stead.foreground(["ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    signal(first.pid(), KILL);
    assert_eq!(first.ended(), None);
    until_diaries(&stead, &["run", "bye", "run"]);
    assert_never_two(&stead);
    stead.ok(["kill"]);
    assert_eq!(stead.processes(), Vec::<i32>::new());
}

#[test]
fn ctrl_c_reaches_the_keeper_alone() {
    let stead = three();
    let foreground = stead.foreground(["ecosystem.yaml"]);
    until_diaries(&stead, &["run"]);
    let session = |pid: i32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap().as_raw();
    let daemon = daemon_of(foreground.pid()).unwrap();
    assert_eq!(session(daemon), daemon);
    for pid in pids(&stead) {
        assert_eq!(session(pid), pid);
    }
}

#[test]
fn a_script_that_captures_start_ends() {
    let stead = Stead::new();
    let mut script = Command::new("sh");
    let stead_start =
        format!("said=$({} start /bin/sleep --name nap -- 1000 2>&1); echo done", env!("CARGO_BIN_EXE_stead"));
    script.args(["-c", &stead_start]).env("STEAD_HOME", &stead.home).current_dir(&stead.work);
    let said = begun(script).end();
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "done\n"), "{said:?}");
    let keeper = stead.keeper_pid();
    let link = |what: &str| std::fs::read_link(format!("/proc/{keeper}/{what}")).unwrap();
    assert_eq!(link("cwd").to_str(), Some("/"));
    for fd in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(fd).to_str(), Some("/dev/null"));
    }
    assert_eq!(nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(keeper))).unwrap().as_raw(), keeper);
}

/// Resident kB of the program's code in a process.
fn code(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let mut lines =
        text.lines().skip_while(|line| !(line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap())));
    let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_keeper_that_rests_gives_its_code_back_and_works_on() {
    let stead = three();
    stead.ok(["start", "ecosystem.yaml"]);
    let keeper = stead.keeper_pid();
    for restarts in 1..=2 {
        // It runs what it needs to wait, and no more.
        eventually("it rests", || {
            let (rests, works) = (code(keeper), code(stead.daemon_pid()));
            if rests < works / 4 { Ok(()) } else { Err(format!("{rests} kB of code, the daemon {works}")) }
        });
        signal(stead.pid("a"), KILL);
        eventually("the next run is there", || {
            let one = stead.instance("a");
            if one["restarts"] == restarts && one["status"] == "online" { Ok(()) } else { Err(format!("{one:#}")) }
        });
    }
    assert_never_two(&stead);
}
