//! When an app is online, whether it is well, and what must be there before it.

use crate::harness::{Stead, free_port, is_alive, signal, until};
use serde_json::{Value, json};

/// Serves `$PORT` after `$DELAY` seconds, says READY=1 where it can, and answers 503 while there is a file `ill`.
const WEB: &str = r#"
import http.server, os, socket, time
time.sleep(float(os.environ.get("DELAY", "0")))
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("ill") else 200)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
with open(os.environ["STEAD_NAME"] + ".port.new", "w") as file: file.write(str(server.server_address[1]))
os.rename(os.environ["STEAD_NAME"] + ".port.new", os.environ["STEAD_NAME"] + ".port")
notify = os.environ.get("NOTIFY_SOCKET")
if notify:
    said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    said.sendto(b"\xff" * 5000, "\0" + notify[1:])
    said.sendto(b"STATUS=up\nREADY=1", "\0" + notify[1:])
server.serve_forever()
"#;

fn apps(stead: &Stead, apps: &str) {
    stead.file("ecosystem.yaml", &format!("apps:\n{apps}"));
}

fn record(stead: &Stead, name: &str) -> Value {
    stead.json(["why", name, "--json"])["records"][0].clone()
}

#[test]
fn an_app_is_online_when_it_says_that_it_is_ready() {
    let stead = Stead::new();
    stead.file("web.py", WEB);
    apps(&stead, "  - {name: web, script: web.py, wait_ready: true, listen_timeout: 20s, env: {DELAY: 0.5}}\n");
    stead.ok(["start"]);
    assert!(stead.work.join("web.port").exists(), "`start` waits for READY=1");
    assert_eq!(stead.instance("web")["status"], "online");
}

#[test]
fn who_is_not_of_the_run_cannot_say_that_it_is_ready() {
    let stead = Stead::new();
    // It writes the socket's name for somebody else, and says nothing itself.
    stead.file("mute.sh", "#!/bin/sh\nprintf %s \"$NOTIFY_SOCKET\" > name.new; mv name.new name\nexec sleep 1000\n");
    apps(&stead, "  - {name: mute, script: ./mute.sh, wait_ready: true, listen_timeout: 2s, max_restarts: 1}\n");
    let start = stead.begin(["start"]);
    until("the name", || stead.work.join("name").exists());
    let name = std::fs::read_to_string(stead.work.join("name")).unwrap();
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address).unwrap();
    let said = start.end();
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("no READY=1 within listen_timeout 2 s"), "{said:?}");
    stead.until_status("mute", "errored");
    assert_eq!(record(&stead, "mute")["cause"], "start-timeout");
    let log = std::fs::read_to_string(stead.home.join("stead.log")).unwrap();
    assert!(log.contains("said READY=1, and no run of it is waited for"), "{log}");
}

#[test]
fn what_is_said_while_no_daemon_lives_is_heard() {
    let stead = Stead::new();
    stead.file("web.py", WEB);
    apps(&stead, "  - {name: web, script: web.py, wait_ready: true, listen_timeout: 20s, env: {DELAY: 1}}\n");
    stead.ok(["start", "--no-wait"]);
    let daemon = stead.json(["ping", "--json"])["daemon_pid"].as_i64().unwrap() as i32;
    signal(daemon, 9);
    stead.until_status("web", "online");
    assert_eq!(stead.instance("web")["restarts"], 0);
}

#[test]
fn an_app_that_is_not_well_is_restarted_with_its_last_answers_in_the_record() {
    let stead = Stead::new();
    let port = free_port();
    stead.file("web.py", &WEB.replace("(\"127.0.0.1\", 0)", &format!("(\"127.0.0.1\", {port})")));
    apps(
        &stead,
        &format!(
            "  - {{name: web, script: web.py, health_check: {{http: 'http://127.0.0.1:{port}/x', interval: 200, retries: 2, start_period: 20s}}}}\n"
        ),
    );
    stead.ok(["start"]);
    let first = stead.instance("web")["pid"].clone();
    stead.file("ill", "");
    until("it is restarted", || stead.instance("web")["restarts"] == 1);
    std::fs::remove_file(stead.work.join("ill")).unwrap();
    let record = record(&stead, "web");
    assert_eq!((&record["cause"], &record["planned"], &record["pid"]), (&json!("health-check"), &json!(false), &first));
    assert!(record["summary"].as_str().unwrap().contains("HTTP 503 Service Unavailable"), "{record}");
    let probe = &record["evidence"]["probe"];
    assert_eq!((&probe["failures"], &probe["check"]), (&json!(2), &json!(format!("http://127.0.0.1:{port}/x"))));
    stead.until_status("web", "online");
}

