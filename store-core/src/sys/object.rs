//! The kernel objects with a descriptor that hold a segment: POSIX shared memory, files, memfds.
//!
//! Named ones are made with `O_EXCL | O_CLOEXEC | O_NOFOLLOW` and their mode is set after creation
//! (the umask applies to `shm_open`). The creator holds `flock(LOCK_EX)` until the segment is
//! whole, so that an opener can tell a creator at work from one that died.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::retry_on_intr;

use super::holder::Backing;
use super::lock::{FileLock, is_locked, reopen};
use super::pages::Pages;
use super::rights;

/// POSIX shared memory objects of stores begin with this, so that `ls` finds them.
pub const POSIX_PREFIX: &str = "cistern.";

/// Where POSIX shared memory is mounted on Linux.
pub const POSIX_DIRECTORY: &str = "/dev/shm";

/// The name of a memfd, as `/proc` shows it.
pub const MEMFD_NAME: &str = "cistern";

/// A file system that loses its files with the machine (`statfs(2)`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Who may map a memfd for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// Whoever has the descriptor. Nobody can change its length.
    SharedWriters,
    /// Nobody any more: only the mapping of its maker, and those of processes forked from it,
    /// write. When they are gone it is read-only for good.
    ReadOnlyForOthers,
}

/// Where an object is: by name, or by a descriptor of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectPlace<'a> {
    Posix(&'a str),
    File(&'a Path),
    Descriptor(i32),
}

/// An open object.
#[derive(Debug)]
pub(crate) struct Object {
    file: File,
}

impl fmt::Display for ObjectPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posix(name) => write!(f, "{POSIX_DIRECTORY}/{POSIX_PREFIX}{name}"),
            Self::File(path) => path.display().fmt(f),
            Self::Descriptor(number) => write!(f, "descriptor {number}"),
        }
    }
}

