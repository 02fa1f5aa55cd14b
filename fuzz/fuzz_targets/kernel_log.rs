//! Records of /dev/kmsg and lines of syslog, as bytes.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
#[allow(dead_code)]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::record(bytes));
