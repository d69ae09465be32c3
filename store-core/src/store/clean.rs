//! Cleaning: extents with many dead bytes are emptied, their live items moved to where they lie
//! close together. Readers and writers go on meanwhile.
//!
//! Moving an item is a put of the same bytes under the same stamp, all of it under the guard of its
//! stripe: copied, then published by one store of the slot. The last item that leaves a sealed
//! extent frees it. An extent that a crash left with units counted too often is
//! walked with each item's guard held, and freed at the end whatever it counts.

use std::marker::PhantomData;
use std::time::Duration;

use super::evict::{Next, Verdict};
use super::{Session, Store};
use crate::arena::reserve::{self, Reach};
use crate::arena::{in_flight, lease, pin, relocation, retire, run};
use crate::error::{Corruption, WriteError};
use crate::index::change;
use crate::index::lookup::prefetch_bucket;
use crate::index::search::{Standing, find_slot};
use crate::layout::{
    Cleaner, ExtentState, ExtentWord, Header, Queue, RunTail, Slot, Victim, flags,
};
use crate::recovery::is_dead;
use crate::region::Shim;
use crate::sync::{Guard, WaitLimit};

/// Extents that are compared to find the one with the most to gain.
const CANDIDATES_MAX: u32 = 4096;
/// Victims that are tried before it is said that nothing can be gained.
const VICTIMS_MAX: usize = 64;
/// An extent is emptied for the sake of this part of it at least.
pub(super) const GAIN_PART_MIN: u64 = 16;
/// An open extent that has an owner, for this part of it.
const GAIN_PART_MIN_OWNED: u32 = 4;
/// How long the guard of an item is waited for; then its extent stays as it is, for now.
const GUARD_WAIT: WaitLimit = WaitLimit::For(Duration::from_millis(2));
/// How many times an extent's bytes are hashed as keys before a walk is given up.
const HASHED_FACTOR: u64 = 64;
/// What a look at an item costs, and what moving one costs besides its bytes: in bytes of moving,
/// by the time that each takes.
const LOOK_BYTES: u64 = 32;
const MOVE_BYTES: u64 = 256;
/// Bytes that are moved for one that is owed, where an extent is emptied of a cache in which much is
/// dead.
const CACHE_MOVES: u64 = 3;
/// Items whose buckets are asked for ahead of looking at them.
const AHEAD: usize = 32;
/// The same where each put evicts about one.
const AHEAD_EVICTED: usize = 2;

/// What a step of cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// An extent is free.
    Freed,
    /// The budget was used up.
    Working,
    /// There is nothing to gain, or no room to move anything to.
    Nothing,
}

/// How a walk over a victim ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walked {
    /// It is free, or was made another use of meanwhile.
    Freed,
    /// The budget was used up.
    Stopped,
    /// Something in it could not be moved, or may still be published.
    Held,
    /// There is no room to move its items to.
    NoRoom,
}

/// What an extent is emptied for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Room is short, or will be soon: something may be evicted. An extent that gives less units is
    /// left.
    Need { least: u32 },
    /// That what is dead takes no room: nothing goes that lives.
    Order,
}

/// What to empty next.
enum Chosen {
    /// This extent, from a unit on.
    Victim(Victim, u32),
    /// A large item went, with its extents.
    Freed,
    Nothing,
}

/// What became of one item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// It is elsewhere now.
    Done,
    /// It is gone: evicted, or expired.
    Gone,
    /// No slot leads to it.
    Dead,
    NoRoom,
}

/// A place in the arena that may hold an item of a victim.
struct Candidate {
    item: u64,
    header: Header,
    hash: u64,
    slot: Slot,
}

/// A cleaner's place, given back when dropped.
struct Cleaning<'a, S: Shim> {
    cleaner: &'a Cleaner,
    guard: Guard<'a>,
    shim: PhantomData<S>,
}

impl<S: Shim> Drop for Cleaning<'_, S> {
    fn drop(&mut self) {
        self.guard.release::<S>();
    }
}

impl<S: Shim> Store<S> {
    /// Empties up to `extents` extents, those with the most dead bytes first; how many it did.
    /// Writers that find no room do it themselves; a service that does it ahead of need spares
    /// them the work. Moves less than an extent's bytes for each.
    ///
    /// # Errors
    /// `Stuck` if every cleaner's place is held by a process that does not let go; `Corruption`.
    pub fn clean(&self, session: &Session, extents: u32) -> Result<u32, WriteError> {
        let mut done = 0;
        while done < extents {
            let held = self.cleaners_place(session, session.wait_limit())?;
            let why = if lease::is_short_of_extents(&self.segment)? {
                Why::Need { least: self.gain_min() }
            } else {
                Why::Order
            };
            let mut all = u64::MAX;
            if self.clean_some(session, held.cleaner, why, &mut all)? != Step::Freed {
                break;
            }
            done += 1;
        }
        self.tell_gone(session);
        Ok(done)
    }

