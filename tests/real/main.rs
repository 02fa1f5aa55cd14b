//! stead as its users meet it: the real binary, real processes, real kills.

mod children;
mod harness;
mod keeper;
mod logs;
mod memory;
mod recovery;
mod start_and_stop;
