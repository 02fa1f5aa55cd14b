//! Where a stead lives: its home, and whether we may use it.

use crate::core::command::Refusal;
use crate::core::recover::Wanted;
pub use crate::os::reason;
use crate::os::{clock, file, process, user};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Root's home when nothing else is said.
const OF_ROOT: &str = "/var/lib/stead";

/// The kernel takes no longer path for a socket (`sun_path` less its closing zero).
const LONGEST_SOCKET: usize = 107;

/// The folder of one stead.
#[derive(Clone, Debug)]
pub struct Home {
    pub path: PathBuf,
}

impl Home {
    /// `--home`, else `$STEAD_HOME`, else root's `/var/lib/stead`, else `$XDG_STATE_HOME/stead`, else `~/.local/state/stead`.
    ///
    /// # Errors
    /// No home can be named, or its socket's path would be too long.
    pub fn find(flag: Option<&Path>) -> Result<Home, Refusal> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let uid = process::uid();
        let chosen = flag.map(Path::to_owned).or_else(|| variable("STEAD_HOME"));
        let path = match chosen {
            Some(path) => path,
            None if uid == 0 => OF_ROOT.into(),
            None => match variable("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
                Some(state) => state.join("stead"),
                None => variable("HOME")
                    .or_else(|| process::home_of(uid).map(PathBuf::from))
                    .ok_or_else(|| {
                        Refusal::failed("no home can be found: neither STEAD_HOME nor HOME is set")
                            .hint("set STEAD_HOME to a folder of your own")
                    })?
                    .join(".local/state/stead"),
            },
        };
        let path = std::path::absolute(&path)
            .map_err(|error| Refusal::failed(format!("home {}: {}", path.display(), reason(&error))))?;
        let home = Home { path };
        let length = home.socket().as_os_str().len();
        if length > LONGEST_SOCKET {
            let error = format!(
                "home {}: the path of its socket has {length} bytes, and Linux takes {LONGEST_SOCKET} at most",
                home.path.display()
            );
            return Err(Refusal::failed(error).hint("choose a shorter STEAD_HOME"));
        }
        Ok(home)
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("stead.sock")
    }

    /// Makes the folder where it is missing (0700), and makes sure that it is ours alone.
    ///
    /// # Errors
    /// It cannot be made, is no folder, belongs to another user, or others may write in it.
    pub fn prepare(&self) -> Result<(), Refusal> {
        let shown = self.path.display();
        let failed = |error: &io::Error| {
            Refusal::failed(format!("could not make the home {shown}: {}", reason(error)))
                .hint("set STEAD_HOME to a folder that you may write in")
        };
        match DirBuilder::new().recursive(true).mode(0o700).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&error)),
            Err(_) => return Err(Refusal::failed(format!("home {shown} is no folder"))),
            Ok(()) => {}
        }
        let meta = std::fs::metadata(&self.path).map_err(|error| failed(&error))?;
        let uid = process::uid();
        if meta.uid() != uid {
            let (owner, me) = (user::name(meta.uid()), user::name(uid));
            let error = format!("home {shown} belongs to {owner}, and you are {me}");
            let sudo = if meta.uid() == 0 { "sudo stead …".to_owned() } else { format!("sudo -u {owner} stead …") };
            return Err(Refusal::failed(error).hint(format!("`{sudo}`, or set STEAD_HOME to a folder of your own")));
        }
        if meta.mode() & 0o022 != 0 {
            let error = format!("home {shown} can be written by others (mode {:03o})", meta.mode() & 0o7777);
            return Err(Refusal::failed(error).hint("choose a folder that is yours alone, one that stead may make"));
        }
        // A stead's, that was left open: who looks into it sees names at least.
        if meta.mode() & 0o077 != 0 && self.path.join("lock").exists() {
            std::fs::set_permissions(&self.path, Permissions::from_mode(0o700)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Takes the lock that a keeper holds for as long as it lives; `None` while somebody else has it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn lock(&self) -> Result<Option<File>, Refusal> {
        let path = self.path.join("lock");
        match file::lock(&path, Duration::ZERO) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                let refusal = Refusal::failed(format!("could not lock {}: {}", path.display(), reason(&error)));
                Err(refusal.hint("is the home writable?"))
            }
        }
    }

    /// Puts a line into stead's own log.
    pub fn note(&self, warning: &str) {
        let log = file::private_append(&self.path.join("stead.log"));
        // By one write: the daemon writes there too.
        let line = format!("{}  WARN {warning}\n", String::from(clock::now().wall));
        let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
    }

    /// Does a keeper (or a client that is just starting one) hold the lock? Where we may not look, nobody can say that it does not.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match OpenOptions::new().read(true).write(true).open(self.path.join("lock")) {
            Ok(file) => matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The pid that the lock's holder has written into it.
    #[must_use]
    pub fn holder(&self) -> Option<i32> {
        std::fs::read_to_string(self.path.join("lock")).ok()?.trim().parse().ok()
    }

    /// What is wanted, as the file says; nothing where it cannot be read.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let bytes = std::fs::read(self.path.join("state.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Where else an app of that name may be: `not here, but …`.
    #[must_use]
    pub fn elsewhere(&self, target: &str) -> Option<String> {
        let uid = process::uid();
        if uid != 0 {
            // Root's home is root's alone: that it is there is all one can see.
            let other = self.path != Path::new(OF_ROOT) && Path::new(OF_ROOT).is_dir();
            return other.then(|| "not here, but root's stead may have it: `sudo stead list`".to_owned());
        }
        let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| process::home_of(uid.parse().ok()?));
        let homes = std::fs::read_dir("/home").into_iter().flatten().flatten().map(|entry| entry.path());
        homes.chain(sudo.map(PathBuf::from)).map(|home| home.join(".local/state/stead")).find_map(|home| {
            let state = home.join("state.json");
            let wanted: Wanted = serde_json::from_slice(&std::fs::read(&state).ok()?).ok()?;
            let has = wanted.apps.iter().any(|app| {
                app.spec.name.as_str() == target || app.instances.iter().any(|instance| instance.name == target)
            });
            let owner = user::name(std::fs::metadata(&state).ok()?.uid());
            (has && home != self.path)
                .then(|| format!("not here, but {owner}'s stead has it: `sudo -u {owner} stead list`"))
        })
    }
}

