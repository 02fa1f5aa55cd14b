//! `stead describe`: a page per instance.

use super::print_json;
use crate::client::cli::DescribeArgs;
use crate::client::render::{describe, screen};
use crate::client::{Context, Outcome};
use crate::core::view::{Description, HistoryView};
use crate::os::clock;

pub async fn run(context: &Context, args: &DescribeArgs) -> Outcome {
    let mut query = vec![("target", args.target.as_str())];
    if args.show_env {
        query.push(("show_env", "1"));
    }
    let all: Vec<Description> = context.about("/v1/describe", &query).await?;
    if args.json {
        return print_json(&context.screen, &all);
    }
    let histories: Vec<HistoryView> = context.about("/v1/history", &[("target", &args.target)]).await?;
    let now = clock::now().wall;
    let history = |name: &str| histories.iter().find(|history| history.name == name);
    let pages: Vec<String> =
        all.iter().map(|one| describe::page(&context.screen, now, one, history(&one.view.name))).collect();
    screen::print(&pages.join("\n"))?;
    context.tell_troubles(all.iter().map(|one| &one.view)).await
}
