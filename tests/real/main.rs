//! stead as its users meet it: the real binary, real processes, real kills.

mod attributes;
mod harness;
mod json;
mod look;
mod memory;
mod policy;
mod start_and_stop;
mod verbs;
