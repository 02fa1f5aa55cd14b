//! `stead list`.

use super::moment::{brief, since};
use super::screen::{Screen, Style};
use super::table::{self, Cell, Column, Cut, cell};
use super::text;
use crate::core::clock::Wall;
use crate::core::command::Reply;
use crate::core::record::Cause;
use crate::core::spec::Bytes;
use crate::core::view::{Enforcement, InstanceView, Pong, Status};

/// Troubles that are told below the table; the rest is counted.
const MOST_TROUBLES: usize = 6;

/// A name is cut for the columns that matter; the others come only where it is whole, or long beyond reason.
const NAME: Cut = Cut { least: 12, rank: 6, ample: 32 };

const SENTENCE: Cut = Cut { least: 24, rank: 12, ample: 24 };

/// The whole screen: a table, and below it what needs attention.
#[must_use]
pub fn list(screen: &Screen, now: Wall, views: &[InstanceView]) -> String {
    if views.is_empty() {
        return "no apps yet: `stead start FILE` starts what an ecosystem file says, `stead start SCRIPT` a script\n"
            .into();
    }
    let mut shown = table(screen, now, views);
    shown.push_str(&troubles(screen, views));
    for view in views.iter().filter(|view| view.watch_trouble.is_some()).take(MOST_TROUBLES) {
        let why = text::plain(view.watch_trouble.as_deref().unwrap_or_default());
        let note = format!("{}: changes may go unnoticed: {why}", text::plain(&view.name));
        shown.push_str(&text::wrap(&note, screen.width).join("\n"));
        shown.push('\n');
    }
    if let Some(note) = enforcement(views) {
        shown.push_str(&screen.paint(Style::Dim, note));
        shown.push('\n');
    }
    shown
}

/// The list below what a command has done: all of it, or, where a terminal is too low for that, what the command was about.
#[must_use]
pub fn after(screen: &Screen, now: Wall, views: &[InstanceView], reply: &Reply) -> String {
    let about = |view: &&InstanceView| {
        let named = reply.changes.iter().map(|change| &change.name);
        named.chain(reply.failures.iter().map(|failure| &failure.name)).any(|name| *name == view.name)
    };
    match screen.height {
        Some(height) if views.len() + 2 > height => {
            let some: Vec<InstanceView> = views.iter().filter(about).cloned().collect();
            let left = views.len() - some.len();
            let note = if left > 0 { format!("and {left} others: `stead list`\n") } else { String::new() };
            let shown = if some.is_empty() { String::new() } else { table(screen, now, &some) };
            shown + &screen.paint(Style::Dim, note)
        }
        _ => list(screen, now, views),
    }
}

/// The table alone.
#[must_use]
pub fn table(screen: &Screen, now: Wall, views: &[InstanceView]) -> String {
    let column = |title, rank, numbers, cut, of: &dyn Fn(&InstanceView) -> Cell| Column {
        title,
        rank,
        numbers,
        cut,
        cells: views.iter().map(of).collect(),
    };
    let mut columns = vec![
        column("id", 1, true, None, &|view| cell(view.id.0.to_string(), Style::Dim)),
        column("name", 0, false, Some(NAME), &|view| cell(text::plain(&view.name), name_style(view))),
        column("status", 0, false, None, &|view| cell(view.status.word(), status_style(view))),
        column("pid", 8, true, None, &|view| cell(or_dash(view.pid), Style::Plain)),
        column("uptime", 6, true, None, &uptime(now)),
        column("restarts", 3, true, None, &restarts),
        column("last end", 5, false, None, &last_end),
        column("ended", 9, true, None, &|view| cell(ended(now, view), Style::Plain)),
        column("memory", 4, true, None, &memory),
        column("cpu", 7, true, None, &|view| cell(view.cpu_percent.map_or("-".into(), percent), Style::Plain)),
        column("procs", 11, true, None, &|view| cell(or_dash(view.processes), Style::Plain)),
        column("why", 12, false, Some(SENTENCE), &|view| cell(summary(view), Style::Dim)),
    ];
    if views.iter().any(|view| view.namespace != "default") {
        let namespace = column("namespace", 10, false, None, &|view| cell(text::plain(&view.namespace), Style::Plain));
        columns.insert(1, namespace);
    }
    table::render(screen, &columns)
}

fn name_style(view: &InstanceView) -> Style {
    if view.status == Status::Errored || view.crash_loop { Style::Alarm } else { Style::Plain }
}

