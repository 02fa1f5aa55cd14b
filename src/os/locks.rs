//! Locks on files, as /proc/locks tells of them (proc_locks(5)).

use super::file;
use std::path::Path;

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// `None`: an open file description's, which names no process.
    pub pid: Option<i32>,
    pub kind: Kind,
    /// Exclusive.
    pub write: bool,
    /// Of the file's file system, as the kernel counts it; stat(2) may tell another number (btrfs, overlayfs).
    pub device: (u32, u32),
    pub inode: u64,
    /// First and last byte.
    pub range: (u64, u64),
}

/// By which call it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// fcntl(2), by a process.
    Posix,
    /// fcntl(2), by an open file description.
    Description,
    /// flock(2), of the whole file.
    Flock,
}

/// Every lock that is held and that this process may see; those who wait for one are left out.
#[must_use]
pub fn read() -> Vec<Lock> {
    let text = file::read_kernel(Path::new("/proc/locks")).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse).collect()
}

/// Reads `1: POSIX  ADVISORY  WRITE 28017 fe:00:5783573 1073741824 EOF`. A waiter's line has `->` behind its number.
fn parse(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace();
    words.next()?;
    let kind = match words.next()? {
        "POSIX" => Kind::Posix,
        "OFDLCK" => Kind::Description,
        "FLOCK" => Kind::Flock,
        _ => return None,
    };
    words.next()?;
    let write = words.next()? == "WRITE";
    let pid: i32 = words.next()?.parse().ok()?;
    let mut id = words.next()?.splitn(3, ':');
    let mut hex = || u32::from_str_radix(id.next()?, 16).ok();
    let device = (hex()?, hex()?);
    let inode = id.next()?.parse().ok()?;
    let start = words.next()?.parse().ok()?;
    let end = match words.next()? {
        "EOF" => u64::MAX,
        end => end.parse().ok()?,
    };
    Some(Lock { pid: (pid > 0).then_some(pid), kind, write, device, inode, range: (start, end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_read_and_who_waits_is_not() {
        let lock = parse("3: POSIX  ADVISORY  WRITE 28017 fe:00:5783573 1073741824 1073742335").unwrap();
        assert_eq!((lock.pid, lock.kind, lock.write), (Some(28017), Kind::Posix, true));
        assert_eq!((lock.device, lock.inode, lock.range), ((0xfe, 0), 5_783_573, (1 << 30, (1 << 30) + 511)));
        let shared = parse("1: FLOCK  ADVISORY  READ 7 00:2f:12 0 EOF").unwrap();
        assert_eq!((shared.kind, shared.write, shared.range), (Kind::Flock, false, (0, u64::MAX)));
        assert_eq!(parse("2: OFDLCK ADVISORY  READ -1 08:01:9 120 120").unwrap().pid, None);
        for line in [
            "3: -> POSIX  ADVISORY  WRITE 28017 fe:00:1 0 EOF",
            "",
            "4: LEASE  ACTIVE    READ  1 fe:00:1 0 EOF",
            "5: POSIX ADVISORY WRITE x",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_lock_of_our_own_is_found() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().lock().unwrap();
        let (inode, me) = (file.as_file().metadata().unwrap().ino(), super::super::process::pid());
        assert!(read().iter().any(|lock| lock.inode == inode && lock.pid == Some(me) && lock.write));
    }
}
