//! What keeper and daemon tell each other: one JSON object per SOCK_SEQPACKET packet, one run per message, descriptors beside it.
//! Unknown fields are ignored and unknown messages passed over, so that either side may be the newer one.

use crate::core::clock::{Mono, Now};
use crate::core::event::{ExitStatus, Usage};
use crate::core::name::RunId;
use crate::core::upgrade::Report;
use crate::os::cgroup::site::Site;
use crate::os::spawn::Stage;
use serde::{Deserialize, Serialize};

/// The version that this binary speaks, and the oldest that it understands.
pub const PROTOCOL: u32 = 1;
pub const OLDEST: u32 = 1;

/// Seconds without a [`FromDaemon::Beat`] after which the keeper ends the daemon.
pub const BEAT_LIMIT_MS: u64 = 30_000;

/// How often the daemon says that it lives: three may be missed.
pub const BEAT_EVERY_MS: u64 = 8_000;

/// A note is opaque to the keeper: JSON of the daemon's own, kept as the text that came, in one piece of memory.
pub type Note = String;

/// From the keeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromKeeper {
    /// First of all. Descriptor: `stead.sock`.
    Hello {
        newest: u32,
        oldest: u32,
        boot_id: String,
        keeper_pid: i32,
        highest_run: RunId,
        daemon_starts: u64,
        /// Of these, by an upgrade.
        #[serde(default)]
        upgrades: u64,
        /// Where the daemon makes a group for each run.
        #[serde(default)]
        site: Site,
    },
    /// A held socket. Descriptor: the socket.
    Socket {
        name: String,
    },
    /// One run of the inventory. Descriptors: pidfd (not of one that failed), read ends of stdout and stderr.
    Run {
        run: RunId,
        pid: i32,
        started: Now,
        state: State,
        note: Note,
    },
    /// The inventory is complete: the daemon may act.
    End {
        count: u64,
    },
    /// The exec succeeded. Descriptors: pidfd, read ends of stdout and stderr.
    Spawned {
        run: RunId,
        pid: i32,
        at: Now,
    },
    Failed {
        run: RunId,
        stage: Stage,
        errno: i32,
    },
    Exited {
        run: RunId,
        status: ExitStatus,
        usage: Usage,
        at: Now,
    },
    /// A process that was no run ended and was reaped.
    Orphan {
        pid: i32,
        status: ExitStatus,
        #[serde(default)]
        was: Option<Orphan>,
    },
    /// How far the last upgrade is. `news`: nobody has been told of it before.
    Upgrade {
        report: Report,
        news: bool,
    },
    /// The daemon is to end without a goodbye: another follows, after an upgrade.
    Retire,
    /// A signal came to the keeper.
    Term {
        signal: i32,
        pid: i32,
        uid: u32,
    },
    #[serde(other)]
    Unknown,
}

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromDaemon {
    /// Descriptors: a memfd with the [`crate::os::spawn::Plan`], then those of the run's groups. A run that is known is only told of again.
    Spawn {
        run: RunId,
        note: Note,
    },
    /// Replaces the run's note.
    Note {
        run: RunId,
        note: Note,
    },
    /// All that is known of the run is on disk.
    Forget {
        run: RunId,
    },
    /// Descriptor: the file that the keeper may splice the stream to while no daemon lives.
    Log {
        run: RunId,
        stream: Stream,
    },
    /// Descriptor: a listening socket to be held under this name.
    Hold {
        name: String,
    },
    Unhold {
        name: String,
    },
    /// Descriptor: the new binary. An upgrade of an id that is known is only told of again.
    Upgrade {
        id: String,
    },
    Beat,
    /// The daemon ends because it should; everything else is a crash.
    Bye,
    #[serde(other)]
    Unknown,
}

/// The state of a run in the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Starting,
    Live,
    Ended { status: ExitStatus, usage: Usage, at: Now },
    Failed { stage: Stage, errno: i32, at: Mono },
}

/// What was seen of an orphan before it was reaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub name: String,
    /// The run's main process, unless it began a session of its own.
    pub session: i32,
    /// The last part of its group's path in the v2 tree.
    pub group: Option<String>,
    pub at: Now,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Out,
    Err,
}
