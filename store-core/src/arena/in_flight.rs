//! Which extents have reservations in flight: made, and neither published nor abandoned.
//!
//! Live units left by a dead writer look like those of a writer that is about to publish. A writer
//! therefore names the extent in its client entry before it reserves there. Whoever seals an
//! extent and then finds it named by no living client knows that nothing in it will be published
//! any more: the reservation and the sealing are compare-and-swaps of one word, so of the two
//! either the writer comes first and its name is seen, or it finds the extent sealed.

use std::marker::PhantomData;

use crate::error::Corruption;
use crate::layout::{ClientEntry, ClientState, ClientWord, IN_FLIGHT_WORDS, InFlightWord, Segment};
use crate::region::{Cell64, Mutation, Shim, mutated};
use crate::sync::Owner;
use crate::sys::thread;

/// Words for one thread each; the last one counts the others.
const THREAD_WORDS: usize = IN_FLIGHT_WORDS - 1;
/// Rounds over the words before a thread is counted instead.
const ROUNDS: u32 = 16;

/// One thread's reservation in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'a, S: Shim> {
    cell: &'a Cell64,
    generation: u32,
    counted: bool,
    shim: PhantomData<S>,
}

impl<'a, S: Shim> InFlight<'a, S> {
    /// Takes a word of the client's entry: one compare-and-swap.
    pub(crate) fn begin(segment: &'a Segment<S>, me: Owner) -> Result<Self, Corruption> {
        let entry = segment.client(me.client)?;
        let generation = me.generation;
        let taken = InFlightWord { generation, number: 0 }.word();
        let first = thread::number();
        for turn in 0..ROUNDS as usize * THREAD_WORDS {
            let cell = &entry.in_flight[first.wrapping_add(turn) % THREAD_WORDS];
            if cell.load() == 0 && cell.compare_exchange::<S>(0, taken).is_ok() {
                return Ok(Self { cell, generation, counted: false, shim: PhantomData });
            }
            std::hint::spin_loop();
        }
        let cell = &entry.in_flight[THREAD_WORDS];
        let this = Self { cell, generation, counted: true, shim: PhantomData };
        this.count(1);
        Ok(this)
    }

    /// Says where the next reservation will be tried. Dies after it: the extent is suspect for
    /// nothing.
    #[inline]
    pub(super) fn name(&self, extent: u32) {
        if !self.counted {
            let number = extent + 1;
            self.cell.store::<S>(InFlightWord { generation: self.generation, number }.word());
        }
    }

    /// Adds to the count of further threads. A count of another client is none.
    fn count(&self, by: i32) {
        let mut found = self.cell.load_acquire();
        loop {
            let before = InFlightWord::of(found)
                .filter(|word| word.generation == self.generation)
                .map_or(0, |word| word.number);
            let next = match before.saturating_add_signed(by) {
                0 => 0,
                number => InFlightWord { generation: self.generation, number }.word(),
            };
            match self.cell.compare_exchange::<S>(found, next) {
                Ok(()) => return,
                Err(now) => found = now,
            }
        }
    }
}

impl<S: Shim> Drop for InFlight<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.counted {
            self.count(-1);
        } else {
            self.cell.store::<S>(0);
        }
    }
}

/// Whether some client that is not dead may publish into `extent`, which takes no more
/// reservations. Reads two lines of each client entry.
pub(crate) fn may_publish<S: Shim>(
    segment: &Segment<S>,
    extent: u32,
    is_dead: impl Fn(Owner) -> bool,
) -> Result<bool, Corruption> {
    if mutated::<S>(Mutation::SkipInFlight) {
        return Ok(false);
    }
    for client in 0..segment.geometry.clients {
        let entry = segment.client(client)?;
        let word = ClientWord::of(entry.word.load_acquire());
        if word.state == ClientState::Free {
            continue;
        }
        let owner = Owner::new(client, word.generation);
        if words_of(entry, owner).any(|named| named.is_none_or(|named| named == extent))
            && !is_dead(owner)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The extents that `owner` names; `None` for a thread that is only counted.
fn words_of(entry: &ClientEntry, owner: Owner) -> impl Iterator<Item = Option<u32>> {
    entry.in_flight.iter().enumerate().filter_map(move |(at, cell)| {
        let word = InFlightWord::of(cell.load_acquire())?;
        match (word.generation == owner.generation, at) {
            (false, _) => None,
            (true, THREAD_WORDS) => Some(None),
            // Taken, and nothing reserved yet.
            (true, _) => word.number.checked_sub(1).map(Some),
        }
    })
}

/// Takes back what `dead` had in flight: the extents that it names count too much, perhaps.
pub(crate) fn release<S: Shim>(segment: &Segment<S>, dead: Owner) -> Result<(), Corruption> {
    let entry = segment.client(dead.client)?;
    for (at, cell) in entry.in_flight.iter().enumerate() {
        let found = cell.load_acquire();
        let Some(word) = InFlightWord::of(found) else { continue };
        if word.generation != dead.generation {
            continue;
        }
        // Suspect first: dies between the two, and the next reaper marks it again.
        if at != THREAD_WORDS
            && let Some(extent) = word.number.checked_sub(1)
            && extent < segment.geometry.extents
        {
            super::retire::mark_suspect(segment, segment.geometry.extent_offset(extent))?;
        }
        let _ = cell.compare_exchange::<S>(found, 0);
    }
    Ok(())
}
