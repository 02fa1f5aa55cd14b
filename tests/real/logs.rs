//! What apps write: every byte, in order, once, whatever it is and whatever becomes of the disk.

use crate::harness::{Stead, eventually, is_alive, is_root, signal, until};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const HUP: i32 = 1;
const KILL: i32 = 9;

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// A stead with one app from a Python script that says `written` in its diary when it is done.
fn writer(script: &str, attributes: &str) -> Stead {
    let stead = Stead::new();
    stead.kit();
    stead.file("writer.py", &format!("from kit import *\n{script}\nnote('written')\nforever()\n"));
    let attributes = if attributes.is_empty() { String::new() } else { format!(", {attributes}") };
    stead.start(&format!("apps:\n  - {{name: writer, script: ./writer.py{attributes}}}\n"));
    stead
}

fn until_written(stead: &Stead) {
    eventually("all is written", || match stead.diary("writer") {
        diary if diary == ["written"] => Ok(()),
        diary => Err(format!("{diary:?}\n{}", stead.log("writer", "err"))),
    });
}

/// A log's files, oldest first: `X.log.2`, `X.log.1`, `X.log`.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let numbered = |n: usize| PathBuf::from(format!("{}.{n}", path.display()));
    let count = (1..).take_while(|n| numbered(*n).exists()).count();
    (1..=count).rev().map(numbered).chain([path.to_owned()]).collect()
}

/// Stops the app; its files are what they will be.
fn stopped(stead: &Stead) -> PathBuf {
    until_written(stead);
    stead.ok(["stop", "writer"]);
    stead.home.join("logs/writer.out.log")
}

fn assert_same(found: &[u8], expected: &[u8]) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(one, other)| one != other);
        panic!("{} bytes of {}, the first wrong one is number {at:?}", found.len(), expected.len());
    }
}

#[test]
fn binary_output_arrives_as_it_was() {
    let stead = writer(
        "
import random
dice = random.Random(7)
for copy, fd in (('out.copy', 1), ('err.copy', 2)):
    with open(copy, 'wb') as file:
        for _ in range(300):
            piece = dice.randbytes(dice.randrange(1, 20000))
            file.write(piece)
            while piece:
                piece = piece[os.write(fd, piece):]
",
        "",
    );
    until_written(&stead);
    stead.ok(["stop", "writer"]);
    assert_same(&bytes(&stead.home.join("logs/writer.out.log")), &bytes(&stead.work.join("out.copy")));
    let err = bytes(&stead.home.join("logs/writer.err.log"));
    let copy = bytes(&stead.work.join("err.copy"));
    // Behind it stands what Python says of its KeyboardInterrupt.
    assert_same(&err[..copy.len().min(err.len())], &copy);
}

