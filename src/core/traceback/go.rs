//! Go: `panic:` or `fatal error:`, then the goroutines; the first is the one that failed.

use super::lines::{MESSAGE_LINES, Place, file_and_line, is_blank, without};
use super::{Block, Frame};
use std::path::Path;

const KINDS: [&str; 2] = ["panic", "fatal error"];

pub(super) fn blocks<'a>(lines: &'a [String], app_dir: &Path) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let block = read(lines, at, app_dir);
        at = block.as_ref().map_or(at, |block: &Block<'_>| block.end - 1) + 1;
        blocks.extend(block);
    }
    blocks
}

fn read<'a>(lines: &'a [String], first: usize, app_dir: &Path) -> Option<Block<'a>> {
    let (kind, at) = KINDS.iter().find_map(|kind| {
        let at = lines[first].find(kind)?;
        lines[first][at + kind.len()..].starts_with(": ").then_some((*kind, at))
    })?;
    let (stamp, message) = (&lines[first][..at], &lines[first][at + kind.len() + 2..]);
    let line = |at: usize| lines.get(at).and_then(|line| without(line, stamp));
    let mut top = (first + 1..first + 1 + MESSAGE_LINES).find(|at| line(*at).is_some_and(is_goroutine))?;
    let mut said = vec![message];
    for text in (first + 1..top).filter_map(line) {
        match text.strip_prefix("\tpanic: ") {
            // A deferred function panicked in its turn: this one ended the process.
            Some(message) => said = vec![message],
            None if text.starts_with("[signal ") || is_blank(text) => {}
            None => said.push(text),
        }
    }
    let said: Vec<&str> = said.iter().map(|line| line.split(" [recovered").next().unwrap_or_default().trim()).collect();
    let mut frames = Vec::new();
    let mut function = "";
    top += 1;
    while let Some(text) = line(top).filter(|text| !is_blank(text)) {
        match text.strip_prefix('\t') {
            Some(place) => frames.extend(frame(function, place, app_dir)),
            None => function = text,
        }
        top += 1;
    }
    frames.reverse();
    let mut end = top;
    // The other goroutines.
    while line(end).is_some_and(is_blank) && line(end + 1).is_some_and(is_goroutine) {
        end += 1;
        while line(end).is_some_and(|text| !is_blank(text)) {
            end += 1;
        }
    }
    Some(Block { kind: kind.to_owned(), message: said.join(" "), frames, first, end, stamp, aside: false })
}

fn is_goroutine(text: &str) -> bool {
    text.strip_prefix("goroutine ")
        .and_then(|rest| rest.split_once(" ["))
        .is_some_and(|(number, rest)| number.starts_with(|char: char| char.is_ascii_digit()) && rest.contains("]:"))
}

/// Reads `/app/main.go:10 +0x1d`. The function tells the standard library from the app where paths are trimmed: its packages
/// have no dot in their first part.
fn frame<'a>(function: &str, place: &'a str, app_dir: &Path) -> Option<Frame<'a>> {
    let (file, line) = file_and_line(place.split(" +0x").next()?, false)?;
    let function = function.strip_prefix("created by ").unwrap_or(function);
    let standard = match function.split_once('/') {
        Some((domain, _)) => !domain.contains('.'),
        None => !function.starts_with("main."),
    };
    let place = match Place::of(file, app_dir) {
        _ if file.contains("/pkg/mod/") => Place::Library,
        Place::App if file.starts_with('/') => Place::App,
        _ if standard => Place::Library,
        place => place,
    };
    Some(Frame { file, line, place })
}
