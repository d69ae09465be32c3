//! The atomic words that shared memory is made of.
//!
//! Loads are relaxed (on a read-only mapping Rust promises no more) and ordered by fences; every
//! store is a Release store that passes the [`Shim`], so that "each prefix of the stores" is what
//! a crash can leave.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::shim::Shim;
use crate::sys::step;

/// Types that may be laid over the bytes of a segment.
///
/// # Safety
/// `repr(C)` or `repr(transparent)`, no padding, every bit pattern valid, and nothing in it but
/// [`Cell64`], [`Cell32`] and [`Cell8`] (interior mutability throughout: a peer changes it at any time).
#[expect(unsafe_code, reason = "implementing it is a promise about layout")]
pub(crate) unsafe trait Shared: Sized {}

/// A 64-bit word of shared memory, always accessed whole.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Cell64(AtomicU64);

/// A 32-bit word of shared memory, always accessed whole: guards, which are futexes, and filters.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Cell32(AtomicU32);

/// A byte of shared memory, always accessed as such: a hint that any value will do for, so that its
/// stores don't pass the [`Shim`].
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Cell8(AtomicU8);

#[expect(unsafe_code, reason = "the contract of Shared is given here for the primitives")]
// SAFETY: transparent over an atomic integer: no padding, every bit pattern valid.
unsafe impl Shared for Cell64 {}
#[expect(unsafe_code, reason = "the contract of Shared is given here for the primitives")]
// SAFETY: as above.
unsafe impl Shared for Cell32 {}
#[expect(unsafe_code, reason = "the contract of Shared is given here for the primitives")]
// SAFETY: as above.
unsafe impl Shared for Cell8 {}
#[expect(unsafe_code, reason = "an array of shared words is shared words")]
// SAFETY: an array adds no padding to elements that have none.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

impl Cell64 {
    /// Relaxed load.
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        step::access();
        self.0.load(Ordering::Relaxed)
    }

    /// Acquire load, on writable mappings only.
    #[inline(always)]
    pub(crate) fn load_acquire(&self) -> u64 {
        step::access();
        self.0.load(Ordering::Acquire)
    }

    /// Release store.
    #[inline(always)]
    pub(crate) fn store<S: Shim>(&self, value: u64) {
        step::access();
        if S::OBSERVES {
            S::before_store(self.0.as_ptr() as usize, value, 8);
        }
        self.0.store(value, Ordering::Release);
    }

    /// Relaxed store of a word that nobody else can reach yet: item bytes before publication.
    #[inline(always)]
    pub(crate) fn store_unpublished<S: Shim>(&self, value: u64) {
        step::access();
        if S::OBSERVES {
            S::before_store(self.0.as_ptr() as usize, value, 8);
        }
        self.0.store(value, Ordering::Relaxed);
    }

    /// Compare-and-swap, AcqRel; on failure the word that was found.
    #[inline(always)]
    pub(crate) fn compare_exchange<S: Shim>(&self, from: u64, to: u64) -> Result<(), u64> {
        step::access();
        if S::OBSERVES && self.load() == from {
            S::before_store(self.0.as_ptr() as usize, to, 8);
        }
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    /// Adds and gives the word from before, AcqRel.
    #[inline(always)]
    pub(crate) fn fetch_add<S: Shim>(&self, by: u64) -> u64 {
        step::access();
        if S::OBSERVES {
            S::before_store(self.0.as_ptr() as usize, self.load().wrapping_add(by), 8);
        }
        self.0.fetch_add(by, Ordering::AcqRel)
    }
}

impl Cell32 {
    /// Relaxed load.
    #[inline(always)]
    pub(crate) fn load(&self) -> u32 {
        step::access();
        self.0.load(Ordering::Relaxed)
    }

    /// Compare-and-swap, AcqRel; on failure the word that was found.
    #[inline(always)]
    pub(crate) fn compare_exchange<S: Shim>(&self, from: u32, to: u32) -> Result<(), u32> {
        step::access();
        if S::OBSERVES && self.load() == from {
            S::before_guard_store(self.0.as_ptr() as usize, to);
        }
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    /// Release store.
    #[inline(always)]
    pub(crate) fn store<S: Shim>(&self, value: u32) {
        step::access();
        if S::OBSERVES {
            S::before_store(self.0.as_ptr() as usize, u64::from(value), 4);
        }
        self.0.store(value, Ordering::Release);
    }

    /// Relaxed store of a hint, which any value will do for; not seen by the [`Shim`].
    #[inline(always)]
    pub(crate) fn store_hint(&self, value: u32) {
        step::access();
        self.0.store(value, Ordering::Relaxed);
    }

    /// Exchange, AcqRel; gives the word from before.
    #[inline(always)]
    pub(crate) fn swap<S: Shim>(&self, to: u32) -> u32 {
        step::access();
        if S::OBSERVES {
            S::before_guard_store(self.0.as_ptr() as usize, to);
        }
        self.0.swap(to, Ordering::AcqRel)
    }

    /// The word itself, for the futex call.
    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.0
    }
}

impl Cell8 {
    /// Relaxed load.
    #[inline(always)]
    pub(crate) fn load(&self) -> u8 {
        step::access();
        self.0.load(Ordering::Relaxed)
    }

    /// Relaxed store.
    #[inline(always)]
    pub(crate) fn store_hint(&self, value: u8) {
        step::access();
        self.0.store(value, Ordering::Relaxed);
    }
}
