//! What differs between two wishes, in words, and what it takes to make the new one true.

use super::spec::Spec;
use serde_json::Value;

/// What a change takes, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    None,
    /// It holds from now on; the run goes on.
    Live,
    Restart,
}

/// One field that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `env.PORT 5000 → 5001`.
    pub text: String,
    pub effect: Effect,
    /// Where it is in the spec.
    path: String,
}

impl Difference {
    /// Is it of this field, or of a part of it?
    #[must_use]
    pub fn is_of(&self, field: &str) -> bool {
        self.path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Every field in which the two differ.
#[must_use]
pub fn between(old: &Spec, new: &Spec) -> Vec<Difference> {
    let mut found = Vec::new();
    if old != new {
        let value = |spec: &Spec| serde_json::to_value(spec).unwrap_or(Value::Null);
        walk("", &value(old), &value(new), &mut found);
    }
    found
}

fn walk(path: &str, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let deeper = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(&deeper, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
        }
        return;
    }
    let text = if is_secret(path) {
        format!("{} changed", shown(path))
    } else {
        format!("{} {} → {}", shown(path), word(old), word(new))
    };
    found.push(Difference { text, effect: effect(path), path: path.to_owned() });
}

/// Variables whose names say so are not shown: terminals and CI logs keep what they see.
fn is_secret(path: &str) -> bool {
    let Some(name) = path.strip_prefix("env.").map(str::to_ascii_uppercase) else { return false };
    ["KEY", "TOKEN", "SECRET", "PASS", "PWD", "CREDENTIAL", "AUTH", "DSN", "URL"].iter().any(|word| name.contains(word))
}

/// The name that the ecosystem file has for a field.
fn shown(path: &str) -> &str {
    ["policy.", "stop.", "reload.", "readiness."].iter().find_map(|part| path.strip_prefix(part)).unwrap_or(
        match path {
            "watch.paths" => "watch",
            "watch.ignore" => "ignore_watch",
            "watch.delay" => "watch_delay",
            "logs.out" => "out_file",
            "logs.err" => "error_file",
            "logs.combined" => "log_file",
            "logs.merge" => "merge_logs",
            "logs.disabled" => "disable_logs",
            "logs.timestamp" => "log_date_format",
            "logs.max_size" => "log_max_size",
            "logs.keep" => "log_keep",
            "logs.max_age" => "log_max_age",
            path => path,
        },
    )
}

fn effect(path: &str) -> Effect {
    let live = [
        "policy.",
        "reload.",
        "namespace",
        "autostart",
        "script",
        "instances",
        "max_memory_restart",
        "notify",
        "logs.max_age",
        "journal_keep",
        "health.",
        "watch",
        "depends_on",
        "readiness.health_check",
        "readiness.listen_timeout",
        "health.",
    ];
    if live.iter().any(|field| path.starts_with(field)) { Effect::Live } else { Effect::Restart }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let shown = fields.iter().map(|(name, value)| (name, word(value))).filter(|(_, value)| value != "none");
            shown.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
