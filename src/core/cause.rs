//! From facts to the cause: one pure function, in one order of trust.

use super::action::Starved;
use super::backoff;
use super::clock::{Millis, Mono};
use super::event::{Exit, ExitStatus, Facts, Grounds, Killer, Signalled, Why};
use super::exit_code::{self, Meaning};
use super::instance::Run;
use super::record::{Actor, Cause, Confidence, Crossing, Exception, LockHolder, Oom, SpawnFailure, TakenPort};
use super::spec::{Bytes, OomPolicy, Signal, Spec, Stop};
use super::traceback::{Standing, Traceback};

/// What a run's end is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub cause: Cause,
    pub planned: bool,
    pub confidence: Confidence,
    pub summary: String,
    /// The exception in the log ended the run, as far as can be told.
    pub by_exception: bool,
    pub exit_meaning: Option<Meaning>,
    pub sender: Option<Actor>,
}

impl Verdict {
    fn new(cause: Cause, confidence: Confidence, summary: String) -> Verdict {
        let planned = is_planned(cause);
        Verdict { cause, planned, confidence, summary, by_exception: false, exit_meaning: None, sender: None }
    }
}

/// A signal that `stead signal` sent this shortly before a death of that signal was its cause; up to the second limit most likely,
/// for a handler may take its time before it lets go.
const SENT_JUST_NOW: Millis = Millis(2_000);
const SENT_LATELY: Millis = Millis(60_000);

/// An uncaught exception is printed right before the end, but for what is joined and flushed at exit. What was written earlier
/// than this was followed by silence, and something else ended the run.
const LAST_WORDS: Millis = Millis(2_000);

/// Lines that servers and shutdown handlers write after an exception that ends them; beyond it life went on.
const FAREWELL_LINES: usize = 10;

/// Names the cause of a run's end. Order of trust: stead's own act (written down before the signal), the counters of the run's own
/// cgroup, the kernel's signal, the exit code; the text of a log only adds to an exit code what it may mean. `why` is stead's act
/// only where it came before the death.
#[must_use]
pub fn verdict(spec: &Spec, run: &Run, why: Option<&Why>, exit: &Exit, facts: &Facts) -> Verdict {
    let uptime = exit.at.mono - run.started.mono;
    // With `oom_policy: continue` a worker's death long ago says nothing of this end.
    let killed = facts.oom.own > 0 && (spec.allowance.oom_policy == OomPolicy::Kill || was_killed(exit.status));
    // One that the kernel killed while it was ended for its cap got no grace: that is what happened to it.
    let overtaken = killed && why.is_some_and(|why| matches!(why.cause, Cause::MemoryCap | Cause::OomKill));
    if let Some(why) = why.filter(|_| !overtaken) {
        let summary = format!(
            "{}{}{}{}",
            act(why.cause),
            on(run, why),
            why.actor.as_ref().map(|actor| format!(" by {}", who(actor))).unwrap_or_default(),
            if was_deaf(spec, exit.status) { deaf(spec) } else { String::new() }
        );
        return Verdict::new(why.cause, Confidence::Certain, summary);
    }
    let after = format!("after {uptime}");
    let mut verdict = match exit.status {
        _ if killed => Verdict::new(
            Cause::OomKill,
            Confidence::Certain,
            format!(
                "{} killed by the kernel {after}: its tree reached its hard memory limit{}",
                facts.oom.killed_name.as_ref().map_or_else(|| "it was".into(), |name| format!("`{name}` was")),
                spec.wall().map(|wall| format!(" of {wall}")).unwrap_or_default()
            ),
        ),
        _ if facts.oom.host > 0 && was_killed(exit.status) => Verdict::new(
            Cause::OomKillHost,
            Confidence::Certain,
            format!("killed by the kernel {after}: the machine, or a group above its own, was out of memory"),
        ),
        ExitStatus::Code(code) if backoff::is_done(&spec.policy, exit.status) => Verdict {
            planned: true,
            ..Verdict::new(Cause::Success, Confidence::Certain, format!("done with exit code {code} {after}"))
        },
        ExitStatus::Code(0) => Verdict::new(Cause::Success, Confidence::Certain, format!("exited with code 0 {after}")),
        ExitStatus::Code(code) => exited(run, code, &after, facts),
        ExitStatus::Signal { signal, core_dumped } => signalled(run, signal, core_dumped, exit.at.mono, &after, facts),
    };
    if let (ExitStatus::Code(_), Some(sent)) = (exit.status, sent_before(run, exit.at.mono, SENT_JUST_NOW)) {
        let span = exit.at.mono - sent.at;
        verdict.summary.push_str(&format!("; {span} before, {} was sent to it by {}", sent.signal, who(&sent.actor)));
        verdict.sender = Some(sent.actor.clone());
    }
    if let Some(child) = facts.children.last().filter(|child| (exit.at.wall.0 - child.ended_at.0).abs() <= 10_000) {
        let how = match (child.signal, child.exit_code) {
            (Some(signal), _) => format!("was ended by {signal}"),
            (None, code) => format!("exited with code {}", code.unwrap_or_default()),
        };
        verdict.summary.push_str(&format!("; shortly before, its process {} (`{}`) {how}", child.pid, child.name));
    }
    verdict
}

