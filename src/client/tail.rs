//! The end of a log: its last lines, across rotation, and what comes after them.

use crate::core::log_name::{index_of, numbered};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How much is read at once.
const BLOCK: usize = 64 << 10;

/// A line longer than this is handed on in pieces while it is followed.
const LONGEST_HELD: usize = 64 << 10;

/// Looks at a file in which a line stays unfinished; then it is handed on as it is.
const LOOKS_AT_UNFINISHED: u32 = 5;

/// Where a line is: from `start` up to `end`, its line break left out.
#[derive(Clone, Debug)]
pub struct Line {
    pub file: Rc<File>,
    pub start: u64,
    pub end: u64,
    /// Milliseconds since 1970, to the second: when it was written, as the log's index says.
    pub at: i64,
}

/// The last lines of a log, oldest first, and where following it begins. `whole`: a last line without line break is left to that.
#[must_use]
pub fn last(path: &Path, wanted: usize, whole: bool) -> (VecDeque<Line>, Follow) {
    let mut lines = VecDeque::new();
    let mut follow = Follow::new(path);
    for number in 0.. {
        let path = if number == 0 { path.to_owned() } else { numbered(path, number) };
        let Some(file) = open(&path) else {
            // The first one may have been moved away a moment ago.
            if number == 0 && wanted > 0 { continue } else { break }
        };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let mut end = length;
        if number == 0 {
            if whole {
                end = after_last_break(&file, length);
            }
            follow.file = Some(file.clone());
            follow.position = end;
        }
        if lines.len() >= wanted {
            break;
        }
        let times = Times::of(&path, &file);
        for (start, end) in backwards(&file, end, wanted - lines.len()) {
            lines.push_front(Line { file: file.clone(), start, end, at: times.at(start) });
        }
    }
    (lines, follow)
}

fn open(path: &Path) -> Option<Rc<File>> {
    // A named pipe would never end, and opening one would wait.
    let regular = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    regular.then(|| File::open(path).ok()).flatten().map(Rc::new)
}

/// The last lines up to `end`, newest first.
fn backwards(file: &File, end: u64, wanted: usize) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    if end == 0 || wanted == 0 {
        return found;
    }
    let mut line_end = None;
    let mut block = vec![0; BLOCK];
    let mut from = end;
    while from > 0 {
        let to = from;
        from = from.saturating_sub(BLOCK as u64);
        let bytes = &mut block[..(to - from) as usize];
        if file.read_exact_at(bytes, from).is_err() {
            // Cut short under our hands.
            return found;
        }
        for at in memchr_rev(bytes) {
            let at = from + at as u64;
            match line_end {
                None if at + 1 == end => line_end = Some(at),
                None => {
                    found.push((at + 1, end));
                    line_end = Some(at);
                }
                Some(line_end_at) => {
                    found.push((at + 1, line_end_at));
                    line_end = Some(at);
                }
            }
            if found.len() == wanted {
                return found;
            }
        }
    }
    found.push((0, line_end.unwrap_or(end)));
    found
}

/// The places of line breaks, last first.
fn memchr_rev(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at)
}

/// Where the unfinished last line begins; the length where there is none.
fn after_last_break(file: &File, length: u64) -> u64 {
    let mut block = vec![0; BLOCK];
    let mut from = length;
    while from > 0 {
        let to = from;
        from = from.saturating_sub(BLOCK as u64);
        let bytes = &mut block[..(to - from) as usize];
        if file.read_exact_at(bytes, from).is_err() {
            return length;
        }
        if let Some(at) = memchr_rev(bytes).next() {
            return from + at as u64 + 1;
        }
    }
    0
}

/// The `.idx` beside a log: lines `<offset> <milliseconds since 1970>`, at most one a second.
struct Times {
    entries: Vec<(u64, i64)>,
    otherwise: i64,
}

