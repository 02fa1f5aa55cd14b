//! The report of everything: a verdict with its reason and one piece of advice for each app, the machine, and stead itself. Pure: the
//! facts are gathered at the edge.

use super::clock::{Millis, Wall};
use super::spec::{Bytes, HealthRules};
use super::view::{Enforcement, Status};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How things stand; the worse is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    #[default]
    Ok,
    /// Nothing can be said.
    Unknown,
    Warning,
    Critical,
}

impl Verdict {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Warning => "warning",
            Verdict::Critical => "critical",
        }
    }

    /// Of `stead health`; as the plug-ins of monitoring systems have it.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Warning => 1,
            Verdict::Critical => 2,
            Verdict::Unknown => 3,
        }
    }
}

/// The rules of the whole fleet, shares in percent. The defaults are those of the report that stead writes in a person's stead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    pub memory: u8,
    pub swap: u8,
    pub disk: u8,
    /// For apps that say nothing else.
    pub apps: HealthRules,
    /// Folders whose biggest parts are told.
    pub data: Vec<PathBuf>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { memory: 80, swap: 80, disk: 90, apps: HealthRules::default(), data: Vec::new() }
    }
}

/// Unplanned restarts in all above which an app is not called well.
pub const RESTARTS: u64 = 50;

/// Unplanned ends within an hour that are too many.
pub const RESTARTS_PER_HOUR: u32 = 6;

/// A leak that reaches its cap sooner than this is more than a warning.
const SOON: f64 = 3600.0;

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct AppFacts {
    pub name: String,
    pub status: Status,
    pub rules: HealthRules,
    pub crash_loop: bool,
    /// Its restarts come ever more seldom.
    pub backs_off: bool,
    pub restarts_unplanned: u64,
    /// Unplanned ends within the last hour; at most ten are remembered.
    pub ends_last_hour: u32,
    /// Why it waits, gave up, or does not start.
    pub note: Option<String>,
    /// What ended it last: cause and summary.
    pub last: Option<(String, String)>,
    pub memory_bytes: Option<u64>,
    pub cap_bytes: Option<u64>,
    pub enforcement: Enforcement,
    /// A leak: bytes an hour, and seconds until the cap.
    pub leak: Option<(f64, Option<f64>)>,
    /// Of its output, within the last hour.
    pub log_bytes_lost: u64,
    /// Why its output cannot be written now.
    pub log_fault: Option<String>,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppHealth {
    pub name: String,
    pub verdict: Verdict,
    /// `None`: it is well.
    pub reason: Option<String>,
    pub advice: Option<String>,
}

/// Something that is not well beside the apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `memory`, `swap`, `disk /srv`, `oom`, `caps`, `enforcement`, `journal` …
    pub area: String,
    pub verdict: Verdict,
    pub reason: String,
    pub advice: Option<String>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    pub memory_total_bytes: Option<u64>,
    /// The kernel's estimate of what new programs could have.
    pub memory_available_bytes: Option<u64>,
    pub swap_total_bytes: Option<u64>,
    pub swap_free_bytes: Option<u64>,
    pub pressure: Pressure,
    pub disks: Vec<Disk>,
    /// The biggest below the folders of `health: data:`.
    pub data: Vec<Folder>,
    pub data_measured_at: Option<Wall>,
    /// Since boot, as far back as the kernel's log goes; oldest first.
    pub oom_kills: Vec<OomVictim>,
    /// The sum of all caps of what is wanted up.
    pub caps_bytes: u64,
    pub booted_at: Option<Wall>,
    pub cpus: u32,
    pub load: Option<f64>,
}

/// Shares of the last minute in which some task waited, in percent (PSI). `None`: the kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub io: Option<f64>,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// One of the folders on it that matter.
    pub path: PathBuf,
    /// What lies there: `logs`, `data`.
    pub holds: String,
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// A folder with all below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folder {
    pub path: PathBuf,
    pub bytes: u64,
    /// Not all of it was counted: it is larger than this.
    pub at_least: bool,
}

