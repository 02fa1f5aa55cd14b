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

/// Puts `bytes` in the place of `path`: a reader sees the old file or the new one, after a power cut too.
///
/// # Errors
/// Of open(2), write(2), fsync(2), rename(2). The old file stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&draft, path)
}

/// Opens `/dev/null` for both.
///
/// # Errors
/// Of open(2).
pub fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}
