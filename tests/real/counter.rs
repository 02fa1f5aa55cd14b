//! Apps that print numbered lines, so that a line that is lost, doubled or out of order is seen.

use crate::harness::Stead;

/// Prints numbered lines until SIGINT, then says how many they were.
pub const COUNTER: &str = "
from kit import *
done = []
signal.signal(signal.SIGINT, lambda *_: done.append(1))
n = 0
while not done:
    n += 1
    print(n, NAME)
    time.sleep(0.004)
note(f'{n}')
";

/// A counter that was stopped has all its lines in the log, each once.
pub fn assert_all_lines(stead: &Stead, name: &str) {
    let last: usize =
        stead.diary(name).last().unwrap_or_else(|| panic!("{name} did not end by itself")).parse().unwrap();
    let expected: String = (1..=last).map(|n| format!("{n} {name}\n")).collect();
    let log = stead.log(name, "out");
    if log != expected {
        let at = log.lines().zip(expected.lines()).position(|(one, other)| one != other);
        panic!("{name}: {} lines of {last}, the first wrong one is number {at:?}", log.lines().count());
    }
}

/// A file of so many counters, `counter-0` and on; others may be added to it.
pub fn counters(stead: &Stead, count: usize) -> String {
    stead.kit();
    stead.file("counter.py", COUNTER);
    let apps = (0..count).map(|n| format!("  - {{name: counter-{n}, script: ./counter.py, kill_timeout: 20s}}\n"));
    format!("apps:\n{}", apps.collect::<String>())
}
