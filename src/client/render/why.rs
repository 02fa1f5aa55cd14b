//! `stead why`: how often, by which cause, and the newest ends with their evidence.

use super::moment::{ago, local, since};
use super::screen::{Screen, Style};
use super::table::{self, Column, Cut, cell};
use super::text;
use crate::core::clock::Wall;
use crate::core::record::{Confidence, NextAction, Record};
use crate::core::spec::Bytes;
use crate::core::view::WhyView;

/// All of it.
#[must_use]
pub fn page(screen: &Screen, now: Wall, view: &WhyView) -> String {
    let name = text::plain(&view.name);
    if view.total == 0 {
        return format!("{}: no run has ended\n", screen.paint(Style::Bold, &name));
    }
    let since = view.since.map_or(String::new(), |at| format!(" since {}", local(at)));
    let mut lines = format!(
        "{}: {} ended{since}: {} unplanned, {} planned\n\n",
        screen.paint(Style::Bold, &name),
        if view.total == 1 { "1 run has".to_owned() } else { format!("{} runs have", view.total) },
        view.unplanned,
        view.planned
    );
    lines.push_str(&causes(screen, now, view));
    for record in &view.records {
        lines.push('\n');
        lines.push_str(&end(screen, now, record));
    }
    let left = view.total.saturating_sub(view.records.len() as u64);
    if left > 0 {
        let all = format!("\n{left} older; `stead why {name} --last {}` shows all\n", view.total);
        lines.push_str(&screen.paint(Style::Dim, all));
    }
    lines
}

fn causes(screen: &Screen, now: Wall, view: &WhyView) -> String {
    let column = |title, rank, numbers, cut, cells| Column { title, rank, numbers, cut, cells };
    let rows = &view.by_cause;
    let columns = [
        column("count", 0, true, None, rows.iter().map(|row| cell(row.count.to_string(), Style::Bold)).collect()),
        column("cause", 0, false, None, rows.iter().map(|row| cell(row.cause.word(), Style::Plain)).collect()),
        column("last", 1, true, None, {
            rows.iter().map(|row| cell(format!("{} ago", since(now, row.last_at)), Style::Plain)).collect()
        }),
        column("first", 3, false, None, rows.iter().map(|row| cell(local(row.first_at), Style::Dim)).collect()),
        column("exception", 2, false, Some(Cut { least: 20, rank: 3, ample: 20 }), {
            let signature = |text: &Option<String>| text::plain(text.as_deref().unwrap_or("-")).into_owned();
            rows.iter().map(|row| cell(signature(&row.signature), Style::Plain)).collect()
        }),
    ];
    let signatures = rows.iter().any(|row| row.signature.is_some());
    table::render(screen, if signatures { &columns } else { &columns[..4] })
}

/// One end: what, when, the evidence, and what came next.
fn end(screen: &Screen, now: Wall, record: &Record) -> String {
    let style = if record.planned { Style::Bold } else { Style::Red };
    let run = text::plain(&record.run);
    let mut lines = format!(
        "{}  {}: {}\n",
        screen.paint(Style::Bold, run),
        screen.paint(style, record.cause.word()),
        text::plain(&record.summary)
    );
    let mut line = |label: &str, value: &str| {
        let label = screen.paint(Style::Dim, format!("  {label:<11}"));
        lines.push_str(&format!("{label} {}\n", text::plain(value)));
    };
    line("ended", &ago(now, record.ended_at));
    if record.confidence != Confidence::Certain {
        line("certain", if record.confidence == Confidence::Likely { "no, likely" } else { "no, not known" });
    }
    if let Some(exception) = &record.evidence.exception {
        let place = exception.location.as_ref().map_or(String::new(), |place| format!(" at {place}"));
        line("exception", &format!("{}: {}{place}", exception.kind, exception.message));
    }
    if let Some(memory) = memory(record) {
        line("memory", &memory);
    }
    if record.left_behind > 0 {
        line("left behind", &format!("{} processes of its tree", record.left_behind));
    }
    line("then", &next(record));
    for said in &record.evidence.kernel_log {
        line("kernel", said);
    }
    for said in &record.evidence.stderr_tail {
        lines.push_str(&format!("  {} {}\n", screen.paint(Style::Dim, "|"), text::plain(said)));
    }
    lines
}

fn memory(record: &Record) -> Option<String> {
    let memory = &record.memory;
    let said: Vec<String> = [("peak", memory.peak_bytes), ("cap", memory.cap_bytes), ("wall", memory.wall_bytes)]
        .into_iter()
        .filter_map(|(word, bytes)| Some(format!("{word} {}", Bytes(bytes?))))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

fn next(record: &Record) -> String {
    let next = &record.next;
    let what = match (next.action, next.delay_ms) {
        (NextAction::Restart, Some(delay)) if delay.0 > 0 => format!("restart after {delay}"),
        (NextAction::Restart, _) => "restart at once".into(),
        (NextAction::Stop, _) => "stopped".into(),
        (NextAction::GiveUp, _) => "gave up".into(),
        (NextAction::Delete, _) => "deleted".into(),
    };
    if next.reason.is_empty() { what } else { format!("{what}: {}", next.reason) }
}
