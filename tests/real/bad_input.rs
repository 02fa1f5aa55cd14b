//! Bad input gets a clear answer, and nothing else is disturbed.

use crate::harness::{Said, Stead, is_alive, said};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A stead with an app that nobody may touch.
struct Bystander {
    stead: Stead,
    pid: i32,
}

impl Bystander {
    fn new() -> Bystander {
        let stead = Stead::new();
        stead.start("apps: [{name: bystander, script: /bin/sleep, args: '1000'}]\n");
        let pid = stead.pid("bystander");
        Bystander { stead, pid }
    }

    /// Nothing but the bystander is there, and it is as it was.
    fn is_undisturbed(&self) {
        let all = self.stead.json(["list", "--json"]);
        assert_eq!(all.as_array().unwrap().len(), 1, "{all:#}");
        assert_eq!(
            (&all[0]["pid"], &all[0]["restarts"], &all[0]["status"]),
            (&json!(self.pid), &json!(0), &json!("online"))
        );
        assert_eq!(self.stead.json(["ping", "--json"])["daemon_starts"], 1);
    }

    /// `start` and `check` of this text are refused with these words, each on one line of the answer.
    fn refuses(&self, text: impl AsRef<[u8]>, words: &[&str]) {
        std::fs::write(self.stead.work.join("bad.yaml"), text).unwrap();
        for verb in ["check", "start"] {
            refused(&self.stead.run([verb, "bad.yaml"]), 2, words);
        }
        self.is_undisturbed();
    }

    /// The same for the lines of one app.
    fn refuses_app(&self, lines: &str, words: &[&str]) {
        self.refuses(format!("apps:\n  - name: web\n    {}\n", lines.replace('\n', "\n    ")), words);
    }
}

fn refused(said: &Said, status: i32, words: &[&str]) {
    assert_eq!(said.status, Some(status), "{said:#?}");
    assert!(said.stderr.starts_with("error: "), "{said:#?}");
    assert!(said.stderr.len() < 8000, "an answer is no flood: {}", said.stderr.len());
    assert!(!said.stderr.contains('\x1b') && !said.stderr.contains("panicked"), "{said:#?}");
    for word in words {
        assert!(said.stderr.lines().any(|line| line.contains(word)), "{word:?} is missing in {said:#?}");
    }
}

#[test]
fn a_file_that_is_missing_empty_or_no_list_of_apps() {
    let bystander = Bystander::new();
    for verb in ["start", "check"] {
        refused(
            &bystander.stead.run([verb, "gone.yaml"]),
            2,
            &["gone.yaml: could not be read: no such file or directory"],
        );
        refused(&bystander.stead.run([verb, "."]), 2, &["directory"]);
    }
    for (text, words) in [
        ("", &["bad.yaml: is empty", "hint: "][..]),
        ("# nothing\n", &["bad.yaml: is empty"]),
        ("hello\n", &["bad.yaml:1: ", "hint: "]),
        ("apps:\n", &["bad.yaml:1: apps: "]),
        ("apps: []\n", &["bad.yaml:1: apps: has no app"]),
        ("apps: {web: {script: sleep}}\n", &["bad.yaml:1: apps: "]),
        ("apps: [5]\n", &["bad.yaml:1: apps[0]: "]),
        ("apps: [{name: web}]\n", &["bad.yaml:1: apps[0]: `script` is missing"]),
        ("app: [{script: sleep}]\n", &["bad.yaml:1: app: unknown key", "did you mean `apps`?"]),
    ] {
        bystander.refuses(text, words);
    }
}

#[test]
fn a_file_that_is_no_yaml() {
    let bystander = Bystander::new();
    bystander.refuses("apps:\n\t- script: sleep\n", &["bad.yaml:2: a tab", "hint: "]);
    bystander.refuses("apps:\n  - name: \"web\n", &["bad.yaml:2: ", "quote"]);
    bystander.refuses("apps: *gone\n", &["bad.yaml:1: ", "alias"]);
    bystander.refuses(b"apps:\n  - name: \xff\n", &["bad.yaml:2: is not UTF-8"]);
    bystander.refuses(b"apps:\n  - name: a\0b\n", &["bad.yaml:2: "]);
}

