//! Names for System V segments: one small text file for each, in a directory that only its owner
//! can put files into.
//!
//! A segment made without a key can be found by its id only, which the kernel gives out again. So
//! a registration holds the id, and those of the store in it, of the boot, and of the IPC namespace.
//! It is looked for
//! in [`DIRECTORY`], then in the two directories of a user, see [`user_directories`].

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

use super::limits::allow_file_of;
use super::lock::{FileLock, is_locked};

/// In shared memory: a directory of a user is made when it is needed, and goes with what is in it.
const SHARED_MEMORY: &str = "/dev/shm";

/// The registry of the whole machine. Root makes it, with mode 0755; it is used by whoever may
/// write to it.
const DIRECTORY: &str = "/run/cistern";

/// What comes before the user's number in the name of a directory there.
const USER_PREFIX: &str = "cistern-";

/// The first line of a registration.
const HEADING: &str = "cistern system-v 1";

/// The registries of one user, by precedence: `/run/user/UID/cistern`, then
/// `/dev/shm/cistern-UID`, which like the segments ends with the boot and which nobody tidies up
/// before (as is done to `/tmp`). Both have mode 0700.
fn user_directories(uid: u32) -> [PathBuf; 2] {
    let in_shared_memory = format!("{SHARED_MEMORY}/{USER_PREFIX}{uid}").into();
    [format!("/run/user/{uid}/cistern").into(), in_shared_memory]
}

/// What a registration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// The segment.
    pub(crate) id: i32,
    /// The store in it.
    pub(crate) uuid: u128,
    /// The boot of the machine that the id is of.
    pub(crate) boot: u128,
    /// The IPC namespace that the id is of, by its inode; 0 if unknown.
    pub(crate) ipc_namespace: u64,
}

/// An open registration.
#[derive(Debug)]
pub(crate) struct Registration {
    directory: OwnedFd,
    name: String,
    file: File,
}

