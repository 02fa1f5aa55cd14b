//! HTTP/1.1 over `stead.sock`: finds the daemon, starts stead where nothing runs, and asks again where that is safe.

use super::home::{Home, reason};
use super::render::screen::{self, Screen};
use crate::core::command::{
    Change, ChangeKind, Command, PROTOCOL, PROTOCOL_HEADER, Refusal, RefusalKind, Reply, Request,
};
use crate::core::upgrade::{Order, Report};
use crate::os::role;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// For as long as no daemon is there, a client waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A question unanswered for this long makes the client look whether a daemon is there at all; it has the rest of its patience for that.
const DOUBT_AFTER: Duration = Duration::from_secs(2);

/// From asking for an upgrade to its end. The keeper gives up earlier.
const LONGEST_UPGRADE: Duration = Duration::from_secs(60);

/// Between two tries to connect.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Breaks in the midst of a question that are survived: more are no accident.
const MOST_BREAKS: usize = 5;

/// The way to the daemon of one home.
#[derive(Debug)]
pub struct Daemon {
    pub home: Home,
    /// Start stead where nothing runs.
    pub starts: bool,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// The connection broke. What was asked may have been done.
    Broken(String),
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl Daemon {
    /// `GET path`: a read, asked again where the connection breaks.
    ///
    /// # Errors
    /// The daemon's refusal, or why it cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Bytes, Refusal> {
        self.ask("GET", path, Bytes::new(), true).await
    }

