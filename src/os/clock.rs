//! The only reader of clocks.

use crate::core::clock::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

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
