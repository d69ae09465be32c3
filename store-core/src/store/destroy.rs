//! Destroying a store.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use super::Store;
use super::attach::{Access, CREATION_DEADLINE, attach, creator_lives, map_record, open, word_of};
use super::guard_set::remove_guards;
use super::name::{ObjectName, Place};
use crate::error::AttachError;
use crate::layout::{STATE_LIVE, STATE_RETIRED, SUPERBLOCK_BYTES, Superblock};
use crate::region::{Plain, Region};
use crate::sys::holder::Holder;
use crate::sys::lock::FileLock;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectPlace};
use crate::sys::registry::{self, Registration};
use crate::sys::rights::may_remove;
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
    let (object, _lock) = match lock_current(name, place) {
        Ok(locked) => locked,
        Err(error @ AttachError::NotFound { .. }) => return Err(error),
        // In shared memory the name alone says that it is meant to be a store.
        Err(error) if is_file => return Err(error),
        Err(_) => return place.unlink().map_err(|source| refused("unlink", name, source)),
    };
    let found = object.metadata().map_err(|source| refused("fstat", name, source))?;
    let format = format_of(name, &object, is_file)?;
    // Before anything is stored: its clients believe the state word at once.
    if !place.may_unlink(&found) {
        return Err(AttachError::NotRemovable { name: name.to_string() });
    }
    // What can't be attached has no state word to mark.
    let store = match format {
        0 => None,
        _ => attach_for_marking(&object),
    };
    if let Some(store) = &store {
        store.set_state(STATE_RETIRED);
    }
    let unlinked = place.unlink_made(&found).map_err(|source| {
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

/// This very object, whatever its name leads to by now, if its state word may be written.
fn attach_for_marking(object: &Object) -> Option<Store<Plain>> {
    let writable = object.writable().ok()?;
    attach(&ObjectName::Descriptor(writable.as_fd().as_raw_fd()), Access::ReadWrite).ok()
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
        if object.metadata().is_ok_and(|found| place.leads_to(&found)) {
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
fn is_store(format: u64, segment_bytes: u64, length: u64) -> bool {
    let unfinished = format == 0 && segment_bytes == length && length >= SUPERBLOCK_BYTES;
    crate::layout::format_version_of(format).is_some() || unfinished
}

/// Whether a segment holds a store, or the beginning of one. Needs [`SUPERBLOCK_BYTES`].
pub(super) fn holds_store(segment: SharedSegment, region: &Region) -> Result<bool, AttachError> {
    let superblock = region.view::<Superblock>(0)?;
    let (format, bytes) = (superblock.format.load(), superblock.segment_bytes.load());
    // The kernel rounds no length that `IPC_STAT` tells.
    let is_begun = || format == 0 && bytes == 0 && segment.status().is_ok_and(|it| it.is_new());
    Ok(is_store(format, bytes, region.bytes()) || is_begun())
}

fn destroy_segment(name: &ObjectName, segment: SharedSegment) -> Result<(), AttachError> {
    let mapping = Mapping::of_segment(segment, true)
        .or_else(|_| Mapping::of_segment(segment, false))
        .map_err(|source| refused("shmat", name, source))?;
    let region = Region::of(mapping, Holder::SystemV(segment));
    if region.bytes() < SUPERBLOCK_BYTES {
        return Err(AttachError::NotAStore { name: name.to_string(), found: 0 });
    }
    let superblock = region.view::<Superblock>(0)?;
    let found = superblock.format.load();
    if !holds_store(segment, &region)? {
        return Err(AttachError::NotAStore { name: name.to_string(), found });
    }
    // Its maker is between two calls, or another program's segment looks as if.
    let status = segment.status().map_err(|source| refused("shmctl", name, source))?;
    if status.is_new() && found == 0 && creator_lives(segment).unwrap_or(true) {
        return Err(AttachError::Unfinished { name: name.to_string(), creator_alive: true });
    }
    // Before anything is stored: its clients believe the state word at once.
    if !may_remove(status.ownership, status.creator_uid) {
        return Err(AttachError::NotRemovable { name: name.to_string() });
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
    // A registration that leads to no store, or to another one, is removed all the same.
    let record = match record.map(|record| (record, map_record(&record, false, &name.to_string())))
    {
        None | Some((_, Err(AttachError::Stale { .. }))) => None,
        Some((_, Err(error @ AttachError::ForeignIpcNamespace { .. }))) => return Err(error),
        Some((record, _)) => Some(record),
    };
    if let Some(record) = record {
        match destroy_segment(name, SharedSegment::of_id(record.id)) {
            // Somebody else was faster.
            Err(AttachError::NotFound { .. }) => {}
            other => other?,
        }
    }
    let lives = record.is_some();
    match registration.remove_current() {
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
        if registration.is_current().map_err(|source| refused("stat", name, source))? {
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
