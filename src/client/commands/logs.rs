//! `stead logs`: the last lines of apps, in order of time, and what comes after them.

use super::or_all;
use crate::client::cli::LogsArgs;
use crate::client::connect::{Daemon, path_with};
use crate::client::home::Home;
use crate::client::render::screen::{self, Screen, Style};
use crate::client::render::text;
use crate::client::render::why::separator;
use crate::client::tail::{self, Follow, Line};
use crate::client::{Context, Outcome};
use crate::core::command::{Refusal, RefusalKind};
use crate::core::log_name::LogFiles;
use crate::core::recover::{WantedApp, WantedInstance};
use crate::core::view::{Description, RunView};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks at the files.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Looks at the files between two questions whether there are more of them.
const LOOKS_BEFORE_ASKING: u32 = 25;

/// On a terminal a longer line is cut.
const LONGEST_SHOWN: usize = 16 << 10;

/// Names beyond this width are cut.
const WIDEST_NAME: usize = 28;

/// A file and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub name: String,
    pub is_err: bool,
    pub path: PathBuf,
}

pub async fn run(context: &Context, args: &LogsArgs) -> Outcome {
    let sources = find(context, args).await?;
    let mut shown = Shown::new(context.screen, args.raw, &sources);
    let mut follows = Vec::new();
    // Before the first look at the files: what ends from now on is told.
    let mut ends = Ends::default();
    if args.follow && shown.is_neutral() {
        ends.look(context, args, &mut shown, &mut follows).await.map_err(|error| Refusal::failed(error.to_string()))?;
    }
    let mut lines = Vec::new();
    for apps in sources.chunk_by(|a, b| a.name == b.name) {
        let mut own = Vec::new();
        for source in apps {
            let (last, follow) = tail::last(&source.path, args.lines, args.follow);
            own.extend(last.into_iter().map(|line| (source, line)));
            follows.push((source.clone(), follow));
        }
        // In order of time; lines of one second stay in their files' order.
        own.sort_by_key(|(_, line)| line.at);
        lines.extend(own.split_off(own.len().saturating_sub(args.lines)));
    }
    lines.sort_by_key(|(_, line)| line.at);
    if lines.is_empty() && context.screen.is_terminal {
        let line = |source: &Source| format!("  {}\n", text::plain(&source.path.to_string_lossy()));
        let files: String = sources.iter().map(line).collect();
        screen::note(&format!("nothing has been written yet to\n{files}"));
    }
    let written = lines.iter().try_for_each(|(source, line)| shown.last(source, line)).and_then(|()| shown.out.flush());
    drop(lines);
    match (written, args.follow) {
        (Ok(()), true) => screen::written(follow(context, args, &mut shown, follows, ends).await)?,
        (written, _) => screen::written(written)?,
    }
    Ok(0)
}

/// Goes on until the reader goes away.
async fn follow(
    context: &Context,
    args: &LogsArgs,
    shown: &mut Shown,
    mut follows: Vec<(Source, Follow)>,
    mut ends: Ends,
) -> io::Result<()> {
    for looks in 1.. {
        if shown.is_neutral() {
            ends.look(context, args, shown, &mut follows).await?;
        }
        for (source, follow) in &mut follows {
            follow.look(&mut |line| shown.line(source, line, 0))?;
        }
        shown.out.flush()?;
        sleep(LOOK_AGAIN).await;
        if looks % LOOKS_BEFORE_ASKING == 0
            && let Ok(sources) = find(context, args).await
        {
            shown.make_room(&sources);
            for source in sources {
                if !follows.iter().any(|(known, _)| known.path == source.path) {
                    // All of it is new.
                    let follow = Follow::new(&source.path);
                    follows.push((source, follow));
                }
            }
        }
    }
    Ok(())
}

/// The ends that have been shown, by instance: the last run. Only for a person on a terminal: what is piped stays as the app wrote it.
#[derive(Debug, Default)]
struct Ends {
    known: BTreeMap<String, String>,
    begun: bool,
}

