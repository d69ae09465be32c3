//! Attaching a segment that exists: nothing in it is believed before it was checked.

use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use super::Store;
use super::destroy::holds_store;
use super::name::{ObjectName, Place};
use super::remains::{Meant, START_BYTES, in_region, told_by};
use crate::error::{AttachError, Corruption};
use crate::layout::{
    FEATURES_KNOWN, FEATURES_TO_WRITE_KNOWN, FORMAT_VERSION, STATE_LIVE, SUPERBLOCK_BYTES,
    Superblock, format_version_of,
};
use crate::region::{Region, Shim};
use crate::sys::clock;
use crate::sys::holder::Holder;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectPlace};
use crate::sys::process::{Liveness, ProcessId, liveness, own_ipc_namespace};
use crate::sys::registry::{self, Record, Registration};
use crate::sys::sysv::SharedSegment;

/// How long an opener waits for a creator that is at work.
pub(super) const CREATION_DEADLINE: Duration = Duration::from_secs(2);
/// How long an object without creator and without format word is looked at before it is given up:
/// a creator may be between making and locking it.
const ORPHAN_DEADLINE: Duration = Duration::from_millis(100);

/// What a client may do with its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The mapping is `PROT_READ`: read permission is enough, and no store is possible.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// Attaches the store at `name`.
///
/// Waits up to 2 s for a creator that is at work.
///
/// # Errors
/// See [`AttachError`].
pub fn attach<S: Shim>(name: &ObjectName, access: Access) -> Result<Store<S>, AttachError> {
    let writable = access == Access::ReadWrite;
    let shown = name.to_string();
    clock::prepare().map_err(system("reading the boot id", &shown))?;
    let region = match name.place() {
        Place::Object(place) => map_object(&place, writable, &shown)?,
        Place::Key(key) => {
            let segment = SharedSegment::find(key).map_err(of_segment(writable, &shown))?;
            map_segment(segment, writable, &shown)?
        }
        Place::Segment(id) => {
            let segment = SharedSegment::of_id(id);
            refuse_zeros(segment, &shown)?;
            map_segment(segment, writable, &shown)?
        }
        Place::Registered(registered) => map_registered(registered, writable, &shown)?,
    };
    validate(region.view(0)?, writable, &shown)?;
    let store = Store::over(region, shown)?;
    store.admit_after_reboot()?;
    store.find_reader_heat();
    Ok(store)
}

fn map_object(place: &ObjectPlace<'_>, writable: bool, shown: &str) -> Result<Region, AttachError> {
    let object = open(place, writable, shown)?;
    let word = || {
        let mut word = [0; 8];
        object.read_start(&mut word).map_err(system("pread", shown))?;
        Ok(u64::from_le_bytes(word))
    };
    // A passed descriptor shares its lock with the creator, and may be all that is there.
    let at_work = || match place {
        ObjectPlace::Descriptor(_) => Ok(false),
        _ => object.creator_at_work().map_err(system("flock", shown)),
    };
    let meant = match place {
        ObjectPlace::Posix(_) => Meant::ByName,
        ObjectPlace::File(_) | ObjectPlace::Descriptor(_) => Meant::PerhapsFile,
    };
    await_format(word, at_work, shown).or_else(|error| {
        let length = object.metadata().map_err(system("fstat", shown))?.len();
        let mut start = [0; START_BYTES];
        let got = object.read_start(&mut start).map_err(system("pread", shown))?;
        match error {
            AttachError::Unfinished { creator_alive: false, .. } if length == 0 => {
                Err(AttachError::Empty { name: shown.to_owned() })
            }
            // By now it may have its format word.
            error if format_version_of(word_of(&start[..got], 0)).is_none() => {
                Err(told_by(error, &start[..got], length, meant, shown))
            }
            error => Err(error),
        }
    })?;
    let mut start = [0; 64];
    let got = object.read_start(&mut start).map_err(system("pread", shown))?;
    let length = object.metadata().map_err(system("fstat", shown))?.len();
    let bytes = check_start(&start[..got], length, shown)?;
    let mapping = map(&object, bytes, writable, shown)?;
    Ok(Region::of(mapping, Holder::Object(object)))
}

pub(super) fn map(
    object: &Object,
    bytes: u64,
    writable: bool,
    shown: &str,
) -> Result<Mapping, AttachError> {
    let name = || shown.to_owned();
    let bytes = usize::try_from(bytes)
        .map_err(|_| system("mmap", shown)(io::ErrorKind::OutOfMemory.into()))?;
    Mapping::of_object(object.as_fd(), bytes, writable, object.pages()).map_err(|source| {
        match source.raw_os_error() {
            Some(libc::EPERM) if writable && object.is_sealed() => {
                AttachError::Sealed { name: name() }
            }
            // The access mode of a descriptor that was passed.
            Some(libc::EACCES | libc::EPERM) => denied(writable, shown),
            _ => system("mmap", shown)(source),
        }
    })
}

