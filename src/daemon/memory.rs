//! The memory of live trees: when each is looked at, what was seen, and who is above its cap.
//!
//! Where the kernel counts a run's group, a look costs one short read, and v1 also calls when the cap is crossed. Where it does not,
//! the tree's proportional share (PSS) is summed up, which is dear and so done seldom.

use crate::core::clock::{Millis, Mono};
use crate::core::name::RunId;
use crate::core::record::{BigProcess, Crossing};
use crate::core::view::Enforcement;
use crate::os::cgroup::Gauge;
use crate::os::cgroup::leaf::{Leaf, Limits, OomKills};
use crate::os::wait::Waiter;
use crate::os::{clock, process};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Growth is told over this time.
const HISTORY: Millis = Millis(60_000);

/// Usage that moves by less than this between two looks stands still.
const STILL: u64 = 64 << 10;

/// Looks without movement after which a tree is looked at less often.
const QUIET: u32 = 10;

/// The cache is read anew when usage has moved by this: the whole of memory.stat costs some 50 µs.
const STALE: u64 = 1 << 20;

/// Kills are looked for wherever the usage moved, and else this often: between two looks a child may have taken all there is, been
/// killed, and left next to no trace in the usage.
const KILLS_EVERY: Millis = Millis(5_000);

/// After a kill was told, further ones in the same tree are gathered for this long: a worker that dies at the wall again and again
/// must not fill the journal.
const KILLS_AGAIN: Millis = Millis(30_000);

/// Processes that are named when a cap is crossed.
const BIGGEST: usize = 5;

/// Looks fall on multiples of these, the more apart the coarser, so that many trees share one waking; those a second apart share that of
/// the history.
const GRID: [u64; 5] = [20, 100, 200, 500, 1000];

/// The least between two looks.
const SOONEST: u64 = GRID[0];

/// What a look found.
#[derive(Debug)]
pub enum Found {
    OverCap(RunId, Box<Crossing>),
    OomKill(RunId),
    /// Somebody has removed the group of a live run; from now on it is polled.
    GroupGone(RunId),
}

/// All live runs.
#[derive(Debug)]
pub struct Memory {
    runs: BTreeMap<RunId, Tree>,
    /// Of v1: readable when a cap is crossed.
    alarm: Waiter,
}

#[derive(Debug)]
struct Tree {
    leaf: Option<Leaf>,
    /// Of the leaf, from the first look on.
    gauge: Option<Gauge>,
    cap: Option<u64>,
    wall: Option<u64>,
    look_at: Option<Mono>,
    last: Option<(Mono, u64)>,
    /// Usage at which the cache was read, and the cache.
    cache: (u64, u64),
    looks: VecDeque<(Mono, u64)>,
    quiet: u32,
    kills: u64,
    kills_looked_at: Mono,
    /// When a kill may be told next.
    tell_kills_at: Mono,
    alarm: Option<OwnedFd>,
    crossed: bool,
}

impl Memory {
    /// # Errors
    /// Of epoll_create1(2).
    pub fn new() -> io::Result<Memory> {
        Ok(Memory { runs: BTreeMap::new(), alarm: Waiter::new()? })
    }

    /// Becomes readable when a cap is crossed; then [`Memory::look`].
    ///
    /// # Errors
    /// Of dup(2).
    pub fn alarm(&self) -> io::Result<OwnedFd> {
        self.alarm.descriptor()
    }

    pub fn insert(&mut self, run: RunId, leaf: Option<Leaf>, cap: Option<u64>, wall: Option<u64>, now: Mono) {
        let mut tree = Tree {
            leaf: leaf.filter(Leaf::counts_memory),
            gauge: None,
            cap: None,
            wall: None,
            look_at: None,
            last: None,
            cache: (0, 0),
            looks: VecDeque::new(),
            quiet: 0,
            kills: 0,
            kills_looked_at: now,
            tell_kills_at: now,
            alarm: None,
            crossed: false,
        };
        tree.limit(run, cap, wall, now, &self.alarm);
        self.runs.insert(run, tree);
    }

    /// Other limits for a live run. The kernel's wall is moved only above what is in use: below it v2 would kill at once.
    pub fn limit(&mut self, run: RunId, cap: Option<u64>, limits: &Limits, now: Mono) {
        let Some(tree) = self.runs.get_mut(&run) else { return };
        if (tree.cap, tree.wall) == (cap, limits.wall) {
            return;
        }
        let fits = |leaf: &&Leaf| limits.wall.is_none_or(|wall| leaf.usage().is_some_and(|usage| usage < wall));
        if let Some(leaf) = tree.leaf.as_ref().filter(fits)
            && let Err(error) = leaf.set_wall(limits)
        {
            tracing::warn!(%error, "a hard limit could not be moved");
        }
        tree.limit(run, cap, limits.wall, now, &self.alarm);
    }

