//! A binary semaphore between processes whose word names its owner.
//!
//! Taken with one compare-and-swap, given back with one exchange; the futex is entered only when
//! contended. A waiter that timed out asks whether the owner lives, and takes over from a dead one
//! by a compare-and-swap of exactly its word. All waits are timed: a releaser may die between its
//! exchange and its wake. A living owner is never robbed, however long it is stopped.

use std::time::{Duration, Instant};

use super::owner::Owner;
use crate::region::{Cell32, Shim};
use crate::sys::futex;

/// Tries before the first sleep; a holder needs well under a microsecond.
const SPINS: u32 = 200;
/// The first sleep; each later one is twice as long, up to [`SLEEP_MAX`].
const SLEEP_FIRST: Duration = Duration::from_micros(500);
const SLEEP_MAX: Duration = Duration::from_millis(10);

/// How long to wait for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitLimit {
    /// Not at all, not even for a look at whether the owner lives.
    Try,
    /// So long.
    For(Duration),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Who held it at the end.
    pub(crate) holder: Owner,
    /// How long was waited.
    pub(crate) waited: Duration,
}

/// The guard whose word is the given cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'a> {
    word: &'a Cell32,
}

impl<'a> Guard<'a> {
    #[inline(always)]
    pub(crate) fn new(word: &'a Cell32) -> Self {
        Self { word }
    }

    /// Takes the guard for `me`. `is_dead` is asked about an owner that does not let go.
    #[inline]
    pub(crate) fn acquire<S: Shim>(
        self,
        me: Owner,
        limit: WaitLimit,
        is_dead: impl Fn(Owner) -> bool,
    ) -> Result<Acquired, Blocked> {
        if self.word.compare_exchange::<S>(0, me.word()).is_ok() {
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
    ) -> Result<Acquired, Blocked> {
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
            return Err(Blocked { holder, waited: Duration::ZERO });
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
                return Err(Blocked { holder, waited });
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
        Owner::of_word(word) == Some(dead)
            && self.word.compare_exchange::<S>(word, Owner::with_waiters(me.word())).is_ok()
    }

    /// Gives the guard back and wakes a waiter if there may be one.
    #[inline]
    pub(crate) fn release<S: Shim>(self) {
        if Owner::has_waiters(self.word.swap::<S>(0)) {
            futex::wake_one(self.word.futex());
        }
    }

    /// Who holds it now, and whether somebody waits.
    pub(crate) fn holder(self) -> Option<(Owner, bool)> {
        let word = self.word.load();
        Owner::of_word(word).map(|owner| (owner, Owner::has_waiters(word)))
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
                    let guard = Guard::new(region.view::<Cell32>(64).expect("in bounds"));
                    let me = Owner::new(client, 3);
                    for _ in 0..rounds {
                        let got = guard.acquire::<Plain>(me, FOREVER, |_| false);
                        assert_eq!(got, Ok(Acquired::Free));
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
        let guard = Guard::new(region.view::<Cell32>(64).expect("in bounds"));
        let (dead, me) = (Owner::new(1, 1), Owner::new(2, 1));
        assert_eq!(guard.acquire::<Plain>(dead, FOREVER, |_| false), Ok(Acquired::Free));
        let short = WaitLimit::For(Duration::from_millis(5));
        let blocked = guard.acquire::<Plain>(me, short, |_| false).expect_err("it is held");
        assert_eq!(blocked.holder, dead);
        assert!(blocked.waited >= Duration::from_millis(5));
        assert!(!guard.take_over::<Plain>(me, Owner::new(1, 2)), "another generation");
        assert_eq!(
            guard.acquire::<Plain>(me, FOREVER, |owner| owner == dead),
            Ok(Acquired::TakenOver)
        );
        guard.release::<Plain>();
        assert_eq!(guard.holder(), None);
    }
}
