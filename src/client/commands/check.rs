//! `stead check`: reads an ecosystem file and says all that is wrong with it. It asks no daemon.

use super::{caps, start};
use crate::client::cli::CheckArgs;
use crate::client::render::{screen, text};
use crate::client::{Context, Outcome};

pub fn run(context: &Context, args: &CheckArgs) -> Outcome {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => start::default_file()?,
    };
    match start::ecosystem(&file, args.env.as_deref()) {
        Err(problems) => {
            start::complain(context, &problems);
            Ok(2)
        }
        Ok(ecosystem) => {
            start::tell(context, &ecosystem.warnings);
            let capped = caps::of_specs(&ecosystem.specs);
            if let Some(warning) = caps::warning(&capped) {
                screen::warn(&context.errors, &warning);
            }
            let names: Vec<&str> = ecosystem.specs.iter().map(|spec| spec.name.as_str()).collect();
            let apps = if names.len() == 1 { "1 app".to_owned() } else { format!("{} apps", names.len()) };
            let said = format!("{} is good: {apps}: {}", file.display(), names.join(", "));
            let mut lines = text::wrap(&text::plain(&said), context.screen.width);
            if !capped.is_empty() {
                lines.extend(text::wrap(caps::WHOLE_TREE, context.screen.width));
            }
            screen::print(&(lines.join("\n") + "\n"))?;
            Ok(0)
        }
    }
}
