//! Every attribute of the ecosystem file, by what a real process shows of it.

use crate::harness::{Stead, eventually, is_alive, signal, until};
use crate::look::{command_line, cwd, environment, limit, stat, status};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

/// Says its arguments, then stays.
const SAYS_ARGS: &str = "#!/bin/sh\necho \"$0\"\nfor arg; do echo \"[$arg]\"; done\nexec sleep 1000\n";

/// Ends at once.
const FAILS: &str = "#!/bin/sh\nexit 1\n";

/// Makes a named pipe in the work folder.
fn fifo(stead: &Stead, name: &str) -> std::path::PathBuf {
    let path = stead.work.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    path
}

fn is_root() -> bool {
    nix::unistd::getuid().is_root()
}

/// `web`, which sleeps, with these attributes; returns its pid.
fn sleeper(stead: &Stead, attributes: &str) -> i32 {
    stead.start(&format!("apps:\n  - {{name: web, script: /bin/sleep, args: '1000', {attributes}}}\n"));
    stead.pid("web")
}

#[test]
fn interpreter_is_found_by_extension() {
    let stead = Stead::new();
    stead.file("a.py", "import os, sys, time\nprint(os.path.basename(sys.argv[0]), os.environ['PYTHONUNBUFFERED'])\ntime.sleep(1000)\n");
    stead.file("b.sh", "echo ${BASH_VERSION:+bash}\nsleep 1000 & wait\n");
    stead.file("c", "#!/bin/sh\necho $0\nexec sleep 1000\n");
    stead.start("apps:\n  - script: a.py\n  - script: b.sh\n  - script: ./c\n  - {script: sleep, args: [1000]}\n");
    until("python runs it, and writes at once", || stead.log("a", "out") == "a.py 1\n");
    until("bash runs it", || stead.log("b", "out") == "bash\n");
    until("a program runs itself", || stead.log("c", "out").ends_with("/c\n"));
    assert_eq!(stead.instance("sleep")["status"], "online", "found in PATH");
}

#[test]
fn interpreter_none_runs_the_file_itself() {
    let stead = Stead::new();
    stead.file("app.py", "#!/bin/sh\necho no snake\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: app.py, interpreter: none}\n");
    until("its own #! runs it", || stead.log("web", "out") == "no snake\n");
}

#[test]
fn interpreter_of_a_venv_is_a_path_beside_the_file() {
    let stead = Stead::new();
    stead.file(".venv/bin/python", "#!/bin/sh\necho venv \"$@\"\nexec sleep 1000\n");
    stead.file("app/main.py", "");
    stead.start(
        "apps:\n  - {name: web, script: main.py, cwd: app, interpreter: .venv/bin/python, interpreter_args: -X dev, args: --port 80}\n",
    );
    let main = stead.work.join("app/main.py");
    until("it runs the script", || stead.log("web", "out") == format!("venv -X dev {} --port 80\n", main.display()));
}

#[test]
fn interpreter_args_stand_before_the_script() {
    let stead = Stead::new();
    stead.file("a.sh", "case $- in *f*u*|*u*f*) echo both;; esac\nexec sleep 1000\n");
    stead.start(
        "apps:\n  - {name: list, script: a.sh, interpreter_args: [-f, -u]}\n  - {name: text, script: a.sh, node_args: -f -u}\n",
    );
    for name in ["list", "text"] {
        until("bash has both flags", || stead.log(name, "out") == "both\n");
    }
}

