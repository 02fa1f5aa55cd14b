//! A stead of a test's own: a home and a work folder that vanish, and with them every process that it started.

use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

    /// Waits until `name` has this status; returns the list's element.
    pub fn until_status(&self, name: &str, status: &str) -> Value {
        eventually(&format!("{name} is {status}"), || {
            let one = self.instance(name);
            if one["status"] == status { Ok(one) } else { Err(format!("{one:#}\n{}", self.own_log())) }
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
        assert!(failing || left.is_empty(), "processes were left behind: {left:?}");
    }
}

/// Runs a command to its end, within the limit.
pub fn said(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            let _ = child.wait();
            panic!("{command:?} did not end within {LIMIT:?}");
        }
        pause();
    };
    Said { status: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
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
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(last) if begun.elapsed() > LIMIT => panic!("not within {LIMIT:?}: {what}\nat last: {last}"),
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

/// Runs, and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
