//! A loader lease: which client computes the value of a key for all that miss it.
//!
//! The leases are a part of their own, which nothing evicts or cleans.

use super::assert_offsets;
use crate::region::{Cell32, Cell64, Shared};

/// Leases that a key may have: that many in a row, from the one that its hash leads to.
pub(crate) const LOADER_WINDOW: u32 = 8;

/// See the module: one line of 64 bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct LoaderLease {
    /// Who computes, as in a guard; 0: nobody.
    pub(crate) owner: Cell32,
    pub(crate) reserved: Cell32,
    /// Hash of the key; 0: not filled in yet.
    pub(crate) hash: Cell64,
    /// When it was taken, in milliseconds of the segment's time; for people only.
    pub(crate) taken_ms: Cell64,
    pub(crate) reserved_end: [Cell64; 5],
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), cells only, two 4-byte ones side by side, so no padding (asserted).
unsafe impl Shared for LoaderLease {}

assert_offsets!(LoaderLease, 64, {
    owner: 0,
    hash: 8,
    taken_ms: 16,
});
