//! The read path: no lock, no store, no system call, a bounded number of steps.
//!
//! Invariants. A slot is followed only if its extent's generation is the slot's and the slot still
//! stands after the generation was read. Every verdict drawn from item bytes ("another key" as
//! much as a hit) is believed only after an Acquire fence and the same generation again: the fence
//! pairs with the Release fence of whoever recycles the extent, between bumping the generation and
//! the first overwritten byte. A miss is believed only if the size word of the index stands.
//!
//! A value may be overwritten where it stands: so what was read of an item is believed only if its stamp
//! is the same before and after. While its bytes change the stamp says so, and what they are going to be
//! is read from the redo record of its stripe, which is whole by then: nobody waits for a writer.
//!
//! [`spot`] and [`inspect`] are the straight way without a loop: about 130 instructions and two
//! dependent cache misses for a small item; [`lookup`] decides where they don't. They are laid out for the item without optional words, whose header is known before it is
//! loaded: no address depends on it, so the processor fetches the value together with it, and
//! overlaps one lookup with the next ones as far as its window of instructions reaches.

use std::sync::atomic::{Ordering, fence};

use super::CHAIN_LINES_MAX;
use super::search::search;
use crate::error::ReadError;
use crate::layout::{
    Header, IndexSize, LINK_LANE, Line, REDO_WORDS, Segment, Slot, Stamp, TagWord,
};
use crate::region::{Cell64, Mutation, Shim, equals, mutated};

/// How often a lookup starts anew before it says `Contended`.
const ATTEMPTS_MAX: u32 = 128;

/// An item whose key is the one asked for. What it says is believed once [`Located::stands`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located<'a> {
    /// Offset of the item.
    pub(crate) item: u64,
    pub(crate) header: Header,
    /// Offset of its value.
    pub(crate) value_at: u64,
    /// Whether it has flags beyond those of every item of the segment: it may have expired, or be
    /// a counter, or in pieces.
    pub(crate) special: bool,
    slot: Slot,
    slot_cell: &'a Cell64,
    generation_cell: &'a Cell64,
    generation: u64,
    /// Of the item; of one that is being overwritten, of its redo record.
    stamp_cell: &'a Cell64,
    stamp: u64,
}

impl Located<'_> {
    /// Its stamp.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Whether it is still the item of its lane: so its list is that of an item that can be reached.
    pub(crate) fn is_published(&self) -> bool {
        self.slot_cell.load() == self.slot.0
    }

    /// Whether the bytes read so far were the item's, all of one moment: its extent was not recycled
    /// meanwhile, nor the item overwritten.
    #[inline(always)]
    pub(crate) fn stands<S: Shim>(&self) -> bool {
        still_stands::<S>((self.generation_cell, self.generation), (self.stamp_cell, self.stamp))
    }
}

#[inline(always)]
fn still_stands<S: Shim>(
    (generation_cell, generation): (&Cell64, u64),
    (stamp_cell, stamp): (&Cell64, u64),
) -> bool {
    // Pairs with the fences in `arena::lease::bump_generation` and `store::overwrite`, see the module.
    fence(Ordering::Acquire);
    (mutated::<S>(Mutation::SkipStampCheck) || stamp_cell.load() == stamp)
        && (mutated::<S>(Mutation::SkipGenerationCheck) || generation_cell.load() == generation)
}

/// What one attempt, or one slot of it, came to.
enum Step<R> {
    Found(R),
    Missing,
    /// Something changed meanwhile, or makes no sense.
    Again,
}

/// An item without optional words that was found where most are: in its bucket's own line, by the
/// first lane with its tag. What it says is believed once [`Hit::stands`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a> {
    /// Its value's bytes, rounded up to words.
    pub(crate) value: &'a [Cell64],
    /// Its value's length in bytes.
    pub(crate) value_bytes: usize,
    /// The words before its value.
    pub(crate) head: &'a [Cell64],
    pub(crate) generation_cell: &'a Cell64,
    pub(crate) generation: u64,
    pub(crate) stamp_cell: &'a Cell64,
    pub(crate) stamp: u64,
}

impl Hit<'_> {
    /// As [`Located::stands`].
    #[inline(always)]
    pub(crate) fn stands<S: Shim>(&self) -> bool {
        still_stands::<S>((self.generation_cell, self.generation), (self.stamp_cell, self.stamp))
    }
}

/// Where the first lane with a key's tag points to, before the item was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spot<'a> {
    /// The slot, and the cell that it was read from.
    Slot(&'a Cell64, Slot),
    Missing,
    /// The case is not a simple one: [`lookup`] decides.
    Unclear,
}

