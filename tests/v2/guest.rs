//! A guest for one script. `contrib/scripts/guest.sh --help` tells what a script finds in it.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A machine that is about to boot.
pub struct Guest {
    memory_mb: u32,
    delegated: bool,
    systemd: bool,
    disk: Option<PathBuf>,
    power_cut: bool,
    limit_s: u32,
    files: String,
}

/// What a script said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Past the capture of a test's output, which is shown of failed tests only.
fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {why}");
}

impl Guest {
    /// A guest of 256 MiB for a script of root's. `None` on a machine that Debian has no such kernel for: the test is skipped,
    /// and says so.
    pub fn new() -> Option<Guest> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            skipped(&format!("there is no user-mode Linux for {}", std::env::consts::ARCH));
            return None;
        }
        let guest = Guest {
            memory_mb: 256,
            delegated: false,
            systemd: false,
            disk: None,
            power_cut: false,
            limit_s: 120,
            files: String::new(),
        };
        if guest.is_too_old_for_this_cpu() {
            skipped("this user-mode Linux cannot carry the registers of this CPU (AMX)");
            return None;
        }
        Some(guest)
    }

    /// Debian 12's user-mode Linux dies at its first process on a CPU with AMX, whose registers do not fit its buffer: it is asked once,
    /// and only there. Whatever else keeps a guest from booting is a failure.
    fn is_too_old_for_this_cpu(&self) -> bool {
        static IS_TOO_OLD: OnceLock<bool> = OnceLock::new();
        *IS_TOO_OLD.get_or_init(|| {
            let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            cpu.contains(" amx_tile ") && self.boot("true").status.code() == Some(126)
        })
    }

    /// The script is run by an ordinary user, in a scope of the user's manager's tree, which is the user's.
    pub fn delegated(mut self) -> Guest {
        self.delegated = true;
        self
    }

    /// systemd is the guest's init, and ends it in an orderly way. `None` where this machine has no systemd to boot: the test is skipped, and
    /// says so. With a disk, all that the guest writes is there at the next boot.
    pub fn systemd(mut self) -> Option<Guest> {
        if !Path::new("/lib/systemd/systemd").exists() {
            skipped("there is no /lib/systemd/systemd (Debian: systemd)");
            return None;
        }
        self.systemd = true;
        Some(self)
    }

    pub fn memory_mb(mut self, megabytes: u32) -> Guest {
        self.memory_mb = megabytes;
        self
    }

    /// Its life, in seconds; 120 if nothing is said.
    pub fn limit_s(mut self, seconds: u32) -> Guest {
        self.limit_s = seconds;
        self
    }

    /// `/disk` is a file system in this file, which is made where it does not exist.
    pub fn disk(mut self, image: &Path) -> Guest {
        self.disk = Some(image.into());
        self
    }

    /// Whether the guest loses its power when the script has ended: the disk lacks what was not synced.
    pub fn power_cut(mut self, is_cut: bool) -> Guest {
        self.power_cut = is_cut;
        self
    }

    /// Writes a file where the script will run, in the guest's memory; a program gets its mode by `#!`.
    pub fn file(mut self, name: &str, text: &str) -> Guest {
        const END: &str = "END-OF-THIS-FILE";
        assert!(text.ends_with('\n') && !text.contains(END), "not a text for a here-document: {text:?}");
        self.files += &format!("cat >'{name}' <<'{END}'\n{text}{END}\n");
        if text.starts_with("#!") {
            self.files += &format!("chmod +x '{name}'\n");
        }
        self
    }

    /// Boots, runs the script by `sh -eu`, and ends. Panics where the guest did not boot, did not end in time or crashed.
    pub fn run(&self, script: &str) -> Said {
        let output = self.boot(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = output.status.code();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        match status {
            None | Some(124..=126) => panic!("no guest ({status:?}):\n{stdout}\n{stderr}"),
            Some(status) => Said { status, stdout, stderr },
        }
    }

    fn boot(&self, script: &str) -> Output {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/scripts/guest.sh"));
        command.args(["--memory", &self.memory_mb.to_string(), "--limit", &self.limit_s.to_string()]);
        if self.delegated {
            command.arg("--user");
        }
        if self.systemd {
            command.arg("--systemd");
        }
        if let Some(disk) = &self.disk {
            command.arg("--disk").arg(disk);
        }
        if self.power_cut {
            command.arg("--power-cut");
        }
        command.arg(format!("set -eu\n{}{script}", self.files));
        command.env("STEAD", env!("CARGO_BIN_EXE_stead")).stdin(Stdio::null()).output().expect("guest.sh runs")
    }

    /// Runs a script that must succeed.
    pub fn ok(&self, script: &str) -> Said {
        let said = self.run(script);
        assert_eq!(said.status, 0, "{}\n{}", said.stdout, said.stderr);
        said
    }
}

impl Said {
    /// The lines of stdout that are JSON, in their order; a script tells what it sees by `stead … --json`.
    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
