//! Making and destroying a segment.

use std::io;
use std::os::unix::fs::FileTypeExt;

use super::Store;
use super::attach::{Access, attach, check_start, validate};
use crate::config::{CreateOptions, HashKind};
use crate::error::{AttachError, Corruption, CreateError};
use crate::hash::{self, Hasher};
use crate::layout::{
    FEATURE_CHECKSUMS, FEATURE_OTHER_HASH, FORMAT_WORD, Plan, STATE_LIVE, STATE_RETIRED, Segment,
    Superblock, format_version_of,
};
use crate::region::{Region, Shim};
use crate::sys::clock;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectName};

/// The guards of this version: owner-named futex semaphores.
const GUARD_FUTEX: u64 = 1;
/// Mode word: refuse when full.
const MODE_STORE: u64 = 1;

/// Makes a store and attaches it read-write.
///
/// Until it is whole, openers wait for it; if it can't be made, nothing is left behind.
///
/// # Errors
/// See [`CreateError`].
pub fn create<S: Shim>(
    name: &ObjectName,
    options: &CreateOptions,
) -> Result<Store<S>, CreateError> {
    let shown = name.path().display().to_string();
    let plan = Plan::of(options)?;
    let checksums = options.checksums.unwrap_or(matches!(name, ObjectName::File(_)));
    let lock = name.create().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => in_the_way(name, &shown),
        io::ErrorKind::PermissionDenied => {
            CreateError::PermissionDenied { name: shown.clone(), source }
        }
        _ => CreateError::System { call: "open", name: shown.clone(), source },
    })?;
    let made = (|| {
        let bytes = plan.geometry.segment_bytes;
        let free = lock.free_bytes();
        lock.shape(bytes, plan.committed_bytes, options.permissions, options.group).map_err(
            |(call, source)| match source.raw_os_error() {
                Some(libc::ENOSPC) => {
                    let needed = plan.committed_bytes;
                    CreateError::NoRoom { name: shown.clone(), needed, free }
                }
                Some(libc::EPERM) => CreateError::PermissionDenied { name: shown.clone(), source },
                _ => CreateError::System { call, name: shown.clone(), source },
            },
        )?;
        let object = lock.object().map_err(|source| CreateError::System {
            call: "dup",
            name: shown.clone(),
            source,
        })?;
        let mapping = map_new(&object, bytes, &shown)?;
        initialise::<S>(
            &Region::of_object(mapping, object),
            &plan,
            checksums,
            (options.hash, Hasher::random_words(options.hash)),
        )
        .map_err(AttachError::from)?;
        Ok(())
    })();
    match made {
        Ok(()) => {
            drop(lock);
            // Permissions that shut its creator out must not leave a store behind.
            attach(name, Access::ReadWrite).map_err(|error| {
                let _ = name.unlink();
                error.into()
            })
        }
        Err(error) => {
            let _ = name.unlink();
            Err(error)
        }
    }
}

/// What has the name that a store was to get: a store, whole or not, or something foreign, which
/// nobody should be told to remove.
fn in_the_way(name: &ObjectName, shown: &str) -> CreateError {
    match foreign_kind(name) {
        Some(kind) => CreateError::Occupied { name: shown.to_owned(), kind },
        None => CreateError::Exists { name: shown.to_owned() },
    }
}

/// What an object is, if it can be told that it is no store.
fn foreign_kind(name: &ObjectName) -> Option<&'static str> {
    let kind = std::fs::symlink_metadata(name.path()).ok()?.file_type();
    if kind.is_symlink() {
        return Some("a symbolic link");
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        return Some("a special file");
    }
    let mut word = [0; 8];
    name.open(false).ok()?.read_start(&mut word).ok()?;
    let word = u64::from_le_bytes(word);
    // No word is there until the creator is done.
    (word != 0 && format_version_of(word).is_none()).then_some("a file of another kind")
}

fn map_new(object: &Object, bytes: u64, shown: &str) -> Result<Mapping, CreateError> {
    let system = |source| CreateError::System { call: "mmap", name: shown.to_owned(), source };
    let bytes = usize::try_from(bytes).map_err(|_| system(io::ErrorKind::OutOfMemory.into()))?;
    Mapping::of_object(object.as_fd(), bytes, true).map_err(system)
}

/// A private store of this process, in anonymous memory that is taken as it is used.
///
/// # Errors
/// `InvalidOption`, or `System` where there is no address space.
pub fn private<S: Shim>(options: &CreateOptions) -> Result<Store<S>, CreateError> {
    private_in(options, Mapping::private, Hasher::random_words(options.hash))
}

/// A private store from the allocator, with the same hash secrets for the same seed: for tests
/// that must be repeatable, for Miri and for sanitizers, which see every access to it.
///
/// # Errors
/// `InvalidOption`.
pub fn private_on_heap<S: Shim>(
    options: &CreateOptions,
    seed: u64,
) -> Result<Store<S>, CreateError> {
    private_in(options, |bytes| Ok(Mapping::heap(bytes)), Hasher::words_of_seed(seed))
}

/// A private store from the bytes of another one ([`Store::image`], or a file): nothing in them is
/// believed before it was checked, and who wrote them is not touched by what is done to it.
///
/// # Errors
/// Those of [`attach`].
pub fn from_image<S: Shim>(image: &[u8]) -> Result<Store<S>, AttachError> {
    let shown = "an image";
    check_start(image, image.len() as u64, shown)?;
    let region = Region::private(Mapping::heap(image.len()));
    let words = region.words(0, image.len() as u64 / 8)?;
    crate::region::copy_in::<S>(&image[..words.len() * 8], words);
    validate(region.view(0)?, true, shown)?;
    Ok(Store::over(region, shown.to_owned())?)
}

