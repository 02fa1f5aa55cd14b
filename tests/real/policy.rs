//! When a run is followed by another, and when no more.

use crate::harness::{Stead, eventually, is_alive, signal, until};
use crate::look;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Ends badly at once, unless there is a file `well`.
const FAILS: &str = "#!/bin/sh\ntest -e well && exec sleep 1000\nexit 1\n";

/// The fleet that FAILS, each until it has given up.
fn given_up(stead: &Stead, names: &[&str]) {
    stead.file("fails.sh", FAILS);
    let app = |name: &&str| format!("  - {{name: {name}, script: ./fails.sh, max_restarts: 3, min_uptime: 1m}}\n");
    stead.file("ecosystem.yaml", &format!("apps:\n{}", names.iter().map(app).collect::<String>()));
    stead.run(["start"]);
    names.iter().for_each(|name| drop(stead.until_status(name, "errored")));
}

fn records(stead: &Stead, name: &str) -> Vec<Value> {
    stead.json(["why", name, "--json"])["records"].as_array().unwrap().clone()
}

#[test]
fn an_app_that_cannot_live_is_given_up_after_max_restarts() {
    let stead = Stead::new();
    given_up(&stead, &["web"]);
    let all = records(&stead, "web");
    let next: Vec<&Value> = all.iter().map(|record| &record["next"]["action"]).collect();
    assert_eq!(next, ["give-up", "restart", "restart"]);
    let web = stead.instance("web");
    assert_eq!((&web["restarts"], &web["pid"], &web["next_start_at"]), (&json!(2), &Value::Null, &Value::Null));
    let shown = stead.ok(["list"]);
    assert!(shown.contains("errored") && shown.contains("gave up"), "{shown}");
}

#[test]
fn a_delay_does_not_shrink_the_crash_window() {
    // PM2 counts within min_uptime * max_restarts from the first start: here 300 ms, which one delay uses up.
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: web, script: ./fails.sh, max_restarts: 3, min_uptime: 100, restart_delay: 350}\n  - {name: slow, script: ./fails.sh, max_restarts: 3, min_uptime: 1m, exp_backoff_restart_delay: 200}\n",
    );
    stead.run(["start"]);
    stead.until_status("slow", "errored");
    assert_eq!(records(&stead, "slow").len(), 3);
    // On a slow machine a run may outlive 100 ms, and then it does not count.
    stead.until_status("web", "errored");
}

#[test]
fn one_that_outlives_min_uptime_is_never_given_up() {
    // The case of an app that lives 1.1 s, with shorter times.
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nsleep 0.2\nexit 1\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: web, script: ./app.sh, max_restarts: 2, min_uptime: 150}\n");
    stead.run(["start"]);
    eventually("it has restarted often", || {
        let web = stead.instance("web");
        assert_ne!(web["status"], "errored");
        if web["restarts"].as_u64() > Some(11) { Ok(()) } else { Err(web.to_string()) }
    });
    let web = stead.instance("web");
    assert_eq!(web["crash_loop"], true, "but it is called what it is");
    assert!(stead.ok(["list"]).contains("crash loop"));
}

#[test]
fn an_end_in_between_neither_counts_nor_resets() {
    let stead = Stead::new();
    // Short, long, short, long, short.
    stead.file("app.sh", "#!/bin/sh\necho >> runs\ntest $(($(wc -l < runs) % 2)) = 0 && sleep 2.2\nexit 1\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: web, script: ./app.sh, max_restarts: 3, min_uptime: 2s}\n");
    stead.run(["start"]);
    stead.until_status("web", "errored");
    assert_eq!(records(&stead, "web").len(), 5);
}

