//! What clients are shown. The JSON forms of `list`, `describe`, `why` and `ping` are the contract.

use super::clock::{Millis, Wall};
use super::name::Id;
use super::record::{CauseCount, Incident, Record};
use super::spec::Spec;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// PM2's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Launching,
    Online,
    Stopping,
    Stopped,
    /// In backoff, or until its cron time.
    Waiting,
    /// Gave up.
    Errored,
}

impl Status {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Launching => "launching",
            Status::Online => "online",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Waiting => "waiting",
            Status::Errored => "errored",
        }
    }
}

/// Who keeps the tree below its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    Cgroup2,
    Cgroup1,
    Polling,
    None,
}

/// One element of `stead list --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    pub name: String,
    pub app: String,
    pub namespace: String,
    pub id: Id,
    pub status: Status,
    pub pid: Option<i32>,
    pub uptime_ms: Option<Millis>,
    pub restarts: u64,
    pub restarts_unplanned: u64,
    pub memory_bytes: Option<u64>,
    pub memory_cap_bytes: Option<u64>,
    pub memory_enforcement: Enforcement,
    /// Of one core, since the last look.
    pub cpu_percent: Option<f64>,
    pub processes: Option<u32>,
    pub next_start_at: Option<Wall>,
    pub last_exit: Option<Record>,
    /// Ten unplanned ends in ten minutes.
    pub crash_loop: bool,
}

/// One element of `stead describe --json`: the list's element and more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    #[serde(flatten)]
    pub view: InstanceView,
    /// `flask-app#3`.
    pub run: Option<String>,
    pub started_at: Option<Wall>,
    pub created_at: Wall,
    /// Values are replaced by `***`.
    pub spec: Spec,
    pub out_file: Option<PathBuf>,
    pub error_file: Option<PathBuf>,
    pub log_file: Option<PathBuf>,
    /// Bytes of output that could not be written (disk full).
    pub log_bytes_lost: u64,
    pub tree: Vec<ProcessView>,
    /// The name of the status' reason: why it waits, why it gave up.
    pub note: Option<String>,
}

/// A process of a tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    pub pid: i32,
    pub ppid: i32,
    pub memory_bytes: Option<u64>,
    pub command: String,
}

/// `stead why NAME --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    pub name: String,
    pub total: u64,
    pub planned: u64,
    pub unplanned: u64,
    pub since: Option<Wall>,
    pub by_cause: Vec<CauseCount>,
    /// Newest first.
    pub records: Vec<Record>,
    /// What happened to runs and did not end them, newest first.
    #[serde(default)]
    pub events: Vec<Incident>,
}

/// `stead ping --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    pub version: String,
    pub protocol: u32,
    pub daemon_pid: i32,
    pub keeper_pid: i32,
    pub daemon_starts: u64,
}
