//! Files with a special promise: anonymous, locked, or replaced in one step.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// For `custom_flags`: a symbolic link in the last place is an error.
pub const NO_FOLLOW: i32 = libc::O_NOFOLLOW;

/// A file without a name that holds `bytes`, for another process to read.
///
/// # Errors
/// Of memfd_create(2) and write(2).
pub fn memory_file(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Such a file at its beginning, for one that just reads.
///
/// # Errors
/// Of lseek(2).
pub fn rewound(fd: OwnedFd) -> io::Result<OwnedFd> {
    let mut file = File::from(fd);
    file.rewind()?;
    Ok(file.into())
}

/// Reads such a file from its beginning.
///
/// # Errors
/// Of lseek(2) and read(2).
pub fn read_memory_file(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file of /proc or of a cgroup. The kernel makes these texts while they are read, and hundreds are read in a row: std's question
/// for the size, which such a file does not know, and its first small reads would cost more than the rest.
///
/// # Errors
/// Of open(2) and read(2).
pub fn read_kernel(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length == text.len() {
            text.resize(2 * length, 0);
        }
    }
    text.truncate(length);
    Ok(text)
}

/// Puts `bytes` in the place of `path`: a reader sees the old file or the new one, and after a power cut the new one.
///
/// # Errors
/// Of open(2), write(2), fsync(2), rename(2). The old file stays, unless only the sync of its folder failed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    super::crash::point("amid", "replace");
    std::fs::rename(&draft, path)?;
    super::crash::point("after", "replace");
    // The new name is only in memory until its folder is synced (fsync(2)); ext4 writes it some 5 s later.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Opens `path` and takes flock(2) on it, waiting up to `limit`. The lock lasts as long as the file is open in any process.
///
/// # Errors
/// `WouldBlock` where another holds it; else of open(2) and flock(2).
pub fn lock(path: &Path, limit: std::time::Duration) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NO_FOLLOW)
        .open(path)?;
    let until = super::clock::precise() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if super::clock::precise() < until => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Does a regular file begin with these bytes? One that cannot be read does not.
#[must_use]
pub fn begins_with(path: &Path, head: &[u8]) -> bool {
    // Another kind of file may stand there by now, and opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
    let mut found = vec![0; head.len()];
    file.is_ok_and(|mut file| file.read_exact(&mut found).is_ok()) && found == head
}

/// The value of an extended attribute, where there is one (getxattr(2)).
#[must_use]
pub fn attribute(path: &Path, name: &std::ffi::CStr) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = [0u8; 64];
    // SAFETY: both names end in zero bytes, and the kernel writes at most the length that it is given.
    let n = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let value = value.get(..usize::try_from(n).ok()?)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Opens a file that is not to be read, only to be asked about or executed (O_PATH); what its name means may change meanwhile.
///
/// # Errors
/// Of open(2).
pub fn path_only(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

/// Is it a regular file?
#[must_use]
pub fn is_regular(fd: &OwnedFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// Opens `/dev/null` for both.
///
/// # Errors
/// Of open(2).
pub fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}
