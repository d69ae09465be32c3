//! Attaching a segment that exists: nothing in it is believed before it was checked.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use super::Store;
use crate::error::{AttachError, Corruption};
use crate::layout::{
    FEATURES_KNOWN, FORMAT_VERSION, STATE_LIVE, SUPERBLOCK_BYTES, Superblock, format_version_of,
};
use crate::region::{Region, Shim};
use crate::sys::clock;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectName};

/// How long an opener waits for a creator that is at work.
const CREATION_DEADLINE: Duration = Duration::from_secs(2);
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
    let shown = name.path().display().to_string();
    let object = open(name, writable, &shown)?;
    await_format(&object, &shown)?;
    let mut start = [0; 64];
    let got = object.read_start(&mut start).map_err(system("pread", &shown))?;
    let length = object.metadata().map_err(system("fstat", &shown))?.len();
    let expected = check_start(&start[..got], length, &shown)?;
    let bytes = usize::try_from(expected)
        .map_err(|_| system("mmap", &shown)(io::ErrorKind::OutOfMemory.into()))?;
    let mapping =
        Mapping::of_object(object.as_fd(), bytes, writable).map_err(system("mmap", &shown))?;
    let region = Region::of_object(mapping, object);
    let superblock = region.view::<Superblock>(0)?;
    validate(superblock, writable, &shown)?;
    if matches!(name, ObjectName::File(_)) {
        refuse_unclean(superblock, &shown)?;
    }
    Ok(Store::over(region, shown)?)
}

fn system<'a>(call: &'static str, shown: &'a str) -> impl Fn(io::Error) -> AttachError + 'a {
    move |source| AttachError::System { call, name: shown.to_owned(), source }
}

fn open(name: &ObjectName, writable: bool, shown: &str) -> Result<Object, AttachError> {
    let object = name.open(writable).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttachError::NotFound { name: shown.to_owned() },
        io::ErrorKind::PermissionDenied => {
            let access = if writable { "writing" } else { "reading" };
            AttachError::PermissionDenied { name: shown.to_owned(), access }
        }
        // Only readers could open it, and be refused below.
        io::ErrorKind::IsADirectory => AttachError::NotAStore { name: shown.to_owned(), found: 0 },
        _ => match name.link_target() {
            Some(target) => {
                let target = target.display().to_string();
                AttachError::SymbolicLink { name: shown.to_owned(), target }
            }
            None => system("open", shown)(source),
        },
    })?;
    let kind = object.metadata().map_err(system("fstat", shown))?.file_type();
    if kind.is_dir() || kind.is_char_device() || kind.is_fifo() || kind.is_socket() {
        return Err(AttachError::NotAStore { name: shown.to_owned(), found: 0 });
    }
    Ok(object)
}

/// Waits until the format word is there, and looks at it.
fn await_format(object: &Object, shown: &str) -> Result<(), AttachError> {
    let start = Instant::now();
    let mut orphaned_since = None;
    loop {
        let mut word = [0; 8];
        object.read_start(&mut word).map_err(system("pread", shown))?;
        let word = u64::from_le_bytes(word);
        if word != 0 {
            return check_format(word, shown);
        }
        let creator_alive = object.creator_at_work().map_err(system("flock", shown))?;
        let since = *orphaned_since.get_or_insert_with(Instant::now);
        if creator_alive {
            orphaned_since = None;
        } else if since.elapsed() >= ORPHAN_DEADLINE {
            if object.metadata().map_err(system("fstat", shown))?.len() == 0 {
                return Err(AttachError::Empty { name: shown.to_owned() });
            }
            return Err(AttachError::Unfinished { name: shown.to_owned(), creator_alive });
        }
        if start.elapsed() >= CREATION_DEADLINE {
            return Err(AttachError::Unfinished { name: shown.to_owned(), creator_alive });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Looks at the first bytes of a segment, before anything is mapped: its format, and whether the
/// object has the length that it asks for. Gives that length.
pub(super) fn check_start(start: &[u8], length: u64, shown: &str) -> Result<u64, AttachError> {
    let word = |number: usize| {
        start.as_chunks::<8>().0.get(number).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    check_format(word(0), shown)?;
    let expected = word(7);
    if expected < SUPERBLOCK_BYTES || expected > length {
        return Err(AttachError::Truncated {
            name: shown.to_owned(),
            found: length,
            expected: expected.max(SUPERBLOCK_BYTES),
        });
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
        unknown |= superblock.features_to_write.load();
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

/// A file that was in use when the machine went down may hold pages of different ages.
fn refuse_unclean(superblock: &Superblock, shown: &str) -> Result<(), AttachError> {
    let boot = clock::boot_id();
    let same = superblock.boot_id[0].load() == boot as u64
        && superblock.boot_id[1].load() == (boot >> 64) as u64;
    if same { Ok(()) } else { Err(AttachError::UncleanReboot { name: shown.to_owned() }) }
}
