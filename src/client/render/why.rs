//! `stead why`: how often, by which cause, and the newest ends with their evidence.

use super::describe::left_behind;
use super::moment::{ago, local, since};
use super::screen::{Screen, Style};
use super::table::{self, Column, Cut, cell};
use super::text;
use crate::core::clock::Wall;
use crate::core::record::{Confidence, Incident, NextAction, Record};
use crate::core::spec::Bytes;
use crate::core::view::WhyView;

/// All of it.
#[must_use]
pub fn page(screen: &Screen, now: Wall, view: &WhyView) -> String {
    let name = text::plain(&view.name);
    if view.total == 0 {
        let none = format!("{}: no run has ended\n", screen.paint(Style::Bold, &name));
        return none + &events(screen, now, &view.events);
    }
    let since = view.since.map_or(String::new(), |at| format!(" since {}", local(at)));
    let sums = format!(
        "{} ended{since}: {} unplanned, {} planned",
        if view.total == 1 { "1 run has".to_owned() } else { format!("{} runs have", view.total) },
        view.unplanned,
        view.planned
    );
    let sums = text::hang(screen, text::width(&name) + 2, &sums);
    let mut lines = format!("{}: {sums}\n\n", screen.paint(Style::Bold, &name));
    lines.push_str(&causes(screen, now, view));
    for record in &view.records {
        lines.push('\n');
        lines.push_str(&end(screen, now, record));
    }
    lines.push_str(&events(screen, now, &view.events));
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
    let cause = record.cause.word();
    let summary = text::hang(screen, text::width(&run) + cause.len() + 4, &text::plain(&record.summary));
    let mut lines = format!("{}  {}: {summary}\n", screen.paint(Style::Bold, run), screen.paint(style, cause));
    let mut line = |label: &str, value: &str| {
        let label = screen.paint(Style::Dim, format!("  {label:<11}"));
        lines.push_str(&format!("{label} {}\n", text::hang(screen, 14, &text::plain(value))));
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
        line("left behind", &left_behind(record.left_behind));
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

/// What happened to runs that went on.
fn events(screen: &Screen, now: Wall, events: &[Incident]) -> String {
    let mut lines = String::new();
    for event in events {
        let (run, cause) = (text::plain(&event.run), event.cause.word());
        let summary = text::hang(screen, text::width(&run) + cause.len() + 4, &text::plain(&event.summary));
        let cause = screen.paint(Style::Yellow, cause);
        lines.push_str(&format!("\n{}  {cause}: {summary}\n", screen.paint(Style::Bold, &run)));
        let mut line = |label: &str, value: &str| {
            let label = screen.paint(Style::Dim, format!("  {label:<11}"));
            lines.push_str(&format!("{label} {}\n", text::hang(screen, 14, &text::plain(value))));
        };
        line("went on", &ago(now, event.at));
        for said in &event.kernel_log {
            line("kernel", said);
        }
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

#[cfg(test)]
mod tests {
    use super::super::list::tests::{NOW, record};
    use super::super::screen::tests::plain;
    use super::*;
    use crate::core::record::{Cause, Exception, Oom, Tally};

    fn why(records: Vec<Record>) -> WhyView {
        let mut tally = Tally::default();
        // Newest first in the view, counted as they came.
        records.iter().rev().for_each(|record| tally.count(record));
        let Tally { total, planned, unplanned, since, by_cause, .. } = Tally::merged([&tally]);
        WhyView { name: "api".into(), total, planned, unplanned, since, by_cause, records, events: Vec::new() }
    }

    #[test]
    fn a_kill_that_an_app_survived_is_told_though_no_run_has_ended() {
        let oom = Oom { own: 1, host: 0, killed_pid: Some(42), killed_name: Some("python3".into()) };
        let event = Incident {
            run: "api#1".into(),
            instance: "api".into(),
            at: Wall(NOW.0 - 5_000),
            cause: Cause::OomKill,
            summary: "`python3` (pid 42) was killed by the kernel: its tree reached its hard memory limit of 60M; the app went on".into(),
            oom,
            kernel_log: vec!["Memory cgroup out of memory: Killed process 42 (python3)".into()],
        };
        let view = WhyView { events: vec![event], ..why(Vec::new()) };
        let shown = page(&plain(80), NOW, &view);
        let (head, when) = shown.split_once("  went on     ").unwrap();
        let expected = "\
api: no run has ended

api#1  oom-kill: `python3` (pid 42) was killed by the kernel: its tree reached its hard memory limit of 60M; the app went on
";
        assert_eq!(head, expected);
        assert!(when.contains("(5 s ago)\n"), "{shown}");
        assert!(
            when.ends_with("\n  kernel      Memory cgroup out of memory: Killed process 42 (python3)\n"),
            "{shown}"
        );
    }

    #[test]
    fn an_end_is_told_with_its_evidence_and_what_came_next() {
        let mut locked = record("api#2", Cause::ExitCode, "OperationalError: database is locked after 1m 1s", 5_000);
        locked.signature = Some("OperationalError: database is locked".into());
        locked.memory.peak_bytes = Some(84 << 20);
        locked.evidence.exception = Some(Exception {
            kind: "OperationalError".into(),
            message: "database is locked".into(),
            location: Some("store.py:41".into()),
        });
        locked.evidence.stderr_tail = vec!["Traceback:".into(), "\u{1b}[2Jlocked".into()];
        let shown = end(&plain(80), NOW, &locked);
        let expected = format!(
            "\
api#2  exit-code: OperationalError: database is locked after 1m 1s
  ended       {} (5 s ago)
  exception   OperationalError: database is locked at store.py:41
  memory      peak 84M
  then        restart at once: autorestart
  | Traceback:
  | ^[[2Jlocked
",
            local(locked.ended_at)
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn ends_are_counted_by_cause_and_older_ones_are_not_hidden() {
        let mut view = why(vec![
            record("api#3", Cause::ExitCode, "exited with code 1 after 1m 1s", 5_000),
            record("api#2", Cause::ExitCode, "exited with code 1 after 1m 1s", 90_000),
            record("api#1", Cause::OomKill, "killed by the kernel after 1m 1s", 400_000),
        ]);
        view.records.truncate(1);
        let shown = page(&plain(80), NOW, &view);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("api: 3 runs have ended since "), "{shown}");
        assert!(lines[0].ends_with(": 3 unplanned, 0 planned"), "{shown}");
        assert!(lines[2].starts_with("count  cause            last  first"), "{shown}");
        assert!(lines[3].starts_with("    2  exit-code     5 s ago  "), "{shown}");
        assert!(lines[4].starts_with("    1  oom-kill   6m 40s ago  "), "{shown}");
        assert_eq!(lines.last().unwrap(), &"2 older; `stead why api --last 3` shows all");
    }

    #[test]
    fn nothing_has_ended() {
        assert_eq!(page(&plain(80), NOW, &why(Vec::new())), "api: no run has ended\n");
    }
}
