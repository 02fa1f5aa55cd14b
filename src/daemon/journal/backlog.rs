//! Lines that wait for room on the disk, in a file of memory that the keeper holds as well: a daemon that dies meanwhile loses none.
//!
//! A line stands there as `APP<tab>KEEP<tab>LINE`. One that waits no more becomes a hole, and holes are passed over: nothing is moved, so
//! that no crash finds a line half moved.

use super::{Place, before, path};
use crate::core::name::AppName;
use crate::os::file;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The name under which the keeper holds it: no app's socket, for their names begin with the app's.
pub const NAME: &str = "\njournal";

#[derive(Debug)]
pub(super) struct Backlog(File);

/// A line in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub app: AppName,
    /// The app's `journal_keep`.
    pub keep: u32,
    pub bytes: Vec<u8>,
    pub place: Place,
}

impl Backlog {
    pub fn new(file: OwnedFd) -> Backlog {
        Backlog(file.into())
    }

    /// # Errors
    /// Of write(2), for want of memory: then nothing of the line is there.
    pub fn add(&self, app: &AppName, keep: u32, line: &[u8]) -> io::Result<Place> {
        let mut bytes = format!("{app}\t{keep}\t").into_bytes();
        bytes.extend(line);
        let start = self.0.metadata()?.len();
        if let Err(error) = self.0.write_all_at(&bytes, start) {
            let _ = self.0.set_len(start);
            return Err(error);
        }
        Ok(Place { start, length: bytes.len() })
    }

    /// A line waits no more.
    pub fn remove(&self, place: Place) {
        if let Err(error) = file::punch_hole(&self.0, place.start, place.length as u64) {
            tracing::error!(%error, "a line that is written cannot be taken out of the backlog");
        }
    }

    /// Nothing before this place waits; `None`: nothing at all. Of holes between two lines the kernel keeps their pages.
    pub fn begins(&self, at: Option<u64>) {
        let _ = match at {
            Some(0) => Ok(()),
            Some(at) => file::punch_hole(&self.0, 0, at),
            None => self.0.set_len(0),
        };
    }

    /// What an earlier daemon left in it, oldest first. What it had not written to its end is taken away.
    ///
    /// # Errors
    /// Of lseek(2) and read(2).
    pub fn read(&self) -> io::Result<Vec<Kept>> {
        let (begin, bytes) = file::read_data(&self.0)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            self.0.set_len(begin + whole as u64)?;
        }
        let mut all = Vec::new();
        let mut start = begin;
        for piece in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let hole = piece.iter().take_while(|byte| **byte == 0).count();
            let place = Place { start: start + hole as u64, length: piece.len() - hole };
            start += piece.len() as u64;
            match kept(&piece[hole..], place) {
                Some(kept) => all.push(kept),
                None => tracing::error!("a line that waited in memory cannot be read"),
            }
        }
        Ok(all)
    }
}

fn kept(piece: &[u8], place: Place) -> Option<Kept> {
    let mut parts = piece.splitn(3, |byte| *byte == b'\t');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (app, keep) = (AppName::parse(word()?).ok()?, word()?.parse().ok()?);
    Some(Kept { app, keep, bytes: parts.next()?.to_vec(), place })
}

/// Those of these lines that stand in their app's files already: the daemon died after it had written one and before it took it out.
pub(super) fn written<'a>(folder: &Path, lines: &'a [Kept]) -> HashSet<&'a [u8]> {
    let apps: HashSet<&AppName> = lines.iter().map(|line| &line.app).collect();
    let mut found = HashSet::new();
    for app in apps {
        let wanted: HashSet<&[u8]> =
            lines.iter().filter(|line| line.app == *app).map(|line| line.bytes.as_slice()).collect();
        let path = path(folder, app);
        for file in [before(&path), path].iter().filter_map(|path| file::briefly(|| File::open(path)).ok()) {
            let mut reader = BufReader::with_capacity(256 << 10, file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                found.extend(wanted.get(line.as_slice()));
                line.clear();
            }
        }
    }
    found
}
