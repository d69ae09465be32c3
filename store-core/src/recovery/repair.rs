//! Repairing one stripe after its holder died: finish or undo what its intent says.

use super::redo::redo;
use crate::arena::pieces::Pieces;
use crate::arena::retire;
use crate::error::Corruption;
use crate::index::{change, overflow, split};
use crate::layout::{Intent, IntentKind, Segment, Slot, Stripe, Where};
use crate::region::{Mutation, Shim, mutated};

/// Finishes or undoes the armed intent of `stripe`, whose guard the caller holds. Whatever the
/// bytes say: an intent that makes no sense is dropped.
///
/// # Errors
/// `Corruption` where the index is broken beyond the intent; the intent is dropped all the same.
pub(crate) fn repair_stripe<S: Shim>(segment: &Segment<S>, stripe: u32) -> Result<(), Corruption> {
    let record = segment.stripe(stripe)?;
    if mutated::<S>(Mutation::SkipRepair) {
        record.disarm::<S>();
        return Ok(());
    }
    let mut outcome = Ok(());
    if let Some(intent) = record.intent()
        && let Some(at) = segment.where_is(intent.cell)
        && let Ok(bucket) = segment.bucket_of_line(at.line)
        && segment.geometry.stripe_of(bucket) == stripe
    {
        outcome = match intent.kind {
            IntentKind::Swap => repair_swap(segment, record, &intent, at),
            IntentKind::Link => repair_link(segment, record, &intent, at, bucket),
            IntentKind::Unlink => repair_unlink(segment, record, &intent, at, bucket),
            IntentKind::Raise => repair_raise(segment, record, &intent, at, bucket),
            IntentKind::Split => split::repair(segment, record, bucket, intent.line),
            IntentKind::Overwrite => repair_overwrite(segment, stripe, &intent, at),
        };
    }
    record.disarm::<S>();
    outcome
}

/// A swap is done if the cell holds the new slot. Its tag and the count of items follow from that;
/// whether the live units of the old item were subtracted is not known, so its extent is suspect.
fn repair_swap<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    intent: &Intent,
    at: Where,
) -> Result<(), Corruption> {
    let now = Slot(segment.slot_cell(at)?.load());
    let done = now == intent.new;
    if !done && now != intent.old {
        return Ok(());
    }
    change::mend_tag(segment, at, &mut Vec::new())?;
    let added = u64::from(done && intent.old.is_empty());
    let removed = u64::from(done && intent.new.is_empty());
    count(segment, stripe, (intent.items_before + added).saturating_sub(removed));
    if !done {
        // Its pieces, if it has some, are in flight with it.
        give_up(segment, intent.new)?;
    } else {
        if intent.line != 0 {
            give_pieces_up(segment, intent.old)?;
        }
        give_up(segment, intent.old)?;
    }
    if done && intent.new.is_empty() {
        let bucket = segment.bucket_of_line(at.line)?;
        stripe.disarm::<S>();
        overflow::shorten(segment, stripe, bucket)?;
    }
    Ok(())
}

/// An overwrite is finished if the item says that it is being overwritten; else nothing was done, or all.
fn repair_overwrite<S: Shim>(
    segment: &Segment<S>,
    stripe: u32,
    intent: &Intent,
    at: Where,
) -> Result<(), Corruption> {
    let slot = Slot(segment.slot_cell(at)?.load());
    if slot == intent.old && segment.slot_stands(slot) {
        redo(segment, stripe, slot)?;
    }
    Ok(())
}

/// The item at `slot` can't be reached any more, or never could; whether its units were subtracted
/// is not known.
fn give_up<S: Shim>(segment: &Segment<S>, slot: Slot) -> Result<(), Corruption> {
    if slot.is_item() { retire::mark_suspect(segment, slot.offset()) } else { Ok(()) }
}

/// The pieces of the item at `slot` can't be reached any more. Which they are is known as long as the
/// item itself counts: it is given back last.
fn give_pieces_up<S: Shim>(segment: &Segment<S>, slot: Slot) -> Result<(), Corruption> {
    if segment.slot_stands(slot)
        && let Ok(Some(pieces)) = Pieces::of(segment, slot.offset(), segment.header(slot.offset())?)
    {
        pieces.mark_suspect(segment)?;
    }
    Ok(())
}

/// A link is done if lane 6 holds it; else the line goes back, if it was taken at all.
fn repair_link<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    intent: &Intent,
    at: Where,
    bucket: u64,
) -> Result<(), Corruption> {
    let now = Slot(segment.slot_cell(at)?.load());
    let owner = segment.line_owner(intent.line)?;
    change::mend_tag(segment, at, &mut Vec::new())?;
    if now == Slot::of_link(intent.line) {
        count(segment, stripe, intent.items_before + 1);
        return Ok(());
    }
    if now == intent.old && owner.load() == bucket + 1 && !is_linked(segment, bucket, intent.line)?
    {
        owner.store::<S>(0);
    }
    give_up(segment, intent.new)
}

/// Whether `overflow` is in the chain of `bucket`.
fn is_linked<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
    overflow: u64,
) -> Result<bool, Corruption> {
    for line in crate::index::search::chain(segment, bucket) {
        if line? == overflow {
            return Ok(true);
        }
    }
    Ok(false)
}

fn count<S: Shim>(segment: &Segment<S>, stripe: &Stripe, items: u64) {
    let near = &segment.superblock().items_near;
    stripe.count_items::<S>(items, near, segment.geometry.counted_step());
}

/// An unlink is finished if the link is gone, and begun anew if it stands.
fn repair_unlink<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    intent: &Intent,
    at: Where,
    bucket: u64,
) -> Result<(), Corruption> {
    if Slot(segment.slot_cell(at)?.load()) == intent.new {
        change::mend_tag(segment, at, &mut Vec::new())?;
        overflow::finish_unlink(segment, bucket, intent.line)?;
    }
    stripe.disarm::<S>();
    overflow::shorten(segment, stripe, bucket)
}

/// An item that is where it goes is cleared where it was; else nothing was done but a tag.
fn repair_raise<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    intent: &Intent,
    at: Where,
    bucket: u64,
) -> Result<(), Corruption> {
    let scratch = &mut Vec::new();
    change::mend_tag(segment, at, scratch)?;
    if Slot(segment.slot_cell(at)?.load()) == intent.new
        && let Some(from) = segment.where_is(intent.line)
        && segment.bucket_of_line(from.line) == Ok(bucket)
    {
        overflow::bump_epoch(segment);
        if Slot(segment.slot_cell(from)?.load()) == intent.new {
            change::remove(segment, from)?;
        }
        change::mend_tag(segment, from, scratch)?;
    }
    stripe.disarm::<S>();
    overflow::shorten(segment, stripe, bucket)
}
