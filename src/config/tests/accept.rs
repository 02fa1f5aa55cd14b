//! Files that are right, and what they mean.

use super::super::attributes::{ATTRIBUTES, Standing};
use super::super::ecosystem;
use super::*;
use crate::core::clock::Millis;
use crate::core::cron::Cron;
use crate::core::notify::{Occasion, Way};
use crate::core::record::Cause;
use crate::core::spec::{
    Bytes, EndKind, HealthCheck, KillMode, Limit, Listen, Logs, Policy, Probe, Reaction, Readiness, Reload, Resource,
    Signal, Stop,
};
use crate::core::watch::{WATCH_DELAY, Watch};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_app_with_a_script_has_pm2s_defaults() {
    let world = World::new();
    let spec = world.read("apps:\n  - script: app.py\n").unwrap().specs.remove(0);
    assert_eq!(spec.name.as_str(), "app");
    assert_eq!(spec.namespace, "default");
    assert_eq!(spec.script, "app.py");
    assert_eq!(spec.command, [world.path("bin/python3"), world.path("app.py")].map(|path| path.display().to_string()));
    assert_eq!(spec.cwd, world.dir.path());
    assert_eq!(spec.env, BTreeMap::from([("PYTHONUNBUFFERED".into(), "1".into())]));
    assert_eq!((spec.instances, spec.instance_var.as_str(), spec.autostart), (None, "NODE_APP_INSTANCE", true));
    assert_eq!((spec.policy, spec.stop, spec.logs), (Policy::default(), Stop::default(), Logs::default()));
    assert_eq!((spec.identity, spec.umask, spec.nice, spec.pid_file), (None, None, None, None));
    assert!(!spec.no_new_privileges);
    assert_eq!((spec.limits.len(), spec.max_memory_restart, spec.listen.len()), (0, None, 0));
}

#[test]
fn every_form_of_a_file_gives_the_same_specs() {
    let world = World::new();
    let wanted = world.read("apps:\n  - name: web\n    script: app.py\n    args: [-p, 80]\n").unwrap();
    assert_eq!(wanted.specs[0].command[2..], ["-p", "80"]);
    for text in [
        "- name: web\n  script: app.py\n  args: -p 80\n",
        "name: web\nscript: app.py\nargs: -p 80\n",
        "apps: {name: web, script: app.py, args: -p 80}\n",
        "apps:\r\n- name: web\r\n  script: app.py\r\n  args: \"-p '80'\"\r\n",
        "\u{feff}--- # a comment\napps:\n  - { name: web, cmd: app.py, args: [-p, '80'] }\n...\n",
        "{\"apps\":[{\"name\":\"web\",\"exec\":\"app.py\",\"args\":[\"-p\",80]}]}",
        "{\n\t\"x-mine\": {},\n\t\"$schema\": \"s\",\n\t\"apps\": [\n\t\t{\n\t\t\t\"name\": \"\\u0077eb\",\n\t\t\t\"command\": \"app.py\",\n\t\t\t\"args\": \"-p 80\"\n\t\t}\n\t]\n}\n",
        "x-base: &base\n  script: app.py\n  args: [-p, 80]\napps:\n  - name: web\n    <<: *base\n",
        "x-a: &a {script: nowhere, out: x}\nx-b: &b {script: app.py, args: -p 80, out: null}\napps:\n  - {<<: [*b, *a], name: web}\n",
        "x-a: &a {script: nowhere, output: x}\napps:\n  - {<<: *a, exec: app.py, out: ~, args: -p 80, name: web, x-mine: 1}\n",
    ] {
        assert_eq!(world.read(text).map_err(|problems| problems.to_string()), Ok(wanted.clone()), "{text}");
    }
}

#[test]
fn an_emoji_in_json_is_one_character() {
    let world = World::new();
    let json = r#"{"apps": [{"script": "app.py", "env": {"A": "\ud83d\ude00", "B": "\\ud83d", "C": "\/"}}]}"#;
    let env = world.read(json).unwrap().specs.remove(0).env;
    assert_eq!((env["A"].as_str(), env["B"].as_str(), env["C"].as_str()), ("😀", "\\ud83d", "/"));
}

