//! Limits of this process whose passing is a signal (`SIGXFSZ`), so that they are asked for before.

use std::io;

use libc::RLIM_INFINITY;
use nix::sys::resource::{Resource, getrlimit};

/// The longest file that this process may make (`RLIMIT_FSIZE`); `None`: any.
pub(crate) fn file_bytes() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
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
