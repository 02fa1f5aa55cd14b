//! `startup` and `unstartup`: the unit that they write, and what they ask of systemd. A systemctl and a loginctl of the test's own write
//! down what they are asked; that systemd starts it is a story of tests/v2.

use crate::harness::{Said, Stead, has_program, is_alive, is_root, said, until};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that systemd runs; starts what the unit says, in the test's own environment.
const SYSTEMCTL: &str = "\
#!/bin/sh
echo \"systemctl $*\" >>\"$ASKED\"
case \"$*\" in
*is-system-running*) cat \"$SAYS\" ;;
*start*) sh -c \"$(sed -n 's/^ExecStart=//p' \"$UNIT\") >/dev/null 2>&1 &\" ;;
esac
";

const LOGINCTL: &str = "\
#!/bin/sh
echo \"loginctl $*\" >>\"$ASKED\"
case \"$*\" in
*show-user*) [ -e \"$LINGERS\" ] && echo yes || exit 1 ;;
*enable-linger*) [ ! -e \"$LINGERS.not\" ] || { echo 'Could not enable linger: Access denied' >&2; exit 1; } ;;
esac
";

/// A user's machine with systemd.
struct Machine {
    stead: Stead,
    unit: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        let stead = Stead::new();
        stead.file("bin/systemctl", SYSTEMCTL);
        stead.file("bin/loginctl", LOGINCTL);
        stead.file("says", "running\n");
        let unit = stead.work.join("config/systemd/user/stead.service");
        Machine { stead, unit }
    }

    fn command(&self, args: &[&str]) -> Command {
        let work = &self.stead.work;
        let mut command = self.stead.command(args);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", work.join("bin").display()))
            .env("XDG_CONFIG_HOME", work.join("config"))
            .env("ASKED", work.join("asked"))
            .env("SAYS", work.join("says"))
            .env("LINGERS", work.join("lingers"))
            .env("UNIT", &self.unit);
        command
    }

    /// Runs a verb for the user's own systemd, whoever runs the tests.
    fn run(&self, args: &[&str]) -> Said {
        said(self.command(&[&args[..1], &["--user"], &args[1..]].concat()))
    }

    fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.status, Some(0), "{args:?}: {said:#?}");
        said.stdout
    }

    /// What was asked since the last call, less the questions.
    fn asked(&self) -> Vec<String> {
        let path = self.stead.work.join("asked");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        let is_question = |line: &&str| line.contains("is-system-running") || line.contains("show-user");
        text.lines().filter(|line| !is_question(line)).map(str::to_owned).collect()
    }

    fn unit(&self) -> String {
        std::fs::read_to_string(&self.unit).unwrap()
    }
}

/// What `systemd-analyze verify` has to say of a unit; nothing where it is sound.
fn verified(unit: &Path, user: bool) -> Said {
    let mut command = Command::new("systemd-analyze");
    if user {
        command.arg("--user").env("XDG_RUNTIME_DIR", unit.parent().unwrap());
    }
    command.arg("verify").arg(unit);
    said(command)
}

fn is_clean(verified: &Said) -> bool {
    verified.status == Some(0) && verified.stdout.is_empty() && verified.stderr.is_empty()
}

