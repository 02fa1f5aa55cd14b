//! A reload over the sockets that stead holds: no request is lost, whatever the new run does.

use crate::harness::{LIMIT, Stead, children, eventually, free_port, freeze, is_alive, signal, until};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

/// Answers with its run. `/slow` waits until there is a file `go`. It ends on SIGTERM when it has answered whoever it had accepted.
const SERVER: &str = r#"
import os
if os.path.exists("broken"):
    raise RuntimeError("no such table: events")
import http.server, signal, socket, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            open("begun", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
        body = os.environ["STEAD_RUN"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *rest):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

server = Server(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
# Two runs wait for the same connection, and one of them finds it gone.
server.socket.settimeout(0)
server.timeout = 0.02
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
while not told:
    server.handle_request()
server.server_close()
"#;

const CONT: i32 = 18;

/// A stead with the app `web`, and its port.
fn served(attributes: &str) -> (Stead, u16) {
    let stead = Stead::new();
    let port = free_port();
    stead.file("server.py", SERVER);
    stead.start(&web(port, attributes));
    assert_eq!(get(port, "/").map(|run| run.ends_with("#1")), Ok(true));
    (stead, port)
}

fn web(port: u16, attributes: &str) -> String {
    format!("apps:\n  - {{name: web, script: server.py, listen: ['127.0.0.1:{port}'], {attributes}}}\n")
}

/// One request on a connection of its own: the body of its answer.
fn get(port: u16, path: &str) -> Result<String, String> {
    answer(ask(port, path)?)
}

fn ask(port: u16, path: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: stead\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    Ok(stream)
}

fn answer(mut stream: TcpStream) -> Result<String, String> {
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        // Whoever answers and closes before it has read all resets; the answer is there all the same.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(format!("read: {error}")),
        _ => {}
    }
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200") => {
            Ok(body.to_owned())
        }
        _ => Err(format!("no whole answer: {text:?}")),
    }
}

/// Clients that ask again and again.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    lost: Arc<Mutex<Vec<String>>>,
    /// Who writes knows that no request is under way.
    quiet: Arc<RwLock<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn begin(port: u16, path: &'static str, count: usize) -> Clients {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (lost, quiet) = (Arc::new(Mutex::new(Vec::new())), Arc::new(RwLock::new(())));
        let client = |_| {
            let (stop, answered, lost, quiet) = (stop.clone(), answered.clone(), lost.clone(), quiet.clone());
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let _asking = quiet.read().unwrap();
                    match get(port, path) {
                        Ok(_) => drop(answered.fetch_add(1, Relaxed)),
                        Err(error) => lost.lock().unwrap().push(error),
                    }
                }
            })
        };
        let threads = (0..count).map(client).collect();
        Clients { stop, answered, lost, quiet, threads }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// How many were answered; none may be lost.
    fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let lost = self.lost.lock().unwrap();
        let answered = self.answered.load(Relaxed);
        assert!(lost.is_empty(), "{} lost, {answered} answered; the first: {:?}", lost.len(), lost.first());
        answered
    }
}

/// The demo's virtual environment: `make test` provides it.
fn gunicorn() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/demo/.venv/bin/gunicorn");
    assert!(path.exists(), "{} is not there: contrib/demo/setup.sh makes it", path.display());
    path
}

