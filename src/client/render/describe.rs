//! `stead describe`: a page per instance.

use super::chart;
use super::list::{percent, status_style};
use super::moment::{ago, local, since};
use super::screen::{Screen, Style};
use super::text;
use crate::core::clock::{Millis, Wall};
use crate::core::name::AppName;
use crate::core::probe::Answer;
use crate::core::spec::{Bytes, HealthCheck, KillMode, Need, Spec};
use crate::core::view::{Description, Enforcement, HistoryView, Status};

const HOUR: u64 = 3_600_000;

/// Lines of one page, each with its label.
struct Page<'a> {
    screen: &'a Screen,
    lines: String,
}

impl Page<'_> {
    fn line(&mut self, label: &str, value: impl AsRef<str>) {
        self.painted(label, Style::Plain, value);
    }

    fn painted(&mut self, label: &str, style: Style, value: impl AsRef<str>) {
        let label = self.screen.paint(Style::Dim, format!("  {label:<15}"));
        let value = text::hang(self.screen, 18, &text::plain(value.as_ref()));
        let value = self.screen.paint(style, value);
        self.lines.push_str(&format!("{label} {value}\n"));
    }

    fn part(&mut self, title: &str) {
        self.lines.push_str(&format!("\n{}\n", self.screen.paint(Style::Bold, title)));
    }
}

/// All that is known of an instance.
#[must_use]
pub fn page(screen: &Screen, now: Wall, one: &Description, history: Option<&HistoryView>) -> String {
    let view = &one.view;
    let title = screen.paint(Style::Bold, text::plain(&view.name));
    let status = screen.paint(status_style(view), status(one));
    let mut page = Page { screen, lines: format!("{title}  {status}\n") };
    state(&mut page, now, one);
    page.part("how it ended last");
    last_end(&mut page, now, one);
    page.part("what it is");
    spec(&mut page, &one.spec);
    page.line("id", view.id.0.to_string());
    page.line("added", ago(now, one.created_at));
    if let Some(check) = &one.spec.readiness.health_check {
        page.part("health check");
        health(&mut page, now, check, &one.answers);
    }
    page.part("logs");
    logs(&mut page, one);
    let oldest = history.and_then(|history| history.readings.first()).map_or(now, |reading| reading.at);
    for (title, span, from) in [("last hour", HOUR, 0), ("last day", 24 * HOUR, HOUR)] {
        if since(now, oldest).0 < from {
            continue;
        }
        if let Some(chart) = history.and_then(|history| chart::memory(screen, now, Millis(span), history)) {
            page.part(&format!("memory, {title}"));
            page.lines.push_str(&chart);
        }
    }
    if !one.spec.env.is_empty() {
        page.part("environment (of the file)");
        for (name, value) in &one.spec.env {
            page.lines.push_str(&format!("  {}={}\n", text::plain(name), text::plain(value)));
        }
    }
    if one.tree.len() > 1 {
        page.part("processes");
        processes(&mut page, one);
    }
    page.lines
}

fn status(one: &Description) -> String {
    let loops = if one.view.crash_loop { ", crash loop" } else { "" };
    format!("{}{loops}", one.view.status.word())
}

fn state(page: &mut Page<'_>, now: Wall, one: &Description) {
    let view = &one.view;
    if let (Some(run), Some(pid)) = (&one.run, view.pid) {
        page.line("run", format!("{run}, pid {pid}"));
    }
    if let (Some(uptime), Some(started)) = (view.uptime_ms, one.started_at) {
        page.line("uptime", format!("{uptime}, since {}", local(started)));
    }
    if let Some(at) = view.next_start_at {
        page.painted("next start", Style::Yellow, format!("in {}, at {}", since(at, now), local(at)));
    }
    if let Some(note) = &one.note {
        let style = if view.status == Status::Errored { Style::Red } else { Style::Plain };
        page.painted("because", style, note);
    }
    if let Some(why) = &one.view.watch_trouble {
        page.painted("not all watched", Style::Alarm, format!("changes may go unnoticed: {why}"));
    }
    page.line("restarts", format!("{}, {} of them unplanned", view.restarts, view.restarts_unplanned));
    if let Some(used) = view.memory_bytes {
        page.line("memory", format!("{}{}", Bytes(used), cap(view.memory_cap_bytes, view.memory_enforcement)));
    } else if view.memory_cap_bytes.is_some() {
        page.line("memory", format!("none{}", cap(view.memory_cap_bytes, view.memory_enforcement)));
    }
    if let (Some(cpu), Some(processes)) = (view.cpu_percent, view.processes) {
        page.line("cpu", format!("{} of one core", percent(cpu)));
        page.line("processes", processes.to_string());
    }
}

