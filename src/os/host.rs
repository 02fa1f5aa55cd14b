//! What the machine has and how much of it is left. Each reader stands on a root path; source: proc(5), the kernel's
//! `accounting/psi.rst`, statvfs(3).

use super::clock;
use crate::core::clock::Wall;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The machine's name.
#[must_use]
pub fn name(proc: &Path) -> String {
    fs::read_to_string(proc.join("sys/kernel/hostname"))
        .map_or_else(|_| "localhost".into(), |name| name.trim().to_owned())
}

/// Of /proc/meminfo, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    pub total: Option<u64>,
    /// The kernel's estimate of what new programs could have without swapping.
    pub available: Option<u64>,
    pub swap_total: Option<u64>,
    pub swap_free: Option<u64>,
}

/// `proc` is /proc.
#[must_use]
pub fn meminfo(proc: &Path) -> Meminfo {
    let text = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Meminfo {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        swap_total: bytes("SwapTotal"),
        swap_free: bytes("SwapFree"),
    }
}

/// The share of the last minute in which some task waited for `resource` (`cpu`, `memory`, `io`), in percent; `None` where the kernel
/// does not count it.
#[must_use]
pub fn pressure(proc: &Path, resource: &str) -> Option<f64> {
    let text = fs::read_to_string(proc.join("pressure").join(resource)).ok()?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ')
        .find_map(|word| word.strip_prefix("avg60="))?
        .parse()
        .ok()
        .filter(|share| (0.0..=100.0).contains(share))
}

/// The load of the last minute.
#[must_use]
pub fn load(proc: &Path) -> Option<f64> {
    fs::read_to_string(proc.join("loadavg")).ok()?.split(' ').next()?.parse().ok().filter(|load: &f64| load.is_finite())
}

/// When the machine started.
#[must_use]
pub fn booted_at(proc: &Path) -> Option<Wall> {
    let text = fs::read_to_string(proc.join("stat")).ok()?;
    let seconds: i64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Wall(seconds.checked_mul(1000)?))
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Tells one from another.
    pub device: u64,
    pub total: u64,
    /// For users who are not root.
    pub available: u64,
}

/// The file system below a path.
///
/// # Errors
/// Of stat(2) and statvfs(3).
pub fn disk(path: &Path) -> io::Result<Disk> {
    let device = fs::metadata(path)?.dev();
    let about = nix::sys::statvfs::statvfs(path)?;
    let unit = about.fragment_size();
    Ok(Disk {
        device,
        total: unit.saturating_mul(about.blocks()),
        available: unit.saturating_mul(about.blocks_available()),
    })
}

/// Bytes on disk of everything directly below a folder, each with all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub parts: BTreeMap<PathBuf, u64>,
    /// The part in which it was given up: there was more than could be counted in its bounds.
    pub cut: Option<PathBuf>,
}

/// Counts within bounds: no more entries than `most`, no longer than `limit`, no other file system, no link followed, a file with
/// several names once for each.
#[must_use]
pub fn sizes(folder: &Path, most: usize, limit: Duration) -> Sizes {
    let begun = clock::precise();
    let mut found = Sizes::default();
    let Ok(device) = fs::metadata(folder).map(|about| about.dev()) else { return found };
    let mut left = most;
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let mut bytes = 0;
        let mut stack = vec![entry.path()];
        while let Some(path) = stack.pop() {
            if left == 0 || clock::precise() - begun > limit {
                found.cut = Some(entry.path());
                break;
            }
            left -= 1;
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            bytes += about.blocks() * 512;
            if about.is_dir() && about.dev() == device {
                stack.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
        }
        found.parts.insert(entry.path(), bytes);
        if found.cut.is_some() {
            break;
        }
    }
    found
}

/// This thread steps back behind all others, for CPU and disk. Where it may not, it works as it is.
pub fn step_back() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: both take numbers alone; 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pressure")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn meminfo_is_read() {
        let good = proc(&[(
            "meminfo",
            "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    5000000 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
        )]);
        let read = meminfo(good.path());
        assert_eq!((read.total, read.available), (Some(8_192_000_000), Some(5_120_000_000)));
        assert_eq!((read.swap_total, read.swap_free), (Some(0), Some(0)));
        assert_eq!(meminfo(proc(&[]).path()), Meminfo::default());
        let garbage = proc(&[("meminfo", "MemTotal: lots kB\nMemAvailable 5 kB\nSwapTotal: 5\nSwapFree:\n")]);
        assert_eq!(meminfo(garbage.path()), Meminfo::default());
    }

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=0.00 avg60=12.50 avg300=0.00 total=5\nfull avg10=0.00 avg60=3.00 avg300=0.00 total=1\n";
        assert_eq!(pressure(proc(&[("pressure/memory", text)]).path(), "memory"), Some(12.5));
        assert_eq!(pressure(proc(&[]).path(), "memory"), None);
        for garbage in ["", "some avg60=much", "full avg60=1.00", "some avg60=-3", "some avg60=NaN"] {
            assert_eq!(pressure(proc(&[("pressure/io", garbage)]).path(), "io"), None, "{garbage}");
        }
    }

    #[test]
    fn load_and_boot_time_are_read() {
        let good = proc(&[("loadavg", "0.52 0.58 0.59 1/972 12345\n"), ("stat", "cpu 1 2\nbtime 1795465800\n")]);
        assert_eq!((load(good.path()), booted_at(good.path())), (Some(0.52), Some(Wall(1_795_465_800_000))));
        assert_eq!((load(proc(&[]).path()), booted_at(proc(&[]).path())), (None, None));
        let garbage = proc(&[("loadavg", "inf"), ("stat", "btime soon\n")]);
        assert_eq!((load(garbage.path()), booted_at(garbage.path())), (None, None));
    }

    #[test]
    fn a_disk_has_a_size() {
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.total >= disk.available && disk.total > 0);
        assert!(super::disk(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn folders_are_counted_within_bounds_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("big/deep")).unwrap();
        fs::write(path("big/deep/data"), vec![1; 300_000]).unwrap();
        fs::write(path("small"), vec![1; 5_000]).unwrap();
        std::os::unix::fs::symlink("/", path("link")).unwrap();
        let found = sizes(folder.path(), 1000, Duration::from_secs(10));
        assert_eq!((found.parts.len(), found.cut.as_deref()), (3, None));
        assert!((300_000..400_000).contains(&found.parts[&path("big")]), "{found:?}");
        assert!(found.parts[&path("link")] < 10_000);
        assert!(sizes(folder.path(), 2, Duration::from_secs(10)).cut.is_some());
        assert_eq!(sizes(&path("nowhere"), 10, Duration::ZERO), Sizes::default());
    }
}
