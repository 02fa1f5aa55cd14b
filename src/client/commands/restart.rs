//! `stead restart`: ends what runs and starts it anew; an app that is stopped or gave up is started.

use super::environment;
use crate::client::cli::RestartArgs;
use crate::client::{Context, Outcome};
use crate::core::command::Command;

pub async fn run(context: &Context, args: RestartArgs) -> Outcome {
    let environment = args.update_env.then(environment);
    let command = Command::Restart { targets: args.targets.targets, environment };
    context.change("restart", command, !args.targets.wait.no_wait).await
}
