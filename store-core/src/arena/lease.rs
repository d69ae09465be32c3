//! Which extent a client writes to, and where the next one comes from.
//!
//! A client has one open extent, its own as long as extents are plentiful. Ownership is a
//! preference, not a lock: the cursor is a compare-and-swap, so under pressure anybody may reserve
//! in any open extent. The rest of an extent that its owner leaves is handed on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use parking_lot::Mutex;

use super::place::{Place, reserve_in};
use super::reserve::Reach;
use super::usage::may_live;
use super::{InFlight, NoRoom, pin, quota, relocation};
use crate::error::Corruption;
use crate::layout::{ExtentState, ExtentWord, Segment, Shelf, Stream};
use crate::region::{Mutation, Shim, mutated};
use crate::sync::Owner;

/// An extent with at least this part of it left is handed on rather than sealed.
pub(super) const HAND_ON_PART: u32 = 8;
/// How many entries of the table are searched for one that was handed on before a free one is
/// taken.
const ORPHAN_SEARCH_MAX: u32 = 64;
/// With more than this part of the extents free, nobody cleans ahead of need.
const PLENTY_PART: u32 = 64;
/// Extents that are looked through for free ones.
const FREE_LOOKED_MAX: u32 = 4096;
/// How much memory is commissioned at once when the arena grows: about 300 microseconds.
const GROWTH_STEP_BYTES: u64 = 1 << 20;

/// The open extents of a client for a group of namespaces, one for each shelf. Private to the
/// process; all its threads use them.
#[derive(Debug)]
pub(crate) struct Lease {
    owner: Owner,
    group: u8,
    open: [Opened; Shelf::COUNT],
    /// Few extents are free: puts clean ahead of need.
    short: AtomicBool,
}

/// An open extent of a client.
#[derive(Debug, Default)]
struct Opened {
    /// Its number + 1; 0: none.
    extent: AtomicU32,
    renewing: Mutex<()>,
}

/// What [`Lease::renew`] did.
pub(crate) enum Wanted {
    /// There is another open extent; try again.
    Renewed,
    /// Nothing is free, but this room in somebody else's extent.
    Borrowed(Place),
}

/// What a search of the extent table found.
#[derive(Default)]
struct Candidates {
    handed_on: Option<u32>,
    /// One of the free extents that are not kept for cleaners.
    free: Option<u32>,
    uncommissioned: Option<u32>,
}

/// What limits a search for a free extent.
#[derive(Clone, Copy, Default)]
struct Limits {
    /// Free ones that are kept for others.
    kept: u32,
    /// What may still be taken of the group's quota, if it has one.
    left: Option<u32>,
    /// With more free ones than these room is not short.
    plenty: u32,
}

impl Lease {
    pub(crate) fn new(owner: Owner, group: u8) -> Self {
        Self { owner, group, open: Default::default(), short: AtomicBool::new(false) }
    }

    pub(super) fn stream(&self, Shelf { queue, life }: Shelf) -> Stream {
        Stream { group: self.group, queue, life }
    }

