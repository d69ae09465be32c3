//! The word in a guard that names who holds it.
//!
//! ```text
//! 31  30                 12  11                 0
//! W | generation of entry   | client entry + 1   |      0 = free
//! ```
//! W: somebody waits. No pid, no thread id, no pointer: the client entry holds those.

/// A client entry and its generation, as guards and extents name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// Index in the client table.
    pub(crate) client: u32,
    /// The low 19 bits of the generation of that entry.
    pub(crate) generation: u32,
}

const CLIENT_BITS: u32 = 12;
const GENERATION_BITS: u32 = 19;
const WAITERS: u32 = 1 << 31;

impl Owner {
    /// Entries that a client table can have.
    pub(crate) const CLIENTS_MAX: u32 = (1 << CLIENT_BITS) - 1;
    /// The bits of a generation that are kept.
    pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

    pub(crate) fn new(client: u32, generation: u32) -> Self {
        debug_assert!(client < Self::CLIENTS_MAX);
        Self { client, generation: generation & Self::GENERATION_MASK }
    }

    /// The word, without a waiters bit.
    #[inline(always)]
    pub(crate) fn word(self) -> u32 {
        self.generation << CLIENT_BITS | (self.client + 1)
    }

    /// Who holds a guard with this word; `None` if it is free. Any word is somebody's or free.
    pub(crate) fn of_word(word: u32) -> Option<Self> {
        let entry = word & ((1 << CLIENT_BITS) - 1);
        let generation = word >> CLIENT_BITS & Self::GENERATION_MASK;
        Some(Self { client: entry.checked_sub(1)?, generation })
    }

    /// Whether somebody waits for the guard with this word.
    pub(crate) fn has_waiters(word: u32) -> bool {
        word & WAITERS != 0
    }

    /// The word with its waiters bit set.
    pub(crate) fn with_waiters(word: u32) -> u32 {
        word | WAITERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_their_owner() {
        for client in [0, 1, 77, Owner::CLIENTS_MAX - 1] {
            for generation in [0, 1, Owner::GENERATION_MASK] {
                let owner = Owner::new(client, generation);
                assert_ne!(owner.word(), 0);
                assert_eq!(Owner::of_word(owner.word()), Some(owner));
                assert_eq!(Owner::of_word(Owner::with_waiters(owner.word())), Some(owner));
                assert!(!Owner::has_waiters(owner.word()));
            }
        }
        assert_eq!(Owner::of_word(0), None);
    }
}
