//! The hash of a key, stable between builds and processes: part of the format.
//!
//! ```text
//! 63     56                                              0
//! tag      | … slot bits at `slot_hash_shift` … | bucket   |
//! ```
//! The low bits pick bucket and stripe, the bits from `slot_hash_shift` on stand in the slot, the
//! top 8 are the tag.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// `rapidhash::v3` with secrets of the segment's own. The number is part of the format.
pub(crate) const HASH_RAPIDHASH_V3: u64 = 1;

/// The string whose hash stands in the superblock, so that another function is noticed at attach.
const SELF_TEST: &[u8] = b"Cistern: the same bytes, the same hash, on every machine";

/// Hashes keys the way one segment asks for.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    secrets: RapidSecrets,
}

impl Hasher {
    /// From the eight words in the superblock.
    pub(crate) fn new(words: [u64; 8]) -> Self {
        let [seed, secrets @ ..] = words;
        Self { secrets: RapidSecrets { seed, secrets } }
    }

    /// Eight words for a new segment, from the kernel's random numbers.
    pub(crate) fn random_words() -> [u64; 8] {
        let mut seed = [0; 8];
        // Fails only before Linux 3.17; a seed from the clock and the address space is then as
        // good as any: whoever attaches can read the secrets, so they are no promise.
        if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) != Ok(8) {
            seed = (crate::sys::clock::monotonic_ns() ^ u64::from(std::process::id()) << 40)
                .to_le_bytes();
        }
        Self::words_of_seed(u64::from_le_bytes(seed))
    }

    /// The eight words that follow from `seed`.
    pub(crate) fn words_of_seed(seed: u64) -> [u64; 8] {
        let made = RapidSecrets::seed(seed);
        let mut words = [made.seed; 8];
        words[1..].copy_from_slice(&made.secrets);
        words
    }

    /// The hash of `key`. About 3 ns for 16 bytes.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        rapidhash_v3_seeded(key, &self.secrets)
    }

    /// What the superblock must hold as `hash_check`.
    pub(crate) fn self_test(&self) -> u64 {
        self.hash(SELF_TEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_format() {
        // Golden values: a change here is a change of format.
        let hasher = Hasher::new([0, 1, 2, 3, 4, 5, 6, 7].map(|i| 0x9E37_79B9_7F4A_7C15 ^ i));
        let hashes = [&b""[..], b"key", &[7; 300]].map(|key| hasher.hash(key));
        assert_eq!(
            hashes,
            [6_749_465_920_834_368_867, 17_356_748_905_360_288_825, 8_264_667_949_594_199_117]
        );
    }
}