    #[inline(always)]
    fn opened(&self, shelf: Shelf) -> &Opened {
        &self.open[shelf.number()]
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The open extent.
    #[inline(always)]
    pub(crate) fn current(&self, shelf: Shelf) -> Option<u32> {
        self.opened(shelf).extent.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Whether few extents were free when the open one was renewed.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// There is enough, or nothing to be done about it before the next renewal.
    pub(crate) fn not_short(&self) {
        self.short.store(false, Ordering::Relaxed);
    }

    /// Whether this client may own extents: the first quarter of them, by its number, so that at
    /// most a quarter of the extents is owned, however many clients there are. Those of a namespace
    /// with a quota, and those for a class of times to live, are shared by all writers.
    fn may_own<S: Shim>(&self, segment: &Segment<S>, life: u8) -> bool {
        self.group == 0 && life == 0 && self.owner.client < segment.geometry.extents / 4
    }

    /// Finds an open extent with room for `units`.
    ///
    /// # Errors
    /// `Full` if no extent of the whole arena has the room.
    pub(super) fn renew<S: Shim>(
        &self,
        segment: &Segment<S>,
        in_flight: &InFlight<'_, S>,
        (units, shelf): (u32, Shelf),
        reach: Reach,
    ) -> Result<Wanted, NoRoom> {
        let before = self.current(shelf);
        let opened = self.opened(shelf);
        let _renewing = opened.renewing.lock();
        if self.current(shelf) != before {
            return Ok(Wanted::Renewed);
        }
        if let Some(extent) = before {
            self.leave(segment, extent)?;
            opened.extent.store(0, Ordering::Relaxed);
        }
        let extents = segment.geometry.extents;
        let start = segment.superblock().lease_hint.load() as u32 % extents;
        let last = at_last(segment, reach);
        // Another client may take what was found; the table is searched a few times then.
        for _ in 0..64 {
            let found = self.candidates(segment, start, (units, shelf), last)?;
            if let Some(extent) = found.handed_on {
                if self.adopt(segment, extent)? {
                    opened.extent.store(extent + 1, Ordering::Relaxed);
                    return Ok(Wanted::Renewed);
                }
            } else if let Some(extent) = found.free {
                if self.claim_open(segment, extent, shelf, last)? {
                    segment.superblock().lease_hint.store::<S>(u64::from(extent) + 1);
                    opened.extent.store(extent + 1, Ordering::Relaxed);
                    return Ok(Wanted::Renewed);
                }
            } else if let Some(extent) = found.uncommissioned {
                if let Err(error) = commission(segment, self.owner, extent) {
                    let borrowed =
                        self.borrow_anywhere(segment, in_flight, (units, shelf), reach)?;
                    return borrowed.map(Wanted::Borrowed).ok_or(error);
                }
            } else {
                break;
            }
        }
        let borrowed = self.borrow_anywhere(segment, in_flight, (units, shelf), reach)?;
        borrowed.map(Wanted::Borrowed).ok_or(NoRoom::Full)
    }

    /// Looks for an extent: one that was handed on and has the room, else a free one, else one
    /// that is not commissioned yet. Looks through the whole table only when it must.
    fn candidates<S: Shim>(
        &self,
        segment: &Segment<S>,
        start: u32,
        (units, shelf): (u32, Shelf),
        last: bool,
    ) -> Result<Candidates, Corruption> {
        let extents = segment.geometry.extents;
        let capacity = segment.geometry.extent_units();
        // It looks through the whole table, so not before it counts.
        let mut limits = None;
        let mut found = Candidates::default();
        // The open extent with the least room that is enough, and the units that it has left.
        let mut open: Option<(u32, u32)> = None;
        let (mut first_free, mut free) = (None, 0);
        let hint = segment.superblock().orphan_hint.load() as u32 % extents;
        let order = std::iter::once(hint).chain((0..extents).map(|i| (start + i) % extents));
        for (looked, extent) in order.enumerate() {
            let word = segment.extent_word(extent)?;
            match word.state {
                ExtentState::Open
                    if word.owner.is_none()
                        && capacity.saturating_sub(word.used) >= units
                        // Only hostile bytes say otherwise, and nothing can be reserved there.
                        && word.live <= word.used
                        && self.suits(segment, extent, shelf)? =>
                {
                    if last || segment.evicts {
                        found.handed_on = Some(extent);
                        return Ok(found);
                    }
                    let rest = capacity - word.used;
                    if open.is_none_or(|(_, least)| rest < least) {
                        open = Some((extent, rest));
                    }
                }
                ExtentState::Free if segment.is_free(extent)? => {
                    let Limits { kept, left, .. } = *self.limits(segment, last, &mut limits)?;
                    if can_be_claimed(segment, extent)? {
                        // The hint is looked at twice.
                        free += u32::from(looked > 0);
                        first_free = first_free.or(Some(extent));
                        if free > kept && left != Some(0) {
                            found.free = first_free;
                        }
                    } else if found.uncommissioned.is_none()
                        && left != Some(0)
                        && segment.generation(extent)?.load() == 0
                    {
                        found.uncommissioned = Some(extent);
                    }
                }
                _ => {}
            }
            if let Some((extent, _)) = open
                && (found.free.is_some() || found.uncommissioned.is_some())
            {
                found.handed_on = Some(extent);
                return Ok(found);
            }
            // Of the free ones all may be kept for others.
            if looked as u32 >= ORPHAN_SEARCH_MAX && found.free.is_some() {
                let plenty = self.limits(segment, last, &mut limits)?.plenty;
                if free > plenty || found.uncommissioned.is_some() {
                    break;
                }
            }
        }
        let Limits { left, plenty, .. } = *self.limits(segment, last, &mut limits)?;
        let growing = found.uncommissioned.is_some();
        let short = free <= plenty && !growing || left.is_some_and(|left| left <= quota::SHORT);
        self.short.store(short, Ordering::Relaxed);
        // Nothing is free. It is filled if as much more may live.
        if let Some((extent, rest)) = open
            && u64::from(rest) * 8 <= may_live(segment, self.group)?
        {
            found.handed_on = Some(extent);
        }
        Ok(found)
    }

    /// What limits a search for a free extent, found out the first time.
    fn limits<'a, S: Shim>(
        &self,
        segment: &Segment<S>,
        last: bool,
        known: &'a mut Option<Limits>,
    ) -> Result<&'a Limits, Corruption> {
        if known.is_none() {
            let for_quotas = quota::kept_from(segment, self.group)?;
            let for_cleaners = if last { 1 } else { segment.kept_with_memory() };
            *known = Some(Limits {
                kept: for_quotas.saturating_add(for_cleaners),
                left: quota::left(segment, self.group)?,
                plenty: plenty(segment).saturating_add(for_quotas),
            });
        }
        Ok(known.get_or_insert_default())
    }

