//! Is there an order of a key's operations that explains all answers, and in which none comes before
//! one that had ended when it began? The search of Wing and Gong, with Lowe's memory of where it has
//! been: the same operations done and the same state need not be looked at again.
//!
//! Keys don't know of each other, so a history is linearizable if each key's is. An operation that has
//! no answer, since its process was killed, may come anywhere after it began, or not at all.

use std::collections::HashSet;

use crate::model::{Answer, Call, State};

/// An operation, and what was answered when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// Which process: for people.
    pub(crate) client: u8,
    pub(crate) call: Call,
    pub(crate) invoked_ns: u64,
    /// None if the process was killed in it.
    pub(crate) returned: Option<(u64, Answer)>,
}

impl Operation {
    /// Whether it is another client's, both were answered, and neither had ended when the other began.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        let (Some((end, _)), Some((other_end, _))) = (self.returned, other.returned) else {
            return false;
        };
        self.client != other.client && self.invoked_ns <= other_end && other.invoked_ns <= end
    }
}

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Violation,
    /// It was given up: too many operations, or too many places.
    Undecided,
}

/// Places that a search goes to at most.
const PLACES_MAX: usize = 4_000_000;

/// Decides about the operations of one key, which is absent before.
pub(crate) fn check(operations: &[Operation]) -> Verdict {
    if operations.len() > u64::BITS as usize {
        return Verdict::Undecided;
    }
    let mut search = Search { operations, been: HashSet::new() };
    let found = search.go_on(0, None);
    match found {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Violation,
        None => Verdict::Undecided,
    }
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Operations done, one bit each, and the state that they led to.
    been: HashSet<(u64, State)>,
}

