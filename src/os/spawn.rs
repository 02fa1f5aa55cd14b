//! From a plan to a running program: clone, the steps in the child, and which of them failed.

use super::strings::Strings;
use crate::core::spec::{Limit, Resource};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What to exec, and as whom. It travels to the keeper in a memfd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The file to exec; no search in PATH.
    pub program: String,
    pub argv: Strings,
    /// `KEY=VALUE`.
    pub env: Strings,
    pub cwd: String,
    pub identity: Option<Credentials>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub limits: Vec<(Resource, Limit)>,
    pub oom_score_adj: Option<i32>,
    /// Names of held sockets, inherited from fd 3 on.
    pub listen: Vec<String>,
    /// The first of the group descriptors that come with the plan is a folder of the v2 tree; all others are `tasks` files.
    #[serde(default)]
    pub into_group: bool,
    /// SIGKILL comes to it when its parent ends.
    #[serde(default)]
    pub dies_with_parent: bool,
    /// PR_SET_NO_NEW_PRIVS.
    #[serde(default)]
    pub no_new_privileges: bool,
}

/// Numbers only: the keeper asks no name service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// The steps of a child, in order; the number is what travels through the exec pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Stage {
    Fork,
    Cgroup,
    Setsid,
    Descriptors,
    Limits,
    Nice,
    OomScoreAdj,
    Umask,
    Groups,
    Gid,
    Uid,
    Cwd,
    Exec,
}

const STAGES: [Stage; 13] = [
    Stage::Fork,
    Stage::Cgroup,
    Stage::Setsid,
    Stage::Descriptors,
    Stage::Limits,
    Stage::Nice,
    Stage::OomScoreAdj,
    Stage::Umask,
    Stage::Groups,
    Stage::Gid,
    Stage::Uid,
    Stage::Cwd,
    Stage::Exec,
];

impl Stage {
    /// The word in exit records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stage::Fork => "fork",
            Stage::Cgroup => "cgroup",
            Stage::Setsid => "setsid",
            Stage::Descriptors => "descriptors",
            Stage::Limits => "limits",
            Stage::Nice => "nice",
            Stage::OomScoreAdj => "oom_score_adj",
            Stage::Umask => "umask",
            Stage::Groups => "groups",
            Stage::Gid => "gid",
            Stage::Uid => "uid",
            Stage::Cwd => "cwd",
            Stage::Exec => "exec",
        }
    }
}

/// A child between clone and exec.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Ends at a successful exec; before a failure it carries stage and errno. Read it with [`outcome`].
    pub exec: OwnedFd,
}

/// Descriptors for the child.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    pub null: BorrowedFd<'a>,
    pub out: BorrowedFd<'a>,
    pub err: BorrowedFd<'a>,
    pub listen: &'a [BorrowedFd<'a>],
}

/// The groups that a child is in from its first instruction on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Groups<'a> {
    /// A folder of the v2 tree, for clone3(2).
    pub into: Option<BorrowedFd<'a>>,
    /// `tasks` files of v1 groups: the child writes 0 into each.
    pub tasks: &'a [BorrowedFd<'a>],
}

/// `libc::CLONE_INTO_CGROUP` is an int, and 0 for lack of room.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// RLIMIT_NOFILE as it was before stead raised its own; a child gets it back.
pub type OriginalLimit = (u64, u64);

/// RLIMIT_NOFILE of this process.
///
/// # Errors
/// Of getrlimit(2).
pub fn open_files() -> io::Result<OriginalLimit> {
    Ok(nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?)
}

