//! Overflow lines: linked behind a full chain, unlinked when the chain needs them no more.
//!
//! Whose a line is stands in its owner word (bucket + 1, 0 for free), taken by a compare-and-swap
//! after the intent names the line: so a repairer can tell a line that its dead owner took from
//! one that somebody else did. They lie in extents of their own, listed at the end of the directory.

use std::sync::atomic::{Ordering, fence};

use super::{CHAIN_LINES_MAX, change};
use crate::error::Corruption;
use crate::layout::{
    ExtentState, IndexSize, Intent, IntentKind, LANES, LINK_LANE, Segment, Slot, Stripe, TagWord,
    Where,
};
use crate::region::{Mutation, Shim, mutated};

/// Owner words in a line of memory, which are looked at together.
const OWNERS_TOGETHER: u64 = 8;
/// Owner words that are looked at in scattered places. A search that looked at more of them says
/// that lines are getting short. At 85% use, where three groups in five are full, it is one in 10^14;
/// with half as many places it is one in 10^7, and of tables of a million items one in four had an
/// extent more than the others.
const PROBES_FEW: u64 = 512;
/// Owner words looked at, one after the other, before there is no line.
const PROBES_MAX: u64 = 1024;

/// A line that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Its address.
    pub(crate) line: u64,
    /// Few are left.
    pub(crate) crowded: bool,
}

/// Links a line behind `tail`, whose lanes are all used, and puts `new` into it, with the intent
/// armed on the way. `None` if there is no free line.
pub(crate) fn link<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
    tail: u64,
    new: Slot,
    tag: u8,
) -> Result<Option<Taken>, Corruption> {
    let parent = Where { line: tail, lane: LINK_LANE };
    let cell = segment.slot_cell(parent)?;
    let displaced = Slot(cell.load());
    let taken = take_line(segment, bucket, |line| {
        stripe.arm::<S>(&Intent {
            kind: IntentKind::Link,
            items_before: stripe.items.load(),
            cell: segment.slot_offset(parent),
            old: displaced,
            new,
            line,
        });
    })?;
    let Some(taken) = taken else {
        // An intent armed for a line that somebody else took: nothing was done.
        stripe.disarm::<S>();
        return Ok(None);
    };
    let line = segment.line(taken.line)?;
    let parent_line = segment.line(tail)?;
    let parent_tags = TagWord(parent_line.tags.load());
    let tags = TagWord(0).with_tag(0, parent_tags.tag(LINK_LANE)).with_tag(1, tag);
    // The line may have been read as another chain's: pairs with the Acquire fence before the
    // reader's second look at the size word, whose epoch was bumped when the line was unlinked.
    fence(Ordering::Release);
    let early = mutated::<S>(Mutation::LinkBeforeCopy);
    if early {
        cell.store::<S>(Slot::of_link(taken.line).0);
    }
    line.tags.store::<S>(tags.0);
    for (lane, slot) in line.cells().iter().enumerate() {
        slot.store::<S>(match lane {
            0 => displaced.0,
            1 => new.0,
            _ => 0,
        });
    }
    // Before the link, so that the new item is there for all readers at once, also if this dies here:
    // lane 6 is looked at, whatever it holds.
    parent_line.tags.store::<S>(parent_tags.with_link().0);
    // Dies before this: the line is ours and unlinked; the repair frees it. After it: the new item is
    // there; the repair goes forward.
    if !early {
        cell.store::<S>(Slot::of_link(taken.line).0);
    }
    Ok(Some(taken))
}

/// Finds a free overflow line and takes it for `bucket`; `announce` is told each one before it is
/// tried. `None` if none is found.
pub(crate) fn take_line<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
    mut announce: impl FnMut(u64),
) -> Result<Option<Taken>, Corruption> {
    let each = segment.geometry.overflow_lines_per_extent();
    let extents = extents_of_lines(segment);
    let lines = extents * each;
    if lines == 0 {
        return Ok(None);
    }
    let owners = (1 << segment.geometry.line_shift()) - each;
    let few = PROBES_FEW.min(lines / 8);
    // Scattered first: of neighbours that are taken in a row long ones come about while most lines
    // are free. Then in order, so that the last lines are found.
    let scattered = (0..few).map(|probe| {
        let group = scatter(bucket, probe / OWNERS_TOGETHER) % (lines / OWNERS_TOGETHER);
        group * OWNERS_TOGETHER + probe % OWNERS_TOGETHER
    });
    let start = scatter(bucket, 0) % lines;
    let in_order = (0..lines.min(PROBES_MAX)).map(|probe| (start + probe) % lines);
    for (probe, number) in scattered.chain(in_order).enumerate() {
        let first = segment.directory_entry(ExtentState::Overflow, number / each)?.load();
        let line = first.wrapping_add(owners + number % each);
        let owner = segment.line_owner(line)?;
        if owner.load() != 0 {
            continue;
        }
        announce(line);
        if owner.compare_exchange::<S>(0, bucket + 1).is_ok() {
            return Ok(Some(Taken { line, crowded: probe as u64 >= few }));
        }
    }
    Ok(None)
}

