//! The keeper under a new program, in the same process: first a child of the new one looks whether it could go on from here, then the
//! daemon ends, then this process executes it. Nothing is waited for: each step is looked at when the loop comes round.

use super::attendant::Attendant;
use super::handover::{Answer, Handover, HeldMirror, VERSION};
use super::inventory::Inventory;
use super::keep::{Keeper, SIGNALS, daemon_plan};
use super::message::{OLDEST, PROTOCOL};
use crate::core::clock::{Millis, Mono, Now};
use crate::core::event::ExitStatus;
use crate::core::upgrade::{Report, State};
use crate::os::notify::Manager;
use crate::os::role::Mirror;
use crate::os::spawn::{self, Child, Plan, Stage, Stdio};
use crate::os::strings::Strings;
use crate::os::{clock, file, pipe, process, reason, role, signal};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// For the new binary's answer. It reads some files; a machine that is out of memory takes seconds for it.
const CHECK_LIMIT: Millis = Millis(10_000);

/// For the daemon to give the answers that are under way.
const FAREWELL: Millis = Millis(3_000);

/// For the new daemon to serve.
const TRIAL: Millis = Millis(20_000);

/// Daemons that may end before one has served.
const TRIES: u32 = 3;

/// How far an upgrade is.
#[derive(Debug, Default)]
pub enum Upgrade {
    #[default]
    None,
    /// The new binary is asked.
    Checking { check: Check },
    /// The daemon ends, so that this process can execute the program.
    Leaving { next: OwnedFd, until: Mono, back: Option<Why> },
    /// The new program runs, and no daemon of it has served yet.
    Trial { previous: OwnedFd, ended: u32, until: Mono, why: Why },
}

/// Why the new daemon did not come up.
type Why = String;

/// `keeper --check` as a child.
#[derive(Debug)]
pub struct Check {
    program: OwnedFd,
    child: Child,
    out: OwnedFd,
    err: OwnedFd,
    until: Mono,
    late: bool,
}

impl Upgrade {
    /// The child that is asked.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self {
            Upgrade::Checking { check } => Some(check.child.pid),
            Upgrade::None | Upgrade::Leaving { .. } | Upgrade::Trial { .. } => None,
        }
    }

    /// No daemon is started: this process is about to be another.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self, Upgrade::Leaving { .. })
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match self {
            Upgrade::Checking { check } => (!check.late).then_some(check.until),
            Upgrade::Leaving { until, .. } | Upgrade::Trial { until, .. } => Some(*until),
            Upgrade::None => None,
        }
    }
}

impl Check {
    fn begin(program: OwnedFd, handover: &Handover, keeper: &Keeper, now: Now) -> io::Result<Check> {
        let memory = file::memory_file(c"stead-handover", &serde_json::to_vec(handover)?)?;
        let (out, out_end) = pipe::make(None)?;
        let (err, err_end) = pipe::make(None)?;
        let plan = Plan {
            program: format!("/proc/self/fd/{}", role::BINARY_FD),
            argv: Strings::new(["stead", role::KEEPER, role::CHECK])?,
            env: Strings::new(role::environment(&keeper.home))?,
            cwd: "/".into(),
            dies_with_parent: true,
            ..Plan::default()
        };
        let inherited = [program.as_fd(), memory.as_fd()];
        let stdio = Stdio { null: keeper.null.as_fd(), out: out_end.as_fd(), err: err_end.as_fd(), listen: &inherited };
        let child = spawn::spawn(&plan, stdio, spawn::Groups::default(), keeper.files)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        Ok(Check { program, child, out, err, until: now.mono + CHECK_LIMIT, late: false })
    }

    /// What it said: the version of the new binary, or why not.
    fn answer(&self, status: ExitStatus) -> Result<String, String> {
        if self.late {
            return Err(format!("it did not answer within {CHECK_LIMIT}"));
        }
        if let Ok(Some((stage, errno))) = spawn::outcome(&self.child.exec) {
            let step = if stage == Stage::Exec { "it cannot be executed" } else { stage.word() };
            return Err(format!("{step}: {}", reason(&errno.into())));
        }
        match serde_json::from_str(&said(&self.out)) {
            Ok(Answer::Yes { version }) => Ok(version),
            Ok(Answer::No { reason }) => Err(reason),
            Err(_) => {
                let last = said(&self.err).lines().last().map(|line| format!(": {line}")).unwrap_or_default();
                Err(format!("it did not answer as stead does, and {}{last}", ended(status)))
            }
        }
    }
}

