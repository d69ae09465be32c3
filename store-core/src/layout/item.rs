//! An item: header, optional words, key, value. Contiguous, and immutable once published, but for
//! what changes under its stripe: the 8 bytes of a counter, and a value that is overwritten where it
//! stands, with stamp, length and checksum ([`super::RedoRecord`] says how).
//!
//! ```text
//! +0   stamp (64)
//! +8   value length (32) | key length (16) | namespace (8) | flags (8)        from the low end
//! +16  expiry in ms (64)        if flags has EXPIRES
//! +..  checksum (64)            if flags has CHECKSUM
//! +..  key, padded with zeros to 8 bytes
//! +..  value, padded with zeros to 8 bytes; of a counter: one signed 64-bit word
//! ```
//! A large item has a list of pieces for its value: a [`LargeWord`], then the slot word of each piece.
//! A piece is an item without a key and under no slot of the index: its stamp is that of the item
//! that it belongs to, its value the hash of that item's key, its own number in the list, and bytes.

use crate::hash::Hasher;

/// The bits of the flags byte.
pub(crate) mod flags {
    /// An expiry word follows the header.
    pub(crate) const EXPIRES: u8 = 1;
    /// A checksum word follows the header (and the expiry word).
    pub(crate) const CHECKSUM: u8 = 2;
    /// The value is a signed 64-bit word that reads as decimal text.
    pub(crate) const COUNTER: u8 = 4;
    /// The value is a list of pieces, whose words change only under the item's stripe.
    pub(crate) const LARGE: u8 = 8;
    /// It is a piece of a large item.
    pub(crate) const PIECE: u8 = 16;
    /// The flags that this version knows.
    pub(crate) const KNOWN: u8 = EXPIRES | CHECKSUM | COUNTER | LARGE | PIECE;
}

/// Bytes of a piece before those of the value: stamp, header, hash of the key, number.
pub(crate) const PIECE_HEAD_BYTES: u64 = 32;

/// The first word of a list of pieces.
///
/// ```text
/// 63              40 39                0
/// units of a piece  | value's length    |
/// ```
/// No piece has more units of 8 bytes of the value; in a store that is not full each has so many, but
/// for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LargeWord {
    /// Bytes of the whole value.
    pub(crate) len: u64,
    pub(crate) piece_units: u32,
}

const LARGE_LEN_BITS: u32 = 40;

impl LargeWord {
    pub(crate) fn of(word: u64) -> Self {
        Self {
            len: word & ((1 << LARGE_LEN_BITS) - 1),
            piece_units: (word >> LARGE_LEN_BITS) as u32,
        }
    }

    pub(crate) fn word(self) -> u64 {
        debug_assert!(self.len >> LARGE_LEN_BITS == 0 && self.piece_units >> 24 == 0);
        u64::from(self.piece_units) << LARGE_LEN_BITS | self.len
    }

    /// How many pieces there are if each has as much as it may.
    pub(crate) fn count(self) -> u64 {
        self.len.div_ceil(u64::from(self.piece_units.max(1)) * 8)
    }

    /// The most bytes of the value that a piece has.
    pub(crate) fn piece_bytes(self) -> u64 {
        u64::from(self.piece_units) * 8
    }

    /// Bytes of the arena that all pieces take, if there are that many.
    pub(crate) fn pieces_bytes(self) -> u64 {
        self.count() * PIECE_HEAD_BYTES + self.len.next_multiple_of(8)
    }
}

/// The first word of an item.
///
/// ```text
/// 63           62                                              0
/// overwritten  | number that no two items of a segment share    |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    const OVERWRITTEN: u64 = 1 << 63;

    /// The stamp of an item with this number while its bytes are being overwritten: what it then is stands
    /// in the redo record of its stripe.
    #[inline(always)]
    pub(crate) fn overwritten(number: u64) -> Self {
        Self(number | Self::OVERWRITTEN)
    }

    #[inline(always)]
    pub(crate) fn is_overwritten(self) -> bool {
        self.0 & Self::OVERWRITTEN != 0
    }

    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        self.0 & !Self::OVERWRITTEN
    }
}

