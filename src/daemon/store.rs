//! `state.json` and `saved.json`: the wanted set on disk.

use crate::core::recover::{WANTED_VERSION, Wanted};
use crate::os::file;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The name under which the keeper holds a wish that could not be written: no app's socket, for their names begin with the app's.
pub const HELD: &str = "\nstate";

/// The files of a home.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    saved: PathBuf,
}

impl Store {
    #[must_use]
    pub fn new(home: &Path) -> Store {
        Store { state: home.join("state.json"), saved: home.join("saved.json") }
    }

    /// What was wanted; `held`: a wish that the daemon before could not write. A file that is not what it should be is kept aside and said; supervision goes on with what the keeper holds.
    ///
    /// # Errors
    /// It is a newer stead's, which could not read what this one would write. Or descriptors or memory are short: what was wanted is not
    /// known then, and may not be taken for nothing.
    pub fn load(&self, held: Option<&OwnedFd>) -> io::Result<Wanted> {
        self.check()?;
        let held = held.map(|held| file::read_memory_file(held.try_clone()?)).transpose()?;
        match held.as_deref().map(parse) {
            Some(Ok(wanted)) => return Ok(wanted),
            Some(Err(error)) => tracing::error!(%error, "what the keeper holds of the last wish cannot be read"),
            None => {}
        }
        Ok(match read(&self.state) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => Wanted { version: WANTED_VERSION, ..Wanted::default() },
            Err(error) if file::is_shortage(&error) => return Err(error),
            Err(error) => {
                let aside = self.state.with_extension("json.unreadable");
                let _ = std::fs::rename(&self.state, &aside);
                tracing::error!(%error, aside = %aside.display(), "state.json cannot be read and is kept aside");
                Wanted { version: WANTED_VERSION, ..Wanted::default() }
            }
        })
    }

    /// Is what was wanted of a version that this stead knows?
    ///
    /// # Errors
    /// It is newer.
    pub fn check(&self) -> io::Result<()> {
        let bytes = std::fs::read(&self.state).unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(Version { version }) if version > WANTED_VERSION => Err(newer("state.json", version, WANTED_VERSION)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// # Errors
    /// Of writing; the old file stays.
    pub fn persist(&self, wanted: &Wanted) -> io::Result<()> {
        file::replace(&self.state, &serde_json::to_vec(wanted)?)
    }

    /// # Errors
    /// Of writing; `InvalidInput` for an empty list over a good one without `force`.
    pub fn save(&self, wanted: &Wanted, force: bool) -> io::Result<()> {
        if wanted.apps.is_empty() && !force {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are no apps to save"));
        }
        file::replace(&self.saved, &serde_json::to_vec(wanted)?)
    }

    /// # Errors
    /// `NotFound` where nothing was saved; else why it cannot be read.
    pub fn saved(&self) -> io::Result<Wanted> {
        read(&self.saved)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read(path: &Path) -> io::Result<Option<Wanted>> {
    let bytes = match file::briefly(|| std::fs::read(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    parse(&bytes).map(Some)
}

fn parse(bytes: &[u8]) -> io::Result<Wanted> {
    let version: Version = serde_json::from_slice(bytes)?;
    if version.version > WANTED_VERSION {
        return Err(newer("it", version.version, WANTED_VERSION));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Why a file of a newer stead is not read.
pub fn newer(what: &str, version: u32, known: u32) -> io::Error {
    let ours = env!("CARGO_PKG_VERSION");
    io::Error::other(format!(
        "{what} is of a newer stead: it has version {version}, and stead {ours} reads up to {known}"
    ))
}

#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}
