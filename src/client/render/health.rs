//! `stead health`: one line where all is well; else what is not, the worst first, each with what to do.

use super::moment::since;
use super::screen::{Screen, Style};
use super::text;
use crate::core::clock::Wall;
use crate::core::health::{AppHealth, Finding, Health, Host, Verdict};
use crate::core::spec::Bytes;
use crate::core::view::Enforcement;

/// Of the verdict's column.
const MARGIN: usize = 10;

#[must_use]
pub fn page(screen: &Screen, now: Wall, health: &Health) -> String {
    let (well, ill): (Vec<&AppHealth>, Vec<&AppHealth>) =
        health.apps.iter().partition(|one| one.verdict == Verdict::Ok);
    if health.verdict == Verdict::Ok {
        return ok(screen, health);
    }
    let mut lines = String::new();
    for one in ill {
        let reason = one.reason.as_deref().unwrap_or_default();
        lines.push_str(&item(screen, one.verdict, &one.name, reason, one.advice.as_deref()));
    }
    let findings = |of: &str, findings: &[Finding]| -> String {
        let one = |finding: &Finding| {
            let area = if of.is_empty() { finding.area.clone() } else { format!("{of}: {}", finding.area) };
            item(screen, finding.verdict, &area, &finding.reason, finding.advice.as_deref())
        };
        findings.iter().map(one).collect()
    };
    lines.push_str(&findings("", &health.host.findings));
    lines.push_str(&findings("stead", &health.stead.findings));
    if !well.is_empty() {
        let names: Vec<&str> = well.iter().map(|one| one.name.as_str()).collect();
        let said = text::hang(screen, MARGIN, &text::plain(&names.join(", ")));
        lines.push_str(&format!("{} {said}\n", label(screen, Verdict::Ok)));
    }
    let machine = text::hang(screen, MARGIN, &machine(now, &health.host));
    lines.push_str(&format!("{} {machine}\n", screen.paint(Style::Dim, format!("{:<1$}", "machine", MARGIN - 1))));
    lines
}

fn ok(screen: &Screen, health: &Health) -> String {
    let apps = match health.apps.len() {
        0 => "no apps".to_owned(),
        1 => "1 app is well".to_owned(),
        count => format!("{count} apps are well"),
    };
    let caps = match health.stead.memory_enforcement {
        Enforcement::Cgroup1 | Enforcement::Cgroup2 => "; caps are kept by the kernel",
        Enforcement::Polling | Enforcement::None => "",
    };
    let said = format!("{apps}; {}{caps}", shares(&health.host));
    format!("{} {}\n", screen.paint(Style::Green, "ok:"), text::hang(screen, 4, &said))
}

fn item(screen: &Screen, verdict: Verdict, name: &str, reason: &str, advice: Option<&str>) -> String {
    let name = text::plain(name);
    let said = text::hang(screen, MARGIN, &text::plain(&format!("{name}: {reason}")));
    // The first line begins with the name.
    let said = said.replacen(&*name, &screen.paint(Style::Bold, &name), 1);
    let advice = advice.map(|advice| {
        let said = text::hang(screen, MARGIN + 2, &text::plain(advice));
        format!("{:1$}{2}\n", "", MARGIN, screen.paint(Style::Dim, format!("→ {said}")))
    });
    format!("{} {said}\n{}", label(screen, verdict), advice.unwrap_or_default())
}

fn label(screen: &Screen, verdict: Verdict) -> String {
    let style = match verdict {
        Verdict::Ok => Style::Green,
        Verdict::Unknown | Verdict::Warning => Style::Yellow,
        Verdict::Critical => Style::Alarm,
    };
    screen.paint(style, format!("{:<1$}", verdict.word(), MARGIN - 1))
}

/// `memory 37% of 8G, swap 0% of 2G, disk 40% of 100G`.
#[must_use]
pub fn shares(host: &Host) -> String {
    let share =
        |used: u64, total: u64| format!("{:.0}% of {}", used as f64 / total.max(1) as f64 * 100.0, Bytes(total));
    let mut parts = Vec::new();
    if let (Some(total), Some(available)) = (host.memory_total_bytes, host.memory_available_bytes) {
        parts.push(format!("memory {}", share(total.saturating_sub(available), total)));
    }
    if let (Some(total @ 1..), Some(free)) = (host.swap_total_bytes, host.swap_free_bytes) {
        parts.push(format!("swap {}", share(total.saturating_sub(free), total)));
    }
    for disk in &host.disks {
        parts.push(format!("disk {}", share(disk.total_bytes.saturating_sub(disk.available_bytes), disk.total_bytes)));
    }
    parts.join(", ")
}

