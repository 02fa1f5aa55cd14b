//! The only reader of clocks.

use crate::core::clock::{Mono, Now, Wall};
use crate::core::cron::Cron;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// In seconds since 1970: later than any clock that is set in earnest.
const YEAR_2200: i64 = 7_258_118_400;

/// Both clocks: CLOCK_BOOTTIME and CLOCK_REALTIME, in milliseconds.
#[must_use]
pub fn now() -> Now {
    let (mono, wall) = (read(ClockId::CLOCK_BOOTTIME), read(ClockId::CLOCK_REALTIME));
    Now { mono: Mono(mono.as_millis() as u64), wall: Wall(wall.as_millis() as i64) }
}

/// A file's time.
#[must_use]
pub fn wall(time: std::time::SystemTime) -> Wall {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis() as i64)
}

/// CLOCK_MONOTONIC to the nanosecond, for spans within one process.
#[must_use]
pub fn precise() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Linux always has these clocks; clock_gettime(2) fails only for unknown ones.
fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// The next time of a line, in the zone that it names or the machine's. `None`: the machine does not know that zone.
#[must_use]
pub fn next_time(cron: &Cron, after: Wall) -> Option<Wall> {
    let zone = match cron.zone() {
        Some(name) => TimeZone::get(name).ok()?,
        None => TimeZone::system(),
    };
    cron.next(after, &zone)
}

/// A descriptor that becomes readable when somebody sets the wall clock: a timer far off that is cancelled by it.
///
/// # Errors
/// Of timerfd_create(2) and timerfd_settime(2).
pub fn steps() -> io::Result<OwnedFd> {
    let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TimeSpec::new(YEAR_2200, 0)), flags)?;
    Ok(timer.into())
}

/// Was the clock set since the last call? After it the descriptor waits for the next time.
#[must_use]
pub fn was_set(steps: &OwnedFd) -> bool {
    let mut count = [0; 8];
    matches!(nix::unistd::read(steps, &mut count), Err(Errno::ECANCELED))
}
