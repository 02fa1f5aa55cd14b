//! What apps write, copied to the stdout and stderr of `stead daemon`, as who runs a container expects it. The log files are what it reads:
//! a reader that stands still holds up nobody but this process.

use super::logs::{LOOK_AGAIN, Source, find, of_home, of_wanted};
use crate::client::Context;
use crate::client::cli::{AppLogs, LogsArgs};
use crate::client::home::Home;
use crate::client::tail::Follow;
use crate::os::clock;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// A daemon that does not answer holds up no lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a log ended before the first app was started.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    path: PathBuf,
    ino: u64,
    size: u64,
}

/// What a mirror is told.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Marks {
    began: i64,
    logs: Vec<Mark>,
}

/// Where all logs of a home end by now, as one line.
#[must_use]
pub fn marks(home: &Home) -> String {
    let mark = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok()?;
        Some(Mark { path, ino: meta.ino(), size: meta.len() })
    };
    let in_home = of_home(&home.path.join("logs"), "all").into_iter().map(|source| source.path);
    let elsewhere = home.wanted().apps.into_iter().flat_map(|app| {
        let logs = &app.spec.logs;
        [&logs.out, &logs.err, &logs.combined].into_iter().flatten().flat_map(|path| beside(path)).collect::<Vec<_>>()
    });
    let logs = in_home.chain(elsewhere).filter_map(mark).collect();
    serde_json::to_string(&Marks { began: clock::now().wall.0, logs }).unwrap_or_default()
}

/// A log and those of the other instances, which have a number before the extension.
fn beside(path: &Path) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let is_one = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(stem);
    entries.into_iter().flatten().flatten().filter(is_one).map(|entry| entry.path()).collect()
}

/// Copies until standard input ends, and then what is there yet.
///
/// # Errors
/// Of writing; not where the reader has gone away.
pub async fn run(context: &Context, how: AppLogs) -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let mut mirror = Mirror::new(how, serde_json::from_str(&line).unwrap_or_default());
    let (ending, mut ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = ending.send(());
    });
    let home = &context.daemon.home;
    let all =
        LogsArgs { targets: Vec::new(), follow: true, lines: 0, err: false, out: false, raw: false, nostream: false };
    // New files come by new wishes.
    let mut asked_at = None;
    loop {
        let wished_at = wished_at(home);
        if asked_at != wished_at
            && let Ok(Ok(sources)) = timeout(PATIENCE, find(context, &all)).await
        {
            mirror.add(sources);
            asked_at = wished_at;
        }
        mirror.look(false)?;
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            _ = &mut ended => break,
        }
    }
    // Of a short life, or of an app that came at the very end, the daemon was never asked.
    mirror.add(of_wanted(home));
    mirror.add(of_home(&home.path.join("logs"), "all"));
    mirror.look(true)
}

fn wished_at(home: &Home) -> Option<(u64, SystemTime)> {
    let meta = std::fs::metadata(home.path.join("state.json")).ok()?;
    Some((meta.ino(), meta.modified().ok()?))
}

struct Mirror {
    is_named: bool,
    marks: Vec<Mark>,
    /// Milliseconds since 1970.
    began: i64,
    follows: Vec<(Source, Follow)>,
    widest: usize,
    out: BufWriter<io::Stdout>,
    err: BufWriter<io::Stderr>,
}

impl Mirror {
    fn new(how: AppLogs, marks: Marks) -> Mirror {
        Mirror {
            is_named: how != AppLogs::Raw,
            marks: marks.logs,
            began: marks.began,
            follows: Vec::new(),
            widest: 0,
            out: BufWriter::new(io::stdout()),
            err: BufWriter::new(io::stderr()),
        }
    }

    fn add(&mut self, sources: Vec<Source>) {
        for source in sources {
            if self.follows.iter().any(|(known, _)| known.path == source.path) {
                continue;
            }
            let follow = match self.marks.iter().find(|mark| mark.path == source.path) {
                Some(mark) => Follow::after(&source.path, mark.ino, mark.size),
                None => Follow::since(&source.path, self.began),
            };
            self.widest = self.widest.max(source.name.chars().count());
            self.follows.push((source, follow));
        }
    }

    fn look(&mut self, last: bool) -> io::Result<()> {
        let (is_named, widest) = (self.is_named, self.widest);
        for (source, follow) in &mut self.follows {
            let to: &mut dyn Write = if source.is_err { &mut self.err } else { &mut self.out };
            let mut line = |line: &[u8]| {
                if is_named {
                    write!(to, "{:widest$} | ", source.name)?;
                }
                to.write_all(line)?;
                to.write_all(b"\n")
            };
            if last { follow.end(&mut line)? } else { follow.look(&mut line)? }
        }
        self.out.flush()?;
        self.err.flush()
    }
}
