//! Tells people: what happens goes to the desk of each notifier, and couriers carry what a desk says is due. Nothing here waits.

use super::courier::{Errand, Outcome};
use super::perform::{Daemon, json};
use super::server::Answer;
use crate::core::action::Line;
use crate::core::clock::{Millis, Mono, Now, Wall};
use crate::core::health::Verdict;
use crate::core::name::{AppName, RunId};
use crate::core::notify::{self, Desk, Fault, Message, News, Notifier, Occasion, Telling, VERSION, Watch};
use crate::core::record::Cause;
use crate::core::view::Tried;
use crate::os::role::Courier;
use crate::os::wait::readable;
use crate::os::{clock, host, process};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Couriers under way at once; each is a process.
const MOST_COURIERS: usize = 4;

/// Tests of notifiers under way at once, beside them.
const MOST_TESTS: usize = 8;

/// How long a courier may take beyond the time limit of what it carries: it starts, and it kills what a command left.
const GRACE: Duration = Duration::from_secs(5);

/// Verdicts are looked at this often, where somebody wants to be told of their changes.
const LOOK_EVERY: Millis = Millis(60_000);

/// How long couriers have to take along what they started when stead ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a courier brought back.
#[derive(Debug)]
pub struct Told {
    courier: u64,
    outcome: Result<(), Fault>,
}

/// The notifiers' side of the daemon.
#[derive(Debug)]
pub struct Notify {
    desks: BTreeMap<u64, Desk>,
    /// What each carries, and its pidfd.
    couriers: BTreeMap<u64, (Load, OwnedFd)>,
    next: u64,
    watch: Watch,
    look_at: Mono,
    told: mpsc::UnboundedSender<Told>,
    host: String,
}

#[derive(Debug)]
enum Load {
    /// A message of this desk.
    Own(u64),
    Test {
        desk: u64,
        begun: Mono,
        answer: oneshot::Sender<Tried>,
    },
}

impl Notify {
    #[must_use]
    pub fn new(now: Now, notifiers: &[Notifier], told: mpsc::UnboundedSender<Told>) -> Notify {
        let host = host::name(Path::new("/proc"));
        let (desks, couriers, watch) = (BTreeMap::new(), BTreeMap::new(), Watch::default());
        let mut one = Notify { desks, couriers, next: 0, watch, look_at: now.mono + LOOK_EVERY, told, host };
        one.follow(notifiers);
        one
    }

    /// The notifiers that there are now; one that stays keeps what it has still to be told.
    pub fn follow(&mut self, notifiers: &[Notifier]) {
        let mut before = std::mem::take(&mut self.desks);
        for notifier in notifiers {
            let known = before.iter().find(|(_, desk)| desk.notifier == *notifier).map(|(key, _)| *key);
            let (key, desk) = match known.and_then(|key| before.remove_entry(&key)) {
                Some(same) => same,
                None => {
                    self.next += 1;
                    (self.next, Desk::new(notifier.clone()))
                }
            };
            self.desks.insert(key, desk);
        }
    }

    fn wants(&self, occasion: Occasion) -> bool {
        self.desks.values().any(|desk| desk.notifier.on.contains(&occasion))
    }

    fn carries(&self) -> usize {
        self.couriers.values().filter(|(load, _)| matches!(load, Load::Own(_))).count()
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let look = self.wants(Occasion::Health).then_some(self.look_at);
        // Where no courier is free, the next to come back is waited for.
        let desks = (self.carries() < MOST_COURIERS).then(|| self.desks.values().filter_map(Desk::deadline).min());
        look.into_iter().chain(desks.flatten()).min()
    }

