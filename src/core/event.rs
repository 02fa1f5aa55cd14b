//! What happens to the fleet. Facts ride in the event: the core never asks back.

use super::clock::{Millis, Mono, Now};
use super::command::Asked;
use super::name::{AppName, Id, RunId, Ticket};
use super::probe::Outcome;
use super::record::{Actor, Cause, ChildEnd, Crossing, LockHolder, Memory, Oom, PortHolder, SpawnFailure, TakenPort};
use super::spec::Signal;
use super::traceback::Traceback;
use serde::{Deserialize, Serialize};

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client asks; the answer is an `Action::Reply` with the same ticket.
    Asked { ticket: Ticket, asked: Asked },
    /// The exec of a run succeeded.
    Spawned { run: RunId, pid: i32, at: Now },
    SpawnFailed {
        run: RunId,
        failure: SpawnFailure,
        /// Who has the address of a `listen` socket that could not be bound.
        holder: Option<PortHolder>,
    },
    /// The main process ended; `left` others of its tree live.
    Exited { run: RunId, exit: Exit, left: u32 },
    /// The working set of a live tree is above its cap.
    OverCap { run: RunId, crossing: Box<Crossing> },
    /// The kernel killed a process of a live tree for want of memory.
    OomKill { run: RunId, killed: Box<Killed> },
    /// A process of a live tree said `READY=1`.
    Ready { run: RunId },
    /// The answer to `Action::Probe`.
    Probed { run: RunId, outcome: Outcome },
    /// The answer to `Action::Finish`: the tree is empty and all it wrote is in the logs.
    Finished { run: RunId, facts: Box<Facts> },
    /// A file that the app watches changed, and nothing since for its `watch_delay`.
    Changed {
        app: AppName,
        /// The first of them, relative to the app's `cwd` where it is in there.
        path: String,
    },
    /// Somebody asks stead itself to end.
    Term { actor: Actor },
    /// Somebody set the wall clock.
    ClockSet,
    /// The deadline has come.
    Due,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    pub usage: Usage,
    pub at: Now,
}

/// wait(2)'s status; code and signal are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    Code(i32),
    Signal { signal: Signal, core_dumped: bool },
}

/// getrusage(2) of the ended process and those it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub user: Millis,
    pub system: Millis,
    pub max_rss_bytes: u64,
}

/// Kills by the kernel in a run's group since the run began, and what is known of the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    pub oom: Oom,
    pub kernel_log: Vec<String>,
}

/// What was gathered at the edge before anything was cleaned up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The most processes that were seen to outlive the main process.
    pub left: u32,
    pub memory: Memory,
    pub oom: Oom,
    pub stderr_tail: Vec<String>,
    pub stdout_tail: Vec<String>,
    pub exception: Option<Traceback>,
    /// From the last line of stderr to the end of the run; `None`: not known, for it was moved into its file only later.
    pub quiet: Option<Millis>,
    /// Other runs write to the same file of stderr: its lines may be theirs.
    pub log_is_shared: bool,
    pub kernel_log: Vec<String>,
    /// Whose log claims the signal.
    pub killer: Option<Killer>,
    /// Only of a run that said that its database was locked.
    pub lock_holder: Option<LockHolder>,
    /// Only of a run whose last words say so.
    pub port: Option<TakenPort>,
    pub children: Vec<ChildEnd>,
    pub hint: Option<String>,
}

/// A daemon that kills for want of memory before the kernel does, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killer {
    /// It marks the group that it kills.
    SystemdOomd,
    /// It names the process in a log that others may write to as well.
    Earlyoom,
}

impl Killer {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Killer::SystemdOomd => "systemd-oomd",
            Killer::Earlyoom => "earlyoom",
        }
    }
}

/// A signal that somebody asked stead to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    pub signal: Signal,
    pub at: Mono,
    pub actor: Actor,
}

/// Why a run is being ended: stead's own act, written down before the first signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub cause: Cause,
    pub actor: Option<Actor>,
    /// Where stead acted by itself: on what it had seen.
    #[serde(default)]
    pub grounds: Option<Grounds>,
}

impl Why {
    /// Somebody's wish, or stead's own act where `actor` is nobody.
    #[must_use]
    pub fn asked(cause: Cause, actor: Option<Actor>) -> Why {
        Why { cause, actor, grounds: None }
    }
}

/// What stead had seen before it ended a run by itself; it becomes evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grounds {
    /// The file that changed.
    WatchPath(String),
    /// The probe and its last answers.
    Probe(serde_json::Value),
}

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub why: Why,
    pub since: Mono,
    /// When SIGKILL follows, or the kill signal where only the reload signal was sent.
    pub kill_at: Mono,
    pub sent: Sent,
    /// Of a stop for the cap.
    #[serde(default)]
    pub crossing: Option<Box<Crossing>>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// The intent is written down, the signal is not sent yet: who finds this after a crash sends it.
    Nothing,
    /// To the old run of a reload, which may take `reload_timeout`; the kill signal follows at `kill_at`.
    ReloadSignal,
    KillSignal,
    SigKill,
}

/// What the keeper holds for the daemon with each run, so that the next daemon knows whose it is and what was intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNote {
    pub id: Id,
    pub app: String,
    #[serde(deserialize_with = "super::name::instance")]
    pub instance: String,
    pub seq: u64,
    /// Of the wish that it was started with.
    pub revision: u32,
    pub intent: Option<Intent>,
    /// The last `stead signal`.
    #[serde(default)]
    pub signalled: Option<Signalled>,
    /// It was started beside the main run, to take its place.
    #[serde(default)]
    pub reload: Option<Why>,
    /// Said where there is a way to go from spawned to online.
    #[serde(default)]
    pub reached: Reached,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    #[default]
    Spawned,
    /// It has said that it is ready; its health is still to be seen.
    Ready,
    Online,
}
