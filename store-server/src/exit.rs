//! Exit codes: where the same thing happened, the same as those of `kv-cli`.

use std::process::ExitCode;

use store_client::{AttachError, Corruption, CreateError};

const USAGE: u8 = 2;
const NO_STORE: u8 = 3;
const PERMISSION: u8 = 4;
const FULL: u8 = 5;
const CORRUPT: u8 = 6;
const SYSTEM: u8 = 9;

/// For `--help`.
pub(crate) const HELP: &str = "\
Exit codes, as those of kv-cli:
  0 told to end by SIGTERM or SIGINT, or the store was removed
  2 wrong usage, or not supported
  3 there is no such store (--create SIZE makes it)
  4 no permission
  5 no room, or no place for one more writer
  6 corrupt, not a store, other format version
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
    } else if error.is::<Corruption>() {
        CORRUPT
    } else {
        SYSTEM
    }
}

fn of_attach(error: &AttachError) -> u8 {
    match error {
        AttachError::NotFound { .. } | AttachError::Retired { .. } => NO_STORE,
        AttachError::PermissionDenied { .. } | AttachError::ForeignPidNamespace { .. } => {
            PERMISSION
        }
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
        CreateError::NoRoom { .. } => FULL,
        CreateError::Attach(attach) => of_attach(attach),
        _ => SYSTEM,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

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
        assert_eq!(number(anyhow::anyhow!("anything else")), 9);
    }
}
