//! What the arena holds, summed over the extent table.

use super::quota;
use crate::error::Corruption;
use crate::layout::{ExtentState, Segment};
use crate::region::Shim;

/// Bytes and extents by what they hold. Extents change meanwhile, so the sums are near.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) free: u32,
    pub(crate) open: u32,
    pub(crate) sealed: u32,
    /// Extents that take what cleaners move.
    pub(crate) relocation: u32,
    /// Extents without items that wait for pins.
    pub(crate) pinned: u32,
    /// Bytes that are kept for cleaners, and so not free.
    pub(crate) reserve_bytes: u64,
    /// Extents of the index, whose bytes are no part of the capacity.
    pub(crate) index: u32,
    pub(crate) uncommissioned: u32,
    pub(crate) suspect: u32,
    /// The largest piece that is left of an open extent.
    pub(crate) rest_bytes: u64,
}

/// Bytes of a group that may live beside what counts as live now: so that all of it leaves the bytes of
/// the extents that are kept, and those that others were promised, but for what pieces take that are
/// smaller than they would be. So who deletes finds room for as much, wherever it lies. No limit where
/// something can be evicted. Walks the extent table.
pub(crate) fn may_live<S: Shim>(segment: &Segment<S>, group: u8) -> Result<u64, Corruption> {
    if segment.evicts {
        return Ok(u64::MAX);
    }
    let usage = Usage::of(segment)?;
    let limit = usage.live_limit(segment, group)?;
    Ok(limit.map_or(u64::MAX, |limit| limit.saturating_sub(usage.live_bytes)))
}

/// Notes that an item took so many bytes more than it would where there is room.
pub(crate) fn note_scattered<S: Shim>(segment: &Segment<S>, bytes: u64) {
    segment.superblock().scattered_bytes.fetch_add::<S>(bytes);
}

impl Usage {
    /// Walks the extent table: one line for each extent.
    pub(crate) fn of<S: Shim>(segment: &Segment<S>) -> Result<Self, Corruption> {
        let extent_bytes = segment.geometry.extent_bytes();
        let mut usage = Self::default();
        for extent in 0..segment.geometry.extents {
            let word = segment.extent_word(extent)?;
            let (live, used) = (u64::from(word.live) * 8, u64::from(word.used) * 8);
            usage.capacity_bytes += extent_bytes;
            usage.suspect += u32::from(word.suspect);
            let useless = word.state == ExtentState::Free && !segment.is_free(extent)?;
            match if useless { ExtentState::Unknown } else { word.state } {
                ExtentState::Free if segment.generation(extent)?.load() == 0 => {
                    usage.uncommissioned += 1;
                    usage.capacity_bytes -= extent_bytes;
                }
                ExtentState::Free | ExtentState::Claimed => {
                    usage.free += 1;
                    usage.free_bytes += extent_bytes;
                }
                ExtentState::Open => {
                    usage.open += 1;
                    usage.live_bytes += live;
                    usage.dead_bytes += used.saturating_sub(live);
                    usage.free_bytes += extent_bytes.saturating_sub(used);
                    usage.rest_bytes = usage.rest_bytes.max(extent_bytes.saturating_sub(used));
                }
                ExtentState::Pinned => {
                    usage.pinned += 1;
                    usage.dead_bytes += extent_bytes;
                }
                ExtentState::Relocation => {
                    usage.relocation += 1;
                    usage.live_bytes += live;
                    usage.dead_bytes += used.saturating_sub(live);
                    usage.reserve_bytes += extent_bytes.saturating_sub(used);
                }
                ExtentState::Sealed | ExtentState::Unknown => {
                    usage.sealed += 1;
                    usage.live_bytes += live;
                    usage.dead_bytes += extent_bytes.saturating_sub(live);
                }
                ExtentState::Buckets | ExtentState::Overflow => {
                    usage.index += 1;
                    usage.capacity_bytes -= extent_bytes;
                }
            }
        }
        let kept = u64::from(segment.kept_with_memory().min(usage.free)) * extent_bytes;
        usage.reserve_bytes += kept;
        usage.free_bytes -= kept;
        Ok(usage)
    }

    /// Bytes of a group that may live in all, see [`may_live`]. `None` where there is no limit.
    pub(crate) fn live_limit<S: Shim>(
        &self,
        segment: &Segment<S>,
        group: u8,
    ) -> Result<Option<u64>, Corruption> {
        // What suspects count is not known.
        if segment.evicts || self.suspect > 0 {
            return Ok(None);
        }
        let shift = segment.geometry.extent_shift;
        let all = self.capacity_bytes + (u64::from(self.uncommissioned) << shift);
        let kept = u64::from(segment.kept_extents()) << shift;
        let for_quotas = u64::from(quota::kept_from(segment, group)?) << shift;
        let limit = all.saturating_sub(kept + for_quotas);
        let scattered = &segment.superblock().scattered_bytes;
        let found = scattered.load();
        if found != 0 && self.live_bytes < limit / 2 && segment.region.writable() {
            // There is room, and for long. Readers ask for the limit, too.
            scattered.store::<S>(0);
        }
        Ok(Some(limit + found.min(kept / 2)))
    }

    /// The largest item of fewer than `needed` bytes that could be put as things are: one that lies
    /// whole, in the rest of an open extent; a large one, in all that is free, whose extents lose a
    /// part at their ends.
    pub(crate) fn largest_below(&self, needed: u64, whole_bytes_max: u64) -> u64 {
        let in_pieces = self.free_bytes - self.free_bytes / 8;
        let in_pieces = if needed > whole_bytes_max { in_pieces } else { 0 };
        self.rest_bytes.max(in_pieces).min(needed.saturating_sub(8))
    }
}
