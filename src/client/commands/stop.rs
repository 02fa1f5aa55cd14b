//! `stead stop`: ends what runs; the apps stay in the list.

use crate::client::cli::Targets;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: Targets) -> Outcome {
    context.change("stop", Command::Stop { targets: args.targets }, !args.wait.no_wait).await
}
