//! Waiting for descriptors on a thread of its own: epoll(7) with a bell.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor's being readable something to be awaited. To be called within a tokio runtime.
///
/// # Errors
/// Of epoll_ctl(2).
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always names the same open descriptor and is closed only when it is dropped, after AsyncFd let go of it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// Takes what an eventfd counted, so that it is no longer readable.
pub fn take(event: BorrowedFd<'_>) {
    let mut count = [0u8; 8];
    let _ = nix::unistd::read(event, &mut count);
}

/// The token of the bell.
const BELL: u64 = u64::MAX;

/// Descriptors that are waited for, each under a number.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    bell: Arc<EventFd>,
}

/// Wakes the waiter from another thread.
#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    pub fn ring(&self) {
        let _ = self.0.write(1);
    }
}

impl Waiter {
    /// # Errors
    /// Of epoll_create1(2) and eventfd(2).
    pub fn new() -> io::Result<Waiter> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Waiter { epoll, bell })
    }

    #[must_use]
    pub fn bell(&self) -> Bell {
        Bell(self.bell.clone())
    }

    /// Waits for `fd` to be readable, under this number.
    ///
    /// # Errors
    /// Of epoll_ctl(2).
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// A descriptor that is readable whenever [`Waiter::wait`] would return something: an epoll may be waited for itself.
    ///
    /// # Errors
    /// Of dup(2).
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.0.try_clone()
    }

    /// No longer.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.epoll.delete(fd.as_fd());
    }

    /// Goes on, or stops, waiting for a descriptor that was added.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64, wanted: bool) {
        // EPOLLHUP is always told: one that is not wanted now is wanted one-shot, with nothing to shoot.
        let flags = if wanted { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLONESHOT };
        let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, token));
    }

    /// Waits until something is readable, the bell rings, or the time is over. Returns the numbers.
    pub fn wait(&self, limit: Option<Duration>) -> Vec<u64> {
        let mut events = [EpollEvent::empty(); 64];
        if let Some(limit) = limit.filter(|limit| *limit < Duration::from_millis(1)) {
            // epoll_wait counts in milliseconds; gathering wants less.
            std::thread::sleep(limit);
        }
        let timeout = limit.map_or(EpollTimeout::NONE, |limit| {
            EpollTimeout::try_from(limit.as_millis().min(60_000) as i32).unwrap_or(EpollTimeout::ZERO)
        });
        let n = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        let tokens: Vec<u64> = events[..n].iter().map(EpollEvent::data).collect();
        if tokens.contains(&BELL) {
            let _ = self.bell.read();
        }
        tokens.into_iter().filter(|token| *token != BELL).collect()
    }
}
