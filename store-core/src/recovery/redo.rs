//! Finishing what a writer left that died while it overwrote a value where it stands.

use std::sync::atomic::{Ordering, fence};

use crate::error::Corruption;
use crate::layout::{Header, REDO_WORDS, Segment, Slot, Stamp, flags};
use crate::region::{Cell64, Shim, copy_across};

/// Makes of the item at `slot`, if it says that it is being overwritten, what the redo record of its
/// stripe says; whether the record is the item's. For the holder of the guard, when the slot stands.
///
/// Dies anywhere: the item says so until its last store.
pub(crate) fn redo<S: Shim>(
    segment: &Segment<S>,
    stripe: u32,
    slot: Slot,
) -> Result<bool, Corruption> {
    let item = slot.offset();
    let record = segment.redo(stripe)?;
    let [stamp_cell, header_cell] = segment.region.view::<[Cell64; 2]>(item)?;
    let stamp = Stamp(stamp_cell.load());
    let header = Header::of(record.header.load());
    let words = (header.value_bytes as usize).div_ceil(8);
    if !stamp.is_overwritten()
        || stamp.number() != record.stamp.load()
        || words > REDO_WORDS
        || !header.fits_in(Header::of(header_cell.load()))
        || !segment.geometry.is_within_extent(item, header.shape().bytes)
    {
        return Ok(false);
    }
    let shape = header.shape();
    let value = segment.region.words(item + shape.value, words as u64)?;
    // As in `store::overwrite`: readers see the stamp that its writer stored before anything of this.
    fence(Ordering::Release);
    header_cell.store::<S>(header.word());
    if header.has(flags::CHECKSUM) {
        let checksum = segment.region.view::<Cell64>(item + shape.checksum)?;
        checksum.store::<S>(record.checksum.load());
    }
    copy_across::<S>(&record.value[..words], value);
    stamp_cell.store::<S>(stamp.number());
    Ok(true)
}
