//! What each tree uses, noted every second, and what is asked about it.

use super::history::{self, Wanted};
use super::perform::{Daemon, json};
use super::server::Answer;
use super::views;
use crate::core::clock::Now;
use crate::core::command::Refusal;
use crate::core::history::Reading;
use crate::core::instance::Instance;
use crate::core::name::AppName;
use crate::core::view::{HistoryView, TrendView};
use tokio::sync::oneshot;

impl Daemon {
    /// Notes what each live tree uses.
    pub fn take_readings(&mut self, now: Now) {
        let Some(turn) = self.history.turn(now.mono) else { return };
        if turn.full {
            let counted = |run| self.memory.reading(run, now.mono);
            self.usages = self.meter.look(now, &self.fleet, &self.runs, counted, self.keeper);
        }
        let mut readings = Vec::new();
        for one in self.fleet.instances().filter(|one| one.pid().is_some()) {
            let Some(run) = one.run() else { continue };
            let known = self.usages.get(&run.id);
            let memory = match turn.full {
                true => known.and_then(|usage| usage.memory_bytes),
                // Where no group counts, every process would have to be asked: with each full look only.
                false => self.memory.reading(run.id, now.mono),
            };
            if let Some(bytes) = memory {
                readings.push((
                    one.name.clone(),
                    Reading {
                        at: (now.wall.0 / 1000).try_into().unwrap_or(0),
                        memory: (bytes >> 10).try_into().unwrap_or(u32::MAX),
                        cpu: known.and_then(|usage| usage.cpu_percent).map_or(0, |percent| (percent * 10.0) as u16),
                        processes: known.map_or(0, |usage| usage.processes.try_into().unwrap_or(u16::MAX)),
                        run: run.seq as u16,
                    },
                ));
            }
        }
        self.history.write(readings);
        if turn.judge {
            let live = self.fleet.instances().filter(|one| one.pid().is_some());
            self.history.judge(live.map(|one| self.wanted_trend(one)).collect());
        }
    }

    fn wanted_trend(&self, one: &Instance) -> Wanted {
        let cap = self.fleet.app(&one.app).and_then(|app| app.spec.max_memory_restart).map(|cap| cap.0);
        Wanted { name: one.name.clone(), cap }
    }

    /// The instances whose history is asked for.
    pub fn charted(&self, target: Option<String>) -> Result<Vec<Wanted>, Refusal> {
        let ids = match target {
            Some(target) => self.fleet.targets(&[target])?,
            None => self.fleet.instances().map(|one| one.id).collect(),
        };
        Ok(ids.into_iter().filter_map(|id| self.fleet.instance(id)).map(|one| self.wanted_trend(one)).collect())
    }

    /// Answers when the history has been read; the loop goes on meanwhile.
    pub fn tell_trends(&self, of: Vec<Wanted>, answer: oneshot::Sender<Answer>) {
        let (told, heard) = oneshot::channel();
        let caps: Vec<Option<u64>> = of.iter().map(|wanted| wanted.cap).collect();
        self.history.trends(of, told);
        tokio::task::spawn_local(async move {
            let trends = heard.await.unwrap_or_default();
            let views =
                trends.into_iter().zip(caps).map(|((name, trend), cap)| TrendView::new(Some(name), &trend, cap));
            let _ = answer.send(Ok(json(&views.collect::<Vec<_>>())));
        });
    }

    pub fn tell_history(&self, of: Vec<Wanted>, answer: oneshot::Sender<Answer>) {
        let (told, heard) = oneshot::channel();
        let limits: Vec<(Option<u64>, Option<u64>)> = of
            .iter()
            .map(|wanted| {
                let app = self.fleet.instances().find(|one| one.name == wanted.name);
                let wall = app.and_then(|one| self.fleet.app(&one.app)).and_then(|app| app.spec.wall());
                (wanted.cap, wall.map(|wall| wall.0))
            })
            .collect();
        self.history.read(of.into_iter().map(|wanted| wanted.name).collect(), told);
        tokio::task::spawn_local(async move {
            let all = heard.await.unwrap_or_default();
            let views = all.into_iter().zip(limits).map(|((name, readings), (cap_bytes, wall_bytes))| HistoryView {
                name,
                cap_bytes,
                wall_bytes,
                readings: readings.into_iter().map(views::reading).collect(),
            });
            let _ = answer.send(Ok(json(&views.collect::<Vec<_>>())));
        });
    }

    /// What the keeper of the history says.
    pub fn history_says(&mut self, told: history::Told) {
        match told {
            history::Told::Trends(trends) => self.trends.extend(trends),
            history::Told::Fault(fault) => {
                match &fault {
                    Some(fault) => tracing::warn!(fault, "the history cannot be written"),
                    None => tracing::info!("the history can be written again"),
                }
                self.history_fault = fault;
            }
        }
    }

    /// An app is gone, and its history with it.
    pub fn forget_history(&self, app: &AppName) {
        self.history.forget(app.to_string(), self.fleet.instances().map(|one| one.name.clone()).collect());
    }
}
