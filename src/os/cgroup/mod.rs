//! Control groups: where ours may be, a leaf for each run, and what the kernel says of it.
//!
//! [`layout`] (which hierarchies there are), [`site`] (where this stead makes its groups), [`leaf`] (the group of one run), [`v1`]
//! and [`v2`] (typed readers: a method bears its file's name).

pub mod layout;
pub mod leaf;
pub mod scope;
pub mod site;
pub mod v1;
pub mod v2;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a file of a group could not be used. That it is missing and that it is garbage are different things.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: unexpected content `{text}`")]
    Garbage { path: PathBuf, text: String },
}

impl Error {
    /// The group or the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV))
    }
}

/// A file that holds one number, kept open: where it is read every second, the opening costs ten times the reading.
#[derive(Debug)]
pub struct Gauge {
    file: File,
    path: PathBuf,
}

impl Gauge {
    /// Not with a descriptor of the reserve, which is for a moment only.
    fn open(folder: &Path, file: &str) -> Result<Gauge, Error> {
        let path = folder.join(file);
        match File::open(&path) {
            Ok(file) => Ok(Gauge { file, path }),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// What it says now.
    ///
    /// # Errors
    /// The group is gone since (`ENODEV`), or the file holds no number.
    pub fn read(&self) -> Result<u64, Error> {
        // The longest number has 20 digits.
        let mut text = [0; 32];
        let length = self.file.read_at(&mut text, 0).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim().parse().map_err(|_| Error::Garbage { path: self.path.clone(), text: text.into_owned() })
    }
}

/// A limit of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// In the file's unit.
    At(u64),
    None,
}

fn read(folder: &Path, file: &str) -> Result<String, Error> {
    let path = folder.join(file);
    match super::file::read_kernel(&path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(source) => Err(Error::Io { path, source }),
    }
}

fn write(folder: &Path, file: &str, text: &str) -> Result<(), Error> {
    let path = folder.join(file);
    // Without O_CREAT: in a folder that is no group nothing is to be made.
    let written = std::fs::OpenOptions::new().write(true).open(&path);
    written
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|source| Error::Io { path, source })
}

fn number(folder: &Path, file: &str) -> Result<u64, Error> {
    let text = read(folder, file)?;
    text.trim().parse().map_err(|_| garbage(folder, file, &text))
}

/// The value of `key` in a file of `key value` lines; `None` where an old kernel has no such key.
fn keyed(folder: &Path, file: &str, key: &str) -> Result<Option<u64>, Error> {
    keyed_in(&read(folder, file)?, folder, file, key)
}

/// The same of a text that was read.
fn keyed_in(text: &str, folder: &Path, file: &str, key: &str) -> Result<Option<u64>, Error> {
    for line in text.lines() {
        let (name, value) = line.split_once(' ').ok_or_else(|| garbage(folder, file, line))?;
        if name == key {
            return value.trim().parse().map(Some).map_err(|_| garbage(folder, file, line));
        }
    }
    Ok(None)
}

/// The sum of some keys of a `memory.stat`; a key that an old kernel lacks counts nothing.
fn sum(folder: &Path, keys: &[&str]) -> Result<u64, Error> {
    let text = read(folder, "memory.stat")?;
    let mut total = 0u64;
    for line in text.lines() {
        let (name, value) = line.split_once(' ').ok_or_else(|| garbage(folder, "memory.stat", line))?;
        let value: u64 = value.trim().parse().map_err(|_| garbage(folder, "memory.stat", line))?;
        if keys.contains(&name) {
            total = total.saturating_add(value);
        }
    }
    Ok(total)
}

/// The pids of a `cgroup.procs` or `tasks` file.
fn pids(folder: &Path, file: &str) -> Result<Vec<i32>, Error> {
    let text = read(folder, file)?;
    text.lines().map(|line| line.parse().map_err(|_| garbage(folder, file, line))).collect()
}

fn garbage(folder: &Path, file: &str, text: &str) -> Error {
    Error::Garbage { path: folder.join(file), text: text.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::Error;
    use std::path::Path;

    /// A folder with these files in the place of a group.
    pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// A reader of `file` tells a missing file from garbage.
    pub fn fails<T: std::fmt::Debug>(file: &str, read: impl Fn(&Path) -> Result<T, Error>) {
        let missing = read(folder(&[]).path()).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
        for text in ["garbage", "-1\nx", "max", "18446744073709551616"] {
            match read(folder(&[(file, text)]).path()) {
                Err(error @ Error::Garbage { .. }) => assert!(error.to_string().contains(file), "{error}"),
                other => assert!(text == "max" && other.is_ok(), "{file} with {text:?}: {other:?}"),
            }
        }
    }
}
