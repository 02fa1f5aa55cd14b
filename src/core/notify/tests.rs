use super::super::action::Streak;
use super::super::cause;
use super::super::event::Reached;
use super::super::health::{Host, OwnFacts, Rules, examine};
use super::super::instance::{Instance, Part, Run, Want};
use super::super::name::{Id, RunId};
use super::super::record::Next;
use super::super::spec::Spec;
use super::super::view::Enforcement;
use super::*;

fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1000), wall: Wall(1_800_000_000_000 + seconds as i64 * 1000) }
}

fn notifier(on: &[Occasion]) -> Notifier {
    Notifier {
        way: Way::Webhook("https://hooks.example/T0/secret".into()),
        on: on.iter().copied().collect(),
        timeout: Millis(10_000),
    }
}

fn desk() -> Desk {
    Desk::new(notifier(&Occasion::ALL))
}

fn restart(app: &str, signature: &str, second: u64) -> Arc<News> {
    Arc::new(News {
        occasions: vec![Occasion::Restart],
        app: Some(app.into()),
        instance: Some(app.into()),
        at: at(second).wall,
        verdict: Verdict::Warning,
        cause: Some(Cause::ExitCode),
        signature: Some(signature.into()),
        summary: "exited with code 1 after 3 s".into(),
        record: None,
    })
}

fn fault(again: bool) -> Result<(), Fault> {
    Err(Fault { reason: "answered 500".into(), again })
}

/// All that is told by this time, each handed over well.
fn told(desk: &mut Desk, now: Now) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    while let Some((telling, _)) = desk.next(now) {
        all.push((telling.news.signature.clone().unwrap_or_default(), telling.count));
        desk.answered(now, Ok(()));
    }
    all
}

#[test]
fn the_first_is_told_at_once_and_its_repeats_as_one() {
    let mut desk = desk();
    for second in 0..62 {
        desk.hear(at(second), &restart("api", "KeyError", second));
        let expected = if second == 0 { vec![("KeyError".to_owned(), 1)] } else { vec![] };
        assert_eq!(told(&mut desk, at(second)), expected);
    }
    assert_eq!(desk.deadline(), Some(at(600).mono));
    let (telling, _) = desk.next(at(600)).unwrap();
    assert_eq!((telling.count, telling.since, telling.news.at), (61, at(1).wall, at(61).wall));
    assert_eq!(telling.sentence("14:02"), "api restarts: exited with code 1 after 3 s, ×61 since 14:02");
    desk.answered(at(600), Ok(()));
    // The next pause is twice as long.
    desk.hear(at(700), &restart("api", "KeyError", 700));
    assert_eq!(desk.deadline(), Some(at(600 + 1200).mono));
    assert_eq!(told(&mut desk, at(1800)), [("KeyError".to_owned(), 1)]);
}

#[test]
fn what_was_calm_for_a_while_is_the_first_again() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    assert_eq!(told(&mut desk, at(0)).len(), 1);
    assert_eq!(desk.deadline(), None, "nothing is left to be told");
    desk.hear(at(601), &restart("api", "KeyError", 601));
    assert_eq!(told(&mut desk, at(601)), [("KeyError".to_owned(), 1)]);
}

#[test]
fn another_app_or_exception_is_no_repeat_but_messages_that_never_repeat_are() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    desk.hear(at(0), &restart("web", "KeyError", 0));
    desk.hear(at(0), &restart("api", "ValueError", 0));
    assert_eq!(told(&mut desk, at(0)).len(), 3);
    for n in 0..1000 {
        desk.hear(at(1), &restart("api", &format!("order {n} is gone"), 1));
    }
    assert_eq!(told(&mut desk, at(1)).len(), 4, "five are told apart, the others are one kind");
    assert_eq!(told(&mut desk, at(601)), [("order 999 is gone".to_owned(), 996)]);
}

#[test]
fn memory_is_bounded_and_what_is_dropped_is_counted() {
    let mut desk = desk();
    for n in 0..1000 {
        desk.hear(at(0), &restart(&format!("app-{n}"), "KeyError", 0));
    }
    assert!(desk.gathered.len() <= MOST_KINDS && desk.waiting.len() <= MOST_WAITING);
    let (_, dropped) = desk.next(at(0)).unwrap();
    assert_eq!(dropped, 1000 - MOST_WAITING as u64);
    desk.answered(at(0), Ok(()));
    assert_eq!(desk.next(at(0)).unwrap().1, 0, "told once");
}

