//! Room for the items that a cleaner moves: its own destination, so that a victim that was begun can
//! be emptied. A put reserves there only in the end, and only while what is kept for cleaners is
//! free besides.

use super::in_flight::InFlight;
use super::lease::{can_be_claimed, claim, enqueue, left};
use super::place::{Place, reserve_in};
use super::reserve::Reserved;
use crate::error::Corruption;
use crate::layout::{Cleaner, ExtentState, ExtentWord, Queue, Segment, Stream};
use crate::region::Shim;
use crate::sync::Owner;

/// Extents that are looked through for one that was handed on.
const LOOKED_MAX: u32 = 4096;

/// Units that the destination of a place still takes; 0 without one.
pub(crate) fn room<S: Shim>(segment: &Segment<S>, cleaner: &Cleaner) -> Result<u32, Corruption> {
    Ok(match destination(segment, cleaner)? {
        Some((_, word)) => segment.geometry.extent_units().saturating_sub(word.used),
        None => 0,
    })
}

fn destination<S: Shim>(
    segment: &Segment<S>,
    cleaner: &Cleaner,
) -> Result<Option<(u32, ExtentWord)>, Corruption> {
    let Some(extent) = cleaner.destination() else { return Ok(None) };
    if extent >= segment.geometry.extents {
        return Ok(None);
    }
    let word = segment.extent_word(extent)?;
    Ok((word.state == ExtentState::Relocation).then_some((extent, word)))
}

/// Leaves a destination that a crash left with units counted too often, so that it is recounted, and
/// one from which everything is gone.
pub(crate) fn leave_useless<S: Shim>(
    segment: &Segment<S>,
    cleaner: &Cleaner,
) -> Result<(), Corruption> {
    match destination(segment, cleaner)? {
        Some((extent, word)) if word.suspect || word.live == 0 && word.used > 0 => {
            leave(segment, extent)
        }
        _ => Ok(()),
    }
}

/// Leaves a destination in which `least` units died since they were moved there, if there is one:
/// while it is one, nobody empties it.
pub(crate) fn leave_for<S: Shim>(
    segment: &Segment<S>,
    cleaner: &Cleaner,
    least: u32,
) -> Result<Option<u32>, Corruption> {
    match destination(segment, cleaner)? {
        Some((extent, word)) if word.used.saturating_sub(word.live) >= least.max(1) => {
            leave(segment, extent)?;
            Ok(Some(extent))
        }
        _ => Ok(None),
    }
}

/// Reserves for an item of `group` in the destination of `cleaner`, whose guard `me` holds; what does
/// not fit there in an extent that was handed on, or in a fresh destination. `None` if there is no free
/// extent with memory.
pub(crate) fn reserve<'a, S: Shim>(
    segment: &'a Segment<S>,
    cleaner: &Cleaner,
    me: Owner,
    group: u8,
    units: u32,
) -> Result<Option<Reserved<'a, S>>, Corruption> {
    let in_flight = InFlight::begin(segment, me)?;
    for _ in 0..2 {
        if let Some((extent, _)) = destination(segment, cleaner)? {
            let state = ExtentState::Relocation;
            if segment.stream(extent)?.group == group
                && let Some(place) = reserve_in(segment, &in_flight, extent, state, units)?
            {
                return Ok(Some(Reserved::new(place, in_flight)));
            }
            if let Some(place) = reserve_handed_on(segment, &in_flight, group, units)? {
                return Ok(Some(Reserved::new(place, in_flight)));
            }
            leave(segment, extent)?;
        }
        if !renew(segment, cleaner, me, group)? {
            break;
        }
    }
    Ok(None)
}

/// Reserves in an open extent that nobody owns: the rest of one that was left.
fn reserve_handed_on<S: Shim>(
    segment: &Segment<S>,
    in_flight: &InFlight<'_, S>,
    group: u8,
    units: u32,
) -> Result<Option<Place>, Corruption> {
    let capacity = segment.geometry.extent_units();
    for extent in 0..segment.geometry.extents.min(LOOKED_MAX) {
        let word = segment.extent_word(extent)?;
        if word.state == ExtentState::Open
            && word.owner.is_none()
            // One that nothing lives in is about to be free.
            && word.live > 0
            && word.used.saturating_add(units) <= capacity
            && takes_moved(segment, extent, group)?
            && let Some(place) = reserve_in(segment, in_flight, extent, word.state, units)?
        {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Whether an open extent takes what was moved.
fn takes_moved<S: Shim>(segment: &Segment<S>, extent: u32, group: u8) -> Result<bool, Corruption> {
    let stream = segment.stream(extent)?;
    Ok(stream.group == group
        && stream.life == 0
        && (!segment.evicts || stream.queue == Queue::Main))
}

/// Leaves a destination in which an item had no room: hands on what is left of it, so that smaller
/// ones take it, or seals it if that is little.
fn leave<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<(), Corruption> {
    let capacity = segment.geometry.extent_units();
    let cell = &segment.extent(extent)?.word;
    let mut found = cell.load_acquire();
    loop {
        let word = ExtentWord::of(found);
        if word.state != ExtentState::Relocation {
            return Ok(());
        }
        let next = left(word, capacity);
        match cell.compare_exchange::<S>(found, next.word()) {
            Ok(()) if next.state == ExtentState::Open => {
                segment.superblock().orphan_hint.store::<S>(extent.into());
                return Ok(());
            }
            Ok(()) => return Ok(()),
            Err(now) => found = now,
        }
    }
}

/// Gives a place a fresh destination, out of what is kept free for it.
///
/// Dies after the claim, or after the place names the extent: it is claimed by a dead client,
/// whose reaper frees it, and no destination.
fn renew<S: Shim>(
    segment: &Segment<S>,
    cleaner: &Cleaner,
    me: Owner,
    group: u8,
) -> Result<bool, Corruption> {
    for extent in 0..segment.geometry.extents {
        if can_be_claimed(segment, extent)? && claim(segment, extent, me)? {
            cleaner.set_destination::<S>(Some(extent));
            enqueue(segment, extent, Stream { group, queue: Queue::Main, life: 0 })?;
            let word = ExtentWord { state: ExtentState::Relocation, ..ExtentWord::FREE };
            segment.extent(extent)?.word.store::<S>(word.word());
            return Ok(true);
        }
    }
    cleaner.set_destination::<S>(None);
    Ok(false)
}
