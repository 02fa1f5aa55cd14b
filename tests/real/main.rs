//! stead as its users meet it: the real binary, real processes, real kills.

mod attributes;
mod bad_input;
mod causes;
mod children;
mod counter;
// A release build has no places to die at.
#[cfg(debug_assertions)]
mod crash_points;
mod harness;
mod faults;
mod health;
mod history;
mod json;
mod keeper;
mod logs;
mod look;
mod memory;
mod notify;
mod plan;
mod policy;
mod probes;
mod reader;
mod recovery;
mod reload;
mod security;
mod service;
mod start_and_stop;
mod startup;
mod text;
mod upgrade;
mod verbs;
mod watch;
mod why;
