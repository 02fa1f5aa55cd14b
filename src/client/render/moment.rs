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

#[cfg(test)]
mod tests {
    use super::*;

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