#[test]
fn a_file_that_is_meant_to_hurt() {
    let bystander = Bystander::new();
    let mut bomb = String::from("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for level in 1..12 {
        let below = format!("*x{}, ", level - 1).repeat(10);
        writeln!(bomb, "x{level}: &x{level} [{below}]").unwrap();
    }
    bystander.refuses(bomb + "apps: *x11\n", &["bad.yaml"]);
    bystander.refuses("apps: &a [*a]\n", &["bad.yaml:1: ", "alias"]);
    bystander.refuses("[".repeat(10 << 20), &["bad.yaml"]);
    bystander.refuses("{a: ".repeat(1 << 20), &["bad.yaml"]);
    bystander.refuses("- ".repeat(1 << 20), &["bad.yaml"]);
    bystander.refuses("a".repeat(10 << 20), &["bad.yaml"]);
}

#[test]
fn values_of_a_wrong_kind_all_at_once() {
    let bystander = Bystander::new();
    bystander.refuses(
        "apps:
  - name: web
    script: /bin/sleep
    instances: many
    max_memory_restart: 300
    autorestart: sometimes
    env: [A=1]
    scirpt: y
    env: {}
  - name: web
    script: /bin/sleep
    kill_signal: SIGFOO
    restart_delay: 5 parsecs
",
        &[
            "bad.yaml:4: apps[0].instances: `many`",
            "bad.yaml:5: apps[0].max_memory_restart: 300 B is surely a mistake",
            "`300M`",
            "bad.yaml:6: apps[0].autorestart: ",
            "bad.yaml:8: apps[0].scirpt: unknown attribute",
            "did you mean `script`?",
            "bad.yaml:9: apps[0].env: ",
            "bad.yaml:10: apps[1].name: another app has the name `web`",
            "bad.yaml:12: apps[1].kill_signal: unknown signal `SIGFOO`",
            "bad.yaml:13: apps[1].restart_delay: `5 parsecs`",
        ],
    );
}

#[test]
fn a_program_that_cannot_run() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    stead.file("app.py", "");
    stead.file("data", "1, 2\n");
    std::fs::create_dir(stead.work.join("folder")).unwrap();
    for (lines, words) in [
        ("script: gone.py", &["bad.yaml:3: apps[0].script: ", "gone.py"][..]),
        ("script: ./gone", &["bad.yaml:3: apps[0].script: ", "/gone does not exist"]),
        ("script: data", &["bad.yaml:3: apps[0].script: ", "/data is not executable", "hint: "]),
        ("script: folder", &["bad.yaml:3: apps[0].script: ", "/folder is a directory"]),
        ("script: app.py\ninterpreter: snake", &["bad.yaml:4: apps[0].interpreter: ", "snake"]),
        ("script: app.py\ninterpreter: ./data", &["bad.yaml:4: apps[0].interpreter: ", "/data", "executable"]),
        ("script: app.py\ncwd: gone", &["bad.yaml:4: apps[0].cwd: ", "/gone: no such file or directory"]),
        ("script: /bin/sleep\ncwd: data", &["bad.yaml:4: apps[0].cwd: ", "/data"]),
        ("script: /bin/sleep\nenv_file: gone.env", &["bad.yaml:4: apps[0].env_file: ", "no such file or directory"]),
        ("script: /bin/sleep\nuser: nobody-here", &["bad.yaml:4: apps[0].user: there is no user `nobody-here`"]),
        ("script: /bin/sleep\ngroup: nobody-here", &["bad.yaml:4: apps[0].group: there is no group `nobody-here`"]),
        ("script: /bin/sleep\nexec_mode: cluster", &["bad.yaml:4: apps[0].exec_mode: ", "hint: "]),
    ] {
        bystander.refuses_app(lines, words);
    }
    refused(&stead.run(["start", "./gone.py"]), 2, &["gone.py"]);
    refused(&stead.run(["start", "app.py", "--interpreter", "snake"]), 2, &["--interpreter: ", "snake"]);
    refused(&stead.run(["start", "app.py", "--max-memory-restart", "300"]), 2, &["--max-memory-restart: ", "300M"]);
    bystander.is_undisturbed();
}

