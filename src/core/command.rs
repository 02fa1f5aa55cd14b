//! What clients ask for and what they are answered: the bodies of `POST /v1/command`.

use super::health::Rules;
use super::name::AppName;
use super::notify::Notifier;
use super::record::Actor;
use super::spec::{Env, Signal, Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of the client's protocol. A daemon refuses a newer one with both numbers in the message.
pub const PROTOCOL: u32 = 1;

/// The header that carries the client's [`PROTOCOL`].
pub const PROTOCOL_HEADER: &str = "stead-protocol";

/// `POST /v1/command`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub command: Command,
    /// Answer when it is done rather than when it is begun.
    pub wait: bool,
    /// The client's own command line, for the record.
    pub command_line: String,
}

/// A wish. Targets are names, namespaces, ids or `all`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb")]
pub enum Command {
    /// `start FILE` and `start SCRIPT`: start what is new, restart what changed, leave the rest.
    Apply {
        specs: Vec<Spec>,
        /// The client's environment: the base of apps that are new, and no reason to call one changed.
        environment: Env,
        /// Of `health` beside `apps`; `None`: what holds stays.
        #[serde(default)]
        rules: Option<Rules>,
        /// Of `notify` beside `apps`; `None`: what holds stays.
        #[serde(default)]
        notifiers: Option<Vec<Notifier>>,
        #[serde(default)]
        terms: Terms,
    },
    Start {
        targets: Vec<String>,
    },
    Stop {
        targets: Vec<String>,
    },
    Restart {
        targets: Vec<String>,
        /// `--update-env`: the new base.
        environment: Option<Env>,
    },
    Reload {
        targets: Vec<String>,
    },
    Delete {
        targets: Vec<String>,
    },
    Scale {
        app: String,
        count: u32,
    },
    Reset {
        targets: Vec<String>,
    },
    Signal {
        signal: Signal,
        targets: Vec<String>,
    },
    Flush {
        targets: Vec<String>,
    },
    Save {
        force: bool,
    },
    Resurrect,
    Kill,
}

/// How a file is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Delete what came from the same file earlier and is not in it any more.
    pub prune: bool,
    pub origins: Vec<Origin>,
}

/// A file, whichever of its apps are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Absolute.
    pub file: PathBuf,
    /// All that are in it.
    pub names: Vec<AppName>,
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub changes: Vec<Change>,
    /// Instances that did not get where they should; not empty means exit status 1.
    pub failures: Vec<Failure>,
    pub warnings: Vec<String>,
}

/// What is done with one instance or app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    pub kind: ChangeKind,
    /// For example `env.PORT 5000 → 5001`.
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Started,
    Restarted,
    /// Its next run is to take over before the present one ends.
    Reloaded,
    /// In the file and not to be started (`autostart: false`).
    Added,
    /// Changed in a way that needs no restart.
    Updated,
    Unchanged,
    /// Not in its file any more, and left as it is.
    Gone,
    Stopped,
    Deleted,
    Signalled,
    Reset,
    Flushed,
    Saved,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub name: String,
    /// One sentence: the summary of its exit record.
    pub reason: String,
    /// The last lines of its stderr.
    pub tail: Vec<String>,
}

/// The body of every answer that is no 200.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// Lower case, without `error: `.
    pub error: String,
    pub hint: Option<String>,
}

/// Decides the exit status: 1, 2, 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    Failed,
    Usage,
    NoSuchApp,
}

impl Refusal {
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Refusal {
        Refusal { kind: RefusalKind::Failed, error: error.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

/// A command with who asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub command: Command,
    pub wait: bool,
    pub actor: Actor,
}