    /// The same, as a type.
    ///
    /// # Errors
    /// As [`Daemon::get`].
    pub async fn view<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        parse(&self.get(path).await?)
    }

    /// `POST path` without a body, which may be asked twice; the answer as a type.
    ///
    /// # Errors
    /// As [`Daemon::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        parse(&self.ask("POST", path, Bytes::new(), true).await?)
    }

    /// `POST /v1/upgrade`, asked again until the upgrade is done or not. Daemons end meanwhile, and none may be there for a while.
    ///
    /// # Errors
    /// Why it was not begun, or that nobody can say what came of it.
    pub async fn upgrade(&self, order: &Order) -> Result<Report, Refusal> {
        let body = serde_json::to_vec(order).map_err(|error| Refusal::failed(format!("the request: {error}")))?;
        let keeper = self.home.holder();
        let is_same = || self.home.is_held() && self.home.holder() == keeper;
        let asking = async {
            loop {
                let stream = self.connect().await;
                if stream.is_err() {
                    // One that dies lets go of its socket before its lock.
                    sleep(TRY_AGAIN).await;
                }
                // Another keeper knows of no upgrade, and would begin it: the one that was to become the new binary died of it. It signs
                // before it listens, so whoever is connected to it sees that here.
                if !is_same() {
                    return Err(self.keeper_died(&order.binary));
                }
                let stream = stream?;
                match exchange(stream, "POST", "/v1/upgrade", body.clone().into()).await {
                    Ok(answer) => match parse::<Report>(&answer)? {
                        report if report.is_pending() => {}
                        report => return Ok(report),
                    },
                    Err(Failure::Refused(refusal)) => return Err(refusal),
                    // Its daemon died; the next one knows of it.
                    Err(Failure::Broken(_)) => {}
                }
                sleep(TRY_AGAIN).await;
            }
        };
        timeout(LONGEST_UPGRADE, asking).await.unwrap_or_else(|_| {
            let error = format!("outcome unknown: the upgrade was not done within {} s", LONGEST_UPGRADE.as_secs());
            Err(Refusal::failed(error).hint(format!("{} may say why", self.home.path.join("stead.log").display())))
        })
    }

    fn keeper_died(&self, binary: &Path) -> Refusal {
        let hint = if self.home.is_held() {
            format!(
                "what was wanted up is started anew, once; {} may say why",
                self.home.path.join("stead.log").display()
            )
        } else {
            "`stead list` starts stead again, which ends what still runs and starts anew, once, what was wanted up"
                .into()
        };
        Refusal::failed(format!("not upgraded: {}: it ended as it took over, and the keeper with it", binary.display()))
            .hint(hint)
    }

    /// `POST /v1/command`.
    ///
    /// # Errors
    /// The daemon's refusal, why it cannot be reached, or that the outcome is unknown.
    pub async fn command(&self, command: Command, wait: bool) -> Result<Reply, Refusal> {
        let again = is_safe_twice(&command);
        let deleted = match &command {
            Command::Delete { targets } => {
                Some(Reply { changes: targets.iter().map(|name| deleted(name)).collect(), ..Reply::default() })
            }
            _ => None,
        };
        let request = Request { command, wait, command_line: command_line() };
        let body = serde_json::to_vec(&request).map_err(|error| Refusal::failed(format!("the request: {error}")))?;
        let mut breaks = 0;
        match self.ask_counting("POST", "/v1/command", body.into(), again, &mut breaks).await {
            // Known when it was asked first, and gone by now: that was done then.
            Err(refusal) if breaks > 0 && refusal.kind == RefusalKind::NoSuchApp => deleted.ok_or(refusal),
            answer => parse(&answer?),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes, again: bool) -> Result<Bytes, Refusal> {
        self.ask_counting(method, path, body, again, &mut 0).await
    }

    /// `breaks`: how often the connection broke.
    async fn ask_counting(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        again: bool,
        breaks: &mut usize,
    ) -> Result<Bytes, Refusal> {
        loop {
            match self.ask_once(method, path, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(refusal)) => return Err(refusal),
                Err(Failure::Broken(_)) if again && *breaks < MOST_BREAKS => *breaks += 1,
                Err(Failure::Broken(why)) if again => {
                    return Err(Refusal::failed(format!("the connection to the daemon breaks again and again: {why}"))
                        .hint(format!("{} may say more", self.home.path.join("stead.log").display())));
                }
                Err(Failure::Broken(why)) => {
                    return Err(Refusal::failed(format!("outcome unknown: the connection to the daemon broke: {why}"))
                        .hint("`stead list` shows what there is now; ask again where it was not done"));
                }
            }
        }
    }

    async fn ask_once(&self, method: &str, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let stream = self.connect().await?;
        let answer = exchange(stream, method, path, body);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep(DOUBT_AFTER) => self.doubt().await?,
            }
        }
    }

    /// A daemon that is there answers a ping at once, whatever else it is doing.
    async fn doubt(&self) -> Result<(), Refusal> {
        let answer = async {
            loop {
                if let Ok(stream) = UnixStream::connect(self.home.socket()).await
                    && let Ok(_) | Err(Failure::Refused(_)) = exchange(stream, "GET", "/v1/ping", Bytes::new()).await
                {
                    return;
                }
                sleep(TRY_AGAIN).await;
            }
        };
        timeout(PATIENCE - DOUBT_AFTER, answer).await.map_err(|_| self.silent())
    }

    async fn connect(&self) -> Result<UnixStream, Refusal> {
        let connected = async {
            loop {
                match UnixStream::connect(self.home.socket()).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => match error.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                            if self.start()? {
                                continue;
                            }
                        }
                        // The socket's queue is full: the daemon is busy, or away.
                        io::ErrorKind::WouldBlock => {}
                        _ => {
                            self.home.prepare()?;
                            let (socket, why) = (self.home.socket(), reason(&error));
                            return Err(Refusal::failed(format!("could not connect to {}: {why}", socket.display())));
                        }
                    },
                }
                sleep(TRY_AGAIN).await;
            }
        };
        timeout(PATIENCE, connected).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Starts a keeper, unless somebody holds the lock: then one is there, or about to be. `true`: it can be connected to now.
    fn start(&self) -> Result<bool, Refusal> {
        if !self.starts {
            return if self.home.is_held() { Ok(false) } else { Err(self.not_running()) };
        }
        self.home.prepare()?;
        let Some(lock) = self.home.lock()? else { return Ok(false) };
        let started = role::start_keeper(&self.home.path, &lock).map_err(|error| {
            let log = self.home.path.join("stead.log");
            Refusal::failed(format!("could not start stead: {}", reason(&error)))
                .hint(format!("{} may say more", log.display()))
        })?;
        if let Some(trouble) = started {
            screen::warn(&Screen::stderr(false), &trouble);
            self.home.note(&trouble);
        }
        Ok(true)
    }

    #[must_use]
    pub fn not_running(&self) -> Refusal {
        Refusal::failed(format!("stead is not running (home {})", self.home.path.display()))
            .hint("`stead list` starts it, with what was wanted up")
    }

    fn silent(&self) -> Refusal {
        let home = self.home.path.display();
        let who = self.home.holder().map(|pid| format!(" by pid {pid}")).unwrap_or_default();
        Refusal::failed(format!("no daemon answers within {} s; home {home} is held{who}", PATIENCE.as_secs()))
            .hint(format!("{} may say why", self.home.path.join("stead.log").display()))
    }
}

