//! Advisory locks of files (`flock(2)`), with a deadline.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// An exclusive lock of a file until it is dropped. It belongs to an open file description of its
/// own, so that neither a forked child nor another holder of the descriptor shares it.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Locks the file behind a descriptor, by its entry in `/proc`.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds it for so long; those of `open(2)` and `flock(2)`.
    pub(crate) fn take(descriptor: BorrowedFd<'_>, limit: Duration) -> io::Result<Self> {
        let start = Instant::now();
        let mut file = reopen(descriptor, false)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((_, Errno::EWOULDBLOCK)) if start.elapsed() >= limit => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(errno.into()),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether somebody holds the lock now.
///
/// # Errors
/// Those of `open(2)` and `flock(2)`.
pub(crate) fn is_locked(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    match Flock::lock(reopen(descriptor, false)?, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The same file through a new open file description. Reading is enough to lock; what may only be
/// written is opened so.
///
/// # Errors
/// Those of `open(2)`.
pub(super) fn reopen(descriptor: BorrowedFd<'_>, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let mut options = File::options();
    options.custom_flags(libc::O_NONBLOCK);
    match options.read(true).write(writable).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !writable => {
            options.read(false).write(true).open(&path)
        }
        other => other,
    }
}
