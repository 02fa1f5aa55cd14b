//! The table: every run from the asking for its spawn until the daemon says that all is on disk.

use super::handover::HeldRun;
use super::message::{FromKeeper, Note, State};
use crate::core::clock::Now;
use crate::core::name::RunId;
use crate::os::spawn::Child;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A run.
#[derive(Debug)]
pub struct Entry {
    pub pid: i32,
    pub pidfd: Option<OwnedFd>,
    pub started: Now,
    pub state: State,
    pub note: Note,
    /// `None`: the spawn failed before there were any.
    pub ends: Option<Ends>,
    /// Until the exec is decided.
    pub exec: Option<OwnedFd>,
    /// Where the keeper may splice the streams to.
    pub out_log: Option<OwnedFd>,
    pub err_log: Option<OwnedFd>,
    told: Told,
}

/// The read ends of a run's pipes.
#[derive(Debug)]
pub struct Ends {
    pub out: OwnedFd,
    pub err: OwnedFd,
}

/// How much of a run the present daemon has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Asked,
    Spawned,
    Ended,
}

/// All runs, and what the daemon has yet to be told of them.
#[derive(Debug, Default)]
pub struct Inventory {
    entries: BTreeMap<RunId, Entry>,
    pids: BTreeMap<i32, RunId>,
    news: BTreeSet<RunId>,
    pub highest: RunId,
}

/// A message with its descriptors, borrowed from the table.
pub type Said<'a> = (FromKeeper, Vec<BorrowedFd<'a>>);

impl Inventory {
    pub fn insert(&mut self, run: RunId, child: Child, started: Now, note: Note, ends: Ends) {
        self.highest = self.highest.max(run);
        self.pids.insert(child.pid, run);
        let entry = Entry {
            pid: child.pid,
            pidfd: Some(child.pidfd),
            started,
            state: State::Starting,
            note,
            ends: Some(ends),
            exec: Some(child.exec),
            out_log: None,
            err_log: None,
            told: Told::Asked,
        };
        self.entries.insert(run, entry);
    }

    /// A run that never came to be.
    pub fn insert_failed(&mut self, run: RunId, state: State, at: Now, note: Note) {
        self.highest = self.highest.max(run);
        let entry = Entry {
            pid: 0,
            pidfd: None,
            started: at,
            state,
            note,
            ends: None,
            exec: None,
            out_log: None,
            err_log: None,
            told: Told::Asked,
        };
        self.entries.insert(run, entry);
        self.news.insert(run);
    }

    /// All runs, for another keeper.
    #[must_use]
    pub fn hand_over(&self) -> Vec<HeldRun> {
        let raw = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        let runs = self.iter().map(|(run, entry)| HeldRun {
            run,
            pid: entry.pid,
            started: entry.started,
            state: entry.state,
            note: entry.note.clone(),
            pidfd: raw(&entry.pidfd),
            out: entry.ends.as_ref().map(|ends| ends.out.as_raw_fd()),
            err: entry.ends.as_ref().map(|ends| ends.err.as_raw_fd()),
            exec: raw(&entry.exec),
            out_log: raw(&entry.out_log),
            err_log: raw(&entry.err_log),
        });
        runs.collect()
    }

    /// The inventory of the keeper before. No daemon has been told of anything.
    ///
    /// # Errors
    /// Those of `adopt`, which makes a descriptor of its number.
    pub fn take_over(
        runs: Vec<HeldRun>,
        highest: RunId,
        adopt: impl Fn(RawFd) -> io::Result<OwnedFd>,
    ) -> io::Result<Inventory> {
        let mut all = Inventory { highest, ..Inventory::default() };
        for held in runs {
            let ends = match (held.out, held.err) {
                (Some(out), Some(err)) => Some(Ends { out: adopt(out)?, err: adopt(err)? }),
                _ => None,
            };
            let adopt = |fd: Option<RawFd>| fd.map(&adopt).transpose();
            let entry = Entry {
                pid: held.pid,
                pidfd: adopt(held.pidfd)?,
                started: held.started,
                state: held.state,
                note: held.note,
                ends,
                exec: adopt(held.exec)?,
                out_log: adopt(held.out_log)?,
                err_log: adopt(held.err_log)?,
                told: Told::Asked,
            };
            if matches!(entry.state, State::Starting | State::Live) {
                all.pids.insert(entry.pid, held.run);
            }
            all.entries.insert(held.run, entry);
        }
        Ok(all)
    }

