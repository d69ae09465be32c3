//! Eviction, in cache mode: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
//! SOSP 23) on extents. New items are in the small queue, a tenth of what lives. When they reach its
//! end, those that were hit twice go to the main queue, the others go, and a fingerprint of them is
//! noted; who comes back while it is known, goes to the main queue at once. At the end of the main
//! queue those that were hit go round once more for each hit.
//!
//! The queues are extents in the order in which they were filled, so that room comes back whole. An
//! extent is walked like one that is cleaned: an item either is moved, or goes.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::eviction_stats::queued_units;
use super::guarded::Held;
use super::listener::Cause;
use super::{Session, Store};
use crate::error::Corruption;
use crate::index::lookup::{Spot, spot_in_bucket};
use crate::index::search::Standing;
use crate::layout::{Cleaner, ExtentState, ExtentWord, Queue, Slot, Stream, Victim};
use crate::region::Shim;

/// The part of what lives that the small queue is to have: one in so many.
const SMALL_PART: u64 = 10;
/// Hits in the small queue that take an item to the main queue.
const HITS_TO_MAIN: u8 = 2;
/// Extents that are chosen together, as a part of all; at most so many.
const CHOSEN_PART: u32 = 64;
const CHOSEN_MAX: u32 = 64;

/// An extent of which one part in so many is dead is emptied before anything has to go.
const DEAD_PART: u32 = 4;
/// Of an extent all but one part in so many may stay, whatever was hit.
const GAIN_PART: u64 = 32;

/// The extents that a session empties next, in order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By group.
    next: Mutex<HashMap<u8, VecDeque<Next>>>,
}

/// An extent that is to be emptied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) extent: u32,
    /// What it had when it was chosen: others may have used it since.
    generation: u64,
    sequence: u64,
    /// What nobody wants goes. Else all is moved: so much of it is dead.
    pub(super) evict: bool,
}

/// Where an item goes on when its extent is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// In a queue; with so many hits, if it came to the end of the one it was in.
    Stays { queue: Queue, hits: Option<u8> },
    /// Nowhere.
    Goes,
}

/// An extent that may be emptied.
struct Candidate {
    extent: u32,
    sequence: u64,
    live: u64,
}

impl<S: Shim> Store<S> {
    /// The queue for an item that is about to be written: that of the item that it takes the place
    /// of, else the main queue if the key was evicted a short while ago. One look at the bucket, and
    /// one at the ghost; nothing in store mode.
    #[inline]
    pub(super) fn queue_for(&self, hash: u64) -> Queue {
        if self.segment.evicts { self.queue_of(hash) } else { Queue::Small }
    }

    fn queue_of(&self, hash: u64) -> Queue {
        let segment = &self.segment;
        if let Spot::Slot(_, slot) = spot_in_bucket(segment, hash)
            && let Some(extent) = segment.geometry.extent_of(slot.offset())
            && segment.slot_stands(slot)
        {
            return segment.queue(extent).unwrap_or(Queue::Small);
        }
        let group = self.group();
        let share = segment.share_of(group);
        let superblock = segment.superblock();
        // As many keys come back to the main queue as there are items: a little more than it has.
        let keys = match segment.namespace_record(group) {
            Some(record) if group != 0 => record.items.load(),
            _ => share.of(superblock.items_near.load()),
        };
        if segment.ghost.take::<S>(segment.ghost_clock(group), (share, hash), keys) {
            superblock.came_back.fetch_add::<S>(1);
            Queue::Main
        } else {
            Queue::Small
        }
    }

    /// Marks a hit, where eviction asks for it and the memory can be written. One branch in store
    /// mode.
    #[inline(always)]
    pub(super) fn mark(&self, hash: u64) {
        if self.segment.heat.is_there() {
            let share = self.segment.share_of(self.group());
            if self.segment.region.writable() {
                self.segment.heat.add(share, hash, 1);
            } else if let Some(readers) = self.reader_heat.get() {
                readers.sample(share, hash);
            }
        }
    }

