//! Whatever reaches the disk or a socket, in its oldest form. The files in `fixtures/` are never rewritten: a field that is new
//! must have a default, one that is gone must be passed over.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use stead::core::action::{Entry, Line};
use stead::core::clock::{Millis, Mono, Now, Wall};
use stead::core::command::{Command, Request, Terms};
use stead::core::event::{RunNote, Sent};
use stead::core::fleet::Fleet;
use stead::core::name::{Id, RunId};
use stead::core::notify::{Message, Notifier, Occasion, Way};
use stead::core::record::{Cause, NextAction, Record};
use stead::core::recover::{Found, Held, HeldState, WANTED_VERSION, Wanted, tails};
use stead::core::spec::{EndKind, Env, KillMode, Need, Probe, Reaction, Signal, Spec};
use stead::core::upgrade::{Order, Report};
use stead::core::view::Status;
use stead::keeper::handover::{Answer, Handover};
use stead::keeper::message::{FromDaemon, FromKeeper, OLDEST, PROTOCOL, State};

const STATE: &str = include_str!("fixtures/state-v1.json");
const POLICY: &str = include_str!("fixtures/spec-v1-policy.json");
const NOTIFIERS: &str = include_str!("fixtures/notifiers-v1.json");
const MESSAGE: &str = include_str!("fixtures/message-v1.json");
const JOURNAL: &str = include_str!("fixtures/journal-v1.jsonl");
const INCIDENT: &str = include_str!("fixtures/journal-v1-incident.json");
const FROM_KEEPER: &str = include_str!("fixtures/from-keeper-v1.jsonl");
const EVIDENCE: &str = include_str!("fixtures/record-v1-evidence.json");
const RELOAD: &str = include_str!("fixtures/reload-v1.jsonl");
const HANDOVER: &str = include_str!("fixtures/handover-v1.json");
const UPGRADE: &str = include_str!("fixtures/upgrade-v1.jsonl");
const FROM_DAEMON: &str = include_str!("fixtures/from-daemon-v1.jsonl");

#[test]
fn the_wanted_set_of_version_1_is_read() {
    let wanted: Wanted = serde_json::from_str(STATE).unwrap();
    assert!(wanted.version <= WANTED_VERSION);
    let api = &wanted.apps[0];
    assert_eq!((api.spec.name.as_str(), api.count, api.instances.len()), ("api", 2, 2));
    assert_eq!(api.spec.policy.stop_exit_codes.first(), Some(&3));
    assert_eq!((api.spec.stop.kill_signal, api.spec.stop.kill_mode), (Signal::INT, KillMode::Tree));
    assert_eq!(wanted.environments[api.environment]["PATH"], "/usr/bin");
    assert_eq!(wanted.apps[1].spec.instances, None);
}