/// The colour of a state.
#[must_use]
pub fn status_style(view: &InstanceView) -> Style {
    match view.status {
        Status::Errored => Style::Alarm,
        _ if view.crash_loop => Style::Alarm,
        Status::Online => Style::Green,
        Status::Launching | Status::Stopping | Status::Waiting => Style::Yellow,
        Status::Stopped => Style::Dim,
    }
}

/// Since when it is up, or when it will be.
fn uptime(now: Wall) -> impl Fn(&InstanceView) -> Cell {
    move |view| match (view.uptime_ms, view.next_start_at) {
        (Some(uptime), _) => cell(brief(uptime), Style::Plain),
        (None, Some(at)) => cell(format!("in {}", brief(since(at, now))), Style::Yellow),
        (None, None) => cell("-", Style::Dim),
    }
}

/// `108 (63)`: all, and those that nobody asked for.
fn restarts(view: &InstanceView) -> Cell {
    match view.restarts_unplanned {
        0 => cell(view.restarts.to_string(), Style::Plain),
        unplanned => cell(format!("{} ({unplanned})", view.restarts), Style::Yellow),
    }
}

fn last_end(view: &InstanceView) -> Cell {
    match &view.last_exit {
        None => cell("-", Style::Dim),
        Some(record) if record.planned => cell(record.cause.word(), Style::Dim),
        Some(record) => cell(record.cause.word(), Style::Red),
    }
}

fn ended(now: Wall, view: &InstanceView) -> String {
    view.last_exit.as_ref().map_or("-".into(), |record| format!("{} ago", brief(since(now, record.ended_at))))
}

fn summary(view: &InstanceView) -> String {
    view.last_exit.as_ref().map_or("-".into(), |record| text::plain(&record.summary).into_owned())
}

/// `84M/300M`.
fn memory(view: &InstanceView) -> Cell {
    let used = view.memory_bytes.map_or("-".to_owned(), |bytes| Bytes(bytes).to_string());
    let Some(cap) = view.memory_cap_bytes else { return cell(used, Style::Plain) };
    let style = match view.memory_bytes {
        Some(used) if used >= cap => Style::Alarm,
        Some(used) if used >= cap / 10 * 9 => Style::Yellow,
        _ => Style::Plain,
    };
    cell(format!("{used}/{}", Bytes(cap)), style)
}

/// `0.3%`, `12%`.
#[must_use]
pub fn percent(percent: f64) -> String {
    if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

/// Who gave up and who dies again and again: one line each.
fn troubles(screen: &Screen, views: &[InstanceView]) -> String {
    let troubled: Vec<&InstanceView> =
        views.iter().filter(|view| view.status == Status::Errored || view.crash_loop).collect();
    let mut lines = String::new();
    let mut line = |text: &str| {
        let text = text::fit(text, screen.width.saturating_sub(2));
        lines.push_str(&format!("{} {text}\n", screen.paint(Style::Alarm, "!")));
    };
    for view in troubled.iter().take(MOST_TROUBLES) {
        let what = if view.status == Status::Errored { "gave up" } else { "is in a crash loop" };
        let last = view.last_exit.as_ref().map(|record| match record.cause {
            // What it needs says more than how the last run ended.
            Cause::MemoryCap | Cause::OomKill if view.status == Status::Errored => text::plain(&record.next.reason),
            _ => text::plain(&record.summary),
        });
        let last = last.map_or(String::new(), |last| format!(": {last}"));
        line(&format!("{} {what}{last}", text::plain(&view.name)));
    }
    if troubled.len() > MOST_TROUBLES {
        line(&format!("and {} more", troubled.len() - MOST_TROUBLES));
    }
    if !troubled.is_empty() {
        lines.push_str("  `stead why NAME` says more\n");
    }
    lines
}

/// A cap that nothing or little enforces is said, never passed over.
fn enforcement(views: &[InstanceView]) -> Option<&'static str> {
    let has = |kind| views.iter().any(|view| view.memory_cap_bytes.is_some() && view.memory_enforcement == kind);
    match (has(Enforcement::None), has(Enforcement::Polling)) {
        (true, _) => Some("memory caps are not enforced"),
        (false, true) => Some("memory caps are kept by polling: stead has no cgroup to itself here"),
        (false, false) => None,
    }
}

/// Each app may be below its cap, and the machine's memory at its end all the same.
#[must_use]
pub fn caps_and_machine(caps: &[u64], machine: u64) -> Option<String> {
    let sum: u64 = caps.iter().fold(0, |sum, cap| sum.saturating_add(*cap));
    let whose = if caps.len() == 1 {
        "the cap of 1 instance is".into()
    } else {
        format!("the caps of {} instances are together", caps.len())
    };
    (sum > machine).then(|| {
        format!(
            "{whose} {}, and this machine has {}: its memory may end before any cap is reached",
            Bytes(sum),
            Bytes(machine)
        )
    })
}

