//! Exit codes: where the same thing happened, the same as those of `kv-cli`.

use std::io;
use std::process::ExitCode;

use store_client::{AttachError, Corruption, CreateError, KeepError};

use crate::config::Refused;

const USAGE: u8 = 2;
const NO_STORE: u8 = 3;
const PERMISSION: u8 = 4;
const FULL: u8 = 5;
const CORRUPT: u8 = 6;
const KEPT: u8 = 7;
const SYSTEM: u8 = 9;

/// For `--help`.
pub(crate) const HELP: &str = "\
Signals: SIGTERM and SIGINT end it; the store stays unless --remove was given. SIGHUP reads the
file of settings anew and takes interval-ms from it. A line \"ready\" (with --format json
{\"event\":\"ready\",...}) and READY=1 to NOTIFY_SOCKET say that the store can be used.

Exit codes, as those of kv-cli:
  0 told to end by SIGTERM or SIGINT, or the store was removed
  2 wrong usage or settings, or not supported
  3 there is no such store (--size makes it)
  4 no permission, or a process of another PID or IPC namespace writes
  5 no room, or no place for one more writer
  6 corrupt, not a store, other format version
  7 another server keeps this store: its process is named
  9 system error

Sizes: KiB, MiB, GiB count by 1024; K, M, G and KB, MB, GB by 1000 (1M is 1,000,000 bytes).";

/// The code of what ended the server.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    number_of(error).into()
}

fn number_of(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref() {
        of_attach(error)
    } else if let Some(error) = error.downcast_ref() {
        of_create(error)
    } else if error.is::<Refused>() {
        USAGE
    } else if let Some(error) = error.downcast_ref() {
        of_keep(error)
    } else if error.is::<Corruption>() {
        CORRUPT
    } else if error.downcast_ref().is_some_and(is_denied) {
        PERMISSION
    } else {
        SYSTEM
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn of_attach(error: &AttachError) -> u8 {
    match error {
        AttachError::NotFound { .. } | AttachError::Retired { .. } | AttachError::Stale { .. } => {
            NO_STORE
        }
        AttachError::PermissionDenied { .. }
        | AttachError::ForeignPidNamespace { .. }
        | AttachError::ForeignIpcNamespace { .. }
        | AttachError::Sealed { .. }
        | AttachError::InUse { .. }
        | AttachError::NotRemovable { .. }
        | AttachError::NotOwner { .. } => PERMISSION,
        AttachError::TooManyClients { .. } => FULL,
        AttachError::Unsupported { .. } => USAGE,
        AttachError::System { .. } => SYSTEM,
        // The others say that what is there can't be used as a store.
        _ => CORRUPT,
    }
}

fn of_create(error: &CreateError) -> u8 {
    match error {
        CreateError::PermissionDenied { .. } => PERMISSION,
        CreateError::InvalidOption { .. } | CreateError::Unsupported { .. } => USAGE,
        CreateError::NoRoom { .. }
        | CreateError::NoHugePages { .. }
        | CreateError::FileSizeLimit { .. }
        | CreateError::Limit { .. } => FULL,
        CreateError::Attach(attach) => of_attach(attach),
        _ => SYSTEM,
    }
}

fn of_keep(error: &KeepError) -> u8 {
    match error {
        KeepError::Kept { .. } => KEPT,
        KeepError::Corruption(_) => CORRUPT,
        _ => SYSTEM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "/cistern-x".to_owned()
    }

    #[test]
    fn codes_are_those_of_the_help() {
        let number = |error: anyhow::Error| number_of(&error);
        let source = || io::Error::from(io::ErrorKind::Other);
        assert_eq!(number(AttachError::NotFound { name: name() }.into()), 3);
        let denied = AttachError::PermissionDenied { name: name(), access: "writing" };
        assert_eq!(number(denied.into()), 4);
        assert_eq!(number(AttachError::TooManyClients { name: name(), limit: 1 }.into()), 5);
        assert_eq!(number(AttachError::NotAStore { name: name(), found: 1 }.into()), 6);
        assert_eq!(number(AttachError::Empty { name: name() }.into()), 6);
        let other = AttachError::OtherVersion { name: name(), found: 2, supported: 1 };
        assert_eq!(number(other.into()), 6);
        assert_eq!(number(AttachError::Unsupported { what: name(), remedy: "" }.into()), 2);
        let system = AttachError::System { call: "mmap", name: name(), source: source() };
        assert_eq!(number(system.into()), 9);
        let refused =
            CreateError::InvalidOption { option: "size", given: name(), rule: String::new() };
        assert_eq!(number(refused.into()), 2);
        let denied = CreateError::PermissionDenied { name: name(), source: source() };
        assert_eq!(number(denied.into()), 4);
        assert_eq!(number(CreateError::NoRoom { name: name(), needed: 2, free: 1 }.into()), 5);
        assert_eq!(number(Corruption { what: "slot", offset: 64 }.into()), 6);
        assert_eq!(number(AttachError::Stale { name: name(), why: "" }.into()), 3);
        assert_eq!(number(AttachError::NotOwner { name: name() }.into()), 4);
        assert_eq!(number(Refused(name()).into()), 2);
        assert_eq!(number(KeepError::Kept { pid: 1 }.into()), 7);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(number(anyhow::Error::new(denied).context("a lock")), 4);
        assert_eq!(number(anyhow::anyhow!("anything else")), 9);
    }
}
