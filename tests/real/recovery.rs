//! The daemon dies; the apps, their lines, their exit statuses and their clients do not notice.

use crate::counter::{assert_all_lines, counters};
use crate::harness::{
    LIMIT, Stead, begun, daemon_of, eventually, eventually_within, free_port, freeze, is_alive, signal, until,
};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

const KILL: i32 = 9;

/// Does not mind SIGINT, and says when it comes.
const STUBBORN: &str = "
from kit import *
signal.signal(signal.SIGINT, lambda *_: note('SIGINT'))
note('run')
forever()
";

/// Answers each connection on its inherited sockets with its pid.
const SERVER: &str = "
from kit import *
import selectors, socket
assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['LISTEN_PID']
doors = selectors.DefaultSelector()
for n in range(int(os.environ['LISTEN_FDS'])):
    doors.register(socket.socket(fileno=3 + n), selectors.EVENT_READ)
while True:
    for key, _ in doors.select():
        one = key.fileobj.accept()[0]
        one.sendall(f'{os.getpid()}\\n'.encode())
        one.close()
";

#[test]
fn a_killed_daemon_costs_no_app_no_line_and_no_exit_status() {
    let stead = Stead::new();
    let mut file = counters(&stead, 10);
    stead.file("seven.py", "from kit import *\nwait_for('go')\nprint('last words', file=sys.stderr)\nsys.exit(7)\n");
    file += "  - {name: silent, script: /bin/sleep, args: '1000'}\n";
    file += "  - {name: seven, script: ./seven.py, autorestart: false}\n";
    stead.start(&file);
    let before = stead.json(["list", "--json"]);
    let (daemon, keeper, seven) = (stead.daemon_pid(), stead.keeper_pid(), stead.pid("seven"));

    freeze(daemon);
    stead.file("go", "");
    until("seven has ended", || !is_alive(seven));
    signal(daemon, KILL);
    until("the daemon is gone", || !is_alive(daemon));

    let ping = stead.ping();
    assert_eq!((&ping["daemon_starts"], &ping["keeper_pid"]), (&2.into(), &keeper.into()));
    let one = stead.describe("seven");
    assert_eq!((&one["status"], &one["last_exit"]["exit_code"]), (&"stopped".into(), &7.into()), "{one:#}");
    let why = stead.json(["why", "seven", "--json"]);
    assert_eq!((&why["total"], &why["records"][0]["exit_code"]), (&1.into(), &7.into()), "{why:#}");
    assert_eq!(why["records"][0]["cause"], "exit-code");
    assert_eq!(why["records"][0]["signal"], serde_json::Value::Null);
    assert_eq!(why["records"][0]["evidence"]["stderr_tail"], serde_json::json!(["last words"]));

    for (old, new) in before.as_array().unwrap().iter().zip(stead.json(["list", "--json"]).as_array().unwrap()) {
        assert_eq!((&new["name"], &new["restarts"]), (&old["name"], &0.into()));
        if new["name"] != "seven" {
            assert_eq!((&new["pid"], &new["status"]), (&old["pid"], &"online".into()));
        }
    }
    let size = stead.log("counter-9", "out").len();
    until("lines go on", || stead.log("counter-9", "out").len() > size);
    stead.ok(["stop", "all"]);
    (0..10).for_each(|n| assert_all_lines(&stead, &format!("counter-{n}")));
}

#[test]
fn many_kills_in_a_row_cost_no_line() {
    let stead = Stead::new();
    let file = counters(&stead, 3);
    stead.start(&file);
    let pids: Vec<i32> = (0..3).map(|n| stead.pid(&format!("counter-{n}"))).collect();
    let keeper = stead.keeper_pid();
    for n in 0..9 {
        // In turn: as soon as it is there, while it takes over, while it serves.
        let daemon = match n % 3 {
            0 => stead.daemon_pid(),
            1 => eventually("a new daemon", || daemon_of(keeper).ok_or("none".into())),
            _ => {
                let daemon = eventually("a new daemon", || daemon_of(keeper).ok_or("none".into()));
                eventually("it has its pump", || {
                    let threads = std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap().count();
                    let seen =
                        |file: &str| std::fs::read_to_string(format!("/proc/{daemon}/{file}")).unwrap_or_default();
                    if threads > 1 { Ok(()) } else { Err(seen("stack") + &seen("status")) }
                });
                daemon
            }
        };
        signal(daemon, KILL);
        until("the daemon is gone", || !is_alive(daemon));
    }
    assert_eq!(stead.ping()["daemon_starts"], 10);
    for (n, pid) in pids.iter().enumerate() {
        let one = stead.instance(&format!("counter-{n}"));
        assert_eq!((&one["pid"], &one["restarts"]), (&(*pid).into(), &0.into()));
    }
    stead.ok(["stop", "all"]);
    (0..3).for_each(|n| assert_all_lines(&stead, &format!("counter-{n}")));
}

