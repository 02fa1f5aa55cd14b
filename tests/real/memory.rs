//! Caps that hold: the leak in the main process, in a child, behind shared pages and page cache; the burst past the wall.

use crate::harness::{Stead, eventually, is_alive, until};
use serde_json::Value;

const LEAK: &str = "\
import sys, time
rate, upto = float(sys.argv[1]), int(sys.argv[2])
kept = []
while True:
    if len(kept) < upto:
        kept.append(bytearray(b'x' * (1 << 20)))
    time.sleep(1 / rate)
";

const MIB: u64 = 1 << 20;

fn has_groups(stead: &Stead) -> bool {
    let of = stead.json(["list", "--json"])[0]["memory_enforcement"].clone();
    if of == "polling" {
        println!("SKIPPED: no cgroup can be made here, so the kernel cannot keep a cap");
    }
    of != "polling"
}

fn first_end(stead: &Stead, name: &str) -> Value {
    eventually(&format!("{name} has ended once"), || {
        let all = stead.json(["why", name, "--json"]);
        all["records"].as_array().unwrap().last().cloned().ok_or_else(|| all.to_string())
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_leak_is_ended_gracefully_at_its_cap() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.start("apps: [{name: leak, script: leak.py, args: 100 1000, max_memory_restart: 60M, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "leak");
    assert_eq!(
        (&end["cause"], &end["planned"], &end["confidence"]),
        (&"memory-cap".into(), &false.into(), &"certain".into()),
        "{end:#}"
    );
    assert_eq!((number(&end["memory"]["cap_bytes"]), number(&end["memory"]["wall_bytes"])), (60 * MIB, 75 * MIB));
    let crossing = &end["evidence"]["cap_crossing"];
    let usage = number(&crossing["usage_bytes"]);
    assert!((60 * MIB..=69 * MIB).contains(&usage), "acted at {usage} bytes: {end:#}");
    assert!(number(&end["memory"]["peak_bytes"]) <= 75 * MIB, "{end:#}");
    assert!(crossing["processes"][0]["command"].as_str().unwrap().contains("leak.py"), "{end:#}");
    assert!(end["evidence"]["cap_crossed_at"].is_string());
    assert_eq!(end["signal"], "SIGINT", "python dies of the kill signal: {end:#}");
}

#[test]
fn a_leak_in_a_child_counts() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.file("app.py", "import subprocess, sys, time\nsubprocess.Popen([sys.executable, 'leak.py', '100', '1000'])\nwhile True: time.sleep(1)\n");
    stead.start("apps: [{name: parent, script: app.py, max_memory_restart: 60M, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "parent");
    assert_eq!(end["cause"], "memory-cap", "{end:#}");
    let biggest = end["evidence"]["cap_crossing"]["processes"][0]["command"].as_str().unwrap().to_owned();
    assert!(biggest.contains("leak.py"), "{biggest}");
}

#[test]
fn who_outruns_the_cap_dies_at_the_wall_and_alone() {
    let stead = Stead::new();
    stead.file("burst.py", "import time\nwhile True:\n    kept = b'x' * (800 << 20)\n");
    stead.start(
        "apps:\n  - {name: bystander, script: /bin/sleep, args: '1000', max_memory_restart: 50M}\n\
         \x20 - {name: burst, script: burst.py, max_memory_restart: 50M, restart_delay: 60s}\n",
    );
    if !has_groups(&stead) {
        return;
    }
    let bystander = stead.pid("bystander");
    let end = first_end(&stead, "burst");
    assert_eq!((&end["cause"], &end["confidence"]), (&"oom-kill".into(), &"certain".into()), "{end:#}");
    assert!(number(&end["evidence"]["oom"]["own"]) >= 1, "{end:#}");
    assert_eq!(end["evidence"]["oom"]["host"], 0);
    assert_eq!(end["signal"], "SIGKILL");
    assert!(number(&end["memory"]["peak_bytes"]) <= 63 * MIB, "{end:#}");
    assert!(is_alive(bystander));
}

#[test]
fn a_child_killed_at_the_wall_behind_a_shell_is_an_oom_kill_though_the_shell_exits_137() {
    let stead = Stead::new();
    stead.file("burst.py", "import time\nkept = b'x' * (800 << 20)\ntime.sleep(100)\n");
    stead.file("app.sh", "#!/bin/sh\npython3 burst.py\nexit $?\n");
    stead.start("apps: [{name: shell, script: ./app.sh, memory_max: 50M, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "shell");
    assert_eq!(end["cause"], "oom-kill", "{end:#}");
}

#[test]
fn pages_shared_by_workers_count_once() {
    let stead = Stead::new();
    stead.file(
        "prefork.py",
        "import os, time\nshared = bytearray(b'x' * (60 << 20))\nfor _ in range(6):\n    if os.fork() == 0:\n        sum(shared[::4096]); break\n\
         print('ready', flush=True)\nwhile True: time.sleep(1)\n",
    );
    stead.start("apps: [{name: prefork, script: prefork.py, max_memory_restart: 150M}]");
    if !has_groups(&stead) {
        return;
    }
    eventually("all workers are there", || {
        let said = stead.log("prefork", "out");
        if said.lines().count() == 7 { Ok(()) } else { Err(said) }
    });
    let one = stead.instance("prefork");
    let used = number(&one["memory_bytes"]);
    assert!((60 * MIB..150 * MIB).contains(&used), "its sum of RSS is above 400M: {one:#}");
    assert_eq!((&one["restarts"], &one["processes"]), (&0.into(), &7.into()));
}

#[test]
fn a_file_that_was_read_is_no_leak_and_a_leak_after_it_is_still_caught() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.file(
        "reader.py",
        "import os, sys\nwith open('big', 'wb') as f:\n    for _ in range(300): f.write(b'x' * (1 << 20))\n    f.flush(); os.fsync(f.fileno())\n\
         for _ in range(2):\n    with open('big', 'rb') as f:\n        while f.read(1 << 20): pass\n\
         print('read', flush=True)\nsys.argv[1:] = ['100', '1000']\nexec(open('leak.py').read())\n",
    );
    stead.start(
        "apps: [{name: reader, script: reader.py, max_memory_restart: 100M, memory_max: 400M, restart_delay: 60s}]",
    );
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "reader");
    assert_eq!(stead.log("reader", "out"), "read\n", "it was ended while it read: {end:#}");
    assert_eq!(end["cause"], "memory-cap", "{end:#}");
    let usage = number(&end["evidence"]["cap_crossing"]["usage_bytes"]);
    assert!(usage <= 130 * MIB, "acted at {usage}: {end:#}");
}

#[test]
fn a_worker_may_die_under_its_master_where_the_policy_says_so() {
    let stead = Stead::new();
    stead.file(
        "master.py",
        "import os, time\npid = os.fork()\nif pid == 0:\n    kept = b'x' * (500 << 20)\n    os._exit(0)\n\
         print('worker', os.waitpid(pid, 0)[1], flush=True)\nwhile True: time.sleep(1)\n",
    );
    stead.start("apps: [{name: master, script: master.py, memory_max: 60M, oom_policy: continue}]");
    if !has_groups(&stead) {
        return;
    }
    eventually("the worker was killed", || match stead.log("master", "out") {
        said if said == "worker 9\n" => Ok(()),
        said => Err(said),
    });
    let told = |stead: &Stead| {
        eventually("it is told", || {
            let all = stead.json(["why", "master", "--json"]);
            if all["events"].as_array().unwrap().is_empty() { Err(all.to_string()) } else { Ok(all) }
        })
    };
    let all = told(&stead);
    let event = &all["events"][0];
    assert_eq!((&all["total"], &event["cause"], &event["run"]), (&0.into(), &"oom-kill".into(), &"master#1".into()));
    assert_eq!((&event["oom"]["own"], &event["oom"]["host"]), (&1.into(), &0.into()), "{event:#}");
    // The kernel's log tells whom, where it can be read.
    if !event["kernel_log"].as_array().unwrap().is_empty() {
        assert_eq!(event["oom"]["killed_name"], "python3", "{event:#}");
        assert_ne!(event["oom"]["killed_pid"], stead.pid("master"), "{event:#}");
    }
    let page = stead.ok(["why", "master"]);
    assert!(page.contains("master: no run has ended") && page.contains("went on"), "{page}");
    stead.kill_daemon();
    let again = told(&stead);
    assert_eq!(again["events"], all["events"], "a new daemon tells it once, too");
    let one = stead.instance("master");
    assert_eq!((&one["status"], &one["restarts"]), (&"online".into(), &0.into()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(stead.pid("master")), nix::sys::signal::SIGKILL).unwrap();
    let end = first_end(&stead, "master");
    assert_eq!(end["cause"], "signal", "the kill of long ago is not this end's: {end:#}");
    assert_eq!(end["evidence"]["oom"]["own"], 0, "{end:#}");
}

#[test]
fn an_app_that_needs_more_than_its_cap_to_start_gives_up_and_says_so() {
    let stead = Stead::new();
    // Deaf, so that each of its stops takes longer than min_uptime.
    stead.file(
        "big.py",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nkept = b'x' * (80 << 20)\nsignal.pause()\n",
    );
    stead.start(
        "apps: [{name: big, script: big.py, max_memory_restart: 50M, memory_max: 400M, max_restarts: 2, min_uptime: 4s, kill_timeout: 5s}]",
    );
    if !has_groups(&stead) {
        return;
    }
    stead.until_status("big", "errored");
    let all = stead.json(["why", "big", "--json"]);
    assert_eq!((&all["total"], &all["records"][0]["cause"]), (&2.into(), &"memory-cap".into()), "{all:#}");
    let reason = all["records"][0]["next"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("needs at least ") && reason.contains(", cap 50M: raise max_memory_restart"),
        "{reason}"
    );
    for page in [stead.ok(["list"]), stead.ok(["describe", "big"])] {
        assert!(page.contains("needs at least "), "{page}");
    }
}

#[test]
fn caps_above_the_machine_s_memory_are_a_warning_of_check_and_start() {
    let stead = Stead::new();
    let text = "apps: [{name: web, script: /bin/sleep, args: '1000', instances: 2, max_memory_restart: 9000G, autostart: false}]";
    stead.file("ecosystem.yaml", text);
    for verb in ["check", "start"] {
        let said = stead.run([verb]);
        let warning = "warning: the caps of 2 instances are together 18T, and this machine has ";
        assert!(said.status == Some(0) && said.stderr.contains(warning), "{said:#?}");
        let told = said.stdout.matches("counts the app's whole tree of processes").count();
        assert_eq!(told, usize::from(verb == "check"), "{said:#?}");
    }
}

#[test]
fn a_cap_that_is_raised_holds_at_once_and_the_run_goes_on() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    let file = |cap: &str| format!("apps: [{{name: app, script: leak.py, args: 1000 40, max_memory_restart: {cap}}}]");
    stead.start(&file("80M"));
    if !has_groups(&stead) {
        return;
    }
    let pid = stead.pid("app");
    stead.start(&file("200M"));
    let one = stead.instance("app");
    assert_eq!((number(&one["memory_cap_bytes"]), stead.pid("app")), (200 * MIB, pid), "{one:#}");
    eventually("it holds its 40 MiB", || {
        let one = stead.instance("app");
        if number(&one["memory_bytes"]) > 40 * MIB { Ok(()) } else { Err(one.to_string()) }
    });
    stead.start(&file("20M"));
    let end = first_end(&stead, "app");
    assert_eq!(end["cause"], "memory-cap", "a cap below the usage is crossed: {end:#}");
}

#[test]
fn a_fork_bomb_ends_at_pids_max() {
    let stead = Stead::new();
    stead.file(
        "bomb.py",
        "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(1000)\n        n += 1\nexcept OSError as error:\n\
         \x20   print(n, error.errno, flush=True)\nwhile True: time.sleep(1)\n",
    );
    stead.start("apps: [{name: bomb, script: bomb.py, pids_max: 20}]");
    if !has_groups(&stead) {
        return;
    }
    eventually("its fork fails", || match stead.log("bomb", "out") {
        said if said == "19 11\n" => Ok(()),
        said => Err(said),
    });
    assert_eq!(stead.instance("bomb")["processes"], 20);
    stead.ok(["stop", "bomb"]);
}

#[test]
fn one_that_escapes_by_a_double_fork_and_a_new_environment_is_stopped_with_its_tree() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nenv -i setsid sh -c 'setsid sleep 1000 & echo $!' \nexec sleep 1000\n");
    stead.start("apps: [{name: app, script: ./app.sh}]");
    if !has_groups(&stead) {
        return;
    }
    let escaped: i32 = eventually("it tells its pid", || {
        let said = stead.log("app", "out");
        said.trim().parse().map_err(|_| said)
    });
    assert!(is_alive(escaped));
    stead.ok(["stop", "app"]);
    assert!(!is_alive(escaped), "nothing in it names stead, and yet it is of the tree");
}

#[test]
fn two_gigabytes_at_once_end_at_the_wall() {
    let stead = Stead::new();
    stead.file(
        "flood.py",
        "import mmap, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n\
         mmap.mmap(-1, 2 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)\nsignal.pause()\n",
    );
    stead.start(
        "apps:\n  - {name: bystander, script: /bin/sleep, args: '1000'}\n\
         \x20 - {name: flood, script: flood.py, max_memory_restart: 100M, restart_delay: 60s}\n",
    );
    if !has_groups(&stead) {
        return;
    }
    let bystander = stead.pid("bystander");
    let end = first_end(&stead, "flood");
    assert_eq!((&end["cause"], &end["confidence"]), (&"oom-kill".into(), &"certain".into()), "{end:#}");
    assert!(number(&end["memory"]["peak_bytes"]) <= 125 * MIB, "{end:#}");
    assert!(is_alive(bystander));
}

#[test]
fn a_cap_that_comes_or_goes_holds_at_once() {
    let stead = Stead::new();
    let file = |cap: &str| format!("apps: [{{name: app, script: /bin/sleep, args: '1000'{cap}}}]");
    stead.start(&file(""));
    if !has_groups(&stead) {
        return;
    }
    let pid = stead.pid("app");
    let limits = || {
        let files = ["memory.limit_in_bytes", "memory.max"];
        let leaves: Vec<_> = stead.groups().iter().map(|group| group.join("app.1")).collect();
        let paths = leaves.iter().flat_map(|leaf| files.map(|file| leaf.join(file)));
        let limits: Vec<String> = paths.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        assert_eq!(limits.len(), 1, "one hierarchy counts: {leaves:?}");
        limits[0].trim().to_owned()
    };
    let none = limits();
    stead.start(&file(", max_memory_restart: 80M"));
    assert_eq!(limits(), (100 * MIB).to_string());
    assert_eq!(stead.instance("app")["memory_cap_bytes"], 80 * MIB);
    stead.start(&file(""));
    assert_eq!((limits(), stead.instance("app")["memory_cap_bytes"].clone()), (none, Value::Null));
    assert_eq!((stead.pid("app"), stead.instance("app")["restarts"].clone()), (pid, 0.into()));
}

#[test]
fn a_group_that_is_still_busy_is_removed_when_it_is_empty() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nsleep 1000 &\necho $!\nwait\n");
    stead.start("apps: [{name: app, script: ./app.sh, treekill: false}]");
    if !has_groups(&stead) {
        return;
    }
    let leaves = || -> usize { stead.groups().iter().filter(|group| group.join("app.1").exists()).count() };
    stead.ok(["stop", "app"]);
    let child: i32 = stead.log("app", "out").trim().parse().unwrap();
    assert!(is_alive(child) && leaves() > 0, "treekill: false leaves the child, and its group");
    crate::harness::signal(child, 9);
    until("its group is gone", || leaves() == 0);
}

