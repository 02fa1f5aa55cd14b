//! `stead health --report`: the whole report as Markdown, for a ticket, a mail, or a morning's reading.

use super::chart::spark;
use super::health::shares;
use super::moment::{local, since};
use super::text;
use crate::core::clock::{Millis, Wall};
use crate::core::health::{Finding, Health, Verdict};
use crate::core::spec::Bytes;
use crate::core::view::{HistoryView, InstanceView, WhyView};
use std::fmt::Write;

/// What the report is made of.
pub struct Facts<'a> {
    pub health: &'a Health,
    pub apps: &'a [InstanceView],
    pub causes: &'a [WhyView],
    pub histories: &'a [HistoryView],
    /// Of the machine, the biggest first.
    pub biggest: Vec<Process>,
}

/// A process of the machine.
pub struct Process {
    pub pid: i32,
    pub command: String,
    pub memory_bytes: u64,
    pub cpu: Millis,
    pub state: char,
    pub app: Option<String>,
}

/// Of the kernel's kills.
const MOST_KILLS: usize = 20;

const DAY: Millis = Millis(86_400_000);

/// Of the trends' picture.
const SHORTEST: Millis = Millis(300_000);

#[must_use]
pub fn markdown(now: Wall, facts: &Facts<'_>) -> String {
    let mut page = String::new();
    let health = facts.health;
    let _ = write!(page, "# Health of {} apps: {}\n\n{}\n", facts.apps.len(), health.verdict.word(), local(now));
    first(&mut page, health);
    apps(&mut page, facts);
    causes(&mut page, now, facts);
    trends(&mut page, now, facts);
    machine(&mut page, now, facts);
    stead(&mut page, health);
    page
}

fn part(page: &mut String, title: &str) {
    let _ = write!(page, "\n## {title}\n\n");
}

fn table<const N: usize>(page: &mut String, titles: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let _ = write!(page, "| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(N));
    for row in rows {
        // Nothing that others wrote may end a cell or a line.
        let cells = row.map(|cell| text::plain(&cell).replace('|', "\\|"));
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
}

fn first(page: &mut String, health: &Health) {
    part(page, "What to do first");
    let apps = health
        .apps
        .iter()
        .filter(|one| one.verdict != Verdict::Ok)
        .map(|one| (one.verdict, one.name.clone(), one.reason.clone().unwrap_or_default(), one.advice.clone()));
    let of =
        |finding: &Finding| (finding.verdict, finding.area.clone(), finding.reason.clone(), finding.advice.clone());
    let others = health.host.findings.iter().chain(&health.stead.findings).map(of);
    let mut all: Vec<_> = apps.chain(others).collect();
    all.sort_by_key(|item| std::cmp::Reverse(item.0));
    if all.is_empty() {
        page.push_str("Nothing: all is well.\n");
    }
    for (at, (verdict, name, reason, advice)) in all.into_iter().enumerate() {
        let advice = advice.map_or(String::new(), |advice| format!("  \n   {}", text::plain(&advice)));
        let reason = text::plain(&reason).into_owned();
        let _ = writeln!(page, "{}. **{}** ({}): {reason}{advice}", at + 1, text::plain(&name), verdict.word());
    }
}

fn apps(page: &mut String, facts: &Facts<'_>) {
    part(page, "Apps");
    let mut all: Vec<&InstanceView> = facts.apps.iter().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.memory_bytes));
    let bytes = |bytes: Option<u64>| bytes.map_or("-".into(), |bytes| Bytes(bytes).to_string());
    let verdict =
        |name: &str| facts.health.apps.iter().find(|one| one.name == name).map_or("-", |one| one.verdict.word());
    let titles = ["app", "verdict", "state", "memory", "cap", "CPU", "processes", "restarts", "unplanned", "last end"];
    let row = |one: &&InstanceView| {
        [
            one.name.clone(),
            verdict(&one.name).into(),
            one.status.word().into(),
            bytes(one.memory_bytes),
            bytes(one.memory_cap_bytes),
            one.cpu_percent.map_or("-".into(), |percent| format!("{percent:.1}%")),
            one.processes.map_or("-".into(), |count| count.to_string()),
            one.restarts.to_string(),
            one.restarts_unplanned.to_string(),
            one.last_exit.as_ref().map_or("-".into(), |record| record.cause.word().into()),
        ]
    };
    table(page, titles, all.iter().map(row));
}

fn causes(page: &mut String, now: Wall, facts: &Facts<'_>) {
    part(page, "Why runs ended");
    let rows: Vec<[String; 6]> = facts
        .causes
        .iter()
        .flat_map(|app| {
            let row = |cause: &crate::core::record::CauseCount| {
                [
                    app.name.clone(),
                    cause.cause.word().into(),
                    cause.count.to_string(),
                    local(cause.first_at),
                    format!("{} ago", since(now, cause.last_at)),
                    cause.signature.clone().unwrap_or_else(|| "-".into()),
                ]
            };
            app.by_cause.iter().map(row).collect::<Vec<_>>()
        })
        .collect();
    if rows.is_empty() {
        page.push_str("No run has ended.\n");
        return;
    }
    table(page, ["app", "cause", "count", "first", "last", "exception"], rows.into_iter());
    let newest = facts.causes.iter().filter_map(|app| Some((app, app.records.first().filter(|one| !one.planned)?)));
    let newest: Vec<String> =
        newest.map(|(app, one)| format!("- {}, {}: {}", app.name, local(one.ended_at), one.summary)).collect();
    if !newest.is_empty() {
        page.push_str("\nThe newest that nobody asked for:\n\n");
        for line in newest {
            let _ = writeln!(page, "{}", text::plain(&line));
        }
    }
}

