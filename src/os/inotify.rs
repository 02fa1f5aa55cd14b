//! inotify(7): folders that are watched, and what happens in them.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// A folder that is watched. Two paths to one folder are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Folder(WatchDescriptor);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// To what is in the folder by this name.
    Entry { name: OsString, deed: Deed, is_folder: bool },
    /// The folder itself was renamed.
    Moved,
    /// The folder is gone; it is not watched any more.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Created,
    /// Closed by one who had it open for writing.
    Written,
    MovedHere,
    MovedAway,
    Deleted,
}

/// An inotify instance. A user has 128 of them, so one serves all apps.
#[derive(Debug)]
pub struct Watches(Inotify);

impl Watches {
    /// # Errors
    /// Of inotify_init1(2): EMFILE where the user has all instances in use.
    pub fn new() -> io::Result<Watches> {
        Ok(Watches(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// Watches the entries of a folder, not those of folders in it.
    ///
    /// # Errors
    /// Of inotify_add_watch(2): ENOSPC where the user has all watches in use.
    pub fn add(&self, folder: &Path) -> io::Result<Folder> {
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        Ok(Folder(self.0.add_watch(folder, what)?))
    }

    pub fn remove(&self, folder: Folder) {
        let _ = self.0.rm_watch(folder.0);
    }

    /// All that has happened since the last look; `None` stands for what the kernel had no room to tell.
    #[must_use]
    pub fn read(&self) -> Vec<Option<(Folder, What)>> {
        let mut found = Vec::new();
        loop {
            match self.0.read_events() {
                Ok(events) => found.extend(events.into_iter().filter_map(|event| {
                    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                        return Some(None);
                    }
                    Some(Some((Folder(event.wd), what(event.mask, event.name)?)))
                })),
                Err(Errno::EINTR) => {}
                Err(_) => return found,
            }
        }
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn what(mask: AddWatchFlags, name: Option<OsString>) -> Option<What> {
    let has = |flag| mask.contains(flag);
    if has(AddWatchFlags::IN_IGNORED) {
        return Some(What::Gone);
    }
    if has(AddWatchFlags::IN_MOVE_SELF) {
        return Some(What::Moved);
    }
    let deed = match () {
        () if has(AddWatchFlags::IN_CREATE) => Deed::Created,
        () if has(AddWatchFlags::IN_CLOSE_WRITE) => Deed::Written,
        () if has(AddWatchFlags::IN_MOVED_TO) => Deed::MovedHere,
        () if has(AddWatchFlags::IN_MOVED_FROM) => Deed::MovedAway,
        () if has(AddWatchFlags::IN_DELETE) => Deed::Deleted,
        () => return None,
    };
    Some(What::Entry { name: name?, deed, is_folder: has(AddWatchFlags::IN_ISDIR) })
}

/// Whether an entry that was just created is whole already: a link is, a file that is being written is told of when it is closed.
#[must_use]
pub fn is_whole(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink() || (found.is_file() && found.nlink() > 1))
}