/// What stead cannot do for the moment.
#[must_use]
pub fn faults(screen: &Screen, pong: &Pong) -> String {
    let line = |fault: &String| {
        let text = text::hang(screen, 2, &format!("stead itself: {}", text::plain(fault)));
        format!("{} {text}\n", screen.paint(Style::Alarm, "!"))
    };
    pong.faults.iter().map(line).collect()
}

/// Why caps are kept by polling, and what would help.
#[must_use]
pub fn remedy(screen: &Screen, pong: &Pong) -> String {
    let said = [("why", &pong.memory_trouble), ("remedy", &pong.memory_remedy)];
    let line = |(label, text): (&str, &Option<String>)| {
        let text = text.as_ref()?;
        Some(format!("  {label}: {}\n", text::hang(screen, label.len() + 4, &text::plain(text))))
    };
    said.into_iter().filter_map(line).collect()
}

#[cfg(test)]
pub mod tests {
    use super::super::screen::tests::{colored, plain};
    use super::*;
    use crate::core::clock::Millis;
    use crate::core::name::Id;
    use crate::core::record::{Confidence, Evidence, Memory, Next, NextAction, Record};

    pub const NOW: Wall = Wall(1_795_465_809_123);

    /// An app that is well.
    pub fn view(id: u32, name: &str) -> InstanceView {
        InstanceView {
            name: name.into(),
            app: name.into(),
            namespace: "default".into(),
            id: Id(id),
            status: Status::Online,
            pid: Some(4000 + id as i32),
            uptime_ms: Some(Millis(183_000_000)),
            restarts: 0,
            restarts_unplanned: 0,
            memory_bytes: Some(84 << 20),
            memory_cap_bytes: None,
            memory_enforcement: Enforcement::Cgroup2,
            cpu_percent: Some(1.24),
            processes: Some(3),
            next_start_at: None,
            last_exit: None,
            crash_loop: false,
            watch_trouble: None,
        }
    }

    /// An unplanned end, `ago` milliseconds before now.
    pub fn record(run: &str, cause: Cause, summary: &str, ago: i64) -> Record {
        Record {
            run: run.into(),
            instance: run.split('#').next().unwrap_or_default().into(),
            pid: Some(4711),
            started_at: Some(Wall(NOW.0 - ago - 61_000)),
            ended_at: Wall(NOW.0 - ago),
            uptime_ms: Some(Millis(61_000)),
            cause,
            planned: false,
            confidence: Confidence::Certain,
            summary: summary.into(),
            exit_code: Some(1),
            signal: None,
            core_dumped: false,
            signature: None,
            actor: None,
            memory: Memory::default(),
            evidence: Evidence::default(),
            left_behind: 0,
            next: Next { action: NextAction::Restart, delay_ms: Some(Millis(0)), reason: "autorestart".into() },
        }
    }

    pub fn fleet() -> Vec<InstanceView> {
        let mut flask = view(0, "flask-app");
        flask.restarts = 108;
        flask.restarts_unplanned = 105;
        flask.memory_cap_bytes = Some(300 << 20);
        flask.last_exit = Some(record("flask-app#109", Cause::ExitCode, "exited with code 1 after 1m 1s", 240_000));
        let mut collector = view(1, "signal-timeline-collector");
        collector.status = Status::Waiting;
        (collector.pid, collector.uptime_ms, collector.memory_bytes) = (None, None, None);
        (collector.cpu_percent, collector.processes) = (None, None);
        collector.next_start_at = Some(Wall(NOW.0 + 4_200));
        collector.restarts = 63;
        collector.restarts_unplanned = 63;
        collector.crash_loop = true;
        let locked = "sqlite3.OperationalError: database is locked after 1m 1s";
        collector.last_exit = Some(record("signal-timeline-collector#64", Cause::ExitCode, locked, 1_000));
        let mut cleanup = view(11, "nightly-cleanup");
        cleanup.status = Status::Stopped;
        (cleanup.pid, cleanup.uptime_ms, cleanup.memory_bytes) = (None, None, None);
        (cleanup.cpu_percent, cleanup.processes) = (None, None);
        vec![flask, collector, cleanup]
    }

