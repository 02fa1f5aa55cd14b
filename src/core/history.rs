//! Readings of an instance over time: three rings, the finer the shorter, in one file of fixed size.
//!
//! A reading has its place by its time, so that a write needs no other; what is torn, of another age, or from before a step of the
//! clock is told by what stands in the place itself.

use super::clock::Wall;

/// What the file begins with.
pub const HEADER: [u8; 16] = *b"stead history 1\n";

/// Bytes of one reading.
pub const SLOT: usize = 16;

/// A ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// Seconds from one reading to the next.
    pub period: u32,
    pub slots: u32,
}

/// 5 minutes by the second, 2 hours by ten seconds, 48 hours by the minute.
pub const RINGS: [Ring; 3] =
    [Ring { period: 1, slots: 300 }, Ring { period: 10, slots: 720 }, Ring { period: 60, slots: 2880 }];

/// Bytes of the whole file.
pub const SIZE: usize = {
    let [a, b, c] = RINGS;
    HEADER.len() + SLOT * (a.slots + b.slots + c.slots) as usize
};

/// What a tree used at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Seconds since 1970-01-01 UTC.
    pub at: u32,
    /// KiB.
    pub memory: u32,
    /// Thousandths of one CPU, since the reading before; at most 65,535.
    pub cpu: u16,
    pub processes: u16,
    /// The run's number, in its last 16 bits: readings of one run stand together.
    pub run: u16,
}

/// What is to be written: readings are gathered for a while, because their places in the finest ring lie side by side.
#[derive(Clone, Debug, Default)]
pub struct Pen {
    /// The periods noted last, ring by ring.
    last: [u32; 3],
    /// Places and what belongs there.
    held: Vec<(u64, [u8; SLOT])>,
}