/// The longest key in bytes.
pub(crate) const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// The second word of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) value_bytes: u32,
    pub(crate) key_bytes: u16,
    pub(crate) namespace: u8,
    pub(crate) flags: u8,
}

impl Header {
    #[inline(always)]
    pub(crate) fn of(word: u64) -> Self {
        Self {
            value_bytes: word as u32,
            key_bytes: (word >> 32) as u16,
            namespace: (word >> 48) as u8,
            flags: (word >> 56) as u8,
        }
    }

    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        u64::from(self.value_bytes)
            | u64::from(self.key_bytes) << 32
            | u64::from(self.namespace) << 48
            | u64::from(self.flags) << 56
    }

    /// Whether an item with this header may take the place of one with the other, byte for byte: all but the
    /// value's length is the same, and that but for what fills the last word.
    #[inline(always)]
    pub(crate) fn fits_in(self, other: Self) -> bool {
        self.word() >> 32 == other.word() >> 32
            && self.value_bytes.div_ceil(8) == other.value_bytes.div_ceil(8)
    }

    #[inline(always)]
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where its parts are.
    #[inline(always)]
    pub(crate) fn shape(self) -> ItemShape {
        let expiry = 16;
        let checksum = expiry + if self.has(flags::EXPIRES) { 8 } else { 0 };
        let key = checksum + if self.has(flags::CHECKSUM) { 8 } else { 0 };
        let value = key + u64::from(self.key_bytes).next_multiple_of(8);
        let bytes = value + u64::from(self.value_bytes).next_multiple_of(8);
        ItemShape { expiry, checksum, key, value, bytes }
    }
}

/// Offsets in bytes from the start of an item, and its whole size (a multiple of 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemShape {
    /// Of the expiry word, if there is one.
    pub(crate) expiry: u64,
    /// Of the checksum, if there is one.
    pub(crate) checksum: u64,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) bytes: u64,
}

/// The checksum of an item: everything but stamp, padding and the number of a counter.
pub(crate) fn item_checksum(
    hasher: &Hasher,
    header: Header,
    expiry: Option<u64>,
    (key, value): (&[u8], &[u8]),
) -> u64 {
    let parts = [header.word(), expiry.unwrap_or(0), hasher.bytes(key), hasher.bytes(value)];
    let mut bytes = [0; 32];
    for (to, part) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
        *to = part.to_le_bytes();
    }
    hasher.bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up() {
        for (len, piece_units) in
            [(1, 1), (8, 1), (9, 1), (1000, 60), (960, 60), (1 << 32, 131_068)]
        {
            let large = LargeWord { len, piece_units };
            assert_eq!(LargeWord::of(large.word()), large);
            let full = (large.count() - 1) * large.piece_bytes();
            assert!(full < len && len - full <= large.piece_bytes());
            let last = PIECE_HEAD_BYTES + (len - full).next_multiple_of(8);
            let before = (large.count() - 1) * (PIECE_HEAD_BYTES + large.piece_bytes());
            assert_eq!(before + last, large.pieces_bytes());
        }
    }

    #[test]
    fn shapes_follow_the_format() {
        let header =
            Header { value_bytes: 100, key_bytes: 16, namespace: 3, flags: flags::EXPIRES };
        assert_eq!(Header::of(header.word()), header);
        let shape = header.shape();
        assert_eq!((shape.expiry, shape.key, shape.value, shape.bytes), (16, 24, 40, 144));
        let plain = Header { flags: 0, ..header }.shape();
        assert_eq!((plain.key, plain.value, plain.bytes), (16, 32, 136));
        let all = Header { flags: 7, key_bytes: 0, value_bytes: 8, namespace: 0 };
        assert_eq!((all.shape().checksum, all.shape().key, all.shape().bytes), (24, 32, 40));
    }
}
