//! `stead delete`: ends what runs and forgets it.

use crate::client::cli::Targets;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: Targets) -> Outcome {
    context.change("delete", Command::Delete { targets: args.targets }, !args.wait.no_wait).await
}
