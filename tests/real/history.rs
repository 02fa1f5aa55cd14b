//! What each tree used over time: kept over the daemon's end, drawn by `describe`, judged by `trend`.

use crate::harness::{Stead, eventually, until};
use std::time::{SystemTime, UNIX_EPOCH};

fn history(stead: &Stead, name: &str) -> std::path::PathBuf {
    stead.home.join("history").join(format!("{name}.history"))
}

fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32
}

/// The last second that the file of `still` knows of. The finest ring is the first in it: 300 places, a time in front of each.
fn last_second(stead: &Stead) -> u32 {
    let file = std::fs::read(history(stead, "still")).unwrap_or_default();
    let times = file.chunks(16).skip(1).take(300).map(|place| u32::from_le_bytes(place[..4].try_into().unwrap()));
    times.max().unwrap_or(0)
}

#[test]
fn what_is_not_yet_written_is_when_the_daemon_is_replaced_or_all_ends() {
    let stead = Stead::new();
    stead.start("apps: [{name: still, script: sleep, args: '1000'}]");
    for end in ["upgrade", "kill"] {
        let held = || now().saturating_sub(last_second(&stead));
        until("it was written", || held() < 3);
        until("more is held", || held() > 4);
        let before = now();
        stead.ok([end]);
        assert!(last_second(&stead) + 2 >= before, "{end}: {} of {before}", last_second(&stead));
    }
}

#[test]
fn memory_is_noted_and_drawn_and_the_next_daemon_goes_on_with_it() {
    let stead = Stead::new();
    stead.start("apps: [{name: still, script: sleep, args: '1000', max_memory_restart: 100M}]");
    until("memory is noted", || history(&stead, "still").exists());
    eventually("it is drawn", || {
        let page = stead.ok(["describe", "still"]);
        let chart = page.contains("memory, last hour") && page.contains(" cap 100M ╌");
        if chart { Ok(()) } else { Err(page) }
    });
    let before = std::fs::read(history(&stead, "still")).unwrap();
    stead.kill_daemon();
    eventually("the next daemon notes on in the same file", || {
        let now = std::fs::read(history(&stead, "still")).unwrap();
        let kept = now.len() == before.len() && now.starts_with(b"stead history 1\n");
        // 16 bytes a place: whatever stood there first still does.
        let places = |file: &[u8]| file[16..].chunks(16).filter(|place| place.iter().any(|byte| *byte != 0)).count();
        if kept && places(&now) > places(&before) { Ok(()) } else { Err(format!("{} places", places(&now))) }
    });
    let trend = stead.json(["trend", "still", "--json"]);
    assert_eq!((&trend["name"], &trend["leak"]), (&"still".into(), &false.into()), "{trend}");
    assert_eq!((&trend["cap_bytes"], &trend["eta_seconds"]), (&(100u64 << 20).into(), &serde_json::Value::Null));
    stead.ok(["delete", "still"]);
    until("its history is gone with it", || !history(&stead, "still").exists());
}

#[test]
fn a_series_in_a_file_is_judged_without_stead() {
    let stead = Stead::new();
    let mib = 1_048_576;
    // 12 MiB an hour from 100 MiB on, a reading a minute for six hours, the last ones first, with a gap and a heading.
    let mut lines: Vec<String> = (0..360)
        .filter(|n| !(100..140).contains(n))
        .map(|n| format!("{},{}", n * 60, 100 * mib + n * mib / 5))
        .collect();
    lines.reverse();
    let leak = stead.file("leak.csv", &format!("seconds,bytes\n{}\n", lines.join("\n")));
    let leak = leak.to_str().unwrap();
    let trend = stead.json(["trend", leak, "--cap", "300M", "--json"]);
    assert_eq!(trend["leak"], true, "{trend}");
    let near = |key: &str, about: f64| {
        let value = trend[key].as_f64().unwrap();
        assert!((value - about).abs() < about * 0.05, "{key}: {value}, not about {about}");
    };
    near("bytes_per_hour", 12.0 * f64::from(mib));
    near("eta_seconds", (200.0 - 71.8) / 12.0 * 3600.0);
    near("since_seconds", 359.0 * 60.0);
    assert!(trend["reason"].is_string());
    assert!(
        stead.ok(["trend", leak, "--cap", "300M"]).contains("leaks +12M an hour for 6h, reaches 300M in about 11h")
    );
    let flat =
        stead.file("flat.csv", &(0..300).map(|n| format!("{n} {}\n", 50 * mib + n % 7 * 1000)).collect::<String>());
    let flat = stead.json(["trend", flat.to_str().unwrap(), "--json"]);
    assert_eq!((&flat["leak"], &flat["eta_seconds"]), (&false.into(), &serde_json::Value::Null), "{flat}");
    assert!(!stead.home.join("stead.sock").exists(), "a file needs no daemon");
}

#[test]
fn a_series_that_cannot_be_read_is_named_with_its_line() {
    let stead = Stead::new();
    let bad = stead.file("bad.csv", "0,1\n60,much\n");
    let bad = bad.to_str().unwrap();
    let said = stead.run(["trend", bad]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.stderr.contains(&format!("error: {bad}:2: `60,much` is no reading\nhint: a line is `seconds,bytes`")),
        "{said:?}"
    );
    let said = stead.run(["trend", "nowhere.csv"]);
    assert!(said.status == Some(1) && said.stderr.contains("could not read nowhere.csv: no such file"), "{said:?}");
    let said = stead.run(["trend", bad, "--cap", "plenty"]);
    assert!(said.status == Some(2) && said.stderr.contains("--cap: `plenty` is no size"), "{said:?}");
    let said = stead.run(["trend", "api", "--cap", "300M"]);
    assert!(said.status == Some(2) && said.stderr.contains("an app's cap is its max_memory_restart"), "{said:?}");
}