    /// Empties one extent; `false` if there is nothing to gain.
    ///
    /// # Errors
    /// `Stuck` if what could be gained is held back by a process that does not let go of a guard.
    pub(super) fn clean_in_need(&self, session: &Session) -> Result<bool, WriteError> {
        self.clean_for(session, self.gain_min())
    }

    /// Units that emptying an extent must give.
    fn gain_min(&self) -> u32 {
        self.segment.geometry.extent_units() / GAIN_PART_MIN as u32
    }

    /// [`Store::clean_in_need`] for the sake of `least` units.
    pub(super) fn clean_for(&self, session: &Session, least: u32) -> Result<bool, WriteError> {
        let held = self.cleaners_place(session, session.wait_limit())?;
        let mut all = u64::MAX;
        Ok(self.clean_some(session, held.cleaner, Why::Need { least }, &mut all)? == Step::Freed)
    }

    /// Moves up to `budget` bytes ahead of need, if a place is to be had at once; what is left of
    /// them stays in it.
    pub(super) fn clean_ahead(
        &self,
        session: &Session,
        budget: &mut u64,
    ) -> Result<Step, WriteError> {
        match self.cleaners_place(session, WaitLimit::Try) {
            Ok(held) => {
                let why = Why::Need { least: self.gain_min() };
                self.clean_some(session, held.cleaner, why, budget)
            }
            // Others are at it.
            Err(_) => Ok(Step::Working),
        }
    }