#[test]
fn a_big_file_in_one_line_is_read() {
    let world = World::new();
    let app = |n: usize| json!({"name": format!("a{n}"), "script": "app.py", "env": {"LONG": "x".repeat(2000)}});
    let text = serde_json::to_string(&json!({"apps": (0..300).map(app).collect::<Vec<_>>()})).unwrap();
    assert_eq!(world.read(&text).unwrap().specs.len(), 300);
}

#[test]
fn variables_are_exactly_as_written() {
    let world = World::new();
    let env = world.app(
        "env:\n  PORT: 8080\n  VERSION: 1.10\n  DEBUG: True\n  ANSWER: yes\n  HEX: 0x1F\n  OLD: 0755\n  EMPTY: ''\n  DATE: 2026-01-02\n  BIG: 12345678901234567890123\n  NULLISH: 'null'\n  TEXT: |\n    two\n    lines\n  GONE: null",
    );
    let env: Vec<(&str, &str)> = env.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        env,
        [
            ("ANSWER", "yes"),
            ("BIG", "12345678901234567890123"),
            ("DATE", "2026-01-02"),
            ("DEBUG", "True"),
            ("EMPTY", ""),
            ("HEX", "0x1F"),
            ("NULLISH", "null"),
            ("OLD", "0755"),
            ("PORT", "8080"),
            ("PYTHONUNBUFFERED", "1"),
            ("TEXT", "two\nlines\n"),
            ("VERSION", "1.10"),
        ]
    );
}

#[test]
fn the_later_environment_goes_before_the_earlier() {
    let world = World::new();
    world.file("base.env", "A=file\nB=file\nC=file\nD=file\n");
    world.file("more.env", "D=more\n");
    let text = app(
        "env_file: [base.env, ./more.env]\nenv: {B: env, C: env, A: null}\nenv_production: {C: prod}\nappend_env_to_name: true",
    );
    world.file("ecosystem.yaml", &text);
    let env = |name| {
        let spec = world.read_file("ecosystem.yaml", name).unwrap().specs.remove(0);
        let values = ["A", "B", "C", "D"].map(|key| spec.env.get(key).cloned().unwrap_or_default());
        (spec.name.to_string(), values.join(" "))
    };
    assert_eq!(env(None), ("web".into(), " env env more".into()));
    assert_eq!(env(Some("production")), ("web-production".into(), " env prod more".into()));
}

#[test]
fn units_are_pm2s_and_peoples() {
    let world = World::new();
    for (value, ms) in [
        ("0", 0),
        ("250", 250),
        ("'250'", 250),
        ("250ms", 250),
        ("5s", 5000),
        ("1.5 s", 1500),
        ("2m", 120_000),
        ("1h", 3_600_000),
    ] {
        assert_eq!(world.app(&format!("restart_delay: {value}")).policy.restart_delay, Millis(ms), "{value}");
    }
    let (k, m, g) = (1 << 10, 1 << 20, 1 << 30);
    for (value, bytes) in [
        ("1048576", m),
        ("'2097152'", 2 * m),
        ("2048K", 2048 * k),
        ("300M", 300 * m),
        ("300m", 300 * m),
        ("300MB", 300 * m),
        ("300 MiB", 300 * m),
        ("1.5G", g + g / 2),
    ] {
        assert_eq!(
            world.app(&format!("max_memory_restart: {value}")).max_memory_restart,
            Some(Bytes(bytes)),
            "{value}"
        );
    }
    for value in ["0", "false", "null", "''"] {
        assert_eq!(world.app(&format!("max_memory_restart: {value}")).max_memory_restart, None, "{value}");
    }
    for (value, mask) in [("022", 0o22), ("'0022'", 0o22), ("0o22", 0o22), ("22", 0o22), ("0", 0), ("777", 0o777)] {
        assert_eq!(world.app(&format!("umask: {value}")).umask, Some(mask), "{value}");
    }
}

