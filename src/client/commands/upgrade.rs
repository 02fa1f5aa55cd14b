//! `stead upgrade`: another binary in the place of the running stead.

use crate::client::cli::UpgradeArgs;
use crate::client::connect::Daemon;
use crate::client::home::reason;
use crate::client::render::screen;
use crate::client::{Context, Outcome};
use crate::core::command::Refusal;
use crate::core::upgrade::{Order, Report, State};
use crate::core::view::Pong;
use crate::os::{clock, process};
use std::path::{Path, PathBuf};

pub async fn run(context: &Context, args: UpgradeArgs) -> Outcome {
    let daemon = Daemon { home: context.daemon.home.clone(), starts: false };
    let binary = match args.binary {
        Some(path) => std::path::absolute(path).map_err(|error| failed(&error))?,
        None => own().map_err(|error| failed(&error))?,
    };
    let before: Pong = daemon.view("/v1/ping").await?;
    let id = format!("{}-{}", process::pid(), clock::now().wall.0);
    let Report { from, to, state, .. } = daemon.upgrade(&Order { id, binary: binary.clone() }).await?;
    if let State::Failed { reason } = state {
        let log = daemon.home.path.join("stead.log");
        let hint = match to {
            None => format!("nothing has changed: stead {from} goes on"),
            Some(_) => format!("{} may say more", log.display()),
        };
        return Err(Refusal::failed(format!("not upgraded: {}: {reason}", binary.display())).hint(hint));
    }
    let after: Pong = daemon.view("/v1/ping").await?;
    screen::print(&format!(
        "stead {from} → {}: keeper {} is the same process, daemon {} → {}; no app was touched\n",
        to.unwrap_or(after.version),
        after.keeper_pid,
        before.daemon_pid,
        after.daemon_pid
    ))?;
    Ok(0)
}

fn failed(error: &std::io::Error) -> Refusal {
    Refusal::failed(format!("could not find the new binary: {}", reason(error)))
}

/// Our own binary; where it was replaced since we began, what stands in its place.
fn own() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let shown = path.to_string_lossy();
    let replaced = shown.strip_suffix(" (deleted)").map(Path::new).filter(|new| !path.exists() && new.exists());
    Ok(replaced.map_or_else(|| path.clone(), Path::to_owned))
}