#[test]
fn planned_restarts_never_use_up_max_restarts() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000', max_restarts: 2, min_uptime: 1h}\n");
    for verb in ["restart", "reload", "restart", "reload", "restart"] {
        stead.ok([verb, "web"]);
    }
    signal(stead.pid("web"), 9);
    eventually("its first unplanned end is followed by a run", || {
        let web = stead.instance("web");
        if web["restarts"] == 6 && web["status"] == "online" { Ok(()) } else { Err(web.to_string()) }
    });
    assert_eq!(stead.instance("web")["restarts_unplanned"], 1);
    signal(stead.pid("web"), 9);
    stead.until_status("web", "errored");
}

#[test]
fn stop_exit_codes_end_it_and_others_do_not() {
    let stead = Stead::new();
    for code in [0, 7, 3] {
        stead.file(&format!("exit{code}.sh"), &format!("#!/bin/sh\nexit {code}\n"));
    }
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: zero, script: ./exit0.sh, stop_exit_codes: [0, 7]}
  - {name: seven, script: ./exit7.sh, stop_exit_codes: [0, 7]}
  - {name: one, script: ./exit7.sh, stop_exit_codes: 7}
  - {name: other, script: ./exit3.sh, stop_exit_codes: [0, 7], max_restarts: 2, min_uptime: 1m}
",
    );
    stead.run(["start"]);
    for name in ["zero", "seven", "one"] {
        let one = stead.until_status(name, "stopped");
        assert_eq!((&one["restarts"], &one["last_exit"]["next"]["action"]), (&json!(0), &json!("stop")), "{name}");
    }
    let zero = stead.newest_record("zero");
    assert_eq!((&zero["cause"], &zero["planned"]), (&json!("success"), &json!(true)));
    stead.until_status("other", "errored");
}

#[test]
fn a_death_by_signal_is_no_exit_code_0() {
    // PM2 takes it for one, and an app that the kernel shot stays down.
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000', stop_exit_codes: [0]}\n");
    let pid = stead.pid("web");
    signal(pid, 9);
    eventually("another run is up", || {
        let web = stead.instance("web");
        if web["status"] == "online" && web["pid"] != pid { Ok(()) } else { Err(web.to_string()) }
    });
    assert_eq!(stead.newest_record("web")["exit_code"], Value::Null);
}

#[test]
fn start_restart_and_reset_lead_out_of_errored() {
    let stead = Stead::new();
    given_up(&stead, &["start", "restart", "reset"]);
    stead.file("well", "");
    stead.ok(["start", "start"]);
    assert_eq!(stead.instance("start")["status"], "online");
    stead.ok(["restart", "restart"]);
    assert_eq!(stead.instance("restart")["status"], "online");
    stead.ok(["reset", "reset"]);
    let reset = stead.until_status("reset", "online");
    assert_eq!((&reset["restarts_unplanned"], &reset["last_exit"]), (&json!(0), &Value::Null));
}

#[test]
fn the_count_begins_anew_after_start() {
    let stead = Stead::new();
    given_up(&stead, &["web"]);
    stead.run(["start", "web"]);
    stead.until_status("web", "errored");
    eventually("it had three more runs", || {
        let all = records(&stead, "web").len();
        if all == 6 { Ok(()) } else { Err(all.to_string()) }
    });
}

#[test]
fn a_job_ends_stopped_and_its_file_runs_it_again_only_where_it_failed() {
    let stead = Stead::new();
    stead.file("well.sh", "#!/bin/sh\necho ran\n");
    stead.file("badly.sh", "#!/bin/sh\necho ran\nexit 4\n");
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: well, script: ./well.sh, autorestart: false}
  - {name: badly, script: ./badly.sh, autorestart: false}
",
    );
    stead.run(["start"]);
    for (name, code, planned) in [("well", 0, true), ("badly", 4, false)] {
        let one = stead.until_status(name, "stopped");
        let last = &one["last_exit"];
        assert_eq!((&last["exit_code"], &last["planned"]), (&json!(code), &json!(planned)));
        assert_eq!(last["next"]["action"], "stop");
    }
    stead.run(["start"]);
    until("what failed is tried again", || stead.log("badly", "out") == "ran\nran\n");
    assert_eq!(stead.log("well", "out"), "ran\n", "what is done is done");
    stead.run(["start", "well"]);
    until("asked for by name, it runs", || stead.log("well", "out") == "ran\nran\n");
}

