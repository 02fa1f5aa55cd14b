//! From the file to running processes and back.

use crate::harness::{Stead, is_alive, until};

#[test]
fn a_file_is_started_listed_stopped_and_forgotten() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\necho hello\nexec sleep 1000\n");
    stead.start("apps:\n  - name: web\n    script: ./app.sh\n");
    let web = stead.instance("web");
    assert_eq!((&web["status"], &web["restarts"]), (&"online".into(), &0.into()));
    let pid = stead.pid("web");
    until("its line is in the log", || stead.log("web", "out") == "hello\n");
    stead.ok(["stop", "web"]);
    assert!(!is_alive(pid));
    assert_eq!(stead.instance("web")["status"], "stopped");
    assert_eq!(stead.newest_record("web")["cause"], "manual");
    stead.ok(["delete", "web"]);
    assert_eq!(stead.json(["list", "--json"]), serde_json::json!([]));
}

#[test]
fn starting_the_same_file_again_leaves_what_runs_alone() {
    let stead = Stead::new();
    let file =
        "apps:\n  - {name: a, script: /bin/sleep, args: '1000'}\n  - {name: b, script: /bin/sleep, args: '1000'}\n";
    stead.start(file);
    let before = (stead.pid("a"), stead.pid("b"));
    stead.start(file);
    assert_eq!((stead.pid("a"), stead.pid("b")), before);
    stead.start(&file.replacen("1000", "2000", 1));
    assert_ne!(stead.pid("a"), before.0, "its arguments changed");
    assert_eq!(stead.pid("b"), before.1);
    assert_eq!(stead.newest_record("a")["cause"], "config-change");
}