/// The code is certain; what it and the log tell of it is weighed.
fn exited(run: &Run, code: i32, after: &str, facts: &Facts) -> Verdict {
    let meaning = exit_code::meaning(code, &run.spec.command);
    let in_words = match &meaning {
        // That it failed is all that everybody's 1 says.
        _ if code == 1 => String::new(),
        Some(Meaning { words, .. }) if words.starts_with("as ") => format!(", {words}"),
        Some(Meaning { words, .. }) => format!(": {words}"),
        None => String::new(),
    };
    let found = facts.exception.as_ref().map(|found| {
        let Exception { kind, message, location } = &found.exception;
        let at = location.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        (weigh(found, code, facts), format!("{kind}{message}{at}"))
    });
    let mut summary = format!("exited with code {code} {after}");
    let (by_exception, mut confidence) = match found {
        Some((Weight::Ended, exception)) => {
            summary.push_str(&format!(": {exception}"));
            (true, Confidence::Certain)
        }
        Some((Weight::Likely, exception)) => {
            // What the runtime's code means says no more than the exception itself.
            if !facts.exception.as_ref().is_some_and(|found| found.runtime.exits_with(code)) {
                summary.push_str(&in_words);
            }
            summary.push_str(&format!("; most likely by {exception}"));
            (true, Confidence::Likely)
        }
        Some((Weight::Before, exception)) => {
            summary.push_str(&format!("{in_words}; the last exception in its log need not be why: {exception}"));
            (false, Confidence::Certain)
        }
        None => {
            summary.push_str(&in_words);
            (false, Confidence::Certain)
        }
    };
    // A signal that is read out of a code is a custom of shells, not the kernel's word.
    if meaning.as_ref().is_some_and(|meaning| meaning.signal.is_some()) && !by_exception {
        confidence = Confidence::Likely;
    }
    if let Some(holder) = facts.lock_holder.as_ref().filter(|_| by_exception) {
        summary.push_str(&held_by(holder));
    }
    if let Some(port) = &facts.port {
        summary.push_str(&format!("; {port}"));
        // The words of a log are one thing, and that another listens there is seen.
        confidence = match (&port.holder, by_exception) {
            (Some(_), _) => Confidence::Certain,
            (None, true) => confidence,
            (None, false) => Confidence::Likely,
        };
    }
    if let Some(hint) = facts.hint.as_ref().filter(|_| !by_exception) {
        summary.push_str(&format!("; before that {hint}"));
    }
    Verdict { by_exception, exit_meaning: meaning, ..Verdict::new(Cause::ExitCode, confidence, summary) }
}

/// What an exception in the log has to do with the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is the last word, written right before the end, nothing says that it was caught, and the code is its runtime's.
    Ended,
    /// One of these is not so: it may have been caught, and an exit decided on.
    Likely,
    /// Life went on after it.
    Before,
}

fn weigh(found: &Traceback, code: i32, facts: &Facts) -> Weight {
    let at_the_end = facts.quiet.is_none_or(|quiet| quiet <= LAST_WORDS) && found.follows <= FAREWELL_LINES;
    let last = found.standing == Standing::Last;
    match (at_the_end, found.runtime.exits_with(code)) {
        (false, _) => Weight::Before,
        (true, true) if last && facts.quiet.is_some() && !found.announced && !facts.log_is_shared => Weight::Ended,
        (true, _) if facts.log_is_shared && !last => Weight::Before,
        (true, _) => Weight::Likely,
    }
}

