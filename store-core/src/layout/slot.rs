//! A slot word: where an item is, or that the chain goes on.
//!
//! ```text
//! item:  63 62          50 49           38 37                  0
//!        0 | hash bits(13)| generation(12)| offset / 8 (38)     |
//! link:  63 62                          35 34                  0
//!        1 | 0                            | overflow line / 64  |
//! ```
//! The offset counts from the superblock, so the slot of an item is never 0, and 0 is an empty
//! lane. A slot is published by one 8-byte store.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

const OFFSET_BITS: u32 = 38;
const GENERATION_BITS: u32 = 12;
const HASH_BITS: u32 = 13;
const LINK: u64 = 1 << 63;
/// Bits of a line's address: its offset in lines of 64 bytes.
const LINE_BITS: u32 = OFFSET_BITS - 3;

impl Slot {
    /// An empty lane.
    pub(crate) const EMPTY: Self = Self(0);
    /// Generations that slots can tell apart.
    pub(crate) const GENERATIONS: u64 = 1 << GENERATION_BITS;
    /// The bytes that offsets can reach.
    pub(crate) const SEGMENT_BYTES_MAX: u64 = 8 << OFFSET_BITS;

    /// The slot of the item at `offset`, whose extent has `generation`.
    #[inline(always)]
    pub(crate) fn of_item(offset: u64, generation: u64, hash: u64, hash_shift: u32) -> Self {
        debug_assert!(offset.is_multiple_of(8) && offset < Self::SEGMENT_BYTES_MAX && offset > 0);
        let generation = generation & ((1 << GENERATION_BITS) - 1);
        Self(
            (offset / 8)
                | generation << OFFSET_BITS
                | Self::hash_part(hash, hash_shift) << (OFFSET_BITS + GENERATION_BITS),
        )
    }

    /// The link to the overflow line at address `line`.
    pub(crate) fn of_link(line: u64) -> Self {
        debug_assert!(line >> LINE_BITS == 0);
        Self(LINK | line)
    }

    /// The bits of `hash` that a slot carries.
    #[inline(always)]
    fn hash_part(hash: u64, shift: u32) -> u64 {
        hash >> (shift & 63) & ((1 << HASH_BITS) - 1)
    }

    /// The hash bits that an item's slot carries.
    #[inline(always)]
    pub(crate) fn hash_bits(self) -> u64 {
        self.0 >> (OFFSET_BITS + GENERATION_BITS) & ((1 << HASH_BITS) - 1)
    }

    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn is_link(self) -> bool {
        self.0 & LINK != 0
    }

    /// Whether this is the slot of an item (neither empty nor a link).
    #[inline(always)]
    pub(crate) fn is_item(self) -> bool {
        !self.is_empty() && !self.is_link()
    }

    /// The address of the overflow line of a link; `None` for a word that is no valid link.
    #[inline(always)]
    pub(crate) fn link(self) -> Option<u64> {
        (self.0 >> LINE_BITS == LINK >> LINE_BITS).then_some(self.0 & ((1 << LINE_BITS) - 1))
    }

    /// The hash bit number `bit` of the item; `None` if the slot does not carry it.
    pub(crate) fn hash_bit(self, bit: u32, shift: u32) -> Option<bool> {
        let at = bit.checked_sub(shift).filter(|at| *at < HASH_BITS)?;
        Some(self.0 >> (OFFSET_BITS + GENERATION_BITS + at) & 1 != 0)
    }

    /// Offset of the item in bytes from the superblock.
    #[inline(always)]
    pub(crate) fn offset(self) -> u64 {
        (self.0 & ((1 << OFFSET_BITS) - 1)) * 8
    }

    /// Offset of the item in units of 8 bytes.
    #[inline(always)]
    pub(crate) fn unit(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }

    /// Whether the low bits of `generation` are this slot's.
    #[inline(always)]
    pub(crate) fn is_of_generation(self, generation: u64) -> bool {
        (self.0 >> OFFSET_BITS ^ generation) & ((1 << GENERATION_BITS) - 1) == 0
    }

    /// The low bits of the generation that the extent had when this was published.
    pub(crate) fn generation(self) -> u64 {
        self.0 >> OFFSET_BITS & (Self::GENERATIONS - 1)
    }

    /// Whether an item with `hash` may be here.
    #[inline(always)]
    pub(crate) fn may_be(self, hash: u64, shift: u32) -> bool {
        self.0 >> (OFFSET_BITS + GENERATION_BITS) == Self::hash_part(hash, shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_meet() {
        let hash = 0x1234_5678_9ABC_DEF0;
        for offset in [8, 4096, Slot::SEGMENT_BYTES_MAX - 8] {
            for generation in [1, 0xFFF, 0x1000, 0x1234_5678] {
                let slot = Slot::of_item(offset, generation, hash, 20);
                assert!(slot.is_item());
                assert_eq!(slot.link(), None);
                assert_eq!(slot.offset(), offset);
                assert!(slot.is_of_generation(generation));
                assert!(!slot.is_of_generation(generation + 1));
                assert!(slot.is_of_generation(slot.generation()));
                assert!(slot.may_be(hash, 20));
                assert!(!slot.may_be(hash ^ 1 << 20, 20));
                assert!(!slot.may_be(hash ^ 1 << 32, 20));
                assert!(slot.may_be(hash ^ 1 << 33, 20));
            }
        }
        assert_eq!(Slot::of_link(77).link(), Some(77));
        assert_eq!(Slot(LINK | 1 << 40 | 77).link(), None, "a link with stray bits is none");
        assert!(!Slot::EMPTY.is_item());
    }
}
