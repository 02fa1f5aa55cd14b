//! `state.json`, up to a daemon that begins with it.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
#[allow(dead_code)]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::state(bytes));