#[test]
fn repeats_are_dropped_before_what_is_told_for_the_first_time() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    assert_eq!(told(&mut desk, at(0)).len(), 1);
    (1..4).for_each(|second| desk.hear(at(second), &restart("api", "KeyError", second)));
    desk.hear(at(5), &restart("slow", "KeyError", 5));
    // One is under way for ever, and all others wait behind it.
    assert_eq!(desk.next(at(600)).unwrap().0.news.app.as_deref(), Some("slow"));
    (0..64).for_each(|n| desk.hear(at(601), &restart(&format!("app-{n}"), "KeyError", 601)));
    assert_eq!((desk.waiting.len(), desk.dropped), (MOST_WAITING, 3));
    assert!(desk.waiting.iter().all(|telling| telling.count == 1));
}

#[test]
fn three_tries_then_seldom_and_the_fault_heals_by_itself() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    let mut tries = Vec::new();
    for second in 0..700 {
        if desk.next(at(second)).is_some() {
            tries.push(second);
            desk.answered(at(second), fault(true));
        }
        assert_eq!(desk.fault().is_some(), tries.len() >= 3);
    }
    assert_eq!(tries, [0, 2, 10, 610]);
    assert_eq!(desk.deadline(), Some(at(1210).mono));
    assert!(desk.next(at(1210)).is_some());
    desk.answered(at(1210), Ok(()));
    assert_eq!((desk.fault(), desk.deadline()), (None, None));
}

#[test]
fn what_is_refused_for_good_is_not_tried_again_and_the_next_goes_through() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    desk.hear(at(0), &restart("web", "KeyError", 0));
    assert!(desk.next(at(0)).is_some());
    desk.answered(at(0), fault(false));
    assert_eq!(desk.fault(), Some("answered 500"));
    let (telling, dropped) = desk.next(at(0)).unwrap();
    assert_eq!((telling.news.app.as_deref(), dropped), (Some("web"), 1));
    desk.answered(at(0), Ok(()));
    assert_eq!(desk.fault(), None);
}

#[test]
fn a_test_that_comes_through_ends_the_wait() {
    let mut desk = desk();
    desk.hear(at(0), &restart("api", "KeyError", 0));
    for second in [0, 2, 10] {
        assert!(desk.next(at(second)).is_some());
        desk.answered(at(second), fault(true));
    }
    desk.tested(at(20), &Ok(()));
    assert_eq!((desk.fault(), desk.deadline()), (None, Some(at(20).mono)));
    assert!(desk.next(at(20)).is_some());
    desk.tested(at(20), &fault(true));
    assert_eq!(desk.fault(), Some("answered 500"));
}

#[test]
fn only_what_was_asked_for_is_told_and_under_its_own_word() {
    let news = Arc::new(News {
        occasions: vec![Occasion::CrashLoop, Occasion::Oom, Occasion::Restart],
        ..News::clone(&restart("api", "x", 0))
    });
    for (on, heard) in [
        (&[Occasion::Restart][..], Some(Occasion::Restart)),
        (&[Occasion::Restart, Occasion::Oom], Some(Occasion::Oom)),
        (&Occasion::ALL, Some(Occasion::CrashLoop)),
        (&[Occasion::Health], None),
    ] {
        let mut desk = Desk::new(notifier(on));
        desk.hear(at(0), &news);
        assert_eq!(desk.next(at(0)).map(|(telling, _)| telling.occasion), heard);
    }
}

fn end(cause: Cause, planned: bool, next: NextAction, reason: &str) -> Line {
    let app = AppName::parse("api").unwrap();
    let instance = Instance::new(Id(1), app.clone(), 0, "api".into(), Want::Up);
    let run = Run {
        id: RunId(1),
        seq: 1,
        started: at(0),
        spec: Arc::new(Spec::plain(app)),
        revision: 0,
        signalled: None,
        kills: 0,
        killed_at: None,
        part: Part::Main,
        reached: Reached::Online,
        health: None,
    };
    let mut out = Vec::new();
    let mut instance = instance;
    instance.lost(at(5), &run, 7, true, &mut out);
    let mut record = *instance.last.clone().unwrap();
    (record.cause, record.planned) = (cause, planned);
    record.next = Next { action: next, delay_ms: None, reason: reason.into() };
    let entry = Entry::End { record: Box::new(record), at: at(5).mono };
    instance.line(RunId(1), 1, entry)
}

