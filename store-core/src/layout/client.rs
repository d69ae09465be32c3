//! An entry of the client table: who may hold guards and extents.
//!
//! ```text
//! word:  63  60 59              32 31                  0
//!        state | generation (28)  | pid                 |
//! ```
//! State, generation and pid stand in one word: one compare-and-swap registers a client, another
//! frees its entry, and neither can meet half of the other.

use super::assert_offsets;
use super::counts::Counts;
use crate::region::{Cell64, Shared};
use crate::sync::Owner;

/// See the module. Line 1 is for pins, line 2 for reservations in flight, line 3 for counters.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ClientEntry {
    pub(crate) word: Cell64,
    pub(crate) start_time: Cell64,
    pub(crate) pid_namespace: Cell64,
    pub(crate) boot_id: [Cell64; 2],
    pub(crate) attached_unix_ms: Cell64,
    /// The generation whose client filled start time, namespace and boot id in; stored last.
    pub(crate) identity_generation: Cell64,
    /// The generation whose client has a byte of the object locked for as long as it lives.
    pub(crate) lock_generation: Cell64,
    /// What its threads have pinned: see [`PinWord`].
    pub(crate) pins: [Cell64; PINS_MAX],
    /// What its threads have reserved and not published yet: see [`InFlightWord`].
    pub(crate) in_flight: [Cell64; IN_FLIGHT_WORDS],
    pub(crate) counters: Counts,
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64, an array of them or Counts, so no padding (asserted).
unsafe impl Shared for ClientEntry {}

assert_offsets!(ClientEntry, 256, {
    word: 0,
    start_time: 8,
    pid_namespace: 16,
    boot_id: 24,
    attached_unix_ms: 40,
    identity_generation: 48,
    lock_generation: 56,
    pins: 64,
    in_flight: 128,
    counters: 192,
});

impl ClientEntry {
    /// The client that has the entry, number `client`, now.
    pub(crate) fn owner(&self, client: u32) -> Owner {
        Owner::new(client, ClientWord::of(self.word.load()).generation)
    }
}

/// Words for reservations in flight. The last one counts those of further threads.
pub(crate) const IN_FLIGHT_WORDS: usize = 8;

/// A word of `in_flight`: one thread's reservation, or in the last word how many more there are.
///
/// ```text
/// 63  62    61   57 56        38 37                           0
/// 1 | large | 0     | generation | unit, extent + 1, or count  |      0 = none
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlightWord {
    /// Of the client, as far as a guard names it.
    pub(crate) generation: u32,
    /// Of a large item, which lists its pieces.
    pub(crate) large: bool,
    /// The extent + 1 (0: none yet); of a large item, the unit of the segment where it begins; in
    /// the last word the count.
    pub(crate) number: u64,
}

impl InFlightWord {
    const TAKEN: u64 = 1 << 63;
    const LARGE: u64 = 1 << 62;
    const NUMBER_BITS: u32 = 38;

    /// `None` for a word that nobody has taken.
    #[inline]
    pub(crate) fn of(word: u64) -> Option<Self> {
        (word & Self::TAKEN != 0).then_some(Self {
            generation: (word >> Self::NUMBER_BITS) as u32 & Owner::GENERATION_MASK,
            large: word & Self::LARGE != 0,
            number: word & ((1 << Self::NUMBER_BITS) - 1),
        })
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        debug_assert!(self.number >> Self::NUMBER_BITS == 0);
        Self::TAKEN
            | if self.large { Self::LARGE } else { 0 }
            | u64::from(self.generation) << Self::NUMBER_BITS
            | self.number
    }
}

/// What a client may have pinned at a time.
pub(crate) const PINS_MAX: usize = 8;

/// A word of `pins`: an item whose bytes may not be used anew.
///
/// ```text
/// 63  62    61  51 50         38 37                          0
/// 1 | large | 0    | generation  | unit                       |      0 = none
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PinWord {
    /// The low 13 bits of that of the client.
    pub(crate) generation: u32,
    /// A large item: its pieces are pinned with it.
    pub(crate) large: bool,
    /// The unit of the segment where the item begins.
    pub(crate) unit: u64,
}

impl PinWord {
    const TAKEN: u64 = 1 << 63;
    const LARGE: u64 = 1 << 62;
    const UNIT_BITS: u32 = 38;
    const GENERATION_MASK: u32 = (1 << 13) - 1;

    /// A pin of the client with this generation.
    pub(crate) fn new(generation: u32, item: u64, large: bool) -> Self {
        Self { generation: generation & Self::GENERATION_MASK, large, unit: item / 8 }
    }

    /// `None` for a word that nobody has taken.
    pub(crate) fn of(word: u64) -> Option<Self> {
        (word & Self::TAKEN != 0).then_some(Self {
            generation: (word >> Self::UNIT_BITS) as u32 & Self::GENERATION_MASK,
            large: word & Self::LARGE != 0,
            unit: word & ((1 << Self::UNIT_BITS) - 1),
        })
    }

    pub(crate) fn word(self) -> u64 {
        debug_assert!(self.unit >> Self::UNIT_BITS == 0);
        Self::TAKEN
            | if self.large { Self::LARGE } else { 0 }
            | u64::from(self.generation) << Self::UNIT_BITS
            | self.unit
    }

    /// Whether it is a pin of the client with this generation.
    pub(crate) fn is_of(self, generation: u32) -> bool {
        self.generation == generation & Self::GENERATION_MASK
    }

    /// Offset of the item.
    pub(crate) fn item(self) -> u64 {
        self.unit * 8
    }
}

/// Whether an entry is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientState {
    Free,
    Live,
}

/// The first word of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientWord {
    pub(crate) state: ClientState,
    pub(crate) generation: u32,
    pub(crate) pid: u32,
}

const GENERATION_BITS: u32 = 28;

impl ClientWord {
    pub(crate) fn of(word: u64) -> Self {
        // States from 1 up are taken: a state that this version does not know is not free.
        let state = if word >> 60 == 0 { ClientState::Free } else { ClientState::Live };
        let generation = (word >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        Self { state, generation, pid: word as u32 }
    }

    pub(crate) fn word(self) -> u64 {
        let state = match self.state {
            ClientState::Free => 0,
            ClientState::Live => 1,
        };
        let generation = u64::from(self.generation) & ((1 << GENERATION_BITS) - 1);
        state << 60 | generation << 32 | u64::from(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_round_trip() {
        for state in [ClientState::Free, ClientState::Live] {
            for generation in [0, 1, (1 << GENERATION_BITS) - 1] {
                for pid in [0, 1, 4_194_304, u32::MAX] {
                    let word = ClientWord { state, generation, pid };
                    assert_eq!(ClientWord::of(word.word()), word);
                }
            }
        }
    }
}
