//! The Java virtual machine: `Throwable.printStackTrace`.

use super::lines::{MESSAGE_LINES, Place, exception, file_and_line, without};
use super::{Block, Frame};

/// Packages of the platform and of the languages upon it.
const PLATFORM: [&str; 7] = ["java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "scala."];

const THREAD: &str = "Exception in thread \"";

pub(super) fn blocks(lines: &[String]) -> Vec<Block<'_>> {
    let stamps: Vec<Option<&str>> = lines.iter().map(|line| stamp_of_frame(line)).collect();
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let block = read(lines, &stamps, at);
        at = block.as_ref().map_or(at, |block| block.end - 1) + 1;
        blocks.extend(block);
    }
    blocks
}

fn read<'a>(lines: &'a [String], stamps: &[Option<&'a str>], first: usize) -> Option<Block<'a>> {
    let below = stamps.iter().enumerate().skip(first + 1).take(MESSAGE_LINES);
    let (top, stamp) = below.filter_map(|(at, stamp)| Some((at, (*stamp)?))).next()?;
    let line = without(&lines[first], stamp)?;
    let (thread, line) = match line.strip_prefix(THREAD) {
        Some(rest) => rest.split_once("\" ").map(|(thread, rest)| (Some(thread), rest))?,
        None => (None, line),
    };
    let aside = thread.is_some_and(|thread| thread != "main");
    let (_, kind, message) = exception(line).filter(|(_, kind, _)| kind.contains('.') || thread.is_some())?;
    let mut said = vec![message.trim()];
    for line in &lines[first + 1..top] {
        let line = without(line, stamp)?;
        if line.starts_with(THREAD) || exception(line).is_some_and(|(_, kind, _)| kind.contains('.')) {
            return None;
        }
        said.push(line.trim());
    }
    said.retain(|line| !line.is_empty());
    let mut frames = Vec::new();
    let mut own = true;
    let mut end = top;
    while let Some(line) = lines.get(end).and_then(|line| without(line, stamp)) {
        let inner = line.trim_start();
        if let Some(frame) = frame(line) {
            frames.extend(frame.filter(|_| own));
        } else if inner.starts_with("Caused by: ") || inner.starts_with("Suppressed: ") {
            own = false;
        } else if !line.starts_with("\t... ") {
            break;
        }
        end += 1;
    }
    frames.reverse();
    Some(Block { kind: kind.to_owned(), message: said.join(" "), frames, first, end, stamp, aside })
}

fn stamp_of_frame(line: &str) -> Option<&str> {
    let (stamp, _) = line.split_at(line.find("\tat ")?);
    frame(&line[stamp.len()..]).map(|_| stamp)
}

/// Reads `\tat java.base/java.lang.Integer.parseInt(Integer.java:668)`; the inner `None` is a frame without a file.
fn frame(line: &str) -> Option<Option<Frame<'_>>> {
    let (method, rest) = line.trim_start_matches('\t').strip_prefix("at ")?.split_once('(')?;
    let place = rest.split_once(')')?.0;
    if matches!(place, "Native Method" | "Unknown Source") {
        return Some(None);
    }
    let (file, line) = file_and_line(place, false)?;
    let method = method.rsplit('/').next().unwrap_or(method);
    let platform = PLATFORM.iter().any(|package| method.starts_with(package));
    Some(Some(Frame { file, line, place: if platform { Place::Library } else { Place::App } }))
}