impl ObjectPlace<'_> {
    fn shm_name(name: &str) -> String {
        format!("/{POSIX_PREFIX}{name}")
    }

    /// Where it is found in the file system.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Posix(name) => Path::new(POSIX_DIRECTORY).join(format!("{POSIX_PREFIX}{name}")),
            Self::File(path) => path.to_path_buf(),
            Self::Descriptor(number) => format!("/proc/self/fd/{number}").into(),
        }
    }

    fn open_with(&self, flags: OFlag) -> io::Result<OwnedFd> {
        // O_NONBLOCK: opening a FIFO that somebody put in place of a store must not hang.
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        loop {
            let opened = match self {
                Self::Posix(name) => {
                    shm_open(Self::shm_name(name).as_str(), flags, Mode::from_bits_truncate(0o600))
                }
                Self::File(path) => nix::fcntl::open(
                    *path,
                    flags | OFlag::O_NOCTTY,
                    Mode::from_bits_truncate(0o600),
                ),
                Self::Descriptor(number) => return duplicate(*number),
            };
            if !matches!(opened, Err(nix::errno::Errno::EINTR)) {
                return Ok(opened?);
            }
        }
    }

    /// Opens an object that exists. A descriptor keeps the access mode that it has.
    ///
    /// # Errors
    /// Those of `open(2)`, `ELOOP` for a symbolic link; `EBADF` for no descriptor.
    pub(crate) fn open(&self, writable: bool) -> io::Result<Object> {
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
    pub(crate) fn create(&self) -> io::Result<(Object, FileLock)> {
        let fd = self.open_with(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let object = Object { file: fd.into() };
        // Only an opener that wants to know whether the creator lives locks it besides us, and
        // only for a moment.
        let lock = object.lock(Duration::from_secs(2)).inspect_err(|_| {
            let _ = object.metadata().and_then(|made| self.unlink_made(&made));
        })?;
        Ok((object, lock))
    }

    /// Whether the place leads to this very object, which somebody has open.
    pub(crate) fn leads_to(&self, object: &Metadata) -> bool {
        let here = std::fs::symlink_metadata(self.path());
        here.is_ok_and(|here| here.dev() == object.dev() && here.ino() == object.ino())
    }

    /// Whether this process may remove the name of the object, as far as can be told before.
    pub(crate) fn may_unlink(&self, object: &Metadata) -> bool {
        let path = self.path();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        rights::may_unlink(directory.unwrap_or(Path::new(".")), object.uid())
    }

    /// The pages that memory comes in there, as far as can be told before anything is made.
    pub(crate) fn pages(&self) -> Pages {
        let path = self.path();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        retry_on_intr(|| rustix::fs::statfs(directory.unwrap_or(Path::new("."))))
            .map_or(Pages::SMALL, |fs| Pages::of_file_system(&fs))
    }

    /// Removes the name if it leads to this very object, which somebody has open. It looks right
    /// before, since what has the name by now may be another's; the kernel has no call for both.
    ///
    /// # Errors
    /// Those of [`unlink`](Self::unlink).
    pub(crate) fn unlink_made(&self, object: &Metadata) -> io::Result<()> {
        match self.leads_to(object) {
            true => self.unlink(),
            false => Ok(()),
        }
    }

    /// Removes the name; mappings that stand go on.
    ///
    /// # Errors
    /// Those of `unlink(2)`; `Unsupported` for a descriptor.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        match self {
            Self::Posix(name) => Ok(shm_unlink(Self::shm_name(name).as_str())?),
            Self::File(path) => std::fs::remove_file(path),
            Self::Descriptor(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// A second descriptor of the same open file, not inherited by programs that are executed.
#[expect(unsafe_code, reason = "fcntl on a number that may be no descriptor")]
fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes numbers only, and answers EBADF for one that is not open.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Object {
    /// A memfd of no length yet, of mode 0600, which can be sealed and not executed, with such pages.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and `fchmod(2)`.
    pub(crate) fn memfd(pages: Pages) -> io::Result<Self> {
        let of_pages = if pages.are_huge() { MemfdFlags::HUGETLB } else { MemfdFlags::empty() };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | of_pages;
        let fd = match rustix::fs::memfd_create(MEMFD_NAME, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3.
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(MEMFD_NAME, flags)?,
            other => other?,
        };
        fchmod(&fd, Mode::from_bits_truncate(0o600))?;
        Ok(Self { file: fd.into() })
    }

    /// Sets length, group and mode, and commissions the first `committed` bytes. Before it takes
    /// memory it writes `mark` at `at`, by which an object that is never finished is known; to one of
    /// huge pages, which can't be written to, whoever maps it does.
    ///
    /// # Errors
    /// `ENOSPC` where the file system has no room, and those of the calls named in the answer.
    pub(crate) fn shape(&self, shape: &Shape) -> Result<(), (&'static str, io::Error)> {
        retry_on_intr(|| rustix::fs::ftruncate(&self.file, shape.bytes))
            .map_err(|e| ("ftruncate", e.into()))?;
        let (at, mark) = shape.mark;
        if !self.pages().are_huge() {
            self.file.write_all_at(&mark.to_le_bytes(), at).map_err(|e| ("pwrite", e))?;
        }
        if shape.committed > 0 {
            self.commission(0, shape.committed).map_err(|e| ("fallocate", e))?;
        }
        if let Some(group) = shape.group {
            self.set_owner(None, Some(group)).map_err(|e| ("fchown", e))?;
        }
        self.set_permissions(shape.permissions).map_err(|e| ("fchmod", e))
    }

    /// Seals a memfd: its length for good, and for [`Sealing::ReadOnlyForOthers`] also its
    /// contents, but for the mappings that stand.
    ///
    /// # Errors
    /// Those of `fcntl(2)`: `EINVAL` of a kernel before 5.1.
    pub(crate) fn seal(&self, sealing: Sealing) -> io::Result<()> {
        let mut seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        if sealing == Sealing::ReadOnlyForOthers {
            seals |= SealFlags::FUTURE_WRITE;
        }
        Ok(rustix::fs::fcntl_add_seals(&self.file, seals)?)
    }

    /// The seals of a memfd, by name; none of other objects.
    pub(crate) fn seals(&self) -> Vec<&'static str> {
        if self.backing() != Backing::Memfd {
            return Vec::new();
        }
        let seals = rustix::fs::fcntl_get_seals(&self.file).unwrap_or(SealFlags::empty());
        let named = [
            (SealFlags::SEAL, "seal"),
            (SealFlags::SHRINK, "shrink"),
            (SealFlags::GROW, "grow"),
            (SealFlags::WRITE, "write"),
            (SealFlags::FUTURE_WRITE, "future-write"),
        ];
        named.iter().filter(|(seal, _)| seals.contains(*seal)).map(|(_, name)| *name).collect()
    }

    /// Whether a seal forbids new mappings that write.
    pub(crate) fn is_sealed(&self) -> bool {
        rustix::fs::fcntl_get_seals(&self.file)
            .is_ok_and(|seals| seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE))
    }

    /// Bytes free on its file system.
    pub(crate) fn free_bytes(&self) -> u64 {
        rustix::fs::fstatvfs(&self.file).map_or(0, |fs| fs.f_bavail * fs.f_frsize)
    }

    /// Whether its bytes are on a disk, and so outlive the machine's memory.
    pub(crate) fn is_on_disk(&self) -> bool {
        // Where it can't be told it is taken for one: then its bytes are written out too often.
        retry_on_intr(|| rustix::fs::fstatfs(&self.file))
            .map_or(true, |fs| fs.f_type != TMPFS_MAGIC && !Pages::of_file_system(&fs).are_huge())
    }

    /// The pages that its memory comes in.
    pub(crate) fn pages(&self) -> Pages {
        retry_on_intr(|| rustix::fs::fstatfs(&self.file))
            .map_or(Pages::SMALL, |fs| Pages::of_file_system(&fs))
    }

    /// The kind of memory that it is, by its name in `/proc`.
    pub(crate) fn backing(&self) -> Backing {
        let shown = std::fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        match shown {
            Ok(path) if path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:") => {
                Backing::Memfd
            }
            Ok(path) if path.starts_with(POSIX_DIRECTORY) => Backing::Posix,
            _ => Backing::File,
        }
    }

    /// Its length, owner and mode.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
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
        is_locked(self.file.as_fd())
    }

    /// Locks it.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds it for so long; those of `open(2)` and `flock(2)`.
    pub(crate) fn lock(&self, limit: Duration) -> io::Result<FileLock> {
        FileLock::take(self.file.as_fd(), limit)
    }

    /// The same object, opened for reading and writing.
    ///
    /// # Errors
    /// Those of `open(2)`: `EACCES`.
    pub(crate) fn writable(&self) -> io::Result<Object> {
        Ok(Object { file: reopen(self.file.as_fd(), true)? })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Sets its permission bits.
    ///
    /// # Errors
    /// Those of `fchmod(2)`: `EPERM`.
    pub(crate) fn set_permissions(&self, permissions: u32) -> io::Result<()> {
        Ok(fchmod(&self.file, Mode::from_bits_truncate(permissions))?)
    }

    /// Sets what is given of owner and group.
    ///
    /// # Errors
    /// Those of `fchown(2)`: `EPERM`.
    pub(crate) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        Ok(fchown(&self.file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?)
    }

    /// Gives the range memory, so that no store to it can fail later.
    ///
    /// # Errors
    /// `ENOSPC` where the file system is full.
    pub(crate) fn commission(&self, offset: u64, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Gives the memory of a range back. Its length stays.
    ///
    /// # Errors
    /// Those of `fallocate(2)`.
    pub(crate) fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.file, flags, offset, bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Waits until every byte that was stored is on the disk.
    ///
    /// # Errors
    /// Those of `fdatasync(2)`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Bytes of memory or disk that it takes now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}

/// What a new object is made into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) bytes: u64,
    pub(crate) committed: u64,
    pub(crate) permissions: u32,
    pub(crate) group: Option<u32>,
    /// Where a word is written before anything takes time, and the word.
    pub(crate) mark: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_name_is_removed_only_from_the_object_that_was_made() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        let place = ObjectPlace::File(&path);
        let (first, _lock) = place.create().expect("a new one");
        let made = first.metadata().expect("its inode");
        place.unlink().expect("it is ours");
        place.unlink_made(&made).expect("nothing is there");
        let (second, _lock) = place.create().expect("another one");
        place.unlink_made(&made).expect("it is left alone");
        assert!(path.exists());
        place.unlink_made(&second.metadata().expect("its inode")).expect("it is ours");
        assert!(!path.exists());
    }
}
