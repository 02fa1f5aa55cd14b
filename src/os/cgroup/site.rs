//! Where one stead makes its groups: a folder `stead-…` of its own in each hierarchy that serves, and the way back.

use super::layout::{Controller, Layout, Place};
use super::scope::Host;
use super::{Error, v2};
use crate::os::process;
use cgroups_rs::{Cgroup, hierarchies};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In the home: the [`Site`] of the keeper that lives, or of one that was killed. The next one may be started in another place, from
/// another login session say, and would not find those groups by their name.
const RECORD: &str = "groups.json";

/// The leaf of keeper and daemon where the v2 tree allows no processes beside groups.
const KEEPER: &str = "keeper";

/// The folders of one stead. The keeper makes them; the daemon makes a leaf for each run in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// In the v1 hierarchies that serve.
    pub v1: BTreeMap<Controller, PathBuf>,
    /// In the v2 tree: a leaf there can be killed at once and says when it is empty.
    pub v2: Option<PathBuf>,
    /// The controllers of leaves in the v2 folder.
    pub v2_controllers: BTreeSet<Controller>,
    /// Why the kernel cannot cap memory here.
    pub trouble: Option<String>,
    /// What would help.
    #[serde(default)]
    pub remedy: Option<String>,
    origin: Option<Origin>,
}

/// The group that the keeper came from, and what was changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    folder: PathBuf,
    enabled: Vec<Controller>,
    moved: bool,
}

impl Site {
    /// Makes the folders for the stead of `home`, in the place of those that a dead one left. What cannot be had is left out.
    #[must_use]
    pub fn open(home: &Path) -> Site {
        let name = name(home);
        let layout = Layout::read();
        clear_elsewhere(home, &name, &layout);
        let mut site = Site::default();
        let mut troubles = Vec::new();
        for (controller, place) in &layout.v1 {
            match make_v1(*controller, place, &name) {
                Ok(folder) => {
                    site.v1.insert(*controller, folder);
                }
                Err(error) => troubles.push(error.to_string()),
            }
        }
        if let Some(place) = &layout.v2
            && let Err(error) = site.make_v2(place, &name)
        {
            troubles.push(error.to_string());
        }
        if layout == Layout::default() {
            troubles.push("no cgroup hierarchy is mounted".into());
        }
        if !site.has(Controller::Memory) {
            site.trouble = Some(match troubles.is_empty() {
                true => "the memory controller is not available to this group".into(),
                false => troubles.join("; "),
            });
            site.remedy = Some(Host::here().remedy());
        }
        // Not synced: it is for the next keeper of this boot, and a torn one says nothing.
        let _ = crate::os::file::replace(&home.join(RECORD), &serde_json::to_vec(&site).unwrap_or_default());
        site
    }

    /// Is there anything to make a leaf in?
    #[must_use]
    pub fn serves(&self) -> bool {
        self.has(Controller::Memory) || self.v2.is_some()
    }

