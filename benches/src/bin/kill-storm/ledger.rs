//! What a slot's processes were told is done, in memory that outlives them.
//!
//! Before a write its outcome is noted as being in flight, after the acknowledgement as what stands.
//! A process that was killed in between leaves both, and its successor finds out which of them it is:
//! from then on it is that one, for ever.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use zerocopy::FromZeros;

use store_benches::mortal::{Graves, Life};
use store_benches::shared::now_ns;

/// Processes that write at the same time.
pub(crate) const SLOTS: usize = 4;
/// Keys of each slot.
pub(crate) const OWN_KEYS: usize = 12;
/// Numbers that all add to.
pub(crate) const COUNTERS: usize = 3;
/// Violations that are told one by one.
const TOLD_MAX: u64 = 20;
/// The clocks of stores and of this program are not read at the same instant.
const CLOCK_SLACK_NS: u64 = 20_000_000;

/// What stands under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    /// What a put wrote, or an append to nothing, with so many appends behind it.
    Record {
        writer: u8,
        seq: u32,
        appended: u32,
    },
    Number(i64),
}

impl State {
    fn word(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Record { writer, seq, appended } => {
                1 << 62 | u64::from(writer) << 56 | u64::from(appended) << 32 | u64::from(seq)
            }
            Self::Number(number) => 2 << 62 | (number as u64 & ((1 << 62) - 1)),
        }
    }

    fn of(word: u64) -> Self {
        match word >> 62 {
            0 => Self::Absent,
            1 => Self::Record {
                writer: (word >> 56) as u8 & 15,
                seq: word as u32,
                appended: (word >> 32) as u32 & 0xff_ffff,
            },
            _ => Self::Number((word << 2) as i64 >> 2),
        }
    }
}

/// What stands under a key, and from when on it may be gone: nanoseconds of the monotonic clock, 0 for
/// never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) state: State,
    pub(crate) gone_from_ns: u64,
}

impl Known {
    pub(crate) const ABSENT: Self = Self { state: State::Absent, gone_from_ns: 0 };

    /// For good.
    pub(crate) fn lasting(state: State) -> Self {
        Self { state, gone_from_ns: 0 }
    }

    fn explains(self, found: State, may_vanish: bool) -> bool {
        let may_be_gone =
            may_vanish || self.gone_from_ns != 0 && now_ns() + CLOCK_SLACK_NS >= self.gone_from_ns;
        found == self.state || found == State::Absent && may_be_gone
    }
}

/// One key.
#[derive(FromZeros)]
#[repr(C)]
pub(crate) struct Entry {
    standing: [AtomicU64; 2],
    next: [AtomicU64; 2],
    in_flight: AtomicU64,
}

impl Entry {
    pub(crate) fn known(&self) -> Known {
        load(&self.standing)
    }

    /// A write begins that leads to `next`.
    pub(crate) fn begin(&self, next: Known) {
        store(&self.next, next);
        self.in_flight.store(1, Ordering::Release);
    }

    /// It was acknowledged.
    pub(crate) fn commit(&self) {
        store(&self.standing, load(&self.next));
        self.in_flight.store(0, Ordering::Release);
    }

    /// It was refused, and changed nothing.
    pub(crate) fn abort(&self) {
        self.in_flight.store(0, Ordering::Release);
    }

    /// Notes what was found while nobody wrote; an error if nothing explains it.
    pub(crate) fn settle(&self, found: State, may_vanish: bool) -> Result<(), String> {
        let (standing, next) = (self.known(), load(&self.next));
        let in_flight = self.in_flight.load(Ordering::Acquire) != 0;
        let by_standing = standing.explains(found, may_vanish);
        let by_next = in_flight && next.explains(found, may_vanish);
        let gone_from_ns = match (found, by_standing, by_next) {
            (State::Absent, ..) => 0,
            // Whether its time to live was changed is not known.
            (_, true, true) => match (standing.gone_from_ns, next.gone_from_ns) {
                (0, one) | (one, 0) => one,
                (one, other) => one.min(other),
            },
            (_, false, true) => next.gone_from_ns,
            _ => standing.gone_from_ns,
        };
        store(&self.standing, Known { state: found, gone_from_ns });
        self.in_flight.store(0, Ordering::Release);
        if by_standing || by_next {
            return Ok(());
        }
        let or = if in_flight { format!(" or {next:?}") } else { String::new() };
        Err(format!("should be {standing:?}{or}, not {found:?}"))
    }
}

fn load(known: &[AtomicU64; 2]) -> Known {
    Known {
        state: State::of(known[0].load(Ordering::Acquire)),
        gone_from_ns: known[1].load(Ordering::Acquire),
    }
}

fn store(to: &[AtomicU64; 2], known: Known) {
    to[0].store(known.state.word(), Ordering::Release);
    to[1].store(known.gone_from_ns, Ordering::Release);
}

/// What is in flight at the ends of the rolling keys.
pub(crate) const ADDING: u64 = 1;
pub(crate) const REMOVING: u64 = 2;

