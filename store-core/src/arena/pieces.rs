//! The pieces of a large item: the list that finds them, and what is done to all of them at once.
//!
//! An item that is larger than a part of an extent is divided, so that it needs no neighbouring
//! extents and leaves little at the end of one. Its pieces lie anywhere in the arena, and each is
//! moved by itself. Who has the guard of the item's stripe may change the list; a word of it leads
//! to a piece whose stamp is the item's for as long as the item can be reached.

use std::sync::atomic::{Ordering, fence};

use super::retire;
use crate::error::Corruption;
use crate::layout::{Header, LargeWord, PIECE_HEAD_BYTES, Segment, Slot, flags};
use crate::region::{Cell64, Mutation, Shim, mutated};

/// The list of a large item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pieces<'a> {
    pub(crate) large: LargeWord,
    /// Where each piece is; 0: nowhere yet.
    cells: &'a [Cell64],
}

/// What a piece says of itself, besides its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PieceHead {
    /// Of its item's key.
    pub(crate) hash: u64,
    /// Which piece it is.
    pub(crate) number: u64,
}

impl<'a> Pieces<'a> {
    /// The pieces of the item at `item`; `None` if it is not a large one.
    ///
    /// # Errors
    /// `Corruption` where the list makes no sense or leaves the item's extent.
    #[inline]
    pub(crate) fn of<S: Shim>(
        segment: &'a Segment<S>,
        item: u64,
        header: Header,
    ) -> Result<Option<Self>, Corruption> {
        if !header.has(flags::LARGE) {
            return Ok(None);
        }
        Self::read(segment, item, header).map(Some)
    }

    fn read<S: Shim>(
        segment: &'a Segment<S>,
        item: u64,
        header: Header,
    ) -> Result<Self, Corruption> {
        let wrong = Corruption { what: "a large item whose list makes no sense", offset: item };
        let shape = header.shape();
        let words = u64::from(header.value_bytes) / 8;
        let geometry = &segment.geometry;
        let extent = geometry.extent_at(item);
        if words == 0 || geometry.extent_at(item + shape.bytes - 1) != extent {
            return Err(wrong);
        }
        let cells = segment.region.words(item + shape.value, words)?;
        let [first, cells @ ..] = cells else { return Err(wrong) };
        let large = LargeWord::of(first.load());
        let fits = large.piece_units > 0
            && large.len <= geometry.item_bytes_max()
            && large.piece_bytes() + PIECE_HEAD_BYTES <= geometry.extent_bytes()
            && large.count() <= cells.len() as u64;
        if fits { Ok(Self { large, cells }) } else { Err(wrong) }
    }

    /// Shows `see` the bytes of one piece after the other, each with the length that counts, and no
    /// more in all than the value has. `None` where the item is another by now, or a piece is: `stands`
    /// tells of the item, and is asked after it was found where a piece is.
    pub(crate) fn read_all<S: Shim>(
        self,
        segment: &Segment<S>,
        stands: impl Fn() -> bool,
        mut see: impl FnMut(&[Cell64], usize),
    ) -> Option<()> {
        let mut left = self.large.len;
        for cell in self.cells {
            if left == 0 {
                break;
            }
            let slot = Slot(cell.load());
            let generation_cell =
                segment.generation_at(segment.geometry.extent_at(slot.offset()))?;
            // Pairs with the Release store of the word: the piece's bytes are at least as new.
            fence(Ordering::Acquire);
            let generation = generation_cell.load();
            fence(Ordering::Acquire);
            // As with a slot: it must stand after the generation was read.
            if cell.load() != slot.0
                || !stands()
                || generation == 0
                || !slot.is_of_generation(generation)
            {
                return None;
            }
            let bytes = self.bytes_at(segment, slot)?.min(left);
            let at = slot.offset() + PIECE_HEAD_BYTES;
            see(segment.region.words(at, bytes.div_ceil(8)).ok()?, bytes as usize);
            left -= bytes;
            // Pairs with the fence in `lease::bump_generation`.
            fence(Ordering::Acquire);
            if !mutated::<S>(Mutation::SkipGenerationCheck) && generation_cell.load() != generation
            {
                return None;
            }
        }
        (left == 0).then_some(())
    }

    /// Bytes of the value that the piece at `slot` says it has; `None` where there can be none. Believed
    /// as its other bytes are.
    fn bytes_at<S: Shim>(self, segment: &Segment<S>, slot: Slot) -> Option<u64> {
        let header = segment.header(slot.offset()).ok()?;
        let bytes = u64::from(header.value_bytes).checked_sub(PIECE_HEAD_BYTES - 16)?;
        let last = slot.offset() + PIECE_HEAD_BYTES + bytes - 1;
        let extent_at = |offset| segment.geometry.extent_at(offset);
        let fits = header.flags == flags::PIECE
            && header.key_bytes == 0
            && (1..=self.large.piece_bytes()).contains(&bytes)
            && extent_at(last) == extent_at(slot.offset());
        fits.then_some(bytes)
    }

