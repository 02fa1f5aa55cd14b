//! `notify`: who is told when something happens.

use super::app::{App, Source};
use super::attributes::like;
use super::file::step;
use super::node::{Entry, Node, Value};
use super::problem::{Fault, located, shown};
use super::value::{arguments, boolean, many, span, wanted, word};
use crate::core::clock::Millis;
use crate::core::notify::{Notifier, Occasion, Way};
use std::collections::BTreeSet;
use std::path::Path;

const KEYS: &[&str] = &["command", "webhook", "on", "timeout"];

/// Where `timeout` is not given.
const TIMEOUT: Millis = Millis(10_000);
const SHORTEST: Millis = Millis(100);
const LONGEST: Millis = Millis(600_000);

/// More notifiers are a slip of a program that writes the file.
const MOST: usize = 32;

/// What is wrong, with its line and path.
type Faults = Vec<(usize, String, Fault)>;

impl App<'_> {
    pub fn notify(&mut self) -> bool {
        self.get("notify", |node| {
            boolean(node).map_err(|_| wanted("true or false", node).hint("whom to tell stands beside `apps`"))
        })
        .unwrap_or(true)
    }
}

/// The list beside `apps`, or each thing that is wrong with it. One that is off is empty: nobody is told any more.
pub(super) fn of_the_fleet(node: &Node, source: &Source<'_>) -> Result<Vec<Notifier>, Faults> {
    if node.is_off() {
        return Ok(Vec::new());
    }
    let (mut notifiers, mut faults) = (Vec::new(), Vec::new());
    let items = many(node);
    if items.len() > MOST {
        let fault = Fault::new(format!("{} notifiers are too many (at most {MOST})", items.len()));
        return Err(vec![(node.line, "notify".into(), fault)]);
    }
    let is_list = matches!(node.value, Value::List(_));
    for (index, item) in items.into_iter().enumerate() {
        let path = if is_list { format!("notify[{index}]") } else { "notify".into() };
        match notifier(item, &path, source) {
            Ok(notifier) => notifiers.push(notifier),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(notifiers) } else { Err(faults) }
}

fn notifier(node: &Node, path: &str, source: &Source<'_>) -> Result<Notifier, Faults> {
    let Value::Map(entries) = &node.value else {
        let fault = wanted("a notifier", node).hint("for example `- webhook: https://…` or `- command: ./tell.sh`");
        return Err(vec![(node.line, path.to_owned(), fault)]);
    };
    let mut faults = Vec::new();
    let (mut ways, mut on, mut timeout) = (Vec::new(), Occasion::ALL.into(), TIMEOUT);
    for entry in entries {
        let read = match entry.key.as_str() {
            "command" => command(&entry.value, source).map(|way| ways.push(way)),
            "webhook" => url(&entry.value).map(|way| ways.push(way)),
            "on" => occasions(&entry.value).map(|occasions| on = occasions),
            "timeout" => limit(&entry.value).map(|limit| timeout = limit),
            _ => Err(unknown(entry)),
        };
        let path = || format!("{path}{}", step(path, &entry.key));
        faults.extend(read.err().map(|fault| (entry.line, path(), fault)));
    }
    let given = entries.iter().filter(|entry| matches!(entry.key.as_str(), "command" | "webhook")).count();
    if given != 1 {
        let message =
            if given == 0 { "has neither `command` nor `webhook`" } else { "has both `command` and `webhook`" };
        faults.push((node.line, path.to_owned(), Fault::new(message).hint("each notifier has one of them")));
    }
    match ways.pop() {
        Some(way) if faults.is_empty() => Ok(Notifier { way, on, timeout }),
        _ => Err(faults),
    }
}

fn unknown(entry: &Entry) -> Fault {
    let key: String = entry.key.chars().take(40).collect();
    let fault = Fault::new("no such key of a notifier");
    match like(&key, KEYS.iter().copied()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint(format!("there are: {}", KEYS.join(", "))),
    }
}

/// A list of words, a program, or (with a blank in it) a line for `bash -c`.
fn command(node: &Node, source: &Source<'_>) -> Result<Way, Fault> {
    let around = source.around;
    let mut argv = match &node.value {
        Value::List(_) => arguments(node)?,
        _ => vec![word(node)?],
    };
    let Some(first) = argv.first().cloned().filter(|first| !first.is_empty()) else {
        return Err(Fault::new("names no program"));
    };
    let beside = around.path(&source.base, &first);
    if argv.len() == 1 && first.contains(char::is_whitespace) && !beside.is_file() {
        if shlex::split(&first).is_none() {
            return Err(Fault::new("a quote in this command is never closed"));
        }
        argv = vec!["bash".into(), "-c".into(), first];
    } else if first.contains('/') || first.starts_with('~') || beside.is_file() {
        let fault = |what: &str| Fault::new(format!("{} {what}", located(&beside)));
        if !beside.is_file() {
            return Err(fault("does not exist"));
        }
        if !(around.executable)(&beside) {
            return Err(fault("may not be executed").hint(format!("`chmod +x {}`", located(&beside))));
        }
        argv[0] = beside.to_string_lossy().into_owned();
    } else {
        let path = around.path.as_deref().unwrap_or_default();
        let file = path.split(':').map(|folder| Path::new(folder).join(&first));
        if !file.into_iter().any(|file| file.is_file() && (around.executable)(&file)) {
            return Err(Fault::new(format!(
                "`{}` is neither a file beside this one nor a program in PATH",
                shown(&first)
            )));
        }
    }
    Ok(Way::Command { argv, cwd: source.base.clone() })
}

fn url(node: &Node) -> Result<Way, Fault> {
    let text = word(node)?;
    let fault =
        || Fault::new(format!("`{}` is no URL", shown(&text))).hint("for example `https://hooks.example.com/stead`");
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(fault)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let fault = Fault::new("a name and password in a URL are not sent");
        return Err(fault.hint("use a URL with a token, or a `command` that calls curl"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let sound = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host.is_empty() || !port_is_one || !text.chars().all(sound) {
        return Err(fault());
    }
    Ok(Way::Webhook(text))
}

fn occasions(node: &Node) -> Result<BTreeSet<Occasion>, Fault> {
    let words = Occasion::ALL.map(Occasion::word);
    let read = |node: &Node| {
        let text = word(node)?;
        Occasion::ALL.into_iter().find(|occasion| occasion.word() == text.replace('_', "-")).ok_or_else(|| {
            let fault = wanted("an occasion", node);
            match like(&text, words.iter().copied()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("there are: {}", words.join(", "))),
            }
        })
    };
    let found = many(node).into_iter().map(read).collect::<Result<BTreeSet<_>, Fault>>()?;
    match found.is_empty() {
        true => Err(Fault::new("names no occasion").hint(format!("there are: {}", words.join(", ")))),
        false => Ok(found),
    }
}

fn limit(node: &Node) -> Result<Millis, Fault> {
    match span(node)? {
        limit if (SHORTEST..=LONGEST).contains(&limit) => Ok(limit),
        limit => Err(Fault::new(format!("{limit} is out of range ({SHORTEST} to {LONGEST})"))
            .hint("a number is milliseconds; with a unit: `10s`")),
    }
}
