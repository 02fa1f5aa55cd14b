use super::*;
use Standing::{Aside, Earlier, Last};
use proptest::prelude::*;

/// Text as the runtimes printed it (CPython 3.8 to 3.13, Node.js 20, Java 17, Rust 1.95, Go 1.19), and what is to be found in it.
macro_rules! samples {
    ($($name:literal: $kind:literal, $message:literal, $location:expr, $standing:expr;)*) => {
        const SAMPLES: &[(&str, &str, &str, &str, Option<&str>, Standing)] = &[
            $(($name, include_str!(concat!("samples/", $name, ".txt")), $kind, $message, $location, $standing),)*
        ];
    };
}

samples! {
    "python-plain": "json.decoder.JSONDecodeError",
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", Some("/srv/app/plain.py:4"), Last;
    "python-coloured": "json.decoder.JSONDecodeError",
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", Some("/srv/app/plain.py:4"), Last;
    "python-chained": "ZeroDivisionError", "division by zero", Some("/srv/app/chained.py:14"), Last;
    "python-syntax": "SyntaxError", "invalid syntax", Some("/srv/app/syntax.py:1"), Last;
    "python-syntax-in-import": "SyntaxError", "invalid syntax", Some("/srv/app/syntax.py:1"), Last;
    "python-locked": "sqlite3.OperationalError", "database is locked", Some("/srv/app/locked.py:8"), Last;
    "python-missing-module": "ModuleNotFoundError", "No module named 'flaskk'", Some("/srv/app/missing.py:1"), Last;
    "python-no-message": "__main__.Stop", "", Some("nomsg.py:3"), Last;
    "python-note": "ValueError", "invalid literal for int() with base 10: 'x' while reading row 17 of prices.csv",
        Some("/srv/app/note.py:2"), Last;
    "python-recursion": "RecursionError", "maximum recursion depth exceeded", Some("/srv/app/recursion.py:2"), Last;
    "python-interrupt": "KeyboardInterrupt", "", Some("/srv/app/interrupt.py:5"), Last;
    "python-pool": "ValueError", "bad row", Some("/srv/app/pool.py:6"), Last;
    "python-quoted": "RuntimeError", "worker said: KeyError: 'x'", Some("/srv/app/remote.py:3"), Last;
    "python-jinja": "jinja2.exceptions.TemplateSyntaxError", "unexpected '}'", Some("/srv/app/jin.py:3"), Last;
    "python-pydantic": "pydantic_core._pydantic_core.ValidationError",
        "1 validation error for Row price Input should be a valid integer, unable to parse string as an integer \
         [type=int_parsing, input_value='abc', input_type=str] For further information visit \
         https://errors.pydantic.dev/2.14/v/int_parsing", Some("/srv/app/pyd.py:5"), Last;
    "python-requests": "requests.exceptions.ConnectionError",
        "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /prices (Caused by \
         NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=9): Failed to establish a new connection: [Errno 111] \
         Connection refused\"))", Some("/srv/app/req.py:3"), Last;
    // Its head is cut off, and the app's own frames with it.
    "python-sqlalchemy-tail": "sqlalchemy.exc.OperationalError",
        "(sqlite3.OperationalError) unable to open database file (Background on this error at: https://sqlalche.me/e/21/e3q8)",
        Some("/srv/app/.venv/lib/python3.11/site-packages/sqlalchemy/engine/default.py:869"), Last;
    "python-group": "ExceptionGroup", "unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: collector 1 failed",
        Some("/srv/app/group.py:4"), Last;
    "python-group-nested": "ExceptionGroup", "outer (2 sub-exceptions): ValueError: leaf",
        Some("/srv/app/nested_group.py:5"), Last;
    "python-segfault": "Fatal Python error", "Segmentation fault", Some("/srv/app/segv.py:5"), Last;
    "python-gunicorn-boot": "RuntimeError", "DATABASE_URL is not set", Some("/srv/app/web_boot.py:3"), Earlier;
    "python-gunicorn-timeout": "SystemExit", "1", Some("/srv/app/web.py:8"), Aside;
    "python-flask-request": "ZeroDivisionError", "division by zero", Some("/srv/app/web.py:5"), Aside;
    "python-logged": "ConnectionError", "refused", Some("/srv/app/logexc.py:4"), Earlier;
    "python-thread": "RuntimeError", "queue is broken", Some("/srv/app/thread.py:4"), Aside;
    "python-task": "ValueError", "lost task", Some("/srv/app/task.py:3"), Aside;
    "python-destructor": "ValueError", "in del", Some("/srv/app/dele.py:3"), Aside;
    "python-atexit": "ValueError", "at exit", Some("atexit_.py:3"), Aside;
    "python-logging-error": "TypeError", "%d format: a real number is required, not str",
        Some("/usr/lib/python3.11/logging/__init__.py:377"), Aside;
    "node-property": "TypeError", "Cannot read properties of undefined (reading 'toFixed')", Some("/srv/app/a.js:2"), Last;
    "node-port": "Error", "listen EADDRINUSE: address already in use :::3999", Some("/srv/app/port.js:2"), Last;
    "node-rejection": "UnhandledPromiseRejection",
        "This error originated either by throwing inside of an async function without a catch block, or by rejecting a promise \
         which was not handled with .catch(). The promise rejected with the reason \"no reason\".",
        Some("node:internal/process/promises:389"), Last;
    "node-cause": "TypeError", "fetch failed", Some("/srv/app/async.mjs:1"), Last;
    "node-text": "Uncaught", "just text", Some("/srv/app/str.js:1"), Last;
    "node-object": "Uncaught", "{ code: 3 }", Some("/srv/app/obj.js:1"), Last;
    "node-syntax": "SyntaxError", "Unexpected identifier 'b'", Some("/srv/app/syn.js:2"), Last;
    "node-module": "Error", "Cannot find module './nope' Require stack: - /srv/app/mod.js", Some("/srv/app/mod.js:1"), Last;
    "node-two-lines": "BadRow", "two lines: second line", Some("/srv/app/multi.js:2"), Last;
    "node-no-message": "Error", "", Some("/srv/app/nomsg.js:1"), Last;
    "node-assertion": "AssertionError [ERR_ASSERTION]", "Expected values to be strictly equal: 1 !== 2",
        Some("/srv/app/assert.js:1"), Last;
    "node-logged": "SyntaxError", "Expected property name or '}' in JSON at position 1", Some("/srv/app/logged.js:1"), Earlier;
    "rust-index": "panic", "index out of bounds: the len is 2 but the index is 2", Some("src/main.rs:1"), Last;
    "rust-multi": "panic", "one two", Some("src/main.rs:8"), Last;
    "rust-thread": "panic", "pipe gone", Some("src/main.rs:7"), Aside;
    "rust-backtrace": "panic",
        "called `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: \"No such file or directory\" }",
        Some("src/main.rs:6"), Last;
    "java-cause": "java.lang.IllegalStateException", "bad row", Some("Main.java:3"), Last;
    "java-thread": "java.lang.IllegalStateException", "bad row", Some("Main.java:3"), Aside;
    "java-printed": "java.lang.IllegalStateException", "bad row", Some("Main.java:3"), Earlier;
    "java-no-message": "java.lang.RuntimeException", "", Some("Main.java:8"), Last;
    "java-two-lines": "java.lang.RuntimeException", "two lines", Some("Main.java:9"), Last;
    "go-index": "panic", "runtime error: index out of range [5] with length 2", Some("/srv/app/main.go:10"), Last;
    "go-nil": "panic", "runtime error: invalid memory address or nil pointer dereference", Some("/srv/app/main.go:18"), Last;
    "go-error": "panic", "load: no such row", Some("/srv/app/main.go:20"), Last;
    "go-again": "panic", "again: first", Some("/srv/app/main.go:22"), Last;
    "go-deadlock": "fatal error", "all goroutines are asleep - deadlock!", Some("/srv/app/main.go:26"), Last;
    "go-goroutine": "panic", "in goroutine", Some("/srv/app/main.go:28"), Last;
}