#[test]
fn instances_are_counted_from_the_cpus() {
    let world = World::new();
    for (value, count) in [
        ("1", Some(1)),
        ("3", Some(3)),
        ("max", Some(4)),
        ("0", Some(4)),
        ("-1", Some(3)),
        ("-9", Some(1)),
        ("'2'", Some(2)),
        ("null", None),
    ] {
        assert_eq!(world.app(&format!("instances: {value}")).instances, count, "{value}");
    }
}

#[test]
fn the_policy_is_read() {
    let world = World::new();
    let spec = world.app(
        "namespace: jobs\nautostart: false\nautorestart: 'false'\nrestart_delay: 100\nexpBackoffRestartDelay: 200\nmin_uptime: 10s\nmax_restarts: 3\nstop_exit_codes: [0, 143]\ncron: TZ=UTC  @daily\njitter: 500ms\nrestart_on: {exit_code: backoff, 3: never, success: always}\nkill_signal: term\nkill_timeout: 5s\ntreekill: false\nnice: -5\ninstance_var: N",
    );
    assert_eq!(
        spec.policy,
        Policy {
            autorestart: false,
            restart_delay: Millis(100),
            exp_backoff_restart_delay: Some(Millis(200)),
            min_uptime: Millis(10_000),
            max_restarts: 3,
            stop_exit_codes: BTreeSet::from([0, 143]),
            cron_restart: Some(Cron::parse("TZ=UTC  @daily").unwrap()),
            jitter: Millis(500),
            restart_on: BTreeMap::from([
                (EndKind::Code(3), Reaction::Never),
                (EndKind::Cause(Cause::ExitCode), Reaction::Backoff),
                (EndKind::Cause(Cause::Success), Reaction::Always),
            ]),
        }
    );
    assert_eq!(spec.stop, Stop { kill_signal: Signal::TERM, kill_timeout: Millis(5000), kill_mode: KillMode::Main });
    assert_eq!((spec.namespace.as_str(), spec.autostart, spec.nice), ("jobs", false, Some(-5)));
    assert_eq!(spec.instance_var, "N");
    assert_eq!(world.app("kill_mode: mixed\nkill_signal: 15\ntreekill: true").stop.kill_mode, KillMode::Mixed);
    let reload = world.app("listen: [':80']\nreload_signal: hup\nreload_timeout: 10s").reload;
    assert_eq!(reload, Reload { reload_signal: Signal::HUP, reload_timeout: Millis(10_000) });
    assert_eq!(world.app("stop_exit_codes: 3").policy.stop_exit_codes, BTreeSet::from([3]));
}

#[test]
fn logs_lie_relative_to_the_file() {
    let world = World::new();
    let spec = world.app(
        "cwd: api\nscript: main.py\nout: logs/out.log\nerr_log: /dev/null\nlog: ~/all.log\ncombine_logs: true\ntime: true\nlog_max_size: 1G\nlog_keep: 2\nlog_max_age: 14d\npid: web.pid",
    );
    let logs = Logs {
        out: Some(world.path("logs/out.log")),
        err: Some("/dev/null".into()),
        combined: Some(world.path("home/all.log")),
        merge: true,
        disabled: false,
        timestamp: Some("%Y-%m-%dT%H:%M:%S".into()),
        max_size: Bytes(1 << 30),
        keep: 2,
        max_age: Some(Millis(14 * 86_400_000)),
    };
    assert_eq!(spec.logs, logs);
    assert_eq!(spec.pid_file, Some(world.path("web.pid")));
    let logs = world
        .app("out: 'NULL'\nlog: false\ntime: true\nlog_date_format: YYYY-MM-DD\nlog_max_size: 0\ndisable_logs: true")
        .logs;
    assert_eq!(logs.out, Some("/dev/null".into()));
    assert_eq!(
        (logs.combined, logs.timestamp, logs.max_size, logs.disabled),
        (None, Some("%Y-%m-%d".into()), Bytes(0), true)
    );
    assert_eq!(world.app("log_date_format: '%F %T%.3f'").logs.timestamp, Some("%F %T%.3f".into()));
    assert_eq!(world.app("log_date_format: false").logs.timestamp, None);
}

