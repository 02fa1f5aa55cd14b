//! `stead save`: keeps the list for `resurrect`.

use super::Fleet;
use crate::client::cli::SaveArgs;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: &SaveArgs) -> Outcome {
    let reply = context.ask(Command::Save { force: args.force }, true).await?;
    context.report("save", &reply, Fleet::Left).await
}