/// One slot: the processes that follow each other in it.
#[derive(FromZeros)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) life: Life,
    pub(crate) entries: [Entry; OWN_KEYS],
    /// The rolling keys from `tail` to before `head` stand.
    pub(crate) head: AtomicU64,
    pub(crate) tail: AtomicU64,
    /// 0, [`ADDING`] or [`REMOVING`].
    pub(crate) rolling: AtomicU64,
    /// What was added to each number and acknowledged, and what may or may not have been added.
    added: [AtomicU64; COUNTERS],
    unsure: [AtomicU64; COUNTERS],
    /// What is being added, and to which number; 0: to none.
    adding: AtomicU64,
    adding_to: AtomicU64,
    /// Numbers of records that were given out.
    stamps: AtomicU32,
    _padding: AtomicU32,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Slot {
    /// A number that no other record of this slot has.
    pub(crate) fn next_stamp(&self) -> u32 {
        self.stamps.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// `by` is about to be added to the number.
    pub(crate) fn begin_adding(&self, counter: usize, by: u64) {
        self.adding.store(by, Ordering::Release);
        self.adding_to.store(counter as u64 + 1, Ordering::Release);
    }

    /// It was, or was not.
    pub(crate) fn end_adding(&self, counter: usize, acknowledged: bool) {
        if acknowledged {
            let by = self.adding.load(Ordering::Acquire);
            self.added[counter].fetch_add(by, Ordering::AcqRel);
        }
        self.adding_to.store(0, Ordering::Release);
    }

    /// The process died: what it was adding may be there or not.
    pub(crate) fn settle_adding(&self) {
        if let Some(counter) = self.adding_to.swap(0, Ordering::AcqRel).checked_sub(1) {
            let by = self.adding.load(Ordering::Acquire);
            self.unsure[counter as usize].fetch_add(by, Ordering::AcqRel);
        }
    }

    /// What was added for certain, and perhaps beyond that.
    pub(crate) fn added(&self, counter: usize) -> (u64, u64) {
        let load = |of: &[AtomicU64; COUNTERS]| of[counter].load(Ordering::Acquire);
        (load(&self.added), load(&self.unsure))
    }
}

/// All that the processes of a round share, beside the store.
#[derive(FromZeros)]
#[repr(C)]
pub(crate) struct Ledger {
    pub(crate) slots: [Slot; SLOTS],
    pub(crate) keeper: Life,
    pub(crate) graves: Graves,
    wrong: AtomicU64,
    /// Rounds of upkeep that did not clean since somebody held a guard.
    pub(crate) upkeep_stuck: AtomicU64,
    /// The process that is stopped on purpose; 0: none.
    pub(crate) stopped_pid: AtomicU64,
    /// Writes that were told that it holds their guard.
    pub(crate) stuck: AtomicU64,
    /// Writes that were told of another process.
    pub(crate) wrong_pid: AtomicU64,
}

impl Ledger {
    /// Notes something that must not be.
    pub(crate) fn complain(&self, what: &str) {
        if self.wrong.fetch_add(1, Ordering::AcqRel) < TOLD_MAX {
            eprintln!("wrong: {what}");
        }
    }

    /// What must not be and was.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Known, State};
    use store_benches::shared::{now_ns, zeroed};

    const A: State = State::Record { writer: 3, seq: 7, appended: 0 };
    const B: State = State::Record { writer: 3, seq: 9, appended: 2 };

    fn entry() -> &'static Entry {
        zeroed().expect("memory")
    }

    #[test]
    fn states_survive_the_round_trip() {
        for state in [A, B, State::Absent, State::Number(0), State::Number(-5), State::Number(9)] {
            assert_eq!(State::of(state.word()), state);
        }
    }

    #[test]
    fn what_was_acknowledged_must_stand() {
        let entry = entry();
        entry.begin(Known::lasting(A));
        entry.commit();
        assert_eq!(entry.settle(A, false), Ok(()));
        assert!(entry.settle(State::Absent, false).is_err(), "lost");
        entry.begin(Known::lasting(B));
        entry.commit();
        assert!(entry.settle(A, false).is_err(), "an older one");
    }

    #[test]
    fn what_was_in_flight_stands_or_not_and_then_stays_so() {
        for found in [A, B] {
            let entry = entry();
            entry.begin(Known::lasting(A));
            entry.commit();
            entry.begin(Known::lasting(B));
            assert_eq!(entry.settle(found, false), Ok(()));
            assert_eq!(entry.settle(found, false), Ok(()));
            let other = if found == A { B } else { A };
            assert!(entry.settle(other, false).is_err(), "it came or went later");
        }
    }

    #[test]
    fn what_expires_or_may_be_evicted_may_be_gone() {
        let entry = entry();
        entry.begin(Known { state: A, gone_from_ns: now_ns() + 60_000_000_000 });
        entry.commit();
        assert!(entry.settle(State::Absent, false).is_err(), "too early");
        entry.begin(Known { state: B, gone_from_ns: now_ns() });
        entry.commit();
        assert_eq!(entry.settle(State::Absent, false), Ok(()));
        assert!(entry.settle(B, false).is_err(), "it came back");
        entry.begin(Known::lasting(A));
        entry.commit();
        assert_eq!(entry.settle(State::Absent, true), Ok(()));
        assert!(entry.settle(A, true).is_err(), "it came back");
    }

    #[test]
    fn a_refused_write_leaves_what_stood() {
        let entry = entry();
        entry.begin(Known::lasting(A));
        entry.commit();
        entry.begin(Known::lasting(B));
        entry.abort();
        assert!(entry.settle(B, false).is_err());
    }
}
