//! Values that say of themselves whether they are whole, whose they are, and which write they are.
//!
//! ```text
//! Bytes 0..4   checksum over the key, the stamp, the body and the length
//! Bytes 4..8   stamp: writer in the upper 4 bits, sequence number in the lower 28
//! Bytes 8..    body, made from key and stamp
//! ```
//!
//! A value put together from two writes, one cut short, and one found under another key are all
//! [`Torn`]. Sequence numbers rise with every write of one writer, so a reader that sees one fall
//! saw an older write after a newer one.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use serde::{Deserialize, Serialize};

/// The smallest value: checksum and stamp.
pub const LEN_MIN: usize = 8;
/// Sequence numbers have 28 bits.
pub const SEQ_MAX: u32 = (1 << 28) - 1;
/// Writers have 4 bits.
pub const WRITER_MAX: u8 = 15;

/// Which write a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Who wrote it.
    pub writer: u8,
    /// The how-manieth write of that writer it is.
    pub seq: u32,
}

impl Stamp {
    fn word(self) -> u32 {
        assert!(self.writer <= WRITER_MAX && self.seq <= SEQ_MAX, "{self:?} is out of range");
        u32::from(self.writer) << 28 | self.seq
    }

    fn from_word(word: u32) -> Self {
        Self { writer: (word >> 28) as u8, seq: word & SEQ_MAX }
    }
}

/// A value that nobody wrote as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    key: String,
    len: usize,
    checksums: Option<(u32, u32)>,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of {} ({} bytes) ", self.key, self.len)?;
        match self.checksums {
            Some((found, made)) => write!(f, "says checksum {found:#x} and has {made:#x}"),
            None => write!(f, "is shorter than the {LEN_MIN} bytes that every value has"),
        }
    }
}

/// A one-to-one mixing of 64 bits (the finisher of SplitMix64).
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The bytes of a [`key_of`].
pub type Key = [u8; 16];

/// The key of item `index`, as text: all different, in no order.
pub fn key_of(index: u32) -> Key {
    let mut key = Key::default();
    let mut rest = mix(u64::from(index) + 1);
    for digit in &mut key {
        *digit = b"0123456789abcdef"[(rest % 16) as usize];
        rest /= 16;
    }
    key
}

/// A length from `min` to below `max` that `seed` decides, each doubling equally likely.
pub fn varied_len(seed: u64, min: usize, max: usize) -> usize {
    assert!(LEN_MIN <= min && min < max, "{min}..{max} is no range of lengths");
    let doublings = u64::from((max / min).ilog2().max(1));
    let seed = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
    let base = min << (seed % doublings);
    base + ((seed >> 8) % base as u64) as usize
}

/// Makes `value` the one of `len` bytes that `stamp` writes under `key`.
pub fn fill(value: &mut Vec<u8>, key: &[u8], stamp: Stamp, len: usize) {
    assert!(len >= LEN_MIN, "a value of {len} bytes has no room for its checksum");
    value.clear();
    value.resize(len, 0);
    value[4..8].copy_from_slice(&stamp.word().to_le_bytes());
    let mut word = hash(key, 0) ^ u64::from(stamp.word()) << 16;
    for chunk in value[LEN_MIN..].chunks_mut(8) {
        word = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    let checksum = checksum(key, value);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a value's stamp, after making sure that it was written whole and under this key.
pub fn verify(key: &[u8], value: &[u8]) -> Result<Stamp, Torn> {
    let torn = |checksums| Torn {
        key: String::from_utf8_lossy(key).into_owned(),
        len: value.len(),
        checksums,
    };
    if value.len() < LEN_MIN {
        return Err(torn(None));
    }
    let found = word_at(value, 0);
    let made = checksum(key, value);
    if found == made {
        Ok(Stamp::from_word(word_at(value, 4)))
    } else {
        Err(torn(Some((found, made))))
    }
}

/// The stamp that the first bytes of a value claim, whole or not; none if they are too few.
pub fn claimed_stamp(value: &[u8]) -> Option<Stamp> {
    (value.len() >= LEN_MIN).then(|| Stamp::from_word(word_at(value, 4)))
}

fn word_at(value: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let sum = hash(key, 1) ^ hash(&value[4..], 2).rotate_left(17);
    (sum ^ sum >> 32) as u32
}

/// The same in every process: all that take part are one and the same binary.
fn hash(bytes: &[u8], purpose: u64) -> u64 {
    let mut hasher = FixedState::with_seed(purpose).build_hasher();
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{LEN_MIN, SEQ_MAX, Stamp, fill, key_of, varied_len, verify};

    fn value(key: &[u8], seq: u32, len: usize) -> Vec<u8> {
        let mut value = Vec::new();
        fill(&mut value, key, Stamp { writer: 3, seq }, len);
        value
    }

    #[test]
    fn keys_differ() {
        let keys: HashSet<_> = (0..200_000).map(key_of).collect();
        assert_eq!(keys.len(), 200_000);
        assert!(key_of(7).iter().all(u8::is_ascii_hexdigit));
    }

    #[test]
    fn a_whole_value_tells_its_stamp() {
        for len in [LEN_MIN, 9, 15, 16, 100, 4096] {
            let stamp = Stamp { writer: 15, seq: SEQ_MAX };
            let mut value = Vec::new();
            fill(&mut value, b"key", stamp, len);
            assert_eq!(value.len(), len);
            assert_eq!(verify(b"key", &value), Ok(stamp));
        }
    }

    #[test]
    fn a_value_of_two_writes_is_torn() {
        let (old, new) = (value(b"key", 1, 64), value(b"key", 2, 64));
        for cut in 1..64 {
            let mixed = [&new[..cut], &old[cut..]].concat();
            assert_eq!(verify(b"key", &mixed).is_err(), mixed != old && mixed != new, "at {cut}");
        }
    }

    #[test]
    fn a_value_cut_short_or_of_another_key_is_torn() {
        let whole = value(b"key", 7, 40);
        assert!(verify(b"kez", &whole).is_err());
        for len in 0..40 {
            assert!(verify(b"key", &whole[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let whole = value(b"key", 7, 24);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(b"key", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_stay_in_their_range_and_reach_both_ends() {
        let lens: Vec<_> = (0..20_000).map(|seed| varied_len(seed, 8, 4096)).collect();
        assert!(lens.iter().all(|len| (8..4096).contains(len)));
        assert!(lens.iter().any(|len| *len < 10) && lens.iter().any(|len| *len > 4000));
    }
}