impl Ends {
    /// Where a run has ended since the last look: what it wrote, then a line that says why it ended. What the next run wrote comes later.
    async fn look(
        &mut self,
        context: &Context,
        args: &LogsArgs,
        shown: &mut Shown,
        follows: &mut [(Source, Follow)],
    ) -> io::Result<()> {
        let daemon = Daemon { home: context.daemon.home.clone(), starts: false };
        for target in or_all(args.targets.clone()) {
            // Without a daemon, nothing ends.
            let views = daemon.view::<Vec<RunView>>(&path_with("/v1/runs", &[("target", &target)])).await;
            for view in views.unwrap_or_default() {
                self.tell(&view, shown, follows)?;
            }
        }
        self.begun = true;
        Ok(())
    }

    fn tell(&mut self, view: &RunView, shown: &mut Shown, follows: &mut [(Source, Follow)]) -> io::Result<()> {
        let Some(record) = &view.last_exit else { return Ok(()) };
        let before = self.known.insert(view.name.clone(), record.run.clone());
        if !self.begun || before.as_ref() == Some(&record.run) {
            return Ok(());
        }
        for (source, follow) in follows.iter_mut().filter(|(source, _)| source.name == view.name) {
            let mut line = |line: &[u8]| shown.line(source, line, 0);
            match view.files.iter().find(|mark| mark.path == source.path) {
                Some(mark) => follow.look_to(mark.ino, mark.offset, &mut line)?,
                None => follow.look(&mut line)?,
            }
        }
        let number = |run: &str| run.rsplit_once('#').and_then(|(_, number)| number.parse::<u64>().ok());
        let between = before.and_then(|before| number(&record.run)?.checked_sub(number(&before)? + 1));
        writeln!(shown.out, "{}", separator(&shown.screen, record, between.unwrap_or(0)))
    }
}

/// The files of all targets, those of one app side by side, each file once.
pub(super) async fn find(context: &Context, args: &LogsArgs) -> Result<Vec<Source>, Refusal> {
    let daemon = Daemon { home: context.daemon.home.clone(), starts: false };
    let mut sources: Vec<Source> = Vec::new();
    for target in or_all(args.targets.clone()) {
        let found = match daemon.view::<Vec<Description>>(&path_with("/v1/describe", &[("target", &target)])).await {
            Ok(all) => all.iter().flat_map(of_instance).collect(),
            // Without a daemon, or for an app that was deleted, what stands in the home is shown.
            Err(refusal) => {
                let left = of_home(&daemon.home.path.join("logs"), &target);
                if left.is_empty() {
                    return Err(context.or_elsewhere(refusal, &[target]));
                }
                if refusal.kind != RefusalKind::NoSuchApp && daemon.home.is_held() {
                    return Err(refusal);
                }
                left
            }
        };
        for source in found {
            let wanted = if source.is_err { !args.out } else { !args.err };
            if wanted && !sources.iter().any(|known| known.path == source.path) {
                sources.push(source);
            }
        }
    }
    Ok(sources)
}

fn of_instance(one: &Description) -> Vec<Source> {
    let files = LogFiles { out: one.out_file.clone(), err: one.error_file.clone(), combined: one.log_file.clone() };
    of_files(&one.view.name, files)
}

fn of_files(name: &str, files: LogFiles) -> Vec<Source> {
    let source = |is_err, path| Source { name: name.to_owned(), is_err, path };
    let both: Vec<Source> = [(false, files.out), (true, files.err)]
        .into_iter()
        .filter_map(|(is_err, path)| Some(source(is_err, path?)))
        .collect();
    if both.is_empty() { files.combined.map(|path| source(false, path)).into_iter().collect() } else { both }
}

/// The logs of all that is wanted, as the file says: where no daemon can be asked any more.
pub(super) fn of_wanted(home: &Home) -> Vec<Source> {
    let of_app = |app: &WantedApp| -> Vec<Source> {
        let files = |one: &WantedInstance| LogFiles::of(&home.path, &app.spec, &one.name, one.slot);
        app.instances.iter().flat_map(|one| of_files(&one.name, files(one))).collect()
    };
    home.wanted().apps.iter().flat_map(of_app).collect()
}

