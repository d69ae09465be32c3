//! Pins: items whose bytes somebody reads in place, and whose extents are not used anew meanwhile.
//!
//! Who pins and who claims an extent both store first and look then, with a SeqCst fence between:
//! the pinner its word, then the generation; the claimer the generation, then the pins. So either
//! the claimer sees the pin, or the pinner sees that its bytes are gone. An item is pinned under its guard:
//! so a large one is pinned before its pieces are given back, and no item is overwritten where it stands
//! by a writer that does not see the pin. As long as it is pinned, its bytes and its list stay as they are.

use std::sync::atomic::{Ordering, fence};

use super::pieces::Pieces;
use crate::error::Corruption;
use crate::layout::{ClientState, ClientWord, ExtentState, ExtentWord, PinWord, Segment, Slot};
use crate::region::{Cell64, Mutation, Shim, mutated};
use crate::sync::Owner;

/// A pin that stands until it is taken off.
#[derive(Debug)]
pub(crate) struct Pin<'a> {
    cell: &'a Cell64,
    word: u64,
}

/// Pins the item at `item`, if its extent still has `generation`; a large one with its pieces. Under its
/// guard. `None` if it has another.
///
/// # Errors
/// `Exhausted` where the client has no pin left.
pub(crate) fn pin<'a, S: Shim>(
    segment: &'a Segment<S>,
    me: Owner,
    (item, large): (u64, bool),
    generation: u64,
) -> Result<Option<Pin<'a>>, NoPin> {
    raise_pinners(segment, me.client);
    let word = PinWord::new(me.generation, item, large).word();
    let pins = &segment.client(me.client)?.pins;
    let cell = pins
        .iter()
        .find(|cell| cell.load() == 0 && cell.compare_exchange::<S>(0, word).is_ok())
        .ok_or(NoPin::Exhausted)?;
    let pin = Pin { cell, word };
    fence(Ordering::SeqCst);
    let extent = segment.geometry.extent_at(item);
    if segment.generation_at(extent).is_some_and(|now| now.load() == generation) {
        return Ok(Some(pin));
    }
    unpin(segment, &pin)?;
    Ok(None)
}

/// Why nothing was pinned.
#[derive(Debug)]
pub(crate) enum NoPin {
    /// The client has as many pins as it may have.
    Exhausted,
    /// See [`Corruption`].
    Corruption(Corruption),
}

impl From<Corruption> for NoPin {
    fn from(error: Corruption) -> Self {
        Self::Corruption(error)
    }
}

/// Takes a pin off, and frees what waited for it.
///
/// Dies after the word is cleared: a reaper frees the extent.
pub(crate) fn unpin<S: Shim>(segment: &Segment<S>, pin: &Pin<'_>) -> Result<(), Corruption> {
    take_off(segment, pin.cell, pin.word)
}

fn take_off<S: Shim>(segment: &Segment<S>, cell: &Cell64, word: u64) -> Result<(), Corruption> {
    let Some(pin) = PinWord::of(word) else { return Ok(()) };
    // Behind the pin the list may be used anew.
    let extents = extents_of(segment, pin);
    if cell.compare_exchange::<S>(word, 0).is_err() {
        return Ok(());
    }
    // Pairs with the fence of a claimer between its store of `Pinned` and its second look.
    fence(Ordering::SeqCst);
    for extent in extents {
        free_unpinned(segment, extent)?;
    }
    Ok(())
}

/// The extents that a pin covers.
fn extents_of<S: Shim>(segment: &Segment<S>, pin: PinWord) -> Vec<u32> {
    let of_pieces = pieces_of(segment, pin).into_iter().flat_map(Pieces::slots);
    let offsets = std::iter::once(pin.item()).chain(of_pieces.map(Slot::offset));
    let mut extents: Vec<u32> =
        offsets.filter_map(|offset| segment.geometry.extent_of(offset)).collect();
    extents.dedup();
    extents
}

/// The pieces of the item that is pinned.
fn pieces_of<S: Shim>(segment: &Segment<S>, pin: PinWord) -> Option<Pieces<'_>> {
    if !pin.large || segment.geometry.extent_of(pin.item()).is_none() {
        return None;
    }
    Pieces::of(segment, pin.item(), segment.header(pin.item()).ok()?).ok()?
}

