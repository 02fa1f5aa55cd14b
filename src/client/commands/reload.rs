//! `stead reload`: a new run beside the old one, where stead holds the sockets.

use crate::client::cli::Targets;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: Targets) -> Outcome {
    context.change("reload", Command::Reload { targets: args.targets }, !args.wait.no_wait).await
}
