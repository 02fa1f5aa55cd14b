//! `stead notify test`: whether those who are told when something happens can be reached.

use super::print_json;
use crate::client::cli::{NotifyArgs, NotifyVerb};
use crate::client::render::screen::{self, Style};
use crate::client::render::text;
use crate::client::{Context, Outcome};
use crate::core::command::Refusal;
use crate::core::view::Tried;

pub async fn run(context: &Context, args: &NotifyArgs) -> Outcome {
    let NotifyVerb::Test { json } = args.what;
    let tried: Vec<Tried> = context.daemon.post("/v1/notify/test").await?;
    if json {
        print_json(&context.screen, &tried)?;
    } else if tried.is_empty() {
        return Err(Refusal::failed("nobody is to be told")
            .hint("`notify: [{ webhook: https://… }]` beside `apps` in the ecosystem file, and `stead start` it"));
    } else {
        let shown = &context.screen;
        for one in &tried {
            let (mark, said) = match &one.fault {
                None => (shown.paint(Style::Green, "ok:    "), format!("{} took it in {}", one.notifier, one.took_ms)),
                Some(fault) => (shown.paint(Style::Alarm, "failed:"), format!("{}: {fault}", one.notifier)),
            };
            screen::print(&format!("{mark} {}\n", text::hang(shown, 8, &text::plain(&said))))?;
        }
    }
    Ok(u8::from(tried.iter().any(|one| one.fault.is_some())))
}
