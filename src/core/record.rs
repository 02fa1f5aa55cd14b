//! The fact that stays: what is known about the end of a run. Its JSON form is the contract of `stead why --json`.

use super::clock::{Millis, Wall};
use super::exit_code::Meaning;
use super::name::nearest;
use super::spec::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a run ended. Closed: a new cause is a new version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    Success,
    ExitCode,
    Signal,
    CoreDump,
    MemoryCap,
    OomKill,
    OomKillHost,
    HealthCheck,
    StartTimeout,
    SpawnFailed,
    Lost,
    Manual,
    Reload,
    ConfigChange,
    Cron,
    Watch,
    Shutdown,
}

impl Cause {
    /// Those that nobody wished.
    pub const UNPLANNED: [Cause; 11] = [
        Cause::Success,
        Cause::ExitCode,
        Cause::Signal,
        Cause::CoreDump,
        Cause::MemoryCap,
        Cause::OomKill,
        Cause::OomKillHost,
        Cause::HealthCheck,
        Cause::StartTimeout,
        Cause::SpawnFailed,
        Cause::Lost,
    ];

    pub const ALL: [Cause; 17] = [
        Cause::Success,
        Cause::ExitCode,
        Cause::Signal,
        Cause::CoreDump,
        Cause::MemoryCap,
        Cause::OomKill,
        Cause::OomKillHost,
        Cause::HealthCheck,
        Cause::StartTimeout,
        Cause::SpawnFailed,
        Cause::Lost,
        Cause::Manual,
        Cause::Reload,
        Cause::ConfigChange,
        Cause::Cron,
        Cause::Watch,
        Cause::Shutdown,
    ];

    /// The cause of that word; `_` is as good as `-`.
    ///
    /// # Errors
    /// The nearest word, where one is near.
    pub fn parse(text: &str) -> Result<Cause, Option<&'static str>> {
        let word = text.trim().to_ascii_lowercase().replace('_', "-");
        let found = Cause::ALL.into_iter().find(|cause| cause.word() == word);
        found.ok_or_else(|| nearest(&word, Cause::ALL.map(Cause::word)))
    }

    /// The word in JSON and on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Cause::Success => "success",
            Cause::ExitCode => "exit-code",
            Cause::Signal => "signal",
            Cause::CoreDump => "core-dump",
            Cause::MemoryCap => "memory-cap",
            Cause::OomKill => "oom-kill",
            Cause::OomKillHost => "oom-kill-host",
            Cause::HealthCheck => "health-check",
            Cause::StartTimeout => "start-timeout",
            Cause::SpawnFailed => "spawn-failed",
            Cause::Lost => "lost",
            Cause::Manual => "manual",
            Cause::Reload => "reload",
            Cause::ConfigChange => "config-change",
            Cause::Cron => "cron",
            Cause::Watch => "watch",
            Cause::Shutdown => "shutdown",
        }
    }
}

/// How sure the cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    Certain,
    Likely,
    Unknown,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub uid: Option<u32>,
    pub pid: Option<i32>,
    /// The command line.
    pub command: Option<String>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `flask-app#3`.
    pub run: String,
    pub instance: String,
    pub pid: Option<i32>,
    pub started_at: Option<Wall>,
    pub ended_at: Wall,
    pub uptime_ms: Option<Millis>,
    pub cause: Cause,
    pub planned: bool,
    pub confidence: Confidence,
    /// One plain sentence.
    pub summary: String,
    pub exit_code: Option<i32>,
    pub signal: Option<Signal>,
    pub core_dumped: bool,
    /// Type and message of the exception, with numbers, ids and paths folded.
    pub signature: Option<String>,
    pub actor: Option<Actor>,
    pub memory: Memory,
    pub evidence: Evidence,
    /// Processes of the tree that outlived the main process.
    pub left_behind: u32,
    pub next: Next,
}

impl Record {
    /// Does it stay the last word on its instance though `other` comes later? So where a run ends before the one whose place it took.
    #[must_use]
    pub fn outlasts(&self, other: &Record) -> bool {
        let seq = |record: &Record| record.run.rsplit_once('#').and_then(|(_, seq)| seq.parse::<u64>().ok());
        self.next.action != NextAction::RunsOn && seq(self) > seq(other)
    }
}

/// Memory of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub last_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    pub cap_bytes: Option<u64>,
    pub wall_bytes: Option<u64>,
}