/// Ended by a signal, which is the kernel's own word; who sent it is another's.
fn signalled(run: &Run, signal: Signal, core_dumped: bool, at: Mono, after: &str, facts: &Facts) -> Verdict {
    let sent = sent_before(run, at, SENT_LATELY).filter(|sent| sent.signal == signal);
    let (cause, how) = match core_dumped {
        true => (Cause::CoreDump, format!("ended by {signal} {after} and dumped core")),
        false if is_fault(signal) && sent.is_none() => (Cause::Signal, format!("crashed with {signal} {after}")),
        false => (Cause::Signal, format!("ended by {signal} {after}")),
    };
    let killer = facts.killer.filter(|_| matches!(signal, Signal::KILL | Signal::TERM));
    let (confidence, sender, by) = match (sent, killer) {
        (Some(sent), _) if at - sent.at <= SENT_JUST_NOW => {
            (Confidence::Certain, Some(sent.actor.clone()), format!(", which {} sent", who(&sent.actor)))
        }
        (Some(sent), _) => (
            Confidence::Likely,
            Some(sent.actor.clone()),
            format!("; most likely the one that {} sent {} before", who(&sent.actor), at - sent.at),
        ),
        (None, Some(killer)) => {
            let name = killer.name();
            let actor = Actor { uid: None, pid: None, command: Some(name.into()) };
            match killer {
                Killer::SystemdOomd => (
                    Confidence::Certain,
                    Some(actor),
                    format!(": {name} marked its group as one that it killed for want of memory"),
                ),
                Killer::Earlyoom => (Confidence::Likely, Some(actor), format!("; {name}'s log names this process")),
            }
        }
        (None, None) if core_dumped || is_fault(signal) => (Confidence::Certain, None, String::new()),
        (None, None) => (Confidence::Certain, None, "; who sent it is not known".into()),
    };
    Verdict { sender, ..Verdict::new(cause, confidence, format!("{how}{by}")) }
}

/// The last `stead signal`, where it was sent not longer before `at` than this.
fn sent_before(run: &Run, at: Mono, within: Millis) -> Option<&Signalled> {
    run.signalled.as_ref().filter(|sent| sent.at <= at && at - sent.at <= within)
}

fn held_by(holder: &LockHolder) -> String {
    let LockHolder { pid, command, instance, path, .. } = holder;
    let command = command.as_ref().map(|command| format!(" (`{command}`)")).unwrap_or_default();
    let instance = instance.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    format!("; the lock on {path} was held by pid {pid}{instance}{command}")
}

/// The verdict on a spawn that failed: at which step, on what, and why.
#[must_use]
pub fn spawn_failed(spec: &Spec, failure: &SpawnFailure, port: Option<&TakenPort>) -> Verdict {
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
    Verdict::new(Cause::SpawnFailed, Confidence::Certain, format!("could not be started: {step}: {why}{}", but(port)))
}

