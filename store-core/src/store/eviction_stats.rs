//! What eviction did, and what the queues hold: for people.

use super::Store;
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Queue};
use crate::region::Shim;

/// What eviction did since the store was made, and what its queues hold. The store goes on
/// meanwhile, so sums are near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvictionStats {
    /// Bytes of the items in the small queue: those that are new.
    pub small_bytes: u64,
    /// Bytes of the items in the main queue: those that were hit, or came back.
    pub main_bytes: u64,
    /// Items that went from the end of the small queue.
    pub evicted_small: u64,
    /// Items that went from the end of the main queue.
    pub evicted_main: u64,
    /// Bytes of all these.
    pub evicted_bytes: u64,
    /// Items that went from the small queue to the main queue.
    pub promoted: u64,
    /// Items that came back while they were remembered, and went to the main queue at once.
    pub came_back: u64,
}

impl<S: Shim> Store<S> {
    /// What eviction did; `None` in store mode.
    pub(super) fn eviction_stats(&self) -> Result<Option<EvictionStats>, Corruption> {
        let segment = &self.segment;
        if !segment.evicts {
            return Ok(None);
        }
        let mut live = [0; Queue::ALL.len()];
        for extent in 0..segment.geometry.extents {
            let units = queued_units(segment.extent_word(extent)?);
            live[segment.queue(extent)?.number()] += units * 8;
        }
        let superblock = segment.superblock();
        Ok(Some(EvictionStats {
            small_bytes: live[0],
            main_bytes: live[1],
            evicted_small: superblock.evicted[0].load(),
            evicted_main: superblock.evicted[1].load(),
            evicted_bytes: superblock.evicted_bytes.load(),
            promoted: superblock.promoted.load(),
            came_back: superblock.came_back.load(),
        }))
    }
}

/// Live units that an extent adds to its queue.
pub(super) fn queued_units(word: ExtentWord) -> u64 {
    match word.state {
        ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation => word.live.into(),
        _ => 0,
    }
}