/// Asking a second time makes nothing happen twice.
fn is_safe_twice(command: &Command) -> bool {
    match command {
        Command::Apply { .. }
        | Command::Start { .. }
        | Command::Stop { .. }
        | Command::Delete { .. }
        | Command::Scale { .. }
        | Command::Reset { .. }
        | Command::Flush { .. }
        | Command::Save { .. }
        | Command::Resurrect
        | Command::Kill => true,
        Command::Restart { .. } | Command::Reload { .. } | Command::Signal { .. } => false,
    }
}

fn deleted(name: &str) -> Change {
    Change { name: name.to_owned(), kind: ChangeKind::Deleted, detail: None }
}

async fn exchange(stream: UnixStream, method: &str, path: &str, body: Bytes) -> Result<Bytes, Failure> {
    let broken = |error: hyper::Error| Failure::Broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let served = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "stead")
        .header(PROTOCOL_HEADER, PROTOCOL)
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| Refusal::failed(format!("the request: {error}")))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    served.abort();
    if status.is_success() {
        return Ok(body);
    }
    Err(Failure::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| {
        Refusal::failed(format!("the daemon answered {status}")).hint("client and daemon may be of different versions")
    })))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::failed(format!("the daemon's answer cannot be read: {error}"))
            .hint("client and daemon may be of different versions: `stead ping` shows the daemon's")
    })
}