fn cap(cap: Option<u64>, enforcement: Enforcement) -> String {
    let how = match enforcement {
        Enforcement::Cgroup2 | Enforcement::Cgroup1 => "kept by the kernel",
        Enforcement::Polling => "kept by polling",
        Enforcement::None => "not enforced",
    };
    cap.map_or(String::new(), |cap| format!(" of {} ({how})", Bytes(cap)))
}

fn last_end(page: &mut Page<'_>, now: Wall, one: &Description) {
    let Some(record) = &one.view.last_exit else {
        page.lines.push_str("  no run of it has ended\n");
        return;
    };
    let style = if record.planned { Style::Plain } else { Style::Red };
    page.painted("cause", style, format!("{}: {}", record.cause.word(), record.summary));
    page.line("run", &record.run);
    page.line("ended", ago(now, record.ended_at));
    page.line("then", &record.next.reason);
    if record.left_behind > 0 {
        page.line("left behind", left_behind(record.left_behind));
    }
    page.line("all ends", format!("`stead why {}`", one.view.name));
}

fn spec(page: &mut Page<'_>, spec: &Spec) {
    page.line(
        "command",
        shlex::try_join(spec.command.iter().map(String::as_str)).unwrap_or_else(|_| spec.command.join(" ")),
    );
    page.line("cwd", spec.cwd.to_string_lossy());
    page.line("namespace", &spec.namespace);
    if let Some(identity) = &spec.identity {
        page.line("user", format!("{} ({}:{})", identity.user, identity.uid, identity.gid));
    }
    if let Some(count) = spec.instances {
        page.line("instances", format!("{count} in the file, number in {}", spec.instance_var));
    }
    if !spec.depends_on.is_empty() {
        page.line("depends on", spec.depends_on.iter().map(dependency).collect::<Vec<_>>().join(", "));
    }
    page.line("restart policy", policy(spec));
    let stop = &spec.stop;
    let whom = match stop.kill_mode {
        KillMode::Tree => "all its processes",
        KillMode::Mixed => "its main process",
        KillMode::Main => "its main process only",
    };
    page.line("stopped by", format!("{} to {whom}, SIGKILL after {}", stop.kill_signal, stop.kill_timeout));
    if !spec.listen.is_empty() {
        let listen: Vec<String> = spec.listen.iter().map(ToString::to_string).collect();
        page.line("listens on", listen.join(", "));
        let reload = &spec.reload;
        let how =
            format!("beside the old run, which gets {} and {} to end", reload.reload_signal, reload.reload_timeout);
        page.line("reloaded", how);
    }
    if let Some(watch) = &spec.watch {
        let shown = |path: &std::path::PathBuf| match path.strip_prefix(&spec.cwd) {
            Ok(inside) if !inside.as_os_str().is_empty() => inside.to_string_lossy().into_owned(),
            _ => path.to_string_lossy().into_owned(),
        };
        let paths: Vec<String> = watch.paths.iter().map(shown).collect();
        let but = if watch.ignore.is_empty() { String::new() } else { format!(" but {}", watch.ignore.join(", ")) };
        page.line("watches", format!("{}{but}; restarts {} after a change", paths.join(", "), watch.delay));
    }
    if let Some(file) = &spec.pid_file {
        page.line("pid file", file.to_string_lossy());
    }
}

