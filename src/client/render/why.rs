//! `stead why`: how often, by which cause, what to do, and the newest ends with their evidence.

use super::describe::left_behind;
use super::moment::{ago, brief, local, since};
use super::screen::{Screen, Style};
use super::table::{self, Column, Cut, cell};
use super::text;
use crate::core::cause::is_planned;
use crate::core::clock::Wall;
use crate::core::record::{Actor, Cause, Confidence, Exception, NextAction, Record};
use crate::core::spec::Bytes;
use crate::core::view::WhyView;
use crate::core::why::Filter;

/// Ends that are told in one line each behind the newest.
pub const EARLIER: usize = 5;

/// Rows of causes that are shown; an app whose exceptions never repeat has many.
const MOST_ROWS: usize = 10;

const SENTENCE: Cut = Cut { least: 16, rank: 4, ample: 24 };

/// What a question takes of an app's counts.
pub mod asked {
    use crate::core::cause::is_planned;
    use crate::core::clock::Wall;
    use crate::core::view::WhyView;
    use crate::core::why::Filter;

    /// Ends that nobody asked for. A job's success is among them only where nothing is left out.
    #[must_use]
    pub fn unplanned(view: &WhyView, filter: &Filter) -> u64 {
        if *filter == Filter::default() {
            return view.unplanned;
        }
        let sum: u64 = view.by_cause.iter().filter(|row| !is_planned(row.cause)).map(|row| row.count).sum();
        sum.min(view.unplanned)
    }

    /// The last of the ends.
    #[must_use]
    pub fn last(view: &WhyView) -> Option<Wall> {
        view.by_cause.iter().filter(|row| !is_planned(row.cause)).map(|row| row.last_at).max()
    }
}

/// One line for each app that ended unasked, in the order that is given; `known`: how many apps there are.
#[must_use]
pub fn overview(screen: &Screen, now: Wall, filter: &Filter, views: &[WhyView], known: usize) -> String {
    let narrowed = narrowed(filter).map(|words| format!(" ({words})")).unwrap_or_default();
    if known == 0 {
        return "no apps yet: `stead start FILE` starts some\n".into();
    }
    if views.is_empty() {
        let apps = if known == 1 { "the one app has run as it should" } else { "all apps have run as they should" };
        return format!("{apps}: no end that nobody asked for{narrowed}\n");
    }
    let newest = |view: &WhyView| view.records.iter().find(|record| !record.planned).cloned();
    let mostly = |view: &WhyView| {
        let row = view.by_cause.iter().find(|row| !is_planned(row.cause));
        row.map_or("-".into(), |row| format!("{} ({})", row.cause.word(), row.count))
    };
    let last = |view: &WhyView| asked::last(view).map_or("-".into(), |at| format!("{} ago", brief(since(now, at))));
    let what = |record: Record| record.evidence.exception.as_ref().map_or(record.summary, raised);
    let summary = |view: &WhyView| newest(view).map_or("-".into(), |record| text::plain(&what(record)).into_owned());
    let column = |title, rank, numbers, cut, cells| Column { title, rank, numbers, cut, cells };
    let columns = [
        column("app", 0, false, Some(Cut { least: 12, rank: 2, ample: 32 }), {
            views.iter().map(|view| cell(text::plain(&view.name), Style::Bold)).collect()
        }),
        column("unplanned", 0, true, None, {
            views.iter().map(|view| cell(asked::unplanned(view, filter).to_string(), Style::Red)).collect()
        }),
        column("mostly", 0, false, None, views.iter().map(|view| cell(mostly(view), Style::Plain)).collect()),
        column("last", 1, true, None, views.iter().map(|view| cell(last(view), Style::Plain)).collect()),
        column("the last one", 2, false, Some(SENTENCE), {
            views.iter().map(|view| cell(summary(view), Style::Dim)).collect()
        }),
    ];
    let head = if known == 1 {
        format!("the one app ended and nobody asked for it{narrowed}")
    } else if views.len() == 1 {
        format!("1 of {known} apps ended and nobody asked for it{narrowed}")
    } else {
        format!("{} of {known} apps ended and nobody asked for it, the worst first{narrowed}", views.len())
    };
    let mut lines = format!("{head}\n\n{}\n", table::render(screen, &columns));
    for eager in views.iter().flat_map(|view| &view.loops) {
        let name = text::plain(&eager.instance);
        let said = text::hang(screen, text::width(&name) + 2, &text::plain(&eager.text));
        lines.push_str(&format!("{}: {said}\n", screen.paint(Style::Yellow, &name)));
    }
    lines.push_str("`stead why NAME` says more\n");
    lines
}

