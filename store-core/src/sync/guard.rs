//! A binary semaphore between processes whose word names its owner, of one of two kinds.
//!
//! Of the other kind see `semaphore.rs`. This file has the futex.
//!
//! Taken with one compare-and-swap, given back with one exchange; the futex is entered only when
//! contended. A waiter that timed out asks whether the owner lives, and takes over from a dead one
//! by a compare-and-swap of exactly its word. All waits are timed: a releaser may die between its
//! exchange and its wake. A living owner is never robbed, however long it is stopped.

use std::io;
use std::time::{Duration, Instant};

use super::owner::Owner;
use crate::region::{Cell32, Shim};
use crate::sys::futex;
use crate::sys::semaphore::Semaphore;

/// Tries before the first sleep; a holder needs well under a microsecond.
const SPINS: u32 = 200;
/// The first sleep; each later one is twice as long, up to [`SLEEP_MAX`].
pub(super) const SLEEP_FIRST: Duration = Duration::from_micros(500);
pub(super) const SLEEP_MAX: Duration = Duration::from_millis(10);

/// How long to wait for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitLimit {
    /// Not at all, not even for a look at whether the owner lives.
    Try,
    /// So long.
    For(Duration),
}

impl WaitLimit {
    pub(crate) fn is_longer_than(self, waited: Duration) -> bool {
        matches!(self, Self::For(limit) if limit > waited)
    }
}

/// What was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// A free guard.
    Free,
    /// The guard of a dead owner: what it left must be repaired before anything else.
    TakenOver,
}

/// The guard could not be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody holds it.
    Blocked {
        /// Who held it at the end.
        holder: Owner,
        /// How long was waited.
        waited: Duration,
    },
    /// The kernel refuses its semaphore.
    Semaphore(io::Error),
}

/// The guard whose word is the given cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(super) word: &'a Cell32,
    /// Of a guard of the System V kind.
    semaphore: Option<Semaphore>,
}

impl<'a> Guard<'a> {
    #[inline(always)]
    pub(crate) fn new(word: &'a Cell32, semaphore: Option<Semaphore>) -> Self {
        Self { word, semaphore }
    }

    /// Takes the guard for `me` if it is free, and none of the semaphore kind.
    #[inline(always)]
    pub(crate) fn acquire_if_free<S: Shim>(self, me: Owner) -> bool {
        self.semaphore.is_none() && self.word.compare_exchange::<S>(0, me.word()).is_ok()
    }

    /// Takes the guard for `me`. `is_dead` is asked about an owner that does not let go.
    #[inline]
    pub(crate) fn acquire<S: Shim>(
        self,
        me: Owner,
        limit: WaitLimit,
        is_dead: impl Fn(Owner) -> bool,
    ) -> Result<Acquired, Refused> {
        if let Some(semaphore) = self.semaphore {
            return self.acquire_semaphore::<S>(semaphore, me, limit, is_dead);
        }
        if self.acquire_if_free::<S>(me) {
            return Ok(Acquired::Free);
        }
        self.acquire_contended::<S>(me, limit, is_dead)
    }

    #[cold]
    fn acquire_contended<S: Shim>(
        self,
        me: Owner,
        limit: WaitLimit,
        is_dead: impl Fn(Owner) -> bool,
    ) -> Result<Acquired, Refused> {
        if limit != WaitLimit::Try {
            for _ in 0..SPINS {
                if self.word.load() == 0 && self.word.compare_exchange::<S>(0, me.word()).is_ok() {
                    return Ok(Acquired::Free);
                }
                std::hint::spin_loop();
            }
        }
        let WaitLimit::For(limit) = limit else {
            let holder = Owner::of_word(self.word.load()).unwrap_or(me);
            return Err(Refused::Blocked { holder, waited: Duration::ZERO });
        };
        let start = Instant::now();
        let mut sleep = SLEEP_FIRST;
        // A dead owner is found even by one that has no time to wait.
        let mut asked = false;
        loop {
            let word = self.word.load();
            let Some(holder) = Owner::of_word(word) else {
                // Free, whatever the upper bits say. Others may wait too, so the bit goes with it.
                let mine = Owner::with_waiters(me.word());
                if self.word.compare_exchange::<S>(word, mine).is_ok() {
                    return Ok(Acquired::Free);
                }
                continue;
            };
            let waiting = Owner::with_waiters(word);
            if word != waiting && self.word.compare_exchange::<S>(word, waiting).is_err() {
                continue;
            }
            let waited = start.elapsed();
            if waited >= limit && asked {
                return Err(Refused::Blocked { holder, waited });
            }
            futex::wait(self.word.futex(), waiting, sleep.min(limit.saturating_sub(waited)));
            sleep = (sleep * 2).min(SLEEP_MAX);
            asked = true;
            if self.word.load() == waiting
                && is_dead(holder)
                && self.word.compare_exchange::<S>(waiting, Owner::with_waiters(me.word())).is_ok()
            {
                return Ok(Acquired::TakenOver);
            }
        }
    }