    pub fn remove(&mut self, run: RunId) {
        if let Some(alarm) = self.runs.remove(&run).and_then(|tree| tree.alarm) {
            self.alarm.remove(alarm.as_fd());
        }
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.runs.values().filter_map(|tree| tree.look_at).min()
    }

    /// Looks at every tree whose time has come. `members`: the processes of a run.
    pub fn look(&mut self, members: &dyn Fn(RunId) -> Vec<i32>) -> Vec<Found> {
        let now = clock::now();
        let called: Vec<u64> = self.alarm.wait(Some(Duration::ZERO));
        let mut found = Vec::new();
        for (run, tree) in &mut self.runs {
            if tree.alarm.is_some() && called.contains(&run.0) {
                tree.answer_alarm();
                tree.look_at = Some(now.mono);
            }
            if tree.look_at.is_some_and(|at| at <= now.mono) {
                tree.look(*run, now.mono, now.wall, members, &mut found);
            }
        }
        found
    }

    /// What a run uses now, and who keeps it below its cap.
    #[must_use]
    pub fn of(&self, run: RunId) -> Option<u64> {
        self.runs.get(&run)?.leaf.as_ref()?.working_set()
    }

    /// The same at the price of one short read, or of none where it was looked at since `now`; `None` where no group counts it.
    pub fn reading(&mut self, run: RunId, now: Mono) -> Option<u64> {
        let tree = self.runs.get_mut(&run)?;
        match tree.last.filter(|(at, _)| *at >= now && tree.leaf.is_some()) {
            Some((_, bytes)) => Some(bytes),
            None => tree.counted(),
        }
    }

    #[must_use]
    pub fn last(&self, run: RunId) -> Option<u64> {
        self.runs.get(&run)?.last.map(|(_, bytes)| bytes)
    }

    #[must_use]
    pub fn peak(&self, run: RunId) -> Option<u64> {
        self.runs.get(&run)?.leaf.as_ref()?.peak()
    }

    #[must_use]
    pub fn oom_kills(&self, run: RunId) -> OomKills {
        self.runs.get(&run).and_then(|tree| tree.leaf.as_ref()?.oom_kills()).unwrap_or_default()
    }
}

impl Tree {
    fn limit(&mut self, run: RunId, cap: Option<u64>, wall: Option<u64>, now: Mono, alarms: &Waiter) {
        if let Some(alarm) = self.alarm.take() {
            alarms.remove(alarm.as_fd());
        }
        (self.cap, self.wall, self.crossed) = (cap, wall, false);
        self.look_at = cap.or(wall).map(|_| now + Millis(SOONEST));
        let alarm = self.leaf.as_ref().zip(cap).map(|(leaf, cap)| leaf.usage_event(cap));
        match alarm {
            Some(Ok(Some(alarm))) => match alarms.add(alarm.as_fd(), run.0) {
                Ok(()) => self.alarm = Some(alarm),
                Err(error) => tracing::warn!(%error, "a cap's alarm cannot be waited for"),
            },
            Some(Err(error)) => tracing::warn!(%error, "a cap has no alarm; it is looked at in time"),
            Some(Ok(None)) | None => {}
        }
    }

    fn answer_alarm(&self) {
        if let Some(alarm) = &self.alarm {
            crate::os::wait::take(alarm.as_fd());
        }
    }

