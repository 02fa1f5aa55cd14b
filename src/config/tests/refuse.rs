//! Files that are wrong, and what is said of them.

use super::*;
use serde_json::json;

/// Each text has this one error, `ecosystem.yaml:` before it.
fn check(world: &World, cases: &[(&str, &str)]) {
    for (text, error) in cases {
        assert_eq!(world.errors(text), format!("ecosystem.yaml{error}"), "{text}");
    }
}

#[test]
fn everything_wrong_is_told_at_once_in_order_of_line() {
    let world = World::new();
    let text = "apps:
  - name: a/b
    script: nowhere.py
    max_memory_restart: 300
    autorestart: yes
  - name: web
    script: app.py
    env: {PORT: [1], X: , X: 1}
    scirpt: y
  - name: web
    script: app.py
    cwd: gone
  - 5
";
    assert_eq!(
        world.errors(text),
        "ecosystem.yaml:2: apps[0].name: a name is no path: `a/b`
ecosystem.yaml:3: apps[0].script: `nowhere.py` is neither a file in /srv nor a program in PATH
ecosystem.yaml:4: apps[0].max_memory_restart: 300 B is surely a mistake: no program runs in less than 1M
  hint: a number is bytes; write `300M` for 300 MiB
ecosystem.yaml:5: apps[0].autorestart: `yes` is neither true nor false
ecosystem.yaml:8: apps[1].env.X: `X` is already in line 8
ecosystem.yaml:8: apps[1].env.PORT: a list is not a text
  hint: quote it if the app reads JSON
ecosystem.yaml:8: apps[1].env.X: has no value
  hint: `\"\"` is the empty text, `null` takes away what an `env_file` sets
ecosystem.yaml:9: apps[1].scirpt: unknown attribute
  hint: did you mean `script`?
ecosystem.yaml:10: apps[2].name: another app has the name `web`: ecosystem.yaml:6: apps[1].name
ecosystem.yaml:12: apps[2].cwd: /srv/gone: no such file or directory
ecosystem.yaml:13: apps[3]: `5` is not an app
  hint: an app is a mapping with a `script`"
    );
}

#[test]
fn a_wall_below_the_cap_and_other_impossible_allowances_are_refused() {
    let world = World::new();
    check(
        &world,
        &[
            (
                "apps:\n- script: app.py\n  max_memory_restart: 100M\n  memory_max: 80M\n",
                ":4: apps[0].memory_max: the hard limit 80M is below the cap 100M of max_memory_restart\n  hint: the cap comes first: \
                 above it the app is restarted gracefully; at `memory_max` the kernel kills it",
            ),
            (
                "apps: [{script: app.py, oom_policy: ignore}]\n",
                ":1: apps[0].oom_policy: `ignore` is not an OOM policy\n  hint: write `kill` (the whole app) or `continue` (a worker may die)",
            ),
        ],
    );
    let spec = world.app("memory_max: 80M");
    assert_eq!((spec.wall(), spec.max_memory_restart), (Some(crate::core::spec::Bytes(80 << 20)), None));
}

#[test]
fn files_that_are_no_ecosystem_are_refused_with_what_to_do() {
    let world = World::new();
    let empty = ": is empty\n  hint: apps: [{ name: web, script: app.py }]";
    check(
        &world,
        &[
            ("", empty),
            ("\n# nothing\n", empty),
            ("---\n", empty),
            (
                "{\n  // mine\n  \"apps\": []\n}\n",
                ":2: [\"// mine \"apps\"\"]: unknown key\n  hint: a comment begins with `#`",
            ),
            ("hello\n", ":1: is `hello`, not a list of apps\n  hint: apps: [{ name: web, script: app.py }]"),
            ("apps:\n", ":1: apps: is nothing, not a list of apps\n  hint: each app begins with `- name: …`"),
            ("apps: []\n", ":1: apps: has no app\n  hint: apps: [{ name: web, script: app.py }]"),
            (
                "apps:\n  web: {script: app.py}\n",
                ":2: apps: is a mapping, not a list of apps\n  hint: each app begins with `- name: …`",
            ),
            ("x-a: 1\n", ":1: has no `apps`\n  hint: apps: [{ name: web, script: app.py }]"),
            ("app: [{script: app.py}]\n", ":1: app: unknown key\n  hint: did you mean `apps`?"),
            (
                "apps: [{script: app.py}]\nwatch: true\n",
                ":2: watch: unknown key\n  hint: it is an attribute of an app: write it below the app",
            ),
            (
                "apps: [{script: app.py}]\nzzzzz: true\n",
                ":2: zzzzz: unknown key\n  hint: a key of your own begins with `x-`",
            ),
            (
                "apps: [{script: app.py}]\n---\napps: []\n",
                ":2: a second document begins\n  hint: write all apps into one list",
            ),
            ("apps: [{name: a}]\n", ":1: apps[0]: `script` is missing\n  hint: name the program to run"),
        ],
    );
}

