//! Waits that were in vain, as a log tells of them. A hint beside a cause, never a cause.

use super::record::Exception;

/// Last parts of the names of exceptions that Python's and Node's clients raise when an answer does not come.
const TIMEOUTS: [&str; 9] = [
    "ReadTimeout",
    "ReadTimeoutError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "TimeoutError",
    "Timeout",
    "timeout",
    "ServerTimeoutError",
    "PoolTimeout",
];

/// Lines from the end in which a worker's time-out still has to do with the end of its master.
const NEAR: usize = 50;

/// The last wait that was in vain, as a clause: of a call whose exception was found, else of gunicorn for one of its workers.
#[must_use]
pub fn hint(exception: Option<&Exception>, tail: &[String]) -> Option<String> {
    exception.and_then(call).or_else(|| tail.iter().rev().take(NEAR).find_map(|line| worker(line)))
}

fn call(exception: &Exception) -> Option<String> {
    let name = exception.kind.rsplit('.').next().unwrap_or_default();
    if !TIMEOUTS.contains(&name) {
        return None;
    }
    let message = &exception.message;
    let between = |start: &str, end: &[char]| {
        let rest = message.split_once(start)?.1;
        Some(&rest[..rest.find(end)?])
    };
    let of = between("host='", &['\''])
        .map(|host| match between("port=", &[')', ',']) {
            Some(port) => format!(" of {host}:{port}"),
            None => format!(" of {host}"),
        })
        .unwrap_or_default();
    let within = between("timeout=", &[')', ',']).map(|seconds| format!(" within {seconds} s")).unwrap_or_default();
    Some(format!("an answer{of} did not come{within}"))
}

/// Reads gunicorn's `[CRITICAL] WORKER TIMEOUT (pid:12)`.
fn worker(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("WORKER TIMEOUT (pid:")?;
    let pid: i32 = rest.split(')').next()?.parse().ok()?;
    Some(format!("gunicorn ended its worker {pid}, which did not answer in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, message: &str) -> Option<String> {
        hint(Some(&Exception { kind: kind.into(), message: message.into(), location: None }), &[])
    }

    #[test]
    fn a_call_that_got_no_answer_is_named_with_whom_it_called() {
        let message = "HTTPSConnectionPool(host='api.example.com', port=443): Read timed out. (read timeout=10)";
        assert_eq!(
            of("requests.exceptions.ReadTimeout", message).unwrap(),
            "an answer of api.example.com:443 did not come within 10 s"
        );
        for kind in ["TimeoutError", "asyncio.exceptions.TimeoutError", "socket.timeout", "httpx.ReadTimeout"] {
            assert_eq!(of(kind, "").unwrap(), "an answer did not come", "{kind}");
        }
        assert_eq!(of("ValueError", message), None);
    }

    #[test]
    fn a_worker_that_gunicorn_gave_up_is_named() {
        let tail =
            vec!["[2026-11-24 10:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:12)".to_owned(), "bye".to_owned()];
        assert_eq!(hint(None, &tail).unwrap(), "gunicorn ended its worker 12, which did not answer in time");
        assert_eq!(hint(None, &["WORKER TIMEOUT (pid:x)".to_owned()]), None);
    }
}
