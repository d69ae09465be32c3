//! Making a segment.

use std::io;
use std::mem::offset_of;
use std::sync::OnceLock;
use std::time::Duration;

use super::Store;
use super::attach::{Access, attach, check_start, kind_of_no_file, validate};
use super::name::{ObjectName, Place};
use crate::config::{CreateOptions, GuardKind, HashKind, HugePages, Mode};
use crate::error::{AttachError, Corruption, CreateError};
use crate::hash::{self, Hasher};
use crate::layout::{
    ExtentEntry, ExtentState, ExtentWord, FEATURE_CHECKSUMS, FEATURE_HUGE_PAGES,
    FEATURE_OTHER_GUARD, FEATURE_OTHER_HASH, FEATURE_OTHER_MODE, FEATURE_POOL, FORMAT_WORD,
    GUARD_FUTEX, GUARD_SYSTEM_V, Line, MODE_CACHE, MODE_STORE, Plan, STATE_LIVE, Segment,
    Superblock, format_version_of,
};
use crate::region::{Cell64, Plain, Region, Shim};
use crate::sys::holder::{Holder, available_memory};
use crate::sys::lock::FileLock;
use crate::sys::map::Mapping;
use crate::sys::object::{Object, ObjectPlace, Shape};
use crate::sys::pages::{Pages, free_huge_bytes};
use crate::sys::process::own_ipc_namespace;
use crate::sys::registry::{self, Record, Registration};
use crate::sys::sysv::SharedSegment;
use crate::sys::{clock, limits, random, sysv};

/// Where the superblock has its length: the first word that a creator writes, so that a store that
/// was never finished is known from what is none.
const SEGMENT_BYTES_AT: u64 = offset_of!(Superblock, segment_bytes) as u64;

/// What a private store is called in errors.
const PRIVATE: &str = "a private store";

/// Makes a store and attaches it read-write.
///
/// Until it is whole, openers wait for it; if it can't be made, nothing is left behind.
///
/// # Errors
/// See [`CreateError`]; `Unsupported` for a descriptor.
pub fn create<S: Shim>(
    name: &ObjectName,
    options: &CreateOptions,
) -> Result<Store<S>, CreateError> {
    let shown = name.to_string();
    let checksums = options.checksums.unwrap_or(matches!(name, ObjectName::File(_)));
    let place = name.place();
    let pages = match &place {
        Place::Object(object) => object_pages(object, options)?,
        _ => pages_of(options),
    };
    let new = New::of(options, checksums, pages, &shown)?;
    match place {
        Place::Object(ObjectPlace::Descriptor(_)) => Err(CreateError::Unsupported {
            what: "making a store in a descriptor".to_owned(),
            remedy: "a program makes one with Writer::memfd and passes its descriptor on",
        }),
        Place::Object(place) => new.in_object::<S>(&place),
        Place::Key(key) => {
            let segment = SharedSegment::create(Some(key), new.bytes, new.pages)
                .map_err(|source| segment_refused(source, &new))?;
            new.in_segment::<S>(segment).inspect_err(|_| drop(segment.remove()))
        }
        Place::Segment(_) => Err(CreateError::Unsupported {
            what: "choosing the id of a System V segment".to_owned(),
            remedy: "give it a name or a key",
        }),
        Place::Registered(registered) => new.in_registered_segment::<S>(registered, name),
    }
}

/// A store that is about to be made.
pub(super) struct New<'a> {
    plan: Plan,
    options: &'a CreateOptions,
    checksums: bool,
    uuid: u128,
    bytes: usize,
    pages: Pages,
    shown: &'a str,
}

/// The pages of a store that is in no file system.
pub(super) fn pages_of(options: &CreateOptions) -> Pages {
    if options.huge_pages == HugePages::Reserved { Pages::HUGE } else { Pages::SMALL }
}

/// The pages of a named object: those of its file system.
fn object_pages(place: &ObjectPlace<'_>, options: &CreateOptions) -> Result<Pages, CreateError> {
    let pages = place.pages();
    if options.huge_pages == HugePages::Reserved && !pages.are_huge() {
        return Err(CreateError::Unsupported {
            what: format!("taking huge pages of the pool for {place}"),
            remedy: "make it as file:PATH on a hugetlbfs mount, or ask for transparent ones",
        });
    }
    Ok(pages)
}