/// Whether a pin covers `extent`.
fn covers<S: Shim>(segment: &Segment<S>, pin: PinWord, extent: u32) -> bool {
    segment.geometry.extent_of(pin.item()) == Some(extent)
        || pieces_of(segment, pin).is_some_and(|pieces| pieces.are_in(segment, extent))
}

/// Takes off what `dead` had pinned, and earlier clients of its entry.
pub(crate) fn release<S: Shim>(segment: &Segment<S>, dead: Owner) -> Result<(), Corruption> {
    let entry = segment.client(dead.client)?;
    let now = entry.owner(dead.client).generation;
    for cell in &entry.pins {
        let word = cell.load_acquire();
        let is_left = |pin: PinWord| pin.is_of(dead.generation) || !pin.is_of(now);
        if PinWord::of(word).is_some_and(is_left) {
            take_off(segment, cell, word)?;
        }
    }
    Ok(())
}

/// Frees an extent that only waited for pins, if there are none any more.
pub(crate) fn free_unpinned<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<(), Corruption> {
    let pinned = ExtentWord { state: ExtentState::Pinned, ..ExtentWord::FREE };
    if segment.extent_word(extent)? == pinned && !is_pinned(segment, extent)? {
        let free = ExtentWord::FREE.word();
        let _ = segment.extent(extent)?.word.compare_exchange::<S>(pinned.word(), free);
    }
    Ok(())
}

/// For whoever claimed `extent` and counted its generation up: whether it may be used. If not it
/// is left to those who have it pinned.
pub(super) fn leave_if_pinned<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
) -> Result<bool, Corruption> {
    if !is_pinned(segment, extent)? {
        return Ok(false);
    }
    let pinned = ExtentWord { state: ExtentState::Pinned, ..ExtentWord::FREE };
    segment.extent(extent)?.word.store::<S>(pinned.word());
    fence(Ordering::SeqCst);
    free_unpinned(segment, extent)?;
    Ok(true)
}

/// Whether a client has the item at `item` pinned, a large one with its pieces; under its guard. One load where
/// nobody ever pinned.
#[inline(always)]
pub(crate) fn is_item_pinned<S: Shim>(segment: &Segment<S>, item: u64) -> Result<bool, Corruption> {
    any_pin(segment, |pin| pin.item() == item)
}

/// Whether a client has `extent` pinned: one load where nobody ever pinned, else a line for each
/// entry up to the last that did.
pub(crate) fn is_pinned<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<bool, Corruption> {
    any_pin(segment, |pin| covers(segment, pin, extent))
}

#[inline(always)]
fn any_pin<S: Shim>(
    segment: &Segment<S>,
    is_meant: impl Fn(PinWord) -> bool,
) -> Result<bool, Corruption> {
    let pinners = segment.superblock().pinners.load();
    if pinners == 0 || mutated::<S>(Mutation::SkipPins) {
        return Ok(false);
    }
    any_pin_of(segment, pinners, is_meant)
}

#[cold]
fn any_pin_of<S: Shim>(
    segment: &Segment<S>,
    pinners: u64,
    is_meant: impl Fn(PinWord) -> bool,
) -> Result<bool, Corruption> {
    let pinners = pinners.min(segment.geometry.clients.into()) as u32;
    for client in 0..pinners {
        let entry = segment.client(client)?;
        let word = ClientWord::of(entry.word.load());
        let is_one = |cell: &Cell64| {
            PinWord::of(cell.load()).is_some_and(|pin| pin.is_of(word.generation) && is_meant(pin))
        };
        if word.state != ClientState::Free && entry.pins.iter().any(is_one) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn raise_pinners<S: Shim>(segment: &Segment<S>, client: u32) {
    let cell = &segment.superblock().pinners;
    let least = u64::from(client) + 1;
    let mut found = cell.load();
    while found < least {
        match cell.compare_exchange::<S>(found, least) {
            Ok(()) => return,
            Err(now) => found = now,
        }
    }
}
