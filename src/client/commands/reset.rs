//! `stead reset`: counters back to zero; an app that gave up is started again.

use crate::client::cli::ResetArgs;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: ResetArgs) -> Outcome {
    context.change("reset", Command::Reset { targets: args.targets }, true).await
}
