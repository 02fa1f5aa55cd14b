//! A log file: one open file per (device, inode), its rotation, and what happens when the disk is full.

use crate::core::clock::{Millis, Wall};
use crate::core::log_name::{index_of, numbered};
use crate::os::file::open_named;
use crate::os::{clock, crash, host, pipe};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A file that could not be written is tried again after this time.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// That a file cannot be written is said no more often than this.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A line that runs on for longer than this past the size limit is cut, for a file may not grow for ever.
const LONGEST_LINE: u64 = 16 << 20;

/// A SIGKILL can cut a write(2) short only between two pages; of larger pages this is a divisor.
const PAGE: u64 = 4096;

/// Where a stream goes, and how the file is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub path: PathBuf,
    pub max_size: u64,
    pub keep: u32,
}

/// An open log file. Opened without O_APPEND, for splice(2) refuses that; whoever writes seeks to its end first.
#[derive(Debug)]
pub struct LogFile {
    target: Target,
    file: Option<File>,
    /// A device such as /dev/null is neither rotated nor indexed.
    regular: bool,
    size: u64,
    index: Option<File>,
    indexed: Wall,
    /// Bytes that found no place and were not told of yet.
    pub lost: u64,
    failing_since: Option<Duration>,
    /// Why it cannot be written, where that was not told of yet; `Some(None)`: it can be again.
    news: Option<Option<String>>,
    /// When it was last said in the log: on a disk that is all but full it fails and heals by turns.
    said: Option<Duration>,
    is_said: bool,
}

/// All open files, each once however many streams name it. Who writes to one holds it open.
#[derive(Debug, Default)]
pub struct Files {
    inodes: BTreeMap<(u64, u64), Weak<RefCell<LogFile>>>,
    paths: BTreeMap<PathBuf, Weak<RefCell<LogFile>>>,
    sweep_at: usize,
    /// Of those that could not be written when their last writer went: when that was last said.
    said: BTreeMap<PathBuf, Duration>,
}

impl Files {
    /// The file of a target, opened where it is not yet. One that cannot be opened counts what it loses and is tried again.
    pub fn get(&mut self, target: &Target) -> Rc<RefCell<LogFile>> {
        if let Some(known) = self.paths.get(&target.path).and_then(Weak::upgrade) {
            known.borrow_mut().target.clone_from(target);
            return known;
        }
        let log = LogFile::open(target.clone(), self.said.remove(&target.path));
        let inode = log.inode();
        let shared = inode.and_then(|inode| self.inodes.get(&inode)).and_then(Weak::upgrade);
        let log = shared.unwrap_or_else(|| Rc::new(RefCell::new(log)));
        if let Some(inode) = inode {
            self.inodes.insert(inode, Rc::downgrade(&log));
        }
        self.paths.insert(target.path.clone(), Rc::downgrade(&log));
        self.sweep();
        log
    }

    /// What is known of a file that cannot be written and has no writer: of an app that ends again and again it is not said each time.
    pub fn remember(&mut self, log: LogFile) {
        let now = clock::precise();
        self.said.retain(|_, said| now - *said < SAY_AGAIN);
        self.said.extend(log.said.map(|said| (log.target.path, said)));
    }

    /// Forgets files that nobody writes to any more, seldom enough to cost nothing.
    fn sweep(&mut self) {
        if self.paths.len() >= self.sweep_at {
            self.paths.retain(|_, log| log.strong_count() > 0);
            self.inodes.retain(|_, log| log.strong_count() > 0);
            self.sweep_at = 64 + 2 * self.paths.len();
        }
    }

    /// Opens every file anew by its path: somebody moved them away.
    pub fn reopen(&mut self) {
        self.inodes.clear();
        for log in self.paths.values().filter_map(Weak::upgrade) {
            log.borrow_mut().reopen();
            if let Some(inode) = log.borrow().inode() {
                self.inodes.insert(inode, Rc::downgrade(&log));
            }
        }
    }

    /// Empties a log and deletes its numbered ones.
    pub fn flush(&mut self, path: &Path) {
        for n in 1.. {
            let old = numbered(path, n);
            let gone = std::fs::remove_file(&old).is_ok();
            let _ = std::fs::remove_file(index_of(&old));
            if !gone {
                break;
            }
        }
        for path in [path, &index_of(path)] {
            let opened = open_named(path, OpenOptions::new().write(true));
            let _ = opened.and_then(|file| file.set_len(0));
        }
        if let Some(log) = self.paths.get(path).and_then(Weak::upgrade) {
            let mut log = log.borrow_mut();
            log.size = 0;
            log.indexed = Wall(0);
        }
    }
}

impl LogFile {
    /// A descriptor of the same open file, for the keeper.
    #[must_use]
    pub fn duplicate(&self) -> Option<std::os::fd::OwnedFd> {
        self.file.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target.path
    }

