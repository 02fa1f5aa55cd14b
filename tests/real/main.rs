//! stead as its users meet it: the real binary, real processes, real kills.

mod attributes;
mod bad_input;
mod children;
mod harness;
mod health;
mod history;
mod json;
mod keeper;
mod logs;
mod look;
mod memory;
mod notify;
mod policy;
mod recovery;
mod start_and_stop;
mod text;
mod verbs;
