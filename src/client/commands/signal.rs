//! `stead signal`: a signal to the main process.

use super::{Fleet, usage};
use crate::client::cli::SignalArgs;
use crate::client::{Context, Outcome};
use crate::core::command::Command;
use crate::core::spec::Signal;

pub async fn run(context: &Context, args: SignalArgs) -> Outcome {
    let signal = Signal::parse(&args.signal).map_err(usage)?;
    let reply = context.ask(Command::Signal { signal, targets: args.targets }, true).await?;
    context.report("signal", &reply, Fleet::Left).await
}
