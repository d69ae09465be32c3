//! A reader process: looks keys up in every way there is, and holds each answer against the last.

use std::time::Instant;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_benches::records::verify;
use store_benches::tally::Tally;
use store_benches::worker::{Handle, Parent};
use store_client::Reader;

use crate::keyset::{Class, Keyset, PARENT, Shape, WRITERS, number};
use crate::{Attached, Done, Job};

/// Rounds of lookups between two looks at the clock.
const STRIDE: usize = 64;
const BATCH: usize = 32;

pub(crate) fn run(job: &Job, store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.reader().context("attaching to read")?;
    let keyset = Keyset::new(job.shape);
    let mut rng = SmallRng::seed_from_u64(job.seed);
    let mut seen = Seen::nothing(job.shape);
    parent.tell(&Attached)?;
    parent.await_go()?;
    let start = Instant::now();
    while start.elapsed() < job.duration() {
        for _ in 0..STRIDE {
            read_once(&store, &keyset, &mut seen, &mut rng);
        }
    }
    parent.tell(&Done { tally: seen.tally, acknowledged: None })
}

fn read_once(store: &Reader, keyset: &Keyset, seen: &mut Seen, rng: &mut SmallRng) {
    let class = match rng.random_range(0..100) {
        0..40 => Class::Always,
        40..70 => Class::Roaming,
        70..80 => Class::Private(WRITERS[0]),
        80..90 => Class::Private(WRITERS[1]),
        90..95 => Class::Counter,
        _ => Class::Ballot,
    };
    let keys = keyset.of(class);
    let index = rng.random_range(0..keys.len());
    let key = &keys[index];
    match rng.random_range(0..5) {
        0 => {
            if let Some(value) = seen.tally.answer(store.get(key)) {
                seen.look(class, index, key, value.as_deref());
            }
        }
        1 => {
            let mut buf = [0; 4096];
            if let Some(len) = seen.tally.answer(store.get_into(key, &mut buf)) {
                seen.look(class, index, key, len.map(|len| &buf[..len]));
            }
        }
        2 => {
            let value = store.get_with(key, <[u8]>::to_vec);
            if let Some(value) = seen.tally.answer(value) {
                seen.look(class, index, key, value.as_deref());
            }
        }
        3 => {
            if let Some(stands) = seen.tally.answer(store.contains(key)) {
                seen.tally.reads += 1;
                if !stands && class != Class::Roaming {
                    seen.tally.missed(key);
                }
            }
        }
        _ => read_batch(store, keys, class, index, seen),
    }
}

/// Keys one after another from `first` on: each once, because the lookups within one batch are in
/// no order among each other.
fn read_batch(store: &Reader, keys: &[Vec<u8>], class: Class, first: usize, seen: &mut Seen) {
    let indexes: Vec<usize> =
        (0..BATCH.min(keys.len())).map(|step| (first + step) % keys.len()).collect();
    let batch: Vec<&[u8]> = indexes.iter().map(|&index| keys[index].as_slice()).collect();
    let mut answers = vec![None; batch.len()];
    let result = store.get_many_with(&batch, |place, value| {
        answers[place] = Some(value.map(<[u8]>::to_vec));
    });
    let whole = seen.tally.answer(result).is_some();
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Some(value) => seen.look(class, indexes[place], batch[place], value.as_deref()),
            None if whole => seen.tally.error("get_many left a key without an answer"),
            None => {}
        }
    }
}

/// The newest write of each writer that was seen under each key, and the highest numbers.
struct Seen {
    tally: Tally,
    always: Vec<Newest>,
    roaming: Vec<Newest>,
    private: [Vec<Newest>; WRITERS.len()],
    counters: Vec<u64>,
    ballots: Vec<u64>,
}

/// Sequence numbers by writer, the parent's first.
type Newest = [u32; 1 + WRITERS.len()];

