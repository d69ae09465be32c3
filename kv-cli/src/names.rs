//! Users, groups and permission bits as people write them.

use nix::unistd::{Group, User};

use crate::exit::Failure;

/// Permission bits in octal, with or without a leading `0` or `0o`.
pub(crate) fn permissions(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(bits) if bits <= 0o777 && !digits.starts_with('+') => Ok(bits),
        _ => Err("write the permissions in octal, from 0000 to 0777, such as 0640".to_owned()),
    }
}

/// The number of a group that is given by name or number.
pub(crate) fn gid_of(group: &str) -> Result<u32, Failure> {
    if let Ok(gid) = group.parse() {
        return a_number("group", gid);
    }
    match Group::from_name(group) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Failure::usage(format!("there is no group {group:?} on this machine"))),
        Err(error) => Err(Failure::system(&format!("looking up group {group:?}"), &error.into())),
    }
}

/// The number of a user that is given by name or number.
pub(crate) fn uid_of(user: &str) -> Result<u32, Failure> {
    if let Ok(uid) = user.parse() {
        return a_number("user", uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Failure::usage(format!("there is no user {user:?} on this machine"))),
        Err(error) => Err(Failure::system(&format!("looking up user {user:?}"), &error.into())),
    }
}

/// The largest number is none: the kernel takes it for no change.
fn a_number(what: &str, number: u32) -> Result<u32, Failure> {
    match number {
        u32::MAX => Err(Failure::usage(format!(
            "{what} {number} is none: chown takes this number for no change; give a name, or a \
             number from 0 to {}",
            number - 1
        ))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn permissions_are_octal() {
        assert_eq!(permissions("0640"), Ok(0o640));
        assert_eq!(permissions("600"), Ok(0o600));
        assert_eq!(permissions("0o644"), Ok(0o644));
        for text in ["", "0888", "rw-r--r--", "1777", "-1", "+640"] {
            assert!(permissions(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn users_and_groups_by_number_and_name() {
        assert_eq!(gid_of("12").ok(), Some(12));
        assert_eq!(gid_of("root").ok(), Some(0));
        assert_eq!(uid_of("34").ok(), Some(34));
        assert_eq!(uid_of("root").ok(), Some(0));
        assert_eq!(gid_of("4294967294").ok(), Some(u32::MAX - 1));
        for failure in [gid_of("4294967295"), uid_of("4294967295")] {
            let failure = failure.expect_err("refused");
            assert!(failure.line().is_some_and(|line| line.contains("no change")));
        }
        assert!(uid_of("no-such-user-here").is_err());
        let failure = gid_of("no-such-group-here").expect_err("refused");
        assert_eq!(failure.exit, Exit::Usage);
    }
}