fn find(text: &str) -> Option<Traceback> {
    let lines: Vec<&str> = text.split('\n').collect();
    last_exception(&lines, Path::new("/srv/app"))
}

fn check(name: &str, text: &str, kind: &str, message: &str, location: Option<&str>, standing: Standing) {
    let exception = Exception { kind: kind.into(), message: message.into(), location: location.map(str::to_owned) };
    let found = find(text).map(|found| (found.exception, found.standing));
    assert_eq!(found, Some((exception, standing)), "{name}:\n{text}");
}

fn sample(name: &str) -> &'static str {
    SAMPLES.iter().find(|sample| sample.0 == name).map(|sample| sample.1).expect(name)
}

/// Every sample, changed in a way that changes nothing in what it says.
fn check_all(change: impl Fn(&str) -> String) {
    for (name, text, kind, message, location, standing) in SAMPLES {
        check(name, &change(text), kind, message, *location, *standing);
    }
}

#[test]
fn what_runtimes_print_is_read() {
    check_all(str::to_owned);
}

#[test]
fn ends_of_line_of_other_systems_change_nothing() {
    check_all(|text| text.replace('\n', "\r\n"));
}

#[test]
fn colours_change_nothing() {
    check_all(|text| text.lines().map(|line| format!("\u{1b}[1;31m{line}\u{1b}[0m\n")).collect());
}