    /// What becomes of an item of an extent in `queue` that is emptied. If the extent came to the
    /// end of its queue, the place that empties it is given, and the item's units.
    pub(super) fn verdict(
        &self,
        Stream { group, queue, .. }: Stream,
        hash: u64,
        ends: Option<(&Cleaner, u64)>,
    ) -> Verdict {
        let hits = self.hits(group, hash);
        let main = |hits| Verdict::Stays { queue: Queue::Main, hits };
        let Some((cleaner, units)) = ends else {
            return match queue {
                Queue::Small if hits < HITS_TO_MAIN => Verdict::Stays { queue, hits: None },
                _ => main(None),
            };
        };
        if self.moved_enough(cleaner, units) {
            return Verdict::Goes;
        }
        hits_after(queue, hits).map_or(Verdict::Goes, |hits| main(Some(hits)))
    }

    /// Whether of an extent that is emptied as much was moved as may be, if an item of `units` were.
    fn moved_enough(&self, cleaner: &Cleaner, units: u64) -> bool {
        let capacity = u64::from(self.segment.geometry.extent_units());
        let moved = cleaner.victim_moved.load().saturating_add(units);
        moved > capacity - capacity / GAIN_PART
    }

    /// [`Store::verdict`] of a piece: it follows its item, at `slot`, if that went on before it, and
    /// has no hits of its own.
    pub(super) fn verdict_of_piece(
        &self,
        victim: Victim,
        (stream, hash): (Stream, u64),
        slot: Slot,
        ends: (&Cleaner, u64),
    ) -> Result<Verdict, Corruption> {
        let segment = &self.segment;
        let Some(extent) = segment.geometry.extent_of(slot.offset()) else {
            return Ok(Verdict::Goes);
        };
        let sequence = |extent| segment.extent(extent).map(|entry| entry.sequence.load());
        let queue = segment.queue(extent)?;
        let went_on = extent != victim.extent && sequence(extent)? > sequence(victim.extent)?;
        let enough = victim.evict && self.moved_enough(ends.0, ends.1);
        if went_on && queue == Queue::Main && !enough {
            return Ok(Verdict::Stays { queue, hits: None });
        }
        Ok(match self.verdict(stream, hash, victim.evict.then_some(ends)) {
            Verdict::Stays { queue, .. } => Verdict::Stays { queue, hits: None },
            Verdict::Goes => Verdict::Goes,
        })
    }

    /// Notes that an item goes on from the end of `queue`, with so many hits left.
    pub(super) fn go_on(&self, Stream { group, queue, .. }: Stream, hash: u64, hits: u8) {
        self.set_hits(group, hash, hits);
        if queue == Queue::Small {
            self.segment.superblock().promoted.fetch_add::<S>(1);
        }
    }

    /// Removes an item that nobody wanted, and notes it if it was new.
    pub(super) fn evict(
        &self,
        held: &Held<'_, S>,
        (standing, hash): (&Standing, u64),
        Stream { group, queue, .. }: Stream,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let superblock = segment.superblock();
        let item = (standing.slot.offset(), standing.header);
        let bytes = self.bytes_of(item.0, item.1)?;
        self.note_gone(held.session, item, Cause::Evicted)?;
        self.remove(held, standing)?;
        if queue == Queue::Small {
            let share = segment.share_of(group);
            segment.ghost.note::<S>(segment.ghost_clock(group), (share, hash));
        }
        // Or the next item with this hash had them.
        self.set_hits(group, hash, 0);
        superblock.evicted[queue.number()].fetch_add::<S>(1);
        if let Some(record) = segment.namespace_record(standing.header.namespace)
            && standing.header.namespace != 0
        {
            record.evicted.fetch_add::<S>(1);
        }
        superblock.evicted_bytes.fetch_add::<S>(bytes);
        Ok(())
    }