fn health(page: &mut Page<'_>, now: Wall, check: &HealthCheck, answers: &[Answer]) {
    let HealthCheck { probe, interval, timeout, retries, start_period } = check;
    page.line("asks", format!("{probe} every {interval}, and waits {timeout} for the answer"));
    let failures = if *retries == 1 { "failure".into() } else { format!("{retries} failures in a row") };
    let start = match start_period {
        Millis(0) => String::new(),
        period => format!("; those in its first {period} do not count"),
    };
    page.line("restarts after", format!("{failures}{start}"));
    for answer in answers.iter().rev() {
        let style = if answer.ok { Style::Plain } else { Style::Red };
        page.painted(&format!("{} ago", since(now, answer.at)), style, format!("{} ({})", answer.said, answer.took_ms));
    }
    if answers.is_empty() {
        page.line("answers", "none yet");
    }
}

fn dependency((app, need): (&AppName, &Need)) -> String {
    match need {
        Need::Started => app.to_string(),
        Need::Healthy => format!("{app} (healthy)"),
        Need::Done => format!("{app} (done)"),
    }
}

fn policy(spec: &Spec) -> String {
    let policy = &spec.policy;
    if !policy.autorestart {
        return "none: it may end".into();
    }
    let delay = match (policy.exp_backoff_restart_delay, policy.restart_delay) {
        (Some(first), _) => format!("after {first} and more each time"),
        (None, Millis(0)) => "at once".to_owned(),
        (None, delay) => format!("after {delay}"),
    };
    let mut text = format!("{delay}; gives up after {} runs shorter than {}", policy.max_restarts, policy.min_uptime);
    if !policy.stop_exit_codes.is_empty() {
        let codes: Vec<String> = policy.stop_exit_codes.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; not after exit code {}", codes.join(", ")));
    }
    text
}

fn logs(page: &mut Page<'_>, one: &Description) {
    for (label, file) in [("out", &one.out_file), ("error", &one.error_file), ("both", &one.log_file)] {
        if let Some(file) = file {
            page.line(label, file.to_string_lossy());
        }
    }
    if one.spec.logs.disabled {
        page.lines.push_str("  disabled\n");
    }
    if one.log_bytes_lost > 0 {
        let lost = format!("{}: the files could not be written", Bytes(one.log_bytes_lost));
        page.painted("lost", Style::Alarm, lost);
    }
}

/// Processes that outlived the main one.
#[must_use]
pub fn left_behind(count: u32) -> String {
    if count == 1 { "1 process of its tree".into() } else { format!("{count} processes of its tree") }
}

