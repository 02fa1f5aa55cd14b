//! Who holds the lock on a database that an app found locked: /proc/locks joined with the open files of processes.

use crate::core::clock::Wall;
use crate::core::database::{ByteLock, Hold, Part, hold};
use crate::os::file;
use crate::os::locks::{self, Kind, Lock};
use crate::os::process::{self, OpenFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A process that holds a lock on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub command: Option<String>,
    pub path: PathBuf,
    pub seen_at: Wall,
}

/// The databases that these processes have open.
#[must_use]
pub fn open_in(pids: &[i32]) -> Vec<PathBuf> {
    let files = pids.iter().flat_map(|pid| process::open_files(*pid));
    let mut paths: Vec<PathBuf> =
        files.filter(|file| part_of(&file.path).is_some()).map(|file| main(&file.path)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| is_database(path));
    paths
}

/// Who keeps others from writing: by a lock on one of `paths`, or, where none is known, on the only database below `folder` that is
/// locked. `own` is the process that asks: that it reads itself keeps nobody else out.
#[must_use]
pub fn holder(paths: &[PathBuf], folder: &Path, own: Option<i32>, now: Wall) -> Option<Holder> {
    let mut files: BTreeMap<i32, Vec<OpenFile>> = BTreeMap::new();
    let mut found: Vec<(Hold, i32, PathBuf)> = Vec::new();
    for lock in locks::read() {
        let Some(pid) = lock.pid.filter(|_| lock.kind == Kind::Posix).or_else(|| owner(&lock, paths)) else { continue };
        let open = files.entry(pid).or_insert_with(|| process::open_files(pid));
        found.extend(held(&lock, pid, open).filter(|(strength, pid, path)| {
            let is_meant = if paths.is_empty() { path.starts_with(folder) } else { paths.contains(path) };
            is_meant && is_database(path) && (*strength == Hold::Exclusive || own != Some(*pid))
        }));
    }
    let (_, pid, path) = found.iter().max_by_key(|(strength, ..)| *strength)?;
    let is_only = found.iter().all(|(.., other)| other == path);
    (is_only || !paths.is_empty()).then(|| Holder {
        pid: *pid,
        command: process::command_line(*pid),
        path: path.clone(),
        seen_at: now,
    })
}

/// What a lock of a process that has these files open means, where it is on a database.
fn held(lock: &Lock, pid: i32, open: &[OpenFile]) -> Option<(Hold, i32, PathBuf)> {
    let file = open.iter().find(|file| file.inode == lock.inode)?;
    let (part, path) = (part_of(&file.path)?, main(&file.path));
    let has_log = open.iter().any(|other| part_of(&other.path) == Some(Part::Index) && main(&other.path) == path);
    let bytes = ByteLock { part, write: lock.write, range: lock.range };
    Some((hold(bytes, has_log)?, pid, path))
}

/// Whose descriptor a lock without a process belongs to: that of the file among those who have it open.
fn owner(lock: &Lock, paths: &[PathBuf]) -> Option<i32> {
    let all = process::Snapshot::take();
    // Only where the database is known: this looks at every process.
    all.all()
        .map(|stat| stat.pid)
        .filter(|_| !paths.is_empty())
        .find(|pid| process::open_files(*pid).iter().any(|file| file.inode == lock.inode && file.is_locked()))
}

fn part_of(path: &Path) -> Option<Part> {
    let name = path.file_name()?.to_str()?;
    let journal = ["-wal", "-journal"].iter().any(|ending| name.ends_with(ending));
    let is_file = path.is_absolute() && !["/dev", "/proc", "/sys"].iter().any(|folder| path.starts_with(folder));
    match name.strip_suffix("-shm") {
        _ if journal || !is_file => None,
        Some(_) => Some(Part::Index),
        None => Some(Part::Main),
    }
}

/// The database itself.
fn main(path: &Path) -> PathBuf {
    match path.to_str().and_then(|path| path.strip_suffix("-shm")) {
        Some(path) => PathBuf::from(path),
        None => path.to_owned(),
    }
}

fn is_database(path: &Path) -> bool {
    file::begins_with(path, b"SQLite format 3\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_database_are_told_by_their_names() {
        assert_eq!(part_of(Path::new("/srv/x.db")), Some(Part::Main));
        assert_eq!(part_of(Path::new("/srv/x.db-shm")), Some(Part::Index));
        for other in ["/srv/x.db-wal", "/srv/x.db-journal", "socket:[7]", "/dev/null"] {
            assert_eq!(part_of(Path::new(other)), None);
        }
        assert_eq!(main(Path::new("/srv/x.db-shm")), Path::new("/srv/x.db"));
    }
}
