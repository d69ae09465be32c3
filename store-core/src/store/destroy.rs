//! Destroying a store.

use std::fmt;
use std::io;

use super::attach::{Access, CREATION_DEADLINE, attach, open, word_of};
use super::guard_set::remove_guards;
use super::name::{ObjectName, Place};
use crate::error::AttachError;
use crate::layout::{STATE_LIVE, STATE_RETIRED, SUPERBLOCK_BYTES};
use crate::region::{Plain, Region};
use crate::sys::clock;
use crate::sys::holder::Holder;
use crate::sys::lock::FileLock;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectPlace};
use crate::sys::registry::{self, Registration};
use crate::sys::sysv::SharedSegment;

/// Destroys a store: marks it retired, so that clients that still have it can tell, and removes
/// its name. Mappings that stand go on working on memory that nobody else will find; a System V
/// segment goes with the last of them. Those that destroy or make the same name wait for each
/// other, up to 2 s.
///
/// # Errors
/// `NotFound`; `NotRemovable`; `NotAStore` or `NotAFile` for what is somebody else's; `Unsupported`
/// for a descriptor; `System`.
pub fn destroy(name: &ObjectName) -> Result<(), AttachError> {
    let destroyed = match name.place() {
        Place::Object(ObjectPlace::Descriptor(_)) => Err(AttachError::Unsupported {
            what: "removing a store by a descriptor".to_owned(),
            remedy: "it goes with its last descriptor and mapping, or is removed by its name",
        }),
        Place::Object(place) => destroy_object(name, &place),
        Place::Key(key) => {
            let segment =
                SharedSegment::find(key).map_err(|source| refused("shmget", name, source))?;
            destroy_segment(name, segment)
        }
        Place::Segment(id) => destroy_segment(name, SharedSegment::of_id(id)),
        Place::Registered(registered) => destroy_registered(name, registered),
    };
    destroyed.map_err(|error| match error {
        AttachError::PermissionDenied { name, .. } => AttachError::NotRemovable { name },
        error => error,
    })
}

fn destroy_object(name: &ObjectName, place: &ObjectPlace<'_>) -> Result<(), AttachError> {
    let is_file = matches!(place, ObjectPlace::File(_));
    let (format, _lock) = match lock_current(name, place) {
        Ok((object, lock)) => (format_of(name, &object, is_file)?, lock),
        Err(error @ AttachError::NotFound { .. }) => return Err(error),
        // In shared memory the name alone says that it is meant to be a store.
        Err(error) if is_file => return Err(error),
        Err(_) => (0, None),
    };
    // What can't be attached has no state word to mark.
    let store = match format {
        0 => None,
        _ => attach::<Plain>(name, Access::ReadWrite).ok(),
    };
    if let Some(store) = &store {
        store.set_state(STATE_RETIRED);
    }
    let unlinked = place.unlink().map_err(|source| {
        // Who may write and not remove it leaves it as it was.
        if let Some(store) = &store {
            store.set_state(STATE_LIVE);
        }
        refused("unlink", name, source)
    });
    if let Some(store) = store.filter(|_| unlinked.is_ok()) {
        remove_guards(&store.segment.region);
    }
    unlinked
}

/// The object that the name leads to, locked. A lock that somebody keeps for 2 s (a creator that
/// was stopped) is passed over.
fn lock_current(
    name: &ObjectName,
    place: &ObjectPlace<'_>,
) -> Result<(Object, Option<FileLock>), AttachError> {
    let shown = name.to_string();
    loop {
        let object = match open(place, false, &shown) {
            Err(AttachError::PermissionDenied { .. }) => open(place, true, &shown)?,
            other => other?,
        };
        let lock = match object.lock(CREATION_DEADLINE) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Err(source) => return Err(refused("flock", name, source)),
        };
        // Else it was destroyed, and perhaps made anew, while this waited.
        if place.leads_to(&object) {
            return Ok((object, lock));
        }
    }
}

