//! Who may do what, who may see what, and where files may lie.

use crate::harness::{Stead, eventually, said, until};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    nix::unistd::getuid().is_root()
}

/// All below a folder, itself first.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(all_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn assert_private(home: &Path) {
    for path in all_below(home) {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.mode() & 0o777, expected, "{}", path.display());
    }
}

#[test]
fn the_home_is_its_owners_alone_also_under_umask_0_and_where_it_was_open_before() {
    let stead = Stead::new();
    std::fs::create_dir(&stead.home).unwrap();
    for folder in ["logs", "journal", "history"] {
        std::fs::create_dir(stead.home.join(folder)).unwrap();
        std::fs::set_permissions(stead.home.join(folder), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in ["lock", "stead.log"] {
        std::fs::write(stead.home.join(file), "").unwrap();
        std::fs::set_permissions(stead.home.join(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::set_permissions(stead.home.join("stead.log"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&stead.home, std::fs::Permissions::from_mode(0o755)).unwrap();
    stead.file("app.sh", "#!/bin/sh\numask > mask\necho out\necho err >&2\nexec sleep 1000\n");
    stead.file("ecosystem.yaml", "apps: [{name: app, script: ./app.sh, pid_file: ./app.pid, log_file: ./both.log}]\n");
    let mut shell = Command::new("sh");
    let script = format!("umask 0; {} start", env!("CARGO_BIN_EXE_stead"));
    shell.args(["-c", &script]).current_dir(&stead.work).env("STEAD_HOME", &stead.home).env_remove("STEAD_RUN");
    let started = said(shell);
    assert_eq!(started.status, Some(0), "{started:?}");
    until("all is written", || stead.log("app", "err") == "err\n" && stead.home.join("history/app.history").exists());
    stead.ok(["restart", "app"]);
    stead.ok(["save"]);
    assert_private(&stead.home);
    let mode = |name: &str| std::fs::metadata(stead.work.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("app.pid"), mode("both.log")), (0o644, 0o640), "elsewhere it can be read, never written");
    let mask = std::fs::read_to_string(stead.work.join("mask")).unwrap();
    assert_eq!(mask.trim().trim_start_matches('0'), "", "the app's umask is the user's");
}

/// Everything that stead shows or writes about an app whose environment has secrets.
#[test]
fn no_secret_of_the_environment_is_shown_or_kept_where_it_need_not_be() {
    let stead = Stead::new();
    stead.file("app.py", "import os, sys\nprint('with', os.environ['API_TOKEN'], os.environ['SHELL_SECRET'])\nsys.exit('refused: ' + os.environ['API_TOKEN'])\n");
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: app, script: ./app.py, max_restarts: 2, env: {API_TOKEN: tok-4711-xyz}, env_file: ./.env}\n  - {name: up, script: /bin/sleep, args: '1000', env: {API_TOKEN: tok-4711-xyz}}\n",
    );
    stead.file(".env", "DB_PASSWORD=pw-0815-abc\n");
    let secrets = ["tok-4711-xyz", "pw-0815-abc", "shell-1234-def"];
    let mut start = stead.command(["start"]);
    start.env("SHELL_SECRET", "shell-1234-def").env("STEAD_LOG", "debug");
    let started = said(start);
    stead.until_status("app", "errored");
    stead.file(
        "next.yaml",
        "apps:\n  - {name: up, script: /bin/sleep, args: '1000', env: {API_TOKEN: tok-4711-xyz, MORE_PASSWORD: pw-0815-abc}}\n",
    );
    let mut shown = vec![started.stdout, started.stderr];
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["jlist"],
        &["describe", "app"],
        &["describe", "app", "--json"],
        &["why", "app"],
        &["why", "app", "--json"],
        &["health"],
        &["health", "--json"],
        &["health", "--report"],
        &["start", "next.yaml", "--dry-run"],
        &["start", "next.yaml"],
        &["ping", "--json"],
        &["trend"],
    ] {
        let said = stead.run(args);
        shown.push(format!("stead {args:?}\n{}{}", said.stdout, said.stderr));
    }
    shown.push(stead.own_log());
    for path in all_below(&stead.home.join("journal")).into_iter().skip(1) {
        shown.push(std::fs::read_to_string(path).unwrap());
    }
    for text in &shown {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} stands in\n{text}");
        }
    }
    assert!(stead.own_log().contains("DEBUG"), "also where much is logged");
    assert!(stead.log("app", "out").contains("tok-4711-xyz"), "what an app writes to its log is its own affair");
    for args in [&["jlist", "--show-env"][..], &["describe", "up", "--show-env"]] {
        assert!(stead.ok(args).contains("tok-4711-xyz"), "{args:?}");
    }
}