/// The bucket's half of a glance: the same steps as in [`lookup`], for a key that is in its
/// bucket's line, or in no line at all. One cache miss, of a lookup that misses mostly one in an index of a
/// sixteenth: that in the filter.
#[inline(always)]
pub(crate) fn spot<S: Shim>(segment: &Segment<S>, hash: u64) -> Spot<'_> {
    if segment.filter.rules_out_if_wanted(hash) {
        return Spot::Missing;
    }
    let spot = spot_in_bucket(segment, hash);
    if let Spot::Missing = spot {
        segment.filter.note_miss(segment.index_size().buckets());
    }
    spot
}

/// [`spot`] without a look at the filter: for those who are about to write.
#[inline(always)]
pub(crate) fn spot_in_bucket<S: Shim>(segment: &Segment<S>, hash: u64) -> Spot<'_> {
    let size = segment.index_size();
    // Pairs with the Release store that publishes a new size.
    fence(Ordering::Acquire);
    match bucket(segment, size, hash) {
        Some(line) => spot_in(segment, size, line, hash),
        None => Spot::Unclear,
    }
}

/// The bucket of `hash` in an index of that size, which an Acquire fence followed.
#[inline(always)]
pub(crate) fn bucket<S: Shim>(segment: &Segment<S>, size: IndexSize, hash: u64) -> Option<&Line> {
    segment.bucket_address(size.bucket_of(hash)).and_then(|line| segment.line_at(line))
}

/// [`spot`] in a bucket that was found with `size`.
#[inline(always)]
pub(crate) fn spot_in<'a, S: Shim>(
    segment: &'a Segment<S>,
    size: IndexSize,
    line: &'a Line,
    hash: u64,
) -> Spot<'a> {
    let tags = TagWord(line.tags.load());
    // Pairs with the Release store of the tag word: a tag seen means its slot is newer.
    fence(Ordering::Acquire);
    let Some(lane) = tags.first_with(TagWord::tag_of(hash)) else {
        // Pairs with the Release of whoever changed size or epoch.
        fence(Ordering::Acquire);
        let believed = !tags.is_linked() && segment.index_size() == size;
        return if believed { Spot::Missing } else { Spot::Unclear };
    };
    let slot = line.slot(lane);
    if slot.may_be(hash, segment.geometry.slot_hash_shift) {
        Spot::Slot(line.cell(lane), slot)
    } else {
        Spot::Unclear
    }
}

/// The line that a bucket's line leads to: for keys that [`spot_in`] is unclear about.
#[inline(always)]
pub(crate) fn linked<'a, S: Shim>(segment: &'a Segment<S>, line: &Line) -> Option<&'a Line> {
    let slot = line.slot(LINK_LANE);
    if !slot.is_link() {
        return None;
    }
    let linked = segment.linked_line(slot).ok()?;
    // Pairs with the Release store of the link: the line is as it was linked.
    fence(Ordering::Acquire);
    segment.line_at(linked)
}

/// Words that hold `bytes` bytes: `div_ceil` in two instructions, for lengths far from overflow.
#[inline(always)]
#[expect(clippy::manual_div_ceil, reason = "six instructions on the read path")]
fn words_of(bytes: usize) -> usize {
    (bytes + 7) / 8
}

/// The item's half of a glance: its generation, its key, where its value is. `None` where the case
/// is not a simple one. For a small item one cache miss more.
#[inline(always)]
pub(crate) fn inspect<'a, S: Shim>(
    segment: &'a Segment<S>,
    (cell, slot): (&Cell64, Slot),
    key: &[u8],
) -> Option<Hit<'a>> {
    // An empty slot's offset is 0, which is in no extent.
    let generation_cell = segment.generation_at(segment.geometry.extent_at(slot.offset()))?;
    // Pairs with the Release store of the slot: the item's bytes are at least as new.
    fence(Ordering::Acquire);
    let generation = generation_cell.load();
    fence(Ordering::Acquire);
    if cell.load() != slot.0 || generation == 0 || !slot.is_of_generation(generation) {
        return None;
    }
    let key_at = segment.plain_key_unit() as usize;
    let value_at = key_at + words_of(key.len());
    let item = segment.region.tail(slot.unit())?;
    // The header is before the key.
    let (head, rest) = item.split_at_checked(value_at)?;
    let [stamp_cell, header_cell, ..] = head else { return None };
    let stamp = stamp_cell.load();
    if Stamp(stamp).is_overwritten() {
        return None;
    }
    // Pairs with the Release store of the stamp: the item's bytes are at least as new.
    fence(Ordering::Acquire);
    let header = Header::of(header_cell.load());
    if !segment.is_plain(header, key.len()) || !equals(head.get(key_at..)?, key) {
        return None;
    }
    let value_bytes = header.value_bytes as usize;
    let value = rest.get(..words_of(value_bytes))?;
    Some(Hit { value, value_bytes, head, generation_cell, generation, stamp_cell, stamp })
}