/// Raises the soft limit of open files to the hard one, and says what it was.
///
/// # Errors
/// Of getrlimit(2) and setrlimit(2).
pub fn raise_open_files() -> io::Result<OriginalLimit> {
    use nix::sys::resource::{Resource, setrlimit};
    let (soft, hard) = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// Clones a child that executes the plan.
///
/// # Errors
/// `(Fork, errno)` where no child came to be. A failure of a later stage comes through the exec pipe.
pub fn spawn(plan: &Plan, stdio: Stdio<'_>, groups: Groups<'_>, files: OriginalLimit) -> Result<Child, (Stage, Errno)> {
    let prepared = Prepared::new(plan, stdio.listen.len()).map_err(|_| (Stage::Exec, Errno::EINVAL))?;
    let (exec, report) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| (Stage::Fork, errno))?;
    match clone(groups.into).map_err(|errno| (Stage::Fork, errno))? {
        None => {
            // Above the numbers that the child's own descriptors get: else one of them would take its place.
            let above = stdio.listen.len() as i32 + 6;
            // SAFETY: plain numbers.
            let high = unsafe { libc::fcntl(report.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
            let report = if high < 0 { report.as_raw_fd() } else { high };
            let (stage, errno) = match join(groups) {
                Ok(()) => prepared.run(plan, stdio, files),
                Err(errno) => (Stage::Cgroup, errno),
            };
            let mut record = [0u8; 5];
            record[0] = stage as u8;
            record[1..].copy_from_slice(&(errno as i32).to_ne_bytes());
            // SAFETY: plain system calls on our own buffer and descriptor; _exit runs nothing of the parent's.
            unsafe {
                libc::write(report, record.as_ptr().cast(), record.len());
                libc::_exit(127)
            }
        }
        Some((pid, pidfd)) => Ok(Child { pid, pidfd, exec }),
    }
}

/// Reads an exec pipe: `Ok(None)` after a successful exec, `Err(WouldBlock)` where it is not decided yet.
///
/// # Errors
/// `WouldBlock` while the child is still on its way.
pub fn outcome(exec: &OwnedFd) -> io::Result<Option<(Stage, Errno)>> {
    let mut wait = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(exec), nix::poll::PollFlags::POLLIN)];
    if nix::poll::poll(&mut wait, nix::poll::PollTimeout::ZERO)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut record = [0u8; 5];
    let n = nix::unistd::read(exec, &mut record)?;
    if n < record.len() {
        return Ok(None);
    }
    let stage = STAGES.get(usize::from(record[0])).copied().unwrap_or(Stage::Exec);
    Ok(Some((stage, Errno::from_raw(i32::from_ne_bytes([record[1], record[2], record[3], record[4]])))))
}

