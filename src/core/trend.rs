//! A leak or not: the verdict on a series of memory readings.
//!
//! Memory of a healthy app is not flat: collectors of garbage draw a saw, a cache warms up and levels off, a day has its wave, a
//! deployment makes one step. A leak is growth that goes on now, that no such shape explains, and that is large against the noise.
//! Rates are Theil–Sen slopes (Sen 1968: the median of the slopes of all pairs), which a third of wild points do not move.

/// A reading: seconds since any zero, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub seconds: f64,
    pub bytes: f64,
}

/// What a series shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    pub leak: bool,
    /// The rate of growth where it is a leak, else the rate over all.
    pub bytes_per_hour: f64,
    /// From the last reading until the cap. `None`: no cap, no leak, or above the cap already.
    pub eta_seconds: Option<f64>,
    /// How long it has been growing, up to the last reading.
    pub since_seconds: Option<f64>,
    pub reason: Reason,
}

/// Why it is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too few readings to tell.
    TooShort,
    /// No growth, or not more than the noise.
    Flat,
    /// It falls.
    Falling,
    /// It grew and grows no more.
    LevelsOff,
    /// It grew in one step, or a few.
    Step,
    /// It goes up and down and comes back.
    Wave,
    /// It grows, smoothly.
    Grows,
    /// It goes up and down, and does not come back all the way.
    FloorRises,
    /// Too young to tell, and the runs before it grew.
    AsBefore,
}

impl Reason {
    /// A sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::TooShort => "too few readings to tell",
            Reason::Flat => "no growth beyond the noise",
            Reason::Falling => "it falls",
            Reason::LevelsOff => "it grew and levels off",
            Reason::Step => "it grew in steps, not steadily",
            Reason::Wave => "it goes up and down and comes back",
            Reason::Grows => "it grows steadily",
            Reason::FloorRises => "it goes up and down, and each low is higher than the one before",
            Reason::AsBefore => "too young to tell, and the runs before it grew steadily",
        }
    }
}

/// Fewer readings tell nothing.
const FEWEST: usize = 20;
/// More points than this add time and no knowledge.
const BUCKETS: usize = 180;
/// Growth below this share of the level is nobody's leak yet.
const LEAST_SHARE: f64 = 0.02;

/// Judges a series, in any order, with gaps. `cap` is in bytes.
#[must_use]
pub fn judge(readings: &[Reading], cap: Option<u64>) -> Trend {
    let (points, noise) = bucketed(readings);
    let none = |reason, rate| Trend {
        leak: false,
        bytes_per_hour: rate * 3600.0,
        eta_seconds: None,
        since_seconds: None,
        reason,
    };
    if readings.len() < FEWEST || points.len() < FEWEST {
        return none(Reason::TooShort, 0.0);
    }
    let whole = look(&points, noise);
    let mut found = whole.leak.then_some((0, whole));
    if found.is_none() {
        // A leak may have begun late: what is higher now than all before is looked at by itself.
        for share in [0.15, 0.3, 0.45, 0.6, 0.7, 0.8] {
            let from = points.partition_point(|p| p.t < points[0].t + share * span(&points));
            if points.len() - from < FEWEST {
                break;
            }
            let (before, late) = points.split_at(from);
            // After a warm-up what goes on must be as steady as any; later on only what is faster than before is a beginning.
            let begins = share < 0.4 || slope(late) > 1.3 * slope(before);
            if begins && is_news(before, late, noise) {
                let seen = look(late, noise);
                if seen.leak {
                    found = Some((from, seen));
                    break;
                }
            }
        }
    }
    let Some((from, seen)) = found else { return none(whole.reason, whole.rate) };
    let room = cap.map(|cap| cap as f64 - top_now(&points[from..], seen.rate));
    Trend {
        leak: true,
        bytes_per_hour: seen.rate * 3600.0,
        eta_seconds: room.filter(|room| *room > 0.0).map(|room| room / seen.rate),
        since_seconds: Some(span(&points[from..])),
        reason: seen.reason,
    }
}

