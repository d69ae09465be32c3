//! Overflow lines: linked behind a full chain, unlinked when they are empty again.
//!
//! Whose a line is stands in its owner word (bucket + 1, 0 for free), taken by a compare-and-swap
//! after the intent names the line: so a repairer can tell a line that its dead owner took from
//! one that somebody else did.

use std::sync::atomic::{Ordering, fence};

use crate::error::Corruption;
use crate::layout::{
    IndexSize, Intent, IntentKind, LANES, LINK_LANE, Segment, Slot, Stripe, TagWord, Where,
};
use crate::region::{Mutation, Shim, mutated};

/// Owner words looked at before an insert is refused: at 99% use one in 10^18 fails wrongly.
const PROBES_MAX: u64 = 4096;

/// Links a line behind `tail`, whose lanes are all used, and puts `new` into it, with the intent
/// armed on the way. `None` if there is no free line.
pub(crate) fn link<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
    tail: u64,
    new: Slot,
    tag: u8,
) -> Result<Option<Intent>, Corruption> {
    let parent = Where { line: tail, lane: LINK_LANE };
    let cell = segment.slot_cell(parent)?;
    let displaced = Slot(cell.load());
    let Some((intent, overflow)) = claim_line(segment, stripe, bucket, parent, displaced, new)?
    else {
        return Ok(None);
    };
    let number = segment.geometry.buckets + overflow;
    let line = segment.line(number)?;
    let parent_line = segment.line(tail)?;
    let parent_tags = TagWord(parent_line.tags.load());
    let tags = TagWord(0).with_tag(0, parent_tags.tag(LINK_LANE)).with_tag(1, tag);
    // The line may have been read as another chain's: pairs with the Acquire fence before the
    // reader's second look at the size word, whose epoch was bumped when the line was unlinked.
    fence(Ordering::Release);
    let early = mutated::<S>(Mutation::LinkBeforeCopy);
    if early {
        cell.store::<S>(Slot::of_link(overflow).0);
    }
    line.tags.store::<S>(tags.0);
    for (lane, slot) in line.cells().iter().enumerate() {
        slot.store::<S>(match lane {
            0 => displaced.0,
            1 => new.0,
            _ => 0,
        });
    }
    // Dies before this: the line is ours and unlinked; the repair frees it. After it: the new
    // item is there for some readers; the repair goes forward.
    if !early {
        cell.store::<S>(Slot::of_link(overflow).0);
    }
    parent_line.tags.store::<S>(parent_tags.with_link().0);
    Ok(Some(intent))
}

/// Finds a free overflow line and takes it for `bucket`, the armed intent naming it first.
fn claim_line<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
    parent: Where,
    displaced: Slot,
    new: Slot,
) -> Result<Option<(Intent, u64)>, Corruption> {
    let lines = segment.geometry.overflow_lines;
    // Neighbouring buckets start apart, so that searches don't run into each other.
    let start = bucket.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    for probe in 0..lines.min(PROBES_MAX) {
        let overflow = (start + probe) % lines;
        let owner = segment.line_owner(overflow)?;
        if owner.load() != 0 {
            continue;
        }
        let intent = Intent {
            kind: IntentKind::Link,
            items_before: stripe.items.load(),
            cell: segment.slot_offset(parent),
            old: displaced,
            new,
            line: overflow,
        };
        stripe.arm::<S>(&intent);
        if owner.compare_exchange::<S>(0, bucket + 1).is_ok() {
            return Ok(Some((intent, overflow)));
        }
    }
    // An intent armed for a line that somebody else took: nothing was done.
    stripe.disarm::<S>();
    Ok(None)
}

/// Unlinks the tail of `bucket`'s chain for as long as it is an overflow line with no item.
pub(crate) fn unlink_vacant_tail<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
) -> Result<(), Corruption> {
    loop {
        let (mut parent, mut tail) = (None, bucket);
        for number in super::search::chain(segment, bucket) {
            let number = number?;
            if number != tail {
                parent = Some(tail);
                tail = number;
            }
        }
        let Some(parent) = parent else { return Ok(()) };
        let at = Where { line: parent, lane: LINK_LANE };
        if !segment.line(tail)?.is_vacant() {
            return Ok(());
        }
        let link = Slot(segment.slot_cell(at)?.load());
        let Some(overflow) = link.link() else { return Ok(()) };
        stripe.arm::<S>(&Intent {
            kind: IntentKind::Unlink,
            items_before: stripe.items.load(),
            cell: segment.slot_offset(at),
            old: link,
            new: Slot::EMPTY,
            line: overflow,
        });
        segment.slot_cell(at)?.store::<S>(0);
        finish_unlink(segment, bucket, at, overflow)?;
        stripe.disarm::<S>();
    }
}

/// Everything of an unlink after the link is gone; harmless to redo.
pub(crate) fn finish_unlink<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
    parent: Where,
    overflow: u64,
) -> Result<(), Corruption> {
    let line = segment.line(parent.line)?;
    line.tags.store::<S>(TagWord(line.tags.load()).without_link().0);
    // A reader that still walks the line sees another size word at its end and looks again.
    segment.superblock().index_size.fetch_add::<S>(IndexSize::EPOCH_ONE);
    let owner = segment.line_owner(overflow)?;
    if owner.load() == bucket + 1 {
        owner.store::<S>(0);
    }
    Ok(())
}

/// The bucket that a line belongs to.
pub(crate) fn bucket_of_line<S: Shim>(segment: &Segment<S>, line: u64) -> Result<u64, Corruption> {
    match line.checked_sub(segment.geometry.buckets) {
        None => Ok(line),
        Some(overflow) => segment
            .line_owner(overflow)?
            .load()
            .checked_sub(1)
            .ok_or(Corruption { what: "a linked line that is free", offset: overflow }),
    }
}

const _: () = assert!(LANES >= 2, "a new overflow line takes two slots");
