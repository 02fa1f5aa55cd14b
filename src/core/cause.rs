//! From facts to the cause: one pure function, in one order of trust.

use super::action::Starved;
use super::backoff;
use super::clock::Millis;
use super::event::{Exit, ExitStatus, Facts, Why};
use super::record::{Actor, Cause, Confidence, Crossing, Oom, SpawnFailure};
use super::spec::{Bytes, OomPolicy, Signal, Spec, Stop};

/// What a run's end is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub cause: Cause,
    pub planned: bool,
    pub confidence: Confidence,
    pub summary: String,
}

/// Names the cause of a run's end. Order of trust: stead's own act (written down before the signal), the counters of the run's own
/// cgroup, the kernel's signal, the exit code. `why` is stead's act only where it came before the death.
#[must_use]
pub fn verdict(spec: &Spec, why: Option<&Why>, exit: &Exit, uptime: Millis, facts: &Facts) -> Verdict {
    let policy = &spec.policy;
    // With `oom_policy: continue` a worker's death long ago says nothing of this end.
    let killed = facts.oom.own > 0 && (spec.allowance.oom_policy == OomPolicy::Kill || was_killed(exit.status));
    // One that the kernel killed while it was ended for its cap got no grace: that is what happened to it.
    let overtaken = killed && why.is_some_and(|why| matches!(why.cause, Cause::MemoryCap | Cause::OomKill));
    if let Some(why) = why.filter(|_| !overtaken) {
        return Verdict {
            cause: why.cause,
            planned: is_planned(why.cause),
            confidence: Confidence::Certain,
            summary: format!(
                "{}{}{}",
                act(why.cause),
                why.actor.as_ref().map(by).unwrap_or_default(),
                if was_deaf(spec, exit.status) { deaf(spec) } else { String::new() }
            ),
        };
    }
    let unplanned = |cause, confidence, summary| Verdict { cause, planned: false, confidence, summary };
    let after = format!("after {uptime}");
    match exit.status {
        _ if killed => unplanned(
            Cause::OomKill,
            Confidence::Certain,
            format!(
                "{} killed by the kernel {after}: its tree reached its hard memory limit{}",
                facts.oom.killed_name.as_ref().map_or_else(|| "it was".into(), |name| format!("`{name}` was")),
                spec.wall().map(|wall| format!(" of {wall}")).unwrap_or_default()
            ),
        ),
        _ if facts.oom.host > 0 && was_killed(exit.status) => unplanned(
            Cause::OomKillHost,
            Confidence::Certain,
            format!("killed by the kernel {after}: the machine, or a group above its own, was out of memory"),
        ),
        ExitStatus::Code(code) if backoff::is_done(policy, exit.status) => Verdict {
            cause: Cause::Success,
            planned: true,
            confidence: Confidence::Certain,
            summary: format!("done with exit code {code} {after}"),
        },
        ExitStatus::Code(0) => unplanned(Cause::Success, Confidence::Certain, format!("exited with code 0 {after}")),
        ExitStatus::Code(code) => {
            let what = match &facts.exception {
                Some(exception) => {
                    let at = exception.location.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
                    format!("exited with code {code} {after}: {}: {}{at}", exception.kind, exception.message)
                }
                None => format!("exited with code {code} {after}"),
            };
            unplanned(Cause::ExitCode, Confidence::Certain, what)
        }
        ExitStatus::Signal { signal, core_dumped: true } => {
            unplanned(Cause::CoreDump, Confidence::Certain, format!("ended by {signal} {after} and dumped core"))
        }
        ExitStatus::Signal { signal, core_dumped: false } if is_fault(signal) => {
            unplanned(Cause::Signal, Confidence::Certain, format!("crashed with {signal} {after}"))
        }
        ExitStatus::Signal { signal, core_dumped: false } => unplanned(
            Cause::Signal,
            Confidence::Certain,
            format!("ended by {signal} {after}; who sent it is not known"),
        ),
    }
}

