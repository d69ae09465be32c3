//! The ghost of cache mode: fingerprints of the keys that were evicted unhit, so that one that
//! comes back is known.
//!
//! ```text
//! 31   30        16 15          0
//! 1  | time         | fingerprint      of the hash; 0: empty
//! ```
//! Sets of 16, one line each. Time is that of the ghost's own clock, which goes on by two for each
//! key that is noted and back by one for each that is found: so it counts about twice the keys
//! noted since that are still there. Hints: any value will do.

use super::Share;
use crate::region::{Cell32, Cell64, Region, Shim, Table};

/// Entries in a set.
pub(crate) const GHOST_SET: u64 = 16;
/// What the clock goes on by for a key that is noted.
const TICKS_NOTED: u64 = 2;
/// What it goes back by for a key that is found.
const TICKS_FOUND: u64 = 1;
const TIME_BITS: u32 = 15;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
const TAKEN: u32 = 1 << 31;

/// See the module. Of a store that never evicts it is empty.
#[derive(Debug, Clone)]
pub(crate) struct Ghost(Table<Cell32>);

impl Ghost {
    /// Over a table whose length is a power of two of at least a set, or 0.
    pub(crate) fn new(entries: Table<Cell32>) -> Self {
        Self(entries)
    }

    fn set(&self, share: Share, hash: u64) -> impl Iterator<Item = &Cell32> {
        let sets = self.0.count() / GHOST_SET;
        let first = share.place(hash >> 24, sets).wrapping_mul(GHOST_SET);
        (first..first.saturating_add(GHOST_SET)).filter_map(|entry| self.0.get(entry))
    }

    /// Asks for the set of `hash`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, region: &Region, share: Share, hash: u64) {
        let sets = self.0.count() / GHOST_SET;
        if sets > 0 {
            self.0.prefetch(region, share.place(hash >> 24, sets).wrapping_mul(GHOST_SET));
        }
    }

    fn fingerprint(hash: u64) -> u32 {
        (hash >> 40) as u32 & 0xFFFF
    }

    /// Ticks in a step of the time in an entry: 2^12 steps are as many as there are entries.
    fn shift(&self) -> u32 {
        (TICKS_NOTED * self.0.count()).max(1).ilog2().saturating_sub(12)
    }

    fn time(&self, clock: &Cell64) -> u32 {
        (clock.load() >> self.shift()) as u32 & TIME_MASK
    }

    /// Steps between an entry and now; 0 for one from a little ahead, whose clock went back.
    fn age(entry: u32, now: u32) -> u32 {
        let age = now.wrapping_sub(entry >> 16) & TIME_MASK;
        if age > TIME_MASK / 2 { 0 } else { age }
    }

    /// Notes the key with this hash.
    pub(crate) fn note<S: Shim>(&self, clock: &Cell64, (share, hash): (Share, u64)) {
        let now = self.time(clock);
        let fingerprint = Self::fingerprint(hash);
        let oldest = self.set(share, hash).max_by_key(|cell| {
            let entry = cell.load();
            let is_free = entry & TAKEN == 0 || entry & 0xFFFF == fingerprint;
            if is_free { u32::MAX } else { Self::age(entry, now) }
        });
        if let Some(cell) = oldest {
            cell.store_hint(TAKEN | now << 16 | fingerprint);
            clock.fetch_add::<S>(TICKS_NOTED);
        }
    }

    /// Whether the key with this hash was noted so lately that fewer than `keys` were since; it is
    /// forgotten then.
    pub(crate) fn take<S: Shim>(
        &self,
        clock: &Cell64,
        (share, hash): (Share, u64),
        keys: u64,
    ) -> bool {
        let now = self.time(clock);
        let fingerprint = Self::fingerprint(hash);
        let found = self.set(share, hash).find(|cell| {
            let entry = cell.load();
            entry & TAKEN != 0 && entry & 0xFFFF == fingerprint
        });
        let Some(cell) = found else { return false };
        let age = u64::from(Self::age(cell.load(), now)) << self.shift();
        cell.store_hint(0);
        let young = age <= TICKS_NOTED.saturating_mul(keys);
        if young {
            clock.fetch_add::<S>(TICKS_FOUND.wrapping_neg());
        }
        young
    }
}
