//! Where text goes: how wide it is, whether it has colours, and writing to it.

use super::text;
use crate::client::home::reason;
use crate::core::command::Refusal;
use crate::os::terminal;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// The width of what is no terminal and says none: lines stay readable in a log or a mail.
const WIDTH_ELSEWHERE: usize = 120;

/// All columns, and a sentence of some length.
const TABLES_ELSEWHERE: usize = 240;

/// Standard output or standard error, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    pub width: usize,
    /// Of a terminal.
    pub height: Option<usize>,
    pub color: bool,
    pub is_terminal: bool,
}

/// Colours and weights of SGR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    /// What must not be overlooked.
    Alarm,
    /// One of a row of colours that tell names apart.
    Hue(usize),
}

/// For names side by side: none of them means good or bad.
const HUES: [u8; 6] = [36, 35, 34, 96, 95, 94];

impl Screen {
    #[must_use]
    pub fn stdout(no_color: bool) -> Screen {
        let out = io::stdout();
        Screen::of(out.is_terminal(), terminal::size(&out), no_color)
    }

    #[must_use]
    pub fn stderr(no_color: bool) -> Screen {
        let err = io::stderr();
        Screen::of(err.is_terminal(), terminal::size(&err), no_color)
    }

    fn of(is_terminal: bool, size: Option<(usize, usize)>, no_color: bool) -> Screen {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen {
            width: size.map(|size| size.0).or(columns).unwrap_or(WIDTH_ELSEWHERE),
            height: size.map(|size| size.1).filter(|_| is_terminal),
            color: is_terminal && !no_color && !set("NO_COLOR") && !dumb,
            is_terminal,
        }
    }

    /// For tables: what is piped goes to programs that look for a column, so none is left out, unless COLUMNS says how wide it is.
    #[must_use]
    pub fn of_tables(self) -> Screen {
        let width =
            if self.is_terminal || std::env::var_os("COLUMNS").is_some() { self.width } else { TABLES_ELSEWHERE };
        Screen { width, ..self }
    }

    /// The text in a style, where there are colours.
    #[must_use]
    pub fn paint(&self, style: Style, text: impl fmt::Display) -> String {
        if !self.color || style == Style::Plain {
            return text.to_string();
        }
        let code = match style {
            Style::Plain => String::new(),
            Style::Bold => "1".into(),
            Style::Dim => "2".into(),
            Style::Green => "32".into(),
            Style::Yellow => "33".into(),
            Style::Red => "31".into(),
            Style::Alarm => "1;31".into(),
            Style::Hue(at) => HUES[at % HUES.len()].to_string(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes to standard output. A reader that has gone away wants no more: that is no error.
///
/// # Errors
/// Of write(2), as a refusal.
pub fn print(text: &str) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What became of writing to standard output.
///
/// # Errors
/// As [`print()`].
pub fn written(result: io::Result<()>) -> Result<(), Refusal> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Refusal::failed(format!("could not write to standard output: {}", reason(&error))))
        }
        _ => Ok(()),
    }
}

/// Writes to standard error, where nobody may be listening.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// `error: …`, then `hint: …` for each line of the hint.
pub fn complain(screen: &Screen, refusal: &Refusal) {
    note(&complaint(screen, &refusal.error, refusal.hint.as_deref()));
}

/// The lines of [`complain`].
#[must_use]
pub fn complaint(screen: &Screen, error: &str, hint: Option<&str>) -> String {
    let mut lines = format!("{} {}\n", screen.paint(Style::Alarm, "error:"), text::plain_lines(error));
    for hint in hint.unwrap_or_default().lines() {
        lines.push_str(&format!("{} {}\n", screen.paint(Style::Bold, "hint:"), text::plain(hint)));
    }
    lines
}

/// `warning: …`.
pub fn warn(screen: &Screen, warning: &str) {
    note(&format!("{} {}\n", screen.paint(Style::Yellow, "warning:"), text::plain_lines(warning)));
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A screen of that width without colours.
    pub fn plain(width: usize) -> Screen {
        Screen { width, height: None, color: false, is_terminal: false }
    }

    /// A terminal of that width with colours.
    pub fn colored(width: usize) -> Screen {
        Screen { width, height: Some(24), color: true, is_terminal: true }
    }

    #[test]
    fn an_error_and_each_hint_are_a_line() {
        assert_eq!(
            complaint(&plain(80), "no app, namespace or id `x\u{1b}[2J`", Some("`stead list` shows it\nor ask")),
            "error: no app, namespace or id `x^[[2J`\nhint: `stead list` shows it\nhint: or ask\n"
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert_eq!(plain(80).paint(Style::Alarm, "x"), "x");
        assert_eq!(colored(80).paint(Style::Alarm, "x"), "\u{1b}[1;31mx\u{1b}[0m");
        assert_eq!(colored(80).paint(Style::Plain, "x"), "x");
    }
}
