//! Who is told of what, and when. The first of its kind is told at once; what repeats is gathered and told as one, ever more seldom.
//! Pure: the messages are carried at the edge.

use super::action::{Entry, Line};
use super::backoff::{NO_AUTORESTART, is_crash_loop};
use super::clock::{Millis, Mono, Now, Wall};
use super::health::{AppHealth, Finding, Health, Verdict};
use super::name::AppName;
use super::record::{Cause, NextAction, Record};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// Version of the message.
pub const VERSION: u32 = 1;

/// What is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// An end that nobody asked for, followed by another run.
    Restart,
    CrashLoop,
    /// An end that nobody asked for, and no other run follows.
    GiveUp,
    /// Ended gracefully at its memory cap.
    Cap,
    /// Killed by the kernel for want of memory.
    Oom,
    /// A verdict of `stead health` changed.
    Health,
}

impl Occasion {
    pub const ALL: [Occasion; 6] =
        [Occasion::Restart, Occasion::CrashLoop, Occasion::GiveUp, Occasion::Cap, Occasion::Oom, Occasion::Health];

    /// The word in the ecosystem file and in the message.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Occasion::Restart => "restart",
            Occasion::CrashLoop => "crash-loop",
            Occasion::GiveUp => "give-up",
            Occasion::Cap => "cap",
            Occasion::Oom => "oom",
            Occasion::Health => "health",
        }
    }
}

/// One of `notify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifier {
    pub way: Way,
    pub on: BTreeSet<Occasion>,
    /// A try that takes longer has failed.
    pub timeout: Millis,
}

/// How a message is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A program that reads the message from its stdin.
    Command { argv: Vec<String>, cwd: PathBuf },
    /// A URL that the message is POSTed to.
    Webhook(String),
}

impl Notifier {
    /// For people. Of a URL only scheme and host: the rest is most often a secret.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.way {
            Way::Command { argv, .. } => {
                let shown = match argv.as_slice() {
                    [_, flag, line] if flag == "-c" => line.as_str(),
                    [program, ..] => program.rsplit('/').next().unwrap_or(program),
                    [] => "",
                };
                let line: String = shown.chars().take(40).collect();
                format!("command {line}{}", if line.len() < shown.len() { "…" } else { "" })
            }
            Way::Webhook(url) => {
                let end = url.find("://").map_or(0, |at| at + 3);
                let host = url[end..].split(['/', '?', '#']).next().unwrap_or_default();
                format!("webhook {}{host}", &url[..end])
            }
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// As what it may be told, the gravest first.
    pub occasions: Vec<Occasion>,
    /// `None`: it is of the whole.
    pub app: Option<String>,
    pub instance: Option<String>,
    pub at: Wall,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    /// Sets apart what would else be called a repeat.
    pub signature: Option<String>,
    pub summary: String,
    pub record: Option<Box<Record>>,
}

/// What a journal's line has to tell: an end that nobody asked for.
#[must_use]
pub fn news(app: &AppName, line: &Line) -> Option<News> {
    let Entry::End { record, at } = &line.entry else { return None };
    if record.planned {
        return None;
    }
    let again = record.next.action == NextAction::Restart;
    let given_up = record.next.action == NextAction::GiveUp || record.next.reason == NO_AUTORESTART;
    let occasions: Vec<Occasion> = [
        (given_up, Occasion::GiveUp),
        (again && is_crash_loop(&line.streak, *at), Occasion::CrashLoop),
        (matches!(record.cause, Cause::OomKill | Cause::OomKillHost), Occasion::Oom),
        (record.cause == Cause::MemoryCap, Occasion::Cap),
        (again, Occasion::Restart),
    ]
    .into_iter()
    .filter_map(|(holds, occasion)| holds.then_some(occasion))
    .collect();
    let grave = matches!(occasions.first()?, Occasion::GiveUp | Occasion::CrashLoop);
    Some(News {
        occasions,
        app: Some(app.to_string()),
        instance: Some(line.instance.clone()),
        at: record.ended_at,
        verdict: if grave { Verdict::Critical } else { Verdict::Warning },
        cause: Some(record.cause),
        signature: record.signature.clone(),
        summary: record.summary.clone(),
        record: Some(record.clone()),
    })
}

