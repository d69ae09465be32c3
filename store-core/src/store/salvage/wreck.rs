//! A segment that may be damaged anywhere, mapped read-only, and what of it is believed.

use std::collections::HashMap;

use crate::config::{GuardKind, HashKind, Mode};
use crate::error::{AttachError, Corruption};
use crate::hash::Hasher;
use crate::layout::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN};
use crate::layout::{
    ExtentEntry, ExtentState, ExtentWord, FEATURE_CHECKSUMS, FORMAT_VERSION, GUARD_SYSTEM_V,
    Header, Line, MODE_CACHE, NAMESPACE_NAME_BYTES, NamespaceRecord, NamespaceWord, REDO_WORDS,
    RedoRecord, SUPERBLOCK_BYTES, Superblock, format_version_of,
};
use crate::region::{Cell64, Region, append_out};
use crate::store::attach::{map, of_segment, open, system};
use crate::store::name::{ObjectName, Place};
use crate::store::namespace::name_of;
use crate::store::session::STAMP_BLOCK;
use crate::sys::clock;
use crate::sys::holder::Holder;
use crate::sys::map::Mapping;
use crate::sys::registry;
use crate::sys::sysv::SharedSegment;

/// See the module. The segment should be at rest: what is written meanwhile is found or not.
#[derive(Debug)]
pub struct Wreck {
    pub(super) region: Region,
    name: String,
    pub(super) arena_offset: u64,
    pub(super) extent_bytes: u64,
    pub(super) extents: u64,
    /// The hash function, if its words are whole: without it no checksum can be verified.
    pub(super) hasher: Option<Hasher>,
    /// Whether each item must have a checksum, as the superblock says.
    pub(super) checksums_told: bool,
    /// No item has a later stamp, as the superblock says; `None` if that is no such number.
    pub(super) stamps_told: Option<u64>,
    /// From where on a slot has bits of the hash, if that can be.
    pub(super) slot_hash_shift: Option<u32>,
    /// What is added to the monotonic clock, as the superblock says.
    pub(super) clock_offset_ms: u64,
    /// The redo records, by the stamps of their items.
    redo: HashMap<u64, u64>,
}

/// What a record says of a namespace.
pub(super) struct RecordFound {
    pub(super) word: NamespaceWord,
    pub(super) name: String,
    pub(super) default_ttl_ms: u64,
    pub(super) quota_bytes: u64,
}

impl Wreck {
    /// Maps a segment, as it is, for reading. If its superblock does not tell where its extents are,
    /// `extent_bytes` does: they lie at its end, one behind the other.
    ///
    /// # Errors
    /// `NoGeometry` if neither tells; `NotAStore` if nothing says that it is one; `OtherVersion`;
    /// `NotFound`, `PermissionDenied` and others of [`attach`](crate::attach()).
    pub fn open(name: &ObjectName, extent_bytes: Option<u64>) -> Result<Self, AttachError> {
        let shown = name.to_string();
        clock::prepare().map_err(system("reading the boot id", &shown))?;
        let region = map_whole(name, &shown)?;
        if region.bytes() < SUPERBLOCK_BYTES {
            let word = region.view::<Cell64>(0).map_or(0, Cell64::load);
            if format_version_of(word).is_none() {
                return Err(AttachError::NotAStore { name: shown, found: word });
            }
            let (found, expected) = (region.bytes(), SUPERBLOCK_BYTES);
            return Err(AttachError::Truncated { name: shown, found, expected });
        }
        Self::over(region, shown, extent_bytes)
    }