/// Of `state.json`: what the restart policy has learnt since its oldest form.
#[test]
fn a_policy_that_came_later_is_said_in_the_same_words() {
    let spec: Spec = read(POLICY);
    assert_eq!(spec.policy.cron_restart.as_ref().unwrap().to_string(), "TZ=Europe/Berlin 30 0 4 * * mon-fri");
    assert_eq!(spec.policy.restart_on[&EndKind::Code(3)], Reaction::Never);
    assert_eq!(spec.readiness.health_check.as_ref().unwrap().probe, Probe::Http("http://127.0.0.1:5000/health".into()));
    assert_eq!(spec.depends_on.values().collect::<Vec<_>>(), [&Need::Healthy, &Need::Done, &Need::Started]);
    assert_eq!((spec.policy.jitter, spec.listen.len()), (Millis(500), 2));
    assert!(covers(&serde_json::to_value(&spec).unwrap(), &read(POLICY)), "{spec:#?}");
    same_with_new_fields::<Spec>(POLICY);
    for (probe, said) in
        [(r#"{"tcp": "127.0.0.1:6379"}"#, "tcp 127.0.0.1:6379"), (r#"{"command": ["sh", "-c", "true"]}"#, "`true`")]
    {
        assert_eq!(read::<Probe>(probe).to_string(), said);
    }
}

/// Of `state.json`; it came after the rest of version 1, so the oldest has none.
#[test]
fn the_notifiers_of_version_1_are_read() {
    let [hook, command]: [Notifier; 2] = read(NOTIFIERS);
    assert_eq!(hook.way, Way::Webhook("https://hooks.example/T0/x".into()));
    assert_eq!(hook.on.iter().copied().collect::<Vec<_>>(), Occasion::ALL);
    assert_eq!(
        command.way,
        Way::Command { argv: vec!["bash".into(), "-c".into(), "mail root".into()], cwd: "/srv".into() }
    );
    same_with_new_fields::<Vec<Notifier>>(NOTIFIERS);
    assert!(read::<Wanted>(STATE).notifiers.is_empty());
    assert!(read::<Wanted>(STATE).apps.iter().all(|app| app.spec.notify && app.spec.logs.max_age.is_none()));
}

/// What notifiers read: who knows the oldest form finds all of it in the present one.
#[test]
fn the_message_of_version_1_is_said_in_the_same_words() {
    let message: Message = read(MESSAGE);
    assert!(covers(&serde_json::to_value(&message).unwrap(), &read(MESSAGE)), "{message:?}");
}

#[test]
fn the_journal_of_version_1_is_read() {
    let lines: Vec<Line> = JOURNAL.lines().map(read).collect();
    assert_eq!(lines.len(), JOURNAL.lines().count());
    let ends = lines.iter().filter_map(|line| match &line.entry {
        Entry::End { record, .. } => Some((record.run.as_str(), record.cause, record.next.action)),
        Entry::Start { .. } | Entry::Incident(_) | Entry::Reset { .. } | Entry::Asked { .. } => None,
    });
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [
            ("job#1", Cause::Success, NextAction::Stop),
            ("api-0#1", Cause::CoreDump, NextAction::Restart),
            ("api-1#1", Cause::Manual, NextAction::Stop),
            ("job#2", Cause::Success, NextAction::Stop),
        ]
    );
}

#[test]
fn the_messages_of_version_1_are_read_and_said_in_the_same_words() {
    assert_eq!((OLDEST, PROTOCOL), (1, 1), "a new version gets fixtures of its own, and the old ones stay");
    for text in FROM_KEEPER.lines() {
        let message: FromKeeper = read(text);
        assert_ne!(message, FromKeeper::Unknown, "{text}");
        assert!(covers(&serde_json::to_value(&message).unwrap(), &read(text)), "{message:?}");
        if let FromKeeper::Run { note, .. } = &message {
            let note: serde_json::Value = read(note);
            let core: RunNote = serde_json::from_value(note["core"].clone()).unwrap();
            assert!(covers(&serde_json::to_value(core).unwrap(), &note["core"]), "{note}");
        }
    }
    for text in FROM_DAEMON.lines() {
        let message: FromDaemon = read(text);
        assert_ne!(message, FromDaemon::Unknown, "{text}");
        assert!(covers(&serde_json::to_value(&message).unwrap(), &read(text)), "{message:?}");
    }
}

#[test]
fn evidence_that_came_later_is_said_in_the_same_words() {
    let record: Record = read(EVIDENCE);
    assert_eq!(record.evidence.lock_holder.as_ref().unwrap().instance.as_deref(), Some("sar"));
    assert_eq!(record.evidence.port.as_ref().unwrap().to_string(), "port 5000 is taken by pid 123 (`nginx`)");
    assert_eq!(record.evidence.children[0].signal, Some(Signal(11)));
    assert!(covers(&serde_json::to_value(&record).unwrap(), &read(EVIDENCE)), "{record:#?}");
    same_with_new_fields::<Record>(EVIDENCE);
    let note = "{\"id\": 0, \"app\": \"api\", \"instance\": \"api\", \"seq\": 4, \"revision\": 0, \"intent\": null, \"signalled\": \
                {\"signal\": \"SIGTERM\", \"at\": 20000, \"actor\": {\"uid\": 0, \"pid\": 7, \"command\": \"stead signal TERM api\"}}}";
    let sent = read::<RunNote>(note).signalled.unwrap();
    assert_eq!((sent.signal, sent.at), (Signal::TERM, Mono(20_000)));
}

#[test]
fn a_reload_of_version_1_is_taken_over() {
    let lines: Vec<Line> = RELOAD.lines().skip(2).map(read).collect();
    let held: Vec<Held> = RELOAD.lines().take(2).map(read::<FromKeeper>).filter_map(held).collect();
    assert_eq!(held.iter().map(|one| one.note.reload.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(held[0].note.intent.as_ref().map(|intent| intent.sent), Some(Sent::ReloadSignal));
    let Entry::End { record, .. } = &lines[1].entry else { panic!("{:?}", lines[1]) };
    assert_eq!((record.next.action, lines[1].later), (NextAction::RunsOn, Some((RunId(9), 4))));
    RELOAD.lines().skip(2).for_each(same_with_new_fields::<Line>);
    RELOAD.lines().take(2).for_each(same_with_new_fields::<FromKeeper>);
}

/// What the keeper of one version hands to that of another, up and down.
#[test]
fn the_handover_of_version_1_is_read_and_made_in_the_same_words() {
    let handover = Handover::parse(HANDOVER.as_bytes()).unwrap();
    assert_eq!(handover.runs.iter().map(|run| run.exec).collect::<Vec<_>>(), [None, Some(33), None, None]);
    let mut all = handover.descriptors();
    all.sort_unstable();
    let runs = [20, 21, 22, 23, 24, 30, 31, 32, 33, 40, 41, 42, 43, 44];
    assert_eq!(all, [3, 5, 7, 14, 15].into_iter().chain(runs).chain([50, 60, 61]).collect::<Vec<_>>());
    assert!(covers(&serde_json::to_value(&handover).unwrap(), &read(HANDOVER)), "{handover:#?}");
    same_with_new_fields::<Handover>(HANDOVER);
}

#[test]
fn what_is_said_of_an_upgrade_in_version_1_is_said_in_the_same_words() {
    fn is_said<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) {
        assert!(covers(&serde_json::to_value(read::<T>(text)).unwrap(), &read(text)), "{text}");
        same_with_new_fields::<T>(text);
    }
    let lines: Vec<&str> = UPGRADE.lines().collect();
    is_said::<Order>(lines[0]);
    lines[1..4].iter().for_each(|text| is_said::<Report>(text));
    lines[4..6].iter().for_each(|text| is_said::<Answer>(text));
    lines[6..8].iter().for_each(|text| is_said::<FromKeeper>(text));
    is_said::<FromDaemon>(lines[8]);
    assert_ne!(read::<FromKeeper>(lines[7]), FromKeeper::Unknown);
}

#[test]
fn what_a_newer_stead_hands_over_is_refused_with_both_numbers() {
    let refusal = |key: &str, number: u32| {
        let mut value: Value = read(HANDOVER);
        value["stead"] = "9.9.0".into();
        value[key] = number.into();
        Handover::parse(value.to_string().as_bytes()).unwrap_err()
    };
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(refusal("version", 2), format!("stead 9.9.0 hands over in version 2, and stead {ours} reads up to 1"));
    assert_eq!(refusal("oldest", 7), format!("stead 9.9.0 speaks protocol 7 to 1, and stead {ours} 1 to 1"));
    assert!(refusal("lock", u32::MAX).contains("cannot read what is handed over"));
    assert!(Handover::parse(b"").is_err());
}

#[test]
fn an_incident_in_the_journal_is_said_in_the_same_words() {
    let line: Line = read(INCIDENT);
    let Entry::Incident(incident) = &line.entry else { panic!("{line:?}") };
    assert_eq!((incident.run.as_str(), incident.cause, incident.oom.killed_pid), ("web#2", Cause::OomKill, Some(42)));
    let mut oldest: Value = read(INCIDENT);
    oldest.as_object_mut().unwrap().remove("v");
    assert!(covers(&serde_json::to_value(&line).unwrap(), &oldest), "{line:?}");
    same_with_new_fields::<Line>(INCIDENT);
    let run = line.run;
    assert_eq!(tails([line])[&Id(3)].kills[&run], 1);
}

#[test]
fn messages_that_are_not_known_are_passed_over() {
    assert_eq!(read::<FromKeeper>("{\"say\": \"sing\", \"song\": [1, 2]}"), FromKeeper::Unknown);
    assert_eq!(read::<FromDaemon>("{\"say\": \"dance\"}"), FromDaemon::Unknown);
}

#[test]
fn fields_that_are_not_known_are_passed_over() {
    same_with_new_fields::<Wanted>(STATE);
    JOURNAL.lines().for_each(same_with_new_fields::<Line>);
    FROM_KEEPER.lines().for_each(same_with_new_fields::<FromKeeper>);
    FROM_DAEMON.lines().for_each(same_with_new_fields::<FromDaemon>);
}

/// A home of version 1 and a keeper of version 1: the present daemon goes on where that of then left.
#[test]
fn a_home_of_version_1_is_taken_over() {
    let lines = JOURNAL.lines().map(read::<Line>);
    let live = FROM_KEEPER.lines().map(read::<FromKeeper>).filter_map(held);
    let found = Found {
        wanted: serde_json::from_str(STATE).unwrap(),
        boot_id: "boot-1".into(),
        highest_run: RunId(9),
        held: live.collect(),
        tails: tails(lines),
        calendar: Default::default(),
    };
    let now = Now { mono: Mono(20_000), wall: Wall(1_800_000_020_000) };
    let (fleet, _) = Fleet::recover(2, now, found);
    let seen: Vec<(&str, Status, u64)> =
        fleet.instances().map(|one| (one.name.as_str(), one.status(), one.tally.total)).collect();
    assert_eq!(
        seen,
        [("api-0", Status::Online, 1), ("api-1", Status::Stopping, 1), ("job", Status::Stopped, 0)],
        "a job that was done is not done again"
    );
}

fn held(message: FromKeeper) -> Option<Held> {
    match message {
        FromKeeper::Run { run, pid, started, state: State::Live, note } => {
            let note: serde_json::Value = read(&note);
            let note = serde_json::from_value(note["core"].clone()).unwrap();
            Some(Held { run, pid, started, state: HeldState::Live, note })
        }
        _ => None,
    }
}

/// Whoever knows only the oldest form finds all of it in what is said now.
fn covers(now: &Value, oldest: &Value) -> bool {
    match (now, oldest) {
        (Value::Object(now), Value::Object(oldest)) => {
            oldest.iter().all(|(key, value)| now.get(key).is_some_and(|now| covers(now, value)))
        }
        (now, oldest) => now == oldest,
    }
}

/// Read with a field more in each of its structs, it is the same.
fn same_with_new_fields<T: DeserializeOwned + PartialEq + Debug>(text: &str) {
    let mut value: Value = read(text);
    add_fields(&mut value);
    assert_eq!(serde_json::from_value::<T>(value).unwrap(), read::<T>(text), "{text}");
}

fn add_fields(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(add_fields),
        Value::Object(fields) => {
            // Maps by the user's own keys, the choice of an enum, and what is opaque by contract.
            let open = ["env", "environments", "limits", "note", "probe", "sockets", "v1", "depends_on", "restart_on"];
            let choices = [
                "start", "end", "reset", "asked", "incident", "code", "signal", "tcp", "unix", "ended", "failed",
                "command", "webhook",
            ];
            let choice = fields.len() == 1 && fields.keys().all(|key| choices.contains(&key.as_str()));
            for (_, inside) in fields.iter_mut().filter(|(key, _)| !open.contains(&key.as_str())) {
                add_fields(inside);
            }
            if !choice {
                fields.insert("of_tomorrow".into(), Value::from(vec![1, 2]));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_file_is_applied_as_the_first_client_asked_for_it() {
    let text = r#"{"command": {"verb": "apply", "specs": [], "environment": {}}, "wait": true, "command_line": "stead start"}"#;
    let request: Request = read(text);
    assert_eq!(
        request.command,
        Command::Apply {
            specs: Vec::new(),
            environment: Env::new(),
            rules: None,
            notifiers: None,
            terms: Terms::default()
        }
    );
}
