//! How stead starts itself in another role. One binary, five roles: the first argument names it.

use super::cgroup::scope::{Host, Way};
use super::notify::is_of_the_manager;
use super::strings::Strings;
use super::{file, spawn};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The first argument of the keeper. It finds the locked lock file at [`LOCK_FD`] and the end of a pipe at [`READY_FD`].
pub const KEEPER: &str = "keeper-worker";

/// The first argument of the daemon. It finds its end of the connection to the keeper at [`KEEPER_FD`].
pub const DAEMON: &str = "daemon-worker";

/// The first argument of a courier, which carries one message; the second is the daemon's pid. It finds what to carry at its stdin, and
/// writes what came of it to its stdout.
pub const COURIER: &str = "courier-worker";

/// The first argument of a mirror, which copies what apps write to the stdout and stderr of `stead daemon`; the second is the home, the
/// third how. Its stdin gives one line, where each log ends by now, and is at its end when the keeper is.
pub const MIRROR: &str = "mirror-worker";

/// A mirror whose reader does not take the last lines is waited for no longer.
const LAST_LINES: Duration = Duration::from_secs(5);

pub const LOCK_FD: i32 = 3;
pub const READY_FD: i32 = 4;
pub const KEEPER_FD: i32 = 3;

/// What the keeper writes into the pipe once clients can connect. Anything else is why it could not begin.
pub const READY: &str = "ready";

/// Starts the keeper of `home` as a process of its own, on a systemd host in a scope of its own, and hands it the lock. Returns when
/// clients can connect; with why there is no scope, where there should be one.
///
/// # Errors
/// Of clone(2) and exec(2), or what the keeper says.
pub fn start_keeper(home: &Path, lock: &File) -> io::Result<Option<String>> {
    // `/proc/self/exe` would mean systemd-run's own.
    let exe = std::env::current_exe()?.display().to_string();
    let trouble = match Host::here().way() {
        Way::Here => None,
        Way::Scope { systemd_run } => {
            let run = systemd_run.display().to_string();
            let manager = if super::process::uid() == 0 { "--system" } else { "--user" };
            let scope = ["--scope", manager, "--quiet", "--collect", "--no-ask-password", "--property=Delegate=yes"];
            let description = format!("--description=stead of {}", home.display());
            let argv =
                [run.as_str()].into_iter().chain(scope).chain([description.as_str(), "--", exe.as_str(), KEEPER]);
            let more = runtime_dir().map(|(name, path)| format!("{name}={path}"));
            match begin(home, lock, &run, argv, more) {
                Ok(()) => return Ok(None),
                Err(error) => Some(format!("{run} gave stead no scope of its own: {error}")),
            }
        }
    };
    begin(home, lock, "/proc/self/exe", ["stead", KEEPER].into_iter(), None).map(|()| trouble)
}

/// Where a user's systemd listens: cron and su do not say it.
pub(super) fn runtime_dir() -> Option<(&'static str, String)> {
    let path = format!("/run/user/{}", super::process::uid());
    let unsaid = std::env::var_os("XDG_RUNTIME_DIR").is_none() && Path::new(&path).is_dir();
    unsaid.then_some(("XDG_RUNTIME_DIR", path))
}

fn begin<'a>(
    home: &Path,
    lock: &File,
    program: &str,
    argv: impl Iterator<Item = &'a str>,
    more: Option<String>,
) -> io::Result<()> {
    let (ready, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let null = file::null()?;
    let inherited = [lock.as_fd(), theirs.as_fd()];
    let stdio = spawn::Stdio { null: null.as_fd(), out: null.as_fd(), err: null.as_fd(), listen: &inherited };
    let plan = spawn::Plan {
        program: program.into(),
        argv: Strings::new(argv)?,
        env: Strings::new(environment(home).into_iter().chain(more))?,
        cwd: "/".into(),
        ..spawn::Plan::default()
    };
    let child = spawn::spawn(&plan, stdio, spawn::Groups::default(), spawn::open_files()?)
        .map_err(|(_, errno)| io::Error::from(errno))?;
    drop(theirs);
    let mut said = String::new();
    File::from(ready).take(4096).read_to_string(&mut said)?;
    if said == READY {
        return Ok(());
    }
    if let Ok(Some((stage, errno))) = spawn::outcome(&child.exec) {
        return Err(io::Error::other(format!("{}: {errno}", stage.word())));
    }
    Err(io::Error::other(if said.is_empty() { "the keeper ended at once".to_owned() } else { said }))
}

/// Our own environment for a process of stead: with the home, and without the marks of an app or a manager that may have started us.
#[must_use]
pub fn environment(home: &Path) -> Vec<String> {
    let is_mark = |key: &str| {
        (key.starts_with("STEAD_") && key != "STEAD_LOG") || key.starts_with("LISTEN_") || is_of_the_manager(key)
    };
    let mut env: Vec<String> = std::env::vars_os()
        .filter(|(key, _)| !key.to_str().is_some_and(is_mark))
        .map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy()))
        .collect();
    env.push(format!("STEAD_HOME={}", home.display()));
    env
}

/// A courier under way.
#[derive(Debug)]
pub struct Courier {
    child: std::process::Child,
    pidfd: OwnedFd,
}

impl Courier {
    /// Begins one. It ends with the process that called, and takes what it has started with it.
    ///
    /// # Errors
    /// Of memfd_create(2), fork(2), exec(2), pidfd_open(2).
    pub fn start(errand: &[u8]) -> io::Result<Courier> {
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};
        let mut command = Command::new("/proc/self/exe");
        command.arg0("stead").arg(COURIER).arg(super::process::pid().to_string()).current_dir("/");
        command.stdin(file::memory_file(c"stead-errand", errand)?).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        match super::process::pidfd_open(child.id() as i32) {
            Ok(pidfd) => Ok(Courier { child, pidfd }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Takes what it said. One that has not ended is killed first.
    pub fn end(mut self) -> Vec<u8> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut said = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            let _ = stdout.take(64 << 10).read_to_end(&mut said);
        }
        said
    }
}

/// A mirror at work. Dropped, it copies what is there yet, and ends.
#[derive(Debug)]
pub struct Mirror {
    child: std::process::Child,
    pidfd: OwnedFd,
}

impl Mirror {
    /// Begins one, with our own stdout and stderr. `line`: where each log ends by now.
    ///
    /// # Errors
    /// Of fork(2), exec(2), pidfd_open(2), and of write(2) to a mirror that ended at once.
    pub fn start(home: &Path, how: &str, line: &str) -> io::Result<Mirror> {
        use std::io::Write;
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};
        let mut command = Command::new("/proc/self/exe");
        command.arg0("stead").arg(MIRROR).arg(home).arg(how).current_dir("/").stdin(Stdio::piped());
        // Ctrl-C is for the keeper: there are last words to come.
        command.process_group(0);
        let mut child = command.spawn()?;
        let pidfd = super::process::pidfd_open(child.id() as i32)?;
        if let Some(stdin) = &mut child.stdin {
            writeln!(stdin, "{line}")?;
        }
        Ok(Mirror { child, pidfd })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        super::process::wait_ended(&[self.pidfd.as_fd()], LAST_LINES);
        // One that died long ago was reaped by the keeper: by its number it might be another.
        let _ = super::process::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = self.child.wait();
    }
}
