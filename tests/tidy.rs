//! The walls of the house, checked by reading the sources: who may use whom, which package stands where, who reads the clock.
//!
//! Comments and the insides of strings are blanked first, so that a wall may be spoken of.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the tree: its path from the root, and its text with comments and strings blanked.
struct Source {
    path: String,
    code: String,
}

/// A wall: where it stands, what must not be found there, and a sample that breaks it.
struct Wall {
    name: &'static str,
    stands: fn(&str) -> bool,
    /// The forbidden words and paths of a line.
    breach: fn(&Source) -> Vec<(usize, String)>,
    broken_by: (&'static str, &'static str),
}

/// The modules in reading order, and what each may use beside itself.
const MODULES: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("config", &["core"]),
    ("os", &["core"]),
    ("keeper", &["core", "config", "os"]),
    ("daemon", &["core", "config", "os"]),
    ("client", &["core", "config", "os"]),
];

/// The protocol is the one thing of the keeper that the daemon knows.
const PROTOCOL: &str = "keeper::message";

const WALLS: [Wall; 11] = [
    Wall {
        name: "a module uses only what stands to its left",
        stands: |path| path.starts_with("src/"),
        breach: reaches,
        broken_by: ("src/config/file.rs", "use crate::{core::spec::Spec, os::process};"),
    },
    Wall {
        name: "nix, libc and cgroups_rs only in os and keeper",
        stands: |path| path.starts_with("src/") && !path.starts_with("src/os/") && !path.starts_with("src/keeper/"),
        breach: |source| words(source, &["nix::", "libc::", "cgroups_rs::", "use nix", "use libc", "use cgroups_rs"]),
        broken_by: ("src/daemon/perform.rs", "fn kill() { unsafe { libc::kill(1, 9) }; }"),
    },
    Wall {
        name: "serde_yaml only in config/file.rs",
        stands: |path| path.starts_with("src/") && path != "src/config/file.rs",
        breach: |source| words(source, &["serde_yaml"]),
        broken_by: ("src/config/resolve.rs", "use serde_yaml::Value;"),
    },
    Wall {
        name: "clap only in client/cli.rs and main.rs",
        stands: |path| path.starts_with("src/") && path != "src/client/cli.rs" && path != "src/main.rs",
        breach: |source| words(source, &["clap"]),
        broken_by: ("src/client/commands/stop.rs", "use clap::Args;"),
    },
    Wall {
        name: "clocks are read only in os/clock.rs",
        stands: |path| path.starts_with("src/") && path != "src/os/clock.rs",
        breach: |source| {
            words(
                source,
                &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "Utc::now", "clock_gettime"],
            )
        },
        broken_by: ("src/daemon/driver.rs", "let begun = std::time::Instant::now();"),
    },
    Wall {
        name: "core is pure",
        stands: |path| path.starts_with("src/core/"),
        breach: |source| {
            let modules = ["fs", "process", "time", "net", "env", "thread", "io", "os"];
            let mut found = words(source, &["tokio", "nix", "libc", "tracing", "rand"]);
            found.extend(paths(source, "std").into_iter().filter(|(_, path)| {
                path.strip_prefix("std::")
                    .is_some_and(|rest| modules.contains(&rest.split("::").next().unwrap_or(rest)))
            }));
            found
        },
        broken_by: ("src/core/fleet.rs", "use std::{collections::BTreeMap, time::Duration};"),
    },
    Wall {
        name: "nobody shares state by Arc<Mutex>",
        stands: |path| path.starts_with("src/"),
        breach: |source| words(source, &["Arc<Mutex", "Arc<RwLock", "Arc<std::sync::Mutex", "Arc<tokio::sync::Mutex"]),
        broken_by: ("src/daemon/server.rs", "type Shared = Arc<Mutex<Fleet>>;"),
    },
    Wall {
        name: "nothing is left to be done",
        stands: |path| path.starts_with("src/") || path.starts_with("tests/"),
        breach: |source| words(source, &["todo!", "unimplemented!", "#[ignore"]),
        broken_by: ("tests/real/logs.rs", "#[ignore = \"flaky\"]\nfn follow() {}"),
    },
    Wall {
        name: "no test sleeps",
        stands: |path| path.starts_with("src/") || path.starts_with("tests/"),
        breach: |source| {
            let tests_from = match source.path.starts_with("tests/") {
                true => 0,
                false => source.code.lines().position(|line| line.contains("cfg(test)")).unwrap_or(usize::MAX),
            };
            let mut found = words(source, &["thread::sleep", "time::sleep"]);
            found.retain(|(line, _)| *line > tests_from);
            found
        },
        broken_by: ("src/os/wait.rs", "#[cfg(test)]\nmod tests {\n    fn nap() { std::thread::sleep(LONG) }\n}"),
    },
    Wall {
        name: "every phase names every input",
        stands: |path| path == "src/core/instance.rs",
        breach: wildcard_phases,
        broken_by: (
            "src/core/instance.rs",
            "self.phase = match (phase, input) {\n    (Phase::Queued, Input::Due) => Phase::Queued,\n    _ => phase,\n};",
        ),
    },
    Wall {
        name: "core is never asked for by a way around",
        stands: |path| path.starts_with("src/") && path.matches('/').count() > 1,
        breach: |source| {
            let climbs = MODULES.map(|(module, _)| format!("super::super::{module}"));
            words(source, &climbs.each_ref().map(String::as_str))
        },
        broken_by: ("src/core/cause.rs", "use super::super::os::clock;"),
    },
];