    /// Why which notifiers do not get through.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let fault = |desk: &Desk| Some((desk.notifier.name(), desk.fault()?.to_owned()));
        self.desks.values().filter_map(fault).collect()
    }

    fn hear(&mut self, now: Now, news: News) {
        let news = Arc::new(news);
        self.desks.values_mut().for_each(|desk| desk.hear(now, &news));
    }

    /// Sends couriers with what is due.
    fn send(&mut self, now: Now) {
        let keys: Vec<u64> = self.desks.keys().copied().collect();
        for key in keys {
            if self.carries() >= MOST_COURIERS {
                return;
            }
            let Some(desk) = self.desks.get_mut(&key) else { continue };
            let Some((telling, dropped)) = desk.next(now) else { continue };
            let notifier = desk.notifier.clone();
            let message = message(&telling, dropped, &self.host);
            if let Err(fault) = self.dispatch(&notifier, &message, Load::Own(key)) {
                self.answered(now, key, Err(fault));
            }
        }
    }

    fn dispatch(&mut self, notifier: &Notifier, message: &Message, load: Load) -> Result<(), Fault> {
        let fault = |error: std::io::Error| Fault { reason: format!("no courier could be sent: {error}"), again: true };
        let body = String::from_utf8(json(message)).unwrap_or_default();
        let errand = Errand { way: notifier.way.clone(), timeout: notifier.timeout, body };
        let courier = Courier::start(&json(&errand)).map_err(fault)?;
        let pidfd = courier.pidfd().try_clone_to_owned().map_err(fault)?;
        let ended = readable(courier.pidfd().try_clone_to_owned().map_err(fault)?).map_err(fault)?;
        self.next += 1;
        let (number, told) = (self.next, self.told.clone());
        let limit = Duration::from_millis(notifier.timeout.0) + GRACE;
        tokio::task::spawn_local(async move {
            let in_time = tokio::time::timeout(limit, ended.readable()).await.is_ok();
            let said = courier.end();
            let outcome = match serde_json::from_slice::<Outcome>(&said) {
                Ok(Outcome { fault: None }) => Ok(()),
                Ok(Outcome { fault: Some(fault) }) => Err(fault),
                Err(_) if in_time => Err(Fault { reason: "its courier ended without a word".into(), again: true }),
                Err(_) => {
                    Err(Fault { reason: format!("took longer than {}", Millis(limit.as_millis() as u64)), again: true })
                }
            };
            let _ = told.send(Told { courier: number, outcome });
        });
        self.couriers.insert(number, (load, pidfd));
        Ok(())
    }

    /// What came of a message of this desk.
    fn answered(&mut self, now: Now, key: u64, outcome: Result<(), Fault>) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        let before = desk.fault().map(str::to_owned);
        desk.answered(now, outcome);
        tell_change(desk, before.as_deref());
    }

    /// A courier is back.
    fn back(&mut self, now: Now, told: Told) {
        match self.couriers.remove(&told.courier).map(|(load, _)| load) {
            Some(Load::Own(key)) => self.answered(now, key, told.outcome),
            Some(Load::Test { desk: key, begun, answer }) => {
                let Some(desk) = self.desks.get_mut(&key) else { return };
                let before = desk.fault().map(str::to_owned);
                desk.tested(now, &told.outcome);
                tell_change(desk, before.as_deref());
                let fault = told.outcome.err().map(|fault| fault.reason);
                let _ = answer.send(Tried { notifier: desk.notifier.name(), fault, took_ms: now.mono - begun });
            }
            None => {}
        }
    }

    /// stead ends: couriers take along what they started.
    pub fn end(&mut self) {
        let couriers = std::mem::take(&mut self.couriers);
        for (_, pidfd) in couriers.values() {
            let _ = process::pidfd_signal(pidfd.as_fd(), crate::os::signal::TERM);
        }
        let pidfds: Vec<_> = couriers.values().map(|(_, pidfd)| pidfd.as_fd()).collect();
        process::wait_ended(&pidfds, FAREWELL);
    }
}