#[test]
fn a_name_that_is_none() {
    let bystander = Bystander::new();
    let long = "x".repeat(300);
    for (name, words) in [
        ("a/b", &["a/b"][..]),
        ("..", &[".."]),
        ("\"a\\nb\"", &["a\\nb"]),
        ("\"a\\e[31mb\"", &["name"]),
        ("all", &["all"]),
        ("-x", &["-x"]),
        ("''", &["empty"]),
        (&long, &["300", "200"]),
    ] {
        let words = [&["bad.yaml:1: apps[0].name: "], words].concat();
        bystander.refuses(format!("apps: [{{name: {name}, script: /bin/sleep}}]\n"), &words);
    }
    refused(&bystander.stead.run(["start", "/bin/sleep", "--name", "a/b"]), 2, &["--name: ", "a/b"]);
    refused(&bystander.stead.run(["start", "/bin/sleep", "--name", &long]), 2, &["--name: ", "300"]);
    bystander.is_undisturbed();
}

#[test]
fn a_name_that_another_has() {
    let bystander = Bystander::new();
    bystander.refuses(
        "apps:\n  - {name: a, script: /bin/sleep}\n  - {name: a, script: /bin/sleep}\n",
        &["bad.yaml:3: apps[1].name: another app has the name `a`: bad.yaml:2"],
    );
    bystander.refuses(
        "apps:\n  - {name: a-1, script: /bin/sleep}\n  - {name: a, script: /bin/sleep, instances: 2}\n",
        &["bad.yaml:2: apps[0].name: ", "`a-1`", "`a`"],
    );
    let stead = &bystander.stead;
    stead.file("clash.yaml", "apps: [{name: b, script: /bin/sleep, args: '1000', instances: 2}]\n");
    stead.ok(["start", "clash.yaml"]);
    refused(&stead.run(["start", "/bin/sleep", "--name", "b-1", "--", "1000"]), 2, &["b-1"]);
    stead.ok(["delete", "b"]);
    bystander.is_undisturbed();
}

#[test]
fn a_log_that_cannot_be_opened() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    stead.file("file", "");
    for (at, path) in ["file/x/out.log", "/proc/none/out.log", "/sys/out.log"].into_iter().enumerate() {
        stead.file(
            "bad.yaml",
            &format!(
                "apps:\n  - {{name: log{at}, script: /bin/sleep, args: '1000', out_file: {path}, restart_delay: 10m}}\n"
            ),
        );
        let answer = stead.run(["start", "bad.yaml"]);
        assert!(matches!(answer.status, Some(1 | 2)), "{answer:#?}");
        refused(&answer, answer.status.unwrap(), &[path]);
        let _ = stead.run(["delete", &format!("log{at}")]);
        bystander.is_undisturbed();
    }
}

#[test]
fn an_address_that_cannot_be_had() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    stead.file(
        "bad.yaml",
        &format!(
            "apps:\n  - {{name: web, script: /bin/sleep, args: '1000', listen: ['{address}'], restart_delay: 10m}}\n"
        ),
    );
    refused(&stead.run(["start", "bad.yaml"]), 1, &[&address, "in use"]);
    drop(taken);
    stead.ok(["start", "web"]);
    stead.ok(["delete", "web"]);
    bystander.refuses_app(
        "script: /bin/sleep\nlisten: ['localhost:99999']",
        &["bad.yaml:4: apps[0].listen: ", "65535", "hint: "],
    );
}

#[test]
fn a_home_that_cannot_be() {
    let stead = Stead::new();
    let file = stead.file("file", "");
    let with_home = |home: &Path, verb: &str| {
        let mut command = stead.command([verb]);
        command.env("STEAD_HOME", home);
        said(command)
    };
    let long = stead.work.join("x".repeat(120));
    refused(&with_home(&long, "list"), 1, &["107", "hint: choose a shorter STEAD_HOME"]);
    refused(&with_home(&file, "list"), 1, &["file is no folder"]);
    refused(&with_home(&file.join("below"), "list"), 1, &["file/below", "hint: "]);
    refused(&with_home(Path::new("/proc/none"), "list"), 1, &["/proc/none", "hint: "]);
    let open = stead.work.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    refused(&with_home(&open, "list"), 1, &["can be written by others", "hint: "]);
    assert!(!long.exists());
}

#[test]
fn a_home_of_another_user() {
    // Only root can give a folder away.
    if !nix::unistd::getuid().is_root() {
        return;
    }
    let stead = Stead::new();
    let theirs = stead.work.join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(65534), Some(65534)).unwrap();
    let mut list = stead.command(["list"]);
    list.env("STEAD_HOME", &theirs);
    refused(&said(list), 1, &["belongs to nobody", "you are root", "hint: "]);
    assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 0);
}

