//! The keys and values of `bench`, and in which order they are asked for.
//!
//! Keys are made by arithmetic, without a table that would compete for the cache with the store.
//! Values say of themselves which key they belong to: each word follows from the first one (random
//! for each write) and the key's number, so a torn or foreign value shows.

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution as _, Zipf};
use serde::{Deserialize, Serialize};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 20;

/// The shortest value that can tell a torn write: its first word and one that follows from it.
pub(super) const VALUE_BYTES_MIN: u64 = 16;

/// Exponent of the Zipf distribution: that of YCSB, close to what caches see.
const ZIPF_EXPONENT: f64 = 0.99;

/// Draws of the Zipf distribution made ahead; a draw costs more than a lookup.
const ZIPF_DRAWS: usize = 1 << 20;

/// Which keys are asked for how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Distribution {
    /// Each as often as any other
    Uniform,
    /// A few very often (exponent 0.99)
    Zipf,
}

/// The key with a number, below 10^14.
pub(super) fn key(number: u64) -> [u8; KEY_BYTES] {
    numbered(*b"bench:", number)
}

/// A key that `bench` never stores.
pub(super) fn absent_key(number: u64) -> [u8; KEY_BYTES] {
    numbered(*b"bench-", number)
}

fn numbered(prefix: [u8; 6], number: u64) -> [u8; KEY_BYTES] {
    let (high, low) = (number / 100_000_000, number % 100_000_000);
    let mut out = [b'0'; KEY_BYTES];
    out[..6].copy_from_slice(&prefix);
    if high > 0 {
        out[6..12].copy_from_slice(&eight_digits(high % 1_000_000)[2..]);
    }
    out[12..].copy_from_slice(&eight_digits(low));
    out
}

/// Eight decimal digits at once: halves, then quarters, then digits, each in its lane of one word.
/// The multiplications are divisions by 100 and 10, exact in the range of their lanes.
fn eight_digits(number: u64) -> [u8; 8] {
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | ((halves - 100 * hundreds) << 16);
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | ((quarters - 10 * tens) << 8);
    (digits | 0x3030_3030_3030_3030).to_le_bytes()
}

/// Fills `value` for the key with a number. `nonce` makes two writes of one key differ in each word.
pub(super) fn fill(value: &mut [u8], number: u64, nonce: u64) {
    let length = value.len();
    let mut words = value.chunks_exact_mut(8);
    let mut position = 0;
    for word in words.by_ref() {
        word.copy_from_slice(&word_at(position, number, nonce, length).to_le_bytes());
        position += 1;
    }
    let rest = words.into_remainder();
    let last = word_at(position, number, nonce, length).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Whether the value is one that `fill` made for this key, whole.
pub(super) fn is_whole(value: &[u8], number: u64) -> bool {
    if (value.len() as u64) < VALUE_BYTES_MIN {
        return false;
    }
    let length = value.len();
    let (words, rest) = value.as_chunks::<8>();
    let nonce = u64::from_le_bytes(words[0]);
    // Without an early end the compiler compares several words at once.
    let mut differences = 0;
    for (position, word) in words.iter().enumerate() {
        differences |= u64::from_le_bytes(*word) ^ word_at(position as u64, number, nonce, length);
    }
    let last = word_at(words.len() as u64, number, nonce, length).to_le_bytes();
    differences == 0 && *rest == last[..rest.len()]
}

#[inline(always)]
fn word_at(position: u64, number: u64, nonce: u64, length: usize) -> u64 {
    // Position 0 holds the nonce itself. An odd multiplier keeps the others apart from each other;
    // it is made odd in a bit of its own, or lengths 98 and 99 would share it.
    let mark = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(length as u64) << 1) | 1;
    nonce.wrapping_add(position.wrapping_mul(mark))
}

/// Numbers of keys, one after the other.
pub(super) struct Sequence {
    random: SmallRng,
    keys: u64,
    /// Empty for the uniform distribution.
    draws: Vec<u32>,
    next: usize,
    /// The key after the last one that was put in rounds.
    round: u64,
}

