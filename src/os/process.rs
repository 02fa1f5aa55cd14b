//! Processes: pidfds, what /proc says of them, and which belong to a tree.

use super::file;
use crate::core::event::ExitStatus;
use crate::core::spec::Signal;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

/// Opens a pidfd, close-on-exec.
///
/// # Errors
/// `ESRCH` where there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Signals the very process that the pidfd was opened for; one that has ended is no error.
///
/// # Errors
/// `EPERM`, `EINVAL`.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers; no siginfo is given.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match (result, Errno::last()) {
        (0, _) | (_, Errno::ESRCH) => Ok(()),
        (_, errno) => Err(errno.into()),
    }
}

/// Makes this process the parent of every orphan below it.
///
/// # Errors
/// Of prctl(2).
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Asks for SIGTERM when `parent`, which started this process, ends. `false`: it has ended already.
///
/// # Errors
/// Of prctl(2).
pub fn end_with_parent(parent: i32) -> io::Result<bool> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    Ok(nix::unistd::getppid().as_raw() == parent)
}

/// Takes the ends of children that have ended; the second is `false` where there is no child at all.
#[must_use]
pub fn reap() -> (Vec<(i32, ExitStatus)>, bool) {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), ExitStatus::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, core_dumped)) => {
                ended.push((pid.as_raw(), ExitStatus::Signal { signal: Signal(signal as i32), core_dumped }));
            }
            Ok(WaitStatus::StillAlive) => return (ended, true),
            Err(Errno::ECHILD) => return (ended, false),
            // A death by a real-time signal is an error to nix; the child is reaped.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Kills all children of this process and, as they come to it, what those leave: it is a subreaper. Waits for their ends, no longer than
/// `limit`. A pid of a child cannot be given again before it is reaped, so nobody else is met.
pub fn kill_all_children(limit: std::time::Duration) {
    let until = super::clock::precise() + limit;
    while reap().1 && super::clock::precise() < until {
        for child in children(pid()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A child that has ended and was not reaped yet; it stays so (waitid(2)).
#[must_use]
pub fn next_zombie() -> Option<i32> {
    // Not nix's: it takes the death by a real-time signal for an error.
    // SAFETY: all-zero is a valid siginfo, whose pid is 0 where nobody has ended; the pointer is to our own variable.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
        info.si_pid()
    };
    (pid > 0).then_some(pid)
}

/// The last part of a process' group in the v2 tree; a zombie has one too (cgroups(7): /proc/PID/cgroup).
#[must_use]
pub fn group(pid: i32) -> Option<String> {
    let text = String::from_utf8_lossy(&read(pid, "cgroup")?).into_owned();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The kernel's id of this boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Reads /proc/PID/`what`.
fn read(pid: i32, what: &str) -> Option<Vec<u8>> {
    file::read_kernel(Path::new(&format!("/proc/{pid}/{what}"))).ok()
}

/// The fields of /proc/PID/stat that are used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub comm: String,
    pub state: char,
    pub ppid: i32,
    pub session: i32,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    /// In clock ticks since boot.
    pub start_time: u64,
    pub threads: u32,
}

impl Stat {
    /// Parses a stat line; the name may hold blanks and parentheses.
    #[must_use]
    pub fn parse(line: &str) -> Option<Stat> {
        let (head, rest) = line.rsplit_once(')')?;
        let (pid, comm) = head.split_once('(')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let fields: Vec<&str> = fields.collect();
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<i64>().ok());
        Some(Stat {
            pid: pid.trim().parse().ok()?,
            comm: comm.to_owned(),
            state,
            ppid: number(0)? as i32,
            session: number(2)? as i32,
            cpu_ticks: (number(10)? + number(11)?) as u64,
            threads: number(16)? as u32,
            start_time: number(18)? as u64,
        })
    }

    /// Reads /proc/PID/stat; `None` where the process is gone or unreadable.
    #[must_use]
    pub fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&String::from_utf8_lossy(&read(pid, "stat")?))
    }
}

/// Every process, zombies left out, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    by_pid: BTreeMap<i32, Stat>,
    children: BTreeMap<i32, Vec<i32>>,
}

impl Snapshot {
    /// Reads /proc.
    #[must_use]
    pub fn take() -> Snapshot {
        let entries = file::briefly(|| Ok(std::fs::read_dir("/proc")?.flatten().collect::<Vec<_>>()));
        Snapshot::of(
            entries
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())),
        )
    }

    /// Only of these.
    #[must_use]
    pub fn of(pids: impl IntoIterator<Item = i32>) -> Snapshot {
        let mut all = Snapshot::default();
        for pid in pids {
            // Children of kthreadd (2) are the kernel's.
            if let Some(stat) = Stat::read(pid).filter(|stat| stat.state != 'Z' && stat.state != 'X' && stat.ppid != 2)
            {
                all.children.entry(stat.ppid).or_default().push(pid);
                all.by_pid.insert(pid, stat);
            }
        }
        all
    }

    #[must_use]
    pub fn get(&self, pid: i32) -> Option<&Stat> {
        self.by_pid.get(&pid)
    }

    pub fn all(&self) -> impl Iterator<Item = &Stat> {
        self.by_pid.values()
    }

    /// The processes whose parent this is.
    #[must_use]
    pub fn children(&self, pid: i32) -> &[i32] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// `roots` and all below them, parents first.
    #[must_use]
    pub fn below(&self, roots: impl IntoIterator<Item = i32>) -> Vec<i32> {
        let mut found: Vec<i32> = roots.into_iter().filter(|pid| self.by_pid.contains_key(pid)).collect();
        let mut at = 0;
        while at < found.len() {
            let pid = found[at];
            found.extend(self.children(pid).iter().filter(|child| **child != pid));
            at += 1;
        }
        found
    }
}

