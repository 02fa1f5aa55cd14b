//! stead as its users meet it: the real binary, real processes, real kills.

mod attributes;
mod bad_input;
mod causes;
mod children;
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
mod start_and_stop;
mod text;
mod verbs;
mod watch;
mod why;