#[test]
fn stamps_before_each_line_change_nothing() {
    for (stamp, digits) in [
        ("2026-11-24T10:00:0#: ", 1),
        ("2026-11-24 10:00:00.#Z web-0 | ", 3),
        ("Nov 24 10:00:#0 host python3[4#]: ", 2),
        ("web_1  | ", 0),
        ("#\t", 1),
    ] {
        check_all(|text| {
            let stamped = text.lines().enumerate().map(|(at, line)| {
                let count = if digits == 0 { String::new() } else { (at % 10_usize.pow(digits)).to_string() };
                format!("{}{line}\n", stamp.replace('#', &count))
            });
            stamped.collect()
        });
    }
}

#[test]
fn what_was_said_before_changes_nothing() {
    check_all(|text| {
        format!("listening on :80\n\u{fffd}\u{fffd} GET / 200\nValueError: an old one\nsee File \"x\"\n\n{text}")
    });
}

#[test]
fn what_is_said_after_it_is_told() {
    for (name, text, kind, message, location, standing) in SAMPLES {
        let after = if *standing == Last { Earlier } else { *standing };
        check(name, &format!("{text}\n[INFO] next try in 5 s\n"), kind, message, *location, after);
    }
}

#[test]
fn the_last_of_two_counts_unless_it_ended_less_than_the_process() {
    for first in SAMPLES {
        for (name, text, kind, message, location, standing) in SAMPLES {
            if *standing != Aside {
                let both = format!("{}\n\n{text}", first.1);
                check(&format!("{name} after {}", first.0), &both, kind, message, *location, *standing);
            } else if first.5 != Aside {
                let found = find(&format!("{}\n\n{text}", first.1)).unwrap();
                assert_eq!(
                    (found.exception.kind.as_str(), found.standing),
                    (first.2, Earlier),
                    "{name} after {}",
                    first.0
                );
            }
        }
    }
}

#[test]
fn a_traceback_without_its_head_is_read() {
    let text = sample("python-plain");
    let whole = find(text).unwrap();
    // As long as the app's own last frame is left.
    for skip in 0..=5 {
        let rest: Vec<&str> = text.lines().skip(skip).collect();
        assert_eq!(find(&rest.join("\n")), Some(whole.clone()), "without {skip} lines");
    }
    let rest: Vec<&str> = text.lines().skip(9).collect();
    assert_eq!(
        find(&rest.join("\n")).unwrap().exception.location.as_deref(),
        Some("/usr/lib/python3.11/json/decoder.py:353")
    );
    let group: Vec<&str> = sample("python-group").lines().skip(3).collect();
    assert!(find(&group.join("\n")).is_some());
}

