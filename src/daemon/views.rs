//! What clients are shown: the core's state joined with what /proc says at the moment of asking.

use super::memory::enforcement;
use super::tree::Runs;
use crate::core::backoff;
use crate::core::clock::{Mono, Now};
use crate::core::fleet::Fleet;
use crate::core::history::Reading;
use crate::core::instance::{Instance, Part, Phase, Want};
use crate::core::name::RunId;
use crate::core::reload::Beside;
use crate::core::view::{Enforcement, InstanceView, ProcessView, ReadingView};
use crate::os::cgroup::site::Site;
use crate::os::process::{self, Snapshot};
use std::collections::BTreeMap;

/// Looks nearer together than this share one figure of CPU: below it the clock tick (10 ms) is all one would see.
const SHORTEST_LOOK_MS: u64 = 500;

/// CPU time of each run at the last look.
#[derive(Debug, Default)]
pub struct Meter {
    looks: BTreeMap<RunId, Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Mono,
    ticks: u64,
    percent: f64,
}

/// What a run's tree uses.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    pub cpu_percent: Option<f64>,
    pub processes: u32,
    /// The kernel counts its memory, and keeps its limits.
    pub counted: bool,
}

impl Meter {
    /// Looks at all runs. `counted`: what the kernel counts for one, where it does.
    pub fn look(
        &mut self,
        now: Now,
        fleet: &Fleet,
        runs: &Runs,
        mut counted: impl FnMut(RunId) -> Option<u64>,
        keeper: i32,
    ) -> BTreeMap<RunId, Usage> {
        let (snapshot, trees) = runs.all(keeper);
        self.looks.retain(|run, _| trees.contains_key(run));
        let begun: BTreeMap<RunId, Mono> =
            fleet.instances().flat_map(Instance::runs).map(|life| (life.id, life.started.mono)).collect();
        let mut usages = BTreeMap::new();
        for (run, tree) in trees {
            let ticks = tree.iter().filter_map(|pid| snapshot.get(*pid)).map(|stat| stat.cpu_ticks).sum();
            let started = begun.get(&run).copied().unwrap_or(now.mono);
            let bytes = counted(run);
            let shares = || tree.iter().filter_map(|pid| process::pss(*pid)).reduce(|sum, share| sum + share);
            usages.insert(
                run,
                Usage {
                    memory_bytes: bytes.or_else(shares),
                    cpu_percent: self.cpu(run, now.mono, started, ticks),
                    processes: tree.len() as u32,
                    counted: bytes.is_some(),
                },
            );
        }
        usages
    }

    fn cpu(&mut self, run: RunId, now: Mono, started: Mono, ticks: u64) -> Option<f64> {
        let last = self.looks.get(&run).copied().unwrap_or(Look { at: started, ticks: 0, percent: 0.0 });
        let span = (now - last.at).0;
        if span < SHORTEST_LOOK_MS {
            return self.looks.contains_key(&run).then_some(last.percent);
        }
        let used_ms = ticks.saturating_sub(last.ticks) * 1000 / process::ticks_per_second().max(1);
        let percent = (used_ms as f64 * 1000.0 / span as f64).round() / 10.0;
        self.looks.insert(run, Look { at: now, ticks, percent });
        Some(percent)
    }
}

/// A reading of the history.
#[must_use]
pub fn reading(reading: Reading) -> ReadingView {
    ReadingView {
        at: reading.wall(),
        memory_bytes: u64::from(reading.memory) << 10,
        cpu_percent: f64::from(reading.cpu) / 10.0,
        processes: reading.processes.into(),
        run: reading.run,
    }
}