    /// Where each piece is, of those that have a place.
    pub(crate) fn slots(self) -> impl Iterator<Item = Slot> + 'a {
        self.cells.iter().map(|cell| Slot(cell.load())).filter(|slot| slot.is_item())
    }

    /// Slot of each piece that has a place, and how many bytes of the value it has, until those are all;
    /// of an item that is held, pinned or in flight.
    pub(crate) fn places<S: Shim>(
        self,
        segment: &'a Segment<S>,
    ) -> impl Iterator<Item = (Slot, u64)> + 'a {
        let mut left = self.large.len;
        self.slots()
            .filter(|slot| segment.slot_stands(*slot))
            .filter_map(move |slot| Some((slot, self.bytes_at(segment, slot)?)))
            .take_while(move |(_, bytes)| match left.checked_sub(*bytes) {
                Some(less) => {
                    left = less;
                    true
                }
                None => false,
            })
    }

    /// Bytes of the arena that all pieces take; of an item that is held.
    pub(crate) fn bytes<S: Shim>(self, segment: &Segment<S>) -> u64 {
        self.places(segment).map(|(_, bytes)| PIECE_HEAD_BYTES + bytes.next_multiple_of(8)).sum()
    }

    /// The word for piece `number`.
    pub(crate) fn cell(self, number: u64) -> Option<&'a Cell64> {
        self.cells.get(usize::try_from(number).ok()?)
    }

    /// Empties the list of an item that nobody can reach yet.
    pub(crate) fn clear<S: Shim>(
        segment: &'a Segment<S>,
        (list, words): (u64, u64),
        large: LargeWord,
    ) -> Result<Self, Corruption> {
        let words = segment.region.words(list, words)?;
        let Some((first, cells)) = words.split_first() else {
            return Err(Corruption { what: "no room for a list", offset: list });
        };
        first.store_unpublished::<S>(large.word());
        for cell in cells {
            cell.store_unpublished::<S>(0);
        }
        Ok(Self { large, cells })
    }

    /// Whether a piece is in `extent`.
    pub(crate) fn are_in<S: Shim>(self, segment: &Segment<S>, extent: u32) -> bool {
        self.slots().any(|slot| segment.geometry.extent_of(slot.offset()) == Some(extent))
    }

    /// Gives the bytes of all pieces back: of an item that was unpublished, under its guard, or was
    /// never published.
    ///
    /// Dies in between: the extents of the rest count too much. The list tells which, as long as the
    /// item itself counts.
    pub(crate) fn give_back<S: Shim>(self, segment: &Segment<S>) -> Result<(), Corruption> {
        for (slot, bytes) in self.places(segment) {
            if let Some(extent) = segment.geometry.extent_of(slot.offset()) {
                let bytes = PIECE_HEAD_BYTES + bytes.next_multiple_of(8);
                retire::subtract(segment, extent, (bytes / 8) as u32)?;
            }
        }
        Ok(())
    }

    /// Notes that the extents of all pieces may count too much.
    pub(crate) fn mark_suspect<S: Shim>(self, segment: &Segment<S>) -> Result<(), Corruption> {
        for slot in self.slots() {
            if segment.slot_stands(slot) {
                retire::mark_suspect(segment, slot.offset())?;
            }
        }
        Ok(())
    }
}

/// Writes what stands before the bytes of a piece that nobody can reach yet: `bytes` of the value of
/// the item with this stamp and header.
pub(crate) fn write_head<S: Shim>(
    segment: &Segment<S>,
    piece: u64,
    (stamp, of_item, says): (u64, Header, PieceHead),
    bytes: u64,
) -> Result<(), Corruption> {
    let header = Header {
        value_bytes: (PIECE_HEAD_BYTES - 16 + bytes) as u32,
        key_bytes: 0,
        namespace: of_item.namespace,
        flags: flags::PIECE,
    };
    let cells = segment.region.view::<[Cell64; 4]>(piece)?;
    for (cell, word) in cells.iter().zip([stamp, header.word(), says.hash, says.number]) {
        cell.store_unpublished::<S>(word);
    }
    Ok(())
}

impl PieceHead {
    /// What the piece at `piece` says of itself.
    pub(crate) fn of<S: Shim>(segment: &Segment<S>, piece: u64) -> Result<Self, Corruption> {
        let [_, _, hash, number] = segment.region.view::<[Cell64; 4]>(piece)?;
        Ok(Self { hash: hash.load(), number: number.load() })
    }
}
