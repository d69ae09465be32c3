//! Marks of what was hit, in cache mode: a byte for each hash value, of as many as there are.
//!
//! ```text
//! 7        2 1    0
//! tag of the | hits, at most 3
//! hash       |
//! ```
//! Hints: any value will do, two that mark at once may count as one. Of two hashes with one byte
//! the first one that is hit has it until its hits were taken off.

use super::Share;
use crate::region::{Cell8, Region, Table};

/// Hits that are told apart.
pub(crate) const HITS_MAX: u8 = 3;
const HITS_MASK: u8 = 3;
/// The permission bits that a heat of readers can have.
pub(crate) const HEAT_PERMISSIONS: u32 = 0o666;
/// The fewest bytes that there are, if there are any.
pub(crate) const HEAT_BYTES_MIN: u64 = 64;
/// Bytes for each item that is planned: with fewer, items take each other's marks.
pub(crate) const HEAT_BYTES_PER_ITEM: u64 = 4;

/// See the module. Of a store that never evicts it is empty.
#[derive(Debug, Clone)]
pub(crate) struct Heat(Table<Cell8>);

impl Heat {
    /// Over a table whose length is a power of two, or 0.
    pub(crate) fn new(bytes: Table<Cell8>) -> Self {
        Self(bytes)
    }

    /// Whether there is a place for marks.
    #[inline(always)]
    pub(crate) fn is_there(&self) -> bool {
        self.0.count() > 0
    }

    #[inline(always)]
    fn cell(&self, share: Share, hash: u64) -> Option<&Cell8> {
        self.0.get(self.index(share, hash))
    }

    #[inline(always)]
    fn index(&self, share: Share, hash: u64) -> u64 {
        share.place(hash >> 20, self.0.count())
    }

    /// The tag of a hash, where it stands in the byte: bits apart from those that chose it.
    #[inline(always)]
    fn tag(hash: u64) -> u8 {
        (hash >> 48) as u8 & !HITS_MASK
    }

    /// Asks for the byte of `hash`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, region: &Region, share: Share, hash: u64) {
        if self.is_there() {
            self.0.prefetch(region, self.index(share, hash));
        }
    }

    /// How often `hash` was hit.
    #[inline]
    pub(crate) fn hits(&self, share: Share, hash: u64) -> u8 {
        match self.cell(share, hash).map(Cell8::load) {
            Some(byte) if byte & !HITS_MASK == Self::tag(hash) => byte & HITS_MASK,
            _ => 0,
        }
    }

    /// Adds `by` hits. One load, and a store unless it says enough already.
    #[inline(always)]
    pub(crate) fn add(&self, share: Share, hash: u64, by: u8) {
        let Some(cell) = self.cell(share, hash) else { return };
        let byte = cell.load();
        let hits = byte & HITS_MASK;
        if byte & !HITS_MASK == Self::tag(hash) {
            if hits < HITS_MAX {
                cell.store_hint(Self::tag(hash) | (hits + by).min(HITS_MAX));
            }
        } else if hits == 0 {
            cell.store_hint(Self::tag(hash) | by.min(HITS_MAX));
        }
    }

    /// Sets the hits of `hash`, if it has the byte.
    #[inline]
    pub(crate) fn set(&self, share: Share, hash: u64, hits: u8) {
        if let Some(cell) = self.cell(share, hash)
            && cell.load() & !HITS_MASK == Self::tag(hash)
        {
            cell.store_hint(Self::tag(hash) | hits.min(HITS_MAX));
        }
    }
}
