//! Values as they were written, each with its line.

use super::problem::shown;
use std::rc::Rc;

/// A value. An alias shares its anchor's node, so a file never takes more memory than its text is worth.
#[derive(Debug)]
pub struct Node {
    /// From 1; 0 on the command line.
    pub line: usize,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    Scalar {
        /// Exactly as written, quotes and escapes resolved: `1.10` is `1.10`.
        text: String,
        kind: Kind,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// What a scalar means by the YAML core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Nothing was written.
    Empty,
    /// `null` or `~`.
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    /// The line of the key.
    pub line: usize,
    pub value: Rc<Node>,
    /// It came by `<<`; what the mapping itself says goes before it.
    pub merged: bool,
}

impl Node {
    /// A value of the command line.
    #[must_use]
    pub fn from_json(value: &serde_json::Value) -> Node {
        use serde_json::Value as Json;
        let scalar = |text: String, kind| Value::Scalar { text, kind };
        let value = match value {
            Json::Null => scalar("null".into(), Kind::Null),
            Json::Bool(bool) => scalar(bool.to_string(), Kind::Bool(*bool)),
            Json::Number(number) => {
                let text = number.to_string();
                let kind =
                    text.parse().map_or_else(|_| Kind::Float(number.as_f64().unwrap_or(f64::NAN)), Kind::Integer);
                scalar(text, kind)
            }
            Json::String(text) => scalar(text.clone(), Kind::Text),
            Json::Array(items) => Value::List(items.iter().map(|item| Rc::new(Node::from_json(item))).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| {
                        let value = Rc::new(Node::from_json(value));
                        Entry { key: key.clone(), line: 0, value, merged: false }
                    })
                    .collect(),
            ),
        };
        Node { line: 0, value }
    }

    /// What it is, in a message: `a list`, `` `yes` ``.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
            Value::Scalar { kind: Kind::Empty, .. } => "nothing".into(),
            Value::Scalar { text, .. } if text.is_empty() => "an empty text".into(),
            Value::Scalar { text, .. } => format!("`{}`", shown(text)),
        }
    }

    /// Nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.value, Value::Scalar { kind: Kind::Empty, .. })
    }

    /// `null` or `~` was written.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar { kind: Kind::Null, .. })
    }

    /// Whether it turns off what it is given to: `false`, `0`, null, nothing, or an empty text, list or mapping.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match &self.value {
            Value::Scalar { text, kind } => match kind {
                Kind::Empty | Kind::Null | Kind::Bool(false) | Kind::Integer(0) => true,
                Kind::Text => text.is_empty() || text == "false" || text == "0",
                Kind::Bool(true) | Kind::Integer(_) | Kind::Float(_) => false,
            },
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}