#[test]
fn args_are_a_list_or_a_text_as_for_a_shell() {
    let stead = Stead::new();
    stead.file("a", SAYS_ARGS);
    stead.start(
        "apps:
  - {name: list, script: ./a, args: ['two words', 8080, true, '$HOME', '']}
  - {name: text, script: ./a, args: \"'two words' 8080 --x=\\\"y z\\\" $HOME\"}
  - {name: line, script: 'echo one | cat; exec sleep 1000'}
",
    );
    let ends = |name: &str, end: &str| until(name, || stead.log(name, "out").ends_with(end));
    ends("list", "/a\n[two words]\n[8080]\n[true]\n[$HOME]\n[]\n");
    ends("text", "/a\n[two words]\n[8080]\n[--x=y z]\n[$HOME]\n");
    ends("line", "one\n");
}

#[test]
fn cwd_is_relative_to_the_file_and_the_script_to_cwd() {
    let stead = Stead::new();
    stead.file("conf/api/run", "#!/bin/sh\nexec sleep 1000\n");
    stead.file(
        "conf/fleet.yaml",
        "apps:\n  - {name: web, script: ./run, cwd: api}\n  - {name: here, script: sleep, args: '1000'}\n",
    );
    stead.ok(["start", "conf/fleet.yaml"]);
    let conf = stead.work.join("conf").canonicalize().unwrap();
    assert_eq!(cwd(stead.pid("web")), conf.join("api"));
    assert_eq!(cwd(stead.pid("here")), conf);
}

#[test]
fn env_is_as_written_and_the_shell_is_its_base() {
    let stead = Stead::new();
    stead.file("ecosystem.yaml", "apps:\n  - {name: web, script: /bin/sleep, args: '1000', env: {PORT: 8080, DEBUG: True, V: 1.10, HEX: 0x1F, EMPTY: '', OVER: file}}\n");
    let mut start = stead.command(["start"]);
    start.env("BASE", "shell").env("OVER", "shell");
    for foreign in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "XDG_SESSION_ID",
        "SSH_AUTH_SOCK",
        "TERM",
    ] {
        start.env(foreign, "1");
    }
    assert!(crate::harness::said(start).status == Some(0));
    let env = environment(stead.pid("web"));
    for (name, value) in [
        ("PORT", "8080"),
        ("DEBUG", "True"),
        ("V", "1.10"),
        ("HEX", "0x1F"),
        ("EMPTY", ""),
        ("OVER", "file"),
        ("BASE", "shell"),
        ("STEAD_NAME", "web"),
        ("STEAD_RUN", "web#1"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(env["STEAD_HOME"], stead.home.to_string_lossy());
    let foreign = env.keys().filter(|name| {
        ["NOTIFY_", "WATCHDOG_", "LISTEN_", "INVOCATION_", "JOURNAL_", "XDG_SESSION_", "SSH_", "TERM"]
            .iter()
            .any(|one| name.starts_with(one))
    });
    assert_eq!(foreign.collect::<Vec<_>>(), [] as [&str; 0]);
}

#[test]
fn env_of_a_name_counts_with_that_name_only() {
    let stead = Stead::new();
    let file = "apps:\n  - {name: web, script: /bin/sleep, args: '1000', env: {A: base, B: base}, env_production: {B: production}}\n";
    stead.start(file);
    let both = |stead: &Stead| {
        let env = environment(stead.pid("web"));
        (env["A"].clone(), env["B"].clone())
    };
    assert_eq!(both(&stead), ("base".into(), "base".into()));
    stead.ok(["start", "ecosystem.yaml", "--env", "production"]);
    assert_eq!(both(&stead), ("base".into(), "production".into()));
    let pid = stead.pid("web");
    stead.ok(["restart", "web"]);
    assert_ne!(stead.pid("web"), pid);
    assert_eq!(both(&stead).1, "production", "a restart keeps it");
}

#[test]
fn env_file_lies_below_env() {
    let stead = Stead::new();
    stead.file("conf/.env", "# a comment\nA=file\nB=file\nexport C=\"two words\"\nD='$A'\n\n");
    stead.file(
        "conf/fleet.yaml",
        "apps:\n  - {name: web, script: /bin/sleep, args: '1000', env_file: .env, env: {B: env}}\n",
    );
    stead.ok(["start", "conf/fleet.yaml"]);
    let env = environment(stead.pid("web"));
    let found = ["A", "B", "C", "D"].map(|name| env[name].as_str());
    assert_eq!(found, ["file", "env", "two words", "$A"]);
}

#[test]
fn instances_are_numbered_and_told_their_number() {
    let stead = Stead::new();
    stead.start(
        "apps:
  - {name: two, script: /bin/sleep, args: '1000', instances: 2}
  - {name: own, script: /bin/sleep, args: '1000', instances: 2, instance_var: WORKER}
  - {name: max, script: /bin/sleep, args: '1000', instances: max}
  - {name: zero, script: /bin/sleep, args: '1000', instances: 0}
  - {name: less, script: /bin/sleep, args: '1000', instances: -1}
  - {name: one, script: /bin/sleep, args: '1000'}
",
    );
    let all = stead.json(["list", "--json"]);
    let count = |app: &str| all.as_array().unwrap().iter().filter(|one| one["app"] == app).count();
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(["two", "max", "zero", "less", "one"].map(count), [2, cpus, cpus, (cpus - 1).max(1), 1]);
    for slot in ["0", "1"] {
        assert_eq!(environment(stead.pid(&format!("two-{slot}")))["NODE_APP_INSTANCE"], slot);
        let own = environment(stead.pid(&format!("own-{slot}")));
        assert_eq!((own.get("WORKER").map(String::as_str), own.get("NODE_APP_INSTANCE")), (Some(slot), None));
        assert_eq!(own["STEAD_NAME"], format!("own-{slot}"));
    }
}

#[test]
fn exec_mode_fork_is_what_there_is() {
    let stead = Stead::new();
    assert!(is_alive(sleeper(&stead, "exec_mode: fork")));
    stead.file("cluster.yaml", "apps:\n  - {name: c, script: /bin/sleep, exec_mode: cluster}\n");
    let said = stead.run(["start", "cluster.yaml"]);
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("cluster.yaml:2: apps[0].exec_mode: ") && said.stderr.contains("hint: "), "{said:?}");
}

#[test]
fn autostart_false_is_listed_and_waits_for_start() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000', autostart: false}\n");
    let web = stead.instance("web");
    assert_eq!((&web["status"], &web["pid"], &web["last_exit"]), (&json!("stopped"), &Value::Null, &Value::Null));
    stead.ok(["start", "web"]);
    let pid = stead.pid("web");
    stead.ok(["start", "ecosystem.yaml"]);
    assert_eq!(stead.pid("web"), pid);
}

