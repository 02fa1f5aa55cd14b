//! Attributes of the restart policy that are little languages of their own.

use super::attributes::like;
use super::node::{Kind, Node, Value};
use super::problem::Fault;
use super::value::{span, wanted, word};
use crate::core::clock::Millis;
use crate::core::cron::Cron;
use crate::core::record::Cause;
use crate::core::spec::{EndKind, Reaction};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// More than that is no jitter.
const MOST_JITTER: Millis = Millis(86_400_000);

/// A line of cron. PM2's `0` turns it off.
pub(super) fn cron(node: &Node) -> Result<Option<Cron>, Fault> {
    if node.is_off() || matches!(node.value, Value::Scalar { kind: Kind::Integer(0), .. }) {
        return Ok(None);
    }
    const HINT: &str = "minute, hour, day of the month, month, day of the week: `30 3 * * *` is every day at 3:30";
    let line = word(node)?;
    let cron = Cron::parse(&line).map_err(|said| Fault::new(format!("`{}`: {said}", short(&line))).hint(HINT))?;
    if let Some(zone) = cron.zone()
        && let Err(error) = TimeZone::get(zone)
    {
        let hint = "a name such as `Europe/Berlin`, from /usr/share/zoneinfo (Debian: tzdata)";
        return Err(Fault::new(format!("no time zone `{}`: {error}", short(zone))).hint(hint));
    }
    Ok(Some(cron))
}

pub(super) fn jitter(node: &Node) -> Result<Millis, Fault> {
    match span(node)? {
        span if span > MOST_JITTER => Err(Fault::new(format!("{span} is too long (at most a day)"))),
        span => Ok(span),
    }
}

/// `{exit-code: backoff, 3: never}`.
pub(super) fn restart_on(node: &Node) -> Result<BTreeMap<EndKind, Reaction>, Fault> {
    const HINT: &str = "a map of causes and exit codes, such as `{exit-code: backoff, 3: never}`";
    let Value::Map(entries) = &node.value else { return Err(wanted("a map", node).hint(HINT)) };
    let mut rules = BTreeMap::new();
    for entry in entries {
        let kind = EndKind::parse(&entry.key.replace('_', "-")).map_err(|said| unknown_end(&entry.key, said))?;
        let said = word(&entry.value).map_err(|fault| Fault::new(format!("{kind}: {}", fault.message)))?;
        let reaction = match said.as_str() {
            "never" => Reaction::Never,
            "always" => Reaction::Always,
            "backoff" => Reaction::Backoff,
            _ => {
                let fault = Fault::new(format!("{kind}: `{}` is none of never, always, backoff", short(&said)));
                return Err(match like(&said, ["never", "always", "backoff"]) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault,
                });
            }
        };
        rules.insert(kind, reaction);
    }
    Ok(rules)
}

fn unknown_end(key: &str, said: String) -> Fault {
    let words = || Cause::UNPLANNED.iter().map(|cause| cause.word());
    match like(key, words()) {
        Some(near) => Fault::new(said).hint(format!("did you mean `{near}`?")),
        None => Fault::new(said).hint(format!("an exit code, or one of {}", words().collect::<Vec<_>>().join(", "))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
