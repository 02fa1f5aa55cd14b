//! What people see.

use crate::harness::{Stead, is_alive, signal, until};
use crate::look::{on_terminal, on_terminal_seen, through};
use std::process::Command;

/// The widest line, in columns of a terminal: wide characters count two.
fn width(text: &str) -> usize {
    let of = |c: char| {
        if matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xff00..=0xff60) { 2 } else { 1 }
    };
    text.lines().map(|line| line.chars().map(of).sum()).max().unwrap_or(0)
}

/// Without the colours of SGR; any other escape stays.
fn without_colors(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(after.len());
        rest = if after[end..].starts_with('m') { &after[end + 1..] } else { panic!("{text:?}") };
    }
    plain.push_str(rest);
    plain.replace('\r', "")
}

fn wide_as(stead: &Stead, columns: u16, args: &[&str]) -> String {
    let mut command = stead.command(args);
    command.env("COLUMNS", columns.to_string());
    let said = crate::harness::said(command);
    assert_eq!(said.status, Some(0), "{said:#?}");
    said.stdout
}

/// The fleet, in miniature: names as long as people have them.
fn fleet(stead: &Stead) {
    stead.file("fails.sh", "#!/bin/sh\necho 'cannot open the database' >&2\nexit 3\n");
    stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: flask-app, script: /bin/sleep, args: '1000', max_memory_restart: 300M, namespace: web}
  - {name: signal-timeline-collector, script: /bin/sleep, args: '1000', instances: 2}
  - {name: dashboard-jsonl-manager, script: ./fails.sh, max_restarts: 2, min_uptime: 1m}
  - {name: nightly, script: /bin/sleep, args: '1000', autostart: false}
",
    );
    stead.run(["start"]);
    stead.until_status("dashboard-jsonl-manager", "errored");
    stead.ok(["restart", "flask-app"]);
}

#[test]
fn list_fits_80_columns_and_grows_to_200() {
    let stead = Stead::new();
    fleet(&stead);
    let narrow = wide_as(&stead, 80, &["list"]);
    assert!(width(&narrow) <= 80, "{narrow}");
    for fact in [
        "flask-app",
        "signal-timeline-collector-1",
        "dashboard-jsonl-manager",
        "nightly",
        "online",
        "stopped",
        "errored",
        "restarts",
        "memory",
    ] {
        assert!(narrow.contains(fact), "{fact} is missing in {narrow}");
    }
    let wide = wide_as(&stead, 200, &["list"]);
    assert!(width(&wide) <= 200 && width(&wide) > width(&narrow), "{wide}");
    for fact in ["namespace", "web", "pid", "uptime", "cpu", "exit-code", "300M", "exited with code 3"] {
        assert!(wide.contains(fact), "{fact} is missing in {wide}");
    }
    for columns in [20, 40, 60, 100, 120] {
        assert!(wide_as(&stead, columns, &["list"]).contains("flask"), "{columns}");
    }
}

#[test]
fn pages_fit_the_terminal() {
    let stead = Stead::new();
    fleet(&stead);
    for args in [&["list"][..], &["describe", "flask-app"], &["why", "dashboard-jsonl-manager"], &["start"]] {
        let shown = without_colors(&on_terminal(stead.command(args), 80));
        assert!(width(&shown) <= 80, "{args:?}: {} columns in\n{shown}", width(&shown));
    }
}

#[test]
fn colours_are_for_terminals_alone() {
    let stead = Stead::new();
    fleet(&stead);
    let on_terminal = |args: &[&str], variable: Option<(&str, &str)>| {
        let mut command = stead.command(args);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").envs(variable);
        on_terminal(command, 100)
    };
    assert!(on_terminal(&["list"], None).contains("\x1b["));
    for (args, variable) in [
        (&["list"][..], Some(("NO_COLOR", "1"))),
        (&["list"], Some(("TERM", "dumb"))),
        (&["list", "--no-color"], None),
        (&["stop", "nosuch"], Some(("NO_COLOR", "1"))),
    ] {
        let shown = on_terminal(args, variable);
        assert!(!shown.contains('\x1b'), "{args:?}: {shown:?}");
    }
    for args in [&["list"][..], &["describe", "all"], &["why", "all"], &["restart", "flask-app"], &["stop", "nosuch"]] {
        let mut command = stead.command(args);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        let said = crate::harness::said(command);
        assert!(!said.stdout.contains('\x1b') && !said.stderr.contains('\x1b'), "{said:#?}");
    }
}