/// The registration of `name`: the first one in the order of the directories.
///
/// # Errors
/// Those of `open(2)`, but for `ENOENT`.
pub(crate) fn find(name: &str) -> io::Result<Option<Registration>> {
    for place in own_order() {
        let Some(directory) = open_directory(&place)? else { continue };
        match Registration::open(directory, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// Makes the registration of `name`, empty, in the first directory that takes it, and locks it.
/// The caller has seen that there is none.
///
/// # Errors
/// `EEXIST`; `EACCES` where no directory can be written or belongs to somebody else.
pub(crate) fn create(name: &str) -> io::Result<(Registration, FileLock)> {
    let mut refused = Vec::new();
    for place in own_order() {
        match create_in(&place, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(error) => refused.push(format!("{}: {error}", place.path.display())),
            made => return made,
        }
    }
    let what = format!("no directory to register it in ({})", refused.join("; "));
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

fn create_in(place: &Place, name: &str) -> io::Result<(Registration, FileLock)> {
    let make = || {
        make_directory(place)?;
        match open_directory(place)? {
            Some(directory) => Registration::create(directory, name),
            None => Err(unsafe_directory(place)),
        }
    };
    let mut made = make();
    for _ in 0..16 {
        match &made {
            // Somebody removed the last registration, and the directory with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => made = make(),
            _ => break,
        }
    }
    made
}

/// The names that are registered for segments made by `creator`, as far as this process may look.
pub(crate) fn names(creator: u32) -> Vec<(String, Registration)> {
    order(creator).iter().flat_map(names_in).collect()
}

/// The users in whose directories there are registrations that [`names`] does not look for, as this
/// user namespace names them, and these: a directory that was made in another one is called by
/// the number that the user has there.
pub(crate) fn elsewhere() -> Vec<(u32, Registration)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let Some(user) = file_name.to_str().and_then(|name| name.strip_prefix(USER_PREFIX)) else {
            continue;
        };
        let Ok(owner) = entry.metadata().map(|metadata| metadata.uid()) else { continue };
        if user != owner.to_string() {
            let place = Place { path: entry.path(), owner };
            found.extend(names_in(&place).into_iter().map(|(_, one)| (owner, one)));
        }
    }
    found
}

fn names_in(place: &Place) -> Vec<(String, Registration)> {
    let mut found = Vec::new();
    let Ok(Some(directory)) = open_directory(place) else { return found };
    for entry in std::fs::read_dir(&place.path).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(directory) = directory.try_clone() else { continue };
        if let Ok(registration) = Registration::open(directory, &name) {
            found.push((name, registration));
        }
    }
    found
}

/// A directory of registrations and who must own it.
struct Place {
    path: PathBuf,
    owner: u32,
}

fn order(uid: u32) -> Vec<Place> {
    let users = user_directories(uid).map(|path| Place { path, owner: uid });
    let all = Place { path: DIRECTORY.into(), owner: 0 };
    std::iter::once(all).chain(users).collect()
}

fn own_order() -> Vec<Place> {
    order(Uid::effective().as_raw())
}

/// Opens a directory if it is there and safe: of its owner, and nobody else can replace files in
/// it. One that is not safe is passed over as if it were not there.
fn open_directory(place: &Place) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = match again(|| nix::fcntl::open(&place.path, flags, Mode::empty())) {
        Ok(directory) => File::from(directory),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = directory.metadata()?;
    let others_replace = metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0;
    let safe = metadata.uid() == place.owner && !others_replace;
    Ok(safe.then(|| directory.into()))
}

/// A call that is made again when a signal came in between.
fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn unsafe_directory(place: &Place) -> io::Error {
    let what = format!("no directory of user {} that only this user can write to", place.owner);
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

/// Makes a directory if its parent is there and it is not: mode 0755 for that of the machine, 0700
/// for one of a user.
fn make_directory(place: &Place) -> io::Result<()> {
    let mode = if place.path == Path::new(DIRECTORY) { 0o755 } else { 0o700 };
    match mkdirat(nix::fcntl::AT_FDCWD, &place.path, Mode::from_bits_truncate(mode)) {
        Ok(()) => std::fs::set_permissions(
            &place.path,
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        ),
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Registration {
    fn open(directory: OwnedFd, name: &str) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = again(|| openat(&directory, name, flags, Mode::empty()))?;
        Ok(Self { directory, name: name.to_owned(), file: file.into() })
    }

    fn create(directory: OwnedFd, name: &str) -> io::Result<(Self, FileLock)> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let file = File::from(again(|| openat(&directory, name, flags, mode))?);
        let made = Self { directory, name: name.to_owned(), file };
        // The umask may be narrow; ids are no secret.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        made.file
            .set_permissions(open)
            .and_then(|()| made.lock(Duration::from_secs(2)))
            .inspect_err(|_| drop(made.remove_current()))
            .map(|lock| (made, lock))
    }

    /// What it says; `None` while it is empty, or if it is no registration.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub(crate) fn record(&self) -> io::Result<Option<Record>> {
        let mut text = String::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        // What is longer, or no text, is no registration.
        match file.take(1000).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
            _ => Ok(parse(&text)),
        }
    }

    /// Fills in what it says.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let text = text(record);
        allow_file_of(text.len() as u64)?;
        (&self.file).write_all(text.as_bytes())
    }

    /// Whether its maker is still at work.
    ///
    /// # Errors
    /// Those of `flock(2)`.
    pub(crate) fn creator_at_work(&self) -> io::Result<bool> {
        is_locked(self.file.as_fd())
    }

    /// Keeps everybody else from making, removing or replacing it.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds it for that long.
    pub(crate) fn lock(&self, limit: Duration) -> io::Result<FileLock> {
        FileLock::take(self.file.as_fd(), limit)
    }

    /// Whether the name still leads here.
    ///
    /// # Errors
    /// Those of `stat(2)`, but for `ENOENT`.
    pub(crate) fn is_current(&self) -> io::Result<bool> {
        let here = self.file.metadata()?;
        match fstatat(&self.directory, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(here.dev() == there.st_dev && here.ino() == there.st_ino),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives it another name in its directory, which nothing has there.
    ///
    /// # Errors
    /// Those of `renameat2(2)`: `EEXIST`.
    pub(crate) fn rename(&self, to: &str) -> io::Result<()> {
        let (directory, flags) = (&self.directory, rustix::fs::RenameFlags::NOREPLACE);
        Ok(rustix::fs::renameat_with(directory, self.name.as_str(), directory, to, flags)?)
    }

    /// Removes the name if it still leads here, as [`is_current`](Self::is_current) says right
    /// before; from shared memory also the directory, when nothing else is in it.
    ///
    /// # Errors
    /// Those of `stat(2)` and `unlink(2)`.
    pub(crate) fn remove_current(&self) -> io::Result<()> {
        if self.is_current()? {
            unlinkat(&self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir)?;
            let descriptor = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
            if let Ok(path) = std::fs::read_link(descriptor)
                && path.parent() == Some(Path::new(SHARED_MEMORY))
            {
                // Others may be registered there.
                let _ = std::fs::remove_dir(path);
            }
        }
        Ok(())
    }
}

fn text(record: &Record) -> String {
    let uuid = uuid::Uuid::from_u128(record.uuid);
    let boot = uuid::Uuid::from_u128(record.boot);
    let Record { id, ipc_namespace, .. } = record;
    format!("{HEADING}\nid {id}\nuuid {uuid}\nboot {boot}\nipc {ipc_namespace}\n")
}

fn parse(text: &str) -> Option<Record> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADING) || !text.ends_with('\n') {
        return None;
    }
    let mut field = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    Some(Record {
        id: field("id")?.parse().ok()?,
        uuid: uuid::Uuid::parse_str(field("uuid")?).ok()?.as_u128(),
        boot: uuid::Uuid::parse_str(field("boot")?).ok()?.as_u128(),
        ipc_namespace: field("ipc")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::sys::kernel_text;

    proptest! {
        #[test]
        fn a_record_is_understood_whole_or_not_at_all(
            lines in kernel_text(),
            (id, uuid, boot, ipc_namespace) in any::<(i32, u128, u128, u64)>(),
            cut in 0_usize..200,
        ) {
            let _ = (parse(&lines), parse(&format!("{HEADING}\n{lines}\n")));
            let record = Record { id, uuid, boot, ipc_namespace };
            let whole = text(&record);
            let part = &whole[..cut.min(whole.len())];
            assert_eq!(parse(part), (part == whole).then_some(record));
        }
    }

    fn place(path: &Path) -> Place {
        Place { path: path.to_owned(), owner: Uid::effective().as_raw() }
    }

    #[test]
    fn records_survive_the_round_trip() {
        let record = Record { id: 77, uuid: 3 << 90, boot: u128::MAX, ipc_namespace: 9 };
        assert_eq!(parse(&text(&record)), Some(record));
        for wrong in ["", "cistern system-v 1\n", "id 1\n", "cistern system-v 2\nid 1\n"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_name_is_taken_once() {
        let folder = tempfile::tempdir().expect("a directory");
        let open = || open_directory(&place(folder.path())).expect("no error").expect("it is safe");
        let record = Record { id: 1, uuid: 2, boot: 3, ipc_namespace: 4 };
        let (made, lock) = Registration::create(open(), "x").expect("a new one");
        assert_eq!(made.record().expect("readable"), None);
        made.write(&record).expect("writable");
        let seen = Registration::open(open(), "x").expect("it is there");
        assert_eq!(seen.record().expect("readable"), Some(record));
        assert!(seen.creator_at_work().expect("flock"));
        drop(lock);
        assert!(!seen.creator_at_work().expect("flock") && seen.is_current().expect("stat"));
        let again = Registration::create(open(), "x").expect_err("taken");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        seen.remove_current().expect("it is ours");
        assert!(!seen.is_current().expect("stat"));
        let (next, _lock) = Registration::create(open(), "x").expect("another one");
        seen.remove_current().expect("it is left alone");
        assert!(next.is_current().expect("stat"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn directories_that_others_control_are_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a directory");
        let mut place = place(folder.path());
        let modes = [(0o700, true), (0o755, true), (0o1777, true), (0o777, false), (0o770, false)];
        for (mode, safe) in modes {
            std::fs::set_permissions(&place.path, PermissionsExt::from_mode(mode)).expect("ours");
            assert_eq!(open_directory(&place).expect("no error").is_some(), safe, "{mode:o}");
        }
        std::fs::set_permissions(&place.path, PermissionsExt::from_mode(0o700)).expect("ours");
        place.owner += 1;
        assert!(open_directory(&place).expect("no error").is_none(), "of another user");
        place.owner -= 1;
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).expect("a link");
        place.path = link;
        assert!(open_directory(&place).expect("no error").is_none(), "a symbolic link");
    }
}