    fn over(region: Region, name: String, extent_bytes: Option<u64>) -> Result<Self, AttachError> {
        let superblock = region.view::<Superblock>(0)?;
        if let Some(found) = format_version_of(superblock.format.load())
            && found != FORMAT_VERSION
            // Who says how large extents are has seen such a store: then that byte is damaged.
            && extent_bytes.is_none()
        {
            return Err(AttachError::OtherVersion { name, found, supported: FORMAT_VERSION });
        }
        let told = arena_told(superblock, region.bytes());
        let given = || {
            let whole = arena_at_end(region.bytes(), extent_bytes?)?;
            Some(without_head(&region, whole))
        };
        let Some((arena_offset, extent_bytes, extents)) = told.or_else(given) else {
            return Err(no_arena(superblock.format.load(), name));
        };
        let shift = u32::try_from(superblock.slot_hash_shift.load()).ok();
        let next_stamp = superblock.next_stamp.load();
        // Taken by whole blocks.
        let is_stamp = next_stamp >= STAMP_BLOCK && next_stamp.is_multiple_of(STAMP_BLOCK);
        let boot = clock::boot_id();
        let is_of_boot = superblock.boot_id[0].load() == boot as u64
            && superblock.boot_id[1].load() == (boot >> 64) as u64;
        let clock_offset_ms = if is_of_boot {
            superblock.clock_offset_ms.load()
        } else {
            clock::wall_ms().wrapping_sub(clock::monotonic_coarse_ms())
        };
        let mut wreck = Self {
            name,
            arena_offset,
            extent_bytes,
            extents,
            hasher: hasher_of(superblock),
            checksums_told: superblock.features_required.load() & FEATURE_CHECKSUMS != 0,
            stamps_told: is_stamp.then_some(next_stamp),
            slot_hash_shift: shift.filter(|shift| *shift <= 50),
            clock_offset_ms,
            redo: HashMap::new(),
            region,
        };
        wreck.redo = wreck.redo_records();
        Ok(wreck)
    }

