//! Reading the journal, newest first, in a thread that the loop does not wait for.

use super::{Kind, VERSION, before};
use crate::core::action::{Entry, Line};
use crate::core::clock::Wall;
use crate::core::name::{Id, RunId};
use crate::core::record::{Cause, CauseCount, Incident, Record};
use crate::core::spec::Policy;
use crate::core::why::{Brief, Counted, Eager, Filter, Streak};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// How much is read at once.
const BLOCK: u64 = 256 << 10;

/// Codes and signals of one row of which each gets advice of its own.
const KINDS: usize = 4;

/// Without a filter, ends that are looked at for advice and loops behind those that are shown.
const LOOK_BACK: usize = 500;

/// Records stand in the order in which they were written. Behind one that is older than what is asked by this much, a clock that was set
/// back hides nothing, in milliseconds.
const SLACK: i64 = 3_600_000;

/// A line, as little of it as decides whether it is wanted.
#[derive(Deserialize)]
pub(super) struct Glimpse<'a> {
    v: u32,
    #[serde(default)]
    pub carried: Option<usize>,
    #[serde(borrow)]
    pub instance: Cow<'a, str>,
    pub id: Id,
    pub run: RunId,
    #[serde(borrow)]
    pub entry: Seen<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Seen<'a> {
    Start(IgnoredAny),
    End {
        #[serde(borrow)]
        record: Brief<'a>,
    },
    Reset(IgnoredAny),
    Asked(IgnoredAny),
    Incident(IgnoredAny),
}

impl Seen<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Seen::Start(_) => Kind::Start,
            Seen::End { .. } => Kind::End,
            Seen::Incident(_) => Kind::Incident,
            Seen::Reset(_) | Seen::Asked(_) => Kind::Other,
        }
    }
}

impl<'a> Glimpse<'a> {
    /// `None`: it is torn, somebody else's, or of a newer version.
    pub fn of(line: &'a [u8]) -> Option<Glimpse<'a>> {
        serde_json::from_slice(line).ok().filter(|glimpse: &Glimpse<'_>| glimpse.v <= VERSION)
    }
}

/// An app's journal as it is at a moment.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) path: PathBuf,
    /// Not on the disk yet, oldest first.
    pub(super) waiting: Vec<Vec<u8>>,
    pub(super) trouble: Option<String>,
    /// So many records are shown.
    pub(super) keep: usize,
}

/// What is asked of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The instances, with their names.
    pub ids: BTreeMap<Id, String>,
    pub filter: Filter,
    /// `None`: all of them.
    pub last: Option<usize>,
    /// What the counters say: a record of each row is wanted for advice.
    pub rows: Vec<CauseCount>,
    pub policy: Policy,
}

/// What it says.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Newest first.
    pub records: Vec<Record>,
    /// Of those that the filter takes, where all were looked at.
    pub by_cause: Vec<CauseCount>,
    /// Of each row the newest, and the newest with another code or signal.
    pub examples: BTreeMap<(Cause, Option<String>), Vec<Record>>,
    pub loops: Vec<Eager>,
    pub notes: Vec<String>,
    /// Newest first.
    pub events: Vec<Incident>,
    /// All records that are kept, where all were looked at.
    pub kept: Option<usize>,
}

impl Reader {
    /// Looks at the newest records, and at no more of them than the question needs.
    #[must_use]
    pub fn find(&self, asked: &Asked) -> Found {
        let mut search = Search {
            asked,
            keep: self.keep,
            open: asked.ids.keys().copied().collect(),
            mixed: asked.rows.iter().any(|row| row.signature.is_none() && row.count > 1 && has_kinds(row.cause)),
            wanted: asked.rows.iter().map(|row| (row.cause, row.signature.clone())).collect(),
            streaks: asked.ids.keys().map(|id| (*id, (Streak::default(), true))).collect(),
            counted: Counted::default(),
            unread: 0,
            ends: 0,
            oldest: Wall(i64::MAX),
            found: Found::default(),
        };
        let waiting = self.waiting.iter().rev().try_for_each(|line| search.line(line));
        let _ = waiting.is_break() || self.files().into_iter().any(|file| search.file(&file).is_break());
        search.found.kept = (!search.is_enough() || search.ends >= self.keep).then_some(search.ends);
        let Search { mut found, counted, streaks, unread, .. } = search;
        found.by_cause = counted.rows();
        let eager = |(id, (streak, _)): (&Id, &(Streak, bool))| streak.eager(asked.ids.get(id)?, &asked.policy);
        found.loops = streaks.iter().filter_map(eager).collect();
        if let Some(trouble) = &self.trouble {
            found
                .notes
                .push(format!("{} lines wait in memory: the journal cannot be written: {trouble}", self.waiting.len()));
        }
        if unread > 0 {
            let (lines, are) = if unread == 1 { ("line", "was") } else { ("lines", "were") };
            found.notes.push(format!(
                "{unread} {lines} of {} {are} passed over: torn, or written by a newer stead",
                self.path.display()
            ));
        }
        found
    }

    /// The file and the one before it.
    fn files(&self) -> Vec<File> {
        let newest = File::open(&self.path).ok();
        let older = File::open(before(&self.path)).ok();
        let inode = |file: &File| file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        // The one became the other in this moment.
        let same = newest.as_ref().and_then(inode) == older.as_ref().and_then(inode);
        newest.into_iter().chain(older.filter(|_| !same)).collect()
    }
}

