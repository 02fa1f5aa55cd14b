//! A port that an app wants and another process has: told by the app's own last words, or by the bind of a `listen` socket.

use super::record::{PortHolder, SpawnFailure, TakenPort};
use super::spec::{Env, Probe, Spec};
use super::traceback::{Standing, Traceback};
use std::fmt;

/// Lines from the end in which it is looked for: Node.js and Go write a stack trace behind it.
const LAST_LINES: usize = 20;

/// EADDRINUSE in the words of libc, Node.js, Rust, and gunicorn; in lower case. A number alone (`98`) says too little.
const TAKEN: [&str; 4] = ["address already in use", "eaddrinuse", "addrinuse", "connection in use: "];

/// What servers say once they have got a port after all.
const GOT_ONE: [&str; 4] = ["listening at", "listening on", "running on", "trying another"];

/// Flags behind which servers take a port, or an address with one.
const FLAGS: [&str; 6] = ["--port", "-p", "--bind", "-b", "--listen", "http.server"];

/// Characters of a command that a sentence holds.
const COMMAND: usize = 40;

/// The port that a run that failed did not get, as its last lines say; where they name none, the one that it is known to want.
/// An exception that ended it of which these are not the words speaks against it.
#[must_use]
pub fn taken(
    exception: Option<&Traceback>,
    tails: [&[String]; 2],
    spec: &Spec,
    environment: &Env,
) -> Option<TakenPort> {
    let ended_it = exception.filter(|found| found.standing == Standing::Last);
    let by_another = |found: &Traceback| !says_so(&found.exception.message.to_lowercase());
    if ended_it.is_some_and(by_another) && !exits(ended_it) {
        return None;
    }
    let said = tails.into_iter().find_map(said)?;
    let port = match said {
        Said::Port(port) => Some(port),
        Said::Path => None,
        Said::Nothing => wanted(spec, environment),
    };
    Some(TakenPort { port, holder: None })
}

/// A server that ends itself after it has said what is wrong.
fn exits(exception: Option<&Traceback>) -> bool {
    exception.is_some_and(|found| found.exception.kind == "SystemExit")
}

/// The port of a `listen` socket that could not be bound.
#[must_use]
pub fn not_bound(failure: &SpawnFailure) -> Option<TakenPort> {
    let address = failure.stage.strip_prefix("listen ").filter(|_| failure.errno == "EADDRINUSE")?;
    Some(TakenPort { port: behind_colon(address), holder: None })
}

enum Said {
    Port(u16),
    /// It was no port but a socket in a file.
    Path,
    Nothing,
}

/// What the last lines say of a taken port; `None`: nothing of one.
fn said(tail: &[String]) -> Option<Said> {
    let mut found = None;
    for line in tail.iter().rev().take(LAST_LINES).map(|line| line.to_lowercase()) {
        if says_so(&line) {
            match named(&line) {
                Some(port) => return Some(Said::Port(port)),
                None if line.contains("in use /") => return Some(Said::Path),
                None => found = found.or(Some(Said::Nothing)),
            }
        } else if let Some(port) = line.trim().strip_prefix("port: ").and_then(number) {
            // Node.js prints the error's fields behind its trace.
            found = found.map(|_| Said::Port(port));
        } else if found.is_none() && GOT_ONE.iter().any(|words| line.contains(words)) {
            return None;
        }
    }
    found
}

fn says_so(line: &str) -> bool {
    let is_in_use = |rest: &str| {
        let rest = rest.trim_start_matches(|char: char| char.is_ascii_digit() || char == ' ');
        (rest.starts_with("is in use") || rest.starts_with("is already in use")) && !rest.contains("trying")
    };
    TAKEN.iter().any(|words| line.contains(words))
        || line.match_indices("port ").any(|(at, words)| is_in_use(&line[at + words.len()..]))
}

/// The port in a line that says that it is taken: `port 5000 is in use`, `('127.0.0.1', 8000)`, `tcp :8080:`, `:::3999`.
fn named(line: &str) -> Option<u16> {
    let worded = || line.match_indices("port ").find_map(|(at, words)| number(&line[at + words.len()..]));
    let tuple = || line.rsplit_once("', ").and_then(|(_, rest)| number(rest));
    let address = || line.split_whitespace().rev().find_map(behind_colon);
    tuple().or_else(worded).or_else(address)
}

