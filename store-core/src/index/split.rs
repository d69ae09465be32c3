//! Growth by linear hashing, one bucket at a time: the items of a bucket whose next hash bit is set
//! go to a new one, under the guard of the stripe that both have.
//!
//! They are copied first, then the size word says that the new bucket is there, then they are
//! cleared where they were. A reader with the old size finds them in the old bucket, or misses and
//! sees that the size changed; one with the new size finds them in the new bucket.

use super::overflow::{self, take_line};
use super::search::chain;
use crate::error::Corruption;
use crate::layout::{Intent, IntentKind, LANES, LINK_LANE, Segment, Slot, Stripe, TagWord, Where};
use crate::region::{Mutation, Shim, mutated};

/// What a split came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Splitting {
    Done,
    /// The new bucket has more items than lanes, and there is no overflow line. Nothing was changed.
    NoLine,
}

/// A split that is under way: the new bucket, and how to tell what goes there.
struct Movers<'a, S: Shim> {
    segment: &'a Segment<S>,
    old: u64,
    new: u64,
}

impl<S: Shim> Movers<'_, S> {
    fn moves(&self, slot: Slot, scratch: &mut Vec<u8>) -> Result<bool, Corruption> {
        if !self.segment.slot_stands(slot) {
            return Ok(false);
        }
        let bit = self.new.ilog2();
        match slot.hash_bit(bit, self.segment.geometry.slot_hash_shift) {
            Some(set) => Ok(set),
            None => {
                let header = self.segment.header(slot.offset())?;
                Ok(self.segment.hash_of_item(slot.offset(), header, scratch)? >> bit & 1 != 0)
            }
        }
    }

    /// Calls `f` with the place, the slot and the tag of each item that goes.
    fn each(
        &self,
        scratch: &mut Vec<u8>,
        mut f: impl FnMut(Where, Slot, u8) -> Result<(), Corruption>,
    ) -> Result<(), Corruption> {
        for number in chain(self.segment, self.old) {
            let number = number?;
            let line = self.segment.line(number)?;
            let tags = TagWord(line.tags.load());
            for lane in 0..LANES {
                let slot = line.slot(lane);
                if self.moves(slot, scratch)? {
                    f(Where { line: number, lane }, slot, tags.tag(lane))?;
                }
            }
        }
        Ok(())
    }
}

/// Splits bucket `old` into itself and `new`, the next one that the index gets, whose line is in
/// the directory. Under the guard of their stripe.
///
/// Dies before the size is published: the repair empties the new bucket. After it: the repair goes
/// on clearing.
pub(crate) fn split<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    (old, new): (u64, u64),
    scratch: &mut Vec<u8>,
) -> Result<Splitting, Corruption> {
    let cell = segment.slot_offset(Where { line: segment.bucket_line(old)?, lane: 0 });
    let movers = Movers { segment, old, new };
    let mut count = 0;
    movers.each(scratch, |_, _, _| {
        count += 1;
        Ok(())
    })?;
    segment.bucket_line(new)?;
    stripe.arm::<S>(&Intent {
        kind: IntentKind::Split,
        items_before: stripe.items.load(),
        cell,
        old: Slot::EMPTY,
        new: Slot::EMPTY,
        line: new,
    });
    if !copy(&movers, count, scratch)? {
        for line in chain(segment, new).skip(1) {
            segment.line_owner(line?)?.store::<S>(0);
        }
        empty(segment, segment.bucket_line(new)?)?;
        stripe.disarm::<S>();
        return Ok(Splitting::NoLine);
    }
    let early = mutated::<S>(Mutation::ClearBeforeSize);
    if early {
        clear(&movers, scratch)?;
    }
    segment.superblock().index_size.fetch_add::<S>(1);
    if !early {
        clear(&movers, scratch)?;
    }
    stripe.disarm::<S>();
    overflow::shorten(segment, stripe, old)?;
    Ok(Splitting::Done)
}

/// Copies the items that go to the new bucket, which nobody looks at yet; `false` if it has no room
/// for all.
fn copy<S: Shim>(
    movers: &Movers<'_, S>,
    count: usize,
    scratch: &mut Vec<u8>,
) -> Result<bool, Corruption> {
    let segment = movers.segment;
    let mut to = Where { line: segment.bucket_line(movers.new)?, lane: 0 };
    empty(segment, to.line)?;
    let mut left = count;
    let mut room = true;
    movers.each(scratch, |_, slot, tag| {
        if !room {
            return Ok(());
        }
        if to.lane == LINK_LANE && left > 1 {
            let Some(taken) = take_line(segment, movers.new, |_| {})? else {
                room = false;
                return Ok(());
            };
            empty(segment, taken.line)?;
            let line = segment.line(to.line)?;
            line.cell(LINK_LANE).store::<S>(Slot::of_link(taken.line).0);
            line.tags.store::<S>(TagWord(line.tags.load()).with_link().0);
            to = Where { line: taken.line, lane: 0 };
        }
        super::change::insert(segment, to, slot, tag)?;
        to.lane += 1;
        // Only hostile bytes have more of them now.
        left = left.saturating_sub(1);
        Ok(())
    })?;
    Ok(room)
}

fn empty<S: Shim>(segment: &Segment<S>, line: u64) -> Result<(), Corruption> {
    let line = segment.line(line)?;
    for cell in line.cells().iter().chain([&line.tags]) {
        if cell.load() != 0 {
            cell.store::<S>(0);
        }
    }
    Ok(())
}

/// Clears what went to the new bucket, slots before tags as in `change::remove`.
fn clear<S: Shim>(movers: &Movers<'_, S>, scratch: &mut Vec<u8>) -> Result<(), Corruption> {
    movers.each(scratch, |at, _, _| super::change::remove(movers.segment, at))
}

/// Empties a bucket that was not published, and frees the overflow lines that were taken for it,
/// linked or not.
fn undo<S: Shim>(segment: &Segment<S>, new: u64) -> Result<(), Corruption> {
    for line in overflow::lines(segment) {
        let (line, owner) = line?;
        if owner == new + 1 {
            segment.line_owner(line)?.store::<S>(0);
        }
    }
    empty(segment, segment.bucket_line(new)?)
}

/// Finishes or undoes a split of bucket `old`, whose stripe's guard the caller holds. Harmless to
/// redo.
pub(crate) fn repair<S: Shim>(
    segment: &Segment<S>,
    stripe: &Stripe,
    old: u64,
    new: u64,
) -> Result<(), Corruption> {
    let buckets = segment.index_size().buckets();
    // Only hostile bytes name another pair.
    if new == 0 || old != new - (1 << new.ilog2()) {
        return Ok(());
    }
    if buckets == new {
        return undo(segment, new);
    }
    if buckets > new {
        let mut scratch = Vec::new();
        clear(&Movers { segment, old, new }, &mut scratch)?;
        for number in chain(segment, old) {
            let line = number?;
            for lane in 0..LANES {
                super::change::mend_tag(segment, Where { line, lane }, &mut scratch)?;
            }
        }
        stripe.disarm::<S>();
        overflow::shorten(segment, stripe, old)?;
    }
    Ok(())
}
