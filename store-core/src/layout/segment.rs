//! A mapped segment: the region, the private copy of its geometry, and a way to each record.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::filter::Filter;
use super::ghost::Ghost;
use super::heat::Heat;
use super::item::{Header, ItemShape, flags, item_checksum};
use super::superblock::{FEATURE_CHECKSUMS, IndexSize, MODE_CACHE, Superblock};
use super::{
    Cleaner, ClientEntry, ExtentEntry, ExtentState, ExtentWord, Geometry, LANES, Line, LoaderLease,
    NamespaceRecord, NamespaceState, Queue, RedoRecord, Share, Slot, Stamp, Stream, Stripe,
};
use crate::error::Corruption;
use crate::hash::{self, Hasher};
use crate::region::{Cell64, One, Region, Shim, Table, copy_out};
use crate::sync::Guard;
use crate::sys::semaphore::{Semaphore, SemaphoreSet};

/// A place for a slot: a lane of the line at an address, which is its offset in lines of 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Where {
    pub(crate) line: u64,
    pub(crate) lane: usize,
}

/// Keys of at most so many bytes are hashed without memory from the allocator.
const SHORT_KEY_BYTES: usize = 64;

/// See the module. `S` sees every store.
#[derive(Debug)]
pub(crate) struct Segment<S: Shim> {
    pub(crate) geometry: Geometry,
    /// Of the keys of its namespace.
    pub(crate) hasher: Hasher,
    /// The namespace whose keys are meant, and the generation that its record has; 0: none.
    pub(crate) namespace: u8,
    namespace_generation: u16,
    /// Whether items carry checksums.
    pub(crate) checksums: bool,
    /// The id of the semaphores of the guards; -1 if they are futexes, or this process took none.
    semaphores: Arc<AtomicI32>,
    /// The flags that every item of the segment has, and where its key is then.
    plain_flags: u64,
    plain_key_unit: u64,
    /// Lines of the index that an extent holds: as a power of two, and less one.
    line_shift: u32,
    line_mask: u64,
    superblock: One<Superblock>,
    clients: Table<ClientEntry>,
    loaders: Table<LoaderLease>,
    namespaces: Table<NamespaceRecord>,
    stripes: Table<Stripe>,
    redo: Table<RedoRecord>,
    extents: Table<ExtentEntry>,
    generations: Table<Cell64>,
    directory: Table<Cell64>,
    pub(crate) filter: Filter,
    /// Whether eviction makes room.
    pub(crate) evicts: bool,
    pub(crate) heat: Heat,
    pub(crate) ghost: Ghost,
    /// All of the segment as lines, found by their addresses.
    lines: Table<Line>,
    /// Behind the tables, which point into it: fields are dropped in order.
    pub(crate) region: Region,
    shim: PhantomData<S>,
}

impl<S: Shim> Segment<S> {
    /// Over a region whose superblock is whole.
    ///
    /// # Errors
    /// `Corruption` where the superblock contradicts itself or the mapping.
    pub(crate) fn new(region: Region) -> Result<Self, Corruption> {
        let superblock = region.view::<Superblock>(0)?;
        let geometry = Geometry::read(superblock, region.bytes())?;
        let Some(kind) = hash::kind_of(superblock.hash_kind.load()) else {
            return Err(Corruption { what: "unknown hash function", offset: 80 });
        };
        let words = std::array::from_fn(|i| superblock.hash_secrets[i].load());
        let hasher = Hasher::new(kind, words);
        if superblock.hash_check.load() != hasher.self_test() {
            return Err(Corruption { what: "the hash function's self-test", offset: 88 });
        }
        let checksums = superblock.features_required.load() & FEATURE_CHECKSUMS != 0;
        let plain_flags = if checksums { flags::CHECKSUM } else { 0 };
        let plain = Header { value_bytes: 0, key_bytes: 0, namespace: 0, flags: plain_flags };
        Ok(Self {
            semaphores: Arc::new(AtomicI32::new(-1)),
            namespace: 0,
            namespace_generation: 0,
            plain_flags: plain.word() >> 32,
            plain_key_unit: plain.shape().key / 8,
            line_shift: geometry.line_shift(),
            line_mask: (1 << geometry.line_shift()) - 1,
            superblock: region.one(0)?,
            clients: region.table(geometry.clients_offset, geometry.clients.into())?,
            loaders: region.table(geometry.loaders_offset, geometry.loaders.into())?,
            namespaces: region.table(geometry.namespaces_offset, geometry.namespaces.into())?,
            stripes: region.table(geometry.stripes_offset, geometry.stripes.into())?,
            redo: region.table(geometry.redo_offset, geometry.stripes.into())?,
            extents: region.table(geometry.extents_offset, geometry.extents.into())?,
            generations: region.table(geometry.generations_offset, geometry.extents.into())?,
            directory: region.table(geometry.directory_offset, geometry.extents.into())?,
            filter: Filter::new(
                region.table(geometry.filter_offset, geometry.filter_words())?,
                geometry.slot_hash_shift,
            ),
            evicts: superblock.mode.load() == MODE_CACHE,
            heat: Heat::new(region.table(geometry.heat_offset, geometry.heat_bytes)?),
            ghost: Ghost::new(region.table(geometry.ghost_offset, geometry.ghost_count)?),
            lines: region.table(0, geometry.segment_bytes / size_of::<Line>() as u64)?,
            region,
            geometry,
            hasher,
            checksums,
            shim: PhantomData,
        })
    }