#[test]
fn autorestart_brings_back_what_ended_well_or_badly() {
    let stead = Stead::new();
    stead.file("gate.sh", "#!/bin/sh\necho up\nread code < gate\nexit $code\n");
    let gate = fifo(&stead, "gate");
    stead.start("apps:\n  - {name: web, script: ./gate.sh}\n");
    for (restarts, code) in [(1, 0), (2, 3)] {
        std::fs::write(&gate, format!("{code}\n")).unwrap();
        eventually("it is back", || {
            let web = stead.instance("web");
            let is_back = web["restarts"] == restarts && web["status"] == "online";
            if is_back { Ok(()) } else { Err(web.to_string()) }
        });
        let record = stead.newest_record("web");
        assert_eq!((&record["exit_code"], &record["planned"]), (&json!(code), &json!(false)));
        assert_eq!(record["next"]["action"], "restart");
    }
}

#[test]
fn restart_delay_is_waited_and_shown_and_cut_short_by_start() {
    let stead = Stead::new();
    let pid = sleeper(&stead, "restart_delay: 10m");
    signal(pid, 9);
    let web = stead.until_status("web", "waiting");
    let next = &web["last_exit"]["next"];
    assert_eq!((&next["action"], &next["delay_ms"]), (&json!("restart"), &json!(600_000)));
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let waits = at(&web["next_start_at"]) - at(&web["last_exit"]["ended_at"]);
    assert!((599_000..=660_000).contains(&waits), "{waits} ms");
    assert!(stead.ok(["list"]).contains("waiting"));
    stead.ok(["start", "web"]);
    assert_eq!(stead.instance("web")["status"], "online");
}

#[test]
fn a_number_is_milliseconds_and_a_text_has_its_unit() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: number, script: ./fails.sh, restart_delay: 250, max_restarts: 2, min_uptime: 60000}
  - {name: text, script: ./fails.sh, restart_delay: 0.25s, max_restarts: 2, min_uptime: 1m}
",
    );
    stead.run(["start"]);
    for name in ["number", "text"] {
        stead.until_status(name, "errored");
        let records = stead.json(["why", name, "--json"])["records"].clone();
        assert_eq!(records.as_array().unwrap().len(), 2);
        assert_eq!(records[1]["next"]["delay_ms"], 250);
    }
}

