//! `stead resurrect`: starts what `save` kept.

use crate::client::cli::NoWait;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, wait: NoWait) -> Outcome {
    context.change("resurrect", Command::Resurrect, !wait.no_wait).await
}
