//! `get_or_insert_with`: of all that miss a key at the same time, one computes its value.
//!
//! Who computes has a lease on the key. It is taken under the guard of the key's stripe, where the
//! key is looked up once more and no other lease on it stands, and held outside of it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::write::Value;
use super::{Condition, Outcome, PutOptions, Session, Store, Ttl, Version};
use crate::error::{Corruption, LoadError, ReadError, WriteError};
use crate::index::search::search;
use crate::layout::{LOADER_WINDOW, LoaderLease};
use crate::recovery::free_if_dead;
use crate::region::{Mutation, Shim, mutated};
use crate::sync::{Owner, Turn, WaitLimit, Wake};

/// How long a caller waits for another's value unless told otherwise.
const WAIT: Duration = Duration::from_secs(5);
/// The first sleep; each later one is twice as long, up to [`SLEEP_MAX`].
const SLEEP_FIRST: Duration = Duration::from_millis(1);
/// A sleeper is woken when the value is there. Only if the loader dies does this time matter.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How often a key may be there under its guard and be gone when it is read.
const ATTEMPTS_MAX: u32 = 1000;

thread_local! {
    /// The leases of this thread: address of the segment, and hash of the key.
    static MINE: RefCell<Vec<(usize, u64)>> = const { RefCell::new(Vec::new()) };
}

/// How `get_or_insert_with` stores a value, and how long it waits for somebody else's. All callers
/// of a key should give the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    ttl: Option<Duration>,
    for_ever: bool,
    stale: Option<Duration>,
    wait: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { ttl: None, for_ever: false, stale: None, wait: WAIT }
    }
}

impl LoadOptions {
    /// No time to live, or that of the namespace, nothing stale, a wait of 5 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value is fresh for this time, to within 10 ms. At least one millisecond.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The value is fresh for ever, whatever the namespace says.
    pub fn for_ever(mut self) -> Self {
        self.for_ever = true;
        self
    }

    /// After its time to live the value stays for this time more. The first caller then computes
    /// a new one, and whoever comes meanwhile is given the old one at once.
    ///
    /// Stored are the two times together, as the time to live of the item: `get` finds stale
    /// values too, and any item that has less than this time left counts as stale.
    pub fn stale(mut self, stale: Duration) -> Self {
        self.stale = Some(stale);
        self
    }

    /// How long to wait while another computes the value (5 s if never set).
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// What the item is put with.
    fn put(&self) -> PutOptions {
        let stored = self.ttl.map(|ttl| ttl.saturating_add(self.stale.unwrap_or_default()));
        PutOptions { ttl: stored, for_ever: self.for_ever && stored.is_none() }
    }

    /// Whether an item that lives so long still counts as fresh.
    fn is_fresh(&self, left: Ttl) -> bool {
        match (left, self.stale) {
            (Ttl::Left(left), Some(stale)) => left > stale,
            _ => true,
        }
    }
}

/// What stands under a key.
enum Found {
    Fresh(Vec<u8>),
    Stale(Vec<u8>),
    Nothing,
}

/// What came of trying to take a key's lease.
enum Claim<'a, S: Shim> {
    /// It is the caller's. The key has the version, or none.
    Mine(Held<'a, S>, Option<Version>),
    /// Somebody has it.
    Busy { lease: &'a LoaderLease, word: u32, owner: Owner },
    /// A fresh value stands by now.
    Stands,
    /// Others have every lease that the key may have, for other keys.
    NoneFree,
    /// This thread has it: it computes the value, and needs it to do so.
    Nested,
}

/// A lease of this thread, given back when dropped.
struct Held<'a, S: Shim> {
    store: &'a Store<S>,
    session: &'a Session,
    lease: &'a LoaderLease,
    hash: u64,
    wake: Wake,
}

impl<S: Shim> Drop for Held<'_, S> {
    fn drop(&mut self) {
        let mine = self.store.loader_mark(self.hash);
        MINE.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|held| *held == mine) {
                held.remove(at);
            }
        });
        // A child that was forked meanwhile has a copy of this, but not the lease.
        let (turn, me) = (Turn::new(&self.lease.owner), self.session.owner());
        if self.session.is_of_this_process() && turn.holder().is_some_and(|(_, at)| at == me) {
            self.lease.hash.store::<S>(0);
            turn.release::<S>(me, self.wake);
        }
    }
}