fn map_segment(segment: SharedSegment, writable: bool, shown: &str) -> Result<Region, AttachError> {
    let mapping = Mapping::of_segment(segment, writable).map_err(of_segment(writable, shown))?;
    let region = Region::of(mapping, Holder::SystemV(segment));
    if region.bytes() < SUPERBLOCK_BYTES {
        return Err(AttachError::NotAStore { name: shown.to_owned(), found: 0 });
    }
    let superblock = region.view::<Superblock>(0)?;
    let word = || Ok(superblock.format.load());
    let at_work = || creator_lives(segment).map_err(of_segment(writable, shown));
    await_format(word, at_work, shown).map_err(|error| in_region(error, &region, shown))?;
    check_length(superblock.segment_bytes.load(), region.bytes(), shown)?;
    Ok(region)
}

/// Answers for a segment without a format word at once, for whoever looks through all of them.
fn refuse_zeros(segment: SharedSegment, shown: &str) -> Result<(), AttachError> {
    let mapping = Mapping::of_segment(segment, false).map_err(of_segment(false, shown))?;
    let region = Region::of(mapping, Holder::SystemV(segment));
    let name = || shown.to_owned();
    if region.bytes() < SUPERBLOCK_BYTES {
        return Err(AttachError::NotAStore { name: name(), found: 0 });
    }
    let found = region.view::<Superblock>(0)?.format.load();
    match holds_store(segment, &region)? {
        false => Err(in_region(AttachError::NotAStore { name: name(), found }, &region, shown)),
        true if found == 0 => {
            let creator_alive = creator_lives(segment).map_err(of_segment(false, shown))?;
            let error = AttachError::Unfinished { name: name(), creator_alive };
            Err(in_region(error, &region, shown))
        }
        true => Ok(()),
    }
}

/// Whether the process that made a segment lives. A segment has no lock, but the kernel knows who
/// made it.
pub(super) fn creator_lives(segment: SharedSegment) -> io::Result<bool> {
    let pid = segment.status()?.creator_pid;
    let creator = ProcessId { pid, start_time: 0, pid_namespace: 0 };
    Ok(liveness(&creator) == Liveness::Alive)
}

fn map_registered(name: &str, writable: bool, shown: &str) -> Result<Region, AttachError> {
    let found = registry::find(name).map_err(system("open", shown))?;
    let registration = found.ok_or_else(|| AttachError::NotFound { name: shown.to_owned() })?;
    let record = await_record(&registration, shown)?;
    map_record(&record, writable, shown)
}

/// The store that a registration says that it is of.
pub(super) fn map_record(
    record: &Record,
    writable: bool,
    shown: &str,
) -> Result<Region, AttachError> {
    let stale = |why| AttachError::Stale { name: shown.to_owned(), why };
    if record.boot != clock::boot_id() {
        return Err(stale("an earlier boot of the machine"));
    }
    if record.ipc_namespace != own_ipc_namespace().map_err(system("stat", shown))? {
        return Err(AttachError::ForeignIpcNamespace { name: shown.to_owned() });
    }
    let region = match map_segment(SharedSegment::of_id(record.id), writable, shown) {
        Err(AttachError::NotFound { .. }) => return Err(stale("a segment that is gone")),
        Err(AttachError::NotAStore { .. }) => {
            return Err(stale("a segment whose id another program's has by now"));
        }
        other => other?,
    };
    let uuid = &region.view::<Superblock>(0)?.uuid;
    if u128::from(uuid[0].load()) | u128::from(uuid[1].load()) << 64 != record.uuid {
        return Err(stale("a segment whose id another store's has by now"));
    }
    Ok(region)
}

/// Waits until the registration says something.
fn await_record(registration: &Registration, shown: &str) -> Result<Record, AttachError> {
    let mut found = None;
    let word = || {
        found = registration.record().map_err(system("read", shown))?;
        Ok(u64::from(found.is_some()))
    };
    let at_work = || registration.creator_at_work().map_err(system("flock", shown));
    let unfinished = await_word(word, at_work)?;
    found.ok_or_else(|| AttachError::Unfinished {
        name: shown.to_owned(),
        creator_alive: unfinished,
    })
}

pub(super) fn system<'a>(
    call: &'static str,
    shown: &'a str,
) -> impl Fn(io::Error) -> AttachError + 'a {
    move |source| AttachError::System { call, name: shown.to_owned(), source }
}

/// What an error of a System V call means for whoever wants to attach.
pub(super) fn of_segment(writable: bool, shown: &str) -> impl Fn(io::Error) -> AttachError + '_ {
    move |source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::EINVAL | libc::EIDRM) => {
            AttachError::NotFound { name: shown.to_owned() }
        }
        Some(libc::EACCES) => denied(writable, shown),
        _ => system("shmat", shown)(source),
    }
}

fn denied(writable: bool, shown: &str) -> AttachError {
    let access = if writable { "writing" } else { "reading" };
    AttachError::PermissionDenied { name: shown.to_owned(), access }
}

