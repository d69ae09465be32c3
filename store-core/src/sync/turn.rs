//! A word that names who does a task for all, and lets the others sleep until it is done.
//!
//! It looks like a guard, but is held as long as the task takes and protects no bytes: nothing has
//! to be repaired when its owner dies, so whoever finds the owner dead sets exactly its word free.
//! All sleeps are timed, and a living owner keeps its turn, however long it is stopped.

use std::time::Duration;

use super::owner::Owner;
use crate::region::{Cell32, Shim};
use crate::sys::futex;

/// Who is woken when a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Everybody: the task is done.
    All,
    /// One, to do the task.
    One,
}

/// The turn whose word is the given cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    word: &'a Cell32,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(word: &'a Cell32) -> Self {
        Self { word }
    }

    /// The word now, and whom it names.
    pub(crate) fn holder(self) -> Option<(u32, Owner)> {
        let word = self.word.load();
        Owner::of_word(word).map(|owner| (word, owner))
    }

    /// Takes a turn that is nobody's; whether it was. `waiters` says that somebody may sleep.
    pub(crate) fn take<S: Shim>(self, me: Owner, waiters: bool) -> bool {
        let found = self.word.load();
        let mine = if waiters { Owner::with_waiters(me.word()) } else { me.word() };
        Owner::of_word(found).is_none() && self.word.compare_exchange::<S>(found, mine).is_ok()
    }

    /// Sleeps for `limit` at most while the word is `found`, but for the waiters bit. Wakes may be
    /// spurious.
    pub(crate) fn sleep<S: Shim>(self, found: u32, limit: Duration) {
        let waiting = Owner::with_waiters(found);
        if found == waiting || self.word.compare_exchange::<S>(found, waiting).is_ok() {
            futex::wait(self.word.futex(), waiting, limit);
        }
    }

    /// Ends the turn of `dead`, which was found dead, if the word still names it. Sleepers wake.
    pub(crate) fn free<S: Shim>(self, dead: Owner) -> bool {
        self.end::<S>(dead, Wake::All)
    }

    /// Ends the turn of `me`; nothing if it is somebody else's by now.
    pub(crate) fn release<S: Shim>(self, me: Owner, wake: Wake) {
        self.end::<S>(me, wake);
    }

    fn end<S: Shim>(self, owner: Owner, wake: Wake) -> bool {
        // The waiters bit is set once at most, so the second attempt meets no other word of `owner`.
        for _ in 0..2 {
            let word = self.word.load();
            if Owner::of_word(word) != Some(owner) {
                return false;
            }
            if self.word.compare_exchange::<S>(word, 0).is_ok() {
                match wake {
                    Wake::All if Owner::has_waiters(word) => futex::wake_all(self.word.futex()),
                    Wake::One if Owner::has_waiters(word) => futex::wake_one(self.word.futex()),
                    _ => {}
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::region::{Plain, Region};
    use crate::sys::map::Mapping;

    #[test]
    fn a_turn_is_one_owners_until_it_ends() {
        let region = Region::private(Mapping::heap(4096));
        let turn = Turn::new(region.view::<Cell32>(64).expect("in bounds"));
        let (one, other) = (Owner::new(1, 1), Owner::new(2, 1));
        assert!(turn.take::<Plain>(one, false) && !turn.take::<Plain>(other, false));
        turn.release::<Plain>(other, Wake::All);
        assert!(!turn.free::<Plain>(Owner::new(1, 2)), "another generation");
        assert_eq!(turn.holder(), Some((one.word(), one)));
        turn.sleep::<Plain>(one.word(), Duration::from_millis(1));
        assert_eq!(turn.holder(), Some((Owner::with_waiters(one.word()), one)));
        assert!(turn.free::<Plain>(one) && turn.take::<Plain>(other, true));
        turn.release::<Plain>(other, Wake::One);
        assert_eq!(turn.holder(), None);
    }

    #[test]
    fn sleepers_wake_when_it_ends() {
        let region = Region::private(Mapping::heap(4096));
        let owner = Owner::new(0, 1);
        let turn = |region: &Region| {
            Turn::new(region.view::<Cell32>(64).expect("in bounds")).take::<Plain>(owner, false)
        };
        assert!(turn(&region));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let turn = Turn::new(region.view::<Cell32>(64).expect("in bounds"));
                    while let Some((word, _)) = turn.holder() {
                        turn.sleep::<Plain>(word, Duration::from_secs(60));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            let turn = Turn::new(region.view::<Cell32>(64).expect("in bounds"));
            turn.release::<Plain>(owner, Wake::All);
        });
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