#[test]
fn yaml_mistakes_have_their_line_and_a_hint() {
    let world = World::new();
    let indentation = "check the indentation";
    for (text, line, part) in [
        ("apps:\n\t- script: app.py\n", 2, "a tab in the indentation\n  hint: YAML is indented by spaces only"),
        ("apps:\n  - name: a\n\tscript: app.py\n", 3, "a tab in the indentation"),
        ("apps:\n  - name: a\n   script: app.py\n", 3, indentation),
        ("apps:\n  - name: a\n      script: app.py\n", 3, indentation),
        ("apps:\n  - name: a: b\n", 2, "a text with `: ` in it needs quotes"),
        ("apps:\n  - name: @a\n", 2, "put the text in quotes"),
        ("apps:\n  - name: \"a\n", 2, "a quote is opened here and never closed"),
        ("apps: *gone\n", 1, "an alias `*name` needs an anchor `&name` before it"),
        ("apps: &a [*a]\n", 1, "an alias stands within its own anchor"),
        ("apps:\n  - <<: 5\n    script: app.py\n", 2, "`<<` merges mappings, not `5`"),
        ("apps:\n  - {script: app.py, [a]: b}\n", 2, "a key is a text"),
        ("apps:\n  - script: !py app.py\n", 2, "the tag `!py` is not known"),
        ("apps: [\n", 2, "did not find expected"),
    ] {
        let errors = world.errors(text);
        assert!(errors.starts_with(&format!("ecosystem.yaml:{line}: ")) && errors.contains(part), "{text}{errors}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_by_line() {
    let world = World::new();
    for (bytes, error) in [
        (&b"apps:\n- name: \xff\n"[..], ":2: is not UTF-8\n  hint: save it as UTF-8"),
        (b"a: 1\nb: \0\n", ":2: has the control character `\\0`"),
        (b"a: 1\nb: \x1b[31m\n", ":2: has the control character `\\u{1b}`"),
        (b"\xff\xfea\0", ": is UTF-16, and stead reads UTF-8\n  hint: save it as UTF-8"),
    ] {
        world.file("ecosystem.yaml", bytes);
        let problems = world.read_file("ecosystem.yaml", None).unwrap_err();
        assert_eq!(problems.to_string(), format!("ecosystem.yaml{error}"));
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let world = World::new();
    let errors = |name: &str| world.told(&world.read_file(name, None).unwrap_err().to_string());
    assert_eq!(errors("gone.yaml"), "gone.yaml: could not be read: no such file or directory");
    assert_eq!(errors("api"), "api: could not be read: is a directory\n  hint: name the file in it");
    let js = "stead reads YAML and JSON, not JavaScript\n  hint: convert it: node -e 'console.log(JSON.stringify(require(\"./ecosystem.config.js\")))' > ecosystem.json";
    assert_eq!(errors("ecosystem.config.js"), format!("ecosystem.config.js: {js}"));
}

#[test]
fn values_of_a_wrong_kind_are_refused() {
    let world = World::new();
    let span = "a number is milliseconds; with a unit: `500ms`, `5s`, `2m`, `1h`";
    let size = "a number is bytes; with a unit: `512K`, `300M`, `1.5G`";
    let cases = [
        ("cwd:", "cwd: has no value\n  hint: write a value, or `null` for the default".to_owned()),
        ("namespace: [a]", "namespace: a list is not a text".into()),
        ("namespace: true", "namespace: `true` is not a text".into()),
        ("namespace: all", "namespace: `all` means every app and can name none".into()),
        ("namespace: ' '", "namespace: must not be empty".into()),
        ("time: 1", "time: `1` is neither true nor false".into()),
        ("autostart: {}", "autostart: a mapping is neither true nor false".into()),
        ("restart_delay: -1", format!("restart_delay: `-1` is not a span of time\n  hint: {span}")),
        ("restart_delay: 5x", format!("restart_delay: `5x` is not a span of time\n  hint: {span}")),
        ("restart_delay: 1e3", format!("restart_delay: `1e3` is not a span of time\n  hint: {span}")),
        ("restart_delay: .inf", format!("restart_delay: `.inf` is not a span of time\n  hint: {span}")),
        ("restart_delay: true", format!("restart_delay: `true` is not a span of time\n  hint: {span}")),
        ("restart_delay: 9000h", format!("restart_delay: `9000h` is longer than a year\n  hint: {span}")),
        ("min_uptime: 10", "min_uptime: 10 ms is too short (at least 100)\n  hint: a number is milliseconds; with a unit: `10s`".into()),
        ("cron_restart: '0 0 31 2 *'", "cron_restart: `0 0 31 2 *`: never fires: none of its months has such a day\n  hint: minute, hour, day of the month, month, day of the week: `30 3 * * *` is every day at 3:30".into()),
        ("cron_restart: 61 * * * *", "cron_restart: `61 * * * *`: minute `61`: 0 to 59\n  hint: minute, hour, day of the month, month, day of the week: `30 3 * * *` is every day at 3:30".into()),
        ("restart_on: {oomkill: never}", "restart_on: `oomkill` is neither an exit code nor a cause of an unplanned end\n  hint: did you mean `oom-kill`?".into()),
        ("restart_on: {3: nevr}", "restart_on: 3: `nevr` is none of never, always, backoff\n  hint: did you mean `never`?".into()),
        ("restart_on: never", "restart_on: `never` is not a map\n  hint: a map of causes and exit codes, such as `{exit-code: backoff, 3: never}`".into()),
        ("jitter: 2d", "jitter: 2d is too long (at most a day)".into()),
        ("max_restarts: 1.5", "max_restarts: `1.5` is not a whole number".into()),
        ("max_restarts: -1", "max_restarts: -1 is out of range (0 to 4294967295)".into()),
        ("stop_exit_codes: [0, 256]", "stop_exit_codes: 256 is out of range (0 to 255)".into()),
        ("max_memory_restart: 300X", format!("max_memory_restart: `300X` is not a size\n  hint: {size}")),
        ("max_memory_restart: true", format!("max_memory_restart: `true` is not a size\n  hint: {size}")),
        ("max_memory_restart: 9999999999T", "max_memory_restart: `9999999999T` is more than any machine has".into()),
        ("max_memory_restart: 512K", "max_memory_restart: 512K is surely a mistake: no program runs in less than 1M\n  hint: a number is bytes; write `512M` for 512 MiB".into()),
        ("instances: 1001", "instances: 1001 instances are too many (at most 1000)".into()),
        ("instances: many", "instances: `many` is not a whole number\n  hint: a number, `max` or 0 for one per CPU, or -1 for one less than that".into()),
        ("instance_var: 'A=B'", "instance_var: `A=B` is not the name of a variable".into()),
        ("exec_mode: cluster", "exec_mode: stead has no cluster mode, which is of Node.js\n  hint: share a port by `listen: [':5000']` and `instances`, or let gunicorn or uvicorn run its workers".into()),
        ("exec_mode: x", "exec_mode: `x` is not an exec mode\n  hint: write `fork`".into()),
        ("kill_signal: SIGFOO", "kill_signal: unknown signal `SIGFOO` (for example SIGINT, SIGTERM, SIGQUIT, SIGHUP)".into()),
        ("kill_mode: all", "kill_mode: `all` is not a kill mode\n  hint: write `tree`, `mixed` or `main`".into()),
        ("kill_mode: tree\ntreekill: false", "kill_mode: contradicts `treekill: false`\n  hint: keep `kill_mode` only".into()),
        ("umask: 18", "umask: `18` is not a umask\n  hint: write octal digits up to 777, such as `022`".into()),
        ("umask: 1777", "umask: `1777` is not a umask\n  hint: write octal digits up to 777, such as `022`".into()),
        ("nice: 20", "nice: 20 is out of range (-20 to 19)".into()),
        ("limits: 5", "limits: `5` is not a mapping\n  hint: `limits: { nofile: 65536 }`".into()),
        ("limits: {files: 5}", "limits.files: `files` is no resource\n  hint: as, core, cpu, data, fsize, memlock, msgqueue, nice, nofile, nproc, rtprio, rttime, sigpending, stack".into()),
        ("limits: {nofile: {soft: 5}}", "limits.nofile: has to say both `soft` and `hard`".into()),
        ("limits: {nofile: {soft: 5, hard: 4}}", "limits.nofile: the soft limit is above the hard one".into()),
        ("limits: {nofile: many}", "limits.nofile: `many` is not a whole number".into()),
        ("out: true", "out: `true` is not a text\n  hint: write the path of a file".into()),
        ("out: api", "out: /srv/api is a directory".into()),
        ("log_date_format: '%Q%!'", "log_date_format: `%Q%!` is not a form of time\n  hint: `YYYY-MM-DD HH:mm:ss.SSS Z` as in PM2, or a strftime format such as `%F %T`".into()),
        ("log_max_size: 50", "log_max_size: 50 B is too small for a log (at least 1K)\n  hint: a number is bytes; write `50M`".into()),
        ("log_keep: 101", "log_keep: 101 is out of range (0 to 100)".into()),
        ("args: {a: 1}", "args: a mapping is not a list of arguments".into()),
        ("args: [a, [b]]", "args: argument 1: a list is not a text".into()),
        ("args: \"a 'b\"", "args: a quote is never closed\n  hint: or write the arguments as a list".into()),
        ("env: [A=1]", "env: variables are written as a mapping\n  hint: `env: { KEY: value }`".into()),
        ("env: {A=B: 1}", "env[\"A=B\"]: is not the name of a variable".into()),
        ("env_x: {A: {}}", "env_x.A: a mapping is not a text\n  hint: quote it if the app reads JSON".into()),
        ("env_fle: x.env", "env_fle: unknown attribute\n  hint: did you mean `env_file`?".into()),
        ("env_file: gone.env", "env_file: /srv/gone.env: no such file or directory".into()),
        ("user: nobody-here", "user: no user `nobody-here`".into()),
        ("group: nobody-here", "group: no group `nobody-here`".into()),
        ("user: www", "user: only root can run an app as user `www`\n  hint: start stead as root, or take `user` away".into()),
        ("group: adm", "group: only root can run an app as group 4\n  hint: start stead as root, or take `group` away".into()),
        ("listen: [x]", "listen: `x` is no address: the port is a number from 1 to 65535\n  hint: write `127.0.0.1:5000`, `[::1]:5000`, `:5000` for all addresses, or the path of a socket".into()),
        ("listen: [':1', '*:1']", "listen: 0.0.0.0:1 is held already: ecosystem.yaml:4: apps[0].listen".into()),
        ("max_size: 5M", "max_size: unknown attribute\n  hint: did you mean `log_max_size`?".into()),
        ("zzzzzzz: 5M", "zzzzzzz: unknown attribute".into()),
    ];
    for (lines, error) in &cases {
        let path =
            if error.starts_with("kill_mode: contradicts") || lines.lines().count() == 1 { "" } else { panic!() };
        assert_eq!(world.errors(&app(lines)), format!("ecosystem.yaml:4: {path}apps[0].{error}"), "{lines}");
    }
}

#[test]
fn an_attribute_is_given_once_whatever_its_name() {
    let world = World::new();
    check_app(
        &world,
        &[
            ("out: a\nout_file: b", ":5: apps[0].out_file: is the same attribute as `out` in line 4"),
            (
                "killTimeout: 100\nkill_timeout: 100",
                ":5: apps[0].kill_timeout: is the same attribute as `killTimeout` in line 4",
            ),
            ("time: true\ntime: true", ":5: apps[0].time: `time` is already in line 4"),
            (
                "<<: {}\n<<: {}",
                ":5: apps[0].<<: `<<` is already in line 4\n  hint: merge several mappings with `<<: [*a, *b]`",
            ),
        ],
    );
}

#[test]
fn names_do_not_clash() {
    let world = World::new();
    check(
        &world,
        &[
            (
                "- {name: a, script: app.py}\n- {name: a, script: run}\n",
                ":2: [1].name: another app has the name `a`: ecosystem.yaml:1: [0].name",
            ),
            ("- script: app.py\n- script: app.py\n", ":2: [1]: another app has the name `app`: ecosystem.yaml:1: [0]"),
            (
                "- {name: a, script: app.py, instances: 2}\n- {name: a-1, script: run}\n",
                ":2: [1].name: `a-1` is also an instance of `a`, which has 2",
            ),
            (
                "- {name: a-0, script: app.py}\n- {name: a, script: run, instances: 1}\n",
                ":1: [0].name: `a-0` is also an instance of `a`, which has 1",
            ),
        ],
    );
    for fine in ["a-2", "a-01", "a-x", "a"] {
        let text = format!(
            "- {{name: b, script: app.py, instances: 2}}\n- {{name: {}, script: run}}\n",
            fine.replace('a', "b2")
        );
        assert!(world.read(&text).is_ok(), "{fine}");
    }
    assert!(world.read("- {name: a, script: app.py, instances: 2}\n- {name: a-2, script: run}\n").is_ok());
}

#[test]
fn an_environment_that_no_app_has_is_refused_with_those_there_are() {
    let world = World::new();
    world.file("ecosystem.yaml", app("env_production: {A: 1}\nenv_test: {A: 2}"));
    let errors = |env| world.read_file("ecosystem.yaml", Some(env)).unwrap_err().to_string();
    assert_eq!(
        errors("prodution"),
        "ecosystem.yaml: --env: no app has `env_prodution`\n  hint: did you mean `--env production`?"
    );
    assert_eq!(
        errors("staging"),
        "ecosystem.yaml: --env: no app has `env_staging`\n  hint: there are: production, test"
    );
    world.file("ecosystem.yaml", app(""));
    assert_eq!(errors("x"), "ecosystem.yaml: --env: no app has `env_x`\n  hint: no app has an `env_<name>` at all");
}

#[test]
fn a_bad_env_file_is_told_by_its_own_lines_and_no_secret_is_shown() {
    let world = World::new();
    world.file("a.env", "OK=1\ntoken hunter2\nexport B='hunter2\n");
    assert_eq!(
        world.errors(&app("env_file: a.env\nenv: {K: [hunter2]}")),
        "/srv/a.env:2: has no `=`\n  hint: a line is `KEY=VALUE`\n/srv/a.env:3: the quote of `B` is never closed\necosystem.yaml:5: apps[0].env.K: a list is not a text\n  hint: quote it if the app reads JSON"
    );
    world.file("a.env", "A=${B}\n");
    assert_eq!(
        world.warnings(&app("env_file: a.env")),
        ["/srv/a.env:1: A: `${…}` stays as it is: stead expands no variables"]
    );
}

#[test]
fn the_command_line_is_blamed_by_its_flags() {
    let world = World::new();
    let errors = |attributes| world.told(&world.script(attributes).unwrap_err().to_string());
    assert_eq!(
        errors(json!({"script": "gone", "max_memory_restart": "300"})),
        "--script: `gone` is neither a file in /srv nor a program in PATH\n--max-memory-restart: 300 B is surely a mistake: no program runs in less than 1M\n  hint: a number is bytes; write `300M` for 300 MiB"
    );
    assert_eq!(
        errors(json!({"nam": "x", "script": "app.py"})),
        "--nam: unknown attribute\n  hint: did you mean `name`?"
    );
}

#[test]
fn a_rule_of_health_that_means_nothing_is_named() {
    let world = World::new();
    check(
        &world,
        &[
            (
                "apps: [{script: app.py}]\nhealth: {memory: 120}\n",
                ":2: health: memory: `120` is not a share in percent\n  hint: for example `80%`",
            ),
            (
                "apps: [{script: app.py}]\nhealth:\n  disk: 90\n  memroy: 80\n",
                ":4: health: memroy: no such rule\n  hint: did you mean `memory`?",
            ),
            (
                "apps:\n- script: app.py\n  health: {restarts_per_hour: 60}\n",
                ":3: apps[0].health: restarts_per_hour: 60 is out of range (1 to 10)\n  hint: from 1 to 10: so many ends are remembered",
            ),
            (
                "apps:\n- script: app.py\n  health: yes\n",
                ":3: apps[0].health: `yes` is not a mapping of rules\n  hint: for example `health: { restarts: 100 }`",
            ),
        ],
    );
}

#[test]
fn a_notifier_that_can_tell_nobody_is_named() {
    let world = World::new();
    world.file("tell.sh", "#!/bin/sh\n");
    let of = |lines: &str| format!("apps: [{{script: app.py}}]\nnotify:\n{lines}");
    for (lines, expected) in [
        ("- webhok: https://x.y\n", ":3: notify[0].webhok: no such key of a notifier\n  hint: did you mean `webhook`?"),
        ("- on: oom\n", ":3: notify[0]: has neither `command` nor `webhook`\n  hint: each notifier has one of them"),
        (
            "- {webhook: 'https://x.y', command: tool}\n",
            ":3: notify[0]: has both `command` and `webhook`\n  hint: each notifier has one of them",
        ),
        (
            "- x\n",
            ":3: notify[0]: `x` is not a notifier\n  hint: for example `- webhook: https://…` or `- command: ./tell.sh`",
        ),
        (
            "- webhook: hooks.slack.com/x\n",
            ":3: notify[0].webhook: `hooks.slack.com/x` is no URL\n  hint: for example `https://hooks.example.com/stead`",
        ),
        ("- webhook: 'https://:443/x'\n", ":3: notify[0].webhook: `https://:443/x` is no URL"),
        ("- webhook: 'https://a b/x'\n", ":3: notify[0].webhook: `https://a b/x` is no URL"),
        ("- webhook: 'https://a:99999/x'\n", ":3: notify[0].webhook: `https://a:99999/x` is no URL"),
        ("- webhook: 'https://me:secret@a/x'\n", ":3: notify[0].webhook: a name and password in a URL are not sent"),
        ("- command: ./gone.sh\n", ":3: notify[0].command: /srv/gone.sh does not exist"),
        (
            "- command: tell.sh\n",
            ":3: notify[0].command: /srv/tell.sh may not be executed\n  hint: `chmod +x /srv/tell.sh`",
        ),
        (
            "- command: nobody\n",
            ":3: notify[0].command: `nobody` is neither a file beside this one nor a program in PATH",
        ),
        ("- command: []\n", ":3: notify[0].command: names no program"),
        ("- command: echo 'x\n", ":3: notify[0].command: a quote in this command is never closed"),
        (
            "- {command: tool, on: [restrat]}\n",
            ":3: notify[0].on: `restrat` is not an occasion\n  hint: did you mean `restart`?",
        ),
        ("- {command: tool, on: []}\n", ":3: notify[0].on: names no occasion"),
        ("- {command: tool, timeout: 1h}\n", ":3: notify[0].timeout: 1h is out of range (100 ms to 10m)"),
    ] {
        let told = world.errors(&of(lines));
        assert!(told.starts_with(&format!("ecosystem.yaml{expected}")), "{lines}\n{told}");
    }
    let told = world.errors("apps:\n- {script: app.py, notify: [{command: tool}]}\n");
    assert!(
        told.contains("apps[0].notify: a list is not true or false\n  hint: whom to tell stands beside `apps`"),
        "{told}"
    );
    let told = world.errors("apps:\n- {script: app.py, log_max_age: 14}\n");
    assert!(
        told.contains("14 ms is too short an age of a log (at least 1m)\n  hint: a number is milliseconds"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let world = World::new();
    let whole = "the whole machine cannot be watched\n  hint: name the folders of the app, or set `cwd`: `watch: true` is all that is in it";
    check_app(
        &world,
        &[
            ("watch: [api, gone]", ":4: apps[0].watch: /srv/gone: no such file or directory"),
            (
                "watch: src/*.py",
                ":4: apps[0].watch: /srv/src/*.py: no such file or directory\n  hint: name folders and files; patterns are for `ignore_watch`",
            ),
            ("watch: /", &format!(":4: apps[0].watch: {whole}")),
            ("watch: ../../../../../../..", &format!(":4: apps[0].watch: {whole}")),
            (
                "watch: {paths: [api]}",
                ":4: apps[0].watch: a mapping is no list of paths\n  hint: write `true` for all of `cwd`, or a list of folders and files",
            ),
            ("ignore_watch: ['a[b']", ":4: apps[0].ignore_watch: a `[` is never closed in `a[b`"),
            ("watch: true\nignore_watch: ['']", ":5: apps[0].ignore_watch: must not be empty"),
        ],
    );
}

#[test]
fn a_health_check_says_what_is_wrong_with_it() {
    let world = World::new();
    let check_of = |check: &str| world.errors(&app(&format!("health_check: {check}")));
    for (check, error) in [
        ("yes", ": `yes` is not a mapping\n  hint: health_check: { http: \"http://127.0.0.1:5000/health\" }"),
        (
            "{ interval: 10s }",
            ": has no `http`, `tcp` or `command`\n  hint: health_check: { http: \"http://127.0.0.1:5000/health\" }",
        ),
        ("{ tcp: 5432, command: x }", ": has `tcp` and `command`: one of them is asked"),
        ("{ tcp: 5432, retries: 0 }", ".retries: 0 is out of range (1 to 1000)"),
        (
            "{ tcp: 5432, interval: 30 }",
            ".interval: 30 ms is too short (at least 100)\n  hint: a number is milliseconds; with a unit: `30s`",
        ),
        ("{ tcp: 5432, intervall: 30s }", ".intervall: unknown key\n  hint: did you mean `interval`?"),
        (
            "{ tcp: localhost }",
            ".tcp: `localhost` is no address: the port is a number from 1 to 65535\n  hint: write `127.0.0.1:5000`, `[::1]:5000` or `localhost:5000`",
        ),
        ("{ command: '' }", ".command: must not be empty"),
        (
            "{ http: 'https://x/' }",
            ".http: `https://x/` cannot be asked: https is not supported\n  hint: ask by a command: `command: curl -fsS --max-time 5 https://x/`",
        ),
    ] {
        assert_eq!(check_of(check), format!("ecosystem.yaml:4: apps[0].health_check{error}"), "{check}");
    }
}

#[test]
fn dependencies_are_there_and_form_no_circle() {
    let world = World::new();
    let apps = |a: &str, b: &str| {
        format!(
            "apps:\n- {{name: front, script: app.py, depends_on: {a}}}\n- {{name: back, script: app.py, depends_on: {b}}}\n"
        )
    };
    for (a, b, error) in [
        ("[bakc]", "[]", ":2: apps[0].depends_on: there is no app `bakc`\n  hint: did you mean `back`?"),
        (
            "[back]",
            "[front]",
            ":3: apps[1].depends_on: apps depend on each other in a circle: back → front → back\n  hint: one of them has to start without the other",
        ),
        (
            "front",
            "[]",
            ":2: apps[0].depends_on: apps depend on each other in a circle: front → front\n  hint: one of them has to start without the other",
        ),
        (
            "{back: well}",
            "[]",
            ":2: apps[0].depends_on: `well` is not what can be waited for\n  hint: write `started` (online), `healthy` (its health check is good) or `done` (a job that succeeded)",
        ),
        (
            "{back: healthy}",
            "[]",
            ":2: apps[0].depends_on: `back` has no `health_check`, so it cannot be healthy\n  hint: give it one, or write `started`",
        ),
        (
            "{back: done}",
            "[]",
            ":2: apps[0].depends_on: `back` is started again whenever it ends, so it is never done\n  hint: give `back` `autorestart: false`, or write `started`",
        ),
    ] {
        assert_eq!(world.errors(&apps(a, b)), format!("ecosystem.yaml{error}"), "{a} {b}");
    }
    assert_eq!(
        world.warnings(&apps("[redis]", "[]")),
        ["ecosystem.yaml:2: apps[0].depends_on: `redis` is not in this file: it has to be there before"]
    );
}