    /// Whether what is put on a shelf may be put into an open extent. In store mode queues only tell
    /// how an extent was filled.
    fn suits<S: Shim>(
        &self,
        segment: &Segment<S>,
        extent: u32,
        shelf: Shelf,
    ) -> Result<bool, Corruption> {
        let stream = segment.stream(extent)?;
        let Shelf { queue, life } = shelf;
        Ok(stream.group == self.group
            && stream.life == life
            && (!segment.evicts || stream.queue == queue))
    }

    /// Makes an open extent without an owner this client's, or uses it as it is.
    fn adopt<S: Shim>(&self, segment: &Segment<S>, extent: u32) -> Result<bool, Corruption> {
        let cell = &segment.extent(extent)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        if word.state != ExtentState::Open || word.owner.is_some() {
            return Ok(false);
        }
        put_last(segment, extent)?;
        if !self.may_own(segment, segment.stream(extent)?.life) {
            return Ok(true);
        }
        let owner = Some(ExtentWord::kept(self.owner));
        Ok(cell.compare_exchange::<S>(found, ExtentWord { owner, ..word }.word()).is_ok())
    }

    /// Claims a free extent and opens it.
    fn claim_open<S: Shim>(
        &self,
        segment: &Segment<S>,
        extent: u32,
        shelf: Shelf,
        last: bool,
    ) -> Result<bool, Corruption> {
        if !claim(segment, extent, self.owner)? {
            return Ok(false);
        }
        if !(last && one_is_free(segment)? || reserve_stands(segment)?) {
            segment.extent(extent)?.word.store::<S>(ExtentWord::FREE.word());
            return Ok(false);
        }
        enqueue(segment, extent, self.stream(shelf))?;
        let owner = self.may_own(segment, shelf.life).then_some(ExtentWord::kept(self.owner));
        let open = ExtentWord { state: ExtentState::Open, owner, ..ExtentWord::FREE };
        segment.extent(extent)?.word.store::<S>(open.word());
        Ok(true)
    }

