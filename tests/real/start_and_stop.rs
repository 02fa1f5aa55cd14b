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

#[test]
fn an_uncaught_exception_is_named_with_its_line() {
    let stead = Stead::new();
    stead.file("app.py", "def work(n):\n    raise ValueError(f'no row {n}')\n\nwork(4711)\n");
    stead.start("apps: [{name: app, script: app.py, autorestart: false}]");
    stead.until_status("app", "stopped");
    let record = stead.newest_record("app");
    assert_eq!((&record["cause"], &record["exit_code"]), (&"exit-code".into(), &1.into()), "{record:#}");
    let exception = &record["evidence"]["exception"];
    assert_eq!((&exception["type"], &exception["message"]), (&"ValueError".into(), &"no row 4711".into()));
    assert!(exception["location"].as_str().unwrap().ends_with("app.py:2"), "{exception}");
    assert_eq!(record["signature"], "ValueError: no row <n>");
}

#[test]
fn a_traceback_of_one_that_was_asked_to_end_is_no_exception_that_ended_it() {
    let stead = Stead::new();
    stead.file("app.py", "import time\nprint('up', flush=True)\nwhile True: time.sleep(1)\n");
    stead.start("apps: [{name: app, script: app.py}]");
    until("python is up", || stead.log("app", "out") == "up\n");
    stead.ok(["stop", "app"]);
    let record = stead.newest_record("app");
    assert_eq!((&record["cause"], &record["signature"]), (&"manual".into(), &serde_json::Value::Null), "{record:#}");
    assert_eq!(record["evidence"]["exception"], serde_json::Value::Null);
}
