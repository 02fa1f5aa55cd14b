//! Sockets: packets with descriptors between keeper and daemon, listening sockets, and who is at the other end.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr};
use std::io::{self, IoSlice};
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

/// A packet that was received.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of the buffer that are the packet's.
    pub length: usize,
    pub fds: Vec<OwnedFd>,
    /// Descriptors that came with it are lost, for none was free here. What it says is whole.
    pub cut: bool,
}

/// Receives one packet into a buffer of [`MAX_PACKET`] bytes; `None` at the end of the connection. What lies beyond the packet is not
/// touched: in a process that forks, each touched page is copied.
///
/// # Errors
/// `WouldBlock` where there is none; `InvalidData` for one that is longer than the buffer; else of recvmsg(2).
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut control = cmsg_space!([RawFd; MAX_FDS]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Not nix's: of a packet that came without all of its descriptors it gives none, and leaves them open.
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let length = loop {
        message.msg_controllen = control.capacity() as _;
        // SAFETY: both buffers outlive the call and have the lengths that are given.
        let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match (usize::try_from(n), Errno::last()) {
            (Ok(n), _) => break n,
            // Said once where the other side ended with something of ours unread; what it had said stands behind it (af_unix.c).
            (Err(_), Errno::EINTR | Errno::ECONNRESET) => {}
            (Err(_), errno) => return Err(errno.into()),
        }
    };
    let fds = descriptors(&message);
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
    }
    let cut = message.msg_flags & libc::MSG_CTRUNC != 0;
    if length == 0 && fds.is_empty() && !cut {
        return Ok(None);
    }
    Ok(Some(Packet { length, fds, cut }))
}

/// What the kernel has put into a message's control buffer.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: recvmsg(2) has filled the buffer and set its length, within which the macros of cmsg(3) stay; the descriptors were made for
    // us alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(head) = header.as_ref() {
            if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = head.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                let raw = (0..bytes / size_of::<RawFd>()).map(|at| first.add(at).read_unaligned());
                fds.extend(raw.map(|fd| OwnedFd::from_raw_fd(fd)));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

/// Binds a Unix stream socket of this mode at `path`, in the place of a socket that stands there, and listens.
///
/// # Errors
/// Of socket(2), bind(2), listen(2): `EADDRINUSE` where something else stands there; `InvalidInput` where the path is longer than the
/// kernel takes (107 bytes).
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let made =
        socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    // A file that was named by mistake is not ours to remove: bind(2) refuses it.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    // On a socket that is not yet bound, fchmod(2) sets the mode of the file that bind(2) makes: no moment of wider rights.
    nix::sys::stat::fchmod(&made, nix::sys::stat::Mode::from_bits_truncate(mode))?;
    socket::bind(made.as_raw_fd(), &address)?;
    // The umask may have taken something away. Who may write in the folder may have put a link there meanwhile: it is left alone.
    let wants_more =
        |meta: std::fs::Metadata| meta.file_type().is_socket() && meta.permissions().mode() & 0o777 != mode;
    if std::fs::symlink_metadata(path).is_ok_and(wants_more) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
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
        let packet = receive(&ours, &mut buffer).unwrap().expect("a packet");
        assert_eq!(&buffer[..packet.length], b"goodbye");
        assert!(receive(&ours, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_packet_brings_its_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let (one, two) = (crate::os::file::null().unwrap(), crate::os::file::null().unwrap());
        send(&theirs, b"two", &[one.as_fd(), two.as_fd()]).unwrap();
        send(&theirs, b"none", &[]).unwrap();
        let mut buffer = vec![0; MAX_PACKET];
        let mut next = || {
            let packet = receive(&ours, &mut buffer).unwrap().expect("a packet");
            (packet.length, packet.fds.len(), packet.cut)
        };
        assert_eq!((next(), next()), ((3, 2, false), (4, 0, false)));
    }
}
