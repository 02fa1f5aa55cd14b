//! sd_notify(3) on both its sides: the socket on which apps say `READY=1` (datagrams on an abstract Unix socket, each with its sender), and
//! the one on which the manager that runs stead hears the same of us.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, sockopt,
};
use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The longest datagram that is read.
const LONGEST: usize = 4 << 10;

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// 0 where the kernel does not tell: a sender in a pid namespace that we cannot see.
    pub pid: i32,
    pub uid: u32,
    /// Lines of `KEY=VALUE`.
    pub text: String,
}

/// Binds it under a name that nobody can guess.
///
/// # Errors
/// Of socket(2), bind(2), setsockopt(2).
pub fn bind() -> io::Result<OwnedFd> {
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let address = UnixAddr::new_abstract(format!("stead-{}", unique.trim()).as_bytes())?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    socket::setsockopt(&made, sockopt::PassCred, &true)?;
    socket::bind(made.as_raw_fd(), &address)?;
    Ok(made)
}

/// Its name as `$NOTIFY_SOCKET` has it: `@stead-…`.
///
/// # Errors
/// Of getsockname(2); `InvalidData` where it is not such a socket.
pub fn name(socket: &OwnedFd) -> io::Result<String> {
    let address: UnixAddr = socket::getsockname(socket.as_raw_fd())?;
    let name = address.as_abstract().ok_or(io::ErrorKind::InvalidData)?;
    Ok(format!("@{}", String::from_utf8_lossy(name)))
}

/// Takes one datagram. One that is too long is cut; descriptors that came with it are closed, which is what `BARRIER=1` waits for.
///
/// # Errors
/// `WouldBlock` where there is none; else of recvmsg(2).
pub fn receive(socket: &OwnedFd) -> io::Result<Said> {
    let mut buffer = [0; LONGEST];
    let mut control = cmsg_space!(UnixCredentials, [RawFd; 8]);
    loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let (bytes, sender) = match socket::recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(message) => {
                let mut sender = None;
                for one in message.cmsgs().into_iter().flatten() {
                    match one {
                        ControlMessageOwned::ScmCredentials(who) => sender = Some((who.pid(), who.uid())),
                        ControlMessageOwned::ScmRights(fds) => {
                            // SAFETY: the kernel has just made these descriptors for us alone.
                            fds.into_iter().for_each(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                        _ => {}
                    }
                }
                (message.bytes, sender)
            }
        };
        let (pid, uid) = sender.unwrap_or((0, u32::MAX));
        return Ok(Said { pid, uid, text: String::from_utf8_lossy(&buffer[..bytes]).into_owned() });
    }
}

/// The variables by which a service manager says how it wants to hear of us. They are meant for one process, not for what it starts.
#[must_use]
pub fn is_of_the_manager(variable: &str) -> bool {
    variable == "NOTIFY_SOCKET" || variable.starts_with("WATCHDOG_")
}

/// Who runs stead as a service, and wants to be told how it is: systemd, or whoever sets `$NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// By this process' `$NOTIFY_SOCKET`. `None`: nobody wants to know, or it names what is no Unix socket (`vsock:`).
    #[must_use]
    pub fn of_environment() -> Option<Manager> {
        Manager::at(&std::env::var_os("NOTIFY_SOCKET")?)
    }

    /// `/a/path`, or `@name` for an abstract one.
    fn at(name: &OsStr) -> Option<Manager> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => return None,
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Manager { socket, address: address.ok()? })
    }

    /// Says lines of `KEY=VALUE`. It never waits: who does not read does not hear.
    pub fn tell(&self, lines: &str) {
        let _ = self.socket.send_to_addr(lines.as_bytes(), &self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_with_its_sender_and_is_bounded() {
        let ours = bind().unwrap();
        let name = name(&ours).unwrap();
        let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.send_to_addr(b"STATUS=up\nREADY=1", &address).unwrap();
        theirs.send_to_addr(&[0xff; 60_000], &address).unwrap();
        let said = receive(&ours).unwrap();
        assert_eq!((said.pid, said.text.as_str()), (std::process::id() as i32, "STATUS=up\nREADY=1"));
        assert_eq!(receive(&ours).unwrap().text.chars().count(), LONGEST);
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_manager_is_told_by_a_path_or_an_abstract_name_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let bound = UnixDatagram::bind(&path).unwrap();
        let ours = bind().unwrap();
        for (at, hears) in [(path.to_str().unwrap(), &OwnedFd::from(bound)), (&name(&ours).unwrap(), &ours)] {
            let manager = Manager::at(OsStr::new(at)).unwrap();
            manager.tell("READY=1\nSTATUS=up");
            assert_eq!(receive(hears).unwrap().text, "READY=1\nSTATUS=up", "{at}");
            (0..10_000).for_each(|_| manager.tell("WATCHDOG=1"));
        }
        assert!(Manager::at(OsStr::new("vsock:2:9999")).is_none());
        assert!(Manager::at(OsStr::new("")).is_none());
    }
}
