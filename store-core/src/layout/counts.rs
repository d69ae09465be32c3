//! What clients counted of their operations: a line of a client entry has those of its client, a
//! line of the superblock those of the clients that are gone.

use super::assert_offsets;
use crate::region::{Cell64, Shared};

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) hits: Cell64,
    pub(crate) misses: Cell64,
    pub(crate) puts: Cell64,
    pub(crate) deletes: Cell64,
    /// Bytes of the items that were put.
    pub(crate) put_bytes: Cell64,
    /// In a client entry: the generation whose client counts its lookups.
    pub(crate) lookups_generation: Cell64,
    pub(crate) reserved: [Cell64; 2],
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64 or an array of them, so no padding (asserted).
unsafe impl Shared for Counts {}

assert_offsets!(Counts, 64, { hits: 0, misses: 8, puts: 16, deletes: 24, put_bytes: 32, lookups_generation: 40 });

/// Numbers in [`Counts`].
pub(crate) const COUNTS: usize = 5;

impl Counts {
    /// The cells that count, in order.
    pub(crate) fn cells(&self) -> [&Cell64; COUNTS] {
        [&self.hits, &self.misses, &self.puts, &self.deletes, &self.put_bytes]
    }
}
