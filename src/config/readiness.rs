//! `wait_ready`, `health_check`, `depends_on`: when an app is up, whether it is well, and what must be there before it.

use super::app::App;
use super::attributes::like;
use super::listen::tcp;
use super::node::{Entry, Node, Value};
use super::problem::{Fault, Place, shown};
use super::value::{arguments, boolean, integer, many, span, wanted, word};
use crate::core::clock::Millis;
use crate::core::name::AppName;
use crate::core::spec::{HealthCheck, Need, Probe, Readiness};
use std::collections::BTreeMap;

const KEYS: [&str; 7] = ["http", "tcp", "command", "interval", "timeout", "retries", "start_period"];

/// A health check is asked, and judged, no more often than this.
const SHORTEST: u64 = 100;

impl App<'_> {
    pub fn readiness(&mut self) -> Readiness {
        let default = Readiness::default();
        Readiness {
            wait_ready: self.get("wait_ready", boolean).unwrap_or(default.wait_ready),
            listen_timeout: self.get("listen_timeout", at_least_100).unwrap_or(default.listen_timeout),
            health_check: self.health_check(),
        }
    }

    fn health_check(&mut self) -> Option<HealthCheck> {
        const EXAMPLE: &str = "health_check: { http: \"http://127.0.0.1:5000/health\" }";
        let entry = self.entry("health_check").filter(|entry| !entry.value.is_off())?;
        let place = self.place(entry);
        let Value::Map(entries) = &entry.value.value else {
            self.complain(place, wanted("a mapping", &entry.value).hint(EXAMPLE));
            return None;
        };
        let before = self.problems.len();
        let mut probes: Vec<(&str, Probe)> = Vec::new();
        // Docker's.
        let mut check = HealthCheck {
            probe: Probe::Tcp(String::new()),
            interval: Millis(30_000),
            timeout: Millis(30_000),
            retries: 3,
            start_period: Millis(0),
        };
        for entry in entries {
            let node = &entry.value;
            let read = match entry.key.as_str() {
                "http" => url(node).map(|url| probes.push(("http", Probe::Http(url)))),
                "tcp" => address(node).map(|address| probes.push(("tcp", Probe::Tcp(address)))),
                "command" => command(node).map(|command| probes.push(("command", Probe::Command(command)))),
                "interval" => at_least_100(node).map(|span| check.interval = span),
                "timeout" => at_least_100(node).map(|span| check.timeout = span),
                "retries" => integer(node, 1, 1000).map(|retries| check.retries = retries as u32),
                "start_period" => span(node).map(|span| check.start_period = span),
                key => Err(unknown(key)),
            };
            if let Err(fault) = read {
                let place = Place { path: format!("{}.{}", place.path, shown(&entry.key)), ..self.place(entry) };
                self.complain(place, fault);
            }
        }
        match probes.len() {
            _ if self.problems.len() > before => return None,
            0 => self.complain(place, Fault::new("has no `http`, `tcp` or `command`").hint(EXAMPLE)),
            1 => {
                check.probe = probes.remove(0).1;
                return Some(check);
            }
            _ => {
                let given: Vec<String> = probes.iter().map(|(key, _)| format!("`{key}`")).collect();
                self.complain(place, Fault::new(format!("has {}: one of them is asked", given.join(" and "))));
            }
        }
        None
    }

    pub fn depends_on(&mut self) -> BTreeMap<AppName, Need> {
        const HINT: &str = "write `depends_on: [db]`, or `depends_on: { db: healthy }` (started, healthy, done)";
        let name = |text: &str| AppName::parse(text).map_err(Fault::new);
        let named = |node: &Node| -> Result<BTreeMap<AppName, Need>, Fault> {
            if let Value::Map(entries) = &node.value {
                let one = |entry: &Entry| Ok((name(&entry.key)?, need(&entry.value)?));
                return entries.iter().map(one).collect();
            }
            many(node).into_iter().map(|node| Ok((name(&word(node)?)?, Need::Started))).collect()
        };
        let read = |node: &Node| if node.is_off() { Ok(BTreeMap::new()) } else { named(node) };
        let with_hint = |fault: Fault| if fault.hint.is_none() { fault.hint(HINT) } else { fault };
        self.get("depends_on", |node| read(node).map_err(with_hint)).unwrap_or_default()
    }
}

fn need(node: &Node) -> Result<Need, Fault> {
    match word(node)?.as_str() {
        "started" => Ok(Need::Started),
        "healthy" => Ok(Need::Healthy),
        "done" => Ok(Need::Done),
        _ => Err(wanted("what can be waited for", node)
            .hint("write `started` (online), `healthy` (its health check is good) or `done` (a job that succeeded)")),
    }
}

