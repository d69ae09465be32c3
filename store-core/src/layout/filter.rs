//! What tells most misses without a look at a bucket: a Bloom filter of 32 bits for each bucket that the
//! index has at first (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970).
//!
//! The word of an item is chosen by the low bits of its hash, those that choose a bucket at first; two bits
//! in it by the next ones, which its slot carries. So a word is of one bucket and of all that it is split
//! into, whatever their chains: growth and moves within a chain change none.
//!
//! A bit that is set may mean nothing. One that is not says that no item of the index has it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::slot::Slot;
use crate::region::{Cell32, Shim, Table};

/// After so many lookups of a thread that a filter let pass, it is not asked until there is a miss again.
/// Many, since each change of that is a cache miss for all threads.
const PASSES: u32 = 4096;
/// Buckets for each word up to which a filter is kept and asked. With more, it lets more than a third of all
/// misses pass, and a removal would have to look at as many buckets.
const BUCKETS_MAX: u64 = 2;

thread_local! {
    /// Lookups that a filter let pass.
    static PASSED: Cell<u32> = const { Cell::new(0) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Filter {
    words: Table<Cell32>,
    /// The lowest bit of the hash that a slot carries.
    shift: u32,
    /// Whether a lookup through this segment missed lately: who finds what he looks for need not ask. At first
    /// nobody knows.
    is_wanted: AtomicBool,
}

impl Clone for Filter {
    fn clone(&self) -> Self {
        Self::new(self.words.clone(), self.shift)
    }
}

impl Filter {
    /// Over a table of as many words as `shift` bits tell apart.
    pub(crate) fn new(words: Table<Cell32>, shift: u32) -> Self {
        Self { words, shift, is_wanted: AtomicBool::new(true) }
    }

    /// How many words there are, a power of two.
    pub(crate) fn count(&self) -> u64 {
        self.words.count()
    }

    /// Whether it tells much in an index of so many buckets.
    #[inline(always)]
    pub(crate) fn serves(&self, buckets: u64) -> bool {
        buckets <= BUCKETS_MAX * self.count()
    }

    #[inline(always)]
    fn word(&self, hash_or_bucket: u64) -> Option<&Cell32> {
        self.words.get(hash_or_bucket & !(u64::MAX << (self.shift & 63)))
    }

    /// The bits of an item, by the hash bits that its slot carries.
    #[inline(always)]
    fn bits(hash_part: u64) -> u32 {
        1 << (hash_part & 31) | 1 << (hash_part >> 5 & 31)
    }

    #[inline(always)]
    fn bits_of(&self, hash: u64) -> u32 {
        Self::bits(hash >> (self.shift & 63))
    }

    /// The bits of the item at `slot`.
    pub(crate) fn bits_of_slot(slot: Slot) -> u32 {
        Self::bits(slot.hash_bits())
    }

    /// The word of a bucket, or of a hash.
    pub(crate) fn load(&self, hash_or_bucket: u64) -> u32 {
        self.word(hash_or_bucket).map_or(u32::MAX, Cell32::load)
    }

    /// Whether it says that no item has this hash.
    #[inline(always)]
    pub(crate) fn rules_out(&self, hash: u64) -> bool {
        let bits = self.bits_of(hash);
        self.word(hash).is_some_and(|word| word.load() & bits != bits)
    }

    /// [`Filter::rules_out`] for those who look an item up: `false` where most are found, so that these
    /// cost one line less.
    #[inline(always)]
    pub(crate) fn rules_out_if_wanted(&self, hash: u64) -> bool {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return false;
        }
        let is_ruled_out = self.rules_out(hash);
        if is_ruled_out {
            // Pairs with the Release store of the word: the slots of what is gone are at least as new.
            fence(Ordering::Acquire);
        } else {
            self.note_pass();
        }
        is_ruled_out
    }

    #[inline(always)]
    fn note_pass(&self) {
        let passed = PASSED.get().wrapping_add(1);
        PASSED.set(passed);
        if passed.is_multiple_of(PASSES) {
            self.is_wanted.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that a lookup missed, in an index of so many buckets.
    #[inline(always)]
    pub(crate) fn note_miss(&self, buckets: u64) {
        // Threads share it: it is written when it changes.
        if !self.is_wanted.load(Ordering::Relaxed) && self.serves(buckets) {
            self.is_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Sets the bits of an item that is about to be published. Under the guard of its stripe.
    #[inline(always)]
    pub(crate) fn add<S: Shim>(&self, hash: u64) {
        self.set::<S>(hash, self.load(hash) | self.bits_of(hash));
    }

    /// Sets the word of a bucket. Under the guard of its stripe.
    #[inline(always)]
    pub(crate) fn set<S: Shim>(&self, hash_or_bucket: u64, bits: u32) {
        if let Some(word) = self.word(hash_or_bucket)
            && word.load() != bits
        {
            word.store::<S>(bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Plain, Region};
    use crate::sys::map::Mapping;

    #[test]
    fn who_finds_what_he_looks_for_does_not_ask() {
        let region = Region::private(Mapping::heap(4096));
        let filter = Filter::new(region.table(0, 16).expect("a table"), 4);
        let (there, elsewhere) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210);
        PASSED.set(0);
        assert!(filter.rules_out_if_wanted(there), "at first it is asked");
        filter.add::<Plain>(there);
        assert!(!filter.rules_out(there) && filter.rules_out(elsewhere));
        for found in 0..PASSES {
            assert!(filter.rules_out_if_wanted(elsewhere), "after {found} found");
            assert!(!filter.rules_out_if_wanted(there));
        }
        assert!(!filter.rules_out_if_wanted(elsewhere), "not asked any more");
        filter.note_miss(16 * BUCKETS_MAX + 1);
        assert!(!filter.rules_out_if_wanted(elsewhere), "not in an index that has grown out of it");
        filter.note_miss(16 * BUCKETS_MAX);
        assert!(filter.rules_out_if_wanted(elsewhere), "asked again");
    }
}
