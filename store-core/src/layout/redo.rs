//! A redo record: what a value that is overwritten where it stands is going to be. Each stripe has
//! one; it changes under the guard, and is whole before the item changes, so that whoever finds the
//! item half written has the value here: a reader reads it, who repairs the stripe writes it again.

use super::assert_offsets;
use crate::region::{Cell64, Shared};

/// Words of the longest value that is overwritten where it stands.
pub(crate) const REDO_WORDS: usize = 28;

/// See the module: four lines of 64 bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RedoRecord {
    /// The stamp that the item gets; 0 while the record is filled, or if it never was.
    pub(crate) stamp: Cell64,
    /// The header word that it gets.
    pub(crate) header: Cell64,
    /// Its checksum, if items have one.
    pub(crate) checksum: Cell64,
    pub(crate) reserved: Cell64,
    pub(crate) value: [Cell64; REDO_WORDS],
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), words of 8 bytes only, so no padding (asserted).
unsafe impl Shared for RedoRecord {}

assert_offsets!(RedoRecord, 256, {
    stamp: 0,
    header: 8,
    checksum: 16,
    value: 32,
});
