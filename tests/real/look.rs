//! What the kernel says of a process, and how programs see what stead prints.

use crate::harness::LIMIT;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// A line of /proc/PID/status, without its name.
pub fn status(pid: i32, field: &str) -> String {
    let text = read(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in the status of {pid}: {text}")).trim().to_owned()
}

/// A line of /proc/PID/limits: soft and hard.
pub fn limit(pid: i32, name: &str) -> (String, String) {
    let text = read(pid, "limits");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// A column of /proc/PID/stat by its number in proc(5).
pub fn stat(pid: i32, column: usize) -> i64 {
    let text = read(pid, "stat");
    let rest = text.rsplit_once(") ").unwrap().1;
    rest.split_whitespace().nth(column - 3).unwrap().parse().unwrap()
}

pub fn command_line(pid: i32) -> Vec<String> {
    entries(pid, "cmdline")
}

/// The environment that it was started with.
pub fn environment(pid: i32) -> BTreeMap<String, String> {
    let pair = |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    entries(pid, "environ").into_iter().filter_map(pair).collect()
}

pub fn cwd(pid: i32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap()
}

pub fn exe(pid: i32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

fn read(pid: i32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn entries(pid: i32, file: &str) -> Vec<String> {
    read(pid, file).split_terminator('\0').map(str::to_owned).collect()
}

/// What a filter makes of a text.
pub fn through(mut filter: Command, text: &str) -> String {
    let mut child = filter.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success(), "{filter:?}: {out}");
    out
}

/// Runs a command on a terminal of that many columns; returns what appears there.
pub fn on_terminal(command: Command, columns: u16) -> String {
    on_terminal_seen(command, columns, |_| {})
}

/// The same; `seen` is given what has appeared so far, each time that there is more.
pub fn on_terminal_seen(mut command: Command, columns: u16, mut seen: impl FnMut(&str)) -> String {
    let size = nix::pty::Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(&size, None).unwrap();
    let mut ours = std::fs::File::from(terminal.master);
    let other = |file: &std::os::fd::OwnedFd| Stdio::from(file.try_clone().unwrap());
    let mut child = command.stdout(other(&terminal.slave)).stderr(other(&terminal.slave)).spawn().unwrap();
    drop((terminal.slave, command));
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let begun = std::time::Instant::now();
    loop {
        let left = PollTimeout::try_from(LIMIT.saturating_sub(begun.elapsed())).unwrap();
        if poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], left) == Ok(0) {
            child.kill().unwrap();
            panic!("it did not end within {LIMIT:?}: {}", String::from_utf8_lossy(&bytes));
        }
        // EIO is how a terminal says that nobody has its other side.
        let Ok(length @ 1..) = ours.read(&mut piece) else { break };
        bytes.extend(&piece[..length]);
        seen(&String::from_utf8_lossy(&bytes));
    }
    child.wait().unwrap();
    // A line that was rewritten is a line of its own.
    String::from_utf8_lossy(&bytes).replace("\r\x1b[K", "\n")
}
