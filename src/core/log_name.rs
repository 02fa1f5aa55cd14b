//! How the logs of an instance and the files beside them are called: daemon and client agree on it.

use super::spec::{Logs, Spec};
use std::path::{Path, PathBuf};

/// The files of an instance; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFiles {
    pub out: Option<PathBuf>,
    pub err: Option<PathBuf>,
    pub combined: Option<PathBuf>,
}

impl LogFiles {
    #[must_use]
    pub fn of(home: &Path, spec: &Spec, instance: &str, slot: u32) -> LogFiles {
        let Logs { out, err, combined, merge, disabled, .. } = &spec.logs;
        if *disabled {
            return LogFiles::default();
        }
        let several = spec.instances.is_some() && !merge;
        let own = |path: &PathBuf| if several { with_slot(path, slot) } else { path.clone() };
        let standard = |which: &str| home.join("logs").join(format!("{instance}.{which}.log"));
        LogFiles {
            out: Some(out.as_ref().map_or_else(|| standard("out"), own)),
            err: Some(err.as_ref().map_or_else(|| standard("err"), own)),
            combined: combined.as_ref().map(own),
        }
    }

    #[must_use]
    pub fn paths(self) -> Vec<PathBuf> {
        [self.out, self.err, self.combined].into_iter().flatten().collect()
    }
}

/// `app.log` of the third instance is `app-2.log`, and `app.pid` is `app-2.pid`, as in PM2.
#[must_use]
pub fn with_slot(path: &Path, slot: u32) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if path.starts_with("/dev") {
        return path.to_owned();
    }
    let ending = [".log", ".pid"].into_iter().find(|ending| name.ends_with(ending)).unwrap_or_default();
    let stem = name.strip_suffix(ending).unwrap_or(&name);
    path.with_file_name(format!("{stem}-{slot}{ending}"))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_its_number_before_the_ending() {
        assert_eq!(with_slot(Path::new("/var/log/app.log"), 2), Path::new("/var/log/app-2.log"));
        assert_eq!(with_slot(Path::new("/run/app.pid"), 1), Path::new("/run/app-1.pid"));
        assert_eq!(with_slot(Path::new("/var/log/app"), 0), Path::new("/var/log/app-0"));
        assert_eq!(with_slot(Path::new("/dev/null"), 1), Path::new("/dev/null"));
    }
}
