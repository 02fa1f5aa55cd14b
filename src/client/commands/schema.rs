//! `stead schema`: the form of an ecosystem file, for editors. It asks no daemon.

use crate::client::Outcome;
use crate::client::render::screen;
use crate::config;
use crate::core::command::Refusal;

pub fn run() -> Outcome {
    let text = serde_json::to_string_pretty(&config::schema());
    let text = text.map_err(|error| Refusal::failed(format!("could not write JSON: {error}")))?;
    screen::print(&(text + "\n"))?;
    Ok(0)
}