#[test]
fn the_walls_stand() {
    let sources = sources();
    assert!(sources.len() > 40, "only {} sources were found", sources.len());
    let mut breaches = Vec::new();
    for wall in &WALLS {
        let stands: Vec<&Source> = sources.iter().filter(|source| (wall.stands)(&source.path)).collect();
        assert!(!stands.is_empty(), "`{}` stands nowhere", wall.name);
        for source in stands {
            breaches.extend(
                (wall.breach)(source)
                    .iter()
                    .map(|(line, what)| format!("{}:{line}: {what}: {}", source.path, wall.name)),
            );
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn each_wall_can_break() {
    for wall in &WALLS {
        let (path, text) = wall.broken_by;
        let source = source(path, text);
        assert!((wall.stands)(path), "`{}` does not stand in {path}", wall.name);
        assert!(!(wall.breach)(&source).is_empty(), "`{}` is not broken by {text:?}", wall.name);
    }
}

/// Each of these is in order, and looks a little as if it were not.
#[test]
fn what_is_allowed_breaks_no_wall() {
    for (path, text) in [
        ("src/daemon/link.rs", "use crate::keeper::message::{FromKeeper, PROTOCOL};"),
        ("src/daemon/logs/pump.rs", "use crate::{core::clock::Mono, os::{clock, pipe}, daemon::journal};"),
        ("src/core/fleet.rs", "// tokio, std::fs and nix::unistd are not for us: see `crate::os`\nuse std::sync::Arc;"),
        ("src/core/view.rs", "const WORDS: &str = \"std::fs tokio Instant::now todo!\"; // use nix::unistd;"),
        ("src/core/name.rs", "let c = '\"'; let text = r#\"tokio \" nix::\"#; let lifetime: &'static str;"),
        ("src/client/commands/completions.rs", "clap_complete::generate(shell, command, name, &mut out);"),
        ("src/config/file.rs", "use serde_yaml::Value;"),
        ("src/os/wait.rs", "fn gather() { std::thread::sleep(limit) }\n#[cfg(test)]\nmod tests {}"),
        (
            "src/core/instance.rs",
            "match (phase, input) { (Phase::A { .. }, Input::B { x, .. }) => match x { _ => 1 } }",
        ),
    ] {
        let source = source(path, text);
        for wall in WALLS.iter().filter(|wall| (wall.stands)(path)) {
            assert_eq!((wall.breach)(&source), [], "`{}` by {text:?} in {path}", wall.name);
        }
    }
}

#[test]
fn a_module_uses_no_sibling() {
    for (path, text) in [
        ("src/core/fleet.rs", "use crate::os::clock;"),
        ("src/os/spawn.rs", "use crate::config::error::Error;"),
        ("src/config/resolve.rs", "let home = crate::os::process::home();"),
        ("src/keeper/keep.rs", "use crate::daemon::link::Envelope;"),
        ("src/daemon/link.rs", "use crate::keeper::inventory::Entry;"),
        ("src/daemon/link.rs", "use crate::keeper::{message, inventory};"),
        ("src/client/connect.rs", "use crate::{daemon::server, core::command};"),
        ("src/client/connect.rs", "use crate::keeper::message::PROTOCOL;"),
        ("src/client/connect.rs", "use stead::keeper::message::PROTOCOL;"),
    ] {
        assert_ne!(reaches(&source(path, text)), [], "{text:?} in {path}");
    }
}

/// What only one machine has is not in the tree.
#[test]
fn no_path_of_the_machine_that_this_was_written_on() {
    let forbidden = [["/wo", "rk/"].concat(), ["/tmp/br", "ief"].concat(), ["/tmp/tar", "get-"].concat()];
    let breach = |text: &str| forbidden.iter().any(|path| text.contains(path));
    assert!(breach(&format!("see {}shared", forbidden[0])));
    let mut found = Vec::new();
    for path in files(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| breach(line)) {
            found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Modules that a source uses and may not.
fn reaches(source: &Source) -> Vec<(usize, String)> {
    let Some(here) = source.path.strip_prefix("src/").and_then(|path| path.split_once('/')).map(|(module, _)| module)
    else {
        return Vec::new();
    };
    let Some((_, left)) = MODULES.iter().find(|(module, _)| *module == here) else {
        return vec![(1, format!("no module `{here}`"))];
    };
    let mut found = paths(source, "crate");
    found.extend(paths(source, "stead"));
    found.retain(|(_, path)| {
        let inside = path.split_once("::").map_or("", |(_, inside)| inside);
        let module = inside.split("::").next().unwrap_or(inside);
        let known = MODULES.iter().any(|(name, _)| *name == module);
        let protocol = here == "daemon" && (inside == PROTOCOL || inside.starts_with(&format!("{PROTOCOL}::")));
        known && module != here && !left.contains(&module) && !protocol
    });
    found
}

/// Arms of `match (phase, input)` that leave the phase or the input unnamed.
fn wildcard_phases(source: &Source) -> Vec<(usize, String)> {
    let head = "match (phase, input) {";
    let Some(start) = source.code.find(head) else { return vec![(1, format!("no `{head}`"))] };
    let mut line = source.code[..start].matches('\n').count() + 1;
    let (mut depth, mut pattern, mut body) = (0, String::new(), None::<String>);
    let mut found = Vec::new();
    for c in source.code[start + head.len()..].chars() {
        line += usize::from(c == '\n');
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        match &mut body {
            _ if depth < 0 => break,
            None => {
                pattern.push(c);
                if depth == 0 && pattern.ends_with("=>") {
                    if !pattern.contains("Phase::") || !pattern.contains("Input::") {
                        found.push((line, format!("`{}`", pattern.trim())));
                    }
                    body = Some(String::new());
                }
            }
            Some(text) => {
                text.push(c);
                let block = c == '}' && text.trim_start().starts_with('{');
                if depth == 0 && (c == ',' || block) {
                    (pattern, body) = (String::new(), None);
                }
            }
        }
    }
    found
}

/// Lines in which one of the words stands as a word.
fn words(source: &Source, words: &[&str]) -> Vec<(usize, String)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let free = |c: Option<char>, end: Option<char>| !(c.is_some_and(is_word) && end.is_some_and(is_word));
            free(line[..at].chars().next_back(), word.chars().next())
                && free(line[at + word.len()..].chars().next(), word.chars().next_back())
        })
    };
    let lines = source.code.lines().enumerate();
    lines
        .flat_map(|(number, line)| {
            words.iter().filter(move |word| stands(line, word)).map(move |word| (number + 1, (*word).to_owned()))
        })
        .collect()
}

/// Every path that begins at `root`, groups unfolded: `crate::{a, b::c}` is `crate::a` and `crate::b::c`.
fn paths(source: &Source, root: &str) -> Vec<(usize, String)> {
    let head = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices(&head) {
        if source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = source.code[..at].matches('\n').count() + 1;
        let mut unfolded = Vec::new();
        unfold(root, &source.code[at + root.len()..], &mut unfolded);
        found.extend(unfolded.into_iter().map(|path| (line, path)));
    }
    found
}

/// Reads `::a::{b, c::d}` behind `prefix`. Returns what is left of the text.
fn unfold<'a>(prefix: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let Some(rest) = text.strip_prefix("::") else {
        found.push(prefix.to_owned());
        return text;
    };
    let Some(mut rest) = rest.strip_prefix('{') else {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        return unfold(&format!("{prefix}::{}", &rest[..end]), &rest[end..], found);
    };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() || rest.starts_with('}') {
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest = unfold(&format!("{prefix}::{}", &rest[..end]), &rest[end..], found);
        // `as name`, and whatever else is not a path.
        rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
    }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), code: blanked(text) }
}

/// The text with comments and the insides of strings and character literals made blank; lines stay where they are.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hashes = rest.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
        let raw = hashes.filter(|hashes| {
            rest[1 + hashes..].starts_with('"') && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        });
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = 2 + hashes;
            rest[inside..].find(&close).map_or(rest.len(), |end| inside + end + close.len())
        } else if first == '"' {
            closing(rest, '"')
        } else if first == '\'' && is_character(rest) {
            closing(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// The length of a literal, both quotes counted.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `'x'` or `'\n'`, and no lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

fn sources() -> Vec<Source> {
    let root = root();
    let rust = [root.join("src"), root.join("tests")].into_iter().flat_map(|folder| files(&folder));
    rust.filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            source(&path.strip_prefix(root).unwrap().to_string_lossy(), &text)
        })
        .collect()
}

/// Every file below a folder that somebody wrote: nothing that is built, fetched or versioned beside it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let built = ["target", ".git", ".venv", "__pycache__", "node_modules", "data"];
        if built.iter().any(|built| name == *built) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        } else if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