#[test]
fn exp_backoff_grows_by_half() {
    let stead = Stead::new();
    stead.file("fails.sh", FAILS);
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: web, script: ./fails.sh, exp_backoff_restart_delay: 40, restart_delay: 10m, max_restarts: 5, min_uptime: 1m}\n",
    );
    stead.run(["start"]);
    stead.until_status("web", "errored");
    let why = stead.json(["why", "web", "--json"]);
    let oldest_first = why["records"].as_array().unwrap().iter().rev();
    let delays: Vec<&Value> = oldest_first.map(|record| &record["next"]["delay_ms"]).collect();
    assert_eq!(delays, [&json!(40), &json!(60), &json!(90), &json!(135), &Value::Null]);
}

#[test]
fn kill_signal_is_the_one_that_stops() {
    let stead = Stead::new();
    let app = "trap 'echo int; exit' INT; trap 'echo term; exit' TERM; trap 'echo quit; exit' QUIT; echo up; while :; do sleep 1000 & wait; done";
    stead.file("app.sh", &format!("#!/bin/bash\n{app}\n"));
    stead.start(
        "apps:
  - {name: default, script: ./app.sh, kill_timeout: 20s}
  - {name: term, script: ./app.sh, kill_signal: SIGTERM, kill_timeout: 20s}
  - {name: number, script: ./app.sh, killSignal: 3, kill_timeout: 20s}
",
    );
    let names = ["default", "term", "number"];
    names.iter().for_each(|name| until("it is up", || stead.log(name, "out") == "up\n"));
    stead.ok(["stop", "all"]);
    assert_eq!(names.map(|name| stead.log(name, "out")), ["up\nint\n", "up\nterm\n", "up\nquit\n"]);
}

#[test]
fn kill_timeout_ends_what_is_deaf() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\ntrap '' INT\necho up\nwhile :; do sleep 1000; done\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh, kill_timeout: 200}\n");
    until("it is deaf", || stead.log("web", "out") == "up\n");
    let pid = stead.pid("web");
    stead.ok(["stop", "web"]);
    assert!(!is_alive(pid));
    let record = stead.newest_record("web");
    assert_eq!(
        (&record["cause"], &record["signal"], &record["exit_code"]),
        (&json!("manual"), &json!("SIGKILL"), &Value::Null)
    );
}

