//! Which files an app is restarted for.

use super::app::App;
use super::file::sentence;
use super::node::{Kind, Node, Value};
use super::problem::{Fault, located};
use super::value::{many, span, word};
use crate::core::watch::{WATCH_DELAY, Watch};
use std::path::{Path, PathBuf};

impl App<'_> {
    pub fn watch(&mut self, cwd: Option<&Path>) -> Option<Watch> {
        let (around, cwd) = (self.source.around, cwd?);
        let paths = self.get("watch", |node| match &node.value {
            _ if node.is_off() => Ok(Vec::new()),
            Value::Scalar { kind: Kind::Bool(true), .. } => Ok(vec![watched(cwd.to_owned())?]),
            Value::Map(_) => Err(Fault::new("a mapping is no list of paths").hint(HINT)),
            _ => many(node).into_iter().map(|node| watched(around.path(cwd, &word(node)?))).collect(),
        });
        let ignore = self.get("ignore_watch", |node| many(node).into_iter().map(pattern).collect());
        let delay = self.get("watch_delay", span);
        let paths = paths.filter(|paths: &Vec<PathBuf>| !paths.is_empty())?;
        Some(Watch { paths, ignore: ignore.unwrap_or_default(), delay: delay.unwrap_or(WATCH_DELAY) })
    }
}

const HINT: &str = "write `true` for all of `cwd`, or a list of folders and files";

/// A path that can be watched.
fn watched(path: PathBuf) -> Result<PathBuf, Fault> {
    match std::fs::canonicalize(&path) {
        Ok(real) if real == Path::new("/") => Err(Fault::new("the whole machine cannot be watched")
            .hint("name the folders of the app, or set `cwd`: `watch: true` is all that is in it")),
        Ok(_) => Ok(path),
        Err(error) if path.to_string_lossy().contains(['*', '?']) => {
            Err(Fault::new(format!("{}: {}", located(&path), sentence(&error)))
                .hint("name folders and files; patterns are for `ignore_watch`"))
        }
        Err(error) => Err(Fault::new(format!("{}: {}", located(&path), sentence(&error)))),
    }
}

/// A pattern as in a .gitignore; white space alone is a slip of the pen, and an open bracket would match nothing.
fn pattern(node: &Node) -> Result<String, Fault> {
    let pattern = word(node)?;
    let is_open = |pattern: &str| {
        pattern.rsplit_once('[').is_some_and(|(before, after)| !before.ends_with('\\') && !after.contains(']'))
    };
    if is_open(&pattern) {
        return Err(Fault::new(format!("a `[` is never closed in {}", node.describe())));
    }
    Ok(pattern)
}