#[test]
fn endless_lines_need_no_memory() {
    let stead = writer(
        "for n in range(40):\n    sys.stdout.write('x' * (1 << 20))\nprint()\nfor n in range(10):\n    sys.stdout.write(chr(48 + n) * (1 << 20))",
        "log_max_size: 0",
    );
    until_written(&stead);
    let status = std::fs::read_to_string(format!("/proc/{}/status", stead.daemon_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let log = bytes(&stopped(&stead));
    assert_eq!(log.len(), (50 << 20) + 1);
    assert!(log[..40 << 20].iter().all(|byte| *byte == b'x') && log[40 << 20] == b'\n');
    assert!(
        log[(40 << 20) + 1..].chunks(1 << 20).zip(b'0'..).all(|(line, digit)| line.iter().all(|byte| *byte == digit))
    );
    assert!(peak < 30 << 10, "the daemon took {peak} kB for 50 MB");
}

#[test]
fn a_line_of_ten_megabytes_is_whole_with_a_time_too() {
    let stead =
        writer("print('x' * (10 << 20))\nprint('end')", "time: true, log_file: ./both.log, kill_signal: SIGTERM");
    let path = stopped(&stead);
    for log in [bytes(&path), bytes(&stead.work.join("both.log"))] {
        let text = String::from_utf8(log).unwrap();
        let mut lines = text.lines();
        let (first, second) = (lines.next().unwrap(), lines.next().unwrap());
        assert_eq!(first.trim_start_matches(|c| c != 'x').len(), 10 << 20);
        assert!(first.find('x').unwrap() < 40 && second.ends_with(": end"));
    }
}

#[test]
fn out_and_err_may_be_one_file() {
    let stead = writer(
        "for n in range(3000):\n    os.write(1, f'out {n}\\n'.encode())\n    os.write(2, f'err {n}\\n'.encode())",
        "out_file: ./both.log, error_file: ./both.log, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    stopped(&stead);
    let text = std::fs::read_to_string(stead.work.join("both.log")).unwrap();
    for which in ["out", "err"] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(which)).collect();
        let expected: Vec<String> = (0..3000).map(|n| format!("{which} {n}")).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(text.lines().count(), 6000);
}

#[test]
fn dev_null_takes_everything() {
    let stead = writer(
        "for n in range(5000):\n    print('x' * 100)",
        "out_file: /dev/null, error_file: 'NULL', log_max_size: 1K",
    );
    until_written(&stead);
    assert_eq!(std::fs::read_dir(stead.home.join("logs")).unwrap().count(), 0);
    let null = std::fs::metadata("/dev/null").unwrap();
    assert!(null.rdev() != 0, "it is still the device");
    assert!(!Path::new("/dev/null.1").exists() && !Path::new("/dev/null.idx").exists());
    assert_eq!(stead.describe("writer")["log_bytes_lost"], 0);
}

#[test]
fn disabled_logs_are_not_written_and_block_nobody() {
    let stead = writer("for n in range(5000):\n    print('x' * 100)", "disable_logs: true");
    until_written(&stead);
    assert_eq!(std::fs::read_dir(stead.home.join("logs")).unwrap().count(), 0);
    let one = stead.describe("writer");
    assert_eq!((&one["out_file"], &one["error_file"]), (&Value::Null, &Value::Null));
}

/// The text behind a stamp of this form, in which `0` is a digit.
fn unstamped<'a>(line: &'a str, form: &str) -> &'a str {
    let (stamp, rest) = line.split_once(": ").unwrap_or_else(|| panic!("no stamp: {line}"));
    let same = |(one, form): (char, char)| if form == '0' { one.is_ascii_digit() } else { one == form };
    assert!(stamp.len() == form.len() && stamp.chars().zip(form.chars()).all(same), "{stamp} is no {form}");
    rest
}

#[test]
fn each_line_gets_one_time_also_one_that_comes_in_pieces() {
    let script = "
def say(text):
    os.write(1, text.encode())
    time.sleep(0.1)
say('a')
say('b\\nc')
say('d\\n\\n')
say('e')
";
    for (attributes, form) in [
        ("time: true", "0000-00-00T00:00:00"),
        ("log_date_format: 'YYYY-MM-DD HH:mm:ss.SSS'", "0000-00-00 00:00:00.000"),
        ("log_date_format: '%H:%M'", "00:00"),
    ] {
        let stead = writer(script, &format!("{attributes}, log_file: ./both.log, kill_signal: SIGTERM"));
        let path = stopped(&stead);
        for log in [bytes(&path), bytes(&stead.work.join("both.log"))] {
            let text = String::from_utf8(log).unwrap();
            let lines: Vec<&str> = text.lines().map(|line| unstamped(line, form)).collect();
            assert_eq!(lines, ["ab", "cd", "", "e"], "{text}");
        }
    }
}

#[test]
fn log_file_gets_both_streams_and_partial_lines() {
    let stead = writer(
        "
for n in range(500):
    os.write(1, f'out {n}\\n'.encode())
    os.write(2, f'err {n}\\n'.encode())
time.sleep(0.1)
os.write(1, b'half')
time.sleep(0.1)
os.write(1, b' and half\\nrest')
",
        "log_file: ./both.log, kill_signal: SIGTERM",
    );
    stopped(&stead);
    let both = std::fs::read_to_string(stead.work.join("both.log")).unwrap();
    for which in ["out", "err"] {
        let expected: String = (0..500).map(|n| format!("{which} {n}\n")).collect();
        let lines: String =
            both.lines().filter(|line| line.starts_with(which)).map(|line| format!("{line}\n")).collect();
        assert_eq!(lines, expected);
        assert!(stead.log("writer", which).starts_with(&expected), "each stream has its own file too");
    }
    assert!(both.ends_with("half and half\nrest"), "{}", &both[both.len() - 60..]);
    assert!(stead.log("writer", "out").ends_with("half and half\nrest"));
}

