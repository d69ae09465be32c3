//! Releasing everything that names a dead client, and then its entry.
//!
//! The entry is freed last: a later client with the same number would inherit its words. Every
//! step is a compare-and-swap of exactly the dead client's word, so several may reap at once.

use super::counts::bequeath;
use super::liveness::state_of;
use super::loaders;
use super::repair::repair_stripe;
use crate::arena::{in_flight, index_extent, pin, run};
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
    /// Loader leases that they held.
    pub leases: u32,
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
        if !state_of(segment, client).is_some_and(Liveness::is_dead) {
            continue;
        }
        let dead = Owner::new(client, word.generation);
        if !release(segment, me, dead, limit, &mut reaped)? {
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
    let _ = release_extents(segment, me, limit, &mut reaped, |owner| is_left_over(segment, owner))?;
    Ok(reaped)
}

/// Releases the guards, leases and extents of `dead`; `false` if something had to be left for later.
pub(crate) fn release<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    dead: Owner,
    limit: WaitLimit,
    reaped: &mut Reaped,
) -> Result<bool, Corruption> {
    release_guards(segment, me, dead, reaped)?;
    reaped.leases += loaders::release(segment, dead)?;
    in_flight::release(segment, dead)?;
    pin::release(segment, dead)?;
    let kept = ExtentWord::kept(dead);
    release_extents(segment, me, limit, reaped, |owner| Ok(owner == kept))
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
    me: Owner,
    limit: WaitLimit,
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
            ExtentState::RunHead => all &= resolve_run(segment, me, extent, dead, limit)?,
            // A body goes with its head. One whose head is not its dead owner's any more, or not
            // yet, belongs to no run that could have been published.
            ExtentState::RunBody if !head_is_owned(segment, extent, word, dead)? => {
                let _ = cell.compare_exchange::<S>(found, ExtentWord::FREE.word());
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

/// Whether the head of the run that a body belongs to is there, and `dead`'s.
fn head_is_owned<S: Shim>(
    segment: &Segment<S>,
    body: u32,
    word: ExtentWord,
    dead: Owner,
) -> Result<bool, Corruption> {
    let Some(head) = body.checked_sub(word.used) else { return Ok(false) };
    let head = segment.extent_word(head)?;
    Ok(head.state == ExtentState::RunHead && head.is_owned_by(dead) && head.used > word.used)
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

/// Settles a dead client's run if it was published, frees it if not. Whether it was is told by its
/// key's chain: a header that was never written whole names a key whose chain does not lead here.
fn resolve_run<S: Shim>(
    segment: &Segment<S>,
    me: Owner,
    head: u32,
    dead: Owner,
    limit: WaitLimit,
) -> Result<bool, Corruption> {
    let item = segment.geometry.extent_offset(head);
    let mut key = Vec::new();
    let header = segment
        .header(item)
        .and_then(|header| segment.copy_key(item, header, &mut key).map(|()| header));
    let Ok(header) = header else {
        // No header that a writer finished, so nothing was published.
        return run::free(segment, head, Some(dead)).map(|()| true);
    };
    let hash = segment.hash_in(header.namespace, &key);
    let stripe = segment.geometry.stripe_of(hash);
    let guard = segment.stripe_guard(stripe, segment.stripe(stripe)?);
    if guard.acquire::<S>(me, limit, |owner| super::is_dead(segment, owner)).is_err() {
        return Ok(false);
    }
    let _held = Release::<S>(guard, std::marker::PhantomData);
    if segment.stripe(stripe)?.armed() {
        repair_stripe(segment, stripe)?;
    }
    // While the guard was waited for somebody else may have settled or freed the run, and the head
    // be another's: both do nothing then.
    match search(segment, &key, hash)?.found {
        Some(standing) if standing.slot.offset() == item => run::settle(segment, head, Some(dead)),
        _ => run::free(segment, head, Some(dead)),
    }
    .map(|()| true)
}