    #[must_use]
    pub fn get_mut(&mut self, run: RunId) -> Option<&mut Entry> {
        self.entries.get_mut(&run)
    }

    #[must_use]
    pub fn by_pid(&self, pid: i32) -> Option<RunId> {
        self.pids.get(&pid).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (RunId, &Entry)> {
        self.entries.iter().map(|(run, entry)| (*run, entry))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn forget(&mut self, run: RunId) {
        if let Some(entry) = self.entries.remove(&run) {
            if self.pids.get(&entry.pid) == Some(&run) {
                self.pids.remove(&entry.pid);
            }
            self.news.remove(&run);
        }
    }

    /// The state of a run moved on.
    pub fn moved(&mut self, run: RunId, state: State) {
        let Some(entry) = self.entries.get_mut(&run) else { return };
        entry.state = state;
        if state != State::Starting {
            entry.exec = None;
        }
        if matches!(state, State::Ended { .. } | State::Failed { .. }) && self.pids.get(&entry.pid) == Some(&run) {
            self.pids.remove(&entry.pid);
        }
        self.news.insert(run);
    }

    /// A run that the daemon asks for again is told of again.
    pub fn tell_again(&mut self, run: RunId) {
        if let Some(entry) = self.entries.get_mut(&run) {
            entry.told = Told::Asked;
            self.news.insert(run);
        }
    }

    /// A new daemon is shown the whole inventory instead of the news.
    #[must_use]
    pub fn introduce(&mut self, run: RunId) -> Option<Said<'_>> {
        self.news.remove(&run);
        let entry = self.entries.get_mut(&run)?;
        entry.told = match entry.state {
            State::Starting => Told::Asked,
            State::Live => Told::Spawned,
            State::Ended { .. } | State::Failed { .. } => Told::Ended,
        };
        let say = FromKeeper::Run {
            run,
            pid: entry.pid,
            started: entry.started,
            state: entry.state,
            note: entry.note.clone(),
        };
        Some((say, entry.descriptors()))
    }

    #[must_use]
    pub fn after(&self, run: Option<RunId>) -> Option<RunId> {
        let from = run.map_or(RunId(0), |run| RunId(run.0 + 1));
        self.entries.range(from..).next().map(|(run, _)| *run)
    }

    /// The next thing to tell; tell it, then call [`Inventory::told`].
    #[must_use]
    pub fn next_news(&self) -> Option<(RunId, Said<'_>)> {
        let run = *self.news.first()?;
        let entry = self.entries.get(&run)?;
        let said = match (entry.told, entry.state) {
            (Told::Asked, State::Live | State::Ended { .. }) => {
                (FromKeeper::Spawned { run, pid: entry.pid, at: entry.started }, entry.descriptors())
            }
            (_, State::Failed { stage, errno, .. }) => (FromKeeper::Failed { run, stage, errno }, Vec::new()),
            (_, State::Ended { status, usage, at }) => (FromKeeper::Exited { run, status, usage, at }, Vec::new()),
            // Nothing to say: what `told` takes away.
            (_, State::Starting | State::Live) => (FromKeeper::Unknown, Vec::new()),
        };
        Some((run, said))
    }

    pub fn told(&mut self, run: RunId) {
        let Some(entry) = self.entries.get_mut(&run) else { return };
        entry.told = match (entry.told, entry.state) {
            (Told::Asked, State::Live | State::Ended { .. }) => Told::Spawned,
            (told, State::Starting | State::Live) => told,
            (_, State::Ended { .. } | State::Failed { .. }) => Told::Ended,
        };
        let open = matches!((entry.told, entry.state), (Told::Spawned, State::Ended { .. }));
        if !open {
            self.news.remove(&run);
        }
    }
}

impl Entry {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let ends = self.ends.iter().flat_map(|ends| [ends.out.as_fd(), ends.err.as_fd()]);
        self.pidfd.iter().map(AsFd::as_fd).chain(ends).collect()
    }
}
