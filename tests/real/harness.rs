//! A stead of a test's own: a home and a work folder that vanish, and with them every process that it started.

use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The one limit for whatever is waited for. These machines are shared and slow at times.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A stead with a home of its own.
pub struct Stead {
    pub home: PathBuf,
    /// Where its commands run, and where [`Stead::file`] writes.
    pub work: PathBuf,
    _folder: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// `None`: ended by a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Stead {
    pub fn new() -> Stead {
        let folder = tempfile::Builder::new().prefix("stead-test-").tempdir().unwrap();
        let (home, work) = (folder.path().join("home"), folder.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        Stead { home, work, _folder: folder }
    }

    /// Writes a file into the work folder; a script gets its mode by `#!`.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.work.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        if text.starts_with("#!") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        path
    }

    /// A command that is about to run `stead` with these arguments.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command
            .args(args)
            .current_dir(&self.work)
            .env("STEAD_HOME", &self.home)
            .env_remove("STEAD_RUN")
            .stdin(Stdio::null());
        command
    }

    /// Runs `stead` and waits for its end.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        said(self.command(args))
    }

    /// Begins `stead` without waiting for its end.
    pub fn begin<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Running {
        begun(self.command(args))
    }

    /// Begins `stead daemon` with these arguments and waits until it answers.
    pub fn foreground<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Foreground {
        let mut command = self.command(["daemon"]);
        command.args(args);
        self.foreground_by(command)
    }

    /// The same, by a command that ends in executing it.
    pub fn foreground_by(&self, mut command: Command) -> Foreground {
        let stderr = self.work.join("daemon.stderr");
        let file = std::fs::File::create(&stderr).unwrap();
        let child = command.env("STEAD_HOME", &self.home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let foreground = Foreground { child: child.spawn().unwrap(), stderr };
        eventually("stead daemon answers", || match self.run(["ping"]) {
            said if said.status == Some(0) => Ok(()),
            said => Err(format!("{said:?}\n{}", foreground.said())),
        });
        foreground
    }

    /// Runs `stead`, which must succeed; returns its stdout.
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A> + Debug) -> String {
        let shown = format!("{args:?}");
        let said = self.run(args);
        assert_eq!(said.status, Some(0), "stead {shown}: {said:#?}\n{}", self.own_log());
        said.stdout
    }

    /// Runs `stead`, which must succeed and print JSON.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A> + Debug) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Writes `ecosystem.yaml` and starts it; all must come online.
    pub fn start(&self, ecosystem: &str) {
        self.file("ecosystem.yaml", ecosystem);
        self.ok(["start", "ecosystem.yaml"]);
    }

    /// An element of `list --json`.
    pub fn instance(&self, name: &str) -> Value {
        let all = self.json(["list", "--json"]);
        let found = all.as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {all:#}"))
    }

    pub fn pid(&self, name: &str) -> i32 {
        let one = self.instance(name);
        one["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no pid: {one:#}")) as i32
    }

    /// `describe NAME --json`, its first element.
    pub fn describe(&self, name: &str) -> Value {
        self.json(["describe", name, "--json"])[0].clone()
    }

    /// The newest exit record of an app, as `why --json` has it.
    pub fn newest_record(&self, name: &str) -> Value {
        self.json(["why", name, "--json"])["records"][0].clone()
    }

    /// What an instance wrote. `which`: `out` or `err`.
    pub fn log(&self, name: &str, which: &str) -> String {
        let bytes = std::fs::read(self.home.join("logs").join(format!("{name}.{which}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn daemon_pid(&self) -> i32 {
        self.json(["ping", "--json"])["daemon_pid"].as_i64().unwrap() as i32
    }

    pub fn keeper_pid(&self) -> i32 {
        self.json(["ping", "--json"])["keeper_pid"].as_i64().unwrap() as i32
    }

    /// `ping --json`; waits for a daemon where none is there for the moment.
    pub fn ping(&self) -> Value {
        self.json(["ping", "--json"])
    }

    /// Kills the daemon, and waits until it is gone.
    pub fn kill_daemon(&self) {
        let pid = self.daemon_pid();
        signal(pid, 9);
        until("the daemon is gone", || !is_alive(pid));
    }

    /// The lines that an app itself wrote into `NAME.diary`.
    pub fn diary(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.work.join(format!("{name}.diary"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// `kit.py`, which the Python apps of these tests share.
    pub fn kit(&self) {
        self.file("kit.py", include_str!("kit.py"));
    }

    /// Waits until `name` has this status; returns the list's element.
    pub fn until_status(&self, name: &str, status: &str) -> Value {
        eventually(&format!("{name} is {status}"), || {
            let all = self.json(["list", "--json"]);
            let found = all.as_array().unwrap().iter().find(|one| one["name"] == name && one["status"] == status);
            found.cloned().ok_or_else(|| format!("{all:#}\n{}", self.own_log()))
        })
    }

    /// stead's own log.
    pub fn own_log(&self) -> String {
        std::fs::read_to_string(self.home.join("stead.log")).unwrap_or_default()
    }

    /// Every control group of this home.
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find_groups(Path::new("/sys/fs/cgroup"), &stead::os::cgroup::site::name(&self.home), &mut found);
        found
    }

    /// Gives home and work folder to another user.
    pub fn give_to(&self, uid: u32) {
        let folder = self.work.parent().unwrap();
        let below = std::fs::read_dir(&self.work).unwrap().flatten().map(|entry| entry.path());
        for path in below.chain([self.work.clone(), folder.to_owned()]) {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    /// Every process that belongs to this home.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("STEAD_HOME={}", self.home.display());
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()) && is_alive(*pid)
        };
        pids.filter(ours).collect()
    }
}

impl Drop for Stead {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("--- stead.log of the failed test\n{}", self.own_log());
        }
        if self.home.join("stead.sock").exists() {
            let _ = said(self.command(["kill"]));
        }
        let left = self.processes();
        let shown: Vec<String> = left.iter().map(|pid| format!("{pid} {}", command_line(*pid))).collect();
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| signal(pid, 9));
            pause();
        }
        // Of a keeper that a test killed; that an ordinary end leaves none has a test of its own.
        self.groups().iter().for_each(|group| remove_group(group));
        assert!(failing || left.is_empty(), "processes were left behind: {shown:?}\n{}", self.own_log());
    }
}

