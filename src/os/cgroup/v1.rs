//! A group of a v1 hierarchy. Source: the kernel's `admin-guide/cgroup-v1/memory.rst` and `pids.rst`.

use super::{Error, Gauge, Limit, keyed, number, pids, sum, write};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What `memory.limit_in_bytes` says where there is no limit: the largest multiple of a page.
const UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

/// A memory group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// A group at this folder; nothing is looked at yet.
    #[must_use]
    pub fn at(folder: &Path) -> Memory {
        Memory { folder: folder.to_owned() }
    }

    /// Bytes, page cache among them.
    ///
    /// # Errors
    /// As of all readers here: the file is missing, or holds no number.
    pub fn usage_in_bytes(&self) -> Result<u64, Error> {
        number(&self.folder, "memory.usage_in_bytes")
    }

    /// The same, to be read again and again.
    pub fn gauge(&self) -> Result<Gauge, Error> {
        Gauge::open(&self.folder, "memory.usage_in_bytes")
    }

    /// The most it ever was, in bytes.
    pub fn max_usage_in_bytes(&self) -> Result<u64, Error> {
        number(&self.folder, "memory.max_usage_in_bytes")
    }

    /// The hard limit, in bytes.
    pub fn limit_in_bytes(&self) -> Result<Limit, Error> {
        let bytes = number(&self.folder, "memory.limit_in_bytes")?;
        Ok(if bytes >= UNLIMITED { Limit::None } else { Limit::At(bytes) })
    }

    /// `total_inactive_file` and `total_active_file` of memory.stat: the page cache of files, the whole tree's. The kernel takes it
    /// back before it kills anybody. tmpfs and shared memory are not in it. Bytes.
    pub fn file_cache(&self) -> Result<u64, Error> {
        sum(&self.folder, &["total_inactive_file", "total_active_file"])
    }

    /// Kills by the kernel in this very group (v1 does not count those of groups below).
    pub fn oom_kill(&self) -> Result<Option<u64>, Error> {
        keyed(&self.folder, "memory.oom_control", "oom_kill")
    }

    /// Main threads of the processes in it.
    pub fn procs(&self) -> Result<Vec<i32>, Error> {
        pids(&self.folder, "cgroup.procs")
    }

    /// Sets the hard limit, and with it (where the kernel counts swap) that of memory and swap together.
    ///
    /// # Errors
    /// `EBUSY` where more is in use than the limit allows: nothing is killed, and nothing changes.
    pub fn set_limit(&self, bytes: u64, swap: u64) -> Result<(), Error> {
        let both = bytes.saturating_add(swap).to_string();
        let together = |text: &str| match write(&self.folder, "memory.memsw.limit_in_bytes", text) {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        };
        // The limit of both may never be below that of memory alone: raised first, lowered last.
        match self.limit_in_bytes()? {
            Limit::At(now) if now < bytes => {
                together(&both)?;
                write(&self.folder, "memory.limit_in_bytes", &bytes.to_string())
            }
            Limit::At(_) | Limit::None => {
                write(&self.folder, "memory.limit_in_bytes", &bytes.to_string())?;
                together(&both)
            }
        }
    }

    /// Takes the hard limit away.
    pub fn set_no_limit(&self) -> Result<(), Error> {
        match write(&self.folder, "memory.memsw.limit_in_bytes", "-1") {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
        write(&self.folder, "memory.limit_in_bytes", "-1")
    }

    /// An eventfd that becomes readable when the usage crosses `bytes`, in either direction.
    ///
    /// # Errors
    /// Of eventfd(2), open(2), or the kernel's refusal.
    pub fn usage_event(&self, bytes: u64) -> Result<OwnedFd, Error> {
        let path = self.folder.join("memory.usage_in_bytes");
        let io = |source| Error::Io { path: path.clone(), source };
        let event =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|errno| io(errno.into()))?;
        let file = File::open(&path).map_err(io)?;
        let line = format!("{} {} {bytes}", event.as_raw_fd(), file.as_raw_fd());
        write(&self.folder, "cgroup.event_control", &line)?;
        Ok(event.into())
    }
}

/// A pids group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pids {
    folder: PathBuf,
}

impl Pids {
    #[must_use]
    pub fn at(folder: &Path) -> Pids {
        Pids { folder: folder.to_owned() }
    }

    /// Tasks (threads too).
    pub fn current(&self) -> Result<u64, Error> {
        number(&self.folder, "pids.current")
    }

    /// Forks that failed at the limit.
    pub fn events_max(&self) -> Result<Option<u64>, Error> {
        keyed(&self.folder, "pids.events", "max")
    }

