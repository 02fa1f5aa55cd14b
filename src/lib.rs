//! stead starts apps, keeps them up, and knows why each run of them ended.
//!
//! One binary, three roles. The *keeper* holds what must not be lost: child processes, their log pipes, their exit statuses. The
//! *daemon* decides and may crash or be replaced. The *client* is the command line. Modules in reading order; each uses only
//! what stands before it.

pub mod core;
pub mod config;
pub mod os;
pub mod keeper;
pub mod daemon;
pub mod client;
