//! The only door to Linux. It reads, writes and signals, and decides nothing.

pub mod cgroup;
pub mod clock;
pub mod command;
pub mod file;
pub mod host;
pub mod inotify;
pub mod kmsg;
pub mod locks;
pub mod notify;
pub mod pipe;
pub mod ports;
pub mod process;
pub mod role;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod strings;
pub mod systemd;
pub mod terminal;
pub mod user;
pub mod wait;