impl<'a> New<'a> {
    pub(super) fn of(
        options: &'a CreateOptions,
        checksums: bool,
        pages: Pages,
        shown: &'a str,
    ) -> Result<Self, CreateError> {
        let plan = match pages.are_huge() {
            true => Plan::in_pages(options, pages.bytes() as u64)?,
            false => Plan::of(options)?,
        };
        clock::prepare().map_err(|source| CreateError::System {
            call: "reading the boot id",
            name: shown.to_owned(),
            source,
        })?;
        let bytes = usize::try_from(plan.geometry.segment_bytes).unwrap_or(usize::MAX);
        let uuid = random::id().map_err(no_random_numbers(shown))?;
        Ok(Self { plan, options, checksums, uuid, bytes, pages, shown })
    }

    /// What its memory is to come in.
    pub(super) fn pages(&self) -> Pages {
        self.pages
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn in_object<S: Shim>(&self, place: &ObjectPlace<'_>) -> Result<Store<S>, CreateError> {
        let (object, lock) = place.create().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => in_the_way(place, self.shown),
            _ => self.refused("open", source),
        })?;
        let made = object.metadata().map_err(|source| {
            // It was made just now, and is locked: nobody else's has the name.
            let _ = place.unlink();
            self.refused("fstat", source)
        })?;
        let store = self
            .fill_object::<S>(object)
            .and_then(|region| self.attached(region))
            .inspect_err(|_| drop(place.unlink_made(&made)));
        // Until here: it keeps the inode from being given to another object, too.
        drop(lock);
        store
    }

    /// Gives an object its length, its memory and its bytes.
    pub(super) fn fill_object<S: Shim>(&self, object: Object) -> Result<Region, CreateError> {
        // What can't be written to is marked by whoever maps it, before it gets its memory.
        let is_marked = !self.pages.are_huge();
        let shape = Shape {
            bytes: self.plan.geometry.segment_bytes,
            committed: if is_marked { self.plan.committed_bytes } else { 0 },
            permissions: self.options.permissions,
            group: self.options.group,
            mark: (SEGMENT_BYTES_AT, self.plan.geometry.segment_bytes),
        };
        let needed = self.plan.geometry.segment_bytes;
        if let Some(limit) = limits::file_bytes().filter(|limit| *limit < needed) {
            let name = self.shown.to_owned();
            return Err(CreateError::FileSizeLimit { name, needed, limit });
        }
        let free = object.free_bytes();
        object.shape(&shape).map_err(|(call, source)| self.no_room_or(call, source, free))?;
        let mapping = Mapping::of_object(object.as_fd(), self.bytes, true, self.pages)
            .map_err(|source| self.no_pages_or("mmap", source))?;
        let region = Region::of(mapping, Holder::Object(object));
        self.ask_for_huge_pages(&region);
        if !is_marked {
            let length = &region.view::<Superblock>(0).map_err(AttachError::from)?.segment_bytes;
            length.store::<S>(needed);
        }
        if !is_marked || self.options.huge_pages == HugePages::Transparent {
            region.commission(0, self.plan.committed_bytes).map_err(|source| {
                match self.pages.are_huge() {
                    true => self.no_pages_or("fallocate", source),
                    false => self.no_room_or("fallocate", source, free),
                }
            })?;
        }
        self.initialise::<S>(&region)?;
        Ok(region)
    }

    fn ask_for_huge_pages(&self, region: &Region) {
        if self.options.huge_pages == HugePages::Transparent {
            region.ask_for_huge_pages();
        }
    }

    fn in_registered_segment<S: Shim>(
        &self,
        registered: &str,
        name: &ObjectName,
    ) -> Result<Store<S>, CreateError> {
        let (registration, lock) = self.register(registered, name)?;
        let segment = match SharedSegment::create(None, self.bytes, self.pages) {
            Ok(segment) => segment,
            Err(source) => {
                let _ = registration.remove_current();
                return Err(segment_refused(source, self));
            }
        };
        let record = |ipc_namespace| Record {
            id: segment.id(),
            uuid: self.uuid,
            boot: clock::boot_id(),
            ipc_namespace,
        };
        // Locked until it is whole: nobody takes the registration for a stale one.
        let made = own_ipc_namespace()
            .and_then(|ipc_namespace| registration.write(&record(ipc_namespace)))
            .map_err(|source| self.refused("write", source))
            .and_then(|()| self.in_segment::<S>(segment))
            .inspect_err(|_| {
                let _ = segment.remove();
                let _ = registration.remove_current();
            });
        drop(lock);
        made
    }

    /// Registers a name that leads nowhere, or to a segment that is gone.
    fn register(
        &self,
        registered: &str,
        name: &ObjectName,
    ) -> Result<(Registration, FileLock), CreateError> {
        for _ in 0..16 {
            match attach::<Plain>(name, Access::ReadOnly) {
                Err(AttachError::NotFound { .. }) => {}
                Err(AttachError::Stale { .. }) => self.unregister(registered, name)?,
                // Nobody knows what is there.
                Err(error @ AttachError::System { .. }) => return Err(error.into()),
                _ => return Err(CreateError::Exists { name: self.shown.to_owned() }),
            }
            match registry::create(registered) {
                // Another creator was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Ok((registration, lock)) => match registration.is_current() {
                    Ok(true) => return Ok((registration, lock)),
                    // Somebody removed the name before it was locked.
                    Ok(false) => {}
                    Err(source) => {
                        let _ = registration.remove_current();
                        return Err(self.refused("stat", source));
                    }
                },
                Err(source) => return Err(self.refused("open", source)),
            }
        }
        Err(CreateError::Exists { name: self.shown.to_owned() })
    }

    /// Removes the registration of a store that is gone, if it still is one of such a store when
    /// it is locked: somebody else may have made a new store under the name.
    fn unregister(&self, registered: &str, name: &ObjectName) -> Result<(), CreateError> {
        let failed = |source| self.refused("unlink", source);
        let Some(registration) = registry::find(registered).map_err(failed)? else {
            return Ok(());
        };
        let Ok(_lock) = registration.lock(Duration::ZERO) else { return Ok(()) };
        let filled_in = registration.record().map_err(failed)?.is_some();
        if filled_in
            && matches!(attach::<Plain>(name, Access::ReadOnly), Err(AttachError::Stale { .. }))
        {
            registration.remove_current().map_err(failed)?;
        }
        Ok(())
    }

    /// Gives a segment its mark, its mode, its memory and its bytes. Dies before the mark: the mode
    /// that the segment was made with tells what it is.
    fn in_segment<S: Shim>(&self, segment: SharedSegment) -> Result<Store<S>, CreateError> {
        let mapping =
            Mapping::of_segment(segment, true).map_err(|source| self.refused("shmat", source))?;
        let region = Region::of(mapping, Holder::SystemV(segment));
        let length = &region.view::<Superblock>(0).map_err(AttachError::from)?.segment_bytes;
        length.store::<S>(self.plan.geometry.segment_bytes);
        segment
            .set(None, self.options.group, Some(self.options.permissions))
            .map_err(|source| self.refused("shmctl", source))?;
        self.fill::<S>(&region)?;
        self.attached(region)
    }

    /// The store that was made, by its own mapping: what the name leads to by now may be another.
    fn attached<S: Shim>(&self, region: Region) -> Result<Store<S>, CreateError> {
        Ok(Store::over(region, self.shown.to_owned()).map_err(AttachError::from)?)
    }

    /// Gives memory without a descriptor its bytes.
    pub(super) fn fill<S: Shim>(&self, region: &Region) -> Result<(), CreateError> {
        self.ask_for_huge_pages(region);
        let free = available_memory().unwrap_or(0);
        region
            .commission(0, self.plan.committed_bytes)
            .map_err(|source| self.no_room_or("madvise(MADV_POPULATE_WRITE)", source, free))?;
        self.initialise::<S>(region)
    }

    fn initialise<S: Shim>(&self, region: &Region) -> Result<(), CreateError> {
        let hash = self.options.hash;
        let kinds = Kinds {
            checksums: self.checksums,
            guard: self.options.guard,
            hash,
            mode: self.options.mode,
            huge_pages: self.options.huge_pages,
            heat_permissions: self.options.heat_permissions,
            secrets: random_words(hash, self.shown)?,
        };
        initialise::<S>(region, &self.plan, self.uuid, kinds)
            .map_err(|corruption| AttachError::from(corruption).into())
    }

    pub(super) fn refused(&self, call: &'static str, source: io::Error) -> CreateError {
        let name = self.shown.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { name },
            io::ErrorKind::PermissionDenied => CreateError::PermissionDenied { name, source },
            _ => CreateError::System { call, name, source },
        }
    }

    /// What the kernel says where the pool has not enough huge pages.
    pub(super) fn no_pages_or(&self, call: &'static str, source: io::Error) -> CreateError {
        match source.raw_os_error() {
            Some(libc::ENOMEM | libc::ENOSPC) if self.pages.are_huge() => {
                no_pages(self.shown, self.bytes as u64)
            }
            _ => self.refused(call, source),
        }
    }

    fn no_room_or(&self, call: &'static str, source: io::Error, free: u64) -> CreateError {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::ENOMEM) => {
                let name = self.shown.to_owned();
                CreateError::NoRoom { name, needed: self.plan.committed_bytes, free }
            }
            _ => self.refused(call, source),
        }
    }
}

