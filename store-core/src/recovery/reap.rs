//! Releasing everything that names a dead client, and then its entry.
//!
//! The entry is freed last: a later client with the same number would inherit its words. Every
//! step is a compare-and-swap of exactly the dead client's word, so several may reap at once.

use super::counts::bequeath;
use super::liveness::state_of;
use super::loaders;
use super::repair::repair_stripe;
use crate::arena::{in_flight, index_extent, pin};
use crate::error::Corruption;
use crate::layout::{ClientState, ClientWord, ExtentState, ExtentWord, Segment};
use crate::region::Shim;
use crate::sync::{Guard, Owner};
use crate::sys::process::Liveness;

/// What a pass over the client table released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaped {
    /// Dead clients whose entries were freed.
    pub clients: u32,
    /// Guards that they held.
    pub guards: u32,
    /// Loader leases that they held.
    pub leases: u32,
    /// Extents that they had open or were preparing.
    pub extents: u32,
}

/// Reaps every client that is dead for certain. Needs no guard but those that the dead held.
pub(crate) fn reap<S: Shim>(segment: &Segment<S>, me: Owner) -> Result<Reaped, Corruption> {
    let mut reaped = Reaped::default();
    for client in 0..segment.geometry.clients {
        let found = segment.client(client)?.word.load();
        let word = ClientWord::of(found);
        if word.state == ClientState::Free || client == me.client {
            continue;
        }
        if !state_of(segment, client).is_some_and(Liveness::is_dead) {
            continue;
        }
        let dead = Owner::new(client, word.generation);
        if !release(segment, me, dead, &mut reaped)? {
            continue;
        }
        bequeath(segment, client)?;
        let free = ClientWord { state: ClientState::Free, pid: 0, ..word };
        if segment.client(client)?.word.compare_exchange::<S>(found, free.word()).is_ok() {
            reaped.clients += 1;
        }
    }
    // What an earlier client of an entry left, because whoever released it died halfway or found a
    // guard taken: its generation is not the entry's any more.
    let _ = release_extents(segment, &mut reaped, |owner| is_left_over(segment, owner))?;
    Ok(reaped)
}

/// Releases the guards, leases and extents of `dead`; `false` if something had to be left for later.
pub(crate) fn release<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    dead: Owner,
    reaped: &mut Reaped,
) -> Result<bool, Corruption> {
    release_guards(segment, me, dead, reaped)?;
    reaped.leases += loaders::release(segment, dead)?;
    in_flight::release(segment, dead)?;
    pin::release(segment, dead)?;
    let kept = ExtentWord::kept(dead);
    release_extents(segment, reaped, |owner| Ok(owner == kept))
}

/// Gives a guard back, also if what is done under it ends early.
struct Release<'a, S: Shim>(Guard<'a>, std::marker::PhantomData<S>);

impl<S: Shim> Drop for Release<'_, S> {
    fn drop(&mut self) {
        self.0.release::<S>();
    }
}

fn release_guards<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    dead: Owner,
    reaped: &mut Reaped,
) -> Result<(), Corruption> {
    for stripe in 0..segment.geometry.stripes {
        let guard = segment.stripe_guard(stripe, segment.stripe(stripe)?);
        if guard.take_over::<S>(me, dead) {
            let _held = Release::<S>(guard, std::marker::PhantomData);
            repair_stripe(segment, stripe)?;
            reaped.guards += 1;
        }
    }
    for place in 0..segment.cleaners().len() {
        let guard = segment.cleaner_guard(place);
        if guard.take_over::<S>(me, dead) {
            guard.release::<S>();
            reaped.guards += 1;
        }
    }
    Ok(())
}

/// Takes the extents of owners that are dead out of their hands; `false` if one had to be left.
fn release_extents<S: Shim>(
    segment: &Segment<S>,
    reaped: &mut Reaped,
    is_dead: impl Fn(Owner) -> Result<bool, Corruption>,
) -> Result<bool, Corruption> {
    let mut all = true;
    for extent in 0..segment.geometry.extents {
        let cell = &segment.extent(extent)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        if word.state == ExtentState::Pinned {
            // Whoever took the last pin off, or found it taken off, may have died before this.
            pin::free_unpinned(segment, extent)?;
        }
        let Some(dead) = word.owner else { continue };
        if !is_dead(dead)? {
            continue;
        }
        reaped.extents += 1;
        match word.state {
            ExtentState::Open => {
                all &= release_open(segment, extent, dead)?;
                segment.superblock().orphan_hint.store::<S>(extent.into());
            }
            ExtentState::Buckets | ExtentState::Overflow => {
                index_extent::settle(segment, extent, found)?;
            }
            ExtentState::Claimed => {
                let _ = cell.compare_exchange::<S>(found, ExtentWord::FREE.word());
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Whether an extent's owner is an earlier client of its entry, whose reaper died halfway.
fn is_left_over<S: Shim>(segment: &Segment<S>, owner: Owner) -> Result<bool, Corruption> {
    // Only hostile bytes name an entry that there is not.
    let Ok(entry) = segment.client(owner.client) else { return Ok(true) };
    let now = ClientWord::of(entry.word.load());
    Ok(ExtentWord::kept(Owner::new(owner.client, now.generation)) != owner)
}

/// Takes the owner off an open extent, in which others may reserve meanwhile. The dead client may
/// have left a reservation in it that nobody will use. An extent without any item is free.
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
        let next = if word.live == 0 {
            ExtentWord::FREE
        } else {
            ExtentWord { owner: None, suspect: true, ..word }
        };
        if cell.compare_exchange::<S>(found, next.word()).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}
