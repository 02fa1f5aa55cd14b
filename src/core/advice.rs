//! What to do about an end: one line by cause, which names the attribute or the line of code.

use super::probe::Answer;
use super::record::{Cause, Exception, LockHolder, Record, SpawnFailure};
use super::spec::{Bytes, Signal, Spec, Stop};

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
        Cause::ExitCode if record.evidence.port.is_some() => {
            let port = record.evidence.port.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{port}: end that, or give one of the two another port")
        }
        // One that need not be why it ended has no signature.
        Cause::ExitCode => match record.evidence.exception.as_ref().filter(|_| record.signature.is_some()) {
            Some(exception) => raised(exception, record.evidence.lock_holder.as_ref()),
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
        Cause::HealthCheck => ill(spec, record),
        Cause::StartTimeout => not_ready(spec),
        Cause::SpawnFailed => spawn(spec, record.evidence.spawn.as_ref()),
        Cause::Lost => {
            "nothing in the app: the machine or the keeper ended under it; `last -x` and `journalctl -b -1 -e` \
                        tell of the machine"
                .into()
        }
        cause if was_deaf(spec, record) => deaf(spec, cause),
        Cause::Manual | Cause::ConfigChange | Cause::Shutdown => return None,
        Cause::Reload if spec.listen.is_empty() => {
            "no fault; without `listen` a reload is a restart with a gap: docs/reload.md".into()
        }
        Cause::Reload => return None,
        Cause::Cron => match &spec.policy.cron_restart {
            Some(line) => format!("no fault: as `cron_restart: {line}` says"),
            None => "no fault: as `cron_restart` said".into(),
        },
        Cause::Watch => match &record.evidence.watch_path {
            Some(path) => {
                format!("no fault where {path} is code; what must not restart it belongs into `ignore_watch`")
            }
            None => "as `watch` says; what must not restart it belongs into `ignore_watch`".into(),
        },
    })
}

