//! Words of a story to wishes and tempers: `api restart_delay=1s max_restarts=3`, `exits 1 after 10ms, stubborn children 2`.

use crate::kernel::{Start, Temper, WhenTold};
use stead::core::clock::Millis;
use stead::core::cron::Cron;
use stead::core::event::ExitStatus;
use stead::core::name::AppName;
use stead::core::record::SpawnFailure;
use stead::core::spec::{Bytes, EndKind, HealthCheck, KillMode, Listen, Need, Probe, Reaction, Signal, Spec};
use stead::core::watch::{WATCH_DELAY, Watch};

/// An app that wishes nothing special.
pub fn plain(name: &str) -> Spec {
    Spec {
        script: format!("{name}.py"),
        command: vec!["python3".into(), format!("{name}.py")],
        cwd: "/srv".into(),
        ..Spec::plain(AppName::parse(name).unwrap())
    }
}

/// `NAME key=value…`, by the names that the ecosystem file has.
pub fn spec(text: &str) -> Spec {
    let mut words = text.split_whitespace();
    let mut spec = plain(words.next().expect("an app has a name"));
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("`{word}` is no key=value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("`{word}`: no number"));
        match key {
            "namespace" => spec.namespace = value.into(),
            "instances" => spec.instances = Some(number()),
            "autostart" => spec.autostart = value == "true",
            "autorestart" => spec.policy.autorestart = value == "true",
            "restart_delay" => spec.policy.restart_delay = span(value),
            "exp_backoff_restart_delay" => spec.policy.exp_backoff_restart_delay = Some(span(value)),
            "min_uptime" => spec.policy.min_uptime = span(value),
            "max_restarts" => spec.policy.max_restarts = number(),
            "stop_exit_codes" => {
                spec.policy.stop_exit_codes = value.split(',').map(|code| code.parse().unwrap()).collect();
            }
            // Its fields with `_` between them.
            "cron_restart" => spec.policy.cron_restart = Some(Cron::parse(&value.replace('_', " ")).unwrap()),
            "jitter" => spec.policy.jitter = span(value),
            "restart_on" => {
                spec.policy.restart_on = value
                    .split(',')
                    .map(|rule| {
                        let (kind, reaction) = rule.split_once(':').expect("cause:reaction");
                        let reaction = match reaction {
                            "never" => Reaction::Never,
                            "always" => Reaction::Always,
                            "backoff" => Reaction::Backoff,
                            other => panic!("no reaction `{other}`"),
                        };
                        (EndKind::parse(kind).unwrap(), reaction)
                    })
                    .collect();
            }
            "kill_signal" => spec.stop.kill_signal = Signal::parse(value).unwrap(),
            "reload_signal" => spec.reload.reload_signal = Signal::parse(value).unwrap(),
            "reload_timeout" => spec.reload.reload_timeout = span(value),
            "listen" => spec.listen = vec![Listen::Tcp(value.into())],
            "kill_timeout" => spec.stop.kill_timeout = span(value),
            "kill_mode" => {
                spec.stop.kill_mode = match value {
                    "tree" => KillMode::Tree,
                    "mixed" => KillMode::Mixed,
                    "main" => KillMode::Main,
                    other => panic!("no kill_mode `{other}`"),
                }
            }
            "max_memory_restart" => spec.max_memory_restart = Some(Bytes(u64::from(number()))),
            "watch" => {
                spec.watch = Some(Watch { paths: vec![value.into()], ignore: Vec::new(), delay: WATCH_DELAY });
            }
            "wait_ready" => spec.readiness.wait_ready = value == "true",
            "listen_timeout" => spec.readiness.listen_timeout = span(value),
            // INTERVAL/RETRIES/START_PERIOD
            "health_check" => spec.readiness.health_check = Some(health_check(value)),
            "depends_on" => spec.depends_on = value.split(',').map(dependency).collect(),
            "nice" => spec.nice = Some(value.parse().unwrap()),
            key => match key.strip_prefix("env.") {
                Some(variable) => drop(spec.env.insert(variable.into(), value.into())),
                None => panic!("no key `{key}`"),
            },
        }
    }
    spec
}

/// `lives`, `exits 1 after 10ms`, `dies SIGSEGV after 2s`, `obeys after 300ms`, `obeys after 300ms with 0`, `ignores signals`,
/// `ready after 1s`, `never ready`, `well after 2s`, `ill after 1m`, `children 2`, `stubborn children 2`, `starts in 80ms`, `fails exec ENOENT`, `is unprepared ENOENT`; with commas between.
pub fn temper(text: &str) -> Temper {
    let mut temper = Temper::default();
    for phrase in text.split(',') {
        let words: Vec<&str> = phrase.split_whitespace().collect();
        match words[..] {
            ["lives"] => temper.life = None,
            ["exits", code, "after", after] => {
                temper.life = Some((span(after), ExitStatus::Code(code.parse().unwrap())));
            }
            ["dies", signal, "after", after] => {
                let signal = Signal::parse(signal).unwrap();
                let core_dumped = signal == Signal(11);
                temper.life = Some((span(after), ExitStatus::Signal { signal, core_dumped }));
            }
            ["obeys", "after", after] => temper.when_told = WhenTold::Ends(span(after), None),
            ["obeys", "after", after, "with", code] => {
                temper.when_told = WhenTold::Ends(span(after), Some(code.parse().unwrap()));
            }
            ["ignores", "signals"] => temper.when_told = WhenTold::Ignores,
            ["children", count] => temper.children = count.parse().unwrap(),
            ["stubborn", "children", count] => {
                temper.children = count.parse().unwrap();
                temper.stubborn_children = true;
            }
            ["ready", "after", after] => temper.ready = Some(span(after)),
            ["never", "ready"] => temper.ready = None,
            ["well", "after", after] => temper.well.0 = span(after),
            ["ill", "after", after] => temper.well.1 = Some(span(after)),
            ["starts", "in", after] => temper.start = Start::After(span(after)),
            ["fails", stage, errno] => temper.start = Start::Fails(failure(stage, errno)),
            ["is", "unprepared", errno] => temper.start = Start::Unprepared(failure("exec", errno)),
            _ => panic!("no temper `{phrase}`"),
        }
    }
    temper
}

/// `30s/3/0`: interval, retries, start period.
fn health_check(text: &str) -> HealthCheck {
    let mut parts = text.split('/');
    let mut part = |default| parts.next().unwrap_or(default);
    HealthCheck {
        interval: span(part("30s")),
        retries: part("3").parse().expect("a number of retries"),
        start_period: span(part("0")),
        timeout: Millis(1_000),
        probe: Probe::Http("http://127.0.0.1:5000/".into()),
    }
}

/// `db` or `db:healthy`.
fn dependency(text: &str) -> (AppName, Need) {
    let (name, need) = text.split_once(':').unwrap_or((text, "started"));
    let need = match need {
        "started" => Need::Started,
        "healthy" => Need::Healthy,
        "done" => Need::Done,
        other => panic!("nothing is waited for by `{other}`"),
    };
    (AppName::parse(name).unwrap(), need)
}

/// `1500`, `10ms`, `2.5s`, `3m`, `1h`.
pub fn span(text: &str) -> Millis {
    let (number, unit) = [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6), ("", 1.0)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .unwrap_or((text, 1.0));
    let number: f64 = number.parse().unwrap_or_else(|_| panic!("no length of time `{text}`"));
    Millis((number * unit).round() as u64)
}

fn failure(stage: &str, errno: &str) -> SpawnFailure {
    SpawnFailure { stage: stage.into(), errno: errno.into() }
}