    fn look(
        &mut self,
        run: RunId,
        now: Mono,
        wall: crate::core::clock::Wall,
        members: &dyn Fn(RunId) -> Vec<i32>,
        found: &mut Vec<Found>,
    ) {
        let Some(bytes) = self.measure(run, members) else {
            // Without a group the tree is empty: its end is on its way.
            self.look_at = Some(now + if self.leaf.is_some() { Millis(SOONEST) } else { Millis(1000) });
            self.gauge = None;
            if self.leaf.take().is_some() {
                found.push(Found::GroupGone(run));
            }
            return;
        };
        let (then, before) = self.last.unwrap_or((now, bytes));
        let grew = bytes.saturating_sub(before);
        let rate = grew.saturating_mul(1000).checked_div((now - then).0).unwrap_or(0);
        self.quiet = if bytes.abs_diff(before) < STILL { self.quiet.saturating_add(1) } else { 0 };
        self.last = Some((now, bytes));
        if self.looks.back().is_none_or(|(at, _)| now - *at >= Millis(1000)) {
            self.looks.push_back((now, bytes));
        }
        while self.looks.front().is_some_and(|(at, _)| now - *at > HISTORY) {
            self.looks.pop_front();
        }
        let moved = bytes.abs_diff(before) >= STILL || now - self.kills_looked_at >= KILLS_EVERY;
        if self.wall.is_some()
            && moved
            && now >= self.tell_kills_at
            && let Some(kills) = self.leaf.as_ref().and_then(Leaf::oom_kills)
        {
            self.kills_looked_at = now;
            if kills.kills > self.kills {
                self.kills = kills.kills;
                self.tell_kills_at = now + KILLS_AGAIN;
                found.push(Found::OomKill(run));
            }
        }
        if !self.crossed && self.cap.is_some_and(|cap| bytes >= cap) {
            self.crossed = true;
            let (since, first) = self.looks.front().copied().unwrap_or((now, bytes));
            let crossing = Crossing {
                at: wall,
                usage_bytes: bytes,
                growth_bytes: bytes as i64 - first as i64,
                growth_ms: now - since,
                processes: biggest(&members(run)),
            };
            found.push(Found::OverCap(run, Box::new(crossing)));
        }
        let Some(limit) = self.cap.or(self.wall) else { return };
        let headroom = limit.saturating_sub(bytes);
        let wait = match (self.crossed, self.leaf.is_some()) {
            (true, _) => Millis(1000),
            (false, true) => interval(headroom, rate, self.quiet),
            (false, false) => seldom(headroom, rate),
        };
        self.look_at = Some(on_grid(now, wait));
    }

    /// The working set; without a group the sum of shares.
    fn measure(&mut self, run: RunId, members: &dyn Fn(RunId) -> Vec<i32>) -> Option<u64> {
        if self.leaf.is_none() {
            let shares: Vec<u64> = members(run).into_iter().filter_map(process::pss).collect();
            return (!shares.is_empty()).then(|| shares.iter().sum());
        }
        self.counted()
    }

    fn counted(&mut self) -> Option<u64> {
        let usage = self.usage()?;
        let (read_at, cache) = self.cache;
        let close = self.cap.or(self.wall).is_some_and(|limit| usage > limit / 5 * 4);
        // Standing still near the cap, the cache stands still too.
        if usage.abs_diff(read_at) < STALE && (!close || usage == read_at) {
            return Some(usage.saturating_sub(cache));
        }
        let cache = self.leaf.as_ref()?.file_cache()?;
        self.cache = (usage, cache);
        Some(usage.saturating_sub(cache))
    }

    fn usage(&mut self) -> Option<u64> {
        let leaf = self.leaf.as_ref()?;
        self.gauge = self.gauge.take().or_else(|| leaf.gauge());
        // Where no descriptor is free, one of the reserve is, for the moment.
        self.gauge.as_ref().map_or_else(|| leaf.usage(), |gauge| gauge.read().ok())
    }
}

/// How long a counted tree need not be looked at: a quarter of the time in which it could reach its limit, at the rate it has shown
/// or at 50 MiB/s, whichever is more; half of it where it has stood still. Nearly a second is one.
fn interval(headroom: u64, rate: u64, quiet: u32) -> Millis {
    let (part, shortest) = if quiet >= QUIET { (2, 5 * SOONEST) } else { (4, SOONEST) };
    let ms = headroom.saturating_mul(1000) / (part * rate.max(50 << 20));
    Millis(if ms >= 800 { 1000 } else { ms.max(shortest) })
}

/// When a look falls that may wait so long.
fn on_grid(now: Mono, wait: Millis) -> Mono {
    let at = now + wait;
    GRID.into_iter().rfind(|grid| *grid <= wait.0).map_or(at, |grid| Mono(at.0 - at.0 % grid))
}

/// The same for a tree whose processes have to be asked one by one.
fn seldom(headroom: u64, rate: u64) -> Millis {
    let ms = headroom.saturating_mul(1000) / (4 * rate.max(5 << 20));
    Millis(ms.clamp(250, 10_000))
}

fn biggest(pids: &[i32]) -> Vec<BigProcess> {
    let mut all: Vec<(u64, i32)> = pids.iter().filter_map(|pid| Some((process::resident(*pid)?, *pid))).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.truncate(BIGGEST);
    let name = |pid| process::command_line(pid).unwrap_or_default().chars().take(200).collect();
    all.into_iter().map(|(memory_bytes, pid)| BigProcess { pid, command: name(pid), memory_bytes }).collect()
}

