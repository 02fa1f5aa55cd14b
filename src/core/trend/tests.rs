use super::*;

const MIB: f64 = 1_048_576.0;
const HOUR: f64 = 3600.0;

/// SplitMix64: the same series on every machine.
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn from(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    fn normal(&mut self) -> f64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.unit() * choices.len() as f64) as usize]
    }
}

/// What a series is made of; `x` is the share of the span that has passed, 0 to 1, and the answer is in units of the base level.
type Shape = Box<dyn Fn(f64) -> f64>;

struct Kind {
    name: &'static str,
    leak: bool,
    make: fn(&mut Chance) -> Shape,
}

fn saw(periods: f64, height: f64, shift: f64) -> impl Fn(f64) -> f64 {
    move |x| height * ((x * periods + shift) % 1.0)
}

fn wave(periods: f64, height: f64, shift: f64) -> impl Fn(f64) -> f64 {
    move |x| height * (std::f64::consts::TAU * (x * periods + shift)).sin()
}

fn warm(tau: f64, height: f64) -> impl Fn(f64) -> f64 {
    move |x| height * (1.0 - (-x / tau).exp())
}

fn step(at: f64, height: f64) -> impl Fn(f64) -> f64 {
    move |x| if x > at { height } else { 0.0 }
}

/// The shapes that the judge was made with.
const KNOWN: &[Kind] = &[
    Kind { name: "plateau", leak: false, make: |_| Box::new(|_| 0.0) },
    Kind { name: "warm-up", leak: false, make: |c| Box::new(warm(c.from(0.03, 0.33), c.from(0.3, 3.0))) },
    Kind { name: "one step", leak: false, make: |c| Box::new(step(c.from(0.1, 0.9), c.from(0.1, 1.5))) },
    Kind { name: "daily wave", leak: false, make: |c| Box::new(wave(c.from(1.6, 6.0), c.from(0.05, 0.4), c.unit())) },
    Kind { name: "saw", leak: false, make: |c| Box::new(saw(c.from(3.5, 60.0), c.from(0.1, 1.5), c.unit())) },
    Kind {
        name: "falling",
        leak: false,
        make: |c| {
            let fall = c.from(0.1, 0.5);
            Box::new(move |x| -fall * x)
        },
    },
    Kind {
        name: "grew, then flat",
        leak: false,
        make: |c| {
            let (until, growth) = (c.from(0.2, 0.6), c.from(0.15, 2.0));
            Box::new(move |x| growth * x.min(until) / until)
        },
    },
    Kind {
        name: "leak",
        leak: true,
        make: |c| {
            let growth = c.from(0.08, 2.0);
            Box::new(move |x| growth * x)
        },
    },
    Kind {
        name: "leak under a saw",
        leak: true,
        make: |c| {
            let (growth, saw) = (c.from(0.3, 2.0), saw(c.from(5.0, 60.0), c.from(0.1, 0.6), c.unit()));
            Box::new(move |x| growth * x + saw(x))
        },
    },
    Kind {
        name: "leak under a wave",
        leak: true,
        make: |c| {
            let (growth, wave) = (c.from(0.3, 2.0), wave(c.from(3.2, 6.0), c.from(0.03, 0.2), c.unit()));
            Box::new(move |x| growth * x + wave(x))
        },
    },
    Kind {
        name: "leak that begins late",
        leak: true,
        make: |c| {
            let (at, growth) = (c.from(0.3, 0.65), c.from(0.3, 2.0));
            Box::new(move |x| growth * (x - at).max(0.0) / (1.0 - at))
        },
    },
    Kind {
        name: "leak in many steps",
        leak: true,
        make: |c| {
            let (steps, growth) = (c.from(8.0, 40.0).floor(), c.from(0.15, 2.0));
            Box::new(move |x| growth * (x * steps).floor() / steps)
        },
    },
    Kind {
        name: "warm-up, then a leak",
        leak: true,
        make: |c| {
            let (growth, warm) = (c.from(0.3, 2.0), warm(c.from(0.02, 0.08), c.from(0.2, 0.8)));
            Box::new(move |x| growth * x + warm(x))
        },
    },
];