impl<S: Shim> Store<S> {
    /// The value of `key`; if there is none, what `load` gives, which is stored. Of all threads
    /// and processes that miss a key at the same time one calls `load`, the others wait for it. If
    /// it fails, panics or dies, another one does; if it is stopped, the others are refused at
    /// their deadline, or get a [stale value](LoadOptions::stale).
    ///
    /// What others put under the key meanwhile is not overwritten, but given back. `load` runs
    /// under no guard and may use the store. If it asks for the value of its own key, that is the
    /// stale one or is computed within. If it asks for another key whose loader waits for this one,
    /// both wait until their deadline. It must not return in a child that it forked, whose session
    /// this is not.
    ///
    /// A hit costs what [`Store::get`] does. A miss takes the guard of the key twice. Who waits
    /// makes a few system calls at growing intervals up to 50 ms.
    ///
    /// It saves work and is no lock: `load` is called more than once for a key if others are
    /// computing eight keys that share its leases.
    ///
    /// # Errors
    /// `Failed` with the error of `load`, nothing is stored then; `Busy` at the deadline;
    /// `NotStored` with the value; `Store`, before anything was computed.
    pub fn get_or_insert_with<E>(
        &self,
        session: &Session,
        key: &[u8],
        options: &LoadOptions,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        let found = self.found(key, options)?;
        self.count_lookup(session, !matches!(found, Found::Nothing));
        match found {
            Found::Fresh(value) => Ok(value),
            Found::Stale(value) => self.load_or_wait(session, key, options, Some(value), load),
            Found::Nothing => self.load_or_wait(session, key, options, None, load),
        }
    }

    /// One lookup.
    #[inline]
    fn found(&self, key: &[u8], options: &LoadOptions) -> Result<Found, ReadError> {
        if options.stale.is_none() {
            return Ok(self.get(key)?.map_or(Found::Nothing, Found::Fresh));
        }
        Ok(match self.get_entry(key)? {
            Some(entry) if options.is_fresh(entry.ttl) => Found::Fresh(entry.value),
            Some(entry) => Found::Stale(entry.value),
            None => Found::Nothing,
        })
    }

    #[cold]
    fn load_or_wait<E>(
        &self,
        session: &Session,
        key: &[u8],
        options: &LoadOptions,
        mut stale: Option<Vec<u8>>,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        self.assert_usable(session);
        // What would be refused in the end is refused before anything is computed.
        let expiry = self.expiry_of(options.ttl).and_then(|_| self.expiry_of(options.put().ttl))?;
        self.item((key, 0), Value::Bytes(&[]), expiry)?;
        let hash = self.segment.hasher.hash(key);
        let start = Instant::now();
        let mut sleep = SLEEP_FIRST;
        // A dead loader is found even by one that has no time to wait.
        let mut slept = false;
        let mut attempts = 0;
        loop {
            // Who has a stale value does not wait for the guard, but finds its dead holder.
            let limit = match stale {
                Some(_) => WaitLimit::For(Duration::ZERO),
                None => session.wait_limit(),
            };
            match self.claim(session, (key, hash), options, limit, slept) {
                Ok(Claim::Mine(held, standing)) => {
                    return self.load(session, key, options, standing, Some(held), load);
                }
                Ok(Claim::Busy { lease, word, owner }) => {
                    if stale.is_none() {
                        let waited = start.elapsed();
                        if slept && waited >= options.wait {
                            return Err(LoadError::Busy { pid: self.pid_of(owner.client), waited });
                        }
                        let limit = sleep.min(options.wait.saturating_sub(waited));
                        Turn::new(&lease.owner).sleep::<S>(word, limit);
                        sleep = (sleep * 2).min(SLEEP_MAX);
                        slept = true;
                    }
                    let freed = free_if_dead(&self.segment, lease);
                    if let Some(stale) = stale.filter(|_| !freed) {
                        return Ok(stale);
                    }
                }
                Ok(Claim::NoneFree) if self.free_dead_loaders(hash)? => {}
                Ok(claim @ (Claim::NoneFree | Claim::Nested)) => {
                    if let (Claim::Nested, Some(stale)) = (claim, stale) {
                        return Ok(stale);
                    }
                    let standing = self.look_up_hashed(key, hash, |item| self.version(item))?;
                    return self.load(session, key, options, standing, None, load);
                }
                Ok(Claim::Stands) if attempts < ATTEMPTS_MAX => attempts += 1,
                Ok(Claim::Stands) => return Err(ReadError::Contended { attempts }.into()),
                Err(error @ WriteError::Stuck { .. }) => {
                    return stale.ok_or(LoadError::Store(error));
                }
                Err(error) => return Err(error.into()),
            }
            stale = match self.found(key, options)? {
                Found::Fresh(value) => return Ok(value),
                Found::Stale(value) => Some(value),
                Found::Nothing => None,
            };
        }
    }