    /// The same segment, for the keys of a namespace.
    pub(crate) fn in_namespace(&self, namespace: u8, generation: u16) -> Self {
        let plain = Header { value_bytes: 0, key_bytes: 0, namespace, flags: 0 };
        Self {
            geometry: self.geometry,
            hasher: self.hasher.of_namespace(namespace_id(namespace, generation)),
            namespace,
            namespace_generation: generation,
            checksums: self.checksums,
            semaphores: Arc::clone(&self.semaphores),
            plain_flags: self.plain_flags | plain.word() >> 32,
            plain_key_unit: self.plain_key_unit,
            line_shift: self.line_shift,
            line_mask: self.line_mask,
            superblock: self.superblock.clone(),
            clients: self.clients.clone(),
            loaders: self.loaders.clone(),
            namespaces: self.namespaces.clone(),
            stripes: self.stripes.clone(),
            redo: self.redo.clone(),
            extents: self.extents.clone(),
            generations: self.generations.clone(),
            directory: self.directory.clone(),
            filter: self.filter.clone(),
            evicts: self.evicts,
            heat: self.heat.clone(),
            ghost: self.ghost.clone(),
            lines: self.lines.clone(),
            region: self.region.clone(),
            shim: PhantomData,
        }
    }

    /// The record of a namespace, if the table has it.
    #[inline]
    pub(crate) fn namespace_record(&self, namespace: u8) -> Option<&NamespaceRecord> {
        self.namespaces.get(namespace.into())
    }

    /// Whether the namespace that is meant is still the one that it was.
    #[inline]
    pub(crate) fn namespace_stands(&self) -> bool {
        self.namespace == 0
            || self.namespace_record(self.namespace).is_some_and(|record| {
                let word = record.state();
                word.state == NamespaceState::InUse && word.generation == self.namespace_generation
            })
    }

    /// Whether an item is of the namespace that is meant, and not of one that has its number since.
    pub(crate) fn is_meant(&self, namespace: u8) -> bool {
        let is_same =
            |record: &NamespaceRecord| record.state().generation == self.namespace_generation;
        namespace == self.namespace
            && (namespace == 0 || self.namespace_record(namespace).is_some_and(is_same))
    }

    /// The group that shares extents with a namespace: itself if it has a quota, else 0.
    #[inline]
    pub(crate) fn group_of(&self, namespace: u8) -> u8 {
        if namespace != 0 && self.quota_of(namespace) > 0 { namespace } else { 0 }
    }

    /// The quota of a namespace in extents; 0: it has none.
    pub(crate) fn quota_of(&self, namespace: u8) -> u32 {
        self.namespace_record(namespace).map_or(0, |record| record.state().quota_extents)
    }

    /// Whether eviction makes room in a group.
    pub(crate) fn group_evicts(&self, group: u8) -> bool {
        self.evicts
            && (group == 0
                || self.namespace_record(group).is_some_and(|record| record.state().evicts))
    }

