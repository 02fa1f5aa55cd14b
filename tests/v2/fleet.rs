//! A small fleet from its file to its end.

use crate::guest::Guest;
use serde_json::json;

const ECOSYSTEM: &str = "apps:
  - {name: web, script: ./web.sh}
  - {name: job, script: ./job.py, interpreter: python3}
";
const WEB: &str = "#!/bin/sh\necho \"hello from $(id -u)\"\nexec sleep 1000\n";
const JOB: &str = "import time\nprint('started')\ntime.sleep(1000)\n";

/// What stead started bears its mark, and nothing does at the end.
const STORY: &str = r#"
stead start ecosystem.yaml >&2
stead list --json
eventually sh -c 'stead logs --lines 5 | grep -q started'
stead logs --lines 5 >&2
cat $STEAD_HOME/logs/web.out.log $STEAD_HOME/logs/job.out.log
stead stop web >&2
stead list --json
stead why web --json
stead kill >&2
! grep -lsz "^STEAD_RUN=" /proc/[0-9]*/environ >&2
! test -e $STEAD_HOME/stead.sock
stead list --json
stead kill >&2
"#;

#[test]
fn a_fleet_of_root_s_lives_and_ends_under_cgroup_v2() {
    let Some(guest) = Guest::new() else { return };
    lives_and_ends(guest, 0);
}

#[test]
fn a_fleet_of_a_user_s_lives_and_ends_in_what_is_delegated() {
    let Some(guest) = Guest::new() else { return };
    lives_and_ends(guest.delegated(), 1000);
}

fn lives_and_ends(guest: Guest, uid: u32) {
    let guest = guest.file("ecosystem.yaml", ECOSYSTEM).file("web.sh", WEB).file("job.py", JOB);
    let said = guest.ok(STORY);
    assert!(said.stdout.contains(&format!("\nhello from {uid}\nstarted\n")), "{said:#?}");
    let [before, after, why, at_last] = &said.json()[..] else { panic!("{said:#?}") };
    let statuses = |list: &serde_json::Value| -> Vec<_> {
        list.as_array().unwrap().iter().map(|one| json!([one["name"], one["status"]])).collect()
    };
    assert_eq!(statuses(before), [json!(["web", "online"]), json!(["job", "online"])]);
    assert_eq!(statuses(after), [json!(["web", "stopped"]), json!(["job", "online"])]);
    assert_eq!(why["records"][0]["cause"], "manual");
    assert_eq!(why["records"][0]["actor"]["uid"], uid);
    assert_eq!(statuses(at_last), [json!(["web", "stopped"]), json!(["job", "stopped"])]);
}
