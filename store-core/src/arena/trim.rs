//! Giving the memory of free extents back to the kernel.
//!
//! A trimmed extent is not commissioned: its generation is 0, and nobody touches it. The generation
//! that it had is kept in its entry, so that the next commissioning goes on from there: slots of
//! before never fit again. Who commissions claims the extent for a moment and looks whether it was
//! trimmed since it was given its memory (`lease::commission_range`).

use super::lease::{can_be_claimed, claim, reserve_stands};
use crate::error::Corruption;
use crate::layout::{ExtentWord, Segment};
use crate::region::Shim;
use crate::sync::Owner;

/// Why no memory was given back.
#[derive(Debug)]
pub(crate) enum NotTrimmed {
    /// The kernel refused it.
    Refused(std::io::Error),
    /// See [`Corruption`].
    Corruption(Corruption),
}

impl From<Corruption> for NotTrimmed {
    fn from(error: Corruption) -> Self {
        Self::Corruption(error)
    }
}

/// Gives the memory of `extent` back, if it is free and not needed by cleaners; whether it did.
///
/// Dies at any point: the extent is claimed by a dead client, whose reaper frees it. With its
/// generation it is as it was; without, it is not commissioned, with or without its memory.
pub(crate) fn trim<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    extent: u32,
) -> Result<bool, NotTrimmed> {
    if !can_be_claimed(segment, extent)? || !claim(segment, extent, owner)? {
        return Ok(false);
    }
    let entry = segment.extent(extent)?;
    let given = if reserve_stands(segment)? {
        let generation = segment.generation(extent)?;
        entry.trimmed_generation.store::<S>(generation.load());
        generation.store::<S>(0);
        let (offset, bytes) =
            (segment.geometry.extent_offset(extent), segment.geometry.extent_bytes());
        segment.region.discard(offset, bytes).map(|()| true).map_err(NotTrimmed::Refused)
    } else {
        Ok(false)
    };
    // Pairs with the compare-and-swap of who commissions it: the memory is gone before.
    entry.word.store::<S>(ExtentWord::FREE.word());
    given
}
