//! `listen`: the sockets that stead holds for an app.

use super::app::App;
use super::node::Node;
use super::problem::{Fault, Place, shown};
use super::value::{many, word};
use crate::core::spec::Listen;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

/// `sun_path` of unix(7) with its NUL is 108 bytes.
const MAX_UNIX: usize = 107;

impl App<'_> {
    pub fn listen(&mut self) -> Vec<(Listen, Place)> {
        let source = self.source;
        let one = |node: &Node| {
            let text = word(node)?;
            match unix(&text) {
                Some(path) => bounded(source.around.path(&source.base, path)),
                None => tcp(&text).map(Listen::Tcp),
            }
        };
        let Some(listen) = self.get("listen", |node| many(node).into_iter().map(one).collect::<Result<Vec<_>, _>>())
        else {
            return Vec::new();
        };
        let place = self.place_of("listen");
        listen.into_iter().map(|listen| (listen, place.clone())).collect()
    }
}

/// `unix:/run/app.sock` (as gunicorn writes it), or whatever has a slash or ends in `.sock`.
fn unix(text: &str) -> Option<&str> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(path),
        None => (text.contains('/') || text.ends_with(".sock")).then_some(text),
    }
}

fn bounded(path: std::path::PathBuf) -> Result<Listen, Fault> {
    match path.as_os_str().as_bytes().len() {
        0..=MAX_UNIX => Ok(Listen::Unix(path)),
        length => Err(Fault::new(format!("a socket path of {length} bytes is too long (at most {MAX_UNIX})"))),
    }
}

/// `HOST:PORT`. `:PORT` and `*:PORT` and a bare port are all IPv4 addresses, as to gunicorn and nginx.
pub(super) fn tcp(text: &str) -> Result<String, Fault> {
    const HINT: &str = "write `127.0.0.1:5000`, `[::1]:5000`, `:5000` for all addresses, or the path of a socket";
    let fault = |why: &str| Fault::new(format!("`{}` is no address: {why}", shown(text))).hint(HINT);
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = match port.parse::<u16>() {
        Ok(0) => return Err(fault("port 0 would be another one each time")),
        Ok(number) if port.starts_with(|c: char| c.is_ascii_digit()) => number,
        _ => return Err(fault("the port is a number from 1 to 65535")),
    };
    if let Some(inner) = host.strip_prefix('[') {
        return match inner.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
            Some(Ok(address)) => Ok(format!("[{address}]:{port}")),
            _ => Err(fault("what stands in brackets is no IPv6 address")),
        };
    }
    match host {
        "" | "*" => Ok(format!("0.0.0.0:{port}")),
        _ if host.contains(':') => Err(fault("an IPv6 address stands in brackets")),
        _ if host.chars().all(|c| c.is_ascii_digit() || c == '.') && host.parse::<Ipv4Addr>().is_err() => {
            Err(fault("the host is no IPv4 address"))
        }
        _ if host.len() > 253 || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) => {
            Err(fault("the host is no name"))
        }
        _ => Ok(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_people_write_them() {
        for (text, address) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            (":5000", "0.0.0.0:5000"),
            ("5000", "0.0.0.0:5000"),
            ("*:80", "0.0.0.0:80"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::]:65535", "[::]:65535"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(tcp(text).unwrap(), address);
        }
        for (text, why) in [
            ("::1:5000", "an IPv6 address stands in brackets"),
            ("[::1:5000", "what stands in brackets is no IPv6 address"),
            ("[x]:5000", "what stands in brackets is no IPv6 address"),
            ("localhost", "the port is a number from 1 to 65535"),
            ("localhost:", "the port is a number from 1 to 65535"),
            ("localhost:65536", "the port is a number from 1 to 65535"),
            ("localhost:+5", "the port is a number from 1 to 65535"),
            ("localhost:0", "port 0 would be another one each time"),
            ("300.0.0.1:5000", "the host is no IPv4 address"),
            ("a b:5000", "the host is no name"),
        ] {
            assert_eq!(tcp(text).unwrap_err().message, format!("`{text}` is no address: {why}"));
        }
    }

    #[test]
    fn a_path_is_a_unix_socket() {
        assert_eq!(unix("run/app.sock"), Some("run/app.sock"));
        assert_eq!(unix("unix:app"), Some("app"));
        assert_eq!(unix("app.sock"), Some("app.sock"));
        assert_eq!(unix("localhost:5000"), None);
        assert!(bounded("/".repeat(107).into()).is_ok());
        let fault = bounded(format!("/{}", "x".repeat(107)).into()).unwrap_err();
        assert_eq!(fault.message, "a socket path of 108 bytes is too long (at most 107)");
    }
}
