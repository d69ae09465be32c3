//! Counting what a client does: privately, and now and then into its entry, where others see it.
//!
//! A count is a load and a store of a word that the thread has for itself. With more threads than
//! there are places some counts get lost. Lookups are counted by those who ask for it only: it costs
//! one that is in cache about a nanosecond, and independent ones some of their overlap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Session, Store};
use crate::error::Corruption;
use crate::layout::{COUNTS, Counts};
use crate::region::{Cell64, Shim};
use crate::sys::{fork, thread};

/// Threads that count apart from each other.
const PLACES: usize = 16;
/// After how many of a kind a thread has the sums stored: a power of two.
const TOLD_EVERY: u64 = 1 << 10;

/// What is counted, in the order of [`Counts`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Hits,
    Misses,
    Puts,
    Deletes,
    PutBytes,
}

/// What a client has counted, which is private to its process. Up to 1023 of each kind and thread
/// are not in its entry yet, and the bytes of as many puts.
#[derive(Debug)]
pub struct Tally {
    of: Of,
    process_mark: u64,
    /// Whether lookups are counted too.
    lookups: AtomicBool,
    places: [Place; PLACES],
    /// What is in the entry, or was. Held while the sums are stored.
    told: Mutex<[u64; COUNTS]>,
}

/// Whose record the sums are told to.
#[derive(Debug, Clone, Copy)]
enum Of {
    Client(u32),
    Namespace(u8),
}

#[repr(align(64))]
#[derive(Debug, Default)]
struct Place([AtomicU64; COUNTS]);

impl Tally {
    pub(super) fn new(client: u32) -> Self {
        Self::told_to(Of::Client(client))
    }

    /// What one handle counts for a namespace.
    pub(super) fn of_namespace(namespace: u8) -> Self {
        Self::told_to(Of::Namespace(namespace))
    }

    fn told_to(of: Of) -> Self {
        Self {
            of,
            process_mark: fork::process_mark(),
            lookups: AtomicBool::new(false),
            places: Default::default(),
            told: Mutex::new([0; COUNTS]),
        }
    }

    /// Whether it is this process's, and not its parent's.
    #[inline]
    fn is_own(&self) -> bool {
        self.process_mark == fork::process_mark()
    }

    /// Counts; whether it is time to tell.
    #[inline]
    fn add(&self, what: Count, by: u64) -> bool {
        let cell = &self.places[thread::number() % PLACES].0[what as usize];
        let before = cell.load(Ordering::Relaxed);
        let now = before.wrapping_add(by);
        cell.store(now, Ordering::Relaxed);
        before / TOLD_EVERY != now / TOLD_EVERY
    }

