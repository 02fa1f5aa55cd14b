//! The daemon: one loop that turns what happens into events, gives them to the core, and performs its actions. It owns nothing
//! alone: it may crash at any point and the next one goes on.

mod courier;
mod database;
mod driver;
mod faults;
mod health;
mod history;
mod journal;
mod kernel;
mod link;
mod logs;
mod memory;
mod notify;
mod output;
mod perform;
mod pid_files;
mod probe;
mod readings;
mod server;
mod store;
mod trace;
mod tree;
mod upgrade;
mod views;
mod watch;
mod why;

pub use courier::run as carry;
pub use driver::{End, run};
pub use trace::{Format, begin as begin_log};
pub use upgrade::{can_begin, can_take_over};
