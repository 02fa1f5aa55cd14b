//! Text that others wrote: what apps print and name must not drive the terminal.

use super::screen::Screen;
use std::borrow::Cow;
use unicode_width::UnicodeWidthChar;

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

/// One line: every control character is shown as `^[` or `\u{9b}`, line breaks and tabs too.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    neutral(text, |_| false)
}

/// As [`plain`], but lines stay lines.
#[must_use]
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    neutral(text, |letter| letter == '\n')
}

/// A line of a log: tabs stay, colours stay where the screen has any and vanish where it has none.
#[must_use]
pub fn log_line(bytes: &[u8], color: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\r').unwrap_or(&text);
    if !text.contains('\u{1b}') {
        return neutral(text, |letter| letter == '\t').into_owned();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut painted = false;
    while let Some(at) = rest.find('\u{1b}') {
        shown.push_str(&neutral(&rest[..at], |letter| letter == '\t'));
        rest = &rest[at..];
        match sgr(rest) {
            Some(length) => {
                if color {
                    shown.push_str(&rest[..length]);
                    painted = true;
                }
                rest = &rest[length..];
            }
            None => {
                shown.push_str("^[");
                rest = &rest[1..];
            }
        }
    }
    shown.push_str(&neutral(rest, |letter| letter == '\t'));
    if painted {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// The length of the colour sequence that a text begins with: ESC `[` digits `m`.
fn sgr(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let digits = body.bytes().take(32).take_while(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')).count();
    (body.as_bytes().get(digits) == Some(&b'm')).then_some(2 + digits + 1)
}

fn neutral(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harms = |letter: char| (letter.is_control() || turns_direction(letter)) && !stays(letter);
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            letter if !harms(letter) => shown.push(letter),
            '\0'..='\u{1f}' => shown.extend(['^', char::from(letter as u8 + 64)]),
            '\u{7f}' => shown.push_str("^?"),
            letter => shown.extend(letter.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// Marks that make a terminal show letters in another order than they are in.
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `columns` wide; what is cut ends in `…`.
#[must_use]
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    let mut cut = String::new();
    for letter in text.chars() {
        let next = letter.width().unwrap_or(0);
        if used + next + 1 > columns {
            break;
        }
        used += next;
        cut.push(letter);
    }
    cut.push('…');
    Cow::Owned(cut)
}

/// Lines of at most `columns`, broken at blanks where there are any.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let used = lines.last().map_or(0, |line| width(line));
        if used > 0 && used + 1 + width(word) > columns {
            lines.push(word.to_owned());
        } else if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// What stands behind a label of `indent` columns: wrapped below itself on a terminal, one line elsewhere, where it is searched.
#[must_use]
pub fn hang(screen: &Screen, indent: usize, text: &str) -> String {
    let room = screen.width.saturating_sub(indent);
    if !screen.is_terminal || room < 20 || width(text) <= room {
        return text.to_owned();
    }
    wrap(text, room).join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_drives_the_terminal() {
        assert_eq!(plain("a\u{1b}]0;title\u{7}b\r\n\u{9b}2J"), "a^[]0;title^Gb^M^J\\u{9b}2J");
        assert_eq!(plain("user\u{202e}gpj.exe"), "user\\u{202e}gpj.exe");
        assert_eq!(plain_lines("two\nlines\t"), "two\nlines^I");
        assert!(matches!(plain("größe 値"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_log_line_keeps_colours_and_nothing_else() {
        let line = b"\x1b[31;1mred\x1b[0m\tand \x1b[2Jclear\rhome\r";
        assert_eq!(log_line(line, true), "\x1b[31;1mred\x1b[0m\tand ^[[2Jclear^Mhome\x1b[0m");
        assert_eq!(log_line(line, false), "red\tand ^[[2Jclear^Mhome");
        assert_eq!(log_line(b"bad \xff byte \x1b[", false), "bad \u{fffd} byte ^[[");
    }

    #[test]
    fn what_is_cut_ends_in_an_ellipsis() {
        assert_eq!(fit("signal-timeline-collector", 12), "signal-time…");
        assert_eq!(fit("値値値値", 5), "値値…");
        assert_eq!(fit("short", 5), "short");
    }

    #[test]
    fn long_text_is_broken_at_blanks() {
        assert_eq!(wrap("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        let screen = Screen { width: 24, height: Some(24), color: false, is_terminal: true };
        assert_eq!(hang(&screen, 4, "one two three four five"), "one two three four\n    five");
        assert_eq!(
            hang(&Screen { is_terminal: false, ..screen }, 4, "one two three four five"),
            "one two three four five"
        );
    }
}
