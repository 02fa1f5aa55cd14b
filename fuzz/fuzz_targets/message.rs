//! What keeper and daemon tell each other, and what clients ask for.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
#[allow(dead_code)]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::message(bytes));
