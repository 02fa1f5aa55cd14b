//! What became of a command.

use super::screen::{Screen, Style, complaint};
use super::text;
use crate::core::command::{Change, ChangeKind, Failure, Reply};

/// Names of one line; more are counted.
const MOST_NAMES: usize = 12;

/// What was done, a line for each kind; what has something to say of itself has its own.
#[must_use]
pub fn changes(screen: &Screen, reply: &Reply) -> String {
    let failed = |change: &&Change| reply.failures.iter().any(|failure| failure.name == change.name);
    let done: Vec<&Change> = reply.changes.iter().filter(|change| !failed(change)).collect();
    let mut lines = String::new();
    for (kind, mark, style) in [
        (ChangeKind::Deleted, '-', Style::Plain),
        (ChangeKind::Stopped, '-', Style::Plain),
        (ChangeKind::Added, '+', Style::Plain),
        (ChangeKind::Started, '+', Style::Green),
        (ChangeKind::Restarted, '~', Style::Yellow),
        (ChangeKind::Reloaded, '~', Style::Green),
        (ChangeKind::Updated, '~', Style::Plain),
        (ChangeKind::Signalled, '~', Style::Plain),
        (ChangeKind::Reset, '~', Style::Plain),
        (ChangeKind::Flushed, '~', Style::Plain),
        (ChangeKind::Saved, '+', Style::Green),
        (ChangeKind::Unchanged, '=', Style::Dim),
        (ChangeKind::Gone, '-', Style::Plain),
    ] {
        let mark = screen.paint(style, mark);
        let mut quiet = Vec::new();
        for change in done.iter().filter(|change| change.kind == kind) {
            match &change.detail {
                Some(detail) => {
                    let (name, detail) = (text::plain(&change.name), text::plain(detail));
                    lines.push_str(&format!("{mark} {} {name}: {detail}\n", word(kind)));
                }
                None => quiet.push(text::plain(&change.name)),
            }
        }
        match (kind, quiet.len()) {
            (_, 0) => {}
            (_, 1) => lines.push_str(&format!("{mark} {} {}\n", word(kind), quiet[0])),
            (ChangeKind::Unchanged, count) => lines.push_str(&format!("{mark} {count} unchanged\n")),
            (_, count) => {
                let more = if count > MOST_NAMES { format!(" and {} more", count - MOST_NAMES) } else { String::new() };
                quiet.truncate(MOST_NAMES);
                let names = format!("{} {count}: {}{more}", word(kind), quiet.join(", "));
                for (at, line) in text::wrap(&names, screen.width.saturating_sub(2).max(40)).iter().enumerate() {
                    let before = if at == 0 { mark.as_str() } else { " " };
                    lines.push_str(&format!("{before} {line}\n"));
                }
            }
        }
    }
    lines
}

/// What did not get where it should: why, its last words, and where the rest is.
#[must_use]
pub fn failure(screen: &Screen, verb: &str, failure: &Failure) -> String {
    let mut lines = complaint(screen, &format!("{verb} {}: {}", failure.name, failure.reason), None);
    for line in &failure.tail {
        lines.push_str(&format!("  {} {}\n", screen.paint(Style::Dim, "|"), text::plain(line)));
    }
    if !failure.tail.is_empty() {
        let name = text::plain(&failure.name);
        lines.push_str(&format!("{} `stead logs {name} --err` shows more\n", screen.paint(Style::Bold, "hint:")));
    }
    lines
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
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
        ChangeKind::Saved => "saved the list as",
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::{colored, plain};
    use super::*;

    fn change(name: &str, kind: ChangeKind, detail: Option<&str>) -> Change {
        Change { name: name.into(), kind, detail: detail.map(str::to_owned) }
    }

    #[test]
    fn what_changed_is_named_and_what_did_not_is_counted() {
        let reply = Reply {
            changes: vec![
                change("flask-app", ChangeKind::Restarted, Some("env.PORT 5000 → 5001")),
                change("web-0", ChangeKind::Started, None),
                change("web-1", ChangeKind::Started, None),
                change("job", ChangeKind::Added, Some("autostart is false")),
                change("a", ChangeKind::Unchanged, None),
                change("b", ChangeKind::Unchanged, None),
            ],
            ..Reply::default()
        };
        let expected = "\
+ added job: autostart is false
+ started 2: web-0, web-1
~ restarted flask-app: env.PORT 5000 → 5001
= 2 unchanged
";
        assert_eq!(changes(&plain(80), &reply), expected);
        assert!(changes(&colored(80), &reply).contains("\u{1b}[32m+\u{1b}[0m started 2"));
    }

    #[test]
    fn a_failure_has_its_last_words_and_no_success_beside_it() {
        let failed = Failure {
            name: "api".into(),
            reason: "exited with code 1 after 80 ms".into(),
            tail: vec!["Traceback (most recent call last):".into(), "ImportError: \u{1b}[31mflask".into()],
        };
        let reply = Reply {
            changes: vec![change("api", ChangeKind::Started, None)],
            failures: vec![failed.clone()],
            ..Reply::default()
        };
        assert_eq!(changes(&plain(80), &reply), "");
        let expected = "\
error: start api: exited with code 1 after 80 ms
  | Traceback (most recent call last):
  | ImportError: ^[[31mflask
hint: `stead logs api --err` shows more
";
        assert_eq!(failure(&plain(80), "start", &failed), expected);
    }

    #[test]
    fn many_names_are_wrapped_and_counted() {
        let names = (0..100).map(|at| change(&format!("app-{at}"), ChangeKind::Stopped, None));
        let reply = Reply { changes: names.collect(), ..Reply::default() };
        let expected = "\
- stopped 100: app-0, app-1, app-2, app-3, app-4, app-5, app-6, app-7, app-8,
  app-9, app-10, app-11 and 88 more
";
        assert_eq!(changes(&plain(80), &reply), expected);
    }
}
