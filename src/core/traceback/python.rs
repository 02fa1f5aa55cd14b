//! CPython: `Traceback (most recent call last):`, exception groups (PEP 654), and `Fatal Python error` (faulthandler).

use super::lines::{Look, MESSAGE_LINES, Place, exception, file_and_line, is_blank, is_log_line, without};
use super::{Block, Frame};
use std::path::Path;

const HEAD: &str = "Traceback (most recent call last):";
const GROUP: &str = "+ Exception Group ";
const FATAL: &str = "Fatal Python error: ";

/// Lines of other output that may stand within a traceback before it counts as torn.
const FOREIGN: usize = 30;

/// What stands before a traceback of an exception that ended less than the process: CPython's own words for threads, destructors,
/// logging, exit hooks and asyncio, and those of the servers that answer a failed request and go on.
const ASIDE: [&str; 14] = [
    "Exception in thread ",
    "Exception ignored ",
    "exception was never retrieved",
    "--- Logging error ---",
    "Call stack:",
    "Error in atexit._run_exitfuncs",
    "Exception in callback ",
    "Unhandled exception in client_connected_cb",
    "Exception on /",
    "Exception in ASGI application",
    "Internal Server Error: ",
    "Error handling request",
    "Exception happened during processing of request",
    "Exception while handling request",
];

const CHAIN: [&str; 2] = [
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
];

/// Python's own words between the parts of a chain.
pub(super) fn is_chain(line: &str) -> bool {
    CHAIN.iter().any(|words| line.contains(words))
}

pub(super) fn blocks<'a>(lines: &'a [String], app_dir: &Path) -> Vec<Block<'a>> {
    let text = Text { lines, app_dir };
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let found = match start(&lines[at]) {
            None => Err(at + 1),
            Some((Start::Plain, stamp)) => text.plain(at, stamp, true),
            Some((Start::Headless, stamp)) => text.plain(at, stamp, false),
            Some((Start::Group, stamp)) => text.group(at, stamp),
            Some((Start::Fatal, stamp)) => text.fatal(at, stamp),
        };
        match found {
            Ok(mut block) => {
                block.aside |= match text.said_before(at) {
                    Before::Aside => true,
                    Before::Chain => blocks.last().is_some_and(|before| before.aside),
                    Before::Other => false,
                };
                at = block.end.max(at + 1);
                blocks.push(block);
            }
            Err(next) => at = next.max(at + 1),
        }
    }
    blocks
}

#[derive(Clone, Copy)]
enum Start {
    Plain,
    /// The head was cut off, or it is a SyntaxError of the main script, which has none.
    Headless,
    Group,
    Fatal,
}

enum Before {
    Aside,
    Chain,
    Other,
}

/// Does a traceback start here, and after which stamp?
fn start(line: &str) -> Option<(Start, &str)> {
    if let Some(at) = line.find(HEAD) {
        // More text after it: somebody speaks of a traceback, as JSON logs do.
        if !is_blank(&line[at + HEAD.len()..]) {
            return None;
        }
        let stamp = &line[..at];
        return Some(match stamp.strip_suffix(GROUP) {
            Some(stamp) => (Start::Group, stamp.strip_suffix("  ").unwrap_or(stamp)),
            None => (Start::Plain, stamp),
        });
    }
    if let Some(at) = line.find(FATAL) {
        return Some((Start::Fatal, &line[..at]));
    }
    let at = line.find("  File \"")?;
    frame(&line[at..])?;
    Some((Start::Headless, &line[..at]))
}

/// Reads `  File "x.py", line 3, in f`; faulthandler leaves the second comma out.
fn frame(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("  File \"")?;
    let (file, rest) = rest.rsplit_once("\", line ")?;
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    let well_ended = rest[end..].is_empty() || rest[end..].starts_with(", in ") || rest[end..].starts_with(" in ");
    ((1..=9).contains(&end) && well_ended).then_some((file, &rest[..end]))
}

