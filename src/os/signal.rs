//! Signals as records in a pipe, each with its sender.

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

pub const TERM: i32 = libc::SIGTERM;
pub const CHILD: i32 = libc::SIGCHLD;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    pub signal: i32,
    /// siginfo's si_pid and si_uid: 0 where the kernel sent it.
    pub pid: i32,
    pub uid: u32,
}

const RECORD: usize = 12;

/// Watches `signals` for the life of this process. The returned end is non-blocking; read it with [`read`].
///
/// # Errors
/// Of pipe2(2) and sigaction(2).
pub fn watch(signals: &[i32]) -> io::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    for &signal in signals {
        let writer = writer.try_clone()?;
        let act = move |info: &libc::siginfo_t| {
            let mut record = [0u8; RECORD];
            // SAFETY: the kernel fills si_pid and si_uid for signals sent by kill(2) and for SIGCHLD, the only ones watched.
            let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
            record[..4].copy_from_slice(&signal.to_ne_bytes());
            record[4..8].copy_from_slice(&pid.to_ne_bytes());
            record[8..].copy_from_slice(&uid.to_ne_bytes());
            // A full pipe already says what there is to say. A write of 12 bytes is atomic (pipe(7)).
            // SAFETY: write(2) is async-signal-safe; the buffer is ours.
            unsafe { libc::write(writer.as_raw_fd(), record.as_ptr().cast(), RECORD) };
        };
        // SAFETY: the closure only calls write(2).
        unsafe { signal_hook_registry::register_sigaction(signal, act)? };
    }
    Ok(reader)
}

/// Whether these signals wait. Those that do are kept over an exec, when nobody watches for them.
pub fn hold(signals: &[i32], held: bool) {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
    let set: SigSet = signals.iter().filter_map(|signal| Signal::try_from(*signal).ok()).collect();
    let how = if held { SigmaskHow::SIG_BLOCK } else { SigmaskHow::SIG_UNBLOCK };
    // Fails only for an unknown `how`.
    let _ = sigprocmask(how, Some(&set), None);
}

/// Takes the signals that came.
pub fn read(pipe: &OwnedFd) -> Vec<Came> {
    let mut came = Vec::new();
    let mut buffer = [0u8; RECORD * 64];
    while let Ok(n) = nix::unistd::read(pipe, &mut buffer) {
        if n == 0 {
            break;
        }
        came.extend(buffer[..n].chunks_exact(RECORD).map(|record| {
            let word = |at: usize| [record[at], record[at + 1], record[at + 2], record[at + 3]];
            Came {
                signal: i32::from_ne_bytes(word(0)),
                pid: i32::from_ne_bytes(word(4)),
                uid: u32::from_ne_bytes(word(8)),
            }
        }));
        if n < buffer.len() {
            break;
        }
    }
    came
}