/// A main process and a child; each says which signal it gets. The main process ends by it, the child does not.
const PAIR: &str = "#!/bin/bash
exec 3<>gate
if [ \"$1\" = child ]; then
    trap 'echo child term' TERM
    echo child $$
    while :; do read line <&3; done
fi
$0 child & child=$!
trap 'echo main term; exit' TERM
while :; do wait; done
";

/// Starts and stops [`PAIR`]; returns what was heard, sorted, and whether the child lives on.
fn stopped_pair(attributes: &str) -> (Vec<String>, bool) {
    let stead = Stead::new();
    stead.file("pair", PAIR);
    fifo(&stead, "gate");
    stead.start(&format!(
        "apps:\n  - {{name: web, script: ./pair, kill_signal: SIGTERM, kill_timeout: 1s, {attributes}}}\n"
    ));
    let child = eventually("the child is up", || {
        let log = stead.log("web", "out");
        log.strip_prefix("child ").and_then(|rest| rest.trim().parse::<i32>().ok()).ok_or(log)
    });
    stead.ok(["stop", "web"]);
    let lives = is_alive(child);
    if lives {
        signal(child, 9);
    }
    let mut heard: Vec<String> = stead.log("web", "out").lines().skip(1).map(str::to_owned).collect();
    heard.sort();
    (heard, lives)
}

#[test]
fn kill_mode_tree_tells_every_process() {
    assert_eq!(stopped_pair("kill_mode: tree"), (vec!["child term".into(), "main term".into()], false));
}

#[test]
fn kill_mode_mixed_tells_the_main_process_and_kills_the_rest() {
    assert_eq!(stopped_pair("kill_mode: mixed"), (vec!["main term".into()], false));
}

#[test]
fn treekill_false_touches_the_main_process_only() {
    for attributes in ["treekill: false", "kill_mode: main"] {
        assert_eq!(stopped_pair(attributes), (vec!["main term".into()], true), "{attributes}");
    }
}

#[test]
fn user_is_who_it_runs_as_without_roots_groups() {
    // Only root can become somebody else.
    if !is_root() {
        return;
    }
    let stead = Stead::new();
    stead.start(
        "apps:
  - {name: user, script: /bin/sleep, args: '1000', cwd: /, user: nobody}
  - {name: uid, script: /bin/sleep, args: '1000', cwd: /, uid: 65534}
  - {name: group, script: /bin/sleep, args: '1000', cwd: /, user: nobody, group: 1}
  - {name: gid, script: /bin/sleep, args: '1000', cwd: /, gid: 1}
",
    );
    let ids = |name: &str| {
        let pid = stead.pid(name);
        let all = |field: &str| status(pid, field).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        (all("Uid"), all("Gid"), all("Groups"))
    };
    for name in ["user", "uid"] {
        let (uid, gid, groups) = ids(name);
        assert_eq!((uid, gid), (vec!["65534".to_owned(); 4], vec!["65534".to_owned(); 4]), "{name}");
        assert!(!groups.contains(&"0".to_owned()), "{groups:?}");
        let env = environment(stead.pid(name));
        assert_eq!((env["USER"].as_str(), env["HOME"].as_str()), ("nobody", "/nonexistent"));
    }
    let (uid, gid, groups) = ids("group");
    assert_eq!((uid, gid), (vec!["65534".to_owned(); 4], vec!["1".to_owned(); 4]));
    assert!(!groups.contains(&"0".to_owned()), "{groups:?}");
    let (uid, gid, _) = ids("gid");
    assert_eq!((uid, gid), (vec!["0".to_owned(); 4], vec!["1".to_owned(); 4]));
}

#[test]
fn umask_and_nice_are_set() {
    let stead = Stead::new();
    let pid = sleeper(&stead, "umask: '0027', nice: 7");
    assert_eq!((status(pid, "Umask"), stat(pid, 19)), ("0027".into(), 7));
    let pid = sleeper(&stead, "umask: 0o77");
    let usual = stat(std::process::id() as i32, 19);
    assert_eq!((status(pid, "Umask"), stat(pid, 19)), ("0077".into(), usual));
}

#[test]
fn limits_are_set_and_others_stay_as_they_were() {
    let stead = Stead::new();
    let pid = sleeper(&stead, "limits: {nofile: 512, core: 0, stack: {soft: 4M, hard: 8M}, fsize: 1G}");
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(limit(pid, "Max open files"), pair("512", "512"));
    assert_eq!(limit(pid, "Max core file size"), pair("0", "0"));
    assert_eq!(limit(pid, "Max stack size"), pair("4194304", "8388608"));
    assert_eq!(limit(pid, "Max file size"), pair("1073741824", "1073741824"));
    let pid = sleeper(&stead, "limits: {}");
    let ours = std::process::id() as i32;
    for name in ["Max open files", "Max processes", "Max core file size", "Max stack size"] {
        assert_eq!(limit(pid, name), limit(ours, name), "{name}");
    }
}

#[test]
fn pid_file_holds_the_pid_of_the_run() {
    let stead = Stead::new();
    let pid = sleeper(&stead, "pid_file: run/web.pid");
    let file = stead.work.join("run/web.pid");
    let written = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    assert_eq!(written(), pid.to_string());
    stead.ok(["restart", "web"]);
    assert_eq!(written(), stead.pid("web").to_string());
    stead.ok(["stop", "web"]);
    assert!(!file.exists(), "nobody may take it for a process that is gone");
}

/// Writes a line on each stream.
const TWO_LINES: &str = "#!/bin/sh\necho out $STEAD_NAME\necho err $STEAD_NAME >&2\nexec sleep 1000\n";

#[test]
fn out_file_error_file_and_log_file_get_their_lines() {
    let stead = Stead::new();
    stead.file("app.sh", TWO_LINES);
    stead.start(
        "apps:
  - {name: a, script: ./app.sh, out_file: logs/a.txt, error_file: logs/a.bad, log_file: logs/a.all}
  - {name: b, script: ./app.sh, out: both.log, err: both.log}
  - {name: c, script: ./app.sh, output: /dev/null, error: c.err}
",
    );
    let read = |path: &str| std::fs::read_to_string(stead.work.join(path)).unwrap_or_default();
    let sorted = |path: &str| {
        let mut lines: Vec<String> = read(path).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    until("out", || read("logs/a.txt") == "out a\n");
    until("err", || read("logs/a.bad") == "err a\n");
    until("both, in log_file too", || sorted("logs/a.all") == ["err a", "out a"]);
    until("both, in one file", || sorted("both.log") == ["err b", "out b"]);
    until("err alone", || read("c.err") == "err c\n");
    let a = stead.describe("a");
    assert_eq!(a["out_file"], json!(stead.work.join("logs/a.txt")));
    assert_eq!(a["log_file"], json!(stead.work.join("logs/a.all")));
    assert!(!stead.home.join("logs/a.out.log").exists());
}

#[test]
fn merge_logs_is_one_file_and_else_each_instance_has_its_own() {
    let stead = Stead::new();
    stead.file("app.sh", TWO_LINES);
    stead.start(
        "apps:
  - {name: apart, script: ./app.sh, instances: 2, out_file: apart.log}
  - {name: merged, script: ./app.sh, instances: 2, out_file: merged.log, merge_logs: true}
  - {name: plain, script: ./app.sh, instances: 2}
",
    );
    let read = |path: &str| std::fs::read_to_string(stead.work.join(path)).unwrap_or_default();
    until("each its own", || read("apart-0.log") == "out apart-0\n" && read("apart-1.log") == "out apart-1\n");
    until("both in one", || read("merged.log").lines().count() == 2);
    until("by default too", || {
        stead.log("plain-0", "out") == "out plain-0\n" && stead.log("plain-1", "out") == "out plain-1\n"
    });
    assert!(!stead.work.join("apart.log").exists());
}

#[test]
fn disable_logs_writes_nothing() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nfor i in $(seq 20000); do echo $i; done\ntouch done\nexec sleep 1000\n");
    stead.start("apps:\n  - {name: web, script: ./app.sh, disable_logs: true}\n");
    until("it is not held up", || stead.work.join("done").exists());
    assert_eq!((stead.log("web", "out"), stead.log("web", "err")), (String::new(), String::new()));
    stead.ok(["stop", "web"]);
    assert_eq!(stead.log("web", "out"), "");
}

#[test]
fn time_and_log_date_format_stand_before_each_line() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nprintf 'one\\ntw'\nprintf 'o\\n'\necho bad >&2\nexec sleep 1000\n");
    stead.start(
        "apps:
  - {name: time, script: ./app.sh, time: true}
  - {name: pm2, script: ./app.sh, log_date_format: 'YYYY/MM/DD HH:mm'}
  - {name: strf, script: ./app.sh, log_date_format: '%Y|'}
",
    );
    // In a form, `9` stands for any digit.
    let has_form = |text: &str, form: &str| {
        let like = |(a, b): (char, char)| if b == '9' { a.is_ascii_digit() } else { a == b };
        text.len() == form.len() && text.chars().zip(form.chars()).all(like)
    };
    for (name, stamp) in [("time", "9999-99-99T99:99:99:"), ("pm2", "9999/99/99 99:99:"), ("strf", "9999|:")] {
        for (stream, lines) in [("out", &["one", "two"][..]), ("err", &["bad"])] {
            let form: String = lines.iter().map(|line| format!("{stamp} {line}\n")).collect();
            eventually(&format!("{name}.{stream} is {form}"), || {
                let log = stead.log(name, stream);
                if has_form(&log, &form) { Ok(()) } else { Err(log) }
            });
        }
    }
}

