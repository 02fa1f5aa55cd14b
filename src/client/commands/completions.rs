//! `stead completions`: a script that makes a shell complete verbs and flags.

use crate::client::Outcome;
use crate::client::cli::{Cli, CompletionsArgs};
use crate::client::render::screen;

pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::definition(), "stead", &mut script);
    screen::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
