//! `stead daemon` as a service: what its manager hears of it, and what is done when it is told to end.

use crate::harness::{
    Foreground, Stead, begun, children, eventually, freeze, has_program, is_alive, is_root, signal, until, variable,
};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const HUP: i32 = 1;
const INT: i32 = 2;
const TERM: i32 = 15;
const CONT: i32 = 18;

/// Who runs stead as a service.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn by_path(stead: &Stead) -> Manager {
        let path: PathBuf = stead.work.join("notify");
        Manager::of(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
    }

    fn by_abstract_name() -> Manager {
        let name = format!("stead-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Manager::of(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn of(socket: UnixDatagram, name: String) -> Manager {
        socket.set_nonblocking(true).unwrap();
        Manager { socket, name }
    }

    /// The next thing that is said, as its lines.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length =
            eventually("something is said", || self.socket.recv(&mut buffer).map_err(|error| error.to_string()));
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }
}

fn tells_its_manager(stead: &Stead, manager: &Manager) {
    stead.kit();
    stead.file("app.py", "from kit import *\nnote(os.environ['NOTIFY_SOCKET'])\nforever()\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py, wait_ready: true}\n");
    let mut command = stead.command(["daemon", "ecosystem.yaml"]);
    command.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "120000000");
    let mut foreground = stead.foreground_by(command);
    let ready = manager.heard();
    assert!(ready.contains(&"READY=1".to_owned()), "{ready:?}");
    let daemon = stead.daemon_pid();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        assert_eq!(variable(daemon, name), None, "{name} is meant for the keeper alone");
    }
    until("the app runs", || stead.diary("app").len() == 1);
    assert!(stead.diary("app")[0].starts_with("@stead-"), "an app's manager is stead: {:?}", stead.diary("app"));
    assert_eq!(manager.heard(), ["WATCHDOG=1"]);
    signal(foreground.pid(), TERM);
    let stopping = std::iter::repeat_with(|| manager.heard()).find(|said| *said != ["WATCHDOG=1"]).unwrap();
    assert!(stopping.contains(&"STOPPING=1".to_owned()), "{stopping:?}");
    assert_eq!(foreground.ended(), Some(0), "{}", foreground.said());
}

#[test]
fn a_manager_hears_that_stead_serves_lives_and_ends() {
    let stead = Stead::new();
    let manager = Manager::by_path(&stead);
    tells_its_manager(&stead, &manager);
}

#[test]
fn a_manager_with_an_abstract_socket_hears_the_same() {
    tells_its_manager(&Stead::new(), &Manager::by_abstract_name());
}

/// Ends when it may, after its stop signal.
const SLOW: &str = "
from kit import *
def end(*_):
    note('asked')
    wait_for('leave')
    note('bye')
    sys.exit(0)
signal.signal(signal.SIGINT, end)
note('run')
forever()
";

fn slow(stead: &Stead) -> Foreground {
    stead.kit();
    stead.file("app.py", SLOW);
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py, kill_timeout: 10m}\n");
    let foreground = stead.foreground(["ecosystem.yaml"]);
    until("the app runs", || stead.diary("app") == ["run"]);
    foreground
}

#[test]
fn a_second_signal_to_end_means_at_once() {
    let stead = Stead::new();
    let mut foreground = slow(&stead);
    let pid = stead.pid("app");
    signal(foreground.pid(), TERM);
    until("the app is asked to end", || stead.diary("app") == ["run", "asked"]);
    until("it has ended", || {
        signal(foreground.pid(), TERM);
        foreground.has_ended()
    });
    assert_eq!(foreground.ended(), Some(0), "{}", foreground.said());
    assert!(!is_alive(pid));
    assert_eq!(stead.diary("app"), ["run", "asked"], "it was not waited for");
}

#[test]
fn the_echo_of_a_signal_takes_nobody_s_grace() {
    let stead = Stead::new();
    let mut foreground = slow(&stead);
    // timeout(1) signals its child, then its whole group. Two of a kind may be one to the kernel.
    signal(foreground.pid(), TERM);
    signal(foreground.pid(), INT);
    until("the app is asked to end", || stead.diary("app") == ["run", "asked"]);
    // What came before is done when this is.
    let log = stead.home.join("logs/app.out.log");
    std::fs::remove_file(&log).unwrap();
    signal(foreground.pid(), HUP);
    until("the log is opened anew", || log.exists());
    stead.file("leave", "");
    assert_eq!(foreground.ended(), Some(0), "{}", foreground.said());
    assert_eq!(stead.diary("app"), ["run", "asked", "bye"]);
}

