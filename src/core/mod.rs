//! Everything that is decided, and nothing that is touched: no process, file, clock, or chance.
//!
//! Read [`spec`] (the wish), [`record`] (the fact), [`event`] and [`action`] (the two sides of the wall), [`instance`] (one life
//! after another), [`fleet`] (all of them).

pub mod action;
pub mod advice;
mod ask;
pub mod backoff;
pub mod cause;
pub mod change;
pub mod clock;
pub mod command;
pub mod database;
pub mod depend;
pub mod cron;
pub mod event;
pub mod exit_code;
pub mod fleet;
pub mod health;
pub mod history;
pub mod hint;
pub mod instance;
pub mod kernel_log;
pub mod log_name;
pub mod name;
pub mod port;
pub mod notify;
pub mod probe;
pub mod record;
pub mod recover;
pub mod secret;
pub mod reload;
pub mod signature;
pub mod spec;
mod roll;
mod target;
pub mod traceback;
pub mod trend;
pub mod upgrade;
pub mod view;
mod wait;
pub mod watch;
pub mod why;