    /// The part of heat and ghost that a group has.
    #[inline]
    pub(crate) fn share_of(&self, group: u8) -> Share {
        self.namespace_record(group).map_or(Share::ALL, |record| Share(record.share.load()))
    }

    /// The clock of a group's ghost.
    pub(crate) fn ghost_clock(&self, group: u8) -> &Cell64 {
        match self.namespace_record(group) {
            Some(record) if group != 0 => &record.ghost_clock,
            _ => &self.superblock().ghost_clock,
        }
    }

    /// The hash of a key of any namespace.
    pub(crate) fn hash_in(&self, namespace: u8, key: &[u8]) -> u64 {
        if namespace == 0 && self.namespace == 0 {
            return self.hasher.hash(key);
        }
        let record = self.namespace_record(namespace);
        let generation = record.map_or(0, |record| record.state().generation);
        // Its number may be another's by now.
        if namespace == self.namespace && generation == self.namespace_generation {
            return self.hasher.hash(key);
        }
        self.hash_with(namespace, generation, key)
    }

    /// The hash of a key of a namespace that has this generation.
    pub(crate) fn hash_with(&self, namespace: u8, generation: u16, key: &[u8]) -> u64 {
        self.hasher.bytes(key) ^ self.hasher.mix_of(namespace_id(namespace, generation))
    }

    #[inline(always)]
    pub(crate) fn superblock(&self) -> &Superblock {
        self.superblock.get()
    }

    /// The size word of the index. What it says is checked where a line is looked up.
    #[inline(always)]
    pub(crate) fn index_size(&self) -> IndexSize {
        IndexSize(self.superblock().index_size.load())
    }

    /// Free extents that puts leave: one for each place of a cleaner and, where nothing can be evicted,
    /// twice as much as may be too small to be used at the ends of all extents together, and one more.
    /// So what is deleted from a full store is room again, whatever lies beside it.
    pub(crate) fn kept_extents(&self) -> u32 {
        let cleaners = self.geometry.cleaners();
        if self.evicts {
            return cleaners;
        }
        let lost = u64::from(self.geometry.extents) * 2 * self.geometry.scattered_bytes_min();
        cleaners.max(1 + lost.div_ceil(self.geometry.extent_bytes()) as u32)
    }

    /// How many extents with memory are to be free of those: where the arena can grow, what it has not
    /// grown to yet is free as well.
    pub(crate) fn kept_with_memory(&self) -> u32 {
        let (kept, cleaners) = (self.kept_extents(), self.geometry.cleaners());
        let extents = self.geometry.extents;
        // It grows from the first to the last.
        let bare = (0..kept.min(extents))
            .take_while(|back| {
                self.generation_at((extents - 1 - back).into()).is_some_and(|g| g.load() == 0)
            })
            .count() as u32;
        kept.saturating_sub(bare).max(cleaners)
    }

    /// The places of cleaners that are in use.
    pub(crate) fn cleaners(&self) -> &[Cleaner] {
        &self.superblock().cleaners[..self.geometry.cleaners() as usize]
    }

    /// Gives the guards their semaphores: one for each stripe, then one for each cleaner's place.
    pub(crate) fn set_semaphores(&self, set: SemaphoreSet) {
        self.semaphores.store(set.id(), Ordering::Relaxed);
    }