#[test]
fn a_setuid_program_gains_nothing_where_no_new_privileges_is_set() {
    if !is_root() {
        eprintln!("SKIPPED, for only root can make a setuid program of root's");
        return;
    }
    let stead = Stead::new();
    let (work, folder) = (stead.work.clone(), stead.work.parent().unwrap());
    for path in [folder, &work] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = work.join("setuid-id");
    std::fs::copy("/usr/bin/id", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - &app {name: gains, script: ./setuid-id, user: nobody, autorestart: false}\n  - {<<: *app, name: not, no_new_privileges: true}\n",
    );
    stead.run(["start"]);
    until("both have ended", || !stead.log("gains", "out").is_empty() && !stead.log("not", "out").is_empty());
    let (gains, not) = (stead.log("gains", "out"), stead.log("not", "out"));
    if !gains.contains("euid=0") {
        eprintln!("SKIPPED, for the file system here lets no program be setuid: {gains}");
        return;
    }
    assert!(not.starts_with("uid=65534") && !not.contains("euid="), "{not}");
    // By supplementary groups neither.
    assert!(!not.contains("(root)"), "{not}");
}

#[test]
fn one_user_s_stead_is_not_driven_by_another_though_the_socket_can_be_reached() {
    if !is_root() {
        eprintln!("SKIPPED, for only root can try to be another user");
        return;
    }
    let stead = Stead::new();
    stead.start("apps: [{name: app, script: /bin/sleep, args: '1000'}]\n");
    let pid = stead.pid("app");
    let socket = stead.home.join("stead.sock");
    // As bad as it can be.
    for path in [stead.home.parent().unwrap(), &stead.home] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let ask = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(sys.argv[2].encode() + b' HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: 0\\r\\n\\r\\n')\nprint(s.makefile().read())\n";
    for request in ["GET /v1/list", "GET /v1/describe?target=app&show_env=1", "POST /v1/command"] {
        let mut other = Command::new("setpriv");
        let (uid, socket) = (NOBODY.to_string(), socket.display().to_string());
        other.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "python3", "-c", ask, &socket, request]);
        let answer = said(other.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").take());
        assert!(answer.stdout.starts_with("HTTP/1.1 409"), "{answer:?}");
        assert!(answer.stdout.contains("uid 65534 may not drive this stead (it belongs to uid 0)"), "{answer:?}");
    }
    assert_eq!(stead.pid("app"), pid);
}

/// A command, moved.
trait Take {
    fn take(&mut self) -> Command;
}

impl Take for Command {
    fn take(&mut self) -> Command {
        std::mem::replace(self, Command::new("true"))
    }
}

/// Roots stead, a folder of another user's below `work`, and a file that the other may not write.
fn beside_a_stranger() -> Option<(Stead, PathBuf, PathBuf)> {
    if !is_root() {
        eprintln!("SKIPPED, for root alone is in danger there");
        return None;
    }
    let stead = Stead::new();
    let theirs = stead.work.join("theirs");
    let precious = stead.file("precious", "precious\n");
    std::fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    Some((stead, theirs, precious))
}

