//! The hash of a key, stable between builds and processes: part of the format.
//!
//! ```text
//! 63     56                                              0
//! tag      | … slot bits at `slot_hash_shift` … | bucket   |
//! ```
//! The low bits pick bucket and stripe, the bits from `slot_hash_shift` on stand in the slot, the
//! top 8 are the tag.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use siphasher::sip::SipHasher13;

use crate::config::HashKind;

/// `rapidhash::v3` with secrets of the segment's own. The number is part of the format.
pub(crate) const HASH_RAPIDHASH_V3: u64 = 1;

/// SipHash-1-3 with a key of the segment's own. The number is part of the format.
pub(crate) const HASH_SIPHASH_13: u64 = 2;

/// The string whose hash stands in the superblock, so that another function is noticed at attach.
const SELF_TEST: &[u8] = b"Cistern: the same bytes, the same hash, on every machine";

/// The number of a hash function in the superblock.
pub(crate) fn number_of(kind: HashKind) -> u64 {
    match kind {
        HashKind::Rapidhash => HASH_RAPIDHASH_V3,
        HashKind::Siphash => HASH_SIPHASH_13,
    }
}

/// The hash function with a number, if this version knows it.
pub(crate) fn kind_of(number: u64) -> Option<HashKind> {
    [HashKind::Rapidhash, HashKind::Siphash].into_iter().find(|kind| number_of(*kind) == number)
}

/// Hashes keys the way one segment asks for.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    secrets: RapidSecrets,
    pub(crate) kind: HashKind,
    /// What a namespace makes of the hashes of its keys: 0 without one.
    mix: u64,
}

impl Hasher {
    /// From the eight words in the superblock.
    pub(crate) fn new(kind: HashKind, words: [u64; 8]) -> Self {
        let [seed, secrets @ ..] = words;
        Self { secrets: RapidSecrets { seed, secrets }, kind, mix: 0 }
    }

    /// Eight words for a new segment, from random bytes.
    pub(crate) fn words_of_random(kind: HashKind, random: &[u8; 64]) -> [u64; 8] {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(random.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        match kind {
            // Its secrets have to be of a certain kind, and are made from one word.
            HashKind::Rapidhash => Self::words_of_seed(words[0]),
            HashKind::Siphash => words,
        }
    }

    /// The eight words that follow from `seed`.
    pub(crate) fn words_of_seed(seed: u64) -> [u64; 8] {
        let made = RapidSecrets::seed(seed);
        let mut words = [made.seed; 8];
        words[1..].copy_from_slice(&made.secrets);
        words
    }

    /// Hashes the keys of a namespace; `id` tells all that there ever were in a segment apart.
    pub(crate) fn of_namespace(&self, id: u64) -> Self {
        Self { mix: self.mix_of(id), ..self.clone() }
    }

    /// What the hash of a key is changed by in a namespace; 0 for the id 0.
    pub(crate) fn mix_of(&self, id: u64) -> u64 {
        let mut of_id = *b"namespac________";
        of_id[8..].copy_from_slice(&id.to_le_bytes());
        if id == 0 { 0 } else { self.bytes(&of_id) }
    }

    /// The hash of `key`. About 3 ns for 16 bytes with rapidhash.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.bytes(key) ^ self.mix
    }

    /// The hash of bytes that are no key.
    #[inline]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> u64 {
        match self.kind {
            HashKind::Rapidhash => rapidhash_v3_seeded(bytes, &self.secrets),
            HashKind::Siphash => self.siphash(bytes),
        }
    }

    /// Not inlined, so that it takes no room on the read path of the others.
    #[inline(never)]
    fn siphash(&self, key: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.secrets.seed, self.secrets.secrets[0]).hash(key)
    }

    /// What the superblock must hold as `hash_check`: of the self-test string, and of it four times in
    /// a row, so that each of the secrets matters.
    pub(crate) fn self_test(&self) -> u64 {
        self.hash(SELF_TEST) ^ self.hash(&SELF_TEST.repeat(4)).rotate_left(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_each_secret_matters() {
        for (kind, used) in [(HashKind::Rapidhash, 8), (HashKind::Siphash, 2)] {
            let words = Hasher::words_of_seed(7);
            let right = Hasher::new(kind, words).self_test();
            for (word, bit) in (0..used).flat_map(|word| (0..64).map(move |bit| (word, bit))) {
                let mut words = words;
                words[word] ^= 1 << bit;
                assert_ne!(Hasher::new(kind, words).self_test(), right, "{kind} {word} {bit}");
            }
        }
    }

    #[test]
    fn the_hash_is_the_one_of_the_format() {
        // Golden values: a change here is a change of format.
        let words = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| 0x9E37_79B9_7F4A_7C15 ^ i);
        let hasher = Hasher::new(HashKind::Rapidhash, words);
        let hashes = [&b""[..], b"key", &[7; 300]].map(|key| hasher.hash(key));
        assert_eq!(
            hashes,
            [6_749_465_920_834_368_867, 17_356_748_905_360_288_825, 8_264_667_949_594_199_117]
        );
    }

    #[test]
    fn siphash_is_the_one_of_its_authors() {
        // The key of their test vectors, bytes 0 to 15, and 1-3 as the hash tables of Rust use it.
        let words = [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908, 0, 0, 0, 0, 0, 0];
        let hasher = Hasher::new(HashKind::Siphash, words);
        let hashes = [&[][..], &[0], &[0, 1]].map(|key| hasher.hash(key));
        assert_eq!(hashes, [0xABAC_0158_050F_C4DC, 0xC9F4_9BF3_7D57_CA93, 0x82CB_9B02_4DC7_D44D]);
    }

    #[test]
    fn every_kind_has_its_number_and_its_name() {
        for kind in [HashKind::Rapidhash, HashKind::Siphash] {
            assert_eq!(kind_of(number_of(kind)), Some(kind));
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let words = |random| Hasher::words_of_random(kind, &[random; 64]);
            assert_ne!(words(1), words(2));
        }
        assert_eq!(kind_of(0), None);
        assert_eq!(kind_of(3), None);
    }
}
