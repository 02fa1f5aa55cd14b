//! The courier: a short-lived child of the daemon that carries one message. What TLS takes of memory, a name service that does not answer,
//! and whatever a user's command does stay with it; the daemon only waits for a pidfd.

use crate::core::clock::Millis;
use crate::core::event::ExitStatus;
use crate::core::notify::{Fault, Way};
use crate::os::spawn::{self, Plan};
use crate::os::strings::Strings;
use crate::os::wait::Waiter;
use crate::os::{clock, file, pipe, process, signal};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// What is to be carried, as the daemon hands it over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    pub way: Way,
    pub timeout: Millis,
    /// The message.
    pub body: String,
}

/// What came of it, on the way back. `None`: it was taken.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub fault: Option<Fault>,
}

/// What is left of a command after its time is killed, again and again, for so long: one that forks faster than it is killed.
const LONGEST_KILLING: Duration = Duration::from_secs(2);

/// Characters of a command's last line, or of a server's answer, that are told.
const LONGEST_WORD: usize = 200;

/// The role: reads an errand from stdin, carries it, and says on stdout what came of it.
///
/// # Errors
/// Where the errand cannot be read. What is wrong with the way is no error: it is the outcome.
pub fn run(parent: i32) -> io::Result<()> {
    process::leave_session();
    // Nobody is left to be told.
    if !process::end_with_parent(parent)? {
        return Ok(());
    }
    let errand: Errand = serde_json::from_slice(&file::read_memory_file(process::inherited(0)?)?)?;
    let limit = Duration::from_millis(errand.timeout.0);
    let carried = match errand.way {
        Way::Command { argv, cwd } => command(&argv, &cwd.to_string_lossy(), &errand.body, limit),
        Way::Webhook(url) => webhook(&url, errand.body, limit),
    };
    let outcome = serde_json::to_vec(&Outcome { fault: carried.err() })?;
    io::stdout().write_all(&outcome)
}

fn passing(reason: impl Into<String>) -> Fault {
    Fault { reason: reason.into(), again: true }
}

fn lasting(reason: impl Into<String>) -> Fault {
    Fault { reason: reason.into(), again: false }
}

/// POSTs a message.
fn webhook(url: &str, body: String, limit: Duration) -> Result<(), Fault> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        // Another host may be anybody's, and what was a POST would most often become a GET.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(trusted()).build())
        .proxy(ureq::Proxy::try_from_env().filter(|_| !is_local(url)))
        .build()
        .into();
    let sent = agent.post(url).content_type("application/json").send(body);
    let mut answer = sent.map_err(|error| match error {
        ureq::Error::Timeout(_) => passing(format!("did not answer within {}", Millis(limit.as_millis() as u64))),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => lasting(format!("is no URL that can be asked: {error}")),
        ureq::Error::Io(error) => passing(error.to_string()),
        other => passing(other.to_string()),
    })?;
    let status = answer.status();
    match status.as_u16() {
        200..300 => Ok(()),
        300..400 => {
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            let to: String = to.chars().take(LONGEST_WORD).collect();
            Err(lasting(format!("answered {status} to {to}, and stead follows nobody: write that URL if it is right")))
        }
        code => {
            let body = answer.body_mut().with_config().limit(4096).read_to_string().unwrap_or_default();
            let line = body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            let line: String = line.chars().take(LONGEST_WORD).collect();
            let reason =
                if line.is_empty() { format!("answered {status}") } else { format!("answered {status}: {line}") };
            Err(if matches!(code, 408 | 429 | 500..) { passing(reason) } else { lasting(reason) })
        }
    }
}

/// On this machine: no proxy stands between.
fn is_local(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whom the machine trusts, so that an authority of the house's own is known too; else Mozilla's list, which the program carries.
fn trusted() -> RootCerts {
    let own = std::env::var("SSL_CERT_FILE").ok();
    // Debian and Alpine, Fedora and RHEL, openSUSE.
    let usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"]
        .map(str::to_owned);
    let certificates = own.into_iter().chain(usual).find_map(|path| {
        let text = std::fs::read(path).ok()?;
        let found: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                Ok(_) | Err(_) => None,
            })
            .collect();
        (!found.is_empty()).then_some(found)
    });
    certificates.map_or(RootCerts::WebPki, |found| RootCerts::new_with_certs(&found))
}

/// Runs a command with the message at its stdin. What it leaves in the background has the rest of the time; nothing stays after it.
fn command(argv: &[String], cwd: &str, body: &str, limit: Duration) -> Result<(), Fault> {
    let until = clock::precise() + limit;
    // Before there is anything that a SIGTERM could leave behind.
    let signals = signal::watch(&[signal::TERM, signal::CHILD]).map_err(|error| passing(error.to_string()))?;
    let began = begin(argv, cwd, body);
    let (pid, output, exec) = began.map_err(|reason| passing(format!("could not be started: {reason}")))?;
    let mut course = Course { pid, output, end: None, empty: false, tail: Tail::default() };
    let asked = course.wait(&signals, until);
    if !course.empty {
        process::kill_all_children(LONGEST_KILLING);
        course.read();
    }
    if let Ok(Some((stage, errno))) = spawn::outcome(&exec) {
        return Err(passing(format!("could not be started: {}: {errno}", stage.word())));
    }
    let within = Millis(limit.as_millis() as u64);
    let said = course.tail.line();
    match course.end {
        _ if asked => Err(passing("stead ended before it did")),
        None => Err(passing(format!("did not end within {within} and was killed{said}"))),
        Some(ExitStatus::Code(0)) if course.empty => Ok(()),
        Some(ExitStatus::Code(0)) => {
            Err(lasting(format!("ended well, but what it left running was killed after {within}{said}")))
        }
        Some(ExitStatus::Code(code)) => Err(passing(format!("exited with code {code}{said}"))),
        Some(ExitStatus::Signal { signal, .. }) => Err(passing(format!("was ended by {signal}{said}"))),
    }
}

