//! Files that hold the pid of a run, for monit and scripts.

use crate::core::log_name::with_slot;
use crate::core::name::RunId;
use crate::core::spec::Spec;
use crate::os::{file, process};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The files of the runs that have one.
#[derive(Debug, Default)]
pub struct PidFiles(BTreeMap<RunId, (PathBuf, i32)>);

impl PidFiles {
    /// Writes the run's file. Makes the folder that is missing, as PM2 does; a file that cannot be written is said, and the run goes on.
    pub fn write(&mut self, run: RunId, spec: &Spec, slot: u32, pid: i32) {
        let Some(path) = &spec.pid_file else { return };
        let path = if spec.instances.is_some() || slot > 0 { with_slot(path, slot) } else { path.clone() };
        match replace(&path, pid) {
            Ok(()) => drop(self.0.insert(run, (path, pid))),
            Err(error) => tracing::warn!(%error, path = %path.display(), "the pid file cannot be written"),
        }
    }

    /// Removes the run's file, unless it is another's by now.
    pub fn remove(&mut self, run: RunId) {
        let Some((path, pid)) = self.0.remove(&run) else { return };
        if file::read_only(&path).and_then(io::read_to_string).is_ok_and(|text| text.trim() == pid.to_string()) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A reader sees a whole number. No sync: after a power cut there is no such process.
fn replace(path: &Path, pid: i32) -> io::Result<()> {
    let path = if process::uid() == 0 { file::without_links(path)? } else { path.to_owned() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut draft = OsString::from(&path);
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let _ = std::fs::remove_file(&draft);
    let options = OpenOptions::new().write(true).create_new(true).mode(0o644).clone();
    file::open_named(&draft, &options)?.write_all(format!("{pid}\n").as_bytes())?;
    std::fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_run_has_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/web.pid");
        replace(&path, 10).unwrap();
        let mut files = PidFiles(BTreeMap::from([(RunId(1), (path.clone(), 9)), (RunId(2), (path.clone(), 10))]));
        files.remove(RunId(1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "10\n");
        files.remove(RunId(2));
        assert!(!path.exists());
    }
}
