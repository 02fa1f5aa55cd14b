//! What to do about an end: one line by cause, which names the attribute or the line of code.

use super::record::{Cause, Exception, Record, SpawnFailure};
use super::spec::{Bytes, Spec};

/// Advice on an end; `None` where there is nothing to do.
#[must_use]
pub fn advice(spec: &Spec, record: &Record) -> Option<String> {
    Some(match record.cause {
        Cause::Success if record.planned => return None,
        Cause::Success => {
            "for a job that is done, `autorestart: false` or `stop_exit_codes: [0]`; a server has left its main loop, \
                           or obeyed a signal from outside (its last words may say so)"
                .into()
        }
        Cause::ExitCode => match &record.evidence.exception {
            Some(exception) => raised(exception),
            None => exited(record),
        },
        Cause::Signal => signalled(record),
        Cause::CoreDump => format!(
            "its own or a library's native code crashed: `coredumpctl info {}`, or gdb on the core file (in `cwd`, {}, \
             unless /proc/sys/kernel/core_pattern says otherwise)",
            record.pid.unwrap_or_default(),
            spec.cwd.display()
        ),
        Cause::MemoryCap => over_cap(spec, record),
        Cause::OomKill => at_wall(spec, record),
        Cause::OomKillHost => match spec.max_memory_restart {
            None => {
                "the machine ran out of memory and this app has no cap: `max_memory_restart` ends the one that grows \
                     before all suffer; `oom_score_adj` says whom the kernel takes first"
                    .into()
            }
            Some(cap) => format!(
                "the machine ran out of memory although this app has a cap ({cap}): all caps together are more than it has, \
                 or something outside of stead grew (the kernel's lines name who was biggest)"
            ),
        },
        Cause::HealthCheck => {
            "its `health_check` went unanswered: look what it was busy with then (`stead logs`), or give \
                               the check a longer time-out"
                .into()
        }
        Cause::StartTimeout => {
            "it was not ready within `listen_timeout`: raise that, or look what its start waits for".into()
        }
        Cause::SpawnFailed => spawn(spec, record.evidence.spawn.as_ref()),
        Cause::Lost => {
            "nothing in the app: the machine or the keeper ended under it; `last -x` and `journalctl -b -1 -e` \
                        tell of the machine"
                .into()
        }
        Cause::Manual | Cause::Reload | Cause::ConfigChange | Cause::Shutdown => return None,
        Cause::Cron => "as `cron_restart` says".into(),
        Cause::Watch => "as `watch` says; what must not restart it belongs into `ignore_watch`".into(),
    })
}

/// By an exception: at its line, with a word on the three that fleets meet most.
fn raised(exception: &Exception) -> String {
    let Exception { kind, message, location } = exception;
    let place = location.as_ref().map_or_else(|| "where it is raised".to_owned(), |place| format!("at {place}"));
    let bare = kind.rsplit('.').next().unwrap_or(kind);
    if message.contains("database is locked") || message.contains("database table is locked") {
        return format!(
            "{place}: another process held SQLite's lock for longer than this one waits: a longer `timeout=` of \
             sqlite3.connect(), `PRAGMA journal_mode=WAL`, shorter transactions in the other"
        );
    }
    if bare.ends_with("Timeout") || bare.ends_with("TimeoutError") || message.contains("timed out") {
        return format!("{place}: what it called did not answer in time: catch {bare} and try again later");
    }
    if matches!(bare, "ModuleNotFoundError" | "ImportError") {
        return format!(
            "{place}: install it for the interpreter that runs it (`interpreter`, `cwd`), or fix PYTHONPATH in `env`"
        );
    }
    if bare == "MemoryError" {
        return format!("{place}: it asked for more memory than `limits` or the machine let it have");
    }
    format!("fix {bare} {place}, or catch it there")
}

/// With a code and no exception.
fn exited(record: &Record) -> String {
    let code = record.exit_code.unwrap_or_default();
    let said = if record.evidence.stderr_tail.is_empty() {
        "it said nothing on stderr"
    } else {
        "its last words on stderr are its reason"
    };
    match code {
        126 => "the shell found its command and may not run it: its mode (chmod +x), or `interpreter`".into(),
        127 => "the shell did not find a command: its name, or PATH in `env`".into(),
        129..=192 => format!(
            "a shell reports the death of its child by signal {}: `script` without a shell around it shows it directly",
            code - 128
        ),
        _ => format!("{said}; where code {code} means that it is done, `stop_exit_codes: [{code}]` says so"),
    }
}