/// Looks `key` up and hands the item to `take`, whose answer is given if the item stood
/// throughout. `take` may be called again with what then stands; it answers `None` where the bytes
/// make no sense.
#[inline(always)]
pub(crate) fn lookup<'a, S: Shim, R>(
    segment: &'a Segment<S>,
    key: &[u8],
    hash: u64,
    mut take: impl FnMut(&Located<'a>) -> Option<R>,
) -> Result<Option<R>, ReadError> {
    if segment.filter.rules_out_if_wanted(hash) {
        return Ok(None);
    }
    let mut attempts = 0;
    loop {
        match attempt(segment, key, hash, &mut take) {
            Step::Found(found) => return Ok(Some(found)),
            Step::Missing => {
                segment.filter.note_miss(segment.index_size().buckets());
                return Ok(None);
            }
            Step::Again => attempts = pause(segment, key, hash, attempts)?,
        }
    }
}

/// Waits a little before the next attempt, or says why there is none.
#[cold]
fn pause<S: Shim>(
    segment: &Segment<S>,
    key: &[u8],
    hash: u64,
    attempts: u32,
) -> Result<u32, ReadError> {
    if attempts + 1 == ATTEMPTS_MAX && !mutated::<S>(Mutation::SkipAttemptsBound) {
        // Bytes that never made sense are named by a walk that checks each step.
        search(segment, key, hash)?;
        return Err(ReadError::Contended { attempts: ATTEMPTS_MAX });
    }
    for _ in 0..attempts {
        std::hint::spin_loop();
    }
    Ok(attempts + 1)
}

#[inline(always)]
fn attempt<'a, S: Shim, R>(
    segment: &'a Segment<S>,
    key: &[u8],
    hash: u64,
    take: &mut impl FnMut(&Located<'a>) -> Option<R>,
) -> Step<R> {
    let size = segment.index_size();
    // Pairs with the Release store that publishes a new size.
    fence(Ordering::Acquire);
    let tag = TagWord::tag_of(hash);
    let Some(mut number) = segment.bucket_address(size.bucket_of(hash)) else { return Step::Again };
    for _ in 0..CHAIN_LINES_MAX {
        let Some(line) = segment.line_at(number) else { return Step::Again };
        let tags = TagWord(line.tags.load());
        // Pairs with the Release store of the tag word: a tag seen means its slot is newer.
        fence(Ordering::Acquire);
        let mut next = None;
        for lane in tags.candidates(tag) {
            let slot = line.slot(lane);
            if !slot.may_be(hash, segment.geometry.slot_hash_shift) {
                // Followed whatever the tag word says: the tag may be from before the link.
                if slot.is_link() && lane == LINK_LANE {
                    let Ok(linked) = segment.linked_line(slot) else { return Step::Again };
                    // Pairs with the Release store of the link: the line is as it was linked.
                    fence(Ordering::Acquire);
                    next = Some(linked);
                }
                continue;
            }
            if slot.is_empty() {
                continue;
            }
            match examine(segment, (line.cell(lane), slot), (key, hash), take) {
                Step::Missing => {}
                step => return step,
            }
        }
        let Some(following) = next else {
            // Pairs with the Release of whoever changed size or epoch.
            fence(Ordering::Acquire);
            let now = segment.index_size();
            return if now.same_bucket(size, hash) { Step::Missing } else { Step::Again };
        };
        number = following;
    }
    Step::Again
}

