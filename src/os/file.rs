//! Files with a special promise: anonymous, locked, replaced in one step, or opened though no descriptor is free.

use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Descriptors that are kept back for what must be done when no other is free: a look at /proc and at groups, the journal, the state, and
/// the client that asks what is wrong.
const RESERVED: usize = 16;

static RESERVE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// For `custom_flags`: a symbolic link in the last place is an error.
pub const NO_FOLLOW: i32 = libc::O_NOFOLLOW;

/// Fills the reserve of descriptors; `false` where not all of it could be had.
pub fn reserve() -> bool {
    let Ok(mut kept) = RESERVE.lock() else { return false };
    while kept.len() < RESERVED {
        match File::open("/dev/null") {
            Ok(file) => kept.push(file),
            Err(_) => return false,
        }
    }
    true
}

/// Gives up the whole reserve, for what is about to be set up for good.
pub fn give_up_all() {
    if let Ok(mut kept) = RESERVE.lock() {
        kept.clear();
    }
}

/// Gives up one descriptor of the reserve, for something that will close another; `false`: there is none left.
#[must_use]
pub fn give_up_one() -> bool {
    RESERVE.lock().is_ok_and(|mut kept| kept.pop().is_some())
}

/// Does something that needs descriptors for this moment only; where none is free, those of the reserve.
///
/// # Errors
/// Those of `act`.
pub fn briefly<T>(act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let result = act();
    if !result.as_ref().is_err_and(is_out_of_descriptors) {
        return result;
    }
    match RESERVE.lock() {
        Ok(mut kept) if !kept.is_empty() => kept.clear(),
        _ => return result,
    }
    let result = act();
    reserve();
    result
}

/// No descriptor is free, of this process or of the machine.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE))
}

/// What is short will be there again: the file itself is as it should be.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    is_out_of_descriptors(error) || matches!(errno, Some(Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR))
}

/// There is no room, or the disk takes nothing more.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS | Errno::EIO))
}

