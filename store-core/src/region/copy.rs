//! Copies between shared and private memory, a word at a time or, for long ones, by a block loop
//! in assembly.
//!
//! Bytes that another process may be writing are never read as a plain slice: that would be a
//! data race. Relaxed word loads are not one, and assembly is outside of Rust's memory model.
//! Neither may tear what a caller believes: the caller validates after an Acquire fence.

use std::mem::MaybeUninit;

use super::cell::Cell64;
use super::shim::Shim;

/// Copies the bytes of `from` into `to`; `from` covers `to.len()` bytes, rounded up to words.
#[inline]
#[expect(unsafe_code, reason = "initialised bytes seen as perhaps uninitialised ones")]
pub(crate) fn copy_out(from: &[Cell64], to: &mut [u8]) {
    // SAFETY: same layout; `copy_words` writes initialised bytes only.
    copy_words(from, unsafe { &mut *(std::ptr::from_mut(to) as *mut [MaybeUninit<u8>]) });
}

/// Appends `bytes` bytes of `from`, which covers them rounded up to words, to `to`.
#[inline]
#[expect(unsafe_code, reason = "spare capacity becomes length once it is written")]
pub(crate) fn append_out(from: &[Cell64], bytes: usize, to: &mut Vec<u8>) {
    let bytes = bytes.min(from.len() * 8);
    to.reserve(bytes);
    copy_words(from, &mut to.spare_capacity_mut()[..bytes]);
    // SAFETY: capacity was reserved, and `copy_words` has written every one of these bytes.
    unsafe { to.set_len(to.len() + bytes) };
}

/// From 16 bytes on by 16-byte moves, the last ones overlapping those before; below, by words.
#[inline(always)]
fn copy_words(from: &[Cell64], to: &mut [MaybeUninit<u8>]) {
    let bytes = to.len();
    assert!(from.len() * 8 >= bytes, "a local invariant: the source covers the target");
    #[cfg(all(target_arch = "x86_64", not(miri), not(interleave)))]
    if bytes >= 16 {
        return vector::copy(from, to);
    }
    let (words, rest) = to.as_chunks_mut::<8>();
    let mut cells = from.iter();
    for (word, cell) in words.iter_mut().zip(cells.by_ref()) {
        *word = cell.load().to_le_bytes().map(MaybeUninit::new);
    }
    if let (false, Some(cell)) = (rest.is_empty(), cells.next()) {
        let bytes = cell.load().to_le_bytes();
        for (to, from) in rest.iter_mut().zip(bytes) {
            to.write(from);
        }
    }
}

/// Copies `from` into `to`, which nobody else can reach yet and which covers it rounded up to words; the
/// rest of the last word is 0. From 16 bytes on by 16-byte moves, unless each store is to be seen.
#[inline]
pub(crate) fn copy_in<S: Shim>(from: &[u8], to: &[Cell64]) {
    assert!(to.len() * 8 >= from.len(), "a local invariant: the target covers the source");
    #[cfg(all(target_arch = "x86_64", not(miri), not(interleave)))]
    if !S::OBSERVES && from.len() >= 16 {
        if !from.len().is_multiple_of(8) {
            to[from.len() / 8].store_unpublished::<S>(0);
        }
        return vector::copy_in(from, to);
    }
    let (words, rest) = from.as_chunks::<8>();
    let mut cells = to.iter();
    for (word, cell) in words.iter().zip(cells.by_ref()) {
        cell.store_unpublished::<S>(u64::from_le_bytes(*word));
    }
    if let (false, Some(cell)) = (rest.is_empty(), cells.next()) {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        cell.store_unpublished::<S>(u64::from_le_bytes(word));
    }
}

/// Copies the words of `from` to `to`, which nobody else can reach yet and which has as many. From 16
/// bytes on by 16-byte moves, unless each store is to be seen.
#[inline]
pub(crate) fn copy_across<S: Shim>(from: &[Cell64], to: &[Cell64]) {
    assert!(to.len() == from.len(), "a local invariant: as many words on both sides");
    #[cfg(all(target_arch = "x86_64", not(miri), not(interleave)))]
    if !S::OBSERVES && from.len() >= 2 {
        return vector::copy_across(from, to);
    }
    for (from, to) in from.iter().zip(to) {
        to.store_unpublished::<S>(from.load());
    }
}

/// Whether the bytes at `shared` are those of `private`, compared a word at a time.
#[inline(always)]
pub(crate) fn equals(shared: &[Cell64], private: &[u8]) -> bool {
    let (words, rest) = private.as_chunks::<8>();
    let mut cells = shared.iter();
    for (word, cell) in words.iter().zip(cells.by_ref()) {
        if cell.load() != u64::from_le_bytes(*word) {
            return false;
        }
    }
    if rest.is_empty() {
        return true;
    }
    let Some(cell) = cells.next() else { return false };
    let beyond = 64 - 8 * rest.len();
    // Of the last eight bytes the upper ones are those of the rest: no copy of unknown length.
    let last = match private.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last) >> beyond,
        None => short_word(rest),
    };
    cell.load() & u64::MAX >> beyond == last
}

