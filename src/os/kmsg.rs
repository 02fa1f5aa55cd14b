//! The kernel's log. Source: the kernel's `ABI/testing/dev-kmsg`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Longest record that the kernel writes.
const RECORD: usize = 8192;

/// The texts of all records that are kept, oldest first; none where the log may not be read (`kernel.dmesg_restrict`).
#[must_use]
pub fn read() -> Vec<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(log) = nix::fcntl::open("/dev/kmsg", flags, Mode::empty()) else { return Vec::new() };
    let mut texts = Vec::new();
    let mut buffer = [0u8; RECORD];
    loop {
        match nix::unistd::read(&log, &mut buffer) {
            Ok(0) | Err(Errno::EAGAIN) => return texts,
            Ok(n) => texts.extend(text(&String::from_utf8_lossy(&buffer[..n])).map(str::to_owned)),
            // What we were about to read was overwritten: the next is there.
            Err(Errno::EPIPE | Errno::EINTR) => {}
            Err(_) => return texts,
        }
    }
}

/// `prio,seq,usec,flags;text`, and lines of ` KEY=value` behind it.
fn text(record: &str) -> Option<&str> {
    record.split_once(';')?.1.lines().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_head_and_a_text() {
        assert_eq!(text("6,823,2317096882,-;oom-kill:x;y\n SUBSYSTEM=mem\n"), Some("oom-kill:x;y"));
        assert_eq!(text("garbage"), None);
        assert_eq!(text(";"), None);
    }
}