    #[must_use]
    pub fn inode(&self) -> Option<(u64, u64)> {
        let meta = self.file.as_ref()?.metadata().ok()?;
        Some((meta.dev(), meta.ino()))
    }

    /// The last bytes of the file, at most so many.
    #[must_use]
    pub fn end(&self, most: usize) -> Vec<u8> {
        let Some(file) = self.file.as_ref().filter(|_| self.regular) else { return Vec::new() };
        let length = most.min(self.size as usize);
        let mut bytes = vec![0; length];
        let read = file.read_exact_at(&mut bytes, self.size - length as u64);
        read.map_or_else(|_| Vec::new(), |()| bytes)
    }

    fn open(target: Target, said: Option<Duration>) -> LogFile {
        let mut log = LogFile {
            target,
            file: None,
            regular: true,
            size: 0,
            index: None,
            indexed: Wall(0),
            lost: 0,
            failing_since: None,
            news: None,
            said,
            is_said: said.is_some(),
        };
        if let Err(error) = log.try_open() {
            log.failed(&error);
        }
        log
    }

    fn reopen(&mut self) {
        self.index = None;
        match self.try_open() {
            Ok(()) => self.healed(),
            Err(error) => self.failed(&error),
        }
    }

    fn try_open(&mut self) -> io::Result<()> {
        let file = open(&self.target.path)?;
        let meta = file.metadata()?;
        self.regular = meta.is_file();
        self.size = meta.len();
        self.file = Some(file);
        Ok(())
    }

    /// How much may come before the file is over its size.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        (self.regular && self.target.max_size > 0).then(|| self.target.max_size.saturating_sub(self.size))
    }

    /// Moves up to `max` bytes out of the pipe: to the file, or, where that cannot be had, nowhere, and counts them.
    /// 0: the pipe's end.
    ///
    /// # Errors
    /// `WouldBlock`: the pipe is empty.
    pub fn splice(&mut self, pipe: BorrowedFd<'_>, null: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        self.try_again();
        if let Some(file) = &self.file {
            crash::point("before", "splice");
            match pipe::splice_to_end(pipe, file.as_fd(), max) {
                Ok(n) => {
                    crash::point("after", "splice");
                    self.grew(n as u64);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => self.failed(&error),
            }
        }
        let n = pipe::splice(pipe, null, max)?;
        self.lost += n as u64;
        Ok(n)
    }

    /// Writes bytes at the end; what finds no place is counted.
    pub fn write(&mut self, bytes: &[u8]) {
        crash::point("before", "write");
        self.try_again();
        let Some(file) = &mut self.file else {
            self.lost += bytes.len() as u64;
            return;
        };
        let mut rest = bytes;
        let result = file.seek(SeekFrom::End(0)).and_then(|_| {
            while !rest.is_empty() {
                match file.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => rest = &rest[n..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        crash::point("after", "write");
        let written = (bytes.len() - rest.len()) as u64;
        let missing = rest.len() as u64;
        self.grew(written);
        if let Err(error) = result {
            self.failed(&error);
            self.lost += missing;
        }
    }

    /// Ends a line that a daemon left in its midst when it died amid a write: the piece comes again, whole, and is not to be glued to it.
    /// An app's own unfinished line that ends just at a page is ended too, which loses nothing.
    pub fn end_torn_line(&mut self) {
        if self.regular && self.size > 0 && self.size.is_multiple_of(PAGE) && !self.at_line_start() {
            self.write(b"\n");
        }
    }

    /// Is it over its size?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.file.is_some() && self.room() == Some(0)
    }

    /// Full, and no end of a line for too long.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.size >= self.target.max_size.saturating_add(LONGEST_LINE)
    }

    /// Does it end where a line ends?
    #[must_use]
    pub fn at_line_start(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let Ok(meta) = file.metadata() else { return true };
        let mut last = [0];
        meta.len() == 0 || file.read_exact_at(&mut last, meta.len() - 1).is_err() || last == *b"\n"
    }

    /// `X.log` becomes `X.log.1`; numbers are shifted only up to the first free one. `true`: a new file is open.
    pub fn rotate(&mut self) -> bool {
        let Target { path, keep, .. } = self.target.clone();
        let free = (1..=keep).find(|n| !numbered(&path, *n).exists()).unwrap_or(keep.max(1));
        for n in (1..free).rev() {
            rename(&numbered(&path, n), &numbered(&path, n + 1));
        }
        crash::point("amid", "rotate");
        if keep == 0 {
            let _ = std::fs::remove_file(index_of(&path));
            let _ = std::fs::remove_file(&path);
        } else {
            rename(&path, &numbered(&path, 1));
        }
        crash::point("after", "rotate");
        self.indexed = Wall(0);
        self.reopen();
        self.file.is_some()
    }

    fn grew(&mut self, by: u64) {
        if by > 0 {
            self.index_if_due();
            self.size += by;
            self.healed();
        }
    }

    /// Why it cannot be written, or (`None`) that it can be again; once.
    pub fn news(&mut self) -> Option<Option<String>> {
        self.news.take()
    }

    fn failed(&mut self, error: &io::Error) {
        let now = clock::precise();
        if self.failing_since.is_none() {
            self.news = Some(Some(error.to_string()));
            if self.said.is_none_or(|said| now - said >= SAY_AGAIN) {
                (self.said, self.is_said) = (Some(now), true);
                tracing::error!(%error, path = %self.target.path.display(), "a log cannot be written; its lines are lost and counted");
            }
        }
        self.failing_since = Some(now);
        self.file = None;
    }

    fn healed(&mut self) {
        if self.failing_since.take().is_some() {
            self.news = Some(None);
        }
        if std::mem::take(&mut self.is_said) {
            tracing::info!(path = %self.target.path.display(), "a log can be written again");
        }
    }

    #[must_use]
    pub fn fails(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Nobody may write for long: it heals by itself all the same. `true`: it did.
    pub fn look_again(&mut self) -> bool {
        if self.failing_since.is_none_or(|since| clock::precise() - since < TRY_AGAIN) {
            return false;
        }
        self.try_again();
        self.failing_since = Some(clock::precise());
        let disk = self.target.path.parent().and_then(|folder| host::disk(folder).ok());
        let heals = self.file.is_some() && disk.is_none_or(|disk| disk.available > 0);
        if heals {
            self.healed();
        }
        heals
    }

    fn try_again(&mut self) {
        if self.failing_since.is_some_and(|since| clock::precise() - since >= TRY_AGAIN) && self.file.is_none() {
            // Whether it is healed the next write tells: a full disk lets itself be opened.
            let _ = self.try_open();
            self.failing_since = Some(clock::precise());
        }
    }

    /// Where bytes stand, and when they came: one line a second at most, for `--since` and interleaving.
    fn index_if_due(&mut self) {
        let now = clock::now().wall;
        if !self.regular || (now.0 - self.indexed.0).unsigned_abs() < 1000 {
            return;
        }
        if self.index.is_none() {
            let path = index_of(&self.target.path);
            let written = std::fs::metadata(&path).and_then(|meta| meta.modified()).map_or(Wall(0), clock::wall);
            let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).clone();
            let opened = open_named(&path, &options);
            self.index = opened.ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()));
            let _ = self.index.as_ref().map(cut_torn_line);
            if (now.0 - written.0).unsigned_abs() < 1000 {
                self.indexed = written;
                return;
            }
        }
        self.indexed = now;
        if let Some(index) = &mut self.index {
            // By one write: `writeln!` makes four, and a daemon may die between any two.
            let _ = index.write_all(format!("{} {}\n", self.size, now.0).as_bytes());
        }
    }
}