impl Seen {
    fn nothing(shape: Shape) -> Self {
        Self {
            tally: Tally::default(),
            always: vec![Newest::default(); shape.always],
            roaming: vec![Newest::default(); shape.roaming],
            private: WRITERS.map(|_| vec![Newest::default(); shape.private]),
            counters: vec![0; shape.counters],
            ballots: vec![0; shape.ballots],
        }
    }

    /// Judges one answer.
    fn look(&mut self, class: Class, index: usize, key: &[u8], value: Option<&[u8]>) {
        self.tally.reads += 1;
        let Some(value) = value else {
            if class != Class::Roaming {
                self.tally.missed(key);
            }
            return;
        };
        let newest = match class {
            Class::Always => &mut self.always[index],
            Class::Roaming => &mut self.roaming[index],
            Class::Private(id) => &mut self.private[usize::from(id) - 1][index],
            Class::Counter => {
                return look_at_number(&mut self.tally, &mut self.counters[index], value);
            }
            Class::Ballot => {
                return look_at_number(&mut self.tally, &mut self.ballots[index], value);
            }
        };
        let stamp = match verify(key, value) {
            Ok(stamp) => stamp,
            Err(torn) => return self.tally.torn(torn.to_string()),
        };
        let name = String::from_utf8_lossy(key);
        let Some(last) = newest.get(usize::from(stamp.writer)).copied() else {
            return self.tally.torn(format!("{name} is of {stamp:?}, and nobody is that"));
        };
        // The parent wrote before all others, so its value can't follow one of theirs.
        let outdated = stamp.writer == PARENT && newest[1..].iter().any(|&seq| seq > 0);
        if stamp.seq < last || outdated {
            self.tally.backwards(format!("{name} is of {stamp:?} after {newest:?} was seen"));
        } else {
            newest[usize::from(stamp.writer)] = stamp.seq;
        }
    }
}

/// Numbers are only ever raised.
fn look_at_number(tally: &mut Tally, highest: &mut u64, value: &[u8]) {
    match number(value) {
        None => tally.torn(format!("a number reads {value:?}")),
        Some(found) if found < *highest => {
            tally.backwards(format!("a number is {found} after {highest} was seen"));
        }
        Some(found) => *highest = found,
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Seen, Shape};
    use store_benches::records::{Stamp, fill};

    fn look(seen: &mut Seen, writer: u8, seq: u32) {
        let mut value = Vec::new();
        fill(&mut value, b"key", Stamp { writer, seq }, 64);
        seen.look(Class::Always, 0, b"key", Some(&value));
    }

    #[test]
    fn each_writer_is_held_to_its_own_order() {
        let mut seen = Seen::nothing(Shape::default());
        for (writer, seq) in [(0, 1), (1, 5), (2, 3), (1, 5), (2, 4), (1, 9)] {
            look(&mut seen, writer, seq);
        }
        assert_eq!((seen.tally.backwards, seen.tally.torn, seen.tally.reads), (0, 0, 6));
        look(&mut seen, 1, 8);
        look(&mut seen, 0, 1);
        assert_eq!(seen.tally.backwards, 2);
        look(&mut seen, 9, 1);
        assert_eq!(seen.tally.torn, 1);
    }

    #[test]
    fn only_roaming_keys_may_be_absent() {
        let mut seen = Seen::nothing(Shape::default());
        seen.look(Class::Roaming, 0, b"key", None);
        assert_eq!(seen.tally.missed, 0);
        seen.look(Class::Private(2), 0, b"key", None);
        seen.look(Class::Counter, 0, b"key", None);
        assert_eq!(seen.tally.missed, 2);
    }

    #[test]
    fn numbers_never_fall() {
        let mut seen = Seen::nothing(Shape::default());
        for text in ["3", "3", "5", "4"] {
            seen.look(Class::Counter, 1, b"counter", Some(text.as_bytes()));
        }
        assert_eq!(seen.tally.backwards, 1);
    }
}