impl Keeper {
    /// The daemon passes on that somebody asks for an upgrade. One that is known is told of again.
    pub(super) fn asked_to_upgrade(&mut self, id: String, program: Option<OwnedFd>) {
        let known = self.report.as_ref().is_some_and(|report| report.id == id);
        let busy = !matches!(self.upgrade, Upgrade::None);
        self.tell_report.get_or_insert(false);
        let (false, false, Some(program)) = (known, busy, program) else { return };
        let from = env!("CARGO_PKG_VERSION").to_owned();
        let report = Report { id, from, to: None, state: State::Pending };
        self.report = Some(report.clone());
        let handover = self.handover(report, None);
        match Check::begin(program, &handover, self, clock::now()) {
            Ok(check) => self.upgrade = Upgrade::Checking { check },
            Err(error) => {
                self.upgrade_failed(format!("it could not be asked whether it can take over: {}", reason(&error)))
            }
        }
    }

    /// What is due of an upgrade. Returns only where this process goes on with the program that it has.
    pub(super) fn follow_upgrade(&mut self, signals: &OwnedFd) {
        let now = clock::now();
        match &mut self.upgrade {
            Upgrade::None => {}
            Upgrade::Checking { check } => {
                if now.mono >= check.until && !check.late {
                    check.late = true;
                    process::kill_group(check.child.pid);
                    let _ = process::pidfd_signal(check.child.pidfd.as_fd(), libc::SIGKILL);
                }
            }
            Upgrade::Leaving { until, .. } => {
                if self.attendant.pid().is_none() {
                    self.leave(signals);
                } else if now.mono >= *until {
                    *until = now.mono + FAREWELL;
                    self.attendant.kill();
                }
            }
            Upgrade::Trial { ended, until, why, .. } => {
                let over = now.mono >= *until;
                if over || *ended >= TRIES {
                    let why = if over { format!("it did not serve within {TRIAL}") } else { std::mem::take(why) };
                    self.go_back(why);
                }
            }
        }
    }

    /// The child that was asked has ended; its status is taken after this.
    pub(super) fn checked(&mut self, status: ExitStatus) {
        let Upgrade::Checking { check } = std::mem::take(&mut self.upgrade) else { return };
        match check.answer(status) {
            Ok(version) => {
                if let Some(report) = &mut self.report {
                    report.to = Some(version);
                }
                self.retire(check.program, clock::now().mono + FAREWELL, None);
            }
            Err(reason) => self.upgrade_failed(reason),
        }
    }

    /// A daemon ended without a goodbye.
    pub(super) fn lost_a_daemon(&mut self, status: ExitStatus) {
        if let Upgrade::Trial { ended: count, why, .. } = &mut self.upgrade {
            *count += 1;
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            *why = format!("it {}, {times}", ended(status));
        }
    }

    /// A daemon serves.
    pub(super) fn has_a_daemon(&mut self) {
        if matches!(self.upgrade, Upgrade::Trial { .. }) {
            self.upgrade = Upgrade::None;
            if let Some(report) = &mut self.report {
                report.state = State::Done;
            }
            self.tell_report = Some(true);
        }
    }

    fn upgrade_failed(&mut self, reason: String) {
        self.upgrade = Upgrade::None;
        if let Some(report) = &mut self.report {
            report.state = State::Failed { reason };
        }
        self.tell_report = Some(true);
    }

    fn retire(&mut self, next: OwnedFd, until: Mono, back: Option<Why>) {
        self.upgrade = Upgrade::Leaving { next, until, back };
        self.tell_to_retire = true;
    }

    fn go_back(&mut self, why: Why) {
        let Upgrade::Trial { previous, .. } = std::mem::take(&mut self.upgrade) else { return };
        self.upgrade_failed(format!("the new daemon did not come up: {why}; the previous one serves again"));
        self.retire(previous, clock::now().mono, Some(why));
    }

    /// Executes the next program. Returns where that fails.
    fn leave(&mut self, signals: &OwnedFd) {
        let Upgrade::Leaving { next, back, .. } = std::mem::take(&mut self.upgrade) else { return };
        // From here until the next keeper watches for them they wait: the default of most is to end a process.
        signal::hold(&SIGNALS, true);
        for came in signal::read(signals) {
            self.heard(came);
        }
        let Err(error) = self.execute(&next);
        let error = reason(&error);
        signal::hold(&SIGNALS, false);
        self.tell_to_retire = false;
        self.upgrades += 1;
        self.upgrade_failed(match back {
            None => format!("it cannot be executed: {error}"),
            Some(why) => {
                format!("the new daemon did not come up: {why}; the previous stead cannot be executed: {error}")
            }
        });
    }