/// Cuts off the end of an index behind its last whole line: a daemon died as it wrote there.
fn cut_torn_line(index: &File) -> io::Result<()> {
    /// No line of an index is as long.
    const LONGEST: u64 = 64;
    let size = index.metadata()?.len();
    let from = size.saturating_sub(LONGEST);
    let mut end = vec![0; (size - from) as usize];
    index.read_exact_at(&mut end, from)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < end.len() { index.set_len(from + whole as u64) } else { Ok(()) }
}

/// Removes the numbered logs of `path` that were last written to longer ago than `age`. A gap that this leaves is filled by the next rotation.
pub(super) fn tidy(path: &Path, age: Millis) {
    let now = clock::now().wall;
    let Some((folder, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.')?.parse::<u32>().ok());
        let Some(old) = number.map(|number| numbered(path, number)).filter(|old| *old == entry.path()) else {
            continue;
        };
        let Ok(meta) = std::fs::symlink_metadata(&old) else { continue };
        let written = meta.modified().map_or(now, clock::wall);
        if meta.is_file() && now.0.saturating_sub(written.0) > age.0 as i64 {
            let _ = std::fs::remove_file(index_of(&old));
            if std::fs::remove_file(&old).is_ok() {
                tracing::info!(path = %old.display(), "a rotated log was older than log_max_age and is removed");
            }
        }
    }
}

/// The index first: one that went too early knows no times, and one that stayed would give a new log those of the old.
fn rename(from: &Path, to: &Path) {
    let _ = std::fs::rename(index_of(from), index_of(to));
    crash::point("amid", "rename");
    let _ = std::fs::rename(from, to);
}

/// Opens a log, or makes it: nobody else's to read in a folder that is nobody else's, else its group's as well.
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::FileTypeExt;
    let is_private = |folder: &Path| std::fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o077 == 0);
    let mode = if path.parent().is_some_and(is_private) { 0o600 } else { 0o640 };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).clone();
    let file = open_named(path, &options)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}
