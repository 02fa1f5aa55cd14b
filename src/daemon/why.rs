//! The answer to `stead why`, from the counters, the journal and the wish.

use super::journal::{self, Reader};
use crate::core::advice;
use crate::core::name::Id;
use crate::core::record::Tally;
use crate::core::spec::Spec;
use crate::core::view::{Advice, WhyView};
use crate::core::why::Filter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A question about an app, with all that it takes to answer it.
#[derive(Debug)]
pub struct Asked {
    pub name: String,
    pub ids: BTreeMap<Id, String>,
    pub tally: Tally,
    pub spec: Arc<Spec>,
    pub journal: Reader,
    pub filter: Filter,
    pub last: Option<usize>,
}

impl Asked {
    #[must_use]
    pub fn answer(&self) -> WhyView {
        let Asked { filter, tally, spec, .. } = self;
        let mut rows = tally.by_cause.clone();
        rows.retain(|row| filter.is_counted() && (filter.causes.is_empty() || filter.causes.contains(&row.cause)));
        let mut found = self.journal.find(&journal::Asked {
            ids: self.ids.clone(),
            filter: filter.clone(),
            last: self.last,
            rows: rows.clone(),
            policy: spec.policy.clone(),
        });
        let by_cause = if filter.is_counted() { rows } else { found.by_cause };
        let advice = by_cause.iter().filter_map(|row| {
            let record = found.examples.get(&(row.cause, row.signature.clone()))?;
            let text = advice::advice(spec, record)?;
            Some(Advice { cause: row.cause, signature: row.signature.clone(), text })
        });
        if let Some(kept) = found.kept.filter(|kept| (*kept as u64) < tally.total) {
            let records = if kept == 1 { "record is" } else { "records are" };
            found.notes.push(format!(
                "{kept} {records} still kept of {} (journal_keep {}); the counts above tell of all",
                tally.total, spec.journal_keep
            ));
        }
        WhyView {
            name: self.name.clone(),
            total: tally.total,
            planned: tally.planned,
            unplanned: tally.unplanned,
            since: tally.since,
            advice: advice.collect(),
            by_cause,
            records: found.records,
            loops: found.loops,
            notes: found.notes,
        }
    }
}
