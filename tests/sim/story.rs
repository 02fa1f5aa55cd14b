//! Stories with golden transcripts. Each file in `stories/` is prose, apps (`app …`, `run …`), a timeline (`5s stop api`), and,
//! behind `---`, what is to happen. `UPDATE=1 cargo test --test sim` rewrites it.

use crate::app;
use crate::words;
use crate::world::{World, apply, apply_by, environment};
use std::fs;
use std::path::{Path, PathBuf};
use stead::core::clock::Millis;
use stead::core::command::{Command, Terms};
use stead::core::recover::Wanted;
use stead::core::spec::{Signal, Spec};

#[test]
fn stories_end_as_they_are_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/stories");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    assert!(!files.is_empty(), "no story in {}", folder.display());
    let wrong: Vec<String> = files.iter().filter_map(|path| check(path)).collect();
    assert!(wrong.is_empty(), "{}\n{} stories ended otherwise (UPDATE=1 rewrites them)", wrong.join("\n"), wrong.len());
}

/// What is wrong with the story.
fn check(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).unwrap();
    let (story, golden) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let told = match std::panic::catch_unwind(|| tell(story)) {
        Ok(told) => told,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into());
            return Some(format!("{name}: {what}"));
        }
    };
    if told == golden {
        return None;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, format!("{story}\n---\n{told}")).unwrap();
        return None;
    }
    let line = told.lines().zip(golden.lines()).take_while(|(told, golden)| told == golden).count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    Some(format!("{name}, line {} of the transcript:\n  written: {}\n  told:    {}", line + 1, at(golden), at(&told)))
}

/// Lets a story happen.
fn tell(story: &str) -> String {
    let mut world = World::new(2);
    let mut file: Vec<Spec> = Vec::new();
    for line in story.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("app ") {
            put(&mut file, app::spec(text));
        } else if let Some(text) = line.strip_prefix("run ") {
            behaves(&mut world, text);
        } else if let Some(text) = line.strip_prefix("latency ") {
            world.latency = app::span(text);
        } else if line.starts_with(|first: char| first.is_ascii_digit() || first == '+') {
            let (time, what) = line.split_once(' ').unwrap_or((line, ""));
            let at = match time.strip_prefix('+') {
                Some(span) => Millis(world.elapsed().0 + app::span(span).0),
                None => app::span(time),
            };
            assert!(at >= world.elapsed(), "the story goes back in time at `{line}`");
            world.pass_until(at);
            happens(&mut world, &mut file, what.trim());
        }
    }
    world.transcript
}

fn happens(world: &mut World, file: &mut Vec<Spec>, what: &str) {
    let (what, wait) = match what.strip_suffix(" --no-wait") {
        Some(what) => (what, false),
        None => (what, true),
    };
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    let targets = || rest.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let command = match (verb, rest) {
        ("", _) => return,
        ("app", text) => return put(file, app::spec(text)),
        ("drop", name) => return file.retain(|spec| spec.name.as_str() != name),
        ("run", text) => return behaves(world, text),
        ("the", "daemon dies") => return world.daemon_dies(),
        ("the", "keeper dies") => return world.keeper_dies(),
        ("the", "machine restarts") => return world.reboot(),
        ("the", rest) => {
            let actions = rest.strip_prefix("daemon dies after ").and_then(|rest| rest.strip_suffix(" actions"));
            return world
                .daemon_dies_after(actions.and_then(|n| n.parse().ok()).expect("the daemon dies after N actions"));
        }
        ("wall", by) => {
            let (sign, span) = by.split_at(1);
            let by = app::span(span).0 as i64;
            return world.wall_steps(if sign == "-" { -by } else { by });
        }
        ("touch", rest) => {
            let (app, path) = rest.split_once(' ').expect("touch NAME FILE");
            return world.file_changes(app, path);
        }
        ("memory", "is short") => return world.memory_is_short(false),
        ("memory", "is out") => return world.memory_is_short(true),
        ("SIGTERM", _) => return world.term(),
        ("state.json", "is lost") => return world.disk.wanted = Wanted::default(),
        ("stead", "begins") => return world.start_stead(),
        ("status", _) => {
            world.say("status");
            for line in world
                .fleet
                .as_ref()
                .map(|fleet| words::status(fleet, world.now.mono))
                .unwrap_or_else(|| vec!["no daemon".into()])
            {
                world.says(&line);
            }
            return;
        }
        ("start", "") => apply(file),
        ("start", "--dry-run") => apply_by(file, Terms { dry_run: true, ..Terms::default() }),
        ("start", "--dry-run --prune") => apply_by(file, Terms { dry_run: true, prune: true, ..Terms::default() }),
        ("start", "--prune") => apply_by(file, Terms { prune: true, ..Terms::default() }),
        ("start", _) => Command::Start { targets: targets() },
        ("stop", _) => Command::Stop { targets: targets() },
        ("restart", _) => {
            let (update, targets): (Vec<String>, Vec<String>) =
                targets().into_iter().partition(|word| word == "--update-env");
            Command::Restart { targets, environment: (!update.is_empty()).then(environment) }
        }
        ("reload", _) => Command::Reload { targets: targets() },
        ("delete", _) => Command::Delete { targets: targets() },
        ("scale", _) => {
            let (app, count) = rest.split_once(' ').expect("scale NAME N");
            Command::Scale { app: app.into(), count: count.parse().expect("a number of instances") }
        }
        ("reset", _) => Command::Reset { targets: targets() },
        ("signal", _) => {
            let (signal, targets) = rest.split_once(' ').expect("signal SIG NAME");
            Command::Signal { signal: Signal::parse(signal).unwrap(), targets: vec![targets.into()] }
        }
        ("flush", _) => Command::Flush { targets: targets() },
        ("save", _) => Command::Save { force: false },
        ("resurrect", _) => Command::Resurrect,
        ("kill", _) => Command::Kill,
        _ => panic!("nothing in a story is called `{what}`"),
    };
    world.ask(command, wait);
}

fn put(file: &mut Vec<Spec>, spec: Spec) {
    match file.iter_mut().find(|known| known.name == spec.name) {
        Some(known) => *known = spec,
        None => file.push(spec),
    }
}

fn behaves(world: &mut World, text: &str) {
    let (who, how) = text.split_once(' ').expect("run NAME TEMPER");
    world.tempers.insert(who.into(), app::temper(how));
}
