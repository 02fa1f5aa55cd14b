//! What holds for any text at all; the fuzz targets hold to it too.

use std::path::Path;
use stead::core::{hint, kernel_log, signature, traceback};

/// What an app printed: what is found in it is bounded, and moves no cursor.
pub fn output(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let Some(found) = traceback::last_exception(&lines, Path::new("/srv/app")) else { return };
    let exception = found.exception;
    let hint = hint::hint(Some(&exception), &[]).unwrap_or_default();
    let signature = signature::signature(&exception.kind, &exception.message);
    assert!(exception.kind.chars().count() <= 201 && exception.message.chars().count() <= 1001);
    assert!(signature.chars().count() <= signature::MAX_SIGNATURE && hint.len() < 10_000);
    for text in [exception.kind, exception.message, signature, hint] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// A record of /dev/kmsg: what a process wrote is never taken for the kernel's word.
pub fn record(bytes: &[u8]) {
    let record = String::from_utf8_lossy(bytes);
    let (oom, fault) = (kernel_log::oom_line(&record), kernel_log::fault(&record));
    if oom.is_some() || fault.is_some() {
        let priority = record.split(',').next().and_then(|priority| priority.parse::<u32>().ok());
        assert!(priority.is_some_and(|priority| priority < 8), "{record:?}");
    }
    if let Some(line) = oom {
        assert!(line.victim_pid > 0 && line.victim_name.chars().count() <= 15);
        assert!(!line.victim_name.chars().any(char::is_control));
    }
    assert!(kernel_log::earlyoom_victim(&record).is_none_or(|pid| pid > 0));
}