#[test]
fn other_output_within_a_traceback_is_passed_over() {
    let text = "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 3, in main\nGET / 200\nLoading: 7 rows\n    \
                run()\n[INFO] tick\n  File \"/srv/app/b.py\", line 5, in run\n2026-11-24 10:00:00 ERROR: x\n    raise Empty\nqueue.Empty\n";
    check("interleaved", text, "queue.Empty", "", Some("/srv/app/b.py:5"), Last);
}

#[test]
fn a_log_prefix_on_the_first_line_alone_is_passed_over() {
    let text = format!("ERROR:root:{}", sample("python-locked"));
    check("prefixed", &text, "sqlite3.OperationalError", "database is locked", Some("/srv/app/locked.py:8"), Last);
    let text = format!(" 30%|███   | 3/10\r 40%|████  | 4/10{}", sample("python-locked"));
    check("progress", &text, "sqlite3.OperationalError", "database is locked", Some("/srv/app/locked.py:8"), Last);
}

#[test]
fn two_threads_that_print_at_once_leave_the_last_whole_traceback() {
    let text = "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 3, in f\nTraceback (most recent call last):\n  \
                File \"/srv/app/b.py\", line 5, in g\n    h()\nKeyError: 'x'\n";
    check("torn", text, "KeyError", "'x'", Some("/srv/app/b.py:5"), Last);
}

#[test]
fn a_traceback_after_a_message_is_another_one_unless_it_is_announced() {
    let inner = "Traceback (most recent call last):\n  File \"/srv/app/b.py\", line 5, in g\nKeyError: 'x'\n";
    let outer = "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 3, in f\nValueError: bad";
    check("two", &format!("{outer}\n{inner}"), "KeyError", "'x'", Some("/srv/app/b.py:5"), Last);
    let indented: String = inner.lines().map(|line| format!("    {line}\n")).collect();
    check(
        "indented",
        &format!("{outer}\n{indented}"),
        "ValueError",
        "bad KeyError: 'x'",
        Some("/srv/app/a.py:3"),
        Last,
    );
}

#[test]
fn only_own_code_is_named_where_there_is_any() {
    let python = |file: &str| {
        let text =
            format!("  File \"/srv/app/a.py\", line 3, in f\n    g()\n  File \"{file}\", line 9, in g\nValueError: x");
        find(&text).unwrap().exception.location.unwrap()
    };
    for library in [
        "/srv/app/.venv/lib/python3.11/site-packages/x.py",
        "/srv/app/venv/bin/tool",
        "/usr/lib/python3/dist-packages/x.py",
        "/usr/lib/python3.11/json/decoder.py",
        "/srv/app/.pypy/lib/pypy3.10/x.py",
        "<frozen importlib._bootstrap>",
        "<string>",
        "/srv/application/x.py",
    ] {
        assert_eq!(python(library), "/srv/app/a.py:3", "{library}");
    }
    for own in ["/srv/app/deep/er/b.py", "/srv/app/./b.py", "b.py", "/srv/app/my \"odd\" file, line 3.py"] {
        assert_eq!(python(own), format!("{own}:9"));
    }
    let lines: Vec<&str> = sample("python-plain").lines().collect();
    let elsewhere = last_exception(&lines, Path::new("/home/me")).unwrap();
    assert_eq!(
        elsewhere.exception.location.as_deref(),
        Some("/srv/app/plain.py:4"),
        "no library's, though not below the folder"
    );
}

