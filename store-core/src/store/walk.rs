//! The walk over an extent that is emptied: what looks like an item is found, and moved or dropped
//! under its guard; in the end the extent is free. A piece is moved by itself, under the guard of its
//! item, and goes only with all of it.

use std::sync::atomic::{Ordering, fence};

use super::evict::Verdict;
use super::{Session, Store};
use crate::arena::pieces::{PieceHead, Pieces};
use crate::arena::reserve::{self, Reach};
use crate::arena::{in_flight, pin, relocation, retire};
use crate::error::{Corruption, WriteError};
use crate::index::change;
use crate::index::search::{Standing, find_slot, find_stamped};
use crate::layout::{
    Cleaner, ExtentWord, Header, PIECE_HEAD_BYTES, Queue, Shelf, Slot, Stream, Victim, flags,
};
use crate::recovery::is_dead;
use crate::region::{Cell64, Shim, copy_across};
use crate::sync::WaitLimit;

/// How many times an extent's bytes are hashed as keys before a walk is given up.
pub(super) const HASHED_FACTOR: u64 = 64;
/// What a look at an item costs, and what moving one costs besides its bytes: in bytes of moving,
/// by the time that each takes.
const LOOK_BYTES: u64 = 32;
const MOVE_BYTES: u64 = 256;
/// Bytes that are moved for one that is owed, where an extent is emptied of a cache in which much is
/// dead.
const CACHE_MOVES: u64 = 3;
/// How a walk over a victim ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// It is free, or was made another use of meanwhile.
    Freed,
    /// The budget was used up.
    Stopped,
    /// Something in it could not be moved, or may still be published.
    Held,
    /// There is no room to move its items to.
    NoRoom,
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
    /// Somebody reads it in place, and would not find it elsewhere.
    Pinned,
    NoRoom,
}

/// An item that a slot leads to, or a piece that such an item has.
#[derive(Clone, Copy)]
pub(super) enum Lies<'a> {
    Whole(Standing),
    /// The word that leads to the piece, and its item.
    Piece(&'a Cell64, Standing),
}

impl Lies<'_> {
    /// The item, which has the slot.
    fn standing(self) -> Standing {
        match self {
            Self::Whole(standing) | Self::Piece(_, standing) => standing,
        }
    }
}

/// A place in the arena that may hold an item of a victim.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) item: u64,
    pub(super) header: Header,
    pub(super) hash: u64,
    pub(super) slot: Slot,
}

impl<S: Shim> Store<S> {
    /// Moves what lives in `victim`, from unit `from` on.
    pub(super) fn walk_victim(
        &self,
        session: &Session,
        cleaner: &Cleaner,
        (victim, from): (Victim, u32),
        limit: WaitLimit,
        budget: &mut u64,
    ) -> Result<Walked, WriteError> {
        let segment = &self.segment;
        let base = segment.geometry.extent_offset(victim.extent);
        let mut key = Vec::new();
        let mut hashed = 0;
        let mut window = session.ahead.window(segment.cleaners(), cleaner).lock();
        let mut at = u64::from(from) * 8;
        loop {
            if !self.stands(victim)? {
                return Ok(Walked::Freed);
            }
            let end = u64::from(segment.extent_word(victim.extent)?.used) * 8;
            if at + 16 > end {
                break;
            }
            if *budget == 0 {
                cleaner.set_cursor::<S>((at / 8) as u32);
                return Ok(Walked::Stopped);
            }
            let bounds = (base + at, base + end);
            let found = self.candidate_ahead(&mut window, victim, bounds, &mut key)?;
            let Some(candidate) = found else {
                *budget = budget.saturating_sub(self.cost(victim, Moved::Dead, 8));
                at += 8;
                continue;
            };
            // Keys that lie over each other, which only bytes made for it do.
            hashed += u64::from(candidate.header.key_bytes);
            if hashed > HASHED_FACTOR * segment.geometry.extent_bytes() {
                return Ok(Walked::Held);
            }
            let bytes = candidate.header.shape().bytes;
            // A large item waits until enough is owed.
            if bytes > *budget {
                cleaner.set_cursor::<S>((at / 8) as u32);
                return Ok(Walked::Stopped);
            }
            window.pass();
            let moved = self.move_item(session, cleaner, victim, limit, &candidate)?;
            let cost = self.cost(victim, moved, bytes);
            *budget = budget.saturating_sub(cost);
            if victim.evict || !self.segment.evicts {
                session.pace.note(cost, if moved == Moved::Done { 0 } else { bytes });
            }
            at += match moved {
                Moved::Done | Moved::Gone => bytes,
                // What looks like an item may be bytes that a crash left; a live one may begin
                // within them.
                Moved::Dead if victim.recount => 8,
                Moved::Dead => bytes,
                Moved::Pinned => return Ok(Walked::Held),
                Moved::NoRoom => return Ok(Walked::NoRoom),
            };
        }
        self.finish_victim(victim)
    }