    /// Takes the guard of a cleaner's place: the first that is free, or waits for one.
    ///
    /// Nothing needs repair behind a dead cleaner: what it named is looked at anew.
    fn cleaners_place(
        &self,
        session: &Session,
        limit: WaitLimit,
    ) -> Result<Cleaning<'_, S>, WriteError> {
        self.assert_usable(session);
        let segment = &self.segment;
        let places = segment.cleaners();
        let first = session.client() as usize % places.len();
        let acquire = |place: usize, limit| {
            let (guard, _) = self.acquire(session, limit, || segment.cleaner_guard(place))?;
            Ok(Cleaning { cleaner: &places[place], guard, shim: PhantomData })
        };
        for place in (0..places.len()).map(|at| (first + at) % places.len()) {
            if let Ok(held) = acquire(place, WaitLimit::Try) {
                return Ok(held);
            }
        }
        acquire(first, limit)
    }

    /// Goes on with the victim of a place, or chooses one, until an extent is free or about
    /// `budget` bytes were moved.
    fn clean_some(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        why: Why,
        budget: &mut u64,
    ) -> Result<Step, WriteError> {
        let least = match why {
            Why::Need { least } => least,
            Why::Order => self.gain_min(),
        };
        let mut tried = [u32::MAX; VICTIMS_MAX];
        // Whether a guard that could not be had was in the way of a victim.
        let mut stuck = None;
        for at in 0..VICTIMS_MAX {
            let chosen = match self.current_victim(cleaner)? {
                Some((victim, from)) => Chosen::Victim(victim, from),
                None if self.segment.evicts => {
                    self.choose_to_evict(session, cleaner, why, &tried[..at])?
                }
                None => match self.choose_victim(session, cleaner, least, &tried[..at])? {
                    Some(victim) => Chosen::Victim(victim, 0),
                    None => Chosen::Nothing,
                },
            };
            let (victim, from) = match chosen {
                Chosen::Victim(victim, from) => (victim, from),
                Chosen::Freed => return Ok(Step::Freed),
                Chosen::Nothing => break,
            };
            let was_suspect = self.is_suspect(victim.extent)?;
            // One guard is waited for; behind it, what can't be had at once is left.
            let limit = if stuck.is_none() { GUARD_WAIT } else { WaitLimit::Try };
            let walked = self.walk_victim(session, cleaner, (victim, from), limit, budget);
            if !matches!(walked, Ok(Walked::Stopped)) {
                cleaner.set_victim::<S>(None);
            }
            let walked = match walked {
                Err(error @ WriteError::Stuck { .. }) => {
                    stuck = Some(error);
                    Walked::Held
                }
                walked => walked?,
            };
            match walked {
                Walked::Freed => {
                    cleaner.emptied.store::<S>(cleaner.emptied.load().wrapping_add(1));
                    return Ok(Step::Freed);
                }
                Walked::Stopped => return Ok(Step::Working),
                // One that turned out to count too much is tried again, as such.
                Walked::Held if !was_suspect && self.is_suspect(victim.extent)? => {}
                Walked::Held => tried[at] = victim.extent,
                // Another one gives an extent back.
                Walked::NoRoom if run::tail_units(&self.segment, victim.extent)? > 0 => {
                    tried[at] = victim.extent;
                }
                Walked::NoRoom => break,
            }
        }
        stuck.map_or(Ok(Step::Nothing), Err)
    }

    /// The victim that was begun, if it is still the extent that was meant. One that became suspect
    /// since is chosen anew, to be recounted.
    fn current_victim(&self, cleaner: &Cleaner) -> Result<Option<(Victim, u32)>, Corruption> {
        let Some((victim, from)) = cleaner.victim() else { return Ok(None) };
        let goes_on =
            self.stands(victim)? && (victim.recount || !self.is_suspect(victim.extent)?);
        Ok(goes_on.then_some((victim, from)))
    }

    /// Whether a victim is still sealed and in the same use.
    fn stands(&self, victim: Victim) -> Result<bool, Corruption> {
        Ok(victim.extent < self.segment.geometry.extents
            && self.segment.extent_word(victim.extent)?.state == ExtentState::Sealed
            && self.segment.generation(victim.extent)?.load() == victim.generation)
    }

    fn is_suspect(&self, extent: u32) -> Result<bool, Corruption> {
        Ok(self.segment.extent_word(extent)?.suspect)
    }

    /// Chooses the extent with the most to gain, suspects first, seals it and names it.
    fn choose_victim(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        least: u32,
        tried: &[u32],
    ) -> Result<Option<Victim>, Corruption> {
        let segment = &self.segment;
        let capacity = segment.geometry.extent_units();
        let extents = segment.geometry.extents;
        let looked = extents.min(CANDIDATES_MAX);
        let start = if looked < extents { session.next_candidates(looked) % extents } else { 0 };
        // A victim that was begun must be emptied: either it fits, or there is another extent.
        let (places, mut free) = (segment.geometry.cleaners(), 0);
        for extent in (0..extents).map(|i| (start + i) % extents) {
            free += u32::from(lease::can_be_claimed(segment, extent)?);
            if free > places {
                break;
            }
        }
        let spare = free > 0;
        if spare {
            relocation::leave_useless(segment, cleaner)?;
        }
        let rest = relocation::room(segment, cleaner)?;
        let mut best: Option<(u32, u32)> = None;
        for extent in (0..looked).map(|i| (start + i) % extents) {
            let word = segment.extent_word(extent)?;
            let gain = gain(word, segment.queue(extent)?, capacity, least);
            if gain > best.map_or(0, |(_, gain)| gain)
                && !tried.contains(&extent)
                && !self.is_victim_elsewhere(cleaner, extent)
            {
                // One with the end of a run will not be free.
                let end = run::tail_units(segment, extent)?;
                let fresh = if end == 0 { spare } else { free > places };
                let room = if fresh { capacity } else { rest };
                if word.live.saturating_sub(end) <= room
                    || word.suspect && self.standing_units(extent)? <= room
                {
                    best = Some((extent, gain));
                }
            }
        }
        let extent = match best {
            Some((extent, _)) => extent,
            None if spare => match relocation::leave_for(segment, cleaner, least)? {
                Some(extent) => extent,
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        if gain(segment.extent_word(extent)?, segment.queue(extent)?, capacity, least) == 0 {
            return Ok(None);
        }
        self.make_victim(cleaner, extent, false)
    }

    /// Units of the items in an extent that slots lead to, where the count may be too high. Without
    /// guards no more than a hint.
    fn standing_units(&self, extent: u32) -> Result<u32, Corruption> {
        let segment = &self.segment;
        let base = segment.geometry.extent_offset(extent);
        let generation = segment.generation(extent)?.load();
        let victim = Victim { extent, generation, recount: true, evict: false };
        let stamps = segment.superblock().next_stamp.load();
        let end = u64::from(segment.extent_word(extent)?.used) * 8;
        let mut at = u64::from(run::start_units(segment, extent)?) * 8;
        let (mut key, mut hashed, mut standing) = (Vec::new(), 0, 0);
        while at + 16 <= end && hashed <= HASHED_FACTOR * segment.geometry.extent_bytes() {
            at += match self.candidate(victim, base + at, end - at, stamps, &mut key)? {
                Some(Candidate { header, hash, slot, .. }) => {
                    hashed += key.len() as u64;
                    match find_slot(segment, slot, hash)? {
                        Some(_) => {
                            standing += header.shape().bytes;
                            header.shape().bytes
                        }
                        None => 8,
                    }
                }
                None => 8,
            };
        }
        Ok((standing / 8) as u32)
    }

    /// Chooses the next extent that eviction makes room in.
    fn choose_to_evict(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        why: Why,
        tried: &[u32],
    ) -> Result<Chosen, WriteError> {
        relocation::leave_useless(&self.segment, cleaner)?;
        let usable = |next: &Next| {
            (!next.evict || why != Why::Order)
                && !tried.contains(&next.extent)
                && !self.is_victim_elsewhere(cleaner, next.extent)
        };
        for _ in 0..VICTIMS_MAX {
            let Some(next) = self.next_in_order(session, usable)? else { break };
            if self.segment.extent_word(next.extent)?.state == ExtentState::RunHead {
                match self.evict_run(session, next.extent, GUARD_WAIT) {
                    Ok(true) => return Ok(Chosen::Freed),
                    Ok(false) | Err(WriteError::Stuck { .. }) => {}
                    Err(error) => return Err(error),
                }
            } else if let Some(victim) = self.make_victim(cleaner, next.extent, next.evict)? {
                return Ok(Chosen::Victim(victim, 0));
            }
        }
        Ok(Chosen::Nothing)
    }

    /// Seals an extent and names it the victim of a place. `None` if it changed meanwhile, or is of
    /// a kind that is not emptied.
    fn make_victim(
        &self,
        cleaner: &Cleaner,
        extent: u32,
        evict: bool,
    ) -> Result<Option<Victim>, Corruption> {
        let segment = &self.segment;
        let generation = segment.generation(extent)?.load();
        let cell = &segment.extent(extent)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        match word.state {
            ExtentState::Sealed => {}
            ExtentState::Open
                if cell.compare_exchange::<S>(found, lease::sealed(word).word()).is_ok() => {}
            _ => return Ok(None),
        }
        let recount =
            word.suspect && !in_flight::may_publish(segment, extent, |o| is_dead(segment, o))?;
        let victim = Victim { extent, generation, recount, evict };
        cleaner.set_victim::<S>(Some(victim));
        Ok(Some(victim))
    }

    /// Empties this extent; whether it did.
    ///
    /// # Errors
    /// As for [`Store::clean_in_need`].
    pub(super) fn empty_extent(&self, session: &Session, extent: u32) -> Result<bool, WriteError> {
        let held = self.cleaners_place(session, session.wait_limit())?;
        let cleaner = held.cleaner;
        if self.is_victim_elsewhere(cleaner, extent) {
            return Ok(false);
        }
        // What was begun is chosen again, by what is left of it.
        let Some(victim) = self.make_victim(cleaner, extent, false)? else { return Ok(false) };
        let mut budget = u64::MAX;
        let walked = self.walk_victim(session, cleaner, (victim, 0), GUARD_WAIT, &mut budget);
        cleaner.set_victim::<S>(None);
        Ok(walked? == Walked::Freed)
    }

    fn is_victim_elsewhere(&self, cleaner: &Cleaner, extent: u32) -> bool {
        self.segment.cleaners().iter().any(|other| {
            !std::ptr::eq(other, cleaner)
                && other.victim().is_some_and(|(victim, _)| victim.extent == extent)
        })
    }

    /// Moves what lives in `victim`, from unit `from` on.
    fn walk_victim(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        (victim, from): (Victim, u32),
        limit: WaitLimit,
        budget: &mut u64,
    ) -> Result<Walked, WriteError> {
        let segment = &self.segment;
        let base = segment.geometry.extent_offset(victim.extent);
        let stamps = segment.superblock().next_stamp.load();
        let mut key = Vec::new();
        let mut hashed = 0;
        // A step of a put's was asked for when the last one stopped.
        let small_step = victim.evict && *budget < u64::MAX;
        let mut asked_for = if small_step && from > 0 { u64::MAX } else { 0 };
        let ahead = if small_step { AHEAD_EVICTED } else { AHEAD };
        let mut at = u64::from(from.max(run::start_units(segment, victim.extent)?)) * 8;
        loop {
            if !self.stands(victim)? {
                return Ok(Walked::Freed);
            }
            let end = u64::from(segment.extent_word(victim.extent)?.used) * 8;
            if at + 16 > end {
                break;
            }
            if *budget == 0 {
                return self.stop(cleaner, victim, (at, end), stamps, &mut key);
            }
            if at >= asked_for {
                asked_for = self.ask_ahead(victim, (at, end), ahead, stamps, &mut key)?;
            }
            let found = self.candidate(victim, base + at, end - at, stamps, &mut key)?;
            let Some(candidate) = found else {
                *budget = budget.saturating_sub(self.cost(victim, Moved::Dead, 8));
                at += 8;
                continue;
            };
            // Keys that lie over each other, which only bytes made for it do.
            hashed += key.len() as u64;
            if hashed > HASHED_FACTOR * segment.geometry.extent_bytes() {
                return Ok(Walked::Held);
            }
            let bytes = candidate.header.shape().bytes;
            // A large item waits until enough is owed.
            if bytes > *budget {
                return self.stop(cleaner, victim, (at, end), stamps, &mut key);
            }
            let moved = self.move_item(session, cleaner, victim, limit, &candidate)?;
            *budget = budget.saturating_sub(self.cost(victim, moved, bytes));
            if victim.evict {
                session.eviction_order.walked(bytes, moved != Moved::Done);
            }
            at += match moved {
                Moved::Done | Moved::Gone => bytes,
                // What looks like an item may be bytes that a crash left; a live one may begin
                // within them.
                Moved::Dead if victim.recount => 8,
                Moved::Dead => bytes,
                Moved::NoRoom => return Ok(Walked::NoRoom),
            };
        }
        match run::run_that_ends_in(segment, victim.extent)? {
            Some((head, _)) => self.reopen(session, victim, head, limit),
            None => self.finish_victim(victim),
        }
    }

    /// What a look at an item of `bytes` takes off a budget, or of a place where none is.
    fn cost(&self, victim: Victim, moved: Moved, bytes: u64) -> u64 {
        match moved {
            // In cache mode budgets are bytes that are walked.
            _ if victim.evict => bytes,
            _ if self.segment.evicts => bytes / CACHE_MOVES,
            Moved::Done => bytes + MOVE_BYTES,
            Moved::Gone => MOVE_BYTES,
            Moved::Dead | Moved::NoRoom => LOOK_BYTES,
        }
    }

    /// Stops a walk at byte `at`. What the next step looks at is asked for, so that it is there then.
    fn stop(
        &self,
        cleaner: &Cleaner,
        victim: Victim,
        (at, end): (u64, u64),
        stamps: u64,
        key: &mut Vec<u8>,
    ) -> Result<Walked, WriteError> {
        cleaner.set_cursor::<S>((at / 8) as u32);
        if victim.evict {
            self.ask_ahead(victim, (at, end), AHEAD_EVICTED, stamps, key)?;
        }
        Ok(Walked::Stopped)
    }

    /// Opens an extent anew that holds the end of a run and nothing else: from there on.
    ///
    /// Dies after the generation was counted up: it is sealed as before.
    fn reopen(
        &self,
        session: &Session,
        victim: Victim,
        head: u32,
        limit: WaitLimit,
    ) -> Result<Walked, WriteError> {
        let segment = &self.segment;
        let item = segment.geometry.extent_offset(head);
        let mut key = Vec::new();
        // One that is not settled may have no key yet.
        if segment.extent_word(head)?.owner.is_some()
            || segment
                .header(item)
                .and_then(|header| segment.copy_key(item, header, &mut key))
                .is_err()
        {
            return Ok(Walked::Held);
        }
        // Under its guard the run stays.
        let _held = self.hold_within(session, segment.hasher.hash(&key), limit)?;
        let cell = &segment.extent(victim.extent)?.word;
        let found = cell.load_acquire();
        let word = ExtentWord::of(found);
        let units = match run::run_that_ends_in(segment, victim.extent)? {
            Some((now, run)) if now == head && run.owner.is_none() => run.live,
            _ => return Ok(Walked::Held),
        };
        if !self.stands(victim)? {
            return Ok(Walked::Freed);
        }
        if !victim.recount && word.live != units {
            return self.held_back(victim, found);
        }
        lease::bump_generation(segment, victim.extent)?;
        lease::put_last(segment, victim.extent)?;
        let start = RunTail { head: Some(head), room: units }.word();
        segment.extent(victim.extent)?.run_tail.store::<S>(start);
        let open = ExtentWord {
            state: ExtentState::Open,
            owner: None,
            suspect: false,
            live: units,
            used: units,
        };
        if pin::is_pinned(segment, victim.extent)?
            || cell.compare_exchange::<S>(found, open.word()).is_err()
        {
            return Ok(Walked::Held);
        }
        segment.superblock().orphan_hint.store::<S>(victim.extent.into());
        Ok(Walked::Freed)
    }

    /// Units that no item takes: somebody is about to publish, or nobody ever will.
    fn held_back(&self, victim: Victim, found: u64) -> Result<Walked, WriteError> {
        let segment = &self.segment;
        if !in_flight::may_publish(segment, victim.extent, |o| is_dead(segment, o))? {
            let suspect = ExtentWord { suspect: true, ..ExtentWord::of(found) };
            let _ =
                segment.extent(victim.extent)?.word.compare_exchange::<S>(found, suspect.word());
        }
        Ok(Walked::Held)
    }

    /// At the end of a walk that moved everything that it found.
    fn finish_victim(&self, victim: Victim) -> Result<Walked, WriteError> {
        let segment = &self.segment;
        let cell = &segment.extent(victim.extent)?.word;
        loop {
            let found = cell.load_acquire();
            if !self.stands(victim)? {
                return Ok(Walked::Freed);
            }
            if !victim.recount {
                return self.held_back(victim, found);
            }
            if cell.compare_exchange::<S>(found, ExtentWord::FREE.word()).is_ok() {
                return Ok(Walked::Freed);
            }
        }
    }

    /// Prefetches the buckets of the next items from byte `at` on: their cache misses overlap. Gives
    /// the byte behind the last of them.
    fn ask_ahead(
        &self,
        victim: Victim,
        (mut at, end): (u64, u64),
        items: usize,
        stamps: u64,
        key: &mut Vec<u8>,
    ) -> Result<u64, Corruption> {
        let segment = &self.segment;
        let base = segment.geometry.extent_offset(victim.extent);
        for _ in 0..items {
            if at + 16 > end {
                break;
            }
            at += match self.candidate(victim, base + at, end - at, stamps, key)? {
                Some(candidate) => {
                    prefetch_bucket(segment, candidate.hash);
                    segment.heat.prefetch(&segment.region, candidate.hash);
                    segment.ghost.prefetch(&segment.region, candidate.hash);
                    candidate.header.shape().bytes
                }
                None => 8,
            };
        }
        Ok(at)
    }

    /// What looks like an item at `item`, with at most `room` bytes.
    fn candidate(
        &self,
        victim: Victim,
        item: u64,
        room: u64,
        stamps: u64,
        key: &mut Vec<u8>,
    ) -> Result<Option<Candidate>, Corruption> {
        let segment = &self.segment;
        let stamp = segment.stamp(item)?;
        let header = segment.header(item)?;
        if stamp == 0
            // The last one of a block is where the next block begins.
            || stamp > stamps
            || header.flags & !flags::KNOWN != 0
            || header.namespace != 0
            || header.shape().bytes > room
        {
            return Ok(None);
        }
        segment.copy_key(item, header, key)?;
        let hash = segment.hasher.hash(key);
        let shift = segment.geometry.slot_hash_shift;
        let slot = Slot::of_item(item, victim.generation, hash, shift);
        Ok(Some(Candidate { item, header, hash, slot }))
    }

    /// Moves one item, if its slot leads to it, all of it under its guard: so nothing is reserved in
    /// the destination that will not be used.
    ///
    /// # Errors
    /// `Stuck` if its guard could not be had within `limit`: the item stays where it is.
    ///
    /// Dies before the slot is stored: the copy is dead room, named by `in_flight` and the intent.
    /// After it: the item is where it was moved to, and the victim suspect.
    fn move_item(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        victim: Victim,
        limit: WaitLimit,
        candidate: &Candidate,
    ) -> Result<Moved, WriteError> {
        let Candidate { item, header, hash, slot } = *candidate;
        let segment = &self.segment;
        // Without a guard no more than a hint, unless the extent is recounted.
        if !victim.recount && find_slot(segment, slot, hash)?.is_none() {
            return Ok(Moved::Dead);
        }
        let held = self.hold_within(session, hash, limit)?;
        let Some(at) = find_slot(segment, slot, hash)? else { return Ok(Moved::Dead) };
        let standing = Standing { at, slot, header };
        if self.is_expired(item, header)? {
            self.remove_expired(&held, &standing)?;
            return Ok(Moved::Gone);
        }
        let bytes = header.shape().bytes;
        let units = bytes / 8;
        let queue = segment.queue(victim.extent)?;
        let stays = if segment.evicts {
            self.verdict(queue, hash, victim.evict.then_some((cleaner, units)))
        } else {
            Verdict::Stays { queue: Queue::Main, hits: None }
        };
        let reserved = match stays {
            Verdict::Goes => None,
            Verdict::Stays { queue: Queue::Main, .. } => {
                // An extent with the end of a run will not be free: none is taken from others for it.
                let kept = match run::tail_units(segment, victim.extent)? {
                    1.. if !segment.evicts => segment.geometry.cleaners(),
                    _ => 0,
                };
                relocation::reserve(segment, cleaner, session.owner(), (units as u32, kept))?
            }
            Verdict::Stays { queue: Queue::Small, .. } => {
                reserve::reserve(segment, &session.lease, (bytes, Queue::Small), Reach::Own).ok()
            }
        };
        let Some(place) = reserved else {
            if !segment.evicts {
                return Ok(Moved::NoRoom);
            }
            self.evict(&held, (&standing, hash), queue)?;
            return Ok(Moved::Gone);
        };
        let to = segment.region.words(place.offset, units)?;
        for (from, to) in segment.region.words(item, units)?.iter().zip(to) {
            to.store_unpublished::<S>(from.load());
        }
        let shift = segment.geometry.slot_hash_shift;
        let new = Slot::of_item(place.offset, place.generation, hash, shift);
        held.arm_swap(&standing, new);
        change::overwrite(segment, at, new)?;
        retire::retire(segment, slot)?;
        held.record.disarm::<S>();
        let moved = cleaner.moved_bytes.load().wrapping_add(bytes);
        cleaner.moved_bytes.store::<S>(moved);
        if let Verdict::Stays { hits: Some(hits), .. } = stays {
            self.go_on(queue, hash, hits);
            cleaner.victim_moved.store::<S>(cleaner.victim_moved.load().saturating_add(units));
        }
        Ok(Moved::Done)
    }
}

/// What emptying an extent gives, in units; 0 for one that gives less than `least`, or takes no
/// cleaning. The end that an extent has left counts if puts filled it, not if cleaning did: it was
/// too short for what was moved, and would be again.
fn gain(word: ExtentWord, filled: Queue, capacity: u32, least: u32) -> u32 {
    let (gain, least) = match word.state {
        // A suspect may hold nothing at all.
        ExtentState::Sealed | ExtentState::Open if word.suspect => (capacity + 1, 0),
        ExtentState::Sealed if filled == Queue::Main => {
            (word.used.saturating_sub(word.live), least)
        }
        ExtentState::Sealed => (capacity.saturating_sub(word.live), least),
        ExtentState::Open if word.owner.is_none() => (word.used.saturating_sub(word.live), least),
        ExtentState::Open => (word.used.saturating_sub(word.live), capacity / GAIN_PART_MIN_OWNED),
        _ => (0, 0),
    };
    if gain >= least.max(1) { gain } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::arena::reserve::{Reach, reserve};
    use crate::config::CreateOptions;
    use crate::region::Mutation;
    use crate::store::{Condition, PutOptions, private_on_heap};

    /// What happens before a store of a write: the number of stores until then, and the deed.
    type Interruption = Option<(usize, Box<dyn FnOnce()>)>;

    thread_local! {
        static INTERRUPTION: RefCell<Interruption> = const { RefCell::new(None) };
    }

    fn interrupt() {
        let due = INTERRUPTION.with_borrow_mut(|interruption| match interruption {
            Some((0, _)) => interruption.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some((_, deed)) = due {
            deed();
        }
    }

    struct Interrupted;

    impl Shim for Interrupted {
        const OBSERVES: bool = true;

        fn before_store(_: usize, _: u64, _: usize) {
            interrupt();
        }
    }

    struct WithoutNotes;

    impl Shim for WithoutNotes {
        const OBSERVES: bool = true;
        const MUTATION: Option<Mutation> = Some(Mutation::SkipInFlight);

        fn before_store(_: usize, _: u64, _: usize) {
            interrupt();
        }
    }

    fn value(key: u64, turn: u64) -> Vec<u8> {
        (0..200).map(|i| (key * 31 + turn * 7 + i) as u8).collect()
    }

    #[test]
    fn what_dies_in_a_destination_is_room() {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(600);
        let store: Store = private_on_heap(&options, 3).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        let put = |key: u64| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &value(key, 0), &options, always)
        };
        let refused = (0..).find(|key| put(*key).is_err()).expect("it fills up");
        let mut standing: Vec<u64> = (0..refused).collect();
        let mut random = 1_u64;
        for key in refused..refused + 1000 {
            // One in thirty or so was just moved; in an even order it would never be such a one.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % standing.len();
            assert!(store.delete(&session, &standing[at].to_le_bytes()).expect("no guard is held"));
            standing[at] = key;
            put(key).expect("as much was deleted");
        }
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }

    /// Items that leave a tenth of each extent: a place for none of them.
    #[test]
    fn ends_that_no_item_fits_in_are_no_gain() {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
        let store: Store = private_on_heap(&options, 3).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        let put = |key: u64| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &[1; 440], &options, always)
        };
        let items = (0..).find(|key| put(*key).is_err()).expect("it fills up");
        let extents = store.segment.geometry.extents;
        // Once what puts have filled, which could have been of many sizes.
        assert!(store.clean(&session, 10 * extents).expect("cleaning") <= extents);
        let stats = store.stats().expect("stats");
        assert!(stats.dead_bytes > stats.arena_bytes / 16, "{stats:?}");
        assert_eq!(stats.room_items, 0);
        assert_eq!(store.clean(&session, u32::MAX).expect("cleaning"), 0);
        assert!(put(items).is_err());
        assert_eq!(store.stats().expect("stats").moved_bytes, stats.moved_bytes);
    }

    /// A cleaner that has the last free extent is killed between publishing and retiring: what is left
    /// of its victim fits, by what lives and not by what it counts.
    #[test]
    fn a_victim_that_counts_too_much_is_emptied_without_a_free_extent() {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
        let store: Store = private_on_heap(&options, 3).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        let put = |key: u64| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &value(key, 0), &options, always)
        };
        let items = (0..).find(|key| put(*key).is_err()).expect("it fills up");
        for key in 0..2_u64 {
            assert!(store.delete(&session, &key.to_le_bytes()).expect("no guard is held"));
        }
        let mut budget = 1000;
        assert_eq!(store.clean_ahead(&session, &mut budget).expect("cleaning"), Step::Working);
        assert_eq!(store.stats().expect("stats").extents_free, 0);
        let (victim, _) = store.segment.cleaners()[0].victim().expect("it was begun");
        let cell = &store.segment.extent(victim.extent).expect("an extent").word;
        let word = ExtentWord::of(cell.load());
        let too_much = ExtentWord { live: word.used, suspect: true, ..word };
        cell.store::<crate::region::Plain>(too_much.word());
        assert_eq!(store.clean(&session, 1).expect("cleaning"), 1);
        assert_eq!(store.stats().expect("stats").extents_free, 1);
        for key in 2..items {
            assert_eq!(store.get(&key.to_le_bytes()), Ok(Some(value(key, 0))));
        }
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }

    #[test]
    fn the_last_stamp_of_a_block_is_moved_like_any_other() {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
        let store: Store = private_on_heap(&options, 3).expect("a tiny store");
        let session = store.open_session().expect("an entry");
        for turn in 1..=4096 {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let key = if turn == 4096 { b"last" } else { b"over" };
            store.put(&session, key, &value(1, turn), &options, always).expect("a put");
        }
        let last = store.get_entry(b"last").expect("a lookup").expect("it was put");
        let next = store.segment.superblock().next_stamp.load();
        assert_eq!(last.version.to_string(), next.to_string());
        assert!(store.clean(&session, 100).expect("cleaning") > 0);
        assert_eq!(store.get(b"last"), Ok(Some(value(1, 4096))));
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }

    /// Somebody else recounts every extent and fills what that gives, before the n-th store of a
    /// put, for every n; each put must stand.
    fn recount_within_puts<S: Shim>() -> bool {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
        let store: &'static Store<S> =
            Box::leak(Box::new(private_on_heap(&options, 3).expect("a tiny store")));
        let session = store.open_session().expect("an entry");
        let other: &'static Session =
            Box::leak(Box::new(store.open_session().expect("another entry")));
        other.set_guard_deadline(Duration::from_millis(1));
        let put = |session: &Session, key: u64, turn: u64| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(session, &key.to_le_bytes(), &value(key, turn), &options, always)
        };
        for turn in 0..60 {
            put(&session, 1, turn).expect("a put");
            let deed = move || {
                for extent in 0..store.segment.geometry.extents {
                    let offset = store.segment.geometry.extent_offset(extent);
                    retire::mark_suspect(&store.segment, offset).expect("an extent");
                }
                // What is in the way of the interrupted put is no matter here.
                let _ = store.clean(other, 100);
                for key in 100..160 {
                    let value = value(key, turn);
                    let options = PutOptions::new();
                    let _ =
                        store.put(other, &key.to_le_bytes(), &value, &options, Condition::Always);
                }
            };
            INTERRUPTION.set(Some((turn as usize, Box::new(deed))));
            let done = put(&session, 2, turn);
            INTERRUPTION.take();
            if done.is_err()
                || store.get(&2_u64.to_le_bytes()) != Ok(Some(value(2, turn)))
                || store.get(&1_u64.to_le_bytes()) != Ok(Some(value(1, turn)))
                || !store.check(|_, _| {}).violations.is_empty()
            {
                return false;
            }
        }
        true
    }

    /// Somebody puts a large value whose end takes the room at the start of an extent that is being
    /// recounted, before the n-th store of the cleaner, for every n: the value must stand.
    #[test]
    fn a_recount_leaves_the_end_of_a_run_that_came_meanwhile() {
        for turn in 0..400 {
            let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
            let store: &'static Store<Interrupted> =
                Box::leak(Box::new(private_on_heap(&options, 3).expect("a tiny store")));
            let session: &'static Session =
                Box::leak(Box::new(store.open_session().expect("an entry")));
            let other = store.open_session().expect("another entry");
            let put = |key: u64, len: usize| {
                let (options, always) = (PutOptions::new(), Condition::Always);
                let value = vec![key as u8; len];
                store.put(session, &key.to_le_bytes(), &value, &options, always)
            };
            let extent_of = |key: u64| {
                let slot = store.look_up_hashed(
                    &key.to_le_bytes(),
                    store.segment.hasher.hash(&key.to_le_bytes()),
                    |item| Some(item.item),
                );
                let item = slot.expect("a lookup").expect("it is there");
                store.segment.geometry.extent_of(item).expect("in the arena")
            };
            // Two extents of small items, a large value, and small ones behind its end.
            for key in 0..20 {
                put(key, 376).expect("a put");
            }
            let first = extent_of(0);
            put(1000, 6000).expect("a large one");
            let head = extent_of(1000);
            for key in 100..105 {
                put(key, 376).expect("a put");
            }
            let shared = head + 1;
            assert_eq!(extent_of(104), shared);
            for key in (0..20).filter(|key| extent_of(*key) == first).collect::<Vec<_>>() {
                store.delete(session, &key.to_le_bytes()).expect("a delete");
            }
            store.delete(session, &1000_u64.to_le_bytes()).expect("a delete");
            assert_eq!(store.segment.extent_word(first), Ok(ExtentWord::FREE));
            assert_eq!(store.segment.extent_word(head), Ok(ExtentWord::FREE));
            // What a crash leaves: room that was reserved and will not be used.
            let left = reserve(&store.segment, &session.lease, (64, Queue::Small), Reach::Own)
                .expect("room");
            assert_eq!(store.segment.geometry.extent_of(left.offset), Some(shared));
            drop(left);
            let offset = store.segment.geometry.extent_offset(shared);
            retire::mark_suspect(&store.segment, offset).expect("an extent");
            let deed = move || {
                let (options, always) = (PutOptions::new(), Condition::Always);
                let value = vec![7; 6000];
                store.put(session, b"large", &value, &options, always).expect("there is room");
            };
            INTERRUPTION.set(Some((turn, Box::new(deed))));
            store.clean(&other, 1).expect("cleaning");
            if INTERRUPTION.take().is_some() {
                assert!(turn > 20, "{turn}");
                return;
            }
            assert_eq!(store.check(|_, _| {}).violations, [""; 0], "before store {turn}");
            // What is taken for free is written to.
            for key in 200..400 {
                let _ = put(key, 376);
            }
            let stands = store.get(b"large") == Ok(Some(vec![7; 6000]));
            assert!(stands, "before store {turn}");
        }
    }

    #[test]
    fn what_is_in_flight_is_not_recounted() {
        assert!(recount_within_puts::<Interrupted>());
    }

    #[test]
    fn negative_control_without_notes() {
        let stands = catch_unwind(AssertUnwindSafe(recount_within_puts::<WithoutNotes>));
        assert!(!stands.unwrap_or(false), "the test does not see the notes taken out");
    }
}