/// Looks at the item of `slot`: `Found` if it has the key, `Missing` if it has another one, both
/// only if it stood while it was read.
#[inline(always)]
fn examine<'a, S: Shim, R>(
    segment: &'a Segment<S>,
    (cell, slot): (&'a Cell64, Slot),
    (key, hash): (&[u8], u64),
    take: &mut impl FnMut(&Located<'a>) -> Option<R>,
) -> Step<R> {
    let item = slot.offset();
    let extent = segment.geometry.extent_at(item);
    let Some(generation_cell) = segment.generation_at(extent) else { return Step::Again };
    // Pairs with the Release store of the slot: the item's bytes are at least as new.
    fence(Ordering::Acquire);
    let generation = generation_cell.load();
    fence(Ordering::Acquire);
    if cell.load() != slot.0 {
        return Step::Again;
    }
    if generation == 0 || !slot.is_of_generation(generation) {
        // The slot stands and its extent is another's: a crash left it, the lane is empty.
        return Step::Missing;
    }
    let Ok([stamp_cell, header_cell]) = segment.region.view::<[Cell64; 2]>(item) else {
        return Step::Again;
    };
    let stamp = stamp_cell.load();
    // Pairs with the Release store of the stamp: the item's bytes are at least as new.
    fence(Ordering::Acquire);
    let mut located = Located {
        item,
        header: Header::of(header_cell.load()),
        value_at: 0,
        special: false,
        slot,
        slot_cell: cell,
        generation_cell,
        generation,
        stamp_cell,
        stamp,
    };
    match locate_parts(segment, key, &mut located) {
        Some(true) if Stamp(stamp).is_overwritten() => {
            match redone(segment, (key, hash), &mut located) {
                Some(()) => believed::<S, R>(take(&located), &located),
                None => Step::Again,
            }
        }
        Some(true) => believed::<S, R>(take(&located), &located),
        Some(false) => unless_recycled::<S, R>(&located),
        None => Step::Again,
    }
}

/// Makes of an item that is being overwritten what it is going to be. `None` if it is that by now, or if
/// the record makes no sense.
#[cold]
fn redone<'a, S: Shim>(
    segment: &'a Segment<S>,
    (key, hash): (&[u8], u64),
    located: &mut Located<'a>,
) -> Option<()> {
    let stripe = segment.geometry.stripe_of(hash);
    let record = segment.redo(stripe).ok()?;
    let stamp = record.stamp.load();
    // Pairs with the Release store of the record's stamp: the record is at least as new.
    fence(Ordering::Acquire);
    let header = Header::of(record.header.load());
    if stamp != Stamp(located.stamp).number()
        || !segment.is_plain(header, key.len())
        || header.value_bytes as usize > 8 * REDO_WORDS
    {
        return None;
    }
    *located = Located {
        header,
        value_at: segment.redo_value_offset(stripe),
        special: false,
        stamp_cell: &record.stamp,
        stamp,
        ..*located
    };
    Some(())
}

/// An answer drawn from an item, if the item stood.
#[inline(always)]
fn believed<S: Shim, R>(answer: Option<R>, item: &Located<'_>) -> Step<R> {
    match answer {
        Some(answer) if item.stands::<S>() => Step::Found(answer),
        _ => Step::Again,
    }
}

/// The verdict "another key", if the item stood.
#[inline(always)]
fn unless_recycled<S: Shim, R>(item: &Located<'_>) -> Step<R> {
    if item.stands::<S>() { Step::Missing } else { Step::Again }
}

/// Compares the key of an item, and notes where its value is. `None` where it leaves the segment.
#[inline(always)]
fn locate_parts<S: Shim>(
    segment: &Segment<S>,
    key: &[u8],
    located: &mut Located<'_>,
) -> Option<bool> {
    let header = located.header;
    if usize::from(header.key_bytes) != key.len() || header.namespace != segment.namespace {
        return Some(false);
    }
    let shape = header.shape();
    located.value_at = located.item + shape.value;
    located.special = !segment.is_plain(header, key.len());
    segment.bytes_are(located.item + shape.key, key)
}

/// Asks for a line.
#[inline(always)]
pub(crate) fn prefetch_line(line: &Line) {
    crate::sys::prefetch(std::ptr::from_ref(line).cast());
}

/// Asks for the item that the first lane with a hash's tag leads to, if its bucket is there by now: the
/// one that is about to be replaced.
#[inline(always)]
pub(crate) fn prefetch_standing<S: Shim>(segment: &Segment<S>, hash: u64) {
    if let Spot::Slot(_, slot) = spot_in_bucket(segment, hash) {
        prefetch_item(segment, slot, 1);
    }
}

/// Asks for the bucket line of `hash`.
#[inline(always)]
pub(crate) fn prefetch_bucket<S: Shim>(segment: &Segment<S>, hash: u64) {
    if let Some(line) = segment.bucket_address(segment.index_size().bucket_of(hash)) {
        segment.region.prefetch(segment.line_offset(line));
    }
}

/// Asks for the first `lines` lines of the item at `slot`.
#[inline(always)]
pub(crate) fn prefetch_item<S: Shim>(segment: &Segment<S>, slot: Slot, lines: u64) {
    for line in 0..lines {
        segment.region.prefetch(slot.offset() + 64 * line);
    }
}
