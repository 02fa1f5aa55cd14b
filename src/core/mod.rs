//! Everything that is decided, and nothing that is touched: no process, file, clock, or chance.
//!
//! Read [`spec`] (the wish), [`record`] (the fact), [`event`] and [`action`] (the two sides of the wall), [`instance`] (one life
//! after another), [`fleet`] (all of them).

pub mod action;
mod ask;
pub mod backoff;
pub mod cause;
pub mod change;
pub mod clock;
pub mod command;
pub mod event;
pub mod exit_code;
pub mod fleet;
pub mod health;
pub mod history;
pub mod instance;
pub mod kernel_log;
pub mod log_name;
pub mod name;
pub mod notify;
pub mod record;
pub mod recover;
pub mod signature;
pub mod spec;
mod target;
pub mod traceback;
pub mod trend;
pub mod view;
mod wait;
