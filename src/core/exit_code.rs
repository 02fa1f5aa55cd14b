//! What an exit code means by custom. Customs are no laws: any program may exit with any code, so this gives words beside a
//! cause, never a cause.

use super::spec::Signal;
use serde::{Deserialize, Serialize};

/// What a code customarily means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// A clause for a summary, without full stop.
    pub words: String,
    /// A signal that ended not the process that exited, but one that it ran. The kernel's own word on a signal is the wait status,
    /// never a code.
    #[serde(default)]
    pub signal: Option<Signal>,
}

/// Reads a code by the customs of the program that gave it (its words in `argv`, `python3 -m gunicorn …` too), else by those of
/// shells. `None`: it means no more than that it is not 0, or it is 0.
#[must_use]
pub fn meaning(code: i32, argv: &[impl AsRef<str>]) -> Option<Meaning> {
    let custom = program(argv).and_then(|program| program.custom(code)).or(match code {
        124 => Some("as `timeout` reports a command that took too long"),
        126 => Some("as a shell reports a file that is not executable"),
        127 => Some("as a shell reports a command that was not found"),
        _ => None,
    });
    if let Some(words) = custom {
        return Some(Meaning { words: words.to_owned(), signal: None });
    }
    let signal = Signal(code.saturating_sub(128));
    // The numbers between are those of the C library itself.
    matches!(signal.0, 1..=31 | 34..=64).then(|| Meaning {
        words: format!("128 + {}, as a shell reports a child that was ended by {signal}", signal.0),
        signal: Some(signal),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Gunicorn,
    Python,
    Node,
    Go,
    Java,
}

/// The program that gives the code: the last of a line of wrappers that can be told from their names.
fn program(argv: &[impl AsRef<str>]) -> Option<Program> {
    // What follows a script is its own.
    let scripts = [".py", ".js", ".mjs", ".cjs", ".jar", ".sh"];
    argv.iter()
        .take(8)
        .map(AsRef::as_ref)
        .take_while(|word| !scripts.iter().any(|ending| word.ends_with(ending)))
        .filter_map(|word| {
            let name = word.rsplit('/').next().unwrap_or_default();
            let bare = name.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.');
            match bare {
                "gunicorn" => Some(Program::Gunicorn),
                "python" | "pypy" => Some(Program::Python),
                "node" | "nodejs" => Some(Program::Node),
                "go" => Some(Program::Go),
                "java" => Some(Program::Java),
                _ => None,
            }
        })
        .last()
}

impl Program {
    fn custom(self, code: i32) -> Option<&'static str> {
        match (self, code) {
            // gunicorn/arbiter.py: WORKER_BOOT_ERROR, APP_LOAD_ERROR.
            (Program::Gunicorn, 3) => Some("as gunicorn reports that a worker failed to boot"),
            (Program::Gunicorn, 4) => Some("as gunicorn reports that the app failed to load"),
            (Program::Gunicorn | Program::Python, 1) => {
                Some("as Python reports an uncaught exception, or `sys.exit` with a message")
            }
            (Program::Gunicorn | Program::Python, 2) => {
                Some("as Python reports wrong arguments, or a script that it can't open")
            }
            (Program::Gunicorn | Program::Python, 120) => Some("as Python reports that it could not flush its output"),
            // https://nodejs.org/api/process.html#exit-codes
            (Program::Node, 1) => Some("as Node.js reports an uncaught exception"),
            (Program::Node, 7) => Some("as Node.js reports an exception in its handler of uncaught exceptions"),
            (Program::Node, 9) => Some("as Node.js reports a wrong argument"),
            (Program::Node, 13) => Some("as Node.js reports a top-level await that was never settled"),
            (Program::Go, 1) => Some("as `go run` reports that its program failed"),
            (Program::Java, 1) => Some("as Java reports an uncaught exception, or a class that it can't load"),
            // sun.misc.Signal's default handlers end the machine with 128 + n, in the process itself.
            (Program::Java, 129) => Some("128 + 1, as Java ends on SIGHUP"),
            (Program::Java, 130) => Some("128 + 2, as Java ends on SIGINT"),
            (Program::Java, 143) => Some("128 + 15, as Java ends on SIGTERM"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(code: i32, command: &str) -> Option<String> {
        let argv: Vec<&str> = command.split(' ').collect();
        meaning(code, &argv).map(|meaning| meaning.words)
    }

    #[test]
    fn a_shells_codes_are_read_as_a_shells() {
        for (code, signal, name) in
            [(130, 2, "SIGINT"), (134, 6, "SIGABRT"), (137, 9, "SIGKILL"), (139, 11, "SIGSEGV"), (143, 15, "SIGTERM")]
        {
            let meaning = meaning(code, &["bash", "-c", "./run"]).unwrap();
            assert_eq!(meaning.signal, Some(Signal(signal)));
            assert_eq!(meaning.words, format!("128 + {signal}, as a shell reports a child that was ended by {name}"));
        }
        assert_eq!(words(126, "sh x").unwrap(), "as a shell reports a file that is not executable");
        assert_eq!(words(127, "uv run x").unwrap(), "as a shell reports a command that was not found");
        assert_eq!(words(192, "x").unwrap(), "128 + 64, as a shell reports a child that was ended by SIGRTMIN+30");
    }

    #[test]
    fn a_known_programs_codes_are_read_by_its_own_custom() {
        assert!(words(3, "/srv/app/.venv/bin/gunicorn web:app").unwrap().contains("worker failed to boot"));
        assert!(words(4, "python3.11 -m gunicorn web:app").unwrap().contains("app failed to load"));
        assert!(words(1, "uv run python3 x.py").unwrap().contains("uncaught exception"));
        assert!(words(2, "/usr/bin/python3.11 x.py").unwrap().contains("wrong arguments"));
        assert!(words(13, "node x.js").unwrap().contains("never settled"));
        let java = meaning(143, &["java", "-jar", "x.jar"]).unwrap();
        assert_eq!((java.words.as_str(), java.signal), ("128 + 15, as Java ends on SIGTERM", None));
    }

    #[test]
    fn most_codes_mean_nothing_more() {
        for code in [0, 1, 2, 3, 4, 5, 77, 128, 160, 161, 193, 255, -1, i32::MIN, i32::MAX] {
            assert_eq!(words(code, "./collector"), None, "{code}");
        }
        assert_eq!(words(0, "python3 x.py"), None);
        assert_eq!(words(9, "python3 x.py node"), None, "an argument of the script");
        assert_eq!(words(3, "python3 x.py"), None);
        assert_eq!(meaning(3, &[] as &[&str]), None);
    }

    proptest! {
        #[test]
        fn no_code_and_no_command_panics(code in any::<i32>(), argv in proptest::collection::vec(any::<String>(), 0..10)) {
            if let Some(meaning) = meaning(code, &argv) {
                prop_assert!(meaning.words.len() < 100 && code != 0);
            }
        }
    }
}
