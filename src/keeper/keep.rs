//! The keeper's loop: wait for what happens, enter it in the table, tell the daemon what it does not know yet.

use super::attendant::Attendant;
use super::inventory::{Ends, Inventory};
use super::message::{FromDaemon, FromKeeper, Note, OLDEST, Orphan, PROTOCOL, State, Stream};
use super::upgrade::Upgrade;
use crate::core::clock::{Millis, Mono, Now};
use crate::core::event::{ExitStatus, Usage};
use crate::core::name::RunId;
use crate::core::spec::Signal;
use crate::core::upgrade::Report;
use crate::os::cgroup::site::Site;
use crate::os::notify::Manager;
use crate::os::process::{self, Snapshot};
use crate::os::role::Mirror;
use crate::os::signal::Came;
use crate::os::spawn::{self, Plan, Stage, Stdio};
use crate::os::strings::Strings;
use crate::os::{clock, file, pipe, role, signal, socket, text};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Without a daemon for this long, the keeper moves log bytes itself, so that no app blocks on a full pipe.
const UNATTENDED: Millis = Millis(5_000);

/// Told to end, and no daemon to do it in an orderly way: after this long the keeper ends everything itself.
const PATIENCE: Millis = Millis(15_000);

/// After so long without an event it gives back the memory that its code takes.
const QUIET: Millis = Millis(1_000);

/// A second signal to end means at once. One that comes sooner than this is the first one's echo: timeout(1) signals its child, then its
/// whole group.
const ECHO: Millis = Millis(500);

/// Deaths of orphans that are remembered for a daemon that is away.
const MOST_ORPHANS: usize = 256;

/// How a keeper is started.
#[derive(Debug)]
pub struct Start {
    pub home: PathBuf,
    /// Holds flock on `$STEAD_HOME/lock` for as long as it is open.
    pub lock: File,
    /// Arguments of the daemon after its role.
    pub daemon_args: Vec<String>,
    /// The daemon's stderr; `None`: nowhere.
    pub daemon_stderr: Option<OwnedFd>,
    /// Who runs us as a service and is told how we are.
    pub manager: Option<Manager>,
}

/// The signals that are watched.
pub(super) const SIGNALS: [i32; 5] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

pub(super) struct Keeper {
    pub home: PathBuf,
    pub inventory: Inventory,
    pub attendant: Attendant,
    pub daemon_plan: Plan,
    pub daemon_args: Vec<String>,
    pub files: spawn::OriginalLimit,
    pub null: OwnedFd,
    pub daemon_stderr: OwnedFd,
    /// `stead.sock`.
    pub front_door: OwnedFd,
    pub held: BTreeMap<String, OwnedFd>,
    /// How far a new daemon has been introduced; `None`: wholly.
    pub greeting: Option<Greeting>,
    pub orphans: VecDeque<(i32, ExitStatus, Option<Orphan>)>,
    /// Signals that came and were not told yet; a wish to end is told to every new daemon.
    pub came: VecDeque<Came>,
    pub told_to_end: Option<(Came, Mono)>,
    pub boot_id: String,
    pub site: Site,
    pub manager: Option<Manager>,
    /// The manager has been told that we serve.
    pub told_ready: bool,
    pub mirror: Option<Mirror>,
    pub lock: File,
    pub upgrade: Upgrade,
    /// Of the last upgrade, and whether the daemon is to be told of it, as news or again.
    pub report: Option<Report>,
    pub tell_report: Option<bool>,
    pub tell_to_retire: bool,
    /// Daemons that were started because of one.
    pub upgrades: u64,
}

pub(super) enum Greeting {
    Hello,
    /// No daemon asks for a socket to be held before it is greeted, so a number names one.
    Sockets {
        told: usize,
    },
    Runs {
        after: Option<RunId>,
        count: u64,
    },
}

