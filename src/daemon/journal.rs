//! The exit records on disk: one file of JSON Lines per app.
//!
//! A line is written before what follows it and synced within a second by a thread of its own. Each line carries what was counted
//! up to it, so the last line of an instance is enough to begin from.

use crate::core::action::{Entry, Line};
use crate::core::name::{AppName, Id};
use crate::core::record::{Incident, Record};
use crate::core::recover::{self, Tail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Version of a line.
const VERSION: u32 = 1;

/// A file longer than this is cut down to its last records.
const LONGEST: u64 = 8 << 20;

/// Records of an app that are kept when its file is cut.
const KEEP: usize = 1000;

/// What is read from a file's end to begin from: some hundred records.
const TAIL: u64 = 512 << 10;

/// Lines that wait for room on the disk; beyond it the oldest go.
const MOST_WAITING: usize = 2000;

/// How often dirty files are synced.
const SYNC_EVERY: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    #[serde(flatten)]
    line: &'a Line,
}

#[derive(Deserialize)]
struct ReadBack {
    v: u32,
    #[serde(flatten)]
    line: Line,
}

/// The journal of a home.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    syncer: mpsc::Sender<PathBuf>,
    waiting: VecDeque<(PathBuf, Vec<u8>)>,
}

impl Journal {
    /// # Errors
    /// Where its folder cannot be made.
    pub fn open(home: &Path) -> io::Result<Journal> {
        let folder = home.join("journal");
        std::fs::create_dir_all(&folder)?;
        let (syncer, dirty) = mpsc::channel();
        std::thread::Builder::new().name("sync".into()).stack_size(64 << 10).spawn(move || sync(&dirty))?;
        Ok(Journal { folder, syncer, waiting: VecDeque::new() })
    }

    /// The end of every instance's journal.
    #[must_use]
    pub fn tails(&self) -> BTreeMap<Id, Tail> {
        let mut tails = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            match read_tail(&path) {
                Ok(lines) => tails.extend(recover::tails(lines)),
                Err(error) => tracing::error!(%error, path = %path.display(), "a journal cannot be read"),
            }
        }
        tails
    }

    /// Writes a line. A full disk stops nobody: the line waits in memory.
    pub fn write(&mut self, app: &AppName, line: &Line) {
        let path = self.path(app);
        let Ok(mut bytes) = serde_json::to_vec(&Written { v: VERSION, line }) else { return };
        bytes.push(b'\n');
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
        }
        let first = self.waiting.is_empty();
        self.waiting.push_back((path, bytes));
        if let Err(error) = self.flush()
            && first
        {
            tracing::error!(%error, "the journal cannot be written; records wait in memory");
        }
    }

    /// Tries again to write what waits.
    ///
    /// # Errors
    /// Of the first line that still cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((path, bytes)) = self.waiting.front() {
            let length = append(path, bytes)?;
            if length > LONGEST {
                cut(path)?;
            }
            if let Some((path, _)) = self.waiting.pop_front() {
                let _ = self.syncer.send(path);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// All records of an app's instances since their last reset, newest first.
    #[must_use]
    pub fn records(&self, app: &AppName) -> Vec<Record> {
        let Ok(bytes) = std::fs::read(self.path(app)) else { return Vec::new() };
        let mut records: Vec<Record> = Vec::new();
        for line in parse(&bytes) {
            match line.entry {
                Entry::End { record, .. } => records.push(*record),
                Entry::Reset { .. } => records.retain(|record| record.instance != line.instance),
                Entry::Start { .. } | Entry::Incident(_) | Entry::Asked { .. } => {}
            }
        }
        records.reverse();
        records
    }

    /// What happened to an app's instances since their last reset and ended no run, newest first.
    #[must_use]
    pub fn incidents(&self, app: &AppName) -> Vec<Incident> {
        let Ok(bytes) = std::fs::read(self.path(app)) else { return Vec::new() };
        let mut incidents: Vec<Incident> = Vec::new();
        for line in parse(&bytes) {
            match line.entry {
                Entry::Incident(incident) => incidents.push(*incident),
                Entry::Reset { .. } => incidents.retain(|one| one.instance != line.instance),
                Entry::Start { .. } | Entry::End { .. } | Entry::Asked { .. } => {}
            }
        }
        incidents.reverse();
        incidents
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.folder.join(format!("{app}.jsonl"))
    }
}

/// Appends, on a line of its own: a torn line before it stays torn alone. Returns the file's length.
fn append(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    file.write_all(bytes)?;
    Ok(length + bytes.len() as u64)
}

fn read_tail(path: &Path) -> io::Result<Vec<Line>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// Every line that can be read; a torn or foreign one is passed over.
fn parse(bytes: &[u8]) -> Vec<Line> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<ReadBack>(line).ok())
        .filter(|read| read.v <= VERSION)
        .map(|read| read.line)
        .collect()
}

fn cut(path: &Path) -> io::Result<()> {
    let bytes = std::fs::read(path)?;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let keep = lines.len().saturating_sub(2 * KEEP);
    crate::os::file::replace(path, &lines[keep..].concat())
}

fn sync(dirty: &mpsc::Receiver<PathBuf>) {
    while let Ok(first) = dirty.recv() {
        std::thread::sleep(SYNC_EVERY);
        let mut paths = BTreeSet::from([first]);
        paths.extend(dirty.try_iter());
        for path in paths {
            let _ = File::open(path).and_then(|file| file.sync_data());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDEST: &str = include_str!("../../tests/fixtures/journal-v1.jsonl");

    #[test]
    fn the_oldest_form_is_read() {
        assert_eq!(parse(OLDEST.as_bytes()).len(), OLDEST.lines().count());
    }

    #[test]
    fn a_journal_that_is_torn_anywhere_gives_its_whole_lines() {
        let text: String = OLDEST.split_inclusive('\n').take(4).collect();
        let whole = parse(text.as_bytes());
        for end in 0..text.len() {
            let torn = &text.as_bytes()[..end];
            let lines = torn.iter().filter(|byte| **byte == b'\n').count();
            let read = parse(torn);
            assert!(read.len() == lines || read.len() == lines + 1, "{end}: {} of {lines} lines", read.len());
            assert_eq!(read, whole[..read.len()]);
        }
    }

    #[test]
    fn a_line_of_a_newer_version_and_one_of_somebody_else_are_passed_over() {
        let newer = OLDEST.lines().next().unwrap_or_default().replacen("\"v\":1", "\"v\":2", 1);
        let text = format!("{newer}\nnot json\n{{}}\n\n{OLDEST}");
        assert_eq!(parse(text.as_bytes()), parse(OLDEST.as_bytes()));
    }
}
