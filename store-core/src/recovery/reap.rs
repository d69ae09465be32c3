//! Releasing everything that names a dead client, and then its entry.
//!
//! The entry is freed last: a later client with the same number would inherit its words. Every
//! step is a compare-and-swap of exactly the dead client's word, so several may reap at once.

use super::liveness::state_of;
use super::repair::repair_stripe;
use crate::arena::run;
use crate::error::Corruption;
use crate::index::search::search;
use crate::layout::{ClientState, ClientWord, ExtentState, ExtentWord, Segment};
use crate::region::Shim;
use crate::sync::{Guard, Owner, WaitLimit};
use crate::sys::process::Liveness;

/// What a pass over the client table released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaped {
    /// Dead clients whose entries were freed.
    pub clients: u32,
    /// Guards that they held.
    pub guards: u32,
    /// Extents that they had open or were preparing.
    pub extents: u32,
}

/// Reaps every client that is dead for certain. Needs no guard but those that the dead held and,
/// for a large value that may or may not have been published, that of its key; if a living client
/// holds that one for longer than `limit`, its dead client is left for the next pass.
pub(crate) fn reap<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    limit: WaitLimit,
) -> Result<Reaped, Corruption> {
    let mut reaped = Reaped::default();
    for client in 0..segment.geometry.clients {
        let found = segment.client(client)?.word.load();
        let word = ClientWord::of(found);
        if word.state == ClientState::Free || client == me.client {
            continue;
        }
        if state_of(segment, client) != Some(Liveness::Dead) {
            continue;
        }
        let dead = Owner::new(client, word.generation);
        release_guards(segment, me, dead, &mut reaped)?;
        if !release_extents(segment, me, dead, limit, &mut reaped)? {
            continue;
        }
        // The next client of this entry must not be judged by what this one left, not even in the
        // moment between its registration and the store of its own start time.
        segment.client(client)?.forget_process::<S>();
        let free = ClientWord { state: ClientState::Free, pid: 0, ..word };
        if segment.client(client)?.word.compare_exchange::<S>(found, free.word()).is_ok() {
            reaped.clients += 1;
        }
    }
    Ok(reaped)
}

fn release_guards<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    dead: Owner,
    reaped: &mut Reaped,
) -> Result<(), Corruption> {
    for stripe in 0..segment.geometry.stripes {
        let guard = Guard::new(&segment.stripe(stripe)?.guard);
        if guard.take_over::<S>(me, dead) {
            let outcome = repair_stripe(segment, stripe);
            guard.release::<S>();
            outcome?;
            reaped.guards += 1;
        }
    }
    Ok(())
}

/// `false` if something had to be left for later.
fn release_extents<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    dead: Owner,
    limit: WaitLimit,
    reaped: &mut Reaped,
) -> Result<bool, Corruption> {
    let mut all = true;
    // Ascending: the head of a run settles or frees its bodies before they are met.
    for extent in 0..segment.geometry.extents {
        let cell = &segment.extent(extent)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        if !word.is_owned_by(dead) {
            continue;
        }
        reaped.extents += 1;
        match word.state {
            ExtentState::Open => {
                // It may have died between a reservation and its publication.
                let open = ExtentWord { owner: None, suspect: true, ..word };
                if cell.compare_exchange::<S>(found, open.word()).is_err() {
                    // A borrower was faster; the dead client's word is met again below.
                    all &= release_open(segment, extent, dead)?;
                }
                segment.superblock().orphan_hint.store::<S>(extent.into());
            }
            ExtentState::RunHead => all &= resolve_run(segment, me, extent, limit)?,
            ExtentState::Claimed | ExtentState::RunBody => {
                let _ = cell.compare_exchange::<S>(found, ExtentWord::FREE.word());
            }
            ExtentState::Free | ExtentState::Sealed | ExtentState::Unknown => {}
        }
    }
    Ok(all)
}

/// Takes the owner off an open extent that others reserve in meanwhile.
fn release_open<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    dead: Owner,
) -> Result<bool, Corruption> {
    let cell = &segment.extent(extent)?.word;
    for _ in 0..10_000 {
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        if word.state != ExtentState::Open || !word.is_owned_by(dead) {
            return Ok(true);
        }
        let open = ExtentWord { owner: None, suspect: true, ..word };
        if cell.compare_exchange::<S>(found, open.word()).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Settles a dead client's run if it was published, frees it if not. Whether it was is told by its
/// key's chain: a header that was never written whole names a key whose chain does not lead here.
fn resolve_run<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    head: u32,
    limit: WaitLimit,
) -> Result<bool, Corruption> {
    let item = segment.geometry.extent_offset(head);
    let mut key = Vec::new();
    if segment.header(item).and_then(|header| segment.copy_key(item, header, &mut key)).is_err() {
        // No header that a writer finished, so nothing was published.
        return run::free_unpublished(segment, head).map(|()| true);
    }
    let hash = segment.hasher.hash(&key);
    let stripe = segment.geometry.stripe_of(hash);
    let guard = Guard::new(&segment.stripe(stripe)?.guard);
    if guard.acquire::<S>(me, limit, |owner| super::is_dead(segment, owner)).is_err() {
        return Ok(false);
    }
    let outcome = (|| {
        if segment.stripe(stripe)?.armed() {
            repair_stripe(segment, stripe)?;
        }
        match search(segment, &key, hash)?.found {
            Some(standing) if standing.slot.offset() == item => run::settle(segment, head),
            _ => run::free_unpublished(segment, head),
        }
    })();
    guard.release::<S>();
    outcome.map(|()| true)
}