/// All of `expected` in the files' order, each of them ending at a line's end.
fn assert_rotated(path: &Path, expected: &[u8], at_least: usize, limit: u64) {
    let files = rotated(path);
    assert!(files.len() >= at_least, "{} files", files.len());
    let whole: Vec<u8> = files.iter().flat_map(|file| bytes(file)).collect();
    for file in &files {
        let content = bytes(file);
        assert!(content.last().is_none_or(|byte| *byte == b'\n'), "{} ends within a line", file.display());
        assert!(content.len() as u64 <= limit, "{} has {} bytes", file.display(), content.len());
    }
    assert_same(&whole, expected);
}

#[test]
fn rotation_loses_and_tears_no_line() {
    let stead = writer(
        "for n in range(20000):\n    print(f'{n:099}')",
        "log_max_size: 64K, log_keep: 100, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    let expected: String = (0..20000).map(|n| format!("{n:099}\n")).collect();
    assert_rotated(&stopped(&stead), expected.as_bytes(), 10, 200 << 10);
}

#[test]
fn rotation_of_a_flood_in_large_writes_loses_and_tears_no_line() {
    // The writes end within lines.
    let stead = writer(
        "
text = ''.join(f'{n:088} of a flood\\n' for n in range(100000)).encode()
for at in range(0, len(text), 65536):
    piece = text[at:at + 65536]
    while piece:
        piece = piece[os.write(1, piece):]
",
        "log_max_size: 512K, log_keep: 100, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    let expected: String = (0..100_000).map(|n| format!("{n:088} of a flood\n")).collect();
    assert_rotated(&stopped(&stead), expected.as_bytes(), 5, 4 << 20);
}

#[test]
fn rotation_goes_on_over_killed_daemons() {
    let stead = writer(
        "for n in range(20000):\n    print(f'{n:099}')\n    if n % 100 == 0:\n        time.sleep(0.01)",
        "log_max_size: 64K, log_keep: 100, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    for n in 1..=4 {
        until("it has rotated some more", || rotated(&stead.home.join("logs/writer.out.log")).len() > 2 * n);
        stead.kill_daemon();
    }
    let expected: String = (0..20000).map(|n| format!("{n:099}\n")).collect();
    assert_rotated(&stopped(&stead), expected.as_bytes(), 10, 300 << 10);
}

#[test]
fn rotation_keeps_the_newest_and_both_streams_of_one_file() {
    // Two pipes have no order between them, and each holds up to a megabyte: neither stream gets far ahead of the other here.
    let stead = writer(
        "
import fcntl, struct, termios
waits = lambda fd: struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
for n in range(20000):
    os.write(1 + n % 2, f'out {n:095}\\n'.encode())
    while n % 300 == 299 and (waits(1) or waits(2)):
        time.sleep(0.001)",
        "log_max_size: 64K, log_keep: 3, out_file: ./both.log, error_file: ./both.log, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    stopped(&stead);
    let files = rotated(&stead.work.join("both.log"));
    assert_eq!(files.len(), 4, "three kept and the present one");
    let text: String = files.iter().map(|file| String::from_utf8(bytes(file)).unwrap()).collect();
    assert!(text.lines().all(|line| line.len() == 99), "a torn line");
    for odd in [0, 1] {
        let numbers = text.lines().map(|line| line[4..].parse::<usize>().unwrap()).filter(|n| n % 2 == odd);
        let numbers: Vec<usize> = numbers.collect();
        assert_eq!(*numbers.last().unwrap(), 19998 + odd);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 2), "a line is lost or out of order");
    }
}

#[test]
fn stamped_and_combined_logs_rotate_too() {
    let stead = writer(
        "for n in range(10000):\n    print(f'{n:079}')",
        "time: true, log_file: ./both.log, log_max_size: 64K, log_keep: 100, kill_signal: SIGTERM, kill_timeout: 20s",
    );
    let own = stopped(&stead);
    let expected: Vec<String> = (0..10000).map(|n| format!("{n:079}")).collect();
    for path in [own, stead.work.join("both.log")] {
        let files = rotated(&path);
        assert!(files.len() > 5, "{} has {} files", path.display(), files.len());
        let text: String = files.iter().map(|file| String::from_utf8(bytes(file)).unwrap()).collect();
        let lines: Vec<&str> = text.lines().map(|line| unstamped(line, "0000-00-00T00:00:00")).collect();
        assert!(lines == expected, "{} of {} lines", lines.len(), expected.len());
    }
}

#[test]
fn last_words_are_in_the_log_and_in_the_record() {
    let stead = Stead::new();
    stead.kit();
    let last = |how: &str| {
        format!(
            "from kit import *\nfor n in range(200):\n    print('out', n)\n    print('err', n, file=sys.stderr)\nos.write(2, b'last words'){how}\n"
        )
    };
    stead.file("killed.py", &last("\nos.kill(os.getpid(), 9)"));
    stead.file("exits.py", &last("\nos._exit(4)"));
    stead.start(
        "apps:\n  - {name: killed, script: ./killed.py, autorestart: false}\n  - {name: exits, script: ./exits.py, autorestart: false}\n",
    );
    for name in ["killed", "exits"] {
        stead.until_status(name, "stopped");
        let expected = |which: &str| (0..200).map(|n| format!("{which} {n}\n")).collect::<String>();
        assert_eq!(stead.log(name, "out"), expected("out"));
        assert_eq!(stead.log(name, "err"), expected("err") + "last words");
        let tail = stead.newest_record(name)["evidence"]["stderr_tail"].clone();
        let tail: Vec<&str> = tail.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(tail.last(), Some(&"last words"), "{tail:?}");
        assert_eq!(tail[tail.len() - 2], "err 199");
    }
}

#[test]
fn the_tail_of_a_record_is_of_its_own_run() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "app.py",
        "from kit import *\nnote('run')\nprint('words of', os.environ['STEAD_RUN'], file=sys.stderr)\nsys.exit(1)\n",
    );
    stead.file("ecosystem.yaml", "apps:\n  - {name: app, script: ./app.py, max_restarts: 4, min_uptime: 1m}\n");
    stead.run(["start", "ecosystem.yaml"]);
    stead.until_status("app", "errored");
    let why = stead.json(["why", "app", "--json"]);
    for record in why["records"].as_array().unwrap() {
        let own = format!("words of {}", record["run"].as_str().unwrap());
        assert_eq!(record["evidence"]["stderr_tail"], serde_json::json!([own]));
    }
}