#[test]
fn what_an_app_says_cannot_drive_the_terminal() {
    let stead = Stead::new();
    // Sets the title, clears the screen, rings, and goes back over the line.
    let evil = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\u{9b}5m\x08\x08\rover";
    stead.file("app.sh", &format!("#!/bin/sh\nprintf '%s\\n' '{evil}' >&2\nprintf '%s\\n' '{evil}'\nexit 3\n"));
    let args = serde_json::to_string(&[evil]).unwrap().replace('\u{9b}', "\\u009b");
    stead.file(
        "ecosystem.yaml",
        &format!(
            "{{\"apps\": [{{\"name\": \"web\", \"script\": \"./app.sh\", \"args\": {args}, \"autorestart\": false}}]}}"
        ),
    );
    assert_eq!(stead.run(["start"]).status, Some(0));
    stead.until_status("web", "stopped");
    for args in [&["list"][..], &["describe", "web"], &["why", "web"], &["logs", "web"]] {
        let shown = without_colors(&on_terminal(stead.command(args), 200));
        let is_bad = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!shown.contains(is_bad), "{args:?}: {shown:?}");
    }
    let record = stead.newest_record("web");
    assert!(
        record["evidence"]["stderr_tail"][0].as_str().unwrap().contains("owned"),
        "the evidence is whole: {record:#}"
    );
}

#[test]
fn names_of_200_characters_are_cut_on_the_screen_only() {
    let stead = Stead::new();
    let long = "n".repeat(200);
    let wide = "界".repeat(60);
    stead.file("app.sh", "#!/bin/sh\necho hi\nexec sleep 1000\n");
    stead.start(&format!("apps:\n  - {{name: {long}, script: ./app.sh}}\n  - {{name: {wide}, script: ./app.sh}}\n  - {{name: short, script: ./app.sh}}\n"));
    let shown = wide_as(&stead, 80, &["list"]);
    assert!(width(&shown) <= 80, "{shown}");
    assert!(shown.contains("short") && shown.contains("online"), "{shown}");
    for name in [&long, &wide] {
        assert_eq!(stead.instance(name)["status"], "online");
        until("it has its log", || stead.log(name, "out") == "hi\n");
        stead.ok(["restart", name]);
        assert!(stead.ok(["describe", name]).contains(name.as_str()));
    }
}

#[test]
fn sizes_and_durations_are_as_people_say_them() {
    let stead = Stead::new();
    fleet(&stead);
    let shown = wide_as(&stead, 200, &["list"]);
    let row = shown.lines().find(|line| line.contains("flask-app")).unwrap();
    let has = |endings: &[&str]| {
        row.split_whitespace().any(|word| {
            endings.iter().any(|ending| word.strip_suffix(ending).is_some_and(|number| number.parse::<f64>().is_ok()))
        })
    };
    assert!(has(&["ms", "s", "m"]), "an uptime: {row}");
    assert!(row.contains("/300M"), "{row}");
}

#[test]
fn a_restart_count_tells_planned_and_unplanned_apart() {
    let stead = Stead::new();
    fleet(&stead);
    let row = |name: &str| wide_as(&stead, 200, &["list"]).lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(row("flask-app").contains(" 1 "), "planned: {}", row("flask-app"));
    assert!(row("dashboard-jsonl-manager").contains("1 (1)"), "{}", row("dashboard-jsonl-manager"));
}

#[test]
fn output_is_for_pipes_too() {
    let stead = Stead::new();
    fleet(&stead);
    let mut head = Command::new("head");
    head.args(["-c", "1"]);
    assert_eq!(through(head, &stead.ok(["list"])).len(), 1);
    // A reader that goes away is no error.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$0\" describe all | true; exit 0", env!("CARGO_BIN_EXE_stead")])
        .env("STEAD_HOME", &stead.home);
    let said = crate::harness::said(shell);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_command_that_takes_long_says_how_far_it_is() {
    let stead = Stead::new();
    // Nobody writes into `gate`.
    stead.file("deaf.sh", "#!/bin/bash\nexec 3<>gate\ntrap '' INT\necho up\nread -u 3\n");
    nix::unistd::mkfifo(&stead.work.join("gate"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    stead.start("apps: [{name: deaf, script: ./deaf.sh, kill_timeout: 10m}]\n");
    until("it is deaf", || stead.log("deaf", "out") == "up\n");
    let pid = stead.pid("deaf");
    let shown = on_terminal_seen(stead.command(["stop", "deaf"]), 80, |shown| {
        if shown.contains("stopping deaf") {
            signal(pid, 9);
        }
    });
    assert!(shown.contains("stopped deaf") && !is_alive(pid), "{shown}");
}

#[test]
fn values_of_variables_are_shown_only_to_who_asks_for_them() {
    let stead = Stead::new();
    stead.start("apps: [{name: web, script: /bin/sleep, args: '1000', env: {TOKEN: hunter2}}]\n");
    for args in [&["list", "--json"][..], &["list"], &["describe", "web"], &["describe", "web", "--json"]] {
        assert!(!stead.ok(args).contains("hunter2"), "{args:?}");
    }
    assert!(stead.ok(["describe", "web"]).contains("TOKEN"));
    assert!(stead.ok(["describe", "web", "--show-env"]).contains("hunter2"));
    stead.file("bad.yaml", "apps: [{name: web, script: /bin/sleep, env: {TOKEN: [hunter2]}}]\n");
    let said = stead.run(["start", "bad.yaml"]);
    assert!(said.status == Some(2) && !said.stderr.contains("hunter2"), "{said:#?}");
    assert!(!stead.own_log().contains("hunter2"));
}