/// Who keeps the caps, for a run of this site.
#[must_use]
pub fn enforcement(site: &crate::os::cgroup::site::Site, capped: bool) -> Enforcement {
    use crate::os::cgroup::layout::Controller;
    match (site.v1.contains_key(&Controller::Memory), site.has(Controller::Memory)) {
        (true, _) => Enforcement::Cgroup1,
        (false, true) => Enforcement::Cgroup2,
        (false, false) if capped => Enforcement::Polling,
        (false, false) => Enforcement::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_looked_at_again_before_it_can_reach_its_cap() {
        let mib = 1 << 20;
        for headroom in [1, 5, 20, 80, 400, 4000] {
            for rate in [0, 1, 50, 100, 400] {
                let wait = interval(headroom * mib, rate * mib, 0);
                let grown = (rate * mib).max(50 * mib) * wait.0 / 1000;
                // The floor of 20 ms lets 400 MiB/s past by 8 MiB, and no more.
                assert!(grown <= headroom * mib / 3 || wait.0 == 20, "{headroom} MiB at {rate} MiB/s: {wait}");
            }
        }
    }

    #[test]
    fn one_that_sits_still_below_its_cap_is_looked_at_ten_times_a_second() {
        assert_eq!(interval(1 << 20, 0, 0), Millis(20));
        assert_eq!(interval(1 << 20, 0, QUIET), Millis(100));
        assert_eq!(interval(10 << 30, 0, QUIET), Millis(1000));
        assert_eq!((interval(100 << 20, 0, 0), interval(100 << 20, 0, QUIET)), (Millis(500), Millis(1000)));
    }

    #[test]
    fn looks_come_soon_enough_and_together() {
        for now in (1_000..3_000).map(Mono) {
            for wait in [20, 40, 100, 170, 250, 480, 700, 1000, 5300].map(Millis) {
                let at = on_grid(now, wait);
                assert!(at > now && at <= now + wait, "{now:?} and {wait}: {at:?}");
            }
        }
        let at = |now, wait| on_grid(Mono(now), Millis(wait)).0;
        assert_eq!([at(2001, 1000), at(2360, 1000), at(2999, 1000)], [3000; 3]);
        assert_eq!((at(2001, 700), at(2500, 700), at(2501, 350)), (2500, 3000, 2800));
        assert_eq!(at(2001, 10_000), 12_000);
    }

    /// A run's group, looked at by a wall of 100 MiB.
    fn watched(group: &std::path::Path) -> (Memory, RunId, Mono) {
        let mut site = crate::os::cgroup::site::Site::default();
        site.v2 = Some(group.parent().unwrap().to_owned());
        site.v2_controllers.insert(crate::os::cgroup::layout::Controller::Memory);
        let leaf = Leaf::found(&site, group.file_name().unwrap().to_str().unwrap());
        let (mut memory, run, now) = (Memory::new().unwrap(), RunId(1), clock::now().mono);
        memory.insert(run, Some(leaf), None, Some(100 << 20), Mono(now.0.saturating_sub(1000)));
        (memory, run, now)
    }

    #[test]
    fn usage_is_read_from_one_open_file_and_once_a_turn() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("web.1");
        std::fs::create_dir(&group).unwrap();
        let usage = |bytes: u64| std::fs::write(group.join("memory.current"), format!("{bytes}\n")).unwrap();
        usage(4096);
        let (mut memory, run, now) = watched(&group);
        assert!(memory.look(&|_| Vec::new()).is_empty());
        usage(8192);
        assert_eq!((memory.reading(run, now), memory.last(run)), (Some(4096), Some(4096)), "it was looked at since");
        assert_eq!(memory.reading(run, clock::now().mono + Millis(1)), Some(8192));
        std::fs::rename(group.join("memory.current"), group.join("elsewhere")).unwrap();
        assert_eq!(memory.reading(run, clock::now().mono + Millis(1)), Some(8192), "by the file that is open");
    }

    #[test]
    fn a_group_that_is_gone_or_says_no_number_is_told_once_and_its_file_closed() {
        for text in ["", "much\n"] {
            let root = tempfile::tempdir().unwrap();
            let group = root.path().join("web.1");
            std::fs::create_dir(&group).unwrap();
            std::fs::write(group.join("memory.current"), "4096\n").unwrap();
            let (mut memory, run, now) = watched(&group);
            assert_eq!(memory.reading(run, now), Some(4096));
            std::fs::write(group.join("memory.current"), text).unwrap();
            assert!(matches!(memory.look(&|_| Vec::new())[..], [Found::GroupGone(gone)] if gone == run), "{text:?}");
            assert!(memory.runs[&run].gauge.is_none());
            assert_eq!(memory.reading(run, now), None);
        }
    }

    #[test]
    fn without_a_group_looks_are_seldom() {
        assert_eq!(seldom(0, 0), Millis(250));
        assert_eq!(seldom(1 << 30, 0), Millis(10_000));
    }
}
