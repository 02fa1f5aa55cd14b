//! Caps and walls that hold on cgroup v2: a fleet with every kind of trouble in one guest, and groups that cannot be had in another.

use crate::guest::{Guest, Said};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

const MIB: u64 = 1 << 20;
const APPS: &str = include_str!("memory.py");
const SHELL: &str = "#!/bin/sh\npython3 memory.py burst\nexit $?\n";

/// Of stead's own log, for each `stead list` takes a good part of a guest's one CPU from those it waits for.
const HAVE_ENDED: &str = "#!/bin/sh\ntest \"$(grep -c ' ended run=' $STEAD_HOME/stead.log)\" = $1\n";

const FLEET: &str = "apps:
  - {name: bystander, script: /bin/sleep, args: '1000', max_memory_restart: 16M}
  - &app {name: leak, script: memory.py, args: leak, max_memory_restart: 24M, memory_max: 48M, kill_timeout: 20s, restart_delay: 1h}
  - {<<: *app, name: worker, args: worker}
  - {<<: *app, name: escape, args: escape}
  - {<<: *app, name: cache, args: cache}
  - {name: burst, script: memory.py, args: burst, max_memory_restart: 24M, kill_timeout: 60s, restart_delay: 1h}
  - &wall {name: shell, script: ./shell.sh, memory_max: 24M, restart_delay: 1h}
  - {<<: *wall, name: shell-alone, oom_policy: continue}
  - {<<: *wall, name: master, script: memory.py, args: master, oom_policy: continue}
  - {<<: *app, name: prefork, args: prefork, max_memory_restart: 60M, memory_max: 75M}
  - {<<: *app, name: bomb, args: bomb, max_memory_restart: 60M, memory_max: 75M, pids_max: 20}
";
const ENDING: [&str; 7] = ["leak", "worker", "escape", "cache", "burst", "shell", "shell-alone"];
const LASTING: [&str; 4] = ["bystander", "master", "prefork", "bomb"];

/// The last is the machine's own end of memory: an app without a cap takes all that is left.
const STORY: &str = "
eventually ./have-ended 7
for app in worker escape cache master prefork bomb; do eventually test -s $STEAD_HOME/logs/$app.out.log; done
! grep -lsz '^leak$' /proc/[0-9]*/cmdline >&2
for app in leak worker escape cache burst shell shell-alone; do stead why $app --json; done
stead list --json
stead ping --json
for app in worker escape cache master prefork bomb; do echo \"$app $(cat $STEAD_HOME/logs/$app.out.log)\"; done
stead start hog.yaml >&2
eventually ./have-ended 8
stead why hog --json
stead list --json
stead ping --json
stead kill >&2
find /sys/fs/cgroup -name 'stead-*'
sed 's/^/now in /' /proc/self/cgroup
";

#[test]
fn a_fleet_of_trouble_of_root_s_keeps_to_its_caps() {
    let Some(guest) = Guest::new() else { return };
    keeps_to_its_caps(guest, "stead start fleet.yaml");
}

#[test]
fn a_fleet_of_trouble_of_a_user_s_keeps_to_its_caps_in_what_is_delegated() {
    let Some(guest) = Guest::new() else { return };
    keeps_to_its_caps(guest.delegated(), "in-scope stead stead start fleet.yaml");
}

