//! Items larger than an extent: a run of neighbouring extents, the item at the start of the first.
//!
//! While it is not published all of them name their owner; the owner is cleared from the bodies
//! first and from the head last, so a run whose head has an owner may be published or not, and one
//! without an owner is. A run ends as a whole: its head's generation is bumped (its readers look
//! at no other), the bodies are freed, the head last. Each step can be redone.

use super::NoRoom;
use super::lease::{Lease, bump_generation, claim, reserve_stands};
use super::place::Place;
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Segment, Slot};
use crate::region::Shim;
use crate::sync::Owner;

/// Extents that an item of `bytes` takes, which are more than one has; `None` for more than there
/// can be.
pub(crate) fn extents_for<S: Shim>(segment: &Segment<S>, bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(segment.geometry.extent_bytes())).ok()
}

/// Reserves `bytes`, which are more than an extent has, in free extents.
pub(crate) fn reserve<S: Shim>(
    segment: &Segment<S>,
    lease: &Lease,
    bytes: u64,
) -> Result<Place, NoRoom> {
    let Some(count) = extents_for(segment, bytes) else { return Err(NoRoom::Full) };
    let mut first = 0;
    while let Some(head) = find_window(segment, first, count)? {
        let claimed = claim_window(segment, head, count, lease.owner())?;
        if claimed == count && reserve_stands(segment)? {
            return Ok(occupy(segment, lease.owner(), head, bytes)?);
        }
        give_back(segment, head, claimed)?;
        if claimed == count {
            // What is left is kept for cleaners.
            return Err(NoRoom::Full);
        }
        // Somebody else took one of them: on behind it.
        first = head + claimed + 1;
    }
    Err(NoRoom::Full)
}

/// Frees the first `claimed` extents of a window, which were claimed and not used.
pub(crate) fn give_back<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    claimed: u32,
) -> Result<(), Corruption> {
    for extent in head..head + claimed {
        segment.extent(extent)?.word.store::<S>(ExtentWord::FREE.word());
    }
    Ok(())
}

/// Makes a run of the extents from `head` on, which `owner` has claimed.
pub(crate) fn occupy<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    head: u32,
    bytes: u64,
) -> Result<Place, Corruption> {
    let capacity = segment.geometry.extent_bytes();
    let count = bytes.div_ceil(capacity) as u32;
    let owner = Some(ExtentWord::kept(owner));
    for distance in 1..count {
        let body =
            ExtentWord { state: ExtentState::RunBody, owner, used: distance, ..ExtentWord::FREE };
        segment.extent(head + distance)?.word.store::<S>(body.word());
    }
    let last_units = ((bytes - u64::from(count - 1) * capacity) / 8) as u32;
    let word = ExtentWord {
        state: ExtentState::RunHead,
        owner,
        suspect: false,
        live: last_units,
        used: count,
    };
    segment.extent(head)?.word.store::<S>(word.word());
    let generation = segment.generation(head)?.load();
    Ok(Place { offset: segment.geometry.extent_offset(head), bytes, generation })
}

/// The first window of `count` free extents from `first` on, commissioned on the way.
fn find_window<S: Shim>(
    segment: &Segment<S>,
    first: u32,
    count: u32,
) -> Result<Option<u32>, NoRoom> {
    let mut start = first;
    let mut extent = first;
    while extent < segment.geometry.extents {
        if segment.extent_word(extent)?.state != ExtentState::Free {
            start = extent + 1;
        }
        extent += 1;
        if extent - start == count {
            super::lease::commission_range(segment, start, count)?;
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// Claims extents in order until one is taken; gives how many were had.
fn claim_window<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    count: u32,
    owner: Owner,
) -> Result<u32, Corruption> {
    for distance in 0..count {
        if !claim(segment, head + distance, owner)? {
            return Ok(distance);
        }
    }
    Ok(count)
}

/// The number of extents in the run at `head`, bounded by the arena; `None` if there is no run.
pub(crate) fn length<S: Shim>(segment: &Segment<S>, head: u32) -> Result<Option<u32>, Corruption> {
    let word = segment.extent_word(head)?;
    let fits = word.used >= 1 && word.used <= segment.geometry.extents - head;
    Ok((word.state == ExtentState::RunHead && fits).then_some(word.used))
}

/// Clears `owner` from a run that was published: it lives on without its writer. Does nothing if
/// the run is another's by now.
pub(crate) fn settle<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    owner: Option<Owner>,
) -> Result<(), Corruption> {
    change_all(segment, head, owner, |word| ExtentWord { owner: None, ..word })
}

/// Frees a run of `owner` that was never published, or (without an owner) is no more. Bodies
/// first, head last. Does nothing if the run is another's by now.
pub(crate) fn free<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    owner: Option<Owner>,
) -> Result<(), Corruption> {
    change_all(segment, head, owner, |_| ExtentWord::FREE)
}

/// Changes the words of a run that is `owner`'s, the head last, each by a compare-and-swap of what
/// is `owner`'s: so an extent that was freed and taken by somebody else meanwhile is left alone.
fn change_all<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    owner: Option<Owner>,
    next: impl Fn(ExtentWord) -> ExtentWord,
) -> Result<(), Corruption> {
    let owner = owner.map(ExtentWord::kept);
    let Some(count) = length(segment, head)? else { return Ok(()) };
    if segment.extent_word(head)?.owner != owner {
        return Ok(());
    }
    for distance in (0..count).rev() {
        let cell = &segment.extent(head + distance)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        if belongs(word, distance, owner) {
            let _ = cell.compare_exchange::<S>(found, next(word).word());
        }
    }
    Ok(())
}

/// Whether a word is that of the extent at `distance` in a run of `owner`.
fn belongs(word: ExtentWord, distance: u32, owner: Option<Owner>) -> bool {
    let part = if distance == 0 {
        word.state == ExtentState::RunHead
    } else {
        word.state == ExtentState::RunBody && word.used == distance
    };
    part && word.owner == owner
}

/// Retires the published run of `slot`, under the stripe's guard; harmless to redo: a run that was
/// freed and claimed anew has a generation further on.
pub(crate) fn retire<S: Shim>(
    segment: &Segment<S>,
    slot: Slot,
    head: u32,
) -> Result<(), Corruption> {
    let generation = segment.generation(head)?.load();
    if slot.is_of_generation(generation) {
        // Published and not settled, if its writer died between the two: nobody else is inside
        // this guard, so the owner that is named is that writer.
        settle(segment, head, segment.extent_word(head)?.owner)?;
        bump_generation(segment, head)?;
    } else if !slot.is_of_generation(generation.wrapping_sub(1)) {
        return Ok(());
    }
    free(segment, head, None)
}
