//! Limits of this process whose passing is a signal (`SIGXFSZ`), so that they are asked for before.

use std::io;

use rustix::process::{Resource, getrlimit};

/// The longest file that this process may make (`RLIMIT_FSIZE`); `None`: any.
pub(crate) fn file_bytes() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Whether a file may become so long.
///
/// # Errors
/// `EFBIG`.
pub(crate) fn allow_file_of(bytes: u64) -> io::Result<()> {
    match file_bytes() {
        Some(limit) if limit < bytes => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        _ => Ok(()),
    }
}
