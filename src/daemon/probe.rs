//! Health checks: each question is a task with a time limit, and its answer goes to the loop as a message. Whatever is asked may hang
//! or never end: no more than a bound of it is read.

use super::perform::aside;
use crate::core::clock::Millis;
use crate::core::name::RunId;
use crate::core::probe::Outcome;
use crate::os::cgroup::leaf::Join;
use crate::os::command::{Command, Ended};
use crate::os::spawn::{Groups, Plan};
use crate::os::wait::readable;
use crate::os::{clock, pipe};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

/// What is kept of an answer: its first line is what counts.
const LONGEST_HEAD: usize = 4 << 10;

/// What is read of a page beyond its first line. A server that is cut off in its answer may complain in its log.
const LONGEST_BODY: usize = 64 << 10;

/// How long the rest of a page is waited for, when its first line is there.
const REST: Duration = Duration::from_millis(100);

/// What is kept of a command's output.
const KEPT: usize = 4 << 10;

/// What a command may print; beyond it gets SIGPIPE.
const MOST_OUTPUT: usize = 16 << 20;

/// What is shown of what was said.
const SHOWN: usize = 200;

/// A question that is ready to be asked.
pub enum Question {
    /// Host and port, and the path.
    Http(String, String),
    Tcp(String),
    Command(Box<Plan>, Join),
    /// It cannot even be asked.
    Impossible(String),
}

/// Splits `http://HOST:PORT/PATH`, which the configuration has put into this form.
#[must_use]
pub fn http(url: &str) -> Question {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Question::Http(authority.into(), if path.is_empty() { "/".into() } else { path.into() })
}

/// Asks; the answer comes to `told`, at the latest when the time is over.
pub fn ask(run: RunId, question: Question, limit: Millis, told: UnboundedSender<(RunId, Outcome)>) {
    tokio::task::spawn_local(async move {
        let begun = clock::precise();
        let answer = tokio::time::timeout(Duration::from_millis(limit.0), answer(question)).await;
        let (ok, said) = match answer {
            Ok(Ok(said)) => (true, said),
            Ok(Err(said)) => (false, said),
            Err(_) => (false, format!("no answer within {limit}")),
        };
        let took = Millis((clock::precise() - begun).as_millis() as u64);
        let _ = told.send((run, Outcome { ok, said: shown(&said), took }));
    });
}

async fn answer(question: Question) -> Result<String, String> {
    match question {
        Question::Http(authority, path) => get(&authority, &path).await,
        Question::Tcp(address) => connect(&address).await.map(|_| "connected".to_owned()),
        Question::Command(plan, join) => run(&plan, &join).await,
        Question::Impossible(why) => Err(why),
    }
}

/// An address is no question for a name service, and neither is this machine's own name.
async fn connect(address: &str) -> Result<TcpStream, String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse().unwrap_or(0);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![(ip, port).into()],
        Err(_) if bare == "localhost" => {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        }
        Err(_) => {
            let asked = address.to_owned();
            let found = aside("lookup", move || std::net::ToSocketAddrs::to_socket_addrs(&asked)).await;
            let found = found.map_err(|_| "the name cannot be looked up: no thread can be started".to_owned())?;
            found.map_err(|error| words(&error))?.collect()
        }
    };
    let mut last = "the name has no address".to_owned();
    for one in addresses {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = words(&error),
        }
    }
    Err(last)
}

async fn get(authority: &str, path: &str) -> Result<String, String> {
    let mut stream = connect(authority).await?;
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: stead/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| words(&error))?;
    let mut head = Vec::with_capacity(1024);
    let line = loop {
        if let Some(end) = head.windows(2).position(|two| two == b"\r\n") {
            break String::from_utf8_lossy(&head[..end]).into_owned();
        }
        let n = stream.read_buf(&mut head).await.map_err(|error| words(&error))?;
        if n == 0 || head.len() >= LONGEST_HEAD {
            return Err("the answer is not HTTP".into());
        }
    };
    let _ = tokio::time::timeout(REST, rest(stream)).await;
    judge(&line)
}

