//! An upgrade as the daemon sees it: it opens the new binary, the keeper does the rest, and the next daemon says what came of it.

use super::journal::Journal;
use super::link::Envelope;
use super::perform::{Daemon, json};
use super::server::Answer;
use super::store::Store;
use crate::core::command::Refusal;
use crate::core::name::RunId;
use crate::core::record::Actor;
use crate::core::upgrade::{Order, Report, State};
use crate::keeper::message::FromDaemon;
use crate::os::{file, reason};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use tokio::sync::oneshot;

/// What is known of upgrades.
#[derive(Debug, Default)]
pub struct Upgrades {
    /// The last one.
    report: Option<Report>,
    waiting: Vec<(String, oneshot::Sender<Answer>)>,
    /// The keeper wants this daemon to end.
    pub retiring: bool,
}

impl Daemon {
    pub(super) fn upgrade(&mut self, order: Order, actor: &Actor, answer: oneshot::Sender<Answer>) {
        if self.upgrades.report.as_ref().is_none_or(|report| report.id != order.id) {
            let Actor { uid, pid, command } = actor;
            tracing::info!(command, uid, pid, binary = %order.binary.display(), "an upgrade is asked for");
        }
        if let Some(report) = &self.upgrades.report {
            if report.id == order.id && !report.is_pending() {
                let _ = answer.send(Ok(json(report)));
                return;
            }
            if report.id != order.id && report.is_pending() {
                let _ = answer.send(Err(under_way()));
                return;
            }
        }
        let asked = self.file_of(&order).and_then(|file| {
            let id = order.id.clone();
            let said = self.link.say(&FromDaemon::Upgrade { id }, &[file.as_fd()]);
            said.map_err(|error| Refusal::failed(format!("the keeper does not listen: {}", reason(&error))))
        });
        match asked {
            Ok(()) => self.upgrades.waiting.push((order.id, answer)),
            Err(refusal) => {
                let _ = answer.send(Err(refusal));
            }
        }
    }

    fn file_of(&self, order: &Order) -> Result<OwnedFd, Refusal> {
        let shown = order.binary.display();
        let failed = |why: &str| Refusal::failed(format!("not upgraded: {shown}: {why}"));
        if self.unwritten.is_some() || self.journal.is_behind() {
            return Err(Refusal::failed("not upgraded: what could not be written yet waits in memory")
                .hint("`stead health` says what cannot be written"));
        }
        let file = file::path_only(&order.binary).map_err(|error| failed(&reason(&error)))?;
        if !file::is_regular(&file) {
            return Err(failed("it is no file"));
        }
        Ok(file)
    }

    /// The keeper says how far it is.
    pub(super) fn upgrade_came(&mut self, report: Report, news: bool) {
        let Report { id, from, to, state } = &report;
        match state {
            State::Done if news => tracing::info!(from, to, "upgraded"),
            State::Failed { reason } if news => tracing::error!(id, reason, "not upgraded"),
            State::Done | State::Failed { .. } | State::Pending => {}
        }
        for (id, answer) in std::mem::take(&mut self.upgrades.waiting) {
            match (id == report.id, report.is_pending()) {
                (true, false) => drop(answer.send(Ok(json(&report)))),
                (false, true) => drop(answer.send(Err(under_way()))),
                (true, true) | (false, false) => self.upgrades.waiting.push((id, answer)),
            }
        }
        self.upgrades.report = Some(report);
    }

    /// The keeper wants another daemon. Who waits for the end of the upgrade asks that one.
    pub(super) fn retire(&mut self) {
        tracing::info!("the daemon ends, and another follows");
        self.upgrades.retiring = true;
        for (id, answer) in std::mem::take(&mut self.upgrades.waiting) {
            let from = env!("CARGO_PKG_VERSION").to_owned();
            let _ = answer.send(Ok(json(&Report { id, from, to: None, state: State::Pending })));
        }
    }
}

/// Can a daemon of this binary begin with what is in the home?
///
/// # Errors
/// It is of a newer stead.
pub fn can_begin(home: &Path) -> io::Result<()> {
    Store::new(home).check()
}

/// Could a daemon of this binary go on from here, with these notes of runs?
///
/// # Errors
/// What it could not read: one sentence.
pub fn can_take_over<'a>(home: &Path, notes: impl Iterator<Item = (RunId, &'a str)>) -> Result<(), String> {
    can_begin(home).and_then(|()| Journal::check(home)).map_err(|error| error.to_string())?;
    for (run, note) in notes {
        serde_json::from_str::<Envelope>(note).map_err(|error| {
            format!("stead {} cannot read the note of run {}: {error}", env!("CARGO_PKG_VERSION"), run.0)
        })?;
    }
    Ok(())
}

fn under_way() -> Refusal {
    Refusal::failed("not upgraded: another upgrade is under way").hint("ask again when it is done")
}
