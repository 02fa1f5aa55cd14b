//! Events and actions as a transcript says them.

use std::fmt::Write;
use stead::core::action::{Action, Entry, To};
use stead::core::backoff::is_crash_loop;
use stead::core::clock::Mono;
use stead::core::command::{ChangeKind, Command, Refusal, Reply};
use stead::core::event::{Event, ExitStatus, Sent};
use stead::core::fleet::Fleet;
use stead::core::instance::{Part, Want};
use stead::core::name::{RunId, Ticket};
use stead::core::record::{NextAction, Record};
use stead::core::reload::Beside;

pub fn ticket(ticket: Ticket) -> String {
    format!("client {}", ticket.0)
}

pub fn command(command: &Command) -> String {
    match command {
        Command::Apply { terms, .. } => format!(
            "start FILE{}{}",
            if terms.dry_run { " --dry-run" } else { "" },
            if terms.prune { " --prune" } else { "" }
        ),
        Command::Start { targets } => format!("start {}", targets.join(" ")),
        Command::Stop { targets } => format!("stop {}", targets.join(" ")),
        Command::Restart { targets, .. } => format!("restart {}", targets.join(" ")),
        Command::Reload { targets } => format!("reload {}", targets.join(" ")),
        Command::Delete { targets } => format!("delete {}", targets.join(" ")),
        Command::Scale { app, count } => format!("scale {app} {count}"),
        Command::Reset { targets } => format!("reset {}", targets.join(" ")),
        Command::Signal { signal, targets } => format!("signal {signal} {}", targets.join(" ")),
        Command::Flush { targets } => format!("flush {}", targets.join(" ")),
        Command::Save { .. } => "save".into(),
        Command::Resurrect => "resurrect".into(),
        Command::Kill => "kill".into(),
    }
}

pub fn event(event: &Event, shown: impl Fn(RunId) -> String) -> String {
    match event {
        Event::Asked { ticket: from, asked } => format!("{} asks: {}", ticket(*from), command(&asked.command)),
        Event::Spawned { run, pid, .. } => format!("{} spawned, pid {pid}", shown(*run)),
        Event::SpawnFailed { run, failure } => {
            format!("{} cannot be spawned: {}: {}", shown(*run), failure.stage, failure.errno)
        }
        Event::Exited { run, exit, left } => {
            let left = if *left > 0 { format!(", leaves {left}") } else { String::new() };
            match exit.status {
                ExitStatus::Code(code) => format!("{} exits {code}{left}", shown(*run)),
                ExitStatus::Signal { signal, .. } => format!("{} dies of {signal}{left}", shown(*run)),
            }
        }
        Event::Ready { run } => format!("{} says READY=1", shown(*run)),
        Event::Probed { run, outcome } => format!("{} answers: {}", shown(*run), outcome.said),
        Event::OverCap { run, .. } => format!("{} is over its cap", shown(*run)),
        Event::OomKill { run } => format!("the kernel kills in the group of {}", shown(*run)),
        Event::Finished { run, .. } => format!("{} finished", shown(*run)),
        Event::Changed { app, path } => format!("{path} of {app} changed"),
        Event::Term { .. } => "SIGTERM to stead".into(),
        Event::ClockSet => "the clock is set".into(),
        Event::Due => "due".into(),
    }
}

pub fn action(action: &Action, shown: impl Fn(RunId) -> String) -> String {
    match action {
        Action::Spawn(order) => {
            let beside = if order.note.reload.is_some() { " beside the run before it" } else { "" };
            format!("spawn {}#{}{beside}", order.note.instance, order.note.seq)
        }
        Action::Note { run, note } => match &note.intent {
            Some(intent) => format!(
                "note {}: {}, {} at {}{}",
                shown(*run),
                intent.why.cause.word(),
                if intent.sent == Sent::ReloadSignal { "kill signal" } else { "SIGKILL" },
                seconds(intent.kill_at),
                match intent.sent {
                    Sent::Nothing => "",
                    Sent::ReloadSignal => ", reload signal sent",
                    Sent::KillSignal => ", signal sent",
                    Sent::SigKill => ", killed",
                }
            ),
            None => {
                let beside = if note.reload.is_some() { ", a successor" } else { "" };
                format!("note {}: {}{beside}", shown(*run), format!("{:?}", note.reached).to_lowercase())
            }
        },
        Action::Signal { run, to, signal } => format!(
            "{signal} to {} of {}",
            match to {
                To::Main => "the main process",
                To::Tree => "the tree",
            },
            shown(*run)
        ),
        Action::Probe { run, .. } => format!("probe {}", shown(*run)),
        Action::Finish { run, tree: true } => format!("finish {}", shown(*run)),
        Action::Finish { run, tree: false } => format!("finish {}, whatever it left", shown(*run)),
        Action::Journal { line, .. } => match &line.entry {
            Entry::Start { pid, .. } => format!("journal: {}#{} runs as {pid}", line.instance, line.seq),
            Entry::End { record, .. } => format!("journal: {}", end(record)),
            Entry::Reset { .. } => format!("journal: {} reset", line.instance),
            Entry::Asked { .. } => format!("journal: {} asked for", line.instance),
        },
        Action::Forget { run } => format!("forget {}", shown(*run)),
        Action::Persist => "persist".into(),
        Action::Save { .. } => "save".into(),
        Action::Reply { ticket: to, result } => format!("answer {}: {}", ticket(*to), answer(result)),
        Action::Flush { ids, .. } => format!("flush the logs of {}", ids.len()),
        Action::Release { app } => format!("release {app}"),
        Action::Report { instance, text } => format!("report of {instance}: {text}"),
        Action::Bye => "bye".into(),
    }
}