fn tell_change(desk: &Desk, before: Option<&str>) {
    let notifier = desk.notifier.name();
    match (before, desk.fault()) {
        (None, Some(fault)) => tracing::warn!(notifier, fault, "a notifier does not get through"),
        (Some(_), None) => tracing::info!(notifier, "a notifier gets through again"),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn message(telling: &Telling, dropped: u64, host: &str) -> Message {
    let news = &telling.news;
    Message {
        version: VERSION,
        event: telling.occasion.word().into(),
        app: news.app.clone(),
        instance: news.instance.clone(),
        at: news.at,
        verdict: news.verdict,
        cause: news.cause,
        summary: news.summary.clone(),
        count: telling.count,
        since: telling.since,
        record: news.record.clone(),
        host: host.to_owned(),
        text: format!("{host}: {}", telling.sentence(&time_of_day(news.at, telling.since))),
        dropped,
    }
}

/// `14:02`, in this machine's zone; with the day where it is another one.
fn time_of_day(now: Wall, at: Wall) -> String {
    let zone = jiff::tz::TimeZone::system();
    let moment =
        |wall: Wall| jiff::Timestamp::from_millisecond(wall.0).unwrap_or_default().to_zoned_datetime(zone.clone());
    let (now, at) = (moment(now), moment(at));
    at.strftime(if now.date() == at.date() { "%H:%M" } else { "%b %-d %H:%M" }).to_string()
}

impl Daemon {
    /// A line is written: who wants to know of it is told.
    pub(super) fn tell_of(&mut self, app: &AppName, line: &Line) {
        if self.tells_of(app)
            && let Some(news) = notify::news(app, line)
        {
            self.notifiers.hear(clock::now(), news);
        }
    }

    fn tells_of(&self, app: &AppName) -> bool {
        self.fleet.app(app).is_none_or(|app| app.spec.notify)
    }

    /// The kernel killed a process of a run that lives on.
    pub(super) fn tell_of_kill(&mut self, now: Now, run: RunId) {
        let Some(one) = self.fleet.instance_of(run).filter(|one| self.tells_of(&one.app)) else { return };
        let news = News {
            occasions: vec![Occasion::Oom],
            app: Some(one.app.to_string()),
            instance: Some(one.name.clone()),
            at: now.wall,
            verdict: Verdict::Warning,
            cause: Some(Cause::OomKill),
            signature: None,
            summary: "the kernel killed one at its memory_max, and the app goes on".into(),
            record: None,
        };
        self.notifiers.hear(now, news);
    }

    /// Looks at the verdicts where it is time, and sends couriers.
    pub(super) fn tell(&mut self, now: Now) {
        if now.mono >= self.notifiers.look_at {
            self.notifiers.look_at = now.mono + LOOK_EVERY;
            if self.notifiers.wants(Occasion::Health) {
                let health = self.health_as_noted(now);
                let mut watch = std::mem::take(&mut self.notifiers.watch);
                let app_of = |name: &str| {
                    let one = self.fleet.instances().find(|one| one.name == name)?;
                    self.tells_of(&one.app).then(|| one.app.to_string())
                };
                let news = watch.changes(now.wall, &health, app_of);
                self.notifiers.watch = watch;
                news.into_iter().for_each(|news| self.notifiers.hear(now, news));
            }
        }
        self.notifiers.send(now);
    }

    pub fn courier_says(&mut self, told: Told) {
        let now = clock::now();
        self.notifiers.back(now, told);
        self.notifiers.send(now);
    }

    /// Sends a test by every notifier; answers when all are back.
    pub(super) fn test_notifiers(&mut self, now: Now, answer: oneshot::Sender<Answer>) {
        let all: Vec<(u64, Notifier)> =
            self.notifiers.desks.iter().map(|(key, desk)| (*key, desk.notifier.clone())).collect();
        let under_way = self.notifiers.couriers.len() - self.notifiers.carries();
        let mut back = Vec::new();
        for (at, (desk, notifier)) in all.into_iter().enumerate() {
            let (tell, told) = oneshot::channel();
            let failed = |fault: String| Tried { notifier: notifier.name(), fault: Some(fault), took_ms: Millis(0) };
            let load = Load::Test { desk, begun: now.mono, answer: tell };
            let sent = match at + under_way < MOST_TESTS {
                true => self
                    .notifiers
                    .dispatch(&notifier, &test(now.wall, &self.notifiers.host), load)
                    .map_err(|fault| fault.reason),
                false => Err(format!("was not tried: {MOST_TESTS} tests are under way")),
            };
            back.push(match sent {
                Ok(()) => Ok((told, notifier.name())),
                Err(fault) => Err(failed(fault)),
            });
        }
        tokio::task::spawn_local(async move {
            let mut tried = Vec::new();
            for one in back {
                tried.push(match one {
                    Ok((told, notifier)) => {
                        let gone = "is no longer there".to_owned();
                        told.await.unwrap_or(Tried { notifier, fault: Some(gone), took_ms: Millis(0) })
                    }
                    Err(failed) => failed,
                });
            }
            let _ = answer.send(Ok(json(&tried)));
        });
    }
}

fn test(now: Wall, host: &str) -> Message {
    let summary = "a test: notifications of stead come through here";
    Message {
        version: VERSION,
        event: "test".into(),
        app: None,
        instance: None,
        at: now,
        verdict: Verdict::Ok,
        cause: None,
        summary: summary.into(),
        count: 1,
        since: now,
        record: None,
        host: host.to_owned(),
        text: format!("{host}: {summary}"),
        dropped: 0,
    }
}