#[test]
fn logs_are_rotated_at_lines_and_few_are_kept() {
    let stead = Stead::new();
    stead.file(
        "app.sh",
        "#!/bin/bash\nfor i in $(seq 100000 120000); do echo line $i; done\necho end\nexec sleep 1000\n",
    );
    stead.start("apps:\n  - {name: web, script: ./app.sh, log_max_size: 16K, log_keep: 2}\n  - {name: one, script: ./app.sh, log_max_size: 0}\n");
    until("all is written", || {
        stead.log("web", "out").ends_with("end\n") && stead.log("one", "out").ends_with("end\n")
    });
    assert_eq!(stead.log("one", "out").lines().count(), 20_002, "0 is never");
    let read = |path: &str| std::fs::read_to_string(stead.home.join("logs").join(path)).unwrap_or_default();
    let (old, new) = (read("web.out.log.2"), read("web.out.log.1"));
    assert!(!old.is_empty() && !new.is_empty(), "two are kept");
    assert!(!stead.home.join("logs/web.out.log.3").exists());
    assert!(old.ends_with('\n') && new.ends_with('\n') && old.starts_with("line ") && new.starts_with("line "));
    let text = old + &new + &stead.log("web", "out");
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is lost or torn between files");
    assert_eq!(numbers.last(), Some(&120_000));
}

