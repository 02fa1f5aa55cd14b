//! The exception that a program's last lines tell of: its type, its message, and where in the app's own code it was raised.
//!
//! Text is evidence, never proof: a program may print what it likes, another's traceback too. So each find says how it stands to
//! the end of the output ([`Standing`]). One that was thrown and caught looks the same as one that ended the process: ask only
//! where the exit status speaks for an exception.

mod go;
mod java;
mod lines;
mod node;
mod python;
mod rust;

use super::record::Exception;
use lines::{Place, clean, cut, is_blank, without};
use std::path::Path;

/// Longest type and message that are reported, in characters.
const KIND: usize = 200;
const MESSAGE: usize = 1000;

/// An exception and how it stands to the end of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traceback {
    pub exception: Exception,
    pub standing: Standing,
    pub runtime: Runtime,
    /// A line of an error log stands right before it: most likely it was caught and logged.
    pub announced: bool,
    /// Lines of other output after it.
    pub follows: usize,
}

/// Whose form a traceback has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Python,
    Node,
    Java,
    Rust,
    Go,
}

impl Runtime {
    /// Does this runtime exit with this code when nobody catches an exception?
    #[must_use]
    pub fn exits_with(self, code: i32) -> bool {
        match self {
            Runtime::Python | Runtime::Java => code == 1,
            // 7: the handler of uncaught exceptions threw in its turn.
            Runtime::Node => matches!(code, 1 | 7),
            Runtime::Rust => code == 101,
            Runtime::Go => code == 2,
        }
    }
}

/// What the text around a traceback says of its part in the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing follows it but the runtime's own words.
    Last,
    /// Other output follows: it may have been caught, or a parent process spoke after it (gunicorn's master).
    Earlier,
    /// By the text itself it ended less than the process: a thread, a task, a request, a child, an ignored destructor.
    Aside,
}

/// The last exception in `lines` (oldest first, without their ends of line). One that is [`Standing::Aside`] is named only where
/// there is no other. Of a chain the final exception is named, which is the one that ended the run; of an exception group the
/// group, with its first member behind its message.
///
/// The location is the innermost frame below `app_dir` (absolute, symbolic links resolved, as runtimes print their paths) that
/// belongs to no installed package; else the innermost frame that belongs to none; else the innermost. It is written as the text
/// has it. The message is one line: its lines are joined by a blank, control characters and escape sequences are gone.
///
/// A traceback longer than what is given loses its head; what is left is read. Give more lines than the 50 of a record: a Go
/// program names its panic first and all its goroutines after it.
#[must_use]
pub fn last_exception(lines: &[impl AsRef<str>], app_dir: &Path) -> Option<Traceback> {
    let lines = clean(lines);
    let found = [
        (Runtime::Python, python::blocks(&lines, app_dir)),
        (Runtime::Node, node::blocks(&lines, app_dir)),
        (Runtime::Java, java::blocks(&lines)),
        (Runtime::Rust, rust::blocks(&lines, app_dir)),
        (Runtime::Go, go::blocks(&lines, app_dir)),
    ];
    let blocks: Vec<(Runtime, Block<'_>)> =
        found.into_iter().flat_map(|(runtime, blocks)| blocks.into_iter().map(move |block| (runtime, block))).collect();
    // Of two that end at one line, the one that began earlier holds the other: a cause, or a message that quotes a traceback.
    let last = |(_, block): &&(Runtime, Block<'_>)| (!block.aside, block.end, std::cmp::Reverse(block.first));
    let (runtime, block) = blocks.iter().max_by_key(last)?;
    let follows = lines[block.end..].iter().filter(|line| !says_nothing(line, block.stamp)).count();
    let standing = match follows {
        _ if block.aside => Standing::Aside,
        0 => Standing::Last,
        _ => Standing::Earlier,
    };
    // `max_by_key` gives the last of equals: frames are ordered from the outermost in.
    let frame = block.frames.iter().max_by_key(|frame| frame.place);
    Some(Traceback {
        exception: Exception {
            kind: cut(block.kind.trim(), KIND),
            message: cut(&block.message.replace('\t', " "), MESSAGE),
            location: frame.map(|frame| format!("{}:{}", frame.file, frame.line)),
        },
        standing,
        runtime: *runtime,
        announced: is_announced(&lines, block, &blocks),
        follows,
    })
}

/// Does an error log speak right before the traceback, or before the first of its chain? Loggers print a caught exception so.
fn is_announced(lines: &[String], block: &Block<'_>, blocks: &[(Runtime, Block<'_>)]) -> bool {
    let mut first = block;
    loop {
        let Some(at) = lines[..first.first].iter().rposition(|line| !is_blank(line)) else {
            return is_error_log(first.stamp);
        };
        // A chain's own words stand between its parts.
        let before = blocks.iter().map(|(_, before)| before).find(|before| before.end <= at && before.end + 3 > at);
        match before.filter(|_| python::is_chain(&lines[at])) {
            Some(before) if before.first < first.first => first = before,
            Some(_) | None => return is_error_log(first.stamp) || is_error_log(&lines[at]),
        }
    }
}

fn is_error_log(line: &str) -> bool {
    line.split(|char: char| !char.is_alphanumeric()).any(|word| {
        ["error", "critical", "fatal", "severe", "exception"].iter().any(|level| word.eq_ignore_ascii_case(level))
    })
}

/// Nothing, or what a runtime or its launcher says after the traceback of an exception that ended the process.
fn says_nothing(line: &str, stamp: &str) -> bool {
    let line = without(line, stamp).unwrap_or(line);
    is_blank(line) || ["Node.js v", "note: ", "exit status "].iter().any(|words| line.starts_with(words))
}

/// One exception found in the text.
#[derive(Debug)]
struct Block<'a> {
    kind: String,
    message: String,
    /// From the outermost to the innermost.
    frames: Vec<Frame<'a>>,
    /// Lines `first..end` belong to it.
    first: usize,
    end: usize,
    /// What stood before its lines.
    stamp: &'a str,
    aside: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    file: &'a str,
    line: &'a str,
    place: Place,
}

#[cfg(test)]
mod tests;
