//! stead as its users meet it: the real binary, real processes, real kills.

mod harness;
mod memory;
mod start_and_stop;