/// The demo's Flask app under gunicorn, as the manual has it. `STEAD_RELOADS` says how often it is reloaded.
#[test]
fn a_reload_under_gunicorn_loses_no_request_and_a_kill_no_waiting_connection() {
    let gunicorn = gunicorn();
    let reloads: u64 = std::env::var("STEAD_RELOADS").ok().and_then(|count| count.parse().ok()).unwrap_or(8);
    let stead = Stead::new();
    let port = free_port();
    stead.start(&format!(
        "apps:
  - name: web
    cwd: {demo}
    script: {gunicorn}
    interpreter: none
    args: --config gunicorn.conf.py --workers 2 flask_app:app
    listen: ['127.0.0.1:{port}']
    kill_signal: SIGTERM
    kill_timeout: 500
    kill_mode: mixed
    min_uptime: 1s
    env: {{DEMO_DATA: {data}, PYTHONDONTWRITEBYTECODE: 1}}
",
        demo = gunicorn.ancestors().nth(3).unwrap().display(),
        gunicorn = gunicorn.display(),
        data = stead.work.join("data").display(),
    ));
    let clients = Clients::begin(port, "/healthz", 4);
    let mut kills = 0;
    for reload in 1..=reloads {
        let before = (clients.answered(), stead.pid("web"));
        stead.ok(["reload", "web"]);
        assert!(!is_alive(before.1), "the old run is gone when `reload` returns");
        until("requests are answered", || clients.answered() > before.0);
        if reload % 4 == 0 {
            killed_with_a_queue(&stead, port, &clients.quiet);
            kills += 1;
        }
    }
    let answered = clients.end();
    eprintln!("{reloads} reloads, {kills} kills with 20 waiting, {answered} requests answered, none lost");
    let why = stead.json(["why", "web", "--json"]);
    assert_eq!((&why["planned"], &why["unplanned"]), (&json!(reloads), &json!(kills)));
    for record in why["records"].as_array().unwrap() {
        assert!(["reload", "signal"].contains(&record["cause"].as_str().unwrap()), "{record:#}");
    }
}

/// SIGKILL while connections wait in the queue that nobody of the app has accepted: the next run serves them.
fn killed_with_a_queue(stead: &Stead, port: u16, quiet: &RwLock<()>) {
    let _nobody_asks = quiet.write().unwrap();
    let master = stead.pid("web");
    let tree: Vec<i32> = [vec![master], children(master)].concat();
    tree.iter().for_each(|pid| freeze(*pid));
    let waiting: Vec<TcpStream> = (0..20).map(|_| ask(port, "/healthz").unwrap()).collect();
    signal(master, 9);
    for stream in waiting {
        answer(stream).unwrap_or_else(|error| {
            let (said, own) = (stead.log("web", "err"), stead.own_log());
            panic!("a waiting connection is lost: {error}\n{:#}\n{said}\n{own}", stead.describe("web"))
        });
    }
    eventually("it is online again", || match stead.instance("web") {
        one if one["status"] == "online" && one["pid"] != json!(master) => Ok(()),
        one => Err(format!("{one:#}")),
    });
}

#[test]
fn the_old_run_answers_what_it_has_begun_and_the_new_one_the_rest() {
    let (stead, port) = served("min_uptime: 500");
    let slow = ask(port, "/slow").unwrap();
    until("it is at work", || stead.work.join("begun").exists());
    let reload = stead.begin(["reload", "web"]);
    eventually("the new run has taken over", || match stead.describe("web") {
        one if one["run"] == "web#2" => Ok(()),
        one => Err(format!("{one:#}")),
    });
    assert_eq!(stead.describe("web")["note"], "reloaded; web#1 ends what it has begun");
    for _ in 0..20 {
        assert_eq!(get(port, "/"), Ok("web#2".into()));
    }
    let again = stead.run(["reload", "web"]);
    assert_eq!(again.status, Some(1), "{again:?}");
    assert!(again.stderr.contains("it is being reloaded already"), "{again:?}");
    stead.file("go", "");
    assert_eq!(answer(slow), Ok("web#1".into()));
    let said = reload.end();
    assert_eq!((said.status, said.stdout.lines().next()), (Some(0), Some("~ reloaded web")), "{said:?}");
    let record = stead.newest_record("web");
    assert_eq!(
        (&record["run"], &record["cause"], &record["planned"]),
        (&json!("web#1"), &json!("reload"), &json!(true))
    );
    assert_eq!((&record["exit_code"], &record["next"]["action"]), (&json!(0), &json!("runs-on")));
    assert_eq!(stead.instance("web")["restarts"], 1);
}