/// fork-like clone3(2) with a pidfd. Not vfork: the parent would wait for an exec from a dead file system.
fn clone(into: Option<BorrowedFd<'_>>) -> Result<Option<(i32, OwnedFd)>, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of everything. Another thread may have held a lock in that moment: the child
    // makes system calls only.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => {
            // SAFETY: the kernel has just made it for us.
            Ok(Some((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
        // Old container runtimes forbid clone3 by seccomp. The pid is our child's: it cannot be reused before we reap it.
        _ if matches!(Errno::last(), Errno::ENOSYS | Errno::EPERM) && into.is_none() => {
            // SAFETY: see above.
            match unsafe { nix::unistd::fork()? } {
                nix::unistd::ForkResult::Child => Ok(None),
                nix::unistd::ForkResult::Parent { child } => {
                    let pidfd = super::process::pidfd_open(child.as_raw()).map_err(|_| Errno::EMFILE)?;
                    Ok(Some((child.as_raw(), pidfd)))
                }
            }
        }
        _ => Err(Errno::last()),
    }
}

/// In the child: 0 is whoever writes.
fn join(groups: Groups<'_>) -> Result<(), Errno> {
    for tasks in groups.tasks {
        // SAFETY: a constant of one byte and an open descriptor.
        if unsafe { libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast(), 1) } < 0 {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// All that needs memory, made before the clone.
struct Prepared {
    program: CString,
    cwd: CString,
    /// Into the plan's strings, and the two below.
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// `LISTEN_FDS=` and their number.
    _listen_fds: Option<CString>,
    parent: i32,
    /// `LISTEN_PID=` and room for the number.
    listen_pid: Option<Vec<u8>>,
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";

impl Prepared {
    fn new(plan: &Plan, sockets: usize) -> Result<Prepared, std::ffi::NulError> {
        let mut argv = plan.argv.pointers();
        argv.push(std::ptr::null());
        let mut env = plan.env.pointers();
        let listen_fds = (sockets > 0).then(|| CString::new(format!("LISTEN_FDS={sockets}"))).transpose()?;
        let listen_pid = (sockets > 0).then(|| [LISTEN_PID, &[0; 12]].concat());
        env.extend(listen_fds.iter().map(|text| text.as_ptr()));
        env.extend(listen_pid.iter().map(|text| text.as_ptr().cast::<c_char>()));
        env.push(std::ptr::null());
        Ok(Prepared {
            program: CString::new(plan.program.as_bytes())?,
            cwd: CString::new(plan.cwd.as_bytes())?,
            argv,
            env,
            _listen_fds: listen_fds,
            parent: super::process::pid(),
            listen_pid,
        })
    }

    /// In the child. Returns only with a failure. System calls alone: no allocation, no lock.
    fn run(mut self, plan: &Plan, stdio: Stdio<'_>, files: OriginalLimit) -> (Stage, Errno) {
        match self.steps(plan, stdio, files) {
            Ok(()) => {}
            Err(failure) => return failure,
        }
        // SAFETY: both arrays end in null, and their strings live in `plan` and `self`.
        unsafe {
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr());
        }
        (Stage::Exec, Errno::last())
    }

    fn steps(&mut self, plan: &Plan, stdio: Stdio<'_>, files: OriginalLimit) -> Result<(), (Stage, Errno)> {
        let check = |stage: Stage, result: libc::c_long| {
            if result < 0 { Err((stage, Errno::last())) } else { Ok(()) }
        };
        // SAFETY: each call below takes plain numbers or pointers into memory that this function owns.
        unsafe {
            check(Stage::Setsid, libc::setsid().into())?;
            reset_signals();
            self.descriptors(stdio).map_err(|errno| (Stage::Descriptors, errno))?;
            let (soft, hard) = files;
            let original = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const original) < 0 {
                // Somebody has lowered ours since, and only root raises it again: what is left has to do.
                let mut ours = original;
                check(Stage::Limits, libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut ours).into())?;
                ours.rlim_cur = soft.min(ours.rlim_max);
                check(Stage::Limits, libc::setrlimit(libc::RLIMIT_NOFILE, &raw const ours).into())?;
            }
            for (resource, limit) in &plan.limits {
                let wanted = libc::rlimit {
                    rlim_cur: limit.soft.unwrap_or(libc::RLIM_INFINITY),
                    rlim_max: limit.hard.unwrap_or(libc::RLIM_INFINITY),
                };
                check(Stage::Limits, libc::setrlimit(number(*resource), &raw const wanted).into())?;
            }
            if let Some(nice) = plan.nice {
                check(Stage::Nice, libc::setpriority(libc::PRIO_PROCESS, 0, nice).into())?;
            }
            if let Some(adj) = plan.oom_score_adj {
                write_oom_score_adj(adj).map_err(|errno| (Stage::OomScoreAdj, errno))?;
            }
            if let Some(mask) = plan.umask {
                libc::umask(mask);
            }
            if let Some(who) = &plan.identity {
                // Not libc's, which ask every thread to follow: it counts those of the parent, and they are not here.
                let (groups, uid, gid) = (&who.groups, who.uid, who.gid);
                check(Stage::Groups, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
                check(Stage::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
                check(Stage::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
                is_dropped(uid, gid)?;
            }
            if plan.no_new_privileges {
                let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
                check(Stage::Uid, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused).into())?;
            }
            // A change of the user takes it away (prctl(2)).
            if plan.dies_with_parent {
                check(Stage::Fork, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
                if libc::getppid() != self.parent {
                    return Err((Stage::Fork, Errno::ESRCH));
                }
            }
            check(Stage::Cwd, libc::chdir(self.cwd.as_ptr()).into())
        }
    }

    /// fd 0 to 2, the sockets from 3 on, and LISTEN_PID. All others are close-on-exec.
    fn descriptors(&mut self, stdio: Stdio<'_>) -> Result<(), Errno> {
        let sources = [stdio.null, stdio.out, stdio.err];
        let all = sources.len() + stdio.listen.len();
        // First away from the low numbers, so that no source is overwritten before its turn.
        let mut high = [-1; 3 + super::socket::MAX_FDS];
        for (at, source) in sources.iter().chain(stdio.listen).enumerate() {
            // SAFETY: plain numbers.
            high[at] = unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, all as i32 + 3) };
            if high[at] < 0 {
                return Err(Errno::last());
            }
        }
        for (target, source) in high[..all].iter().enumerate() {
            // SAFETY: plain numbers. dup2 clears close-on-exec.
            if unsafe { libc::dup2(*source, target as i32) } < 0 {
                return Err(Errno::last());
            }
        }
        // What whoever started stead had left open is no child's business: a pipe among it would never end. Before Linux 5.11 it stays.
        // SAFETY: plain numbers.
        unsafe { libc::syscall(libc::SYS_close_range, all as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if let Some(text) = &mut self.listen_pid {
            // SAFETY: getpid(2) cannot fail. A raw clone leaves libc's caches stale; getpid has none.
            let mut pid = unsafe { libc::getpid() }.unsigned_abs();
            let mut digits = [0u8; 10];
            let mut n = 0;
            while pid > 0 {
                digits[n] = b'0' + (pid % 10) as u8;
                pid /= 10;
                n += 1;
            }
            for (at, digit) in digits[..n].iter().rev().enumerate() {
                text[LISTEN_PID.len() + at] = *digit;
            }
        }
        Ok(())
    }
}

/// What was given up is gone: nothing but this user and group is left, and there is no way back (setuid(2) has had kernels that let a
/// call succeed and do nothing).
fn is_dropped(uid: u32, gid: u32) -> Result<(), (Stage, Errno)> {
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    let keep = libc::c_long::from(-1);
    // SAFETY: plain numbers, and pointers to our own variables.
    unsafe {
        let [real, effective, saved] = &mut uids;
        libc::syscall(libc::SYS_getresuid, &raw mut *real, &raw mut *effective, &raw mut *saved);
        let [real, effective, saved] = &mut gids;
        libc::syscall(libc::SYS_getresgid, &raw mut *real, &raw mut *effective, &raw mut *saved);
        if gids != [gid; 3] {
            return Err((Stage::Gid, Errno::EPERM));
        }
        if uids != [uid; 3] || uid != 0 && libc::syscall(libc::SYS_setresuid, keep, 0, keep) == 0 {
            return Err((Stage::Uid, Errno::EPERM));
        }
    }
    Ok(())
}

/// Every disposition to default, an empty mask: an ignored SIGINT, as cron gives it, would make Python deaf to its stop signal.
fn reset_signals() {
    // SAFETY: plain system calls; an unknown or fixed signal only returns EINVAL.
    unsafe {
        // The kernel's own sigaction, all zero: SIG_DFL, no flags, an empty mask. glibc's call leaves out 32 and 33.
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), size_of::<u64>());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn write_oom_score_adj(adj: i32) -> Result<(), Errno> {
    let mut text = [0u8; 8];
    let mut n = 0;
    if adj < 0 {
        text[0] = b'-';
        n = 1;
    }
    let size = adj.unsigned_abs().min(1000);
    for divisor in [1000, 100, 10, 1] {
        if size >= divisor || divisor == 1 {
            text[n] = b'0' + (size / divisor % 10) as u8;
            n += 1;
        }
    }
    // SAFETY: a constant path and our own buffer.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(Errno::last());
        }
        let written = libc::write(fd, text.as_ptr().cast(), n);
        let errno = Errno::last();
        libc::close(fd);
        if written < 0 { Err(errno) } else { Ok(()) }
    }
}

fn number(resource: Resource) -> libc::__rlimit_resource_t {
    match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    }
}