#[test]
fn a_stop_under_way_goes_on_and_keeps_its_deadline() {
    let stead = Stead::new();
    stead.kit();
    stead.file("stubborn.py", STUBBORN);
    stead.start("apps:\n  - {name: stubborn, script: ./stubborn.py, kill_timeout: 5s}\n");
    until("it is ready", || stead.diary("stubborn") == ["run"]);
    let pid = stead.pid("stubborn");
    let stop = stead.begin(["stop", "stubborn"]);
    until("SIGINT came", || stead.diary("stubborn") == ["run", "SIGINT"]);
    let asked = std::fs::metadata(stead.work.join("stubborn.diary")).unwrap().modified().unwrap();
    let passed = || SystemTime::now().duration_since(asked).unwrap();
    until("half of its time has passed", || passed() > Duration::from_millis(2_800));
    assert_eq!(stead.instance("stubborn")["status"], "stopping");
    stead.kill_daemon();
    until("it was killed", || !is_alive(pid));
    let took = passed();
    assert!(took > Duration::from_millis(4_800), "SIGKILL came after {took:?}");
    assert!(took < Duration::from_millis(7_500), "the deadline began anew: {took:?}");

    let said = stop.end();
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(stead.diary("stubborn"), ["run", "SIGINT"], "no second SIGINT, no second run");
    let record = stead.newest_record("stubborn");
    assert_eq!((&record["cause"], &record["signal"]), (&"manual".into(), &"SIGKILL".into()), "{record:#}");
    assert_eq!(record["planned"], true);
    assert_eq!(record["actor"]["command"], "stead stop stubborn");
    assert_eq!(record["actor"]["uid"], nix::unistd::getuid().as_raw());
    assert_eq!(stead.instance("stubborn")["status"], "stopped");
}

#[test]
fn a_restart_whose_connection_breaks_says_that_its_outcome_is_unknown() {
    let stead = Stead::new();
    stead.kit();
    stead.file("stubborn.py", STUBBORN);
    stead.start("apps:\n  - {name: stubborn, script: ./stubborn.py, kill_timeout: 3s}\n");
    until("it is ready", || stead.diary("stubborn") == ["run"]);
    let restart = stead.begin(["restart", "stubborn"]);
    until("SIGINT came", || stead.diary("stubborn") == ["run", "SIGINT"]);
    stead.kill_daemon();
    let said = restart.end();
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("error: outcome unknown"), "{said:?}");
    assert!(said.stderr.contains("hint: "), "{said:?}");
    until("it was done all the same, once", || stead.diary("stubborn") == ["run", "SIGINT", "run"]);
    let one = stead.until_status("stubborn", "online");
    assert_eq!((&one["restarts"], &one["last_exit"]["cause"]), (&1.into(), &"manual".into()));
}

#[test]
fn starts_and_stops_end_well_however_often_the_daemon_is_killed() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000'}\n");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                stead.ok(["stop", "web"]);
                stead.ok(["start", "web"]);
                stead.ok(["list"]);
            }
        });
        for _ in 0..6 {
            stead.kill_daemon();
        }
        over.store(true, Ordering::Relaxed);
    });
    let one = stead.until_status("web", "online");
    let why = stead.json(["why", "web", "--json"]);
    assert_eq!((&why["unplanned"], &why["total"]), (&0.into(), &one["restarts"]), "{why:#}");
    assert_eq!(stead.processes().len(), 3, "keeper, daemon and one app");
}

#[test]
fn clients_that_come_while_no_daemon_is_there_wait_and_are_answered() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000'}\n");
    let (daemon, pid) = (stead.daemon_pid(), stead.pid("web"));
    // Frozen it answers nobody, as one that is gone; and these questions surely come before it is.
    freeze(daemon);
    let (list, stop) = (stead.begin(["list", "--json"]), stead.begin(["stop", "web"]));
    list.until_connected();
    stop.until_connected();
    signal(daemon, KILL);
    for said in [list.end(), stop.end()] {
        assert_eq!(said.status, Some(0), "{said:?}");
    }
    assert!(!is_alive(pid));
    assert_eq!(stead.instance("web")["status"], "stopped");
}

#[test]
fn a_wait_before_a_restart_survives_the_daemon() {
    let stead = Stead::new();
    stead.kit();
    stead.file("app.py", "from kit import *\nnote(str(time.time()))\nwait_for('go') if len(open('app.diary').readlines()) == 1 else forever()\nsys.exit(1)\n");
    stead.start("apps:\n  - {name: app, script: ./app.py, restart_delay: 4s}\n");
    stead.file("go", "");
    let waits = stead.until_status("app", "waiting");
    assert_eq!(waits["last_exit"]["next"]["delay_ms"], 4000);
    stead.kill_daemon();
    let still = stead.instance("app");
    assert_eq!((&still["status"], &still["next_start_at"]), (&"waiting".into(), &waits["next_start_at"]));
    until("it comes back", || stead.diary("app").len() == 2);
    let ended: jiff::Timestamp = waits["last_exit"]["ended_at"].as_str().unwrap().parse().unwrap();
    let back: f64 = stead.diary("app")[1].parse().unwrap();
    let gap = back - ended.as_millisecond() as f64 / 1000.0;
    assert!((3.9..8.0).contains(&gap), "{gap} s for 4");
    assert_eq!(stead.until_status("app", "online")["restarts"], 1);
}

