//! The machine loses its power and boots again. What was wished is on the disk before the client hears that it is granted.

use crate::guest::{Guest, Said};
use serde_json::{Value, json};

const ECOSYSTEM: &str = "apps:
  - {name: web, script: ./web.sh}
  - {name: worker, script: ./web.sh}
  - {name: spare, script: ./web.sh}
";

#[test]
fn after_a_power_cut_the_wanted_set_comes_back_and_its_runs_are_lost_by_the_reboot() {
    let Some(guest) = Guest::new() else { return };
    let folder = tempfile::Builder::new().prefix("stead-test-").tempdir().unwrap();
    let guest = guest.disk(&folder.path().join("disk.img")).power_cut(true);
    let first = guest.ok(&format!(
        "export STEAD_HOME=/disk/home
        mkdir /disk/work
        cd /disk/work
        printf '#!/bin/sh\\nexec sleep 1000\\n' >web.sh
        chmod +x web.sh
        cat >ecosystem.yaml <<'END'\n{ECOSYSTEM}END
        sync
        cat /proc/sys/kernel/random/boot_id
        stead start ecosystem.yaml >&2
        stead list --json
        # Stands for the second within which the journal is synced.
        sync
        stead stop spare >&2"
    ));
    let second = guest.ok("export STEAD_HOME=/disk/home
        cat /proc/sys/kernel/random/boot_id
        stead list --json >&2
        eventually sh -c '! stead list --json | grep launching'
        stead list --json
        for name in web worker; do stead why $name --json; done
        stead kill >&2");
    let boot_id = |said: &Said| said.stdout.lines().next().unwrap().to_owned();
    assert_ne!(boot_id(&first), boot_id(&second));
    let [before] = &first.json()[..] else { panic!("{first:#?}") };
    let [after, records @ ..] = &second.json()[..] else { panic!("{second:#?}") };
    let told = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|one| json!([one["name"], one["status"], one["restarts"]])).collect()
    };
    let first_boot = [json!(["web", "online", 0]), json!(["worker", "online", 0]), json!(["spare", "online", 0])];
    let second_boot = [json!(["web", "online", 1]), json!(["worker", "online", 1]), json!(["spare", "stopped", 0])];
    assert_eq!((told(before), told(after)), (first_boot.into(), second_boot.into()), "{second:#?}");
    assert_eq!(records.len(), 2);
    for (why, was) in records.iter().zip(before.as_array().unwrap()) {
        assert_eq!((&why["name"], &why["total"]), (&was["name"], &json!(1)), "{why:#}");
        let record = &why["records"][0];
        assert_eq!((&record["cause"], &record["pid"]), (&json!("lost"), &was["pid"]), "{record:#}");
        assert_eq!(record["summary"], "ended while nothing watched: the machine restarted");
    }
}
