//! A cleaner's place: who cleans, which extent is emptied, and where its items go.
//!
//! Everything but the guard is resumed by the next one to have the place, whatever became of the
//! last one: a victim that is none any more is dropped, a destination likewise.

use super::assert_offsets;
use crate::region::{Cell32, Cell64, Shared, Shim};

/// The places in a superblock; small stores use fewer.
pub(crate) const CLEANERS_MAX: usize = 4;

/// See the module: one line of 64 bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Cleaner {
    pub(crate) guard: Cell32,
    pub(crate) reserved: Cell32,
    /// Number of the extent that takes moved items, + 1; 0: none.
    pub(crate) destination: Cell64,
    /// Number of the extent that is emptied, + 1; 0: none. Bit 63: see [`Victim::recount`]; bit 62: see
    /// [`Victim::evict`].
    pub(crate) victim: Cell64,
    /// See [`Victim::generation`].
    pub(crate) victim_generation: Cell64,
    /// How far the victim was walked, in units of 8 bytes.
    pub(crate) cursor: Cell64,
    /// Bytes that were moved, and extents that were emptied, through this place.
    pub(crate) moved_bytes: Cell64,
    pub(crate) emptied: Cell64,
    /// Units of the victim's items that were moved, of those that could have gone.
    pub(crate) victim_moved: Cell64,
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), cells only, two 4-byte ones side by side, so no padding (asserted).
unsafe impl Shared for Cleaner {}

assert_offsets!(Cleaner, 64, {
    guard: 0,
    destination: 8,
    victim: 16,
    victim_generation: 24,
    cursor: 32,
    moved_bytes: 40,
    emptied: 48,
    victim_moved: 56,
});

/// An extent that is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) extent: u32,
    /// Of the extent: its items are meant, not those of a later use.
    pub(crate) generation: u64,
    /// Its live count can't be relied on, and nothing in it will be published any more: it is free
    /// when it was walked to the end, whatever it counts.
    pub(crate) recount: bool,
    /// Items that nobody wants go; else all are moved.
    pub(crate) evict: bool,
}

const RECOUNT: u64 = 1 << 63;
const EVICT: u64 = 1 << 62;

impl Cleaner {
    /// The extent that takes moved items, if one was named.
    pub(crate) fn destination(&self) -> Option<u32> {
        self.destination.load().checked_sub(1).and_then(|extent| u32::try_from(extent).ok())
    }

    pub(crate) fn set_destination<S: Shim>(&self, extent: Option<u32>) {
        self.destination.store::<S>(extent.map_or(0, |extent| u64::from(extent) + 1));
    }

    /// The extent that is emptied, if one was named, and how far it was walked, in units.
    pub(crate) fn victim(&self) -> Option<(Victim, u32)> {
        let word = self.victim.load();
        let extent = u32::try_from((word & !(RECOUNT | EVICT)).checked_sub(1)?).ok()?;
        let generation = self.victim_generation.load();
        let cursor = u32::try_from(self.cursor.load()).ok()?;
        Some((
            Victim { extent, generation, recount: word & RECOUNT != 0, evict: word & EVICT != 0 },
            cursor,
        ))
    }

    /// Names another victim. Dies on the way: there is none, or the whole of it.
    pub(crate) fn set_victim<S: Shim>(&self, victim: Option<Victim>) {
        self.victim.store::<S>(0);
        self.cursor.store::<S>(0);
        self.victim_moved.store::<S>(0);
        if let Some(Victim { extent, generation, recount, evict }) = victim {
            self.victim_generation.store::<S>(generation);
            let flags = if recount { RECOUNT } else { 0 } | if evict { EVICT } else { 0 };
            self.victim.store::<S>(flags | (u64::from(extent) + 1));
        }
    }

    pub(crate) fn set_cursor<S: Shim>(&self, units: u32) {
        self.cursor.store::<S>(units.into());
    }
}
