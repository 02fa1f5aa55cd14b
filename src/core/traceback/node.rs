//! Node.js: an error's `stack`, and what Node prints around an uncaught one: the line of code with `^` below it before,
//! the error's properties and `Node.js v20.1.0` after.

use super::lines::{Look, MESSAGE_LINES, Place, exception, file_and_line, is_blank, without};
use super::{Block, Frame};
use std::path::Path;

/// Properties and causes behind a stack may be long; what is longer is not the error's.
const PROPERTIES: usize = 100;

pub(super) fn blocks<'a>(lines: &'a [String], app_dir: &Path) -> Vec<Block<'a>> {
    let stamps = lines.iter().map(|line| stamp_of_frame(line)).collect();
    let text = Text { lines, stamps, app_dir };
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let block = text.uncaught(at).or_else(|| text.stack(at, None));
        at = block.as_ref().map_or(at, |block: &Block<'_>| block.end - 1) + 1;
        blocks.extend(block);
    }
    blocks
}

struct Text<'a, 'b> {
    lines: &'a [String],
    /// What stands before each line that is a frame.
    stamps: Vec<Option<&'a str>>,
    app_dir: &'b Path,
}

impl<'a> Text<'a, '_> {
    fn frame_of(&self, file: &'a str, line: &'a str) -> Frame<'a> {
        let file = file.strip_prefix("file://").unwrap_or(file);
        Frame { file, line, place: Place::of(file, self.app_dir) }
    }

    /// Reads `/app/x.js:2`, the code, `^`, and the error after it. It may be no `Error` at all: `throw "text"`.
    fn uncaught(&self, first: usize) -> Option<Block<'a>> {
        let (stamp, place) = place(&self.lines[first])?;
        let line = |at: usize| self.lines.get(at).and_then(|line| without(line, stamp));
        let caret = (first + 2..first + 5).find(|at| line(*at).is_some_and(is_caret))?;
        let origin = self.frame_of(place.0, place.1);
        let at = (caret + 1..caret + 4).find(|at| line(*at).is_some_and(|line| !is_blank(line)))?;
        let mut block = self.stack(at, Some(origin)).unwrap_or_else(|| {
            let said: Vec<&str> = (at..at + MESSAGE_LINES)
                .map_while(line)
                .map(str::trim)
                .take_while(|line| !line.is_empty() && !line.starts_with("(Use `node "))
                .collect();
            let end = at + said.len();
            let message = said.join(" ");
            let (kind, message) = match exception(&message) {
                Some((_, kind, rest)) => (kind.to_owned(), rest.to_owned()),
                None => ("Uncaught".to_owned(), message),
            };
            Block { kind, message, frames: vec![origin], first, end, stamp, aside: false }
        });
        let hint = line(block.end).is_some_and(|line| line.starts_with("(Use `node "));
        block.end += usize::from(hint);
        block.first = first;
        Some(block)
    }

    /// Reads an error whose first line is `first`, up to the end of its stack and properties.
    fn stack(&self, first: usize, origin: Option<Frame<'a>>) -> Option<Block<'a>> {
        let below = self.stamps.iter().enumerate().skip(first + 1).take(MESSAGE_LINES);
        let (top, stamp) = below.filter_map(|(at, stamp)| Some((at, (*stamp)?))).next()?;
        let line = without(&self.lines[first], stamp)?;
        let (kind, message) = header(line, origin.is_some())?;
        let mut said = vec![message.trim()];
        for at in first + 1..top {
            let line = without(&self.lines[at], stamp)?;
            // The nearest header to the stack is its own; `^` stands before a header.
            if is_caret(line)
                || header(line, false).is_some_and(|_| matches!(exception(line), Some((Look::Strong, ..))))
            {
                return None;
            }
            said.push(line.trim());
        }
        said.retain(|line| !line.is_empty());
        let mut frames = Vec::new();
        let mut end = top;
        let mut open = false;
        while let Some(line) = self.lines.get(end).and_then(|line| without(line, stamp)) {
            match position(line) {
                Some(at) => frames.extend(at.map(|(file, line)| self.frame_of(file, line))),
                None if line.starts_with("    ... ") => {}
                None => break,
            }
            end += 1;
            open = line.ends_with('{');
            if open {
                break;
            }
        }
        // The place where an emitter passed the error on, not where it was made.
        if self.lines.get(end).is_some_and(|line| line.contains("Emitted 'error' event")) {
            end += 1;
            while let Some(line) = self.lines.get(end).and_then(|line| without(line, stamp)) {
                if position(line).is_none() {
                    break;
                }
                open = line.ends_with('{');
                end += 1;
            }
        }
        if open {
            let close =
                (end..self.lines.len().min(end + PROPERTIES)).find(|at| without(&self.lines[*at], stamp) == Some("}"));
            end = close.map_or(end, |at| at + 1);
        }
        frames.extend(origin);
        frames.reverse();
        let aside =
            self.lines[first].contains("UnhandledPromiseRejectionWarning") || self.lines[first].contains("(node:");
        Some(Block { kind: kind.to_owned(), message: said.join(" "), frames, first, end, stamp, aside })
    }
}

/// Reads `/app/x.js:2` behind a stamp.
fn place(line: &str) -> Option<(&str, (&str, &str))> {
    let line = line.trim_end();
    if !line.ends_with(|char: char| char.is_ascii_digit()) {
        return None;
    }
    let mut starts = std::iter::once(0).chain(line.match_indices([' ', '\t']).map(|(at, _)| at + 1));
    let at = starts.find(|at| {
        ["/", "file://", "node:", "[eval]", "[stdin]", "internal/"].iter().any(|start| line[*at..].starts_with(start))
    })?;
    Some((&line[..at], file_and_line(&line[at..], false)?))
}

/// `Name: message`, at the start or behind a logger's own words.
fn header(line: &str, any: bool) -> Option<(&str, &str)> {
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    if let Some((_, kind, message)) = exception(line) {
        return Some((kind, message));
    }
    let words = line.match_indices(' ').map(|(at, _)| &line[at + 1..]);
    let behind = words
        .filter_map(exception)
        .find(|(_, kind, _)| kind.split(' ').next().is_some_and(|kind| kind.ends_with("Error")));
    match behind {
        Some((_, kind, message)) => Some((kind, message)),
        None if any => Some(("Uncaught", line)),
        None => None,
    }
}

fn stamp_of_frame(line: &str) -> Option<&str> {
    let (stamp, _) = line.split_at(line.find("    at ")?);
    position(&line[stamp.len()..]).map(|_| stamp)
}

/// Reads `    at f (/app/x.js:2:20)`; the inner `None` is a frame without a file.
fn position(line: &str) -> Option<Option<(&str, &str)>> {
    let line = line.strip_suffix(" {").unwrap_or(line);
    let rest = line.strip_prefix("    at ")?;
    let inner = match rest.strip_suffix(')') {
        Some(rest) => rest.split_once(" (")?.1,
        None => rest.strip_prefix("async ").unwrap_or(rest),
    };
    if inner.starts_with("eval at ") || matches!(inner, "<anonymous>" | "native") || inner.starts_with("index ") {
        return Some(None);
    }
    file_and_line(inner, true).map(Some)
}

fn is_caret(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line.bytes().all(|byte| byte == b'^')
}
