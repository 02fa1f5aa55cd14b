//! Lines of a journal, up to what a daemon begins from.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
#[allow(dead_code)]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::journal(bytes));
