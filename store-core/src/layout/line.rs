//! A line of the index, 64 bytes: a bucket, or an overflow line of one.
//!
//! ```text
//! tag word:  control | tag 6 | tag 5 | tag 4 | tag 3 | tag 2 | tag 1 | tag 0     (a byte each)
//! lanes 0 to 6: slot words; lane 6 may hold a link instead
//! ```
//! A lane is free if and only if its slot is 0; tags are hints. All seven tags are compared at
//! once within the one word (SWAR), so the same code runs on every architecture.

use super::assert_offsets;
use super::slot::Slot;
use crate::region::{Cell64, Shared};

/// Lanes of a line.
pub(crate) const LANES: usize = 7;
/// The lane that may hold a link.
pub(crate) const LINK_LANE: usize = LANES - 1;

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) tags: Cell64,
    slots: [Cell64; LANES],
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64 or an array of them, so no padding (asserted).
unsafe impl Shared for Line {}

assert_offsets!(Line, 64, { tags: 0, slots: 8 });

/// The tag word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagWord(pub(crate) u64);

const CONTROL_SHIFT: u32 = 56;
const CONTROL_LINKED: u64 = 1 << CONTROL_SHIFT;
const LOW_BITS: u64 = 0x0001_0101_0101_0101;
const HIGH_BITS: u64 = LOW_BITS << 7;

impl TagWord {
    /// The tag of a key with `hash`: its top byte. A key whose tag is 0, as that of a free lane,
    /// is found all the same: it is the slot that tells.
    #[inline(always)]
    pub(crate) fn tag_of(hash: u64) -> u8 {
        (hash >> 56) as u8
    }

    /// The lanes whose tag is `tag`, and lane 6 if it holds a link. May name a lane too many (the
    /// byte trick carries upward from a match), never one too few.
    #[inline(always)]
    pub(crate) fn candidates(self, tag: u8) -> Matches {
        let differences = self.0 ^ (LOW_BITS * u64::from(tag));
        let equal = differences.wrapping_sub(LOW_BITS) & !differences & HIGH_BITS;
        // The control bit, moved onto the marker of lane 6.
        let linked = (self.0 & CONTROL_LINKED) >> 1;
        Matches(equal | linked)
    }

    /// The first lane whose tag is `tag`, links aside. May be one too many, as in
    /// [`TagWord::candidates`].
    #[inline(always)]
    pub(crate) fn first_with(self, tag: u8) -> Option<usize> {
        let differences = self.0 ^ (LOW_BITS * u64::from(tag));
        Matches(differences.wrapping_sub(LOW_BITS) & !differences & HIGH_BITS).next()
    }

    /// Whether lane 6 holds a link.
    #[inline(always)]
    pub(crate) fn is_linked(self) -> bool {
        self.0 & CONTROL_LINKED != 0
    }

    /// The word with the tag of `lane` changed.
    #[inline(always)]
    pub(crate) fn with_tag(self, lane: usize, tag: u8) -> Self {
        let shift = 8 * (lane as u32 % LANES as u32);
        Self(self.0 & !(0xFF << shift) | u64::from(tag) << shift)
    }

    /// The word for a lane 6 that holds a link.
    pub(crate) fn with_link(self) -> Self {
        Self(self.with_tag(LINK_LANE, 0).0 | CONTROL_LINKED)
    }

    /// The word for a lane 6 that holds no link, and nothing else.
    pub(crate) fn without_link(self) -> Self {
        Self(self.with_tag(LINK_LANE, 0).0 & !CONTROL_LINKED)
    }

    /// The tag of `lane`.
    pub(crate) fn tag(self, lane: usize) -> u8 {
        (self.0 >> (8 * (lane as u32 % LANES as u32))) as u8
    }
}

/// Lanes to look at, from 0 up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matches(u64);

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        // Below 56, since only the markers of lanes are ever set: said to spare a bounds check.
        let lane = (self.0.trailing_zeros() as usize / 8).min(LINK_LANE);
        self.0 &= self.0 - 1;
        Some(lane)
    }
}

impl Line {
    /// The cell of `lane`, which is below [`LANES`].
    #[inline(always)]
    pub(crate) fn cell(&self, lane: usize) -> &Cell64 {
        &self.slots[lane]
    }

    /// The cells of all lanes.
    pub(crate) fn cells(&self) -> &[Cell64; LANES] {
        &self.slots
    }

    /// The slot of `lane`, which is below [`LANES`].
    #[inline(always)]
    pub(crate) fn slot(&self, lane: usize) -> Slot {
        Slot(self.slots[lane].load())
    }

    /// Whether no lane is used.
    pub(crate) fn is_vacant(&self) -> bool {
        self.slots.iter().all(|slot| slot.load() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lane_with_the_tag_is_left_out() {
        let mut word = TagWord(0);
        for (lane, tag) in [5, 1, 255, 5, 128, 127, 6].into_iter().enumerate() {
            word = word.with_tag(lane, tag);
        }
        for tag in 0..=255 {
            let found: Vec<usize> = word.candidates(tag).collect();
            for lane in 0..LANES {
                if word.tag(lane) == tag {
                    assert!(found.contains(&lane), "tag {tag} in lane {lane}");
                }
            }
            assert!(found.iter().all(|lane| *lane < LANES));
        }
        assert_eq!(word.candidates(9).count(), 0);
    }

    #[test]
    fn a_link_is_always_a_candidate() {
        let word = TagWord(0).with_tag(2, 77).with_tag(LINK_LANE, 9).with_link();
        assert!(word.is_linked());
        assert_eq!(word.tag(LINK_LANE), 0);
        assert_eq!(word.candidates(5).collect::<Vec<_>>(), [LINK_LANE]);
        assert_eq!(word.candidates(77).collect::<Vec<_>>(), [2, LINK_LANE]);
        assert!(!word.without_link().is_linked());
    }
}