/// Two apps with their words on both streams, the second in files of its own.
fn talkers(stead: &Stead) {
    stead.kit();
    stead.file(
        "app.py",
        "
from kit import *
signal.signal(signal.SIGINT, lambda *_: (print('bye', flush=True), sys.exit(0)))
print('hello from', os.environ['STEAD_RUN'], flush=True)
print('trouble', file=sys.stderr, flush=True)
note('run')
forever()
",
    );
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: web, script: ./app.py, kill_timeout: 20s}
  - {name: worker, script: ./app.py, kill_timeout: 20s, output: ./own.log, error: ./own-err.log}
",
    );
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("INFO")).collect();
    lines.sort_unstable();
    lines
}

/// It asks where the logs are; here nobody is left who could answer.
#[test]
fn a_mirror_that_comes_to_its_turn_when_all_has_ended_copies_logs_outside_the_home_too() {
    let stead = Stead::new();
    talkers(&stead);
    let running = stead.begin(["daemon", "ecosystem.yaml"]);
    let is_mirror = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.windows(6).any(|word| word == b"mirror")
    };
    let mirror = || children(running.pid()).into_iter().find(is_mirror);
    until("the mirror is there", || mirror().is_some());
    let mirror = mirror().unwrap();
    freeze(mirror);
    for name in ["web", "worker"] {
        until("it runs", || stead.diary(name).len() == 1);
    }
    signal(running.pid(), TERM);
    until("all has ended", || children(running.pid()) == [mirror]);
    signal(mirror, CONT);
    let said = running.end();
    let out = ["web    | bye", "web    | hello from web#1", "worker | bye", "worker | hello from worker#1"];
    assert_eq!((said.status, sorted(&said.stdout)), (Some(0), out.to_vec()), "{said:?}");
}

#[test]
fn what_apps_write_comes_out_of_the_foreground_too_to_their_last_words() {
    let stead = Stead::new();
    talkers(&stead);
    for (life, how, before) in [(1, "auto", ["web    | ", "worker | "]), (2, "raw", ["", ""])] {
        let running = stead.begin(["daemon", "--app-logs", how, "ecosystem.yaml"]);
        for name in ["web", "worker"] {
            until("it runs", || stead.diary(name).len() == life);
        }
        signal(running.pid(), TERM);
        let said = running.end();
        assert_eq!(said.status, Some(0), "{said:?}");
        let mut out: Vec<String> = Vec::new();
        for (name, before) in ["web", "worker"].into_iter().zip(before) {
            out.extend([format!("{before}bye"), format!("{before}hello from {name}#{life}")]);
        }
        out.sort_unstable();
        assert_eq!(sorted(&said.stdout), out, "{said:?}");
        let err: Vec<String> = before.iter().map(|before| format!("{before}trouble")).collect();
        assert_eq!(sorted(&said.stderr), err, "{said:?}");
    }
    assert_eq!(stead.log("web", "out"), "hello from web#1\nbye\nhello from web#2\nbye\n");
    let quiet = stead.begin(["daemon", "--app-logs", "off"]);
    until("it runs", || stead.diary("web").len() == 3);
    signal(quiet.pid(), TERM);
    assert_eq!(quiet.end().stdout, "");
}

#[test]
fn as_pid_1_the_last_words_come_out_before_the_end() {
    let what = "stead as PID 1 of a namespace";
    if !is_root(what) || !has_program("unshare", what) {
        return;
    }
    let stead = Stead::new();
    talkers(&stead);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_stead"), "daemon", "ecosystem.yaml"]);
    command.current_dir(&stead.work).env("STEAD_HOME", &stead.home).env_remove("STEAD_RUN").stdin(Stdio::null());
    let running = begun(command);
    until("both run", || ["web", "worker"].iter().all(|name| stead.diary(name) == ["run"]));
    signal(children(running.pid())[0], TERM);
    let said = running.end();
    assert_eq!(said.status, Some(0), "{said:?}");
    let byes = said.stdout.lines().filter(|line| line.ends_with(" | bye")).count();
    assert_eq!(byes, 2, "{said:?}");
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up() {
    let stead = Stead::new();
    stead.kit();
    stead.file("app.py", "from kit import *\nfor n in range(40000):\n    print('line', n)\nnote('done')\nforever()\n");
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py}\n");
    let mut command = stead.command(["daemon", "ecosystem.yaml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until("all is written", || stead.diary("app") == ["done"]);
    until("all is in the file", || stead.log("app", "out").ends_with("line 39999\n"));
    signal(child.id() as i32, TERM);
    let status = eventually("it ends", || child.try_wait().unwrap().ok_or_else(|| "it does not".into()));
    assert_eq!(status.code(), Some(0));
}