impl Times {
    fn of(path: &Path, file: &File) -> Times {
        let text = std::fs::read_to_string(index_of(path)).unwrap_or_default();
        let entry = |line: &str| {
            let (offset, at) = line.split_once(' ')?;
            Some((offset.parse().ok()?, at.parse().ok()?))
        };
        let otherwise = file.metadata().map_or(0, |meta| meta.mtime() * 1000);
        Times { entries: text.lines().filter_map(entry).collect(), otherwise }
    }

    fn at(&self, offset: u64) -> i64 {
        let after = self.entries.partition_point(|(from, _)| *from <= offset);
        after.checked_sub(1).map_or(self.otherwise, |at| self.entries[at].1)
    }
}

impl Line {
    /// Up to `most` bytes of it, and how many more there are.
    #[must_use]
    pub fn bytes(&self, most: usize) -> (Vec<u8>, u64) {
        let length = self.end - self.start;
        let mut bytes = vec![0; length.min(most as u64) as usize];
        let read = self.file.read_exact_at(&mut bytes, self.start);
        if read.is_err() { (Vec::new(), 0) } else { (bytes, length.saturating_sub(most as u64)) }
    }
}

/// A log that is followed by its path: what is written to the file that stands there, and to those that follow it.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: Option<Rc<File>>,
    position: u64,
    unfinished: Vec<u8>,
    looks: u32,
}

impl Follow {
    /// From the first byte on.
    #[must_use]
    pub fn new(path: &Path) -> Follow {
        Follow { path: path.to_owned(), file: None, position: 0, unfinished: Vec::new(), looks: 0 }
    }

    /// From a place on, of the file with this inode, wherever rotation has moved it; where there is none, from the first byte on.
    #[must_use]
    pub fn after(path: &Path, ino: u64, position: u64) -> Follow {
        let is_it = |file: &Rc<File>| file.metadata().is_ok_and(|meta| meta.ino() == ino && meta.len() >= position);
        let names = std::iter::once(path.to_owned()).chain((1..).map(|number| numbered(path, number)));
        let file = names.map_while(|path| open(&path)).find(is_it);
        let position = if file.is_some() { position } else { 0 };
        Follow { file, position, ..Follow::new(path) }
    }

    /// What was written since then (milliseconds since 1970), as the log's index says; where that has nothing to say, what comes from now on.
    #[must_use]
    pub fn since(path: &Path, then: i64) -> Follow {
        let Some(file) = open(path) else { return Follow::new(path) };
        let times = Times::of(path, &file);
        let position = match times.entries.iter().find(|(_, at)| *at >= then) {
            Some((offset, _)) => *offset,
            None => file.metadata().map_or(0, |meta| meta.len()),
        };
        Follow { file: Some(file), position, ..Follow::new(path) }
    }

    /// As [`Follow::look`], for the last time: an unfinished line is handed on too.
    ///
    /// # Errors
    /// Those of `line`.
    pub fn end(&mut self, line: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.look(line)?;
        self.finish(line)
    }

    /// Hands on every line that has come since the last look.
    ///
    /// # Errors
    /// Those of `line`.
    pub fn look(&mut self, line: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.read(u64::MAX, line)?;
        if let Some(later) = self.later() {
            // What came between the read and the rename.
            self.read(u64::MAX, line)?;
            for file in later {
                self.finish(line)?;
                self.file = Some(file);
                self.position = 0;
                self.read(u64::MAX, line)?;
            }
        }
        self.looks = if self.unfinished.is_empty() { 0 } else { self.looks + 1 };
        if self.looks >= LOOKS_AT_UNFINISHED { self.finish(line) } else { Ok(()) }
    }

    /// Hands on what stands before `offset` of the file with this inode, where that is the one that is followed.
    ///
    /// # Errors
    /// Those of `line`.
    pub fn look_to(&mut self, ino: u64, offset: u64, line: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let is_it = |file: &Rc<File>| file.metadata().is_ok_and(|meta| meta.ino() == ino && meta.len() >= offset);
        if !self.file.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        self.read(offset, line)?;
        self.finish(line)
    }

