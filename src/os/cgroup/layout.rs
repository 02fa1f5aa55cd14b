//! Which hierarchies there are, and where in them this process is. Source: cgroups(7), proc_pid_mountinfo(5).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a hierarchy can do for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub const ALL: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

    /// The kernel's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
        }
    }
}

/// A group in a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub mount: PathBuf,
    /// Below the mount; empty for its root.
    pub path: PathBuf,
}

impl Place {
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.as_os_str().is_empty()
    }
}

/// Our own group in each hierarchy that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub v1: BTreeMap<Controller, Place>,
    pub v2: Option<Place>,
}

impl Layout {
    /// Of this process.
    #[must_use]
    pub fn read() -> Layout {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Layout::parse(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"))
    }

    /// From the text of `/proc/PID/cgroup` and `/proc/PID/mountinfo`. A hierarchy that is not mounted where we see it does not serve.
    #[must_use]
    pub fn parse(cgroup: &str, mountinfo: &str) -> Layout {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut layout = Layout::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if controllers.is_empty() {
                layout.v2 = mounts.iter().filter(|mount| mount.v2).find_map(|mount| mount.place(path));
                continue;
            }
            for controller in Controller::ALL {
                if controllers.split(',').any(|name| name == controller.word()) {
                    let of =
                        |mount: &&Mount| !mount.v2 && mount.options.iter().any(|option| option == controller.word());
                    if let Some(place) = mounts.iter().filter(of).find_map(|mount| mount.place(path)) {
                        layout.v1.insert(controller, place);
                    }
                }
            }
        }
        layout
    }
}

struct Mount {
    v2: bool,
    /// The part of the hierarchy that is mounted: not its root in a container.
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let mut tail = tail.split(' ');
        let v2 = match tail.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = tail.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mount { v2, root: unescape(head.next()?), point: unescape(head.next()?), options })
    }

    fn place(&self, path: &str) -> Option<Place> {
        // A path beyond our namespace's root begins with `/..` and cannot be reached by this mount.
        let path = Path::new(path).strip_prefix(&self.root).ok().filter(|path| !path.starts_with(".."))?;
        Some(Place { mount: self.point.clone(), path: path.to_owned() })
    }
}

/// Blanks and backslashes are written in octal: `\040`.
fn unescape(text: &str) -> PathBuf {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mount: &str, path: &str) -> Place {
        Place { mount: mount.into(), path: path.into() }
    }

    #[test]
    fn a_hybrid_host_has_v1_controllers_and_a_v2_tree_beside() {
        let layout = Layout::parse(
            "8:pids:/\n4:memory:/process_api/34\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n",
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(layout.v1[&Controller::Memory], place("/sys/fs/cgroup/memory", "process_api/34"));
        assert_eq!(layout.v1[&Controller::Cpu], place("/sys/fs/cgroup/cpu,cpuacct", ""));
        assert_eq!(layout.v2, Some(place("/sys/fs/cgroup/unified", "")));
        assert!(layout.v1[&Controller::Pids].is_root());
    }

    #[test]
    fn a_unified_host_has_one_tree() {
        let layout = Layout::parse(
            "0::/system.slice/stead.service\n",
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(
            layout,
            Layout { v1: BTreeMap::new(), v2: Some(place("/sys/fs/cgroup", "system.slice/stead.service")) }
        );
    }

    #[test]
    fn a_container_sees_a_part_of_the_tree() {
        let layout = Layout::parse(
            "4:memory:/docker/abc/inner\n",
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        );
        assert_eq!(layout.v1[&Controller::Memory], place("/sys/fs/cgroup/memory", "inner"));
        let outside = Layout::parse("0::/../other\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(outside.v2, None);
    }

    #[test]
    fn garbage_is_no_hierarchy() {
        for (cgroup, mounts) in
            [("", ""), ("x", "y"), ("0::/a", "30 23 - cgroup2"), ("4:memory", "a b c d e - cgroup x")]
        {
            assert_eq!(Layout::parse(cgroup, mounts), Layout::default());
        }
    }
}