/// Keeps until the daemon says goodbye. `ready` is called once clients can connect, and before the first daemon; the mirror that it begins
/// ends when all apps have.
///
/// # Errors
/// Where the keeper cannot even begin: the socket cannot be bound, no signals can be watched.
pub fn run(mut start: Start, ready: impl FnOnce() -> Option<Mirror>) -> io::Result<()> {
    process::become_subreaper()?;
    process::protect_from_oom();
    let _ = sign(&mut start.lock);
    let signals = signal::watch(&SIGNALS)?;
    let files = spawn::raise_open_files()?;
    end_leftovers(&start.home);
    let site = Site::open(&start.home);
    let front_door = socket::bind_unix(&start.home.join("stead.sock"), 0o600)?;
    let now = clock::now();
    let mut keeper = Keeper {
        inventory: Inventory::default(),
        attendant: Attendant::new(now),
        daemon_plan: daemon_plan(&start.home, &start.daemon_args)?,
        daemon_args: start.daemon_args,
        files,
        null: file::null()?,
        daemon_stderr: start.daemon_stderr.take().map_or_else(file::null, Ok)?,
        front_door,
        held: BTreeMap::new(),
        greeting: None,
        orphans: VecDeque::new(),
        came: VecDeque::new(),
        told_to_end: None,
        boot_id: process::boot_id(),
        site,
        manager: start.manager,
        told_ready: false,
        mirror: None,
        home: start.home,
        lock: start.lock,
        upgrade: Upgrade::None,
        report: None,
        tell_report: None,
        tell_to_retire: false,
        upgrades: 0,
    };
    keeper.mirror = ready();
    keeper.keep(&signals);
    keeper.close();
    Ok(())
}

/// Writes who holds the home into its lock file.
fn sign(lock: &mut File) -> io::Result<()> {
    use std::io::Seek;
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", process::pid())
}

impl Keeper {
    pub(super) fn close(&mut self) {
        // As PID 1 we would take its last lines along, and it stands in our group.
        self.mirror = None;
        let _ = std::fs::remove_file(self.home.join("stead.sock"));
        self.site.close(&self.home);
    }

    pub(super) fn keep(&mut self, signals: &OwnedFd) {
        let mut buffer = vec![0; socket::MAX_PACKET];
        // When it will have been quiet for long enough to rest; `None`: it rests.
        let mut rests_at = Some(clock::now().mono + QUIET);
        loop {
            self.follow_upgrade(signals);
            let now = clock::now();
            if rests_at.is_some_and(|at| at <= now.mono) {
                text::release();
                rests_at = None;
            }
            if !self.upgrade.is_leaving()
                && let Ok(true) =
                    self.attendant.start_if_due(now, &self.daemon_plan, self.files, &self.null, &self.daemon_stderr)
            {
                self.greeting = Some(Greeting::Hello)
            }
            let blocked = self.speak();
            let until = self.deadline(now).into_iter().chain(rests_at).min();
            if self.wait(signals, blocked, until) {
                rests_at = Some(clock::now().mono + QUIET);
            }
            for came in signal::read(signals) {
                self.heard(came);
            }
            self.listen(&mut buffer);
            self.see_execs();
            if self.reap() {
                return;
            }
            if self.attendant.absent(clock::now()).is_some_and(|absent| absent >= UNATTENDED) {
                self.move_logs();
            }
            if self.out_of_patience() {
                return;
            }
        }
    }