/// The verdict on a spawn that failed: at which step, on what, and why.
#[must_use]
pub fn spawn_failed(spec: &Spec, failure: &SpawnFailure) -> Verdict {
    let thing = match failure.stage.as_str() {
        "exec" => spec.command.first().cloned(),
        "cwd" => Some(spec.cwd.display().to_string()),
        // Which of them it is, stead.log says.
        "log" => {
            let given = [&spec.logs.out, &spec.logs.err, &spec.logs.combined].into_iter().flatten();
            let paths: Vec<String> = given.map(|path| path.display().to_string()).collect();
            (!paths.is_empty()).then(|| paths.join(" or "))
        }
        "uid" | "gid" | "groups" => spec.identity.as_ref().map(|identity| identity.user.clone()),
        _ => None,
    };
    let step = thing.map_or(failure.stage.clone(), |thing| format!("{} {thing}", failure.stage));
    let errno = &failure.errno;
    let why = words(errno).map_or(errno.clone(), |words| format!("{words} ({errno})"));
    Verdict {
        cause: Cause::SpawnFailed,
        planned: false,
        confidence: Confidence::Certain,
        summary: format!("could not be started: {step}: {why}"),
    }
}

/// What people call it, where a spawn is likely to meet it.
fn words(errno: &str) -> Option<&'static str> {
    Some(match errno {
        "ENOENT" => "no such file or directory",
        "EACCES" => "permission denied",
        "EPERM" => "operation not permitted",
        "ENOTDIR" => "not a directory",
        "EISDIR" => "is a directory",
        "ENOEXEC" => "not a program, and no `#!` names one",
        "ETXTBSY" => "the program is being written",
        "ELOOP" => "too many symbolic links",
        "EAGAIN" => "too many processes",
        "ENOMEM" => "not enough memory",
        "EMFILE" | "ENFILE" => "too many open files",
        "ENOSPC" => "no space left",
        "EROFS" => "read-only file system",
        "E2BIG" => "arguments and environment are too long",
        "EADDRINUSE" => "the address is in use",
        "EADDRNOTAVAIL" => "this machine does not have the address",
        _ => return None,
    })
}

/// The verdict on a run that ended while nothing watched.
#[must_use]
pub fn lost(same_boot: bool) -> Verdict {
    let why = if same_boot { "the keeper ended" } else { "the machine restarted" };
    Verdict {
        cause: Cause::Lost,
        planned: false,
        confidence: Confidence::Unknown,
        summary: format!("ended while nothing watched: {why}"),
    }
}

/// What a crossing of the cap looked like, to be put behind the summary.
#[must_use]
pub fn crossed(spec: &Spec, crossing: &Crossing) -> String {
    let cap = spec.max_memory_restart.map(|cap| format!(" of {cap}")).unwrap_or_default();
    let growth = u64::try_from(crossing.growth_bytes)
        .map_or_else(|_| String::new(), |grown| format!(", {} more than {} before", Bytes(grown), crossing.growth_ms));
    let usage = Bytes(crossing.usage_bytes);
    let biggest =
        crossing.processes.first().map(|one| format!("; biggest: pid {} with {}", one.pid, Bytes(one.memory_bytes)));
    format!(": {usage}{cap}{growth}{}", biggest.unwrap_or_default())
}

/// What kills by the kernel are called.
#[must_use]
pub fn of_kill(oom: &Oom) -> Cause {
    if oom.own > 0 { Cause::OomKill } else { Cause::OomKillHost }
}

/// A kill in the tree of an app that went on.
#[must_use]
pub fn went_on(spec: &Spec, oom: &Oom) -> String {
    let name = oom.killed_name.as_ref().map_or_else(|| "a process of its tree".into(), |name| format!("`{name}`"));
    let pid = oom.killed_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let who = match oom.own + oom.host {
        0 | 1 => format!("{name}{pid} was"),
        several => format!("{several} processes of its tree were"),
    };
    let newest = if oom.own + oom.host > 1 && oom.killed_name.is_some() {
        format!(", {name}{pid} the last of them,")
    } else {
        String::new()
    };
    let lack = match (of_kill(oom), spec.wall()) {
        (Cause::OomKill, Some(wall)) => format!("its tree reached its hard memory limit of {wall}"),
        (Cause::OomKill, None) => "its tree reached its hard memory limit".into(),
        _ => "the machine, or a group above its own, was out of memory".into(),
    };
    format!("{who}{newest} killed by the kernel: {lack}; the app went on (oom_policy: continue)")
}