/// `NAME.out.log` and `NAME.err.log`; an app's instances are called `NAME-0`, `NAME-1` …
pub(super) fn of_home(logs: &Path, target: &str) -> Vec<Source> {
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let mut sources: Vec<Source> = entries
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let (name, is_err) = match file.strip_suffix(".out.log") {
                Some(name) => (name, false),
                None => (file.strip_suffix(".err.log")?, true),
            };
            let is_instance = || {
                let number = name.strip_prefix(target).and_then(|rest| rest.strip_prefix('-'));
                number.is_some_and(|number| number.parse::<u32>().is_ok())
            };
            let wanted = target == "all" || name == target || is_instance();
            wanted.then(|| Source { name: name.to_owned(), is_err, path: entry.path() })
        })
        .collect();
    sources.sort_by(|a, b| (&a.name, a.is_err).cmp(&(&b.name, b.is_err)));
    sources
}

/// How lines are shown.
struct Shown {
    out: BufWriter<io::Stdout>,
    screen: Screen,
    raw: bool,
    /// Names in order of their colours; empty where one app alone needs no name.
    names: Vec<String>,
    widest: usize,
}

impl Shown {
    fn new(screen: Screen, raw: bool, sources: &[Source]) -> Shown {
        let mut shown = Shown { out: BufWriter::new(io::stdout()), screen, raw, names: Vec::new(), widest: 0 };
        if sources.iter().any(|source| source.name != sources[0].name) {
            shown.make_room(sources);
        }
        shown
    }

    /// Gives names that are new a colour.
    fn make_room(&mut self, sources: &[Source]) {
        for source in sources {
            let first = self.names.is_empty() && sources.iter().all(|other| other.name == source.name);
            if !first && !self.names.contains(&source.name) {
                self.names.push(source.name.clone());
                self.widest = self.widest.max(text::width(&text::plain(&source.name)).min(WIDEST_NAME));
            }
        }
    }

    /// One of the last lines, which may be of any length.
    fn last(&mut self, source: &Source, line: &Line) -> io::Result<()> {
        let most = if self.is_neutral() { LONGEST_SHOWN } else { usize::MAX };
        let (bytes, more) = line.bytes(most);
        self.line(source, &bytes, more)
    }

    fn is_neutral(&self) -> bool {
        self.screen.is_terminal && !self.raw
    }

    /// A line, of which `more` bytes are left out.
    fn line(&mut self, source: &Source, bytes: &[u8], more: u64) -> io::Result<()> {
        if self.raw {
            self.out.write_all(bytes)?;
            return self.out.write_all(b"\n");
        }
        if let Some(hue) = self.names.iter().position(|name| *name == source.name) {
            let name = text::plain(&source.name);
            let name = text::fit(&name, self.widest);
            let padding = " ".repeat(self.widest - text::width(&name));
            let name = self.screen.paint(Style::Hue(hue), name);
            write!(self.out, "{name}{padding} {} ", self.mark(source.is_err))?;
        } else if source.is_err && self.screen.is_terminal {
            write!(self.out, "{} ", self.mark(true))?;
        }
        if !self.is_neutral() {
            self.out.write_all(bytes)?;
            return self.out.write_all(b"\n");
        }
        let cut = bytes.len().min(LONGEST_SHOWN);
        let line = text::log_line(&bytes[..cut], self.screen.color);
        match more + (bytes.len() - cut) as u64 {
            0 => writeln!(self.out, "{line}"),
            more => writeln!(self.out, "{line}{}", self.screen.paint(Style::Dim, format!("… ({more} bytes more)"))),
        }
    }

    fn mark(&self, is_err: bool) -> String {
        if is_err { self.screen.paint(Style::Red, "!") } else { self.screen.paint(Style::Dim, "|") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_without_a_daemon_still_has_its_logs() {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["web-0.out.log", "web-0.err.log", "web-1.out.log", "web.out.log", "web-x.out.log", "web-0.out.log.1"]
        {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let names = |target| -> Vec<String> {
            let found = of_home(folder.path(), target);
            found.iter().map(|one| format!("{}{}", one.name, if one.is_err { "!" } else { "" })).collect()
        };
        assert_eq!(names("web"), ["web", "web-0", "web-0!", "web-1"]);
        assert_eq!(names("web-0"), ["web-0", "web-0!"]);
        assert_eq!(names("all").len(), 5);
        assert_eq!(names("db"), Vec::<String>::new());
    }
}
