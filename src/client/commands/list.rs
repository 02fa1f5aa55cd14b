//! `stead list`: all apps at a glance.

use super::print_json;
use crate::client::cli::ListArgs;
use crate::client::render::{list, screen};
use crate::client::{Context, Outcome};
use crate::core::view::{Enforcement, InstanceView, Pong};
use crate::os::clock;

pub async fn run(context: &Context, args: &ListArgs) -> Outcome {
    let views: Vec<InstanceView> = context.daemon.view("/v1/list").await?;
    if args.json {
        return print_json(&context.screen, &views);
    }
    screen::print(&list::list(&context.screen.of_tables(), clock::now().wall, &views))?;
    if views.iter().any(|view| view.memory_cap_bytes.is_some() && view.memory_enforcement == Enforcement::Polling) {
        let pong: Pong = context.daemon.view("/v1/ping").await?;
        screen::print(&list::remedy(&context.screen, &pong))?;
    }
    Ok(0)
}
