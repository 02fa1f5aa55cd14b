//! What stead itself cannot do for the moment: supervision goes on, each fault is said once, and is over by itself.

use super::perform::Daemon;
use crate::core::instance::Phase;
use crate::core::record::SpawnFailure;
use crate::os::file;

impl Daemon {
    /// Area and sentence of each fault there is now.
    pub(super) fn faults(&mut self) -> Vec<(String, String)> {
        self.look_at_descriptors();
        let mut found: Vec<(&str, String)> = Vec::new();
        found.extend(self.journal.fault().map(|why| ("journal", why)));
        if let Some(why) = &self.unwritten {
            let what =
                format!("state.json cannot be written ({why}): should the machine go down, an older wish would hold");
            found.push(("state", what));
        }
        found.extend(
            self.history_fault.as_ref().map(|why| ("history", format!("the history cannot be written: {why}"))),
        );
        if self.output.has_faults() {
            found.extend(self.unlogged().map(|what| ("logs", what)));
        }
        match self.bare.len() {
            0 if self.short_of_descriptors => found.push(("descriptors", "the daemon has no free descriptor".into())),
            0 => {}
            runs => {
                let what = format!("the daemon has too few descriptors: {runs} live runs cannot be taken over yet");
                found.push(("descriptors", what));
            }
        }
        found.extend(self.unspawned().map(|what| ("spawn", what)));
        found.into_iter().map(|(area, what)| (area.to_owned(), what)).collect()
    }

    /// Where descriptors are short the reserve cannot be filled.
    pub(super) fn look_at_descriptors(&mut self) {
        let short = !file::reserve();
        match (self.short_of_descriptors, short) {
            (false, true) => tracing::error!("no descriptor is free: what needs one waits, or does without"),
            (true, false) => tracing::info!("descriptors are free again"),
            _ => {}
        }
        self.short_of_descriptors = short;
    }

    /// Logs that cannot be written now.
    fn unlogged(&self) -> Option<String> {
        let mut failing = self.fleet.instances().filter_map(|one| {
            let files = self.files(one.id)?;
            self.output.fault(&files).map(|(path, why)| format!("{} cannot be written: {why}", path.display()))
        });
        let first = failing.next()?;
        let more = failing.count();
        Some(if more > 0 { format!("{first}; and {more} more") } else { first })
    }

    /// Runs that wait for what the machine has too little of.
    fn unspawned(&self) -> Option<String> {
        let failure = |one: &crate::core::instance::Instance| {
            let failure = one.last.as_ref()?.evidence.spawn.clone()?;
            (matches!(one.phase, Phase::Waiting { .. }) && failure.is_for_want()).then(|| (one.name.clone(), failure))
        };
        let mut waiting = self.fleet.instances().filter_map(failure);
        let (name, SpawnFailure { stage, errno }) = waiting.next()?;
        let more = waiting.count();
        let who = if more > 0 { format!("{name} and {more} more") } else { name };
        Some(format!("{who} cannot be started for now: {stage} {errno}"))
    }
}