#[test]
fn what_gave_up_stays_so() {
    let stead = Stead::new();
    stead.kit();
    stead.file("app.py", "from kit import *\nnote('run')\nsys.exit(1)\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py, max_restarts: 3, min_uptime: 1m}\n");
    stead.run(["start", "ecosystem.yaml"]);
    stead.until_status("app", "errored");
    let runs = stead.diary("app").len();
    stead.kill_daemon();
    assert_eq!(stead.instance("app")["status"], "errored");
    let why = stead.json(["why", "app", "--json"]);
    assert_eq!(why["total"], runs);
    assert_eq!(why["records"][0]["next"]["action"], "give-up");
    stead.kill_daemon();
    assert_eq!(stead.instance("app")["status"], "errored");
    assert_eq!(stead.diary("app").len(), runs, "no run came after it had given up");
}

#[test]
fn listening_sockets_refuse_nobody_while_daemon_and_app_restart() {
    let stead = Stead::new();
    stead.kit();
    stead.file("server.py", SERVER);
    let port = free_port();
    stead.start(&format!(
        "apps:\n  - {{name: server, script: ./server.py, restart_delay: 1500, listen: ['127.0.0.1:{port}', ./door]}}\n"
    ));
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("no connection is refused");
    let answer = |from: Box<dyn std::io::Read>| {
        let mut line = String::new();
        BufReader::new(from).read_line(&mut line).map(|_| line.trim().parse::<i32>().ok())
    };
    let ask = |stream: TcpStream| {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        answer(Box::new(stream))
    };
    let first = stead.pid("server");
    assert_eq!(ask(connect()).unwrap(), Some(first));
    let at_the_door = UnixStream::connect(stead.work.join("door")).unwrap();
    assert_eq!(answer(Box::new(at_the_door)).unwrap(), Some(first));

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Those that the app itself had taken may be cut off by its end; being refused panics.
                let _ = ask(connect());
            }
        });
        stead.kill_daemon();
        assert_eq!(stead.pid("server"), first);
        stead.ok(["restart", "server"]);
        signal(stead.pid("server"), KILL);
        stead.until_status("server", "waiting");
        stead.kill_daemon();
        let waits = connect();
        let here = eventually("the next run answers who waited", || {
            ask(waits.try_clone().unwrap()).map_err(|e| e.to_string())
        });
        let third = stead.until_status("server", "online")["pid"].as_i64().unwrap() as i32;
        assert_eq!(here, Some(third));
        over.store(true, Ordering::Relaxed);
    });
    stead.ok(["delete", "server"]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a deleted app listens no more");
    assert!(!stead.work.join("door").exists());
}

#[test]
fn without_a_daemon_the_keeper_keeps_the_pipes_flowing() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "writer.py",
        "from kit import *\nwait_for('go')\nfor n in range(20000):\n    print(f'{n:099}')\nnote('all written')\nforever()\n",
    );
    stead.start("apps:\n  - {name: writer, script: ./writer.py}\n");
    let (pid, logs, aside) = (stead.pid("writer"), stead.home.join("logs"), stead.home.join("logs.aside"));
    // Without its folder no daemon can begin.
    std::fs::rename(&logs, &aside).unwrap();
    stead.file("../home/logs", "in the way");
    stead.kill_daemon();
    stead.file("go", "");
    until("the app has written 2 MB", || stead.diary("writer") == ["all written"]);

    let list = stead.begin(["list"]);
    list.until_connected();
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(&aside, &logs).unwrap();
    assert_eq!(list.end().status, Some(0));
    assert_eq!(stead.pid("writer"), pid);
    assert!(stead.ping()["daemon_starts"].as_u64().unwrap() > 2);
    let expected: String = (0..20000).map(|n| format!("{n:099}\n")).collect();
    until("all of it is in the log", || stead.log("writer", "out").len() >= expected.len());
    assert!(stead.log("writer", "out") == expected, "a line is lost or doubled");
}

#[test]
fn a_daemon_that_hangs_is_replaced() {
    let stead = Stead::new();
    let file = counters(&stead, 1);
    stead.start(&file);
    let (daemon, pid) = (stead.daemon_pid(), stead.pid("counter-0"));
    freeze(daemon);
    let frozen = Instant::now();
    let list = begun(stead.command(["list"]));
    let said = list.end();
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.starts_with("error: no daemon answers within 10 s"), "{said:?}");
    eventually_within(Duration::from_secs(90), "it is ended", || {
        if is_alive(daemon) { Err("it lives".into()) } else { Ok(()) }
    });
    assert!(frozen.elapsed() > Duration::from_secs(20), "ended after {:?}", frozen.elapsed());
    assert_eq!(stead.ping()["daemon_starts"], 2);
    assert_eq!(stead.pid("counter-0"), pid);
    stead.ok(["stop", "all"]);
    assert_all_lines(&stead, "counter-0");
}
