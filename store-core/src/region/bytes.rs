//! Bytes of shared memory in place.

use super::Cell64;

/// Bytes that lie in shared memory and are not used for anything else while they are borrowed.
///
/// Another process that may write the segment can still change them, by a fault or on purpose. So
/// they are read as atomic words, and there is a slice only for those who trust every writer.
#[derive(Debug, Clone, Copy)]
pub struct SharedBytes<'a> {
    words: &'a [Cell64],
    len: usize,
}

impl<'a> SharedBytes<'a> {
    pub(crate) fn new(words: &'a [Cell64], len: usize) -> Self {
        debug_assert!(len.div_ceil(8) == words.len());
        Self { words, len }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes from `from` on into `to`, as many as there are and fit; how many. At the
    /// speed of a copy.
    pub fn read_at(&self, from: usize, to: &mut [u8]) -> usize {
        let from = from.min(self.len);
        let bytes = to.len().min(self.len - from);
        let to = &mut to[..bytes];
        // The part of a word before the first whole one, then whole words and the rest.
        let head = (from.next_multiple_of(8) - from).min(bytes);
        let (first, rest) = to.split_at_mut(head);
        if let Some(word) = self.words.get(from / 8) {
            let word = word.load().to_le_bytes();
            first.copy_from_slice(&word[from % 8..from % 8 + head]);
        }
        super::copy_out(&self.words[(from + head).div_ceil(8)..], rest);
        bytes
    }

    /// The 8 bytes from `8 * index` on as a little-endian number; those behind the last are 0. One
    /// load.
    pub fn word(&self, index: usize) -> Option<u64> {
        self.words.get(index).map(Cell64::load)
    }

    /// All bytes, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read_at(0, &mut bytes);
        bytes
    }

    /// The bytes as a slice, without a copy.
    ///
    /// # Safety
    /// No process with write access to the segment may store to these bytes while the slice lives.
    /// Cistern's own code does not: items are immutable once published, and these are pinned. But
    /// nothing stops a process that is broken or hostile; a change under the slice would be
    /// undefined behaviour. Use it only where every process that can write the segment is trusted
    /// as this one is.
    #[expect(unsafe_code, reason = "a slice over shared memory, on the caller's word")]
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: the words were checked against the mapping, which outlives 'a; `len` bytes lie
        // within them; that nobody stores to them is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Plain, Region, copy_in};
    use crate::sys::map::Mapping;

    #[test]
    fn every_part_is_read_as_it_lies() {
        let region = Region::private(Mapping::heap(4096));
        let words = region.words(64, 6).expect("in bounds");
        let bytes: Vec<u8> = (1..=45).collect();
        copy_in::<Plain>(&bytes, words);
        let shared = SharedBytes::new(words, bytes.len());
        assert_eq!(shared.to_vec(), bytes);
        assert_eq!(shared.word(1), Some(u64::from_le_bytes([9, 10, 11, 12, 13, 14, 15, 16])));
        assert_eq!(shared.word(6), None);
        for from in 0..50 {
            for len in 0..50 {
                let mut to = vec![0xFF; len];
                let read = shared.read_at(from, &mut to);
                let from = from.min(bytes.len());
                let expected = &bytes[from..bytes.len().min(from + len)];
                assert_eq!(&to[..read], expected);
                assert!(to[read..].iter().all(|byte| *byte == 0xFF));
            }
        }
        #[expect(unsafe_code, reason = "nobody else has this memory")]
        // SAFETY: the region is this test's own.
        let slice = unsafe { shared.as_slice() };
        assert_eq!(slice, bytes);
    }
}
