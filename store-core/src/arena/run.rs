//! Items larger than an extent: a run of neighbouring extents, the item at the start of the first.
//!
//! While it is not published all of them name their owner; the owner is cleared from the bodies
//! first and from the head last, so a run whose head has an owner may be published or not, and one
//! without an owner is. A run ends as a whole: its head's generation is bumped (its readers look
//! at no other), the bodies are freed, the head last. Each step can be redone.
//!
//! If much of the last extent is left, that one is open to other items behind the end of the run,
//! which counts as live in it. It says whose end it has; the head says whether that is so. When the
//! run is gone, the room at its start takes the end of another run.

use super::lease::{HAND_ON_PART, Lease, bump_generation, claim, enqueue, may_take_for_run};
use super::place::Place;
use super::retire::{mark_suspect, subtract};
use super::{InFlight, NoRoom, quota};
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Queue, RunTail, Segment, Slot, Stream};
use crate::region::Shim;
use crate::sync::Owner;

/// Extents that an item of `bytes` takes, which are more than one has; `None` for more than there
/// can be.
pub(crate) fn extents_for<S: Shim>(segment: &Segment<S>, bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(segment.geometry.extent_bytes())).ok()
}

/// Units that an item of `bytes` takes of the last of `count` extents.
fn last_units<S: Shim>(segment: &Segment<S>, bytes: u64, count: u32) -> u32 {
    ((bytes - u64::from(count - 1) * segment.geometry.extent_bytes()) / 8) as u32
}

/// Reserves `bytes`, which are more than an extent has, in free extents, the end perhaps in the
/// room that another run left.
pub(crate) fn reserve<S: Shim>(
    segment: &Segment<S>,
    lease: &Lease,
    in_flight: &InFlight<'_, S>,
    (bytes, queue): (u64, Queue),
) -> Result<Place, NoRoom> {
    let Some(count) = extents_for(segment, bytes) else { return Err(NoRoom::Full) };
    if quota::left(segment, lease.group())?.is_some_and(|left| left < count) {
        return Err(NoRoom::Full);
    }
    let stream = lease.stream(queue.into());
    let last = last_units(segment, bytes, count);
    let mut first = 0;
    while let Some(Window { head, free }) = find_window(segment, lease, first, (count, last))? {
        let claimed = claim_window(segment, head, free, lease.owner())?;
        let stands =
            if claimed == free { may_take_for_run(segment, lease.owner()) } else { Ok(false) };
        if matches!(stands, Ok(true)) {
            if free == count {
                return Ok(occupy(segment, lease.owner(), head, (bytes, stream))?);
            }
            in_flight.name(head + free);
            if take_room(segment, head, head + free, last)? {
                return Ok(occupy(segment, lease.owner(), head, (bytes, stream))?);
            }
            give_back(segment, head, claimed)?;
            first = head + claimed;
            continue;
        }
        give_back(segment, head, claimed)?;
        stands?;
        if claimed == free {
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
    (bytes, stream): (u64, Stream),
) -> Result<Place, Corruption> {
    let count = bytes.div_ceil(segment.geometry.extent_bytes()) as u32;
    let owner = Some(ExtentWord::kept(owner));
    let units = segment.geometry.extent_units();
    let last_units = last_units(segment, bytes, count);
    for distance in 1..count {
        let entry = segment.extent(head + distance)?;
        let live = if distance + 1 < count { units } else { last_units };
        let word = if RunTail::of(entry.run_tail.load()).head == Some(head) {
            // The room that another run left, taken before.
            continue;
        } else if units - live >= units / HAND_ON_PART {
            entry.run_tail.store::<S>(RunTail { head: Some(head), room: live }.word());
            enqueue(segment, head + distance, stream)?;
            ExtentWord { state: ExtentState::Open, owner, suspect: false, live, used: live }
        } else {
            let state = ExtentState::RunBody;
            ExtentWord { state, owner, suspect: false, live, used: distance }
        };
        entry.word.store::<S>(word.word());
    }
    enqueue(segment, head, stream)?;
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

/// Neighbouring extents for a run.
struct Window {
    head: u32,
    /// How many are free: all, or all but the last, which has room for the end.
    free: u32,
}

/// The first window for a run of `count` extents from `first` on, commissioned on the way.
fn find_window<S: Shim>(
    segment: &Segment<S>,
    lease: &Lease,
    first: u32,
    (count, last_units): (u32, u32),
) -> Result<Option<Window>, NoRoom> {
    let owner = lease.owner();
    let mut start = first;
    for extent in first..segment.geometry.extents {
        let before = extent - start;
        if segment.extent_word(extent)?.state != ExtentState::Free {
            start = extent + 1;
            if before + 1 >= count
                && room_at_start(segment, extent)? >= last_units
                && segment.stream(extent)?.group == lease.group()
            {
                let window = Window { head: extent + 1 - count, free: count - 1 };
                super::lease::commission_range(segment, owner, window.head, window.free)?;
                return Ok(Some(window));
            }
        } else if before + 1 == count {
            super::lease::commission_range(segment, owner, start, count)?;
            return Ok(Some(Window { head: start, free: count }));
        }
    }
    Ok(None)
}

/// Units at the start of an extent that the end of a run can take; 0 if there are none.
fn room_at_start<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<u32, Corruption> {
    let word = segment.extent_word(extent)?;
    let takes = matches!(word.state, ExtentState::Open | ExtentState::Sealed) && !word.suspect;
    let tail = RunTail::of(segment.extent(extent)?.run_tail.load());
    Ok(if takes && tail.head.is_none() { tail.room } else { 0 })
}

/// Takes the room at the start of `extent` for the end of the run at `head`; `false` if somebody
/// else did.
///
/// Dies before the name: the extent counts too much, and the in-flight word names it.
fn take_room<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    extent: u32,
    units: u32,
) -> Result<bool, Corruption> {
    let entry = segment.extent(extent)?;
    let before = entry.run_tail.load();
    if room_at_start(segment, extent)? < units {
        return Ok(false);
    }
    // Counted first: so the extent does not become free meanwhile.
    let mut found = entry.word.load_acquire();
    loop {
        let word = ExtentWord::of(found);
        let live = word.live + units;
        let takes = matches!(word.state, ExtentState::Open | ExtentState::Sealed);
        // A suspect one may be freed at the end of a recount that did not see this.
        if !takes || word.suspect || live > word.used {
            return Ok(false);
        }
        match entry.word.compare_exchange::<S>(found, ExtentWord { live, ..word }.word()) {
            Ok(()) => break,
            Err(now) => found = now,
        }
    }
    let taken = RunTail { head: Some(head), ..RunTail::of(before) };
    if entry.run_tail.compare_exchange::<S>(before, taken.word()).is_ok() {
        return Ok(true);
    }
    subtract(segment, extent, units)?;
    Ok(false)
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
    if let Some(extent) = tail_of(segment, head, owner)? {
        disown_tail(segment, extent, owner.map(ExtentWord::kept))?;
    }
    change_all(segment, head, owner, |word| ExtentWord { owner: None, ..word })
}

/// Frees a run of `owner` that was never published, or (without an owner) is no more. Bodies
/// first, head last. Does nothing if the run is another's by now.
pub(crate) fn free<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    owner: Option<Owner>,
) -> Result<(), Corruption> {
    if let Some(extent) = tail_of(segment, head, owner)? {
        end_tail(segment, head, extent, owner.map(ExtentWord::kept))?;
    }
    change_all(segment, head, owner, |_| ExtentWord::FREE)
}

/// The last extent of a run that is `owner`'s; `None` if the run is another's by now.
fn tail_of<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    owner: Option<Owner>,
) -> Result<Option<u32>, Corruption> {
    let Some(count) = length(segment, head)?.filter(|count| *count > 1) else { return Ok(None) };
    let is_owners = segment.extent_word(head)?.owner == owner.map(ExtentWord::kept);
    Ok(is_owners.then_some(head + count - 1))
}

