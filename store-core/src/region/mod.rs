//! Bounds-checked typed views of raw shared bytes.
//!
//! A [`Region`] is the only way from an offset to memory: it checks bounds and alignment, and
//! gives references to atomic words only. No raw pointer leaves this folder and `sys`.

mod bytes;
mod cell;
mod copy;
mod shim;

use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::Corruption;
use crate::sys::holder::Holder;
use crate::sys::map::Mapping;

pub use bytes::SharedBytes;
pub(crate) use cell::{Cell8, Cell32, Cell64, Shared};
pub(crate) use copy::{append_out, copy_across, copy_in, copy_out, equals};
pub(crate) use shim::mutated;
pub use shim::{Mutation, Plain, Shim};

/// A range of the segment that holds `count` records of one type. Made by [`Region::table`], which
/// checks it against the mapping; an index is then all that is left to check.
///
/// Must not outlive its region: both are fields of one `Segment`, which drops the region last.
#[derive(Debug)]
pub(crate) struct Table<T> {
    first: NonNull<T>,
    count: u64,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { first: self.first, count: self.count }
    }
}

#[expect(unsafe_code, reason = "a table is used from every thread, as its region is")]
// SAFETY: records are shared cells (`T: Shared` for every table that is made).
unsafe impl<T> Send for Table<T> {}
#[expect(unsafe_code, reason = "a table is used from every thread, as its region is")]
// SAFETY: as above.
unsafe impl<T> Sync for Table<T> {}

impl<T: Shared> Table<T> {
    /// How many there are.
    #[inline(always)]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Asks for the line of record `index`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, region: &Region, index: u64) {
        let first = self.first.as_ptr() as usize - region.address();
        region.prefetch((first as u64).wrapping_add(index.wrapping_mul(size_of::<T>() as u64)));
    }

    /// Record `index`.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a record of a table that was checked when it was made")]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        if index >= self.count {
            return None;
        }
        // SAFETY: `Region::table` found all `count` records in bounds and aligned; mappings never
        // shrink and the table does not outlive its region; `T: Shared` is valid for every bit
        // pattern.
        Some(unsafe { &*self.first.as_ptr().add(index as usize) })
    }
}

/// One record, checked when it was made by [`Region::one`]. Like a [`Table`] it must not outlive
/// its region.
#[derive(Debug)]
pub(crate) struct One<T>(Table<T>);

impl<T> Clone for One<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Shared> One<T> {
    #[inline(always)]
    #[expect(unsafe_code, reason = "a record that was checked when it was made")]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: as in `Table::get`; `Region::one` makes tables of one record only.
        unsafe { self.0.first.as_ref() }
    }
}

/// The local mapping of a segment, which goes with its last clone.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    /// Copied out of the mapping, for the read path.
    base: NonNull<u8>,
    bytes: usize,
    shared: Arc<(Mapping, Holder)>,
}

