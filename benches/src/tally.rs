//! What a process saw go right and wrong; the tallies of all processes are added up in the end.

use serde::{Deserialize, Serialize};

use store_client::{ReadError, WriteError};

/// Counts of one process, and the first thing of each kind that went wrong, in words.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Lookups, each key of a batch counted.
    pub reads: u64,
    /// Writes that were answered, with a condition that did not hold or without.
    pub writes: u64,
    /// Values that nobody wrote as they were read.
    pub torn: u64,
    /// Acknowledged writes that are not there.
    pub lost: u64,
    /// Lookups of a key that always stands which did not find it.
    pub missed: u64,
    /// Lookups that saw an older write of a writer after a newer one.
    pub backwards: u64,
    /// Operations that gave up because writers were too busy at their key; none counts as wrong.
    pub contended: u64,
    /// Operations that failed in any other way.
    pub errors: u64,
    /// The first wrong thing of each kind.
    pub examples: Vec<String>,
}

impl Tally {
    const EXAMPLES_MAX: usize = 8;

    /// Adds what another process saw.
    pub fn absorb(&mut self, other: Tally) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.torn += other.torn;
        self.lost += other.lost;
        self.missed += other.missed;
        self.backwards += other.backwards;
        self.contended += other.contended;
        self.errors += other.errors;
        for example in other.examples {
            self.keep(example);
        }
    }

    /// A value that nobody wrote as it was read.
    pub fn torn(&mut self, what: impl Into<String>) {
        self.torn += 1;
        self.example(self.torn, "torn", what);
    }

    /// An acknowledged write that is not there.
    pub fn lost(&mut self, what: impl Into<String>) {
        self.lost += 1;
        self.example(self.lost, "lost", what);
    }

    /// A key that always stands and was not found.
    pub fn missed(&mut self, key: &[u8]) {
        self.missed += 1;
        self.example(self.missed, "missed", String::from_utf8_lossy(key));
    }

    /// An older write seen after a newer one.
    pub fn backwards(&mut self, what: impl Into<String>) {
        self.backwards += 1;
        self.example(self.backwards, "backwards", what);
    }

    /// A failure that no figure of its own counts.
    pub fn error(&mut self, what: impl Into<String>) {
        self.errors += 1;
        self.example(self.errors, "error", what);
    }

    /// The answer of a lookup, when there is one.
    pub fn answer<T>(&mut self, result: Result<T, ReadError>) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(ReadError::Contended { .. }) => {
                self.contended += 1;
                None
            }
            Err(error) => {
                self.error(error.to_string());
                None
            }
        }
    }

    /// The answer of a write, when there is one.
    pub fn acknowledged<T>(&mut self, result: Result<T, WriteError>) -> Option<T> {
        match result {
            Ok(answer) => {
                self.writes += 1;
                Some(answer)
            }
            Err(WriteError::Read(ReadError::Contended { .. })) => {
                self.contended += 1;
                None
            }
            Err(error) => {
                self.error(error.to_string());
                None
            }
        }
    }

    fn example(&mut self, so_far: u64, kind: &str, what: impl Into<String>) {
        if so_far == 1 {
            self.keep(format!("{kind}: {}", what.into()));
        }
    }

    fn keep(&mut self, example: String) {
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.push(example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use store_client::ReadError;

    #[test]
    fn contention_is_counted_apart_from_errors() {
        let mut tally = Tally::default();
        assert_eq!(tally.answer::<()>(Err(ReadError::Contended { attempts: 9 })), None);
        assert_eq!(tally.answer(Ok(5)), Some(5));
        let small = ReadError::BufferTooSmall { needed: 2, given: 1 };
        assert_eq!(tally.answer::<()>(Err(small)), None);
        assert_eq!((tally.contended, tally.errors, tally.examples.len()), (1, 1, 1));
    }

    #[test]
    fn absorbing_adds_every_count() {
        let mut sum = Tally { reads: 1, ..Tally::default() };
        let mut other = Tally { reads: 2, contended: 7, ..Tally::default() };
        other.torn("a");
        other.torn("b");
        other.missed(b"k");
        other.lost("l");
        other.backwards("x");
        sum.absorb(other);
        assert_eq!((sum.reads, sum.contended, sum.torn, sum.missed), (3, 7, 2, 1));
        assert_eq!((sum.lost, sum.backwards, sum.examples.len()), (1, 1, 4));
    }
}