/// By an exception: at its line, with a word on the three that fleets meet most.
fn raised(exception: &Exception, holder: Option<&LockHolder>) -> String {
    let Exception { kind, message, location } = exception;
    let place = location.as_ref().map_or_else(|| "where it is raised".to_owned(), |place| format!("at {place}"));
    let bare = kind.rsplit('.').next().unwrap_or(kind);
    if message.contains("database is locked") || message.contains("database table is locked") {
        let other = holder.map_or_else(|| "another process".into(), held_by);
        return format!(
            "{place}: {other} held SQLite's lock for longer than this one waits: a longer `timeout=` of \
             sqlite3.connect(), `PRAGMA journal_mode=WAL`, shorter transactions in the other"
        );
    }
    if bare.ends_with("Timeout") || bare.ends_with("TimeoutError") || message.contains("timed out") {
        return format!(
            "{place}: what it called did not answer in time: a longer `timeout=` of that call, or catch {bare} and try again \
             later"
        );
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

/// `holder (pid 12)`, or what is known of it.
fn held_by(holder: &LockHolder) -> String {
    match (&holder.instance, &holder.command) {
        (Some(name), _) => format!("{name} (pid {})", holder.pid),
        (None, Some(command)) => format!("pid {} (`{command}`)", holder.pid),
        (None, None) => format!("pid {}", holder.pid),
    }
}

/// With a code and no exception.
fn exited(record: &Record) -> String {
    let code = record.exit_code.unwrap_or_default();
    let evidence = &record.evidence;
    if let Some((child, signal)) = evidence.children.iter().rev().find_map(|child| Some((child, child.signal?))) {
        return format!(
            "code {code}: look first why its process {} (`{}`) was ended by {signal}; what it wrote last is in \
             `stead logs`",
            child.pid, child.name
        );
    }
    if let Some(meaning) = evidence.exit_meaning.as_ref().filter(|meaning| meaning.words.contains("gunicorn")) {
        return format!(
            "code {code}, {}: `gunicorn --check-config` says why, or its last words on stderr",
            meaning.words
        );
    }
    let said = match (evidence.stderr_tail.is_empty(), evidence.stdout_tail.is_empty()) {
        (false, _) => "its last words on stderr are its reason",
        (true, false) => "it said nothing on stderr; its last words on stdout may be its reason",
        (true, true) => "it said nothing, neither on stderr nor on stdout",
    };
    match code {
        124 => "code 124: `timeout` ended it: give that a longer time, or look what the command waits for".into(),
        126 => "code 126: the shell found its command and may not run it: its mode (chmod +x), or `interpreter`".into(),
        127 => "code 127: the shell did not find a command: its name, or PATH in `env`".into(),
        129..=192 => format!(
            "code {code}: a shell reports the death of its child by {}: `script` without a shell around it shows it directly",
            Signal(code - 128)
        ),
        _ => format!("code {code}: {said}; where {code} means that it is done, `stop_exit_codes: [{code}]` says so"),
    }
}

/// The answers tell a server that is not there from one that is busy and one that says itself that it is ill.
fn ill(spec: &Spec, record: &Record) -> String {
    let answers = record.evidence.probe.as_ref().and_then(|probe| probe.get("answers")).cloned();
    let answers: Vec<Answer> = answers.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    let said = answers.last().map(|answer| answer.said.as_str()).unwrap_or_default();
    if said.contains("refused") {
        return "nothing listens where its `health_check` asks: put its address right, or give a slow start its time by \
                `start_period`"
            .into();
    }
    if said.starts_with("HTTP ") || said.starts_with("exit code ") {
        return format!("its `health_check` was answered by `{said}`: its own log says why (`stead logs`)");
    }
    let timeout = spec.readiness.health_check.as_ref().map(|check| format!(" ({})", check.timeout)).unwrap_or_default();
    format!(
        "its `health_check` got no good answer: look what it was busy with then (`stead logs`), or give the check a longer \
         `timeout`{timeout} or more `retries`"
    )
}

fn not_ready(spec: &Spec) -> String {
    let readiness = &spec.readiness;
    format!(
        "`listen_timeout: {}` was over: raise it if its start takes longer; with `wait_ready` it must say READY=1 to \
         $NOTIFY_SOCKET (sd_notify(3)), else leave that out",
        readiness.listen_timeout
    )
}

/// It was asked to end, did not, and was killed.
fn was_deaf(spec: &Spec, record: &Record) -> bool {
    record.planned && record.signal == Some(Signal::KILL) && spec.stop.kill_signal != Signal::KILL
}

fn deaf(spec: &Spec, cause: Cause) -> String {
    let Stop { kill_signal, kill_timeout, .. } = &spec.stop;
    if cause == Cause::Reload && !spec.listen.is_empty() {
        return "it did not end within `reload_timeout` and was killed: raise that, or let it handle `reload_signal`"
            .into();
    }
    format!(
        "it did not end by {kill_signal} within `kill_timeout: {kill_timeout}` and was killed: let it handle that signal, name \
         another `kill_signal`, or raise the time"
    )
}

fn signalled(record: &Record) -> String {
    let Some(signal) = record.signal else { return "look for who sent the signal".into() };
    if let Some(sender) = &record.evidence.sender {
        return match sender.command.as_deref() {
            Some(killer @ ("systemd-oomd" | "earlyoom")) => format!(
                "{killer} acts when the machine is short of memory: give the biggest apps a `max_memory_restart`; \
                 `stead health` says which grow"
            ),
            Some(command) => format!(
                "no fault of its own: `{command}` sent {signal}; `stead stop` and `stead restart` are planned and do not count"
            ),
            None => format!("no fault of its own: {signal} was sent by `stead signal`"),
        };
    }
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
    use crate::core::record::{Actor, BigProcess, Confidence, Crossing, Evidence, Memory, Next, NextAction};

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
            assert_eq!(of.is_none(), matches!(cause, Cause::Manual | Cause::ConfigChange | Cause::Shutdown));
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
            record.signature = Some(kind.into());
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
        for (code, words) in [(126, "chmod +x"), (127, "PATH"), (139, "SIGSEGV"), (3, "`stop_exit_codes: [3]`")] {
            let text = said(&Record { exit_code: Some(code), ..record(Cause::ExitCode) });
            assert!(text.contains(words), "{code}: {text}");
        }
        for (signal, words) in [(11, "`limits: {core: unlimited}`"), (9, "SIGKILL"), (15, "SIGTERM"), (24, "cpu")] {
            let text = said(&Record { signal: Some(Signal(signal)), ..record(Cause::Signal) });
            assert!(text.contains(words), "{signal}: {text}");
        }
    }

    #[test]
    fn an_exception_that_need_not_be_why_is_no_advice() {
        let mut record = Record { exit_code: Some(3), ..record(Cause::ExitCode) };
        record.evidence.exception = Some(Exception { kind: "KeyError".into(), message: "'x'".into(), location: None });
        assert!(said(&record).starts_with("code 3: "), "{}", said(&record));
    }

    #[test]
    fn who_held_a_lock_and_who_sent_a_signal_are_named() {
        let mut locked = record(Cause::ExitCode);
        locked.signature = Some("OperationalError: database is locked".into());
        locked.evidence.exception = Some(Exception {
            kind: "OperationalError".into(),
            message: "database is locked".into(),
            location: Some("store.py:41".into()),
        });
        locked.evidence.lock_holder = Some(LockHolder {
            pid: 12,
            command: Some("python3 sar.py".into()),
            instance: Some("sar-collector".into()),
            path: "/srv/x.db".into(),
            seen_at: Wall(0),
        });
        assert!(
            said(&locked).starts_with("at store.py:41: sar-collector (pid 12) held SQLite's lock"),
            "{}",
            said(&locked)
        );
        let mut sent = Record { signal: Some(Signal::TERM), ..record(Cause::Signal) };
        let command = Some("stead signal TERM web".into());
        sent.evidence.sender = Some(Actor { uid: Some(0), pid: Some(7), command });
        assert!(said(&sent).contains("`stead signal TERM web` sent SIGTERM"), "{}", said(&sent));
    }

    #[test]
    fn an_ill_app_is_answered_by_what_it_said() {
        for (last, words) in [
            ("connection refused", "`start_period`"),
            ("HTTP 503 Service Unavailable", "answered by `HTTP 503"),
            ("no answer", "`timeout`"),
        ] {
            let mut ill = record(Cause::HealthCheck);
            let answer = Answer { at: Wall(0), ok: false, said: last.into(), took_ms: Millis(1) };
            ill.evidence.probe = Some(serde_json::json!({"check": "x", "failures": 1, "answers": [answer]}));
            assert!(said(&ill).contains(words), "{last}: {}", said(&ill));
        }
    }

    #[test]
    fn who_had_to_be_killed_is_told_by_which_attribute() {
        let deaf = Record { planned: true, signal: Some(Signal::KILL), ..record(Cause::Manual) };
        assert!(said(&deaf).contains("within `kill_timeout: 1.6 s`"), "{}", said(&deaf));
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
