//! Time as an argument: decide with [`Mono`], show with [`Wall`].

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// Milliseconds since boot, time asleep included (CLOCK_BOOTTIME): comparable across processes of one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// Milliseconds since 1970-01-01 UTC. May step backwards; nothing is decided by it. In JSON: RFC 3339 with an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wall(pub i64);

impl From<Wall> for String {
    fn from(wall: Wall) -> String {
        match jiff::Timestamp::from_millisecond(wall.0) {
            // `+00:00` rather than `Z`: Python before 3.11 reads only the former.
            Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00").to_string(),
            Err(_) => "1970-01-01T00:00:00.000+00:00".into(),
        }
    }
}

impl TryFrom<String> for Wall {
    type Error = jiff::Error;
    fn try_from(text: String) -> Result<Wall, jiff::Error> {
        Ok(Wall(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Add<Millis> for Mono {
    type Output = Mono;
    fn add(self, span: Millis) -> Mono {
        Mono(self.0.saturating_add(span.0))
    }
}

impl Sub for Mono {
    type Output = Millis;
    /// The time from `earlier` to `self`; zero where `earlier` is the later one.
    fn sub(self, earlier: Mono) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    /// As people say it: `850 ms`, `4.2 s`, `3m 20s`, `2h 5m`, `6d 3h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let s = ms / 1000;
        match s {
            0 => write!(f, "{ms} ms"),
            1..=59 if ms % 1000 >= 100 && s < 10 => write!(f, "{}.{} s", s, ms % 1000 / 100),
            1..=59 => write!(f, "{s} s"),
            60..=3599 if s.is_multiple_of(60) => write!(f, "{}m", s / 60),
            60..=3599 => write!(f, "{}m {}s", s / 60, s % 60),
            3600..=86_399 if (s % 3600) / 60 == 0 => write!(f, "{}h", s / 3600),
            3600..=86_399 => write!(f, "{}h {}m", s / 3600, (s % 3600) / 60),
            _ if (s % 86_400) / 3600 == 0 => write!(f, "{}d", s / 86_400),
            _ => write!(f, "{}d {}h", s / 86_400, (s % 86_400) / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_rfc_3339_with_an_offset() {
        let text = serde_json::to_string(&Wall(1_795_465_809_123)).unwrap();
        assert_eq!(text, "\"2026-11-23T20:30:09.123+00:00\"");
        assert_eq!(serde_json::from_str::<Wall>(&text).unwrap(), Wall(1_795_465_809_123));
    }

    #[test]
    fn spans_read_as_people_say_them() {
        for (ms, words) in [
            (0, "0 ms"),
            (850, "850 ms"),
            (4_200, "4.2 s"),
            (4_000, "4 s"),
            (59_999, "59 s"),
            (200_000, "3m 20s"),
            (120_000, "2m"),
            (7_500_000, "2h 5m"),
            (529_200_000, "6d 3h"),
        ] {
            assert_eq!(Millis(ms).to_string(), words);
        }
    }
}