/// Serves on the sockets that it inherits: says its pid to whoever connects.
const SERVER: &str = "import os, select, socket
assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['LISTEN_PID']
sockets = [socket.socket(fileno=3 + n) for n in range(int(os.environ['LISTEN_FDS']))]
print(len(sockets), flush=True)
while True:
    for one in select.select(sockets, [], [])[0]:
        connection = one.accept()[0]
        connection.sendall(b'%d' % os.getpid())
        connection.close()
";

#[test]
fn listen_holds_sockets_that_no_restart_closes() {
    let stead = Stead::new();
    stead.file("server.py", SERVER);
    let port = crate::harness::free_port();
    stead.start(&format!(
        "apps:\n  - {{name: web, script: server.py, listen: ['127.0.0.1:{port}', web.sock], restart_delay: 500}}\n"
    ));
    until("it has two sockets", || stead.log("web", "out") == "2\n");
    let said = |mut stream: Box<dyn Read>| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.parse::<i32>().unwrap()
    };
    let tcp = || Box::new(TcpStream::connect(("127.0.0.1", port)).unwrap()) as Box<dyn Read>;
    let unix = || Box::new(UnixStream::connect(stead.work.join("web.sock")).unwrap()) as Box<dyn Read>;
    let first = stead.pid("web");
    assert_eq!((said(tcp()), said(unix())), (first, first));
    signal(first, 9);
    stead.until_status("web", "waiting");
    let (waiting, other) = (tcp(), unix());
    let second = said(waiting);
    assert_ne!(second, first, "the next run answers who came in between");
    assert_eq!(said(other), second);
    stead.ok(["restart", "web"]);
    assert_eq!(said(tcp()), stead.pid("web"));
    stead.ok(["delete", "web"]);
    until("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
    assert!(UnixStream::connect(stead.work.join("web.sock")).is_err());
}

#[test]
fn namespace_name_and_cap_are_listed() {
    let stead = Stead::new();
    stead.start(
        "apps:
  - {script: /bin/sleep, args: '1000', namespace: jobs, max_memory_restart: 1.5G, name_prefix: eu-}
  - {name: bytes, script: /bin/sleep, args: '1000', max_memory_restart: 104857600}
",
    );
    let one = stead.instance("eu-sleep");
    assert_eq!((&one["namespace"], &one["memory_cap_bytes"]), (&json!("jobs"), &json!(1_610_612_736)));
    let bytes = stead.instance("bytes");
    assert_eq!((&bytes["namespace"], &bytes["memory_cap_bytes"]), (&json!("default"), &json!(104_857_600)));
}

