//! The group of one run: fresh, so that its counters begin at zero; joined before exec; gone when its record is written.

use super::layout::Controller;
use super::site::{Site, make};
use super::{Error, Gauge, Limit, v1, v2};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A group whose peak came this close to its limit has hit it: each CPU charges up to 64 pages ahead.
const SLACK: u64 = 1 << 20;

/// What a leaf allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The hard limit of memory, in bytes.
    pub wall: Option<u64>,
    /// Of swap, in bytes; without a wall it does not count.
    pub swap: u64,
    /// A kill at the wall takes the whole group (v2 only; v1 kills one process at a time).
    pub whole: bool,
    pub pids: Option<u64>,
    /// Microseconds of CPU in each period.
    pub cpu: Option<(u64, u64)>,
}

/// A run's group in every hierarchy that serves.
#[derive(Clone, Debug)]
pub struct Leaf {
    memory: Option<Memory>,
    /// Whole folders, one per hierarchy.
    folders: Vec<PathBuf>,
    /// The one in the v2 tree.
    tree: Option<v2::Group>,
}

#[derive(Clone, Debug)]
enum Memory {
    V1(v1::Memory),
    V2(v2::Group),
}

/// What a child needs to join: the folder for clone3(2), and `tasks` files to write 0 into.
#[derive(Debug, Default)]
pub struct Join {
    pub into: Option<OwnedFd>,
    pub tasks: Vec<OwnedFd>,
}

/// Kills by the kernel in a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomKills {
    pub kills: u64,
    /// Its own limit was hit; else the machine, or a group above, lacked memory.
    pub own_limit: bool,
}

impl Leaf {
    /// The leaf of this name as a daemon before us made it.
    #[must_use]
    pub fn found(site: &Site, name: &str) -> Leaf {
        let mut leaf = Leaf::at(site, name, &Controller::ALL);
        leaf.folders.retain(|folder| folder.exists());
        leaf
    }

    /// The leaf of this name in the hierarchies of these controllers and in the v2 tree; nothing is made.
    fn at(site: &Site, name: &str, controllers: &[Controller]) -> Leaf {
        let v1 = |controller: Controller| {
            site.v1.get(&controller).filter(|_| controllers.contains(&controller)).map(|folder| folder.join(name))
        };
        let tree = site.v2.as_ref().map(|folder| folder.join(name));
        let memory = match (v1(Controller::Memory), &tree) {
            (Some(folder), _) => Some(Memory::V1(v1::Memory::at(&folder))),
            (None, Some(folder)) if site.v2_controllers.contains(&Controller::Memory) => {
                Some(Memory::V2(v2::Group::at(folder)))
            }
            (None, _) => None,
        };
        let folders = Controller::ALL.into_iter().filter_map(v1).chain(tree.clone()).collect();
        Leaf { memory, folders, tree: tree.as_deref().map(v2::Group::at) }
    }

    /// Makes the leaf and sets its limits.
    ///
    /// # Errors
    /// What could not be made or set; nothing of it is left.
    pub fn make(site: &Site, name: &str, limits: &Limits) -> Result<Leaf, Error> {
        let mut controllers = vec![Controller::Memory];
        controllers.extend(limits.pids.map(|_| Controller::Pids));
        controllers.extend(limits.cpu.map(|_| Controller::Cpu));
        let leaf = Leaf::at(site, name, &controllers);
        let made =
            leaf.folders.iter().try_for_each(|folder| make(folder)).and_then(|()| leaf.limit(site, name, limits));
        if let Err(error) = made {
            let _ = leaf.remove();
            return Err(error);
        }
        Ok(leaf)
    }

