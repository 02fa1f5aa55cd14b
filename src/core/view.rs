//! What clients are shown. The JSON forms of `list`, `describe`, `why` and `ping` are the contract.

use super::clock::{Millis, Wall};
use super::name::Id;
use super::probe::Answer;
use super::record::{Cause, CauseCount, Incident, Record};
use super::spec::Spec;
use super::trend::Trend;
use super::why::Eager;
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
    /// Why changes of the files that it watches may go unnoticed.
    #[serde(default)]
    pub watch_trouble: Option<String>,
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
    /// The last answers of its run to its health check, the newest last.
    #[serde(default)]
    pub answers: Vec<Answer>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    pub name: String,
    /// These four tell of all ends since the last reset, whatever is asked.
    pub total: u64,
    pub planned: u64,
    pub unplanned: u64,
    pub since: Option<Wall>,
    /// Only of what is asked. By cause alone it counts ends whose records are gone, too.
    pub by_cause: Vec<CauseCount>,
    /// Only of what is asked. Newest first.
    pub records: Vec<Record>,
    /// Of each row of `by_cause` about which something can be done.
    #[serde(default)]
    pub advice: Vec<Advice>,
    /// Fast loops that are under way or have just ended, and what stead did in them.
    #[serde(default)]
    pub loops: Vec<Eager>,
    /// What the journal cannot tell, and why.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What happened to runs and did not end them, newest first.
    #[serde(default)]
    pub events: Vec<Incident>,
}

/// What to do about a row of `by_cause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub cause: Cause,
    pub signature: Option<String>,
    pub text: String,
}

/// An instance's runs and files, for who follows its output. Asked for often, so it is cheap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    pub name: String,
    /// The files of the run that lives, and where its output begins in each.
    pub files: Vec<LogMark>,
    /// Without its evidence.
    pub last_exit: Option<Record>,
}

/// Where the output of a run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    pub path: PathBuf,
    pub ino: u64,
    pub offset: u64,
}

/// `stead trend NAME --json`; an array where NAME means several instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrendView {
    /// `None`: of a series in a file.
    pub name: Option<String>,
    pub leak: bool,
    pub bytes_per_hour: f64,
    /// From now until the cap.
    pub eta_seconds: Option<f64>,
    /// How long it has been growing.
    pub since_seconds: Option<f64>,
    /// One sentence.
    pub reason: String,
    pub cap_bytes: Option<u64>,
}

impl TrendView {
    #[must_use]
    pub fn new(name: Option<String>, trend: &Trend, cap_bytes: Option<u64>) -> TrendView {
        TrendView {
            name,
            leak: trend.leak,
            bytes_per_hour: trend.bytes_per_hour.round(),
            eta_seconds: trend.eta_seconds.map(f64::round),
            since_seconds: trend.since_seconds.map(f64::round),
            reason: trend.reason.sentence().into(),
            cap_bytes,
        }
    }
}

/// What an instance's tree used over time: `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    pub name: String,
    pub cap_bytes: Option<u64>,
    pub wall_bytes: Option<u64>,
    /// Oldest first.
    pub readings: Vec<ReadingView>,
}

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadingView {
    pub at: Wall,
    pub memory_bytes: u64,
    pub cpu_percent: f64,
    pub processes: u32,
    /// The last 16 bits of the run's number: where it changes there was a restart.
    pub run: u16,
}

/// An element of `stead notify test --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub notifier: String,
    /// `None`: it took the message.
    pub fault: Option<String>,
    pub took_ms: Millis,
}

/// `stead ping --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    pub version: String,
    pub protocol: u32,
    pub daemon_pid: i32,
    pub keeper_pid: i32,
    pub daemon_starts: u64,
    /// Why the kernel cannot keep memory caps here.
    #[serde(default)]
    pub memory_trouble: Option<String>,
    /// What would help.
    #[serde(default)]
    pub memory_remedy: Option<String>,
    /// What stead cannot do for the moment.
    #[serde(default)]
    pub faults: Vec<String>,
}