#[test]
fn a_command_that_hangs_or_never_stops_printing_is_bounded_and_leaves_nothing() {
    let stead = Stead::new();
    let check = |line: &str| format!("health_check: {{command: '{line}', interval: 200, timeout: 500, retries: 1}}");
    stead.file("app.sh", "#!/bin/sh\nexec sleep 1000\n");
    apps(
        &stead,
        &[
            format!(
                "  - {{name: hangs, script: ./app.sh, max_restarts: 1, {}}}\n",
                check("echo $$ > hangs.pid; sleep 1000")
            ),
            format!("  - {{name: prints, script: ./app.sh, max_restarts: 1, {}}}\n", check("yes")),
            format!(
                "  - {{name: fails, script: ./app.sh, max_restarts: 1, {}}}\n",
                check("echo $STEAD_NAME is ill >&2; exit 3")
            ),
            format!(
                "  - {{name: well, script: ./app.sh, {}}}\n",
                check("head -c 1000000 /dev/zero; test $STEAD_NAME = well")
            ),
        ]
        .concat(),
    );
    assert_eq!(stead.run(["start"]).status, Some(1));
    stead.until_status("well", "online");
    for (name, why) in [("hangs", "no answer within 500 ms"), ("prints", ""), ("fails", "exit code 3: fails is ill")] {
        stead.until_status(name, "errored");
        let record = record(&stead, name);
        assert_eq!(record["cause"], "health-check");
        assert!(record["summary"].as_str().unwrap().contains(why), "{record}");
    }
    let pid = std::fs::read_to_string(stead.work.join("hangs.pid")).unwrap().trim().parse().unwrap();
    until("the command is gone", || !is_alive(pid));
}

#[test]
fn apps_start_after_what_they_depend_on_and_stop_before_it() {
    let stead = Stead::new();
    let said = |word: &str| format!("echo {word} $STEAD_NAME >> order");
    stead.file(
        "app.sh",
        &format!("#!/bin/sh\ntrap '{}; exit 0' INT\n{}\nwhile :; do sleep 0.05; done\n", said("ends"), said("starts")),
    );
    stead.file("job.sh", &format!("#!/bin/sh\nsleep 0.3\n{}\n", said("did")));
    apps(
        &stead,
        "  - {name: front, script: ./app.sh, kill_mode: mixed, kill_timeout: 20s, depends_on: {back: started, job: done}}\n  - {name: back, script: ./app.sh, kill_mode: mixed, kill_timeout: 20s, depends_on: db}\n  - {name: db, script: ./app.sh, kill_mode: mixed, kill_timeout: 20s, autostart: false}\n  - {name: job, script: ./job.sh, autorestart: false, depends_on: [db]}\n",
    );
    let said = stead.ok(["start"]);
    assert!(said.contains("depends on it"), "{said}");
    stead.ok(["stop", "all"]);
    let order = std::fs::read_to_string(stead.work.join("order")).unwrap();
    let at = |what: &str| order.lines().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {order}"));
    for (first, then) in [
        ("starts db", "starts back"),
        ("starts db", "did job"),
        ("starts back", "starts front"),
        ("did job", "starts front"),
        ("ends front", "ends back"),
        ("ends back", "ends db"),
    ] {
        assert!(at(first) < at(then), "{first}, {then}: {order}");
    }
    stead.ok(["start", "back"]);
    assert_eq!(
        (&stead.instance("db")["status"], &stead.instance("front")["status"]),
        (&json!("online"), &json!("stopped"))
    );
}
