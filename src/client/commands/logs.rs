//! `stead logs`.
use crate::client::cli::LogsArgs;
use crate::client::{Context, Outcome};
pub async fn run(_context: &Context, _args: &LogsArgs) -> Outcome {
    Ok(0)
}