/// The pool has too few huge pages.
fn no_pages(shown: &str, needed: u64) -> CreateError {
    let free = free_huge_bytes().unwrap_or(0);
    CreateError::NoHugePages { name: shown.to_owned(), needed, free }
}

/// What has the name that a store was to get: a store, whole or not, or something foreign, which
/// nobody should be told to remove.
fn in_the_way(place: &ObjectPlace<'_>, shown: &str) -> CreateError {
    match foreign_kind(place) {
        Some(kind) => CreateError::Occupied { name: shown.to_owned(), kind },
        None => CreateError::Exists { name: shown.to_owned() },
    }
}

/// What an object is, if it can be told that it is no store.
fn foreign_kind(place: &ObjectPlace<'_>) -> Option<&'static str> {
    let kind = std::fs::symlink_metadata(place.path()).ok()?.file_type();
    if kind.is_symlink() {
        return Some("a symbolic link");
    }
    if let Some(kind) = kind_of_no_file(kind) {
        return Some(kind);
    }
    let mut word = [0; 8];
    place.open(false).ok()?.read_start(&mut word).ok()?;
    let word = u64::from_le_bytes(word);
    // No word is there until the creator is done.
    (word != 0 && format_version_of(word).is_none()).then_some("a file of another kind")
}

/// What the kernel's refusal to make a System V segment means.
fn segment_refused(source: io::Error, new: &New<'_>) -> CreateError {
    let limit = |limit| CreateError::Limit {
        name: new.shown.to_owned(),
        limit,
        value: sysv::limit(limit).unwrap_or(0),
    };
    match source.raw_os_error() {
        Some(libc::ENOMEM) if new.pages.are_huge() => no_pages(new.shown, new.bytes as u64),
        Some(libc::EINVAL) => limit("shmmax"),
        Some(libc::ENOSPC) => {
            let used = sysv::list().map_or(0, |list| list.len() as u64);
            let ids_are_used_up = sysv::limit("shmmni").is_some_and(|limit| used >= limit);
            limit(if ids_are_used_up { "shmmni" } else { "shmall" })
        }
        _ => new.refused("shmget", source),
    }
}

/// Secrets of the hash function for a new segment.
fn random_words(kind: HashKind, shown: &str) -> Result<[u64; 8], CreateError> {
    let random = random::bytes().map_err(no_random_numbers(shown))?;
    Ok(Hasher::words_of_random(kind, &random))
}

fn no_random_numbers(shown: &str) -> impl Fn(io::Error) -> CreateError + '_ {
    move |source| CreateError::System { call: "getrandom", name: shown.to_owned(), source }
}