#[test]
fn a_full_disk_costs_lines_and_never_an_app() {
    let what = "a full disk";
    if !is_root(what) || !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED, for no mount namespace can be had here: {what}");
        return;
    }
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "writer.py",
        "from kit import *\nfor n in range(30000):\n    print(f'{n:099}')\nnote('written')\nwait_for('go')\nfor n in range(100000000):\n    print(f'after {n}')\n    time.sleep(0.1)\n",
    );
    std::fs::create_dir(stead.work.join("small")).unwrap();
    stead.file(
        "ecosystem.yaml",
        "apps:\n  - {name: writer, script: ./writer.py, out_file: ./small/out.log, error_file: ./small/err.log, log_max_size: 0}\n",
    );
    let mut command = Command::new("unshare");
    let script =
        format!("mount -t tmpfs -o size=1m none small && exec {} daemon ecosystem.yaml", env!("CARGO_BIN_EXE_stead"));
    command.args(["-m", "sh", "-c", &script]).current_dir(&stead.work);
    let foreground = stead.foreground_by(command);
    until_written(&stead);
    let pid = stead.pid("writer");
    let lost = eventually("the loss is counted", || match stead.describe("writer")["log_bytes_lost"].as_u64() {
        Some(lost) if lost > 1_900_000 => Ok(lost),
        lost => Err(format!("{lost:?}")),
    });
    // The folder as stead sees it.
    let log = PathBuf::from(format!("/proc/{}/root{}/small/out.log", foreground.pid(), stead.work.display()));
    let kept = bytes(&log).len() as u64;
    until("each byte is in the log or counted", || {
        bytes(&log).len() as u64 + stead.describe("writer")["log_bytes_lost"].as_u64().unwrap() == 3_000_000
    });
    assert!(kept > 500_000 && lost < 2_500_000, "{kept} bytes were kept, {lost} are lost");
    assert!(stead.own_log().contains("a log cannot be written"), "it is said");
    let text = String::from_utf8(bytes(&log)).unwrap();
    assert!(text.lines().zip(0..).all(|(line, n)| format!("{n:099}").starts_with(line)), "what is there is in order");

    stead.file("go", "");
    stead.ok(["flush", "writer"]);
    until("it heals", || String::from_utf8_lossy(&bytes(&log)).contains("after "));
    assert!(stead.own_log().contains("can be written again"), "it is said");
    assert!(is_alive(pid) && stead.pid("writer") == pid);
    assert_eq!(stead.instance("writer")["restarts"], 0);
}

