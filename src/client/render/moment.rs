//! Moments and spans as people say them.

use crate::core::clock::{Millis, Wall};

/// A span in a narrow column, where every blank counts: `850ms`, `4.2s`, `3m20s`, `6d3h`.
#[must_use]
pub fn brief(span: Millis) -> String {
    span.to_string().replace(' ', "")
}

/// The time from a moment to now; zero where the clock stepped back in between.
#[must_use]
pub fn since(now: Wall, then: Wall) -> Millis {
    Millis(now.0.saturating_sub(then.0).max(0) as u64)
}

/// `2026-11-23 20:30:09`, in the zone of the one who reads.
#[must_use]
pub fn local(at: Wall) -> String {
    in_zone(at, jiff::tz::TimeZone::system())
}

fn in_zone(at: Wall, zone: jiff::tz::TimeZone) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    moment.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-23 20:30:09 (4m ago)`.
#[must_use]
pub fn ago(now: Wall, at: Wall) -> String {
    format!("{} ({} ago)", local(at), since(now, at))
}

/// A moment as people type it: a span before now (`90s`, `30m`, `1h`, `2d`, `1w`), a date, a date and time of day, a time of today, or
/// RFC 3339. Without an offset it is meant in the zone of the one who types.
#[must_use]
pub fn parse(text: &str, now: Wall) -> Option<Wall> {
    parse_in(text.trim(), now, &jiff::tz::TimeZone::system())
}

fn parse_in(text: &str, now: Wall, zone: &jiff::tz::TimeZone) -> Option<Wall> {
    use jiff::civil::{Date, DateTime, Time};
    if let Some(span) = span(text) {
        return Some(Wall(now.0.checked_sub(span)?));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Wall(at.as_millisecond()));
    }
    let today = || jiff::Timestamp::from_millisecond(now.0).ok().map(|now| now.to_zoned_datetime(zone.clone()).date());
    let at = match (text.parse::<Time>(), text.parse::<Date>(), text.parse::<DateTime>()) {
        _ if !text.starts_with(|first: char| first.is_ascii_digit()) => return None,
        (Ok(time), _, _) if text.contains(':') && !text.contains('-') => today()?.to_datetime(time),
        (_, _, Ok(at)) => at,
        (_, Ok(date), _) => date.to_datetime(Time::midnight()),
        _ => return None,
    };
    Some(Wall(zone.to_timestamp(at).ok()?.as_millisecond()))
}

/// `1h` in milliseconds.
fn span(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit.trim() {
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_people_type_it() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(9));
        // 2026-11-24 05:30:09.123 there.
        let now = Wall(1_795_465_809_123);
        let read = |text| parse_in(text, now, &zone).map(|at| in_zone(at, zone.clone()));
        for (text, meant) in [
            ("90s", Some("2026-11-24 05:28:39")),
            ("30m", Some("2026-11-24 05:00:09")),
            ("1h", Some("2026-11-24 04:30:09")),
            ("2 d", Some("2026-11-22 05:30:09")),
            ("1w", Some("2026-11-17 05:30:09")),
            ("2026-11-23", Some("2026-11-23 00:00:00")),
            ("2026-11-23 20:30", Some("2026-11-23 20:30:00")),
            ("2026-11-23T20:30:09", Some("2026-11-23 20:30:09")),
            ("2026-11-23T20:30:00+00:00", Some("2026-11-24 05:30:00")),
            ("04:15", Some("2026-11-24 04:15:00")),
            ("1", None),
            ("h", None),
            ("-1h", None),
            ("1.5h", None),
            ("2026-13-01", None),
            ("99999999999999999999d", None),
            ("9223372036854775807w", None),
            ("", None),
            ("\u{1b}[2J", None),
        ] {
            assert_eq!(read(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn moments_are_shown_in_the_readers_zone() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(in_zone(Wall(1_795_465_809_123), zone), "2026-11-24 05:30:09");
    }

    #[test]
    fn spans_have_no_blanks_and_never_run_backwards() {
        assert_eq!(brief(Millis(200_000)), "3m20s");
        assert_eq!(since(Wall(5), Wall(9)), Millis(0));
    }
}
