//! Which extent is emptied next: the one with the most to gain, or in cache mode the next one in
//! order.

use super::clean::{VICTIMS_MAX, Why};
use super::evict::Next;
use super::walk::HASHED_FACTOR;
use super::{Session, Store};
use crate::arena::{in_flight, lease, quota, relocation};
use crate::error::{Corruption, WriteError};
use crate::layout::{Cleaner, ExtentState, ExtentWord, Queue, Victim};
use crate::recovery::is_dead;
use crate::region::Shim;

/// Extents that are compared to find the one with the most to gain.
const CANDIDATES_MAX: u32 = 4096;
/// An open extent that has an owner, for this part of it.
const GAIN_PART_MIN_OWNED: u32 = 4;

/// What to empty next.
pub(super) enum Chosen {
    /// This extent, from a unit on.
    Victim(Victim, u32),
    Nothing,
}

impl<S: Shim> Store<S> {
    /// What to empty for the sake of a group: of its own extents if its quota has no room for what is
    /// needed, else of those of the group without a quota, or of all in store mode, where nothing goes.
    /// If that gives nothing, the other of the two.
    pub(super) fn choose(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        (group, why, least): (u8, Why, u32),
        tried: &[u32],
    ) -> Result<Chosen, WriteError> {
        let left = quota::left(&self.segment, group)?;
        let own = left.is_some_and(|left| left <= quota::SHORT);
        let from = if own { group } else { 0 };
        let chosen = self.choose_of(session, cleaner, (from, why, least), tried)?;
        if group == 0 || !matches!(chosen, Chosen::Nothing) {
            return Ok(chosen);
        }
        let other = match left {
            // Others have not used up their quotas, and there is nothing without one.
            _ if !own && self.segment.evicts => group,
            // What is left of a quota is there, or others have it.
            Some(left) if own && left >= 1 && lease::is_short_of_extents(&self.segment, 0)? => 0,
            _ => return Ok(chosen),
        };
        self.choose_of(session, cleaner, (other, why, least), tried)
    }

    /// What to empty among the extents of one group; among all for group 0 of a store.
    fn choose_of(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        (group, why, least): (u8, Why, u32),
        tried: &[u32],
    ) -> Result<Chosen, WriteError> {
        if self.segment.group_evicts(group) {
            return self.choose_to_evict(session, cleaner, (group, why), tried);
        }
        let among = (self.segment.evicts || group != 0).then_some(group);
        let urgent = matches!(why, Why::Need { urgent: true, .. });
        Ok(match self.choose_victim(session, cleaner, (among, least, urgent), tried)? {
            Some(victim) => Chosen::Victim(victim, 0),
            None => Chosen::Nothing,
        })
    }

    /// The victim that was begun, if it is still the extent that was meant. One that became suspect
    /// since is chosen anew, to be recounted.
    pub(super) fn current_victim(
        &self,
        cleaner: &Cleaner,
    ) -> Result<Option<(Victim, u32)>, Corruption> {
        let Some((victim, from)) = cleaner.victim() else { return Ok(None) };
        let goes_on =
            self.stands(victim)? && (victim.recount || !self.is_suspect(victim.extent)?);
        Ok(goes_on.then_some((victim, from)))
    }

    /// Whether a victim is still sealed and in the same use.
    pub(super) fn stands(&self, victim: Victim) -> Result<bool, Corruption> {
        Ok(victim.extent < self.segment.geometry.extents
            && self.segment.extent_word(victim.extent)?.state == ExtentState::Sealed
            && self.segment.generation(victim.extent)?.load() == victim.generation)
    }

    pub(super) fn is_suspect(&self, extent: u32) -> Result<bool, Corruption> {
        Ok(self.segment.extent_word(extent)?.suspect)
    }

