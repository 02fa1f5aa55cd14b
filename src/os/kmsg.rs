//! The kernel's log. Source: the kernel's `ABI/testing/dev-kmsg`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Longest record that the kernel writes.
const RECORD: usize = 8192;

/// All records that are kept, `prio,seq,usec,flags;text` and lines of ` KEY=value`, oldest first; none where the log may not be read (`kernel.dmesg_restrict`).
#[must_use]
pub fn read() -> Vec<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(log) = nix::fcntl::open("/dev/kmsg", flags, Mode::empty()) else { return Vec::new() };
    let mut records = Vec::new();
    let mut buffer = [0u8; RECORD];
    loop {
        match nix::unistd::read(&log, &mut buffer) {
            Ok(0) | Err(Errno::EAGAIN) => return records,
            Ok(n) => records.push(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            // What we were about to read was overwritten: the next is there.
            Err(Errno::EPIPE | Errno::EINTR) => {}
            Err(_) => return records,
        }
    }
}
