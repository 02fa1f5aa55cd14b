//! `POST /v1/upgrade`: what is asked for and how far it is. The id makes it safe to ask again: the connection breaks in between.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The body of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The client's own, the same each time it asks.
    pub id: String,
    /// Absolute.
    pub binary: PathBuf,
}

/// The body of the answer. Keeper and daemon keep the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    /// Versions.
    pub from: String,
    /// `None`: the new binary has not said it.
    pub to: Option<String>,
    #[serde(flatten)]
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Ask again.
    Pending,
    Done,
    /// The previous stead goes on.
    Failed {
        reason: String,
    },
}

impl Report {
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.state == State::Pending
    }
}