/// Runs a command to its end, within the limit.
pub fn said(command: Command) -> Said {
    begun(command).end()
}

/// A command that runs.
pub struct Running {
    command: Command,
    child: Child,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

/// Begins a command without waiting for its end.
pub fn begun(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    Running { command, child, stdout, stderr }
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it holds a socket: a client that has come to the daemon's door.
    pub fn until_connected(&self) {
        let fds = format!("/proc/{}/fd", self.child.id());
        let is_socket = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        until("the client is connected", || std::fs::read_dir(&fds).unwrap().flatten().any(is_socket));
    }

    /// Waits for its end, within the limit.
    pub fn end(mut self) -> Said {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LIMIT {
                self.child.kill().unwrap();
                let _ = self.child.wait();
                panic!("{:?} did not end within {LIMIT:?}", self.command);
            }
            pause();
        };
        Said { status: status.code(), stdout: self.stdout.join().unwrap(), stderr: self.stderr.join().unwrap() }
    }
}

/// A `stead daemon` in the foreground.
pub struct Foreground {
    child: Child,
    stderr: PathBuf,
}

impl Foreground {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end; returns its exit status.
    pub fn ended(&mut self) -> Option<i32> {
        eventually("stead daemon ends", || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err(self.said()),
        })
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it said on stderr.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        for number in [15, 9] {
            signal(self.pid(), number);
            let asked = Instant::now();
            while self.child.try_wait().unwrap().is_none() && asked.elapsed() < LIMIT / 3 {
                pause();
            }
        }
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn find_groups(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            match entry.file_name() == name {
                true => found.push(entry.path()),
                false => find_groups(&entry.path(), name, found),
            }
        }
    }
}

fn remove_group(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let begun = Instant::now();
    while std::fs::remove_dir(group).is_err() && group.exists() && begun.elapsed() < LIMIT {
        pause();
    }
}

/// Waits until `look` says yes, or panics with what it said last.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    eventually_within(LIMIT, what, look)
}

/// The same with another limit, for what is slow by design.
pub fn eventually_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(last) if begun.elapsed() > limit => panic!("not within {limit:?}: {what}\nat last: {last}"),
            Err(_) => pause(),
        }
    }
}

/// Waits until this holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || if holds() { Ok(()) } else { Err("it does not".into()) });
}

/// Between two looks.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// kill(2).
pub fn signal(pid: i32, number: i32) {
    let signal = nix::sys::signal::Signal::try_from(number).unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs, and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The daemon of a keeper as the kernel sees it, also one that does not answer yet.
pub fn daemon_of(keeper: i32) -> Option<i32> {
    children(keeper).into_iter().find(|pid| is_alive(*pid) && command_line(*pid).starts_with("stead daemon-worker "))
}

/// Stops a process by SIGSTOP, and waits until it stands still.
pub fn freeze(pid: i32) {
    signal(pid, 19);
    until("it stands still", || state(pid) == Some('T'));
}

/// The letter of /proc/PID/stat.
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A variable of a process' environment.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mark = format!("{name}=");
    let mut entries = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.find_map(|entry| entry.strip_prefix(&mark).map(str::to_owned))
}

/// Is there such a program, as some tests need? If not, says aloud what is not tested.
pub fn has_program(name: &str, what: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        // Past the capture of a test's output, which is shown of failed tests only.
        let _ = writeln!(std::io::stderr(), "SKIPPED, for there is no {name}: {what}");
    }
    found
}

/// Are we root, as some tests need? If not, says aloud what is not tested.
pub fn is_root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, for it needs root: {what}");
    }
    root
}