/// One that the kernel killed for want of memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OomVictim {
    pub at: Option<Wall>,
    pub pid: i32,
    pub name: String,
    /// What it held.
    pub bytes: Option<u64>,
    /// The machine was out of memory; else a group's own limit was reached.
    pub host: bool,
    /// The instance of ours that it belonged to.
    pub app: Option<String>,
}

/// stead itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Own {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    pub version: String,
    pub daemon_pid: i32,
    pub keeper_pid: i32,
    pub daemon_starts: u64,
    pub memory_enforcement: Enforcement,
}

/// What stead knows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFacts {
    pub version: String,
    pub daemon_pid: i32,
    pub keeper_pid: i32,
    pub daemon_starts: u64,
    /// Of these, because of an upgrade.
    pub upgrades: u64,
    pub enforcement: Enforcement,
    /// Why caps are kept by polling, and what to do about it.
    pub polling: Option<(String, String)>,
    /// What it cannot do now: write the journal, the state, the history, logs; open a descriptor; start a process.
    pub faults: Vec<(String, String)>,
    /// Notifiers that do not get through, and why.
    pub notifiers: Vec<(String, String)>,
}

/// `stead health --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub verdict: Verdict,
    pub exit: u8,
    /// The worst first.
    pub apps: Vec<AppHealth>,
    pub host: Host,
    pub stead: Own,
}

/// The whole report.
#[must_use]
pub fn examine(now: Wall, rules: &Rules, apps: &[AppFacts], host: Host, own: OwnFacts) -> Health {
    let mut judged: Vec<AppHealth> = apps.iter().map(app).collect();
    judged.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.name.cmp(&b.name)));
    let host = examine_host(now, rules, host);
    let own = examine_own(own, apps.iter().any(|one| one.cap_bytes.is_some()));
    let all = judged.iter().map(|one| one.verdict).chain([host.verdict, own.verdict]);
    let verdict = all.max().unwrap_or_default();
    Health { verdict, exit: verdict.exit(), apps: judged, host, stead: own }
}

