//! Who is told when something happens: real commands and a real HTTP server, those that fail among them.

use crate::harness::{Said, Stead, eventually, is_alive, said, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Appends what it is told to a file of lines.
const TELL: &str = "#!/bin/sh\ncat >> told.jsonl\n";

/// Rules that no shared machine breaks by itself.
const CALM: &str = "health: {memory: 100, swap: 100, disk: 100}\n";

/// What the command was told so far.
fn told(stead: &Stead) -> Vec<Value> {
    let text = std::fs::read_to_string(stead.work.join("told.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn events(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["event"].as_str().unwrap()).collect()
}

/// Waits for the first message of this event.
fn until_told(stead: &Stead, event: &str) -> Value {
    eventually(&format!("`{event}` is told"), || {
        let all = told(stead);
        all.iter().find(|one| one["event"] == event).cloned().ok_or_else(|| format!("{all:#?}\n{}", stead.own_log()))
    })
}

/// `stead notify test --json`, and its exit status.
fn test(stead: &Stead) -> (Option<i32>, Vec<Value>) {
    let said: Said = stead.run(["notify", "test", "--json"]);
    let tried = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.status, tried)
}

fn fault(tried: &Value) -> &str {
    tried["fault"].as_str().unwrap_or("none")
}

/// An HTTP server that answers every request by `answer`, and hands over what was POSTed.
struct Server {
    port: u16,
    posted: mpsc::Receiver<Value>,
    ends: Arc<AtomicBool>,
}

impl Server {
    /// `answer` of the number of the request; `None`: it says nothing, and keeps the connection.
    fn new(answer: impl Fn(usize) -> Option<&'static str> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ends = Arc::new(AtomicBool::new(false));
        let (tell, posted) = mpsc::channel();
        let over = ends.clone();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (body, mut stream) = read_post(stream);
                match answer(number) {
                    Some(answer) => write!(stream, "{answer}").unwrap(),
                    None => kept.push(stream),
                }
                let _ = tell.send(body);
            }
        });
        Server { port, posted, ends }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/secret", self.port)
    }

    fn next(&self) -> Value {
        self.posted.recv_timeout(crate::harness::LIMIT).expect("a POST comes")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn read_post(stream: TcpStream) -> (Value, TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        let lower = line.to_ascii_lowercase();
        length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (serde_json::from_slice(&body).unwrap_or_default(), reader.into_inner())
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const DOWN: &str =
    "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 13\r\nconnection: close\r\n\r\nout of order\n";

#[test]
fn each_occasion_is_told_once_with_its_record_and_repeats_are_not() {
    let stead = Stead::new();
    stead.file("tell.sh", TELL);
    stead.file("bad.py", "import time\ntime.sleep(0.3)\nraise KeyError('row 17')\n");
    stead.start(&format!(
        "{CALM}notify:\n- {{command: tell.sh, on: [restart, crash-loop, give-up]}}\napps:\n\
         - {{name: bad, script: bad.py, min_uptime: 100, autorestart: true}}\n\
         - {{name: quiet, script: bad.py, min_uptime: 100, notify: false}}\n\
         - {{name: job, script: /bin/false, autorestart: false}}\n"
    ));
    let first = until_told(&stead, "restart");
    assert_eq!(
        (&first["app"], &first["instance"], &first["cause"]),
        (&"bad".into(), &"bad".into(), &"exit-code".into())
    );
    assert_eq!((&first["version"], &first["count"], &first["verdict"]), (&1.into(), &1.into(), &"warning".into()));
    assert_eq!(first["record"]["run"], "bad#1", "{first:#}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(first["host"], host.trim());
    let text = first["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("{}: bad restarts: exited with code 1", host.trim())), "{text}");
    assert!(text.contains("KeyError"), "{text}");
    let crash_loop = until_told(&stead, "crash-loop");
    assert_eq!((&crash_loop["verdict"], &crash_loop["app"]), (&"critical".into(), &"bad".into()));
    let job = until_told(&stead, "give-up");
    assert_eq!((&job["app"], &job["cause"]), (&"job".into(), &"exit-code".into()));
    until("it goes on", || stead.instance("bad")["restarts"].as_u64().unwrap() >= 13);
    let all = told(&stead);
    let mut heard = events(&all);
    heard.sort_unstable();
    assert_eq!(heard, ["crash-loop", "give-up", "restart"], "one of each, and none of the silent app: {all:#?}");
    // A restart that somebody asks for is no news.
    stead.ok(["restart", "bad"]);
    stead.ok(["kill"]);
    assert_eq!(told(&stead).len(), 3);
}

#[test]
fn a_give_up_a_cap_and_a_kill_by_the_kernel_are_told() {
    let stead = Stead::new();
    stead.file("tell.sh", TELL);
    stead.file("grow.py", "import time\nkept = b'x' * (60 << 20)\ntime.sleep(1000)\n");
    stead.start(&format!(
        "{CALM}notify: {{command: [./tell.sh], on: [give-up, cap, oom]}}\napps:\n\
         - {{name: grow, script: grow.py, max_memory_restart: 30M, memory_max: 1G, restart_delay: 60s}}\n"
    ));
    let cap = until_told(&stead, "cap");
    assert_eq!((&cap["app"], &cap["cause"]), (&"grow".into(), &"memory-cap".into()));
    assert!(cap["text"].as_str().unwrap().contains("grow: restarted by stead at its memory cap"), "{cap:#}");
    if stead.instance("grow")["memory_enforcement"].as_str().unwrap().starts_with("cgroup") {
        stead.start("apps: [{name: outrun, script: grow.py, memory_max: 30M, restart_delay: 60s}]");
        let oom = until_told(&stead, "oom");
        assert_eq!((&oom["app"], &oom["cause"]), (&"outrun".into(), &"oom-kill".into()));
        assert!(oom["text"].as_str().unwrap().contains("outrun: "), "{oom:#}");
    } else {
        eprintln!("SKIPPED, for it needs groups of our own: a kill by the kernel is told");
    }
    stead.run(["start", "/bin/false", "--name", "broken", "--max-restarts", "3", "--no-wait"]);
    let gave_up = until_told(&stead, "give-up");
    assert_eq!((&gave_up["app"], &gave_up["verdict"]), (&"broken".into(), &"critical".into()));
    let text = gave_up["text"].as_str().unwrap();
    assert!(
        text.contains("broken is not started again: exited with code 1") && text.contains("max_restarts 3"),
        "{text}"
    );
}

#[test]
fn a_webhook_gets_the_same_body_and_is_asked_again_where_it_answers_500() {
    let server = Server::new(|number| Some(if number == 0 { DOWN } else { OK }));
    let stead = Stead::new();
    stead.start(&format!(
        "{CALM}notify: {{webhook: '{}', on: give-up}}\napps: [{{name: job, script: /bin/false, autorestart: false}}]\n",
        server.url()
    ));
    let (refused, taken) = (server.next(), server.next());
    assert_eq!((&refused["event"], &refused["app"]), (&"give-up".into(), &"job".into()), "{refused:#}");
    assert_eq!(refused, taken, "the very same again");
    assert!(taken["text"].is_string() && taken["record"]["evidence"].is_object());
}

#[test]
fn a_notifier_that_fails_is_told_in_health_and_heals_by_itself() {
    let works = Arc::new(AtomicBool::new(false));
    let seen = works.clone();
    let server = Server::new(move |_| Some(if seen.load(Ordering::Relaxed) { OK } else { DOWN }));
    let stead = Stead::new();
    stead.start(&format!(
        "{CALM}notify: [{{webhook: '{}'}}]\napps: [{{name: calm, script: sleep, args: '1000'}}]\n",
        server.url()
    ));
    assert_eq!(stead.run(["health"]).status, Some(0));
    let (status, tried) = test(&stead);
    assert_eq!((status, fault(&tried[0])), (Some(1), "answered 500 Internal Server Error: out of order"));
    assert_eq!(tried[0]["notifier"], format!("webhook http://127.0.0.1:{}", server.port), "the path is a secret");
    assert_eq!(server.next()["event"], "test");
    let health: Value = serde_json::from_str(&stead.run(["health", "--json"]).stdout).unwrap();
    let finding = &health["stead"]["findings"][0];
    assert_eq!(
        (&finding["area"], &finding["verdict"], &health["exit"]),
        (&"notify".into(), &"warning".into(), &1.into())
    );
    assert!(finding["reason"].as_str().unwrap().ends_with("answered 500 Internal Server Error: out of order"));
    let page = stead.run(["health"]);
    assert!(page.stdout.contains("stead: notify: webhook http://127.0.0.1:"), "{page:?}");
    works.store(true, Ordering::Relaxed);
    assert_eq!(test(&stead).0, Some(0));
    assert_eq!(stead.run(["health"]).status, Some(0));
    let said = stead.run(["notify", "test"]);
    assert!(said.stdout.starts_with("ok:     webhook http://127.0.0.1:"), "{said:?}");
}

#[test]
fn a_webhook_that_hangs_or_leads_elsewhere_or_is_not_there_is_a_fault_and_nobody_waits_for_it() {
    let hangs = Server::new(|_| None);
    let elsewhere = Server::new(|_| Some(OK));
    let to: &'static str = Box::leak(
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            elsewhere.url()
        )
        .into_boxed_str(),
    );
    let redirects = Server::new(move |_| Some(to));
    let nobody = crate::harness::free_port();
    let stead = Stead::new();
    stead.start(&format!(
        "{CALM}notify:\n- {{webhook: '{}', timeout: 400}}\n- webhook: '{}'\n- webhook: http://127.0.0.1:{nobody}/\n\
         apps: [{{name: calm, script: sleep, args: '1000'}}]\n",
        hangs.url(),
        redirects.url()
    ));
    let (status, tried) = test(&stead);
    assert_eq!(status, Some(1));
    assert_eq!(fault(&tried[0]), "did not answer within 400 ms");
    let leads = format!("answered 302 Found to {}, and stead follows nobody", elsewhere.url());
    assert!(fault(&tried[1]).starts_with(&leads), "{tried:#?}");
    assert!(fault(&tried[2]).to_lowercase().contains("refused"), "{tried:#?}");
    assert!(elsewhere.posted.try_recv().is_err(), "nothing came to the other host");
    // One that hangs for long keeps nobody waiting.
    stead.start(&format!(
        "{CALM}notify: [{{webhook: '{}', timeout: 10m}}]\napps:\n- {{name: calm, script: sleep, args: '1000'}}\n\
         - {{name: job, script: /bin/false, autorestart: false}}\n",
        hangs.url()
    ));
    until("the message is under way", || hangs.next()["event"] == "give-up");
    stead.ok(["restart", "calm"]);
    assert_eq!(stead.instance("calm")["status"], "online");
    stead.ok(["kill"]);
    assert_eq!(stead.processes(), [] as [i32; 0], "the courier left with stead");
}

/// Starts what never ends: in its group, in a session of its own, and by a double fork.
const LEAVES: &str = "#!/bin/bash\nsleep 2000 & echo $! >> pids\nsetsid sleep 2000 & echo $! >> pids\n\
    (setsid bash -c 'echo $$ >> pids; exec sleep 2000' &)\necho tried everything\n";

#[test]
fn a_command_that_forks_and_never_ends_leaves_nothing() {
    let stead = Stead::new();
    stead.file("stays.sh", &format!("{LEAVES}echo $$ >> pids\nexec sleep 2000\n"));
    stead.file("leaves.sh", LEAVES);
    let pids = |work: &Path| -> Vec<i32> {
        let text = std::fs::read_to_string(work.join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    stead.start(&format!(
        "{CALM}notify: [{{command: stays.sh, timeout: 2s}}]\napps: [{{name: calm, script: sleep, args: '1000'}}]\n"
    ));
    let (status, tried) = test(&stead);
    assert_eq!((status, fault(&tried[0])), (Some(1), "did not end within 2 s and was killed: tried everything"));
    let begun = pids(&stead.work);
    assert!(begun.len() >= 3 && begun.iter().all(|pid| !is_alive(*pid)), "{begun:?}");

    std::fs::remove_file(stead.work.join("pids")).unwrap();
    stead.start(&format!(
        "{CALM}notify: [{{command: leaves.sh, timeout: 2s}}]\napps: [{{name: calm, script: sleep, args: '1000'}}]\n"
    ));
    let (_, tried) = test(&stead);
    assert_eq!(fault(&tried[0]), "ended well, but what it left running was killed after 2 s: tried everything");
    assert!(pids(&stead.work).iter().all(|pid| !is_alive(*pid)));

    // Where the daemon is killed, its couriers end with it.
    std::fs::remove_file(stead.work.join("pids")).unwrap();
    stead.start(&format!(
        "{CALM}notify: [{{command: stays.sh, timeout: 10m, on: give-up}}]\napps:\n\
         - {{name: calm, script: sleep, args: '1000'}}\n- {{name: job, script: /bin/false, autorestart: false}}\n"
    ));
    until("it is under way", || pids(&stead.work).len() >= 3);
    stead.kill_daemon();
    until("nothing of it is left", || pids(&stead.work).iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_command_that_fails_says_so_by_its_last_line_and_one_that_reads_nothing_is_well() {
    let stead = Stead::new();
    stead.file("fails.sh", "#!/bin/sh\necho mail: no such host >&2\necho\nexit 3\n");
    stead.file("deaf.sh", "#!/bin/sh\nexec < /dev/null\nyes | head -c 10000000\n");
    stead.start(&format!(
        "{CALM}notify:\n- command: fails.sh\n- command: deaf.sh\n- command: cat > told.txt; kill -9 $$\n\
         apps: [{{name: calm, script: sleep, args: '1000'}}]\n"
    ));
    let (status, tried) = test(&stead);
    assert_eq!(status, Some(1));
    assert_eq!(fault(&tried[0]), "exited with code 3: mail: no such host");
    assert_eq!(tried[1]["fault"], Value::Null, "{tried:#?}");
    assert_eq!(fault(&tried[2]), "was ended by SIGKILL");
    let message = std::fs::read_to_string(stead.work.join("told.txt")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&message).unwrap()["event"], "test");
    let page = stead.run(["notify", "test"]);
    assert!(page.stdout.contains("failed: command fails.sh: exited with code 3: mail: no such host"), "{page:?}");
}

#[test]
fn without_notifiers_there_is_nothing_to_test() {
    let stead = Stead::new();
    let said = stead.run(["notify", "test"]);
    assert_eq!((said.status, said.stderr.starts_with("error: nobody is to be told")), (Some(1), true), "{said:?}");
}

#[test]
fn a_change_of_health_is_told_within_a_minute_for_the_app_and_for_the_whole() {
    let stead = Stead::new();
    stead.file("tell.sh", TELL);
    stead.start(&format!(
        "{CALM}notify: {{command: tell.sh, on: health}}\napps: [{{name: calm, script: sleep, args: '1000'}}]\n"
    ));
    stead.run(["start", "/bin/false", "--name", "broken", "--no-wait"]);
    stead.until_status("broken", "errored");
    let limit = std::time::Duration::from_secs(100);
    let all = crate::harness::eventually_within(limit, "the change is told", || match told(&stead) {
        all if all.len() >= 2 => Ok(all),
        all => Err(format!("{all:?}")),
    });
    assert_eq!(all[0]["app"], "broken");
    assert_eq!((&all[0]["verdict"], &all[0]["record"]), (&"critical".into(), &Value::Null));
    assert!(all[0]["text"].as_str().unwrap().contains(": broken is critical (was ok): gave up: 16 ends"), "{all:#?}");
    assert_eq!((&all[1]["app"], &all[1]["verdict"]), (&Value::Null, &"critical".into()));
    assert!(all[1]["text"].as_str().unwrap().contains(": health: critical (was ok): broken: gave up"), "{all:#?}");
}

#[test]
fn notifiers_outlive_the_daemon_and_a_file_without_them_changes_none() {
    let stead = Stead::new();
    stead.file("tell.sh", TELL);
    stead.start("notify: {command: tell.sh}\napps: [{name: calm, script: sleep, args: '1000'}]");
    stead.start("apps: [{name: other, script: sleep, args: '1000'}]");
    stead.kill_daemon();
    assert_eq!(test(&stead).0, Some(0));
    assert_eq!(events(&told(&stead)), ["test"]);
    stead.start("notify: false\napps: [{name: other, script: sleep, args: '1000'}]");
    assert_eq!(stead.run(["notify", "test"]).status, Some(1));
}

const TLS_SERVER: &str = "\
import http.server, ssl, sys
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(('127.0.0.1', 0), Hook)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('cert.pem', 'key.pem')
server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

#[test]
fn https_is_spoken_and_only_with_whom_the_machine_trusts() {
    let stead = Stead::new();
    let mut openssl = std::process::Command::new("openssl");
    openssl.current_dir(&stead.work).args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-newkey", "rsa:2048", "-keyout", "key.pem", "-out", "cert.pem"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]);
    match openssl.output() {
        Ok(made) => assert!(made.status.success(), "{made:?}"),
        Err(error) => return eprintln!("SKIPPED, for it needs openssl ({error}): https"),
    }
    stead.file("server.py", TLS_SERVER);
    let start = |trusted: Option<&str>| {
        let mut command = stead.command(["start", "server.py"]);
        trusted.into_iter().for_each(|file| {
            command.env("SSL_CERT_FILE", stead.work.join(file));
        });
        assert_eq!(said(command).status, Some(0));
        let port = eventually("the server listens", || {
            let log = stead.log("server", "out");
            log.lines().last().map(str::to_owned).ok_or_else(|| stead.log("server", "err"))
        });
        let ecosystem =
            format!("notify: [{{webhook: 'https://localhost:{port}/'}}]\napps: [{{script: sleep, args: '1000'}}]");
        stead.start(&ecosystem);
        test(&stead)
    };
    let (status, tried) = start(None);
    assert_eq!(status, Some(1));
    assert!(fault(&tried[0]).contains("certificate"), "{tried:#?}");
    stead.ok(["flush"]);
    stead.ok(["kill"]);
    let (status, tried) = start(Some("cert.pem"));
    assert_eq!((status, &tried[0]["fault"]), (Some(0), &Value::Null), "{tried:#?}");
}
