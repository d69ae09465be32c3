//! Where everything is in a segment: as it was planned, or copied from the superblock and validated. From
//! then on only this private copy is believed.

use super::ghost::GHOST_SET;
use super::heat::HEAT_BYTES_MIN;
use super::line::Line;
use super::slot::Slot;
use super::superblock::{IndexSize, SUPERBLOCK_BYTES, Superblock};
use super::{
    CLEANERS_MAX, ClientEntry, ExtentEntry, KEY_BYTES_MAX, LargeWord, LoaderLease, NamespaceRecord,
    PIECE_HEAD_BYTES, RedoRecord, Stripe,
};
use crate::error::Corruption;
use crate::sync::Owner;

/// The smallest extent: a page.
pub(crate) const EXTENT_BYTES_MIN: u64 = 4 << 10;
/// The largest extent: what 18 bits of 8-byte units can count.
pub(crate) const EXTENT_BYTES_MAX: u64 = 1 << 20;

pub(super) const PAGE_BYTES: u64 = 4096;
const COUNTED_STEP_MAX: u64 = 16;
/// Pieces of large items that fill an extent.
const PIECES_PER_EXTENT: u64 = 8;
/// The smallest piece that is made where room is scarce: such a part of an extent, and so many bytes
/// at least.
const SCATTERED_PART: u64 = 64;
const SCATTERED_BYTES_MIN: u64 = 128;
/// Pieces of a value that lies wherever there is room, besides twice those that it has otherwise.
const SCATTERED_CELLS: u64 = 14;
/// Values of so many bytes are never divided into pieces, whatever the key.
pub(crate) const WHOLE_VALUE_BYTES: u64 = 64;
/// Extents for each place of a cleaner.
const EXTENTS_PER_CLEANER: u32 = 64;
/// The most records of namespaces: a byte says which.
pub(super) const NAMESPACES_MAX: u64 = 256;

/// Counts and offsets (in bytes from the superblock) of all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) segment_bytes: u64,
    pub(crate) clients_offset: u64,
    pub(crate) clients: u32,
    pub(crate) namespaces_offset: u64,
    pub(crate) namespaces: u32,
    pub(crate) loaders_offset: u64,
    pub(crate) loaders: u32,
    pub(crate) stripes_offset: u64,
    pub(crate) stripes: u32,
    /// Redo records, one for each stripe.
    pub(crate) redo_offset: u64,
    pub(crate) extents_offset: u64,
    pub(crate) extents: u32,
    pub(crate) extent_shift: u32,
    pub(crate) generations_offset: u64,
    /// Of the extents of the index: those of buckets from the front, those of overflow lines from
    /// the back.
    pub(crate) directory_offset: u64,
    /// Words of the filter, one for each bucket that there is at first.
    pub(crate) filter_offset: u64,
    /// Marks of what was hit, a byte for each hash value; 0 bytes in store mode.
    pub(crate) heat_offset: u64,
    pub(crate) heat_bytes: u64,
    /// Fingerprints of what was evicted; none in store mode.
    pub(crate) ghost_offset: u64,
    pub(crate) ghost_count: u64,
    pub(crate) arena_offset: u64,
    pub(crate) slot_hash_shift: u32,
    pub(crate) planned_items: u64,
}

impl Geometry {
    /// Words of the filter. With as many bits of the hash as say the word, slots carry the next ones.
    pub(crate) fn filter_words(&self) -> u64 {
        1 << self.slot_hash_shift
    }

    /// Bytes of an extent.
    #[inline(always)]
    pub(crate) fn extent_bytes(&self) -> u64 {
        1 << self.extent_shift
    }

    /// Units of 8 bytes in an extent.
    #[inline(always)]
    pub(crate) fn extent_units(&self) -> u32 {
        1 << (self.extent_shift - 3)
    }

    /// Bytes of the arena at its full size.
    pub(crate) fn arena_bytes(&self) -> u64 {
        u64::from(self.extents) << self.extent_shift
    }

    /// Offset of the first byte of an extent.
    #[inline(always)]
    pub(crate) fn extent_offset(&self, extent: u32) -> u64 {
        self.arena_offset + (u64::from(extent) << self.extent_shift)
    }

    /// The extent that the byte at `offset` is in; a number beyond all extents outside of the arena.
    #[inline(always)]
    pub(crate) fn extent_at(&self, offset: u64) -> u64 {
        offset.wrapping_sub(self.arena_offset) >> self.extent_shift
    }