fn signalled(record: &Record) -> String {
    let Some(signal) = record.signal else { return "look for who sent the signal".into() };
    match signal.0 {
        // SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
        4 | 6 | 7 | 8 | 11 => format!(
            "{signal} is a crash of native code, its own or a library's: `limits: {{core: unlimited}}` keeps a core dump for \
             gdb; Python shows its lines with PYTHONFAULTHANDLER=1 in `env`"
        ),
        9 => {
            "somebody outside of stead sent SIGKILL: a person, a script, or a killer such as earlyoom; it was not the \
              kernel's for the app's own limit, whose counter stands still"
                .into()
        }
        24 => "`limits: {cpu: …}` was used up, or somebody sent SIGXCPU".into(),
        25 => "`limits: {fsize: …}` was reached, or somebody sent SIGXFSZ".into(),
        _ => {
            format!("somebody outside of stead sent {signal}: a script or a person that takes care of it beside stead")
        }
    }
}

fn over_cap(spec: &Spec, record: &Record) -> String {
    let cap = spec
        .max_memory_restart
        .map_or_else(|| "`max_memory_restart`".into(), |cap| format!("`max_memory_restart: {cap}`"));
    let child = record.evidence.cap_crossing.as_ref().and_then(|crossing| {
        let biggest = crossing.processes.first()?;
        (Some(biggest.pid) != record.pid).then(|| format!(", most of it in its child of pid {}", biggest.pid))
    });
    format!("raise {cap} if it needs that much; if it grows for ever, it leaks{}", child.unwrap_or_default())
}

fn at_wall(spec: &Spec, record: &Record) -> String {
    let wall = match (spec.allowance.memory_max, spec.max_memory_restart) {
        (Some(wall), _) => format!("`memory_max: {wall}`"),
        (None, Some(cap)) => {
            let wall = record.memory.wall_bytes.map_or_else(String::new, |wall| format!(" ({})", Bytes(wall)));
            format!("the hard limit 1.25 × `max_memory_restart: {cap}`{wall}")
        }
        (None, None) => "the limit of a group above stead's".into(),
    };
    format!("it grew past {wall} faster than a graceful restart takes: raise that, or look what takes so much at once")
}

