//! The keeper's one special child: the daemon. It is started again after every end that was not announced.

use crate::core::clock::{Millis, Mono, Now};
use crate::os::{process, socket, spawn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const FIRST_DELAY: Millis = Millis(100);
const LONGEST_DELAY: Millis = Millis(5_000);

/// A daemon that has served for this long is started again at once: what it costs to begin is little beside it, and the wait is for
/// one that cannot even begin.
const PROVEN: Millis = Millis(1_000);

/// A daemon that was silent for too long gets this much more: after a sleep of the machine both sides wake at once.
const SECOND_CHANCE: Millis = Millis(10_000);

/// A daemon that hung up without a goodbye is about to end; its status says more than our SIGKILL would.
const LAST_STEPS: Millis = Millis(200);

/// After SIGABRT (for a core dump and a last word) SIGKILL.
const LAST_WORDS: Millis = Millis(5_000);

/// The daemon as the keeper sees it.
#[derive(Debug)]
pub struct Attendant {
    pub starts: u64,
    state: State,
    /// When a daemon last served. One that dies before its first beat has not: a row of such lives is one absence.
    served: Mono,
    /// Starts since one was proven.
    tries: u32,
}

#[derive(Debug)]
enum State {
    Gone {
        start_at: Mono,
    },
    Lives {
        pid: i32,
        pidfd: OwnedFd,
        since: Mono,
        /// Its first beat: it has taken over, and serves.
        serves_since: Option<Mono>,
        socket: Option<OwnedFd>,
        beat: Mono,
        suspected: Option<Mono>,
        aborted: Option<Mono>,
        hung_up: Option<Mono>,
        bye: bool,
    },
}

impl Attendant {
    pub fn new(now: Now) -> Attendant {
        Attendant { starts: 0, state: State::Gone { start_at: now.mono }, served: now.mono, tries: 0 }
    }

    /// In the place of a keeper that had started so many.
    pub fn after(now: Now, starts: u64) -> Attendant {
        Attendant { starts, ..Attendant::new(now) }
    }

    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.state {
            State::Gone { .. } => None,
            State::Lives { pid, .. } => Some(*pid),
        }
    }

    /// Our end of the connection.
    #[must_use]
    pub fn socket(&self) -> Option<&OwnedFd> {
        match &self.state {
            State::Gone { .. } => None,
            State::Lives { socket, .. } => socket.as_ref(),
        }
    }

    /// How long nobody has served.
    #[must_use]
    pub fn absent(&self, now: Now) -> Option<Millis> {
        match &self.state {
            State::Gone { .. } => Some(now.mono - self.served),
            State::Lives { .. } => None,
        }
    }

    /// Starts the daemon where it is due. `true`: a new one has to be greeted.
    ///
    /// # Errors
    /// Of socketpair(2) or clone(2); it is tried again after the delay.
    pub fn start_if_due(
        &mut self,
        now: Now,
        plan: &spawn::Plan,
        files: spawn::OriginalLimit,
        null: &OwnedFd,
        stderr: &OwnedFd,
    ) -> io::Result<bool> {
        let State::Gone { start_at } = self.state else { return Ok(false) };
        if now.mono < start_at {
            return Ok(false);
        }
        self.tries += 1;
        // Where the start itself fails, the next try waits as well.
        self.state = State::Gone { start_at: now.mono + self.delay().max(FIRST_DELAY) };
        let (ours, theirs) = socket::pair()?;
        let fds = [theirs.as_fd()];
        let stdio = spawn::Stdio { null: null.as_fd(), out: null.as_fd(), err: stderr.as_fd(), listen: &fds };
        let child =
            spawn::spawn(plan, stdio, spawn::Groups::default(), files).map_err(|(_, errno)| io::Error::from(errno))?;
        self.starts += 1;
        self.state = State::Lives {
            pid: child.pid,
            pidfd: child.pidfd,
            since: now.mono,
            serves_since: None,
            socket: Some(ours),
            beat: now.mono,
            suspected: None,
            aborted: None,
            hung_up: None,
            bye: false,
        };
        Ok(true)
    }

    /// Before the next start: nothing, then 0.1 s, doubled up to 5 s.
    fn delay(&self) -> Millis {
        match self.tries {
            0 | 1 => Millis(0),
            n => Millis((FIRST_DELAY.0 << (n - 2).min(10)).min(LONGEST_DELAY.0)),
        }
    }

    /// The connection ended: whoever is at the other end serves no more.
    pub fn hung_up(&mut self, now: Now) {
        if let State::Lives { socket, hung_up, .. } = &mut self.state {
            *socket = None;
            hung_up.get_or_insert(now.mono);
        }
    }

    pub fn kill(&mut self) {
        if let State::Lives { pidfd, .. } = &self.state {
            let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }

    pub fn said_bye(&mut self) {
        if let State::Lives { bye, .. } = &mut self.state {
            *bye = true;
        }
    }

    pub fn beat(&mut self, now: Now) {
        if let State::Lives { beat, suspected, serves_since, .. } = &mut self.state {
            *beat = now.mono;
            serves_since.get_or_insert(now.mono);
            *suspected = None;
            self.served = now.mono;
        }
    }

    /// It ended and was reaped. `true`: it had said that it would.
    pub fn ended(&mut self, now: Now) -> bool {
        let State::Lives { since, serves_since, bye, .. } = &self.state else { return false };
        let (since, bye) = (*since, *bye);
        if serves_since.is_some_and(|since| now.mono - since >= PROVEN) {
            self.tries = 1;
        }
        if self.served >= since {
            self.served = now.mono;
        }
        self.state = State::Gone { start_at: now.mono + self.delay() };
        bye
    }

    /// Ends a daemon that no longer says that it lives. Says when to look again.
    pub fn watch(&mut self, now: Now) -> Option<Mono> {
        match &mut self.state {
            State::Gone { start_at, .. } => Some(*start_at),
            State::Lives { pidfd, hung_up: Some(at), bye: false, .. } => {
                if now.mono < *at + LAST_STEPS {
                    return Some(*at + LAST_STEPS);
                }
                let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                *at = now.mono;
                Some(now.mono + LAST_STEPS)
            }
            State::Lives { pidfd, beat, suspected, aborted, .. } => {
                let silent = *beat + Millis(super::message::BEAT_LIMIT_MS - SECOND_CHANCE.0);
                match (*suspected, *aborted) {
                    (None, _) if now.mono < silent => Some(silent),
                    (None, _) => {
                        *suspected = Some(now.mono);
                        Some(now.mono + SECOND_CHANCE)
                    }
                    (Some(at), _) if now.mono < at + SECOND_CHANCE => Some(at + SECOND_CHANCE),
                    (Some(_), None) => {
                        let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGABRT);
                        *aborted = Some(now.mono);
                        Some(now.mono + LAST_WORDS)
                    }
                    (Some(_), Some(at)) if now.mono < at + LAST_WORDS => Some(at + LAST_WORDS),
                    (Some(_), Some(_)) => {
                        let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                        *aborted = Some(now.mono);
                        Some(now.mono + LAST_WORDS)
                    }
                }
            }
        }
    }
}