/// Judges the run that lives, with those before it for comparison: one too young to tell is called a leak where the last two before
/// it were.
#[must_use]
pub fn judge_runs(earlier: &[Vec<Reading>], current: &[Reading], cap: Option<u64>) -> Trend {
    let own = judge(current, cap);
    if own.reason != Reason::TooShort {
        return own;
    }
    let before: Vec<Trend> = earlier.iter().rev().take(2).map(|run| judge(run, None)).collect();
    if before.len() < 2 || before.iter().any(|trend| !trend.leak) {
        return own;
    }
    let rate = median(before.iter().map(|trend| trend.bytes_per_hour).collect()) / 3600.0;
    let now = current.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)).map(|one| one.bytes);
    let room = cap.zip(now).map(|(cap, now)| cap as f64 - now).filter(|room| *room > 0.0);
    Trend {
        leak: true,
        bytes_per_hour: rate * 3600.0,
        eta_seconds: room.map(|room| room / rate),
        since_seconds: None,
        reason: Reason::AsBefore,
    }
}

#[derive(Clone, Copy, Debug)]
struct Point {
    t: f64,
    v: f64,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    leak: bool,
    /// Bytes a second.
    rate: f64,
    reason: Reason,
}

/// The median of each of up to `BUCKETS` slices of time.
fn bucketed(readings: &[Reading]) -> (Vec<Point>, f64) {
    let mut sorted: Vec<Point> = readings
        .iter()
        .filter(|one| one.seconds.is_finite() && one.bytes.is_finite())
        .map(|one| Point { t: one.seconds, v: one.bytes })
        .collect();
    sorted.sort_by(|a, b| a.t.total_cmp(&b.t));
    if sorted.len() <= BUCKETS {
        return (without_spikes(&sorted), noise(&sorted));
    }
    let (first, span) = (sorted[0].t, span(&sorted));
    if span <= 0.0 {
        return (Vec::new(), 0.0);
    }
    let slice = |p: &Point| (((p.t - first) / span * BUCKETS as f64) as usize).min(BUCKETS - 1);
    let buckets: Vec<Point> = sorted
        .chunk_by(|a, b| slice(a) == slice(b))
        .map(|chunk| Point {
            t: chunk.iter().map(|p| p.t).sum::<f64>() / chunk.len() as f64,
            v: median(chunk.iter().map(|p| p.v).collect()),
        })
        .collect();
    (without_spikes(&buckets), noise(&buckets))
}

/// The median of three neighbours: one wild reading is no growth.
fn without_spikes(points: &[Point]) -> Vec<Point> {
    let value = |at: usize| {
        let around = [at.saturating_sub(1), at, (at + 1).min(points.len() - 1)];
        median(around.map(|i| points[i].v).to_vec())
    };
    points.iter().enumerate().map(|(at, p)| Point { t: p.t, v: value(at) }).collect()
}

fn span(points: &[Point]) -> f64 {
    points.last().map_or(0.0, |last| last.t - points[0].t)
}

/// Looks at one stretch of time.
fn look(points: &[Point], noise: f64) -> Look {
    let rate = slope(points);
    let growth = rate * span(points);
    let no = |reason| Look { leak: false, rate, reason };
    let level = median(points.iter().map(|p| p.v).collect()).max(1.0);
    // Turns larger than noise: a saw or a wave. Its lows tell.
    let rest: Vec<Point> = points.iter().map(|p| Point { v: p.v - rate * p.t, ..*p }).collect();
    let turns = turns(&rest, (4.5 * noise).max(0.3 * range(&rest))).raised(rate);
    if turns.lows.len() + turns.highs.len() >= 3 && turns.lows.len() >= 2 {
        return look_at_lows(points, &turns, level, noise);
    }
    if growth < 0.0 && -growth > 2.5 * noise {
        return no(Reason::Falling);
    }
    if growth < LEAST_SHARE * level || growth < 2.5 * noise {
        return no(Reason::Flat);
    }
    steady(points, rate, noise, no)
}

/// Is a growth that has no turns steady?
fn steady(points: &[Point], rate: f64, noise: f64, no: impl Fn(Reason) -> Look) -> Look {
    let growth = rate * span(points);
    let thirds: Vec<(f64, f64)> = thirds(points).into_iter().map(slope_with_error).collect();
    let [(first, first_error), (_, _), (last, last_error)] = thirds[..] else { return no(Reason::TooShort) };
    if in_few_steps(points, growth, noise) {
        return no(Reason::Step);
    }
    if last < 2.0 * last_error || last < 0.35 * rate {
        return no(Reason::LevelsOff);
    }
    let difference = (first_error * first_error + last_error * last_error).sqrt();
    if last < 0.6 * first && first - last > 2.0 * difference {
        return no(Reason::LevelsOff);
    }
    Look { leak: true, rate, reason: Reason::Grows }
}

