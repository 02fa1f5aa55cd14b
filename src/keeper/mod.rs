//! The small parent: it holds children, pidfds, log pipes, exit statuses and listening sockets, and decides nothing.
//!
//! Synchronous and single-threaded; it never waits for anybody. What it says is computed from its table, so that a daemon that
//! does not read costs nothing but its own knowledge.

mod attendant;
pub mod handover;
pub mod inventory;
mod keep;
pub mod message;
mod upgrade;

pub use keep::{Start, run};
pub use upgrade::resume;