/// The port of `HOST:PORT`, where it is one and no time of day, no line of a source file.
fn behind_colon(word: &str) -> Option<u16> {
    let word = word.trim_matches(|char| matches!(char, ',' | '.' | '(' | ')' | '\'' | '"' | '`'));
    let word = word.strip_suffix(':').unwrap_or(word);
    let word = word.rsplit_once("//").map_or(word, |(_, rest)| rest);
    let (host, port) = word.split('/').next()?.rsplit_once(':')?;
    let is_v4 = host.split('.').count() == 4 && host.chars().all(|char| char.is_ascii_digit() || char == '.');
    let is_host = matches!(host, "" | "*" | "localhost") || host.starts_with([':', '[']) || is_v4;
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| number(port)).flatten().filter(|_| is_host)
}

/// The number at the beginning of a text, if it is that of a port.
fn number(text: &str) -> Option<u16> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok().filter(|port| *port > 0)
}

/// The port that an app is known to want: by its arguments, `PORT`, its health check, its sockets.
fn wanted(spec: &Spec, environment: &Env) -> Option<u16> {
    let whole = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let port = |text: &str| whole(text).or_else(|| text.rsplit_once(':').and_then(|(_, port)| whole(port)));
    let words = spec.command.iter().zip(spec.command.iter().skip(1));
    let apart = words.filter(|(flag, _)| FLAGS.contains(&flag.as_str())).map(|(_, value)| value.as_str());
    let joined = spec.command.iter().filter_map(|word| word.split_once('=')).filter(|(flag, _)| FLAGS.contains(flag));
    let by_flag = apart.chain(joined.map(|(_, value)| value)).find_map(port);
    let by_env = || spec.env.get("PORT").or_else(|| environment.get("PORT")).and_then(|value| port(value));
    let by_check = || match &spec.readiness.health_check.as_ref()?.probe {
        Probe::Http(url) => url.split_once("//")?.1.split('/').next().and_then(port),
        Probe::Tcp(address) => port(address),
        Probe::Command(_) => None,
    };
    by_flag.or_else(by_env).or_else(by_check).or_else(|| spec.listen.iter().find_map(|one| port(&one.to_string())))
}