/// Only where more is to be said than that it is taken.
fn but(port: Option<&TakenPort>) -> String {
    port.filter(|port| port.holder.is_some()).map(|port| format!("; {port}")).unwrap_or_default()
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
        "EMFILE" => "too many open files",
        "ENFILE" => "too many open files on this machine",
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
    Verdict::new(Cause::Lost, Confidence::Unknown, format!("ended while nothing watched: {why}"))
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

/// What it was done on.
fn on(run: &Run, why: &Why) -> String {
    match &why.grounds {
        Some(Grounds::WatchPath(path)) => format!(": {path}"),
        None if why.cause == Cause::StartTimeout => {
            format!(" (no READY=1 within listen_timeout {})", run.spec.readiness.listen_timeout)
        }
        Some(Grounds::Probe(_)) | None => String::new(),
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

/// Who asked, or sent.
fn who(actor: &Actor) -> String {
    let mut facts = Vec::new();
    if let Some(uid) = actor.uid {
        facts.push(format!("uid {uid}"));
    }
    if let Some(pid) = actor.pid {
        facts.push(format!("pid {pid}"));
    }
    match (&actor.command, facts.is_empty()) {
        (Some(command), true) => format!("`{command}`"),
        (Some(command), false) => format!("`{command}` ({})", facts.join(", ")),
        (None, true) => "somebody".into(),
        (None, false) => facts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::{Now, Wall};
    use super::super::event::Usage;
    use super::super::name::{AppName, RunId};
    use super::super::record::ChildEnd;
    use super::super::traceback::Runtime;
    use super::*;
    use crate::core::event::Reached;
    use crate::core::instance::Part;
    use std::sync::Arc;

    fn at(mono: u64) -> Now {
        Now { mono: Mono(mono), wall: Wall(1_800_000_000_000 + mono as i64) }
    }

    fn run(command: &str) -> Run {
        let mut spec = Spec::plain(AppName::parse("web").unwrap());
        spec.command = command.split(' ').map(str::to_owned).collect();
        Run {
            id: RunId(1),
            seq: 1,
            started: at(0),
            spec: Arc::new(spec),
            revision: 0,
            signalled: None,
            kills: 0,
            killed_at: None,
            part: Part::Main,
            reached: Reached::Online,
            health: None,
        }
    }

    fn end(run: &Run, status: ExitStatus, facts: &Facts) -> Verdict {
        let exit = Exit { status, usage: Usage::default(), at: at(90_000) };
        verdict(&run.spec, run, None, &exit, facts)
    }

    fn by(signal: Signal) -> ExitStatus {
        ExitStatus::Signal { signal, core_dumped: false }
    }

    fn locked() -> Traceback {
        Traceback {
            exception: Exception {
                kind: "sqlite3.OperationalError".into(),
                message: "database is locked".into(),
                location: Some("/srv/app/store.py:8".into()),
            },
            standing: Standing::Last,
            runtime: Runtime::Python,
            announced: false,
            follows: 0,
        }
    }

    fn with(found: Traceback) -> Facts {
        Facts { exception: Some(found), quiet: Some(Millis(30)), ..Facts::default() }
    }

    #[test]
    fn only_an_exception_that_nothing_speaks_against_is_certain() {
        let python = run("python3 app.py");
        let said = |code, facts: &Facts| {
            let verdict = end(&python, ExitStatus::Code(code), facts);
            (verdict.confidence, verdict.by_exception, verdict.summary)
        };
        let exception = "sqlite3.OperationalError: database is locked at /srv/app/store.py:8";
        assert_eq!(
            said(1, &with(locked())),
            (Confidence::Certain, true, format!("exited with code 1 after 1m 30s: {exception}"))
        );
        let likely = [
            (3, with(locked())),
            (1, with(Traceback { announced: true, ..locked() })),
            (1, with(Traceback { standing: Standing::Earlier, follows: 2, ..locked() })),
            (1, Facts { log_is_shared: true, ..with(locked()) }),
        ];
        for (code, facts) in likely {
            let expected = format!("exited with code {code} after 1m 30s; most likely by {exception}");
            assert_eq!(said(code, &facts), (Confidence::Likely, true, expected), "{facts:?}");
        }
        let before = [
            Facts { quiet: Some(Millis(60_000)), ..with(locked()) },
            with(Traceback { standing: Standing::Earlier, follows: 40, ..locked() }),
            Facts { log_is_shared: true, ..with(Traceback { standing: Standing::Earlier, follows: 1, ..locked() }) },
        ];
        for facts in before {
            let (confidence, by_exception, summary) = said(3, &facts);
            assert_eq!((confidence, by_exception), (Confidence::Certain, false), "{facts:?}");
            assert_eq!(
                summary,
                format!("exited with code 3 after 1m 30s; the last exception in its log need not be why: {exception}")
            );
        }
    }

    #[test]
    fn text_never_outweighs_the_kernel() {
        let python = run("python3 app.py");
        let verdict = end(&python, by(Signal::KILL), &with(locked()));
        assert_eq!((verdict.cause, verdict.by_exception), (Cause::Signal, false));
        let verdict = end(&python, ExitStatus::Code(0), &with(locked()));
        assert_eq!((verdict.cause, verdict.by_exception), (Cause::Success, false));
        let mut killed = with(locked());
        killed.oom.own = 1;
        assert_eq!(end(&python, by(Signal::KILL), &killed).cause, Cause::OomKill);
    }

    #[test]
    fn a_code_that_a_wrapper_makes_of_a_signal_is_likely_at_most() {
        let shell = end(&run("bash -c ./worker"), ExitStatus::Code(137), &Facts::default());
        assert_eq!((shell.cause, shell.confidence), (Cause::ExitCode, Confidence::Likely));
        assert_eq!(
            shell.summary,
            "exited with code 137 after 1m 30s: 128 + 9, as a shell reports a child that was ended by SIGKILL"
        );
        assert_eq!(shell.exit_meaning.unwrap().signal, Some(Signal::KILL));
        let missing = end(&run("bash -c ./worker"), ExitStatus::Code(127), &Facts::default());
        assert_eq!(missing.confidence, Confidence::Certain);
        assert_eq!(
            missing.summary,
            "exited with code 127 after 1m 30s, as a shell reports a command that was not found"
        );
        assert_eq!(
            end(&run("./worker"), ExitStatus::Code(3), &Facts::default()).summary,
            "exited with code 3 after 1m 30s"
        );
        let boot = with(Traceback { standing: Standing::Earlier, follows: 3, ..locked() });
        let gunicorn = end(&run("gunicorn web:app"), ExitStatus::Code(3), &boot);
        assert_eq!(gunicorn.confidence, Confidence::Likely);
        assert_eq!(
            gunicorn.summary,
            "exited with code 3 after 1m 30s, as gunicorn reports that a worker failed to boot; most likely by \
             sqlite3.OperationalError: database is locked at /srv/app/store.py:8"
        );
    }

    #[test]
    fn who_sent_a_signal_is_said_where_somebody_is_known_to_have_sent_it() {
        let actor = Actor { uid: Some(0), pid: Some(7), command: Some("stead signal TERM web".into()) };
        let sent = |before: u64, signal| {
            let mut run = run("python3 app.py");
            run.signalled = Some(Signalled { signal, at: Mono(90_000 - before), actor: actor.clone() });
            end(&run, by(Signal::TERM), &Facts::default())
        };
        let now = sent(12, Signal::TERM);
        assert_eq!((now.confidence, now.planned, now.sender), (Confidence::Certain, false, Some(actor.clone())));
        assert_eq!(now.summary, "ended by SIGTERM after 1m 30s, which `stead signal TERM web` (uid 0, pid 7) sent");
        let later = sent(30_000, Signal::TERM);
        assert_eq!((later.confidence, later.sender.is_some()), (Confidence::Likely, true));
        for other in [sent(12, Signal::HUP), sent(80_000, Signal::TERM)] {
            assert_eq!((other.confidence, other.sender), (Confidence::Certain, None));
            assert_eq!(other.summary, "ended by SIGTERM after 1m 30s; who sent it is not known");
        }
        let killer = |killer| end(&run("x"), by(Signal::KILL), &Facts { killer: Some(killer), ..Facts::default() });
        let names = |verdict: &Verdict| verdict.sender.as_ref().and_then(|sender| sender.command.clone());
        let (marked, claimed) = (killer(Killer::SystemdOomd), killer(Killer::Earlyoom));
        assert_eq!((marked.confidence, names(&marked).as_deref()), (Confidence::Certain, Some("systemd-oomd")));
        assert_eq!((claimed.confidence, names(&claimed).as_deref()), (Confidence::Likely, Some("earlyoom")));
    }

    #[test]
    fn what_else_was_seen_is_told_beside() {
        let holder = LockHolder {
            pid: 9,
            command: Some("python3 sar.py".into()),
            instance: Some("sar-collector".into()),
            path: "/srv/app/x.db".into(),
            seen_at: at(0).wall,
        };
        let facts = Facts { lock_holder: Some(holder), ..with(locked()) };
        let summary = end(&run("python3 app.py"), ExitStatus::Code(1), &facts).summary;
        assert!(
            summary.ends_with(
                "store.py:8; the lock on /srv/app/x.db was held by pid 9 of sar-collector (`python3 sar.py`)"
            ),
            "{summary}"
        );
        let child = ChildEnd {
            pid: 8,
            name: "worker".into(),
            exit_code: None,
            signal: Some(Signal(11)),
            ended_at: at(89_000).wall,
        };
        let facts = Facts { children: vec![child], ..Facts::default() };
        let summary = end(&run("./wrapper"), ExitStatus::Code(1), &facts).summary;
        assert_eq!(
            summary,
            "exited with code 1 after 1m 30s; shortly before, its process 8 (`worker`) was ended by SIGSEGV"
        );
    }
}