#[test]
fn all_units_are_sound_to_systemd() {
    if !has_program("systemd-analyze", "whether systemd takes the units") {
        return;
    }
    let stead = Stead::new();
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    for (file, user) in [("stead.service", false), ("user/stead.service", true)] {
        let text = std::fs::read_to_string(contrib.join(file)).unwrap();
        // verify(1) looks whether the program is there.
        let unit = stead.file(&format!("{user}/stead.service"), &text.replace("/usr/bin/stead", "/bin/true"));
        let verified = verified(&unit, user);
        assert!(is_clean(&verified), "{file}: {verified:#?}");
    }
    // A home and a program whose names need quotes.
    let binary = stead.work.join("my 100% programs/stead");
    std::fs::create_dir(binary.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_stead"), &binary).unwrap();
    let home = stead.work.join("a home of 100%");
    let mut command = Command::new(&binary);
    command.args(["startup", "--print", "--user", "--home"]).arg(&home);
    let printed = said(command);
    let unit = stead.file("printed/stead.service", &printed.stdout);
    let verified = verified(&unit, true);
    assert!(is_clean(&verified), "{verified:#?}\n{printed:#?}");
    let broken = stead.file("broken/stead.service", "[Service]\nExecStart=/no/such/program\nKillMode=gently\n");
    assert!(!is_clean(&self::verified(&broken, true)), "what it finds, this test sees");
}

#[test]
fn startup_writes_a_unit_and_unstartup_takes_it_away_each_as_often_as_you_like() {
    let machine = Machine::new();
    let told = machine.ok(&["startup"]);
    assert!(told.contains(&format!("{}: written\n", machine.unit.display())), "{told}");
    assert!(told.contains("systemd starts stead at boot"), "{told}");
    assert!(told.contains("to start it now: `systemctl --user start stead.service`"), "{told}");
    let asked = [
        "systemctl --user daemon-reload",
        "systemctl --user enable stead.service",
        "loginctl --no-ask-password enable-linger",
    ];
    assert_eq!(machine.asked(), asked);
    let unit = machine.unit();
    for line in [
        format!("ExecStart={} daemon", env!("CARGO_BIN_EXE_stead")),
        format!("ExecReload={} upgrade", env!("CARGO_BIN_EXE_stead")),
        format!("Environment=STEAD_HOME={}", machine.stead.home.display()),
        "TimeoutStopSec=90".into(),
        "WantedBy=default.target".into(),
    ] {
        assert!(unit.lines().any(|one| one == line), "no {line} in\n{unit}");
    }
    assert_eq!(machine.ok(&["startup", "--print"]), unit, "what it would write is what it wrote");

    machine.stead.file("lingers", "");
    let again = machine.ok(&["startup"]);
    assert!(again.contains("is there, and as it should be"), "{again}");
    assert_eq!(machine.asked(), ["systemctl --user enable stead.service"]);
    assert_eq!(machine.unit(), unit);

    let told = machine.ok(&["unstartup"]);
    assert!(told.contains("removed") && told.contains("`loginctl disable-linger`"), "{told}");
    assert_eq!(machine.asked(), ["systemctl --user disable stead.service", "systemctl --user daemon-reload"]);
    assert!(!machine.unit.exists());
    let told = machine.ok(&["unstartup"]);
    assert!(told.contains("nothing of `stead startup` is left to take away"), "{told}");
    assert_eq!(machine.asked(), Vec::<String>::new());
}

#[test]
fn a_unit_of_others_or_of_another_home_is_left_alone() {
    let machine = Machine::new();
    let theirs = "[Service]\nExecStart=/usr/local/bin/stead daemon\n";
    machine.stead.file("config/systemd/user/stead.service", theirs);
    for verb in ["startup", "unstartup"] {
        let refused = machine.run(&[verb]);
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("`stead startup` has not written it"), "{refused:?}");
        assert_eq!(machine.unit(), theirs);
    }
    machine.ok(&["startup", "--force"]);
    let ours = machine.unit();
    assert_ne!(ours, theirs);

    let other = machine.stead.work.join("other");
    for verb in ["startup", "unstartup"] {
        let refused = machine.run(&[verb, "--home", other.to_str().unwrap()]);
        assert_eq!(refused.status, Some(1), "{refused:?}");
        let hint = format!("stead unstartup --home {}", machine.stead.home.display());
        assert!(refused.stderr.contains("is that of another stead") && refused.stderr.contains(&hint), "{refused:?}");
        assert_eq!(machine.unit(), ours);
    }
}

#[test]
fn the_time_to_stop_is_above_what_the_apps_may_take() {
    let machine = Machine::new();
    machine.stead.file(
        "ecosystem.yaml",
        "apps:
  - {name: db, script: /bin/sleep, args: '1000', kill_timeout: 2m, autostart: false}
  - {name: web, script: /bin/sleep, args: '1000', kill_timeout: 10s, depends_on: [db], autostart: false}
  - {name: job, script: /bin/sleep, args: '1000', kill_timeout: 1m, autostart: false}
",
    );
    machine.stead.ok(["start", "ecosystem.yaml"]);
    let unit = machine.ok(&["startup", "--print"]);
    assert!(unit.contains("\nTimeoutStopSec=275\n"), "2 x (2m + 10s), and 15 s for the rest: {unit}");
    machine.stead.ok(["delete", "db", "web"]);
    let unit = machine.ok(&["startup", "--print"]);
    assert!(unit.contains("\nTimeoutStopSec=135\n"), "2 x 1m, and 15 s for the rest: {unit}");
}

