//! The other side of the wall: processes with a temper, and the keeper's table of them.

use std::collections::BTreeMap;
use stead::core::clock::{Millis, Mono, Now};
use stead::core::event::{Exit, ExitStatus, RunNote, Usage};
use stead::core::name::RunId;
use stead::core::probe::Outcome;
use stead::core::record::SpawnFailure;
use stead::core::recover::{Held, HeldState};
use stead::core::spec::Signal;

/// How a process behaves.
#[derive(Clone, Debug)]
pub struct Temper {
    pub start: Start,
    /// It ends by itself.
    pub life: Option<(Millis, ExitStatus)>,
    pub when_told: WhenTold,
    /// Other processes of its tree.
    pub children: u32,
    /// Only SIGKILL ends the children.
    pub stubborn_children: bool,
    /// It says READY=1 so long after its exec; `None`: never.
    pub ready: Option<Millis>,
    /// It is not well before this time after its exec, and not from the second one on.
    pub well: (Millis, Option<Millis>),
}

#[derive(Clone, Debug)]
pub enum Start {
    After(Millis),
    Fails(SpawnFailure),
    /// The daemon cannot even ask the keeper for it.
    Unprepared(SpawnFailure),
}

#[derive(Clone, Copy, Debug)]
pub enum WhenTold {
    /// It ends so long after the signal: of the signal itself, or with a code of its own.
    Ends(Millis, Option<i32>),
    Ignores,
}

impl Default for Temper {
    fn default() -> Temper {
        Temper {
            start: Start::After(Millis(5)),
            life: None,
            when_told: WhenTold::Ends(Millis(10), None),
            children: 0,
            stubborn_children: false,
            ready: Some(Millis(20)),
            well: (Millis(0), None),
        }
    }
}

/// A run in the keeper's table.
#[derive(Clone, Debug)]
pub struct Kept {
    pub pid: i32,
    pub started: Now,
    pub state: HeldState,
    pub note: RunNote,
    pub children: u32,
    temper: Temper,
}

impl Kept {
    /// Does anything of it live?
    pub fn lives(&self) -> bool {
        self.children > 0 || self.main_lives()
    }

    pub fn main_lives(&self) -> bool {
        matches!(self.state, HeldState::Starting | HeldState::Live)
    }
}

/// What will happen.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Exec(RunId),
    Death(RunId, ExitStatus),
    ChildrenEnd(RunId),
    Ready(RunId),
}

/// What the keeper tells of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Spawned(RunId),
    Failed(RunId),
    Exited(RunId),
    /// The tree of an ended run may be empty now.
    Orphan(RunId),
    /// One of its processes said that it is ready.
    Ready(RunId),
}

/// Processes and the keeper.
#[derive(Debug, Default)]
pub struct Kernel {
    pub table: BTreeMap<RunId, Kept>,
    pub highest: RunId,
    future: BTreeMap<(Mono, u64), Happening>,
    happenings: u64,
    pids: i32,
}

impl Kernel {
    pub fn next(&self) -> Option<Mono> {
        self.future.keys().next().map(|(at, _)| *at)
    }

    /// The next thing happens.
    pub fn happen(&mut self, now: Now) -> Option<News> {
        let (_, happening) = self.future.pop_first()?;
        match happening {
            Happening::Exec(run) => self.exec(now, run),
            Happening::Death(run, status) => {
                let kept = self.table.get_mut(&run)?;
                if !matches!(kept.state, HeldState::Live) {
                    return None;
                }
                kept.state = HeldState::Ended { exit: Exit { status, usage: Usage::default(), at: now } };
                Some(News::Exited(run))
            }
            Happening::Ready(run) => {
                self.table.get(&run).filter(|kept| matches!(kept.state, HeldState::Live)).map(|_| News::Ready(run))
            }
            Happening::ChildrenEnd(run) => {
                self.table.get_mut(&run)?.children = 0;
                Some(News::Orphan(run))
            }
        }
    }

    pub fn spawn(&mut self, now: Now, run: RunId, note: RunNote, temper: Temper) {
        self.highest = self.highest.max(run);
        self.pids += 1;
        let delay = match &temper.start {
            Start::After(delay) => *delay,
            Start::Fails(_) | Start::Unprepared(_) => Millis(1),
        };
        let kept = Kept { pid: 100 + self.pids, started: now, state: HeldState::Starting, note, children: 0, temper };
        self.table.insert(run, kept);
        self.at(now.mono + delay, Happening::Exec(run));
    }

    pub fn signal(&mut self, now: Now, run: RunId, tree: bool, signal: Signal) {
        let Some(kept) = self.table.get(&run) else { return };
        let end = match (signal, kept.temper.when_told) {
            (Signal::KILL, _) => Some((Millis(0), ExitStatus::Signal { signal, core_dumped: false })),
            (Signal::HUP, _) | (_, WhenTold::Ignores) => None,
            (_, WhenTold::Ends(after, Some(code))) => Some((after, ExitStatus::Code(code))),
            (_, WhenTold::Ends(after, None)) => Some((after, ExitStatus::Signal { signal, core_dumped: false })),
        };
        let children_end = kept.children > 0 && tree && (signal == Signal::KILL || !kept.temper.stubborn_children);
        if children_end {
            self.at(now.mono, Happening::ChildrenEnd(run));
        }
        if let Some((after, status)) = end {
            self.at(now.mono + after, Happening::Death(run, status));
        }
    }

    /// How a live run answers its health check.
    pub fn probe(&self, now: Now, run: RunId) -> Option<Outcome> {
        let kept = self.table.get(&run).filter(|kept| matches!(kept.state, HeldState::Live))?;
        let (from, to) = kept.temper.well;
        let age = now.mono - kept.started.mono;
        let ok = age >= from && to.is_none_or(|to| age < to);
        let said = if ok { "HTTP 200 OK" } else { "HTTP 503 Service Unavailable" };
        Some(Outcome { ok, said: said.into(), took: Millis(1) })
    }

    /// What the keeper shows to a daemon that begins.
    pub fn inventory(&self) -> Vec<Held> {
        let held = |(run, kept): (&RunId, &Kept)| Held {
            run: *run,
            pid: kept.pid,
            started: kept.started,
            state: kept.state.clone(),
            note: kept.note.clone(),
        };
        self.table.iter().map(held).collect()
    }

    /// The keeper is gone, and all that it held.
    pub fn end(&mut self) {
        *self = Kernel { pids: self.pids, ..Kernel::default() };
    }

    fn exec(&mut self, now: Now, run: RunId) -> Option<News> {
        let kept = self.table.get_mut(&run)?;
        if let Start::Fails(failure) = &kept.temper.start {
            kept.state = HeldState::Failed { failure: failure.clone() };
            return Some(News::Failed(run));
        }
        kept.state = HeldState::Live;
        kept.children = kept.temper.children;
        let (life, ready) = (kept.temper.life, kept.temper.ready);
        if let Some(after) = ready {
            self.at(now.mono + after, Happening::Ready(run));
        }
        if let Some((after, status)) = life {
            self.at(now.mono + after, Happening::Death(run, status));
        }
        Some(News::Spawned(run))
    }

    fn at(&mut self, at: Mono, happening: Happening) {
        self.happenings += 1;
        self.future.insert((at, self.happenings), happening);
    }
}