    /// The files that came after the open one, oldest first, where another stands in its place.
    fn later(&self) -> Option<Vec<Rc<File>>> {
        let newest = open(&self.path)?;
        let Some(old) = self.file.as_ref().and_then(|file| file.metadata().ok()) else { return Some(vec![newest]) };
        let is_old = |file: &File| file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (old.dev(), old.ino()));
        if is_old(&newest) {
            return None;
        }
        let mut between = Vec::new();
        for number in 1.. {
            match open(&numbered(&self.path, number)) {
                // Not among them: it was moved elsewhere or deleted, and nothing says what came between.
                None => return Some(vec![newest]),
                Some(file) if is_old(&file) => break,
                Some(file) => between.push(file),
            }
        }
        Some(between.into_iter().rev().chain([newest]).collect())
    }

    fn read(&mut self, to: u64, line: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        if file.metadata().is_ok_and(|meta| meta.len() < self.position) {
            self.finish(line)?;
            self.position = 0;
        }
        let mut block = vec![0; BLOCK];
        loop {
            let room = to.saturating_sub(self.position).min(BLOCK as u64) as usize;
            let read = match file.read_at(&mut block[..room], self.position) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(read) => read,
            };
            self.position += read as u64;
            self.looks = 0;
            let mut pieces = block[..read].split(|byte| *byte == b'\n').peekable();
            while let Some(piece) = pieces.next() {
                self.unfinished.extend_from_slice(piece);
                if pieces.peek().is_some() {
                    line(&std::mem::take(&mut self.unfinished))?;
                }
            }
            if self.unfinished.len() > LONGEST_HELD {
                self.finish(line)?;
            }
        }
    }

    /// Hands on an unfinished line.
    fn finish(&mut self, line: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.looks = 0;
        if self.unfinished.is_empty() { Ok(()) } else { line(&std::mem::take(&mut self.unfinished)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(lines: &VecDeque<Line>) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8(line.bytes(usize::MAX).0).unwrap()).collect()
    }

    fn append(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn look(follow: &mut Follow) -> Vec<String> {
        let mut seen = Vec::new();
        let mut line = |bytes: &[u8]| {
            seen.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(())
        };
        follow.look(&mut line).unwrap();
        seen
    }

    #[test]
    fn the_last_lines_are_found_whatever_the_end_looks_like() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for (text, wanted, expected) in [
            ("", 3, vec![]),
            ("one", 3, vec!["one"]),
            ("one\n", 3, vec!["one"]),
            ("\n", 3, vec![""]),
            ("one\ntwo\nthree\n", 2, vec!["two", "three"]),
            ("one\ntwo\nthree", 2, vec!["two", "three"]),
            ("one\n\n\n", 2, vec!["", ""]),
            ("one\ntwo\n", 0, vec![]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(texts(&last(&path, wanted, false).0), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_longer_than_a_block_are_found_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let long = "x".repeat(3 * BLOCK + 7);
        std::fs::write(&path, format!("first\n{long}\nlast\n")).unwrap();
        let lines = last(&path, 2, false).0;
        assert_eq!(lines[0].end - lines[0].start, long.len() as u64);
        assert_eq!(lines[0].bytes(10), (b"xxxxxxxxxx".to_vec(), long.len() as u64 - 10));
    }

    #[test]
    fn older_files_give_what_the_newest_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(numbered(&path, 2), "1\n2\n").unwrap();
        std::fs::write(numbered(&path, 1), "3\n4\n").unwrap();
        std::fs::write(&path, "5\n").unwrap();
        assert_eq!(texts(&last(&path, 4, false).0), ["2", "3", "4", "5"]);
        assert_eq!(texts(&last(&path, 99, false).0), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn the_index_says_when_a_line_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        std::fs::write(folder.path().join("a.log.idx"), "0 1000\n8 3000\ngarbage\n").unwrap();
        let times: Vec<i64> = last(&path, 3, false).0.iter().map(|line| line.at).collect();
        assert_eq!(times, [1000, 1000, 3000]);
    }

    #[test]
    fn what_comes_is_followed_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "old\nhalf");
        let (lines, mut follow) = last(&path, 9, true);
        assert_eq!(texts(&lines), ["old"]);
        assert_eq!(look(&mut follow), Vec::<String>::new());
        append(&path, " and half\nnext\n");
        assert_eq!(look(&mut follow), ["half and half", "next"]);
        append(&path, "prompt> ");
        let seen: Vec<String> = (0..LOOKS_AT_UNFINISHED + 1).flat_map(|_| look(&mut follow)).collect();
        assert_eq!(seen, ["prompt> "]);
    }

    #[test]
    fn what_comes_after_a_place_is_found_wherever_the_file_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "old\n");
        let meta = std::fs::metadata(&path).unwrap();
        append(&path, "1\n");
        std::fs::rename(&path, numbered(&path, 1)).unwrap();
        append(&path, "2\nunfinished");
        let mut seen = Vec::new();
        let mut line = |bytes: &[u8]| {
            seen.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(())
        };
        Follow::after(&path, meta.ino(), meta.len()).end(&mut line).unwrap();
        assert_eq!(seen, ["1", "2", "unfinished"]);
        assert_eq!(look(&mut Follow::after(&path, 1, 4)), ["2"], "another file is new from its first byte on");
    }

    #[test]
    fn the_index_says_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "one\ntwo\nthree\n");
        std::fs::write(folder.path().join("a.log.idx"), "0 1000\n8 3000\n").unwrap();
        assert_eq!(look(&mut Follow::since(&path, 2000)), ["three"]);
        let mut follow = Follow::since(&path, 4000);
        append(&path, "four\n");
        assert_eq!(look(&mut follow), ["four"]);
        assert_eq!(look(&mut Follow::since(&folder.path().join("none"), 0)), Vec::<String>::new());
    }

    #[test]
    fn what_stands_before_a_place_can_be_had_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "old\n");
        let (_, mut follow) = last(&path, 9, true);
        append(&path, "last\nwords");
        let meta = std::fs::metadata(&path).unwrap();
        append(&path, "new\n");
        let look_to = |follow: &mut Follow, ino, offset| {
            let mut seen = Vec::new();
            let mut line = |bytes: &[u8]| {
                seen.push(String::from_utf8_lossy(bytes).into_owned());
                Ok(())
            };
            follow.look_to(ino, offset, &mut line).unwrap();
            seen
        };
        assert!(look_to(&mut follow, meta.ino() + 1, meta.len()).is_empty(), "another file");
        assert!(look_to(&mut follow, meta.ino(), 1 << 40).is_empty(), "it has been emptied since");
        assert_eq!(look_to(&mut follow, meta.ino(), meta.len()), ["last", "words"]);
        assert!(look_to(&mut follow, meta.ino(), 2).is_empty(), "that was long ago");
        assert_eq!(look(&mut follow), ["new"]);
    }

    #[test]
    fn rotation_loses_no_line_even_twice_between_two_looks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "1\n");
        let (_, mut follow) = last(&path, 0, true);
        append(&path, "2\n");
        for (text, more) in [("3\n", 2), ("4\n", 1)] {
            if more == 1 {
                std::fs::rename(numbered(&path, 1), numbered(&path, 2)).unwrap();
            }
            std::fs::rename(&path, numbered(&path, 1)).unwrap();
            append(&path, text);
        }
        assert_eq!(look(&mut follow), ["2", "3", "4"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(&mut follow), Vec::<String>::new());
        append(&path, "5\n");
        assert_eq!(look(&mut follow), ["5"]);
    }

    #[test]
    fn an_emptied_log_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "a long line before\n");
        let (_, mut follow) = last(&path, 0, true);
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&path, "new\n");
        assert_eq!(look(&mut follow), ["new"]);
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_followed_from_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (lines, mut follow) = last(&path, 5, true);
        assert!(lines.is_empty());
        append(&path, "first\n");
        assert_eq!(look(&mut follow), ["first"]);
    }
}
