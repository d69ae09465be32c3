//! One server for each store: a lock that ends with its process, however that ends.
//!
//! It is a lock (`fcntl(2)`, `F_OFD_SETLK`) of one byte far behind the end of the store's own
//! object, so whoever may not write the store can't hold it, and a store that is made anew has a
//! lock of its own. It belongs to a descriptor of the server's own, opened anew: one that was
//! passed is shared with whoever passed it. A System V segment has no descriptor: a file in
//! `/dev/shm` with the store's id in its name has the lock then.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use store_client::Writer;

/// The byte that is locked: no store is so long.
const AT: libc::off_t = 1 << 62;

/// Where the locks of System V stores are, and what their names begin with.
const DIRECTORY: &str = "/dev/shm";
const PREFIX: &str = "cistern-server.";

/// How long a server that tidies may have the lock of another store.
const TIDYING: Duration = Duration::from_millis(100);

/// Another server keeps the store.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} keeps this store already, and a store has one server; end that one first, or leave the \
     store to it", holder(*pid)
)]
pub(crate) struct Kept {
    /// Its process; 0 if it can't be told: it is another user's, or of another PID namespace.
    pub(crate) pid: i32,
}

fn holder(pid: i32) -> String {
    match pid {
        0 => "another server".to_owned(),
        pid => format!("process {pid}"),
    }
}

/// The lock of a System V store, in its file.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _file: File,
}

/// The lock, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) enum ServerLock {
    /// Of the store's object.
    Object { _file: File },
    /// Of a file beside it.
    Beside { _file: LockFile },
}

impl ServerLock {
    /// Takes the lock of the store.
    ///
    /// # Errors
    /// [`Kept`]; those of `open(2)` and `fcntl(2)`.
    pub(crate) fn take(writer: &Writer) -> anyhow::Result<ServerLock> {
        match writer.descriptor() {
            Some(descriptor) => {
                let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                let file = File::options().read(true).write(true).open(path)?;
                lock(&file)?;
                Ok(ServerLock::Object { _file: file })
            }
            None => Ok(ServerLock::Beside { _file: LockFile::take(&writer.info()?.uuid)? }),
        }
    }
}

impl LockFile {
    fn take(uuid: &str) -> anyhow::Result<LockFile> {
        tidy();
        let start = Instant::now();
        let path = Path::new(DIRECTORY).join(format!("{PREFIX}{uuid}"));
        loop {
            let file = open(&path).map_err(|error| {
                let text = format!(
                    "opening the server's lock {}: {error}; if it is of a user whose server ended, \
                     remove it",
                    path.display()
                );
                anyhow::Error::new(error).context(text)
            })?;
            match lock(&file) {
                // One that tidies has it for a moment.
                Err(error) if error.is::<Kept>() && start.elapsed() < TIDYING => {
                    std::thread::sleep(TIDYING / 10);
                    continue;
                }
                taken => taken?,
            }
            // The last server may have removed it meanwhile.
            if leads_to(&path, &file) {
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

/// Removes the files of servers that were killed, as far as this one may.
fn tidy() {
    for path in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten().map(|one| one.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let Ok(file) = options().open(&path) else { continue };
        // Who opened it meanwhile sees, once it has the lock, that the file is gone.
        if lock(&file).is_ok() && leads_to(&path, &file) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn leads_to(path: &Path, file: &File) -> bool {
    let (here, there) = (std::fs::symlink_metadata(path), file.metadata());
    matches!((here, there), (Ok(here), Ok(there)) if here.ino() == there.ino())
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

/// Opens the file, or makes it. The two are apart because `fs.protected_regular` forbids to open
/// somebody else's file with `O_CREAT` in a directory like this one.
fn open(path: &Path) -> io::Result<File> {
    loop {
        match options().open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match options().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
}

fn lock(file: &File) -> anyhow::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&record())) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(Kept { pid: holder_of(file.metadata()?.ino()) }.into());
            }
            Err(errno) => anyhow::bail!("locking the store for this server: {errno}"),
        }
    }
}

/// The process that has the byte of this file locked, as far as this one may know: the kernel names
/// no process for such a lock, but shows it with the descriptor that it belongs to.
fn holder_of(inode: u64) -> i32 {
    let inode = format!(":{inode}");
    let is_it = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "OFDLCK");
        line.starts_with("lock:")
            && words.next().is_some()
            && words.any(|word| word.ends_with(&inode))
            && line.contains(&AT.to_string())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for info in std::fs::read_dir(process.path().join("fdinfo")).into_iter().flatten().flatten()
        {
            if std::fs::read_to_string(info.path()).is_ok_and(|text| text.lines().any(is_it)) {
                return pid;
            }
        }
    }
    0
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