#[test]
fn another_user_is_kept_out() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::getuid().is_root() {
        return;
    }
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    // Nobody can get at the home by its path, and not at what lies in it.
    let parent = stead.home.parent().unwrap();
    std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = parent.join("stead");
    std::fs::copy(env!("CARGO_BIN_EXE_stead"), &program).unwrap();
    for verb in [&["list"][..], &["stop", "all"], &["ping"], &["logs"], &["kill"]] {
        let mut command = std::process::Command::new(&program);
        command.args(verb).env("STEAD_HOME", &stead.home).current_dir("/").uid(65534).gid(65534);
        let answer = said(command);
        refused(&answer, 1, &["home"]);
        bystander.is_undisturbed();
    }
}

/// One request in HTTP/1.1; returns status and body.
fn ask(stead: &Stead, protocol: Option<&str>, request: &str, body: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(stead.home.join("stead.sock")).unwrap();
    stream.set_read_timeout(Some(crate::harness::LIMIT)).unwrap();
    let header = protocol.map_or(String::new(), |protocol| format!("stead-protocol: {protocol}\r\n"));
    let head = format!(
        "{request} HTTP/1.1\r\nhost: stead\r\nconnection: close\r\n{header}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It may be refused before all of it is there.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_client_newer_or_older_than_the_daemon() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    let (status, body) = ask(stead, Some("99"), "GET /v1/list", b"");
    assert_eq!(status, 409);
    assert!(body.contains("99") && body.contains("only 1") && body.contains("hint"), "{body}");
    let (status, body) = ask(stead, Some("1"), "GET /v1/list", b"");
    assert!(status == 200 && body.contains("bystander"), "{body}");
    let (status, body) = ask(stead, None, "GET /v1/list", b"");
    assert!(status == 200 && body.contains("bystander"), "older than the header: {body}");
    bystander.is_undisturbed();
}

#[test]
fn requests_that_make_no_sense() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    for (request, body) in [
        ("GET /v1/nosuch", &b""[..]),
        ("DELETE /v1/list", b""),
        ("GET /v1/describe", b""),
        ("POST /v1/command", b""),
        ("POST /v1/command", b"{\"command\": {\"verb\": \"explode\"}, \"wait\": true, \"command_line\": \"\"}"),
        ("POST /v1/command", b"\xff\xfe"),
        ("POST /v1/command", &b"[".repeat(1 << 20)),
    ] {
        let (status, body) = ask(stead, Some("1"), request, body);
        assert_eq!(status, 400, "{request}: {body}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
    }
    let (status, body) = ask(stead, Some("1"), "GET /v1/describe?target=a%2Fb%00%1b[31m", b"");
    assert_eq!(status, 404, "{body}");
    let mut silent = UnixStream::connect(stead.home.join("stead.sock")).unwrap();
    silent.write_all(b"GET /v1/li").unwrap();
    let mut garbage = UnixStream::connect(stead.home.join("stead.sock")).unwrap();
    garbage.write_all(&[0; 4096]).unwrap();
    bystander.is_undisturbed();
}

#[test]
fn words_that_only_look_like_a_target() {
    let bystander = Bystander::new();
    let long = "x".repeat(5000);
    for target in ["bystandr", "", " ", "999999999999", "-1", "../bystander", "bystander-1", "\x1b[31mred", &long] {
        refused(&bystander.stead.run(["stop", "--", target]), 3, &["no app"]);
    }
    refused(&bystander.stead.run(["stop", "bystandr"]), 3, &["bystandr", "hint: did you mean `bystander`?"]);
    bystander.is_undisturbed();
}

#[test]
fn a_change_that_cannot_be_leaves_the_running_app() {
    let bystander = Bystander::new();
    let stead = &bystander.stead;
    stead.file(
        "ecosystem.yaml",
        "apps: [{name: bystander, script: ./gone}, {name: other, script: /bin/sleep, args: '1000'}]\n",
    );
    refused(&stead.run(["start"]), 2, &["ecosystem.yaml:1: apps[0].script: "]);
    bystander.is_undisturbed();
    assert!(is_alive(bystander.pid));
}