/// Why one that ends at its memory limits before it is well gave up, and what to do.
#[must_use]
pub fn starves(spec: &Spec, starved: Starved) -> String {
    let (limit, attribute) = match (spec.max_memory_restart, spec.wall()) {
        (Some(cap), _) => (format!("cap {cap}"), "max_memory_restart"),
        (None, Some(wall)) => (format!("wall {wall}"), "memory_max"),
        (None, None) => ("no cap".into(), "its memory"),
    };
    let (needs, min_uptime) = (Bytes(starved.needs_bytes), spec.policy.min_uptime);
    format!(
        "needs at least {needs} before it has been up for {min_uptime} (min_uptime), {limit}: raise {attribute}; {} runs in a row \
         ended so",
        starved.ends
    )
}

/// Does this cause stand for somebody's wish?
#[must_use]
pub fn is_planned(cause: Cause) -> bool {
    match cause {
        Cause::Manual | Cause::Reload | Cause::ConfigChange | Cause::Cron | Cause::Watch | Cause::Shutdown => true,
        Cause::Success
        | Cause::ExitCode
        | Cause::Signal
        | Cause::CoreDump
        | Cause::MemoryCap
        | Cause::OomKill
        | Cause::OomKillHost
        | Cause::HealthCheck
        | Cause::StartTimeout
        | Cause::SpawnFailed
        | Cause::Lost => false,
    }
}

fn act(cause: Cause) -> &'static str {
    match cause {
        Cause::Manual => "stopped on request",
        Cause::Reload => "reloaded",
        Cause::ConfigChange => "restarted with a changed configuration",
        Cause::Cron => "restarted by its schedule",
        Cause::Watch => "restarted because a watched file changed",
        Cause::Shutdown => "stopped because stead was told to end",
        Cause::MemoryCap => "restarted by stead at its memory cap",
        Cause::HealthCheck => "restarted by stead: its health check failed",
        Cause::StartTimeout => "stopped by stead: it was not ready in time",
        Cause::OomKill => "ended by stead: the kernel killed a process of its tree at its hard memory limit",
        Cause::OomKillHost => {
            "ended by stead: the kernel killed a process of its tree, for the machine, or a group above its own, was out of memory"
        }
        Cause::Success | Cause::ExitCode | Cause::Signal | Cause::CoreDump | Cause::SpawnFailed | Cause::Lost => {
            "stopped"
        }
    }
}

/// It was asked to end, and in the end it had to be killed.
fn was_deaf(spec: &Spec, status: ExitStatus) -> bool {
    spec.stop.kill_signal != Signal::KILL && matches!(status, ExitStatus::Signal { signal: Signal::KILL, .. })
}

fn deaf(spec: &Spec) -> String {
    let Stop { kill_signal, kill_timeout, .. } = &spec.stop;
    format!("; it did not end by {kill_signal} and was killed (kill_timeout {kill_timeout})")
}

/// Of a fault of its own: nobody sends these to a process but itself and the kernel.
fn is_fault(signal: Signal) -> bool {
    // SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
    matches!(signal.0, 4 | 6 | 7 | 8 | 11)
}

/// By SIGKILL, or as a shell reports that of its child.
fn was_killed(status: ExitStatus) -> bool {
    matches!(status, ExitStatus::Signal { signal: Signal::KILL, .. } | ExitStatus::Code(137))
}

fn by(actor: &Actor) -> String {
    let mut facts = Vec::new();
    if let Some(uid) = actor.uid {
        facts.push(format!("uid {uid}"));
    }
    if let Some(pid) = actor.pid {
        facts.push(format!("pid {pid}"));
    }
    match (&actor.command, facts.is_empty()) {
        (Some(command), true) => format!(" by `{command}`"),
        (Some(command), false) => format!(" by `{command}` ({})", facts.join(", ")),
        (None, true) => String::new(),
        (None, false) => format!(" by {}", facts.join(", ")),
    }
}