    /// Tries to take the lease of a key. `waiters` says that others may sleep on it.
    fn claim<'a>(
        &'a self,
        session: &'a Session,
        (key, hash): (&[u8], u64),
        options: &LoadOptions,
        limit: WaitLimit,
        waiters: bool,
    ) -> Result<Claim<'a, S>, WriteError> {
        let mine = self.loader_mark(hash);
        if MINE.with_borrow(|held| held.contains(&mine)) {
            return Ok(Claim::Nested);
        }
        // A hint that spares a crowd the guard; under the guard it is certain.
        if let Some(busy) = self.busy(hash)? {
            return Ok(busy);
        }
        let _guard = self.hold_within(session, hash, limit)?;
        let present = self.present(&search(&self.segment, key, hash)?)?;
        if let Some(present) = present {
            let standing = present.standing;
            let expiry = self.expiry_word(standing.slot.offset(), standing.header)?;
            let fresh = options.is_fresh(self.ttl_left(expiry));
            if fresh && !mutated::<S>(Mutation::SkipSecondLook) {
                return Ok(Claim::Stands);
            }
        }
        if let Some(busy) = self.busy(hash)? {
            return Ok(busy);
        }
        for nth in 0..LOADER_WINDOW {
            let lease = self.segment.loader(self.segment.geometry.loader_of(hash, nth))?;
            if Turn::new(&lease.owner).take::<S>(session.owner(), waiters) {
                // Dies before: a lease of a dead owner for an unknown key.
                lease.hash.store::<S>(hash);
                lease.taken_ms.store::<S>(self.now_ms());
                MINE.with_borrow_mut(|held| held.push(mine));
                let held = Held { store: self, session, lease, hash, wake: Wake::One };
                return Ok(Claim::Mine(held, present.map(|present| present.version)));
            }
        }
        Ok(Claim::NoneFree)
    }

    /// The lease that somebody has on a key with this hash.
    fn busy(&self, hash: u64) -> Result<Option<Claim<'_, S>>, Corruption> {
        for nth in 0..LOADER_WINDOW {
            let lease = self.segment.loader(self.segment.geometry.loader_of(hash, nth))?;
            if let Some((word, owner)) = Turn::new(&lease.owner).holder()
                && lease.hash.load() == hash
            {
                return Ok(Some(Claim::Busy { lease, word, owner }));
            }
        }
        Ok(None)
    }

    /// Sets those leases free that a key with this hash may have and dead clients do; whether there
    /// was one.
    fn free_dead_loaders(&self, hash: u64) -> Result<bool, Corruption> {
        let mut freed = false;
        for nth in 0..LOADER_WINDOW {
            let lease = self.segment.loader(self.segment.geometry.loader_of(hash, nth))?;
            freed |= free_if_dead(&self.segment, lease);
        }
        Ok(freed)
    }

    /// Computes a value and stores it, if nobody wrote the key since it had the version `standing`.
    fn load<E>(
        &self,
        session: &Session,
        key: &[u8],
        options: &LoadOptions,
        standing: Option<Version>,
        mut held: Option<Held<'_, S>>,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        let value = load().map_err(LoadError::Failed)?;
        let put = |condition| self.put(session, key, &value, &options.put(), condition);
        let outcome = match put(standing.map_or(Condition::Absent, Condition::Version)) {
            // The stale one expired meanwhile.
            Ok(Outcome::Refused(None)) => put(Condition::Absent),
            outcome => outcome,
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(source) => return Err(LoadError::NotStored { value, source }),
        };
        if let Some(held) = &mut held {
            held.wake = Wake::All;
        }
        Ok(match outcome {
            Outcome::Refused(_) => self.get(key).ok().flatten().unwrap_or(value),
            Outcome::Inserted | Outcome::Replaced => value,
        })
    }

    /// What names a lease on a key among those of a thread.
    fn loader_mark(&self, hash: u64) -> (usize, u64) {
        (self.segment.region.address(), hash)
    }
}
