//! `stead why`: what ended the runs of an app.

use super::print_json;
use crate::client::cli::WhyArgs;
use crate::client::render::{screen, why};
use crate::client::{Context, Outcome};
use crate::core::view::WhyView;
use crate::os::clock;

/// Runs that are told one by one where nothing else is said.
const NEWEST: usize = 5;

pub async fn run(context: &Context, args: &WhyArgs) -> Outcome {
    let last = args.last.or((!args.json).then_some(NEWEST)).map(|last| last.to_string());
    let mut query = vec![("target", args.target.as_str())];
    query.extend(last.as_deref().map(|last| ("last", last)));
    let views: Vec<WhyView> = context.about("/v1/why", &query).await?;
    if args.json {
        return match views.as_slice() {
            [one] => print_json(&context.screen, one),
            all => print_json(&context.screen, &all),
        };
    }
    let now = clock::now().wall;
    let pages: Vec<String> = views.iter().map(|view| why::page(&context.screen, now, view)).collect();
    screen::print(&pages.join("\n"))?;
    Ok(0)
}
