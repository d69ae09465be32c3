//! Items of like times to live are written to extents of their own, so that whole extents expire:
//! those are emptied before any other, and nothing in them has to be moved.

use super::write::Item;
use super::{Session, Store};
use crate::error::{Corruption, WriteError};
use crate::layout::{ExtentState, ExtentWord, Shelf};
use crate::region::Shim;

/// Of fewer extents the open ones of the classes would hold too large a part.
const EXTENTS_MIN: u32 = 128;
/// Extents that one sweep empties.
const EMPTIED_MAX: u32 = 16;

impl<S: Shim> Store<S> {
    /// Where an item is written.
    #[inline(always)]
    pub(super) fn shelf_for(&self, item: &Item<'_>) -> Shelf {
        let life = item.expiry.map_or(0, |expiry| self.life_of(expiry));
        Shelf { queue: self.queue_for(item.hash), life }
    }

    /// The class of times to live of an item that expires then; 0 where there are none.
    fn life_of(&self, expiry: u64) -> u8 {
        let extents = match self.group() {
            0 => self.segment.geometry.extents,
            group => self.segment.quota_of(group),
        };
        if extents < EXTENTS_MIN {
            return 0;
        }
        Shelf::life_of(expiry.saturating_sub(self.now_ms()))
    }

    /// Notes when an item expires that is about to be written into an extent with a class.
    ///
    /// Dies after it: the extent waits longer than it has to.
    #[inline]
    pub(super) fn note_expiry(&self, item: u64, expiry: Option<u64>) -> Result<(), Corruption> {
        let segment = &self.segment;
        let Some(extent) = segment.geometry.extent_of(item) else { return Ok(()) };
        let entry = segment.extent(extent)?;
        if segment.stream(extent)?.life == 0 {
            return Ok(());
        }
        // Room is short if one is here that lives for ever.
        let expiry = expiry.unwrap_or(u64::MAX);
        let mut last = entry.last_expiry.load();
        while last < expiry {
            match entry.last_expiry.compare_exchange::<S>(last, expiry) {
                Ok(()) => break,
                Err(now) => last = now,
            }
        }
        Ok(())
    }

    /// Whether all items of an extent have expired. Each is looked at when it is emptied, so a wrong
    /// answer is only a bad choice.
    pub(super) fn is_over(&self, extent: u32, word: ExtentWord) -> Result<bool, Corruption> {
        let entry = self.segment.extent(extent)?;
        let emptied = match word.state {
            ExtentState::Sealed => true,
            ExtentState::Open => word.owner.is_none(),
            _ => false,
        };
        let last = entry.last_expiry.load();
        Ok(emptied && last != 0 && word.live > 0 && last <= self.now_ms())
    }

    /// Empties some of the extents that are over; how many items that were in them.
    pub(super) fn empty_what_is_over(&self, session: &Session) -> Result<u64, WriteError> {
        if self.segment.geometry.extents < EXTENTS_MIN {
            return Ok(0);
        }
        let before = self.segment.superblock().expired.load();
        let mut emptied = 0;
        for extent in 0..self.segment.geometry.extents {
            if self.is_over(extent, self.segment.extent_word(extent)?)? {
                match self.empty_extent(session, extent) {
                    Ok(_) | Err(WriteError::Stuck { .. }) => emptied += 1,
                    Err(error) => return Err(error),
                }
                if emptied == EMPTIED_MAX {
                    break;
                }
            }
        }
        // Near, if others drop some too.
        Ok(self.segment.superblock().expired.load().saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::config::{CreateOptions, Mode};
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, private_on_heap};

    const TTL: Duration = Duration::from_millis(300);

    /// Items that expire soon among others that don't, one after the other; what a sweep of no
    /// bucket frees once their time is over, of the extents that were taken.
    fn freed(size: u64, extent_size: u64, mode: Mode) -> (u32, u32) {
        let options = CreateOptions::new(size).extent_size(extent_size).items(4000).mode(mode);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let long = PutOptions::new().ttl(Duration::from_secs(3600));
        let soon = PutOptions::new().ttl(TTL);
        let free = || store.stats().expect("stats").extents_free;
        let before = free();
        for key in 0..2000_u32 {
            let options = [PutOptions::new(), long, soon][key as usize % 3];
            let put =
                store.put(&session, &key.to_le_bytes(), &[7; 200], &options, Condition::Always);
            put.expect("room");
        }
        let full = free();
        sleep(TTL + Duration::from_millis(50));
        for _ in 0..20 {
            store.sweep(&session, 0).expect("no guard is held");
        }
        let freed = free() - full;
        for key in 0..2000_u32 {
            let found = store.contains(&key.to_le_bytes()).expect("no guard is held");
            assert_eq!(found, key % 3 != 2, "{key}");
        }
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
        (freed, before - full)
    }

    #[test]
    fn whole_extents_expire() {
        for mode in [Mode::Store, Mode::Cache] {
            let (freed, taken) = freed(2 << 20, 4 << 10, mode);
            assert!(freed >= taken * 3 / 10, "{freed} of {taken}");
        }
        let (freed, taken) = freed(2 << 20, 32 << 10, Mode::Store);
        assert_eq!(freed, 0, "of {taken}: too few extents for classes");
    }

    #[test]
    fn what_is_over_is_emptied_first_and_nothing_is_moved() {
        let options = CreateOptions::new(2400 << 10).extent_size(4 << 10).items(4000);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let put = |key: u32, options: &PutOptions| {
            store.put(&session, &key.to_le_bytes(), &[7; 200], options, Condition::Always)
        };
        let soon = PutOptions::new().ttl(TTL);
        let half = 4000;
        for key in 0..half {
            put(key, &soon).expect("room");
        }
        let all = (half..).find(|key| put(*key, &PutOptions::new()).is_err()).expect("it fills");
        assert!(store.stats().expect("stats").moved_bytes == 0);
        sleep(TTL + Duration::from_millis(50));
        for key in all..all + half - 500 {
            put(key, &PutOptions::new()).expect("what is over makes room");
        }
        assert_eq!(store.stats().expect("stats").moved_bytes, 0);
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }
}
