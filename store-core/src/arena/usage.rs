//! What the arena holds, summed over the extent table.

use super::lease::can_be_claimed;
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
    pub(crate) run: u32,
    /// Extents of the index, whose bytes are no part of the capacity.
    pub(crate) index: u32,
    pub(crate) uncommissioned: u32,
    pub(crate) suspect: u32,
    /// The largest piece that is left of an open extent.
    pub(crate) rest_bytes: u64,
    /// The most neighbouring extents that are free.
    pub(crate) row: u32,
}

impl Usage {
    /// Walks the extent table: one line for each extent.
    pub(crate) fn of<S: Shim>(segment: &Segment<S>) -> Result<Self, Corruption> {
        let extent_bytes = segment.geometry.extent_bytes();
        let mut usage = Self::default();
        let mut row = 0;
        for extent in 0..segment.geometry.extents {
            let word = segment.extent_word(extent)?;
            row = if can_be_claimed(segment, extent)? { row + 1 } else { 0 };
            usage.row = usage.row.max(row);
            let (live, used) = (u64::from(word.live) * 8, u64::from(word.used) * 8);
            usage.capacity_bytes += extent_bytes;
            usage.suspect += u32::from(word.suspect);
            match word.state {
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
                ExtentState::RunHead => {
                    usage.run += 1;
                    usage.live_bytes += extent_bytes;
                }
                ExtentState::RunBody => {
                    usage.run += 1;
                    usage.live_bytes += live;
                    usage.dead_bytes += extent_bytes.saturating_sub(live);
                }
                ExtentState::Buckets | ExtentState::Overflow => {
                    usage.index += 1;
                    usage.capacity_bytes -= extent_bytes;
                }
            }
        }
        let kept = u64::from(segment.geometry.cleaners().min(usage.free)) * extent_bytes;
        usage.reserve_bytes += kept;
        usage.free_bytes -= kept;
        Ok(usage)
    }

    /// The largest piece that a put of fewer than `needed` bytes could have as things are: the rest of an
    /// open extent, or neighbours that are free, but for one that is kept for cleaners.
    pub(crate) fn largest_below(&self, needed: u64, extent_bytes: u64) -> u64 {
        let neighbours = u64::from(self.row.min(self.free.saturating_sub(1))) * extent_bytes;
        let together =
            if needed > extent_bytes && neighbours > extent_bytes { neighbours } else { 0 };
        self.rest_bytes.max(together).min(needed.saturating_sub(8))
    }
}