/// One line per instance: what `list` would show, and what the policy remembers.
pub fn status(fleet: &Fleet, now: Mono) -> Vec<String> {
    let mut lines: Vec<String> = fleet
        .instances()
        .map(|one| {
            let want = match one.want {
                Want::Up => "up",
                Want::Down => "down",
                Want::Gone => "gone",
            };
            let mut line = format!("{}  {} (wanted {want})", one.name, one.status().word());
            let tally = &one.tally;
            let _ = write!(
                line,
                ", ended {} = {} planned + {} unplanned, restarts {} ({} unplanned), short {}",
                tally.total, tally.planned, tally.unplanned, tally.restarts, tally.restarts_unplanned, one.streak.short
            );
            match &one.beside {
                None => {}
                Some(Beside::Awaited { .. }) => line.push_str(", is to be reloaded"),
                Some(Beside::Living(phase)) => {
                    let run = phase.run().expect("a second run");
                    let what = if run.part == Part::Predecessor { "leaves" } else { "starts" };
                    let _ = write!(line, ", {}#{} {what} beside it", one.name, run.seq);
                }
            }
            if is_crash_loop(&one.streak, now) {
                line.push_str(", a crash loop");
            }
            line
        })
        .collect();
    if lines.is_empty() {
        lines.push("no apps".into());
    }
    lines
}

fn end(record: &Record) -> String {
    let planned = if record.planned { "planned" } else { "unplanned" };
    let mut line = format!("{} ended: {}, {planned}: {}", record.run, record.cause.word(), record.summary);
    if record.left_behind > 0 {
        let _ = write!(line, "; left {} behind", record.left_behind);
    }
    let next = match record.next.action {
        NextAction::Restart => "restart",
        NextAction::Stop => "stop",
        NextAction::GiveUp => "give up",
        NextAction::Delete => "delete",
        NextAction::RunsOn => "nothing",
    };
    let delay = record.next.delay_ms.map(|delay| format!(" in {delay}")).unwrap_or_default();
    let _ = write!(line, "; {next}{delay}: {}", record.next.reason);
    line
}

fn answer(result: &Result<Reply, Refusal>) -> String {
    match result {
        Err(refusal) => match &refusal.hint {
            Some(hint) => format!("refused: {} (hint: {hint})", refusal.error),
            None => format!("refused: {}", refusal.error),
        },
        Ok(reply) => {
            let mut parts: Vec<String> = Vec::new();
            for change in &reply.changes {
                let kind = match change.kind {
                    ChangeKind::Started => "started",
                    ChangeKind::Restarted => "restarted",
                    ChangeKind::Reloaded => "reloaded",
                    ChangeKind::Added => "added",
                    ChangeKind::Updated => "updated",
                    ChangeKind::Unchanged => "unchanged",
                    ChangeKind::Gone => "left",
                    ChangeKind::Stopped => "stopped",
                    ChangeKind::Deleted => "deleted",
                    ChangeKind::Signalled => "signalled",
                    ChangeKind::Reset => "reset",
                    ChangeKind::Flushed => "flushed",
                    ChangeKind::Saved => "saved",
                };
                let detail = change.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
                parts.push(format!("{kind} {}{detail}", change.name));
            }
            parts.extend(reply.failures.iter().map(|failure| format!("failed {}: {}", failure.name, failure.reason)));
            if parts.is_empty() { "done".into() } else { parts.join("; ") }
        }
    }
}

fn seconds(at: Mono) -> String {
    format!("{}.{:03}", at.0 / 1000, at.0 % 1000)
}
