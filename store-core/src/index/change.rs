//! Changing one lane, under its stripe's guard with the intent armed. Each change becomes visible
//! by one 8-byte store of the slot.

use crate::error::Corruption;
use crate::layout::{LINK_LANE, Segment, Slot, TagWord, Where};
use crate::region::Shim;

/// Puts `new` into a free lane. Tag first: a reader that hits the new item by its tag must not
/// miss it by an older tag word later.
///
/// Dies after the tag: a tag without a slot, which is a free lane; the repair clears the tag.
pub(crate) fn insert<S: Shim>(
    segment: &Segment<S>,
    at: Where,
    new: Slot,
    tag: u8,
) -> Result<(), Corruption> {
    let line = segment.line(at.line)?;
    let tags = TagWord(line.tags.load()).with_tag(at.lane, tag);
    let cell = segment.slot_cell(at)?;
    line.tags.store::<S>(tags.0);
    cell.store::<S>(new.0);
    Ok(())
}

/// Puts `new` in the place of an item with the same key. One store.
pub(crate) fn overwrite<S: Shim>(
    segment: &Segment<S>,
    at: Where,
    new: Slot,
) -> Result<(), Corruption> {
    segment.slot_cell(at)?.store::<S>(new.0);
    Ok(())
}

/// Empties a lane. Slot first: a reader that missed by the tag must not hit later by the slot.
///
/// Dies after the slot: a tag without a slot, as in [`insert`].
pub(crate) fn remove<S: Shim>(segment: &Segment<S>, at: Where) -> Result<(), Corruption> {
    let line = segment.line(at.line)?;
    segment.slot_cell(at)?.store::<S>(0);
    line.tags.store::<S>(TagWord(line.tags.load()).with_tag(at.lane, 0).0);
    Ok(())
}

/// Sets the tag of a lane to what its slot says. For repairs; harmless to redo.
pub(crate) fn mend_tag<S: Shim>(
    segment: &Segment<S>,
    at: Where,
    scratch: &mut Vec<u8>,
) -> Result<(), Corruption> {
    let line = segment.line(at.line)?;
    let slot = line.slot(at.lane);
    let tags = TagWord(line.tags.load());
    let unlinked = if at.lane == LINK_LANE { tags.without_link() } else { tags };
    let mended = if slot.is_link() {
        tags.with_link()
    } else if slot.is_empty() {
        unlinked.with_tag(at.lane, 0)
    } else {
        let header = segment.header(slot.offset())?;
        let tag = TagWord::tag_of(segment.hash_of_item(slot.offset(), header, scratch)?);
        unlinked.with_tag(at.lane, tag)
    };
    if mended != tags {
        line.tags.store::<S>(mended.0);
    }
    Ok(())
}