    fn limit(&self, site: &Site, name: &str, limits: &Limits) -> Result<(), Error> {
        if limits.wall.is_some() {
            self.set_wall(limits)?;
        }
        let v1 = |controller| site.v1.get(&controller).map(|folder: &PathBuf| folder.join(name));
        let v2 = |controller| self.tree.as_ref().filter(|_| site.v2_controllers.contains(&controller));
        if let Some(tasks) = limits.pids {
            match (v1(Controller::Pids), v2(Controller::Pids)) {
                (Some(folder), _) => v1::Pids::at(&folder).set_max(tasks)?,
                (None, Some(group)) => group.set_pids_max(tasks)?,
                (None, None) => {}
            }
        }
        if let Some((quota, period)) = limits.cpu {
            match (v1(Controller::Cpu), v2(Controller::Cpu)) {
                (Some(folder), _) => v1::Cpu::at(&folder).set_quota(quota, period)?,
                (None, Some(group)) => group.set_cpu_max(quota, period)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Sets the hard limit of memory, or takes it away.
    ///
    /// # Errors
    /// v1 refuses (`EBUSY`) what is below the usage; v2 takes it and kills: ask for the usage first.
    pub fn set_wall(&self, limits: &Limits) -> Result<(), Error> {
        match (&self.memory, limits.wall) {
            (Some(Memory::V1(group)), Some(bytes)) => group.set_limit(bytes, limits.swap),
            (Some(Memory::V1(group)), None) => group.set_no_limit(),
            (Some(Memory::V2(group)), Some(bytes)) => {
                group.set_memory_max(bytes)?;
                group.set_memory_swap_max(limits.swap)?;
                group.set_memory_oom_group(limits.whole)
            }
            (Some(Memory::V2(group)), None) => group.set_no_limit(),
            (None, _) => Ok(()),
        }
    }

    /// What a child needs to be in it from its first instruction on.
    ///
    /// # Errors
    /// Of open(2).
    pub fn join(&self) -> Result<Join, Error> {
        let failed = |folder: &PathBuf| {
            let path = folder.clone();
            move |source: io::Error| Error::Io { path, source }
        };
        let tree = self.tree.as_ref().map(v2::Group::folder);
        let mut join = Join::default();
        for folder in &self.folders {
            if tree == Some(folder.as_path()) {
                let opened = OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_DIRECTORY)
                    .open(folder)
                    .map_err(failed(folder))?;
                join.into = Some(opened.into());
            } else {
                // Not `cgroup.procs`: after a quiet moment that takes 10 ms where this takes 0.05.
                join.tasks
                    .push(OpenOptions::new().write(true).open(folder.join("tasks")).map_err(failed(folder))?.into());
            }
        }
        Ok(join)
    }

    /// Does the kernel count this leaf's memory?
    #[must_use]
    pub fn counts_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Bytes in use, page cache among them: never less than the working set, and cheap.
    pub fn usage(&self) -> Option<u64> {
        match self.memory.as_ref()? {
            Memory::V1(group) => group.usage_in_bytes().ok(),
            Memory::V2(group) => group.memory_current().ok(),
        }
    }

    /// The same, to be read again and again; `None` also where no descriptor is free.
    pub fn gauge(&self) -> Option<Gauge> {
        match self.memory.as_ref()? {
            Memory::V1(group) => group.gauge().ok(),
            Memory::V2(group) => group.gauge().ok(),
        }
    }

    /// Of it the page cache of files, which the kernel takes back before it kills anybody; dear.
    pub fn file_cache(&self) -> Option<u64> {
        match self.memory.as_ref()? {
            Memory::V1(group) => group.file_cache().ok(),
            Memory::V2(group) => group.file_cache().ok(),
        }
    }

    /// Bytes in use less the page cache of files.
    pub fn working_set(&self) -> Option<u64> {
        let cache = self.file_cache()?;
        Some(self.usage()?.saturating_sub(cache))
    }

    /// The most that was in use, page cache among it; `None` where the kernel does not keep it.
    pub fn peak(&self) -> Option<u64> {
        match self.memory.as_ref()? {
            Memory::V1(group) => group.max_usage_in_bytes().ok(),
            Memory::V2(group) => group.memory_peak().ok(),
        }
    }

    /// Processes that the kernel killed here for lack of memory.
    pub fn oom_kills(&self) -> Option<OomKills> {
        match self.memory.as_ref()? {
            Memory::V1(group) => {
                let kills = group.oom_kill().ok()?.unwrap_or(0);
                // Not by `memory.failcnt`: recent kernels (6.18) leave it at 0. The charge that fails is not in the peak.
                let hit = || match group.limit_in_bytes().ok()? {
                    Limit::At(limit) => Some(group.max_usage_in_bytes().ok()? + SLACK >= limit),
                    Limit::None => Some(false),
                };
                // The other files only where there is something to tell.
                Some(OomKills { kills, own_limit: kills > 0 && hit()? })
            }
            Memory::V2(group) => {
                let events = group.memory_events().ok()?;
                Some(OomKills { kills: events.oom_kill, own_limit: events.oom > 0 })
            }
        }
    }

    /// v1's eventfd at a usage; v2 has none.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn usage_event(&self, bytes: u64) -> Result<Option<OwnedFd>, Error> {
        match &self.memory {
            Some(Memory::V1(group)) => group.usage_event(bytes).map(Some),
            Some(Memory::V2(_)) | None => Ok(None),
        }
    }

    /// The processes in it; `None` where no hierarchy serves.
    pub fn members(&self) -> Option<Vec<i32>> {
        let folder = self.tree.as_ref().map(v2::Group::folder).or(self.folders.first().map(PathBuf::as_path))?;
        super::pids(folder, "cgroup.procs").ok()
    }

    /// Has systemd-oomd marked it as one that it kills? It counts before the kill and after it (its `oomd-util.c`).
    #[must_use]
    pub fn is_marked_by_oomd(&self) -> bool {
        let marks = |folder: &std::path::Path| {
            [c"user.oomd_ooms", c"user.oomd_kill"].iter().any(|name| {
                crate::os::file::attribute(folder, name).is_some_and(|count| count.trim_end_matches('\0') != "0")
            })
        };
        self.tree.as_ref().is_some_and(|group| marks(group.folder()))
    }

    /// SIGKILL to everything in it at once; `false` where the kernel cannot.
    pub fn kill(&self) -> bool {
        self.tree.as_ref().is_some_and(|group| group.kill().is_ok())
    }

    /// Removes it; `false` where something is still in it.
    #[must_use]
    pub fn remove(&self) -> bool {
        let stays = |folder: &&PathBuf| match std::fs::remove_dir(folder) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        // Counted, so that all are tried whatever becomes of the first.
        self.folders.iter().filter(stays).count() == 0
    }
}

/// The name of a run's leaf: no path, and different for every run of a home.
#[must_use]
pub fn name(instance: &str, run: u64) -> String {
    let safe: String = instance
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' })
        .take(60)
        .collect();
    format!("{safe}.{run}")
}

/// The names of all leaves that are there.
#[must_use]
pub fn names(site: &Site) -> BTreeSet<String> {
    let folders = site.v1.values().chain(&site.v2).flat_map(std::fs::read_dir);
    let is_leaf = |name: &String| name.rsplit_once('.').is_some_and(|(_, run)| run.parse::<u64>().is_ok());
    folders.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(is_leaf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_the_own_limit_s_where_the_peak_came_to_it() {
        let root = tempfile::tempdir().unwrap();
        let mut site = Site::default();
        site.v1.insert(Controller::Memory, root.path().to_owned());
        let kills = |kills: u64, peak: u64, limit: &str| {
            std::fs::create_dir_all(root.path().join("web.1")).unwrap();
            for (file, text) in [
                ("memory.oom_control", format!("oom_kill {kills}\n")),
                ("memory.max_usage_in_bytes", format!("{peak}\n")),
                ("memory.limit_in_bytes", format!("{limit}\n")),
            ] {
                std::fs::write(root.path().join("web.1").join(file), text).unwrap();
            }
            Leaf::found(&site, "web.1").oom_kills().unwrap()
        };
        assert_eq!(kills(1, (60 << 20) - 4096, "62914560"), OomKills { kills: 1, own_limit: true });
        assert_eq!(kills(1, 40 << 20, "62914560"), OomKills { kills: 1, own_limit: false });
        assert_eq!(kills(1, 40 << 20, "9223372036854771712"), OomKills { kills: 1, own_limit: false });
        assert_eq!(kills(0, 60 << 20, "62914560"), OomKills::default());
    }
}
