//! systemd by its own commands: whether it runs this machine, and what it is asked to do.

use super::{process, role, user};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Whose units: the machine's, or a user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    System,
    User,
}

impl Scope {
    /// As one types it.
    #[must_use]
    pub fn systemctl(self) -> &'static str {
        match self {
            Scope::System => "systemctl",
            Scope::User => "systemctl --user",
        }
    }
}

/// Does a manager of this scope run? It says so itself, in any state but `offline`; without systemctl(1) there is none.
#[must_use]
pub fn runs(scope: Scope) -> bool {
    let said = systemctl(scope, &["is-system-running"]).output();
    said.is_ok_and(|said| !matches!(String::from_utf8_lossy(&said.stdout).trim(), "" | "offline" | "unknown"))
}

/// Asks for something: `["enable", "stead.service"]`.
///
/// # Errors
/// There is no systemctl(1), or what it said.
pub fn ask(scope: Scope, words: &[&str]) -> io::Result<()> {
    run(systemctl(scope, words))
}

/// The same on a tree of files that is not the running machine's.
///
/// # Errors
/// As [`ask`].
pub fn ask_offline(root: &Path, words: &[&str]) -> io::Result<()> {
    let mut command = Command::new("systemctl");
    command.arg("--root").arg(root).arg("--quiet").args(words);
    run(command)
}

/// Do the processes of this user outlive the user's sessions, and start at boot?
#[must_use]
pub fn lingers(user: &str) -> bool {
    let mut command = Command::new("loginctl");
    command.args(["show-user", user, "--property=Linger", "--value"]).stdin(Stdio::null());
    // It fails for a user without a session who does not linger.
    command.output().is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim() == "yes")
}

/// Lets our own user linger.
///
/// # Errors
/// There is no loginctl(1), or what it said: this needs polkit, and perhaps root.
pub fn linger() -> io::Result<()> {
    let mut command = Command::new("loginctl");
    command.args(["--no-ask-password", "enable-linger"]);
    run(command)
}

/// Is this process of that unit?
#[must_use]
pub fn is_in(pid: i32, unit: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| path.split('/').any(|part| part == unit))
}

/// Where our stdout goes nobody needs a copy: systemd's journal (`$JOURNAL_STREAM` names its end, systemd.exec(5)), or /dev/null.
#[must_use]
pub fn is_stdout_for_no_copy() -> bool {
    let Ok(stdout) = std::fs::metadata("/proc/self/fd/1") else { return true };
    let null = std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == stdout.rdev());
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|end| end == format!("{}:{}", stdout.dev(), stdout.ino()));
    journal || (stdout.file_type().is_char_device() && null)
}

/// The name of our own user.
#[must_use]
pub fn user_name() -> String {
    user::name(process::uid())
}

fn systemctl(scope: Scope, words: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    if scope == Scope::User {
        command.arg("--user").envs(role::runtime_dir());
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> io::Result<()> {
    let said = command.stdin(Stdio::null()).output()?;
    if said.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&said.stderr);
    let reason = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(io::Error::other(if reason.is_empty() { said.status.to_string() } else { reason }))
}
