//! Which files an app is restarted for: the wish, and the rules by which a path is passed over.

use super::clock::Millis;
use fast_glob::glob_match;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `watch`, `ignore_watch` and `watch_delay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Folders, with all that is in them, and files. Absolute.
    pub paths: Vec<PathBuf>,
    /// Patterns as in a .gitignore, relative to the app's `cwd`.
    pub ignore: Vec<String>,
    /// The app is restarted when nothing has changed for so long.
    pub delay: Millis,
}

/// An editor that saves all, and a checkout, take less than this from one file to the next.
pub const WATCH_DELAY: Millis = Millis(200);

/// Passed over unless a pattern of the app takes it back by `!`: what version control, interpreters, editors and databases write
/// beside the sources. PM2 restarted apps for their own journals.
pub const NEVER_WATCHED: &[&str] = &[
    ".git/",
    ".hg/",
    ".svn/",
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    "*.pyc",
    "*.pyo",
    "*.db",
    "*.sqlite",
    "*.sqlite3",
    "*-journal",
    "*-wal",
    "*-shm",
    "*.jsonl",
    "*.log",
    "*.log.*",
    "*.pid",
    "*.sock",
    "*.tmp",
    "*.swp",
    "*.swo",
    "*.swx",
    "*~",
    ".#*",
    "#*#",
    "4913",
    ".nfs*",
];

/// What is passed over, as a .gitignore says it: the last pattern that matches decides, and nothing in a folder that is passed over
/// is looked at.
#[derive(Clone, Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    glob: String,
    /// Against the whole path; else against each name in it.
    whole: bool,
    folders_only: bool,
    /// `!`: it takes back.
    back: bool,
}

impl Rules {
    /// [`NEVER_WATCHED`], then an app's own patterns.
    #[must_use]
    pub fn new(watch: &Watch, cwd: &Path) -> Rules {
        let own = watch.ignore.iter().map(String::as_str);
        Rules(NEVER_WATCHED.iter().copied().chain(own).filter_map(|pattern| Rule::of(pattern, cwd)).collect())
    }

    /// `path` is relative to what the patterns are relative to.
    #[must_use]
    pub fn ignores(&self, path: &Path, is_folder: bool) -> bool {
        let path = path.to_string_lossy();
        let ends = path.match_indices('/').map(|(at, _)| (at, true)).chain([(path.len(), is_folder)]);
        ends.into_iter().any(|(end, is_folder)| {
            let part = &path[..end];
            let name = part.rsplit('/').next().unwrap_or(part);
            let last = self.0.iter().rfind(|rule| {
                (is_folder || !rule.folders_only) && glob_match(&rule.glob, if rule.whole { part } else { name })
            });
            last.is_some_and(|rule| !rule.back)
        })
    }
}

impl Rule {
    fn of(pattern: &str, cwd: &Path) -> Option<Rule> {
        let pattern = pattern.trim_end();
        let (back, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        let inside = cwd.to_str().and_then(|cwd| pattern.strip_prefix(cwd)).filter(|rest| rest.starts_with('/'));
        let pattern =
            inside.or_else(|| pattern.strip_prefix('.').filter(|rest| rest.starts_with('/'))).unwrap_or(pattern);
        let (folders_only, pattern) = pattern.strip_suffix('/').map_or((false, pattern), |rest| (true, rest));
        let glob = pattern.strip_prefix('/').unwrap_or(pattern);
        (!glob.is_empty()).then(|| Rule { glob: glob.into(), whole: pattern.contains('/'), folders_only, back })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(ignore: &[&str]) -> Rules {
        let ignore = ignore.iter().map(|pattern| (*pattern).to_owned()).collect();
        Rules::new(&Watch { paths: Vec::new(), ignore, delay: WATCH_DELAY }, Path::new("/srv/app"))
    }

    fn check(ignore: &[&str], cases: &[(&str, bool)]) {
        let rules = rules(ignore);
        for (path, expected) in cases {
            let (path, is_folder) = path.strip_suffix('/').map_or((*path, false), |path| (path, true));
            assert_eq!(rules.ignores(Path::new(path), is_folder), *expected, "{path} by {ignore:?}");
        }
    }

    #[test]
    fn what_tools_and_databases_write_is_passed_over() {
        check(
            &[],
            &[
                ("app.py", false),
                ("src/deep/mod.py", false),
                ("templates/index.html", false),
                (".env", false),
                (".git/index", true),
                ("node_modules/x/y.js", true),
                ("a/__pycache__/app.cpython-313.pyc", true),
                ("data/app.db", true),
                ("data/app.db-journal", true),
                ("data/app.db-wal", true),
                ("events.jsonl", true),
                ("src/.app.py.swp", true),
                ("src/app.py~", true),
                ("4913", true),
                ("venv", false),
                ("venv/", true),
            ],
        );
    }

    #[test]
    fn patterns_are_those_of_a_gitignore() {
        check(&["logs"], &[("logs/", true), ("logs", true), ("a/logs/x", true), ("catalogs", false)]);
        check(&["/logs"], &[("logs/x", true), ("a/logs/x", false)]);
        check(&["./logs"], &[("logs/x", true), ("a/logs/x", false)]);
        check(&["/srv/app/logs"], &[("logs/x", true), ("a/logs/x", false)]);
        check(&["logs/"], &[("logs/", true), ("logs", false), ("logs/x", true)]);
        check(&["data/*.csv"], &[("data/a.csv", true), ("data/x/a.csv", false), ("x/data/a.csv", false)]);
        check(&["data/**"], &[("data/x/a.csv", true), ("data.py", false)]);
        check(&["**/gen/*.py"], &[("gen/a.py", true), ("x/y/gen/a.py", true)]);
        check(&["*.py[co]", "?.txt"], &[("a.pyc", true), ("a.txt", true), ("ab.txt", false)]);
        check(&["!*.db"], &[("app.db", false), ("app.db-wal", true)]);
        check(&["*.txt", "!keep.txt"], &[("a.txt", true), ("keep.txt", false), ("x/keep.txt", false)]);
        // As in git: what is in a folder that is passed over is not taken back.
        check(&["tmp/", "!tmp/keep.txt"], &[("tmp/keep.txt", true)]);
        check(&[], &[("src/\u{1f980}.rs", false)]);
    }

    #[test]
    fn the_lists_that_people_have_for_pm2_mean_the_same() {
        let pm2 = ["node_modules", "\\.git", "*.log", "logs", "[\\/\\\\]\\./"];
        check(&pm2, &[("node_modules/x", true), (".git/", true), ("a.log", true), ("logs/x", true), ("app.py", false)]);
    }
}