    /// The extent that the byte at `offset` is in; `None` outside of the arena.
    #[inline(always)]
    pub(crate) fn extent_of(&self, offset: u64) -> Option<u32> {
        let extent = self.extent_at(offset);
        (extent < u64::from(self.extents)).then_some(extent as u32)
    }

    /// Whether `bytes` bytes from `offset` on are in one extent.
    #[inline(always)]
    pub(crate) fn is_within_extent(&self, offset: u64, bytes: u64) -> bool {
        let within = offset.wrapping_sub(self.arena_offset) & (self.extent_bytes() - 1);
        within + bytes <= self.extent_bytes()
    }

    /// The places of cleaners that are in use, and so the free extents that are kept for them.
    #[inline]
    pub(crate) fn cleaners(&self) -> u32 {
        (self.extents / EXTENTS_PER_CLEANER).clamp(1, CLEANERS_MAX as u32)
    }

    /// The lease with number `nth` of those that a key with this hash may have.
    pub(crate) fn loader_of(&self, hash: u64, nth: u32) -> u32 {
        (hash as u32).wrapping_add(nth) & (self.loaders - 1)
    }

    /// The stripe of a hash, and of every bucket that the hash can be in.
    #[inline(always)]
    pub(crate) fn stripe_of(&self, hash_or_bucket: u64) -> u32 {
        hash_or_bucket as u32 & (self.stripes - 1)
    }

    /// Lines of the index that an extent holds, as a power of two.
    #[inline(always)]
    pub(crate) fn line_shift(&self) -> u32 {
        self.extent_shift - size_of::<Line>().trailing_zeros()
    }

    /// The steps in which a stripe's count of items is added to the near count of all: small beside
    /// what a stripe of the first size holds.
    pub(crate) fn counted_step(&self) -> u64 {
        let buckets_per_stripe = (1_u64 << self.slot_hash_shift) / u64::from(self.stripes);
        (buckets_per_stripe / 4).clamp(1, COUNTED_STEP_MAX)
    }

    /// Overflow lines in an extent of them, whose first eighth says whose they are.
    pub(crate) fn overflow_lines_per_extent(&self) -> u64 {
        7 << (self.line_shift() - 3)
    }

    /// The largest item in bytes, with all its pieces: a quarter of the arena.
    pub(crate) fn item_bytes_max(&self) -> u64 {
        self.arena_bytes() / 4
    }

    /// The largest item in bytes that is not divided into pieces: so that what is left at the end of
    /// an extent is little.
    #[inline(always)]
    pub(crate) fn whole_bytes_max(&self) -> u64 {
        self.extent_bytes() / PIECES_PER_EXTENT
    }

    /// The most bytes that an item has besides its pieces.
    pub(crate) fn head_bytes_max(&self) -> u64 {
        self.extent_bytes() / 2
    }

    /// The longest key, of an item with all optional words.
    pub(crate) fn key_bytes_max(&self) -> u64 {
        let others = 32 + WHOLE_VALUE_BYTES;
        (self.head_bytes_max() - others).min(KEY_BYTES_MAX as u64)
    }

    /// How a value of `len` bytes is divided for an item that takes `head` bytes without it: into
    /// pieces of which so many fill an extent, as many as the list has room for. `None` for one that
    /// is too large.
    pub(crate) fn divide(&self, head: u64, len: u64) -> Option<LargeWord> {
        let mut per_extent = PIECES_PER_EXTENT;
        while per_extent > 0 {
            let piece_units = ((self.extent_bytes() / per_extent - PIECE_HEAD_BYTES) / 8) as u32;
            let large = LargeWord { len, piece_units };
            let head = head + 8 + 8 * large.count();
            if head <= self.head_bytes_max() && head + large.pieces_bytes() <= self.item_bytes_max()
            {
                return Some(large);
            }
            // Fewer pieces take less besides the value.
            per_extent /= 2;
        }
        None
    }

    /// The smallest piece that is made where room is scarce, in bytes.
    pub(crate) fn scattered_bytes_min(&self) -> u64 {
        (self.extent_bytes() / SCATTERED_PART).max(SCATTERED_BYTES_MIN)
    }

