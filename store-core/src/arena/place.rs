//! A place for one item, and the one step that reserves it.

use std::sync::atomic::{Ordering, fence};

use super::InFlight;
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Segment};
use crate::region::{Mutation, Shim, mutated};

/// Room for one item, reserved and not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset of the first byte.
    pub(crate) offset: u64,
    /// Bytes, a multiple of 8.
    pub(crate) bytes: u64,
    /// Generation of its first extent.
    pub(crate) generation: u64,
}

/// Reserves in one extent if it is in `state` and has the room. One compare-and-swap.
///
/// Dies after it: the extent counts an item that never was, until it is cleaned; `in_flight` names
/// it.
#[inline]
pub(crate) fn reserve_in<S: Shim>(
    segment: &Segment<S>,
    in_flight: &InFlight<'_, S>,
    extent: u32,
    state: ExtentState,
    units: u32,
) -> Result<Option<Place>, Corruption> {
    let cell = &segment.extent(extent)?.word;
    in_flight.name(extent);
    let mut found = cell.load_acquire();
    loop {
        let word = ExtentWord::of(found);
        if word.state != state
            || word.used.saturating_add(units) > segment.geometry.extent_units()
            // Only hostile bytes say so.
            || word.live > word.used
        {
            return Ok(None);
        }
        let live = if mutated::<S>(Mutation::SkipLiveBytes) { 0 } else { units };
        match cell.compare_exchange::<S>(found, ExtentWord::with_more(found, live, units)) {
            Ok(()) => {
                let generation = segment.generation(extent)?.load();
                // Before the first byte of the item: pairs with the readers' Acquire fence.
                fence(Ordering::Release);
                return Ok(Some(Place {
                    offset: segment.geometry.extent_offset(extent) + u64::from(word.used) * 8,
                    bytes: u64::from(units) * 8,
                    generation,
                }));
            }
            Err(now) => found = now,
        }
    }
}