#[test]
fn what_is_watched_lies_relative_to_the_cwd() {
    let world = World::new();
    let watch = |lines: &str| world.app(lines).watch;
    let expected = |paths: &[&str], ignore: &[&str], delay| {
        let paths = paths.iter().map(|path| world.path(path)).collect();
        Some(Watch { paths, ignore: ignore.iter().map(|one| (*one).to_owned()).collect(), delay })
    };
    assert_eq!(watch("script: main.py\nwatch: true\ncwd: api"), expected(&["api"], &[], WATCH_DELAY));
    assert_eq!(
        watch("script: main.py\nwatch: main.py\ncwd: api\nwatch_delay: 1s"),
        expected(&["api/main.py"], &[], Millis(1000))
    );
    assert_eq!(
        watch("watch: [api, app.py]\nignore_watch: [logs, '!*.db']"),
        expected(&["api", "app.py"], &["logs", "!*.db"], WATCH_DELAY)
    );
    assert_eq!(
        watch("watch: true\nignore_watch: ['node_modules', '\\.git', '[\\/\\\\]\\./']").unwrap().ignore.len(),
        3
    );
    for off in ["watch: false", "watch: null", "watch: []", "ignore_watch: logs\nwatch_delay: 5s"] {
        assert_eq!(watch(off), None, "{off}");
    }
}

#[test]
fn limits_and_sockets_are_read() {
    let world = World::new();
    let spec = world.app(
        "limits: {nofile: 65536, core: unlimited, as: 2G, NPROC: {soft: 10, hard: unlimited}}\nlisten: [127.0.0.1:5000, run/web.sock, ':80']",
    );
    let limit = |soft, hard| Limit { soft, hard };
    assert_eq!(
        spec.limits,
        BTreeMap::from([
            (Resource::As, limit(Some(2 << 30), Some(2 << 30))),
            (Resource::Core, limit(None, None)),
            (Resource::Nofile, limit(Some(65536), Some(65536))),
            (Resource::Nproc, limit(Some(10), None)),
        ])
    );
    assert_eq!(
        spec.listen,
        [
            Listen::Tcp("127.0.0.1:5000".into()),
            Listen::Unix(world.path("run/web.sock")),
            Listen::Tcp("0.0.0.0:80".into()),
        ]
    );
    assert_eq!(world.app("listen: 5000").listen, [Listen::Tcp("0.0.0.0:5000".into())]);
}

#[test]
fn root_becomes_anyone_and_others_stay_who_they_are() {
    let mut world = World::new();
    for lines in ["user: me", "uid: 1000", "user: me\ngid: me", "group: 1000"] {
        assert_eq!(world.app(lines).identity, None, "{lines}");
    }
    world.uid = 0;
    let www = |gid| Some(Identity { user: "www".into(), uid: 33, gid, groups: vec![33] });
    assert_eq!(world.app("user: www").identity, www(33));
    assert_eq!(world.app("uid: 33\ngroup: adm").identity, www(4));
    assert_eq!(world.app("").identity, None);
}

