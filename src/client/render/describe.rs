//! `stead describe`: a page per instance.

use super::list::{percent, status_style};
use super::moment::{ago, local, since};
use super::screen::{Screen, Style};
use super::text;
use crate::core::clock::{Millis, Wall};
use crate::core::spec::{Bytes, KillMode, Spec};
use crate::core::view::{Description, Enforcement, Status};

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
        let value = self.screen.paint(style, text::plain(value.as_ref()));
        self.lines.push_str(&format!("{label} {value}\n"));
    }

    fn part(&mut self, title: &str) {
        self.lines.push_str(&format!("\n{}\n", self.screen.paint(Style::Bold, title)));
    }
}

/// All that is known of an instance.
#[must_use]
pub fn page(screen: &Screen, now: Wall, one: &Description) -> String {
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
    page.line("in the list", format!("since {}", local(one.created_at)));
    page.part("logs");
    logs(&mut page, one);
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
        page.line("left behind", format!("{} processes of its tree", record.left_behind));
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
    }
    if let Some(file) = &spec.pid_file {
        page.line("pid file", file.to_string_lossy());
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