/// Holds a lease on a file: whoever opens it, and so execve(2), waits until the lease is given back.
const LEASE: &str = "
import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1])
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn no_more_than_two_starts_per_cpu_are_under_way_at_once() {
    let stead = Stead::new();
    let program = stead.work.join("program");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let most = 2 * std::thread::available_parallelism().unwrap().get();
    let wanted = most + 3;
    stead.start(&format!(
        "apps:\n  - {{name: web, script: ./program, args: '1000', instances: {wanted}, autostart: false}}\n"
    ));
    let mut holder = Command::new("python3");
    let mut holder =
        holder.args(["-c", LEASE]).arg(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    stead.ok(["start", "web", "--no-wait"]);
    let keeper = stead.keeper_pid();
    let daemon = stead.daemon_pid();
    // A child that waits in execve still shows the keeper's program.
    let under_way = || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
        pids.filter(|pid| *pid != daemon && is_alive(*pid) && look::exe(*pid).ends_with("stead")).count()
    };
    eventually("as many as may", || match under_way() {
        count if count == most => Ok(()),
        count => Err(count.to_string()),
    });
    // Others are asked and answered meanwhile; none of the rest begins.
    let all = stead.json(["list", "--json"]);
    assert!(
        all.as_array().unwrap().iter().all(|one| one["status"] == "launching" || one["status"] == "waiting"),
        "{all:#}"
    );
    assert_eq!(under_way(), most);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    for slot in 0..wanted {
        stead.until_status(&format!("web-{slot}"), "online");
    }
}

#[test]
fn a_job_runs_by_the_clock_and_a_new_daemon_knows_its_time() {
    let stead = Stead::new();
    stead.file("job.sh", "#!/bin/sh\necho worked\n");
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: job, script: ./job.sh, autorestart: false, cron_restart: '* * * * * *'}\n  - {name: nightly, script: ./job.sh, autorestart: false, cron_restart: 'TZ=UTC 30 3 29 2 *'}\n  - {name: web, script: /bin/sleep, args: '1000', cron_restart: '*/2 * * * * *'}\n",
    );
    stead.run(["start"]);
    until("the job has worked three times", || records(&stead, "job").len() >= 3);
    until("web was restarted", || !records(&stead, "web").is_empty());
    let web = &records(&stead, "web")[0];
    assert_eq!((&web["cause"], &web["planned"]), (&json!("cron"), &json!(true)));
    let nightly = stead.until_status("nightly", "waiting");
    let next = nightly["next_start_at"].as_str().unwrap().to_owned();
    assert!(next.contains("-02-29T03:30:00"), "{next}");
    stead.kill_daemon();
    let nightly = stead.until_status("nightly", "waiting");
    assert_eq!(nightly["next_start_at"], json!(next));
    assert_eq!(records(&stead, "nightly").len(), 1);
    let worked = records(&stead, "job").len();
    until("the job goes on", || records(&stead, "job").len() > worked);
    stead.ok(["stop", "job", "web"]);
    assert_eq!(stead.instance("job")["next_start_at"], Value::Null);
    let shown = stead.ok(["describe", "nightly"]);
    assert!(shown.contains("cron_restart TZ=UTC 30 3 29 2 *"), "{shown}");
}