#[test]
fn what_a_killed_stead_left_is_ended_and_removed_by_the_next_also_from_another_place() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\nenv -i setsid sh -c 'setsid sleep 1000 & echo $!' \nexec sleep 1000\n");
    stead.start("apps: [{name: app, script: ./app.sh}]");
    if !has_groups(&stead) {
        return;
    }
    let escaped: i32 = eventually("it tells its pid", || {
        let said = stead.log("app", "out");
        said.trim().parse().map_err(|_| said)
    });
    let before = stead.groups();
    let (keeper, daemon) = (stead.keeper_pid(), stead.daemon_pid());
    crate::harness::signal(daemon, 19);
    crate::harness::signal(keeper, 9);
    crate::harness::signal(daemon, 9);
    until("both are gone", || !is_alive(keeper) && !is_alive(daemon));
    assert!(is_alive(escaped), "nothing in it names stead");
    // The next one is started by a process in a group of its own, where groups are made by hand: v1's memory.
    let elsewhere = before.iter().find(|group| group.join("memory.limit_in_bytes").exists());
    let elsewhere = elsewhere.map(|group| group.with_file_name(format!("stead-test-{}", std::process::id())));
    if let Some(group) = &elsewhere {
        std::fs::create_dir(group).unwrap();
    }
    let enter = elsewhere.as_ref().map_or(String::new(), |group| format!("echo 0 >{}/tasks && ", group.display()));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{enter}exec \"$@\""), "sh", env!("CARGO_BIN_EXE_stead"), "list"]);
    command.current_dir(&stead.work).env("STEAD_HOME", &stead.home).env_remove("STEAD_RUN");
    let said = crate::harness::said(command);
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert!(!is_alive(escaped), "its group told of it");
    stead.until_status("app", "online");
    for group in &before {
        assert!(!group.join("app.1").exists(), "{group:?}");
        let moved = elsewhere.is_some() && group.join("memory.limit_in_bytes").exists();
        assert!(!(moved && group.exists()), "nobody lives there any more: {group:?}");
    }
    stead.ok(["kill"]);
    assert!(stead.groups().is_empty() && !stead.home.join("groups.json").exists());
    if let Some(group) = &elsewhere {
        until("the group of this test is empty", || std::fs::remove_dir(group).is_ok());
    }
}

