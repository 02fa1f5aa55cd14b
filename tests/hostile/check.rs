//! What holds for any text at all; the fuzz targets hold to it too.

use std::fmt::Debug;
use std::path::{Component, Path};
use stead::core::action::Line;
use stead::core::clock::{Mono, Now, Wall};
use stead::core::command::Request;
use stead::core::fleet::Fleet;
use stead::core::recover::{Found, Wanted, tails};
use stead::core::{hint, kernel_log, signature, traceback};
use stead::keeper::message::{FromDaemon, FromKeeper};

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

/// What keeper and daemon tell each other, and what a client asks for: it is read or refused, and what was read is said in the same words.
pub fn message(bytes: &[u8]) {
    same_again::<FromKeeper>(bytes);
    same_again::<FromDaemon>(bytes);
    let _ = serde_json::from_slice::<Request>(bytes);
}

/// `state.json`: a daemon begins with whatever can be read of it, and makes no path of a name.
pub fn state(bytes: &[u8]) {
    let Ok(wanted) = serde_json::from_slice::<Wanted>(bytes) else { return };
    let now = Now { mono: Mono(1_000_000), wall: Wall(1_795_465_809_123) };
    let (fleet, _) = Fleet::recover(2, now, Found { wanted, boot_id: "b".into(), ..Found::default() });
    for one in fleet.instances() {
        let mut parts = Path::new(&one.name).components();
        assert!(matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)), "{:?}", one.name);
    }
    let again = serde_json::to_vec(&fleet.wanted("b")).unwrap();
    assert!(serde_json::from_slice::<Wanted>(&again).is_ok(), "what is written can be read");
}

/// Lines of a journal: those that can be read are enough to begin from.
pub fn journal(bytes: &[u8]) {
    bytes.split(|byte| *byte == b'\n').for_each(same_again::<Line>);
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    for tail in tails(lines).values() {
        assert!(!tail.last.instance.contains('/'), "{:?}", tail.last.instance);
    }
}

/// What was read can be written, and is the same when it is read again.
fn same_again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(first) = serde_json::from_slice::<T>(bytes) else { return };
    let text = serde_json::to_vec(&first).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&text).unwrap(), first);
}
