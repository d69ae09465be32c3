//! Which extents have reservations in flight: made, and neither published nor abandoned.
//!
//! Live units left by a dead writer look like those of a writer that is about to publish. A writer
//! therefore names the extent in its client entry before it reserves there. Whoever seals an
//! extent and then finds it named by no living client knows that nothing in it will be published
//! any more: the reservation and the sealing are compare-and-swaps of one word, so of the two
//! either the writer comes first and its name is seen, or it finds the extent sealed.
//!
//! The pieces of a large item are in flight together. Its list names where they are, and the word of
//! its own reservation says where the list is: until the item was published or abandoned or, if its
//! writer died, the list was read by whoever reaps it.

use std::marker::PhantomData;

use super::pieces::Pieces;
use super::retire::mark_suspect;
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
    #[inline]
    pub(crate) fn begin(segment: &'a Segment<S>, me: Owner) -> Result<Self, Corruption> {
        let entry = segment.client(me.client)?;
        let generation = me.generation;
        let taken = InFlightWord { generation, large: false, number: 0 }.word();
        let cell = &entry.in_flight[thread::number() % THREAD_WORDS];
        if cell.load() == 0 && cell.compare_exchange::<S>(0, taken).is_ok() {
            return Ok(Self { cell, generation, counted: false, shim: PhantomData });
        }
        Ok(Self::begin_beside_others(entry, generation, taken))
    }

    /// [`InFlight::begin`] where the thread's own word is another one's.
    #[cold]
    fn begin_beside_others(entry: &'a ClientEntry, generation: u32, taken: u64) -> Self {
        let first = thread::number();
        for turn in 1..ROUNDS as usize * THREAD_WORDS {
            let cell = &entry.in_flight[first.wrapping_add(turn) % THREAD_WORDS];
            if cell.load() == 0 && cell.compare_exchange::<S>(0, taken).is_ok() {
                return Self { cell, generation, counted: false, shim: PhantomData };
            }
            std::hint::spin_loop();
        }
        let cell = &entry.in_flight[THREAD_WORDS];
        let this = Self { cell, generation, counted: true, shim: PhantomData };
        this.count(1);
        this
    }

    /// Says where the next reservation will be tried. Dies after it: the extent is suspect for
    /// nothing.
    #[inline]
    pub(super) fn name(&self, extent: u32) {
        if !self.counted {
            let number = u64::from(extent) + 1;
            let word = InFlightWord { generation: self.generation, large: false, number };
            self.cell.store::<S>(word.word());
        }
    }

    /// Says where the large item is whose pieces are reserved next; they have words of their own
    /// until its list names them. Dies before it: only the item's own extent counts too much.
    pub(super) fn name_large(&self, item: u64) {
        if !self.counted {
            let word = InFlightWord { generation: self.generation, large: true, number: item / 8 };
            self.cell.store::<S>(word.word());
        }
    }

    /// Adds to the count of further threads. A count of another client is none.
    fn count(&self, by: i64) {
        let generation = self.generation;
        let mut found = self.cell.load_acquire();
        loop {
            let before = InFlightWord::of(found).filter(|word| word.generation == generation);
            let next = match before.map_or(0, |word| word.number).saturating_add_signed(by) {
                0 => 0,
                number => InFlightWord { generation, large: false, number }.word(),
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
        // All words before any list: a piece is in the list before its own word is given back.
        let words: [Option<Named>; IN_FLIGHT_WORDS] = std::array::from_fn(|at| {
            let word = InFlightWord::of(entry.in_flight[at].load_acquire())?;
            // The list of an earlier client waits for whoever releases its words.
            let counts = word.generation == owner.generation || word.large;
            counts.then(|| named_by(word, at)).flatten()
        });
        for named in words.into_iter().flatten() {
            let may = match named {
                Named::Any => !is_dead(owner),
                Named::Extent(named) => named == extent && !is_dead(owner),
                // Also of a dead one: who reaps it needs the list.
                Named::Large(item) => {
                    segment.geometry.extent_of(item) == Some(extent)
                        || pieces_at(segment, item).is_some_and(|p| p.are_in(segment, extent))
                }
            };
            if may {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What a word says is in flight.
enum Named {
    /// In an extent that it does not name: a thread is only counted.
    Any,
    Extent(u32),
    /// The large item at this offset, with all its pieces.
    Large(u64),
}

/// What word `at` says.
fn named_by(word: InFlightWord, at: usize) -> Option<Named> {
    match (at, word.large) {
        (THREAD_WORDS, _) => Some(Named::Any),
        (_, true) => Some(Named::Large(word.number * 8)),
        // 0: taken, and nothing reserved yet.
        (_, false) => u32::try_from(word.number.checked_sub(1)?).ok().map(Named::Extent),
    }
}

/// The pieces of the large item at `item`, if there is one.
fn pieces_at<S: Shim>(segment: &Segment<S>, item: u64) -> Option<Pieces<'_>> {
    segment.geometry.extent_of(item)?;
    Pieces::of(segment, item, segment.header(item).ok()?).ok()?
}

/// Takes back what `dead` had in flight, and what earlier clients of its entry left: the extents that
/// they name count too much, perhaps.
pub(crate) fn release<S: Shim>(segment: &Segment<S>, dead: Owner) -> Result<(), Corruption> {
    let entry = segment.client(dead.client)?;
    let now = entry.owner(dead.client).generation;
    for (at, cell) in entry.in_flight.iter().enumerate() {
        let found = cell.load_acquire();
        let Some(word) = InFlightWord::of(found) else { continue };
        if word.generation != dead.generation && word.generation == now {
            continue;
        }
        // Suspect first: dies between the two, and the next reaper marks it again.
        match named_by(word, at) {
            Some(Named::Extent(extent)) if extent < segment.geometry.extents => {
                mark_suspect(segment, segment.geometry.extent_offset(extent))?;
            }
            Some(Named::Large(item)) => {
                mark_suspect(segment, item)?;
                if let Some(pieces) = pieces_at(segment, item) {
                    pieces.mark_suspect(segment)?;
                }
            }
            // Where that was is not known.
            Some(Named::Any) => {
                for extent in 0..segment.geometry.extents {
                    mark_suspect(segment, segment.geometry.extent_offset(extent))?;
                }
            }
            _ => {}
        }
        let _ = cell.compare_exchange::<S>(found, 0);
    }
    Ok(())
}