fn link_of_theirs(target: &Path, link: &Path) {
    symlink(target, link).unwrap();
    std::os::unix::fs::lchown(link, Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
fn links_that_a_stranger_puts_in_the_way_of_roots_logs_and_pid_files_lead_nowhere() {
    let Some((stead, theirs, precious)) = beside_a_stranger() else { return };
    std::fs::create_dir(stead.work.join("ours")).unwrap();
    link_of_theirs(&stead.work.join("ours"), &theirs.join("dir"));
    link_of_theirs(&precious, &theirs.join("straight.log"));
    link_of_theirs(&precious, &theirs.join("index.log.idx"));
    link_of_theirs(&precious, &theirs.join("app.pid.new"));
    std::fs::hard_link(&precious, theirs.join("second.log")).unwrap();
    let app = |name: &str, file: &str| {
        format!(
            "  - {{name: {name}, script: /bin/sh, args: '-c \"echo x; exec sleep 1000\"', max_restarts: 2, error_file: /dev/null, out_file: {file}}}\n"
        )
    };
    stead.file(
        "ecosystem.yaml",
        &format!(
            "apps:\n{}{}{}{}  - {{name: pid, script: /bin/sleep, args: '1000', pid_file: ./theirs/app.pid}}\n",
            app("straight", "./theirs/straight.log"),
            app("through", "./theirs/dir/app.log"),
            app("second", "./theirs/second.log"),
            app("index", "./theirs/index.log"),
        ),
    );
    stead.run(["start"]);
    for name in ["straight", "through", "second"] {
        let one = stead.until_status(name, "errored");
        assert_eq!(one["last_exit"]["evidence"]["spawn"]["stage"], "log", "{one:#}");
    }
    until("it is written", || std::fs::read_to_string(theirs.join("index.log")).is_ok_and(|text| text == "x\n"));
    until("it is written", || {
        std::fs::read_to_string(theirs.join("app.pid")).is_ok_and(|text| text == format!("{}\n", stead.pid("pid")))
    });
    stead.ok(["flush"]);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious\n");
    assert_eq!(std::fs::read_dir(stead.work.join("ours")).unwrap().count(), 0);
    assert!(stead.own_log().contains("a symbolic link of another user's is on the way to it"), "{}", stead.own_log());
    assert!(stead.own_log().contains("it has a second name (a hard link)"), "{}", stead.own_log());
}

#[test]
fn an_app_that_puts_a_pipe_in_the_place_of_its_log_keeps_nobody_waiting() {
    let stead = Stead::new();
    stead.file("app.sh", "#!/bin/sh\necho words >&2\nrm -f app.err\nmkfifo app.err\nexit 3\n");
    stead.file("ecosystem.yaml", "apps: [{name: app, script: ./app.sh, error_file: ./app.err, autorestart: false}]\n");
    stead.run(["start"]);
    until("its end is known", || stead.newest_record("app")["exit_code"] == 3);
}

#[test]
fn what_is_no_socket_is_not_removed_for_one() {
    let stead = Stead::new();
    let precious = stead.file("precious", "precious\n");
    stead.file("ecosystem.yaml", "apps: [{name: app, script: /bin/sleep, args: '1000', listen: ./precious}]\n");
    let started = stead.run(["start"]);
    assert_eq!(started.status, Some(1), "{started:?}");
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious\n");
    assert_eq!(stead.newest_record("app")["evidence"]["spawn"]["errno"], "EADDRINUSE");
}

/// A connection, and what was sent on it.
fn sent(stead: &Stead, bytes: &[u8]) -> UnixStream {
    let mut stream = eventually("a place in the queue", || {
        UnixStream::connect(stead.home.join("stead.sock")).map_err(|error| error.to_string())
    });
    stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let _ = stream.write_all(bytes);
    stream
}

#[test]
fn clients_that_are_slow_or_mean_ill_slow_neither_restarts_nor_other_clients() {
    let stead = Stead::new();
    stead.kit();
    stead.file("app.py", "from kit import *\nnote(str(os.getpid()))\nforever()\n");
    stead.start("apps: [{name: app, script: ./app.py}]\n");
    until("it is up", || stead.diary("app").len() == 1);
    let command = b"POST /v1/command HTTP/1.1\r\nhost: x\r\n";
    let mut clients: Vec<UnixStream> = Vec::new();
    // Half a request; nothing; a body that does not come; one of 1 GB; chunks without an end; answers that nobody takes.
    let endless = [&command[..], b"transfer-encoding: chunked\r\n\r\n10000\r\n"].concat();
    let large = [&command[..], b"content-length: 1073741824\r\n\r\n"].concat();
    let missing = [&command[..], b"content-length: 1000000\r\n\r\n{"].concat();
    for n in 0..1000 {
        let bytes: &[u8] = match n % 6 {
            0 => b"GET /v1/li",
            1 => b"",
            2 => &missing,
            3 => &large,
            4 => &endless,
            _ => b"GET /v1/list HTTP/1.1\r\nhost: x\r\n\r\n",
        };
        clients.push(sent(&stead, bytes));
    }
    // Some go on and on.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = |head: Vec<u8>, piece: Vec<u8>| {
        let (stop, socket) = (stop.clone(), stead.home.join("stead.sock"));
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok(mut stream) = UnixStream::connect(&socket) else { continue };
                let _ = stream.set_write_timeout(Some(std::time::Duration::from_millis(200)));
                let mut sent = stream.write_all(&head);
                while sent.is_ok() && !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sent = stream.write_all(&piece);
                }
            }
        })
    };
    let chunk = [&b"10000\r\n"[..], &[b'['; 0x10000], b"\r\n"].concat();
    let floods = [
        flood([&command[..], b"transfer-encoding: chunked\r\n\r\n"].concat(), chunk),
        flood(b"GET /v1/list HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 65_536]),
        flood(Vec::new(), b"GET /v1/list HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
    ];
    let mut slowest = std::time::Duration::ZERO;
    for lives in 2..12 {
        let pid: i32 = stead.diary("app").last().unwrap().parse().unwrap();
        let killed = std::time::Instant::now();
        crate::harness::signal(pid, 9);
        until("it is back", || stead.diary("app").len() == lives);
        slowest = slowest.max(killed.elapsed());
    }
    let asked = std::time::Instant::now();
    let status = stead.instance("app")["status"].clone();
    let answered = asked.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert_eq!(status, "online");
    println!("a restart took {slowest:?} at most, an answer {answered:?}");
    let limit = std::time::Duration::from_secs(5);
    assert!(slowest < limit && answered < limit, "a restart took {slowest:?}, an answer {answered:?}");
    let resident = std::fs::read_to_string(format!("/proc/{}/status", stead.daemon_pid())).unwrap();
    let peak = resident.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(peak < 256 << 10, "{peak} KiB");
    let mut refused = String::new();
    let mut large = sent(&stead, &large);
    large.set_read_timeout(Some(crate::harness::LIMIT)).unwrap();
    let _ = large.read_to_string(&mut refused);
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("longer than 32M"), "{refused}");
}