async fn rest(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    let mut left = LONGEST_BODY;
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        left = left.saturating_sub(n);
        if left == 0 {
            return;
        }
    }
}

/// `HTTP/1.1 200 OK`.
fn judge(line: &str) -> Result<String, String> {
    let mut words = line.splitn(3, ' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http);
    let Some(status) = status else { return Err("the answer is not HTTP".into()) };
    let said = format!("HTTP {status} {}", words.next().unwrap_or_default());
    if (200..400).contains(&status) { Ok(said) } else { Err(said) }
}

async fn run(plan: &Plan, join: &Join) -> Result<String, String> {
    let tasks: Vec<_> = join.tasks.iter().map(AsFd::as_fd).collect();
    let groups = Groups { into: join.into.as_ref().map(AsFd::as_fd), tasks: &tasks };
    let (mut command, pidfd, output) = Command::start(plan, groups).map_err(|error| words(&error))?;
    let pidfd = readable(pidfd).map_err(|error| words(&error))?;
    let mut output = Some(readable(output).map_err(|error| words(&error))?);
    let mut kept = Vec::new();
    let mut taken = 0;
    let ended = loop {
        tokio::select! {
            biased;
            ready = pidfd.readable() => {
                ready.map_err(|error| words(&error))?.clear_ready();
                if let Some(ended) = command.ended() {
                    break ended;
                }
            },
            more = take(output.as_ref(), &mut kept) => {
                taken += more;
                if more == 0 || taken > MOST_OUTPUT {
                    output = None;
                }
                // Whoever prints without an end does not keep the loop.
                tokio::task::yield_now().await;
            },
        }
    };
    // What it printed last lies in the pipe.
    if let Some(output) = &output {
        let _ = read(output.get_ref(), &mut kept);
    }
    let last = last_line(&kept);
    let with = |what: String| if last.is_empty() { what } else { format!("{what}: {last}") };
    match ended {
        Ended::Code(0) => Ok(with("exit code 0".into())),
        Ended::Code(code) => Err(with(format!("exit code {code}"))),
        Ended::Signal(signal) => Err(with(format!("ended by {signal}"))),
        Ended::Failed(stage, errno) => Err(format!("could not be run: {} {}: {errno}", stage.word(), plan.program)),
    }
}

/// How much came; 0 at its end.
async fn take(output: Option<&AsyncFd<OwnedFd>>, kept: &mut Vec<u8>) -> usize {
    let Some(output) = output else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = output.readable().await else { return 0 };
        match read(output.get_ref(), kept) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            result => return result.unwrap_or(0),
        }
    }
}

/// Takes what a pipe holds, and keeps the end of it.
fn read(output: &OwnedFd, kept: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 16 << 10];
    let n = pipe::read(output.as_fd(), &mut buffer)?;
    kept.extend_from_slice(&buffer[..n]);
    kept.drain(..kept.len().saturating_sub(KEPT));
    Ok(n)
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// One line without anything a terminal would obey.
fn shown(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Without the number that std puts behind it.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_from_200_to_399_is_well() {
        for (line, said) in [
            ("HTTP/1.1 200 OK", Ok("HTTP 200 OK")),
            ("HTTP/1.0 302 Found", Ok("HTTP 302 Found")),
            ("HTTP/1.1 404 Not Found", Err("HTTP 404 Not Found")),
            ("HTTP/1.1 101 Switching Protocols", Err("HTTP 101 Switching Protocols")),
            ("SSH-2.0-OpenSSH_9.6", Err("the answer is not HTTP")),
            ("HTTP/1.1", Err("the answer is not HTTP")),
        ] {
            assert_eq!(judge(line), said.map(str::to_owned).map_err(str::to_owned), "{line}");
        }
    }

    #[test]
    fn what_is_shown_is_one_bounded_line() {
        assert_eq!(last_line(b"one\n\x1b[31mtwo\x1b[0m\n\n"), "\x1b[31mtwo\x1b[0m");
        assert_eq!(shown("\x1b[31mtwo"), "[31mtwo");
        assert_eq!(shown(&"x".repeat(10_000)).len(), SHOWN);
    }
}
