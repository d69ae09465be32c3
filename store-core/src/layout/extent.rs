//! An entry of the extent table: the state of one extent in one word.
//!
//! ```text
//! 63  60 59     48 47        37 36 35        18 17         0
//! state | owner   | owner's    | S| live units | used units |     units of 8 bytes
//!       | entry+1 | generation |  |            |            |
//! ```
//! S: suspect, a crash left its live count too high. `used` is the cursor: an item is reserved by
//! one compare-and-swap that adds its size to both, so an extent whose item is not published yet
//! never looks empty, and sealing needs to wait for nobody. Of the index: `live` and `used` together
//! are one number, the extent's place in its part of the directory.

use super::assert_offsets;
use crate::region::{Cell64, Shared};
use crate::sync::Owner;

/// See the module. The other words order extents for eviction and expiry.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ExtentEntry {
    pub(crate) word: Cell64,
    pub(crate) sequence: Cell64,
    /// See [`Stream`].
    pub(crate) stream: Cell64,
    /// Of one with a class of times to live: when the last of its items expires.
    pub(crate) last_expiry: Cell64,
    pub(crate) reserved: [Cell64; 3],
    /// The generation that it had when its memory was last given back; 0: never was.
    pub(crate) trimmed_generation: Cell64,
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64 or an array of them, so no padding (asserted).
unsafe impl Shared for ExtentEntry {}

assert_offsets!(ExtentEntry, 64, { word: 0, sequence: 8, stream: 16, last_expiry: 24, trimmed_generation: 56 });

/// The queue of eviction that an extent is in. In store mode it tells how the extent was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Of items that are new: they go unless they are hit more than once. In store mode: by puts.
    Small,
    /// Of items that stayed, or came back. In store mode: by cleaning.
    Main,
}

impl Queue {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Main];

    /// Its place among all.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Small => 0,
            Self::Main => 1,
        }
    }
}

/// Classes of times to live whose items have extents of their own.
pub(crate) const LIVES: u8 = 8;
/// A class ends where the next one begins: at 4 s, and then at four times as much each.
const LIFE_FIRST_MS: u64 = 4000;

/// Where in its group an item is written: with what goes when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shelf {
    pub(crate) queue: Queue,
    /// Class of times to live, from 1 to [`LIVES`]; 0: any time, or none.
    pub(crate) life: u8,
}

impl Shelf {
    /// How many there are.
    pub(crate) const COUNT: usize = Queue::ALL.len() * (LIVES as usize + 1);

    /// Its place among all.
    pub(crate) fn number(self) -> usize {
        usize::from(self.life.min(LIVES)) * Queue::ALL.len() + self.queue.number()
    }

    /// The class of a time to live.
    pub(crate) fn life_of(ttl_ms: u64) -> u8 {
        let quarters = (ttl_ms / LIFE_FIRST_MS).checked_ilog(4).map_or(0, |ilog| ilog + 1);
        1 + quarters.min(u32::from(LIVES) - 1) as u8
    }
}

impl From<Queue> for Shelf {
    fn from(queue: Queue) -> Self {
        Self { queue, life: 0 }
    }
}

/// What an extent is filled with: items of one group, which one queue of eviction holds.
///
/// ```text
/// 63      24 23       16 15       8 7        0
/// 0         | life      | group    | queue
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// A namespace that has a quota, and so extents of its own; 0: all others.
    pub(crate) group: u8,
    pub(crate) queue: Queue,
    /// As in [`Shelf`].
    pub(crate) life: u8,
}

impl Stream {
    pub(crate) fn of(word: u64) -> Self {
        let queue = if word as u8 == 1 { Queue::Main } else { Queue::Small };
        Self { group: (word >> 8) as u8, queue, life: (word >> 16) as u8 }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.life) << 16 | u64::from(self.group) << 8 | self.queue.number() as u64
    }
}

/// What may be done with an extent, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtentState {
    /// No item. Whoever claims it may have it (not commissioned if its generation is 0).
    Free,
    /// Its owner prepares it, nobody else touches it.
    Claimed,
    /// Items may be reserved in it: by its owner, by anybody if it has none or room is short.
    Open,
    /// No more items; free as soon as the last live one goes.
    Sealed,
    /// Takes the items that a cleaner moves; others only if nothing else has the room.
    Relocation,
    /// Free as soon as nobody has it pinned any more.
    Pinned,
    /// Buckets of the index, for good. With an owner: perhaps not in the directory yet.
    Buckets,
    /// Overflow lines of the index, likewise.
    Overflow,
    /// Not of this version.
    Unknown,
}