/// What was asked, in words.
fn narrowed(filter: &Filter) -> Option<String> {
    let causes: Vec<&str> = filter.causes.iter().map(|cause| cause.word()).collect();
    let parts = [
        (!causes.is_empty()).then(|| format!("by {}", causes.join(" or "))),
        filter.since.map(|at| format!("since {}", local(at))),
        filter.run.as_ref().map(|run| format!("run {}", text::plain(run))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// All of it, with so many of the newest ends in `full`.
#[must_use]
pub fn page(screen: &Screen, now: Wall, filter: &Filter, full: usize, view: &WhyView) -> String {
    let name = text::plain(&view.name);
    if view.total == 0 {
        return format!("{}: no run has ended\n", screen.paint(Style::Bold, &name));
    }
    let since = view.since.map_or(String::new(), |at| format!(" since {}", local(at)));
    let sums = format!(
        "{} ended{since}: {} unplanned, {} planned",
        if view.total == 1 { "1 run has".to_owned() } else { format!("{} runs have", view.total) },
        view.unplanned,
        view.planned
    );
    let sums = text::hang(screen, text::width(&name) + 2, &sums);
    let mut lines = format!("{}: {sums}\n", screen.paint(Style::Bold, &name));
    let taken: u64 = view.by_cause.iter().map(|row| row.count).sum();
    if let Some(words) = narrowed(filter) {
        lines.push_str(&format!("asked for: {words}: {taken}\n"));
    }
    if taken > 0 && filter.run.is_none() {
        lines.push('\n');
        lines.push_str(&causes(screen, now, view));
    }
    lines.push_str(&advice(screen, view));
    for record in view.records.iter().take(full) {
        lines.push('\n');
        lines.push_str(&end(screen, now, record));
    }
    let earlier = view.records.get(full..).unwrap_or_default();
    if !earlier.is_empty() {
        lines.push_str(&format!("\n{}\n", screen.paint(Style::Bold, "before that")));
        lines.push_str(&before(screen, now, earlier));
    }
    for note in &view.notes {
        lines.push_str(&format!("\n{}\n", screen.paint(Style::Yellow, text::hang(screen, 0, &text::plain(note)))));
    }
    let mut more = Vec::new();
    if taken > view.records.len() as u64 && view.notes.is_empty() {
        more.push(format!(
            "{} older ones: `stead why {name} --last {}`",
            taken - view.records.len() as u64,
            20.max(2 * full)
        ));
    }
    if let Some(record) = view.records.first() {
        more.push(format!("what `{}` means: docs/causes.md", record.cause.word()));
    }
    if !more.is_empty() {
        lines.push_str(&format!("\n{}\n", screen.paint(Style::Dim, text::hang(screen, 0, &more.join("; ")))));
    }
    lines
}

fn causes(screen: &Screen, now: Wall, view: &WhyView) -> String {
    let column = |title, rank, numbers, cut, cells| Column { title, rank, numbers, cut, cells };
    let rows = &view.by_cause[..view.by_cause.len().min(MOST_ROWS)];
    let columns = [
        column("count", 0, true, None, rows.iter().map(|row| cell(row.count.to_string(), Style::Bold)).collect()),
        column("cause", 0, false, None, rows.iter().map(|row| cell(row.cause.word(), Style::Plain)).collect()),
        column("last", 1, true, None, {
            rows.iter().map(|row| cell(format!("{} ago", brief(since(now, row.last_at))), Style::Plain)).collect()
        }),
        column("first", 3, false, None, rows.iter().map(|row| cell(local(row.first_at), Style::Dim)).collect()),
        column("exception", 2, false, Some(Cut { least: 20, rank: 3, ample: 20 }), {
            let signature = |text: &Option<String>| text::plain(text.as_deref().unwrap_or("-")).into_owned();
            rows.iter().map(|row| cell(signature(&row.signature), Style::Plain)).collect()
        }),
    ];
    let signatures = rows.iter().any(|row| row.signature.is_some());
    let mut lines = table::render(screen, if signatures { &columns } else { &columns[..4] });
    let left: u64 = view.by_cause.iter().skip(MOST_ROWS).map(|row| row.count).sum();
    if left > 0 {
        let rows = view.by_cause.len() - MOST_ROWS;
        lines.push_str(&screen.paint(Style::Dim, format!("{left:>5}  in {rows} more rows: --json has them\n")));
    }
    lines
}

/// What to do: the policy first, for it decides how often all else is seen; then by cause, each advice once.
fn advice(screen: &Screen, view: &WhyView) -> String {
    let several = view.loops.len() > 1;
    let policy = view.loops.iter().map(|eager| {
        let of = if several { format!("{}: ", eager.instance) } else { String::new() };
        ("policy", format!("{of}{}", eager.text))
    });
    let mut rows: Vec<(&str, String)> = policy.collect();
    for advice in view.advice.iter().take(MOST_ROWS) {
        let row = (advice.cause.word(), advice.text.clone());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let widest = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut lines = format!("\n{}\n", screen.paint(Style::Bold, "what to do"));
    for (label, said) in rows {
        let said = text::hang(screen, widest + 4, &text::plain(&said));
        lines.push_str(&format!("  {label:<widest$}  {said}\n"));
    }
    lines
}

/// Ends in a line each.
fn before(screen: &Screen, now: Wall, records: &[Record]) -> String {
    let column = |title, rank, numbers, cut, cells| Column { title, rank, numbers, cut, cells };
    let style = |record: &Record| if record.planned { Style::Plain } else { Style::Red };
    let columns = [
        column("run", 0, false, Some(Cut { least: 12, rank: 1, ample: 32 }), {
            records.iter().map(|record| cell(text::plain(&record.run), Style::Plain)).collect()
        }),
        column("ended", 1, true, None, {
            records
                .iter()
                .map(|record| cell(format!("{} ago", brief(since(now, record.ended_at))), Style::Plain))
                .collect()
        }),
        column("cause", 0, false, None, {
            records.iter().map(|record| cell(record.cause.word(), style(record))).collect()
        }),
        column("what happened", 2, false, Some(SENTENCE), {
            records.iter().map(|record| cell(text::plain(&record.summary), Style::Plain)).collect()
        }),
    ];
    table::render(screen, &columns)
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
    let evidence = &record.evidence;
    line("ended", &ago(now, record.ended_at));
    match record.confidence {
        Confidence::Certain => {}
        Confidence::Likely => line("how sure", "likely, not certain"),
        Confidence::Unknown => line("how sure", "not known"),
    }
    if let Some(exception) = &evidence.exception {
        let said = raised(exception);
        if !record.summary.contains(&said) {
            line("exception", &said);
        }
    }
    if let Some(sender) = &evidence.sender {
        line("sent by", &who(sender));
    }
    if let Some(path) = &evidence.watch_path {
        line("changed", path);
    }
    if let Some(probe) = &evidence.probe {
        line("probe", &probe.to_string());
    }
    if let Some(memory) = memory(record) {
        line("memory", &memory);
    }
    if let Some(crossing) = &evidence.cap_crossing {
        for process in crossing.processes.iter().take(3) {
            line("biggest", &format!("{} in pid {}: {}", Bytes(process.memory_bytes), process.pid, process.command));
        }
    }
    if let Some(pid) = evidence.oom.killed_pid {
        let name = evidence.oom.killed_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        line("killed", &format!("pid {pid}{name} by the kernel"));
    }
    if record.left_behind > 0 {
        line("left behind", &left_behind(record.left_behind));
    }
    line("then", &next(record));
    for said in &evidence.kernel_log {
        line("kernel", said);
    }
    // That it said nothing is a fact, too, where it ended by itself.
    let speaks =
        matches!(record.cause, Cause::Success | Cause::ExitCode | Cause::Signal | Cause::CoreDump) && !record.planned;
    if speaks || !evidence.stderr_tail.is_empty() {
        said(screen, &mut lines, "stderr", &evidence.stderr_tail);
    }
    lines
}

/// The line between the output of a run and that of the next, for who follows it; `more`: so many ended since the last look.
#[must_use]
pub fn separator(screen: &Screen, record: &Record, more: u64) -> String {
    let others = match more {
        0 => String::new(),
        1 => ", and one before it".into(),
        more => format!(", and {more} before it"),
    };
    let (run, cause) = (text::plain(&record.run), record.cause.word());
    let said = format!("── {run} {cause}: {}{others}; {} ──", text::plain(&record.summary), text::plain(&next(record)));
    screen.paint(if record.planned { Style::Dim } else { Style::Yellow }, text::fit(&said, screen.width))
}

/// `KeyError: 'x' at app.py:7`.
fn raised(exception: &Exception) -> String {
    let place = exception.location.as_ref().map_or(String::new(), |place| format!(" at {place}"));
    format!("{}: {}{place}", exception.kind, exception.message)
}

/// The last lines of a stream.
fn said(screen: &Screen, lines: &mut String, label: &str, tail: &[String]) {
    let count = match tail.len() {
        0 => "nothing in the log".to_owned(),
        1 => "its last line".to_owned(),
        lines => format!("its last {lines} lines"),
    };
    lines.push_str(&format!("{} {count}\n", screen.paint(Style::Dim, format!("  {label:<11}"))));
    for said in tail {
        lines.push_str(&format!("  {} {}\n", screen.paint(Style::Dim, "|"), text::plain(said)));
    }
}

/// `uid 0, pid 4711: kill -9 42`.
fn who(actor: &Actor) -> String {
    let uid = actor.uid.map(|uid| format!("uid {uid}"));
    let pid = actor.pid.map(|pid| format!("pid {pid}"));
    let facts: Vec<String> = uid.into_iter().chain(pid).collect();
    match (&actor.command, facts.join(", ")) {
        (Some(command), facts) if facts.is_empty() => command.clone(),
        (Some(command), facts) => format!("{command} ({facts})"),
        (None, facts) => facts,
    }
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
        (NextAction::RunsOn, _) => return next.reason.clone(),
    };
    if next.reason.is_empty() { what } else { format!("{what}: {}", next.reason) }
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::{NOW, record};
    use super::super::screen::tests::plain;
    use super::*;
    use crate::core::clock::Millis;
    use crate::core::record::Tally;
    use crate::core::view::Advice;
    use crate::core::why::Eager;

    const ALL: Filter = Filter { causes: Vec::new(), since: None, run: None };

    fn why(records: Vec<Record>) -> WhyView {
        let mut tally = Tally::default();
        // Newest first in the view, counted as they came.
        records.iter().rev().for_each(|record| tally.count(record));
        let Tally { total, planned, unplanned, since, by_cause, .. } = Tally::merged([&tally]);
        WhyView { name: "api".into(), total, planned, unplanned, since, by_cause, records, ..WhyView::default() }
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
  stderr      its last 2 lines
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
        let shown = page(&plain(80), NOW, &ALL, 1, &view);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("api: 3 runs have ended since "), "{shown}");
        assert!(lines[0].ends_with(": 3 unplanned, 0 planned"), "{shown}");
        assert!(lines[2].starts_with("count  cause           last  first"), "{shown}");
        assert!(lines[3].starts_with("    2  exit-code     5s ago  "), "{shown}");
        assert!(lines[4].starts_with("    1  oom-kill   6m40s ago  "), "{shown}");
        assert_eq!(
            lines.last().unwrap(),
            &"2 older ones: `stead why api --last 20`; what `exit-code` means: docs/causes.md"
        );
    }

    #[test]
    fn the_newest_is_told_in_full_and_those_before_in_a_line_each() {
        let view = why(vec![
            record("api#3", Cause::ExitCode, "exited with code 1 after 1m 1s", 5_000),
            record("api#2", Cause::Signal, "ended by SIGKILL\u{1b}[2J after 1m 1s", 90_000),
        ]);
        let shown = page(&plain(80), NOW, &ALL, 1, &view);
        let expected = "
before that
run         ended  cause   what happened
api#2  1m30s ago  signal  ended by SIGKILL^[[2J after 1m 1s

what `exit-code` means: docs/causes.md
";
        assert!(shown.ends_with(&expected.replace("run         ended", "run        ended")), "{shown}");
        assert_eq!(page(&plain(80), NOW, &ALL, 2, &view).matches("  then ").count(), 2);
    }

    #[test]
    fn a_line_stands_between_two_runs_and_fits() {
        let record = record("api#3", Cause::ExitCode, "exited with code 1\u{1b}[2J after 1m 1s", 5_000);
        assert_eq!(
            separator(&plain(200), &record, 0),
            "── api#3 exit-code: exited with code 1^[[2J after 1m 1s; restart at once: autorestart ──"
        );
        assert!(separator(&plain(200), &record, 2).contains("after 1m 1s, and 2 before it; restart"));
        assert_eq!(separator(&plain(30), &record, 2), "── api#3 exit-code: exited wi…");
    }

    #[test]
    fn what_to_do_is_said_once_with_the_policy_first() {
        let mut view = why(vec![record("api#3", Cause::ExitCode, "exited with code 1 after 1m 1s", 5_000)]);
        let advice = |signature: &str| Advice {
            cause: Cause::ExitCode,
            signature: Some(signature.into()),
            text: "fix KeyError at app.py:7, or catch it there".into(),
        };
        view.advice = vec![advice("KeyError: <n>"), advice("KeyError: 'x'")];
        let text = "min_uptime 1 s, restart_delay 0: 40 restarts in 12 s".to_owned();
        view.loops = vec![Eager { instance: "api".into(), restarts: 40, within_ms: Millis(12_000), text }];
        let shown = page(&plain(80), NOW, &ALL, 1, &view);
        let expected = "
what to do
  policy     min_uptime 1 s, restart_delay 0: 40 restarts in 12 s
  exit-code  fix KeyError at app.py:7, or catch it there

api#3";
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn what_was_asked_is_said_above_what_was_found() {
        let view = why(vec![record("api#3", Cause::ExitCode, "exited with code 1 after 1m 1s", 5_000)]);
        let filter = Filter { causes: vec![Cause::ExitCode, Cause::Lost], since: Some(NOW), run: None };
        let shown = page(&plain(80), NOW, &filter, 1, &view);
        assert!(shown.contains(&format!("asked for: by exit-code or lost, since {}: 1\n", local(NOW))), "{shown}");
        let none = WhyView { by_cause: Vec::new(), records: Vec::new(), ..view };
        let shown = page(&plain(80), NOW, &filter, 1, &none);
        assert!(shown.ends_with(": 0\n") && shown.lines().count() == 2, "{shown}");
    }

    #[test]
    fn the_overview_has_the_worst_first_and_says_so_where_all_is_well() {
        let mut bad = why(vec![record("api#3", Cause::ExitCode, "exited with code 1 after 1m 1s", 5_000)]);
        bad.unplanned = 12;
        let shown = overview(&plain(80), NOW, &ALL, &[bad.clone()], 3);
        let expected = "\
1 of 3 apps ended and nobody asked for it

app  unplanned  mostly           last  the last one
api         12  exit-code (1)  5s ago  exited with code 1 after 1m 1s

`stead why NAME` says more
";
        assert_eq!(shown, expected);
        assert_eq!(
            overview(&plain(80), NOW, &ALL, &[], 3),
            "all apps have run as they should: no end that nobody asked for\n"
        );
        assert_eq!(overview(&plain(80), NOW, &ALL, &[], 0), "no apps yet: `stead start FILE` starts some\n");
    }

    #[test]
    fn nothing_has_ended() {
        assert_eq!(page(&plain(80), NOW, &ALL, 1, &why(Vec::new())), "api: no run has ended\n");
    }
}
