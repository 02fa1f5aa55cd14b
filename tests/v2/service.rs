//! stead as systemd runs it, by the unit that `startup` writes: from the first start to the next boot.

use crate::guest::{Guest, Said};
use serde_json::{Value, json};
use std::io::Write;

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

        : a reload puts another stead in its place
        systemctl reload stead
        list

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
    let [started, daemon_died, reloaded, keeper_died, why, again, hung] = &first.json()[..] else {
        panic!("{first:#?}")
    };
    let lists = [started, daemon_died, reloaded, keeper_died, again, hung].map(Clone::clone);
    for list in &lists {
        assert_eq!((&list[0]["status"], &list[1]["status"]), (&json!("online"), &json!("stopped")), "{first:#?}");
        assert_eq!(list[0]["memory_enforcement"], "cgroup2", "the unit's group is delegated: {first:#?}");
    }
    let [a, b, reloaded, c, d, e] = pids(&lists)[..] else { panic!("{first:#?}") };
    assert_eq!((a, a), (b, reloaded), "no app notices the daemon's end");
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

/// The user's own systemd, as login manager and lingering bring it up. `as-user` runs a command in its surroundings.
const USER_MANAGER: &str = r#"
    rm -f /usr/lib/systemd/user-environment-generators/* /usr/lib/systemd/user-generators/*
    cd /.old/lib/systemd/system
    cp user@.service user-runtime-dir@.service user.slice dbus.service dbus.socket /etc/systemd/system/
    cd /etc/systemd/system
    printf '[Service]\nType=dbus\nBusName=org.freedesktop.login1\nExecStart=/lib/systemd/systemd-logind\n' >systemd-logind.service
    ln -s systemd-logind.service dbus-org.freedesktop.login1.service
    ln -s ../systemd-logind.service multi-user.target.wants/
    printf 'account required pam_permit.so\nsession optional pam_systemd.so\n' >/etc/pam.d/systemd-user
    grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo 'somebody:x:1000:1000::/home/somebody:/bin/sh' >>/etc/passwd
    name=$(getent passwd 1000 | cut -d: -f1) home=$(getent passwd 1000 | cut -d: -f6)
    mkdir -p $home && chown 1000:1000 $home
    file=$(readlink -f "$(command -v stead)")
    while file=$(dirname "$file") && [ "$file" != / ]; do chmod a+rx "$file"; done
    cat >/usr/local/bin/as-user <<END
#!/bin/sh
exec setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=$home USER=$name XDG_RUNTIME_DIR=/run/user/1000 "\$@"
END
    chmod 755 /usr/local/bin/as-user
    systemctl daemon-reload
    systemctl start systemd-logind
    loginctl enable-linger $name
    eventually systemctl is-active user@1000
    cd $home
"#;

#[test]
fn a_users_systemd_starts_stead_reloads_it_in_place_and_brings_it_back_at_boot_without_a_login() {
    let Some(guest) = Guest::new().and_then(Guest::systemd) else { return };
    let needed = ["/usr/bin/dbus-daemon", "/lib/systemd/systemd-logind", "/lib/systemd/systemd-user-runtime-dir"];
    if let Some(missing) = needed.iter().find(|path| !std::path::Path::new(path).exists()) {
        // Past the capture of a test's output, which is shown of failed tests only.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a user's systemd: there is no {missing} (Debian: dbus, libpam-systemd)"
        );
        return;
    }
    let folder = tempfile::Builder::new().prefix("stead-test-").tempdir().unwrap();
    let guest = guest.disk(&folder.path().join("disk.img")).memory_mb(384).limit_s(400);
    let first = guest.ok(&format!(
        "{USER_MANAGER}
        cat >app.sh <<'END'\n{APP}END
        chmod +x app.sh
        cat >ecosystem.yaml <<'END'\n{ECOSYSTEM}END
        as-user stead startup --now >&2
        as-user stead start ecosystem.yaml >&2
        as-user stead list --json | cat
        as-user stead ping --json | cat
        as-user systemctl --user reload stead
        as-user stead list --json | cat
        as-user stead ping --json | cat
        as-user systemctl --user show stead -p MainPID,ActiveState,NRestarts"
    ));
    let [list, ping, reloaded, pong] = &first.json()[..] else { panic!("{first:#?}") };
    for list in [list, reloaded] {
        let web = &list[0];
        assert_eq!((&web["status"], &web["memory_enforcement"]), (&json!("online"), &json!("cgroup2")), "{first:#?}");
    }
    assert_eq!((&list[0]["pid"], &ping["keeper_pid"]), (&reloaded[0]["pid"], &pong["keeper_pid"]), "{first:#?}");
    assert_ne!(ping["daemon_pid"], pong["daemon_pid"], "{first:#?}");
    assert_eq!(values(&first, "MainPID"), [pong["keeper_pid"].to_string()]);
    assert_eq!((values(&first, "ActiveState"), values(&first, "NRestarts")), (vec!["active"], vec!["0"]), "{first:#?}");

    let second = guest.ok("eventually systemctl is-active user@1000
        eventually as-user sh -c 'stead list --json | grep -q online'
        as-user systemctl --user show stead -p MainPID
        as-user stead ping --json | cat
        as-user stead list --json | cat
        as-user stead why web --json --last 1 | cat
        as-user stead unstartup --now >&2
        ! as-user systemctl --user is-active stead >&2");
    let [ping, list, why] = &second.json()[..] else { panic!("{second:#?}") };
    assert_eq!(values(&second, "MainPID"), [ping["keeper_pid"].to_string()], "by its unit");
    assert_eq!((&list[0]["status"], &list[1]["status"]), (&json!("online"), &json!("stopped")), "{second:#?}");
    let record = &why["records"][0];
    assert_eq!((&record["cause"], &record["planned"]), (&json!("shutdown"), &json!(true)), "{why:#}");
    assert!(record["summary"].as_str().unwrap().contains("systemd --user"), "{why:#}");
}