#[test]
fn instances_have_files_of_their_own_or_share_one() {
    let stead = Stead::new();
    stead.file("say.sh", "#!/bin/sh\necho \"I am $STEAD_NAME\"\nexec sleep 1000\n");
    stead.start(
        "
apps:
  - {name: standard, script: ./say.sh, instances: 2}
  - {name: named, script: ./say.sh, instances: 2, out_file: ./named.log}
  - {name: merged, script: ./say.sh, instances: 2, out_file: ./merged.log, merge_logs: true}
",
    );
    let read = |path: &str| std::fs::read_to_string(stead.work.join(path)).unwrap_or_default();
    for n in [0, 1] {
        until("the standard file", || stead.log(&format!("standard-{n}"), "out") == format!("I am standard-{n}\n"));
        until("the named file", || read(&format!("named-{n}.log")) == format!("I am named-{n}\n"));
    }
    until("the merged file", || {
        let merged = read("merged.log");
        let mut lines: Vec<&str> = merged.lines().collect();
        lines.sort_unstable();
        lines == ["I am merged-0", "I am merged-1"]
    });
    assert!(!stead.work.join("named.log").exists() && !stead.work.join("merged-0.log").exists());
}

#[test]
fn flush_empties_the_files_and_the_old_ones_go() {
    let stead = writer(
        "for n in range(5000):\n    print(f'{n:099}')\nnote('written')\nwait_for('go')\nprint('after')\nforever()",
        "log_max_size: 64K",
    );
    until("all is written", || !stead.diary("writer").is_empty());
    let log = stead.home.join("logs/writer.out.log");
    until("it was rotated", || rotated(&log).len() > 2);
    until("all is in", || bytes(&log).ends_with(b"4999\n"));
    stead.ok(["flush", "writer"]);
    assert_eq!((bytes(&log).len(), rotated(&log).len()), (0, 1));
    stead.file("go", "");
    until("it goes on at the beginning", || bytes(&log) == b"after\n");
}

#[test]
fn a_log_that_was_emptied_or_removed_by_somebody_else_hurts_nobody() {
    let stead = writer("print('one')\nwait_for('go')\nprint('two')\nwait_for('on')\nprint('three')", "");
    let log = stead.home.join("logs/writer.out.log");
    until("the first line", || bytes(&log) == b"one\n");
    // As `> file` and logrotate's copytruncate do it.
    std::fs::File::create(&log).unwrap();
    stead.file("go", "");
    until("no hole stands before the next", || bytes(&log) == b"two\n");
    std::fs::remove_file(&log).unwrap();
    signal(stead.keeper_pid(), HUP);
    until("it is there again", || log.exists());
    stead.file("on", "");
    until("and written", || bytes(&log) == b"three\n");
}

#[test]
fn a_child_that_was_left_to_itself_is_heard_after_a_restart_of_the_daemon() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "app.py",
        "from kit import *\nif os.fork() == 0:\n    note(str(os.getpid()), 'child')\n    wait_for('go')\n    print('the child', flush=True)\n    forever()\nforever()\n",
    );
    stead.start("apps:\n  - {name: app, script: ./app.py}\n");
    until("the child is there", || stead.diary("child").len() == 1);
    stead.kill_daemon();
    stead.ping();
    stead.file("go", "");
    until("it is heard", || stead.log("app", "out") == "the child\n");
    signal(stead.diary("child")[0].parse().unwrap(), KILL);
}

#[test]
fn rotated_logs_that_are_too_old_are_removed_and_all_others_stay() {
    let stead = Stead::new();
    let logs = stead.home.join("logs");
    std::fs::create_dir_all(&logs).unwrap();
    let hours =
        |hours: u64| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + hours * 3600);
    let write = |name: &str, old: bool| {
        let file = std::fs::File::create(logs.join(name)).unwrap();
        if old {
            file.set_modified(hours(0)).unwrap();
        }
    };
    for name in [
        "quiet.out.log.1",
        "quiet.out.log.3",
        "quiet.out.log.3.idx",
        "quiet.out.log.old",
        "quiet.out.log",
        "other.out.log.1",
    ] {
        write(name, true);
    }
    write("quiet.out.log.2", false);
    stead.start(
        "apps:\n- {name: quiet, script: sleep, args: '1000', autostart: false, log_max_age: 14d}\n\
         - {name: other, script: sleep, args: '1000'}\n",
    );
    let there = |name: &str| logs.join(name).exists();
    until("they are gone", || !there("quiet.out.log.1") && !there("quiet.out.log.3") && !there("quiet.out.log.3.idx"));
    for name in ["quiet.out.log", "quiet.out.log.2", "quiet.out.log.old", "other.out.log.1"] {
        assert!(there(name), "{name}");
    }
}