impl Pen {
    pub fn note(&mut self, reading: Reading) {
        let mut start = HEADER.len() as u64;
        for (ring, last) in RINGS.iter().zip(&mut self.last) {
            let period = reading.at / ring.period;
            if period != *last {
                *last = period;
                self.held.push((start + u64::from(period % ring.slots) * SLOT as u64, reading.to_bytes()));
            }
            start += u64::from(ring.slots) * SLOT as u64;
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The pieces to write, in this order; nothing is held any longer.
    pub fn pieces(&mut self) -> Vec<(u64, Vec<u8>)> {
        // Stable: of two readings for one place the later one stays.
        self.held.sort_by_key(|(place, _)| *place);
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for (place, bytes) in self.held.drain(..) {
            match pieces.last_mut() {
                Some((start, piece)) if *start + piece.len() as u64 == place => piece.extend(bytes),
                _ => pieces.push((place, bytes.to_vec())),
            }
        }
        pieces
    }
}

impl Reading {
    #[must_use]
    pub fn to_bytes(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..4].copy_from_slice(&self.at.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.memory.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.cpu.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.processes.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.run.to_le_bytes());
        let check = checksum(&bytes);
        bytes[14..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None`: never written, or torn.
    fn from_bytes(bytes: &[u8]) -> Option<Reading> {
        let short = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let reading =
            Reading { at: long(0)?, memory: long(4)?, cpu: short(8)?, processes: short(10)?, run: short(12)? };
        (reading.at != 0 && short(14)? == checksum(bytes)).then_some(reading)
    }

    #[must_use]
    pub fn wall(&self) -> Wall {
        Wall(i64::from(self.at) * 1000)
    }
}

/// FNV-1a over all but itself, folded; that of an empty place is not the zeros which stand there.
fn checksum(bytes: &[u8]) -> u16 {
    let hash = bytes[..SLOT - 2]
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash >> 16 ^ hash) as u16
}

/// Every reading of a file, oldest first, each time once and from the finest ring that has it. `now` in seconds since 1970: what
/// claims to be later was written before a step of the clock. `None`: no file of this version.
#[must_use]
pub fn read(file: &[u8], now: u32) -> Option<Vec<Reading>> {
    let mut rest = file.strip_prefix(&HEADER)?;
    let mut all: Vec<Reading> = Vec::new();
    for ring in RINGS {
        let (mine, next) = rest.split_at(rest.len().min(ring.slots as usize * SLOT));
        rest = next;
        let finest = all.iter().map(|one| one.at).min().unwrap_or(u32::MAX);
        let oldest = now.saturating_sub(ring.period * ring.slots);
        let own = mine.chunks_exact(SLOT).filter_map(Reading::from_bytes);
        all.extend(own.filter(|one| one.at <= now && one.at > oldest && one.at < finest));
    }
    all.sort_unstable_by_key(|one| one.at);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u32 = 1_795_000_000;

    fn reading(at: u32) -> Reading {
        Reading { at, memory: at % 100_000, cpu: 12, processes: 3, run: 7 }
    }

    /// A file after a life of `seconds`.
    fn life(seconds: u32) -> Vec<u8> {
        let mut file = vec![0; SIZE];
        file[..HEADER.len()].copy_from_slice(&HEADER);
        let mut pen = Pen::default();
        for at in BEGIN..BEGIN + seconds {
            write(&mut file, &mut pen, reading(at));
        }
        file
    }

    fn write(file: &mut [u8], pen: &mut Pen, reading: Reading) {
        pen.note(reading);
        for (place, piece) in pen.pieces() {
            file[place as usize..][..piece.len()].copy_from_slice(&piece);
        }
    }

    #[test]
    fn ten_readings_are_two_pieces_and_leave_what_ten_times_one_does() {
        let (mut file, mut pen) = (life(0), Pen::default());
        for at in BEGIN..BEGIN + 1000 {
            pen.note(reading(at));
            if at % 10 == 0 {
                let pieces = pen.pieces();
                assert!(pieces.len() <= 4 && pen.is_empty(), "{at}: {}", pieces.len());
                for (place, piece) in pieces {
                    file[place as usize..][..piece.len()].copy_from_slice(&piece);
                }
            }
        }
        assert!(file == life(991), "the last nine are held");
    }

    #[test]
    fn of_two_readings_for_one_place_the_later_one_stays() {
        let (mut file, mut pen) = (life(0), Pen::default());
        for (at, run) in [(0, 1), (1, 1), (2, 1), (1, 2), (2, 2)] {
            pen.note(Reading { run, ..reading(BEGIN + at) });
        }
        for (place, piece) in pen.pieces() {
            file[place as usize..][..piece.len()].copy_from_slice(&piece);
        }
        assert_eq!(read(&file, BEGIN + 2).unwrap().iter().map(|one| one.run).collect::<Vec<_>>(), [1, 2, 2]);
    }

    #[test]
    fn a_file_is_small() {
        assert_eq!(SIZE, 62_416);
    }

    #[test]
    fn three_days_leave_two_by_the_minute_and_five_minutes_by_the_second() {
        let seconds = 3 * 86_400;
        let now = BEGIN + seconds - 1;
        let all = read(&life(seconds), now).unwrap();
        assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert!(all.iter().all(|one| *one == reading(one.at)));
        let within = |age: u32| all.iter().filter(|one| now - one.at < age).count();
        assert_eq!(within(300), 300);
        assert!((700..=1020).contains(&within(7200)), "{}", within(7200));
        let oldest = now - all[0].at;
        assert!((47 * 3600..=48 * 3600).contains(&oldest), "{oldest}");
    }

    #[test]
    fn a_torn_reading_is_left_out() {
        let mut file = life(100);
        let mut pen = Pen::default();
        pen.note(reading(BEGIN + 50));
        let place = pen.pieces()[0].0 as usize;
        file[place + 5] ^= 0xff;
        let all = read(&file, BEGIN + 99).unwrap();
        assert_eq!(all.len(), 99);
        assert!(all.iter().all(|one| one.at != BEGIN + 50));
    }

    #[test]
    fn a_clock_that_steps_back_takes_what_it_called_the_future_with_it() {
        let mut file = life(1000);
        let mut pen = Pen::default();
        let now = BEGIN + 400;
        for at in now - 100..=now {
            write(&mut file, &mut pen, Reading { run: 8, ..reading(at) });
        }
        let all = read(&file, now).unwrap();
        assert!(all.iter().all(|one| one.at <= now));
        assert!(all.iter().filter(|one| one.at >= now - 100).all(|one| one.run == 8));
    }

    #[test]
    fn another_version_and_a_cut_file_are_no_harm() {
        assert_eq!(read(b"stead history 9\nabc", 5), None);
        assert_eq!(read(b"", 5), None);
        let file = life(400);
        for length in [16, 17, 100, 5000, file.len() - 1] {
            assert!(read(&file[..length], BEGIN + 399).unwrap().iter().all(|one| *one == reading(one.at)));
        }
    }
}