#[test]
fn older_forms_are_read() {
    let text = "thread 'main' panicked at 'called `Option::unwrap()` on a `None` value', src/main.rs:4:37\nnote: run with \
                `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    check("rust 1.72", text, "panic", "called `Option::unwrap()` on a `None` value", Some("src/main.rs:4"), Last);
    let text = "thread 'main' panicked at 'one\ntwo', src/main.rs:8:20\n";
    check("rust 1.72, two lines", text, "panic", "one two", Some("src/main.rs:8"), Last);
    let text = "2026-11-24 ERROR panicked at wasm/src/lib.rs:1:2:\nno memory\n";
    check("a hook", text, "panic", "no memory", Some("wasm/src/lib.rs:1"), Last);
    let text = "\nthread 'main' (77) has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
    check("rust overflow", text, "fatal runtime error", "stack overflow, aborting", None, Last);
    let text = "(node:9) UnhandledPromiseRejectionWarning: Error: x\n    at f (/srv/app/a.js:1:7)\n";
    check("node 14", text, "Error", "x", Some("/srv/app/a.js:1"), Aside);
    let text = "2026-11-24 [error] TypeError: x is not a function\n    at f (/srv/app/node_modules/l/i.js:1:7)\n    at async /srv/app/a.js:4:2\n";
    check("a logger", text, "TypeError", "x is not a function", Some("/srv/app/a.js:4"), Last);
    let text = "10:00 ERROR c.e.App - failed\ncom.example.LoadException: no rows\n\tat com.example.App.load(App.java:7) ~[app.jar:1]\n\tat \
                app//com.example.App.main(App.kt:3)\n\t... 3 common frames omitted\n";
    check("logback", text, "com.example.LoadException", "no rows", Some("App.java:7"), Last);
}

#[test]
fn a_go_programs_other_goroutines_change_nothing() {
    let text = "panic: 2\n\ngoroutine 7 [running]:\nexample.com/shop/price.Load(0x1)\n\t/srv/app/price/load.go:3 +0x1d\ncreated by \
                main.main\n\t/srv/app/main.go:9 +0x2e\n\ngoroutine 1 [select]:\nmain.main()\n\t/srv/app/main.go:12 +0x1f\n\ngoroutine \
                18 [IO wait, 2 minutes]:\nnet/http.(*conn).serve()\n\t/usr/local/go/src/net/http/server.go:1 +0x1f\nexit status 2\n";
    check("goroutines", text, "panic", "2", Some("/srv/app/price/load.go:3"), Last);
    // Paths trimmed by -trimpath.
    let text = "panic: 2\n\ngoroutine 1 [running]:\nsync.(*Mutex).Lock(...)\n\tsync/mutex.go:83\ngithub.com/x/y.f()\n\tgithub.com/x/y@v1/y.go:3 \
                +0x1d\n";
    check("trimmed", text, "panic", "2", Some("github.com/x/y@v1/y.go:3"), Last);
}

#[test]
fn of_a_dump_of_all_threads_the_one_that_crashed_counts() {
    let text = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f476ec736c0 (most recent call first):\n  File \
                \"/srv/app/a.py\", line 4 in crash\n  File \"/usr/lib/python3.12/threading.py\", line 1010 in run\n\nThread \
                0x00007f476f95ab80 (most recent call first):\n  File \"/usr/lib/python3.12/threading.py\", line 355 in wait\n  \
                File \"/srv/app/a.py\", line 5 in <module>\n\nExtension modules: a.b, c (total: 2)\n";
    check("threads", text, "Fatal Python error", "Segmentation fault", Some("/srv/app/a.py:4"), Last);
}

#[test]
fn each_runtime_is_told_by_its_form_and_has_its_own_code() {
    for (name, runtime, code) in [
        ("python-locked", Runtime::Python, 1),
        ("node-property", Runtime::Node, 1),
        ("java-cause", Runtime::Java, 1),
        ("rust-index", Runtime::Rust, 101),
        ("go-index", Runtime::Go, 2),
    ] {
        assert_eq!(find(sample(name)).unwrap().runtime, runtime);
        assert!(runtime.exits_with(code) && !runtime.exits_with(3));
    }
}