    /// Its name, as the operating system knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.region.bytes()
    }

    /// Bytes of each extent.
    pub fn extent_bytes(&self) -> u64 {
        self.extent_bytes
    }

    /// What it did when it was full, as far as its superblock tells.
    pub fn mode(&self) -> Mode {
        let superblock = self.superblock();
        let is_cache = superblock.is_ok_and(|superblock| superblock.mode.load() == MODE_CACHE);
        if is_cache { Mode::Cache } else { Mode::Store }
    }

    /// The hash function of its keys, if its superblock tells.
    pub fn hash(&self) -> Option<HashKind> {
        self.hasher.as_ref().map(|hasher| hasher.kind)
    }

    /// What its guards were made of, as far as its superblock tells.
    pub fn guard(&self) -> GuardKind {
        let superblock = self.superblock();
        let is_system_v = superblock.is_ok_and(|it| it.guard_kind.load() == GUARD_SYSTEM_V);
        if is_system_v { GuardKind::SystemV } else { GuardKind::Futex }
    }

    /// The group of the object or segment that holds it, and its permission bits; `None` where the kernel
    /// does not say.
    pub fn group_and_permissions(&self) -> Option<(u32, u32)> {
        let ownership = self.region.holder().ownership().ok()?;
        Some((ownership.gid, ownership.permissions))
    }

    /// Whether its items had checksums, as its superblock says.
    pub fn checksums(&self) -> bool {
        self.checksums_told
    }

    /// When it was made, in milliseconds since 1970, as its superblock says.
    pub(super) fn created_unix_ms(&self) -> u64 {
        self.superblock().map_or(0, |superblock| superblock.created_unix_ms.load())
    }

    /// What the directory of the index says: addresses of lines, 0 for none.
    pub(super) fn directory(&self) -> Vec<u64> {
        let Ok(superblock) = self.superblock() else { return Vec::new() };
        // Its second half is found from its end, whatever the object has lost.
        let entries = superblock.extents_max.load();
        let Some(table) = self.table(superblock.directory_offset.load(), entries, 8) else {
            return Vec::new();
        };
        let words = self.region.words(table, entries).unwrap_or(&[]);
        words.iter().map(Cell64::load).filter(|line| *line != 0).collect()
    }

    pub(super) fn superblock(&self) -> Result<&Superblock, Corruption> {
        self.region.view(0)
    }

    /// The segment's time in milliseconds, by what is added to the monotonic clock.
    pub(super) fn now_ms(clock_offset_ms: u64) -> u64 {
        clock::monotonic_coarse_ms().wrapping_add(clock_offset_ms)
    }

    /// The offset of a table of the head, if it lies there.
    pub(super) fn table(&self, offset: u64, count: u64, bytes: u64) -> Option<u64> {
        let end = count.checked_mul(bytes)?.checked_add(offset)?;
        let fits = offset >= SUPERBLOCK_BYTES && offset.is_multiple_of(64);
        (fits && end <= self.arena_offset).then_some(offset)
    }

    /// Where the redo records are, by the stamps of their items, if the table can be found.
    fn redo_records(&self) -> HashMap<u64, u64> {
        let Ok(superblock) = self.superblock() else { return HashMap::new() };
        let (offset, count) = (superblock.redo_offset.load(), superblock.stripes_count.load());
        let bytes = size_of::<RedoRecord>() as u64;
        let Some(first) = self.table(offset, count, bytes) else { return HashMap::new() };
        let stamp = |at| self.region.view::<RedoRecord>(at).map_or(0, |record| record.stamp.load());
        let records = (0..count).map(|number| first + number * bytes);
        records.map(|at| (stamp(at), at)).filter(|(stamp, _)| *stamp != 0).collect()
    }

    /// The redo record of an item with a stamp and a header, and the header that it gets.
    pub(super) fn redo_of(&self, stamp: u64, stored: Header) -> Option<(u64, Header)> {
        let offset = *self.redo.get(&stamp)?;
        let record = self.region.view::<RedoRecord>(offset).ok()?;
        let header = Header::of(record.header.load());
        let fits = header.fits_in(stored) && header.value_bytes as usize <= 8 * REDO_WORDS;
        fits.then_some((offset, header))
    }

    /// The state of an extent, as far as the table can be found.
    pub(super) fn state(&self, extent: u64) -> Option<ExtentState> {
        let bytes = size_of::<ExtentEntry>() as u64;
        let table =
            self.table(self.superblock().ok()?.extents_offset.load(), self.extents, bytes)?;
        let entry = self.region.view::<ExtentEntry>(table + extent * bytes).ok()?;
        Some(ExtentWord::of(entry.word.load()).state)
    }

    /// The generation of an extent, likewise; 0: it has no memory.
    pub(super) fn generation(&self, extent: u64) -> Option<u64> {
        let table = self.superblock().ok()?.generations_offset.load();
        let table = self.table(table, self.extents, 8)?;
        Some(self.region.view::<Cell64>(table + 8 * extent).ok()?.load())
    }

    /// What the record of a namespace says, if the table can be found.
    pub(super) fn namespace(&self, number: u8) -> Option<RecordFound> {
        let superblock = self.superblock().ok()?;
        let bytes = size_of::<NamespaceRecord>() as u64;
        let count = superblock.namespaces_count.load();
        let table = self.table(superblock.namespaces_offset.load(), count, bytes)?;
        if u64::from(number) >= count {
            return None;
        }
        let record = self.region.view::<NamespaceRecord>(table + bytes * u64::from(number)).ok()?;
        let word = record.state();
        let name = name_of(record);
        debug_assert!(name.chars().count() <= NAMESPACE_NAME_BYTES);
        let quota_bytes = u64::from(word.quota_extents) * self.extent_bytes;
        Some(RecordFound { word, name, default_ttl_ms: record.default_ttl_ms.load(), quota_bytes })
    }

    /// The extent that the byte at an offset is in.
    pub(super) fn extent_of(&self, offset: u64) -> Option<u64> {
        let extent = offset.checked_sub(self.arena_offset)? / self.extent_bytes;
        (extent < self.extents).then_some(extent)
    }

    /// Where an extent begins.
    pub(super) fn extent_offset(&self, extent: u64) -> u64 {
        self.arena_offset + extent * self.extent_bytes
    }

    /// The key of the item at an offset.
    pub(super) fn key(&self, item: u64, header: Header) -> Result<Vec<u8>, Corruption> {
        let bytes = usize::from(header.key_bytes);
        self.copy(item + header.shape().key, bytes)
    }

    pub(super) fn copy(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, Corruption> {
        let mut copy = Vec::new();
        append_out(self.region.words(offset, bytes.div_ceil(8) as u64)?, bytes, &mut copy);
        Ok(copy)
    }
}

/// Why a segment without an arena is refused: by its first word it may be a store, or be none.
fn no_arena(format: u64, name: String) -> AttachError {
    match format_version_of(format) {
        None if format != 0 => AttachError::NotAStore { name, found: format },
        _ => AttachError::NoGeometry { name },
    }
}

/// The hash function by the words that tell it, if they are whole.
fn hasher_of(superblock: &Superblock) -> Option<Hasher> {
    let words = std::array::from_fn(|i| superblock.hash_secrets[i].load());
    // The check tells which one it is, whatever the number says.
    let hashers = [HashKind::Rapidhash, HashKind::Siphash].map(|kind| Hasher::new(kind, words));
    hashers.into_iter().find(|hasher| hasher.self_test() == superblock.hash_check.load())
}