/// The children of a process with one thread, zombies too: one short read where the kernel has CONFIG_PROC_CHILDREN.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    match read(pid, &format!("task/{pid}/children")) {
        Some(pids) => {
            String::from_utf8_lossy(&pids).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
        }
        None => Snapshot::take().children(pid).to_vec(),
    }
}

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    pub path: std::path::PathBuf,
    pub inode: u64,
    /// The descriptor's page in /proc.
    info: String,
}

impl OpenFile {
    /// Does its open file description hold a lock?
    #[must_use]
    pub fn is_locked(&self) -> bool {
        file::read_kernel(Path::new(&self.info)).is_ok_and(|text| String::from_utf8_lossy(&text).contains("\nlock:"))
    }
}

/// The files that a process has open; none where it is gone, or another's.
#[must_use]
pub fn open_files(pid: i32) -> Vec<OpenFile> {
    use std::os::unix::fs::MetadataExt;
    let open = |entry: std::fs::DirEntry| {
        let link = entry.path();
        let path = std::fs::read_link(&link).ok().filter(|path| path.is_absolute())?;
        let inode = std::fs::metadata(&link).ok().filter(std::fs::Metadata::is_file)?.ino();
        Some(OpenFile { path, inode, info: format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy()) })
    };
    std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().filter_map(open).collect()
}

/// The value of a variable in the environment a process was started with.
#[must_use]
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let all = read(pid, "environ")?;
    all.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// The command line, arguments joined by blanks; the name in brackets where there is none.
#[must_use]
pub fn command_line(pid: i32) -> Option<String> {
    let raw = read(pid, "cmdline")?;
    let text = String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ");
    if text.is_empty() { Stat::read(pid).map(|stat| format!("[{}]", stat.comm)) } else { Some(text) }
}

/// The proportional share of memory (PSS) of a process, in bytes. Sum it over a tree: shared pages count once.
#[must_use]
pub fn pss(pid: i32) -> Option<u64> {
    let text = String::from_utf8(read(pid, "smaps_rollup")?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Resident memory (RSS) of a process, in bytes: shared pages count in each. Cheap.
#[must_use]
pub fn resident(pid: i32) -> Option<u64> {
    let text = String::from_utf8(read(pid, "statm")?).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(
        pages
            * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |size| size as u64),
    )
}

/// Asks the kernel to choose others first when memory is short. Below 0 only root with CAP_SYS_RESOURCE is heard; what was raised for
/// us (a session of systemd's has 100 or 200) everybody may take back.
pub fn protect_from_oom() {
    let path = "/proc/self/oom_score_adj";
    if std::fs::write(path, "-900").is_err() && own_oom_score_adj().is_some_and(|adj| adj > 0) {
        let _ = std::fs::write(path, "0");
    }
}

/// Clock ticks per second, in which /proc counts CPU time.
#[must_use]
pub fn ticks_per_second() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().map_or(100, |ticks| ticks as u64)
}

/// The effective uid of this process.
#[must_use]
pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[must_use]
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The parent, where it runs our own program.
#[must_use]
pub fn parent_of_our_own() -> Option<i32> {
    let parent = nix::unistd::getppid().as_raw();
    let program = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    (program(parent)? == program(pid())?).then_some(parent)
}

/// The process and all above it, nearest first.
#[must_use]
pub fn ancestors(pid: i32) -> Vec<i32> {
    let mut line = vec![pid];
    while let Some(stat) = line.last().and_then(|pid| Stat::read(*pid)) {
        if stat.ppid <= 0 || line.contains(&stat.ppid) {
            break;
        }
        line.push(stat.ppid);
    }
    line
}

/// Does `path` lie in PATH, or is it itself a program? The file to exec, or `ENOENT`/`EACCES`.
///
/// # Errors
/// As execvp(3): `EACCES` where a file was found but may not be executed, else `ENOENT`.
pub fn find_program(name: &str, search: Option<&str>) -> Result<String, Errno> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let mut seen = Errno::ENOENT;
    for folder in search.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match nix::unistd::access(&candidate, nix::unistd::AccessFlags::X_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate.to_string_lossy().into_owned()),
            Err(Errno::EACCES) => seen = Errno::EACCES,
            Ok(()) | Err(_) => {}
        }
    }
    Err(seen)
}