/// The verdicts that were seen last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    instances: BTreeMap<String, Verdict>,
    whole: Verdict,
}

/// Reasons that a change of the whole names.
const MOST_REASONS: usize = 3;

impl Watch {
    /// What is no longer as it was seen last; before the first look all was well. `app_of`: the app of an instance, `None` where
    /// nothing of it is told.
    pub fn changes(&mut self, now: Wall, health: &Health, app_of: impl Fn(&str) -> Option<String>) -> Vec<News> {
        let mut found = Vec::new();
        let told: Vec<(&AppHealth, String)> =
            health.apps.iter().filter_map(|one| Some((one, app_of(&one.name)?))).collect();
        for (one, app) in &told {
            let before = self.instances.get(&one.name).copied().unwrap_or_default();
            if before != one.verdict {
                let reason = one.reason.as_deref().unwrap_or("it is well");
                found.push(change(now, Some((app, &one.name)), before, one.verdict, reason));
            }
        }
        self.instances = told.iter().map(|(one, _)| (one.name.clone(), one.verdict)).collect();
        let others = health.host.findings.iter().chain(&health.stead.findings);
        let reason = |finding: &Finding| (finding.verdict, format!("{}: {}", finding.area, finding.reason));
        let mut reasons: Vec<(Verdict, String)> = others.map(reason).collect();
        let of_app = |one: &AppHealth| Some((one.verdict, format!("{}: {}", one.name, one.reason.as_ref()?)));
        reasons.extend(told.iter().filter_map(|(one, _)| of_app(one)));
        reasons.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
        let whole =
            reasons.iter().map(|(verdict, _)| *verdict).chain([health.host.verdict, health.stead.verdict]).max();
        let whole = whole.unwrap_or_default();
        if whole != self.whole {
            let named: Vec<&str> = reasons.iter().take(MOST_REASONS).map(|(_, reason)| reason.as_str()).collect();
            let more = reasons.len().saturating_sub(MOST_REASONS);
            let summary = match (named.is_empty(), more) {
                (true, _) => "all is well".to_owned(),
                (false, 0) => named.join("; "),
                (false, more) => format!("{}; and {more} more", named.join("; ")),
            };
            found.push(change(now, None, self.whole, whole, &summary));
        }
        self.whole = whole;
        found
    }
}

fn change(at: Wall, of: Option<(&str, &str)>, before: Verdict, verdict: Verdict, reason: &str) -> News {
    News {
        occasions: vec![Occasion::Health],
        app: of.map(|(app, _)| app.to_owned()),
        instance: of.map(|(_, instance)| instance.to_owned()),
        at,
        verdict,
        cause: None,
        signature: Some(verdict.word().to_owned()),
        summary: format!("{} (was {}): {reason}", verdict.word(), before.word()),
        record: None,
    }
}

/// A message that is to be handed over, its text still to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    pub occasion: Occasion,
    /// The newest of them.
    pub news: Arc<News>,
    pub count: u64,
    /// When the first of them was.
    pub since: Wall,
}

