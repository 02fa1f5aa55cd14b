//! Times of day as crontab(5) writes them: `30 3 * * mon-fri`, with seconds in front where there are six fields.
//!
//! Written here because the crates for it bring a second library of dates beside jiff, and read a clock.

use super::clock::Wall;
use jiff::civil::{Date, DateTime, time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;

/// 29 February is at most eight years away; a line that is silent for longer never fires.
const SEARCH_YEARS: i16 = 9;

/// Tells the next time of a line after a moment; what the time zones are is for the edge to know.
#[derive(Clone, Copy)]
pub struct Calendar(pub fn(&Cron, Wall) -> Option<Wall>);

impl Default for Calendar {
    /// UTC, whatever a line says.
    fn default() -> Calendar {
        Calendar(|cron, after| cron.next(after, &TimeZone::UTC))
    }
}

impl PartialEq for Calendar {
    /// It is a means, no part of the state.
    fn eq(&self, _: &Calendar) -> bool {
        true
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calendar")
    }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A line of cron, with its time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    zone: Option<String>,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    every_hour: bool,
    /// A field of days that begins with `*` restricts nothing: else a day needs to be in one of the two only.
    any_day: bool,
    any_weekday: bool,
}

impl Cron {
    /// Reads `[TZ=ZONE] [SECOND] MINUTE HOUR DAY MONTH WEEKDAY`, or `@hourly`, `@daily` …
    ///
    /// # Errors
    /// A sentence about what is wrong; that it never fires is an error too.
    pub fn parse(line: &str) -> Result<Cron, String> {
        let text = line.trim().to_owned();
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let zone = words.first().and_then(|word| word.strip_prefix("CRON_TZ=").or_else(|| word.strip_prefix("TZ=")));
        let zone = zone.map(|zone| zone.trim_start_matches(':').to_owned());
        if zone.is_some() {
            words.remove(0);
        }
        if zone.as_ref().is_some_and(String::is_empty) {
            return Err("`TZ=` names no time zone".into());
        }
        if let [word] = words[..]
            && let Some(name) = word.strip_prefix('@')
        {
            words = match name.to_ascii_lowercase().as_str() {
                "yearly" | "annually" => vec!["0", "0", "1", "1", "*"],
                "monthly" => vec!["0", "0", "1", "*", "*"],
                "weekly" => vec!["0", "0", "*", "*", "0"],
                "daily" | "midnight" => vec!["0", "0", "*", "*", "*"],
                "hourly" => vec!["0", "*", "*", "*", "*"],
                "reboot" => return Err("`@reboot` is no time: an app starts with stead anyway".into()),
                _ => return Err(format!("`{word}` is none of @yearly, @monthly, @weekly, @daily, @hourly")),
            };
        }
        if words.len() == 5 {
            words.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = words[..] else {
            let fields = if words.len() == 1 { "1 field".to_owned() } else { format!("{} fields", words.len()) };
            return Err(format!("{fields} instead of minute, hour, day, month, weekday (and a second before them)"));
        };
        let mut weekdays = field("weekday", weekday, 0, 7, &DAYS)?;
        // 7 is Sunday too.
        weekdays |= weekdays >> 7 & 1;
        let cron = Cron {
            zone,
            seconds: field("second", second, 0, 59, &[])?,
            minutes: field("minute", minute, 0, 59, &[])?,
            hours: field("hour", hour, 0, 23, &[])?,
            days: field("day", day, 1, 31, &[])?,
            months: field("month", month, 1, 12, &MONTHS)?,
            weekdays,
            every_hour: hour.starts_with(['*', '?']),
            any_day: day.starts_with(['*', '?']),
            any_weekday: weekday.starts_with(['*', '?']),
            text,
        };
        match cron.next_civil(DateTime::constant(2096, 3, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err("never fires: none of its months has such a day".into()),
        }
    }

    /// The zone that it names. `None`: the machine's.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The first time after `after`. Where the clocks go forward, a time that is left out is an hour later; where they go back, a
    /// time that comes twice is taken once, but for lines of every hour, which know no clocks but the real one.
    #[must_use]
    pub fn next(&self, after: Wall, zone: &TimeZone) -> Option<Wall> {
        let mut from = Timestamp::from_millisecond(after.0).ok()?;
        let after = from;
        if self.every_hour {
            loop {
                let offset = zone.to_offset(from);
                let at = offset.to_timestamp(self.next_civil(offset.to_datetime(from))?).ok()?;
                match zone.following(from).next().filter(|change| change.timestamp() <= at) {
                    None => return Some(Wall(at.as_millisecond())),
                    // The very moment of the change counts with the new offset.
                    Some(change) => {
                        let just_before =
                            change.offset().to_datetime(change.timestamp()).checked_sub(1.nanosecond()).ok()?;
                        let at = change.offset().to_timestamp(self.next_civil(just_before)?).ok()?;
                        if zone.following(change.timestamp()).next().is_none_or(|next| at < next.timestamp()) {
                            return Some(Wall(at.as_millisecond()));
                        }
                        from = change.timestamp();
                    }
                }
            }
        }
        let mut civil = zone.to_datetime(from);
        loop {
            civil = self.next_civil(civil)?;
            let at = match zone.to_ambiguous_timestamp(civil).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil),
                AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => {
                    before.to_timestamp(civil)
                }
            }
            .ok()?;
            if at > after {
                return Some(Wall(at.as_millisecond()));
            }
        }
    }

    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        let last = after.date().year().checked_add(SEARCH_YEARS)?;
        let start = after.time();
        let mut date = after.date();
        let mut from = Some((start.hour(), start.minute(), start.second()));
        while date.year() <= last {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                from = None;
                continue;
            }
            if self.on(date)
                && let Some(at) = self.time_after(from)
            {
                return Some(date.to_datetime(time(at.0, at.1, at.2, 0)));
            }
            date = date.tomorrow().ok()?;
            from = None;
        }
        None
    }

    fn on(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// The first time of a day; with `after`, behind that.
    fn time_after(&self, after: Option<(i8, i8, i8)>) -> Option<(i8, i8, i8)> {
        let (first_minute, first_second) = (first(self.minutes, 0)?, first(self.seconds, 0)?);
        let Some((hour, minute, second)) = after else {
            return Some((first(self.hours, 0)?, first_minute, first_second));
        };
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = first(self.seconds, second + 1)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = first(self.minutes, minute + 1) {
                return Some((hour, minute, first_second));
            }
        }
        Some((first(self.hours, hour + 1)?, first_minute, first_second))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Cron {
    type Error = String;
    fn try_from(text: String) -> Result<Cron, String> {
        Cron::parse(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

fn has(set: u64, number: i8) -> bool {
    set >> number & 1 == 1
}

/// The lowest number of a set from `least` on.
fn first(set: u64, least: i8) -> Option<i8> {
    let rest = set >> least << least;
    (rest != 0).then(|| rest.trailing_zeros() as i8)
}

/// One field: `*`, `5`, `1-5`, `*/10`, `10-50/20`, `mon,wed`.
fn field(what: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let range = || format!("{what} `{text}`: {least} to {most}");
    let number = |word: &str| -> Result<u32, String> {
        let word = word.to_ascii_lowercase();
        if let Some(index) = names.iter().position(|name| *name == word) {
            return Ok(index as u32 + least);
        }
        match word.parse() {
            Ok(number) if (least..=most).contains(&number) && word.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(number)
            }
            _ if names.is_empty() => Err(range()),
            _ => Err(format!("{}, or {} to {}", range(), names[0], names[names.len() - 1])),
        }
    };
    let mut set = 0;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => match step.parse() {
                Ok(step @ 1..=59) => (span, Some(step)),
                _ => return Err(format!("{what} `{text}`: a step is a number from 1 on")),
            },
            None => (part, None),
        };
        let (from, to) = match span.split_once('-') {
            _ if matches!(span, "*" | "?") => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // `5/10` goes on to the end, as in other readers of these lines.
            None if step.is_some() => (number(span)?, most),
            None => (number(span)?, number(span)?),
        };
        if from > to {
            return Err(format!("{what} `{text}`: {from} is after {to}"));
        }
        for number in (from..=to).step_by(step.unwrap_or(1)) {
            set |= 1 << number;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(line: &str, from: &str, zone: &str, count: usize) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let cron = Cron::parse(line).unwrap();
        let mut at = Wall(from.parse::<Timestamp>().unwrap().as_millisecond());
        (0..count)
            .map(|_| {
                at = cron.next(at, &zone).unwrap();
                Timestamp::from_millisecond(at.0).unwrap().to_string().trim_end_matches(":00Z").to_owned()
            })
            .collect()
    }

    #[test]
    fn lines_of_crontab_5() {
        let from = "2026-11-23T20:30:09Z";
        for (line, next) in [
            ("30 3 * * *", ["2026-11-24T03:30", "2026-11-25T03:30"]),
            ("*/20 * * * *", ["2026-11-23T20:40", "2026-11-23T21:00"]),
            ("*/15 30 20 * * *", ["2026-11-23T20:30:15Z", "2026-11-23T20:30:30Z"]),
            ("@daily", ["2026-11-24T00:00", "2026-11-25T00:00"]),
            ("@weekly", ["2026-11-29T00:00", "2026-12-06T00:00"]),
            ("0 4 * * 7", ["2026-11-29T04:00", "2026-12-06T04:00"]),
            ("0 4 * jan MON-fri", ["2027-01-01T04:00", "2027-01-04T04:00"]),
            ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
            // Both days restricted: either will do.
            ("0 0 13 * fri", ["2026-11-27T00:00", "2026-12-04T00:00"]),
            ("10-50/20 6 1 * ?", ["2026-12-01T06:10", "2026-12-01T06:30"]),
            ("50/5 6 1 1 *", ["2027-01-01T06:50", "2027-01-01T06:55"]),
        ] {
            assert_eq!(times(line, from, "UTC", 2), next, "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_said() {
        for (line, what) in [
            ("0 0 31 2 *", "never fires"),
            ("0 0 30 feb *", "never fires"),
            ("61 * * * *", "minute `61`: 0 to 59"),
            ("* * * *", "4 fields instead of minute"),
            ("", "0 fields"),
            ("0 3 * * funday", "weekday `funday`: 0 to 7, or sun to sat"),
            ("*/0 * * * *", "a step is a number from 1 on"),
            ("5-1 * * * *", "5 is after 1"),
            ("@reboot", "no time"),
            ("@often", "@daily"),
            ("TZ= 0 3 * * *", "names no time zone"),
            ("+5 * * * *", "minute `+5`"),
        ] {
            let said = Cron::parse(line).unwrap_err();
            assert!(said.contains(what), "{line}: {said}");
        }
        assert_eq!(Cron::parse("CRON_TZ=Europe/Berlin 0 3 * * *").unwrap().zone(), Some("Europe/Berlin"));
    }

    #[test]
    fn clocks_that_go_forward_or_back() {
        let berlin = "Europe/Berlin";
        assert_eq!(times("30 2 * * *", "2026-03-28T02:00:00Z", berlin, 2), ["2026-03-29T01:30", "2026-03-30T00:30"]);
        assert_eq!(times("30 2 * * *", "2026-10-24T23:00:00Z", berlin, 2), ["2026-10-25T00:30", "2026-10-26T01:30"]);
        let hourly = ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"];
        assert_eq!(times("0 * * * *", "2026-10-24T23:30:00Z", berlin, 3), hourly);
        assert_eq!(
            times("*/30 * * * *", "2026-03-29T00:30:00Z", berlin, 3),
            ["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-29T02:00"]
        );
    }
}