/// What the cause rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The last lines of the run's stderr, oldest first.
    pub stderr_tail: Vec<String>,
    pub exception: Option<Exception>,
    pub oom: Oom,
    pub kernel_log: Vec<String>,
    /// The health check and its last answers.
    pub probe: Option<serde_json::Value>,
    pub watch_path: Option<String>,
    pub spawn: Option<SpawnFailure>,
    /// Who sent the signal, where somebody says so: `stead signal`, or the log of a killer for want of memory.
    pub sender: Option<Actor>,
    /// The last lines of the run's stdout, oldest first; empty where it goes to the file of stderr.
    #[serde(default)]
    pub stdout_tail: Vec<String>,
    /// What the exit code means by custom.
    #[serde(default)]
    pub exit_meaning: Option<Meaning>,
    /// Who held the lock where the run said that its database was locked.
    #[serde(default)]
    pub lock_holder: Option<LockHolder>,
    /// Processes of the tree, orphans of it, that ended badly before the main process did; the newest last.
    #[serde(default)]
    pub children: Vec<ChildEnd>,
    /// What the log says of a wait that was in vain.
    #[serde(default)]
    pub hint: Option<String>,
    /// When the tree's memory crossed its cap.
    #[serde(default)]
    pub cap_crossed_at: Option<Wall>,
    /// The tree at that moment.
    #[serde(default)]
    pub cap_crossing: Option<Crossing>,
    /// The port that it wanted and did not get, for another has it.
    #[serde(default)]
    pub port: Option<TakenPort>,
}

/// A tree whose memory crosses its cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    pub at: Wall,
    pub usage_bytes: u64,
    /// Within the last minute, or since the run began.
    pub growth_bytes: i64,
    /// The time in which it grew by that.
    pub growth_ms: Millis,
    /// The biggest first.
    pub processes: Vec<BigProcess>,
}

/// A process and its share of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigProcess {
    pub pid: i32,
    pub command: String,
    pub memory_bytes: u64,
}

/// An exception that ended the run, as its traceback says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    /// `file:line` of the innermost frame in the app's own code.
    pub location: Option<String>,
}

/// A process that was seen to hold a lock on a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    pub pid: i32,
    /// The command line.
    pub command: Option<String>,
    /// The instance that it belongs to, where it is one of ours.
    pub instance: Option<String>,
    /// The database.
    pub path: String,
    pub seen_at: Wall,
}

/// A port that another process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPort {
    /// Null where neither the log nor the app's attributes name it, or where it is a socket in a file.
    pub port: Option<u16>,
    /// Null where nobody was seen to listen on it, or the holder is not to be looked at.
    pub holder: Option<PortHolder>,
}

/// A process that was seen to listen on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    pub pid: i32,
    /// The command line.
    pub command: Option<String>,
    /// The instance that it belongs to, where it is one of ours.
    pub instance: Option<String>,
}

/// The end of a process that lost its parent and was reaped by the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    pub pid: i32,
    /// At most 15 bytes, as in /proc/PID/comm.
    pub name: String,
    pub exit_code: Option<i32>,
    pub signal: Option<Signal>,
    pub ended_at: Wall,
}

/// Numbers of kills by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    pub own: u64,
    pub host: u64,
    pub killed_pid: Option<i32>,
    pub killed_name: Option<String>,
}

/// What happened to a run and did not end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// `flask-app#3`.
    pub run: String,
    pub instance: String,
    pub at: Wall,
    /// `oom-kill` or `oom-kill-host`: a process of the tree was killed, and the app went on.
    pub cause: Cause,
    /// One plain sentence.
    pub summary: String,
    /// Kills since the incident before, and whom the newest hit.
    pub oom: Oom,
    pub kernel_log: Vec<String>,
}

/// Where a spawn failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    pub stage: String,
    /// A name: `ENOENT`.
    pub errno: String,
}

impl Evidence {
    /// It waits for something that is no fault of its own: its port, or what the machine is short of.
    #[must_use]
    pub fn is_blameless(&self) -> bool {
        self.port.is_some() || self.spawn.as_ref().is_some_and(SpawnFailure::is_for_want)
    }
}

impl SpawnFailure {
    /// The machine was short of something, or stead's own share of it: no fault of the app's, and it passes.
    #[must_use]
    pub fn is_for_want(&self) -> bool {
        match (self.stage.as_str(), self.errno.as_str()) {
            // The program or its arguments may be what is too large.
            ("exec" | "limits", "ENOMEM") => false,
            // A socket that the keeper was to hold, and had no descriptor for.
            ("descriptors", "EBADF") => true,
            (_, errno) => matches!(errno, "EMFILE" | "ENFILE" | "EAGAIN" | "ENOMEM" | "ENOSPC" | "EDQUOT"),
        }
    }
}

