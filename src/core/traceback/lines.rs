//! What all tracebacks have in common: lines with colours and stamps before them, names of exceptions, and files that are the
//! app's own or not.

use std::path::{Component, Path};

/// Most lines that are looked at, the last ones; longest line, in characters.
const LINES: usize = 2000;
const LINE: usize = 2000;

/// Longest multi-line message, in lines.
pub(super) const MESSAGE_LINES: usize = 20;

/// The last lines, split where a progress bar returned to the margin, without colours and control characters (tabs stay).
pub(super) fn clean(lines: &[impl AsRef<str>]) -> Vec<String> {
    let skip = lines.len().saturating_sub(LINES);
    let mut clean = Vec::with_capacity(lines.len() - skip);
    for line in &lines[skip..] {
        let line = line.as_ref();
        let line =
            if line.len() > LINE { line.char_indices().nth(LINE).map_or(line, |(at, _)| &line[..at]) } else { line };
        clean.extend(line.trim_end_matches('\r').split('\r').map(plain));
    }
    clean
}

/// `text` without escape sequences (ECMA-48), other control characters and marks that reverse the direction of text replaced.
fn plain(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_control_sequence(&mut chars),
                // An operating system command ends with BEL or ESC \.
                Some(']') => while chars.next_if(|char| !matches!(char, '\u{7}' | '\u{1b}')).is_some() {},
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{7}' => {}
            '\t' => out.push('\t'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => out.push('\u{fffd}'),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

fn skip_control_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while chars.next_if(|char| matches!(char, ' '..='?')).is_some() {}
    chars.next_if(|char| matches!(char, '@'..='~'));
}

pub(super) fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// At most `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `line` without a stamp such as the one that stood before the traceback's first line. Digits may differ, they count time.
pub(super) fn without<'a>(line: &'a str, stamp: &str) -> Option<&'a str> {
    let (mut rest, mut stamp) = (line, stamp);
    while let Some(first) = stamp.chars().next() {
        // Whoever trims lines takes the end of the stamp too.
        if rest.is_empty() && is_blank(stamp) {
            return Some("");
        }
        if first.is_ascii_digit() {
            let trimmed = rest.trim_start_matches(|char: char| char.is_ascii_digit());
            if trimmed.len() == rest.len() {
                return None;
            }
            rest = trimmed;
            stamp = stamp.trim_start_matches(|char: char| char.is_ascii_digit());
        } else {
            rest = rest.strip_prefix(first)?;
            stamp = &stamp[first.len_utf8()..];
        }
    }
    Some(rest)
}

/// Splits `file:12` or, with `column`, `file:12:5`.
pub(super) fn file_and_line(text: &str, column: bool) -> Option<(&str, &str)> {
    let number = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if column {
        let (text, column) = text.rsplit_once(':')?;
        number(column).then_some(text)?
    } else {
        text
    };
    let (file, line) = text.rsplit_once(':')?;
    (number(line) && !file.is_empty()).then_some((file, line))
}

/// How much a name looks like that of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// A capitalized word: it may be any label.
    Weak,
    /// A dotted name, or one that ends as exceptions do.
    Strong,
}

const ENDINGS: [&str; 10] =
    ["error", "exception", "warning", "interrupt", "exit", "iteration", "timeout", "group", "failure", "rejection"];
const LEVELS: [&str; 13] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL", "SEVERE", "ALERT", "EMERG",
    "PANIC",
];

/// Reads `Name: message`, `Name:` or `Name` at the start of `text`, where `Name` can be an exception's.
pub(super) fn exception(text: &str) -> Option<(Look, &str, &str)> {
    let in_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.' | '$' | '<' | '>');
    let mut end = text.find(|char| !in_name(char)).unwrap_or(text.len());
    let name = &text[..end];
    // `TypeError [ERR_INVALID_ARG_TYPE]: …`
    if let Some(code) = text[end..].strip_prefix(" [")
        && let Some(close) = code.find(|char: char| !char.is_ascii_uppercase() && char != '_' && !char.is_ascii_digit())
        && code[close..].starts_with(']')
    {
        end += 2 + close + 1;
    }
    let message = match &text[end..] {
        "" => "",
        rest => match rest.strip_prefix(':')? {
            "" => "",
            rest => rest.strip_prefix(' ')?,
        },
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    let well_formed = name.split('.').all(|part| {
        part == "<locals>"
            || (part.starts_with(|char: char| char.is_alphabetic() || char == '_') && !part.contains('<'))
    });
    if !well_formed || name.len() > 150 || LEVELS.contains(&name) {
        return None;
    }
    let lower = last.to_lowercase();
    let strong = name.contains('.') || ENDINGS.iter().any(|ending| lower.ends_with(ending));
    match strong {
        true => Some((Look::Strong, &text[..end], message)),
        false if last.starts_with(char::is_uppercase) => Some((Look::Weak, &text[..end], message)),
        false => None,
    }
}

/// Does a line of a log begin here, rather than another line of a message?
pub(super) fn is_log_line(text: &str) -> bool {
    let word = text.find(|char: char| !char.is_ascii_alphanumeric()).map_or(text, |end| &text[..end]);
    let date_or_time = word.len() >= 2
        && word.bytes().take(2).all(|byte| byte.is_ascii_digit())
        && matches!(text.as_bytes().get(word.len()), Some(b'-' | b'/' | b':' | b'.'));
    text.starts_with(['[', '{']) || date_or_time || LEVELS.contains(&word)
}

/// Whose code a file is. Ordered by how well it says where an app failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// No file: `<frozen importlib._bootstrap>`, `<string>`.
    Nowhere,
    Library,
    Elsewhere,
    App,
}

impl Place {
    /// A relative path is the app's: it was started there.
    pub(super) fn of(file: &str, app_dir: &Path) -> Place {
        let path = Path::new(file);
        if file.starts_with('<') || file.is_empty() {
            Place::Nowhere
        } else if is_library(path) {
            Place::Library
        } else if path.is_relative() || (app_dir.is_absolute() && path.starts_with(app_dir)) {
            Place::App
        } else {
            Place::Elsewhere
        }
    }
}

fn is_library(path: &Path) -> bool {
    const FOLDERS: [&str; 7] = ["site-packages", "dist-packages", "node_modules", ".venv", "venv", ".cargo", ".rustup"];
    let text = path.to_string_lossy();
    if text.starts_with("node:") || text.starts_with("/rustc/") || text.starts_with("internal/") {
        return true;
    }
    let mut before = "";
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        let part = part.to_str().unwrap_or_default();
        if FOLDERS.contains(&part)
            || (before.starts_with("lib") && (part.starts_with("python") || part.starts_with("pypy")))
        {
            return true;
        }
        before = part;
    }
    false
}