/// The oom_score_adj that this process began with; an app of a protected stead must not inherit the protection.
#[must_use]
pub fn own_oom_score_adj() -> Option<i32> {
    static BEGAN_WITH: OnceLock<Option<i32>> = OnceLock::new();
    *BEGAN_WITH.get_or_init(|| std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok())
}

/// The name of an errno: `ENOENT`.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    format!("{:?}", Errno::from_raw(errno))
}

/// Waits until a descriptor can be written to, `limit` milliseconds at most.
///
/// # Errors
/// Of poll(2).
pub fn wait_writable(fd: BorrowedFd<'_>, limit: u16) -> io::Result<()> {
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, limit)?;
    Ok(())
}

/// Waits until all of these processes have ended, or the time is over.
pub fn wait_ended(pidfds: &[BorrowedFd<'_>], limit: std::time::Duration) {
    let until = super::clock::precise() + limit;
    for pidfd in pidfds {
        loop {
            let left = until.saturating_sub(super::clock::precise()).as_millis();
            let mut fds = [nix::poll::PollFd::new(*pidfd, nix::poll::PollFlags::POLLIN)];
            // A signal that comes meanwhile, as of another child's end, is no end of this one.
            if nix::poll::poll(&mut fds, u16::try_from(left).unwrap_or(u16::MAX)) != Err(Errno::EINTR) {
                break;
            }
        }
    }
}

/// Whether the process that the pidfd was opened for has ended.
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Replaces this process by the program of `/proc/self/exe` with other arguments. Returns only a failure.
#[must_use]
pub fn exec_self(arguments: &[&str]) -> io::Error {
    use std::os::unix::process::CommandExt;
    std::process::Command::new("/proc/self/exe").arg0("stead").args(arguments).exec()
}

/// Replaces this process by the program of an open file, which may have no name any more. Descriptors and held signals go along.
/// Returns only a failure.
#[must_use]
pub fn exec_file(program: BorrowedFd<'_>, argv: &[&str], env: &[String]) -> io::Error {
    use std::ffi::CString;
    let strings = |texts: &mut dyn Iterator<Item = &str>| texts.map(CString::new).collect::<Result<Vec<_>, _>>();
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let (path, argv, env) =
        match (CString::new(path), strings(&mut argv.iter().copied()), strings(&mut env.iter().map(String::as_str))) {
            (Ok(path), Ok(argv), Ok(env)) => (path, argv, env),
            _ => return io::ErrorKind::InvalidInput.into(),
        };
    // Not std's, which lets held signals through before the exec.
    match nix::unistd::execve(&path, &argv, &env) {
        Err(errno) => errno.into(),
        Ok(never) => match never {},
    }
}

/// Our own program, which stays the same whatever is put in its place.
///
/// # Errors
/// Of open(2).
pub fn own_program() -> io::Result<OwnedFd> {
    file::path_only(Path::new("/proc/self/exe"))
}

/// Whether a descriptor survives an exec.
///
/// # Errors
/// `EBADF`.
pub fn keep_over_exec(fd: RawFd, keep: bool) -> io::Result<()> {
    let flags = if keep { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: plain numbers.
    Ok(Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) }).map(drop)?)
}

/// Closes all but the standard ones and these, before anybody else owns one.
pub fn close_others(keep: &[RawFd]) {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // SAFETY: a plain number; nobody owns it.
        unsafe { libc::close(fd) };
    }
}

/// The name in lists of processes, where the one by which we were executed is only a number.
pub fn take_name() {
    let _ = nix::sys::prctl::set_name(c"stead");
}

/// SIGKILL to the process group that a child of ours leads and that was not reaped yet.
pub fn kill_group(leader: i32) {
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(leader), nix::sys::signal::Signal::SIGKILL);
}

/// Leads a session of its own, without a terminal.
pub fn leave_session() {
    // Fails only for one that leads its group already, and so is where it should be.
    let _ = nix::unistd::setsid();
}

/// Takes over a descriptor that the parent left open at this number.
///
/// # Errors
/// `EBADF` where there is none.
pub fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: only called once, at the start of a role, for a number that the role's contract names.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// A descriptor of our own stderr.
///
/// # Errors
/// Of dup(2).
pub fn stderr() -> io::Result<OwnedFd> {
    std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()
}

/// The home of a user, for HOME of an app that runs as one.
#[must_use]
pub fn home_of(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
    Some(user.dir.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_confuse_stat() {
        let line = "42 (a) b (c)) S 7 42 41 0 -1 4194560 100 0 0 0 3 4 0 0 20 0 2 0 12345 1000 50 184467 1 1 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.ppid, stat.session), (42, "a) b (c)", 7, 41));
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_time), (7, 2, 12345));
    }

    #[test]
    fn garbage_is_no_stat() {
        for bad in ["", "42", "42 (x", "42 (x) S", "x (y) S 1 2 3"] {
            assert_eq!(Stat::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_snapshot_holds_ourselves_below_our_parent() {
        let me = Snapshot::take();
        let stat = me.get(pid()).expect("this process");
        assert!(me.below([stat.ppid]).contains(&pid()) || stat.ppid == 0);
    }
}