    #[test]
    fn eighty_columns_hold_what_matters() {
        let expected = "\
id  name                       status    uptime   restarts  last end     memory
 0  flask-app                  online      2d2h  108 (105)  exit-code  84M/300M
 1  signal-timeline-collector  waiting  in 4.2s    63 (63)  exit-code         -
11  nightly-cleanup            stopped        -          0  -                 -
";
        assert_eq!(table(&plain(80), NOW, &fleet()), expected);
    }

    #[test]
    fn two_hundred_columns_hold_more() {
        let expected = "\
id  name                       status    pid   uptime   restarts  last end    ended    memory   cpu  procs  why
 0  flask-app                  online   4000     2d2h  108 (105)  exit-code  4m ago  84M/300M  1.2%      3  exited with code 1 after 1m 1s
 1  signal-timeline-collector  waiting     -  in 4.2s    63 (63)  exit-code  1s ago         -     -      -  sqlite3.OperationalError: database is locked after 1m 1s
11  nightly-cleanup            stopped     -        -          0  -               -         -     -      -  -
";
        assert_eq!(table(&plain(200), NOW, &fleet()), expected);
    }

    #[test]
    fn names_are_cut_before_numbers() {
        let expected = "\
id  name             status    restarts  last end     memory
 0  flask-app        online   108 (105)  exit-code  84M/300M
 1  signal-timelin…  waiting    63 (63)  exit-code         -
11  nightly-cleanup  stopped          0  -                 -
";
        assert_eq!(table(&plain(60), NOW, &fleet()), expected);
    }

    #[test]
    fn a_crash_loop_is_said_below_with_what_to_type() {
        let shown = list(&plain(80), NOW, &fleet());
        let below: Vec<&str> = shown.lines().skip(4).collect();
        let trouble = "! signal-timeline-collector is in a crash loop: sqlite3.OperationalError: datab…";
        assert_eq!(below, [trouble, "  `stead why NAME` says more"]);
    }

    #[test]
    fn an_app_that_gave_up_stands_out() {
        let mut view = view(0, "api");
        view.status = Status::Errored;
        let shown = list(&colored(80), NOW, &[view]);
        assert!(shown.contains("\u{1b}[1;31merrored\u{1b}[0m"), "{shown}");
        assert!(shown.contains("api gave up"), "{shown}");
    }

    #[test]
    fn an_app_that_gave_up_for_want_of_memory_says_what_it_needs() {
        let mut view = view(0, "api");
        view.status = Status::Errored;
        let mut last = record("api#16", Cause::MemoryCap, "restarted by stead at its memory cap", 1_000);
        last.next.reason = "needs at least 61M before it has been up for 1 s (min_uptime), cap 50M".into();
        view.last_exit = Some(last);
        let shown = list(&plain(120), NOW, &[view]);
        assert!(
            shown.contains("! api gave up: needs at least 61M before it has been up for 1 s (min_uptime), cap 50M"),
            "{shown}"
        );
    }

    #[test]
    fn caps_above_the_machine_s_memory_are_said() {
        let gib = 1 << 30;
        assert_eq!(caps_and_machine(&[4 * gib, 4 * gib], 8 * gib), None);
        let expected = "the caps of 3 instances are together 9G, and this machine has 8G: its memory may end before any cap is reached";
        assert_eq!(caps_and_machine(&[3 * gib; 3], 8 * gib).as_deref(), Some(expected));
        assert!(
            caps_and_machine(&[u64::MAX, 1], 8 * gib)
                .unwrap()
                .starts_with("the caps of 2 instances are together 16384P")
        );
        assert!(caps_and_machine(&[9 * gib], 8 * gib).unwrap().starts_with("the cap of 1 instance is 9G"));
    }

    #[test]
    fn an_empty_list_says_what_to_do() {
        assert!(list(&plain(80), NOW, &[]).starts_with("no apps yet: `stead start FILE`"));
    }

    #[test]
    fn a_cap_that_nothing_enforces_is_said() {
        let mut view = view(0, "api");
        (view.memory_cap_bytes, view.memory_enforcement) = (Some(1 << 30), Enforcement::None);
        assert!(list(&plain(80), NOW, &[view.clone()]).ends_with("memory caps are not enforced\n"));
        view.memory_enforcement = Enforcement::Polling;
        assert!(list(&plain(80), NOW, &[view]).contains("kept by polling"));
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        let shown = table(&plain(80), NOW, &[view(0, "a\u{1b}[2Jb")]);
        assert!(shown.contains("a^[[2Jb") && !shown.contains('\u{1b}'), "{shown}");
    }
}