fn spawn(spec: &Spec, failure: Option<&SpawnFailure>) -> String {
    let Some(SpawnFailure { stage, errno }) = failure else { return "see what could not be done".into() };
    let program = spec.command.first().map_or("", String::as_str);
    match (stage.as_str(), errno.as_str()) {
        ("exec", "ENOENT") => {
            format!("`script` or `interpreter`: {program} is not there (a name is looked up in PATH)")
        }
        ("exec", "EACCES") => format!("`script`: {program} may not be executed: chmod +x, or name an `interpreter`"),
        ("exec", "ENOEXEC") => format!("`interpreter`: {program} is no program and its first line names none (`#!`)"),
        ("exec", _) => format!("`script`: {program} cannot be executed"),
        ("cwd", _) => format!("`cwd`: {}", spec.cwd.display()),
        ("uid" | "gid" | "groups", _) => "`user` and `group`: only root may become another".into(),
        ("log", _) => "`out_file`, `error_file`, `log_file`: their folder or the disk; stead.log names the file".into(),
        ("umask" | "nice" | "limits" | "rlimit" | "oom_score_adj", _) => {
            format!("`{stage}`: only root may go that far")
        }
        (stage, "EADDRINUSE") if stage.starts_with("listen") => {
            format!("`listen`: another program has {}: `ss -ltnp` names it", stage.trim_start_matches("listen "))
        }
        (stage, _) if stage.starts_with("listen") => format!("`listen`: {}", stage.trim_start_matches("listen ")),
        (_, "EAGAIN") => "too many processes: `pids_max`, `limits: {nproc: …}`, or the machine's own limit".into(),
        (_, "ENOMEM") => "the machine had no memory for a new process".into(),
        (stage, _) => format!("the step `{stage}` of its start"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::{Millis, Wall};
    use crate::core::name::AppName;
    use crate::core::record::{BigProcess, Confidence, Crossing, Evidence, Memory, Next, NextAction};
    use crate::core::spec::Signal;

    fn spec() -> Spec {
        Spec { command: vec!["/srv/app.py".into()], cwd: "/srv".into(), ..Spec::plain(AppName::parse("web").unwrap()) }
    }

    fn record(cause: Cause) -> Record {
        Record {
            run: "web#1".into(),
            instance: "web".into(),
            pid: Some(7),
            started_at: None,
            ended_at: Wall(0),
            uptime_ms: None,
            cause,
            planned: false,
            confidence: Confidence::Certain,
            summary: String::new(),
            exit_code: None,
            signal: None,
            core_dumped: false,
            signature: None,
            actor: None,
            memory: Memory::default(),
            evidence: Evidence::default(),
            left_behind: 0,
            next: Next { action: NextAction::Restart, delay_ms: None, reason: String::new() },
        }
    }

    fn said(record: &Record) -> String {
        advice(&spec(), record).unwrap()
    }

    /// Each is one line, and names an attribute, a command, a page of the system or a place in the code.
    #[test]
    fn every_unplanned_cause_has_advice_of_one_line() {
        for cause in Cause::ALL {
            let of = advice(&spec(), &record(cause));
            assert_eq!(
                of.is_none(),
                matches!(cause, Cause::Manual | Cause::Reload | Cause::ConfigChange | Cause::Shutdown)
            );
            let text = of.unwrap_or_default();
            assert!(!text.contains('\n') && !text.contains("  ") && text.len() < 320, "{cause:?}: {text}");
        }
        assert_eq!(advice(&spec(), &Record { planned: true, ..record(Cause::Success) }), None);
    }

    #[test]
    fn an_exception_is_answered_by_its_line() {
        let raised = |kind: &str, message: &str| {
            let exception =
                Exception { kind: kind.into(), message: message.into(), location: Some("store.py:41".into()) };
            let mut record = record(Cause::ExitCode);
            record.evidence.exception = Some(exception);
            said(&record)
        };
        for (kind, message, words) in [
            ("sqlite3.OperationalError", "database is locked", "`timeout=`"),
            ("requests.exceptions.ReadTimeout", "HTTPSConnectionPool: Read timed out.", "catch ReadTimeout"),
            ("TimeoutError", "timed out", "catch TimeoutError"),
            ("ModuleNotFoundError", "No module named 'flask'", "`interpreter`"),
            ("MemoryError", "", "`limits`"),
            ("KeyError", "'x'", "fix KeyError at store.py:41"),
        ] {
            let text = raised(kind, message);
            assert!(text.contains(words) && text.contains("store.py:41"), "{kind}: {text}");
        }
    }

    #[test]
    fn codes_and_signals_are_answered_by_what_they_mean() {
        for (code, words) in [(126, "chmod +x"), (127, "PATH"), (139, "signal 11"), (3, "`stop_exit_codes: [3]`")] {
            let text = said(&Record { exit_code: Some(code), ..record(Cause::ExitCode) });
            assert!(text.contains(words), "{code}: {text}");
        }
        for (signal, words) in [(11, "`limits: {core: unlimited}`"), (9, "SIGKILL"), (15, "SIGTERM"), (24, "cpu")] {
            let text = said(&Record { signal: Some(Signal(signal)), ..record(Cause::Signal) });
            assert!(text.contains(words), "{signal}: {text}");
        }
    }

    #[test]
    fn memory_is_answered_by_the_limit_that_was_met() {
        let cap = Spec { max_memory_restart: Some(Bytes(300 << 20)), ..spec() };
        let mut over = record(Cause::MemoryCap);
        over.evidence.cap_crossing = Some(Crossing {
            at: Wall(0),
            usage_bytes: 301 << 20,
            growth_bytes: 9,
            growth_ms: Millis(9),
            processes: vec![BigProcess { pid: 8, command: "worker".into(), memory_bytes: 250 << 20 }],
        });
        let text = advice(&cap, &over).unwrap();
        assert!(text.contains("`max_memory_restart: 300M`") && text.contains("its child of pid 8"), "{text}");
        let mut wall = record(Cause::OomKill);
        wall.memory.wall_bytes = Some(375 << 20);
        assert!(advice(&cap, &wall).unwrap().contains("1.25 × `max_memory_restart: 300M` (375M)"));
        let mut own = cap.clone();
        own.allowance.memory_max = Some(Bytes(400 << 20));
        assert!(advice(&own, &wall).unwrap().contains("`memory_max: 400M`"));
    }

    #[test]
    fn a_failed_spawn_is_answered_by_its_attribute() {
        for (stage, errno, words) in [
            ("exec", "ENOENT", "/srv/app.py is not there"),
            ("exec", "EACCES", "chmod +x"),
            ("exec", "ENOEXEC", "`interpreter`"),
            ("cwd", "ENOENT", "`cwd`: /srv"),
            ("uid", "EPERM", "`user`"),
            ("log", "ENOSPC", "`error_file`"),
            ("listen 0.0.0.0:80", "EADDRINUSE", "has 0.0.0.0:80"),
            ("listen 0.0.0.0:80", "EACCES", "`listen`"),
            ("fork", "EAGAIN", "`pids_max`"),
        ] {
            let mut record = record(Cause::SpawnFailed);
            record.evidence.spawn = Some(SpawnFailure { stage: stage.into(), errno: errno.into() });
            let text = said(&record);
            assert!(text.contains(words), "{stage} {errno}: {text}");
        }
    }
}
