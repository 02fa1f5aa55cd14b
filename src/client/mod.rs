//! The command line: asks the daemon, and shows what it says.
//!
//! [`cli`] (what can be typed), [`home`] and [`connect`] (the way to the daemon), `commands` (one file per verb), [`render`]
//! (what is shown).

pub mod cli;
mod commands;
pub mod connect;
pub mod home;
mod progress;
pub mod render;
mod tail;
mod unit;

use crate::core::command::{Refusal, RefusalKind};
use connect::Daemon;
use home::Home;
use render::screen::{self, Screen};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What every verb is given.
#[derive(Debug)]
pub struct Context {
    pub daemon: Daemon,
    /// Standard output.
    pub screen: Screen,
    /// Standard error.
    pub errors: Screen,
}

/// How a verb ends: its exit status, or why not.
pub type Outcome = Result<u8, Refusal>;

/// Runs one verb. `daemon` is main's and does nothing here.
#[must_use]
pub fn run(cli: cli::Cli) -> ExitCode {
    let errors = Screen::stderr(cli.no_color);
    match begin(cli, errors) {
        Ok(status) => ExitCode::from(status),
        Err(refusal) => {
            screen::complain(&errors, &refusal);
            ExitCode::from(exit_status(refusal.kind))
        }
    }
}

/// Where all logs of a home end by now, for [`mirror`].
#[must_use]
pub fn marks(home: &Home) -> String {
    commands::mirror::marks(home)
}

/// The mirror's role: copies what apps write to stdout and stderr, until stdin ends.
///
/// # Errors
/// Of writing, and where it cannot begin.
pub fn mirror(home: &Path, how: &str) -> io::Result<()> {
    let home = Home::find(Some(home)).map_err(|refusal| io::Error::other(refusal.error))?;
    let daemon = Daemon { home, starts: false };
    let context = Context { daemon, screen: Screen::stdout(true), errors: Screen::stderr(true) };
    let how = cli::AppLogs::of(how).unwrap_or(cli::AppLogs::Named);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(commands::mirror::run(&context, how)) {
        // Who has gone away wants no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

/// Tells why a role other than the client's could not begin.
#[must_use]
pub fn refuse(cli: &cli::Cli, refusal: &Refusal) -> ExitCode {
    screen::complain(&Screen::stderr(cli.no_color), refusal);
    ExitCode::from(exit_status(refusal.kind))
}

fn begin(cli: cli::Cli, errors: Screen) -> Outcome {
    let home = Home::find(cli.home.as_deref())?;
    let daemon = Daemon { home, starts: true };
    let context = Context { daemon, screen: Screen::stdout(cli.no_color), errors };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::failed(format!("could not begin: {}", home::reason(&error))))?;
    runtime.block_on(commands::run(context, cli.command))
}

fn exit_status(kind: RefusalKind) -> u8 {
    match kind {
        RefusalKind::Failed => 1,
        RefusalKind::Usage => 2,
        RefusalKind::NoSuchApp => 3,
    }
}