/// The word of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtentWord {
    pub(crate) state: ExtentState,
    pub(crate) owner: Option<Owner>,
    pub(crate) suspect: bool,
    pub(crate) live: u32,
    pub(crate) used: u32,
}

const UNIT_BITS: u32 = 18;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;
const SUSPECT: u64 = 1 << 36;
const OWNER_GENERATION_BITS: u32 = 11;

impl ExtentWord {
    /// No item, no owner.
    pub(crate) const FREE: Self =
        Self { state: ExtentState::Free, owner: None, suspect: false, live: 0, used: 0 };

    #[inline]
    pub(crate) fn of(word: u64) -> Self {
        let state = match word >> 60 {
            0 => ExtentState::Free,
            1 => ExtentState::Claimed,
            2 => ExtentState::Open,
            3 => ExtentState::Sealed,
            4 => ExtentState::Relocation,
            5 => ExtentState::Pinned,
            6 => ExtentState::Buckets,
            7 => ExtentState::Overflow,
            _ => ExtentState::Unknown,
        };
        let owner = (word >> 48 & 0xFFF).checked_sub(1).map(|client| {
            let generation = word >> 37 & ((1 << OWNER_GENERATION_BITS) - 1);
            Owner { client: client as u32, generation: generation as u32 }
        });
        Self {
            state,
            owner,
            suspect: word & SUSPECT != 0,
            live: (word >> UNIT_BITS & UNIT_MASK) as u32,
            used: (word & UNIT_MASK) as u32,
        }
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        let state = match self.state {
            ExtentState::Free => 0,
            ExtentState::Claimed => 1,
            ExtentState::Open => 2,
            ExtentState::Sealed => 3,
            ExtentState::Relocation => 4,
            ExtentState::Pinned => 5,
            ExtentState::Buckets => 6,
            ExtentState::Overflow => 7,
            ExtentState::Unknown => 15,
        };
        let owner = self.owner.map_or(0, |owner| {
            u64::from(owner.client + 1) << 48 | u64::from(Self::kept(owner).generation) << 37
        });
        debug_assert!(u64::from(self.live) <= UNIT_MASK && u64::from(self.used) <= UNIT_MASK);
        state << 60
            | owner
            | if self.suspect { SUSPECT } else { 0 }
            | u64::from(self.live) << UNIT_BITS
            | u64::from(self.used)
    }

    /// `word` with units more, live and used: there must be room for them.
    #[inline]
    pub(crate) fn with_more(word: u64, live: u32, used: u32) -> u64 {
        word + (u64::from(live) << UNIT_BITS) + u64::from(used)
    }

    /// `word` with live units less, of which it must have more.
    #[inline]
    pub(crate) fn with_less_live(word: u64, units: u32) -> u64 {
        word - (u64::from(units) << UNIT_BITS)
    }

    /// The word of an extent of the index, at `number` in its part of the directory.
    pub(crate) fn of_index(state: ExtentState, number: u64, owner: Option<Owner>) -> Self {
        let (live, used) = (number >> UNIT_BITS & UNIT_MASK, number & UNIT_MASK);
        Self { state, owner, suspect: false, live: live as u32, used: used as u32 }
    }

    /// Where an extent of the index stands in its part of the directory.
    pub(crate) fn index_number(self) -> u64 {
        u64::from(self.live) << UNIT_BITS | u64::from(self.used)
    }

    /// `owner` as far as an extent names it: with the low bits of its generation.
    pub(crate) fn kept(owner: Owner) -> Owner {
        Owner {
            client: owner.client,
            generation: owner.generation & ((1 << OWNER_GENERATION_BITS) - 1),
        }
    }

    /// Whether `owner` owns it.
    pub(crate) fn is_owned_by(self, owner: Owner) -> bool {
        self.owner == Some(Self::kept(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_round_trip() {
        for state in [
            ExtentState::Free,
            ExtentState::Claimed,
            ExtentState::Open,
            ExtentState::Sealed,
            ExtentState::Relocation,
            ExtentState::Pinned,
            ExtentState::Buckets,
            ExtentState::Overflow,
        ] {
            for owner in [
                None,
                Some(Owner { client: 0, generation: 0 }),
                Some(Owner { client: 4094, generation: 2047 }),
            ] {
                for suspect in [false, true] {
                    for (live, used) in [(0, 0), (1, 131_072), (131_072, 131_072)] {
                        let word = ExtentWord { state, owner, suspect, live, used };
                        assert_eq!(ExtentWord::of(word.word()), word);
                    }
                }
            }
        }
        assert_eq!(ExtentWord::FREE.word(), 0, "zeroed memory is free");
    }
}