impl Search<'_> {
    /// Whether the rest can be ordered; none if it was given up.
    fn go_on(&mut self, done: u64, state: State) -> Option<bool> {
        let open = || self.operations.iter().enumerate().filter(|(at, _)| done >> at & 1 == 0);
        let first_end = open().filter_map(|(_, one)| one.returned.map(|(at, _)| at)).min();
        // What has no answer need not have happened.
        let Some(first_end) = first_end else { return Some(true) };
        if !self.been.insert((done, state)) {
            return Some(false);
        }
        if self.been.len() > PLACES_MAX {
            return None;
        }
        for (at, one) in self.operations.iter().enumerate() {
            // Whoever began after another one had ended comes after it.
            if done >> at & 1 == 1 || one.invoked_ns > first_end {
                continue;
            }
            let (next, answer) = one.call.apply(state);
            let next = match one.returned {
                None => next,
                Some((_, Answer::Unchanged)) => state,
                Some((_, given)) if given == answer => next,
                Some(_) => continue,
            };
            if self.go_on(done | 1 << at, next)? {
                return Some(true);
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Verdict, check};
    use crate::model::{Answer, Call, Value};

    const A: Value = Value::Records(1);
    const B: Value = Value::Records(2);

    /// From one time to another.
    fn op(from: u64, to: u64, call: Call, answer: Answer) -> Operation {
        Operation { client: 0, call, invoked_ns: from, returned: Some((to, answer)) }
    }

    /// Killed in it.
    fn killed(from: u64, call: Call) -> Operation {
        Operation { client: 0, call, invoked_ns: from, returned: None }
    }

    fn get(from: u64, to: u64, state: Option<Value>) -> Operation {
        op(from, to, Call::Get, Answer::Is(state))
    }

    fn holds(operations: &[Operation]) {
        assert_eq!(check(operations), Verdict::Linearizable, "{operations:?}");
    }

    fn fails(operations: &[Operation]) {
        assert_eq!(check(operations), Verdict::Violation, "{operations:?}");
    }

    #[test]
    fn one_after_the_other() {
        holds(&[]);
        holds(&[get(1, 2, None)]);
        fails(&[get(1, 2, Some(A))]);
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        holds(&[put, get(3, 4, Some(A))]);
        fails(&[put, get(3, 4, None)]);
        fails(&[put, get(3, 4, Some(B))]);
        let over = op(3, 4, Call::Put(B), Answer::Replaced);
        holds(&[put, over, get(5, 6, Some(B))]);
        fails(&[put, over, get(5, 6, Some(A))]);
        fails(&[put, op(3, 4, Call::Put(B), Answer::Inserted)]);
    }

    #[test]
    fn a_read_beside_a_write_sees_either_and_never_goes_back() {
        let put = op(1, 10, Call::Put(A), Answer::Inserted);
        holds(&[put, get(2, 3, None), get(4, 5, Some(A))]);
        holds(&[put, get(2, 3, Some(A)), get(4, 5, Some(A))]);
        fails(&[put, get(2, 3, Some(A)), get(4, 5, None)]);
        // Beside each other, in whatever order.
        holds(&[put, get(2, 5, Some(A)), get(3, 4, None)]);
        fails(&[put, get(11, 12, None)]);
    }

    #[test]
    fn times_that_meet_are_beside_each_other() {
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        holds(&[put, get(2, 3, None)]);
        fails(&[put, get(3, 4, None)]);
    }

    #[test]
    fn two_writes_beside_each_other_have_one_order_for_all() {
        let writes =
            [op(1, 10, Call::Put(A), Answer::Inserted), op(1, 10, Call::Put(B), Answer::Replaced)];
        let with = |more: &[Operation]| [&writes[..], more].concat();
        holds(&with(&[get(11, 12, Some(B))]));
        fails(&with(&[get(11, 12, Some(A))]));
        holds(&with(&[get(2, 3, Some(A)), get(4, 5, Some(B))]));
        fails(&with(&[get(2, 3, Some(B)), get(4, 5, Some(A))]));
    }

    #[test]
    fn only_one_of_two_adds_or_swaps_wins() {
        let add = |to, answer| op(1, to, Call::Add(A), answer);
        let refused = Answer::Refused { present: true };
        holds(&[add(5, Answer::Inserted), add(5, refused)]);
        fails(&[add(5, Answer::Inserted), add(5, Answer::Inserted)]);
        fails(&[add(5, refused), add(5, refused)]);
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        let swap = |answer| op(3, 4, Call::Swap { expected: A, new: B }, answer);
        holds(&[put, swap(Answer::Replaced), swap(refused)]);
        fails(&[put, swap(Answer::Replaced), swap(Answer::Replaced)]);
        fails(&[put, swap(refused), swap(refused)]);
    }

    #[test]
    fn a_lost_increment_is_found() {
        let add = |by, sum| op(1, 9, Call::Increment(by), Answer::Sum(sum));
        holds(&[add(1, 1), add(2, 3)]);
        holds(&[add(1, 3), add(2, 2)]);
        fails(&[add(1, 1), add(2, 2)]);
        let put = op(10, 11, Call::Put(A), Answer::Replaced);
        holds(&[add(1, 1), put, op(12, 13, Call::Increment(1), Answer::NotANumber)]);
        fails(&[add(1, 1), put, op(12, 13, Call::Increment(1), Answer::Sum(2))]);
    }

    #[test]
    fn deletes_takes_and_exchanges_give_what_stood() {
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        let delete = |from, was| op(from, from + 1, Call::Delete, Answer::Deleted(was));
        holds(&[put, delete(3, true), delete(5, false), get(7, 8, None)]);
        fails(&[put, delete(3, true), delete(5, true)]);
        let take = |from, was| op(from, from + 1, Call::Take, Answer::Is(was));
        holds(&[put, take(3, Some(A)), take(5, None)]);
        fails(&[put, take(3, Some(A)), take(5, Some(A))]);
        let swap = |from, was| op(from, from + 1, Call::Exchange(B), Answer::Is(was));
        holds(&[put, swap(3, Some(A)), swap(5, Some(B))]);
        fails(&[put, swap(3, Some(A)), swap(5, Some(A))]);
        let gone = op(3, 4, Call::DeleteIf(A), Answer::Deleted(true));
        holds(&[put, gone, get(5, 6, None)]);
        fails(&[put, gone, get(5, 6, Some(A))]);
        fails(&[put, op(3, 4, Call::DeleteIf(B), Answer::Deleted(true))]);
    }

    #[test]
    fn appends_are_in_one_order() {
        let append = |from, to, stamp| op(from, to, Call::Append(stamp), Answer::Appended);
        let digest = |stamps: &[u64]| {
            let digest = stamps
                .iter()
                .fold(None, |so_far, stamp| Some(crate::model::with_record(so_far, *stamp)));
            digest.map(Value::Records)
        };
        let beside = [append(1, 5, 7), append(1, 5, 8)];
        holds(&[beside[0], beside[1], get(6, 7, digest(&[7, 8]))]);
        holds(&[beside[0], beside[1], get(6, 7, digest(&[8, 7]))]);
        fails(&[beside[0], beside[1], get(6, 7, digest(&[8]))]);
        fails(&[append(1, 2, 7), append(3, 4, 8), get(6, 7, digest(&[8, 7]))]);
    }

    #[test]
    fn what_was_killed_happens_later_or_never_but_once() {
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        let lost = killed(3, Call::Put(B));
        holds(&[put, lost, get(5, 6, Some(A))]);
        holds(&[put, lost, get(5, 6, Some(B))]);
        // A peer that mends may bring it about later.
        holds(&[put, lost, get(5, 6, Some(A)), get(7, 8, Some(B))]);
        fails(&[put, lost, get(5, 6, Some(B)), get(7, 8, Some(A))]);
        // Not before it began.
        fails(&[put, get(1, 2, Some(B)), killed(3, Call::Put(B))]);
        let add = killed(3, Call::Increment(5));
        let number = |from, is| get(from, from + 1, Some(Value::Number(is)));
        let first = op(1, 2, Call::Increment(1), Answer::Sum(1));
        holds(&[first, add, number(5, 1), number(7, 6)]);
        fails(&[first, add, number(5, 6), number(7, 11)]);
        let delete = killed(3, Call::Delete);
        holds(&[put, delete, get(5, 6, None)]);
        fails(&[put, delete, get(5, 6, None), get(7, 8, Some(A))]);
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let put = op(1, 2, Call::Put(A), Answer::Inserted);
        let full = op(3, 4, Call::Put(B), Answer::Unchanged);
        holds(&[put, full, get(5, 6, Some(A))]);
        fails(&[put, full, get(5, 6, Some(B))]);
    }

    #[test]
    fn a_torn_value_is_never_explained() {
        let put = op(1, 9, Call::Put(A), Answer::Inserted);
        fails(&[put, get(2, 3, Some(Value::Torn))]);
    }

    /// Histories that a register played, with times stretched at random, hold; with one answer of a
    /// read changed to a value that was never there they don't.
    #[test]
    fn played_histories_hold_and_changed_ones_fail() {
        use rand::rngs::SmallRng;
        use rand::{RngExt, SeedableRng};
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut state = None;
            let mut operations = Vec::new();
            for turn in 1..=20_u64 {
                let call = match rng.random_range(0..5) {
                    0 => Call::Put(Value::Records(turn)),
                    1 => Call::Add(Value::Records(turn)),
                    2 => Call::Take,
                    3 => Call::Append(turn),
                    _ => Call::Get,
                };
                let (next, answer) = call.apply(state);
                state = next;
                // It took effect at 100 times its turn.
                let from = turn * 100 - rng.random_range(0..250).min(turn * 100 - 1);
                operations.push(op(from, turn * 100 + rng.random_range(0..250), call, answer));
            }
            operations.push(get(5000, 5001, state));
            holds(&operations);
            let wrong = get(6000, 6001, Some(Value::Records(u64::MAX)));
            operations.push(wrong);
            fails(&operations);
        }
    }

    #[test]
    fn too_many_operations_are_not_decided() {
        let reads: Vec<_> = (0..65).map(|at| get(at * 2 + 1, at * 2 + 2, None)).collect();
        assert_eq!(check(&reads), Verdict::Undecided);
        holds(&reads[..64]);
    }
}