/// Units at the start of `extent` that are the end of a run that stands; 0 if there is none.
pub(crate) fn tail_units<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<u32, Corruption> {
    let Some((_, word)) = run_that_ends_in(segment, extent)? else { return Ok(0) };
    Ok(word.live.min(segment.geometry.extent_units()))
}

/// Units at the start of `extent` that no item begins in.
pub(crate) fn start_units<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<u32, Corruption> {
    Ok(RunTail::of(segment.extent(extent)?.run_tail.load()).room)
}

/// The first extent, and its word, of the run whose end is at the start of `extent`.
pub(crate) fn run_that_ends_in<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
) -> Result<Option<(u32, ExtentWord)>, Corruption> {
    let named = RunTail::of(segment.extent(extent)?.run_tail.load()).head;
    let Some(head) = named.filter(|head| *head < extent) else { return Ok(None) };
    let word = segment.extent_word(head)?;
    let stands = word.state == ExtentState::RunHead && word.used == extent - head + 1;
    Ok(stands.then_some((head, word)))
}

/// Gives the end of a run back where others share its extent; `owner` of one that was never
/// published. Does nothing to an extent that is the run's alone.
///
/// Dies after the name is gone: the extent counts too much. Who does it again makes it suspect.
fn end_tail<S: Shim>(
    segment: &Segment<S>,
    head: u32,
    extent: u32,
    owner: Option<Owner>,
) -> Result<(), Corruption> {
    let units = segment.extent_word(head)?.live;
    let entry = segment.extent(extent)?;
    if !matches!(ExtentWord::of(entry.word.load()).state, ExtentState::Open | ExtentState::Sealed) {
        return Ok(());
    }
    disown_tail(segment, extent, owner)?;
    let found = entry.run_tail.load_acquire();
    let tail = RunTail::of(found);
    let left = RunTail { head: None, ..tail };
    if tail.head == Some(head) && entry.run_tail.compare_exchange::<S>(found, left.word()).is_ok() {
        subtract(segment, extent, units)
    } else {
        mark_suspect(segment, segment.geometry.extent_offset(extent))
    }
}

/// Takes the owner of a run off the extent with its end, which others may use from then on.
fn disown_tail<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    owner: Option<Owner>,
) -> Result<(), Corruption> {
    let cell = &segment.extent(extent)?.word;
    let mut found = cell.load_acquire();
    while owner.is_some() {
        let word = ExtentWord::of(found);
        if word.state != ExtentState::Open || word.owner != owner {
            break;
        }
        match cell.compare_exchange::<S>(found, ExtentWord { owner: None, ..word }.word()) {
            Ok(()) => {
                segment.superblock().orphan_hint.store::<S>(extent.into());
                break;
            }
            Err(now) => found = now,
        }
    }
    Ok(())
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