fn private_in<S: Shim>(
    options: &CreateOptions,
    map: impl FnOnce(usize) -> io::Result<Mapping>,
    secrets: [u64; 8],
) -> Result<Store<S>, CreateError> {
    let name = "a private store";
    let plan = Plan::of(options)?;
    let mapping = map(plan.geometry.segment_bytes as usize)
        .map_err(|source| CreateError::System { call: "mmap", name: name.to_owned(), source })?;
    let region = Region::private(mapping);
    let checksums = options.checksums.unwrap_or(false);
    initialise::<S>(&region, &plan, checksums, (options.hash, secrets))
        .map_err(AttachError::from)?;
    let store = Store::over(region, name.to_owned()).map_err(AttachError::from)?;
    Ok(store)
}

/// Writes everything that is not zero into a new segment, the format word last.
///
/// Dies before the format word: openers find none and say that the creator died.
fn initialise<S: Shim>(
    region: &Region,
    plan: &Plan,
    checksums: bool,
    (hash, secrets): (HashKind, [u64; 8]),
) -> Result<(), Corruption> {
    let superblock = region.view::<Superblock>(0)?;
    let uuid = uuid::Uuid::new_v4().as_u128();
    let boot = clock::boot_id();
    let geometry = &plan.geometry;
    for (cell, value) in geometry.fields(superblock) {
        cell.store::<S>(value);
    }
    for (cell, value) in superblock.hash_secrets.iter().zip(secrets) {
        cell.store::<S>(value);
    }
    let features = if checksums { FEATURE_CHECKSUMS } else { 0 }
        | if hash == HashKind::Rapidhash { 0 } else { FEATURE_OTHER_HASH };
    let words = [
        (&superblock.features_required, features),
        (&superblock.uuid[0], uuid as u64),
        (&superblock.uuid[1], (uuid >> 64) as u64),
        (&superblock.created_unix_ms, clock::wall_ms()),
        (&superblock.mode, MODE_STORE),
        (&superblock.guard_kind, GUARD_FUTEX),
        (&superblock.hash_kind, hash::number_of(hash)),
        (&superblock.hash_check, Hasher::new(hash, secrets).self_test()),
        (&superblock.index_size, geometry.buckets),
        (&superblock.next_stamp, 4096),
        (&superblock.clock_offset_ms, fresh_clock_offset_ms()),
        (&superblock.boot_id[0], boot as u64),
        (&superblock.boot_id[1], (boot >> 64) as u64),
        (&superblock.state, STATE_LIVE),
    ];
    for (cell, value) in words {
        cell.store::<S>(value);
    }
    for extent in 0..plan.extents_committed {
        let generation = geometry.generations_offset + u64::from(extent) * 8;
        region.view::<crate::region::Cell64>(generation)?.store::<S>(1);
    }
    superblock.format.store::<S>(FORMAT_WORD);
    Ok(())
}

/// The offset that makes the segment's time the wall clock's, now.
pub(super) fn fresh_clock_offset_ms() -> u64 {
    clock::wall_ms().wrapping_sub(clock::monotonic_coarse_ms())
}

/// Destroys a store: marks it retired, so that clients that still have it can tell, and removes
/// its name. Mappings that stand go on working on memory that nobody else will find.
///
/// # Errors
/// `NotFound`, `PermissionDenied`, `NotAStore` for a file of another kind, `SymbolicLink` for a link
/// to one, or `System`.
pub fn destroy(name: &ObjectName) -> Result<(), AttachError> {
    let shown = || name.path().display().to_string();
    match attach::<crate::region::Plain>(name, Access::ReadWrite) {
        Ok(store) => {
            store.segment.superblock().state.store::<crate::region::Plain>(STATE_RETIRED);
        }
        // Somebody's file, or a link to one. In shared memory the name alone says that it is meant
        // to be a store.
        Err(
            error @ (AttachError::NotAStore { .. }
            | AttachError::SymbolicLink { .. }
            | AttachError::System { .. }),
        ) if matches!(name, ObjectName::File(_)) => {
            return Err(error);
        }
        // Half-made and truncated ones have no state word to mark, and are removed too.
        Err(_) => {}
    }
    name.unlink().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttachError::NotFound { name: shown() },
        io::ErrorKind::PermissionDenied => {
            AttachError::PermissionDenied { name: shown(), access: "writing" }
        }
        _ => AttachError::System { call: "unlink", name: shown(), source },
    })
}

impl<S: Shim> Store<S> {
    /// The bytes of the segment, a word at a time: exact if nobody writes meanwhile.
    ///
    /// # Errors
    /// `Corruption` where the mapping is shorter than the segment.
    pub fn image(&self) -> Result<Vec<u8>, Corruption> {
        let bytes = self.segment.geometry.segment_bytes;
        let mut image = Vec::new();
        let words = self.segment.region.words(0, bytes / 8)?;
        crate::region::append_out(words, bytes as usize, &mut image);
        Ok(image)
    }

    /// Over a region that holds a whole segment.
    pub(super) fn over(region: Region, name: String) -> Result<Self, Corruption> {
        let segment = Segment::new(region)?;
        let superblock = segment.superblock();
        let boot = clock::boot_id();
        let same_boot = superblock.boot_id[0].load() == boot as u64
            && superblock.boot_id[1].load() == (boot >> 64) as u64;
        let clock_offset_ms =
            if same_boot { superblock.clock_offset_ms.load() } else { fresh_clock_offset_ms() };
        Ok(Self { segment, name, clock_offset_ms })
    }
}