fn look_at_lows(points: &[Point], turns: &Turns, level: f64, noise: f64) -> Look {
    let all = slope(points);
    let no = |reason| Look { leak: false, rate: all, reason };
    if turns.lows.len() < 3 {
        return no(Reason::Wave);
    }
    let rate = slope(&turns.lows);
    let stretch = span(&turns.lows);
    let growth = rate * stretch;
    let scatter = mad(turns.lows.iter().map(|p| p.v - rate * p.t).collect());
    let rising = turns.lows.windows(2).filter(|pair| pair[1].v > pair[0].v).count() as f64;
    let pairs = (turns.lows.len() - 1) as f64;
    // Many lows speak for each other.
    let many = turns.lows.len() >= 8;
    if growth < LEAST_SHARE * level
        || growth < if many { 1.5 } else { 3.0 } * scatter
        || (!many && rising < 0.7 * pairs)
    {
        return no(Reason::Wave);
    }
    if stretch < 0.4 * span(points) {
        return no(Reason::Wave);
    }
    if turns.highs.len() >= 3 && slope(&turns.highs) < 0.3 * rate {
        return no(Reason::Wave);
    }
    if turns.lows.len() < 6 && turns.leap() && in_few_steps(points, growth, noise) {
        return no(Reason::Step);
    }
    if turns.lows.len() >= 3 {
        let half = turns.lows.len() / 2;
        let (early, late) = (&turns.lows[..=half], &turns.lows[half..]);
        let (before, after) = (slope(early), slope(late));
        if after < 0.4 * before || after < 0.3 * rate {
            return no(Reason::LevelsOff);
        }
        let mut steps: Vec<f64> = turns.lows.windows(2).map(|pair| pair[1].v - pair[0].v).collect();
        steps.sort_by(|a, b| b.total_cmp(a));
        let few: f64 = steps.iter().take(if steps.len() < 9 { 1 } else { 3 }).sum();
        if turns.lows.len() >= 6 && few > 0.7 * growth.max(turns.lows[turns.lows.len() - 1].v - turns.lows[0].v) {
            return no(Reason::Step);
        }
    }
    Look { leak: true, rate, reason: Reason::FloorRises }
}

/// Is the end of `late` higher than all of `before`?
fn is_news(before: &[Point], late: &[Point], noise: f64) -> bool {
    if before.len() < 5 {
        return true;
    }
    let tail = &late[late.len() - (late.len() / 5).max(3)..];
    let floor = tail.iter().map(|p| p.v).fold(f64::INFINITY, f64::min);
    let mut values: Vec<f64> = before.iter().map(|p| p.v).collect();
    values.sort_by(f64::total_cmp);
    let top = values[(values.len() - 1) * 98 / 100];
    floor > top + 2.0 * noise
}

/// Theil–Sen.
fn slope(points: &[Point]) -> f64 {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            if b.t > a.t {
                slopes.push((b.v - a.v) / (b.t - a.t));
            }
        }
    }
    if slopes.is_empty() { 0.0 } else { median(slopes) }
}

/// The slope and its standard error, for noise whose neighbours are alike.
fn slope_with_error(points: &[Point]) -> (f64, f64) {
    let rate = slope(points);
    let rest: Vec<f64> = points.iter().map(|p| p.v - rate * p.t).collect();
    let middle = median(rest.clone());
    let rest: Vec<f64> = rest.into_iter().map(|v| v - middle).collect();
    let variance = rest.iter().map(|v| v * v).sum::<f64>() / rest.len() as f64;
    let alike = rest.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / rest.len() as f64;
    let rho = if variance > 0.0 { (alike / variance).clamp(0.0, 0.9) } else { 0.0 };
    let mean = points.iter().map(|p| p.t).sum::<f64>() / points.len() as f64;
    let spread = points.iter().map(|p| (p.t - mean) * (p.t - mean)).sum::<f64>();
    let error = if spread > 0.0 { (variance * (1.0 + rho) / (1.0 - rho) / spread).sqrt() } else { 0.0 };
    (rate, error)
}

