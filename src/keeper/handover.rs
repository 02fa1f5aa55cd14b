//! What a keeper hands to the next one, which is the same process with another program: a table in a memfd, and the descriptors whose
//! numbers stand in it. The next one may be older (a way back), so fields are only ever added.

use super::message::{Note, OLDEST, Orphan, PROTOCOL, State};
use crate::core::clock::{Mono, Now};
use crate::core::event::ExitStatus;
use crate::core::name::RunId;
use crate::core::upgrade::Report;
use crate::os::cgroup::site::Site;
use crate::os::signal::Came;
use crate::os::spawn::OriginalLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// Version of this form.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    pub version: u32,
    /// The version of the stead that hands over.
    pub stead: String,
    /// What it speaks with its daemon, in the words of `Hello`.
    pub newest: u32,
    pub oldest: u32,
    pub lock: RawFd,
    pub front_door: RawFd,
    pub daemon_stderr: RawFd,
    pub daemon_args: Vec<String>,
    pub daemon_starts: u64,
    /// Of these starts.
    pub upgrades: u64,
    pub files: OriginalLimit,
    pub site: Site,
    pub highest_run: RunId,
    pub sockets: BTreeMap<String, RawFd>,
    pub runs: Vec<HeldRun>,
    /// Deaths and signals that no daemon was told of.
    pub orphans: Vec<(i32, ExitStatus, Option<Orphan>)>,
    pub came: Vec<Came>,
    pub told_to_end: Option<(Came, Mono)>,
    pub mirror: Option<HeldMirror>,
    pub report: Report,
    /// The program that this process was, to go back to while the upgrade is pending.
    pub previous: Option<RawFd>,
}

/// The process that copies what apps write; it goes on in its own program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMirror {
    pub pidfd: RawFd,
    pub stdin: Option<RawFd>,
}

/// A run of the inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldRun {
    pub run: RunId,
    pub pid: i32,
    pub started: Now,
    pub state: State,
    pub note: Note,
    pub pidfd: Option<RawFd>,
    /// Read ends; both or none.
    pub out: Option<RawFd>,
    pub err: Option<RawFd>,
    /// Until the exec is decided.
    pub exec: Option<RawFd>,
    pub out_log: Option<RawFd>,
    pub err_log: Option<RawFd>,
}

/// What `keeper --check` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    Yes { version: String },
    No { reason: String },
}

impl Handover {
    /// Reads it, and looks whether this binary can go on from there.
    ///
    /// # Errors
    /// Why it cannot: one sentence, for whoever asked for the upgrade.
    pub fn parse(bytes: &[u8]) -> Result<Handover, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            stead: String,
            newest: u32,
            oldest: u32,
        }
        let ours = env!("CARGO_PKG_VERSION");
        let unreadable = |error| format!("stead {ours} cannot read what is handed over: {error}");
        let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
        if head.version > VERSION {
            return Err(format!(
                "stead {} hands over in version {}, and stead {ours} reads up to {VERSION}",
                head.stead, head.version
            ));
        }
        if head.newest < OLDEST || head.oldest > PROTOCOL {
            return Err(format!(
                "stead {} speaks protocol {} to {}, and stead {ours} {OLDEST} to {PROTOCOL}",
                head.stead, head.oldest, head.newest
            ));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// All that must stay open over the exec, beside the handover itself.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let runs = self
            .runs
            .iter()
            .flat_map(|run| [run.pidfd, run.out, run.err, run.exec, run.out_log, run.err_log].into_iter().flatten());
        let mirror = self.mirror.iter().flat_map(|mirror| [Some(mirror.pidfd), mirror.stdin].into_iter().flatten());
        [self.lock, self.front_door, self.daemon_stderr]
            .into_iter()
            .chain(self.sockets.values().copied())
            .chain(self.previous)
            .chain(mirror)
            .chain(runs)
            .collect()
    }
}
