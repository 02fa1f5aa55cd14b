//! What an app runs, and what cannot run.

use super::*;
use serde_json::json;

#[test]
fn commands_are_found_as_in_pm2() {
    let world = World::new();
    world.file("job.sh", "");
    world.file("web.js", "");
    world.file("a b.py", "");
    world.program("plain", ELF);
    world.program("home/me", ELF);
    for (lines, command) in [
        ("script: app.py", "/srv/bin/python3 /srv/app.py"),
        ("script: ./app.py\nargs: \"--name 'a b' #1 --x=#2\"", "/srv/bin/python3 /srv/app.py --name|a b|#1 --x=#2"),
        ("script: main.py\ncwd: api", "/srv/bin/python3 /srv/api/main.py"),
        ("script: a b.py", "/srv/bin/python3|/srv/a b.py"),
        ("script: job.sh", "/srv/bin/bash /srv/job.sh"),
        (
            "script: web.js\nnode_args: --max-old-space-size=64 -r x",
            "/srv/bin/node --max-old-space-size=64 -r x /srv/web.js",
        ),
        ("script: web.js\ninterpreterArgs: [-e, 1.10]", "/srv/bin/node -e 1.10 /srv/web.js"),
        ("script: run", "/srv/run"),
        ("script: plain\nargs: [1, true, 1.10, 0x1f]", "/srv/plain 1 true 1.10 0x1f"),
        ("script: ~/me", "/srv/home/me"),
        ("script: gunicorn\nargs: -w 2 app:app", "/srv/bin/gunicorn -w 2 app:app"),
        ("script: .venv/bin/flask\nargs: run", "/srv/.venv/bin/flask run"),
        ("script: app.py\ninterpreter: ruby", "/srv/bin/ruby /srv/app.py"),
        ("script: app.py\nexec_interpreter: .venv/bin/flask", "/srv/.venv/bin/flask /srv/app.py"),
        ("script: main.py\ncwd: api\ninterpreter: .venv/bin/flask", "/srv/.venv/bin/flask /srv/api/main.py"),
        ("script: run\ninterpreter: none", "/srv/run"),
        ("script: run\ninterpreter: false", "/srv/run"),
        ("script: flask\ninterpreter: python3\ninterpreter_args: [-m]\nargs: run", "/srv/bin/python3 -m flask run"),
        ("script: gunicorn -w 2 'a b'", "/srv/bin/bash -c|gunicorn -w 2 'a b'"),
        ("script: tool a\nargs: [b c, $d]", "/srv/bin/bash -c|tool a 'b c' '$d'"),
        ("script: tool a\ninterpreter: none\nargs: ''", "/srv/bin/bash -c|tool a"),
        ("script: run\nenv: {PATH: /nowhere}", "/srv/run"),
    ] {
        let words: Vec<&str> = match command.split_once('|') {
            None => command.split(' ').collect(),
            Some((before, after)) if command.contains("--name|") => {
                let (middle, rest) = after.split_once('|').unwrap();
                before.split(' ').chain([middle]).chain(rest.split(' ')).collect()
            }
            Some((before, after)) => before.split(' ').chain([after]).collect(),
        };
        assert_eq!(world.command(lines), words, "{lines}");
    }
}

#[test]
fn python_writes_at_once_unless_told_otherwise() {
    let world = World::new();
    world.file(".env", "PYTHONUNBUFFERED=0\n");
    for (lines, value) in [
        ("script: app.py", Some("1")),
        ("script: gunicorn", Some("1")),
        ("script: run\ninterpreter: python3", Some("1")),
        ("script: bin/python3", Some("1")),
        ("script: gunicorn app:app", Some("1")),
        ("script: PORT=1 exec gunicorn app:app", Some("1")),
        ("script: cd api && python3 main.py", Some("1")),
        ("script: tool a", None),
        ("script: run", None),
        ("script: app.py\nenv: {PYTHONUNBUFFERED: ''}", Some("")),
        ("script: app.py\nenv_file: .env", Some("0")),
    ] {
        assert_eq!(world.app(lines).env.get("PYTHONUNBUFFERED").map(String::as_str), value, "{lines}");
    }
}