#[test]
fn ends_that_nobody_asked_for_are_news_and_those_that_somebody_asked_for_are_none() {
    let app = AppName::parse("api").unwrap();
    let of = |line: &Line| news(&app, line).map(|news| (news.occasions, news.verdict));
    let restarts = |cause| end(cause, cause::is_planned(cause), NextAction::Restart, "autorestart");
    use Occasion::{Cap, CrashLoop, GiveUp, Oom, Restart};
    assert_eq!(of(&restarts(Cause::ExitCode)), Some((vec![Restart], Verdict::Warning)));
    assert_eq!(of(&restarts(Cause::MemoryCap)), Some((vec![Cap, Restart], Verdict::Warning)));
    assert_eq!(of(&restarts(Cause::OomKill)), Some((vec![Oom, Restart], Verdict::Warning)));
    assert_eq!(of(&restarts(Cause::Manual)), None);
    let gave_up = end(Cause::ExitCode, false, NextAction::GiveUp, "16 ends");
    assert_eq!(of(&gave_up), Some((vec![GiveUp], Verdict::Critical)));
    let job = end(Cause::ExitCode, false, NextAction::Stop, NO_AUTORESTART);
    assert_eq!(of(&job), Some((vec![GiveUp], Verdict::Critical)));
    assert_eq!(of(&end(Cause::ExitCode, false, NextAction::Stop, "stopped on request")), None);
    let mut looping = restarts(Cause::MemoryCap);
    looping.streak = Streak { recent: (0..10).map(|n| Mono(n * 500)).collect(), ..Streak::default() };
    assert_eq!(of(&looping), Some((vec![CrashLoop, Cap, Restart], Verdict::Critical)));
    assert_eq!(news(&app, &Line { entry: Entry::Reset { at: Wall(0) }, ..looping }), None);
}

#[test]
fn a_change_of_a_verdict_is_told_once_for_the_app_and_once_for_the_whole() {
    let own = || OwnFacts {
        version: "0".into(),
        daemon_pid: 2,
        keeper_pid: 1,
        daemon_starts: 1,
        upgrades: 0,
        enforcement: Enforcement::Cgroup2,
        polling: None,
        faults: Vec::new(),
        notifiers: Vec::new(),
    };
    let host = || Host { memory_total_bytes: Some(8), memory_available_bytes: Some(8), ..Host::default() };
    let health = |verdict: Verdict| {
        let mut health = examine(Wall(0), &Rules::default(), &[], host(), own());
        let reason = (verdict != Verdict::Ok).then(|| "gave up".to_owned());
        health.apps = vec![AppHealth { name: "api-0".into(), verdict, reason, advice: None }];
        health
    };
    let app = |_: &str| Some("api".to_owned());
    let mut watch = Watch::default();
    let said = |news: Vec<News>| -> Vec<String> {
        let telling =
            |news: News| Telling { occasion: Occasion::Health, since: news.at, count: 1, news: Arc::new(news) };
        news.into_iter().map(|one| telling(one).sentence("")).collect()
    };
    assert_eq!(watch.changes(Wall(0), &health(Verdict::Ok), app), []);
    assert_eq!(
        said(watch.changes(Wall(0), &health(Verdict::Critical), app)),
        ["api-0 is critical (was ok): gave up", "health: critical (was ok): api-0: gave up"]
    );
    assert_eq!(watch.changes(Wall(0), &health(Verdict::Critical), app), []);
    assert_eq!(
        said(watch.changes(Wall(0), &health(Verdict::Ok), app)),
        ["api-0 is ok (was critical): it is well", "health: ok (was critical): all is well"]
    );
    // Of one that is to keep silent nothing is told, neither by itself nor in the whole.
    assert_eq!(watch.changes(Wall(0), &health(Verdict::Critical), |_| None), []);
}

#[test]
fn a_notifier_is_named_without_its_secrets() {
    assert_eq!(notifier(&[]).name(), "webhook https://hooks.example");
    let command = |argv: &[&str]| Notifier {
        way: Way::Command { argv: argv.iter().map(|word| (*word).into()).collect(), cwd: "/".into() },
        ..notifier(&[])
    };
    assert_eq!(command(&["/usr/bin/tell", "--me"]).name(), "command tell");
    assert_eq!(command(&["bash", "-c", "free -m | mail -s stead root"]).name(), "command free -m | mail -s stead root");
    assert_eq!(command(&["bash", "-c", &"x".repeat(99)]).name().chars().count(), 8 + 40 + 1);
}
