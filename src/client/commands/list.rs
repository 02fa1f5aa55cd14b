//! `stead list`: all apps at a glance.

use super::print_json;
use crate::client::cli::ListArgs;
use crate::client::render::{list, screen};
use crate::client::{Context, Outcome};
use crate::core::view::InstanceView;
use crate::os::clock;

pub async fn run(context: &Context, args: &ListArgs) -> Outcome {
    let views: Vec<InstanceView> = context.daemon.view("/v1/list").await?;
    if args.json {
        return print_json(&context.screen, &views);
    }
    screen::print(&list::list(&context.screen.of_tables(), clock::now().wall, &views))?;
    context.tell_troubles(&views).await
}
