//! Which processes belong to which run: those in its group, where it has one.
//!
//! Without groups: the keeper is a subreaper: whatever a run leaves behind becomes the keeper's child. So a run's tree is its main process, those
//! children of the keeper that carry its session or its STEAD_RUN, and all below them.

use crate::core::name::RunId;
use crate::core::spec::Signal;
use crate::os::cgroup::leaf::Leaf;
use crate::os::process::{self, Snapshot};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The runs that are looked for.
#[derive(Debug, Default)]
pub struct Runs {
    runs: BTreeMap<RunId, Known>,
    mains: BTreeMap<i32, RunId>,
    shown: BTreeMap<String, RunId>,
}

#[derive(Debug)]
struct Known {
    pid: i32,
    pidfd: OwnedFd,
    shown: String,
    leaf: Option<Leaf>,
}

impl Runs {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn insert(&mut self, run: RunId, pid: i32, pidfd: OwnedFd, shown: String, leaf: Option<Leaf>) {
        self.mains.insert(pid, run);
        self.shown.insert(shown.clone(), run);
        self.runs.insert(run, Known { pid, pidfd, shown, leaf });
    }

    pub fn remove(&mut self, run: RunId) {
        if let Some(known) = self.runs.remove(&run) {
            if self.mains.get(&known.pid) == Some(&run) {
                self.mains.remove(&known.pid);
            }
            self.shown.remove(&known.shown);
        }
    }

    /// The main process of a run.
    #[must_use]
    pub fn main(&self, run: RunId) -> Option<i32> {
        self.runs.get(&run).map(|known| known.pid)
    }

    /// To the main process.
    pub fn signal_main(&self, run: RunId, signal: i32) {
        if let Some(known) = self.runs.get(&run)
            && let Err(error) = process::pidfd_signal(known.pidfd.as_fd(), signal)
        {
            tracing::warn!(run = known.shown, pid = known.pid, %error, "a process could not be signalled");
        }
    }

    /// To every process of the tree, the youngest generation first, as PM2 does.
    pub fn signal_tree(&self, keeper: i32, run: RunId, signal: i32) {
        let leaf = self.runs.get(&run).and_then(|known| known.leaf.as_ref());
        if signal == Signal::KILL.0 && leaf.is_some_and(Leaf::kill) {
            return;
        }
        let snapshot = self.in_group(run).map_or_else(Snapshot::take, Snapshot::of);
        self.signal_members(&self.members(keeper, run, &snapshot), &snapshot, run, signal);
    }

    /// To the tree of a run whose keeper has ended.
    pub fn signal_abandoned(&self, run: RunId, signal: i32) {
        let snapshot = Snapshot::take();
        let main = self.runs.get(&run).map(|known| known.pid);
        self.signal_members(&snapshot.below(main), &snapshot, run, signal);
    }

    fn signal_members(&self, members: &[i32], snapshot: &Snapshot, run: RunId, signal: i32) {
        for pid in members.iter().rev() {
            if self.runs.get(&run).is_some_and(|known| known.pid == *pid) {
                self.signal_main(run, signal);
                continue;
            }
            // Opened before the second look: what the pidfd means is what was looked at.
            let Ok(pidfd) = process::pidfd_open(*pid) else { continue };
            let same = |now: &process::Stat| snapshot.get(*pid).is_some_and(|then| then.start_time == now.start_time);
            if process::Stat::read(*pid).as_ref().is_some_and(same) {
                let _ = process::pidfd_signal(pidfd.as_fd(), signal);
            }
        }
    }

    /// Waits until every main process has ended, or the time is over.
    pub fn wait_ended(&self, limit: Duration) {
        let pidfds: Vec<_> = self.runs.values().map(|known| known.pidfd.as_fd()).collect();
        process::wait_ended(&pidfds, limit);
    }