/// Maps an object or a segment at its own length, whatever it holds.
fn map_whole(name: &ObjectName, shown: &str) -> Result<Region, AttachError> {
    let not_found = || AttachError::NotFound { name: shown.to_owned() };
    let segment = match name.place() {
        Place::Object(place) => {
            let object = open(&place, false, shown)?;
            let bytes = object.metadata().map_err(system("fstat", shown))?.len();
            if bytes == 0 {
                return Err(AttachError::Empty { name: shown.to_owned() });
            }
            let mapping = map(&object, bytes, false, shown)?;
            return Ok(Region::of(mapping, Holder::Object(object)));
        }
        Place::Key(key) => SharedSegment::find(key).map_err(of_segment(false, shown))?,
        Place::Segment(id) => SharedSegment::of_id(id),
        Place::Registered(registered) => {
            let found = registry::find(registered).map_err(system("open", shown))?;
            let record = found.ok_or_else(not_found)?.record().map_err(system("read", shown))?;
            let of_boot = record.filter(|record| record.boot == clock::boot_id());
            SharedSegment::of_id(of_boot.ok_or_else(not_found)?.id)
        }
    };
    let mapping = Mapping::of_segment(segment, false).map_err(of_segment(false, shown))?;
    Ok(Region::of(mapping, Holder::SystemV(segment)))
}

/// Where the superblock says that the arena is: offset, bytes of an extent, extents. Those that the
/// object has lost the end of are not there.
fn arena_told(superblock: &Superblock, bytes: u64) -> Option<(u64, u64, u64)> {
    let (offset, extent_bytes) = (superblock.arena_offset.load(), superblock.extent_bytes.load());
    let extents = superblock.extents_max.load();
    if !is_extent_size(extent_bytes) || offset < SUPERBLOCK_BYTES || !offset.is_multiple_of(4096) {
        return None;
    }
    let whole = offset.checked_add(extents.checked_mul(extent_bytes)?)?;
    // Three words that agree, and a fourth one, or the length.
    if extents == 0 || whole != superblock.segment_bytes.load() && whole != bytes {
        return None;
    }
    Some((offset, extent_bytes, extents.min(bytes.checked_sub(offset)? / extent_bytes)))
}

/// Where the arena is if extents of this size fill the end of the object.
fn arena_at_end(bytes: u64, extent_bytes: u64) -> Option<(u64, u64, u64)> {
    let extents = bytes.checked_sub(SUPERBLOCK_BYTES)?.checked_div(extent_bytes)?;
    let fits = is_extent_size(extent_bytes) && extents > 0;
    fits.then(|| (bytes - extents * extent_bytes, extent_bytes, extents))
}

/// Leaves out the extents that are none: what lies before the arena is as long as some of them in many
/// stores, and its words look like items. It is known by the directory, which lies there: of as many entries
/// as there are extents behind it, the first one leads to the first of them, the last one to a later one. Where
/// none is found, or beyond a quarter of the store, nothing is left out.
fn without_head(region: &Region, given: (u64, u64, u64)) -> (u64, u64, u64) {
    let (offset, extent_bytes, extents) = given;
    let last = offset + extents / 4 * extent_bytes;
    let words = region.words(SUPERBLOCK_BYTES, (last - SUPERBLOCK_BYTES) / 8).unwrap_or(&[]);
    // The extent whose first line has this address.
    let extent_of = |line: u64| {
        let from = line.checked_mul(size_of::<Line>() as u64)?.checked_sub(offset)?;
        let extent = from / extent_bytes;
        (from.is_multiple_of(extent_bytes) && extent < extents).then_some(extent)
    };
    let heads = words.iter().enumerate().filter_map(|(at, first)| {
        let skipped = extent_of(first.load())?;
        let end = at + usize::try_from(extents - skipped).ok()?;
        let is_before = SUPERBLOCK_BYTES + 8 * end as u64 <= offset + skipped * extent_bytes;
        let of_lines = extent_of(words.get(end - 1)?.load())?;
        (is_before && of_lines > skipped).then_some(skipped)
    });
    let skipped = heads.min().unwrap_or(0);
    (offset + skipped * extent_bytes, extent_bytes, extents - skipped)
}

fn is_extent_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&bytes)
}