#[test]
fn aliases_and_camel_case_mean_the_same() {
    let stead = Stead::new();
    stead.file("app.sh", TWO_LINES);
    let one = "apps:
  - name: web
    script: ./app.sh
    interpreter: bash
    interpreter_args: [-u]
    out_file: o.log
    error_file: e.log
    log_file: l.log
    merge_logs: true
    kill_timeout: 900
    max_restarts: 7
    min_uptime: 2000
    max_memory_restart: 300M
    stop_exit_codes: [3]
    pid_file: web.pid
";
    stead.start(one);
    let pid = stead.pid("web");
    for other in [
        [
            ("script", "exec"),
            ("interpreter", "exec_interpreter"),
            ("interpreter_args", "node_args"),
            ("out_file", "out"),
            ("error_file", "err"),
            ("log_file", "log"),
            ("merge_logs", "combine_logs"),
            ("pid_file", "pid"),
        ],
        [
            ("script", "cmd"),
            ("interpreter", "execInterpreter"),
            ("interpreter_args", "interpreterArgs"),
            ("out_file", "outFile"),
            ("error_file", "errorFile"),
            ("log_file", "logFile"),
            ("merge_logs", "mergeLogs"),
            ("kill_timeout", "killTimeout"),
        ],
        [
            ("script", "command"),
            ("out_file", "output"),
            ("error_file", "error"),
            ("max_restarts", "maxRestarts"),
            ("min_uptime", "minUptime"),
            ("max_memory_restart", "maxMemoryRestart"),
            ("stop_exit_codes", "stopExitCodes"),
            ("pid_file", "pidFile"),
        ],
        [
            ("out_file", "out_log"),
            ("error_file", "err_log"),
            ("interpreter_args", "nodeArgs"),
            ("kill_timeout", "kill_timeout"),
            ("log_file", "log"),
            ("merge_logs", "combineLogs"),
            ("pid_file", "pid"),
            ("script", "script"),
        ],
        [
            ("error_file", "err_file"),
            ("out_file", "outLog"),
            ("interpreter_args", "interpreter_args"),
            ("kill_timeout", "kill_timeout"),
            ("log_file", "log"),
            ("merge_logs", "combineLogs"),
            ("pid_file", "pid"),
            ("script", "script"),
        ],
    ] {
        let text = other.iter().fold(one.to_owned(), |text, (name, alias)| {
            text.replace(&format!("    {name}:"), &format!("    {alias}:"))
        });
        stead.file("ecosystem.yaml", &text);
        let shown = stead.ok(["start"]);
        assert_eq!(stead.pid("web"), pid, "{shown}{text}");
    }
}

#[test]
fn anchors_merge_keys_and_keys_of_ones_own_work() {
    let stead = Stead::new();
    stead.start(
        "x-base: &base
  script: /bin/sleep
  args: '1000'
  env: &env {A: 1, B: 1}
x-note: mine
apps:
  - <<: *base
    name: one
  - <<: *base
    name: two
    env: {<<: *env, B: 2}
    x-owner: me
",
    );
    let both = |name: &str| {
        let env = environment(stead.pid(name));
        (env["A"].clone(), env["B"].clone())
    };
    assert_eq!(both("one"), ("1".into(), "1".into()));
    assert_eq!(both("two"), ("1".into(), "2".into()));
    assert_eq!(command_line(stead.pid("two")), ["/bin/sleep", "1000"]);
}

#[test]
fn json_a_bare_list_and_another_name_are_files_too() {
    let stead = Stead::new();
    stead.file("pm2.json", "{\"apps\": [{\"name\": \"j\", \"script\": \"/bin/sleep\", \"args\": [\"1000\"]}]}\n");
    stead.file("fleet.yml", "- {name: l, script: /bin/sleep, args: '1000'}\n");
    stead.ok(["start", "pm2.json"]);
    stead.ok(["start", "fleet.yml"]);
    assert_eq!(stead.instance("j")["status"], "online");
    assert_eq!(stead.instance("l")["status"], "online");
}

#[test]
fn keys_that_only_pm2_knows_are_one_warning() {
    let stead = Stead::new();
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: a, script: /bin/sleep, args: '1000', pmx: false, vizion: true}
  - {name: b, script: /bin/sleep, args: '1000', pmx: false, automation: true, source_map_support: false}
",
    );
    let said = stead.run(["start"]);
    assert_eq!(said.status, Some(0), "{said:#?}");
    let warnings: Vec<&str> = said.stderr.lines().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{said:#?}");
    for key in ["pmx", "vizion", "automation", "source_map_support"] {
        assert!(warnings[0].contains(key), "{key} is missing in {warnings:?}");
    }
}
