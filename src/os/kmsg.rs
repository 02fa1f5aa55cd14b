//! The kernel's log. Source: the kernel's `ABI/testing/dev-kmsg`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;

/// Longest record that the kernel writes.
const RECORD: usize = 8192;

/// A reader that begins with the oldest record that is kept and goes on where it stopped.
#[derive(Debug, Default)]
pub struct Reader {
    /// `None`: the log may not be read (`kernel.dmesg_restrict`), or was not asked for yet.
    log: Option<OwnedFd>,
}

impl Reader {
    /// Hands each record that was not read yet to `take`: `prio,seq,usec,flags;text` and lines of ` KEY=value`, oldest first.
    pub fn read(&mut self, mut take: impl FnMut(&str)) {
        if self.log.is_none() {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            self.log = nix::fcntl::open("/dev/kmsg", flags, Mode::empty()).ok();
        }
        let Some(log) = &self.log else { return };
        let mut buffer = [0u8; RECORD];
        loop {
            match nix::unistd::read(log, &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => return,
                Ok(n) => take(&String::from_utf8_lossy(&buffer[..n])),
                // What we were about to read was overwritten: the next is there.
                Err(Errno::EPIPE | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// All records that are kept, oldest first; none where the log may not be read.
#[must_use]
pub fn read() -> Vec<String> {
    let mut records = Vec::new();
    Reader::default().read(|record| records.push(record.to_owned()));
    records
}