    /// How many processes a run whose main process has ended left. Cheap where there are none.
    #[must_use]
    pub fn left(&self, keeper: i32, run: RunId) -> u32 {
        if let Some(members) = self.in_group(run) {
            return members.len() as u32;
        }
        let strangers = self.strangers(process::children(keeper));
        if !strangers.iter().any(|pid| self.owner(*pid) == Some(run)) {
            return 0;
        }
        self.members(keeper, run, &Snapshot::take()).len() as u32
    }

    /// The live processes of a run, parents first.
    #[must_use]
    pub fn members(&self, keeper: i32, run: RunId, snapshot: &Snapshot) -> Vec<i32> {
        if let Some(members) = self.in_group(run) {
            return in_order(members, snapshot);
        }
        let main = self.runs.get(&run).map(|known| known.pid);
        let orphans =
            self.strangers(snapshot.children(keeper).to_vec()).into_iter().filter(|pid| self.owner(*pid) == Some(run));
        // A main process that has ended and whose number has gone to another is no child of the keeper.
        let main = main.filter(|pid| snapshot.get(*pid).is_some_and(|stat| stat.ppid == keeper));
        snapshot.below(main.into_iter().chain(orphans))
    }

    /// What the kernel says is in the run's group; `None` where it has none.
    fn in_group(&self, run: RunId) -> Option<Vec<i32>> {
        self.runs.get(&run)?.leaf.as_ref()?.members()
    }

    /// The trees of all runs in one look. Where each has a group, nobody else is looked at.
    #[must_use]
    pub fn all(&self, keeper: i32) -> (Snapshot, BTreeMap<RunId, Vec<i32>>) {
        let groups: Option<Vec<_>> = self.runs.keys().map(|run| Some((*run, self.in_group(*run)?))).collect();
        if let Some(groups) = groups {
            let snapshot = Snapshot::of(groups.iter().flat_map(|(_, members)| members.iter().copied()));
            let trees = groups.into_iter().map(|(run, members)| (run, in_order(members, &snapshot))).collect();
            return (snapshot, trees);
        }
        let snapshot = Snapshot::take();
        let mut roots: BTreeMap<RunId, Vec<i32>> = BTreeMap::new();
        for pid in snapshot.children(keeper) {
            if let Some(run) = self.mains.get(pid).copied().or_else(|| self.owner(*pid)) {
                roots.entry(run).or_default().push(*pid);
            }
        }
        let trees = roots.into_iter().map(|(run, roots)| (run, snapshot.below(roots))).collect();
        (snapshot, trees)
    }

    /// Children of the keeper that are no main process and not ourselves, and still live.
    fn strangers(&self, children: Vec<i32>) -> Vec<i32> {
        let me = process::pid();
        children.into_iter().filter(|pid| *pid != me && !self.mains.contains_key(pid)).collect()
    }

    /// The run that a process belongs to.
    #[must_use]
    pub fn run_of(&self, pid: i32) -> Option<RunId> {
        self.mains.get(&pid).copied().or_else(|| self.owner(pid))
    }

    /// The run that an orphan belonged to, by what was seen of it before it was reaped.
    #[must_use]
    pub fn run_of_orphan(&self, session: i32, group: Option<&str>) -> Option<RunId> {
        let by_group = || {
            let (_, number) = group?.rsplit_once('.')?;
            let run = RunId(number.parse().ok()?);
            self.runs.get(&run).and_then(|known| known.leaf.as_ref()).map(|_| run)
        };
        self.mains.get(&session).copied().or_else(by_group)
    }

    fn owner(&self, pid: i32) -> Option<RunId> {
        let stat = process::Stat::read(pid).filter(|stat| stat.state != 'Z')?;
        if let Some(run) = self.mains.get(&stat.session) {
            return Some(*run);
        }
        self.shown.get(&process::variable(pid, "STEAD_RUN")?).copied()
    }
}

/// Those that live, the eldest first: a parent is older than its children.
fn in_order(mut members: Vec<i32>, snapshot: &Snapshot) -> Vec<i32> {
    members.retain(|pid| snapshot.get(*pid).is_some());
    members.sort_by_key(|pid| snapshot.get(*pid).map(|stat| (stat.start_time, stat.pid)));
    members
}