    /// Do leaves have this controller?
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        self.v1.contains_key(&controller) || self.v2_controllers.contains(&controller)
    }

    /// Removes everything, and goes back to where we came from.
    pub fn close(&self, home: &Path) {
        self.remove_groups();
        let _ = std::fs::remove_file(home.join(RECORD));
    }

    fn remove_groups(&self) {
        for folder in self.v1.values() {
            let _ = clear(folder, None);
        }
        let Some(folder) = &self.v2 else { return };
        let _ = clear(folder, Some(KEEPER));
        if let Some(origin) = &self.origin {
            let group = v2::Group::at(folder);
            let _ = group.set_subtree_control(&changes('-', &self.v2_controllers));
            let home = v2::Group::at(&origin.folder);
            let _ = home.set_subtree_control(&changes('-', &origin.enabled));
            if origin.moved {
                leave(&v2::Group::at(&folder.join(KEEPER)), &home);
            }
        }
        let _ = clear(folder, None);
    }

    fn make_v2(&mut self, place: &Place, name: &str) -> Result<(), Error> {
        let mut own = place.clone();
        let lives_there = own.path.ends_with(Path::new(name).join(KEEPER));
        if lives_there {
            own.path = own.path.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        }
        is_group(&own.folder())?;
        let home = v2::Group::at(&own.folder());
        let folder = own.folder().join(name);
        clear(&folder, lives_there.then_some(KEEPER)).map_err(|source| Error::Io { path: folder.clone(), source })?;
        make(&folder)?;
        self.v2 = Some(folder.clone());
        let available: BTreeSet<Controller> = known(home.controllers()?);
        if available.is_empty() {
            return Ok(());
        }
        let missing: Vec<Controller> = available.difference(&known(home.subtree_control()?)).copied().collect();
        let mut origin = Origin { folder: own.folder(), enabled: missing.clone(), moved: lives_there };
        let leaf = v2::Group::at(&folder.join(KEEPER));
        if !missing.is_empty() && !home.is_root() && !lives_there {
            make(leaf.folder())?;
            origin.moved = true;
            settle(&leaf, &home).inspect_err(|_| leave(&leaf, &home))?;
        }
        if !missing.is_empty() {
            let enabled = home.set_subtree_control(&changes('+', &missing));
            enabled.inspect_err(|_| leave(&leaf, &home))?;
        }
        self.origin = Some(origin);
        let words: Vec<String> = available.iter().map(|one| one.word().to_owned()).collect();
        if own.mount == Path::new("/sys/fs/cgroup") {
            let path = own.path.join(name);
            // It opens the controllers on the whole way down; what came of it is read back below.
            let _ = Cgroup::new_with_specified_controllers(Box::new(hierarchies::V2::new()), path, Some(words));
        }
        let group = v2::Group::at(&folder);
        group.set_subtree_control(&changes('+', &available))?;
        self.v2_controllers = known(group.subtree_control()?);
        Ok(())
    }
}

/// Moves us from a group to the leaf in it, for below the root a group has processes or gives controllers, never both. Of some
/// controllers (cpu, pids) the kernel lets it do both, and then nothing can be started in the groups below.
fn settle(leaf: &v2::Group, home: &v2::Group) -> Result<(), Error> {
    leaf.add(0)?;
    let mut others = home.procs()?;
    // The client that waits for us, where somebody gave it a scope of its own.
    if let Some(client) = process::parent_of_our_own().filter(|client| others == [*client]) {
        leaf.add(client)?;
        others = home.procs()?;
    }
    match others.first() {
        None => Ok(()),
        Some(pid) => Err(Error::Io {
            path: home.folder().to_owned(),
            source: io::Error::new(io::ErrorKind::ResourceBusy, format!("pid {pid} is in this group beside stead")),
        }),
    }
}

/// Back from the leaf of the keeper, with all who came along.
fn leave(leaf: &v2::Group, home: &v2::Group) {
    for pid in leaf.procs().unwrap_or_default() {
        let _ = home.add(pid);
    }
    let _ = std::fs::remove_dir(leaf.folder());
}

/// Removes the groups that a dead stead of this home made in another place than ours, and ends what is still in them.
fn clear_elsewhere(home: &Path, name: &str, layout: &Layout) {
    let left = std::fs::read(home.join(RECORD)).ok().and_then(|record| serde_json::from_slice::<Site>(&record).ok());
    let Some(left) = left else { return };
    let ours: Vec<PathBuf> = layout.v1.values().chain(&layout.v2).map(Place::folder).collect();
    for folder in left.v1.values().chain(&left.v2) {
        let are_in_it = ours.iter().any(|own| own.starts_with(folder));
        if folder.ends_with(name) && folder.is_absolute() && !are_in_it {
            let _ = clear(folder, None);
        }
    }
}

fn make_v1(controller: Controller, place: &Place, name: &str) -> Result<PathBuf, Error> {
    is_group(&place.folder())?;
    let folder = place.folder().join(name);
    let failed = |source| Error::Io { path: folder.clone(), source };
    clear(&folder, None).map_err(failed)?;
    let path = place.path.join(name);
    let made = Cgroup::new_with_specified_controllers(
        Box::new(hierarchies::V1::new()),
        path,
        Some(vec![controller.word().to_owned()]),
    );
    // It reports no failure of mkdir(2) on v1.
    match made {
        Ok(_) if folder.is_dir() => Ok(folder),
        _ => make(&folder).map(|()| folder.clone()),
    }
}