/// A word of fewer than eight bytes.
#[cold]
fn short_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(all(target_arch = "x86_64", not(miri), not(interleave)))]
mod vector {
    //! 16-byte moves in assembly. They are ordinary x86 loads, so a later load of the generation
    //! stays behind them; that they may tear is what the generation is for.

    use std::arch::asm;
    use std::mem::MaybeUninit;

    use crate::region::Cell64;

    /// Copies `to.len()` bytes, at least 16, which `from` covers (the caller has checked both).
    #[expect(unsafe_code, reason = "loads of shared bytes in assembly, within checked bounds")]
    #[inline(always)]
    pub(super) fn copy(from: &[Cell64], to: &mut [MaybeUninit<u8>]) {
        let bytes = to.len();
        debug_assert!(bytes >= 16 && from.len() * 8 >= bytes);
        // SAFETY: both ranges are as long, and the second one is borrowed for this alone.
        unsafe { copy_bytes(from.as_ptr().cast(), to.as_mut_ptr().cast(), bytes) };
    }

    /// Copies `from`, of at least 16 bytes, to `to`, which covers it (the caller has checked both).
    #[expect(unsafe_code, reason = "stores to shared bytes in assembly, within checked bounds")]
    #[inline(always)]
    pub(super) fn copy_in(from: &[u8], to: &[Cell64]) {
        let bytes = from.len();
        debug_assert!(bytes >= 16 && to.len() * 8 >= bytes);
        // SAFETY: both ranges are as long. The second one is shared memory, where stores go by cells or
        // by assembly, which is outside of Rust's memory model.
        unsafe { copy_bytes(from.as_ptr(), to.as_ptr().cast_mut().cast(), bytes) };
    }

    /// Copies the words of `from`, at least two, to `to`, which has as many (the caller has checked both).
    #[expect(unsafe_code, reason = "loads and stores of shared bytes in assembly, within bounds")]
    #[inline(always)]
    pub(super) fn copy_across(from: &[Cell64], to: &[Cell64]) {
        let bytes = from.len() * 8;
        debug_assert!(bytes >= 16 && to.len() * 8 == bytes);
        // SAFETY: both ranges are as long, and both are shared memory: see `copy` and `copy_in`.
        unsafe { copy_bytes(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), bytes) };
    }

    /// Copies `bytes` bytes, at least 16.
    #[expect(unsafe_code, reason = "see `copy`")]
    #[inline(always)]
    unsafe fn copy_bytes(from: *const u8, to: *mut u8, bytes: usize) {
        // SAFETY: the caller has `bytes` bytes at both. Each range copied lies within them, because of
        // the comparison before it. SSE2 is part of x86-64.
        unsafe {
            if bytes >= 64 {
                let mut done = 0;
                while done + 64 <= bytes {
                    copy_64(from.add(done), to.add(done));
                    done += 64;
                }
                if done < bytes {
                    copy_64(from.add(bytes - 64), to.add(bytes - 64));
                }
            } else if bytes >= 32 {
                copy_32(from, to);
                copy_32(from.add(bytes - 32), to.add(bytes - 32));
            } else {
                copy_16(from, to);
                copy_16(from.add(bytes - 16), to.add(bytes - 16));
            }
        }
    }

    #[expect(unsafe_code, reason = "see `copy`")]
    #[inline(always)]
    unsafe fn copy_64(from: *const u8, to: *mut u8) {
        // SAFETY: the caller has 64 bytes at both.
        unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                from = in(reg) from,
                to = in(reg) to,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[expect(unsafe_code, reason = "see `copy`")]
    #[inline(always)]
    unsafe fn copy_32(from: *const u8, to: *mut u8) {
        // SAFETY: the caller has 32 bytes at both.
        unsafe {
            copy_16(from, to);
            copy_16(from.add(16), to.add(16));
        }
    }

    #[expect(unsafe_code, reason = "see `copy`")]
    #[inline(always)]
    unsafe fn copy_16(from: *const u8, to: *mut u8) {
        // SAFETY: the caller has 16 bytes at both.
        unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups [{to}], {a}",
                from = in(reg) from,
                to = in(reg) to,
                a = out(xmm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shim::Plain;
    use super::*;

    #[test]
    fn every_length_arrives_whole() {
        for len in (0..600_usize).chain([1024, 4095, 4096, 4097]) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let cells: Vec<Cell64> =
                (0..len.div_ceil(8)).map(|_| crate::region::test_cell(u64::MAX)).collect();
            copy_in::<Plain>(&bytes, &cells);
            let mut back = vec![0xAA; len];
            copy_out(&cells, &mut back);
            assert_eq!(back, bytes, "length {len}");
            append_out(&cells, len, &mut back);
            assert_eq!(back[len..], bytes, "length {len}");
            assert!(equals(&cells, &bytes));
            if len > 0 {
                let mut other = bytes.clone();
                other[len - 1] ^= 1;
                assert!(!equals(&cells, &other), "length {len}");
            }
        }
    }
}
