//! What the victim writes, in which order: so regular that what it left tells how far it came.
//!
//! Write `n` (from 1) is, by `n mod 3`: a put of a standing key with sequence number `n`; a put of
//! a roaming key, or in every second pass its delete; an increment of a counter. Before each round
//! all is laid out anew. So what stands after the victim's death must be what the writes `1..=m`
//! leave, for one `m`: every acknowledged write, and the last one wholly or not at all.

use store_benches::records::{LEN_MIN, Stamp, varied_len};

/// Of each kind of key. Few enough that the victim comes round often.
pub(crate) const KEYS: u32 = 300;
pub(crate) const COUNTERS: u32 = 16;
/// The writer id of what is laid out before a round, at sequence number 0.
pub(crate) const LAYER: u8 = 0;
pub(crate) const VICTIM: u8 = 1;
/// The writer id of whoever goes on after it.
pub(crate) const RESCUER: u8 = 2;

const LEN_MAX: usize = 256;

/// What a key's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Value(Stamp),
    Number(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Standing,
    Roaming,
    Counter,
}

/// Which key a write is about: the index in [`Plan::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Put(usize),
    Delete(usize),
    Increment(usize),
}

pub(crate) struct Plan {
    pub(crate) keys: Vec<(Kind, Vec<u8>)>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let named = |kind, name: &'static str, count: u32| {
            (0..count).map(move |index| (kind, format!("{name}:{index:04}").into_bytes()))
        };
        let keys = named(Kind::Standing, "standing", KEYS)
            .chain(named(Kind::Roaming, "roaming", KEYS))
            .chain(named(Kind::Counter, "counter", COUNTERS))
            .collect();
        Self { keys }
    }

    /// The keys that always stand and hold a record.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.keys[..KEYS as usize].iter().map(|(_, key)| key.as_slice())
    }

    /// Write number `n`.
    pub(crate) fn step(n: u32) -> Step {
        let nth = (n - 1) / 3;
        let key = (nth % KEYS) as usize;
        match (n - 1) % 3 {
            0 => Step::Put(key),
            1 if (nth / KEYS).is_multiple_of(2) => Step::Put(KEYS as usize + key),
            1 => Step::Delete(KEYS as usize + key),
            _ => Step::Increment((2 * KEYS + nth % COUNTERS) as usize),
        }
    }

    /// The state of every key after the writes `1..=n`.
    pub(crate) fn states_after(&self, n: u32) -> Vec<State> {
        let mut states = self.initial();
        // Whatever came before the last two passes was written over, but for the counters.
        let skipped = n.saturating_sub(6 * KEYS) / 3 * 3;
        for nth in 0..skipped / 3 {
            raise(&mut states[(2 * KEYS + nth % COUNTERS) as usize]);
        }
        for n in skipped + 1..=n {
            match Self::step(n) {
                Step::Put(key) => states[key] = State::Value(Stamp { writer: VICTIM, seq: n }),
                Step::Delete(key) => states[key] = State::Absent,
                Step::Increment(key) => raise(&mut states[key]),
            }
        }
        states
    }

    fn initial(&self) -> Vec<State> {
        let state = |kind: &Kind| match kind {
            Kind::Standing => State::Value(Stamp { writer: LAYER, seq: 0 }),
            Kind::Roaming => State::Absent,
            Kind::Counter => State::Number(0),
        };
        self.keys.iter().map(|(kind, _)| state(kind)).collect()
    }

    /// What is wrong with the states that were found (`None`: not known), if anything: they must be
    /// those after `m` writes, for one `m`.
    pub(crate) fn explain(&self, found: &[Option<State>]) -> Result<(), String> {
        let newest = found[..KEYS as usize].iter().filter_map(|state| match state {
            Some(State::Value(Stamp { writer: VICTIM, seq })) => Some(*seq),
            _ => None,
        });
        // After the newest put of a standing key, at most two other writes come before the next.
        let newest = newest.max().unwrap_or(0);
        let mut fewest: Option<(usize, String)> = None;
        for n in newest..=newest + 2 {
            let wrong: Vec<String> = self
                .states_after(n)
                .iter()
                .zip(found)
                .zip(&self.keys)
                .filter(|((expected, found), _)| found.is_some_and(|found| found != **expected))
                .map(|((expected, found), (_, key))| {
                    let key = String::from_utf8_lossy(key);
                    format!("after {n} writes {key} should be {expected:?}, not {found:?}")
                })
                .collect();
            let Some(first) = wrong.first() else { return Ok(()) };
            if fewest.as_ref().is_none_or(|(count, _)| wrong.len() < *count) {
                fewest = Some((wrong.len(), first.clone()));
            }
        }
        Err(fewest.map(|(count, first)| format!("{count} keys: {first}")).unwrap_or_default())
    }
}

fn raise(state: &mut State) {
    if let State::Number(number) = state {
        *number += 1;
    }
}

/// How long the value is that `stamp` writes: short, so that much of a write is inside the guard.
pub(crate) fn value_len(stamp: Stamp) -> usize {
    varied_len(u64::from(stamp.seq) << 4 | u64::from(stamp.writer), LEN_MIN, LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, KEYS, Plan, State, Step};

    fn found(plan: &Plan, n: u32) -> Vec<Option<State>> {
        plan.states_after(n).into_iter().map(Some).collect()
    }

    #[test]
    fn skipping_ahead_leaves_what_every_step_leaves() {
        let plan = Plan::new();
        let mut states = plan.initial();
        for n in 1..=20 * KEYS {
            match Plan::step(n) {
                Step::Put(key) => {
                    states[key] = State::Value(super::Stamp { writer: super::VICTIM, seq: n });
                }
                Step::Delete(key) => states[key] = State::Absent,
                Step::Increment(key) => super::raise(&mut states[key]),
            }
            if n % 97 == 0 || n % (3 * KEYS) == 0 {
                assert_eq!(states, plan.states_after(n), "after {n} writes");
            }
        }
    }

    #[test]
    fn every_prefix_is_explained() {
        let plan = Plan::new();
        for n in (0..40).chain(3 * KEYS - 5..3 * KEYS + 5).chain(100 * KEYS..100 * KEYS + 9) {
            assert_eq!(plan.explain(&found(&plan, n)), Ok(()), "after {n} writes");
        }
    }

    #[test]
    fn a_lost_write_of_any_kind_is_not() {
        let plan = Plan::new();
        let n = 12 * KEYS + 3 * 30;
        for back in 0..3 * COUNTERS {
            // What stands is as if write `n - back` had not happened: for the last one that is a
            // death before it, for any other a hole.
            let mut states = found(&plan, n);
            let (Step::Put(key) | Step::Delete(key) | Step::Increment(key)) = Plan::step(n - back);
            states[key] = match states[key] {
                Some(State::Number(number)) => Some(State::Number(number - 1)),
                _ => Some(plan.states_after(n - back - 1)[key]),
            };
            assert_eq!(plan.explain(&states).is_err(), back > 0, "{back} back");
        }
    }
}