#[test]
fn stead_is_chosen_by_the_oom_killer_after_its_apps() {
    let stead = Stead::new();
    // Whoever may not go below 0 may still take back what was raised.
    let file = stead.file("ecosystem.yaml", "apps: [{name: app, script: /bin/sleep, args: '1000'}, {name: first, script: /bin/sleep, args: '1000', oom_score_adj: 700}]");
    let mut command = std::process::Command::new("sh");
    let raised = "echo 500 >/proc/self/oom_score_adj && exec \"$@\"";
    command.args(["-c", raised, "sh", env!("CARGO_BIN_EXE_stead"), "start"]).arg(file);
    command.current_dir(&stead.work).env("STEAD_HOME", &stead.home).env_remove("STEAD_RUN");
    let said = crate::harness::said(command);
    assert_eq!(said.status, Some(0), "{said:#?}");
    let adj = |pid: i32| -> i32 {
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    let own = [adj(stead.keeper_pid()), adj(stead.daemon_pid())];
    assert!(own.iter().all(|adj| *adj <= 0), "{own:?}");
    assert!((own[0]..=500).contains(&adj(stead.pid("app"))) && adj(stead.pid("app")) >= 0);
    assert_eq!(adj(stead.pid("first")), 700);
}

#[test]
fn no_group_is_left_behind() {
    let stead = Stead::new();
    stead.start(
        "apps: [{name: a, script: /bin/sleep, args: '1000'}, {name: b, script: /bin/false, autorestart: false}]",
    );
    stead.ok(["kill"]);
    let mine = stead.groups();
    assert!(mine.is_empty(), "{mine:?}");
}

#[test]
fn an_ordinary_user_without_a_group_is_polled() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can try to be another user");
        return;
    }
    let stead = Stead::new();
    let leak = stead.file("leak.py", LEAK);
    let nobody = 65534;
    // A copy of stead in a place that nobody can reach.
    let binary = leak.with_file_name("stead");
    std::fs::copy(env!("CARGO_BIN_EXE_stead"), &binary).unwrap();
    stead.give_to(nobody);
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command.args(args).current_dir(&stead.work).env("STEAD_HOME", &stead.home).uid(nobody).gid(nobody);
        crate::harness::said(command)
    };
    stead.file("ecosystem.yaml", "apps: [{name: leak, script: leak.py, interpreter: /usr/bin/python3, args: 40 1000, max_memory_restart: 60M, restart_delay: 60s}]");
    let said = run(&["start"]);
    assert_eq!(said.status, Some(0), "{said:#?}");
    let view = |args: &[&str]| -> Value { serde_json::from_str(&run(args).stdout).unwrap() };
    assert_eq!(view(&["list", "--json"])[0]["memory_enforcement"], "polling");
    for page in [run(&["list"]).stdout, run(&["describe", "leak"]).stdout] {
        assert!(page.contains("\n  why: ") && page.contains("\n  remedy: "), "{page}");
    }
    let end = eventually("it was ended", || {
        let all = view(&["why", "leak", "--json"]);
        all["records"].as_array().unwrap().last().cloned().ok_or_else(|| all.to_string())
    });
    assert_eq!(end["cause"], "memory-cap", "{end:#}");
    assert_eq!(run(&["kill"]).status, Some(0));
}

