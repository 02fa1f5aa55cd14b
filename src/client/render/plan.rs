//! What `start FILE` will do, before it does it.

use super::screen::{Screen, Style};
use super::text;
use crate::core::command::{Change, ChangeKind, Reply};

/// Names of one line; more are counted.
const MOST_NAMES: usize = 12;

/// More than starting what is new and leaving the rest.
#[must_use]
pub fn touches(reply: &Reply) -> bool {
    reply.changes.iter().any(|change| match change.kind {
        ChangeKind::Restarted | ChangeKind::Reloaded | ChangeKind::Updated | ChangeKind::Deleted | ChangeKind::Gone => {
            true
        }
        ChangeKind::Started
        | ChangeKind::Added
        | ChangeKind::Unchanged
        | ChangeKind::Stopped
        | ChangeKind::Signalled
        | ChangeKind::Reset
        | ChangeKind::Flushed
        | ChangeKind::Saved => false,
    })
}

/// What is left to say once the plan was shown: that it is done.
pub fn forget_what_was_said(reply: &mut Reply) {
    reply.changes.retain(|change| !matches!(change.kind, ChangeKind::Unchanged | ChangeKind::Gone));
    reply.changes.iter_mut().for_each(|change| change.detail = None);
}

/// A line for each thing that will be done, of all to whom it will be done.
#[must_use]
pub fn plan(screen: &Screen, reply: &Reply) -> String {
    let mut lines = String::new();
    for (kind, mark, style) in [
        (ChangeKind::Started, '+', Style::Green),
        (ChangeKind::Added, '+', Style::Plain),
        (ChangeKind::Restarted, '~', Style::Yellow),
        (ChangeKind::Updated, '~', Style::Plain),
        (ChangeKind::Unchanged, '=', Style::Dim),
        (ChangeKind::Deleted, '-', Style::Red),
        (ChangeKind::Gone, '-', Style::Plain),
    ] {
        let mut groups: Vec<(Option<&str>, Vec<&Change>)> = Vec::new();
        for change in reply.changes.iter().filter(|change| change.kind == kind) {
            let detail = change.detail.as_deref();
            match groups.iter_mut().find(|(known, _)| *known == detail) {
                Some((_, changes)) => changes.push(change),
                None => groups.push((detail, vec![change])),
            }
        }
        for (detail, changes) in groups {
            let what = what(kind, detail.map(text::plain).as_deref());
            let line = match (kind, changes.len()) {
                (ChangeKind::Unchanged, count) if count > 1 => format!("{count} {what}"),
                _ => format!("{}: {what}", names(&changes)),
            };
            for (at, line) in text::wrap(&line, screen.width.saturating_sub(2).max(40)).iter().enumerate() {
                let before = if at == 0 { screen.paint(style, mark) } else { " ".into() };
                lines.push_str(&format!("{before} {line}\n"));
            }
        }
    }
    lines
}

fn names(changes: &[&Change]) -> String {
    let shown: Vec<_> = changes.iter().take(MOST_NAMES).map(|change| text::plain(&change.name)).collect();
    let more = changes.len().saturating_sub(MOST_NAMES);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

fn what(kind: ChangeKind, detail: Option<&str>) -> String {
    let act = match kind {
        ChangeKind::Restarted => "restart",
        ChangeKind::Reloaded => "reload",
        ChangeKind::Updated => "no restart",
        ChangeKind::Unchanged => "unchanged",
        ChangeKind::Deleted => "delete",
        ChangeKind::Gone => "left as it is; --prune deletes",
        ChangeKind::Started if detail == Some("new") => return "new".into(),
        ChangeKind::Started => "start",
        ChangeKind::Added
        | ChangeKind::Stopped
        | ChangeKind::Signalled
        | ChangeKind::Reset
        | ChangeKind::Flushed
        | ChangeKind::Saved => return detail.unwrap_or_default().to_owned(),
    };
    detail.map_or_else(|| act.to_owned(), |detail| format!("{detail}: {act}"))
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::{colored, plain};
    use super::*;

    fn reply(changes: &[(&str, ChangeKind, Option<&str>)]) -> Reply {
        let change = |(name, kind, detail): &(&str, ChangeKind, Option<&str>)| Change {
            name: (*name).into(),
            kind: *kind,
            detail: detail.map(str::to_owned),
        };
        Reply { changes: changes.iter().map(change).collect(), ..Reply::default() }
    }

    #[test]
    fn each_deed_has_its_line_and_its_names() {
        let reply = reply(&[
            ("api-0", ChangeKind::Restarted, Some("env.PORT 5000 → 5001")),
            ("api-1", ChangeKind::Restarted, Some("env.PORT 5000 → 5001")),
            ("calm", ChangeKind::Updated, Some("max_restarts 16 → 3")),
            ("new", ChangeKind::Started, Some("new")),
            ("down", ChangeKind::Started, None),
            ("job", ChangeKind::Added, Some("new, autostart is false")),
            ("a", ChangeKind::Unchanged, None),
            ("b", ChangeKind::Unchanged, None),
            ("old", ChangeKind::Gone, Some("gone from ecosystem.yaml")),
            ("older", ChangeKind::Deleted, None),
        ]);
        let expected = "\
+ new: new
+ down: start
+ job: new, autostart is false
~ api-0, api-1: env.PORT 5000 → 5001: restart
~ calm: max_restarts 16 → 3: no restart
= 2 unchanged
- older: delete
- old: gone from ecosystem.yaml: left as it is; --prune deletes
";
        assert_eq!(plan(&plain(80), &reply), expected);
        assert!(plan(&colored(80), &reply).contains("\u{1b}[33m~\u{1b}[0m api-0"));
        assert!(touches(&reply));
    }

    #[test]
    fn what_only_starts_needs_no_plan() {
        let reply = reply(&[("new", ChangeKind::Started, Some("new")), ("a", ChangeKind::Unchanged, None)]);
        assert!(!touches(&reply));
        assert_eq!(plan(&plain(80), &reply), "+ new: new\n= a: unchanged\n");
    }
}