/// A private store of this process, in anonymous memory that is taken as it is used.
///
/// # Errors
/// `InvalidOption`, or `System` where there is no address space.
pub fn private<S: Shim>(options: &CreateOptions) -> Result<Store<S>, CreateError> {
    let pages = pages_of(options);
    let map = |bytes| {
        Mapping::private(bytes, pages).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOMEM) if pages.are_huge() => no_pages(PRIVATE, bytes as u64),
            _ => CreateError::System { call: "mmap", name: PRIVATE.to_owned(), source },
        })
    };
    private_in(options, map, random_words(options.hash, PRIVATE)?)
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
    map: impl FnOnce(usize) -> Result<Mapping, CreateError>,
    secrets: [u64; 8],
) -> Result<Store<S>, CreateError> {
    let plan = Plan::of(options)?;
    let region = Region::private(map(plan.geometry.segment_bytes as usize)?);
    if options.huge_pages == HugePages::Transparent {
        region.ask_for_huge_pages();
    }
    let uuid = random::id().map_err(no_random_numbers(PRIVATE))?;
    let kinds = Kinds {
        checksums: options.checksums.unwrap_or(false),
        guard: GuardKind::Futex,
        hash: options.hash,
        mode: options.mode,
        huge_pages: options.huge_pages,
        heat_permissions: 0,
        secrets,
    };
    initialise::<S>(&region, &plan, uuid, kinds).map_err(AttachError::from)?;
    let store = Store::over(region, PRIVATE.to_owned()).map_err(AttachError::from)?;
    Ok(store)
}

