//! One line on the terminal that says how far a command is, for as long as it takes.

use super::connect::Daemon;
use super::render::screen;
use crate::core::command::{Command, Refusal, Reply};
use crate::core::view::{InstanceView, Status};
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::sleep;

/// What takes no longer needs no progress.
const QUIET: Duration = Duration::from_millis(300);

/// Back to the line's beginning, and the rest of it cleared.
const REWRITE: &str = "\r\x1b[K";

/// Which instances a command is about, and where they are to get.
#[derive(Debug)]
pub struct Progress {
    wanted: Status,
    /// Names of apps; `None`: all that are on their way.
    apps: Option<Vec<String>>,
}

impl Progress {
    /// Of the commands that take time; `None` for the others.
    #[must_use]
    pub fn of(command: &Command) -> Option<Progress> {
        let all = |wanted| Some(Progress { wanted, apps: None });
        match command {
            Command::Apply { specs, .. } => {
                let apps = specs.iter().map(|spec| spec.name.to_string()).collect();
                Some(Progress { wanted: Status::Online, apps: Some(apps) })
            }
            Command::Start { .. }
            | Command::Restart { .. }
            | Command::Reload { .. }
            | Command::Scale { .. }
            | Command::Resurrect => all(Status::Online),
            Command::Stop { .. } | Command::Delete { .. } | Command::Kill => all(Status::Stopped),
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
        asking: impl Future<Output = Result<Reply, Refusal>>,
    ) -> Result<Reply, Refusal> {
        if !std::io::stderr().is_terminal() {
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
                screen::note(&format!("{REWRITE}{line}"));
                shown = true;
            }
        };
        if shown {
            screen::note(REWRITE);
        }
        answer
    }

    fn line(&self, views: &[InstanceView]) -> Option<String> {
        let about = |view: &&InstanceView| self.apps.as_ref().is_none_or(|apps| apps.contains(&view.app));
        let all: Vec<&InstanceView> = views.iter().filter(about).collect();
        let count = |status| all.iter().filter(|view| view.status == status).count();
        let rest = match self.wanted {
            Status::Stopped => count(Status::Stopping),
            _ => count(Status::Launching) + count(Status::Stopping),
        };
        let rest = if rest > 0 { format!(", {rest} on their way") } else { String::new() };
        let there = count(self.wanted);
        (!all.is_empty()).then(|| format!("{there} of {} {}{rest} …", all.len(), self.wanted.word()))
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
        let some = Progress { wanted: Status::Online, apps: Some(vec!["a".into(), "b".into()]) };
        assert_eq!(some.line(&views).unwrap(), "1 of 2 online, 1 on their way …");
        let all = Progress { wanted: Status::Stopped, apps: None };
        assert_eq!(all.line(&views).unwrap(), "0 of 3 stopped …");
        assert_eq!(all.line(&[]), None);
    }
}
