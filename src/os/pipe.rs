//! Pipes and splice(2): bytes that are in the pipe or in the file, never in between.

use nix::fcntl::{OFlag, SpliceFFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pipe for an app's output: the read end is non-blocking, the write end belongs to `owner`, so that an app that opens
/// /dev/stdout anew under another uid may do so.
///
/// # Errors
/// Of pipe2(2) and fchown(2).
pub fn make(owner: Option<(u32, u32)>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    if let Some((uid, gid)) = owner {
        nix::unistd::fchown(&writer, Some(uid.into()), Some(gid.into()))?;
    }
    Ok((reader, writer))
}

/// Moves up to `max` bytes from the pipe to the end of the file. 0: the pipe's end, `WouldBlock`: it is empty.
///
/// # Errors
/// Of lseek(2) and splice(2).
pub fn splice_to_end(pipe: BorrowedFd<'_>, file: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    // /dev/null has no end and needs none.
    let _ = nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekEnd);
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(nix::fcntl::splice(pipe.as_fd(), None, file.as_fd(), None, max, flags)?)
}