/// What a creator chose, and the secrets of its hash function.
struct Kinds {
    checksums: bool,
    guard: GuardKind,
    hash: HashKind,
    mode: Mode,
    huge_pages: HugePages,
    heat_permissions: u32,
    secrets: [u64; 8],
}

/// Writes everything that is not zero into a new segment, the format word last.
///
/// Dies before the format word: openers find none and say that the creator died.
fn initialise<S: Shim>(
    region: &Region,
    plan: &Plan,
    uuid: u128,
    kinds: Kinds,
) -> Result<(), Corruption> {
    let Kinds { checksums, guard, hash, mode, huge_pages, heat_permissions, secrets } = kinds;
    let superblock = region.view::<Superblock>(0)?;
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
    let (guard, features_to_write) = match guard {
        GuardKind::Futex => (GUARD_FUTEX, 0),
        GuardKind::SystemV => (GUARD_SYSTEM_V, FEATURE_OTHER_GUARD),
    };
    let (mode, of_mode) = match mode {
        Mode::Store => (MODE_STORE, 0),
        Mode::Cache => (MODE_CACHE, FEATURE_OTHER_MODE),
    };
    let optional = match huge_pages {
        HugePages::Default => 0,
        HugePages::Transparent => FEATURE_HUGE_PAGES,
        HugePages::Reserved => FEATURE_POOL,
    };
    let words = [
        (&superblock.features_required, features),
        (&superblock.features_optional, optional),
        (&superblock.features_to_write, features_to_write | of_mode),
        (&superblock.uuid[0], uuid as u64),
        (&superblock.uuid[1], (uuid >> 64) as u64),
        (&superblock.created_unix_ms, clock::wall_ms()),
        (&superblock.mode, mode),
        (&superblock.guard_kind, guard),
        (&superblock.heat_permissions, heat_permissions.into()),
        (&superblock.hash_kind, hash::number_of(hash)),
        (&superblock.hash_check, Hasher::new(hash, secrets).self_test()),
        (&superblock.index_size, plan.buckets),
        (&superblock.overflow_extents, 1),
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
        region.view::<Cell64>(generation)?.store::<S>(1);
    }
    let of_buckets = plan.buckets.div_ceil(1 << geometry.line_shift());
    for number in 0..=of_buckets {
        let (entry, word) = if number < of_buckets {
            (number, ExtentWord::of_index(ExtentState::Buckets, number, None))
        } else {
            (u64::from(geometry.extents) - 1, ExtentWord::of_index(ExtentState::Overflow, 0, None))
        };
        let extent = number as u32;
        let first_line = geometry.extent_offset(extent) / size_of::<Line>() as u64;
        region.view::<Cell64>(geometry.directory_offset + entry * 8)?.store::<S>(first_line);
        let at = geometry.extents_offset + number * size_of::<ExtentEntry>() as u64;
        region.view::<ExtentEntry>(at)?.word.store::<S>(word.word());
    }
    superblock.format.store::<S>(FORMAT_WORD);
    Ok(())
}

/// The offset that makes the segment's time the wall clock's, now.
fn fresh_clock_offset_ms() -> u64 {
    clock::wall_ms().wrapping_sub(clock::monotonic_coarse_ms())
}

/// The offset after a reboot: the wall clock may have been set back since, and what has expired does
/// not come back. How long the machine was off nobody knows then.
fn later_offset_ms(superblock: &Superblock) -> u64 {
    let back = superblock.closed_ms.load().saturating_sub(clock::wall_ms());
    fresh_clock_offset_ms().wrapping_add(back)
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
        if superblock.features_optional.load() & FEATURE_HUGE_PAGES != 0 {
            segment.region.ask_for_huge_pages();
        }
        let boot = clock::boot_id();
        let same_boot = superblock.boot_id[0].load() == boot as u64
            && superblock.boot_id[1].load() == (boot >> 64) as u64;
        let clock_offset_ms =
            if same_boot { superblock.clock_offset_ms.load() } else { later_offset_ms(superblock) };
        Ok(Self { segment, name, clock_offset_ms, reader_heat: OnceLock::new(), tally: None })
    }
}
