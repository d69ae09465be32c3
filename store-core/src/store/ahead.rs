//! What a walk over a victim looks at next: found once and asked for ahead, so that the cache misses
//! of a few items overlap, from one put's step to the next.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::Store;
use super::walk::Candidate;
use crate::error::Corruption;
use crate::index::lookup::prefetch_bucket;
use crate::layout::{CLEANERS_MAX, Cleaner, Share, Victim};
use crate::region::Shim;

/// Items that are known and asked for, the one that is looked at included.
const AHEAD: usize = 12;

/// A window for each cleaner's place, private to the session. It is locked under the guard of the
/// place, so nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Ahead([Mutex<Window>; CLEANERS_MAX]);

/// Items of a victim that lie one behind the other.
#[derive(Debug, Default)]
pub(super) struct Window {
    victim: Option<Victim>,
    items: VecDeque<Candidate>,
    /// Offset of the byte behind them.
    end: u64,
}

impl Ahead {
    /// The window of the place `cleaner`, which is one of `places`.
    pub(super) fn window(&self, places: &[Cleaner], cleaner: &Cleaner) -> &Mutex<Window> {
        let place = places.iter().position(|place| std::ptr::eq(place, cleaner));
        &self.0[place.unwrap_or(0)]
    }
}

impl Window {
    /// Goes on behind the first item.
    pub(super) fn pass(&mut self) {
        self.items.pop_front();
    }

    /// Begins anew at `item`, unless it is the first one of them already.
    fn begin_at(&mut self, victim: Victim, item: u64) {
        let first = self.items.front().map(|first| first.item);
        if self.victim != Some(victim) || first != Some(item) {
            self.victim = Some(victim);
            self.items.clear();
            self.end = item;
        }
    }
}

impl<S: Shim> Store<S> {
    /// What looks like an item at offset `item`. Asks for those behind it before offset `end`.
    pub(super) fn candidate_ahead(
        &self,
        window: &mut Window,
        victim: Victim,
        (item, end): (u64, u64),
        key: &mut Vec<u8>,
    ) -> Result<Option<Candidate>, Corruption> {
        // What was being written when it was looked at ahead stays in its extent, which counts too much
        // then; a recount frees the extent, so it looks at each place when it is there.
        if victim.recount {
            return self.candidate(victim, item, end - item, key);
        }
        window.begin_at(victim, item);
        let share = self.segment.share_of(self.segment.stream(victim.extent)?.group);
        while window.items.len() < AHEAD && window.end + 16 <= end {
            let room = end - window.end;
            let Some(next) = self.candidate(victim, window.end, room, key)? else { break };
            self.ask_for(share, &next);
            window.end += next.header.shape().bytes;
            // It is looked at the next time.
            self.segment.region.prefetch(window.end);
            window.items.push_back(next);
        }
        Ok(window.items.front().copied())
    }

    /// Asks for all that is read to decide about an item, and written if it goes.
    fn ask_for(&self, share: Share, candidate: &Candidate) {
        let segment = &self.segment;
        prefetch_bucket(segment, candidate.hash);
        segment.prefetch_stripe(candidate.hash);
        segment.heat.prefetch(&segment.region, share, candidate.hash);
        segment.ghost.prefetch(&segment.region, share, candidate.hash);
    }
}