#[test]
fn restart_on_keeps_down_what_makes_no_sense() {
    let stead = Stead::new();
    stead.file("three.sh", "#!/bin/sh\nexit 3\n");
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: never, script: ./three.sh, restart_on: {3: never}}\n  - {name: always, script: ./three.sh, max_restarts: 2, restart_on: {exit-code: always}, jitter: 20ms}\n",
    );
    stead.run(["start"]);
    stead.until_status("never", "errored");
    assert_eq!(records(&stead, "never")[0]["next"]["reason"], json!("restart_on 3: never"));
    until("it is not given up", || records(&stead, "always").len() >= 5);
    let delays: Vec<u64> =
        records(&stead, "always").iter().map(|record| record["next"]["delay_ms"].as_u64().unwrap()).collect();
    assert!(delays.iter().all(|delay| (100..=120).contains(delay)), "{delays:?}");
}

/// Takes a port, or says that it cannot, as Python does.
const SERVER: &str = "import socket, sys, time\ns = socket.socket()\ns.bind(('127.0.0.1', int(sys.argv[2])))\ns.listen()\ntime.sleep(1000)\n";

#[test]
fn a_taken_port_is_waited_for_and_its_holder_named() {
    let stead = Stead::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |socket: &std::net::TcpListener| socket.local_addr().unwrap().port();
    let (first, second) = (port(&holder), port(&held));
    stead.file("server.py", SERVER);
    stead.file(
        "ecosystem.yaml",
        &format!(
            "apps:
  - {{name: web, script: server.py, args: '--port {first}', max_restarts: 2, min_uptime: 1m}}
  - {{name: front, script: /bin/sleep, args: '1000', listen: ['127.0.0.1:{second}'], max_restarts: 2}}
"
        ),
    );
    let said = stead.run(["start"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    let taken = format!("port {second} is taken by pid {} (`", std::process::id());
    assert!(said.stderr.contains(&taken) && said.stderr.contains("stead waits for it"), "{said:?}");
    eventually("both have been tried more often than max_restarts", || {
        let seen = ["web", "front"].map(|name| stead.instance(name));
        assert!(seen.iter().all(|one| one["status"] != "errored" && one["crash_loop"] == false), "{seen:?}");
        if seen[0]["restarts"].as_u64() >= Some(3) && records(&stead, "front").len() >= 3 {
            return Ok(());
        }
        Err(format!("{seen:?}"))
    });
    for (name, port, cause) in [("web", first, "exit-code"), ("front", second, "spawn-failed")] {
        let record = stead.newest_record(name);
        let found = &record["evidence"]["port"];
        assert_eq!((&found["port"], &found["holder"]["pid"]), (&json!(port), &json!(std::process::id())), "{record:#}");
        assert_eq!((&record["cause"], &record["confidence"]), (&json!(cause), &json!("certain")));
        assert!(record["next"]["delay_ms"].as_u64() >= Some(1_000), "{record:#}");
        let taken = format!("port {port} is taken by pid {}", std::process::id());
        stead.until_status(name, "waiting");
        eventually("its note says who", || {
            let note = stead.describe(name)["note"].as_str().unwrap_or_default().to_owned();
            if note.contains(&taken) && note.contains(": tried again in ") { Ok(()) } else { Err(note) }
        });
    }
    drop((holder, held));
    for name in ["web", "front"] {
        let one = stead.until_status(name, "online");
        assert!(one["restarts_unplanned"].as_u64() < Some(10), "{one}");
    }
    until("web listens", || std::net::TcpStream::connect(("127.0.0.1", first)).is_ok());
    // The next holder is one of ours.
    stead.file(
        "more.yaml",
        &format!("apps:\n  - {{name: late, script: server.py, args: '--port {first}', max_restarts: 1}}\n"),
    );
    stead.run(["start", "more.yaml"]);
    let record = &stead.until_status("late", "waiting")["last_exit"];
    assert_eq!(record["evidence"]["port"]["holder"]["instance"], "web", "{record:#}");
    let taken = format!("server.py:3; port {first} is taken by pid {} of web (`", stead.pid("web"));
    assert!(record["summary"].as_str().unwrap_or_default().contains(&taken), "{record:#}");
}
