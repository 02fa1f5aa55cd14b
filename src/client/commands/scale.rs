//! `stead scale`: another number of instances.

use super::usage;
use crate::client::cli::ScaleArgs;
use crate::client::{Context, Outcome};
use crate::core::command::{Command, Refusal};
use crate::core::view::InstanceView;

pub async fn run(context: &Context, args: ScaleArgs) -> Outcome {
    let count = match parse(&args.count)? {
        Wanted::Exactly(count) => count,
        Wanted::More(more) => {
            let views: Vec<InstanceView> = context.daemon.view("/v1/list").await?;
            let present = views.iter().filter(|view| view.app == args.app).count() as i64;
            u32::try_from(present + more).unwrap_or(0)
        }
    };
    context.change("scale", Command::Scale { app: args.app, count }, !args.wait.no_wait).await
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(u32),
    More(i64),
}

fn parse(text: &str) -> Result<Wanted, Refusal> {
    let number = text.parse::<i32>().map_err(|_| usage(format!("`{text}` is no number of instances (3, +1, -1)")))?;
    Ok(match u32::try_from(number) {
        Ok(count) if !text.starts_with('+') => Wanted::Exactly(count),
        _ => Wanted::More(number.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_means_more_or_fewer() {
        assert_eq!(parse("3"), Ok(Wanted::Exactly(3)));
        assert_eq!(parse("+2"), Ok(Wanted::More(2)));
        assert_eq!(parse("-1"), Ok(Wanted::More(-1)));
        assert!(parse("max").is_err());
        assert!(parse("99999999999").is_err());
    }
}