impl fmt::Display for TakenPort {
    /// ``port 5000 is taken by pid 123 of api (`python3 app.py`)``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "port {port}")?,
            None => f.write_str("its address")?,
        }
        let Some(PortHolder { pid, command, instance }) = &self.holder else { return f.write_str(" is taken") };
        write!(f, " is taken by pid {pid}")?;
        if let Some(name) = instance {
            write!(f, " of {name}")?;
        }
        match command {
            Some(command) if command.chars().count() > COMMAND => {
                write!(f, " (`{}…`)", command.chars().take(COMMAND).collect::<String>())
            }
            Some(command) => write!(f, " (`{command}`)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::AppName;
    use crate::core::record::Exception;
    use crate::core::spec::Listen;
    use crate::core::traceback::Runtime;

    fn spec(command: &str) -> Spec {
        let command = command.split_whitespace().map(str::to_owned).collect();
        Spec { command, ..Spec::plain(AppName::parse("web").unwrap()) }
    }

    fn of(text: &str) -> Option<Option<u16>> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        taken(None, [&lines, &[]], &spec("app"), &Env::new()).map(|taken| taken.port)
    }

    #[test]
    fn every_server_has_its_own_words_for_it() {
        let node = "node:events:495\n      throw er; // Unhandled 'error' event\n      ^\n\nError: listen EADDRINUSE: address \
                    already in use :::3999\n    at Server.setupListenHandle [as _listen2] (node:net:1817:16)\n    at \
                    node:internal/main/run_main_module:28:49 {\n  code: 'EADDRINUSE',\n  errno: -98,\n  syscall: \
                    'listen',\n  address: '::',\n  port: 3999\n}\n\nNode.js v18.19.0";
        for (text, port) in [
            ("OSError: [Errno 98] Address already in use", None),
            (
                "Address already in use\nPort 5000 is in use by another program. Either identify and stop it.",
                Some(5000),
            ),
            (
                "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use\n\
                 INFO:     Waiting for application shutdown.",
                Some(8000),
            ),
            (
                "[2026-11-24 10:00:00 +0000] [7] [ERROR] Connection in use: ('127.0.0.1', 8000)\n\
                 [2026-11-24 10:00:01 +0000] [7] [ERROR] Can't connect to ('127.0.0.1', 8000)",
                Some(8000),
            ),
            (node, Some(3999)),
            (
                "2026/11/24 10:00:00 main.go:12: listen tcp :8080: bind: address already in use\nexit status 1",
                Some(8080),
            ),
            ("2026/11/24 10:00:00 listen tcp 127.0.0.1:8081: bind: address already in use", Some(8081)),
            ("2026-11-24 10:00:00 listen tcp [::1]:8082: bind: address already in use", Some(8082)),
            ("Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }", None),
            ("thread 'main' panicked at src/main.rs:4:10:\nAddress already in use (os error 98)", None),
            ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", Some(80)),
            ("10:00:00 app.py:55 address already in use", None),
            ("Port 8501 is already in use", Some(8501)),
            ("Error: listen EADDRINUSE: address already in use /tmp/web.sock", None),
        ] {
            assert_eq!(of(text), Some(port), "{text}");
        }
    }

    #[test]
    fn what_is_no_taken_port_is_left_alone() {
        let early = format!("[Errno 98] Address already in use\n{}", "GET /\n".repeat(LAST_LINES));
        for text in [
            "",
            "KeyError: 98",
            "this port is in good use",
            "Port 3000 is in use, trying 3001 instead.",
            "[ERROR] Connection in use: ('127.0.0.1', 8000)\nListening at: http://127.0.0.1:8000 (7)\nboom",
            &early,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        let exception = Exception { kind: "KeyError".into(), message: "'x'".into(), location: None };
        let found =
            Traceback { exception, standing: Standing::Last, runtime: Runtime::Python, announced: false, follows: 0 };
        let lines = ["Address already in use".to_owned()];
        assert_eq!(taken(Some(&found), [&lines, &[]], &spec("app"), &Env::new()), None);
        let own = |kind: &str, message: &str| Traceback {
            exception: Exception { kind: kind.into(), message: message.into(), location: None },
            ..found.clone()
        };
        for found in [own("OSError", "[Errno 98] Address already in use"), own("SystemExit", "1")] {
            assert!(taken(Some(&found), [&[], &lines], &spec("app"), &Env::new()).is_some(), "{found:?}");
        }
    }

    #[test]
    fn the_port_that_a_text_leaves_out_is_that_of_the_app() {
        let none = Env::new();
        for (command, port) in [
            ("uvicorn app:app --port 8001", Some(8001)),
            ("web --port=8002", Some(8002)),
            ("gunicorn -b 127.0.0.1:8003 app:app", Some(8003)),
            ("gunicorn --bind=[::]:8004 app:app", Some(8004)),
            ("python3 -m http.server 8005", Some(8005)),
            ("mkdir -p /srv/x", None),
            ("web -p", None),
            ("web --port 70000", None),
        ] {
            assert_eq!(wanted(&spec(command), &none), port, "{command}");
        }
        let inherited = Env::from([("PORT".into(), "9000".into())]);
        assert_eq!(wanted(&spec("web"), &inherited), Some(9000));
        let mut web = Spec { listen: vec![Listen::Tcp("127.0.0.1:9001".into())], ..spec("web") };
        assert_eq!(wanted(&web, &none), Some(9001));
        web.env.insert("PORT".into(), "9002".into());
        assert_eq!(wanted(&web, &inherited), Some(9002));
    }

    #[test]
    fn a_socket_of_steads_own_names_its_port_and_a_holder_is_told() {
        let failure = |stage: &str, errno: &str| SpawnFailure { stage: stage.into(), errno: errno.into() };
        let mut taken = not_bound(&failure("listen 0.0.0.0:80", "EADDRINUSE")).unwrap();
        assert_eq!(taken.to_string(), "port 80 is taken");
        assert_eq!(not_bound(&failure("listen [::1]:80", "EADDRINUSE")).unwrap().port, Some(80));
        assert_eq!(not_bound(&failure("listen /run/x", "EADDRINUSE")).unwrap().to_string(), "its address is taken");
        assert_eq!(not_bound(&failure("listen 0.0.0.0:80", "EACCES")), None);
        taken.holder = Some(PortHolder { pid: 7, command: Some("nginx".into()), instance: None });
        assert_eq!(taken.to_string(), "port 80 is taken by pid 7 (`nginx`)");
        taken.holder = Some(PortHolder { pid: 7, command: Some("x".repeat(100)), instance: Some("api".into()) });
        assert_eq!(taken.to_string(), format!("port 80 is taken by pid 7 of api (`{}…`)", "x".repeat(40)));
    }
}
