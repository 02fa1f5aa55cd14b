//! Whether systemd is asked for a group of its own for the keeper, and what helps where no group can be had.
//!
//! systemd is the only writer of its tree: who makes groups in a session's scope loses them with the session. `systemd-run --scope` runs
//! a command in a scope that is delegated to it. Source: systemd-run(1), the CGROUP_DELEGATION page of systemd.

use super::layout::{Controller, Layout, Place};
use std::path::{Path, PathBuf};

/// What is known of the machine and of who starts stead.
#[derive(Clone, Debug)]
pub struct Host {
    /// systemd is the init process.
    pub systemd: bool,
    pub uid: u32,
    /// The user's processes outlive the user's sessions.
    pub lingers: bool,
    pub layout: Layout,
    /// Our group is delegated already, to us or to who started us.
    pub delegated: bool,
    pub systemd_run: Option<PathBuf>,
}

/// How the keeper is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the group where we are.
    Here,
    /// In a scope of its own, by this program.
    Scope { systemd_run: PathBuf },
}

impl Host {
    /// Of this process.
    #[must_use]
    pub fn here() -> Host {
        // The keeper asks no name service.
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        Host::read(Path::new("/"), crate::os::process::uid(), &user)
    }

    /// `root` is `/`.
    fn read(root: &Path, uid: u32, user: &str) -> Host {
        let layout = Layout::read();
        let search = std::env::var("PATH").ok();
        Host {
            systemd: root.join("run/systemd/system").is_dir(),
            uid,
            lingers: !user.is_empty() && root.join("var/lib/systemd/linger").join(user).exists(),
            delegated: layout.v2.as_ref().is_some_and(is_delegated),
            layout,
            systemd_run: crate::os::process::find_program("systemd-run", search.as_deref()).ok().map(PathBuf::from),
        }
    }

    /// A scope only where it brings something, and where it lasts: without lingering a user's scopes end with the last session.
    #[must_use]
    pub fn way(&self) -> Way {
        match &self.systemd_run {
            Some(systemd_run) if self.is_systemds() && !self.delegated && (self.uid == 0 || self.lingers) => {
                Way::Scope { systemd_run: systemd_run.clone() }
            }
            _ => Way::Here,
        }
    }

    /// What gives stead a group of its own.
    #[must_use]
    pub fn remedy(&self) -> String {
        if !self.is_systemds() {
            return "let stead make cgroups: run it as root, or hand it a writable cgroup (in a container: a private cgroup \
                    namespace, mounted read-write)"
                .into();
        }
        if self.uid != 0 && !self.lingers {
            return "`loginctl enable-linger`, then `stead kill` and start again".into();
        }
        let user = if self.uid == 0 { "" } else { "--user " };
        format!(
            "`stead kill`, then start it by `systemd-run {user}--scope -p Delegate=yes stead start FILE`, or as a unit with `Delegate=yes`"
        )
    }

    fn is_systemds(&self) -> bool {
        self.systemd && self.layout.v2.is_some() && !self.layout.v1.contains_key(&Controller::Memory)
    }
}

/// systemd marks what it delegates (`trusted.delegate` for root, `user.delegate` from 251 on). With `DelegateSubgroup=` we are one
/// below it. Farther up it says nothing: all that a user's own systemd runs is below `user@UID.service`, which is delegated to
/// that systemd.
fn is_delegated(place: &Place) -> bool {
    let folder = place.folder();
    let near = folder.ancestors().take(2).take_while(|above| above.starts_with(&place.mount));
    near.into_iter().any(|above| {
        ["user.delegate", "trusted.delegate"]
            .iter()
            .any(|name| attribute(above, name).is_some_and(|value| value == b"1"))
    })
}

/// getxattr(2).
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).ok()?;
    let name = std::ffi::CString::new(name).ok()?;
    let mut value = [0u8; 16];
    // SAFETY: both texts end in NUL, and the buffer has the size that is told.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    usize::try_from(length).ok().map(|length| value[..length].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with systemd and cgroup v2, and root in a login session.
    fn server() -> Host {
        let cgroup = "0::/user.slice/user-0.slice/session-1.scope\n";
        let mounts = "24 23 0:21 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        Host {
            systemd: true,
            uid: 0,
            lingers: false,
            layout: Layout::parse(cgroup, mounts),
            delegated: false,
            systemd_run: Some("/usr/bin/systemd-run".into()),
        }
    }

    #[test]
    fn a_scope_is_asked_for_only_where_it_brings_something_and_lasts() {
        let scope = Way::Scope { systemd_run: "/usr/bin/systemd-run".into() };
        let hybrid = Layout::parse(
            "4:memory:/user.slice\n0::/user.slice\n",
            "24 23 0:21 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n25 23 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        );
        for (host, way) in [
            (server(), scope.clone()),
            (Host { systemd: false, ..server() }, Way::Here),
            (Host { systemd_run: None, ..server() }, Way::Here),
            (Host { delegated: true, ..server() }, Way::Here),
            (Host { layout: hybrid, ..server() }, Way::Here),
            (Host { uid: 1000, ..server() }, Way::Here),
            (Host { uid: 1000, lingers: true, ..server() }, scope),
        ] {
            assert_eq!(host.way(), way, "{host:?}");
        }
    }

    #[test]
    fn each_trouble_has_its_remedy() {
        for (host, remedy) in [
            (Host { uid: 1000, ..server() }, "`loginctl enable-linger`"),
            (Host { uid: 1000, lingers: true, ..server() }, "`systemd-run --user --scope -p Delegate=yes "),
            (server(), "`systemd-run --scope -p Delegate=yes "),
            (Host { systemd: false, ..server() }, "hand it a writable cgroup"),
        ] {
            assert!(host.remedy().contains(remedy), "{}", host.remedy());
        }
    }

    #[test]
    fn the_machine_is_read_below_a_root() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::read(root.path(), 1000, "me");
        assert_eq!((host.systemd, host.lingers), (false, false));
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/systemd/linger")).unwrap();
        std::fs::write(root.path().join("var/lib/systemd/linger/me"), "").unwrap();
        let host = Host::read(root.path(), 1000, "me");
        assert_eq!((host.systemd, host.lingers), (true, true));
    }
}
