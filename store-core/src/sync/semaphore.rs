//! A guard of the System V kind: a semaphore that is waited for, and the word that decides.
//!
//! Whoever got the semaphore still takes the word by a compare-and-swap, so that two holders are
//! impossible whatever the semaphore counts. The kernel gives a dead holder's semaphore back and
//! says nothing: a word that is not 0 tells. What can make the semaphore count wrong: a holder
//! that went on as another program keeps it until it ends, and a stranger may change it. So:
//!
//! - A word that is 0 for [`IDLE_LOOKS`] sleeps or at the end of the wait, or that names a dead
//!   owner, is taken without the semaphore, and gives one back all the same: it counts one more.
//! - Who got the semaphore and meets a living holder drops it: it counts one less.

use std::io;
use std::time::{Duration, Instant};

use super::Owner;
use super::guard::{Acquired, Guard, Refused, SLEEP_FIRST, SLEEP_MAX, WaitLimit};
use crate::region::Shim;
use crate::sys::semaphore::Semaphore;

/// Sleeps after which a guard that nobody holds is taken, though its semaphore was not to be had.
const IDLE_LOOKS: u32 = 3;

impl Guard<'_> {
    /// [`Guard::acquire`]: one system call if nobody holds it.
    #[cold]
    pub(super) fn acquire_semaphore<S: Shim>(
        self,
        semaphore: Semaphore,
        me: Owner,
        limit: WaitLimit,
        is_dead: impl Fn(Owner) -> bool,
    ) -> Result<Acquired, Refused> {
        let take = |limit| semaphore.take(limit).map_err(Refused::Semaphore);
        let mut had = take(Duration::ZERO)?;
        if had && self.word.compare_exchange::<S>(0, me.word()).is_ok() {
            return Ok(Acquired::Free);
        }
        let WaitLimit::For(limit) = limit else {
            if had {
                semaphore.give();
            }
            let holder = Owner::of_word(self.word.load()).unwrap_or(me);
            return Err(Refused::Blocked { holder, waited: Duration::ZERO });
        };
        let start = Instant::now();
        let mut sleep = SLEEP_FIRST;
        let mut asked = false;
        let mut idle = 0;
        loop {
            let word = self.word.load();
            let holder = Owner::of_word(word);
            let waited = start.elapsed();
            let is_over = waited >= limit && asked;
            let taken = match holder {
                None if had || idle >= IDLE_LOOKS || is_over => Some(Acquired::Free),
                None => None,
                Some(holder) if (had || asked) && is_dead(holder) => Some(Acquired::TakenOver),
                Some(_) => None,
            };
            if let Some(how) = taken {
                if self.word.compare_exchange::<S>(word, me.word()).is_ok() {
                    // What a dead holder had may have come back by now; else it comes later, and
                    // meets a holder that lives.
                    if !had {
                        let _: io::Result<bool> = semaphore.take(Duration::ZERO);
                    }
                    return Ok(how);
                }
                continue;
            }
            if had {
                semaphore.drop_taken();
            }
            if let (Some(holder), true) = (holder, is_over) {
                return Err(Refused::Blocked { holder, waited });
            }
            idle = if holder.is_none() { idle + 1 } else { 0 };
            had = take(sleep.min(limit.saturating_sub(waited)))?;
            sleep = (sleep * 2).min(SLEEP_MAX);
            asked = true;
        }
    }

    /// Takes the guard from a dead owner, whose word it was seen to have.
    pub(super) fn take_over_semaphore<S: Shim>(
        self,
        semaphore: Semaphore,
        me: Owner,
        word: u32,
    ) -> bool {
        let taken = self.word.compare_exchange::<S>(word, me.word()).is_ok();
        if taken {
            let _: io::Result<bool> = semaphore.take(Duration::ZERO);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{Cell32, Plain, Region};
    use crate::sys::map::Mapping;
    use crate::sys::semaphore::{Ownership, SemaphoreSet};

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_guard_that_nobody_holds_is_had_whatever_its_semaphore_counts() {
        let region = Region::private(Mapping::heap(4096));
        let word = region.view::<Cell32>(64).expect("in bounds");
        // Somebody else has it, and no holder is named.
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let ownership = Ownership { uid, gid, permissions: 0o600 };
        let set = SemaphoreSet::create(&[0], ownership).expect("a set of one");
        let guard = Guard::new(word, Some(set.semaphore(0)));
        let limit = WaitLimit::For(Duration::ZERO);
        let got = guard.acquire::<Plain>(Owner::new(1, 1), limit, |_| false);
        set.remove().expect("its own set");
        assert_eq!(got.expect("nobody holds it"), Acquired::Free);
    }
}
