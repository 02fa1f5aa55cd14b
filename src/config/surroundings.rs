//! What the resolver must know of the machine and the caller.

use crate::core::spec::Identity;
use std::path::{Path, PathBuf};

/// The client fills it from the system, a test from its head.
pub struct Surroundings<'a> {
    /// The caller's working directory.
    pub cwd: PathBuf,
    /// PATH, in which bare program names are looked up.
    pub path: Option<String>,
    /// HOME, for a path that begins with `~/`.
    pub home_dir: Option<String>,
    pub cpus: u32,
    pub uid: u32,
    /// A user by name or number, with all groups.
    pub user: &'a dyn Fn(&str) -> Result<Identity, String>,
    /// A group's number by name or number.
    pub group: &'a dyn Fn(&str) -> Result<u32, String>,
    /// access(2) with X_OK.
    pub executable: &'a dyn Fn(&Path) -> bool,
}

impl Surroundings<'_> {
    /// `text` relative to `base`, `~/` being the home directory. `.` steps are dropped; `..` stays, for a symbolic link may stand
    /// before it.
    #[must_use]
    pub fn path(&self, base: &Path, text: &str) -> PathBuf {
        let path = match (text.strip_prefix('~'), &self.home_dir) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                PathBuf::from(format!("{home}{rest}"))
            }
            _ => base.join(text),
        };
        path.components().collect()
    }
}
