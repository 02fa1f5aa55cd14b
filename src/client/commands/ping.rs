//! `stead ping`: does it run? It starts nothing.

use super::print_json;
use crate::client::cli::PingArgs;
use crate::client::connect::Daemon;
use crate::client::render::screen;
use crate::client::{Context, Outcome};
use crate::core::view::Pong;

pub async fn run(context: &Context, args: &PingArgs) -> Outcome {
    let daemon = Daemon { home: context.daemon.home.clone(), starts: false };
    let pong: Pong = daemon.view("/v1/ping").await?;
    if args.json {
        return print_json(&context.screen, &pong);
    }
    let starts = match pong.daemon_starts {
        0 | 1 => String::new(),
        starts => format!(", started {starts} times"),
    };
    screen::print(&format!(
        "stead {} runs (protocol {}): keeper {}, daemon {}{starts}; home {}\n",
        pong.version,
        pong.protocol,
        pong.keeper_pid,
        pong.daemon_pid,
        daemon.home.path.display()
    ))?;
    Ok(0)
}