    /// Leaves an open extent: hands on what is left of it, or seals it if that is little.
    fn leave<S: Shim>(&self, segment: &Segment<S>, extent: u32) -> Result<(), Corruption> {
        let capacity = segment.geometry.extent_units();
        let cell = &segment.extent(extent)?.word;
        let mut found = cell.load_acquire();
        loop {
            let word = ExtentWord::of(found);
            if word.state != ExtentState::Open
                || word.owner.is_some() && !word.is_owned_by(self.owner)
            {
                return Ok(());
            }
            let next = left(word, capacity);
            match cell.compare_exchange::<S>(found, next.word()) {
                Ok(()) => {
                    if next.state != ExtentState::Free {
                        put_last(segment, extent)?;
                    }
                    if next.state == ExtentState::Open {
                        segment.superblock().orphan_hint.store::<S>(extent.into());
                    }
                    return Ok(());
                }
                Err(now) => found = now,
            }
        }
    }

    /// Reserves in any open extent that has the room, whoever owns it, if the reach is that far.
    fn borrow_anywhere<S: Shim>(
        &self,
        segment: &Segment<S>,
        in_flight: &InFlight<'_, S>,
        (units, shelf): (u32, Shelf),
        reach: Reach,
    ) -> Result<Option<Place>, Corruption> {
        // With what is kept for cleaners still there, they need no more room in their destinations.
        let spare = match reach {
            Reach::Own => return Ok(None),
            Reach::Alike => false,
            _ if at_last(segment, reach) => one_is_free(segment)?,
            _ => reserve_stands_without(segment, units)?,
        };
        for extent in 0..segment.geometry.extents {
            let word = segment.extent_word(extent)?;
            if (word.state == ExtentState::Open || word.state == ExtentState::Relocation && spare)
                && word.used.saturating_add(units) <= segment.geometry.extent_units()
                && segment.stream(extent)?.group == self.group
                && (reach != Reach::Alike || self.suits(segment, extent, shelf)?)
                && let Some(place) = reserve_in(segment, in_flight, extent, word.state, units)?
            {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Leaves the open extent of a shelf: it was taken for one item.
    pub(crate) fn leave_open<S: Shim>(
        &self,
        segment: &Segment<S>,
        shelf: Shelf,
    ) -> Result<(), Corruption> {
        match self.opened(shelf).extent.swap(0, Ordering::Relaxed).checked_sub(1) {
            Some(extent) => self.leave(segment, extent),
            None => Ok(()),
        }
    }

    /// Leaves the open extent for good, when the client detaches.
    pub(crate) fn close<S: Shim>(&self, segment: &Segment<S>) -> Result<(), Corruption> {
        for opened in &self.open {
            if let Some(extent) = opened.extent.swap(0, Ordering::Relaxed).checked_sub(1) {
                self.leave(segment, extent)?;
            }
        }
        Ok(())
    }
}

/// Puts an extent that nobody else touches at the end of a queue.
pub(crate) fn enqueue<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    stream: Stream,
) -> Result<(), Corruption> {
    let entry = segment.extent(extent)?;
    if entry.last_expiry.load() != 0 {
        entry.last_expiry.store::<S>(0);
    }
    if entry.stream.load() != stream.word() {
        entry.stream.store::<S>(stream.word());
    }
    put_last(segment, extent)
}

/// Puts an extent at the end of its queue: once more when it is taken on or left, for one may be
/// filled slowly.
pub(crate) fn put_last<S: Shim>(segment: &Segment<S>, extent: u32) -> Result<(), Corruption> {
    if segment.evicts {
        let next = segment.superblock().next_sequence.fetch_add::<S>(1);
        segment.extent(extent)?.sequence.store::<S>(next);
    }
    Ok(())
}

/// The word of an extent that was filled so far and is left: handed on with what is left of it, or
/// sealed if that is little.
pub(super) fn left(word: ExtentWord, capacity: u32) -> ExtentWord {
    if word.live > 0 && capacity.saturating_sub(word.used) >= capacity / HAND_ON_PART {
        ExtentWord { state: ExtentState::Open, owner: None, ..word }
    } else {
        sealed(word)
    }
}

/// The word of an extent that takes no more items: free at once if it holds none.
pub(crate) fn sealed(word: ExtentWord) -> ExtentWord {
    if word.live == 0 {
        ExtentWord::FREE
    } else {
        ExtentWord { state: ExtentState::Sealed, owner: None, ..word }
    }
}

/// Whether an extent is free, has memory, and is pinned by nobody.
pub(crate) fn can_be_claimed<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
) -> Result<bool, Corruption> {
    Ok(segment.is_free(extent)?
        && segment.generation(extent)?.load() != 0
        && !pin::is_pinned(segment, extent)?)
}

/// With more free extents than these nobody cleans ahead of need. Where eviction makes room there
/// is always more to be had, and what is free is wasted.
fn plenty<S: Shim>(segment: &Segment<S>) -> u32 {
    let spare = if segment.evicts { 0 } else { segment.geometry.extents / PLENTY_PART };
    segment.kept_with_memory() + 1 + spare
}

/// Whether so few extents are free, or left of a group's quota, that it is worth to clean ahead of
/// need.
pub(crate) fn is_short_of_extents<S: Shim>(
    segment: &Segment<S>,
    group: u8,
) -> Result<bool, Corruption> {
    if quota::left(segment, group)?.is_some_and(|left| left <= quota::SHORT) {
        return Ok(true);
    }
    let extents = segment.geometry.extents;
    // It grows from the first to the last.
    if segment.generation(extents - 1)?.load() == 0 {
        return Ok(false);
    }
    let plenty = plenty(segment).saturating_add(quota::kept_from(segment, group)?);
    let start = segment.superblock().lease_hint.load() as u32 % extents;
    let mut free = 0;
    for extent in (0..extents.min(FREE_LOOKED_MAX)).map(|i| (start + i) % extents) {
        free += u32::from(can_be_claimed(segment, extent)?);
        if free > plenty {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether what is kept for cleaners is there: free extents and what their destinations have left,
/// together an extent for each place, and one that is free. Asked after a claim: of two that claim
/// the last one to spare at least one gives it back.
pub(crate) fn reserve_stands<S: Shim>(segment: &Segment<S>) -> Result<bool, Corruption> {
    reserve_stands_without(segment, 0)
}

/// [`reserve_stands`], if one more extent were taken.
pub(crate) fn reserve_stands_for_more<S: Shim>(segment: &Segment<S>) -> Result<bool, Corruption> {
    reserve_stands_without(segment, segment.geometry.extent_units())
}

/// [`reserve_stands`], with `units` less in a destination.
fn reserve_stands_without<S: Shim>(segment: &Segment<S>, units: u32) -> Result<bool, Corruption> {
    let each = u64::from(segment.geometry.extent_units());
    let mut needed = u64::from(segment.kept_with_memory()) * each + u64::from(units);
    for cleaner in segment.cleaners() {
        needed = needed.saturating_sub(relocation::room(segment, cleaner)?.into());
    }
    let kept = needed.div_ceil(each).max(1);
    are_free(segment, kept)
}

/// Whether an extent is free at all.
fn one_is_free<S: Shim>(segment: &Segment<S>) -> Result<bool, Corruption> {
    are_free(segment, 1)
}

/// Whether so many extents are free at least.
pub(crate) fn are_free<S: Shim>(segment: &Segment<S>, kept: u64) -> Result<bool, Corruption> {
    let mut free = 0;
    let extents = segment.geometry.extents;
    let start = segment.superblock().lease_hint.load() as u32 % extents;
    for extent in (0..extents).map(|i| (start + i) % extents) {
        if can_be_claimed(segment, extent)? {
            free += 1;
            if free >= kept {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Takes a free extent for `owner` and bumps its generation: from then on no reader believes what
/// it read there before. The caller gives it its next state. `false` if somebody else has it, or
/// has it pinned, or it has no memory.
///
/// Dies after the claim: the entry names the dead owner; whoever reaps it frees the extent.
pub(crate) fn claim<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    owner: Owner,
) -> Result<bool, Corruption> {
    let claimed = ExtentWord {
        state: ExtentState::Claimed,
        owner: Some(ExtentWord::kept(owner)),
        ..ExtentWord::FREE
    };
    let cell = &segment.extent(extent)?.word;
    if cell.compare_exchange::<S>(ExtentWord::FREE.word(), claimed.word()).is_err() {
        return Ok(false);
    }
    if segment.generation(extent)?.load() == 0 {
        // It was trimmed since the caller looked at it.
        cell.store::<S>(ExtentWord::FREE.word());
        return Ok(false);
    }
    bump_generation(segment, extent)?;
    Ok(!pin::leave_if_pinned(segment, extent)?)
}

/// Makes readers of an extent's bytes look again; only for whoever has it alone.
pub(crate) fn bump_generation<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
) -> Result<(), Corruption> {
    let generation = segment.generation(extent)?;
    if !mutated::<S>(Mutation::SkipGenerationBump) {
        generation.store::<S>(generation.load().wrapping_add(1).max(1));
    }
    // SeqCst: whoever pins an extent publishes the pin, passes such a fence and reads the
    // generation; one of the two sees the other. As a Release fence it stands before the first
    // overwritten byte and pairs with the readers' Acquire fence.
    if !mutated::<S>(Mutation::SkipReuseFence) {
        fence(Ordering::SeqCst);
    }
    Ok(())
}

/// Gives extents from `first` on their memory: a step's worth, or the one if room is scarce.
pub(super) fn commission<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    first: u32,
) -> Result<(), NoRoom> {
    let geometry = &segment.geometry;
    let step = (GROWTH_STEP_BYTES / geometry.extent_bytes()).max(1) as u32;
    commission_range(segment, owner, first, step.min(geometry.extents - first))
        .or_else(|_| commission_range(segment, owner, first, 1))
}

/// Gives a range of extents their memory. Two clients may do it at once: it changes nothing that
/// is there already. An extent that somebody has, or trims meanwhile, is left as it is.
pub(crate) fn commission_range<S: Shim>(
    segment: &Segment<S>,
    owner: Owner,
    first: u32,
    count: u32,
) -> Result<(), NoRoom> {
    let mut bare = Vec::new();
    for extent in first..first + count {
        let entry = segment.extent(extent)?;
        // In this order: one that is being trimmed is claimed, and any later trim changes the
        // number. Pairs with the Release stores in `trim`.
        let trimmed = entry.trimmed_generation.load_acquire();
        if segment.generation(extent)?.load_acquire() == 0
            && entry.word.load_acquire() == ExtentWord::FREE.word()
        {
            bare.push((extent, trimmed));
        }
    }
    let (Some((first_bare, _)), Some((last_bare, _))) = (bare.first(), bare.last()) else {
        return Ok(());
    };
    let bytes = u64::from(last_bare + 1 - first_bare) << segment.geometry.extent_shift;
    segment
        .region
        .commission(segment.geometry.extent_offset(*first_bare), bytes)
        .map_err(NoRoom::Grow)?;
    let claimed = ExtentWord {
        state: ExtentState::Claimed,
        owner: Some(ExtentWord::kept(owner)),
        ..ExtentWord::FREE
    };
    for (extent, trimmed) in bare {
        let entry = segment.extent(extent)?;
        let generation = segment.generation(extent)?;
        // While it is claimed nobody trims it. Dies then: it is claimed by a dead client, whose
        // reaper frees it, with its generation or without.
        if entry.word.compare_exchange::<S>(ExtentWord::FREE.word(), claimed.word()).is_err() {
            continue;
        }
        if generation.load() == 0 && entry.trimmed_generation.load() == trimmed {
            generation.store::<S>(trimmed.wrapping_add(1).max(1));
        }
        entry.word.store::<S>(ExtentWord::FREE.word());
    }
    Ok(())
}

/// Whether one free extent is enough for cleaners.
fn at_last<S: Shim>(segment: &Segment<S>, reach: Reach) -> bool {
    reach == Reach::Last && !segment.evicts
}