    /// # Errors
    /// Always: else there is nobody to return to.
    fn execute(&self, next: &OwnedFd) -> io::Result<Infallible> {
        let report = self.report.clone().ok_or(io::ErrorKind::InvalidInput)?;
        let own = process::own_program()?;
        let handover = self.handover(report, Some(own.as_raw_fd()));
        let memory = file::memory_file(c"stead-handover", &serde_json::to_vec(&handover)?)?;
        let number = memory.as_raw_fd().to_string();
        let argv = ["stead", role::KEEPER, role::TAKE_OVER, &number];
        let mut kept = handover.descriptors();
        // The program too, for one that is a script.
        kept.extend([memory.as_raw_fd(), next.as_raw_fd()]);
        let failed = kept.iter().find_map(|fd| process::keep_over_exec(*fd, true).err());
        let error =
            failed.unwrap_or_else(|| process::exec_file(next.as_fd(), &argv, &role::own_environment(&self.home)));
        for fd in kept {
            let _ = process::keep_over_exec(fd, false);
        }
        Err(error)
    }

    fn handover(&self, report: Report, previous: Option<RawFd>) -> Handover {
        Handover {
            version: VERSION,
            stead: env!("CARGO_PKG_VERSION").into(),
            newest: PROTOCOL,
            oldest: OLDEST,
            lock: self.lock.as_raw_fd(),
            front_door: self.front_door.as_raw_fd(),
            daemon_stderr: self.daemon_stderr.as_raw_fd(),
            daemon_args: self.daemon_args.clone(),
            daemon_starts: self.attendant.starts,
            upgrades: self.upgrades,
            files: self.files,
            site: self.site.clone(),
            highest_run: self.inventory.highest,
            sockets: self.held.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect(),
            runs: self.inventory.hand_over(),
            orphans: self.orphans.iter().cloned().collect(),
            came: self.came.iter().copied().collect(),
            told_to_end: self.told_to_end,
            mirror: self.mirror.as_ref().map(|mirror| HeldMirror {
                pidfd: mirror.pidfd.as_raw_fd(),
                stdin: mirror.holds.as_ref().map(AsRawFd::as_raw_fd),
            }),
            report,
            previous,
        }
    }
}

/// Goes on where the keeper was that this process was before. `memory`: the number of the handover's descriptor.
///
/// # Errors
/// The handover cannot be read, which this very binary said that it can; no signals can be watched.
pub fn resume(home: PathBuf, memory: RawFd) -> io::Result<()> {
    let bytes = file::read_memory_file(process::inherited(memory)?)?;
    let handover = Handover::parse(&bytes).map_err(io::Error::other)?;
    process::take_name();
    process::close_others(&handover.descriptors());
    let signals = signal::watch(&SIGNALS)?;
    let now = clock::now();
    let Handover { daemon_starts, report, previous, .. } = handover;
    let previous = previous.map(process::inherited).transpose()?;
    let upgrade = match (report.is_pending(), previous) {
        (true, Some(previous)) => Upgrade::Trial { previous, ended: 0, until: now.mono + TRIAL, why: String::new() },
        _ => Upgrade::None,
    };
    let adopt = process::inherited;
    let held = handover.sockets.into_iter().map(|(name, fd)| Ok((name, adopt(fd)?))).collect::<io::Result<_>>()?;
    let mirror = handover
        .mirror
        .map(|held| io::Result::Ok(Mirror { pidfd: adopt(held.pidfd)?, holds: held.stdin.map(adopt).transpose()? }));
    let mut keeper = Keeper {
        inventory: Inventory::take_over(handover.runs, handover.highest_run, adopt)?,
        attendant: Attendant::after(now, daemon_starts),
        daemon_plan: daemon_plan(&home, &handover.daemon_args)?,
        files: handover.files,
        null: file::null()?,
        daemon_stderr: adopt(handover.daemon_stderr)?,
        daemon_args: handover.daemon_args,
        front_door: adopt(handover.front_door)?,
        held,
        greeting: None,
        orphans: handover.orphans.into(),
        came: handover.came.into(),
        told_to_end: handover.told_to_end,
        boot_id: process::boot_id(),
        site: handover.site,
        manager: Manager::of_environment(),
        told_ready: false,
        mirror: mirror.transpose()?,
        home,
        lock: adopt(handover.lock)?.into(),
        upgrades: handover.upgrades + 1,
        tell_report: Some(!report.is_pending()),
        report: Some(report),
        tell_to_retire: false,
        upgrade,
    };
    signal::hold(&SIGNALS, false);
    // Whoever ended before somebody watched.
    keeper.reap();
    keeper.keep(&signals);
    keeper.close();
    Ok(())
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with status {code}"),
        ExitStatus::Signal { signal, .. } => format!("was ended by {signal}"),
    }
}

/// What lies in a pipe, its beginning.
fn said(from: &OwnedFd) -> String {
    let mut buffer = [0; 16 << 10];
    let n = pipe::read(from.as_fd(), &mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}
