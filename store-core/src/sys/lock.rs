//! Advisory locks of files (`flock(2)`), with a deadline.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

/// An exclusive lock of a file until it is dropped. It belongs to an open file description of its
/// own, so that neither a forked child nor another holder of the descriptor shares it.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Locks the file behind a descriptor, by its entry in `/proc`.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds it for so long; those of `open(2)` and `flock(2)`.
    pub(crate) fn take(descriptor: BorrowedFd<'_>, limit: Duration) -> io::Result<Self> {
        let start = Instant::now();
        let file = reopen(descriptor, false)?;
        loop {
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::WOULDBLOCK) if start.elapsed() >= limit => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno.into()),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // By hand: a child that was forked meanwhile has the description too.
        let _ = retry_on_intr(|| flock(&self.file, FlockOperation::Unlock));
    }
}

/// Whether somebody holds the lock now.
///
/// # Errors
/// Those of `open(2)` and `flock(2)`.
pub(crate) fn is_locked(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let file = reopen(descriptor, false)?;
    match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => {
            drop(FileLock { file });
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
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