impl Telling {
    /// One plain sentence. `since`: the time of day of the first, as people say it.
    #[must_use]
    pub fn sentence(&self, since: &str) -> String {
        let name = self.news.instance.as_deref();
        let what = match (self.occasion, self.news.record.is_some()) {
            (Occasion::Restart, _) => " restarts: ",
            (Occasion::CrashLoop, _) => " is in a crash loop: ",
            (Occasion::GiveUp, _) => " is not started again: ",
            (Occasion::Oom, false) => " lost a process for want of memory: ",
            (Occasion::Health, _) => " is ",
            // The summary says it all.
            (Occasion::Cap, _) | (Occasion::Oom, true) => ": ",
        };
        let who = name.map_or_else(|| "health: ".to_owned(), |name| format!("{name}{what}"));
        let next = match (self.occasion, &self.news.record) {
            (Occasion::GiveUp, Some(record)) => format!(" ({})", record.next.reason),
            _ => String::new(),
        };
        let times = if self.count > 1 { format!(", ×{} since {since}", self.count) } else { String::new() };
        format!("{who}{}{next}{times}", self.news.summary)
    }
}

/// The body of a webhook and the stdin of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub version: u32,
    /// The occasion's word, or `test`.
    pub event: String,
    pub app: Option<String>,
    pub instance: Option<String>,
    /// When the newest of them was.
    pub at: Wall,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    pub summary: String,
    pub count: u64,
    pub since: Wall,
    pub record: Option<Box<Record>>,
    pub host: String,
    /// What people read; chats show this key.
    pub text: String,
    /// So many before this one could not be told.
    pub dropped: u64,
}

/// From the telling of one to that of its repeats; each time twice as long.
const FIRST_PAUSE: Millis = Millis(600_000);
const LONGEST_PAUSE: Millis = Millis(6 * 3_600_000);

/// Kinds that are remembered for each notifier.
const MOST_KINDS: usize = 200;

/// Signatures of one app and occasion that are told apart; a message that never repeats is else always the first of its kind.
const MOST_SIGNATURES: usize = 5;

/// Messages that wait for their turn.
const MOST_WAITING: usize = 64;

/// Before the second and the third try.
const PAUSES: [Millis; 2] = [Millis(2_000), Millis(8_000)];

/// Between tries after that: somebody may have mended what is wrong.
const LATER: Millis = Millis(600_000);

/// What came of a try that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub reason: String,
    /// Another try may do better.
    pub again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    app: Option<String>,
    occasion: Occasion,
    cause: Option<Cause>,
    signature: Option<String>,
}

/// What repeats since it was told.
#[derive(Clone, Debug, PartialEq)]
struct Gathered {
    told: Mono,
    pause: Millis,
    untold: Option<Telling>,
}

impl Gathered {
    fn due(&self) -> Mono {
        self.told + self.pause
    }
}

/// What one notifier has yet to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Desk {
    pub notifier: Notifier,
    gathered: BTreeMap<Kind, Gathered>,
    waiting: VecDeque<Telling>,
    state: State,
    dropped: u64,
    fault: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Idle,
    /// It is being handed over for the `tries`th time.
    UnderWay {
        telling: Telling,
        tries: usize,
    },
    Pauses {
        telling: Telling,
        tries: usize,
        until: Mono,
    },
}

impl Desk {
    #[must_use]
    pub fn new(notifier: Notifier) -> Desk {
        let (gathered, waiting) = (BTreeMap::new(), VecDeque::new());
        Desk { notifier, gathered, waiting, state: State::Idle, dropped: 0, fault: None }
    }

    /// Takes note of what happened, where this notifier wants to know.
    pub fn hear(&mut self, now: Now, news: &Arc<News>) {
        let Some(occasion) = news.occasions.iter().copied().find(|occasion| self.notifier.on.contains(occasion)) else {
            return;
        };
        self.gathered.retain(|_, one| one.untold.is_some() || one.due() > now.mono);
        let (app, cause) = (news.app.clone(), news.cause);
        let mut kind = Kind { app, occasion, cause, signature: news.signature.clone() };
        let alike = |known: &&Kind| (&known.app, known.occasion) == (&kind.app, kind.occasion);
        if !self.gathered.contains_key(&kind) && self.gathered.keys().filter(alike).count() >= MOST_SIGNATURES {
            kind.signature = None;
        }
        let telling = Telling { occasion, news: news.clone(), count: 1, since: news.at };
        match self.gathered.get_mut(&kind) {
            Some(known) => match &mut known.untold {
                Some(untold) => (untold.news, untold.count) = (news.clone(), untold.count + 1),
                None => known.untold = Some(telling),
            },
            None => {
                self.make_room();
                self.gathered.insert(kind, Gathered { told: now.mono, pause: FIRST_PAUSE, untold: None });
                self.wait(telling);
            }
        }
    }