#[test]
fn what_waits_for_later_is_said_once_and_only_where_it_would_do_something() {
    let world = World::new();
    let off = "watch: false\nignore_watch: [x]\nwatch_delay: 100\ncron_restart: 0\nwait_ready: false\nlisten_timeout: 5000\ndepends_on: []\nhealth_check: null";
    assert_eq!(world.warnings(&app(off)), [] as [&str; 0]);
    let on = "apps:\n- {name: a, script: app.py, increment_var: PORT, vizion: false}\n- {name: b, script: app.py, filter_env: true, pmx: 1}\n- {name: c, script: app.py, increment_var: PORT, windowsHide: 1}\ndeploy: {}\nhealth: null\nnotify: null\n";
    assert_eq!(
        world.warnings(on),
        [
            "ecosystem.yaml:2: apps[0].increment_var: `increment_var` is not supported yet and is ignored (of a, c)",
            "ecosystem.yaml:2: apps[0].vizion: `pmx`, `vizion`, `windowsHide` mean nothing to stead and are ignored",
            "ecosystem.yaml:3: apps[1].filter_env: `filter_env` is not supported yet and is ignored (of b)",
            "ecosystem.yaml:5: deploy: PM2's deployment is not stead's and is ignored",
        ]
    );
    assert_eq!(
        world.warnings(&app("kill_timeout: 5")),
        ["ecosystem.yaml:4: apps[0].kill_timeout: 5 is 5 milliseconds"]
    );
    assert_eq!(
        world.warnings(&app("reload_timeout: 5s")),
        ["ecosystem.yaml:4: apps[0].reload_timeout: does nothing without `listen`"]
    );
}

#[test]
fn when_an_app_is_up_and_what_it_needs() {
    let world = World::new();
    let spec =
        world.app("wait_ready: true\nlistenTimeout: 5000\nhealth_check: {http: 'http://localhost:5000', retries: 1}");
    let default = HealthCheck {
        probe: Probe::Http("http://localhost:5000/".into()),
        interval: Millis(30_000),
        timeout: Millis(30_000),
        retries: 1,
        start_period: Millis(0),
    };
    let readiness = Readiness { wait_ready: true, listen_timeout: Millis(5000), health_check: Some(default.clone()) };
    assert_eq!(spec.readiness, readiness);
    let check = |text: &str| world.app(&format!("health_check: {text}")).readiness.health_check;
    let all = HealthCheck {
        probe: Probe::Command(vec!["/bin/sh".into(), "-c".into(), "pg_isready -q".into()]),
        interval: Millis(1_000),
        timeout: Millis(500),
        start_period: Millis(60_000),
        retries: 1,
    };
    assert_eq!(
        check("{command: pg_isready -q, interval: 1s, timeout: 500, retries: 1, start_period: 1m}"),
        Some(all.clone())
    );
    let direct = HealthCheck { probe: Probe::Command(vec!["pg_isready".into(), "-q".into()]), retries: 3, ..default };
    assert_eq!(check("{command: [pg_isready, -q]}"), Some(direct));
    assert_eq!(check("false"), None);
    let needs_of = |text: &str| world.read(&app(text)).unwrap().specs.remove(0).depends_on;
    let needs = needs_of("depends_on: {db: started, cache: healthy, migrate: done}");
    let words: Vec<String> = needs.iter().map(|(name, need)| format!("{name} {need:?}")).collect();
    assert_eq!(words, ["cache Healthy", "db Started", "migrate Done"]);
    assert_eq!(needs_of("depends_on: db").len(), 1);
}

#[test]
fn the_command_line_gives_the_same_attributes() {
    let world = World::new();
    let found = world.script(json!({
        "script": "app.py", "name": "x", "interpreter": "python3", "max_memory_restart": "300M",
        "args": ["--port", "5000"], "env": {"A": 1}, "instances": 2
    }));
    let spec = found.unwrap().specs.remove(0);
    assert_eq!(spec.command[2..], ["--port", "5000"]);
    assert_eq!(
        (spec.max_memory_restart, spec.instances, spec.env["A"].as_str()),
        (Some(Bytes(300 << 20)), Some(2), "1")
    );
}

