//! The kernel objects that hold a segment: POSIX shared memory and files.
//!
//! Objects are made with `O_EXCL | O_CLOEXEC | O_NOFOLLOW` and their mode is set after creation
//! (the umask applies to `shm_open`). The creator holds `flock(LOCK_EX)` until the segment is
//! whole, so that an opener can tell a creator at work from one that died.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, ftruncate};
use rustix::fs::FallocateFlags;

/// POSIX shared memory objects of stores begin with this, so that `ls` finds them.
pub const POSIX_PREFIX: &str = "cistern.";

/// Where POSIX shared memory is mounted on Linux.
pub const POSIX_DIRECTORY: &str = "/dev/shm";

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectName {
    /// POSIX shared memory: `/dev/shm/cistern.NAME`.
    Posix(String),
    /// A file.
    File(PathBuf),
}

/// An open object.
#[derive(Debug)]
pub struct Object {
    file: File,
}

impl ObjectName {
    /// Where it is, for people.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Posix(name) => Path::new(POSIX_DIRECTORY).join(format!("{POSIX_PREFIX}{name}")),
            Self::File(path) => path.clone(),
        }
    }

    fn shm_name(name: &str) -> String {
        format!("/{POSIX_PREFIX}{name}")
    }

    fn open_with(&self, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        loop {
            let opened = match self {
                Self::Posix(name) => {
                    shm_open(Self::shm_name(name).as_str(), flags, Mode::from_bits_truncate(0o600))
                }
                // O_NONBLOCK: opening a FIFO in place of a store must not hang.
                Self::File(path) => nix::fcntl::open(
                    path,
                    flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
                    Mode::from_bits_truncate(0o600),
                ),
            };
            if !matches!(opened, Err(nix::errno::Errno::EINTR)) {
                return opened;
            }
        }
    }

    /// Opens an object that exists.
    ///
    /// # Errors
    /// Those of `open(2)`; `ELOOP` for a symbolic link.
    pub fn open(&self, writable: bool) -> io::Result<Object> {
        let fd = self.open_with(if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY })?;
        Ok(Object { file: fd.into() })
    }

    /// Where it leads if it is a symbolic link, which is not followed.
    pub(crate) fn link_target(&self) -> Option<PathBuf> {
        let path = self.path();
        let target = std::fs::read_link(&path).ok()?;
        // A relative one counts from the link's directory.
        let target = path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
        Some(std::fs::canonicalize(&target).unwrap_or(target))
    }

    /// Makes an object, which must not exist, and locks it as its creator.
    ///
    /// # Errors
    /// Those of `open(2)` and `flock(2)`.
    pub(crate) fn create(&self) -> io::Result<CreatorLock> {
        let fd = self.open_with(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)?;
        match Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(CreatorLock { file }),
            // Only an opener that wants to know whether the creator lives locks it besides us,
            // and only for a moment.
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                match Flock::lock(file, FlockArg::LockExclusive) {
                    Ok(file) => Ok(CreatorLock { file }),
                    Err((_, errno)) => Err(errno.into()),
                }
            }
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Removes the name; mappings that stand go on.
    ///
    /// # Errors
    /// Those of `unlink(2)`.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        match self {
            Self::Posix(name) => Ok(shm_unlink(Self::shm_name(name).as_str())?),
            Self::File(path) => std::fs::remove_file(path),
        }
    }
}

/// An object that this process is making.
#[derive(Debug)]
pub(crate) struct CreatorLock {
    file: Flock<File>,
}

impl CreatorLock {
    /// Sets length, group and mode, and commissions the first `committed` bytes.
    ///
    /// # Errors
    /// `ENOSPC` where the file system has no room, and those of the calls named in the answer.
    pub(crate) fn shape(
        &self,
        bytes: u64,
        committed: u64,
        permissions: u32,
        group: Option<u32>,
    ) -> Result<(), (&'static str, io::Error)> {
        let length = i64::try_from(bytes)
            .map_err(|_| ("ftruncate", io::Error::from(io::ErrorKind::InvalidInput)))?;
        ftruncate(&*self.file, length).map_err(|e| ("ftruncate", e.into()))?;
        commission(&self.file, 0, committed).map_err(|e| ("fallocate", e))?;
        if let Some(group) = group {
            fchown(&*self.file, None, Some(Gid::from_raw(group)))
                .map_err(|e| ("fchown", e.into()))?;
        }
        fchmod(&*self.file, Mode::from_bits_truncate(permissions)).map_err(|e| ("fchmod", e.into()))
    }

    /// A second handle on the same open file, without the lock's life.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub(crate) fn object(&self) -> io::Result<Object> {
        Ok(Object { file: self.file.try_clone()? })
    }

    /// Bytes free on its file system.
    pub(crate) fn free_bytes(&self) -> u64 {
        rustix::fs::fstatvfs(&*self.file).map_or(0, |fs| fs.f_bavail * fs.f_frsize)
    }
}

impl Object {
    /// Its length, owner and mode.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// Copies bytes from the start, as many as there are.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub(crate) fn read_start(&self, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < to.len() {
            match self.file.read_at(&mut to[done..], done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Whether a creator holds its lock now.
    ///
    /// # Errors
    /// Those of `flock(2)`.
    pub(crate) fn creator_at_work(&self) -> io::Result<bool> {
        match Flock::lock(self.file.try_clone()?, FlockArg::LockSharedNonblock) {
            Ok(lock) => {
                drop(lock);
                Ok(false)
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.file)
    }

    /// Gives the range memory, so that no store to it can fail later.
    ///
    /// # Errors
    /// `ENOSPC` where the file system is full.
    pub(crate) fn commission(&self, offset: u64, bytes: u64) -> io::Result<()> {
        commission(&self.file, offset, bytes)
    }

    /// Bytes of memory or disk that it takes now.
    pub fn resident_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}

fn commission(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, bytes) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