#[test]
fn one_that_an_error_log_announces_was_most_likely_caught() {
    let (plain, chained) = (sample("python-locked"), sample("python-chained"));
    for caught in [
        format!("ERROR:root:could not store\n{plain}"),
        format!("ERROR:root:{plain}"),
        format!("2026-11-24 10:00:00,001 [ERROR] store: failed\n\n{chained}"),
        format!("[2026-11-24 10:00:00 +0000] [7] [error] x\n{plain}"),
    ] {
        assert!(find(&caught).unwrap().announced, "{caught}");
    }
    for uncaught in [plain.to_owned(), chained.to_owned(), format!("INFO: GET / 200\nWARNING: slow\n{plain}")] {
        assert!(!find(&uncaught).unwrap().announced, "{uncaught}");
    }
}

#[test]
fn text_that_speaks_of_exceptions_is_none() {
    for text in [
        "",
        "\n\n",
        "ValueError: x",
        "Traceback (most recent call last):",
        "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 3, in f",
        "{\"exc\": \"Traceback (most recent call last):\\n  File \\\"a.py\\\", line 1\"}\nValueError: x",
        "  File \"/srv/app/a.py\", line x, in f\nValueError: x",
        "  File \"/srv/app/a.py\", line 3, in f\n\nValueError: x",
        "    at f (/srv/app/a.js:1:2)",
        "Error: x\nno stack",
        "WARNING: x\n\tno stack",
        "\tat Main.main(Main.java:5)",
        "the worker panicked at noon",
        "panic: no goroutine follows",
        "goroutine 1 [running]:\nmain.main()\n\t/srv/app/main.go:9",
        "Segmentation fault (core dumped)",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn nothing_that_moves_a_cursor_comes_out() {
    let text = "Traceback (most recent call last):\n  File \"/srv/app/a\u{1b}]0;title\u{7}.py\", line 3, in f\nValue\u{1b}[2JError: a\u{8}b\tc\u{202e}d\u{9b}1Ae\n";
    check("escapes", text, "ValueError", "a\u{fffd}b c\u{fffd}de", Some("/srv/app/a.py:3"), Last);
}

#[test]
fn long_lines_and_messages_are_cut() {
    let flood = "x".repeat(1 << 20);
    let text = format!(
        "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 3, in f\n{flood}\nValueError: {flood}\n{flood}"
    );
    let found = find(&text).unwrap().exception;
    assert_eq!(found.message.chars().count(), MESSAGE + 1);
    assert!(found.message.ends_with('…'));
    let many = "  File \"/srv/app/a.py\", line 3, in f\nTraceback (most recent call last):\n".repeat(20_000);
    assert_eq!(find(&many), None);
}

/// Slices of the samples in any order, with garbage between them.
fn mixture() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => (0..SAMPLES.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(at, from, to)| {
            let lines: Vec<&str> = SAMPLES[at].1.split_inclusive('\n').collect();
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            lines[from.min(to)..=from.max(to)].concat()
        }),
        2 => (0..SAMPLES.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(at, from, to)| {
            let chars: Vec<char> = SAMPLES[at].1.chars().collect();
            let (from, to) = (from.index(chars.len()), to.index(chars.len()));
            chars[from.min(to)..=from.max(to)].iter().collect()
        }),
        1 => any::<String>(),
        1 => "[ \t\r\n\u{1b}'\":.|+^a-z0-9]{0,40}",
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_is_found_is_bounded_and_its_place_is_in_the_text(text in mixture()) {
        let Some(found) = find(&text) else { return Ok(()) };
        let Exception { kind, message, location } = found.exception;
        prop_assert!(!kind.is_empty() && kind.chars().count() <= KIND + 1);
        prop_assert!(message.chars().count() <= MESSAGE + 1);
        prop_assert!(!kind.chars().chain(message.chars()).any(char::is_control));
        if let Some(location) = location {
            let (file, line) = location.rsplit_once(':').unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            let named = clean(&lines).iter().any(|text| {
                [format!("{file}:{line}"), format!("\"{file}\", line {line}")].iter().any(|place| text.contains(place.as_str()))
            });
            prop_assert!(named, "{location}");
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), folder in any::<String>()) {
        let lines: Vec<&str> = text.split('\n').collect();
        let _ = last_exception(&lines, Path::new(&folder));
    }
}