    /// Waits for anything to happen. `false`: nothing did.
    fn wait(&self, signals: &OwnedFd, blocked: bool, until: Option<Mono>) -> bool {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(socket) = self.attendant.socket() {
            let out = if blocked { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN | out));
        }
        let execs = self.inventory.iter().filter_map(|(_, entry)| entry.exec.as_ref());
        fds.extend(execs.map(|exec| PollFd::new(exec.as_fd(), PollFlags::POLLIN)));
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let wait = (until - clock::now().mono).0;
            // Rounded up, so that the deadline has passed when the wait is over.
            PollTimeout::try_from(wait.saturating_add(1).min(60_000) as i32).unwrap_or(PollTimeout::ZERO)
        });
        // An interruption is as good as an event: the loop looks at everything.
        nix::poll::poll(&mut fds, timeout) != Ok(0)
    }

    fn deadline(&mut self, now: Now) -> Option<Mono> {
        let attendant = self.attendant.watch(now);
        let unattended = self.attendant.absent(now).map(|absent| {
            if absent >= UNATTENDED { now.mono + Millis(20) } else { now.mono + Millis(UNATTENDED.0 - absent.0) }
        });
        let patience = self.told_to_end.map(|(_, at)| (at + PATIENCE).max(now.mono + Millis(100)));
        [attendant, unattended, patience, self.upgrade.deadline()].into_iter().flatten().min()
    }

    /// As in the kernel, one of a kind waits: a flood of signals takes no memory.
    pub(super) fn heard(&mut self, came: Came) {
        if came.signal == libc::SIGCHLD {
            return;
        }
        if came.signal != libc::SIGHUP {
            let now = clock::now().mono;
            match self.told_to_end {
                Some((_, at)) if now - at < ECHO => return,
                Some(_) => {}
                None => {
                    self.told_to_end = Some((came, now));
                    self.tell_manager("STOPPING=1\nSTATUS=stops all apps");
                }
            }
        }
        if !self.came.iter().any(|waits| waits.signal == came.signal) {
            self.came.push_back(came);
        }
    }

    /// Says what there is to say. `true`: the daemon's side is full.
    fn speak(&mut self) -> bool {
        loop {
            match self.say_next() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // It hears no more, but its goodbye may lie here unread: its end is found by listening.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return false,
                // The daemon has too much of ours unread, or the machine no memory: the next beat finds us here again.
                Err(error) if is_for_want(errno_of(&error)) => return false,
                Err(_) => {
                    self.attendant.hung_up(clock::now());
                    return false;
                }
            }
        }
    }

    /// One message. `false`: nothing is left to say.
    fn say_next(&mut self) -> io::Result<bool> {
        let Some(socket) = self.attendant.socket() else { return Ok(false) };
        match self.greeting {
            Some(Greeting::Hello) => {
                let hello = FromKeeper::Hello {
                    newest: PROTOCOL,
                    oldest: OLDEST,
                    boot_id: self.boot_id.clone(),
                    keeper_pid: process::pid(),
                    highest_run: self.inventory.highest,
                    daemon_starts: self.attendant.starts,
                    upgrades: self.upgrades,
                    site: self.site.clone(),
                };
                say(socket, &hello, &[self.front_door.as_fd()])?;
                if let Some((came, _)) = self.told_to_end
                    && !self.came.contains(&came)
                {
                    self.came.push_back(came);
                }
                if self.report.is_some() {
                    self.tell_report.get_or_insert(false);
                }
                self.greeting = Some(Greeting::Sockets { told: 0 });
                return Ok(true);
            }
            Some(Greeting::Sockets { told }) => {
                self.greeting = match self.held.iter().nth(told) {
                    Some((name, fd)) => {
                        say(socket, &FromKeeper::Socket { name: name.clone() }, &[fd.as_fd()])?;
                        Some(Greeting::Sockets { told: told + 1 })
                    }
                    None => Some(Greeting::Runs { after: None, count: 0 }),
                };
                return Ok(true);
            }
            Some(Greeting::Runs { after, count }) => {
                match self.inventory.after(after) {
                    Some(run) => {
                        if let Some((message, fds)) = self.inventory.introduce(run) {
                            say(socket, &message, &fds)?;
                        }
                        self.greeting = Some(Greeting::Runs { after: Some(run), count: count + 1 });
                    }
                    None => {
                        say(socket, &FromKeeper::End { count }, &[])?;
                        self.greeting = None;
                    }
                }
                return Ok(true);
            }
            None => {}
        }
        // Before the ends of runs: the death of a worker may be why its main process ended.
        if let Some((pid, status, was)) = self.orphans.front() {
            say(socket, &FromKeeper::Orphan { pid: *pid, status: *status, was: was.clone() }, &[])?;
            self.orphans.pop_front();
            return Ok(true);
        }
        if let Some((run, (message, fds))) = self.inventory.next_news() {
            if message != FromKeeper::Unknown {
                say(socket, &message, &fds)?;
            }
            self.inventory.told(run);
            return Ok(true);
        }
        if let (Some(news), Some(report)) = (self.tell_report, &self.report) {
            say(socket, &FromKeeper::Upgrade { report: report.clone(), news }, &[])?;
            self.tell_report = None;
            return Ok(true);
        }
        if self.tell_to_retire {
            say(socket, &FromKeeper::Retire, &[])?;
            self.tell_to_retire = false;
            return Ok(true);
        }
        if let Some(came) = self.came.front() {
            say(socket, &FromKeeper::Term { signal: came.signal, pid: came.pid, uid: came.uid }, &[])?;
            self.came.pop_front();
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes what the daemon says.
    fn listen(&mut self, buffer: &mut [u8]) {
        loop {
            let Some(socket) = self.attendant.socket() else { return };
            match socket::receive(socket, buffer) {
                Ok(Some(packet)) => {
                    // What cannot be read is passed over: a newer daemon may say what we do not know.
                    if let Ok(message) = serde_json::from_slice(&buffer[..packet.length]) {
                        self.obey(message, packet);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A message that came cut short is passed over, too; the next one stands whole behind it.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => {
                    self.attendant.hung_up(clock::now());
                    return;
                }
            }
        }
    }

    fn obey(&mut self, message: FromDaemon, packet: socket::Packet) {
        let socket::Packet { mut fds, cut, .. } = packet;
        match message {
            FromDaemon::Spawn { run, note } => {
                if self.inventory.get_mut(run).is_some() {
                    self.inventory.tell_again(run);
                } else if cut {
                    let now = clock::now();
                    let state = State::Failed { stage: Stage::Descriptors, errno: Errno::EMFILE as i32, at: now.mono };
                    self.inventory.insert_failed(run, state, now, note);
                } else if !fds.is_empty() {
                    let plan = fds.remove(0);
                    self.spawn(run, note, plan, &fds);
                }
            }
            FromDaemon::Note { run, note } => {
                if let Some(entry) = self.inventory.get_mut(run) {
                    entry.note = note;
                }
            }
            FromDaemon::Forget { run } => self.inventory.forget(run),
            FromDaemon::Log { run, stream } => {
                if let Some(entry) = self.inventory.get_mut(run) {
                    match stream {
                        Stream::Out => entry.out_log = fds.pop(),
                        Stream::Err => entry.err_log = fds.pop(),
                    }
                }
            }
            FromDaemon::Hold { name } => {
                if let Some(fd) = fds.pop() {
                    self.held.insert(name, fd);
                }
            }
            FromDaemon::Unhold { name } => {
                self.held.remove(&name);
            }
            FromDaemon::Upgrade { id } => self.asked_to_upgrade(id, fds.pop()),
            FromDaemon::Beat => {
                self.attendant.beat(clock::now());
                self.has_a_daemon();
                // A service is ready when its daemon serves, and alive while the daemon is: that is what the watchdog asks for.
                let ready = !std::mem::replace(&mut self.told_ready, true);
                self.tell_manager(if ready { "READY=1\nWATCHDOG=1\nSTATUS=serves" } else { "WATCHDOG=1" });
            }
            FromDaemon::Bye => {
                self.attendant.said_bye();
                self.tell_manager("STOPPING=1\nSTATUS=all apps have ended");
            }
            FromDaemon::Unknown => {}
        }
    }

    fn tell_manager(&self, lines: &str) {
        if let Some(manager) = &self.manager {
            manager.tell(lines);
        }
    }

    fn spawn(&mut self, run: RunId, note: Note, plan: OwnedFd, groups: &[OwnedFd]) {
        let now = clock::now();
        match self.clone_child(plan, groups) {
            Ok((child, ends)) => self.inventory.insert(run, child, now, note, ends),
            Err((stage, errno)) => {
                let state = State::Failed { stage, errno: errno as i32, at: now.mono };
                self.inventory.insert_failed(run, state, now, note);
            }
        }
    }

    fn clone_child(&self, plan: OwnedFd, groups: &[OwnedFd]) -> Result<(spawn::Child, Ends), (Stage, Errno)> {
        let plan: Plan = file::read_memory_file(plan)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or((Stage::Exec, Errno::EINVAL))?;
        let mut sockets = Vec::new();
        for name in &plan.listen {
            sockets.push(self.held.get(name).ok_or((Stage::Descriptors, Errno::EBADF))?.as_fd());
        }
        let owner = plan.identity.as_ref().map(|who| (who.uid, who.gid));
        let pipe = || pipe::make(owner).map_err(|error| (Stage::Fork, errno_of(&error)));
        let (out, out_end) = pipe()?;
        let (err, err_end) = pipe()?;
        let stdio = Stdio { null: self.null.as_fd(), out: out_end.as_fd(), err: err_end.as_fd(), listen: &sockets };
        let (into, tasks) = groups.split_at(usize::from(plan.into_group).min(groups.len()));
        let tasks: Vec<_> = tasks.iter().map(AsFd::as_fd).collect();
        let groups = spawn::Groups { into: into.first().map(AsFd::as_fd), tasks: &tasks };
        Ok((spawn::spawn(&plan, stdio, groups, self.files)?, Ends { out, err }))
    }

    /// Which execs are decided.
    fn see_execs(&mut self) {
        let open: Vec<RunId> =
            self.inventory.iter().filter(|(_, entry)| entry.exec.is_some()).map(|(run, _)| run).collect();
        for run in open {
            self.see_exec(run);
        }
    }

    fn see_exec(&mut self, run: RunId) {
        let Some(entry) = self.inventory.get_mut(run) else { return };
        let Some(exec) = &entry.exec else { return };
        match spawn::outcome(exec) {
            Ok(None) => self.inventory.moved(run, State::Live),
            Ok(Some((stage, errno))) => {
                let at = clock::now().mono;
                self.inventory.moved(run, State::Failed { stage, errno: errno as i32, at });
            }
            Err(_) => {}
        }
    }

    /// Takes the status of everybody who ended. `true`: the daemon ended as it should, and so do we.
    pub(super) fn reap(&mut self) -> bool {
        let mut done = false;
        while let Some(dead) = process::next_zombie() {
            if self.upgrade.pid() == Some(dead) {
                // What it may have left; until it is reaped, its group is no one else's.
                process::kill_group(dead);
                let Some((_, status, _)) = take(dead) else { break };
                self.checked(status);
                continue;
            }
            let is_orphan = self.inventory.by_pid(dead).is_none() && self.attendant.pid() != Some(dead);
            let was = if is_orphan { last_look(dead) } else { None };
            let Some((pid, status, usage)) = take(dead) else { break };
            let now = clock::now();
            if let Some(run) = self.inventory.by_pid(pid) {
                // Its exec pipe was closed by its death at the latest.
                self.see_exec(run);
                if self.inventory.get_mut(run).is_some_and(|entry| matches!(entry.state, State::Live)) {
                    self.inventory.moved(run, State::Ended { status, usage, at: now });
                }
            } else if self.attendant.pid() == Some(pid) {
                done |= self.attendant.ended(now);
                self.lost_a_daemon(status);
                self.greeting = None;
            } else {
                if self.orphans.len() == MOST_ORPHANS {
                    self.orphans.pop_front();
                }
                self.orphans.push_back((pid, status, was));
            }
        }
        done
    }

    /// In place of an absent daemon, where a pipe fills up. The rest is left to the next one, which knows more about it: times before
    /// the lines, a second file.
    fn move_logs(&self) {
        for (_, entry) in self.inventory.iter() {
            let Some(ends) = &entry.ends else { continue };
            for (from, to) in [(&ends.out, &entry.out_log), (&ends.err, &entry.err_log)] {
                if let Some(to) = to
                    && pipe::waiting(from.as_fd()) >= pipe::capacity(from.as_fd()) / 2
                {
                    // One pipe's fill a time: a flooding app must not hold us.
                    let _ = pipe::splice_to_end(from.as_fd(), to.as_fd(), 1 << 20);
                }
            }
        }
    }

    /// Told to end, but no daemon lives long enough to do it.
    fn out_of_patience(&self) -> bool {
        let now = clock::now();
        let waited = self.told_to_end.is_some_and(|(_, at)| now.mono - at >= PATIENCE);
        if !waited || self.attendant.socket().is_some() {
            return false;
        }
        let mut snapshot = Snapshot::take();
        for _ in 0..10 {
            let below = snapshot.below(snapshot.children(process::pid()).to_vec());
            if below.is_empty() {
                break;
            }
            for pid in below {
                if let Ok(pidfd) = process::pidfd_open(pid) {
                    let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                }
            }
            snapshot = Snapshot::take();
        }
        true
    }
}

fn say(socket: &OwnedFd, message: &FromKeeper, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    socket::send(socket, &serde_json::to_vec(message)?, fds)
}

fn is_for_want(errno: Errno) -> bool {
    matches!(errno, Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM)
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What can still be seen of a zombie.
fn last_look(pid: i32) -> Option<Orphan> {
    let stat = process::Stat::read(pid)?;
    Some(Orphan { name: stat.comm, session: stat.session, group: process::group(pid), at: clock::now() })
}

/// wait4(2) for a zombie of ours.
fn take(zombie: i32) -> Option<(i32, ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage; both pointers are to our own variables.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(zombie, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    if pid <= 0 {
        return None;
    }
    // Only ends are asked for. nix knows no real-time signals.
    let status = if libc::WIFEXITED(status) {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    } else {
        ExitStatus::Signal { signal: Signal(libc::WTERMSIG(status)), core_dumped: libc::WCOREDUMP(status) }
    };
    let millis = |time: libc::timeval| Millis((time.tv_sec as u64) * 1000 + (time.tv_usec as u64) / 1000);
    let usage = Usage {
        user: millis(usage.ru_utime),
        system: millis(usage.ru_stime),
        // Linux counts in KiB (getrusage(2)).
        max_rss_bytes: (usage.ru_maxrss as u64) * 1024,
    };
    Some((pid, status, usage))
}

/// The daemon is always this very binary, even where another has been put in its place meanwhile.
pub(super) fn daemon_plan(home: &Path, args: &[String]) -> Result<Plan, Errno> {
    let argv = Strings::new(["stead", role::DAEMON].into_iter().chain(args.iter().map(String::as_str)))?;
    let env = Strings::new(role::environment(home))?;
    Ok(Plan { program: "/proc/self/exe".into(), argv, env, cwd: "/".into(), ..Plan::default() })
}

/// Never two copies: what still runs of an earlier keeper of this home is ended before anything is started. Found by STEAD_HOME
/// and STEAD_RUN in /proc/PID/environ; we and those above us are not meant, even where an app of this home started us.
fn end_leftovers(home: &Path) {
    let home = home.to_string_lossy().into_owned();
    let spared = process::ancestors(process::pid());
    for _ in 0..50 {
        let left: Vec<i32> = Snapshot::take()
            .all()
            .map(|stat| stat.pid)
            .filter(|pid| !spared.contains(pid))
            .filter(|pid| is_leftover(*pid, &home))
            .collect();
        if left.is_empty() {
            return;
        }
        for pid in left {
            if let Ok(pidfd) = process::pidfd_open(pid)
                && is_leftover(pid, &home)
            {
                let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                // Until it is gone, or 100 ms: the next round looks again.
                process::wait_ended(&[pidfd.as_fd()], Duration::from_millis(100));
            }
        }
    }
}

fn is_leftover(pid: i32, home: &str) -> bool {
    process::variable(pid, "STEAD_RUN").is_some() && process::variable(pid, "STEAD_HOME").as_deref() == Some(home)
}
