//! Where an app's output goes, and the time before its lines.

use super::app::App;
use super::node::Node;
use super::problem::{Fault, located};
use super::value::{boolean, integer, size, span, wanted, word};
use crate::core::clock::Millis;
use crate::core::spec::{Bytes, Logs};
use std::path::PathBuf;

/// Rotated logs bear numbers of two digits, or 100.
const MAX_KEEP: i64 = 100;

/// What `time: true` means in PM2: `YYYY-MM-DDTHH:mm:ss`.
const TIME: &str = "%Y-%m-%dT%H:%M:%S";

impl App<'_> {
    pub fn logs(&mut self) -> Logs {
        let default = Logs::default();
        let time = self.get("time", boolean).unwrap_or(false);
        Logs {
            out: self.log("out_file"),
            err: self.log("error_file"),
            combined: self.log("log_file"),
            merge: self.get("merge_logs", boolean).unwrap_or(false),
            disabled: self.get("disable_logs", boolean).unwrap_or(false),
            timestamp: self.get("log_date_format", format).flatten().or_else(|| time.then(|| TIME.into())),
            max_size: self.get("log_max_size", max_size).unwrap_or(default.max_size),
            keep: self.get("log_keep", |node| integer(node, 0, MAX_KEEP)).map_or(default.keep, |keep| keep as u32),
            max_age: self.get("log_max_age", max_age).flatten(),
        }
    }

    /// A log's path, relative to the file. PM2 takes the word `NULL` for `/dev/null`.
    fn log(&mut self, name: &'static str) -> Option<PathBuf> {
        let source = self.source;
        let read = |node: &Node| match word(node) {
            _ if name == "log_file" && node.is_off() => Ok(None),
            Ok(text) if text.eq_ignore_ascii_case("null") => Ok(Some(PathBuf::from("/dev/null"))),
            Ok(text) if text.ends_with('/') => Err(Fault::new("is a directory, not a file")),
            Ok(text) => match source.around.path(&source.base, &text) {
                path if path.is_dir() => Err(Fault::new(format!("{} is a directory", located(&path)))),
                path => Ok(Some(path)),
            },
            Err(fault) => Err(fault.hint("write the path of a file")),
        };
        self.get(name, read).flatten()
    }
}

fn max_size(node: &Node) -> Result<Bytes, Fault> {
    if node.is_off() {
        return Ok(Bytes(0));
    }
    match size(node)? {
        bytes if bytes.0 < 1024 => {
            Err(Fault::new(format!("{bytes} is too small for a log (at least 1K)"))
                .hint("a number is bytes; write `50M`"))
        }
        bytes => Ok(bytes),
    }
}

fn max_age(node: &Node) -> Result<Option<Millis>, Fault> {
    if node.is_off() {
        return Ok(None);
    }
    match span(node)? {
        // A bare number is most likely meant as days.
        Millis(ms) if ms < 60_000 => {
            Err(Fault::new(format!("{} is too short an age of a log (at least 1m)", Millis(ms)))
                .hint("a number is milliseconds; write `14d` for 14 days"))
        }
        age => Ok(Some(age)),
    }
}

/// A strftime format, or a day.js one; false is none.
fn format(node: &Node) -> Result<Option<String>, Fault> {
    if node.is_off() {
        return Ok(None);
    }
    let text = word(node)?;
    let format = if text.contains('%') { text } else { strftime(&text) };
    let example = jiff::Timestamp::UNIX_EPOCH.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    match jiff::fmt::strtime::format(&format, &example) {
        Ok(_) if !format.contains(['\n', '\r']) => Ok(Some(format)),
        _ => Err(wanted("a form of time", node)
            .hint("`YYYY-MM-DD HH:mm:ss.SSS Z` as in PM2, or a strftime format such as `%F %T`")),
    }
}

/// day.js's tokens, the longer of two first (<https://day.js.org/docs/en/display/format>), and strftime's.
const TOKENS: &[(&str, &str)] = &[
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("MM", "%m"),
    ("M", "%-m"),
    ("DD", "%d"),
    ("D", "%-d"),
    ("dddd", "%A"),
    ("ddd", "%a"),
    ("d", "%w"),
    ("HH", "%H"),
    ("H", "%-H"),
    ("hh", "%I"),
    ("h", "%-I"),
    ("mm", "%M"),
    ("m", "%-M"),
    ("SSS", "%3f"),
    ("ss", "%S"),
    ("s", "%-S"),
    ("ZZ", "%z"),
    ("Z", "%:z"),
    ("A", "%p"),
    ("a", "%P"),
    ("X", "%s"),
];

/// The strftime form of a day.js one. What stands in `[…]`, and what is no token, stays as it is.
fn strftime(dayjs: &str) -> String {
    let mut out = String::new();
    let mut rest = dayjs;
    while let Some(c) = rest.chars().next() {
        if let Some((literal, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            out.push_str(literal);
            rest = after;
        } else if let Some((token, directive)) = TOKENS.iter().find(|(token, _)| rest.starts_with(token)) {
            out.push_str(directive);
            rest = &rest[token.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_2026(format: &str) -> String {
        let at =
            jiff::Timestamp::from_millisecond(1_795_465_809_123).unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC);
        jiff::fmt::strtime::format(format, &at).unwrap()
    }

    #[test]
    fn pm2_forms_of_time_become_strftime() {
        for (dayjs, text) in [
            ("YYYY-MM-DD HH:mm:ss.SSS Z", "2026-11-23 20:30:09.123 +00:00"),
            ("YYYY-MM-DDTHH:mm:ss", "2026-11-23T20:30:09"),
            ("DD/MM/YY h:m:s A ZZ", "23/11/26 8:30:9 PM +0000"),
            ("dddd D MMMM, HH[h]mm", "Monday 23 November, 20h30"),
            ("ddd MMM D hh:mm a X", "Mon Nov 23 08:30 pm 1795465809"),
            ("[at] HH:mm", "at 20:30"),
        ] {
            assert_eq!(at_2026(&strftime(dayjs)), text, "{dayjs}");
        }
        assert_eq!(at_2026(TIME), "2026-11-23T20:30:09");
    }
}