    /// What a look at an item of `bytes` takes off a budget, or of a place where none is.
    fn cost(&self, victim: Victim, moved: Moved, bytes: u64) -> u64 {
        match moved {
            // In cache mode budgets are bytes that are walked.
            _ if victim.evict => bytes,
            _ if self.segment.evicts => bytes / CACHE_MOVES,
            Moved::Done => bytes + MOVE_BYTES,
            Moved::Gone => MOVE_BYTES,
            Moved::Dead | Moved::Pinned | Moved::NoRoom => LOOK_BYTES,
        }
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

    /// What looks like an item at `item`, with at most `room` bytes.
    pub(super) fn candidate(
        &self,
        victim: Victim,
        item: u64,
        room: u64,
        key: &mut Vec<u8>,
    ) -> Result<Option<Candidate>, Corruption> {
        let segment = &self.segment;
        // Also of one that is being overwritten: by the time its guard is had that is over.
        let stamp = segment.stamp(item)?.number();
        // Pairs with the Release store of the stamp: its block was leased before, so `next_stamp` is beyond it.
        fence(Ordering::Acquire);
        let header = segment.header(item)?;
        if stamp == 0
            // The last one of a block is where the next block begins.
            || stamp > segment.superblock().next_stamp.load()
            || header.flags & !flags::KNOWN != 0
            || header.shape().bytes > room
        {
            return Ok(None);
        }
        let hash = if !header.has(flags::PIECE) {
            segment.hash_of_item(item, header, key)?
        } else if header.shape().bytes >= PIECE_HEAD_BYTES {
            PieceHead::of(segment, item)?.hash
        } else {
            return Ok(None);
        };
        let shift = segment.geometry.slot_hash_shift;
        let slot = Slot::of_item(item, victim.generation, hash, shift);
        Ok(Some(Candidate { item, header, hash, slot }))
    }

    /// Whether something leads to what looks like an item. Without its guard no more than a hint.
    pub(super) fn lies(&self, candidate: &Candidate) -> Result<Option<Lies<'_>>, Corruption> {
        let Candidate { item, header, hash, slot } = *candidate;
        let segment = &self.segment;
        if !header.has(flags::PIECE) {
            let at = find_slot(segment, slot, hash)?;
            return Ok(at.map(|at| Lies::Whole(Standing { at, slot, header })));
        }
        let Some(standing) = find_stamped(segment, segment.stamp(item)?.number(), hash)? else {
            return Ok(None);
        };
        let Some(pieces) = Pieces::of(segment, standing.slot.offset(), standing.header)? else {
            return Ok(None);
        };
        let cell = pieces.cell(PieceHead::of(segment, item)?.number);
        Ok(cell.filter(|cell| cell.load() == slot.0).map(|cell| Lies::Piece(cell, standing)))
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
        let Candidate { item, hash, .. } = *candidate;
        let segment = &self.segment;
        // Not where the extent is recounted; and what is evicted from is mostly alive.
        if !victim.recount && !victim.evict && self.lies(candidate)?.is_none() {
            return Ok(Moved::Dead);
        }
        let held = self.hold_within(session, hash, limit)?;
        // It was looked at before it was written, perhaps: then what it says now is another thing. Or it was
        // overwritten where it stands.
        let header = segment.header(item)?;
        if !header.fits_in(candidate.header) {
            return Ok(Moved::Dead);
        }
        let candidate = Candidate { header, ..*candidate };
        let Some(lies) = self.lies(&candidate)? else { return Ok(Moved::Dead) };
        let standing = lies.standing();
        let expiry = self.expiry_word(standing.slot.offset(), standing.header)?;
        if expiry.is_some_and(|expiry| expiry <= self.now_ms()) {
            self.remove_expired(&held, &standing)?;
            return Ok(Moved::Gone);
        }
        let bytes = header.shape().bytes;
        let units = bytes / 8;
        let of_extent = segment.stream(victim.extent)?;
        // Another one than the extent's if its namespace was given a quota since it was written.
        let group = segment.group_of(header.namespace);
        let stream = Stream { group, ..of_extent };
        let stays = if !segment.group_evicts(group) || of_extent.group != group {
            Verdict::Stays { queue: Queue::Main, hits: None }
        } else if let Lies::Piece(..) = lies {
            self.verdict_of_piece(victim, (stream, hash), standing.slot, (cleaner, units))?
        } else {
            self.verdict(stream, hash, victim.evict.then_some((cleaner, units)))
        };
        if let (Lies::Piece(..), Verdict::Stays { .. }) = (lies, stays)
            && pin::is_item_pinned(segment, standing.slot.offset())?
        {
            return Ok(Moved::Pinned);
        }
        let reserved = match stays {
            Verdict::Goes => None,
            Verdict::Stays { queue: Queue::Main, .. } => {
                relocation::reserve(segment, cleaner, session.owner(), group, units as u32)?
            }
            Verdict::Stays { queue: Queue::Small, .. } => {
                let room = (bytes, Shelf { queue: Queue::Small, life: of_extent.life });
                reserve::reserve(segment, session.lease(group), room, Reach::Own).ok()
            }
        };
        let Some(place) = reserved else {
            if !segment.group_evicts(group) {
                return Ok(Moved::NoRoom);
            }
            self.evict(&held, (&standing, hash), stream)?;
            return Ok(Moved::Gone);
        };
        let to = segment.region.words(place.offset, units)?;
        self.note_expiry(place.offset, expiry)?;
        copy_across::<S>(segment.region.words(item, units)?, to);
        let shift = segment.geometry.slot_hash_shift;
        let new = Slot::of_item(place.offset, place.generation, hash, shift);
        match lies {
            Lies::Whole(_) => {
                held.arm_move(&standing, new);
                change::overwrite(segment, standing.at, new)?;
                retire::retire_moved(segment, item, header)?;
                held.record.disarm::<S>();
            }
            // Dies behind it: the victim counts too much, and is walked once more.
            Lies::Piece(cell, _) => {
                cell.store::<S>(new.0);
                retire::retire_moved(segment, item, header)?;
            }
        }
        let moved = cleaner.moved_bytes.load().wrapping_add(bytes);
        cleaner.moved_bytes.store::<S>(moved);
        if let Verdict::Stays { hits: Some(hits), .. } = stays {
            self.go_on(stream, hash, hits);
            cleaner.victim_moved.store::<S>(cleaner.victim_moved.load().saturating_add(units));
        }
        Ok(Moved::Done)
    }
}