    /// Forgets the kind that was told longest ago.
    fn make_room(&mut self) {
        if self.gathered.len() >= MOST_KINDS
            && let Some(oldest) = self.gathered.iter().min_by_key(|(_, one)| one.told).map(|(kind, _)| kind.clone())
        {
            let gone = self.gathered.remove(&oldest).and_then(|one| one.untold);
            self.dropped += gone.map_or(0, |telling| telling.count);
        }
    }

    fn wait(&mut self, telling: Telling) {
        if self.waiting.len() >= MOST_WAITING {
            // What only repeats is the least loss.
            let at = self.waiting.iter().position(|telling| telling.count > 1).unwrap_or(0);
            self.dropped += self.waiting.remove(at).map_or(0, |telling| telling.count);
        }
        self.waiting.push_back(telling);
    }

    /// What is to be handed over now, and how many before it could not be told; [`Desk::answered`] says what came of it.
    pub fn next(&mut self, now: Now) -> Option<(Telling, u64)> {
        let due: Vec<Telling> = self
            .gathered
            .values_mut()
            .filter(|one| one.due() <= now.mono)
            .filter_map(|one| {
                let telling = one.untold.take()?;
                (one.told, one.pause) = (now.mono, Millis(2 * one.pause.0).min(LONGEST_PAUSE));
                Some(telling)
            })
            .collect();
        due.into_iter().for_each(|telling| self.wait(telling));
        let (telling, tries) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => (self.waiting.pop_front()?, 0),
            State::Pauses { telling, tries, until } if until <= now.mono => (telling, tries),
            state @ (State::Pauses { .. } | State::UnderWay { .. }) => {
                self.state = state;
                return None;
            }
        };
        self.state = State::UnderWay { telling: telling.clone(), tries: tries + 1 };
        Some((telling, self.dropped))
    }

    /// What came of it.
    pub fn answered(&mut self, now: Now, outcome: Result<(), Fault>) {
        let State::UnderWay { telling, tries } = std::mem::replace(&mut self.state, State::Idle) else { return };
        match outcome {
            Ok(()) => (self.dropped, self.fault) = (0, None),
            Err(Fault { reason, again: false }) => {
                self.dropped += telling.count;
                self.fault = Some(reason);
            }
            Err(Fault { reason, again: true }) => {
                let pause = PAUSES.get(tries - 1).copied();
                if pause.is_none() {
                    self.fault = Some(reason);
                }
                self.state = State::Pauses { telling, tries, until: now.mono + pause.unwrap_or(LATER) };
            }
        }
    }

    /// What came of a message that is none of its own: where that was well, what waits needs to wait no longer.
    pub fn tested(&mut self, now: Now, outcome: &Result<(), Fault>) {
        self.fault = outcome.as_ref().err().map(|fault| fault.reason.clone());
        if let (State::Pauses { until, .. }, Ok(())) = (&mut self.state, outcome) {
            *until = now.mono;
        }
    }

    /// When [`Desk::next`] has something, if nothing happens before. Computed from what is there.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match &self.state {
            State::UnderWay { .. } => None,
            State::Pauses { until, .. } => Some(*until),
            State::Idle if !self.waiting.is_empty() => Some(Mono(0)),
            State::Idle => self.gathered.values().filter(|one| one.untold.is_some()).map(Gathered::due).min(),
        }
    }

    /// Why it cannot be told; `None` where the last message came through.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

#[cfg(test)]
mod tests;
