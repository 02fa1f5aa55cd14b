//! Sockets: packets with descriptors between keeper and daemon, listening sockets, and who is at the other end.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// More descriptors than this never travel with one packet.
pub const MAX_FDS: usize = 64;

/// The longest packet: the kernel's default send buffer holds it.
pub const MAX_PACKET: usize = 128 << 10;

/// A pair of connected SOCK_SEQPACKET sockets, non-blocking and close-on-exec.
///
/// # Errors
/// Of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?)
}

/// Sends one packet with descriptors.
///
/// # Errors
/// `WouldBlock` where the other side does not read; else of sendmsg(2).
pub fn send(socket: &OwnedFd, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match socket::sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one packet into a buffer of [`MAX_PACKET`] bytes: its length and its descriptors; `None` at the end of the
/// connection. What lies beyond the packet is not touched: in a process that forks, each touched page is copied.
///
/// # Errors
/// `WouldBlock` where there is none; else of recvmsg(2).
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut control = cmsg_space!([RawFd; MAX_FDS]);
    let mut fds = Vec::new();
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let (bytes, cut) = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match socket::recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            // Said once where the other side ended with something of ours unread; what it had said stands behind it (af_unix.c).
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) => {
                for one in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(received) = one {
                        // SAFETY: the kernel has just made these descriptors for us alone.
                        fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (message.bytes, message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
            }
        }
    };
    if cut {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet was cut (too long, or no descriptor was free)",
        ));
    }
    if bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    Ok(Some((bytes, fds)))
}

/// Binds a Unix stream socket of mode 0600 at `path`, in the place of whatever stands there, and listens.
///
/// # Errors
/// Of socket(2), bind(2), listen(2); `InvalidInput` where the path is longer than the kernel takes (107 bytes).
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let made =
        socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // On a socket that is not yet bound, fchmod(2) sets the mode of the file that bind(2) makes: no moment of wider rights.
    nix::sys::stat::fchmod(&made, nix::sys::stat::Mode::from_bits_truncate(mode))?;
    socket::bind(made.as_raw_fd(), &address)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    listen(&made)?;
    Ok(made)
}

/// Listens with the longest queue.
///
/// # Errors
/// Of listen(2).
pub fn listen(socket: &impl AsFd) -> io::Result<()> {
    Ok(socket::listen(&socket.as_fd(), Backlog::MAXALLOWABLE)?)
}

/// Binds a TCP socket to listen on, with SO_REUSEADDR, so that a restart of stead need not wait for old connections.
///
/// # Errors
/// Of name resolution, socket(2), bind(2), listen(2): those of the last address that the name has.
pub fn bind_tcp(address: &str) -> io::Result<OwnedFd> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for one in std::net::ToSocketAddrs::to_socket_addrs(address)? {
        // std sets SO_REUSEADDR, SOCK_CLOEXEC, and listens (backlog 128); the second listen(2) makes the queue longer.
        match std::net::TcpListener::bind(one) {
            Ok(listener) => {
                let fd = OwnedFd::from(listener);
                listen(&fd)?;
                return Ok(fd);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Who is at the other end of a Unix connection (SO_PEERCRED).
///
/// # Errors
/// Of getsockopt(2).
pub fn peer(socket: &impl AsFd) -> io::Result<(i32, u32)> {
    let credentials = socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials)?;
    Ok((credentials.pid(), credentials.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_one_who_left_something_unread_is_heard() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, b"never read", &[]).unwrap();
        send(&theirs, b"goodbye", &[]).unwrap();
        drop(theirs);
        let mut buffer = vec![0; MAX_PACKET];
        let (n, _) = receive(&ours, &mut buffer).unwrap().expect("a packet");
        assert_eq!(&buffer[..n], b"goodbye");
        assert!(receive(&ours, &mut buffer).unwrap().is_none());
    }
}
