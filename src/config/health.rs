//! `health`: when `stead health` calls an app, or the machine, not well.

use super::app::App;
use super::attributes::like;
use super::node::{Entry, Kind, Node, Value};
use super::problem::{Fault, shown};
use super::value::{cap, integer, many, wanted, word};
use crate::core::health::Rules;
use crate::core::spec::HealthRules;
use std::path::PathBuf;

const OF_AN_APP: &[&str] = &["restarts", "restarts_per_hour", "memory_warn"];
const OF_THE_FLEET: &[&str] = &["memory", "swap", "disk", "data", "restarts", "restarts_per_hour", "memory_warn"];

impl App<'_> {
    pub fn health(&mut self) -> HealthRules {
        let warn = self.get("memory_warn", cap).flatten();
        let rules = self.get("health", |node| {
            let mut rules = HealthRules::default();
            for entry in entries(node)? {
                within(entry, of_an_app(&mut rules, entry).unwrap_or_else(|| Err(unknown(entry, OF_AN_APP))))?;
            }
            Ok(rules)
        });
        let rules = rules.unwrap_or_default();
        HealthRules { memory_warn: warn.or(rules.memory_warn), ..rules }
    }
}

/// The rules beside `apps`, or each thing that is wrong with them, with its line.
pub(super) fn of_the_fleet(node: &Node, path: impl Fn(&str) -> PathBuf) -> Result<Rules, Vec<(usize, Fault)>> {
    let mut rules = Rules::default();
    let mut faults = Vec::new();
    for entry in entries(node).map_err(|fault| vec![(node.line, fault)])? {
        let read = match entry.key.as_str() {
            "memory" => share(&entry.value).map(|share| rules.memory = share),
            "swap" => share(&entry.value).map(|share| rules.swap = share),
            "disk" => share(&entry.value).map(|share| rules.disk = share),
            "data" => many(&entry.value)
                .into_iter()
                .map(|node| Ok(path(&word(node)?)))
                .collect::<Result<_, Fault>>()
                .map(|data| rules.data = data),
            _ => of_an_app(&mut rules.apps, entry).unwrap_or_else(|| Err(unknown(entry, OF_THE_FLEET))),
        };
        faults.extend(within(entry, read).err().map(|fault| (entry.line, fault)));
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

/// `None`: no such rule.
fn of_an_app(rules: &mut HealthRules, entry: &Entry) -> Option<Result<(), Fault>> {
    let node = &entry.value;
    Some(match entry.key.as_str() {
        "restarts" => integer(node, 0, i64::from(u32::MAX)).map(|count| rules.restarts = Some(count as u64)),
        "restarts_per_hour" => integer(node, 1, 10)
            .map(|count| rules.restarts_per_hour = Some(count as u32))
            .map_err(|fault| fault.hint("from 1 to 10: so many ends are remembered")),
        "memory_warn" => cap(node).map(|bytes| rules.memory_warn = bytes),
        _ => return None,
    })
}

fn entries(node: &Node) -> Result<&[Entry], Fault> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(wanted("a mapping of rules", node).hint("for example `health: { restarts: 100 }`")),
    }
}

fn within(entry: &Entry, read: Result<(), Fault>) -> Result<(), Fault> {
    read.map_err(|fault| Fault { message: format!("{}: {}", shown(&entry.key), fault.message), ..fault })
}

fn unknown(entry: &Entry, known: &[&str]) -> Fault {
    let key = entry.key.chars().take(40).collect::<String>();
    let fault = Fault::new("no such rule");
    match like(&key, known.iter().copied()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint(format!("there are: {}", known.join(", "))),
    }
}

/// `80` or `80%`.
fn share(node: &Node) -> Result<u8, Fault> {
    let fault = || wanted("a share in percent", node).hint("for example `80%`");
    let Value::Scalar { text, kind: Kind::Integer(_) | Kind::Text } = &node.value else { return Err(fault()) };
    let number = text.trim().strip_suffix('%').unwrap_or(text.trim()).trim_end();
    number.parse().ok().filter(|share| (1..=100).contains(share)).ok_or_else(fault)
}