    /// The guard of a stripe, whose record is given.
    #[inline(always)]
    pub(crate) fn stripe_guard<'a>(&self, stripe: u32, record: &'a Stripe) -> Guard<'a> {
        Guard::new(&record.guard, self.semaphore(stripe as usize))
    }

    /// The guard of a cleaner's place.
    pub(crate) fn cleaner_guard(&self, place: usize) -> Guard<'_> {
        let number = self.geometry.stripes as usize + place;
        Guard::new(&self.cleaners()[place].guard, self.semaphore(number))
    }

    #[inline(always)]
    fn semaphore(&self, number: usize) -> Option<Semaphore> {
        let id = self.semaphores.load(Ordering::Relaxed);
        // There are at most 4096 stripes.
        (id >= 0).then(|| SemaphoreSet::of_id(id).semaphore(number as u16))
    }

    pub(crate) fn client(&self, client: u32) -> Result<&ClientEntry, Corruption> {
        self.clients
            .get(client.into())
            .ok_or(Corruption { what: "no such client entry", offset: client.into() })
    }

    pub(crate) fn loader(&self, lease: u32) -> Result<&LoaderLease, Corruption> {
        self.loaders
            .get(lease.into())
            .ok_or(Corruption { what: "no such loader lease", offset: lease.into() })
    }

    #[inline(always)]
    pub(crate) fn stripe(&self, stripe: u32) -> Result<&Stripe, Corruption> {
        self.stripes
            .get(stripe.into())
            .ok_or(Corruption { what: "no such stripe", offset: stripe.into() })
    }

    /// The redo record of a stripe.
    #[inline(always)]
    pub(crate) fn redo(&self, stripe: u32) -> Result<&RedoRecord, Corruption> {
        self.redo
            .get(stripe.into())
            .ok_or(Corruption { what: "no such stripe", offset: stripe.into() })
    }

    /// Offset of the value in the redo record of a stripe.
    pub(crate) fn redo_value_offset(&self, stripe: u32) -> u64 {
        let record = u64::from(stripe) * size_of::<RedoRecord>() as u64;
        self.geometry.redo_offset + record + core::mem::offset_of!(RedoRecord, value) as u64
    }

    /// Asks for the stripe of `hash` and its redo record.
    #[inline(always)]
    pub(crate) fn prefetch_stripe(&self, hash: u64) {
        let stripe = self.geometry.stripe_of(hash);
        self.stripes.prefetch(&self.region, stripe.into());
        // As much as most values take.
        let redo = self.geometry.redo_offset + u64::from(stripe) * size_of::<RedoRecord>() as u64;
        self.region.prefetch(redo);
        self.region.prefetch(redo + 64);
        self.region.prefetch(redo + 128);
    }

    /// The table entry of an extent.
    #[inline(always)]
    pub(crate) fn extent(&self, extent: u32) -> Result<&ExtentEntry, Corruption> {
        self.extents
            .get(extent.into())
            .ok_or(Corruption { what: "no such extent", offset: extent.into() })
    }

    /// The word of an extent's entry.
    pub(crate) fn extent_word(&self, extent: u32) -> Result<ExtentWord, Corruption> {
        Ok(ExtentWord::of(self.extent(extent)?.word.load()))
    }

    /// Whether an extent is free, and nothing but free: stray bits in a free word, which only hostile
    /// bytes have, make it useless, for nobody can claim it.
    pub(crate) fn is_free(&self, extent: u32) -> Result<bool, Corruption> {
        Ok(self.extent(extent)?.word.load() == ExtentWord::FREE.word())
    }

    /// The queue of eviction that an extent is in.
    pub(crate) fn queue(&self, extent: u32) -> Result<Queue, Corruption> {
        Ok(self.stream(extent)?.queue)
    }

    /// What an extent is filled with. One of a namespace that has no quota any more is everybody's.
    pub(crate) fn stream(&self, extent: u32) -> Result<Stream, Corruption> {
        let stream = Stream::of(self.extent(extent)?.stream.load());
        Ok(Stream { group: self.group_of(stream.group), ..stream })
    }

    /// The cell with the generation of an extent.
    #[inline(always)]
    pub(crate) fn generation(&self, extent: u32) -> Result<&Cell64, Corruption> {
        self.generation_at(extent.into())
            .ok_or(Corruption { what: "no such extent", offset: extent.into() })
    }

    /// The cell with the generation of an extent, for the read path.
    #[inline(always)]
    pub(crate) fn generation_at(&self, extent: u64) -> Option<&Cell64> {
        self.generations.get(extent)
    }

    /// The address of a bucket's line, for the read path: whatever the directory says.
    #[inline(always)]
    pub(crate) fn bucket_address(&self, bucket: u64) -> Option<u64> {
        let first = self.directory.get(bucket >> (self.line_shift & 63))?.load();
        Some(first.wrapping_add(bucket & self.line_mask))
    }

    /// The address of a bucket's line.
    pub(crate) fn bucket_line(&self, bucket: u64) -> Result<u64, Corruption> {
        self.bucket_address(bucket)
            .filter(|line| self.is_in_arena(*line))
            .ok_or(Corruption { what: "no such bucket", offset: bucket })
    }

    /// Entry `number` of the directory from the front, or from the back: the address of the first
    /// line of an extent of buckets, or of overflow lines; 0: none.
    pub(crate) fn directory_entry(
        &self,
        state: ExtentState,
        number: u64,
    ) -> Result<&Cell64, Corruption> {
        let entry = match state {
            ExtentState::Overflow => u64::from(self.geometry.extents).wrapping_sub(number + 1),
            _ => number,
        };
        self.directory
            .get(entry)
            .ok_or(Corruption { what: "no such entry of the directory", offset: number })
    }

    /// The address of the first line of an extent.
    pub(crate) fn first_line(&self, extent: u32) -> u64 {
        self.geometry.extent_offset(extent) / size_of::<Line>() as u64
    }

    /// A line, for the read path.
    #[inline(always)]
    pub(crate) fn line_at(&self, line: u64) -> Option<&Line> {
        self.lines.get(line)
    }

    /// The line at an address.
    #[inline(always)]
    pub(crate) fn line(&self, line: u64) -> Result<&Line, Corruption> {
        self.line_at(line).ok_or(Corruption { what: "no such line of the index", offset: line })
    }

    /// Offset of a line.
    #[inline(always)]
    pub(crate) fn line_offset(&self, line: u64) -> u64 {
        line.wrapping_mul(size_of::<Line>() as u64)
    }

    /// Whether the line at this address is in an extent that has memory.
    fn is_in_arena(&self, line: u64) -> bool {
        self.generation_at(self.geometry.extent_at(self.line_offset(line)))
            .is_some_and(|generation| generation.load() != 0)
    }

    /// The address of the line that a link leads to.
    #[inline(always)]
    pub(crate) fn linked_line(&self, link: Slot) -> Result<u64, Corruption> {
        link.link()
            .filter(|line| self.is_in_arena(*line))
            .ok_or(Corruption { what: "a link that leads nowhere", offset: link.0 })
    }

    /// The word that says which bucket an overflow line belongs to (its number + 1; 0: free).
    pub(crate) fn line_owner(&self, line: u64) -> Result<&Cell64, Corruption> {
        let wrong = Corruption { what: "no such overflow line", offset: line };
        let offset = self.line_offset(line);
        let extent = self.geometry.extent_of(offset).ok_or(wrong)?;
        let first = self.geometry.extent_offset(extent);
        let within = (offset - first) / size_of::<Line>() as u64;
        let number = within.checked_sub(1 << (self.geometry.line_shift() - 3)).ok_or(wrong)?;
        self.region.view(first + 8 * number)
    }

    /// The bucket that a line belongs to.
    pub(crate) fn bucket_of_line(&self, line: u64) -> Result<u64, Corruption> {
        let wrong = Corruption { what: "a line that is none of the index", offset: line };
        let offset = self.line_offset(line);
        let extent = self.geometry.extent_of(offset).ok_or(wrong)?;
        let word = self.extent_word(extent)?;
        match word.state {
            ExtentState::Buckets => {
                let within = (offset - self.geometry.extent_offset(extent)) / 64;
                Ok((word.index_number() << self.geometry.line_shift()) + within)
            }
            ExtentState::Overflow => self
                .line_owner(line)?
                .load()
                .checked_sub(1)
                .ok_or(Corruption { what: "a linked line that is free", offset: line }),
            _ => Err(wrong),
        }
    }

    /// The slot cell at a place.
    pub(crate) fn slot_cell(&self, at: Where) -> Result<&Cell64, Corruption> {
        Ok(self.line(at.line)?.cell(at.lane % LANES))
    }

    /// The offset of the slot cell at a place, for intents.
    pub(crate) fn slot_offset(&self, at: Where) -> u64 {
        self.line_offset(at.line) + 8 + 8 * at.lane as u64
    }

    /// The place of the slot cell at an offset; `None` if there is none.
    pub(crate) fn where_is(&self, offset: u64) -> Option<Where> {
        let (line, within) = (offset / 64, offset % 64);
        (self.is_in_arena(line) && within >= 8 && within.is_multiple_of(8))
            .then(|| Where { line, lane: (within / 8 - 1) as usize })
    }

    /// The second word of the item at `offset`.
    #[inline(always)]
    pub(crate) fn header(&self, offset: u64) -> Result<Header, Corruption> {
        Ok(Header::of(self.region.view::<[Cell64; 2]>(offset)?[1].load()))
    }

    /// Whether `slot` is that of an item whose extent still has its generation: of one that is not
    /// (a crash or hostile bytes left it), the lane is as good as empty.
    pub(crate) fn slot_stands(&self, slot: Slot) -> bool {
        slot.is_item()
            && self
                .generation_at(self.geometry.extent_at(slot.offset()))
                .map(Cell64::load)
                // 0: not commissioned, and so not to be touched.
                .is_some_and(|generation| generation != 0 && slot.is_of_generation(generation))
    }

    /// The stamp of the item at `offset`.
    #[inline(always)]
    pub(crate) fn stamp(&self, offset: u64) -> Result<Stamp, Corruption> {
        Ok(Stamp(self.region.view::<Cell64>(offset)?.load()))
    }

    /// Whether `header` is that of an item with a key of this length and no optional word but
    /// those that every item of the segment has.
    #[inline(always)]
    pub(crate) fn is_plain(&self, header: Header, key_bytes: usize) -> bool {
        header.word() >> 32 == key_bytes as u64 | self.plain_flags
    }

    /// Units of 8 bytes before the key of a plain item.
    #[inline(always)]
    pub(crate) fn plain_key_unit(&self) -> u64 {
        self.plain_key_unit
    }

    /// Whether the bytes at `offset` are those of `key`; `None` out of bounds.
    #[inline(always)]
    pub(crate) fn bytes_are(&self, offset: u64, key: &[u8]) -> Option<bool> {
        let words = self.region.words(offset, key.len().div_ceil(8) as u64).ok()?;
        Some(crate::region::equals(words, key))
    }

    /// Whether the key of the item at `offset` is `key`.
    pub(crate) fn key_is(
        &self,
        offset: u64,
        shape: &ItemShape,
        key: &[u8],
    ) -> Result<bool, Corruption> {
        self.bytes_are(offset + shape.key, key)
            .ok_or(Corruption { what: "an item leaves the segment", offset })
    }

    /// Copies the key of the item at `offset` into `to`, which is emptied first.
    pub(crate) fn copy_key(
        &self,
        offset: u64,
        header: Header,
        to: &mut Vec<u8>,
    ) -> Result<(), Corruption> {
        let bytes = usize::from(header.key_bytes);
        let words = self.region.words(offset + header.shape().key, bytes.div_ceil(8) as u64)?;
        to.clear();
        for cell in words {
            to.extend_from_slice(&cell.load().to_le_bytes());
        }
        to.truncate(bytes);
        Ok(())
    }

    /// The hash of the key of the item at `offset`, by way of `scratch` unless it is short.
    pub(crate) fn hash_of_item(
        &self,
        offset: u64,
        header: Header,
        scratch: &mut Vec<u8>,
    ) -> Result<u64, Corruption> {
        let bytes = usize::from(header.key_bytes);
        let mut short = [0; SHORT_KEY_BYTES];
        let Some(short) = short.get_mut(..bytes) else {
            self.copy_key(offset, header, scratch)?;
            return Ok(self.hash_in(header.namespace, scratch));
        };
        let words = self.region.words(offset + header.shape().key, bytes.div_ceil(8) as u64)?;
        copy_out(words, short);
        Ok(self.hash_in(header.namespace, short))
    }

    /// The checksum of an item: everything but stamp, padding and the number of a counter.
    pub(crate) fn checksum(
        &self,
        header: Header,
        expiry: Option<u64>,
        key: &[u8],
        value: &[u8],
    ) -> u64 {
        item_checksum(&self.hasher, header, expiry, (key, value))
    }
}

/// What tells a namespace from all that there ever were in its segment.
pub(crate) fn namespace_id(namespace: u8, generation: u16) -> u64 {
    match namespace {
        0 => 0,
        _ => u64::from(generation) << 8 | u64::from(namespace),
    }
}