/// Of one reading: what bends between three neighbours, which no slope and no slow wave does.
fn noise(points: &[Point]) -> f64 {
    let bends: Vec<f64> = points.windows(3).map(|three| three[2].v - 2.0 * three[1].v + three[0].v).collect();
    mad(bends) / 6f64.sqrt()
}

fn range(points: &[Point]) -> f64 {
    let (low, high) =
        points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p.v), high.max(p.v)));
    high - low
}

struct Turns {
    lows: Vec<Point>,
    highs: Vec<Point>,
}

impl Turns {
    /// Does it go up much faster than down? So do stairs; a saw does the contrary.
    fn leap(&self) -> bool {
        let way = |from: &[Point], to: &[Point]| {
            let ways = from.iter().filter_map(|a| to.iter().find(|b| b.t > a.t).map(|b| b.t - a.t));
            median(ways.collect())
        };
        way(&self.lows, &self.highs) < 0.35 * way(&self.highs, &self.lows)
    }

    /// As they were before a slope was taken from the points.
    fn raised(mut self, rate: f64) -> Turns {
        for p in self.lows.iter_mut().chain(&mut self.highs) {
            p.v += rate * p.t;
        }
        self
    }
}

/// Where it turns by more than `least`: the low or the high before.
fn turns(points: &[Point], least: f64) -> Turns {
    let mut found = Turns { lows: Vec::new(), highs: Vec::new() };
    let (mut low, mut high) = (points[0], points[0]);
    let mut up: Option<bool> = None;
    for &p in points {
        match up {
            None => {
                if p.v < low.v {
                    low = p;
                }
                if p.v > high.v {
                    high = p;
                }
                if p.v - low.v > least && low.t < p.t {
                    up = Some(true);
                    high = p;
                    // The beginning is a low only where it was fallen to.
                    if low.t > points[0].t && points[0].v - low.v > least {
                        found.lows.push(low);
                    }
                } else if high.v - p.v > least {
                    up = Some(false);
                    found.highs.push(high);
                    low = p;
                }
            }
            Some(true) => {
                if p.v > high.v {
                    high = p;
                }
                if high.v - p.v > least {
                    found.highs.push(high);
                    low = p;
                    up = Some(false);
                }
            }
            Some(false) => {
                if p.v < low.v {
                    low = p;
                }
                if p.v - low.v > least {
                    found.lows.push(low);
                    high = p;
                    up = Some(true);
                }
            }
        }
    }
    found
}

fn thirds(points: &[Point]) -> [&[Point]; 3] {
    let (first, span) = (points[0].t, span(points));
    let one = points.partition_point(|p| p.t < first + span / 3.0).max(2);
    let two = points.partition_point(|p| p.t < first + span * 2.0 / 3.0).clamp(one, points.len() - 2);
    [&points[..one], &points[one..two], &points[two..]]
}

/// Do a few jumps carry most of the growth?
fn in_few_steps(points: &[Point], growth: f64, noise: f64) -> bool {
    const BESIDE: usize = 4;
    let middle = |part: &[Point]| median(part.iter().map(|p| p.v).collect());
    let mut rises: Vec<f64> =
        points.windows(2 * BESIDE).map(|few| middle(&few[BESIDE..]) - middle(&few[..BESIDE])).collect();
    let mut jumps = 0.0;
    for _ in 0..4 {
        let Some((at, rise)) = rises.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        jumps += (rise - 2.5 * noise).max(0.0);
        // One jump is seen from several places.
        let end = (at + BESIDE + 1).min(rises.len());
        rises[at.saturating_sub(BESIDE)..end].fill(0.0);
    }
    jumps > 0.6 * growth
}

/// What the highest of it reach at the last reading: the cap is hit by those.
fn top_now(points: &[Point], rate: f64) -> f64 {
    let end = points[points.len() - 1].t;
    let mut levels: Vec<f64> = points.iter().map(|p| p.v + rate * (end - p.t)).collect();
    levels.sort_by(f64::total_cmp);
    levels[(levels.len() - 1) * 19 / 20]
}

fn mad(values: Vec<f64>) -> f64 {
    let middle = median(values.clone());
    1.4826 * median(values.into_iter().map(|v| (v - middle).abs()).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let half = values.len() / 2;
    let (_, middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    *middle
}

#[cfg(test)]
mod tests;
