//! Everything that is decided, and nothing that is touched: no process, file, clock, or chance.
//!
//! Read [`spec`] (the wish), [`record`] (the fact), [`instance`] (one life after another), [`fleet`] (all of them).

pub mod clock;
pub mod command;
pub mod name;
pub mod record;
pub mod spec;
pub mod view;