#[test]
fn a_new_run_that_fails_leaves_the_old_one_alone_and_says_why() {
    let (stead, port) = served("min_uptime: 60s");
    let pid = stead.pid("web");
    let clients = Clients::begin(port, "/", 2);
    stead.file("broken", "");
    let said = stead.run(["reload", "web"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    for words in ["error: reload web: exited with code 1 after", "RuntimeError: no such table: events", "web#1 runs on"]
    {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    assert_eq!((stead.pid("web"), get(port, "/")), (pid, Ok("web#1".into())));
    let record = stead.newest_record("web");
    assert_eq!(
        (&record["run"], &record["cause"], &record["planned"]),
        (&json!("web#2"), &json!("exit-code"), &json!(false))
    );
    std::fs::remove_file(stead.work.join("broken")).unwrap();
    stead.start(&web(port, "min_uptime: 500"));
    stead.ok(["reload", "web"]);
    assert_eq!(get(port, "/"), Ok("web#3".into()));
    clients.end();
    assert_eq!(stead.newest_record("web")["evidence"]["stderr_tail"], json!([]));
}

#[test]
fn what_a_new_run_said_that_failed_is_not_taken_for_words_of_the_old_one() {
    let (stead, port) = served("min_uptime: 60s");
    stead.file("broken", "");
    assert_eq!(stead.run(["reload", "web"]).status, Some(1));
    std::fs::remove_file(stead.work.join("broken")).unwrap();
    signal(stead.pid("web"), 9);
    assert_eq!(get(port, "/"), Ok("web#3".into()));
    let record = stead.newest_record("web");
    assert_eq!((&record["run"], &record["evidence"]["stderr_tail"]), (&json!("web#1"), &json!([])), "{record:#}");
}

#[test]
fn a_daemon_that_is_killed_during_a_reload_is_followed_by_one_that_ends_it() {
    let (stead, port) = served("min_uptime: 500");
    let clients = Clients::begin(port, "/", 2);
    stead.ok(["reload", "web", "--no-wait"]);
    until("the new run is there", || stead.describe("web")["note"] == "is being reloaded; web#2 starts beside it");
    stead.kill_daemon();
    eventually("the new run has taken over", || match stead.describe("web") {
        one if one["run"] == "web#2" && one["note"].is_null() => Ok(()),
        one => Err(format!("{one:#}")),
    });
    let slow = ask(port, "/slow").unwrap();
    until("it is at work", || stead.work.join("begun").exists());
    stead.ok(["reload", "web", "--no-wait"]);
    until("the old run leaves", || stead.describe("web")["note"] == "reloaded; web#2 ends what it has begun");
    stead.kill_daemon();
    assert_eq!(stead.describe("web")["note"], "reloaded; web#2 ends what it has begun");
    stead.file("go", "");
    assert_eq!(answer(slow), Ok("web#2".into()));
    until("the old run is gone", || stead.describe("web")["note"].is_null());
    clients.end();
    let why = stead.json(["why", "web", "--json"]);
    let runs: Vec<&str> = why["records"].as_array().unwrap().iter().map(|one| one["run"].as_str().unwrap()).collect();
    assert_eq!((runs, &why["planned"]), (vec!["web#2", "web#1"], &json!(2)), "{why:#}");
    assert_eq!(stead.instance("web")["restarts"], 2);
}

#[test]
fn a_stop_during_a_reload_ends_both_runs() {
    let (stead, port) = served("min_uptime: 60s, kill_signal: SIGTERM");
    let reload = stead.begin(["reload", "web"]);
    until("the new run is there", || stead.describe("web")["note"] == "is being reloaded; web#2 starts beside it");
    stead.ok(["stop", "web"]);
    assert_eq!(reload.end().status, Some(1));
    until("nothing of it lives", || {
        !stead.processes().into_iter().any(|pid| crate::harness::variable(pid, "STEAD_NAME").is_some())
    });
    let waiting = ask(port, "/").unwrap();
    stead.ok(["start", "web"]);
    assert_eq!(answer(waiting), Ok("web#3".into()));
}

#[test]
fn a_run_that_does_not_leave_is_stopped_after_reload_timeout() {
    let (stead, port) = served("min_uptime: 500, reload_signal: SIGHUP, reload_timeout: 300, kill_signal: SIGTERM");
    stead.file("server.py", &SERVER.replace("told = []", "told = []\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)"));
    stead.ok(["restart", "web"]);
    assert_eq!(get(port, "/"), Ok("web#2".into()));
    stead.ok(["reload", "web"]);
    assert_eq!(get(port, "/"), Ok("web#3".into()));
    let record = stead.newest_record("web");
    assert_eq!(
        (&record["run"], &record["cause"], &record["exit_code"]),
        (&json!("web#2"), &json!("reload"), &json!(0))
    );
    let summary = record["summary"].as_str().unwrap();
    assert!(summary.ends_with("; SIGHUP did not end it within reload_timeout 300 ms"), "{summary}");
}

#[test]
fn instances_are_reloaded_one_after_another_and_one_that_fails_spares_the_rest() {
    let (stead, port) = served("min_uptime: 500, instances: 2");
    let clients = Clients::begin(port, "/", 2);
    stead.ok(["reload", "web"]);
    clients.end();
    let records = stead.json(["why", "web", "--json"])["records"].clone();
    let (first, second) = (&records[1], &records[0]);
    assert_eq!((&first["run"], &second["run"]), (&json!("web-0#1"), &json!("web-1#1")), "{records:#}");
    stead.start(&web(port, "min_uptime: 60s, instances: 2"));
    until("the last one has begun to answer", || get(port, "/") == Ok("web-1#2".into()));
    stead.file("broken", "");
    let said = stead.run(["reload", "web"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    let spared = "error: reload web-1: the reload of another instance failed; web-1#2 runs on";
    assert!(said.stderr.contains(spared), "{said:?}");
    for (name, run) in [("web-0", "web-0#2"), ("web-1", "web-1#2")] {
        assert_eq!(stead.describe(name)["run"], run);
    }
}

/// Says that it is ready unless there is a file `mute`; accepts in any case.
fn says_ready() -> String {
    let ready = "
if not os.path.exists('mute'):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as says:
        says.connect(os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))
        says.send(b'READY=1')
while not told";
    SERVER.replace("\nwhile not told", ready)
}

#[test]
fn a_new_run_that_is_given_up_answers_what_it_has_accepted() {
    let stead = Stead::new();
    let port = free_port();
    stead.file("server.py", &says_ready());
    stead.start(&web(port, "wait_ready: true, listen_timeout: 3s"));
    let old = stead.pid("web");
    stead.file("mute", "");
    let reload = stead.begin(["reload", "web"]);
    until("the new run is there", || stead.describe("web")["note"] == "is being reloaded; web#2 starts beside it");
    freeze(old);
    let slow = ask(port, "/slow").unwrap();
    until("the new run is at work", || stead.work.join("begun").exists());
    signal(old, CONT);
    until("the new run is given up", || stead.own_log().contains("signals run=\"web#2\" signal=SIGTERM to=Main"));
    stead.file("go", "");
    assert_eq!(answer(slow), Ok("web#2".into()));
    let said = reload.end();
    assert!(said.status == Some(1) && said.stderr.contains("web#1 runs on"), "{said:?}");
    assert_eq!((stead.pid("web"), get(port, "/")), (old, Ok("web#1".into())));
}

#[test]
fn ready_proves_a_new_run_at_once_and_one_that_does_not_say_so_is_ended() {
    let stead = Stead::new();
    let port = free_port();
    stead.file("server.py", &says_ready());
    stead.start(&web(port, "min_uptime: 60s, wait_ready: true, listen_timeout: 15s"));
    let clients = Clients::begin(port, "/", 2);
    stead.ok(["reload", "web"]);
    assert_eq!(get(port, "/"), Ok("web#2".into()));
    stead.file("mute", "");
    stead.start(&web(port, "min_uptime: 60s, wait_ready: true, listen_timeout: 500"));
    let said = stead.run(["reload", "web"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    for words in ["it was not ready in time", "web#2 runs on"] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    assert_eq!(stead.newest_record("web")["cause"], "start-timeout");
    assert_eq!(get(port, "/"), Ok("web#2".into()));
    clients.end();
}
