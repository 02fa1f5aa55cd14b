//! What shall be done, as plain data. The daemon performs it to the letter and never decides.

use super::clock::{Millis, Mono, Wall};
use super::command::{Refusal, Reply};
use super::event::RunNote;
use super::name::{AppName, Id, RunId, Ticket};
use super::record::{Incident, Record, Tally};
use super::spec::{Env, Signal, Spec};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
// A note is moved once, into a message: a box of its own would cost more than the room.
#[allow(clippy::large_enum_variant)]
#[must_use]
pub enum Action {
    /// Answered by `Spawned` or `SpawnFailed`.
    Spawn(Box<Order>),
    /// To the keeper, before the first signal of a stop.
    Note {
        run: RunId,
        note: RunNote,
    },
    Signal {
        run: RunId,
        to: To,
        signal: Signal,
    },
    /// Ask a run how it is, by the health check of `spec`; answered by `Probed`.
    Probe {
        run: RunId,
        spec: Arc<Spec>,
    },
    /// Wait until the tree is empty (or, without `tree`, do not) and its output is in the logs; answered by `Finished`.
    Finish {
        run: RunId,
        tree: bool,
    },
    /// Written before any action that follows it.
    Journal {
        app: AppName,
        line: Box<Line>,
    },
    Forget {
        run: RunId,
    },
    /// Write the wanted set, before any action that follows it.
    Persist,
    /// Write the wanted set to `saved.json` and answer.
    Save {
        ticket: Ticket,
        force: bool,
    },
    Reply {
        ticket: Ticket,
        result: Result<Reply, Refusal>,
    },
    /// Empty the logs and answer.
    Flush {
        ticket: Ticket,
        ids: Vec<Id>,
    },
    /// The app is gone: its listening sockets are closed.
    Release {
        app: AppName,
    },
    /// To stead's own log: what was not done, and why.
    Report {
        instance: String,
        text: String,
    },
    /// Everything has ended: tell the keeper and end.
    Bye,
}

impl Action {
    /// What it is, in one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Action::Spawn(_) => "spawn",
            Action::Note { .. } => "note",
            Action::Signal { .. } => "signal",
            Action::Probe { .. } => "probe",
            Action::Finish { .. } => "finish",
            Action::Journal { .. } => "journal",
            Action::Forget { .. } => "forget",
            Action::Persist => "persist",
            Action::Save { .. } => "save",
            Action::Reply { .. } => "reply",
            Action::Flush { .. } => "flush",
            Action::Release { .. } => "release",
            Action::Report { .. } => "report",
            Action::Bye => "bye",
        }
    }
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Main,
    Tree,
}

/// A run to be spawned.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub run: RunId,
    pub slot: u32,
    pub note: RunNote,
    pub spec: Arc<Spec>,
    pub environment: Arc<Env>,
}

/// A line of an app's journal. Each carries what has been counted up to it: the last line of an instance is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    #[serde(deserialize_with = "super::name::instance")]
    pub instance: String,
    pub id: Id,
    pub run: RunId,
    pub seq: u64,
    /// A run that has begun since, and its number: the tally knows of it. Only a reload has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<(RunId, u64)>,
    pub tally: Tally,
    pub streak: Streak,
    pub entry: Entry,
}

impl Line {
    /// The record of an end.
    #[must_use]
    pub fn end(&self) -> Option<&Record> {
        match &self.entry {
            Entry::End { record, .. } => Some(record),
            Entry::Start { .. } | Entry::Reset { .. } | Entry::Incident(_) | Entry::Asked { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// Without an `End` to it, and unknown to the keeper: the run is lost.
    Start {
        pid: i32,
        at: Wall,
    },
    End {
        record: Box<Record>,
        at: Mono,
    },
    Reset {
        at: Wall,
    },
    /// The run goes on.
    Incident(Box<Incident>),
    /// Somebody wants a run that the policy would not bring, or not yet.
    Asked {
        at: Wall,
    },
}

/// What the restart policy remembers from one run to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Unplanned ends below `min_uptime` since a run last lived 30 s.
    pub short: u32,
    /// The last delay of the exponential backoff.
    pub delay: Option<Millis>,
    /// The last ten unplanned ends, oldest first.
    pub recent: VecDeque<Mono>,
    /// Of the ends that `short` counts: the last ones, where they came at the app's own memory limits.
    #[serde(default)]
    pub starved: Option<Starved>,
}

/// Short lives one after another that ended at the cap or at the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starved {
    pub ends: u32,
    /// The most that one of them used: the app needs no less before it is well.
    pub needs_bytes: u64,
}
