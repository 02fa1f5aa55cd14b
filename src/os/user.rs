//! Users and groups, by name or number, and what may be executed.

use crate::core::spec::Identity;
use nix::unistd::{AccessFlags, Gid, Group, User, access, getgrouplist};
use std::ffi::CString;
use std::path::Path;

/// The user of that name or number, with every group. A number that the system knows no name for is itself, alone in its group.
///
/// # Errors
/// One sentence: there is no such user, or why the system could not be asked.
pub fn user(text: &str) -> Result<Identity, String> {
    let found = match text.parse::<u32>() {
        Ok(uid) => match User::from_uid(uid.into()).map_err(|errno| could_not_ask(text, errno))? {
            Some(user) => user,
            None => return Ok(Identity { user: text.to_owned(), uid, gid: uid, groups: vec![uid] }),
        },
        Err(_) => User::from_name(text)
            .map_err(|errno| could_not_ask(text, errno))?
            .ok_or_else(|| format!("there is no user `{text}`"))?,
    };
    let name = CString::new(found.name.as_str()).map_err(|_| format!("there is no user `{text}`"))?;
    let groups = getgrouplist(&name, found.gid).map_err(|errno| could_not_ask(text, errno))?;
    Ok(Identity {
        user: found.name,
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    })
}

/// The number of the group of that name or number.
///
/// # Errors
/// One sentence: there is no such group, or why the system could not be asked.
pub fn group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let found = Group::from_name(text).map_err(|errno| could_not_ask(text, errno))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| format!("there is no group `{text}`"))
}

/// The name of a user; the number where it has none.
#[must_use]
pub fn name(uid: u32) -> String {
    User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// May we execute this file, or enter this folder? access(2) with X_OK.
#[must_use]
pub fn executable(path: &Path) -> bool {
    access(path, AccessFlags::X_OK).is_ok()
}

fn could_not_ask(text: &str, errno: nix::errno::Errno) -> String {
    format!("`{text}` could not be looked up: {}", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_number() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user("0").unwrap(), root);
        assert_eq!((group("root"), group("0"), name(0).as_str()), (Ok(0), Ok(0), "root"));
    }

    #[test]
    fn an_unknown_name_is_named_and_an_unknown_number_is_itself() {
        assert_eq!(user("no-such-user").unwrap_err(), "there is no user `no-such-user`");
        assert_eq!(group("no-such-group").unwrap_err(), "there is no group `no-such-group`");
        let stranger = user("3999999998").unwrap();
        assert_eq!((stranger.uid, stranger.groups), (3_999_999_998, vec![3_999_999_998]));
        assert_eq!(name(3_999_999_998), "3999999998");
    }

    #[test]
    fn a_program_and_a_folder_that_may_be_entered_are_executable() {
        assert!(executable(Path::new("/bin/sh")));
        assert!(executable(Path::new("/bin")));
        assert!(!executable(Path::new("/etc/passwd")));
    }
}
