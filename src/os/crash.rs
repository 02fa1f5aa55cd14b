//! Places at which a daemon can be made to die by SIGKILL, so that a test can prove what its death costs at each of them.
//!
//! Only builds with debug assertions have them: `cargo test` runs such a build anyway, and a release build holds nothing of it. What
//! is to happen stands in a file of the home and not in the environment, where apps would inherit it, and where it could not end.

/// Passes a place, `before`, `amid` or `after` something: here a daemon dies whose plan says so.
#[inline]
pub fn point(side: &str, what: &str) {
    #[cfg(debug_assertions)]
    armed::pass(side, what);
    #[cfg(not(debug_assertions))]
    let _ = (side, what);
}

#[cfg(debug_assertions)]
pub use armed::{DEATHS, PLAN, POINTS, arm};

#[cfg(debug_assertions)]
mod armed {
    use crate::os::{clock, process};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// In the home: a line for each daemon in turn, `SIDE WHAT NTH FROM WITHIN`, perhaps with ` hangs` behind it. It dies, or hangs, when it passes the place for the NTH time,
    /// but not before it has served for FROM milliseconds; where it did not come there WITHIN as many, at the next place, whichever
    /// that is. A daemon without a line lives on.
    pub const PLAN: &str = "crash-plan";

    /// In the home: `SIDE WHAT PID` of each that died so.
    pub const DEATHS: &str = "crash-deaths";

    /// All places that any fleet passes. On a disk that was full there is `amid landing`, too: a record that waited is written.
    pub const POINTS: &[(&str, &str)] = &[
        ("after", "greeting"),
        ("after", "recover"),
        ("after", "take-over"),
        ("before", "spawn"),
        ("amid", "spawn"),
        ("after", "spawn"),
        ("before", "told"),
        ("before", "note"),
        ("after", "note"),
        ("after", "signal"),
        ("before", "finish"),
        ("after", "finish"),
        ("before", "drained"),
        ("before", "journal"),
        ("after", "journal"),
        ("amid", "turn"),
        ("amid", "turning"),
        ("after", "turn"),
        ("after", "forget"),
        ("before", "persist"),
        ("amid", "replace"),
        ("after", "replace"),
        ("after", "persist"),
        ("before", "asked"),
        ("before", "reply"),
        ("after", "reply"),
        ("before", "splice"),
        ("after", "splice"),
        ("before", "write"),
        ("after", "write"),
        ("amid", "rotate"),
        ("amid", "rename"),
        ("after", "rotate"),
        ("before", "due"),
    ];

    struct Plan {
        point: (String, String),
        left: AtomicU32,
        from: Duration,
        within: Duration,
        end: Signal,
        deaths: PathBuf,
    }

    static OWN: OnceLock<Plan> = OnceLock::new();

    /// When it began to serve.
    static SERVED: OnceLock<Duration> = OnceLock::new();

    /// Reads what is planned for this process. Without it, and in every other role, no place is a danger.
    pub fn arm(home: &Path) {
        let Ok(plan) = std::fs::read_to_string(home.join(PLAN)) else { return };
        let deaths = home.join(DEATHS);
        let turn = std::fs::read_to_string(&deaths).map_or(0, |text| text.lines().count());
        let Some(plan) = plan.lines().nth(turn).and_then(|line| read(line, deaths)) else { return };
        let _ = OWN.set(plan);
    }

    fn read(line: &str, deaths: PathBuf) -> Option<Plan> {
        let mut words = line.split(' ');
        let point = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut number = || words.next()?.parse::<u32>().ok();
        let (nth, from, within) = (number()?, number()?, number()?);
        let [from, within] = [from, within].map(|ms| Duration::from_millis(ms.into()));
        let end = if words.next() == Some("hangs") { Signal::SIGSTOP } else { Signal::SIGKILL };
        Some(Plan { point, left: AtomicU32::new(nth), from, within, end, deaths })
    }

    pub fn pass(side: &str, what: &str) {
        let Some(plan) = OWN.get() else { return };
        let now = clock::precise();
        if (side, what) == ("after", "take-over") {
            let _ = SERVED.set(now);
        }
        let served = SERVED.get().map(|since| now.saturating_sub(*since));
        let is_late = served.is_some_and(|served| served >= plan.from + plan.within);
        let is_armed = plan.from.is_zero() || served.is_some_and(|served| served >= plan.from);
        let is_meant = is_armed && (side, what) == (plan.point.0.as_str(), plan.point.1.as_str());
        if is_late || (is_meant && plan.left.fetch_sub(1, Ordering::Relaxed) == 1) {
            let deaths = OpenOptions::new().append(true).create(true).open(&plan.deaths);
            let line = format!("{side} {what} {}\n", process::pid());
            let _ = deaths.and_then(|mut file| file.write_all(line.as_bytes()));
            let _ = kill(Pid::this(), plan.end);
        }
    }
}