fn keeps_to_its_caps(guest: Guest, start: &str) {
    let folder = tempfile::Builder::new().prefix("stead-test-").tempdir().unwrap();
    let big = folder.path().join("big");
    // A hole is read as any other page, and costs the machine nothing.
    std::fs::File::create(&big).unwrap().set_len(500_000_000).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let guest =
        guest.memory_mb(448).limit_s(240).file("fleet.yaml", FLEET).file("memory.py", APPS).file("shell.sh", SHELL);
    let guest = guest
        .file("have-ended", HAVE_ENDED)
        .file("hog.yaml", "apps: [{name: hog, script: memory.py, args: hog, restart_delay: 1h}]\n");
    let said = guest.ok(&format!("export BIG={}\n{start} >&2\n{STORY}", big.display()));
    assert!(!said.stdout.contains("\n/sys/fs/cgroup/"), "a group was left behind: {}", said.stdout);
    let all = said.json();
    let [whys @ .., before, pong, hog, after, pong_after] = &all[..] else { panic!("{said:#?}") };
    let ends: Vec<&Value> = whys.iter().map(only_end).collect();
    assert_eq!(ends.iter().map(|end| &end["instance"]).collect::<Vec<_>>(), ENDING, "{said:#?}");
    for one in before.as_array().unwrap() {
        assert_eq!(one["memory_enforcement"], "cgroup2", "{one:#}");
    }
    for end in &ends {
        let (peak, wall) = (number(&end["memory"]["peak_bytes"]), number(&end["memory"]["wall_bytes"]));
        assert!(peak <= wall, "above its wall: {end:#}");
        assert_eq!((&end["planned"], &end["confidence"]), (&false.into(), &"certain".into()), "{end:#}");
    }
    let [leak, worker, escape, cache, burst, shell, shell_alone] = &ends[..] else { panic!("{said:#?}") };

    for (end, biggest) in [
        (leak, leak["pid"].to_string()),
        (worker, told(&said, "worker")),
        (escape, told(&said, "escape")),
        (cache, cache["pid"].to_string()),
    ] {
        assert_eq!(end["cause"], "memory-cap", "{end:#}");
        let crossing = &end["evidence"]["cap_crossing"];
        assert!((24 * MIB..=48 * MIB).contains(&number(&crossing["usage_bytes"])), "{end:#}");
        assert_eq!(crossing["processes"][0]["pid"].to_string(), biggest, "{end:#}");
        assert!(end["evidence"]["cap_crossed_at"].is_string(), "{end:#}");
        assert_eq!(end["evidence"]["oom"]["own"], 0, "{end:#}");
    }
    assert_eq!((&leak["signal"], &worker["signal"]), (&"SIGINT".into(), &"SIGINT".into()));
    assert_eq!(told(&said, "cache"), "read", "500 MB of page cache are no leak, and what comes then is one");

    for end in [burst, shell, shell_alone] {
        assert_eq!(end["cause"], "oom-kill", "{end:#}");
        let oom = &end["evidence"]["oom"];
        assert!(number(&oom["own"]) >= 1 && oom["host"] == 0 && oom["killed_name"] == "python3", "{end:#}");
        assert!(end["evidence"]["kernel_log"][0].as_str().unwrap().contains("CONSTRAINT_MEMCG"), "{end:#}");
    }
    assert_eq!((&burst["signal"], &shell["signal"]), (&"SIGKILL".into(), &"SIGKILL".into()), "a group dies as one");
    assert_eq!(burst["evidence"]["oom"]["killed_pid"], burst["pid"]);
    assert_eq!(number(&burst["memory"]["wall_bytes"]), 30 * MIB, "a quarter above the cap");
    assert_eq!(shell_alone["exit_code"], 137, "the shell lived on and told of its child: {shell_alone:#}");
    assert_ne!(shell_alone["evidence"]["oom"]["killed_pid"], shell_alone["pid"]);

    for name in LASTING {
        assert_eq!(life(before, name), ("online".into(), 0.into()), "{name} came to harm: {said:#?}");
    }
    assert!(told(&said, "master").ends_with(" 9"), "its worker was killed, and it was told: {said:#?}");
    let (sum, prefork) = (told(&said, "prefork").parse::<u64>().unwrap(), of(before, "prefork"));
    let (used, cap) = (number(&prefork["memory_bytes"]), number(&prefork["memory_cap_bytes"]));
    assert!(sum >= 3 * cap && (40 * MIB..cap).contains(&used), "the sum of RSS is {sum}: {prefork:#}");
    assert_eq!((told(&said, "bomb"), &of(before, "bomb")["processes"]), ("19 11".into(), &20.into()));

    let hog = only_end(hog);
    assert_eq!((&hog["cause"], &hog["confidence"]), (&"oom-kill-host".into(), &"certain".into()), "{hog:#}");
    let oom = &hog["evidence"]["oom"];
    assert!(oom["own"] == 0 && oom["host"] == 1 && oom["killed_pid"] == hog["pid"], "{hog:#}");
    assert!(hog["evidence"]["kernel_log"][0].as_str().unwrap().contains("global_oom"), "{hog:#}");
    assert_eq!(pong, pong_after, "keeper and daemon live on");
    for name in LASTING {
        assert_eq!(of(before, name)["pid"], of(after, name)["pid"], "{name} came to harm: {after:#}");
    }
}

