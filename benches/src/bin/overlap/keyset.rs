//! The keys, by what happens to them, and what a writer remembers of its acknowledged writes.

use serde::{Deserialize, Serialize};

use store_benches::records::{LEN_MIN, Stamp, varied_len};

/// The writer id of what the parent process put before the start.
pub(crate) const PARENT: u8 = 0;
/// The sequence number of what the parent process put.
pub(crate) const FIRST_SEQ: u32 = 1;
/// The ids of the two writer processes.
pub(crate) const WRITERS: [u8; 2] = [1, 2];

const LEN_MAX: usize = 4096;
/// Of values that are overwritten where they stand.
const SHORT_LEN_MAX: usize = 224;

/// How a key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stands always, overwritten by both writers.
    Always,
    /// Comes and goes: put, add, replace, compare-and-swap and delete by both writers.
    Roaming,
    /// Stands always, overwritten by one writer, which reads it back each time.
    Private(u8),
    /// Incremented by both writers.
    Counter,
    /// A number as text, raised by one through compare-and-swap by both writers.
    Ballot,
}

/// How many keys there are of each class.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) always: usize,
    pub(crate) roaming: usize,
    pub(crate) private: usize,
    pub(crate) counters: usize,
    pub(crate) ballots: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { always: 8000, roaming: 8000, private: 2000, counters: 32, ballots: 32 }
    }
}

pub(crate) struct Keyset {
    always: Vec<Vec<u8>>,
    roaming: Vec<Vec<u8>>,
    private: [Vec<Vec<u8>>; WRITERS.len()],
    counters: Vec<Vec<u8>>,
    ballots: Vec<Vec<u8>>,
}

impl Keyset {
    pub(crate) fn new(shape: Shape) -> Self {
        let keys = |name: &str, count| {
            (0..count).map(|index| format!("{name}:{index:05}").into_bytes()).collect()
        };
        Self {
            always: keys("always", shape.always),
            roaming: keys("roaming", shape.roaming),
            private: WRITERS.map(|id| keys(&format!("private-{id}"), shape.private)),
            counters: keys("counter", shape.counters),
            ballots: keys("ballot", shape.ballots),
        }
    }

    pub(crate) fn of(&self, class: Class) -> &[Vec<u8>] {
        match class {
            Class::Always => &self.always,
            Class::Roaming => &self.roaming,
            Class::Private(id) => &self.private[usize::from(id) - 1],
            Class::Counter => &self.counters,
            Class::Ballot => &self.ballots,
        }
    }

    pub(crate) fn len(&self) -> usize {
        let private: usize = self.private.iter().map(Vec::len).sum();
        let numbers = self.counters.len() + self.ballots.len();
        self.always.len() + self.roaming.len() + private + numbers
    }
}

/// How long the value is that `stamp` writes under `key`: from 8 bytes to 4 KiB. Those of every second key
/// are all as long, so that they are overwritten where they stand.
pub(crate) fn value_len(key: &[u8], stamp: Stamp) -> usize {
    let end = key.iter().rev().take(5).fold(0, |sum, byte| sum * 256 + u64::from(*byte));
    if key.last().is_some_and(|byte| byte.is_multiple_of(2)) {
        return varied_len(end, LEN_MIN, SHORT_LEN_MAX);
    }
    varied_len(end << 32 ^ u64::from(stamp.seq) << 4 ^ u64::from(stamp.writer), LEN_MIN, LEN_MAX)
}

/// The number that a counter's or a ballot's value is.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// What one writer was told is done: by key, the sequence number of its last write that stored
/// something, 0 after a delete (or before any write); for numbers, by how much it raised them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) writer: u8,
    pub(crate) always: Vec<u32>,
    pub(crate) roaming: Vec<u32>,
    pub(crate) private: Vec<u32>,
    pub(crate) counters: Vec<u64>,
    pub(crate) ballots: Vec<u64>,
}

impl Acknowledged {
    pub(crate) fn none(writer: u8, shape: Shape) -> Self {
        Self {
            writer,
            always: vec![0; shape.always],
            roaming: vec![0; shape.roaming],
            private: vec![0; shape.private],
            counters: vec![0; shape.counters],
            ballots: vec![0; shape.ballots],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Keyset, SHORT_LEN_MAX, Shape, Stamp, WRITERS, number, value_len};
    use std::collections::HashSet;

    #[test]
    fn every_key_is_in_one_class() {
        let keyset = Keyset::new(Shape::default());
        let [one, two] = WRITERS.map(Class::Private);
        let all: HashSet<_> =
            [Class::Always, Class::Roaming, one, two, Class::Counter, Class::Ballot]
                .into_iter()
                .flat_map(|class| keyset.of(class))
                .collect();
        assert_eq!(all.len(), keyset.len());
        assert!((20_000..21_000).contains(&all.len()));
    }

    #[test]
    fn lengths_differ_from_write_to_write() {
        let lens: HashSet<_> =
            (1..100).map(|seq| value_len(b"always:00001", Stamp { writer: 1, seq })).collect();
        assert!(lens.len() > 50, "{lens:?}");
        let of_other = |seq| value_len(b"always:00002", Stamp { writer: 1, seq });
        assert!(of_other(1) == of_other(2) && of_other(1) < SHORT_LEN_MAX);
    }

    #[test]
    fn numbers_are_decimal_text() {
        assert_eq!(number(b"42"), Some(42));
        assert_eq!(number(b"4x"), None);
        assert_eq!(number(&[0xff]), None);
    }
}
