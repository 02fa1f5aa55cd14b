//! A group of the v2 tree. Source: the kernel's `admin-guide/cgroup-v2.rst`.

use super::{Error, Gauge, Limit, garbage, keyed, keyed_in, number, pids, read, sum, write};
use std::path::{Path, PathBuf};

/// A group; which files it has depends on its controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
}

/// `memory.events`: the group's and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// How often an allocation failed at this limit; no number of kills.
    pub oom: u64,
    /// Processes that the kernel killed, whatever limit or lack it was for.
    pub oom_kill: u64,
}

impl Group {
    /// A group at this folder; nothing is looked at yet.
    #[must_use]
    pub fn at(folder: &Path) -> Group {
        Group { folder: folder.to_owned() }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The hierarchy's root alone has no `cgroup.type`; what a container sees as its root has one.
    #[must_use]
    pub fn is_root(&self) -> bool {
        !self.folder.join("cgroup.type").exists()
    }

    /// The controllers that this group may use.
    ///
    /// # Errors
    /// As of all readers here: the file is missing, or garbage.
    pub fn controllers(&self) -> Result<Vec<String>, Error> {
        Ok(read(&self.folder, "cgroup.controllers")?.split_whitespace().map(str::to_owned).collect())
    }

    /// The controllers that groups below it have.
    pub fn subtree_control(&self) -> Result<Vec<String>, Error> {
        Ok(read(&self.folder, "cgroup.subtree_control")?.split_whitespace().map(str::to_owned).collect())
    }

    /// Gives (`+memory`) or takes (`-memory`) controllers to and from the groups below.
    ///
    /// # Errors
    /// `EBUSY` where the group itself holds processes.
    pub fn set_subtree_control(&self, changes: &str) -> Result<(), Error> {
        write(&self.folder, "cgroup.subtree_control", changes)
    }

    /// Main threads of the processes in it, not of groups below.
    pub fn procs(&self) -> Result<Vec<i32>, Error> {
        pids(&self.folder, "cgroup.procs")
    }

    /// Moves a process into it; 0 is the writer.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        write(&self.folder, "cgroup.procs", &pid.to_string())
    }

    /// Is any process in it or below?
    pub fn populated(&self) -> Result<bool, Error> {
        match keyed(&self.folder, "cgroup.events", "populated")? {
            Some(0) => Ok(false),
            Some(_) => Ok(true),
            None => Err(garbage(&self.folder, "cgroup.events", "no `populated`")),
        }
    }

    /// SIGKILL to everything in it and below. Kernels from 5.14 on.
    pub fn kill(&self) -> Result<(), Error> {
        write(&self.folder, "cgroup.kill", "1")
    }

    /// Bytes, page cache among them.
    pub fn memory_current(&self) -> Result<u64, Error> {
        number(&self.folder, "memory.current")
    }

    /// The same, to be read again and again.
    pub fn gauge(&self) -> Result<Gauge, Error> {
        Gauge::open(&self.folder, "memory.current")
    }

    /// The most it ever was, in bytes. Kernels from 5.19 on.
    pub fn memory_peak(&self) -> Result<u64, Error> {
        number(&self.folder, "memory.peak")
    }

    /// The hard limit.
    pub fn memory_max(&self) -> Result<Limit, Error> {
        let text = read(&self.folder, "memory.max")?;
        match text.trim() {
            "max" => Ok(Limit::None),
            bytes => bytes.parse().map(Limit::At).map_err(|_| garbage(&self.folder, "memory.max", &text)),
        }
    }

    /// `inactive_file` and `active_file` of memory.stat: the page cache of files. The kernel takes it back before it kills anybody.
    /// tmpfs and shared memory are not in it. Bytes.
    pub fn file_cache(&self) -> Result<u64, Error> {
        sum(&self.folder, &["inactive_file", "active_file"])
    }

    /// What happened at limits and for lack of memory.
    pub fn memory_events(&self) -> Result<MemoryEvents, Error> {
        let text = read(&self.folder, "memory.events")?;
        let of = |key| keyed_in(&text, &self.folder, "memory.events", key).map(Option::unwrap_or_default);
        Ok(MemoryEvents { oom: of("oom")?, oom_kill: of("oom_kill")? })
    }

    /// Sets the hard limit. What is in use beyond it is killed at once.
    pub fn set_memory_max(&self, bytes: u64) -> Result<(), Error> {
        write(&self.folder, "memory.max", &bytes.to_string())
    }