/// The folder of [`Home::find`], made ready by [`Home::prepare`].
///
/// # Errors
/// Theirs; the hint is a line of its own.
pub fn find(flag: Option<&Path>) -> io::Result<PathBuf> {
    let found = Home::find(flag).and_then(|home| home.prepare().map(|()| home.path));
    found.map_err(|refusal| {
        let hint = refusal.hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
        io::Error::other(refusal.error + &hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn home(path: &Path) -> Home {
        Home::find(Some(path)).unwrap()
    }

    #[test]
    fn a_new_home_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder.path().join("a/b"));
        home.prepare().unwrap();
        home.prepare().unwrap();
        assert_eq!(std::fs::metadata(&home.path).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_home_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let refusal = home(folder.path()).prepare().unwrap_err();
        assert!(refusal.error.ends_with("can be written by others (mode 777)"), "{}", refusal.error);
    }

    #[test]
    fn a_file_is_no_home() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(home(file.path()).prepare().unwrap_err().error.ends_with("is no folder"));
        assert!(home(&file.path().join("below")).prepare().unwrap_err().error.contains("could not make the home"));
    }

    #[test]
    fn a_socket_path_that_linux_does_not_take_is_said_at_once() {
        let refusal = Home::find(Some(Path::new(&format!("/tmp/{}", "x".repeat(120))))).unwrap_err();
        assert!(refusal.error.contains("Linux takes 107 at most"), "{}", refusal.error);
    }

    #[test]
    fn the_lock_is_had_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        assert!(!home.is_held());
        let lock = home.lock().unwrap().expect("nobody has it");
        assert!(home.lock().unwrap().is_none());
        assert!(home.is_held());
        std::fs::write(home.path.join("lock"), "4711\n").unwrap();
        assert_eq!(home.holder(), Some(4711));
        drop(lock);
        assert!(home.lock().unwrap().is_some());
    }
}
