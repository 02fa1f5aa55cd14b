//! The last lines that a run wrote: from its file's size at spawn on.

use super::file::open;
use crate::core::log_name::numbered;
use crate::daemon::link::Mark;
use crate::os::file::{briefly, is_full, is_shortage, read_only, without_links};
use crate::os::process;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Longest stretch that is read, and longest line that is kept.
const STRETCH: u64 = 64 << 10;
const LINE: usize = 2000;

/// Where the next byte of this file will stand. The file and the folders above it are made where they are missing, as PM2 does.
///
/// # Errors
/// Of mkdir(2) and open(2). That the disk is full or no descriptor is free is none: its output is lost and counted then, and the run lives.
pub fn mark(path: &Path) -> io::Result<Mark> {
    let opened = match briefly(|| open(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder_of(path).and_then(|()| briefly(|| open(path)))
        }
        result => result,
    };
    let meta = match opened {
        Ok(file) => file.metadata()?,
        Err(error) if is_full(&error) || is_shortage(&error) => match std::fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(_) => return Ok(Mark::default()),
        },
        Err(error) => return Err(error),
    };
    Ok(Mark { dev: meta.dev(), ino: meta.ino(), offset: meta.len() })
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    let path = if process::uid() == 0 { without_links(path)? } else { path.to_owned() };
    std::fs::create_dir_all(path.parent().unwrap_or(&path))
}

/// The last `count` lines since `from`, oldest first. Where the file was rotated since, the older one is read as well.
#[must_use]
pub fn tail(path: &Path, from: Mark, count: usize) -> Vec<String> {
    let mut lines = read(path, from, count);
    let moved = std::fs::metadata(path).is_ok_and(|meta| from.ino != 0 && meta.ino() != from.ino);
    if moved && lines.len() < count {
        let mut older = read(&numbered(path, 1), from, count - lines.len());
        older.append(&mut lines);
        lines = older;
    }
    lines
}

fn read(path: &Path, from: Mark, count: usize) -> Vec<String> {
    let Ok(file) = briefly(|| read_only(path)) else { return Vec::new() };
    let Ok(meta) = file.metadata() else { return Vec::new() };
    let same = (meta.dev(), meta.ino()) == (from.dev, from.ino);
    // A file that is shorter than it was has been emptied since.
    let first = if same && from.offset <= meta.len() { from.offset } else { 0 };
    let start = first.max(meta.len().saturating_sub(STRETCH));
    let mut bytes = vec![0; (meta.len() - start) as usize];
    if file.read_exact_at(&mut bytes, start).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    // The stretch begins within a line: half of one says the wrong thing.
    if start > first && lines.len() > 1 {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(count);
    lines[skip..].iter().map(|line| cut(line)).collect()
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_run_wrote_is_its_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "before\n").unwrap();
        let from = mark(&path).unwrap();
        std::fs::write(&path, "before\none\ntwo\n").unwrap();
        assert_eq!(tail(&path, from, 50), ["one", "two"]);
        assert_eq!(tail(&path, from, 1), ["two"]);
    }

    #[test]
    fn a_rotation_since_the_spawn_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "before\n").unwrap();
        let from = mark(&path).unwrap();
        std::fs::write(&path, "before\none\n").unwrap();
        std::fs::rename(&path, folder.path().join("x.log.1")).unwrap();
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(tail(&path, from, 50), ["one", "two"]);
    }

    #[test]
    fn a_flood_without_end_of_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, vec![0xffu8; 1 << 20]).unwrap();
        let lines = tail(&path, Mark::default(), 50);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].chars().count() <= LINE + 1);
    }
}
