//! `stead flush`: empties log files.

use super::{Fleet, or_all};
use crate::client::cli::FlushArgs;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: FlushArgs) -> Outcome {
    let reply = context.ask(Command::Flush { targets: or_all(args.targets) }, true).await?;
    context.report("flush", &reply, Fleet::Left).await
}
