//! Where the output of each run goes: the names of its files, and the way to the pump.

use super::link::{Mark, Marks, Speaker};
use super::logs::{self, Order, Pump, Sink, Target, Told};
use crate::core::clock::{Millis, Mono, Wall};
use crate::core::event::RunNote;
use crate::core::log_name::LogFiles;
use crate::core::name::{RunId, Ticket};
use crate::core::spec::Spec;
use crate::keeper::message::Stream;
use crate::os::{clock, file};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::UnboundedSender;

/// Lines of stderr that are looked at when a run has ended: a traceback can be long.
const TAIL_LINES: usize = 500;

/// The daemon's side of the pump.
#[derive(Debug)]
pub struct Output {
    home: PathBuf,
    pump: Pump,
    runs: BTreeMap<RunId, LogFiles>,
    lost: BTreeMap<PathBuf, Lost>,
    faults: BTreeMap<PathBuf, String>,
}

/// Bytes that found no place since this daemon began; those of the present hour apart.
#[derive(Clone, Copy, Debug)]
struct Lost {
    bytes: u64,
    lately: u64,
    since: Mono,
    last: Mono,
}

const LATELY: Millis = Millis(3_600_000);

impl Output {
    /// # Errors
    /// Where something else than a folder stands in its place, or the pump cannot be started.
    pub fn start(home: &Path, told: UnboundedSender<Told>, keeper: Speaker) -> io::Result<Output> {
        let folder = home.join("logs");
        match file::private_folder(&folder) {
            Err(error) if file::is_full(&error) || file::is_shortage(&error) => {
                tracing::error!(%error, path = %folder.display(), "the folder of the logs cannot be made");
            }
            Err(error) => {
                let what = format!("could not make the folder {}: {error}", folder.display());
                return Err(io::Error::new(error.kind(), what));
            }
            Ok(()) => {}
        }
        Ok(Output {
            home: home.to_owned(),
            pump: Pump::start(told, keeper)?,
            runs: BTreeMap::new(),
            lost: BTreeMap::new(),
            faults: BTreeMap::new(),
        })
    }

    /// Leaves the pipes to the next daemon, between two moves: no byte is on its way.
    pub fn end(&mut self) {
        self.pump.end();
    }

    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The files of an instance.
    #[must_use]
    pub fn files(&self, spec: &Spec, instance: &str, slot: u32) -> LogFiles {
        LogFiles::of(&self.home, spec, instance, slot)
    }

    /// Where a run's output will begin. Makes the folders that are missing, as PM2 does.
    ///
    /// # Errors
    /// The first file that cannot be opened, and why.
    pub fn marks(&self, files: &LogFiles) -> Result<Marks, (PathBuf, io::Error)> {
        let mark = |path: &Option<PathBuf>| match path {
            None => Ok(Mark::default()),
            Some(path) => logs::mark(path).map_err(|error| (path.clone(), error)),
        };
        mark(&files.combined)?;
        Ok(Marks { out: mark(&files.out)?, err: mark(&files.err)? })
    }

    /// From now on the run's pipes are emptied. Without a wish (the app is forgotten) they go to the standard files.
    pub fn attach(&mut self, run: RunId, spec: Option<&Spec>, note: &RunNote, slot: u32, pipes: (OwnedFd, OwnedFd)) {
        let files = match spec {
            Some(spec) => self.files(spec, &note.instance, slot),
            None => LogFiles::default(),
        };
        let limits = spec.map(|spec| spec.logs.clone()).unwrap_or_default();
        let target = |path: &Option<PathBuf>| {
            path.clone().map(|path| Target { path, max_size: limits.max_size.0, keep: limits.keep })
        };
        for (stream, pipe, own) in [(Stream::Out, pipes.0, &files.out), (Stream::Err, pipes.1, &files.err)] {
            let sink =
                Sink { own: target(own), combined: target(&files.combined), timestamp: limits.timestamp.clone() };
            self.pump.tell(Order::Attach { run, stream, pipe, sink });
        }
        self.runs.insert(run, files);
    }

