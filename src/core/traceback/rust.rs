//! Rust: `panicked at`, as the standard library's hook and those that imitate it print it.

use super::lines::{MESSAGE_LINES, Place, file_and_line, is_blank, is_log_line, without};
use super::{Block, Frame};
use std::path::Path;

const PANIC: &str = "panicked at ";
/// The runtime's own end, a stack overflow for one.
const RUNTIME: &str = "fatal runtime error: ";

pub(super) fn blocks<'a>(lines: &'a [String], app_dir: &Path) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let block = panic(lines, at, app_dir).or_else(|| runtime(lines, at));
        at = block.as_ref().map_or(at, |block: &Block<'_>| block.end - 1) + 1;
        blocks.extend(block);
    }
    blocks
}

fn runtime(lines: &[String], first: usize) -> Option<Block<'_>> {
    let (stamp, message) = lines[first].split_once(RUNTIME)?;
    let kind = RUNTIME.trim_end_matches([' ', ':']).to_owned();
    Some(Block {
        kind,
        message: message.trim().to_owned(),
        frames: Vec::new(),
        first,
        end: first + 1,
        stamp,
        aside: false,
    })
}

fn panic<'a>(lines: &'a [String], first: usize, app_dir: &Path) -> Option<Block<'a>> {
    let (before, rest) = lines[first].split_once(PANIC)?;
    let stamp = before.find("thread '").map_or(before, |at| &before[..at]);
    let thread = before[stamp.len()..].strip_prefix("thread '").and_then(|rest| rest.split_once('\''));
    // With `panic = "abort"` any thread's panic ends the process; the text does not tell.
    let aside = thread.is_some_and(|(name, _)| name != "main");
    let here = rest.trim_end().strip_suffix(':').and_then(|place| file_and_line(place, true));
    let (message, place, mut end) = match here {
        Some(place) => {
            let said: Vec<&str> = lines[first + 1..]
                .iter()
                .map(|line| without(line, stamp).unwrap_or(line))
                .take(MESSAGE_LINES)
                .take_while(|line| !is_blank(line) && !is_note(line) && !line.contains(PANIC))
                .collect();
            // The message is at least one line, whatever it looks like.
            let log = said.iter().skip(1).position(|line| is_log_line(line));
            let said: Vec<&str> = said[..log.map_or(said.len(), |at| at + 1)].iter().map(|line| line.trim()).collect();
            (said.join(" "), Some(place), first + 1 + said.len())
        }
        None => until_1_72(lines, first, rest, stamp)?,
    };
    let frame = |(file, line): (&'a str, &'a str)| Frame { file, line, place: Place::of(file, app_dir) };
    let mut frames = Vec::from_iter(place.map(frame));
    while let Some(line) = lines.get(end).map(|line| without(line, stamp).unwrap_or(line)) {
        let inner = line.trim_start();
        let numbered = inner.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if let Some(place) = inner.strip_prefix("at ").and_then(|place| file_and_line(place, true)) {
            frames.push(frame(place));
        } else if !(is_note(line) || (line.starts_with(' ') && numbered)) {
            break;
        }
        end += 1;
    }
    frames.reverse();
    Some(Block { kind: "panic".to_owned(), message, frames, first, end, stamp, aside })
}

type Said<'a> = (String, Option<(&'a str, &'a str)>, usize);

/// Until Rust 1.72 the message came first: `panicked at 'message', src/main.rs:5:9`; the message may have several lines.
fn until_1_72<'a>(lines: &'a [String], first: usize, rest: &'a str, stamp: &str) -> Option<Said<'a>> {
    let mut said = Vec::new();
    let mut line = rest.strip_prefix('\'')?;
    for end in first + 1..=first + MESSAGE_LINES {
        let parts = line.rsplit_once("', ");
        if let Some((message, place)) =
            parts.and_then(|(message, place)| Some((message, file_and_line(place.trim(), true)?)))
        {
            said.push(message.trim());
            return Some((said.join(" "), Some(place), end));
        }
        said.push(line.trim());
        line = lines.get(end).map(|line| without(line, stamp).unwrap_or(line))?;
    }
    None
}

fn is_note(line: &str) -> bool {
    line.starts_with("note: ") || line.starts_with("stack backtrace:")
}
