//! What a process of an app is allowed: who it is, and its limits.

use super::app::App;
use super::node::{Kind, Node, Value};
use super::problem::{Fault, shown};
use super::value::{self, integer, share, short, size, text, wanted};
use crate::core::spec::{Allowance, Bytes, Identity, Limit, OomPolicy, Resource};
use std::collections::BTreeMap;

const RESOURCES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl App<'_> {
    /// What its whole tree may take of the machine.
    pub fn allowance(&mut self, cap: Option<Bytes>) -> Allowance {
        let wall = self.get("memory_max", value::cap).flatten();
        if let (Some(cap), Some(wall)) = (cap, wall)
            && wall < cap
        {
            let fault = Fault::new(format!("the hard limit {wall} is below the cap {cap} of max_memory_restart")).hint(
                "the cap comes first: above it the app is restarted gracefully; at `memory_max` the kernel kills it",
            );
            self.complain(self.place_of("memory_max"), fault);
        }
        let policy = self.get("oom_policy", |node| match text(node)?.as_str() {
            "kill" => Ok(OomPolicy::Kill),
            "continue" => Ok(OomPolicy::Continue),
            _ => {
                Err(wanted("an OOM policy", node).hint("write `kill` (the whole app) or `continue` (a worker may die)"))
            }
        });
        Allowance {
            memory_max: wall,
            memory_swap_max: self.get("memory_swap_max", size),
            oom_policy: policy.unwrap_or_default(),
            // Below 0 it would be stead that dies first.
            oom_score_adj: self.get("oom_score_adj", |node| integer(node, 0, 1000)).map(|adj| adj as i32),
            cpu_max: self.get("cpu_max", share),
            pids_max: self.get("pids_max", |node| integer(node, 1, 4_194_304)).map(|tasks| tasks as u64),
        }
    }

    /// The user and group to become; `None` where the app runs as who starts it.
    pub fn identity(&mut self) -> Option<Identity> {
        let around = self.source.around;
        let user_given = self.entry("user").is_some();
        let user = self.get("user", |node| (around.user)(&short(node)?).map_err(Fault::new));
        let gid = self.get("group", |node| (around.group)(&short(node)?).map_err(Fault::new));
        if user_given && user.is_none() || !user_given && gid.is_none() {
            return None;
        }
        let user = match user {
            Some(user) => user,
            None => match (around.user)(&around.uid.to_string()) {
                Ok(user) => user,
                Err(message) => {
                    self.complain(self.place_of("group"), Fault::new(message));
                    return None;
                }
            },
        };
        let wish = Identity { gid: gid.unwrap_or(user.gid), ..user.clone() };
        if around.uid == 0 {
            return Some(wish);
        }
        let (attribute, what) = match () {
            () if wish.uid != around.uid => ("user", format!("user `{}`", wish.user)),
            () if wish.gid != user.gid => ("group", format!("group {}", wish.gid)),
            () => return None,
        };
        let fault = Fault::new(format!("only root can run an app as {what}"));
        self.complain(self.place_of(attribute), fault.hint(format!("start stead as root, or take `{attribute}` away")));
        None
    }

    pub fn limits(&mut self) -> BTreeMap<Resource, Limit> {
        let mut limits = BTreeMap::new();
        let Some(entry) = self.entry("limits") else { return limits };
        let place = self.place(entry);
        let Value::Map(entries) = &entry.value.value else {
            self.complain(place, wanted("a mapping", &entry.value).hint("`limits: { nofile: 65536 }`"));
            return limits;
        };
        for entry in entries {
            let name = entry.key.to_ascii_lowercase();
            let name = name.strip_prefix("rlimit_").unwrap_or(&name);
            let read = match RESOURCES.iter().find(|(known, _)| *known == name) {
                Some((_, resource)) => limit(*resource, &entry.value).map(|limit| limits.insert(*resource, limit)),
                None => Err(Fault::new(format!("`{}` is no resource", shown(&entry.key)))
                    .hint(RESOURCES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))),
            };
            if let Err(fault) = read {
                self.complain(self.at(entry.line, format!("{}.{}", place.path, shown(&entry.key))), fault);
            }
        }
        limits
    }
}

fn limit(resource: Resource, node: &Node) -> Result<Limit, Fault> {
    let Value::Map(entries) = &node.value else {
        let both = amount(resource, node)?;
        return Ok(Limit { soft: both, hard: both });
    };
    let (mut soft, mut hard) = (None, None);
    for entry in entries {
        match entry.key.as_str() {
            "soft" => soft = Some(amount(resource, &entry.value)?),
            "hard" => hard = Some(amount(resource, &entry.value)?),
            key => return Err(Fault::new(format!("`{}` is neither `soft` nor `hard`", shown(key)))),
        }
    }
    match (soft, hard) {
        (Some(soft), Some(hard)) if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) => {
            Err(Fault::new("the soft limit is above the hard one"))
        }
        (Some(soft), Some(hard)) => Ok(Limit { soft, hard }),
        _ => Err(Fault::new("has to say both `soft` and `hard`")),
    }
}

/// A number, with a unit where the resource is counted in bytes. `None` is unlimited.
fn amount(resource: Resource, node: &Node) -> Result<Option<u64>, Fault> {
    use Resource::{As, Core, Data, Fsize, Memlock, Msgqueue, Stack};
    match &node.value {
        Value::Scalar { text, .. } if text == "unlimited" || text == "infinity" => Ok(None),
        Value::Scalar { kind: Kind::Text, .. }
            if matches!(resource, As | Core | Data | Fsize | Memlock | Msgqueue | Stack) =>
        {
            Ok(Some(size(node)?.0))
        }
        _ => Ok(Some(integer(node, 0, i64::MAX)? as u64)),
    }
}