/// An element of the list.
#[must_use]
pub fn instance(now: Now, fleet: &Fleet, one: &Instance, usage: Option<&Usage>, site: &Site) -> InstanceView {
    let spec = fleet.app(&one.app).map(|app| app.spec.clone());
    // One that waits for its port, or for what the machine is short of, does so often, and is in no loop.
    let is_blameless = one.last.as_ref().is_some_and(|record| record.evidence.is_blameless());
    let capped = spec.as_ref().is_some_and(|spec| spec.max_memory_restart.is_some());
    InstanceView {
        name: one.name.clone(),
        app: one.app.to_string(),
        namespace: spec.as_ref().map(|spec| spec.namespace.clone()).unwrap_or_default(),
        id: one.id,
        status: one.status(),
        pid: one.pid(),
        uptime_ms: match &one.phase {
            Phase::Readying { run, .. } | Phase::Online { run, .. } | Phase::Stopping { run, .. } => {
                Some(now.mono - run.started.mono)
            }
            _ => None,
        },
        restarts: one.tally.restarts,
        restarts_unplanned: one.tally.restarts_unplanned,
        memory_bytes: usage.and_then(|usage| usage.memory_bytes),
        memory_cap_bytes: spec.as_ref().and_then(|spec| spec.max_memory_restart).map(|bytes| bytes.0),
        memory_enforcement: match enforcement(site, capped) {
            // No group could be made for this run, or somebody removed it.
            Enforcement::Cgroup1 | Enforcement::Cgroup2 if capped && usage.is_some_and(|usage| !usage.counted) => {
                Enforcement::Polling
            }
            enforcement => enforcement,
        },
        cpu_percent: usage.and_then(|usage| usage.cpu_percent),
        processes: usage.map(|usage| usage.processes),
        next_start_at: match &one.phase {
            Phase::Waiting { shown, .. } => Some(*shown),
            _ => None,
        },
        last_exit: one.last.as_deref().cloned(),
        crash_loop: one.want == Want::Up && !is_blameless && backoff::is_crash_loop(&one.streak, now.mono),
        watch_trouble: None,
    }
}

/// The processes of a run.
#[must_use]
pub fn tree(runs: &Runs, keeper: i32, run: RunId) -> Vec<ProcessView> {
    let snapshot = Snapshot::take();
    runs.members(keeper, run, &snapshot)
        .into_iter()
        .filter_map(|pid| {
            let stat = snapshot.get(pid)?;
            Some(ProcessView {
                pid,
                ppid: stat.ppid,
                memory_bytes: process::pss(pid),
                command: process::command_line(pid).unwrap_or_else(|| stat.comm.clone()),
            })
        })
        .collect()
}

/// Why it waits, why it gave up, why it is not well, or what the other run of a reload is doing.
#[must_use]
pub fn reason(fleet: &Fleet, one: &Instance) -> Option<String> {
    let own = match &one.phase {
        Phase::Queued => fleet.waits_for(one).map(|unmet| unmet.text()),
        Phase::Readying { until: Some(_), .. } => Some("waits for its READY=1".into()),
        Phase::Readying { run, until: None, .. } | Phase::Online { run, .. } => {
            let check = fleet.app(&one.app).and_then(|app| app.spec.readiness.health_check.as_ref());
            run.health.as_ref().zip(check).and_then(|(health, check)| health.complaint(check))
        }
        Phase::Waiting { reason, .. } | Phase::Errored { reason } => Some(reason.clone()),
        _ => None,
    };
    own.or_else(|| reload(one))
}

fn reload(one: &Instance) -> Option<String> {
    match one.beside.as_ref()? {
        Beside::Awaited { .. } => Some("waits for its turn to be reloaded".into()),
        Beside::Living(phase) => {
            let run = phase.run()?;
            let shown = format!("{}#{}", one.name, run.seq);
            Some(match &run.part {
                Part::Predecessor => format!("reloaded; {shown} ends what it has begun"),
                Part::Main | Part::Successor { .. }
                    if matches!(**phase, Phase::Stopping { .. } | Phase::Ending { .. }) =>
                {
                    format!("{shown}, which was to replace it, is given up")
                }
                Part::Main | Part::Successor { .. } => format!("is being reloaded; {shown} starts beside it"),
            })
        }
    }
}
