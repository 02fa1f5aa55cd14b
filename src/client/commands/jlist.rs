//! `stead jlist`: the list as PM2 prints it.

use crate::client::cli::JlistArgs;
use crate::client::render::{jlist, screen};
use crate::client::{Context, Outcome};
use crate::core::view::Description;

pub async fn run(context: &Context, args: &JlistArgs) -> Outcome {
    let mut query = vec![("target", "all")];
    if args.show_env {
        query.push(("show_env", "1"));
    }
    let all: Vec<Description> = context.about("/v1/describe", &query).await?;
    screen::print(&format!("{}\n", jlist::array(&all)))?;
    Ok(0)
}