    fn sum(&self, what: usize) -> u64 {
        let counts = self.places.iter().map(|place| place.0[what].load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

/// What clients counted. A client that was killed takes with it what it had not told yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Values that were stored, by whichever operation.
    pub puts: u64,
    /// Keys that were deleted by a user; not those that expired.
    pub deletes: u64,
    /// Bytes of the items that were put; a counter that changes in place takes none.
    pub put_bytes: u64,
}

impl ClientCounts {
    pub(super) fn of(counts: &Counts) -> Self {
        Self::of_cells(counts.cells())
    }

    pub(super) fn of_cells(cells: [&Cell64; COUNTS]) -> Self {
        let [hits, misses, puts, deletes, put_bytes] = cells.map(Cell64::load);
        Self { hits, misses, puts, deletes, put_bytes }
    }

    /// Hits among the lookups, from 0 to 1; `None` without any.
    pub fn hit_ratio(&self) -> Option<f64> {
        let lookups = self.hits as f64 + self.misses as f64;
        (lookups > 0.0).then(|| self.hits as f64 / lookups)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.hits = self.hits.wrapping_add(other.hits);
        self.misses = self.misses.wrapping_add(other.misses);
        self.puts = self.puts.wrapping_add(other.puts);
        self.deletes = self.deletes.wrapping_add(other.deletes);
        self.put_bytes = self.put_bytes.wrapping_add(other.put_bytes);
    }
}

impl<S: Shim> Store<S> {
    /// Counts lookups of a client. In a forked child it does nothing: the tally is its parent's.
    #[inline]
    pub fn count_lookups(&self, tally: &Tally, hits: u64, misses: u64) {
        if hits > 0 {
            self.count(tally, Count::Hits, hits);
        }
        if misses > 0 {
            self.count(tally, Count::Misses, misses);
        }
    }

    /// From now on the client of `session` counts its lookups, and says so in its entry. What is
    /// done with a session is counted by itself, other lookups by [`Store::count_lookups`].
    ///
    /// # Errors
    /// `Corruption` where the client table is out of bounds.
    pub fn begin_counting_lookups(&self, session: &Session) -> Result<(), Corruption> {
        self.assert_usable(session);
        let entry = self.segment.client(session.client())?;
        entry.counters.lookups_generation.store::<S>(session.owner().generation.into());
        session.tally.lookups.store(true, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(super) fn count_lookup(&self, session: &Session, hit: bool) {
        let what = if hit { Count::Hits } else { Count::Misses };
        if session.tally.lookups.load(Ordering::Relaxed) {
            self.count(&session.tally, what, 1);
        }
        if let Some(tally) = &self.tally {
            self.count(tally, what, 1);
        }
    }

    /// Counts a value that was stored, whose item takes so many new bytes.
    #[inline]
    pub(super) fn count_put(&self, session: &Session, bytes: u64) {
        self.count_put_in(&session.tally, bytes);
        if let Some(tally) = &self.tally {
            self.count_put_in(tally, bytes);
        }
    }

    #[inline]
    fn count_put_in(&self, tally: &Tally, bytes: u64) {
        if !tally.is_own() {
            return;
        }
        // Its bytes are told with the puts.
        tally.add(Count::PutBytes, bytes);
        if tally.add(Count::Puts, 1) {
            self.tell_in_passing(tally);
        }
    }

    #[inline]
    pub(super) fn count_deletes(&self, session: &Session, deletes: u64) {
        for tally in std::iter::once(&session.tally).chain(&self.tally) {
            self.count(tally, Count::Deletes, deletes);
        }
    }

    #[inline]
    fn count(&self, tally: &Tally, what: Count, by: u64) {
        if tally.is_own() && tally.add(what, by) {
            self.tell_in_passing(tally);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_in_passing(&self, tally: &Tally) {
        // Another thread is at it: what this one has is told with the rest the next time.
        if self.is_writable()
            && let Some(mut told) = tally.told.try_lock()
        {
            let _ = self.tell_under(tally, &mut told);
        }
    }

    /// Adds what was counted since the last time to the client's entry.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn tell_counts(&self, session: &Session) -> Result<(), Corruption> {
        self.tell(&session.tally)?;
        self.tell_namespace()
    }

    /// Adds what was counted since the last time to the record of the namespace that is meant.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn tell_namespace(&self) -> Result<(), Corruption> {
        match &self.tally {
            Some(tally) if tally.is_own() && self.is_writable() => self.tell(tally),
            _ => Ok(()),
        }
    }

    /// What counts lookups in the namespace that is meant; `None` without one, or in a mapping that
    /// can't be written.
    pub fn namespace_tally(&self) -> Option<&Arc<Tally>> {
        self.tally.as_ref()
    }

    pub(super) fn tell(&self, tally: &Tally) -> Result<(), Corruption> {
        self.tell_under(tally, &mut tally.told.lock())
    }

    /// Adds, so that whoever takes a number off the entry meanwhile takes nothing twice.
    fn tell_under(&self, tally: &Tally, told: &mut [u64; COUNTS]) -> Result<(), Corruption> {
        let cells = match tally.of {
            Of::Client(client) => self.segment.client(client)?.counters.cells(),
            // Whoever has the record by now shall not have what another one counted.
            Of::Namespace(_) if !self.segment.namespace_stands() => return Ok(()),
            Of::Namespace(namespace) => match self.segment.namespace_record(namespace) {
                Some(record) => record.told(),
                None => return Ok(()),
            },
        };
        for (what, (cell, told)) in cells.into_iter().zip(told).enumerate() {
            let sum = tally.sum(what);
            let fresh = sum.wrapping_sub(*told);
            if fresh > 0 {
                cell.fetch_add::<S>(fresh);
                *told = sum;
            }
        }
        Ok(())
    }

    /// What the clients have told, those that are gone included.
    pub(super) fn client_counts(&self) -> Result<ClientCounts, Corruption> {
        let mut sums = ClientCounts::of(&self.segment.superblock().counts);
        for client in 0..self.segment.geometry.clients {
            sums.add(ClientCounts::of(&self.segment.client(client)?.counters));
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::layout::ClientWord;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, private_on_heap};

    fn store() -> Store<Plain> {
        private_on_heap(&CreateOptions::new(1 << 20).items(100), 7).expect("a store")
    }

    #[test]
    fn a_close_tells_all_and_leaves_it_to_the_superblock() {
        let store = store();
        let session = store.open_session().expect("an entry");
        let put = |key: &[u8]| {
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, key, b"value", &options, always).expect("a put");
        };
        put(b"a");
        put(b"b");
        assert_eq!(store.add_to(&session, b"n", 5).expect("a sum"), 5);
        assert_eq!(store.add_to(&session, b"n", 5).expect("a sum"), 10);
        assert!(store.delete(&session, b"a").expect("a delete"));
        assert!(!store.delete(&session, b"a").expect("no delete"));
        store.count_lookups(session.tally(), 3, 1);
        assert_eq!(store.client_counts().expect("counts"), ClientCounts::default());
        store.close_session(&session).expect("a close");
        // 16 bytes of header, 8 each of key and value.
        let expected = ClientCounts { hits: 3, misses: 1, puts: 4, deletes: 1, put_bytes: 96 };
        assert_eq!(ClientCounts::of(&store.segment.superblock().counts), expected);
        assert_eq!(store.client_counts().expect("counts"), expected);
        assert_eq!(expected.hit_ratio(), Some(0.75));
    }

    #[test]
    fn what_was_told_outlives_a_killed_client() {
        let store = store();
        let session = store.open_session().expect("an entry");
        for _ in 0..TOLD_EVERY + 5 {
            store.count_lookups(session.tally(), 1, 0);
        }
        let told = store.client_counts().expect("counts");
        assert_eq!(told.hits, TOLD_EVERY);
        // A process that is gone: its start time is another's.
        let entry = store.segment.client(session.client()).expect("an entry");
        entry.start_time.store::<Plain>(1);
        let other = store.open_session().expect("another entry");
        assert_eq!(store.reap(&other).expect("reaps").clients, 1);
        assert_eq!(ClientWord::of(entry.word.load()).pid, 0);
        assert_eq!(ClientCounts::of(&store.segment.superblock().counts), told);
        assert_eq!(store.client_counts().expect("counts"), told);
    }

    #[test]
    fn threads_count_apart_and_are_summed() {
        let store = store();
        let session = store.open_session().expect("an entry");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        store.count_lookups(session.tally(), 1, 2);
                    }
                });
            }
        });
        store.tell(session.tally()).expect("told");
        let counts = store.client_counts().expect("counts");
        // Two threads of the whole test run may have one place; these four have numbers in a row.
        assert!(counts.hits <= 40_000 && counts.hits > 30_000, "{counts:?}");
        store.tell(session.tally()).expect("told");
        assert_eq!(store.client_counts().expect("counts"), counts);
    }
}