/// The first that applies is the worst.
fn app(one: &AppFacts) -> AppHealth {
    let name = &one.name;
    let why = format!("`stead why {name}`");
    let last = one.last.as_ref().map(|(_, summary)| format!(": {summary}")).unwrap_or_default();
    let found = |verdict, reason: String, advice: String| AppHealth {
        name: name.clone(),
        verdict,
        reason: Some(reason),
        advice: Some(advice),
    };
    if one.status == Status::Errored {
        let note = one.note.as_ref().map(|note| match last.is_empty() {
            true => format!("gave up: {note}"),
            false => format!("gave up: {note}; the last end{last}"),
        });
        return found(
            Verdict::Critical,
            note.unwrap_or_else(|| "gave up".into()),
            format!("{why} says why; `stead restart {name}` tries again"),
        );
    }
    if one.crash_loop {
        let reason = format!("crash loop: {} unplanned ends within the hour{last}", one.ends_last_hour);
        let air = if one.backs_off { "" } else { "; `exp_backoff_restart_delay` gives it air" };
        return found(Verdict::Critical, reason, format!("{why}{air}"));
    }
    if let Some((rate, Some(seconds))) = one.leak
        && seconds < SOON
    {
        let reason = format!("{}, and reaches its cap in {}", leak(rate), span(seconds));
        return found(Verdict::Critical, reason, format!("`stead trend {name}`; restart it when it suits you"));
    }
    if let Some(fault) = &one.log_fault {
        let lost = Bytes(one.log_bytes_lost);
        let reason = format!("its output cannot be written ({fault}): {lost} of it are lost within the hour");
        return found(Verdict::Critical, reason, "make room where its logs are; it heals by itself".into());
    }
    if one.log_bytes_lost > 0 {
        let reason = format!("{} of its output could not be written within the hour", Bytes(one.log_bytes_lost));
        return found(Verdict::Warning, reason, "it can be written again; log_max_size and log_keep bound logs".into());
    }
    let warn_at = one.rules.memory_warn.map(|bytes| bytes.0);
    if let (Some(used), Some(at)) = (one.memory_bytes, warn_at)
        && used >= at
    {
        let reason = format!("uses {}, more than its memory_warn of {}", Bytes(used), Bytes(at));
        return found(Verdict::Warning, reason, format!("`stead trend {name}` says whether it grows"));
    }
    if let (Some(used), Some(cap)) = (one.memory_bytes, one.cap_bytes)
        && used >= cap / 10 * 9
    {
        let reason = format!("uses {} of its cap of {}", Bytes(used), Bytes(cap));
        return found(
            Verdict::Warning,
            reason,
            format!("`stead trend {name}`; raise max_memory_restart if it is well so"),
        );
    }
    if let Some((rate, until)) = one.leak {
        let until = until.map_or(String::new(), |seconds| format!(", and reaches its cap in {}", span(seconds)));
        return found(Verdict::Warning, format!("{}{until}", leak(rate)), format!("`stead trend {name}`"));
    }
    let per_hour = one.rules.restarts_per_hour.unwrap_or(RESTARTS_PER_HOUR);
    if one.ends_last_hour >= per_hour {
        let reason = format!("{} unplanned ends within the hour{last}", one.ends_last_hour);
        return found(Verdict::Warning, reason, why);
    }
    if let Some((cause, summary)) = &one.last
        && one.ends_last_hour > 0
        && matches!(cause.as_str(), "memory-cap" | "oom-kill")
    {
        let reason = format!("was ended for its memory within the hour: {summary}");
        return found(Verdict::Warning, reason, format!("`stead trend {name}` says whether it leaks"));
    }
    if one.restarts_unplanned > one.rules.restarts.unwrap_or(RESTARTS) {
        let reason = format!("{} unplanned restarts in all{last}", one.restarts_unplanned);
        return found(Verdict::Warning, reason, format!("{why}; `stead reset {name}` counts anew"));
    }
    if one.status == Status::Waiting && one.ends_last_hour > 0 {
        let note = one.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        return found(Verdict::Warning, format!("waits to start again{note}{last}"), why);
    }
    AppHealth { name: name.clone(), verdict: Verdict::Ok, reason: None, advice: None }
}

fn leak(bytes_per_hour: f64) -> String {
    format!("leaks +{} an hour", Bytes(bytes_per_hour.max(0.0) as u64))
}

fn span(seconds: f64) -> Millis {
    let minutes = (seconds.max(0.0) / 60.0).round() as u64;
    Millis(minutes.max(1) * 60_000)
}