    /// Chooses the extent with the most to gain, suspects first, seals it and names it. Of one group
    /// only, if one is given. Where it is urgent, the end that cleaning left of an extent counts: it is
    /// room for so many units.
    fn choose_victim(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        (group, least, urgent): (Option<u8>, u32, bool),
        tried: &[u32],
    ) -> Result<Option<Victim>, Corruption> {
        let segment = &self.segment;
        let capacity = segment.geometry.extent_units();
        let extents = segment.geometry.extents;
        let looked = extents.min(CANDIDATES_MAX);
        let start = if looked < extents { session.next_candidates(looked) % extents } else { 0 };
        // A victim that was begun must be emptied: either it fits, or there is another extent.
        let spare = lease::are_free(segment, 1)?;
        if spare {
            relocation::leave_useless(segment, cleaner)?;
        }
        let rest = relocation::room(segment, cleaner)?;
        let mut best: Option<(u32, u32)> = None;
        for extent in (0..looked).map(|i| (start + i) % extents) {
            let word = segment.extent_word(extent)?;
            let stream = segment.stream(extent)?;
            let over = self.is_over(extent, word)?;
            let filled = if urgent { Queue::Small } else { stream.queue };
            let gain = if over { capacity } else { gain(word, filled, capacity, least) };
            if group.is_none_or(|group| stream.group == group)
                && gain > best.map_or(0, |(_, gain)| gain)
                && !tried.contains(&extent)
                && !self.is_victim_elsewhere(cleaner, extent)
            {
                let room = if spare { capacity } else { rest };
                let fits = over
                    || word.live <= room
                    || word.suspect && self.standing_units(extent)? <= room;
                // What is in flight, of this very put perhaps, would stay in it.
                let is_dead = |owner| is_dead(segment, owner);
                if fits && !(urgent && in_flight::may_publish(segment, extent, is_dead)?) {
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
        let word = segment.extent_word(extent)?;
        let filled = if urgent { Queue::Small } else { segment.queue(extent)? };
        if gain(word, filled, capacity, least) == 0 && !self.is_over(extent, word)? {
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
        let end = u64::from(segment.extent_word(extent)?.used) * 8;
        let mut at = 0;
        let (mut key, mut hashed, mut standing) = (Vec::new(), 0, 0);
        while at + 16 <= end && hashed <= HASHED_FACTOR * segment.geometry.extent_bytes() {
            at += match self.candidate(victim, base + at, end - at, &mut key)? {
                Some(candidate) => {
                    let header = candidate.header;
                    hashed += u64::from(header.key_bytes);
                    match self.lies(&candidate)? {
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
        (group, why): (u8, Why),
        tried: &[u32],
    ) -> Result<Chosen, WriteError> {
        relocation::leave_useless(&self.segment, cleaner)?;
        let usable = |next: &Next| {
            (!next.evict || why != Why::Order)
                && !tried.contains(&next.extent)
                && !self.is_victim_elsewhere(cleaner, next.extent)
        };
        for _ in 0..VICTIMS_MAX {
            let Some(next) = self.next_in_order(session, group, usable)? else { break };
            let urgent = matches!(why, Why::Need { urgent: true, .. });
            if let Some(victim) = self.make_victim(cleaner, next.extent, next.evict || urgent)? {
                if urgent {
                    // As if as much had been moved as may be.
                    cleaner.victim_moved.store::<S>(u64::MAX);
                }
                return Ok(Chosen::Victim(victim, 0));
            }
        }
        Ok(Chosen::Nothing)
    }

    /// Seals an extent and names it the victim of a place. `None` if it changed meanwhile, or is of
    /// a kind that is not emptied.
    pub(super) fn make_victim(
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

    pub(super) fn is_victim_elsewhere(&self, cleaner: &Cleaner, extent: u32) -> bool {
        self.segment.cleaners().iter().any(|other| {
            !std::ptr::eq(other, cleaner)
                && other.victim().is_some_and(|(victim, _)| victim.extent == extent)
        })
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
