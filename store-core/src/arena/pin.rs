//! Pins: extents whose bytes somebody reads in place, and which are not used anew meanwhile.
//!
//! Who pins and who claims an extent both store first and look then, with a SeqCst fence between:
//! the pinner its word, then the generation; the claimer the generation, then the pins. So either
//! the claimer sees the pin, or the pinner sees that its bytes are gone.

use std::sync::atomic::{Ordering, fence};

use crate::error::Corruption;
use crate::layout::{ClientState, ClientWord, ExtentState, ExtentWord, PinWord, Segment};
use crate::region::{Cell64, Mutation, Shim, mutated};
use crate::sync::Owner;

/// A pin that stands until it is taken off.
#[derive(Debug)]
pub(crate) struct Pin<'a> {
    cell: &'a Cell64,
    word: u64,
}

/// Pins `extents` extents from `first` on, if the first one still has `generation`. `None` if it
/// has another.
///
/// # Errors
/// `Exhausted` where the client has no pin left.
pub(crate) fn pin<'a, S: Shim>(
    segment: &'a Segment<S>,
    me: Owner,
    (first, extents): (u32, u32),
    generation: u64,
) -> Result<Option<Pin<'a>>, NoPin> {
    raise_pinners(segment, me.client);
    let word = PinWord::new(me.generation, first, extents).word();
    let pins = &segment.client(me.client)?.pins;
    let cell = pins
        .iter()
        .find(|cell| cell.load() == 0 && cell.compare_exchange::<S>(0, word).is_ok())
        .ok_or(NoPin::Exhausted)?;
    let pin = Pin { cell, word };
    fence(Ordering::SeqCst);
    if segment.generation(first)?.load() == generation {
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
    if cell.compare_exchange::<S>(word, 0).is_err() {
        return Ok(());
    }
    // Pairs with the fence of a claimer between its store of `Pinned` and its second look.
    fence(Ordering::SeqCst);
    let Some(PinWord { first, extents, .. }) = PinWord::of(word) else { return Ok(()) };
    for extent in first..first.saturating_add(extents).min(segment.geometry.extents) {
        free_unpinned(segment, extent)?;
    }
    Ok(())
}

/// Takes off what `dead` had pinned.
pub(crate) fn release<S: Shim>(segment: &Segment<S>, dead: Owner) -> Result<(), Corruption> {
    for cell in &segment.client(dead.client)?.pins {
        let word = cell.load_acquire();
        if PinWord::of(word).is_some_and(|pin| pin.is_of(dead.generation)) {
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

/// Whether a client has `extent` pinned: one load where nobody ever pinned, else a line for each
/// entry up to the last that did.
pub(crate) fn is_pinned<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<bool, Corruption> {
    if mutated::<S>(Mutation::SkipPins) {
        return Ok(false);
    }
    let pinners = segment.superblock().pinners.load().min(segment.geometry.clients.into()) as u32;
    for client in 0..pinners {
        let entry = segment.client(client)?;
        let word = ClientWord::of(entry.word.load());
        let covers = |cell: &Cell64| {
            PinWord::of(cell.load())
                .is_some_and(|pin| pin.covers(extent) && pin.is_of(word.generation))
        };
        if word.state != ClientState::Free && entry.pins.iter().any(covers) {
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
