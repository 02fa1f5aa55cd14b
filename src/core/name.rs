//! Names and numbers of things: each is a type, parsed once at the door.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of an app, in bytes: with `-4294967295.out.log.100` behind it, it still is a file name (255).
pub const MAX_NAME: usize = 200;

/// The name of an app. Never a path: no `/`, no control character, not `.` or `..`, no leading `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// Parses a name.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<AppName, String> {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        if text.is_empty() {
            return Err("a name must not be empty".into());
        }
        if text.len() > MAX_NAME {
            return Err(format!("a name of {} bytes is too long (at most {MAX_NAME}): `{shown}…`", text.len()));
        }
        if text == "." || text == ".." || text.contains('/') {
            return Err(format!("a name is no path: `{shown}`"));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("a name has no control characters or line breaks: `{shown}`"));
        }
        if text.starts_with('-') || text.trim() != text {
            return Err(format!("a name starts with no `-` and has no blank at its ends: `{shown}`"));
        }
        if text == "all" {
            return Err("`all` means every app and can name none".into());
        }
        Ok(AppName(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AppName {
    type Error = String;
    fn try_from(text: String) -> Result<AppName, String> {
        AppName::parse(&text)
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> String {
        name.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest name of an instance: its app's, a `-` and its number.
const LONGEST_INSTANCE: usize = MAX_NAME + 11;

/// Reads the name of an instance, of which names of files are made: never a path.
///
/// # Errors
/// What is none.
pub fn instance<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let is_path = name.is_empty() || name == "." || name == ".." || name.contains('/');
    if is_path || name.len() > LONGEST_INSTANCE || name.chars().any(char::is_control) {
        return Err(serde::de::Error::custom("it is no name of an instance"));
    }
    Ok(name)
}

/// The name that is most like `word`, if one is like it at all.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(name, word), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// PM2's `pm_id`: given to an instance when it is first seen, never given again in this home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub u32);

/// One life of one instance. One number per home, never used again; people see `flask-app#3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

/// A client's question that is answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_paths() {
        for bad in ["", ".", "..", "a/b", "a\nb", "\u{7f}", "-x", " x", "all", &"x".repeat(300)] {
            assert!(AppName::parse(bad).is_err(), "{bad:?} must be refused");
        }
        for good in ["flask-app", "my app", "größe", "..a", "a.b"] {
            assert_eq!(AppName::parse(good).unwrap().as_str(), good);
        }
    }
}