/// A folder of stead's own: made where it is missing, and in any case nobody else's to look into (0700).
///
/// # Errors
/// Of mkdir(2) and chmod(2).
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = std::fs::metadata(path)?;
    if meta.mode() & 0o077 != 0 && meta.uid() == super::process::uid() {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A file of stead's own to append to, made where it is missing, and in any case nobody else's to read (0600). Links are followed: only the
/// owner can have put one there.
///
/// # Errors
/// Of open(2).
pub fn private_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.mode() & 0o077 != 0 && meta.uid() == super::process::uid() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Opens a regular file to read. What an app may have put in its place keeps nobody waiting and leads nowhere else.
///
/// # Errors
/// Of open(2); a symbolic link in the last place is one, and so is anything that is no regular file.
pub fn read_only(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | NO_FOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Opens a file that an ecosystem file names, where others may be at home: a symbolic link in the last place is an error. Under root, who
/// could make it read or write what it should not is shut out, as far as that can be told: no link of another user's is followed, and in a
/// folder where others may write neither a file with a second name is opened nor, in one like /tmp, a file of somebody else's.
///
/// # Errors
/// Of open(2), or `PermissionDenied` with the reason.
pub fn open_named(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    // A terminal must not become ours.
    options.custom_flags(NO_FOLLOW | libc::O_NOCTTY);
    if super::process::uid() != 0 {
        return options.open(path);
    }
    let path = without_links(path)?;
    let file = options.open(&path)?;
    let meta = file.metadata()?;
    // Somebody may have put a link there since it was looked at.
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if opened.is_ok_and(|opened| opened != path) {
        return Err(denied("it was moved while it was opened", &path));
    }
    let folder = path.parent().map(std::fs::metadata).transpose()?;
    let Some(folder) = folder.filter(|folder| folder.uid() != 0 || folder.mode() & 0o022 != 0) else { return Ok(file) };
    if meta.is_file() && meta.nlink() > 1 {
        return Err(denied("others may write in its folder, and it has a second name (a hard link)", &path));
    }
    let is_common = folder.mode() & 0o1002 == 0o1002;
    if is_common && meta.uid() != 0 && meta.uid() != folder.uid() {
        return Err(denied("it is another user's, in a folder where everybody may write", &path));
    }
    Ok(file)
}

/// The same path without symbolic links before its last part. Only root's are followed.
///
/// # Errors
/// `PermissionDenied` for another user's; of open(2) and readlink(2).
pub fn without_links(path: &Path) -> io::Result<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> { path.iter().rev().map(OsStr::to_owned).collect() };
    let (mut done, mut rest) = (PathBuf::from("/"), parts(&std::path::absolute(path)?));
    for _ in 0..LONGEST_PATH {
        let Some(part) = rest.pop() else { return Ok(done) };
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        let link = OpenOptions::new().read(true).custom_flags(libc::O_PATH | NO_FOLLOW).open(&next);
        match link.and_then(|link| Ok((link.metadata()?, link))) {
            Ok((meta, _)) if meta.is_symlink() && rest.is_empty() => return Ok(next),
            Ok((meta, _)) if meta.is_symlink() && meta.uid() != 0 => {
                return Err(denied("a symbolic link of another user's is on the way to it", path));
            }
            Ok((meta, link)) if meta.is_symlink() => {
                let target = nix::fcntl::readlinkat(&link, "")?;
                rest.extend(parts(Path::new(&target)));
                if Path::new(&target).is_absolute() {
                    done = PathBuf::from("/");
                }
            }
            // What is not there yet is made, or fails to be.
            Ok(_) | Err(_) => done = next,
        }
    }
    Err(Errno::ELOOP.into())
}

/// Parts of a path, with those of its links: as many as fit into the longest that the kernel takes.
const LONGEST_PATH: usize = 2048;

fn denied(why: &str, path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", path.display()))
}

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

/// Takes bytes out of a file of memory: they read as zeros, and whole pages of them take no memory (fallocate(2)).
///
/// # Errors
/// Of fallocate(2).
pub fn punch_hole(file: &File, start: u64, length: u64) -> io::Result<()> {
    use nix::fcntl::FallocateFlags;
    let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(nix::fcntl::fallocate(file, how, start as libc::off_t, length as libc::off_t)?)
}

/// Reads a file from behind the hole at its beginning. Returns where that is, too.
///
/// # Errors
/// Of lseek(2) and read(2).
pub fn read_data(mut file: &File) -> io::Result<(u64, Vec<u8>)> {
    let begin = match nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekData) {
        Ok(begin) => begin as u64,
        // There is nothing but holes.
        Err(Errno::ENXIO) => return Ok((file.metadata()?.len(), Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((begin, bytes))
}

/// Reads a file of /proc or of a cgroup. The kernel makes these texts while they are read, and hundreds are read in a row: std's question
/// for the size, which such a file does not know, and its first small reads would cost more than the rest.
///
/// # Errors
/// Of open(2) and read(2).
pub fn read_kernel(path: &Path) -> io::Result<Vec<u8>> {
    briefly(|| read_text(path))
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
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
    // What a crash left there may be anything.
    let _ = std::fs::remove_file(&draft);
    let written = briefly(|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_data()
    });
    super::crash::point("amid", "replace");
    if let Err(error) = written.and_then(|()| std::fs::rename(&draft, path)) {
        // Half of it would only fill the disk.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    super::crash::point("after", "replace");
    // The new name is only in memory until its folder is synced (fsync(2)); ext4 writes it some 5 s later.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    briefly(|| File::open(folder)?.sync_all())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    fn is_root() -> bool {
        super::super::process::uid() == 0
    }

    fn to_append() -> OpenOptions {
        OpenOptions::new().append(true).create(true).clone()
    }

    #[test]
    fn a_link_of_roots_is_followed_and_a_strangers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(at("real")).unwrap();
        symlink("real", at("link")).unwrap();
        symlink(at("link"), at("twice")).unwrap();
        symlink("itself", at("itself")).unwrap();
        assert_eq!(without_links(&at("real/../twice/a.log")).unwrap(), at("real/a.log"));
        assert_eq!(without_links(&at("not/there.log")).unwrap(), at("not/there.log"));
        assert_eq!(without_links(&at("itself/a.log")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        if is_root() {
            nix::unistd::fchownat(
                nix::fcntl::AT_FDCWD,
                &at("link"),
                Some(nix::unistd::Uid::from_raw(65534)),
                None,
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .unwrap();
            let error = open_named(&at("twice/a.log"), &to_append()).unwrap_err();
            assert!(error.to_string().contains("a symbolic link of another user's"), "{error}");
            assert!(!at("real/a.log").exists());
        }
    }

    #[test]
    fn in_a_folder_of_a_stranger_nothing_with_a_second_name_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("shadow"), "").unwrap();
        std::fs::create_dir(at("theirs")).unwrap();
        std::fs::hard_link(at("shadow"), at("theirs/a.log")).unwrap();
        open_named(&at("theirs/a.log"), &to_append()).expect("the folder is ours");
        symlink(at("shadow"), at("theirs/b.log")).unwrap();
        assert_eq!(open_named(&at("theirs/b.log"), &to_append()).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        if is_root() {
            chown(at("theirs"), Some(65534), Some(65534)).unwrap();
            let error = open_named(&at("theirs/a.log"), &to_append()).unwrap_err();
            assert!(error.to_string().contains("a second name"), "{error}");
            open_named(&at("theirs/c.log"), &to_append()).expect("a file of its own");
        }
    }

    #[test]
    fn a_stranger_s_file_where_everybody_may_write_is_not_opened() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "").unwrap();
        open_named(&path, &to_append()).expect("ours");
        chown(&path, Some(65534), None).unwrap();
        // The kernel may say it first (fs.protected_regular).
        assert_eq!(open_named(&path, &to_append()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_stead_s_own_is_nobody_else_s_however_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        let (journal, file) = (folder.path().join("journal"), folder.path().join("journal/a"));
        std::fs::create_dir(&journal).unwrap();
        std::fs::set_permissions(&journal, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        private_folder(&journal).unwrap();
        private_append(&file).unwrap();
        assert_eq!((mode(&journal), mode(&file)), (0o700, 0o600));
        replace(&file, b"x").unwrap();
        assert_eq!((mode(&file), std::fs::read_dir(&journal).unwrap().count()), (0o600, 1));
    }
}
