//! One server for each store: a lock that ends with its process, however that ends.
//!
//! It is a record lock (`fcntl(2)`, `F_SETLK`) of one byte far behind the end of the store's own
//! object, so whoever may not write the store can't hold it, and a store that is made anew has a
//! lock of its own. The kernel tells who holds it, and a forked child does not. A System V segment
//! has no descriptor: a file in `/dev/shm` with the store's id in its name has the lock then.
//!
//! Such a lock goes when its process closes any descriptor of the object, so it is taken when the
//! store was made and given to its owner, and nothing opens the object again until the server ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use store_client::Writer;

/// The byte that is locked: no store is so long.
const AT: libc::off_t = 1 << 62;

/// Another server keeps the store.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} keeps this store already, and a store has one server; end that one first, or leave the \
     store to it", holder(*pid)
)]
pub(crate) struct Kept {
    /// Its process; 0 if it is of another PID namespace.
    pid: i32,
}

fn holder(pid: i32) -> String {
    match pid {
        0 => "a server in another PID namespace".to_owned(),
        pid => format!("process {pid}"),
    }
}

/// The lock of a System V store, in its file.
#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    _file: File,
}

/// The lock, until it is dropped or the process ends. That of an object ends with the store's handle.
#[derive(Debug)]
pub(crate) struct ServerLock {
    _file: Option<LockFile>,
}

impl ServerLock {
    /// Takes the lock of the store.
    ///
    /// # Errors
    /// [`Kept`]; those of `open(2)` and `fcntl(2)`.
    pub(crate) fn take(writer: &Writer) -> anyhow::Result<ServerLock> {
        match writer.descriptor() {
            Some(descriptor) => {
                lock(descriptor)?;
                Ok(ServerLock { _file: None })
            }
            None => Ok(ServerLock { _file: Some(LockFile::take(&writer.info()?.uuid)?) }),
        }
    }
}

impl LockFile {
    fn take(uuid: &str) -> anyhow::Result<LockFile> {
        let path = PathBuf::from(format!("/dev/shm/cistern-server.{uuid}"));
        loop {
            let file = open(&path).map_err(|error| {
                let text = format!(
                    "opening the server's lock {}: {error}; if it is of a user whose server ended, \
                     remove it",
                    path.display()
                );
                anyhow::Error::new(error).context(text)
            })?;
            lock(file.as_fd())?;
            // The last server may have removed it meanwhile.
            let (here, held) = (std::fs::symlink_metadata(&path), file.metadata()?);
            if here.is_ok_and(|here| here.ino() == held.ino()) {
                return Ok(LockFile { path, _file: file });
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Before the lock goes: whoever opened it sees then that it is gone. One that stays does
        // no harm, it has no bytes.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the file, or makes it. The two are apart because `fs.protected_regular` forbids to open
/// somebody else's file with `O_CREAT` in a directory like this one.
fn open(path: &PathBuf) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    loop {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
}

fn lock(descriptor: BorrowedFd<'_>) -> anyhow::Result<()> {
    loop {
        match fcntl(descriptor, FcntlArg::F_SETLK(&record())) {
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(Errno::EINTR) => continue,
            other => {
                other.map_err(|errno| {
                    anyhow::anyhow!("locking the store for this server: {errno}")
                })?;
                return Ok(());
            }
        }
        let mut held = record();
        fcntl(descriptor, FcntlArg::F_GETLK(&mut held))?;
        if i32::from(held.l_type) != libc::F_UNLCK {
            return Err(Kept { pid: held.l_pid }.into());
        }
    }
}

fn record() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: AT,
        l_len: 1,
        l_pid: 0,
    }
}