/// A path with a query; names and values are percent-encoded.
#[must_use]
pub fn path_with(path: &str, query: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(byte.into()),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// Our own command line, as a shell would read it; cut, for it is kept with every record that it causes.
fn command_line() -> String {
    let words = std::env::args_os().enumerate().map(|(at, word)| match word.to_string_lossy() {
        word if at == 0 => word.rsplit('/').next().unwrap_or("stead").to_owned(),
        word => shlex::try_quote(&word).map_or_else(|_| word.escape_debug().to_string(), |word| word.into_owned()),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() > 200 { line.chars().take(199).chain(['…']).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::RefusalKind;
    use crate::core::view::Pong;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    const PONG: &str = r#"{"version":"9.9","protocol":1,"daemon_pid":7,"keeper_pid":6,"daemon_starts":2}"#;

    /// A daemon that gives each connection the next answer; an empty one is a broken connection. Returns what it was asked.
    fn fake(home: &Home, answers: Vec<(u16, &'static str)>) -> std::thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(home.socket()).unwrap();
        std::thread::spawn(move || {
            let answer = |(status, body): (u16, &str)| {
                let mut stream = listener.accept().unwrap().0;
                let mut asked = Vec::new();
                let mut byte = [0];
                while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    asked.push(byte[0]);
                }
                let head = String::from_utf8(asked).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut rest = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut rest).unwrap();
                if status != 0 {
                    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
                }
                head + &String::from_utf8(rest).unwrap()
            };
            answers.into_iter().map(answer).collect()
        })
    }

    fn at_home(test: impl AsyncFnOnce(Daemon)) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(Daemon { home, starts: false }));
    }

    #[test]
    fn a_question_carries_the_protocol_and_its_answer_is_a_type() {
        at_home(async |daemon| {
            let server = fake(&daemon.home, vec![(200, PONG)]);
            let pong: Pong = daemon.view("/v1/ping").await.unwrap();
            assert_eq!((pong.version.as_str(), pong.keeper_pid), ("9.9", 6));
            let asked = server.join().unwrap().remove(0);
            assert!(asked.starts_with("GET /v1/ping HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains("stead-protocol: 1\r\n"), "{asked}");
        });
    }

    #[test]
    fn a_refusal_is_told_with_its_kind_and_hint() {
        at_home(async |daemon| {
            let body =
                r#"{"kind":"no-such-app","error":"no app, namespace or id `flak`","hint":"did you mean `flask`?"}"#;
            fake(&daemon.home, vec![(404, body)]);
            let refusal = daemon.get("/v1/describe?target=flak").await.unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::NoSuchApp);
            assert_eq!(refusal.hint.as_deref(), Some("did you mean `flask`?"));
        });
    }

    #[test]
    fn what_is_safe_twice_is_asked_again_when_the_connection_breaks() {
        at_home(async |daemon| {
            let server = fake(&daemon.home, vec![(0, ""), (200, r#"{"changes":[],"failures":[],"warnings":[]}"#)]);
            let stop = Command::Stop { targets: vec!["web".into()] };
            daemon.command(stop, true).await.unwrap();
            let asked = server.join().unwrap();
            assert_eq!(asked.len(), 2);
            assert!(asked[1].contains(r#""verb":"stop","targets":["web"]"#), "{}", asked[1]);
        });
    }

    #[test]
    fn a_delete_that_was_done_when_the_connection_broke_is_no_unknown_app() {
        let refusal = r#"{"kind":"no-such-app","error":"no app, namespace or id `web`","hint":null}"#;
        let delete = || Command::Delete { targets: vec!["web".into()] };
        at_home(async |daemon| {
            fake(&daemon.home, vec![(0, ""), (404, refusal)]);
            let reply = daemon.command(delete(), true).await.unwrap();
            assert_eq!(reply.changes, [deleted("web")]);
        });
        at_home(async |daemon| {
            fake(&daemon.home, vec![(404, refusal)]);
            assert_eq!(daemon.command(delete(), true).await.unwrap_err().kind, RefusalKind::NoSuchApp);
        });
    }

    #[test]
    fn a_broken_restart_has_an_unknown_outcome() {
        at_home(async |daemon| {
            fake(&daemon.home, vec![(0, "")]);
            let restart = Command::Restart { targets: vec!["web".into()], environment: None };
            let refusal = daemon.command(restart, true).await.unwrap_err();
            assert!(refusal.error.starts_with("outcome unknown"), "{}", refusal.error);
            assert_eq!(refusal.kind, RefusalKind::Failed);
        });
    }

    #[test]
    fn nothing_runs_and_nothing_is_to_be_started() {
        at_home(async |daemon| {
            let refusal = daemon.get("/v1/ping").await.unwrap_err();
            assert!(refusal.error.starts_with("stead is not running"), "{}", refusal.error);
        });
    }

    #[test]
    fn a_client_waits_for_a_daemon_that_is_about_to_be_there() {
        at_home(async |daemon| {
            let lock = daemon.home.lock().unwrap().expect("free");
            let asking = daemon.get("/v1/ping");
            tokio::pin!(asking);
            let early = timeout(Duration::from_millis(60), &mut asking).await;
            assert!(early.is_err(), "it must wait while the lock is held");
            let server = fake(&daemon.home, vec![(200, PONG)]);
            assert_eq!(asking.await.unwrap(), PONG);
            server.join().unwrap();
            drop(lock);
        });
    }

    #[test]
    fn targets_are_percent_encoded() {
        assert_eq!(
            path_with("/v1/why", &[("target", "my app/é"), ("last", "3")]),
            "/v1/why?target=my%20app%2F%C3%A9&last=3"
        );
    }
}
