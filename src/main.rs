//! Chooses the role: keeper, daemon, courier, mirror, or client.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use stead::client::cli::{AppLogs, Cli, Command, DaemonArgs, LogFormat};
use stead::client::home::Home;
use stead::core::command::Refusal;
use stead::keeper::handover::{Answer, Handover};
use stead::{client, daemon, keeper, os};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next();
    let result = match role.as_deref().and_then(OsStr::to_str) {
        Some(os::role::KEEPER) => keeper_role(&arguments.collect::<Vec<_>>()),
        Some(os::role::COURIER) => carry(arguments.next()),
        Some(os::role::MIRROR) => reflect(arguments.next(), arguments.next()),
        Some(os::role::DAEMON) => serve(&arguments.collect::<Vec<_>>()),
        _ => return command_line(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> ExitCode {
    let cli = match <Cli as clap::Parser>::try_parse() {
        Ok(cli) => cli,
        Err(error) => return client::cli::explain(error),
    };
    let Command::Daemon(arguments) = &cli.command else { return client::run(cli) };
    match foreground(&cli, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => client::refuse(&cli, &refusal),
    }
}

fn keeper_role(arguments: &[OsString]) -> io::Result<()> {
    match arguments.first().and_then(|word| word.to_str()) {
        Some(os::role::CHECK) => check(),
        Some(os::role::TAKE_OVER) => {
            let number = arguments.get(1).and_then(|number| number.to_str()?.parse().ok());
            keeper::resume(home_variable()?, number.ok_or_else(|| io::Error::other("no handover is named"))?)
        }
        anew => keep(anew.is_some()),
    }
}

/// Says whether this binary could take over from a keeper that runs.
fn check() -> io::Result<()> {
    let home = home_variable()?;
    let bytes = os::file::read_memory_file(os::process::inherited(os::role::HANDOVER_FD)?)?;
    let read = Handover::parse(&bytes).and_then(|handover| {
        daemon::can_take_over(&home, handover.runs.iter().map(|run| (run.run, run.note.as_str())))
    });
    let answer = match read {
        Ok(()) => Answer::Yes { version: env!("CARGO_PKG_VERSION").into() },
        Err(reason) => Answer::No { reason },
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&answer)?)
}

/// The keeper in the background. `anew`: in the place of one that was killed.
fn keep(anew: bool) -> io::Result<()> {
    let home = home_variable()?;
    // The last words of a daemon that panics.
    let stderr = os::file::private_append(&home.join("stead.log"));
    let daemon_stderr = stderr.ok().map(Into::into);
    if anew {
        let lock = os::file::lock(&home.join("lock"), Duration::from_secs(10))?;
        return keeper::run(
            keeper::Start { home, lock, daemon_args: Vec::new(), daemon_stderr, manager: None },
            || None,
        );
    }
    let lock = File::from(os::process::inherited(os::role::LOCK_FD)?);
    // Closed with the first word: who started us reads to its end.
    let mut pipe = Some(File::from(os::process::inherited(os::role::READY_FD)?));
    let mut say = |word: &str| {
        if let Some(mut pipe) = pipe.take() {
            let _ = pipe.write_all(word.as_bytes());
        }
    };
    let result = daemon::can_begin(&home).and_then(|()| {
        let start = keeper::Start { home, lock, daemon_args: Vec::new(), daemon_stderr, manager: None };
        keeper::run(start, || {
            say(os::role::READY);
            None
        })
    });
    if let Err(error) = &result {
        say(&error.to_string());
    }
    result
}

/// `stead daemon`: the keeper in this very process, for systemd and containers.
fn foreground(cli: &Cli, arguments: &DaemonArgs) -> Result<(), Refusal> {
    let home = Home::find(cli.home.as_deref())?;
    home.prepare()?;
    let Some(lock) = home.lock()? else {
        let holder = home.holder().map_or("another stead".to_owned(), |pid| format!("pid {pid}"));
        return Err(Refusal::failed(format!("{holder} holds the home {}", home.path.display()))
            .hint("one home has one stead: `stead kill` ends it, or choose another with --home"));
    };
    if let Some(file) = &arguments.file
        && !checks(file)
    {
        return Err(Refusal::failed(format!("nothing was started: {} has errors", file.display()))
            .hint("`stead daemon` without a file starts what was wanted up before"));
    }
    let mut daemon_args = vec!["--foreground".to_owned()];
    if arguments.log_format == LogFormat::Json {
        daemon_args.push("--json".to_owned());
    }
    let begun = daemon::can_begin(&home.path).and_then(|()| os::process::stderr()).and_then(|stderr| {
        let manager = os::notify::Manager::of_environment();
        let start = keeper::Start { home: home.path.clone(), lock, daemon_args, daemon_stderr: Some(stderr), manager };
        keeper::run(start, || {
            let mirror = mirror(&home, arguments.app_logs);
            if let Some(file) = &arguments.file {
                start_file(&home.path, file);
            }
            mirror
        })
    });
    begun.map_err(|error| Refusal::failed(format!("could not begin: {}", client::home::reason(&error))))
}

/// Copies what apps write to where we stand, before the first of them is started.
fn mirror(home: &Home, how: AppLogs) -> Option<os::role::Mirror> {
    if how == AppLogs::Off || (how == AppLogs::Auto && os::systemd::is_stdout_for_no_copy()) {
        return None;
    }
    match os::role::Mirror::start(&home.path, &how.word(), &client::marks(home)) {
        Ok(mirror) => Some(mirror),
        Err(error) => {
            eprintln!("error: what apps write is not shown here: {error}");
            None
        }
    }
}

/// Says all that is wrong with a file, before anything of it is started.
fn checks(file: &Path) -> bool {
    let mut check = std::process::Command::new("/proc/self/exe");
    let status = check.arg("check").arg(file).stdout(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// `stead daemon FILE`: a client of our own asks for it.
fn start_file(home: &Path, file: &Path) {
    let asked = std::process::Command::new("/proc/self/exe")
        .args(["start", "--no-wait", "--home"])
        .args([home, file])
        .stdout(std::process::Stdio::null())
        .spawn();
    if let Err(error) = asked {
        eprintln!("error: could not start {}: {error}", file.display());
    }
}

/// The daemon, a child of the keeper.
fn serve(arguments: &[OsString]) -> io::Result<()> {
    let home = home_variable()?;
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let format = if has("--json") { daemon::Format::Json } else { daemon::Format::Human };
    let foreground = has("--foreground");
    daemon::begin_log(&home, format, foreground);
    match daemon::run(&home)? {
        daemon::End::Bye | daemon::End::Retired => Ok(()),
        // systemd starts the unit anew.
        daemon::End::KeeperLost if foreground && std::env::var_os("INVOCATION_ID").is_some() => {
            Err(io::Error::other("the keeper is gone"))
        }
        daemon::End::KeeperLost => Err(os::process::exec_self(&[os::role::KEEPER, "anew"])),
    }
}

/// The courier, a child of the daemon.
fn carry(parent: Option<OsString>) -> io::Result<()> {
    let parent = parent.and_then(|pid| pid.to_str()?.parse().ok());
    daemon::carry(parent.ok_or_else(|| io::Error::other("no daemon is named"))?)
}

/// The mirror, a child of `stead daemon`.
fn reflect(home: Option<OsString>, how: Option<OsString>) -> io::Result<()> {
    let home = home.ok_or_else(|| io::Error::other("no home is named"))?;
    client::mirror(Path::new(&home), &how.unwrap_or_default().to_string_lossy())
}

fn home_variable() -> io::Result<PathBuf> {
    std::env::var_os("STEAD_HOME").map(PathBuf::from).ok_or_else(|| io::Error::other("STEAD_HOME is not set"))
}