#[test]
fn every_attribute_of_the_table_is_accepted_and_each_used_one_is_read() {
    let world = World::new();
    for attribute in ATTRIBUTES {
        assert!(!attribute.meaning.is_empty());
        for name in attribute.aliases.iter().chain([&attribute.name]) {
            let text = |value: &str| match attribute.name {
                "script" => format!("- {name}: {value}\n"),
                "name" => format!("- script: app.py\n  name: {value}\n"),
                _ => format!("- {{name: web, script: app.py, {name}: {value}}}\n"),
            };
            let good = if attribute.name == "script" { "app.py" } else { "null" };
            assert!(world.read(&text(good)).is_ok(), "{name}");
            // `get` takes only names of the table; that it takes each of them shows by a value that no attribute has.
            let refused = world.read(&text("[[]]")).is_err();
            assert_eq!(refused, attribute.standing == Standing::Used, "{name}");
        }
    }
}

#[test]
fn a_file_is_known_by_its_name() {
    for name in
        ["-", "a/ecosystem.yaml", "x.yml", "pm2.json", "ecosystem.config.js", "x.config.cjs", "ecosystem.yaml.example"]
    {
        assert!(ecosystem::is_ecosystem(name), "{name}");
    }
    for name in ["app.js", "app.py", "web", "yaml", "config.js"] {
        assert!(!ecosystem::is_ecosystem(name), "{name}");
    }
}

#[test]
fn the_rules_of_health_are_the_fleets_and_the_apps() {
    let world = World::new();
    let read = world
        .read(
            "health: {memory: 70, swap: 90%, disk: '95 %', restarts: 100, data: [data, /srv/x], memory_warn: 1G}\napps:\n- {script: app.py, memory_warn: 200M, health: {restarts_per_hour: 3}}\n",
        )
        .unwrap();
    let rules = read.rules.unwrap();
    assert_eq!((rules.memory, rules.swap, rules.disk), (70, 90, 95));
    assert_eq!((rules.apps.restarts, rules.apps.memory_warn), (Some(100), Some(Bytes(1 << 30))));
    assert_eq!(rules.data, [world.path("data"), "/srv/x".into()]);
    let own = &read.specs[0].health;
    assert_eq!((own.restarts, own.restarts_per_hour, own.memory_warn), (None, Some(3), Some(Bytes(200 << 20))));
    assert_eq!(world.read(&app("")).unwrap().rules, None);
}

#[test]
fn who_is_told_stands_beside_the_apps() {
    let world = World::new();
    world.program("tell.sh", b"#!/bin/sh\n");
    let read = |notify: &str| world.read(&format!("apps: [{{script: app.py, notify: false}}]\n{notify}")).unwrap();
    let found = read(
        "notify:\n- webhook: https://hooks.example/T0/x\n  on: [give-up, crash_loop]\n  timeout: 3s\n- command: tell.sh\n- command: [tool, -v]\n  on: oom\n- command: free -m | tool\n",
    );
    assert!(!found.specs[0].notify);
    let notifiers = found.notifiers.unwrap();
    let ways: Vec<Way> = notifiers.iter().map(|one| one.way.clone()).collect();
    let command = |argv: &[&str]| Way::Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: world.path(""),
    };
    assert_eq!(
        ways,
        [
            Way::Webhook("https://hooks.example/T0/x".into()),
            command(&[&world.path("tell.sh").display().to_string()]),
            command(&["tool", "-v"]),
            command(&["bash", "-c", "free -m | tool"]),
        ]
    );
    assert_eq!(notifiers[0].on, BTreeSet::from([Occasion::CrashLoop, Occasion::GiveUp]));
    assert_eq!((notifiers[0].timeout, notifiers[1].timeout), (Millis(3000), Millis(10_000)));
    assert_eq!((notifiers[1].on.len(), notifiers[2].on.len()), (Occasion::ALL.len(), 1));
    assert_eq!(read("notify: {webhook: 'http://[::1]:9000/x?y=1#z'}\n").notifiers.unwrap().len(), 1);
    // Nobody any more, and nothing said of it, are two things.
    assert_eq!((read("notify: false\n").notifiers, read("").notifiers), (Some(Vec::new()), None));
    assert!(read("").specs.iter().all(|spec| !spec.notify) && world.app("").notify);
}
