//! A JSON Schema of the ecosystem file, made from the table of attributes: editors complete and check by it.
//!
//! Draft 7, which YAML's language server speaks. It knows the forms of values; what only a look at the machine can tell (paths,
//! users, names that clash) is `stead check`'s.

use super::attributes::{ATTRIBUTES, Attribute, Standing};
use serde_json::{Map, Value, json};

/// The schema.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "an ecosystem file of stead",
        "if": {"type": "array"},
        "then": {"$ref": "#/definitions/apps"},
        "else": {
            "if": {"anyOf": script_names().map(|name| json!({"required": [name]})).collect::<Vec<_>>()},
            "then": {"$ref": "#/definitions/app"},
            "else": {"$ref": "#/definitions/file"},
        },
        "definitions": {
            "file": {
                "type": "object",
                "required": ["apps"],
                "properties": {
                    "apps": {
                        "if": {"type": "object"},
                        "then": {"$ref": "#/definitions/app"},
                        "else": {"$ref": "#/definitions/apps"},
                    },
                },
                // Accepted, and of no meaning to stead or not yet.
                "patternProperties": {"^(x-.*|\\$schema|deploy|health|notify)$": true},
                "additionalProperties": false,
            },
            "apps": {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/app"}},
            "app": app(),
        },
    })
}

fn script_names() -> impl Iterator<Item = &'static str> {
    ATTRIBUTES
        .iter()
        .filter(|attribute| attribute.name == "script")
        .flat_map(|attribute| std::iter::once(attribute.name).chain(attribute.aliases.iter().copied()))
}

fn app() -> Value {
    let (mut properties, mut patterns) = (Map::new(), Map::new());
    patterns.insert("^x-".into(), json!(true));
    // `env_<name>`, which `env_file` is not; spelled out, for not every engine looks ahead.
    let but_file = "^env_([^f].*|f|f[^i].*|fi|fi[^l].*|fil|fil[^e].*|file.+)$";
    patterns.insert(but_file.into(), json!({"$ref": "#/definitions/app/properties/env"}));
    for attribute in ATTRIBUTES {
        let others: Vec<String> = spellings(attribute).collect();
        if attribute.standing == Standing::Foreign {
            patterns.insert(format!("^({}|{})$", attribute.name, others.join("|")), json!(true));
            continue;
        }
        properties.insert(attribute.name.into(), property(attribute));
        // Understood everywhere, but an editor proposes each attribute once.
        if !others.is_empty() {
            let name = format!("#/definitions/app/properties/{}", attribute.name);
            patterns.insert(format!("^({})$", others.join("|")), json!({"$ref": name}));
        }
    }
    json!({
        "type": "object",
        "anyOf": script_names().map(|name| json!({"required": [name]})).collect::<Vec<_>>(),
        "properties": properties,
        "patternProperties": patterns,
        "additionalProperties": false,
    })
}

/// The aliases, and all names in camelCase.
fn spellings(attribute: &'static Attribute) -> impl Iterator<Item = String> {
    let names = std::iter::once(attribute.name).chain(attribute.aliases.iter().copied());
    let camel = names.filter(|name| name.contains('_')).map(camel_case);
    attribute.aliases.iter().map(|alias| (*alias).to_owned()).chain(camel)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_ascii_uppercase() + tail
    })
}

fn property(attribute: &Attribute) -> Value {
    let later = if attribute.standing == Standing::Later { " (not supported yet)" } else { "" };
    let default = match attribute.default {
        "required" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let nothing = json!({"type": "null"});
    json!({
        "description": format!("{}{default}{later}", attribute.meaning),
        "anyOf": [shape(attribute.name).unwrap_or(json!(true)), nothing],
    })
}

/// The form of an attribute's value; `None` for what is no attribute of stead's own.
pub(super) fn shape(name: &str) -> Option<Value> {
    Some(match name {
        "name" | "name_prefix" | "namespace" | "script" | "cwd" | "instance_var" | "kill_signal" | "reload_signal"
        | "user" | "group" | "out_file" | "error_file" | "pid_file" | "cron_restart" | "log_type" | "increment_var" => {
            text()
        }
        "interpreter" | "log_file" => any(&[text(), json!({"const": false})]),
        "args" | "interpreter_args" | "env_file" | "listen" | "ignore_watch" => any(&[text(), list(text())]),
        "watch" => any(&[switch(), text(), list(text())]),
        "append_env_to_name" | "autostart" | "autorestart" | "treekill" | "merge_logs" | "disable_logs" | "time"
        | "wait_ready" | "no_new_privileges" => switch(),
        "filter_env" => any(&[switch(), text(), list(text())]),
        "env" => json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}),
        "instances" => any(&[whole(-65536, 1000), json!({"const": "max"})]),
        "exec_mode" => json!({"enum": ["fork", "fork_mode"]}),
        "kill_mode" => json!({"enum": ["tree", "mixed", "main"]}),
        "oom_policy" => json!({"enum": ["kill", "continue"]}),
        "restart_delay"
        | "exp_backoff_restart_delay"
        | "min_uptime"
        | "kill_timeout"
        | "watch_delay"
        | "listen_timeout"
        | "jitter"
        | "reload_timeout"
        | "log_max_age" => span(),
        "max_restarts" | "journal_keep" => whole(0, i64::from(u32::MAX)),
        "log_keep" => whole(0, 100),
        "nice" => whole(-20, 19),
        "oom_score_adj" => whole(-1000, 1000),
        "pids_max" => any(&[whole(1, i64::MAX), json!({"const": "max"})]),
        "cpu_max" => json!({"type": ["number", "string"]}),
        "stop_exit_codes" => any(&[whole(0, 255), list(whole(0, 255))]),
        "umask" => json!({"type": ["integer", "string"]}),
        "max_memory_restart" | "memory_max" | "memory_swap_max" | "memory_warn" | "log_max_size" => {
            any(&[size(), json!({"const": false})])
        }
        "limits" => json!({"type": "object"}),
        "log_date_format" => any(&[text(), json!({"const": false})]),
        "health_check" | "health" | "notify" | "restart_on" => json!({"type": ["object", "boolean"]}),
        "depends_on" => any(&[text(), list(text()), json!({"type": "object"})]),
        _ => return None,
    })
}

fn any(shapes: &[Value]) -> Value {
    json!({"anyOf": shapes})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// A number where text is wanted is that text.
fn text() -> Value {
    json!({"type": ["string", "number"]})
}

fn switch() -> Value {
    json!({"enum": [true, false, "true", "false"]})
}

fn whole(least: i64, most: i64) -> Value {
    any(&[
        json!({"type": "integer", "minimum": least, "maximum": most}),
        json!({"type": "string", "pattern": "^ *-?[0-9]+ *$"}),
    ])
}

fn span() -> Value {
    let pattern = "^ *[0-9]+(\\.[0-9]+)? *(ms|s|m|min|h|d)?$";
    any(&[json!({"type": "number", "minimum": 0}), json!({"type": "string", "pattern": pattern})])
}

fn size() -> Value {
    let pattern = "^ *[0-9]+(\\.[0-9]+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?$";
    any(&[json!({"type": "number", "minimum": 0}), json!({"type": "string", "pattern": pattern})])
}