impl Sequence {
    /// `stream` sets workers with one seed apart.
    pub(super) fn new(distribution: Distribution, keys: u64, seed: u64, stream: u64) -> Sequence {
        let seed = seed ^ stream.wrapping_add(1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut random = SmallRng::seed_from_u64(seed);
        let draws = match distribution {
            Distribution::Uniform => Vec::new(),
            Distribution::Zipf => zipf_draws(keys, &mut random),
        };
        // Fractions of the golden ratio keep any number of starts apart.
        let round = below(keys, stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Sequence { random, keys, draws, next: 0, round }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        if self.draws.is_empty() {
            return below(self.keys, self.random.next_u64());
        }
        self.next = (self.next + 1) % self.draws.len();
        u64::from(self.draws[self.next])
    }

    /// The key to be put next. Uniform puts go in rounds, and each worker starts at its own place: so each key
    /// is put as often as any other.
    #[inline]
    pub(super) fn next_put(&mut self) -> u64 {
        if !self.draws.is_empty() {
            return self.next();
        }
        let number = self.round;
        self.round = if number + 1 < self.keys { number + 1 } else { 0 };
        number
    }

    /// A random word, for nonces and for choosing what to do.
    #[inline]
    pub(super) fn word(&mut self) -> u64 {
        self.random.next_u64()
    }
}

/// A number below `limit` from a random word, by a multiplication in place of a division.
#[inline]
pub(super) fn below(limit: u64, word: u64) -> u64 {
    ((u128::from(word) * u128::from(limit)) >> 64) as u64
}

fn zipf_draws(keys: u64, random: &mut SmallRng) -> Vec<u32> {
    // Both conditions of the constructor hold for any number of keys that `bench` accepts.
    let Ok(zipf) = Zipf::new(keys.max(1) as f64, ZIPF_EXPONENT) else { return vec![0] };
    (0..ZIPF_DRAWS)
        .map(|_| {
            let rank = (zipf.sample(random) as u64).clamp(1, keys.max(1)) - 1;
            // The popular keys are spread over all numbers. The multiplier is a prime above any
            // number of keys, so no two ranks meet.
            let spread = u128::from(rank) * 4_294_967_311 % u128::from(keys.max(1));
            u32::try_from(spread).unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_the_number_in_fourteen_digits() {
        let mut numbers: Vec<u64> = (0..20_000).collect();
        numbers.extend([99_999_999, 100_000_000, 123_456_789_012, 99_999_999_999_999]);
        numbers.extend((0..20_000).map(|i| i * 4_999_999_937 % 100_000_000_000_000));
        for number in numbers {
            assert_eq!(key(number).as_slice(), format!("bench:{number:014}").as_bytes());
            assert_ne!(key(number), absent_key(number));
        }
    }

    #[test]
    fn a_value_knows_its_key_and_every_byte_of_itself() {
        for length in [16, 17, 23, 100, 1000, 4096] {
            let mut value = vec![0; length];
            fill(&mut value, 7, 0x1234_5678_9abc_def0);
            assert!(is_whole(&value, 7));
            assert!(!is_whole(&value, 8));
            assert!(!is_whole(&value[..length - 1], 7), "{length}");
            for position in 0..length {
                value[position] ^= 1;
                assert!(!is_whole(&value, 7), "byte {position} of {length}");
                value[position] ^= 1;
            }
        }
        assert!(!is_whole(b"", 0));
        assert!(!is_whole(b"short", 0));
    }

    #[test]
    fn a_mixture_of_two_writes_is_never_whole() {
        let (mut old, mut new) = ([0; 100], [0; 100]);
        fill(&mut old, 3, 11);
        fill(&mut new, 3, 0xfeed_f00d_dead_beef);
        for cut in (8..96).step_by(8) {
            let torn = [&old[..cut], &new[cut..]].concat();
            assert!(!is_whole(&torn, 3), "cut at {cut}");
        }
    }

    #[test]
    fn sequences_stay_in_range_repeat_by_seed_and_differ_by_stream() {
        for distribution in [Distribution::Uniform, Distribution::Zipf] {
            for keys in [1, 2, 1000] {
                let mut sequence = Sequence::new(distribution, keys, 42, 0);
                assert!((0..10_000).all(|_| sequence.next() < keys));
            }
            let take = |stream| {
                let mut sequence = Sequence::new(distribution, 1_000_000, 42, stream);
                (0..100).map(|_| sequence.next()).collect::<Vec<_>>()
            };
            assert_eq!(take(0), take(0));
            assert_ne!(take(0), take(1));
        }
    }

    #[test]
    fn zipf_favours_few_keys_and_uniform_none() {
        let most_frequent = |distribution| {
            let mut sequence = Sequence::new(distribution, 1000, 1, 0);
            let mut counts = vec![0_u32; 1000];
            (0..100_000).for_each(|_| counts[sequence.next() as usize] += 1);
            counts.into_iter().max().unwrap_or(0)
        };
        assert!(most_frequent(Distribution::Uniform) < 200);
        assert!(most_frequent(Distribution::Zipf) > 5_000);
    }

    #[test]
    fn the_spread_of_ranks_is_one_to_one() {
        for keys in [1_000_u128, 65_536, 99_991] {
            let spread: HashSet<u128> = (0..keys).map(|r| r * 4_294_967_311 % keys).collect();
            assert_eq!(spread.len() as u128, keys);
        }
    }
}