/// What follows, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    pub action: NextAction,
    pub delay_ms: Option<Millis>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextAction {
    Restart,
    Stop,
    GiveUp,
    Delete,
    /// It was one of the two runs of a reload, and the other one stays.
    RunsOn,
}

impl NextAction {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NextAction::Restart => "restart",
            NextAction::Stop => "stop",
            NextAction::GiveUp => "give-up",
            NextAction::Delete => "delete",
            NextAction::RunsOn => "runs-on",
        }
    }
}

/// What has been counted since the last `reset`. It is written with every line of the journal, so that the last line is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Exit records.
    pub total: u64,
    pub planned: u64,
    pub unplanned: u64,
    /// Runs spawned after another.
    pub restarts: u64,
    /// Runs spawned after an unplanned end.
    pub restarts_unplanned: u64,
    pub since: Option<Wall>,
    pub by_cause: Vec<CauseCount>,
}

/// One row of `by_cause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseCount {
    pub cause: Cause,
    pub signature: Option<String>,
    pub count: u64,
    pub first_at: Wall,
    pub last_at: Wall,
}

/// Rows of `by_cause` that are kept per instance; signatures beyond it fall into their cause's row without signature, so that a
/// message that never repeats can't grow the journal's lines for ever.
const MAX_CAUSES: usize = 48;

impl Tally {
    /// Counts one more record.
    pub fn count(&mut self, record: &Record) {
        self.total += 1;
        if record.planned {
            self.planned += 1;
        } else {
            self.unplanned += 1;
        }
        self.since.get_or_insert(record.started_at.unwrap_or(record.ended_at));
        let full = self.by_cause.len() >= MAX_CAUSES;
        let find = |rows: &[CauseCount], signature: &Option<String>| {
            rows.iter().position(|row| row.cause == record.cause && row.signature == *signature)
        };
        let mut signature = record.signature.clone();
        let mut at = find(&self.by_cause, &signature);
        if at.is_none() && full {
            signature = None;
            at = find(&self.by_cause, &signature);
        }
        match at {
            Some(at) => {
                self.by_cause[at].count += 1;
                self.by_cause[at].last_at = record.ended_at;
            }
            None => self.by_cause.push(CauseCount {
                cause: record.cause,
                signature,
                count: 1,
                first_at: record.ended_at,
                last_at: record.ended_at,
            }),
        }
    }

    /// The sum of several instances' tallies, most frequent cause first.
    #[must_use]
    pub fn merged<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Tally {
        let mut sum = Tally::default();
        let mut rows: BTreeMap<(Cause, Option<String>), CauseCount> = BTreeMap::new();
        for tally in tallies {
            sum.total += tally.total;
            sum.planned += tally.planned;
            sum.unplanned += tally.unplanned;
            sum.restarts += tally.restarts;
            sum.restarts_unplanned += tally.restarts_unplanned;
            sum.since = match (sum.since, tally.since) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            for row in &tally.by_cause {
                rows.entry((row.cause, row.signature.clone()))
                    .and_modify(|sum| {
                        sum.count += row.count;
                        sum.first_at = sum.first_at.min(row.first_at);
                        sum.last_at = sum.last_at.max(row.last_at);
                    })
                    .or_insert_with(|| row.clone());
            }
        }
        sum.by_cause = rows.into_values().collect();
        sum.by_cause.sort_by_key(|row| std::cmp::Reverse((row.count, row.last_at)));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_known_by_its_word() {
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, at, "ALL is whole, and in order");
            assert_eq!(Cause::parse(cause.word()), Ok(cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.word());
        }
        assert_eq!(Cause::Shutdown as usize + 1, Cause::ALL.len());
        assert_eq!(Cause::parse("OOM_KILL"), Ok(Cause::OomKill));
        assert_eq!(Cause::parse("oomkill"), Err(Some("oom-kill")));
        assert_eq!(Cause::parse("memory-cpa"), Err(Some("memory-cap")));
        assert_eq!(Cause::parse("zzz"), Err(None));
    }

    #[test]
    fn every_cause_has_a_section_in_its_page() {
        let page = include_str!("../../docs/causes.md");
        for cause in Cause::ALL {
            let title = format!("\n### `{}`\n", cause.word());
            let section = page.split_once(&title).map(|(_, rest)| rest.split("\n#").next().unwrap_or_default());
            let section = section.unwrap_or_else(|| panic!("docs/causes.md has no section {}", cause.word()));
            for part in ["**Certain:**", "**Do:**"] {
                assert!(section.contains(part), "{} says nothing under {part}", cause.word());
            }
        }
        let sections = page.lines().filter(|line| line.starts_with("### ")).count();
        assert_eq!(sections, Cause::ALL.len(), "a section of a cause that is none");
    }
}