#[expect(unsafe_code, reason = "the address of a mapping that is used from every thread")]
// SAFETY: what lies there is read and written as shared cells only.
unsafe impl Send for Region {}
#[expect(unsafe_code, reason = "the address of a mapping that is used from every thread")]
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Memory of this process that needs no commissioning.
    pub(crate) fn private(mapping: Mapping) -> Self {
        Self::of(mapping, Holder::Private)
    }

    /// The mapping of what `holder` holds.
    pub(crate) fn of(mapping: Mapping, holder: Holder) -> Self {
        let (base, bytes) = (mapping.base(), mapping.bytes());
        Self { base, bytes, shared: Arc::new((mapping, holder)) }
    }

    fn mapping(&self) -> &Mapping {
        &self.shared.0
    }

    /// What is mapped.
    pub(crate) fn holder(&self) -> &Holder {
        &self.shared.1
    }

    /// Gives a range its memory, so that no store to it can fail later.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` where there is none left.
    pub(crate) fn commission(&self, offset: u64, bytes: u64) -> std::io::Result<()> {
        self.holder().commission(self.mapping(), offset, bytes)?;
        self.mapping().collapse(offset, bytes);
        Ok(())
    }

    /// Asks for huge pages for the memory that it gets from now on.
    pub(crate) fn ask_for_huge_pages(&self) {
        self.mapping().ask_for_huge_pages();
    }

    /// Gives the memory of a range back: it reads as 0 then. Where the range is no whole number of
    /// pages, only those within it.
    ///
    /// # Errors
    /// Those of `fallocate(2)` and `madvise(2)`.
    pub(crate) fn discard(&self, offset: u64, bytes: u64) -> std::io::Result<()> {
        self.holder().discard(self.mapping(), offset, bytes)
    }

    /// Bytes of memory or disk that it takes now; 0 for private memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.holder().resident_bytes(self.mapping())
    }

    /// Makes the mapping read-only in this process, for good.
    ///
    /// # Errors
    /// Those of `mprotect(2)`.
    pub(crate) fn protect(&self) -> std::io::Result<()> {
        self.mapping().protect()
    }

    /// Bytes that are mapped.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The address of the mapping, for people.
    pub(crate) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Offset of a word that is in it.
    #[inline(always)]
    pub(crate) fn offset_of(&self, cell: &Cell64) -> u64 {
        (std::ptr::from_ref(cell) as usize).wrapping_sub(self.address()) as u64
    }

    /// Whether stores are possible.
    pub(crate) fn writable(&self) -> bool {
        self.mapping().writable()
    }

    /// The table of `count` records from `offset` on.
    ///
    /// # Errors
    /// `Corruption` if it leaves the mapping or is not aligned.
    pub(crate) fn table<T: Shared>(&self, offset: u64, count: u64) -> Result<Table<T>, Corruption> {
        let end = count
            .checked_mul(size_of::<T>() as u64)
            .and_then(|bytes| bytes.checked_add(offset))
            .filter(|end| *end <= self.bytes() && offset.is_multiple_of(align_of::<T>() as u64));
        let first = NonNull::new(self.base.as_ptr().wrapping_add(offset as usize).cast());
        match (end, first) {
            (Some(_), Some(first)) => Ok(Table { first, count }),
            _ => Err(Corruption { what: "a table leaves the segment", offset }),
        }
    }

    /// The record at `offset`.
    ///
    /// # Errors
    /// `Corruption` if it leaves the mapping or is not aligned.
    pub(crate) fn one<T: Shared>(&self, offset: u64) -> Result<One<T>, Corruption> {
        self.table(offset, 1).map(One)
    }

    /// The `T` at `offset`.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the one place where an offset becomes a reference")]
    pub(crate) fn view<T: Shared>(&self, offset: u64) -> Result<&T, Corruption> {
        let size = size_of::<T>() as u64;
        let end = offset.wrapping_add(size);
        if end > self.bytes() || end < size || !offset.is_multiple_of(align_of::<T>() as u64) {
            return Err(Corruption { what: "an offset leaves the segment", offset });
        }
        // SAFETY: in bounds and aligned (just checked; the mapping starts at a page); `T: Shared`
        // is atomics only, valid for every bit pattern; the mapping lives as long as `self`.
        Ok(unsafe { &*self.base.as_ptr().add(offset as usize).cast::<T>() })
    }

    /// `count` words from `offset` on.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the one place where a range becomes a slice of cells")]
    pub(crate) fn words(&self, offset: u64, count: u64) -> Result<&[Cell64], Corruption> {
        let fits = count <= self.bytes() / 8 && offset <= self.bytes() - count * 8;
        if !fits || !offset.is_multiple_of(8) {
            return Err(Corruption { what: "a range leaves the segment", offset });
        }
        // SAFETY: as in `view`, for `count` cells.
        Ok(unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().add(offset as usize).cast::<Cell64>(),
                count as usize,
            )
        })
    }

    /// Everything from word `start` on; `None` out of bounds.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the one place where a word's number becomes an address")]
    pub(crate) fn tail(&self, start: u64) -> Option<&[Cell64]> {
        let all = (self.bytes / 8) as u64;
        if start >= all {
            return None;
        }
        // SAFETY: below the end of the mapping, whose base is not null, and aligned since the base
        // is a page.
        Some(unsafe {
            let first = self.base.as_ptr().cast::<Cell64>().add(start as usize);
            std::slice::from_raw_parts(first, (all - start) as usize)
        })
    }

    /// Asks the processor for the line at `offset`; a hint that can do no harm.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: u64) {
        crate::sys::prefetch(self.base.as_ptr().wrapping_add(offset as usize));
    }
}

#[cfg(test)]
pub(crate) fn test_cell(value: u64) -> Cell64 {
    #[expect(
        unsafe_code,
        reason = "Cell64 is transparent over AtomicU64, which has no other maker"
    )]
    // SAFETY: same layout as u64, every bit pattern valid.
    unsafe {
        std::mem::transmute(value)
    }
}
