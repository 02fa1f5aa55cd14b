//! stead as systemd runs it, by the unit that `startup` writes: from the first start to the next boot.

use crate::guest::{Guest, Said};
use serde_json::{Value, json};

const APP: &str = "\
#!/bin/sh
trap 'echo bye >>/var/lib/diary; exit 0' TERM
echo hello
while :; do sleep 1000 & wait; done
";

const ECOSYSTEM: &str = "apps:
  - {name: web, script: ./app.sh, kill_signal: SIGTERM, kill_timeout: 20s, max_memory_restart: 50M}
  - {name: idle, script: ./app.sh, autostart: false}
";

/// The values that a script prints as `KEY=value`, in their order.
fn values<'s>(said: &'s Said, key: &str) -> Vec<&'s str> {
    said.stdout.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn pids(lists: &[Value]) -> Vec<&Value> {
    lists.iter().map(|list| &list[0]["pid"]).collect()
}

#[test]
fn systemd_starts_stead_and_whatever_dies_all_that_was_wanted_is_there_again() {
    let Some(guest) = Guest::new().and_then(Guest::systemd) else { return };
    let folder = tempfile::Builder::new().prefix("stead-test-").tempdir().unwrap();
    let guest = guest.disk(&folder.path().join("disk.img")).memory_mb(384).limit_s(400);
    let first = guest.ok(&format!(
        "mkdir -p /srv/app && cd /srv/app
        cat >app.sh <<'END'\n{APP}END
        chmod +x app.sh
        cat >ecosystem.yaml <<'END'\n{ECOSYSTEM}END
        list() {{ eventually sh -c 'stead list --json | grep -q online'; stead list --json | cat; }}
        show() {{ systemctl show stead -p ActiveState,StatusText,NRestarts,Result; }}
        stead startup >&2
        systemctl start stead
        show
        stead start ecosystem.yaml >&2
        list

        : the daemon dies, and neither systemd nor an app notices
        daemon=$(stead ping --json | sed 's/.*\"daemon_pid\":\\([0-9]*\\).*/\\1/')
        kill -9 $daemon
        list
        show

        : the keeper dies, and systemd starts all anew
        kill -9 $(systemctl show stead -p MainPID --value)
        eventually sh -c 'systemctl show stead -p NRestarts | grep =1 && systemctl is-active stead'
        list
        stead why web --json --last 1 | cat

        : one that hangs is killed by the watchdog
        mkdir /etc/systemd/system/stead.service.d
        printf '[Service]\\nWatchdogSec=20\\nTimeoutAbortSec=1\\n' >/etc/systemd/system/stead.service.d/quick.conf
        systemctl daemon-reload
        rm -f /var/lib/diary
        systemctl stop stead
        echo diary=$(cat /var/lib/diary)
        systemctl start stead
        list
        before=$(systemctl show stead -p MainPID --value)
        kill -STOP $before
        eventually sh -c 'systemctl show stead -p NRestarts | grep =[1-9] && systemctl is-active stead'
        show
        list
        echo doubled=$(journalctl -u stead | grep -c hello)"
    ));
    let [started, daemon_died, keeper_died, why, again, hung] = &first.json()[..] else { panic!("{first:#?}") };
    let lists = [started, daemon_died, keeper_died, again, hung].map(Clone::clone);
    for list in &lists {
        assert_eq!((&list[0]["status"], &list[1]["status"]), (&json!("online"), &json!("stopped")), "{first:#?}");
        assert_eq!(list[0]["memory_enforcement"], "cgroup2", "the unit's group is delegated: {first:#?}");
    }
    let [a, b, c, d, e] = pids(&lists)[..] else { panic!("{first:#?}") };
    assert_eq!(a, b, "no app notices the daemon's end");
    assert!(b != c && c != d && d != e, "{first:#?}");
    assert_eq!(why["records"][0]["cause"], "lost", "{why:#}");
    assert_eq!(values(&first, "ActiveState"), ["active", "active", "active"], "{first:#?}");
    assert_eq!(values(&first, "StatusText")[0], "serves");
    assert_eq!(values(&first, "NRestarts")[..2], ["0", "0"], "{first:#?}");
    assert_eq!(values(&first, "diary"), ["bye"], "systemctl stop lets an app end by itself: {first:#?}");
    assert_eq!(values(&first, "doubled"), ["0"], "what apps write is in their logs, and not in the journal too");

    let second = guest.ok("eventually systemctl is-active stead
        eventually sh -c 'stead list --json | grep -q online'
        stead list --json | cat
        stead why web --json --last 1 | cat
        stead unstartup --now >&2
        ! systemctl is-active stead >&2
        ! ls /etc/systemd/system/stead.service /etc/systemd/system/*/stead.service 2>/dev/null");
    let [list, why] = &second.json()[..] else { panic!("{second:#?}") };
    assert_eq!((&list[0]["status"], &list[1]["status"]), (&json!("online"), &json!("stopped")), "{second:#?}");
    let record = &why["records"][0];
    assert_eq!((&record["cause"], &record["planned"]), (&json!("shutdown"), &json!(true)), "{why:#}");
    assert!(record["summary"].as_str().unwrap().contains("(uid 0, pid 1)"), "by systemd: {why:#}");
}
