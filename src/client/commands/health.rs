//! `stead health`: the whole report. Its exit status is the verdict's: 0 ok, 1 warning, 2 critical, 3 unknown.

use super::print_json;
use crate::client::cli::HealthArgs;
use crate::client::render::{health, report, screen};
use crate::client::{Context, Outcome};
use crate::core::clock::Millis;
use crate::core::health::Health;
use crate::core::view::{HistoryView, InstanceView, WhyView};
use crate::os::clock;
use crate::os::process::{self, Snapshot};

/// Processes of the machine that the full report names.
const BIGGEST: usize = 10;

pub async fn run(context: &Context, args: &HealthArgs) -> Outcome {
    let found: Health = context.daemon.view("/v1/health").await?;
    let now = clock::now().wall;
    if args.json {
        print_json(&context.screen, &found)?;
    } else if args.report {
        let apps: Vec<InstanceView> = context.daemon.view("/v1/list").await?;
        let causes: Vec<WhyView> = context.about("/v1/why", &[("last", "1")]).await?;
        let histories: Vec<HistoryView> = context.daemon.view("/v1/history").await?;
        let facts =
            report::Facts { health: &found, apps: &apps, causes: &causes, histories: &histories, biggest: biggest() };
        screen::print(&report::markdown(now, &facts))?;
    } else {
        screen::print(&health::page(&context.screen, now, &found))?;
    }
    Ok(found.exit)
}

/// The processes of the machine that hold most, whoever's they are.
fn biggest() -> Vec<report::Process> {
    let snapshot = Snapshot::take();
    let mut all: Vec<(u64, i32)> =
        snapshot.all().filter_map(|stat| Some((process::resident(stat.pid)?, stat.pid))).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.truncate(BIGGEST);
    let ticks = process::ticks_per_second().max(1);
    let one = |(memory_bytes, pid)| {
        let stat = snapshot.get(pid)?;
        Some(report::Process {
            pid,
            command: process::command_line(pid).unwrap_or_else(|| stat.comm.clone()),
            memory_bytes,
            cpu: Millis(stat.cpu_ticks * 1000 / ticks),
            state: stat.state,
            // Ours carry the name of their instance.
            app: process::variable(pid, "STEAD_NAME"),
        })
    };
    all.into_iter().filter_map(one).collect()
}
