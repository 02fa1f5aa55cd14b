//! The files beside a log, whose names daemon and client agree on.

use std::path::{Path, PathBuf};

/// A rotated log: `X.log.3`; 1 is the newest.
#[must_use]
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!(".{number}"))
}

/// Its index: `X.log.idx`, lines `<offset> <milliseconds since 1970>`, at most one a second.
#[must_use]
pub fn index_of(path: &Path) -> PathBuf {
    beside(path, ".idx")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
