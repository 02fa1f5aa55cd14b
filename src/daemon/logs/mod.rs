//! The log pump: a thread that moves bytes from the pipes of runs into files, so that a slow disk never stops the loop.
//!
//! Bytes are in the pipe, which the keeper holds too, or in the file: one splice(2) moves them. Where they must be changed or
//! copied they are looked at by tee(2), written, and only then taken out of the pipe: after a crash at worst one chunk stands
//! there twice, and none is missing.

mod file;
mod pump;
mod tail;
mod transform;

pub use file::Target;
pub use pump::{Order, Pump, Sink, Told};
pub use tail::{mark, tail};
