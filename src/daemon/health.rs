//! The facts of `stead health`: the core judges them.

use super::kernel;
use super::memory::enforcement;
use super::perform::Daemon;
use super::views;
use crate::core::clock::{Mono, Now, Wall};
use crate::core::health::{AppFacts, Disk, Folder, Health, Host, OwnFacts, Pressure, examine};
use crate::core::instance::Want;
use crate::core::view::InstanceView;
use crate::os::cgroup::site;
use crate::os::{clock, host, process};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// Data folders are counted no more often than this: it may take a walk over a million files.
const MEASURE_EVERY_MS: u64 = 3_600_000;

/// Entries of one data folder that are counted, and for how long.
const MOST_ENTRIES: usize = 500_000;
const LONGEST: Duration = Duration::from_secs(30);

/// Folders that are told.
const BIGGEST: usize = 10;

impl Daemon {
    pub fn health(&mut self, now: Now) -> Health {
        let views = self.list(now);
        self.judge(now, &views)
    }

    /// The same by what was noted last of the processes, for a look that is to cost little.
    pub fn health_as_noted(&mut self, now: Now) -> Health {
        let views = self.views(now, &self.usages);
        self.judge(now, &views)
    }

    fn judge(&mut self, now: Now, views: &[InstanceView]) -> Health {
        let apps: Vec<AppFacts> = views.iter().filter_map(|view| self.app_facts(now, view)).collect();
        let host = self.host_facts(now);
        let own = OwnFacts {
            version: env!("CARGO_PKG_VERSION").into(),
            daemon_pid: process::pid(),
            keeper_pid: self.keeper,
            daemon_starts: self.starts,
            upgrades: self.upgraded,
            enforcement: enforcement(&self.site, true),
            polling: self.site.trouble.clone().zip(self.site.remedy.clone()),
            faults: self.faults(),
            notifiers: self.notifiers.faults(),
        };
        examine(now.wall, self.fleet.rules(), &apps, host, own)
    }

    fn app_facts(&self, now: Now, view: &InstanceView) -> Option<AppFacts> {
        let one = self.fleet.instance(view.id).filter(|one| one.want != Want::Gone)?;
        let app = self.fleet.app(&one.app)?;
        let trend = self.trends.get(&one.name).filter(|trend| trend.leak && view.pid.is_some());
        let hour = |at: &&Mono| (now.mono - **at).0 < 3_600_000;
        let files = self.files(one.id).unwrap_or_default();
        Some(AppFacts {
            name: view.name.clone(),
            status: view.status,
            rules: app.spec.health.or(&self.fleet.rules().apps),
            crash_loop: view.crash_loop,
            backs_off: app.spec.policy.exp_backoff_restart_delay.is_some(),
            restarts_unplanned: view.restarts_unplanned,
            ends_last_hour: one.streak.recent.iter().filter(hour).count() as u32,
            note: views::reason(&self.fleet, one),
            last: one
                .last
                .as_ref()
                .filter(|record| !record.planned)
                .map(|record| (record.cause.word().to_owned(), record.summary.clone())),
            memory_bytes: view.memory_bytes,
            cap_bytes: view.memory_cap_bytes,
            enforcement: view.memory_enforcement,
            leak: trend.map(|trend| (trend.bytes_per_hour, trend.eta_seconds)),
            log_bytes_lost: self.output.lost_lately(&files, now.mono),
            log_fault: self.output.fault(&files).map(|(_, why)| why.to_owned()),
        })
    }

    fn host_facts(&mut self, now: Now) -> Host {
        let proc = Path::new("/proc");
        let memory = host::meminfo(proc);
        let logs = self.output.home().join("logs");
        let data = self.fleet.rules().data.clone();
        let mut disks: Vec<(u64, Disk)> = Vec::new();
        for (path, holds) in std::iter::once((&logs, "logs")).chain(data.iter().map(|path| (path, "data"))) {
            let Ok(disk) = host::disk(path) else { continue };
            match disks.iter_mut().find(|(device, _)| *device == disk.device) {
                Some((_, known)) if known.holds != holds => known.holds = "logs and data".into(),
                Some(_) => {}
                None => disks.push((
                    disk.device,
                    Disk {
                        path: path.clone(),
                        holds: holds.into(),
                        total_bytes: disk.total,
                        available_bytes: disk.available,
                    },
                )),
            }
        }
        let capped = self.fleet.instances().filter(|one| one.want == Want::Up);
        let caps = capped.filter_map(|one| self.fleet.app(&one.app)?.spec.max_memory_restart);
        let caps_bytes = caps.map(|cap| cap.0).sum();
        // The kernel's log counts from boot without the time asleep; what is said of its times is true to that.
        let log_began = Wall(now.wall.0.saturating_sub(clock::precise().as_millis() as i64));
        self.scale.see(now, &data);
        Host {
            memory_total_bytes: memory.total,
            memory_available_bytes: memory.available,
            swap_total_bytes: memory.swap_total,
            swap_free_bytes: memory.swap_free,
            pressure: Pressure {
                cpu: host::pressure(proc, "cpu"),
                memory: host::pressure(proc, "memory"),
                io: host::pressure(proc, "io"),
            },
            disks: disks.into_iter().map(|(_, disk)| disk).collect(),
            data: self.scale.biggest.clone(),
            data_measured_at: self.scale.measured.map(|(_, at)| at),
            oom_kills: kernel::kills(log_began, &site::name(self.output.home())),
            caps_bytes,
            booted_at: host::booted_at(proc),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            load: host::load(proc),
            ..Host::default()
        }
    }
}

/// Weighs the data folders, seldom and behind everybody's back.
#[derive(Debug, Default)]
pub struct Scale {
    folders: Vec<PathBuf>,
    under_way: Option<Receiver<Vec<Folder>>>,
    measured: Option<(Mono, Wall)>,
    biggest: Vec<Folder>,
}

impl Scale {
    /// Takes what was weighed, and begins anew where that is old.
    fn see(&mut self, now: Now, folders: &[PathBuf]) {
        match self.under_way.as_ref().map(Receiver::try_recv) {
            Some(Ok(biggest)) => {
                (self.biggest, self.measured, self.under_way) = (biggest, Some((now.mono, now.wall)), None);
            }
            Some(Err(TryRecvError::Empty)) => return,
            Some(Err(TryRecvError::Disconnected)) => self.under_way = None,
            None => {}
        }
        let fresh = self.measured.is_some_and(|(at, _)| (now.mono - at).0 < MEASURE_EVERY_MS);
        if folders.is_empty() || fresh && self.folders == folders {
            return;
        }
        self.folders = folders.to_vec();
        let (tell, told) = channel();
        let folders = self.folders.clone();
        let begun = std::thread::Builder::new().name("weigh".into()).stack_size(256 << 10).spawn(move || {
            host::step_back();
            let _ = tell.send(weigh(&folders));
        });
        self.under_way = begun.is_ok().then_some(told);
    }
}

fn weigh(folders: &[PathBuf]) -> Vec<Folder> {
    let mut all: Vec<Folder> = Vec::new();
    for folder in folders {
        let sizes = host::sizes(folder, MOST_ENTRIES, LONGEST);
        let parts = sizes.parts.into_iter();
        all.extend(parts.map(|(path, bytes)| Folder { at_least: sizes.cut.as_ref() == Some(&path), path, bytes }));
    }
    all.sort_by_key(|folder| std::cmp::Reverse(folder.bytes));
    all.truncate(BIGGEST);
    all
}
