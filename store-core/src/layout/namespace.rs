//! A namespace: keys of their own, with a quota, a time to live and numbers of their own. Record 0
//! is that of the keys without one.
//!
//! ```text
//! 63        48 47      35 34     33  32 31              0
//! generation  | 0        | mode | state | quota in extents   0: none
//! ```
//! State: 0 free, 1 in use, 2 about to go. The generation counts the names that had the record; it
//! enters the hash of keys, so who still has the record of one that is gone finds nothing.

use super::{COUNTS, assert_offsets};
use crate::region::{Cell64, Shared};

/// Bytes of a name, which is padded with zeros.
pub(crate) const NAMESPACE_NAME_BYTES: usize = 32;

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct NamespaceRecord {
    // Line 0: what it is.
    pub(crate) word: Cell64,
    /// Milliseconds that its items live unless told otherwise; 0: for ever.
    pub(crate) default_ttl_ms: Cell64,
    /// Its part of heat and ghost, see [`Share`].
    pub(crate) share: Cell64,
    /// That of its ghost.
    pub(crate) ghost_clock: Cell64,
    pub(crate) name: [Cell64; NAMESPACE_NAME_BYTES / 8],
    // Line 1: what was counted. Near, after crashes.
    pub(crate) items: Cell64,
    pub(crate) hits: Cell64,
    pub(crate) misses: Cell64,
    pub(crate) puts: Cell64,
    pub(crate) deletes: Cell64,
    pub(crate) put_bytes: Cell64,
    pub(crate) evicted: Cell64,
    pub(crate) expired: Cell64,
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64 or an array of them, so no padding (asserted).
unsafe impl Shared for NamespaceRecord {}

assert_offsets!(NamespaceRecord, 128, {
    word: 0, default_ttl_ms: 8, share: 16, ghost_clock: 24, name: 32, items: 64, hits: 72,
    misses: 80, puts: 88, deletes: 96, put_bytes: 104, evicted: 112, expired: 120,
});

/// What a record is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceState {
    Free,
    InUse,
    /// Its items are being deleted; nothing more is written to it.
    Leaving,
}

/// The first word of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamespaceWord {
    pub(crate) state: NamespaceState,
    pub(crate) generation: u16,
    /// Whether eviction makes room in it.
    pub(crate) evicts: bool,
    /// 0: none.
    pub(crate) quota_extents: u32,
}

impl NamespaceWord {
    #[inline]
    pub(crate) fn of(word: u64) -> Self {
        Self {
            state: match word >> 32 & 3 {
                1 => NamespaceState::InUse,
                2 => NamespaceState::Leaving,
                _ => NamespaceState::Free,
            },
            generation: (word >> 48) as u16,
            evicts: word >> 34 & 1 != 0,
            quota_extents: word as u32,
        }
    }

    pub(crate) fn word(self) -> u64 {
        let state = match self.state {
            NamespaceState::Free => 0,
            NamespaceState::InUse => 1,
            NamespaceState::Leaving => 2,
        };
        u64::from(self.generation) << 48
            | u64::from(self.evicts) << 34
            | state << 32
            | u64::from(self.quota_extents)
    }
}

impl NamespaceRecord {
    /// What clients tell, in the order of [`Counts`](super::Counts).
    pub(crate) fn told(&self) -> [&Cell64; COUNTS] {
        [&self.hits, &self.misses, &self.puts, &self.deletes, &self.put_bytes]
    }

    /// All that is counted.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &Cell64> {
        let others = [&self.items, &self.evicted, &self.expired, &self.ghost_clock];
        self.told().into_iter().chain(others)
    }

    /// Whether it is some namespace's.
    pub(crate) fn is_taken(&self) -> bool {
        self.state().state != NamespaceState::Free
    }

    #[inline]
    pub(crate) fn state(&self) -> NamespaceWord {
        NamespaceWord::of(self.word.load())
    }
}

/// A part of heat and ghost, in 65536ths of them, so that what is marked and remembered for one
/// namespace takes no other's place.
///
/// ```text
/// 63      48 47      32 31            0
/// 0         | first    | how many           0: all of them
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) u64);

impl Share {
    /// Heat and ghost as a whole.
    pub(crate) const ALL: Self = Self(0);
    /// Parts that there are.
    pub(crate) const PARTS: u64 = 1 << 16;

    pub(crate) fn new(first: u64, parts: u64) -> Self {
        Self((first & 0xFFFF) << 32 | parts & 0xFFFF_FFFF)
    }

    /// How many of `all` there are in it; one at least.
    pub(crate) fn of(self, all: u64) -> u64 {
        if self == Self::ALL { all } else { self.parts_of(all).max(1) }
    }

    fn parts_of(self, all: u64) -> u64 {
        let parts = (self.0 & 0xFFFF_FFFF).min(Self::PARTS);
        ((u128::from(all) * u128::from(parts)) >> 16) as u64
    }

    /// The place of a hash among `places`, of which this is a part; `bits` are well mixed bits of it.
    #[inline(always)]
    pub(crate) fn place(self, bits: u64, places: u64) -> u64 {
        if self == Self::ALL {
            return bits & places.wrapping_sub(1);
        }
        let first = ((u128::from(places) * u128::from(self.0 >> 32 & 0xFFFF)) >> 16) as u64;
        // 32 bits are enough to tell the places of a part apart.
        let within = ((u128::from(self.of(places)) * u128::from(bits as u32)) >> 32) as u64;
        first + within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_round_trip() {
        for state in [NamespaceState::Free, NamespaceState::InUse, NamespaceState::Leaving] {
            for evicts in [false, true] {
                for (generation, quota_extents) in [(0, 0), (1, 7), (u16::MAX, u32::MAX)] {
                    let word = NamespaceWord { state, generation, evicts, quota_extents };
                    assert_eq!(NamespaceWord::of(word.word()), word);
                }
            }
        }
        assert_eq!(NamespaceWord::of(0).state, NamespaceState::Free, "zeroed memory is free");
    }

    #[test]
    fn shares_lie_apart_and_within() {
        let places = 1 << 10;
        let shares = [Share::new(0, 1 << 14), Share::new(1 << 14, 1 << 15)];
        let ranges = shares.map(|share| {
            let of = |bits: u64| share.place(bits, places);
            (of(0), of(u64::from(u32::MAX)))
        });
        assert_eq!(ranges, [(0, 255), (256, 767)]);
        assert_eq!(Share::ALL.place(u64::MAX, places), places - 1);
        assert_eq!(Share(u64::MAX).place(u64::MAX, 64), 63 + 63, "hostile: out of the table");
    }
}