/// Opens what may be a store: something with a length.
pub(super) fn open(
    place: &ObjectPlace<'_>,
    writable: bool,
    shown: &str,
) -> Result<Object, AttachError> {
    let object = place.open(writable).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttachError::NotFound { name: shown.to_owned() },
        io::ErrorKind::PermissionDenied => denied(writable, shown),
        _ if source.raw_os_error() == Some(libc::EBADF) => {
            AttachError::NotFound { name: shown.to_owned() }
        }
        _ => match (place.link_target(), no_file_at(place)) {
            (Some(target), _) => {
                let target = target.display().to_string();
                AttachError::SymbolicLink { name: shown.to_owned(), target }
            }
            // A directory, which only readers could open, or a socket.
            (None, Some(kind)) => AttachError::NotAFile { name: shown.to_owned(), kind },
            (None, None) => system("open", shown)(source),
        },
    })?;
    let kind = object.metadata().map_err(system("fstat", shown))?.file_type();
    if let Some(kind) = kind_of_no_file(kind) {
        return Err(AttachError::NotAFile { name: shown.to_owned(), kind });
    }
    Ok(object)
}

/// What a name leads to, if that has no bytes that could be mapped.
fn no_file_at(place: &ObjectPlace<'_>) -> Option<&'static str> {
    kind_of_no_file(std::fs::symlink_metadata(place.path()).ok()?.file_type())
}

/// What has no bytes that could be mapped.
pub(super) fn kind_of_no_file(kind: FileType) -> Option<&'static str> {
    if kind.is_dir() {
        return Some("a directory");
    }
    let special = [kind.is_fifo(), kind.is_socket(), kind.is_char_device(), kind.is_block_device()];
    special.contains(&true).then_some("a special file")
}

/// Waits until the format word is there, and looks at it.
fn await_format(
    mut word: impl FnMut() -> Result<u64, AttachError>,
    at_work: impl FnMut() -> Result<bool, AttachError>,
    shown: &str,
) -> Result<(), AttachError> {
    let mut found = 0;
    let seen = || {
        found = word()?;
        Ok(found)
    };
    let creator_alive = await_word(seen, at_work)?;
    match found {
        0 => Err(AttachError::Unfinished { name: shown.to_owned(), creator_alive }),
        word => check_format(word, shown),
    }
}

/// Waits until `word` is not 0, for as long as it is worth it; whether a creator was at work when
/// it was given up.
fn await_word(
    mut word: impl FnMut() -> Result<u64, AttachError>,
    mut at_work: impl FnMut() -> Result<bool, AttachError>,
) -> Result<bool, AttachError> {
    let start = Instant::now();
    let mut orphaned_since = None;
    loop {
        if word()? != 0 {
            return Ok(false);
        }
        let creator_alive = at_work()?;
        let since = *orphaned_since.get_or_insert_with(Instant::now);
        if creator_alive {
            orphaned_since = None;
        } else if since.elapsed() >= ORPHAN_DEADLINE {
            return Ok(creator_alive);
        }
        if start.elapsed() >= CREATION_DEADLINE {
            return Ok(creator_alive);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Looks at the first bytes of a segment, before anything is mapped: its format, and whether the
/// object has the length that it asks for. Gives that length.
pub(super) fn check_start(start: &[u8], length: u64, shown: &str) -> Result<u64, AttachError> {
    check_format(word_of(start, 0), shown)?;
    check_length(word_of(start, 7), length, shown)
}

/// Word `number` of the first bytes of a segment; 0 where they have ended.
pub(super) fn word_of(start: &[u8], number: usize) -> u64 {
    start.as_chunks::<8>().0.get(number).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn check_length(expected: u64, length: u64, shown: &str) -> Result<u64, AttachError> {
    if length < SUPERBLOCK_BYTES || expected > length {
        return Err(AttachError::Truncated {
            name: shown.to_owned(),
            found: length,
            expected: expected.max(SUPERBLOCK_BYTES),
        });
    }
    if expected < SUPERBLOCK_BYTES {
        return Err(Corruption { what: "the length of the segment", offset: 56 }.into());
    }
    Ok(expected)
}

fn check_format(word: u64, shown: &str) -> Result<(), AttachError> {
    let name = shown.to_owned();
    match format_version_of(word) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) => Err(AttachError::OtherVersion { name, found, supported: FORMAT_VERSION }),
        None => Err(AttachError::NotAStore { name, found: word }),
    }
}

/// Format, features and state of a mapped superblock.
pub(super) fn validate(
    superblock: &Superblock,
    writable: bool,
    shown: &str,
) -> Result<(), AttachError> {
    check_format(superblock.format.load(), shown)?;
    let mut unknown = superblock.features_required.load() & !FEATURES_KNOWN;
    if writable {
        unknown |= superblock.features_to_write.load() & !FEATURES_TO_WRITE_KNOWN;
    }
    if unknown != 0 {
        return Err(AttachError::UnknownFeatures { name: shown.to_owned(), unknown });
    }
    match superblock.state.load() {
        STATE_LIVE => Ok(()),
        crate::layout::STATE_RETIRED => Err(AttachError::Retired { name: shown.to_owned() }),
        _ => Err(Corruption { what: "the state word", offset: 704 }.into()),
    }
}
