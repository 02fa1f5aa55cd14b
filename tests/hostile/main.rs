//! Text at its worst: what apps print, what others write into logs, and what was stored or sent and came back changed. Any bytes, tracebacks that were cut and shuffled, and whatever
//! makes a search begin again and again.

mod check;

use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Lines that tracebacks and logs are made of.
const PIECES: &[&str] = &[
    "Traceback (most recent call last):",
    "  + Exception Group Traceback (most recent call last):",
    "  | ExceptionGroup: x (2 sub-exceptions)",
    "  +-+---------------- 1 ----------------",
    "  File \"/srv/app/a.py\", line 3, in f",
    "    f(x)",
    "    ~^^^",
    "ValueError: x",
    "The above exception was the direct cause of the following exception:",
    "Exception in thread Thread-1 (f):",
    "Fatal Python error: Segmentation fault",
    "/srv/app/a.js:2",
    "Error: x",
    "    at f (/srv/app/a.js:1:2)",
    "    at async Promise.all (index 0) {",
    "}",
    "java.lang.RuntimeException: x",
    "\tat a.b.C.d(C.java:7)",
    "Caused by: java.io.IOException",
    "thread 'main' panicked at src/main.rs:1:2:",
    "stack backtrace:",
    "panic: x",
    "goroutine 1 [running]:",
    "main.main()",
    "\t/srv/app/main.go:9 +0x1d",
    "2026-11-24 10:00:00 [ERROR] x",
    "",
];

/// Texts of the kernel's log.
const RECORDS: &[&str] = &[
    "6,823,2317096882,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=7,uid=0",
    "3,824,2317096899,-;Memory cgroup out of memory: Killed process 7 (python3) total-vm:65908kB, anon-rss:55808kB, file-rss:6640kB",
    "6,9,77,-;python3[7]: segfault at 0 ip 00007f2b sp 00007ffd error 4 in libc.so.6[7f2b+155000]",
    "12,9,77,-;earlyoom: sending SIGTERM to process 7 uid 0 \"python3\": oom_score 800",
];

fn traceback() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (proptest::sample::select(PIECES), any::<u8>()).prop_map(|(piece, at)| {
            piece.bytes().skip(usize::from(at) % (piece.len() + 1)).collect()
        }),
    ];
    let lines = proptest::collection::vec(line, 0..40);
    (lines, any::<bool>()).prop_map(|(lines, stamped)| {
        let stamp: &[u8] = if stamped { b"10:00:00 web | " } else { b"" };
        lines.iter().flat_map(|line| [stamp, line, b"\n"].concat()).collect()
    })
}

/// A record with some of its bytes changed, cut off or doubled.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0u8..3);
    (proptest::sample::select(RECORDS), proptest::collection::vec(change, 0..6)).prop_map(|(record, changes)| {
        let mut bytes = record.as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at + 1),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

/// The oldest forms of all that is stored or sent.
const STATE: &str = include_str!("../fixtures/state-v1.json");
const JOURNAL: &str = include_str!("../fixtures/journal-v1.jsonl");
const FROM_KEEPER: &str = include_str!("../fixtures/from-keeper-v1.jsonl");
const FROM_DAEMON: &str = include_str!("../fixtures/from-daemon-v1.jsonl");

/// Pieces that JSON breaks at, and numbers that do not fit.
const SCRAPS: &[&str] =
    &["null", "-1", "18446744073709551615", "1e309", "\"../x\"", "\"\\u0000\"", "{}", "[]", "[", "}", "\"", ",", "\\"];

/// A text with some of its pieces replaced, doubled, or cut off.
fn changed(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), proptest::sample::select(SCRAPS), 0u8..4);
    proptest::collection::vec(change, 0..4).prop_map(move |changes| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, length, scrap, how) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length.index(16)).min(bytes.len());
            match how {
                0 => drop(bytes.splice(at..end, scrap.bytes())),
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..end),
                _ => {
                    // A whole value: what stands between a colon and the next comma.
                    let from = bytes[at..].iter().position(|byte| *byte == b':').map_or(end, |colon| at + colon + 1);
                    let to = bytes[from..].iter().position(|byte| *byte == b',').map_or(from, |comma| from + comma);
                    bytes.splice(from..to, scrap.bytes());
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check::output(&bytes);
        check::record(&bytes);
        check::message(&bytes);
        check::state(&bytes);
        check::journal(&bytes);
    }

    #[test]
    fn shuffled_and_torn_tracebacks_are_read(bytes in traceback()) {
        check::output(&bytes);
    }

    #[test]
    fn changed_records_are_read(bytes in record()) {
        check::record(&bytes);
    }

    #[test]
    fn changed_messages_are_read_or_refused(bytes in prop_oneof![changed(FROM_KEEPER), changed(FROM_DAEMON)]) {
        bytes.split(|byte| *byte == b'\n').for_each(check::message);
    }

    #[test]
    fn a_daemon_begins_with_any_state_that_can_be_read(bytes in changed(STATE)) {
        check::state(&bytes);
    }

    #[test]
    fn changed_journals_are_read(bytes in changed(JOURNAL)) {
        check::journal(&bytes);
    }
}

#[test]
fn what_is_whole_is_read() {
    // Else the tests above would prove nothing.
    assert!(serde_json::from_str::<stead::core::recover::Wanted>(STATE).is_ok());
    check::state(STATE.as_bytes());
    check::journal(JOURNAL.as_bytes());
}

#[test]
fn no_text_takes_long() {
    // The daemon looks at the last 64 KiB of stderr, no more than 500 lines of it.
    const MOST: usize = 64 << 10;
    let mut texts: Vec<(String, String)> = Vec::new();
    let fill = |line: String| line.repeat(MOST / line.len());
    for first in PIECES {
        for second in PIECES.iter().step_by(4) {
            texts.push((format!("{first} / {second}"), format!("{first}\n{second}\n").repeat(250)));
        }
        texts.push((format!("{first}, long"), fill(format!("{}{first}\n", " ".repeat(1900)))));
    }
    for text in ["'", "(", "  File \"", "a.", "\u{1b}[", ": "] {
        texts.push((format!("{text}, again"), fill(format!("{}\n", text.repeat(1900 / text.len())))));
    }
    let mut worst = (Duration::ZERO, String::new());
    for (name, text) in texts {
        let begun = Instant::now();
        check::output(text.as_bytes());
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?} for {name}");
        if took > worst.0 {
            worst = (took, name);
        }
    }
    println!("{:?} at most, for {}", worst.0, worst.1);
}
