//! A short command of the daemon's own, such as a health check: in a session of its own, and killed with all of it.

use super::spawn::{self, Groups, Plan, Stage, Stdio};
use super::{file, pipe, process};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    exec: OwnedFd,
    ended: bool,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    /// The signal's name.
    Signal(&'static str),
    /// It never began.
    Failed(Stage, String),
}

impl Command {
    /// Starts it. The descriptors are its pidfd, readable at its end, and the read end of its output, both streams in one.
    ///
    /// # Errors
    /// Of pipe2(2) and clone3(2).
    pub fn start(plan: &Plan, groups: Groups<'_>) -> io::Result<(Command, OwnedFd, OwnedFd)> {
        let null = file::null()?;
        let (output, end) = pipe::make(plan.identity.as_ref().map(|who| (who.uid, who.gid)))?;
        let stdio = Stdio { null: null.as_fd(), out: end.as_fd(), err: end.as_fd(), listen: &[] };
        let child = spawn::spawn(plan, stdio, groups, spawn::open_files()?).map_err(|(_, errno)| errno)?;
        Ok((Command { pid: Pid::from_raw(child.pid), exec: child.exec, ended: false }, child.pidfd, output))
    }

    /// How it ended; `None` while it runs. What it left in its session is killed.
    pub fn ended(&mut self) -> Option<Ended> {
        // Before it is reaped: until then its number is its session's.
        let ended = match nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(self.pid),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
        ) {
            Ok(WaitStatus::StillAlive) => return None,
            Ok(WaitStatus::Exited(_, code)) => Ended::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ended::Signal(signal.as_str()),
            Ok(_) | Err(_) => Ended::Code(-1),
        };
        self.reap();
        Some(match spawn::outcome(&self.exec) {
            Ok(Some((stage, errno))) => Ended::Failed(stage, process::errno_name(errno as i32)),
            Ok(None) | Err(_) => ended,
        })
    }

    fn reap(&mut self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        self.ended = true;
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let _ = killpg(self.pid, Signal::SIGKILL);
        // One that hangs in the kernel dies when the kernel lets it: not the loop waits for that.
        let pid = self.pid;
        std::thread::spawn(move || waitpid(pid, None));
    }
}
