//! Items by number: keys and values that are computed, and the numbers that a round asks for.
//!
//! Numbers are drawn, and keys made of them, before the clock runs: a few at a time, so that finding out
//! what to ask for costs no side a cache miss.

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};
use serde::{Deserialize, Serialize};

use store_benches::records::mix;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 20;
/// The bytes of a [`key_of`].
pub(crate) type Key = [u8; KEY_BYTES];
/// Numbers from here on are never put.
pub(crate) const ABSENT: u32 = 1 << 31;
/// Of Zipf's law: how much more often the first key is asked for than the next.
const ZIPF_EXPONENT: f64 = 0.99;

/// The key of an item: capital letters and their neighbours, as memcached takes no other bytes; all
/// different, in no order.
#[inline]
pub(crate) fn key_of(number: u32) -> Key {
    // One to one, and then a nibble for each byte: so no two keys are the same.
    let mut nibbles = u64::from(number.wrapping_mul(0x9e37_79b1));
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let mixed = mix(u64::from(number));
    let letters = |word: u64| (word & 0x1f1f_1f1f_1f1f_1f1f | 0x4040_4040_4040_4040).to_le_bytes();
    let mut key = Key::default();
    key[..8].copy_from_slice(&letters(mixed));
    key[8..16].copy_from_slice(&letters(nibbles));
    key[16..].copy_from_slice(&letters(mixed >> 5)[..4]);
    key
}

/// Makes `value` that of an item's `version`: eight bytes that name both, and a row of words that
/// follow from them.
#[inline]
pub(crate) fn fill_value(value: &mut [u8], number: u32, version: u32) {
    let name = u64::from(version) << 32 | u64::from(number);
    let (head, body) = value.split_at_mut(8);
    head.copy_from_slice(&name.to_le_bytes());
    let mut word = mix(name);
    let mut words = body.chunks_exact_mut(8);
    for bytes in &mut words {
        bytes.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    let rest = words.into_remainder();
    let len = rest.len();
    rest.copy_from_slice(&word.to_le_bytes()[..len]);
}

/// Refuses a value that was never put under the item's key, whole and in one version.
///
/// # Errors
/// Says what was found.
pub(crate) fn verify(number: u32, value: &[u8], bytes: usize, versions: u32) -> Result<()> {
    ensure!(value.len() == bytes, "item {number} has {} bytes, not {bytes}", value.len());
    let version = u32::from_le_bytes([value[4], value[5], value[6], value[7]]);
    let mut expected = vec![0; bytes];
    fill_value(&mut expected, number, version);
    ensure!(
        version < versions && value == expected,
        "item {number} has a value that was never put: {value:02x?}"
    );
    Ok(())
}

/// Which items are asked for how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// Each as often as any other.
    Uniform,
    /// By Zipf's law with exponent 0.99.
    Zipf,
}

impl Distribution {
    /// `count` numbers below `items`, the same for the same seed.
    pub(crate) fn draw(self, items: u32, count: usize, seed: u64) -> Vec<u32> {
        let mut rng = SmallRng::seed_from_u64(seed);
        match self {
            Self::Uniform => (0..count).map(|_| rng.random_range(0..items)).collect(),
            Self::Zipf => {
                let ranks = Zipf::new(f64::from(items), ZIPF_EXPONENT).expect("a valid exponent");
                // Ranks are spread, or those asked for most would lie side by side in memory.
                let spread = |rank: u64| (rank * SPREAD % u64::from(items)) as u32;
                (0..count).map(|_| spread(ranks.sample(&mut rng) as u64 - 1)).collect()
            }
        }
    }
}

/// A prime larger than any number of items, so that it divides none and spreads one to one.
const SPREAD: u64 = 2_654_435_761;

#[cfg(test)]
mod tests {
    use super::{ABSENT, Distribution, fill_value, key_of, verify};
    use std::collections::HashSet;

    #[test]
    fn keys_are_different_and_printable() {
        let numbers = (0..100_000).chain(ABSENT..ABSENT + 100_000);
        let keys: HashSet<_> = numbers.map(key_of).collect();
        assert_eq!(keys.len(), 200_000);
        assert!(keys.iter().flatten().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn values_say_whose_they_are() {
        for bytes in [8, 100, 4096, 13] {
            let mut value = vec![0; bytes];
            fill_value(&mut value, 7, 3);
            verify(7, &value, bytes, 4).expect("as it was put");
            assert!(verify(8, &value, bytes, 4).is_err(), "of another item");
            assert!(verify(7, &value, bytes, 3).is_err(), "never put in this version");
            assert!(verify(7, &value[..bytes - 1], bytes, 4).is_err(), "cut short");
            value[bytes - 1] ^= 1;
            assert!(verify(7, &value, bytes, 4).is_err(), "changed");
        }
    }

    #[test]
    fn draws_are_in_range_and_repeat() {
        for distribution in [Distribution::Uniform, Distribution::Zipf] {
            let drawn = distribution.draw(1000, 10_000, 5);
            assert!(drawn.iter().all(|number| *number < 1000));
            assert_eq!(drawn, distribution.draw(1000, 10_000, 5));
            assert_ne!(drawn, distribution.draw(1000, 10_000, 6));
        }
    }

    #[test]
    fn zipf_asks_for_one_item_most() {
        let drawn = Distribution::Zipf.draw(1000, 10_000, 1);
        let mut counts = vec![0; 1000];
        drawn.iter().for_each(|number| counts[*number as usize] += 1);
        assert!(counts.iter().max() > Some(&1000));
    }
}