#[test]
fn a_kill_at_the_wall_says_who_was_killed_though_the_app_exits_with_a_code() {
    let stead = Stead::new();
    stead.file("burst.py", "kept = b'x' * (800 << 20)\n");
    stead.file("app.sh", "#!/bin/sh\npython3 burst.py &\necho $!\nwait $!\nexit $?\n");
    stead.start("apps: [{name: shell, script: ./app.sh, memory_max: 50M, oom_policy: continue, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "shell");
    let facts = (&end["cause"], &end["confidence"], &end["exit_code"], &end["signal"]);
    assert_eq!(facts, (&"oom-kill".into(), &"certain".into(), &137.into(), &Value::Null), "{end:#}");
    // The kernel's log tells them, where it can be read.
    let killed = &end["evidence"]["oom"];
    if !end["evidence"]["kernel_log"].as_array().unwrap().is_empty() {
        let child: i32 = stead.log("shell", "out").trim().parse().unwrap();
        assert_eq!((&killed["killed_pid"], &killed["killed_name"]), (&child.into(), &"python3".into()), "{end:#}");
    }
}

/// Leaks in a process that has left its parent and its session.
const ESCAPE: &str = "import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.execv(sys.executable, [sys.executable, 'leak.py', '50', '1000'])
    os._exit(0)
os.wait()
while True: time.sleep(1)
";

#[test]
fn a_leak_in_one_that_escaped_by_a_double_fork_counts() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.file("escape.py", ESCAPE);
    stead.start("apps: [{name: escape, script: escape.py, max_memory_restart: 60M, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let end = first_end(&stead, "escape");
    assert_eq!(end["cause"], "memory-cap", "{end:#}");
    let escaped: i32 = stead.log("escape", "out").trim().parse().unwrap();
    assert_eq!(end["evidence"]["cap_crossing"]["processes"][0]["pid"], escaped, "{end:#}");
    assert!(!is_alive(escaped));
}

#[test]
fn a_run_whose_group_somebody_removed_is_polled() {
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.file(
        "app.py",
        "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nexec(open('leak.py').read())\n",
    );
    stead.start("apps: [{name: leak, script: app.py, args: 40 1000, max_memory_restart: 60M, restart_delay: 60s}]");
    if !has_groups(&stead) {
        return;
    }
    let pid = stead.pid("leak").to_string();
    for group in stead.groups() {
        let leaf = group.join("leak.1");
        if leaf.exists() && !leaf.starts_with("/sys/fs/cgroup/unified") {
            std::fs::write(group.parent().unwrap().join("cgroup.procs"), &pid).unwrap();
            until("the kernel lets it go", || std::fs::remove_dir(&leaf).is_ok());
        }
    }
    until("list says it", || stead.instance("leak")["memory_enforcement"] == "polling");
    stead.file("go", "");
    let end = first_end(&stead, "leak");
    assert_eq!(end["cause"], "memory-cap", "{end:#}");
    assert!(stead.own_log().contains("somebody removed its group: its memory is polled"), "{}", stead.own_log());
}

#[test]
fn without_groups_trees_are_polled() {
    use std::process::Command;
    let hides = "mount -t tmpfs none /sys/fs/cgroup";
    if !Command::new("unshare").args(["-m", "sh", "-c", hides]).status().is_ok_and(|status| status.success()) {
        println!("SKIPPED: the groups of this machine cannot be hidden");
        return;
    }
    let stead = Stead::new();
    stead.file("leak.py", LEAK);
    stead.file("escape.py", ESCAPE);
    stead.file("worker.py", "import subprocess, sys\nsubprocess.run([sys.executable, 'leak.py', '50', '1000'])\n");
    stead.file(
        "reader.py",
        "import os, sys\nwith open('big', 'wb') as f:\n    f.truncate(500 << 20)\nwith open('big', 'rb') as f:\n    while f.read(1 << 20): pass\n\
         print('read', flush=True)\nsys.argv[1:] = ['50', '1000']\nexec(open('leak.py').read())\n",
    );
    stead.file(
        "prefork.py",
        "import os, time\nshared = bytearray(b'x' * (60 << 20))\nfor _ in range(6):\n    if os.fork() == 0: break\n\
         while True: time.sleep(1)\n",
    );
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: prefork, script: prefork.py, max_memory_restart: 150M}\n\
         \x20 - &app {name: main, script: leak.py, args: 50 1000, max_memory_restart: 60M, restart_delay: 60s}\n\
         \x20 - {<<: *app, name: worker, script: worker.py}\n\
         \x20 - {<<: *app, name: escape, script: escape.py}\n\
         \x20 - {<<: *app, name: reader, script: reader.py}\n",
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{hides} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_stead"), "start"]);
    command.current_dir(&stead.work).env("STEAD_HOME", &stead.home).env_remove("STEAD_RUN");
    let said = crate::harness::said(command);
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert!(said.stdout.contains("memory caps are kept by polling"), "{said:#?}");
    for name in ["main", "worker", "escape", "reader"] {
        let end = first_end(&stead, name);
        let usage = number(&end["evidence"]["cap_crossing"]["usage_bytes"]);
        assert_eq!((&end["cause"], &end["confidence"]), (&"memory-cap".into(), &"certain".into()), "{end:#}");
        assert!(usage < 250 * MIB, "acted at {usage}: {end:#}");
    }
    assert_eq!(stead.log("reader", "out"), "read\n", "it was ended while it read");
    let one = stead.instance("prefork");
    assert_eq!((&one["memory_enforcement"], &one["restarts"]), (&"polling".into(), &0.into()), "{one:#}");
    assert_eq!((&one["status"], &one["processes"]), (&"online".into(), &7.into()), "its sum of RSS is above 400M");
    assert!(stead.groups().is_empty());
}