#[test]
fn names_come_from_the_script_where_none_is_given() {
    let world = World::new();
    world.program("collect.it.now", ELF);
    for (attributes, name) in [
        (json!({"script": "app.py"}), "app"),
        (json!({"script": "api/main.py"}), "main"),
        (json!({"script": "collect.it.now"}), "collect.it"),
        (json!({"script": "gunicorn -w 2 app:app"}), "gunicorn"),
        (json!({"script": "A=b exec /opt/x/tool.sh -w"}), "tool"),
        (json!({"script": "app.py", "name": "x"}), "x"),
        (json!({"script": "app.py", "name": 8080}), "8080"),
        (json!({"script": "app.py", "name_prefix": "eu-"}), "eu-app"),
    ] {
        assert_eq!(world.script(attributes).unwrap().specs[0].name.as_str(), name);
    }
}

#[test]
fn programs_that_cannot_run_are_refused_with_a_way_out() {
    let world = World::new();
    world.file("noexec", "#!/usr/bin/env ruby\n");
    world.file("noexec2", "#!/bin/sh -e\n");
    world.file("data", "a,b\n");
    world.program("text", b"echo\n");
    world.program("moved", b"#!/gone/venv/bin/python\n");
    world.program("dos", b"#!/bin/sh\r\n");
    world.file("x.ts", "");
    world.file("bin/broken", "");
    fs::remove_file(world.path("bin/node")).unwrap();
    check_app(
        &world,
        &[
            ("script: gone.py", ":3: apps[0].script: `gone.py` is neither a file in /srv nor a program in PATH"),
            ("script: ./gone", ":3: apps[0].script: /srv/gone does not exist"),
            (
                "script: flask",
                ":3: apps[0].script: `flask` is neither a file in /srv nor a program in PATH\n  hint: write `.venv/bin/flask`",
            ),
            (
                "script: app.py\ncwd: api",
                ":3: apps[0].script: `app.py` is neither a file in /srv/api nor a program in PATH\n  hint: `script` is relative to `cwd`; there is /srv/app.py",
            ),
            ("script: api", ":3: apps[0].script: /srv/api is a directory"),
            ("script: ''", ":3: apps[0].script: must not be empty"),
            ("script: noexec", ":3: apps[0].script: /srv/noexec is not executable\n  hint: chmod +x /srv/noexec"),
            (
                "script: noexec2",
                ":3: apps[0].script: /srv/noexec2 is not executable\n  hint: chmod +x /srv/noexec2, or `interpreter: /bin/sh`",
            ),
            (
                "script: data",
                ":3: apps[0].script: /srv/data is not executable\n  hint: name the `interpreter` that runs it",
            ),
            (
                "script: text",
                ":3: apps[0].script: /srv/text is no program and does not begin with `#!`\n  hint: name the `interpreter` that runs it",
            ),
            (
                "script: moved",
                ":3: apps[0].script: /srv/moved begins with `#!/gone/venv/bin/python`, which does not exist\n  hint: name the `interpreter`, or make the virtual environment anew",
            ),
            (
                "script: dos",
                ":3: apps[0].script: the first line of /srv/dos ends with a carriage return, which Linux takes for a part of the program's name\n  hint: sed -i 's/\\r$//' /srv/dos",
            ),
            (
                "script: x.ts",
                ":3: apps[0].script: needs `bun`, which is not in PATH\n  hint: name the `interpreter`, or `interpreter: none`",
            ),
            ("interpreter: pythn", ":4: apps[0].interpreter: `pythn` is not a program in PATH"),
            (
                "interpreter: python3 -u",
                ":4: apps[0].interpreter: `python3 -u` is not a program in PATH\n  hint: its arguments go into `interpreter_args`",
            ),
            ("interpreter: venv/bin/python", ":4: apps[0].interpreter: /srv/venv/bin/python does not exist"),
            ("interpreter: ./data", ":4: apps[0].interpreter: /srv/data is not executable\n  hint: chmod +x /srv/data"),
            (
                "script: app.py -p 1\ninterpreter: python3",
                ":3: apps[0].script: `app.py -p 1` is not a file\n  hint: arguments of the script go into `args`, those of the interpreter into `interpreter_args`",
            ),
            ("script: tool 'a", ":3: apps[0].script: a quote in this command is never closed"),
            ("cwd: app.py", ":4: apps[0].cwd: /srv/app.py: not a directory"),
        ],
    );
}