/// Its pid, what it writes, and its exec pipe.
fn begin(argv: &[String], cwd: &str, body: &str) -> Result<(i32, OwnedFd, OwnedFd), String> {
    let said = |error: io::Error| error.to_string();
    process::become_subreaper().map_err(said)?;
    let (output, theirs) = pipe::make(None).map_err(said)?;
    let stdin =
        file::memory_file(c"stead-message", format!("{body}\n").as_bytes()).and_then(file::rewound).map_err(said)?;
    let path = std::env::var("PATH").ok();
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let program = process::find_program(name, path.as_deref()).map_err(|errno| format!("{name}: {}", errno.desc()))?;
    let env = std::env::vars_os().filter_map(|(key, value)| Some(format!("{}={}", key.to_str()?, value.to_str()?)));
    let plan = Plan {
        program,
        argv: Strings::new(argv).map_err(|errno| errno.to_string())?,
        env: Strings::new(env).map_err(|errno| errno.to_string())?,
        cwd: cwd.to_owned(),
        oom_score_adj: process::own_oom_score_adj().filter(|adj| *adj < 0).map(|_| 0),
        ..Plan::default()
    };
    let stdio = spawn::Stdio { null: stdin.as_fd(), out: theirs.as_fd(), err: theirs.as_fd(), listen: &[] };
    let files = spawn::open_files().map_err(said)?;
    let child = spawn::spawn(&plan, stdio, spawn::Groups::default(), files)
        .map_err(|(stage, errno)| format!("{}: {}", stage.word(), errno.desc()))?;
    Ok((child.pid, output, child.exec))
}

/// A command under way.
struct Course {
    pid: i32,
    output: OwnedFd,
    end: Option<ExitStatus>,
    /// It and all that it left have ended.
    empty: bool,
    tail: Tail,
}

const OUTPUT: u64 = 0;
const SIGNALS: u64 = 1;

impl Course {
    /// Waits until all has ended, or the time is over. `true`: stead itself ends.
    fn wait(&mut self, signals: &OwnedFd, until: Duration) -> bool {
        let Ok(waiter) = Waiter::new() else { return false };
        if waiter.add(self.output.as_fd(), OUTPUT).is_err() || waiter.add(signals.as_fd(), SIGNALS).is_err() {
            return false;
        }
        loop {
            let (ended, any) = process::reap();
            self.end = self.end.or(ended.into_iter().find(|(pid, _)| *pid == self.pid).map(|(_, status)| status));
            self.empty = !any;
            let left = until.saturating_sub(clock::precise());
            if self.empty || left.is_zero() {
                self.read();
                return false;
            }
            let ready = waiter.wait(Some(left.max(Duration::from_millis(1))));
            if ready.contains(&OUTPUT) && !self.read() {
                waiter.remove(self.output.as_fd());
            }
            if ready.contains(&SIGNALS) && signal::read(signals).iter().any(|came| came.signal == signal::TERM) {
                return true;
            }
        }
    }

    /// `false`: nobody can write any more.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 8192];
        loop {
            match pipe::read(self.output.as_fd(), &mut buffer) {
                Ok(0) => return false,
                Ok(n) => self.tail.add(&buffer[..n]),
                Err(_) => return true,
            }
        }
    }
}

/// The last line that is not empty, however much there is.
#[derive(Debug, Default)]
struct Tail {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = (4 * LONGEST_WORD).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim_ascii().is_empty() {
            self.last = line;
        }
    }

    /// `: ` and the line, or nothing.
    fn line(&mut self) -> String {
        self.close();
        let line: String = String::from_utf8_lossy(self.last.trim_ascii()).chars().take(LONGEST_WORD).collect();
        if line.is_empty() { line } else { format!(": {line}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_a_command_says_the_last_line_is_kept() {
        let mut tail = Tail::default();
        assert_eq!(tail.line(), "");
        for piece in ["mail: can", "not send\n", "  giving up\n\n", "  \n"] {
            tail.add(piece.as_bytes());
        }
        assert_eq!(tail.line(), ": giving up");
        (0..1000).for_each(|_| tail.add(&[b'x'; 1000]));
        assert!(tail.line.len() <= 4 * LONGEST_WORD);
        assert_eq!(tail.line().len(), 2 + LONGEST_WORD);
    }

    #[test]
    fn no_proxy_stands_before_this_machine() {
        for (url, local) in [
            ("http://127.0.0.1:9000/hook", true),
            ("http://localhost/hook", true),
            ("https://[::1]:8443", true),
            ("https://hooks.slack.com/services/T0", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }
}
