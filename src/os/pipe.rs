//! Pipes and splice(2): bytes are in the pipe or in the file, never in between.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest pipe that an ordinary user may ask for (/proc/sys/fs/pipe-max-size).
pub const LONGEST_PIPE: usize = 1 << 20;

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// A pipe for an app's output: the read end is non-blocking, and the pipe belongs to `owner`, so that an app under another uid may
/// open /dev/stdout anew.
///
/// # Errors
/// Of pipe2(2) and fchown(2).
pub fn make(owner: Option<(u32, u32)>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    if let Some((uid, gid)) = owner {
        nix::unistd::fchown(&writer, Some(uid.into()), Some(gid.into()))?;
    }
    Ok((reader, writer))
}

/// Moves up to `max` bytes from the pipe to the end of the file. 0: the pipe's end; `WouldBlock`: it is empty.
///
/// # Errors
/// Of lseek(2) and splice(2).
pub fn splice_to_end(pipe: BorrowedFd<'_>, file: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    match nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekEnd) {
        // A character device such as /dev/null has no end and needs none.
        Ok(_) | Err(Errno::ESPIPE) => {}
        Err(errno) => return Err(errno.into()),
    }
    splice(pipe, file, max)
}

/// Moves up to `max` bytes from the pipe to wherever `to` stands.
///
/// # Errors
/// Of splice(2).
pub fn splice(pipe: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    loop {
        match nix::fcntl::splice(pipe.as_fd(), None, to.as_fd(), None, max, FLAGS) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Copies up to `max` bytes from one pipe into another without taking them.
///
/// # Errors
/// Of tee(2).
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    loop {
        match nix::fcntl::tee(from.as_fd(), to.as_fd(), max, FLAGS) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// The bytes that a pipe can hold.
#[must_use]
pub fn capacity(pipe: BorrowedFd<'_>) -> usize {
    nix::fcntl::fcntl(pipe, FcntlArg::F_GETPIPE_SZ).map_or(64 << 10, |size| size as usize)
}

/// The bytes that wait in a pipe (FIONREAD).
#[must_use]
pub fn waiting(pipe: BorrowedFd<'_>) -> usize {
    nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);
    let mut n = 0;
    // SAFETY: FIONREAD writes one int to our own variable.
    let result = unsafe { fionread(std::os::fd::AsRawFd::as_raw_fd(&pipe), &raw mut n) };
    result.map_or(0, |_| n as usize)
}

/// Makes a pipe longer; where the user's share is used up (EPERM) it stays as it is. Returns its capacity.
pub fn grow(pipe: BorrowedFd<'_>, size: usize) -> usize {
    let size = size.min(LONGEST_PIPE) as i32;
    nix::fcntl::fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size)).map_or_else(|_| capacity(pipe), |size| size as usize)
}

/// Reads what a pipe holds, up to the buffer's length.
///
/// # Errors
/// Of read(2).
pub fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(pipe, buffer) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