/// Shapes kept aside: nothing was tuned on them.
const ASIDE: &[Kind] = &[
    Kind {
        name: "office hours",
        leak: false,
        make: |c| {
            let (periods, height, shift) = (c.from(2.0, 6.0), c.from(0.1, 0.8), c.unit());
            Box::new(move |x| {
                let hour = (x * periods + shift) % 1.0;
                height * ((hour - 0.33) / 0.05).min((0.75 - hour) / 0.05).clamp(0.0, 1.0)
            })
        },
    },
    Kind {
        name: "warm-up under a saw",
        leak: false,
        make: |c| {
            let (warm, saw) =
                (warm(c.from(0.02, 0.1), c.from(0.3, 2.0)), saw(c.from(8.0, 40.0), c.from(0.1, 0.6), 0.0));
            Box::new(move |x| warm(x) + saw(x))
        },
    },
    Kind {
        name: "a saw within a wave",
        leak: false,
        make: |c| {
            let (wave, saw) =
                (wave(c.from(1.6, 6.0), c.from(0.05, 0.4), c.unit()), saw(c.from(10.0, 40.0), c.from(0.05, 0.3), 0.0));
            Box::new(move |x| wave(x) + saw(x))
        },
    },
    Kind {
        name: "a triangle up and down",
        leak: false,
        make: |c| {
            let (periods, height) = (c.from(2.0, 12.0), c.from(0.1, 1.0));
            Box::new(move |x| height * (1.0 - (2.0 * ((x * periods) % 1.0) - 1.0).abs()))
        },
    },
    Kind {
        name: "two levels",
        leak: false,
        make: |c| {
            let (periods, height) = (c.from(2.0, 15.0), c.from(0.1, 1.0));
            Box::new(move |x| if (x * periods) % 1.0 < 0.5 { 0.0 } else { height })
        },
    },
    Kind {
        name: "growth that quickens",
        leak: true,
        make: |c| {
            let (growth, power) = (c.from(0.15, 2.0), c.from(1.2, 2.0));
            Box::new(move |x: f64| growth * x.powf(power))
        },
    },
    Kind {
        name: "late leak under a saw",
        leak: true,
        make: |c| {
            let (at, growth, saw) =
                (c.from(0.3, 0.6), c.from(0.4, 1.5), saw(c.from(10.0, 40.0), c.from(0.05, 0.3), 0.0));
            Box::new(move |x| growth * (x - at).max(0.0) / (1.0 - at) + saw(x))
        },
    },
    Kind {
        name: "leak within office hours",
        leak: true,
        make: |c| {
            let (growth, periods) = (c.from(0.4, 1.5), c.from(6.0, 14.0));
            // It grows for half of each day.
            Box::new(move |x| {
                let (day, hour) = ((x * periods).floor(), (x * periods) % 1.0);
                growth * (day + (hour * 2.0).min(1.0)) / periods
            })
        },
    },
];

/// Readings at a chance interval, over an hour to three days, with noise, and some with a gap.
fn series(kind: &Kind, chance: &mut Chance) -> Vec<Reading> {
    let span = chance.one_of(&[1.0, 3.0, 6.0, 24.0, 72.0]) * HOUR;
    let count = chance.one_of(&[60, 120, 360, 1000, 3000]);
    let (base, noise) = (chance.from(30.0, 400.0) * MIB, chance.from(0.001, 0.02));
    let (shape, style) = ((kind.make)(chance), chance.one_of(&[0, 1, 2]));
    let gap = chance.from(0.2, 0.7);
    let gap = gap..gap + chance.from(0.03, 0.15);
    let mut readings = Vec::new();
    for index in 0..count {
        let wobble = if style == 1 { chance.unit() } else { 0.0 };
        let x = (f64::from(index) + wobble) / f64::from(count);
        if style == 2 && gap.contains(&x) {
            continue;
        }
        let bytes = base * (1.0 + shape(x) + noise * chance.normal());
        readings.push(Reading { seconds: x * span, bytes: bytes.max(0.0) });
    }
    readings
}