    /// Takes the guard from exactly `dead`, which was found dead; `false` if it is not its any more.
    pub(crate) fn take_over<S: Shim>(self, me: Owner, dead: Owner) -> bool {
        let word = self.word.load();
        if Owner::of_word(word) != Some(dead) {
            return false;
        }
        match self.semaphore {
            None => self.word.compare_exchange::<S>(word, Owner::with_waiters(me.word())).is_ok(),
            Some(semaphore) => self.take_over_semaphore::<S>(semaphore, me, word),
        }
    }

    /// Gives the guard back and wakes a waiter if there may be one.
    #[inline(always)]
    pub(crate) fn release<S: Shim>(self) {
        // The word first: a semaphore's next holder must not meet the name of one that lives.
        let word = self.word.swap::<S>(0);
        if let Some(semaphore) = self.semaphore {
            semaphore.give();
        } else if Owner::has_waiters(word) {
            futex::wake_one(self.word.futex());
        }
    }

    /// Who holds it now, and whether somebody waits.
    pub(crate) fn holder(self) -> Option<(Owner, bool)> {
        let word = self.word.load();
        let owner = Owner::of_word(word)?;
        let waiters = match self.semaphore {
            None => Owner::has_waiters(word),
            Some(semaphore) => semaphore.has_waiters(),
        };
        Some((owner, waiters))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::region::{Plain, Region};
    use crate::sys::map::Mapping;

    const FOREVER: WaitLimit = WaitLimit::For(Duration::from_secs(60));

    #[test]
    fn threads_exclude_each_other() {
        let region = Region::private(Mapping::heap(4096));
        let inside = AtomicU32::new(0);
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (region, inside) = (&region, &inside);
                scope.spawn(move || {
                    let guard = Guard::new(region.view::<Cell32>(64).expect("in bounds"), None);
                    let me = Owner::new(client, 3);
                    for _ in 0..rounds {
                        let got = guard.acquire::<Plain>(me, FOREVER, |_| false);
                        assert_eq!(got.expect("nobody holds it for long"), Acquired::Free);
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        assert_eq!(inside.fetch_sub(1, Ordering::Relaxed), 1);
                        guard.release::<Plain>();
                    }
                });
            }
        });
        assert_eq!(region.view::<Cell32>(64).expect("in bounds").load(), 0);
    }

    #[test]
    fn a_dead_owner_is_followed_and_a_living_one_is_not() {
        let region = Region::private(Mapping::heap(4096));
        let guard = Guard::new(region.view::<Cell32>(64).expect("in bounds"), None);
        let (dead, me) = (Owner::new(1, 1), Owner::new(2, 1));
        let got = guard.acquire::<Plain>(dead, FOREVER, |_| false);
        assert_eq!(got.expect("it is free"), Acquired::Free);
        let short = WaitLimit::For(Duration::from_millis(5));
        let refused = guard.acquire::<Plain>(me, short, |_| false).expect_err("it is held");
        let Refused::Blocked { holder, waited } = refused else { panic!("{refused:?}") };
        assert_eq!(holder, dead);
        assert!(waited >= Duration::from_millis(5));
        assert!(!guard.take_over::<Plain>(me, Owner::new(1, 2)), "another generation");
        let got = guard.acquire::<Plain>(me, FOREVER, |owner| owner == dead);
        assert_eq!(got.expect("its owner is dead"), Acquired::TakenOver);
        guard.release::<Plain>();
        assert_eq!(guard.holder(), None);
    }
}