/// What an app wrote, as the story shows it.
fn told(said: &Said, app: &str) -> String {
    let line = said.stdout.lines().find_map(|line| line.strip_prefix(app)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{app} said nothing: {said:#?}")).to_owned()
}

fn only_end(why: &Value) -> &Value {
    assert_eq!(why["total"], 1, "{why:#}");
    &why["records"][0]
}

fn of<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

fn life(list: &Value, name: &str) -> (Value, Value) {
    let one = of(list, name);
    (one["status"].clone(), one["restarts"].clone())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

const LEAK: &str = "apps:
  - {name: leak, script: memory.py, args: later, max_memory_restart: 24M, memory_max: 96M, restart_delay: 1h}
";

/// Shows how the app is watched, lets it leak, and shows how that ended.
const LEAKS: &str = "#!/bin/sh -eu
stead list --json
touch leak-now
eventually ./have-ended 1
rm leak-now
stead why leak --last 1 --json
";

#[test]
fn groups_that_root_cannot_have_or_loses_are_made_up_for() {
    let Some(guest) = Guest::new() else { return };
    let said = leaky(guest).ok("
        root=/sys/fs/cgroup
        mount -o remount,ro $root
        stead start leak.yaml >&2
        ./leaks.sh
        stead kill >&2
        mount -o remount,rw $root

        echo '-memory -pids -cpu' >$root/cgroup.subtree_control
        export STEAD_HOME=/run/another
        stead start leak.yaml >&2
        group=$(find $root -path '*/stead-*/leak.*' -type d)
        for pid in $(cat $group/cgroup.procs); do echo $pid >$root/cgroup.procs; done
        rmdir $group
        ./leaks.sh
        grep -o 'somebody removed its group.*' $STEAD_HOME/stead.log
        stead kill >&2
        find $root -name 'stead-*'
        echo \"given at last: $(cat $root/cgroup.subtree_control)\"
    ");
    assert_eq!(ends(&said), ["polling memory-cap", "polling memory-cap"], "{said:#?}");
    assert!(said.stdout.contains("somebody removed its group: its memory is polled run=\"leak#1\"\n"), "{said:#?}");
    assert!(said.stdout.ends_with("\ngiven at last: \n"), "what was switched on is switched off: {said:#?}");
    assert!(!said.stdout.contains("\n/sys/fs/cgroup/"), "a group was left behind: {said:#?}");
}

/// Where a shell is in the group it cannot give controllers; where cpu and pids are given but no memory, apps must start all the
/// same; a client in a scope of its own does not stand in its keeper's way.
#[test]
fn a_user_s_caps_hold_by_polling_until_a_scope_with_memory_is_there() {
    let Some(guest) = Guest::new() else { return };
    let said = leaky(guest.delegated()).ok("
        own=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice
        stead start leak.yaml >&2
        ./leaks.sh
        stead list | grep polling
        stead kill >&2

        echo -memory >$own/cgroup.subtree_control
        export STEAD_HOME=$XDG_RUNTIME_DIR/second
        in-scope without-memory stead start leak.yaml >&2
        ./leaks.sh
        stead kill >&2

        echo +memory >$own/cgroup.subtree_control
        export STEAD_HOME=$XDG_RUNTIME_DIR/third
        in-scope with-memory stead start leak.yaml >&2
        ./leaks.sh
        stead kill >&2
        find /sys/fs/cgroup -name 'stead-*'
    ");
    assert_eq!(ends(&said), ["polling memory-cap", "polling memory-cap", "cgroup2 memory-cap"], "{said:#?}");
    assert!(said.stdout.contains("memory caps are kept by polling: stead has no cgroup to itself here\n"), "{said:#?}");
    assert!(!said.stdout.contains("\n/sys/fs/cgroup/"), "a group was left behind: {said:#?}");
}

fn leaky(guest: Guest) -> Guest {
    let guest = guest.limit_s(240).file("memory.py", APPS).file("leak.yaml", LEAK);
    guest.file("have-ended", HAVE_ENDED).file("leaks.sh", LEAKS)
}

/// Who kept the cap, and what the newest end is called, for each time that it leaked.
fn ends(said: &Said) -> Vec<String> {
    let all = said.json();
    let pairs = all.chunks(2).map(|pair| {
        let [list, why] = pair else { panic!("{said:#?}") };
        let end = &why["records"][0];
        let usage = number(&end["evidence"]["cap_crossing"]["usage_bytes"]);
        assert!((24 * MIB..96 * MIB).contains(&usage) && end["confidence"] == "certain", "{end:#}");
        format!("{} {}", list[0]["memory_enforcement"].as_str().unwrap(), end["cause"].as_str().unwrap())
    });
    pairs.collect()
}