/// The tree, children below their parents.
fn processes(page: &mut Page<'_>, one: &Description) {
    let known = |pid| one.tree.iter().any(|process| process.pid == pid);
    let mut stack: Vec<(usize, i32)> =
        one.tree.iter().rev().filter(|process| !known(process.ppid)).map(|process| (0, process.pid)).collect();
    while let Some((depth, pid)) = stack.pop() {
        if let Some(process) = one.tree.iter().find(|process| process.pid == pid) {
            let memory = process.memory_bytes.map_or("-".into(), |bytes| Bytes(bytes).to_string());
            let line = format!("  {pid:>8} {memory:>6}  {:1$}{2}", "", 2 * depth, text::plain(&process.command));
            page.lines.push_str(&text::fit(&line, page.screen.width));
            page.lines.push('\n');
        }
        let below = one.tree.iter().rev().filter(|child| child.ppid == pid && child.pid != pid);
        stack.extend(below.map(|child| (depth + 1, child.pid)));
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::list::tests::{NOW, record, view};
    use super::super::screen::tests::{colored, plain};
    use super::*;
    use crate::core::record::Cause;
    use crate::core::spec::Probe;
    use crate::core::view::ProcessView;

    /// All about an app that is well.
    pub fn description(name: &str) -> Description {
        Description {
            view: view(0, name),
            run: Some(format!("{name}#3")),
            started_at: Some(Wall(NOW.0 - 183_000_000)),
            created_at: Wall(NOW.0 - 500_000_000),
            spec: Spec {
                script: "./app.py".into(),
                command: vec!["/usr/bin/python3".into(), "/srv/app.py".into(), "two words".into()],
                cwd: "/srv".into(),
                ..Spec::plain(AppName::parse(name).unwrap())
            },
            out_file: Some("/home/logs/web.out.log".into()),
            error_file: Some("/home/logs/web.err.log".into()),
            log_file: None,
            log_bytes_lost: 0,
            tree: Vec::new(),
            note: None,
            answers: Vec::new(),
        }
    }

    /// The lines whose labels these are.
    fn lines(page: &str, labels: &[&str]) -> Vec<String> {
        let labelled = |line: &&str| labels.iter().any(|label| line.trim_start().starts_with(label));
        page.lines().filter(labelled).map(str::to_owned).collect()
    }

    #[test]
    fn a_page_says_what_is_and_what_it_is() {
        let shown = page(&plain(80), NOW, &description("web"), None);
        assert!(
            shown.starts_with("web  online\n  run             web#3, pid 4000\n  uptime          2d 2h, since "),
            "{shown}"
        );
        let expected = [
            "  restarts        0, 0 of them unplanned",
            "  memory          84M",
            "  command         /usr/bin/python3 /srv/app.py 'two words'",
            "  restart policy  at once; gives up after 16 runs shorter than 1 s",
            "  stopped by      SIGINT to all its processes, SIGKILL after 1.6 s",
        ];
        assert_eq!(lines(&shown, &["restart", "memory", "command", "stopped by"]), expected);
        assert!(shown.contains("\n  no run of it has ended\n"), "{shown}");
    }

    #[test]
    fn who_gave_up_says_why() {
        let mut one = description("web");
        one.view.status = Status::Errored;
        one.view.last_exit = Some(record("web#2", Cause::ExitCode, "exited with code 1 after 80 ms", 1_000));
        one.note = Some("16 ends below min_uptime 1 s".into());
        let shown = page(&plain(80), NOW, &one, None);
        let expected = [
            "  because         16 ends below min_uptime 1 s",
            "  cause           exit-code: exited with code 1 after 80 ms",
        ];
        assert_eq!(lines(&shown, &["because", "cause"]), expected);
        assert!(
            page(&colored(80), NOW, &one, None).starts_with("\u{1b}[1mweb\u{1b}[0m  \u{1b}[1;31merrored\u{1b}[0m\n")
        );
    }

    #[test]
    fn what_it_needs_and_how_it_answers_is_shown() {
        let mut one = description("web");
        let name = |text: &str| AppName::parse(text).unwrap();
        one.spec.depends_on = [(name("db"), Need::Healthy), (name("queue"), Need::Started)].into();
        one.spec.readiness.health_check = Some(HealthCheck {
            probe: Probe::Http("http://127.0.0.1:5000/health".into()),
            interval: Millis(30_000),
            timeout: Millis(5_000),
            retries: 3,
            start_period: Millis(0),
        });
        let answer = |ago, ok, said: &str| Answer { at: Wall(NOW.0 - ago), ok, said: said.into(), took_ms: Millis(3) };
        one.answers = vec![answer(42_000, true, "HTTP 200 OK"), answer(12_000, false, "HTTP 503 Service Unavailable")];
        let shown = page(&plain(80), NOW, &one, None);
        assert_eq!(lines(&shown, &["depends on"]), ["  depends on      db (healthy), queue"]);
        let health: Vec<&str> = shown.lines().skip_while(|line| *line != "health check").take(5).collect();
        let expected = [
            "health check",
            "  asks            http://127.0.0.1:5000/health every 30 s, and waits 5 s for the answer",
            "  restarts after  3 failures in a row",
            "  12 s ago        HTTP 503 Service Unavailable (3 ms)",
            "  42 s ago        HTTP 200 OK (3 ms)",
        ];
        assert_eq!(health, expected);
    }

    #[test]
    fn a_tree_is_indented_and_cut_at_the_edge() {
        let mut one = description("web");
        let process =
            |pid, ppid, command: &str| ProcessView { pid, ppid, memory_bytes: Some(2 << 20), command: command.into() };
        one.tree = vec![
            process(10, 1, "gunicorn: master"),
            process(11, 10, "gunicorn: \u{1b}[2Jworker"),
            process(12, 10, &"x".repeat(99)),
        ];
        let shown = page(&plain(40), NOW, &one, None);
        let tree: Vec<&str> = shown.lines().skip_while(|line| *line != "processes").collect();
        let expected = [
            "processes",
            "        10     2M  gunicorn: master",
            "        11     2M    gunicorn: ^[[2Jwor…",
            "        12     2M    xxxxxxxxxxxxxxxxxx…",
        ];
        assert_eq!(tree, expected);
    }
}