/// The first word. Leaves files alone that are neither a store nor the beginning of one.
fn format_of(name: &ObjectName, object: &Object, is_file: bool) -> Result<u64, AttachError> {
    let mut start = [0; 64];
    let got = object.read_start(&mut start).map_err(|source| refused("pread", name, source))?;
    let length = object.metadata().map_err(|source| refused("fstat", name, source))?.len();
    let found = word_of(&start[..got], 0);
    if is_file && !is_store(found, word_of(&start[..got], 7), length) {
        return Err(AttachError::NotAStore { name: name.to_string(), found });
    }
    Ok(found)
}

/// Whether the first word and the length that stands in the superblock are those of a store, of
/// whatever version, or of one that was never finished.
pub(super) fn is_store(format: u64, segment_bytes: u64, length: u64) -> bool {
    let unfinished = format == 0 && segment_bytes == length && length >= SUPERBLOCK_BYTES;
    crate::layout::format_version_of(format).is_some() || unfinished
}

fn destroy_segment(name: &ObjectName, segment: SharedSegment) -> Result<(), AttachError> {
    let mapping = Mapping::of_segment(segment, true)
        .or_else(|_| Mapping::of_segment(segment, false))
        .map_err(|source| refused("shmat", name, source))?;
    let region = Region::of(mapping, Holder::SystemV(segment));
    if region.bytes() < SUPERBLOCK_BYTES {
        return Err(AttachError::NotAStore { name: name.to_string(), found: 0 });
    }
    let superblock = region.view::<crate::layout::Superblock>(0)?;
    let found = superblock.format.load();
    // The kernel rounds no length that `IPC_STAT` tells.
    if !is_store(found, superblock.segment_bytes.load(), region.bytes()) {
        return Err(AttachError::NotAStore { name: name.to_string(), found });
    }
    let marked = region.writable()
        && found == crate::layout::FORMAT_WORD
        && superblock.state.load() == STATE_LIVE;
    if marked {
        superblock.state.store::<Plain>(STATE_RETIRED);
    }
    segment.remove().map_err(|source| {
        if marked {
            superblock.state.store::<Plain>(STATE_LIVE);
        }
        refused("shmctl", name, source)
    })?;
    remove_guards(&region);
    Ok(())
}

fn destroy_registered(name: &ObjectName, registered: &str) -> Result<(), AttachError> {
    let (registration, _lock) = lock_registration(name, registered)?;
    let record = registration.record().map_err(|source| refused("read", name, source))?;
    let segment = record
        .filter(|record| record.boot == clock::boot_id())
        .map(|record| SharedSegment::of_id(record.id));
    // A registration that leads to no store, or to another one, is removed all the same.
    let lives = match segment.map(|_| attach::<Plain>(name, Access::ReadOnly)) {
        None | Some(Err(AttachError::Stale { .. } | AttachError::NotFound { .. })) => false,
        Some(Err(error @ AttachError::ForeignIpcNamespace { .. })) => return Err(error),
        Some(_) => true,
    };
    if let Some(segment) = segment.filter(|_| lives) {
        destroy_segment(name, segment)?;
    }
    match registration.remove() {
        // Only the directory's owner can: what is left is known to lead nowhere.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && lives => Ok(()),
        other => other.map_err(|source| refused("unlink", name, source)),
    }
}

/// The registration that the name leads to, locked, as [`lock_current`] does with an object.
fn lock_registration(
    name: &ObjectName,
    registered: &str,
) -> Result<(Registration, Option<FileLock>), AttachError> {
    loop {
        let found = registry::find(registered).map_err(|source| refused("open", name, source))?;
        let not_found = || AttachError::NotFound { name: name.to_string() };
        let registration = found.ok_or_else(not_found)?;
        let lock = match registration.lock(CREATION_DEADLINE) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Err(source) => return Err(refused("flock", name, source)),
        };
        if registration.is_current() {
            return Ok((registration, lock));
        }
    }
}

pub(super) fn refused(
    call: &'static str,
    name: &impl fmt::Display,
    source: io::Error,
) -> AttachError {
    let shown = name.to_string();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::EINVAL | libc::EIDRM) => AttachError::NotFound { name: shown },
        Some(libc::EACCES | libc::EPERM) => {
            AttachError::PermissionDenied { name: shown, access: "writing" }
        }
        _ => AttachError::System { call, name: shown, source },
    }
}