    /// Takes the hard limits of memory and swap away.
    pub fn set_no_limit(&self) -> Result<(), Error> {
        write(&self.folder, "memory.max", "max")?;
        match write(&self.folder, "memory.swap.max", "max") {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }

    /// Sets how much may go to swap; a kernel without swap accounting has no such file.
    pub fn set_memory_swap_max(&self, bytes: u64) -> Result<(), Error> {
        match write(&self.folder, "memory.swap.max", &bytes.to_string()) {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }

    /// Does a kill at the limit take the whole group?
    pub fn set_memory_oom_group(&self, whole: bool) -> Result<(), Error> {
        write(&self.folder, "memory.oom.group", if whole { "1" } else { "0" })
    }

    /// Tasks (threads too).
    pub fn pids_current(&self) -> Result<u64, Error> {
        number(&self.folder, "pids.current")
    }

    /// Forks that failed at the limit.
    pub fn pids_events_max(&self) -> Result<Option<u64>, Error> {
        keyed(&self.folder, "pids.events", "max")
    }

    pub fn set_pids_max(&self, tasks: u64) -> Result<(), Error> {
        write(&self.folder, "pids.max", &tasks.to_string())
    }

    /// `quota` microseconds of CPU in each `period`.
    pub fn set_cpu_max(&self, quota: u64, period: u64) -> Result<(), Error> {
        write(&self.folder, "cpu.max", &format!("{quota} {period}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::cgroup::tests::{fails, folder};

    fn group(file: &str, text: &str) -> (tempfile::TempDir, Group) {
        let folder = folder(&[(file, text)]);
        let group = Group::at(folder.path());
        (folder, group)
    }

    #[test]
    fn controllers() {
        let (_folder, group) = group("cgroup.controllers", "cpu io memory pids\n");
        assert_eq!(group.controllers().unwrap(), ["cpu", "io", "memory", "pids"]);
        assert!(Group::at(Path::new("/nowhere")).controllers().unwrap_err().is_missing());
    }

    #[test]
    fn subtree_control() {
        let (_folder, group) = group("cgroup.subtree_control", "memory\n");
        assert_eq!(group.subtree_control().unwrap(), ["memory"]);
        assert!(Group::at(Path::new("/nowhere")).subtree_control().unwrap_err().is_missing());
    }

    #[test]
    fn procs() {
        let (_folder, group) = group("cgroup.procs", "7\n42\n");
        assert_eq!(group.procs().unwrap(), [7, 42]);
        fails("cgroup.procs", |path| Group::at(path).procs());
    }

    #[test]
    fn a_limit_is_taken_away() {
        let folder = folder(&[("memory.max", "50"), ("memory.swap.max", "0")]);
        Group::at(folder.path()).set_no_limit().unwrap();
        let text = |file| std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!((text("memory.max"), text("memory.swap.max")), ("max".into(), "max".into()));
    }

    #[test]
    fn populated() {
        let (_folder, one) = group("cgroup.events", "populated 1\nfrozen 0\n");
        assert!(one.populated().unwrap());
        let (_folder, none) = group("cgroup.events", "populated 0\nfrozen 0\n");
        assert!(!none.populated().unwrap());
        let (_folder, odd) = group("cgroup.events", "frozen 0\n");
        assert!(odd.populated().unwrap_err().to_string().contains("populated"));
        fails("cgroup.events", |path| Group::at(path).populated());
    }

    #[test]
    fn memory_current() {
        let (_folder, group) = group("memory.current", "4096\n");
        assert_eq!(group.memory_current().unwrap(), 4096);
        fails("memory.current", |path| Group::at(path).memory_current());
    }

    #[test]
    fn gauge() {
        let (_folder, one) = group("memory.current", "4096\n");
        assert_eq!(one.gauge().unwrap().read().unwrap(), 4096);
        fails("memory.current", |path| Group::at(path).gauge()?.read());
    }

    #[test]
    fn memory_peak() {
        let (_folder, group) = group("memory.peak", "8192\n");
        assert_eq!(group.memory_peak().unwrap(), 8192);
        fails("memory.peak", |path| Group::at(path).memory_peak());
    }

    #[test]
    fn memory_max() {
        let (_folder, one) = group("memory.max", "104857600\n");
        assert_eq!(one.memory_max().unwrap(), Limit::At(100 << 20));
        let (_folder, none) = group("memory.max", "max\n");
        assert_eq!(none.memory_max().unwrap(), Limit::None);
        fails("memory.max", |path| Group::at(path).memory_max());
    }

    #[test]
    fn file_cache() {
        let (_folder, group) = group("memory.stat", "anon 1\ninactive_file 4096\nactive_file 100\nshmem 7\n");
        assert_eq!(group.file_cache().unwrap(), 4196);
        fails("memory.stat", |path| Group::at(path).file_cache());
    }

    #[test]
    fn memory_events() {
        let (_folder, group) = group("memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n");
        assert_eq!(group.memory_events().unwrap(), MemoryEvents { oom: 2, oom_kill: 1 });
        fails("memory.events", |path| Group::at(path).memory_events());
    }

    #[test]
    fn pids_current_and_events() {
        let folder = folder(&[("pids.current", "5\n"), ("pids.events", "max 1\n")]);
        let group = Group::at(folder.path());
        assert_eq!((group.pids_current().unwrap(), group.pids_events_max().unwrap()), (5, Some(1)));
        fails("pids.current", |path| Group::at(path).pids_current());
        fails("pids.events", |path| Group::at(path).pids_events_max());
    }

    #[test]
    fn nothing_is_made_in_a_folder_that_is_no_group() {
        let folder = folder(&[]);
        assert!(Group::at(folder.path()).set_memory_max(1).unwrap_err().is_missing());
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
