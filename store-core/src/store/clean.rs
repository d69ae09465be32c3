//! Cleaning: extents with many dead bytes are emptied, their live items moved to where they lie
//! close together. Readers and writers go on meanwhile.
//!
//! Moving an item is a put of the same bytes under the same stamp, all of it under the guard of its
//! stripe: copied, then published by one store of the slot. The last item that leaves a sealed
//! extent frees it. An extent that a crash left with units counted too often is
//! walked with each item's guard held, and freed at the end whatever it counts.

use std::marker::PhantomData;
use std::time::Duration;

use super::victim::Chosen;
use super::walk::Walked;
use super::{Session, Store};
use crate::arena::lease;
use crate::error::WriteError;
use crate::layout::Cleaner;
use crate::region::Shim;
use crate::sync::{Guard, WaitLimit};

/// Victims that are tried before it is said that nothing can be gained.
pub(super) const VICTIMS_MAX: usize = 64;
/// An extent is emptied for the sake of this part of it at least.
pub(super) const GAIN_PART_MIN: u64 = 16;
/// How long the guard of an item is waited for; then its extent stays as it is, for now.
pub(super) const GUARD_WAIT: WaitLimit = WaitLimit::For(Duration::from_millis(2));

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

/// What an extent is emptied for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Room is short, or will be soon: something may be evicted. An extent that gives less units is
    /// left. Where it is urgent, all that is in an extent goes; in store mode, ends count as well.
    Need { least: u32, urgent: bool },
    /// That what is dead takes no room: nothing goes that lives.
    Order,
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
            let why = if lease::is_short_of_extents(&self.segment, 0)? {
                Why::Need { least: self.gain_min(), urgent: false }
            } else {
                Why::Order
            };
            let mut all = u64::MAX;
            match self.clean_some(session, held.cleaner, (0, why), &mut all) {
                Ok(Step::Freed) => done += 1,
                // A guard of an item was in the way: the next call finds it given back.
                Ok(_) | Err(WriteError::Stuck { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.tell_gone(session);
        Ok(done)
    }

    /// Empties one extent for the sake of a group of namespaces; `false` if there is nothing to gain.
    ///
    /// # Errors
    /// `Stuck` if what could be gained is held back by a process that does not let go of a guard.
    pub(super) fn clean_in_need(
        &self,
        session: &Session,
        group: u8,
        urgent: bool,
    ) -> Result<bool, WriteError> {
        self.clean_for(session, group, self.gain_min(), urgent)
    }

    /// Units that emptying an extent must give.
    fn gain_min(&self) -> u32 {
        self.segment.geometry.extent_units() / GAIN_PART_MIN as u32
    }

    /// [`Store::clean_in_need`] for the sake of `least` units.
    pub(super) fn clean_for(
        &self,
        session: &Session,
        group: u8,
        least: u32,
        urgent: bool,
    ) -> Result<bool, WriteError> {
        let held = self.cleaners_place(session, session.wait_limit())?;
        let mut all = u64::MAX;
        let why = (group, Why::Need { least, urgent });
        Ok(self.clean_some(session, held.cleaner, why, &mut all)? == Step::Freed)
    }

    /// Moves up to `budget` bytes ahead of need, if a place is to be had at once; what is left of
    /// them stays in it.
    pub(super) fn clean_ahead(
        &self,
        session: &Session,
        group: u8,
        budget: &mut u64,
    ) -> Result<Step, WriteError> {
        match self.cleaners_place(session, WaitLimit::Try) {
            Ok(held) => {
                let why = Why::Need { least: self.gain_min(), urgent: false };
                self.clean_some(session, held.cleaner, (group, why), budget)
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
        (group, why): (u8, Why),
        budget: &mut u64,
    ) -> Result<Step, WriteError> {
        let least = match why {
            Why::Need { least, .. } => least,
            Why::Order => self.gain_min(),
        };
        let mut tried = [u32::MAX; VICTIMS_MAX];
        // Whether a guard that could not be had was in the way of a victim.
        let mut stuck = None;
        for at in 0..VICTIMS_MAX {
            let chosen = match self.current_victim(cleaner)? {
                Some((victim, from)) => Chosen::Victim(victim, from),
                None => self.choose(session, cleaner, (group, why, least), &tried[..at])?,
            };
            let (victim, from) = match chosen {
                Chosen::Victim(victim, from) => (victim, from),
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
                Walked::NoRoom => break,
            }
        }
        stuck.map_or(Ok(Step::Nothing), Err)
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
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::arena::retire;
    use crate::config::CreateOptions;
    use crate::index::search::search;
    use crate::layout::ExtentWord;
    use crate::region::Mutation;
    use crate::store::write::Value;
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
        fn leaves_out(rule: Mutation) -> bool {
            rule == Mutation::SkipInFlight
        }

        fn before_store(_: usize, _: u64, _: usize) {
            interrupt();
        }
    }

    fn value(key: u64, turn: u64) -> Vec<u8> {
        value_of(key, turn, 200)
    }

    fn value_of(key: u64, turn: u64, len: u64) -> Vec<u8> {
        (0..len).map(|i| (key * 31 + turn * 7 + i) as u8).collect()
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
        assert_eq!(store.clean_ahead(&session, 0, &mut budget).expect("cleaning"), Step::Working);
        // Those that are kept were taken, too.
        for extent in 0..store.segment.geometry.extents {
            if lease::can_be_claimed(&store.segment, extent).expect("an extent") {
                lease::claim(&store.segment, extent, session.owner()).expect("an extent");
            }
        }
        let taken = store.stats().expect("stats").extents_free;
        assert!(!lease::are_free(&store.segment, 1).expect("extents"));
        let (victim, _) = store.segment.cleaners()[0].victim().expect("it was begun");
        let cell = &store.segment.extent(victim.extent).expect("an extent").word;
        let word = ExtentWord::of(cell.load());
        let too_much = ExtentWord { live: word.used, suspect: true, ..word };
        cell.store::<crate::region::Plain>(too_much.word());
        assert_eq!(store.clean(&session, 1).expect("cleaning"), 1);
        assert_eq!(store.stats().expect("stats").extents_free, taken + 1);
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

    /// While an extent is recounted, an item that the walk has not come to is overwritten where it stands, with
    /// a stamp that was not given out when the walk began.
    #[test]
    fn what_is_overwritten_within_a_recount_is_found() {
        let options = CreateOptions::new(1 << 20).extent_size(16 << 10);
        let store: Store<Interrupted> = private_on_heap(&options, 3).expect("a store");
        let store: &'static Store<Interrupted> = Box::leak(Box::new(store));
        let session = store.open_session().expect("an entry");
        let other: &'static Session =
            Box::leak(Box::new(store.open_session().expect("another entry")));
        let put = |session: &Session, key: u64, value: &[u8]| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(session, &key.to_le_bytes(), value, &options, always).expect("room");
        };
        (0..20).for_each(|key| put(&session, key, &[1; 200]));
        while other.last_stamp() == 0 || !other.last_stamp().is_multiple_of(4096) {
            put(other, 100, &[2; 9]);
        }
        let item_of = |key: u64| {
            let (key, hash) = (key.to_le_bytes(), store.segment.hasher.hash(&key.to_le_bytes()));
            let found = search(&store.segment, &key, hash).expect("a search").found;
            found.expect("it stands").slot.offset()
        };
        let (first, last) = (item_of(0), item_of(19));
        let extent = store.segment.geometry.extent_of(last).expect("in the arena");
        assert_eq!(store.segment.geometry.extent_of(first), Some(extent));
        retire::mark_suspect(&store.segment, last).expect("marked");
        other.set_guard_deadline(Duration::from_millis(1));
        INTERRUPTION.set(Some((60, Box::new(move || put(other, 19, &[9; 200])))));
        store.empty_extent(&session, extent).expect("a walk");
        assert!(INTERRUPTION.take().is_none(), "it happened meanwhile");
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
        (1000..3000).for_each(|key| put(&session, key, &[3; 200]));
        assert_eq!(store.get(&19_u64.to_le_bytes()), Ok(Some(vec![9; 200])));
    }

    /// Somebody else recounts every extent and fills what that gives, before the n-th store of a
    /// put, for every n; each put must stand.
    fn recount_within_puts<S: Shim>(len: u64, turns: u64) -> bool {
        let value = |key, turn| value_of(key, turn, len);
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
        for turn in 0..turns {
            put(&session, 1, turn).expect("a put");
            let deed = move || {
                for extent in 0..store.segment.geometry.extents {
                    let offset = store.segment.geometry.extent_offset(extent);
                    retire::mark_suspect(&store.segment, offset).expect("an extent");
                }
                // What is in the way of the interrupted put is no matter here.
                let _ = store.clean(other, 100);
                for key in 100..160 {
                    let (value, options) = (value_of(key, turn, 200), PutOptions::new());
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

    /// What a cleaner looked at ahead was of the extent's last use; the item that is there by now is
    /// longer, and has the same slot.
    #[test]
    fn what_was_written_since_it_was_looked_at_is_not_moved_as_it_was() {
        let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
        let store: Store = private_on_heap(&options, 3).expect("a tiny store");
        let (writer, other) =
            (store.open_session().expect("an entry"), store.open_session().expect("an entry"));
        let hash = store.segment.hasher.hash(b"key");
        let (short, long) = ([3; 104], [255; 304]);
        let item = |value| store.item((b"key", hash), Value::Bytes(value), None).expect("an item");
        let (before, now) = (item(&short), item(&long));
        let shelf = store.shelf_for(&now);
        let place = store.reserve(&writer, now.size().head, shelf, true).expect("there is room");
        store.write_item(&writer, *place, &before).expect("in bounds");
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(&writer, b"behind", &[9; 304], &options, always).expect("there is room");
        let extent = store.segment.geometry.extent_of(place.offset).expect("in the arena");
        let cleaner = &store.segment.cleaners()[0];
        let victim = store.make_victim(cleaner, extent, false).expect("whole").expect("sealed");
        let walk = |budget: u64| {
            drop(store.walk_victim(&other, cleaner, (victim, 0), GUARD_WAIT, &mut { budget }));
        };
        walk(1);
        store.write_item(&writer, *place, &now).expect("in bounds");
        {
            let held = store.hold(&writer, hash).expect("it is free");
            let found = search(&store.segment, b"key", hash).expect("whole");
            store.publish(&held, &found, hash, *place).expect("a free lane");
        }
        drop(place);
        walk(u64::MAX);
        assert_eq!(store.get(b"key"), Ok(Some(long.to_vec())));
        assert_eq!(store.get(b"behind"), Ok(Some(vec![9; 304])));
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }

    #[test]
    fn what_is_in_flight_is_not_recounted() {
        assert!(recount_within_puts::<Interrupted>(200, 60));
        assert!(recount_within_puts::<Interrupted>(2000, 400), "in pieces");
    }

    #[test]
    fn negative_control_without_notes() {
        for (len, turns) in [(200, 60), (2000, 400)] {
            let within = || recount_within_puts::<WithoutNotes>(len, turns);
            let stands = catch_unwind(AssertUnwindSafe(within));
            assert!(!stands.unwrap_or(false), "{len}: the test does not see the notes taken out");
        }
    }

    /// Before the n-th store of a cleaner that moves large values, for every n, somebody reads them,
    /// replaces one and puts others; each must stand as it was put last.
    #[test]
    fn pieces_are_moved_under_readers_and_writers() {
        const LEN: u64 = 3000;
        for turn in 0.. {
            let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(200);
            let store: &'static Store<Interrupted> =
                Box::leak(Box::new(private_on_heap(&options, 3).expect("a tiny store")));
            let session = store.open_session().expect("an entry");
            let other: &'static Session =
                Box::leak(Box::new(store.open_session().expect("another entry")));
            other.set_guard_deadline(Duration::from_millis(1));
            let put = move |session: &Session, key: u64, turn: u64, len: u64| {
                let (options, always) = (PutOptions::new(), Condition::Always);
                let value = value_of(key, turn, len);
                store.put(session, &key.to_le_bytes(), &value, &options, always)
            };
            let read = move |key: u64| store.get(&key.to_le_bytes()).expect("no contention");
            for key in 0..8 {
                put(&session, key, 0, LEN).expect("a put");
                put(&session, 100 + key, 0, 900).expect("a put");
            }
            for key in 0..8 {
                assert!(store.delete(&session, &u64::to_le_bytes(100 + key)).expect("a delete"));
            }
            let deed = move || {
                for key in 0..8 {
                    assert_eq!(read(key), Some(value_of(key, 0, LEN)), "before store {turn}");
                }
                // One of them may be under the cleaner's guard.
                let replaced = put(other, turn as u64 % 8, 1, LEN).is_ok();
                for key in 200..206 {
                    let _ = put(other, key, 1, LEN);
                }
                let stands = value_of(turn as u64 % 8, replaced.into(), LEN);
                assert_eq!(read(turn as u64 % 8), Some(stands), "before store {turn}");
            };
            INTERRUPTION.set(Some((turn, Box::new(deed))));
            store.clean(&session, 2).expect("cleaning");
            if INTERRUPTION.take().is_some() {
                assert!(turn > 100, "{turn}");
                return;
            }
            assert_eq!(store.check(|_, _| {}).violations, [""; 0], "before store {turn}");
            for key in (0..8).filter(|key| *key != turn as u64 % 8) {
                assert_eq!(read(key), Some(value_of(key, 0, LEN)), "before store {turn}");
            }
        }
    }
}