/// A way through the journal.
struct Search<'a> {
    asked: &'a Asked,
    keep: usize,
    /// Instances whose last reset has not been met yet.
    open: BTreeSet<Id>,
    /// Rows without an example yet.
    wanted: BTreeSet<(Cause, Option<String>)>,
    /// A row may have ends with several codes or signals.
    mixed: bool,
    streaks: BTreeMap<Id, (Streak, bool)>,
    counted: Counted,
    unread: usize,
    ends: usize,
    /// When the last one that was looked at ended.
    oldest: Wall,
    found: Found,
}

impl Search<'_> {
    fn file(&mut self, file: &File) -> ControlFlow<()> {
        backwards(file, |line| self.line(line)).unwrap_or(ControlFlow::Continue(()))
    }

    /// The next older line. Break: no older one can matter.
    fn line(&mut self, line: &[u8]) -> ControlFlow<()> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return ControlFlow::Continue(());
        }
        let Some(glimpse) = Glimpse::of(line) else {
            self.unread += 1;
            return ControlFlow::Continue(());
        };
        if glimpse.carried.is_some() || !self.open.contains(&glimpse.id) {
            return ControlFlow::Continue(());
        }
        match glimpse.entry {
            Seen::Start(_) | Seen::Asked(_) => return ControlFlow::Continue(()),
            Seen::Reset(_) => {
                self.open.remove(&glimpse.id);
                if let Some((_, goes_on)) = self.streaks.get_mut(&glimpse.id) {
                    *goes_on = false;
                }
            }
            Seen::Incident(_) => {
                let filter = &self.asked.filter;
                let fits = |one: &Incident| filter.causes.is_empty() || filter.causes.contains(&one.cause);
                self.found.events.extend(incident(line).filter(|one| filter.is_counted() && fits(one)));
            }
            Seen::End { record } => {
                self.ends += 1;
                self.end(glimpse.id, &record, line);
            }
        }
        if self.open.is_empty() || self.ends >= self.keep || self.is_enough() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self, id: Id, end: &Brief<'_>, line: &[u8]) {
        self.oldest = end.ended_at;
        if let Some((streak, goes_on)) = self.streaks.get_mut(&id).filter(|(_, goes_on)| *goes_on) {
            *goes_on = streak.take(end, &self.asked.policy);
        }
        let row = (end.cause, end.signature.as_deref().map(str::to_owned));
        let taken = self.asked.filter.takes(end);
        let shown = taken && self.asked.last.is_none_or(|last| self.found.records.len() < last);
        let known = self.found.examples.get(&row).map_or(&[][..], Vec::as_slice);
        let same = |one: &Record| (one.exit_code, one.signal) == (end.exit_code, end.signal) || row.1.is_some();
        let is_new = known.len() < KINDS && !known.iter().any(same);
        let example = self.wanted.remove(&row) || ((taken || !known.is_empty()) && is_new);
        if taken {
            self.counted.add(end);
        }
        if let Some(record) = (shown || example).then(|| record(line)).flatten() {
            if example {
                self.found.examples.entry(row).or_default().push(record.clone());
            }
            if shown {
                self.found.records.push(record);
            }
        }
    }

    /// What is older is not asked for, or the counters tell it.
    fn is_enough(&self) -> bool {
        if self.asked.filter.since.is_some_and(|since| self.oldest.0 < since.0.saturating_sub(SLACK)) {
            return true;
        }
        let shown = self.asked.last.is_some_and(|last| self.found.records.len() >= last);
        let told = self.wanted.is_empty() && !self.mixed && self.streaks.values().all(|(_, goes_on)| !goes_on);
        self.asked.filter.is_counted() && shown && (told || self.ends >= LOOK_BACK)
    }
}

/// Whether ends by it differ by code or signal, and the counters do not tell them apart.
fn has_kinds(cause: Cause) -> bool {
    matches!(cause, Cause::ExitCode | Cause::Signal | Cause::CoreDump)
}

fn record(line: &[u8]) -> Option<Record> {
    match serde_json::from_slice::<Line>(line).ok()?.entry {
        Entry::End { record, .. } => Some(*record),
        Entry::Start { .. } | Entry::Reset { .. } | Entry::Incident(_) | Entry::Asked { .. } => None,
    }
}

fn incident(line: &[u8]) -> Option<Incident> {
    match serde_json::from_slice::<Line>(line).ok()?.entry {
        Entry::Incident(incident) => Some(*incident),
        Entry::Start { .. } | Entry::End { .. } | Entry::Reset { .. } | Entry::Asked { .. } => None,
    }
}

/// Gives the lines of a file, the last one first, without their line breaks.
fn backwards(file: &File, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
    let mut from = file.metadata()?.len();
    // What stands behind `from` and is the end of a line that begins before it.
    let mut rest: Vec<u8> = Vec::new();
    while from > 0 {
        let size = BLOCK.min(from);
        from -= size;
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, from)?;
        bytes.append(&mut rest);
        let mut end = bytes.len();
        while let Some(at) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
            if take(&bytes[at + 1..end]).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            end = at;
        }
        bytes.truncate(end);
        rest = bytes;
    }
    Ok(take(&rest))
}