fn machine(now: Wall, host: &Host) -> String {
    let mut parts = vec![shares(host)];
    if host.caps_bytes > 0 {
        parts.push(format!("caps {} in all", Bytes(host.caps_bytes)));
    }
    if let Some(load) = host.load {
        parts.push(format!("load {load:.1} on {} cpus", host.cpus));
    }
    if let Some(pressure) = host.pressure.memory.filter(|share| *share >= 1.0) {
        parts.push(format!("memory pressure {pressure:.0}%"));
    }
    if let Some(last) = host.oom_kills.last() {
        let ago = last.at.map_or(String::new(), |at| format!(", {} ago", since(now, at)));
        let size = last.bytes.map_or(String::new(), |bytes| format!(" with {}", Bytes(bytes)));
        parts.push(format!(
            "{} OOM kills since boot, last `{}`{size}{ago}",
            host.oom_kills.len(),
            text::plain(&last.name)
        ));
    }
    if let Some(folder) = host.data.first() {
        parts.push(format!("biggest: {} {}", text::plain(&folder.path.display().to_string()), Bytes(folder.bytes)));
    }
    parts.join("; ")
}

#[cfg(test)]
pub mod tests {
    use super::super::screen::tests::plain;
    use super::*;
    use crate::core::health::{Disk, Own};

    pub fn health(apps: Vec<AppHealth>) -> Health {
        let verdict = apps.iter().map(|one| one.verdict).max().unwrap_or_default();
        Health {
            verdict,
            exit: verdict.exit(),
            apps,
            host: Host {
                memory_total_bytes: Some(8 << 30),
                memory_available_bytes: Some(5 << 30),
                swap_total_bytes: Some(0),
                swap_free_bytes: Some(0),
                disks: vec![Disk {
                    path: "/".into(),
                    holds: "logs".into(),
                    total_bytes: 100 << 30,
                    available_bytes: 60 << 30,
                }],
                cpus: 4,
                load: Some(0.52),
                ..Host::default()
            },
            stead: Own {
                verdict: Verdict::Ok,
                findings: Vec::new(),
                version: "0.1.0".into(),
                daemon_pid: 2,
                keeper_pid: 1,
                daemon_starts: 1,
                memory_enforcement: Enforcement::Cgroup2,
            },
        }
    }

    pub fn app(name: &str, verdict: Verdict) -> AppHealth {
        let said = |text: &str| (verdict != Verdict::Ok).then(|| text.to_owned());
        AppHealth {
            name: name.into(),
            verdict,
            reason: said("gave up: 16 ends below min_uptime 1 s; the last one exited with code 1 after 80 ms"),
            advice: said("`stead why api` says why"),
        }
    }

    fn person(width: usize) -> Screen {
        Screen { is_terminal: true, ..plain(width) }
    }

    #[test]
    fn nothing_to_say_is_one_line() {
        let apps = vec![app("a", Verdict::Ok), app("b", Verdict::Ok)];
        let shown = page(&person(80), Wall(0), &health(apps));
        assert_eq!(
            shown,
            "ok: 2 apps are well; memory 38% of 8G, disk 40% of 100G; caps are kept by the\n    kernel\n"
        );
        let wide = page(&plain(120), Wall(0), &health(vec![app("a", Verdict::Ok)]));
        assert_eq!(wide.lines().count(), 1);
    }

    #[test]
    fn the_worst_is_told_with_what_to_do() {
        let apps = vec![app("api", Verdict::Critical), app("web", Verdict::Ok), app("db", Verdict::Ok)];
        let shown = page(&person(80), Wall(0), &health(apps));
        let expected = "\
critical  api: gave up: 16 ends below min_uptime 1 s; the last one exited with
          code 1 after 80 ms
          → `stead why api` says why
ok        web, db
machine   memory 38% of 8G, disk 40% of 100G; load 0.5 on 4 cpus
";
        assert_eq!(shown, expected);
    }
}