    /// Room in the list of a value that is divided into more pieces than it need be, to use what room
    /// there is; `None` if it has no room for more.
    pub(crate) fn scattered(&self, head: u64, large: LargeWord) -> Option<u64> {
        let most = self.head_bytes_max().checked_sub(head + 8)? / 8;
        let cells = (2 * large.count() + SCATTERED_CELLS).min(most);
        (cells > large.count()).then_some(cells)
    }

    /// The longest value that an item takes which has `head` bytes without it.
    pub(crate) fn value_bytes_max(&self, head: u64) -> u64 {
        let (mut fits, mut too_long) = (0, self.item_bytes_max().min(u32::MAX.into()) + 1);
        while fits + 1 < too_long {
            let len = fits.midpoint(too_long);
            if self.divide(head, len).is_some() {
                fits = len;
            } else {
                too_long = len;
            }
        }
        fits
    }

    /// Writes the geometry into a new superblock's words.
    pub(crate) fn fields<'a>(&self, to: &'a Superblock) -> [(&'a crate::region::Cell64, u64); 23] {
        [
            (&to.segment_bytes, self.segment_bytes),
            (&to.slot_hash_shift, self.slot_hash_shift.into()),
            (&to.planned_items, self.planned_items),
            (&to.clients_offset, self.clients_offset),
            (&to.clients_count, self.clients.into()),
            (&to.namespaces_offset, self.namespaces_offset),
            (&to.namespaces_count, self.namespaces.into()),
            (&to.loaders_offset, self.loaders_offset),
            (&to.loaders_count, self.loaders.into()),
            (&to.stripes_offset, self.stripes_offset),
            (&to.stripes_count, self.stripes.into()),
            (&to.redo_offset, self.redo_offset),
            (&to.extents_offset, self.extents_offset),
            (&to.extents_max, self.extents.into()),
            (&to.extent_bytes, self.extent_bytes()),
            (&to.generations_offset, self.generations_offset),
            (&to.directory_offset, self.directory_offset),
            (&to.filter_offset, self.filter_offset),
            (&to.heat_offset, self.heat_offset),
            (&to.heat_bytes, self.heat_bytes),
            (&to.ghost_offset, self.ghost_offset),
            (&to.ghost_count, self.ghost_count),
            (&to.arena_offset, self.arena_offset),
        ]
    }

    /// Copies the geometry from a superblock and validates it against `mapped` bytes: every part
    /// in bounds, in order and apart, every count in its range.
    ///
    /// # Errors
    /// `Corruption` naming the first thing that is wrong.
    pub(crate) fn read(from: &Superblock, mapped: u64) -> Result<Self, Corruption> {
        let narrow =
            |value: u64, what| u32::try_from(value).map_err(|_| Corruption { what, offset: 0 });
        let extent_bytes = from.extent_bytes.load();
        let geometry = Self {
            segment_bytes: from.segment_bytes.load(),
            clients_offset: from.clients_offset.load(),
            clients: narrow(from.clients_count.load(), "number of clients")?,
            namespaces_offset: from.namespaces_offset.load(),
            namespaces: narrow(from.namespaces_count.load(), "number of namespaces")?,
            loaders_offset: from.loaders_offset.load(),
            loaders: narrow(from.loaders_count.load(), "number of loader leases")?,
            stripes_offset: from.stripes_offset.load(),
            stripes: narrow(from.stripes_count.load(), "number of stripes")?,
            redo_offset: from.redo_offset.load(),
            extents_offset: from.extents_offset.load(),
            extents: narrow(from.extents_max.load(), "number of extents")?,
            extent_shift: extent_bytes.trailing_zeros(),
            generations_offset: from.generations_offset.load(),
            directory_offset: from.directory_offset.load(),
            filter_offset: from.filter_offset.load(),
            heat_offset: from.heat_offset.load(),
            heat_bytes: from.heat_bytes.load(),
            ghost_offset: from.ghost_offset.load(),
            ghost_count: from.ghost_count.load(),
            arena_offset: from.arena_offset.load(),
            slot_hash_shift: narrow(from.slot_hash_shift.load(), "shift of the slot hash")?,
            planned_items: from.planned_items.load(),
        };
        let wrong = |what, field: &crate::region::Cell64| Corruption {
            what,
            offset: std::ptr::from_ref(field) as u64 - std::ptr::from_ref(from) as u64,
        };
        if !extent_bytes.is_power_of_two()
            || !(EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&extent_bytes)
        {
            return Err(wrong("size of an extent", &from.extent_bytes));
        }
        if geometry.clients == 0 || geometry.clients > Owner::CLIENTS_MAX {
            return Err(wrong("number of clients", &from.clients_count));
        }
        if geometry.namespaces == 0 || u64::from(geometry.namespaces) > NAMESPACES_MAX {
            return Err(wrong("number of namespaces", &from.namespaces_count));
        }
        if !geometry.loaders.is_power_of_two() {
            return Err(wrong("number of loader leases", &from.loaders_count));
        }
        let suits =
            |count: u64, least: u64| count == 0 || count.is_power_of_two() && count >= least;
        if !suits(geometry.heat_bytes, HEAT_BYTES_MIN) || !suits(geometry.ghost_count, GHOST_SET) {
            return Err(wrong("size of the marks or of the ghost", &from.heat_bytes));
        }
        // The number of buckets only grows.
        let buckets = IndexSize(from.index_size.load()).buckets();
        if !geometry.stripes.is_power_of_two() || u64::from(geometry.stripes) > buckets {
            return Err(wrong("number of stripes", &from.stripes_count));
        }
        if geometry.extents == 0 || geometry.slot_hash_shift > 50 {
            return Err(wrong("number of extents or shift", &from.extents_max));
        }
        // A word of the filter is of one stripe.
        if u64::from(geometry.stripes) > geometry.filter_words() {
            return Err(wrong("shift of the slot hash", &from.slot_hash_shift));
        }
        geometry.validate_places(mapped).map_err(|what| Corruption { what, offset: 0 })?;
        Ok(geometry)
    }

    pub(super) fn validate_places(&self, mapped: u64) -> Result<(), &'static str> {
        let parts = [
            (0, 1, SUPERBLOCK_BYTES),
            (self.clients_offset, self.clients.into(), size_of::<ClientEntry>() as u64),
            (self.namespaces_offset, self.namespaces.into(), size_of::<NamespaceRecord>() as u64),
            (self.loaders_offset, self.loaders.into(), size_of::<LoaderLease>() as u64),
            (self.stripes_offset, self.stripes.into(), size_of::<Stripe>() as u64),
            (self.redo_offset, self.stripes.into(), size_of::<RedoRecord>() as u64),
            (self.extents_offset, self.extents.into(), size_of::<ExtentEntry>() as u64),
            (self.generations_offset, self.extents.into(), 8),
            (self.directory_offset, self.extents.into(), 8),
            (self.filter_offset, self.filter_words(), 4),
            (self.heat_offset, self.heat_bytes, 1),
            (self.ghost_offset, self.ghost_count, 4),
            (self.arena_offset, self.extents.into(), self.extent_bytes()),
        ];
        let mut end = 0;
        for (offset, count, bytes) in parts {
            if offset < end || !offset.is_multiple_of(64) {
                return Err("the parts of the segment overlap, or are not aligned");
            }
            end = count
                .checked_mul(bytes)
                .and_then(|bytes| bytes.checked_add(offset))
                .ok_or("a part of the segment is too large")?;
        }
        if !self.arena_offset.is_multiple_of(PAGE_BYTES) {
            return Err("the arena does not start at a page");
        }
        if end > self.segment_bytes || self.segment_bytes > mapped {
            return Err("the parts of the segment are larger than the segment");
        }
        if self.segment_bytes > Slot::SEGMENT_BYTES_MAX {
            return Err("the segment is larger than offsets can reach");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::CreateOptions;
    use crate::layout::Plan;

    #[test]
    fn every_value_up_to_the_longest_can_be_divided() {
        for (extent, size) in [(4 << 10, 548 << 10), (4 << 10, 536 << 10), (8 << 10, 2080 << 10)] {
            let plan = Plan::of(&CreateOptions::new(size).extent_size(extent)).expect("a plan");
            let geometry = plan.geometry;
            let longest = geometry.value_bytes_max(32);
            let step = (longest / 997).max(1) as usize;
            for len in (1..=longest).step_by(step).chain(longest.saturating_sub(5000)..=longest) {
                let large = geometry.divide(32, len).expect("it is no longer than the longest");
                let bytes = 40 + 8 * large.count() + large.pieces_bytes();
                assert!(bytes <= geometry.item_bytes_max(), "{len}");
            }
            assert_eq!(geometry.divide(32, longest + 1), None);
        }
    }
}
