//! Giving an item's bytes back: after it was unpublished, or was never published.

use super::lease::sealed;
use super::pieces::Pieces;
use super::place::Place;
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Header, Segment, Slot};
use crate::region::Shim;

/// Retires the item at `slot`, which no lane holds any more, with its pieces; under the stripe's
/// guard.
///
/// Dies in between: the item counts as long as one of its pieces does, and the intent names it.
#[inline]
pub(crate) fn retire<S: Shim>(segment: &Segment<S>, slot: Slot) -> Result<(), Corruption> {
    let offset = slot.offset();
    let header = segment.header(offset)?;
    if let Some(pieces) = Pieces::of(segment, offset, header)? {
        pieces.give_back(segment)?;
    }
    retire_moved(segment, offset, header)
}

/// Gives back the bytes of an item, or a piece, that is elsewhere now.
#[inline]
pub(crate) fn retire_moved<S: Shim>(
    segment: &Segment<S>,
    offset: u64,
    header: Header,
) -> Result<(), Corruption> {
    let Some(extent) = segment.geometry.extent_of(offset) else {
        return Err(Corruption { what: "a slot that leads out of the arena", offset });
    };
    let units = header.shape().bytes.min(segment.geometry.extent_bytes()) / 8;
    subtract(segment, extent, units as u32)
}

/// Gives back a place that was reserved and not published. Its pieces are given back before.
pub(crate) fn abandon<S: Shim>(segment: &Segment<S>, place: Place) -> Result<(), Corruption> {
    let Some(extent) = segment.geometry.extent_of(place.offset) else { return Ok(()) };
    subtract(segment, extent, (place.bytes / 8) as u32)
}

/// Subtracts live units; a sealed extent without any is free by the same compare-and-swap.
///
/// Dies before it: the extent counts too much, never too little.
#[inline]
pub(super) fn subtract<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    units: u32,
) -> Result<(), Corruption> {
    let cell = &segment.extent(extent)?.word;
    let mut found = cell.load_acquire();
    loop {
        let word = ExtentWord::of(found);
        let takes_items =
            matches!(word.state, ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation);
        if !takes_items {
            let what = "an item in an extent that takes none";
            return Err(Corruption { what, offset: extent.into() });
        }
        let next = if word.live > units {
            ExtentWord::with_less_live(found, units)
        } else {
            without_live(word).word()
        };
        match cell.compare_exchange::<S>(found, next) {
            Ok(()) => return Ok(()),
            Err(now) => found = now,
        }
    }
}

/// The word of an extent when the last of its live units are gone.
fn without_live(word: ExtentWord) -> ExtentWord {
    let less = ExtentWord { live: 0, ..word };
    match word.state {
        // Without an owner there is nobody who would free it later.
        ExtentState::Open if less.owner.is_none() => ExtentWord::FREE,
        ExtentState::Sealed => sealed(less),
        // A cleaner still moves items there.
        _ => less,
    }
}

/// Notes that a crash may have left the live count of the extent at `offset` too high.
pub(crate) fn mark_suspect<S: Shim>(segment: &Segment<S>, offset: u64) -> Result<(), Corruption> {
    let Some(extent) = segment.geometry.extent_of(offset) else { return Ok(()) };
    let cell = &segment.extent(extent)?.word;
    let mut found = cell.load_acquire();
    loop {
        let word = ExtentWord::of(found);
        let takes_items =
            matches!(word.state, ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation);
        if word.suspect || !takes_items {
            return Ok(());
        }
        match cell.compare_exchange::<S>(found, ExtentWord { suspect: true, ..word }.word()) {
            Ok(()) => return Ok(()),
            Err(now) => found = now,
        }
    }
}