fn unknown(key: &str) -> Fault {
    let fault = Fault::new("unknown key");
    match like(&key.chars().take(40).collect::<String>(), KEYS) {
        Some(known) => fault.hint(format!("did you mean `{known}`?")),
        None => fault.hint(format!("there are: {}", KEYS.join(", "))),
    }
}

fn at_least_100(node: &Node) -> Result<Millis, Fault> {
    match span(node)? {
        Millis(ms) if ms < SHORTEST => Err(Fault::new(format!("{ms} ms is too short (at least {SHORTEST})"))
            .hint("a number is milliseconds; with a unit: `30s`")),
        span => Ok(span),
    }
}

/// `http://HOST[:PORT][/PATH]`.
fn url(node: &Node) -> Result<String, Fault> {
    let text = word(node)?;
    let fault = |why: &str| Fault::new(format!("`{}` cannot be asked: {why}", shown(&text)));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(fault("it is no URL").hint("write `http://127.0.0.1:5000/health`"));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(fault(&format!("{scheme} is not supported"))
            .hint(format!("ask by a command: `command: curl -fsS --max-time 5 {}`", shown(&text))));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fault("a URL has no blanks and only ASCII").hint("write `%20` for a blank"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(fault("a user in a URL is not supported").hint("ask by a command: `command: curl -fsS -u …`"));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'));
    let authority = if has_port { host_and_port(authority)? } else { host_and_port(&format!("{authority}:80"))? };
    let path = path.split('#').next().unwrap_or_default();
    Ok(format!("http://{authority}{}{path}", if path.starts_with('/') { "" } else { "/" }))
}

fn address(node: &Node) -> Result<String, Fault> {
    host_and_port(&word(node)?)
}

/// Without a host it is this machine.
fn host_and_port(text: &str) -> Result<String, Fault> {
    let of_this_machine = match text.strip_prefix(':') {
        Some(port) => Some(port),
        None => text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text),
    };
    match of_this_machine {
        Some(port) => tcp(port).map(|address| address.replacen("0.0.0.0", "127.0.0.1", 1)),
        None => tcp(text),
    }
    .map_err(|fault| Fault { hint: None, ..fault }.hint("write `127.0.0.1:5000`, `[::1]:5000` or `localhost:5000`"))
}

/// A line for the shell, or a list that is the program and its arguments.
fn command(node: &Node) -> Result<Vec<String>, Fault> {
    match &node.value {
        Value::List(_) => match arguments(node)? {
            words if words.first().is_none_or(String::is_empty) => Err(Fault::new("must not be empty")),
            words => Ok(words),
        },
        _ => Ok(vec!["/bin/sh".into(), "-c".into(), word(node)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::from_json(&text.into())
    }

    #[test]
    fn urls_are_plain_http() {
        for (text, meant) in [
            ("http://127.0.0.1:5000/health?full=1#top", "http://127.0.0.1:5000/health?full=1"),
            ("http://localhost", "http://localhost:80/"),
            ("HTTP://:5000", "http://127.0.0.1:5000/"),
            ("http://[::1]/x", "http://[::1]:80/x"),
            ("http://[::1]:81?x", "http://[::1]:81/?x"),
        ] {
            assert_eq!(url(&node(text)).unwrap(), meant);
        }
        for (text, why) in [
            ("https://x/", "`https://x/` cannot be asked: https is not supported"),
            ("127.0.0.1:5000", "`127.0.0.1:5000` cannot be asked: it is no URL"),
            ("http://x/a b", "`http://x/a b` cannot be asked: a URL has no blanks and only ASCII"),
            ("http://me:pw@x/", "`http://me:pw@x/` cannot be asked: a user in a URL is not supported"),
            ("http://x:0/", "`x:0` is no address: port 0 would be another one each time"),
        ] {
            assert_eq!(url(&node(text)).unwrap_err().message, why);
        }
        let fault = url(&node("https://x/")).unwrap_err();
        assert_eq!(fault.hint.unwrap(), "ask by a command: `command: curl -fsS --max-time 5 https://x/`");
    }

    #[test]
    fn an_address_without_a_host_is_of_this_machine() {
        for (text, meant) in [("5432", "127.0.0.1:5432"), (":5432", "127.0.0.1:5432"), ("db:5432", "db:5432")] {
            assert_eq!(address(&node(text)).unwrap(), meant);
        }
        assert_eq!(
            address(&node("localhost")).unwrap_err().message,
            "`localhost` is no address: the port is a number from 1 to 65535"
        );
    }
}