fn trends(page: &mut String, now: Wall, facts: &Facts<'_>) {
    let began = facts.histories.iter().filter_map(|history| history.readings.first()).map(|one| one.at).min();
    // A day of which only minutes are known is an empty picture.
    let span = began.map_or(DAY, |began| since(now, began).max(SHORTEST).min(DAY));
    let title = if span == DAY { "day".to_owned() } else { span.to_string() };
    part(page, &format!("Memory over the last {title}"));
    let line = |history: &HistoryView| {
        let drawn = spark(now, span, 48, history)?;
        let highest = history.readings.iter().map(|one| one.memory_bytes).max().unwrap_or(0);
        let cap = history.cap_bytes.map_or(String::new(), |cap| format!(", cap {}", Bytes(cap)));
        Some(format!("{drawn}  {}: at most {}{cap}\n", text::plain(&history.name), Bytes(highest)))
    };
    let lines: Vec<String> = facts.histories.iter().filter_map(line).collect();
    if lines.is_empty() {
        page.push_str("Nothing was noted yet.\n");
        return;
    }
    let _ = write!(page, "```text\n{}```\n", lines.concat());
}

fn machine(page: &mut String, now: Wall, facts: &Facts<'_>) {
    part(page, "The machine");
    let host = &facts.health.host;
    let _ = writeln!(page, "- {}", shares(host));
    let _ = writeln!(page, "- all caps together: {}", Bytes(host.caps_bytes));
    if let Some(load) = host.load {
        let _ = writeln!(page, "- load {load:.2} on {} CPUs", host.cpus);
    }
    let pressure = [("CPU", host.pressure.cpu), ("memory", host.pressure.memory), ("disk", host.pressure.io)];
    let pressure: Vec<String> =
        pressure.iter().filter_map(|(what, share)| Some(format!("{what} {:.1}%", (*share)?))).collect();
    if !pressure.is_empty() {
        let _ = writeln!(page, "- share of the last minute in which something waited: {}", pressure.join(", "));
    }
    if let Some(at) = host.booted_at {
        let _ = writeln!(page, "- up since {}", local(at));
    }
    page.push_str("\nThe biggest processes:\n\n");
    let row = |one: &Process| {
        let command: String = one.command.chars().take(80).collect();
        [
            one.pid.to_string(),
            one.app.clone().unwrap_or_else(|| "-".into()),
            Bytes(one.memory_bytes).to_string(),
            one.cpu.to_string(),
            one.state.to_string(),
            command,
        ]
    };
    table(page, ["pid", "app", "memory", "CPU time", "state", "command"], facts.biggest.iter().map(row));
    if !host.oom_kills.is_empty() {
        page.push_str("\nKilled by the kernel for want of memory, since boot, the newest first:\n\n");
        let rows = host.oom_kills.iter().rev().take(MOST_KILLS).map(|kill| {
            [
                kill.at.map_or("-".into(), local),
                format!("{} ({})", kill.name, kill.pid),
                kill.app.clone().unwrap_or_else(|| "none of ours".into()),
                kill.bytes.map_or("-".into(), |bytes| Bytes(bytes).to_string()),
                if kill.host { "the machine's memory" } else { "its group's limit" }.into(),
            ]
        });
        table(page, ["when", "process", "app", "memory", "what was at its end"], rows);
    }
    if let Some(at) = host.data_measured_at {
        let _ = write!(page, "\nThe biggest below the data folders, as of {} ago:\n\n", since(now, at));
        let row = |folder: &crate::core::health::Folder| {
            let more = if folder.at_least { "more than " } else { "" };
            [folder.path.display().to_string(), format!("{more}{}", Bytes(folder.bytes))]
        };
        table(page, ["folder", "size"], host.data.iter().map(row));
    }
}

fn stead(page: &mut String, health: &Health) {
    part(page, "stead itself");
    let own = &health.stead;
    let _ = writeln!(
        page,
        "Version {}, keeper {}, daemon {} (its start number {}), memory caps: {}.",
        own.version,
        own.keeper_pid,
        own.daemon_pid,
        own.daemon_starts,
        match own.memory_enforcement {
            crate::core::view::Enforcement::Cgroup1 => "by cgroup v1",
            crate::core::view::Enforcement::Cgroup2 => "by cgroup v2",
            crate::core::view::Enforcement::Polling => "by polling",
            crate::core::view::Enforcement::None => "none",
        }
    );
}

#[cfg(test)]
mod tests {
    use super::super::health::tests::{app, health};
    use super::super::list::tests::{NOW, fleet};
    use super::*;

    #[test]
    fn the_report_has_every_part_and_nothing_breaks_its_tables() {
        let found = health(vec![app("api", Verdict::Critical), app("web", Verdict::Ok)]);
        let mut apps = fleet();
        apps[0].name = "a|b\u{1b}[2J".into();
        let facts = Facts {
            health: &found,
            apps: &apps,
            causes: &[],
            histories: &[],
            biggest: vec![Process {
                pid: 7,
                command: "git gc\n| x".into(),
                memory_bytes: 6 << 30,
                cpu: Millis(61_000),
                state: 'R',
                app: None,
            }],
        };
        let page = markdown(NOW, &facts);
        for part in
            ["What to do first", "Apps", "Why runs ended", "Memory over the last day", "The machine", "stead itself"]
        {
            assert!(page.contains(&format!("\n## {part}\n")), "{page}");
        }
        assert!(page.contains("1. **api** (critical): gave up: 16 ends below min_uptime 1 s"), "{page}");
        assert!(page.contains("| 7 | - | 6G | 1m 1s | R | git gc^J\\| x |"), "{page}");
        assert!(page.contains("| a\\|b^[[2J |"), "{page}");
    }
}