#[test]
fn without_systemd_it_is_said_what_to_do_instead() {
    let machine = Machine::new();
    for says in ["offline\n", ""] {
        machine.stead.file("says", says);
        for verb in ["startup", "unstartup"] {
            let refused = machine.run(&[verb]);
            assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
            assert!(refused.stderr.starts_with("error: systemd does not run this machine\n"), "{refused:?}");
            assert!(refused.stderr.contains(&format!("`{} daemon`", env!("CARGO_BIN_EXE_stead"))), "{refused:?}");
            assert!(refused.stderr.contains("`@reboot "), "{refused:?}");
        }
    }
    assert!(!machine.unit.exists());
    std::fs::remove_file(machine.stead.work.join("bin/systemctl")).unwrap();
    let mut command = machine.command(&["startup", "--user"]);
    command.env("PATH", machine.stead.work.join("bin"));
    assert_eq!(said(command).status, Some(1), "there is no systemctl at all");
}

#[test]
fn a_user_who_may_not_linger_is_told_what_that_means() {
    let machine = Machine::new();
    machine.stead.file("lingers.not", "");
    let told = machine.run(&["startup"]);
    assert_eq!(told.status, Some(1), "it does not start at boot: {told:?}");
    assert!(
        told.stderr.contains("Access denied") && told.stderr.contains("hint: `sudo loginctl enable-linger"),
        "{told:?}"
    );
    assert!(told.stdout.contains("systemd starts stead with your first login"), "{told:?}");
    assert!(machine.unit.exists());
}

#[test]
fn a_stead_that_runs_from_a_shell_is_handed_over_and_its_apps_come_back() {
    let machine = Machine::new();
    let stead = &machine.stead;
    stead.kit();
    stead.file(
        "app.py",
        "from kit import *
lock = alone()
signal.signal(signal.SIGINT, lambda *_: (note('bye'), sys.exit(0)))
note('run')
forever()
",
    );
    stead.start("apps:\n  - {name: app, script: ./app.py, kill_timeout: 20s}\n  - {name: idle, script: ./app.py, autostart: false}\n");
    until("it runs", || stead.diary("app") == ["run"]);
    let keeper = stead.keeper_pid();
    let told = machine.ok(&["startup"]);
    assert!(told.contains(&format!("not by systemd (pid {keeper}): it goes on until the next boot")), "{told}");
    assert!(told.contains("`stead startup --now`"), "{told}");
    assert_eq!((stead.keeper_pid(), stead.diary("app")), (keeper, vec!["run".to_owned()]));

    let told = machine.ok(&["startup", "--now"]);
    assert!(told.contains(&format!("(pid {keeper}) has stopped its apps and ended")), "{told}");
    assert_eq!(machine.asked().last().unwrap(), "systemctl --user start stead.service");
    assert!(!is_alive(keeper));
    until("it comes back", || stead.diary("app") == ["run", "bye", "run"]);
    stead.until_status("app", "online");
    assert_ne!(stead.keeper_pid(), keeper);
    let record = stead.newest_record("app");
    assert_eq!((&record["cause"], &record["planned"]), (&"shutdown".into(), &true.into()), "{record:#}");
    assert_eq!(stead.instance("idle")["status"], "stopped");
    assert_eq!(stead.diary("two"), Vec::<String>::new());
}

#[test]
fn a_unit_is_written_into_an_image() {
    let what = "a unit for an image";
    if !is_root(what) || !has_program("systemctl", what) {
        return;
    }
    let stead = Stead::new();
    let image = stead.work.join("image");
    let args = |verb| [verb, "--root", "image", "--home", "/var/lib/stead"];
    let written = stead.run(args("startup"));
    assert_eq!(written.status, Some(0), "{written:?}");
    assert!(written.stderr.contains("which the next build replaces or removes"), "{written:?}");
    let unit = image.join("etc/systemd/system/stead.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(
        text.contains("\nEnvironment=STEAD_HOME=/var/lib/stead\n") && text.contains("\nWantedBy=multi-user.target\n"),
        "{text}"
    );
    assert!(is_clean(&verified(&unit, false)), "{:#?}", verified(&unit, false));
    let wanted = image.join("etc/systemd/system/multi-user.target.wants/stead.service");
    assert!(wanted.is_symlink());
    assert_eq!(stead.run(args("startup")).status, Some(0));
    assert_eq!(stead.run(args("unstartup")).status, Some(0));
    assert!(!unit.exists() && !wanted.is_symlink());
    assert_eq!(stead.run(args("unstartup")).status, Some(0));
}