    pub fn set_max(&self, tasks: u64) -> Result<(), Error> {
        write(&self.folder, "pids.max", &tasks.to_string())
    }
}

/// A cpu group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    folder: PathBuf,
}

impl Cpu {
    #[must_use]
    pub fn at(folder: &Path) -> Cpu {
        Cpu { folder: folder.to_owned() }
    }

    /// `quota` microseconds of CPU in each `period`.
    pub fn set_quota(&self, quota: u64, period: u64) -> Result<(), Error> {
        write(&self.folder, "cpu.cfs_period_us", &period.to_string())?;
        write(&self.folder, "cpu.cfs_quota_us", &quota.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::cgroup::tests::{fails, folder};

    #[test]
    fn usage_in_bytes() {
        assert_eq!(Memory::at(folder(&[("memory.usage_in_bytes", "4096\n")]).path()).usage_in_bytes().unwrap(), 4096);
        fails("memory.usage_in_bytes", |path| Memory::at(path).usage_in_bytes());
    }

    #[test]
    fn gauge() {
        let group = folder(&[("memory.usage_in_bytes", "4096\n")]);
        assert_eq!(Memory::at(group.path()).gauge().unwrap().read().unwrap(), 4096);
        fails("memory.usage_in_bytes", |path| Memory::at(path).gauge()?.read());
    }

    #[test]
    fn max_usage_in_bytes() {
        let group = folder(&[("memory.max_usage_in_bytes", "8192\n")]);
        assert_eq!(Memory::at(group.path()).max_usage_in_bytes().unwrap(), 8192);
        fails("memory.max_usage_in_bytes", |path| Memory::at(path).max_usage_in_bytes());
    }

    #[test]
    fn limit_in_bytes() {
        let limit = |text| Memory::at(folder(&[("memory.limit_in_bytes", text)]).path()).limit_in_bytes().unwrap();
        assert_eq!(limit("104857600\n"), Limit::At(100 << 20));
        assert_eq!(limit("9223372036854771712\n"), Limit::None);
        fails("memory.limit_in_bytes", |path| Memory::at(path).limit_in_bytes());
    }

    #[test]
    fn file_cache() {
        let text = "cache 1\ninactive_file 2\ntotal_inactive_file 4096\ntotal_active_file 100\n";
        assert_eq!(Memory::at(folder(&[("memory.stat", text)]).path()).file_cache().unwrap(), 4196);
        assert_eq!(Memory::at(folder(&[("memory.stat", "cache 1\n")]).path()).file_cache().unwrap(), 0);
        fails("memory.stat", |path| Memory::at(path).file_cache());
    }

    #[test]
    fn oom_kill() {
        let group = folder(&[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")]);
        assert_eq!(Memory::at(group.path()).oom_kill().unwrap(), Some(3));
        fails("memory.oom_control", |path| Memory::at(path).oom_kill());
    }

    #[test]
    fn procs() {
        assert_eq!(Memory::at(folder(&[("cgroup.procs", "7\n42\n")]).path()).procs().unwrap(), [7, 42]);
        fails("cgroup.procs", |path| Memory::at(path).procs());
    }

    #[test]
    fn pids_current_and_events() {
        let group = folder(&[("pids.current", "5\n"), ("pids.events", "max 1\n")]);
        let pids = Pids::at(group.path());
        assert_eq!((pids.current().unwrap(), pids.events_max().unwrap()), (5, Some(1)));
        fails("pids.current", |path| Pids::at(path).current());
        fails("pids.events", |path| Pids::at(path).events_max());
    }

    #[test]
    fn a_limit_is_taken_away_with_that_of_memory_and_swap_first() {
        let group = folder(&[("memory.limit_in_bytes", "50"), ("memory.memsw.limit_in_bytes", "50")]);
        Memory::at(group.path()).set_no_limit().unwrap();
        let text = |file| std::fs::read_to_string(group.path().join(file)).unwrap();
        assert_eq!((text("memory.limit_in_bytes"), text("memory.memsw.limit_in_bytes")), ("-1".into(), "-1".into()));
        assert!(Memory::at(folder(&[]).path()).set_no_limit().unwrap_err().is_missing());
    }

    #[test]
    fn the_limit_of_memory_and_swap_is_raised_first_and_lowered_last() {
        let group = folder(&[("memory.limit_in_bytes", "50"), ("memory.memsw.limit_in_bytes", "50")]);
        Memory::at(group.path()).set_limit(100, 10).unwrap();
        let text = |file| std::fs::read_to_string(group.path().join(file)).unwrap();
        assert_eq!((text("memory.limit_in_bytes"), text("memory.memsw.limit_in_bytes")), ("100".into(), "110".into()));
    }
}
