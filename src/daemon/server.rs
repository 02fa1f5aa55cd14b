//! HTTP/1.1 and JSON over `stead.sock`. Each connection is a task; what it asks goes to the loop as a message.

use crate::core::clock::Wall;
use crate::core::command::{PROTOCOL, PROTOCOL_HEADER, Refusal, RefusalKind, Reply, Request};
use crate::core::record::{Actor, Cause};
use crate::core::upgrade::Order;
use crate::core::why::Filter;
use crate::os::{process, socket};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Longest body of a request: an ecosystem of some thousand apps.
const LONGEST_BODY: usize = 32 << 20;

/// Connections served at once; more wait in the socket's queue.
const MOST_CONNECTIONS: usize = 128;

/// A client that does not send its request head in this time is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client asks of the loop.
#[derive(Debug)]
pub enum Question {
    Ping,
    List,
    Describe { target: String, show_env: bool },
    Why { target: String, filter: Filter, last: Option<usize> },
    Runs { target: String },
    Health,
    TestNotifiers,
    Trend { target: Option<String> },
    History { target: Option<String> },
    Command { request: Box<Request>, actor: Actor },
    Upgrade { order: Order, actor: Actor },
}

/// The answer: a JSON body, or why not.
pub type Answer = Result<Vec<u8>, Refusal>;

/// A question with the way back.
#[derive(Debug)]
pub struct Asking {
    pub question: Question,
    pub answer: oneshot::Sender<Answer>,
}

/// Places for connections.
#[derive(Clone, Debug)]
pub struct Doors(Arc<Semaphore>);

impl Doors {
    #[must_use]
    pub fn new() -> Doors {
        Doors(Arc::new(Semaphore::new(MOST_CONNECTIONS)))
    }

    /// Is nobody connected, now that nobody serves?
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.0.available_permits() == MOST_CONNECTIONS
    }

    /// Is nobody connected? (One place is taken by the next to come.)
    #[must_use]
    pub fn all_closed(&self) -> bool {
        self.0.available_permits() + 1 >= MOST_CONNECTIONS
    }
}

/// Serves until the runtime ends.
pub async fn serve(listener: UnixListener, doors: Doors, loop_: mpsc::UnboundedSender<Asking>) {
    loop {
        let Ok(place) = doors.0.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let loop_ = loop_.clone();
                tokio::task::spawn_local(async move {
                    let _place = place;
                    connection(stream, loop_).await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: what is connected goes on, the rest waits in the queue.
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, loop_: mpsc::UnboundedSender<Asking>) {
    let Ok((pid, uid)) = socket::peer(&stream) else { return };
    let service = service_fn(move |request| {
        let loop_ = loop_.clone();
        async move { Ok::<_, Infallible>(respond(request, pid, uid, loop_).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection broke");
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    pid: i32,
    uid: u32,
    loop_: mpsc::UnboundedSender<Asking>,
) -> Response<Full<Bytes>> {
    let answer = match question(request, pid, uid).await {
        Err(refusal) => Err(refusal),
        Ok(question) => {
            let (answer, answered) = oneshot::channel();
            match loop_.send(Asking { question, answer }) {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(Refusal::failed("stead has ended"))),
                Err(_) => Err(Refusal::failed("stead has ended")),
            }
        }
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => {
            let status = match refusal.kind {
                RefusalKind::NoSuchApp => StatusCode::NOT_FOUND,
                RefusalKind::Usage => StatusCode::BAD_REQUEST,
                RefusalKind::Failed => StatusCode::CONFLICT,
            };
            (status, serde_json::to_vec(&refusal).unwrap_or_default())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

async fn question(request: hyper::Request<Incoming>, pid: i32, uid: u32) -> Result<Question, Refusal> {
    // The socket is 0600 already; root may drive everybody's stead, others only their own.
    if uid != 0 && uid != process::uid() {
        return Err(Refusal::failed(format!(
            "uid {uid} may not drive this stead (it belongs to uid {})",
            process::uid()
        )));
    }
    let spoken = request.headers().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    // What leads out of it is the same in all versions.
    let is_of_all = matches!(request.uri().path(), "/v1/ping" | "/v1/upgrade");
    if let Some(spoken) = spoken.filter(|spoken| *spoken > PROTOCOL && !is_of_all) {
        return Err(Refusal::failed(format!(
            "this stead client speaks protocol {spoken}, the running daemon (version {}) only {PROTOCOL}",
            env!("CARGO_PKG_VERSION")
        ))
        .hint("`stead upgrade` puts the new version in its place; no app is restarted"));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(percent_decode);
    let target = || parameter("target").ok_or_else(|| usage("the request names no target"));
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/ping") => Ok(Question::Ping),
        (&Method::GET, "/v1/list") => Ok(Question::List),
        (&Method::GET, "/v1/describe") => {
            Ok(Question::Describe { target: target()?, show_env: parameter("show_env").is_some() })
        }
        (&Method::GET, "/v1/why") => {
            let causes = parameter("cause").unwrap_or_default();
            let causes = causes.split(',').filter(|word| !word.is_empty());
            let cause = |word: &str| Cause::parse(word).map_err(|_| usage(format!("`{word}` is no cause")));
            let number = |name: &str| match parameter(name) {
                Some(text) => text.parse().map(Some).map_err(|_| usage(format!("`{text}` is no number: {name}"))),
                None => Ok(None),
            };
            let filter = Filter {
                causes: causes.map(cause).collect::<Result<_, _>>()?,
                since: number("since")?.map(Wall),
                run: parameter("run"),
            };
            let last = number("last")?.map(|last| usize::try_from(last).unwrap_or(0));
            Ok(Question::Why { target: parameter("target").unwrap_or_else(|| "all".into()), filter, last })
        }
        (&Method::GET, "/v1/runs") => Ok(Question::Runs { target: target()? }),
        (&Method::GET, "/v1/health") => Ok(Question::Health),
        (&Method::GET, "/v1/trend") => Ok(Question::Trend { target: parameter("target") }),
        (&Method::GET, "/v1/history") => Ok(Question::History { target: parameter("target") }),
        (&Method::POST, "/v1/notify/test") => Ok(Question::TestNotifiers),
        (&Method::POST, "/v1/upgrade") => {
            let order = body(request).await?;
            let actor = Actor { uid: Some(uid), pid: Some(pid), command: process::command_line(pid) };
            Ok(Question::Upgrade { order, actor })
        }
        (&Method::POST, "/v1/command") => {
            let request: Request = body(request).await?;
            let actor = Actor { uid: Some(uid), pid: Some(pid), command: Some(request.command_line.clone()) };
            Ok(Question::Command { request: Box::new(request), actor })
        }
        (method, path) => Err(usage(format!("this daemon knows no {method} {path}"))
            .hint("client and daemon may be of different versions")),
    }
}

async fn body<T: DeserializeOwned>(request: hyper::Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), LONGEST_BODY).collect().await;
    let body = body.map_err(|error| usage(format!("the request's body: {error}")))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| {
        usage(format!("the request cannot be read: {error}")).hint("client and daemon may be of different versions")
    })
}

/// The body of a command's answer.
pub fn reply(result: Result<Reply, Refusal>) -> Answer {
    result.map(|reply| serde_json::to_vec(&reply).unwrap_or_default())
}

fn usage(error: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Usage, error: error.into(), hint: None }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = (byte == b'%').then(|| {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
        });
        bytes.push(decoded.flatten().unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_percent_decoded() {
        assert_eq!(percent_decode("my%20app%2F+x%C3%A9"), "my app/ xé");
        assert_eq!(percent_decode("bad%zz%4"), "bad%%");
    }
}
