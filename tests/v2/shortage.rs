//! What a whole machine may be short of: only one of the test's own can be made so.

use crate::guest::Guest;
use serde_json::json;

const COUNT: &str = "import time
n = 0
while True:
    print(n, flush=True)
    n += 1
    time.sleep(0.02)
";

const ECOSYSTEM: &str = "apps:
  - {name: a, script: ./count.py, max_restarts: 2, exp_backoff_restart_delay: 100}
  - {name: b, script: ./count.py}
";

/// As an ordinary user's stead meets it: root is allowed more files than there may be.
#[test]
fn where_the_machines_table_of_files_is_full_apps_go_on_and_all_heals() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.file("count.py", COUNT).file("ecosystem.yaml", ECOSYSTEM).ok(r#"
        file=$(readlink -f "$(command -v stead)")
        while file=$(dirname "$file") && [ "$file" != / ]; do chmod a+rx "$file"; done
        export STEAD_HOME=/run/home/stead
        mkdir /run/home && chown -R 1000:1000 /run/home /run/work
        setpriv --reuid=1000 --regid=1000 --clear-groups stead start ecosystem.yaml >&2
        of() { stead ping --json | sed "s/.*\"$1\":\([0-9]*\).*/\1/"; }
        pid_of() { stead list --json | sed "s/.*\"name\":\"$1\"[^{}]*\"pid\":\([0-9]*\).*/\1/"; }
        are_up() { eventually sh -c 'test $(stead list --json | grep -o online | wc -l) = 2'; }
        has_ended() { eventually sh -c "! kill -0 $1"; }
        are_up
        stead ping --json | cat
        stead list --json | cat
        most=$(cat /proc/sys/fs/file-max)

        : no more than there are now
        cut -f1 /proc/sys/fs/file-nr >/proc/sys/fs/file-max
        a=$(pid_of a) && kill -9 $a && has_ended $a
        stead health --json | cat
        echo $most >/proc/sys/fs/file-max
        are_up

        : none at all
        a=$(pid_of a) daemon=$(of daemon_pid)
        echo 10 >/proc/sys/fs/file-max
        before=$(grep -c ENFILE $STEAD_HOME/stead.log || true)
        kill -9 $a
        eventually sh -c "test \$(grep -c ENFILE $STEAD_HOME/stead.log) -gt $((before + 3))"
        kill -9 $daemon && has_ended $daemon
        echo $most >/proc/sys/fs/file-max
        are_up
        stead ping --json | cat
        stead list --json | cat
        stead health --json | cat
        stead why a --json | cat
        stead stop all >&2
        awk '$1 != NR - 1 { print "gap at " NR; exit 1 }' $STEAD_HOME/logs/b.out.log
        stead kill >&2"#);
    let [began, before, edge, went_on, after, healed, why] = &said.json()[..] else { panic!("{said:#?}") };
    assert!(edge["verdict"].is_string(), "it answers: {edge:#}");
    assert_eq!(began["keeper_pid"], went_on["keeper_pid"], "{said:#?}");
    assert_ne!(began["daemon_pid"], went_on["daemon_pid"], "{said:#?}");
    assert_eq!((&after[1]["pid"], &after[1]["restarts"]), (&before[1]["pid"], &json!(0)), "b did not notice");
    assert_eq!(after[0]["status"], "online", "{after:#}");
    let findings = healed["stead"]["findings"].as_array().unwrap();
    assert!(findings.iter().all(|one| one["area"] == "daemon"), "only that a daemon was killed: {healed:#}");
    let records = why["records"].as_array().unwrap();
    let is_known =
        |one: &serde_json::Value| one["signal"] == "SIGKILL" || one["evidence"]["spawn"]["errno"] == "ENFILE";
    assert!(
        records.iter().all(is_known) && records.iter().filter(|one| one["signal"] == "SIGKILL").count() == 2,
        "{why:#}"
    );
    assert_eq!(records.len() as u64, after[0]["restarts"].as_u64().unwrap(), "{why:#}");
}
