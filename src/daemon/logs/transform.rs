//! A time before each line.

use crate::core::clock::Wall;

/// Puts a stamp before each line of a stream that comes in pieces.
#[derive(Debug)]
pub struct Stamper {
    format: String,
    zone: jiff::tz::TimeZone,
    /// The stamp of this millisecond (or second, where the format has no fraction).
    cached: Option<(i64, Vec<u8>)>,
    fraction: bool,
}

impl Stamper {
    #[must_use]
    pub fn new(format: &str) -> Stamper {
        Stamper {
            format: format.to_owned(),
            zone: jiff::tz::TimeZone::system(),
            cached: None,
            fraction: format.contains('f'),
        }
    }

    /// `bytes` with a stamp at every start of a line; `line_start` says whether they begin with one, and is moved on.
    pub fn stamp(&mut self, bytes: &[u8], line_start: &mut bool, now: Wall) -> Vec<u8> {
        let stamp = self.at(now).to_vec();
        let mut out = Vec::with_capacity(bytes.len() + stamp.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if *line_start {
                out.extend_from_slice(&stamp);
            }
            out.extend_from_slice(line);
            *line_start = line.ends_with(b"\n");
        }
        out
    }

    fn at(&mut self, now: Wall) -> &[u8] {
        let key = if self.fraction { now.0 } else { now.0.div_euclid(1000) };
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != key) {
            let text = jiff::Timestamp::from_millisecond(now.0)
                .map(|at| at.to_zoned_datetime(self.zone.clone()))
                .ok()
                .and_then(|at| jiff::fmt::strtime::format(&self.format, &at).ok())
                .unwrap_or_default();
            self.cached = Some((key, format!("{text}: ").into_bytes()));
        }
        self.cached.as_ref().map_or(&[], |(_, text)| text.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gets_one_stamp_however_it_is_cut() {
        let mut stamper = Stamper::new("%Y");
        let mut line_start = true;
        let year = String::from_utf8(stamper.at(Wall(1_795_465_809_123)).to_vec()).unwrap();
        assert_eq!(year, "2026: ");
        let mut out = Vec::new();
        for piece in ["a", "b\nc", "\n", "\nd"] {
            out.extend(stamper.stamp(piece.as_bytes(), &mut line_start, Wall(1_795_465_809_123)));
        }
        assert_eq!(String::from_utf8(out).unwrap(), "2026: ab\n2026: c\n2026: \n2026: d");
    }
}
