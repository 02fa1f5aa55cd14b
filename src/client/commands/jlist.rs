//! `stead jlist`: the list as PM2 prints it.

use crate::client::render::{jlist, screen};
use crate::client::{Context, Outcome};
use crate::core::view::Description;

pub async fn run(context: &Context) -> Outcome {
    let all: Vec<Description> = context.about("/v1/describe", &[("target", "all"), ("show_env", "1")]).await?;
    screen::print(&format!("{}\n", jlist::array(&all)))?;
    Ok(0)
}
