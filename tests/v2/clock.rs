//! Somebody sets the clock: what is shown moves with it, what is decided does not.

use crate::guest::Guest;
use serde_json::Value;

const ECOSYSTEM: &str = "apps:
  - {name: up, script: /usr/bin/sleep, args: '1000'}
  - {name: late, script: ./late.sh, restart_delay: 500, max_restarts: 1000}
";

#[test]
fn steps_of_the_clock_restart_nothing_and_move_no_delay() {
    let Some(guest) = Guest::new() else { return };
    let said =
        guest.file("late.sh", "#!/bin/sh\necho >>lives\n").file("ecosystem.yaml", ECOSYSTEM).ok("chmod +x late.sh
        stead start --no-wait ecosystem.yaml >&2
        more() { n=$(($(wc -l <lives) + $1)); eventually sh -c \"test \\$(wc -l <lives) -ge $n\"; }
        eventually test -e lives
        stead list --json
        date -s '+2 days' >&2
        more 3
        stead list --json
        date -s '-9 days' >&2
        more 3
        stead list --json
        stead why late --json
        stead health >&2 || true
        stead kill >&2");
    let [before, later, earlier, why] = &said.json()[..] else { panic!("{said:#?}") };
    let up = |list: &Value| list.as_array().unwrap().iter().find(|one| one["name"] == "up").unwrap().clone();
    for list in [later, earlier] {
        let (was, is) = (up(before), up(list));
        assert_eq!((&is["pid"], &is["restarts"], &is["status"]), (&was["pid"], &0.into(), &"online".into()), "{is:#}");
        assert!(is["uptime_ms"].as_u64().unwrap() < 600_000, "{is:#}");
    }
    let records = why["records"].as_array().unwrap();
    assert!(records.len() >= 6, "{why:#}");
    assert!(
        records.iter().all(|one| one["next"]["delay_ms"] == 500 && one["uptime_ms"].as_u64() < Some(60_000)),
        "{why:#}"
    );
}