/// Something else may be mounted over the hierarchy: what is made there is a plain folder, in which nothing is capped.
fn is_group(folder: &Path) -> Result<(), Error> {
    let path = folder.join("cgroup.procs");
    std::fs::metadata(&path).map(|_| ()).map_err(|source| Error::Io { path, source })
}

/// mkdir(2); a group that is there is fine.
pub(super) fn make(folder: &Path) -> Result<(), Error> {
    match std::fs::create_dir(folder) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Io { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Kills what is in a group of ours and removes it with all below; `except` one of the groups directly below it.
fn clear(folder: &Path, except: Option<&str>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if except.is_none_or(|name| entry.file_name() != name) {
            clear(&entry.path(), None)?;
        }
    }
    if except.is_some() {
        return Ok(());
    }
    remove(folder, Duration::from_secs(2))
}

/// Kills what is in a group and removes it. One that is still busy (a zombie, a late exit) is tried again until the time is over.
fn remove(folder: &Path, patience: Duration) -> io::Result<()> {
    let until = crate::os::clock::precise() + patience;
    loop {
        match std::fs::remove_dir(folder) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && crate::os::clock::precise() < until => {
                let inside = super::pids(folder, "cgroup.procs").unwrap_or_default();
                // At once where the kernel can: one by one, a fork bomb would be faster.
                if inside.contains(&process::pid()) || v2::Group::at(folder).kill().is_err() {
                    for pid in inside.into_iter().filter(|pid| *pid != process::pid()) {
                        if let Ok(pidfd) = process::pidfd_open(pid) {
                            let _ = process::pidfd_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
}

/// `stead-` and a number made of the home (FNV-1a), so that two homes never meet and one home always finds its own.
#[must_use]
pub fn name(home: &Path) -> String {
    let bytes = home.as_os_str().as_encoded_bytes();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("stead-{hash:016x}")
}

fn known(words: Vec<String>) -> BTreeSet<Controller> {
    Controller::ALL.into_iter().filter(|one| words.iter().any(|word| word == one.word())).collect()
}

/// `+memory +pids`.
fn changes<'a>(sign: char, controllers: impl IntoIterator<Item = &'a Controller>) -> String {
    controllers.into_iter().map(|one| format!("{sign}{}", one.word())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_always_has_the_same_groups_and_no_other_has_them() {
        assert_eq!(name(Path::new("/var/lib/stead")), name(Path::new("/var/lib/stead")));
        assert_ne!(name(Path::new("/var/lib/stead")), name(Path::new("/var/lib/stead2")));
        assert!(name(Path::new("/x")).starts_with("stead-"));
    }

    #[test]
    fn only_folders_of_this_home_s_name_are_cleared_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let (ours, foreign) = (root.path().join("scope").join(name(&home)), root.path().join("stead-of-another"));
        for folder in [&home, &ours.join("web.1"), &foreign] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let record = |v2: &Path| {
            let site = Site { v2: Some(v2.to_owned()), ..Site::default() };
            std::fs::write(home.join(RECORD), serde_json::to_vec(&site).unwrap()).unwrap();
            clear_elsewhere(&home, &name(&home), &Layout::default());
        };
        record(&foreign);
        record(&ours);
        assert!(foreign.exists() && !ours.exists());
        std::fs::write(home.join(RECORD), "garbage").unwrap();
        clear_elsewhere(&home, &name(&home), &Layout::default());
    }

    #[test]
    fn controllers_are_switched_in_the_kernels_words() {
        assert_eq!(changes('+', &[Controller::Memory, Controller::Pids]), "+memory +pids");
        assert_eq!(known(vec!["io".into(), "pids".into()]), BTreeSet::from([Controller::Pids]));
    }
}