struct Text<'a, 'b> {
    lines: &'a [String],
    app_dir: &'b Path,
}

impl<'a> Text<'a, '_> {
    fn frame(&self, text: &'a str) -> Option<Frame<'a>> {
        let (file, line) = frame(text)?;
        Some(Frame { file, line, place: Place::of(file, self.app_dir) })
    }

    /// The line without the stamp; whole where the stamp stood before the first line only.
    fn line(&self, at: usize, stamp: &'a str) -> &'a str {
        without(&self.lines[at], stamp).unwrap_or(&self.lines[at])
    }

    fn said_before(&self, at: usize) -> Before {
        let mut before = self.lines[..at].iter().rev().filter(|line| !is_blank(line));
        let Some(last) = before.next() else { return Before::Other };
        let detail = ["future: ", "handle: ", "task: ", "protocol: ", "transport: "];
        let speaker = if detail.iter().any(|word| last.contains(word)) { before.next().unwrap_or(last) } else { last };
        let of_child = |line: &str| {
            line.strip_suffix(':').is_some_and(|line| line.contains("Process ") && line.split(' ').count() <= 6)
        };
        if is_chain(last) {
            Before::Chain
        } else if ASIDE.iter().any(|words| speaker.contains(words)) || of_child(last) {
            Before::Aside
        } else {
            Before::Other
        }
    }

    /// Reads from line `first` on. `Err`: no exception came; look on from that line.
    fn plain(&self, first: usize, stamp: &'a str, headed: bool) -> Result<Block<'a>, usize> {
        let mut frames = Vec::new();
        let mut foreign = 0;
        let mut at = first + usize::from(headed);
        let (kind, message) = loop {
            let Some(raw) = self.lines.get(at) else { return Err(at) };
            let line = self.line(at, stamp);
            if let Some(frame) = self.frame(line) {
                frames.push(frame);
            } else if raw.contains(HEAD) || raw.contains(FATAL) {
                return Err(at);
            } else if is_blank(line) {
                if !headed {
                    return Err(at);
                }
            } else if !line.starts_with("  ") {
                let inner = || self.lines.get(at + 1).is_some_and(|_| self.line(at + 1, stamp).starts_with("  "));
                match exception(line) {
                    Some((Look::Strong, kind, message)) => break (kind, message),
                    Some((Look::Weak, kind, message)) if headed && !inner() => break (kind, message),
                    _ => foreign += 1,
                }
                if foreign > if headed { FOREIGN } else { FOREIGN / 10 } {
                    return Err(at);
                }
            }
            at += 1;
        };
        let (message, end) = self.message(message, at + 1, stamp);
        Ok(Block { kind: kind.to_owned(), message, frames, first, end, stamp, aside: false })
    }

    /// The rest of a message whose first line is known: its other lines, and notes (PEP 678).
    fn message(&self, first: &'a str, mut at: usize, stamp: &'a str) -> (String, usize) {
        let mut said = vec![first.trim()];
        let mut nested = String::new();
        let stamped = without(&self.lines[at - 1], stamp).is_some();
        while at < self.lines.len() && said.len() < MESSAGE_LINES {
            let raw = &self.lines[at];
            let line = match without(raw, stamp) {
                Some(line) => line,
                None if stamped => break,
                None => raw,
            };
            if raw.contains(HEAD) {
                // A message that quotes a traceback announces it, or indents it.
                let indent = line.len() - line.trim_start().len();
                let announced = said.last().is_some_and(|line| line.ends_with(':'));
                if (announced || indent > 0)
                    && let Some((kind, message, end)) = self.quoted(at + 1, indent, stamp)
                {
                    nested = if message.is_empty() { kind.to_owned() } else { format!("{kind}: {message}") };
                    at = end;
                }
                break;
            }
            let ends = is_blank(line)
                || raw.contains(FATAL)
                || line.starts_with("\"\"\"")
                || is_log_line(line)
                || is_warning(line)
                || ASIDE.iter().any(|words| line.contains(words))
                || (frame(line).is_some() && self.quoted(at, 0, stamp).is_some());
            if ends {
                break;
            }
            // gunicorn says the message once more.
            if line.trim() != said[0] {
                said.push(line.trim());
            }
            at += 1;
        }
        said.push(&nested);
        said.retain(|line| !line.is_empty());
        (said.join(" "), at)
    }

    /// The exception behind frames that begin at line `at`, `indent` blanks from the margin, and the line after it.
    fn quoted(&self, mut at: usize, indent: usize, stamp: &'a str) -> Option<(&'a str, &'a str, usize)> {
        while at < self.lines.len() {
            let line = self.line(at, stamp);
            let inner = line.trim_start();
            if line.len() - inner.len() <= indent {
                let (_, kind, message) = exception(inner).filter(|(look, ..)| *look == Look::Strong)?;
                return Some((kind, message, at + 1));
            }
            at += 1;
        }
        None
    }

    /// Reads a group: its own exception, and the first of its members that is no group.
    fn group(&self, first: usize, stamp: &'a str) -> Result<Block<'a>, usize> {
        let mut frames = Vec::new();
        let mut group: Option<(&str, &str)> = None;
        let mut member: Option<(&str, &str)> = None;
        let mut done = false;
        let mut depth = None;
        let mut at = first + 1;
        while at < self.lines.len() {
            let line = self.line(at, stamp);
            let inner = line.trim_start_matches(' ');
            let column = line.len() - inner.len();
            let own = *depth.get_or_insert(column) == column;
            if let Some(text) = inner.strip_prefix('|') {
                let text = text.strip_prefix(' ').unwrap_or(text);
                if CHAIN.contains(&text.trim()) && !own && !done {
                    member = None;
                } else if let Some(frame) = self.frame(text) {
                    if !done && (own || member.is_none()) {
                        frames.push(frame);
                    }
                } else if let Some((_, kind, message)) = exception(text) {
                    if own {
                        group.get_or_insert((kind, message));
                    } else if member.is_none() && !kind.ends_with("Group") {
                        member = Some((kind, message));
                    }
                }
            } else if inner.starts_with('+') {
                done |= member.is_some();
            } else {
                break;
            }
            at += 1;
        }
        let (kind, message) = group.ok_or(at)?;
        let message = match member {
            Some((kind, "")) => format!("{message}: {kind}"),
            Some((kind, inner)) => format!("{message}: {kind}: {inner}"),
            None => message.to_owned(),
        };
        Ok(Block { kind: kind.to_owned(), message, frames, first, end: at, stamp, aside: false })
    }

    /// Reads faulthandler's words; its frames come innermost first.
    fn fatal(&self, first: usize, stamp: &'a str) -> Result<Block<'a>, usize> {
        let message = self.line(first, stamp).strip_prefix(FATAL).unwrap_or_default();
        let mut frames = Vec::new();
        let mut thread = None;
        let mut end = first + 1;
        for at in first + 1..self.lines.len() {
            let line = self.line(at, stamp);
            if line.ends_with("(most recent call first):") {
                thread = Some(line);
            } else if is_blank(line) {
                thread = None;
            } else if let (Some(frame), Some(thread)) = (self.frame(line), thread) {
                if thread.starts_with("Current thread") {
                    frames.insert(0, frame);
                }
            } else if thread.is_none()
                && !["Python runtime state: ", "Extension modules: "].iter().any(|word| line.starts_with(word))
            {
                break;
            }
            end = at + 1;
        }
        let kind = FATAL.trim_end_matches([' ', ':']).to_owned();
        Ok(Block { kind, message: message.trim().to_owned(), frames, first, end, stamp, aside: false })
    }
}

/// `/app/x.py:3: DeprecationWarning: …`, `sys:1: RuntimeWarning: …`
fn is_warning(line: &str) -> bool {
    line.split_once("Warning: ")
        .and_then(|(before, _)| before.rsplit_once(": "))
        .is_some_and(|(place, _)| file_and_line(place, false).is_some())
}