    /// Brings home what the run wrote; answered by `Told::Drained`, also where nothing is attached.
    pub fn drain(&self, run: RunId, leave_open: bool) {
        self.pump.tell(Order::Drain { run, leave_open });
    }

    pub fn forget(&mut self, run: RunId) {
        if self.runs.remove(&run).is_some() {
            self.pump.tell(Order::Forget { run });
        }
    }

    /// Empties files; answered by `Told::Flushed`.
    pub fn flush(&self, ticket: Ticket, paths: Vec<PathBuf>) {
        self.pump.tell(Order::Flush { ticket, paths });
    }

    /// Opens every file anew by its path.
    pub fn reopen(&self) {
        self.pump.tell(Order::Reopen);
    }

    /// Removes what was rotated away from these files longer ago than this.
    pub fn tidy(&self, aged: Vec<(PathBuf, Millis)>) {
        if !aged.is_empty() {
            self.pump.tell(Order::Tidy { aged });
        }
    }

    pub fn count_lost(&mut self, path: PathBuf, bytes: u64, now: Mono) {
        let lost = self.lost.entry(path).or_insert(Lost { bytes: 0, lately: 0, since: now, last: now });
        if now - lost.since > LATELY {
            (lost.lately, lost.since) = (0, now);
        }
        lost.bytes += bytes;
        lost.lately += bytes;
        lost.last = now;
    }

    /// A file cannot be written, or (`None`) can be again.
    pub fn has_fault(&mut self, path: PathBuf, why: Option<String>) {
        match why {
            Some(why) => drop(self.faults.insert(path, why)),
            None => drop(self.faults.remove(&path)),
        }
    }

    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The first of these files that cannot be written now, and why.
    #[must_use]
    pub fn fault(&self, files: &LogFiles) -> Option<(&Path, &str)> {
        let path = |path| self.faults.get_key_value(path).map(|(path, why)| (path.as_path(), why.as_str()));
        [&files.out, &files.err, &files.combined].into_iter().flatten().find_map(path)
    }

    /// Bytes of these files that found no place since this daemon began.
    #[must_use]
    pub fn lost(&self, files: &LogFiles) -> u64 {
        self.losses(files).map(|lost| lost.bytes).sum()
    }

    /// Those of the last hour.
    #[must_use]
    pub fn lost_lately(&self, files: &LogFiles, now: Mono) -> u64 {
        self.losses(files).filter(|lost| now - lost.last <= LATELY).map(|lost| lost.lately).sum()
    }

    fn losses<'a>(&'a self, files: &'a LogFiles) -> impl Iterator<Item = &'a Lost> {
        [&files.out, &files.err, &files.combined].into_iter().flatten().filter_map(|path| self.lost.get(path))
    }

    /// The last lines that a run wrote to stderr.
    #[must_use]
    pub fn stderr_tail(&self, run: RunId, from: Mark) -> Vec<String> {
        let path = self.runs.get(&run).and_then(|files| files.err.as_ref());
        path.map(|path| logs::tail(path, from, TAIL_LINES)).unwrap_or_default()
    }

    /// The last lines that a run wrote to stdout, at most so many; none where they stand in the file of stderr.
    #[must_use]
    pub fn stdout_tail(&self, run: RunId, from: Mark, most: usize) -> Vec<String> {
        let files = self.runs.get(&run);
        let path = files.and_then(|files| files.out.as_ref().filter(|out| files.err.as_ref() != Some(out)));
        path.map(|path| logs::tail(path, from, most)).unwrap_or_default()
    }

    /// The file of a run's stderr, and when it was last written to.
    #[must_use]
    pub fn stderr_file(&self, run: RunId) -> Option<(&Path, Wall)> {
        let path = self.runs.get(&run)?.err.as_ref()?;
        Some((path, clock::wall(std::fs::metadata(path).ok()?.modified().ok()?)))
    }
}