    /// The next extent of a group to evict from.
    pub(super) fn next_in_order(
        &self,
        session: &Session,
        group: u8,
        usable: impl Fn(&Next) -> bool,
    ) -> Result<Option<Next>, Corruption> {
        let mut orders = session.eviction_order.next.lock();
        let order = orders.entry(group).or_default();
        // What was chosen before may be used up by others; what is chosen now is not.
        for _ in 0..2 {
            while let Some(next) = order.pop_front() {
                if self.segment.generation(next.extent)?.load() == next.generation
                    && self.segment.extent(next.extent)?.sequence.load() == next.sequence
                    && Self::can_be_emptied(self.segment.extent_word(next.extent)?)
                    && usable(&next)
                {
                    return Ok(Some(next));
                }
            }
            *order = self.choose_in_order(group, &usable)?;
        }
        Ok(None)
    }

    fn can_be_emptied(word: ExtentWord) -> bool {
        match word.state {
            ExtentState::Sealed => true,
            ExtentState::Open => word.owner.is_none(),
            _ => false,
        }
    }

    /// The extents that are emptied next: those of which much is dead, then the first ones of both
    /// queues, in the order that keeps the small one at its part. Only such that are `usable`: few are
    /// chosen, and they could all be others' victims.
    fn choose_in_order(
        &self,
        group: u8,
        usable: impl Fn(&Next) -> bool,
    ) -> Result<VecDeque<Next>, Corruption> {
        let segment = &self.segment;
        let capacity = segment.geometry.extent_units();
        let count = (segment.geometry.extents / CHOSEN_PART).clamp(1, CHOSEN_MAX) as usize;
        let mut chosen = VecDeque::with_capacity(count);
        let mut live = [0; Queue::ALL.len()];
        let mut queues: [Vec<Candidate>; Queue::ALL.len()] = Default::default();
        for extent in 0..segment.geometry.extents {
            let word = segment.extent_word(extent)?;
            let of_extent = queued_units(word);
            if of_extent == 0 {
                continue;
            }
            let entry = segment.extent(extent)?;
            let stream = segment.stream(extent)?;
            if stream.group != group {
                continue;
            }
            let queue = stream.queue.number();
            live[queue] += of_extent;
            let sequence = entry.sequence.load();
            if Self::can_be_emptied(word) {
                // One that a crash left is counted anew on the way.
                let dead = word.suspect
                    || self.is_over(extent, word)?
                    || word.state == ExtentState::Sealed
                        && word.used.saturating_sub(word.live) >= capacity / DEAD_PART;
                let generation = segment.generation(extent)?.load();
                let next = Next { extent, generation, sequence, evict: !dead };
                if !usable(&next) {
                    continue;
                }
                if dead && chosen.len() < count {
                    chosen.push_back(next);
                }
                queues[queue].push(Candidate { extent, sequence, live: of_extent });
            }
        }
        let mut left = queues.each_ref().map(Vec::len);
        let mut queues = queues.map(|mut queue| {
            if queue.len() > count {
                queue.select_nth_unstable_by_key(count - 1, |candidate| candidate.sequence);
                queue.truncate(count);
            }
            queue.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.sequence));
            queue
        });
        while chosen.len() < count {
            let [small, main] = live;
            // What came last stays for a while, however large it is.
            let small_is_large = small * SMALL_PART >= small + main && left[0] > 1;
            let first = if small_is_large { Queue::Small } else { Queue::Main };
            let from = [first, if first == Queue::Small { Queue::Main } else { Queue::Small }];
            let Some((queue, next)) = from.into_iter().find_map(|queue| {
                let queue = queue.number();
                queues[queue].pop().map(|next| (queue, next))
            }) else {
                break;
            };
            live[queue] -= next.live;
            left[queue] -= 1;
            let Candidate { extent, sequence, .. } = next;
            let generation = segment.generation(extent)?.load();
            chosen.push_back(Next { extent, generation, sequence, evict: true });
        }
        Ok(chosen)
    }
}

/// The hits that an item is left with which goes on in the main queue from the end of `queue`;
/// `None` for one that goes.
fn hits_after(queue: Queue, hits: u8) -> Option<u8> {
    match (queue, hits) {
        (Queue::Small, HITS_TO_MAIN..) => Some(0),
        (Queue::Main, 1..) => Some(hits - 1),
        _ => None,
    }
}