fn examine_host(now: Wall, rules: &Rules, mut host: Host) -> Host {
    let mut found = Vec::new();
    let share = |used: u64, total: u64| (used as f64 / total.max(1) as f64 * 100.0).round() as u64;
    let grade = |percent: u64, limit: u8| match percent {
        percent if percent >= 97.max(u64::from(limit)) => Some(Verdict::Critical),
        percent if percent >= u64::from(limit) => Some(Verdict::Warning),
        _ => None,
    };
    if let (Some(total), Some(available)) = (host.memory_total_bytes, host.memory_available_bytes) {
        let percent = share(total.saturating_sub(available), total);
        found.extend(grade(percent, rules.memory).map(|verdict| Finding {
            area: "memory".into(),
            verdict,
            reason: format!("{percent}% of {} is in use, {} can still be had", Bytes(total), Bytes(available)),
            advice: Some("`stead list` shows who uses it; a cap (max_memory_restart) holds it".into()),
        }));
    }
    if let (Some(total @ 1..), Some(free)) = (host.swap_total_bytes, host.swap_free_bytes) {
        let percent = share(total.saturating_sub(free), total);
        found.extend(grade(percent, rules.swap).map(|verdict| Finding {
            area: "swap".into(),
            verdict,
            reason: format!("{percent}% of {} is in use", Bytes(total)),
            advice: Some("more is wanted than the machine has; see memory".into()),
        }));
    }
    for disk in &host.disks {
        let percent = share(disk.total_bytes.saturating_sub(disk.available_bytes), disk.total_bytes);
        found.extend(grade(percent, rules.disk).map(|verdict| Finding {
            area: format!("disk {}", disk.path.display()),
            verdict,
            reason: format!(
                "{percent}% of {} is in use, {} are left for {}",
                Bytes(disk.total_bytes),
                Bytes(disk.available_bytes),
                disk.holds
            ),
            advice: Some("log_max_size and log_keep bound the logs; `health: data:` names the biggest folders".into()),
        }));
    }
    let day = now.0 - 86_400_000;
    let recent: Vec<&OomVictim> =
        host.oom_kills.iter().filter(|kill| kill.host && kill.at.is_none_or(|at| at.0 >= day)).collect();
    if let Some(kill) = recent.last() {
        let size = kill.bytes.map_or(String::new(), |bytes| format!(" with {}", Bytes(bytes)));
        let whose = kill.app.as_ref().map_or(String::new(), |app| format!(" of {app}"));
        found.push(Finding {
            area: "oom".into(),
            verdict: Verdict::Warning,
            reason: format!(
                "the machine was out of memory {} within a day; the kernel killed `{}` (pid {}){whose}{size} last",
                times(recent.len()),
                kill.name,
                kill.pid
            ),
            advice: Some("give caps to what may grow; what is none of stead's needs a limit of its own".into()),
        });
    }
    if let Some(total) = host.memory_total_bytes
        && host.caps_bytes > total
    {
        found.push(Finding {
            area: "caps".into(),
            verdict: Verdict::Warning,
            reason: format!("all caps together are {}, the machine has {}", Bytes(host.caps_bytes), Bytes(total)),
            advice: Some("lower some max_memory_restart, so that not all can grow at once".into()),
        });
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    host.verdict = found.first().map_or(Verdict::Ok, |finding| finding.verdict);
    if host.memory_total_bytes.is_none() {
        host.verdict = host.verdict.max(Verdict::Unknown);
    }
    host.findings = found;
    host
}

fn examine_own(own: OwnFacts, capped: bool) -> Own {
    let mut found: Vec<Finding> = own
        .faults
        .into_iter()
        .map(|(area, reason)| Finding {
            area,
            verdict: Verdict::Critical,
            reason,
            advice: Some("supervision goes on; stead.log in its home says more".into()),
        })
        .collect();
    if let Some((reason, advice)) = own.polling.filter(|_| capped) {
        let area = "enforcement".into();
        let reason = format!("caps are kept by polling: {reason}");
        found.push(Finding { area, verdict: Verdict::Warning, reason, advice: Some(advice) });
    }
    found.extend(own.notifiers.into_iter().map(|(name, reason)| Finding {
        area: "notify".into(),
        verdict: Verdict::Warning,
        reason: format!("{name}: {reason}"),
        advice: Some("nobody is told of anything by it; `stead notify test` tries it".into()),
    }));
    let crashes = own.daemon_starts.saturating_sub(own.upgrades + 1);
    if crashes > 0 {
        found.push(Finding {
            area: "daemon".into(),
            verdict: Verdict::Warning,
            reason: format!("the daemon ended and was started again {}", times(crashes as usize)),
            advice: Some("no app noticed; stead.log in its home says why it ended".into()),
        });
    }
    Own {
        verdict: found.iter().map(|finding| finding.verdict).max().unwrap_or_default(),
        findings: found,
        version: own.version,
        daemon_pid: own.daemon_pid,
        keeper_pid: own.keeper_pid,
        daemon_starts: own.daemon_starts,
        memory_enforcement: own.enforcement,
    }
}

fn times(count: usize) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests;