/// Precision and recall, and who was judged wrongly how often.
fn score(kinds: &[Kind], seed: u64) -> (f64, f64, String) {
    let mut chance = Chance(seed);
    let (mut right, mut missed, mut false_alarms) = (0.0, 0.0, 0.0);
    let mut wrong = String::new();
    for kind in kinds {
        let mut misjudged = 0;
        for _ in 0..40 {
            match (kind.leak, judge(&series(kind, &mut chance), None).leak) {
                (true, true) => right += 1.0,
                (false, false) => {}
                (true, false) => (missed, misjudged) = (missed + 1.0, misjudged + 1),
                (false, true) => (false_alarms, misjudged) = (false_alarms + 1.0, misjudged + 1),
            }
        }
        wrong.push_str(&format!("{}: {misjudged} of 40\n", kind.name));
    }
    (right / (right + false_alarms), right / (right + missed), wrong)
}

#[test]
fn leaks_are_told_from_what_only_looks_like_them() {
    for (kinds, seed) in [(KNOWN, 1), (KNOWN, 2), (ASIDE, 3), (ASIDE, 4)] {
        let (precision, recall, wrong) = score(kinds, seed);
        println!("precision {precision:.3}, recall {recall:.3}\n{wrong}");
        assert!(precision >= 0.95 && recall >= 0.90, "precision {precision:.3}, recall {recall:.3}\n{wrong}");
    }
}

fn line(count: u32, every: f64, base: f64, per_hour: f64) -> Vec<Reading> {
    let reading = |n: u32| {
        let seconds = f64::from(n) * every;
        // Two hundredths of noise, drawn by hand.
        let noise = base * 0.01 * (f64::from(n * 7919 % 101) / 50.0 - 1.0);
        Reading { seconds, bytes: base + per_hour * seconds / HOUR + noise }
    };
    (0..count).map(reading).collect()
}

#[test]
fn the_rate_and_the_time_until_the_cap_are_told() {
    // 100 MiB and 12 MiB an hour for six hours: at 172 MiB, 128 MiB below the cap.
    let trend = judge(&line(2160, 10.0, 100.0 * MIB, 12.0 * MIB), Some((300.0 * MIB) as u64));
    assert_eq!((trend.leak, trend.reason), (true, Reason::Grows));
    assert!((trend.bytes_per_hour / MIB - 12.0).abs() < 0.6, "{trend:?}");
    let hours = trend.eta_seconds.unwrap() / HOUR;
    assert!((10.0..11.2).contains(&hours), "{hours}");
    assert!((trend.since_seconds.unwrap() / HOUR - 6.0).abs() < 0.2);
}

#[test]
fn a_leak_is_found_once_it_stands_out_of_the_noise() {
    // 10 % an hour in 1 % of noise, read every 10 s.
    let all = line(1080, 10.0, 200.0 * MIB, 20.0 * MIB);
    let found = (20..all.len()).find(|count| judge(&all[..*count], None).leak).unwrap();
    let minutes = all[found].seconds / 60.0;
    println!("found after {minutes:.0} minutes");
    assert!(minutes < 40.0, "{minutes}");
}

#[test]
fn a_young_run_is_judged_by_those_before_it() {
    let leaking = line(2160, 10.0, 100.0 * MIB, 12.0 * MIB);
    let young = line(5, 10.0, 100.0 * MIB, 0.0);
    let trend = judge_runs(&[leaking.clone(), leaking.clone()], &young, Some((300.0 * MIB) as u64));
    assert_eq!((trend.leak, trend.reason), (true, Reason::AsBefore));
    assert!(trend.eta_seconds.is_some());
    let flat = line(2160, 10.0, 100.0 * MIB, 0.0);
    assert!(!judge_runs(&[leaking.clone(), flat.clone()], &young, None).leak);
    assert!(!judge_runs(&[leaking.clone(), leaking], &flat, None).leak);
}

#[test]
fn nothing_and_nonsense_are_judged_too() {
    assert_eq!(judge(&[], None).reason, Reason::TooShort);
    let same = vec![Reading { seconds: 5.0, bytes: 1.0 }; 500];
    assert!(!judge(&same, Some(0)).leak);
    let wild: Vec<Reading> = [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX]
        .iter()
        .flat_map(|a| [0.0, f64::NAN, f64::MAX, -5.0].iter().map(move |b| Reading { seconds: *a, bytes: *b }))
        .cycle()
        .take(300)
        .collect();
    let _ = judge(&wild, Some(u64::MAX));
    let mut backwards = line(400, 10.0, MIB, 10.0 * MIB);
    backwards.reverse();
    assert!(judge(&backwards, None).leak);
}