/// A number that a bucket looks for lines at, another one in each round.
fn scatter(bucket: u64, round: u64) -> u64 {
    let number = (bucket ^ round << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (number ^ number >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 20
}

/// Extents of overflow lines, as far as the hint says.
pub(crate) fn extents_of_lines<S: Shim>(segment: &Segment<S>) -> u64 {
    segment.superblock().overflow_extents.load().min(segment.geometry.extents.into())
}

/// Every overflow line there is, with its owner word.
pub(crate) fn lines<S: Shim>(
    segment: &Segment<S>,
) -> impl Iterator<Item = Result<(u64, u64), Corruption>> {
    let all = 1 << segment.geometry.line_shift();
    let owners = all - segment.geometry.overflow_lines_per_extent();
    (0..extents_of_lines(segment)).flat_map(move |number| {
        (owners..all).map(move |within| {
            let first = segment.directory_entry(ExtentState::Overflow, number)?.load();
            let line = first.wrapping_add(within);
            Ok((line, segment.line_owner(line)?.load()))
        })
    })
}

/// Makes the chain of `bucket` as short as its items allow: those of its last line go up to free
/// lanes, and the line is unlinked when it is empty, or when its last item takes the place of the
/// link. So a table of constant size keeps a constant number of lines, whatever comes and goes.
pub(crate) fn shorten<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
) -> Result<(), Corruption> {
    for _ in 0..CHAIN_LINES_MAX * LANES {
        let (mut parent, mut tail, mut free) = (None, None, None);
        for number in super::search::chain(segment, bucket) {
            let number = number?;
            if let Some(before) = tail {
                parent = Some(before);
                free = free.or(free_lane(segment, before)?);
            }
            tail = Some(number);
        }
        let (Some(parent), Some(tail)) = (parent, tail) else { return Ok(()) };
        let at = Where { line: parent, lane: LINK_LANE };
        let line = segment.line(tail)?;
        let mut items = (0..LANES).filter(|lane| line.slot(*lane).is_item());
        match (items.next(), items.next(), free) {
            (None, ..) => unlink(segment, stripe, bucket, at, tail, (Slot::EMPTY, 0))?,
            (Some(lane), _, Some(free)) => {
                raise(segment, stripe, Where { line: tail, lane }, free)?;
            }
            (Some(lane), None, None) => {
                let tag = TagWord(line.tags.load()).tag(lane);
                unlink(segment, stripe, bucket, at, tail, (line.slot(lane), tag))?;
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn free_lane<S: Shim>(segment: &Segment<S>, line: u64) -> Result<Option<Where>, Corruption> {
    let record = segment.line(line)?;
    let free = (0..LANES).find(|lane| record.slot(*lane).is_empty());
    Ok(free.map(|lane| Where { line, lane }))
}

/// Unlinks `line` from `parent`, whose lane takes the last item of it, if there is one.
fn unlink<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    bucket: u64,
    parent: Where,
    line: u64,
    (last, tag): (Slot, u8),
) -> Result<(), Corruption> {
    let cell = segment.slot_cell(parent)?;
    stripe.arm::<S>(&Intent {
        kind: IntentKind::Unlink,
        items_before: stripe.items.load(),
        cell: segment.slot_offset(parent),
        old: Slot(cell.load()),
        new: last,
        line,
    });
    cell.store::<S>(last.0);
    let record = segment.line(parent.line)?;
    let tags = TagWord(record.tags.load()).without_link().with_tag(parent.lane, tag);
    record.tags.store::<S>(tags.0);
    finish_unlink(segment, bucket, line)?;
    stripe.disarm::<S>();
    Ok(())
}

/// The end of an unlink, after the link and its flag are gone; harmless to redo.
pub(crate) fn finish_unlink<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
    line: u64,
) -> Result<(), Corruption> {
    bump_epoch(segment);
    let owner = segment.line_owner(line)?;
    if owner.load() == bucket + 1 {
        owner.store::<S>(0);
    }
    Ok(())
}

/// Makes readers that missed look again: they may have walked past where an item is now, before it
/// was there, or along a line that is another chain's by now.
pub(crate) fn bump_epoch<S: Shim>(segment: &Segment<S>) {
    if !mutated::<S>(Mutation::SkipEpochBump) {
        segment.superblock().index_size.fetch_add::<S>(IndexSize::EPOCH_ONE);
    }
}

/// Moves an item to a free lane nearer to its bucket. For a moment it is in both.
fn raise<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    from: Where,
    to: Where,
) -> Result<(), Corruption> {
    let line = segment.line(from.line)?;
    let (slot, tag) = (line.slot(from.lane), TagWord(line.tags.load()).tag(from.lane));
    stripe.arm::<S>(&Intent {
        kind: IntentKind::Raise,
        items_before: stripe.items.load(),
        cell: segment.slot_offset(to),
        old: Slot::EMPTY,
        new: slot,
        line: segment.slot_offset(from),
    });
    change::insert(segment, to, slot, tag)?;
    // Between the two: who walked past the first before it was there sees another epoch.
    bump_epoch(segment);
    change::remove(segment, from)?;
    stripe.disarm::<S>();
    Ok(())
}

const _: () = assert!(LANES >= 2, "a new overflow line takes two slots");
