//! One line on the terminal that says how far a command is, for as long as it takes.

use super::connect::Daemon;
use super::render::screen::{self, Screen};
use super::render::text;
use crate::core::command::{Command, Refusal, Reply};
use crate::core::view::{InstanceView, Status};
use std::future::Future;
use std::time::Duration;
use tokio::time::sleep;

/// What takes no longer needs no progress.
const QUIET: Duration = Duration::from_millis(300);

/// Back to the line's beginning, and the rest of it cleared.
const REWRITE: &str = "\r\x1b[K";

/// Names that are told; more are counted.
const MOST_NAMES: usize = 3;

/// What a command is about.
#[derive(Debug)]
pub struct Progress {
    /// Names of apps; `None`: all that are on their way.
    apps: Option<Vec<String>>,
}

impl Progress {
    /// Of the commands that take time; `None` for the others.
    #[must_use]
    pub fn of(command: &Command) -> Option<Progress> {
        match command {
            Command::Apply { specs, .. } => {
                Some(Progress { apps: Some(specs.iter().map(|spec| spec.name.to_string()).collect()) })
            }
            Command::Start { .. }
            | Command::Restart { .. }
            | Command::Reload { .. }
            | Command::Scale { .. }
            | Command::Resurrect
            | Command::Stop { .. }
            | Command::Delete { .. }
            | Command::Kill => Some(Progress { apps: None }),
            Command::Reset { .. } | Command::Signal { .. } | Command::Flush { .. } | Command::Save { .. } => None,
        }
    }

    /// Awaits the answer, and meanwhile says on standard error how far it is, where that is a terminal.
    ///
    /// # Errors
    /// Those of the answer.
    pub async fn show(
        &self,
        daemon: &Daemon,
        errors: &Screen,
        asking: impl Future<Output = Result<Reply, Refusal>>,
    ) -> Result<Reply, Refusal> {
        if !errors.is_terminal {
            return asking.await;
        }
        tokio::pin!(asking);
        let mut shown = false;
        let answer = loop {
            tokio::select! {
                answer = &mut asking => break answer,
                () = sleep(QUIET) => {}
            }
            let line = tokio::select! {
                answer = &mut asking => break answer,
                views = daemon.view::<Vec<InstanceView>>("/v1/list") => views.ok().and_then(|views| self.line(&views)),
            };
            if let Some(line) = line {
                // Cut, for a line that wraps cannot be rewritten.
                let line = text::fit(&line, errors.width.saturating_sub(1));
                screen::note(&format!("{REWRITE}{line}"));
                shown = true;
            }
        };
        if shown {
            screen::note(REWRITE);
        }
        answer
    }

    /// `7 of 11 online, launching a, b …`; `stopping a, b, c and 4 more …`.
    fn line(&self, views: &[InstanceView]) -> Option<String> {
        let about = |view: &&InstanceView| self.apps.as_ref().is_none_or(|apps| apps.contains(&view.app));
        let all: Vec<&InstanceView> = views.iter().filter(about).collect();
        let mut parts = Vec::new();
        if self.apps.is_some() && !all.is_empty() {
            let online = all.iter().filter(|view| view.status == Status::Online).count();
            parts.push(format!("{online} of {} online", all.len()));
        }
        for status in [Status::Stopping, Status::Launching] {
            let names: Vec<_> =
                all.iter().filter(|view| view.status == status).map(|view| text::plain(&view.name)).collect();
            let more = names.len().saturating_sub(MOST_NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            if !names.is_empty() {
                let told = names[..names.len().min(MOST_NAMES)].join(", ");
                parts.push(format!("{} {told}{more}", status.word()));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", ") + " …")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::render::list::tests::view;

    #[test]
    fn the_line_counts_what_the_command_is_about() {
        let mut views = vec![view(0, "a"), view(1, "b"), view(2, "other")];
        views[1].status = Status::Launching;
        views[2].status = Status::Stopping;
        let some = Progress { apps: Some(vec!["a".into(), "b".into()]) };
        assert_eq!(some.line(&views).unwrap(), "1 of 2 online, launching b …");
        let all = Progress { apps: None };
        assert_eq!(all.line(&views).unwrap(), "stopping other, launching b …");
        assert_eq!(all.line(&views[..1]), None);
        let many: Vec<InstanceView> =
            (0..5).map(|id| InstanceView { status: Status::Stopping, ..view(id, &format!("w{id}")) }).collect();
        assert_eq!(all.line(&many).unwrap(), "stopping w0, w1, w2 and 2 more …");
    }
}
