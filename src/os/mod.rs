//! The only door to Linux. It reads, writes and signals, and decides nothing.

pub mod cgroup;
pub mod clock;
pub mod command;
pub mod crash;
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
pub mod text;
pub mod user;
pub mod wait;

/// The words of an error without `(os error 13)`.
#[must_use]
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
