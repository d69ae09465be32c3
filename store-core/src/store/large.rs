//! Large items: their pieces are reserved and written one after the other, and can be reached from
//! the moment when the item is published, all at once.

use super::write::{Item, Value};
use super::{Session, Store};
use crate::arena::pieces::{self, PieceHead, Pieces};
use crate::arena::reserve::{Reach, Reserved, reserve};
use crate::arena::{NoRoom, retire, usage::may_live};
use crate::error::{Corruption, WriteError};
use crate::layout::{Header, LargeWord, PIECE_HEAD_BYTES, Shelf, Slot, flags};
use crate::region::{Cell64, Shim, append_out, copy_in};

/// How often a large put that does not fit looks for what can be given back, before it is refused.
const LOOKS_MAX: u32 = 16;

/// Bytes that an item takes of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Of the item itself.
    pub(super) head: u64,
    /// How its value is divided.
    pub(super) large: Option<LargeWord>,
}

impl Size {
    /// With all pieces.
    pub(super) fn bytes(self) -> u64 {
        self.head + self.large.map_or(0, LargeWord::pieces_bytes)
    }
}

/// Where the room for pieces comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It is made, if it has to be.
    Made,
    /// It is there at once: what is done under a guard makes none.
    AtOnce,
    /// It is made; where that is in vain for a piece, in smaller parts.
    Scattered,
}

impl<S: Shim> Store<S> {
    /// Writes an item to its place, and its pieces to theirs; `false` if there is no room at once. The
    /// caller gives back what was reserved of an item that is not published.
    ///
    /// Dies in between: the word of the reservation leads to the list, and the list to the pieces.
    #[inline(always)]
    pub(super) fn write_all(
        &self,
        session: &Session,
        place: &Reserved<'_, S>,
        item: &Item<'_>,
        at: (Shelf, Room),
    ) -> Result<bool, WriteError> {
        match (item.large, item.value) {
            (Some(large), Value::Bytes(value)) => {
                self.write_large(session, place, item, (large, value), at)
            }
            _ => self.write_item(session, **place, item).map(|()| true),
        }
    }

    #[cold]
    fn write_large(
        &self,
        session: &Session,
        place: &Reserved<'_, S>,
        item: &Item<'_>,
        (large, value): (LargeWord, &[u8]),
        (shelf, room): (Shelf, Room),
    ) -> Result<bool, WriteError> {
        let segment = &self.segment;
        let list = place.offset + item.header.shape().value;
        let words = u64::from(item.header.value_bytes) / 8;
        // Before all that can fail: what is not in it is not given back.
        let pieces = Pieces::clear::<S>(segment, (list, words), large)?;
        let stamp = self.write_head(session, **place, item, value)?;
        place.name_pieces();
        let (mut number, mut rest) = (0, value);
        while !rest.is_empty() {
            let Some(cell) = pieces.cell(number) else { return Ok(false) };
            let most = large.piece_bytes().min((rest.len() as u64).next_multiple_of(8));
            let bytes = PIECE_HEAD_BYTES + most;
            let reserved = match room {
                Room::Made => Some(self.reserve(session, bytes, shelf, true)?),
                Room::AtOnce => self.reserve_at_once(session, bytes, shelf)?,
                Room::Scattered => Some(self.reserve_up_to(session, bytes, shelf)?),
            };
            let Some(reserved) = reserved else { return Ok(false) };
            let room = (reserved.bytes - PIECE_HEAD_BYTES) as usize;
            let (now, behind) = rest.split_at(room.min(rest.len()));
            self.write_piece(reserved.offset, item, (stamp, number), now)?;
            let shift = segment.geometry.slot_hash_shift;
            let slot = Slot::of_item(reserved.offset, reserved.generation, item.hash, shift);
            cell.store::<S>(slot.0);
            (number, rest) = (number + 1, behind);
        }
        Ok(true)
    }

    /// Reserves what is there, and makes no room. `None` if it is not.
    pub(super) fn reserve_at_once(
        &self,
        session: &Session,
        bytes: u64,
        shelf: Shelf,
    ) -> Result<Option<Reserved<'_, S>>, Corruption> {
        match reserve(&self.segment, session.lease(self.group()), (bytes, shelf), Reach::Own) {
            Ok(reserved) => Ok(Some(reserved)),
            Err(NoRoom::Corruption(error)) => Err(error),
            Err(NoRoom::Full | NoRoom::Grow(_)) => Ok(None),
        }
    }

    /// Reserves so many bytes or, if no room can be made for them, a half of them, and so on.
    fn reserve_up_to(
        &self,
        session: &Session,
        most: u64,
        shelf: Shelf,
    ) -> Result<Reserved<'_, S>, WriteError> {
        let (mut bytes, least) = (most, self.segment.geometry.scattered_bytes_min());
        loop {
            match self.reserve(session, bytes, shelf, false) {
                Err(WriteError::Full(_) | WriteError::QuotaFull { .. }) if bytes > least => {
                    bytes = (bytes / 2).next_multiple_of(8).max(least);
                }
                other => return other,
            }
        }
    }

    /// The item as it is put where it found no room: in more pieces than it would have, so that it can
    /// lie wherever there is some. `None` where that gives nothing, or something could be evicted.
    pub(super) fn scattered<'a>(&self, item: &Item<'a>) -> Option<Item<'a>> {
        let Value::Bytes(value) = item.value else { return None };
        let len = value.len() as u64;
        let geometry = &self.segment.geometry;
        if self.segment.group_evicts(self.group()) || len <= geometry.scattered_bytes_min() {
            return None;
        }
        let bare =
            Header { value_bytes: 0, flags: item.header.flags & !flags::LARGE, ..item.header };
        let head = bare.shape().bytes;
        let large = item.large.or_else(|| geometry.divide(head, len))?;
        let cells = geometry.scattered(head, large)?;
        let value_bytes = 8 + 8 * cells as u32;
        let header = Header { value_bytes, flags: bare.flags | flags::LARGE, ..bare };
        Some(Item { header, large: Some(large), ..*item })
    }

    fn write_piece(
        &self,
        offset: u64,
        item: &Item<'_>,
        (stamp, number): (u64, u64),
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        self.note_expiry(offset, item.expiry)?;
        let says = PieceHead { hash: item.hash, number };
        let head = (stamp, item.header, says);
        pieces::write_head::<S>(&self.segment, offset, head, bytes.len() as u64)?;
        let words = bytes.len().div_ceil(8) as u64;
        copy_in::<S>(bytes, self.segment.region.words(offset + PIECE_HEAD_BYTES, words)?);
        Ok(())
    }

    /// Gives back the pieces of an item that was not published.
    pub(super) fn abandon_pieces(&self, item: u64, header: Header) -> Result<(), Corruption> {
        match Pieces::of(&self.segment, item, header)? {
            Some(pieces) => pieces.give_back(&self.segment),
            None => Ok(()),
        }
    }

    /// Refuses a large item that no cleaning can make room for, before its pieces take what others
    /// could have. Not where something may be evicted for it.
    #[inline(always)]
    pub(super) fn refuse_if_too_large(
        &self,
        session: &Session,
        size: Size,
    ) -> Result<(), WriteError> {
        match size.large {
            None => Ok(()),
            Some(_) => self.refuse_large(session, size),
        }
    }

    #[cold]
    fn refuse_large(&self, session: &Session, size: Size) -> Result<(), WriteError> {
        if self.segment.group_evicts(self.group()) {
            return Ok(());
        }
        for _ in 0..LOOKS_MAX {
            if size.bytes() <= may_live(&self.segment, self.group())? {
                return Ok(());
            }
            if !(self.reap_in_need(session)? | self.sweep_in_need(session)) {
                break;
            }
        }
        Err(self.no_room(NoRoom::Full, size))
    }

    /// Has room made for an item that will be reserved under a guard: reserves it as a put does, and
    /// gives it back.
    pub(super) fn make_room(
        &self,
        session: &Session,
        (header, large): (Header, Option<LargeWord>),
        shelf: Shelf,
    ) -> Result<(), WriteError> {
        let size = Size { head: header.shape().bytes, large };
        self.refuse_if_too_large(session, size)?;
        let place = self.reserve(session, size.head, shelf, true)?;
        let result = match large {
            Some(large) => self.reserve_pieces(session, &place, (header, large), shelf),
            None => Ok(()),
        };
        if large.is_some() && !matches!(result, Err(WriteError::Corruption(_))) {
            self.abandon_pieces(place.offset, header)?;
        }
        retire::abandon(&self.segment, *place)?;
        result.map_err(|error| self.for_all_of(error, size))
    }

    /// Reserves the pieces of an item that will not be published.
    fn reserve_pieces(
        &self,
        session: &Session,
        place: &Reserved<'_, S>,
        (header, large): (Header, LargeWord),
        shelf: Shelf,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let list = place.offset + header.shape().value;
        let words = u64::from(header.value_bytes) / 8;
        let pieces = Pieces::clear::<S>(segment, (list, words), large)?;
        let head = segment.region.view::<[Cell64; 2]>(place.offset)?;
        for (cell, word) in head.iter().zip([0, header.word()]) {
            cell.store_unpublished::<S>(word);
        }
        place.name_pieces();
        for number in 0..large.count() {
            let Some(cell) = pieces.cell(number) else { break };
            let rest = large.len - number * large.piece_bytes();
            let bytes = rest.next_multiple_of(8).min(large.piece_bytes());
            let reserved = self.reserve(session, PIECE_HEAD_BYTES + bytes, shelf, true)?;
            let says = PieceHead { hash: 0, number };
            pieces::write_head::<S>(segment, reserved.offset, (0, header, says), bytes)?;
            let shift = segment.geometry.slot_hash_shift;
            cell.store::<S>(Slot::of_item(reserved.offset, reserved.generation, 0, shift).0);
        }
        Ok(())
    }

    /// An error that was met at one of the pieces, for the whole item.
    pub(super) fn for_all_of(&self, error: WriteError, size: Size) -> WriteError {
        match error {
            WriteError::Full(_) | WriteError::QuotaFull { .. } => self.no_room(NoRoom::Full, size),
            error => error,
        }
    }

    /// Appends the value of an item that is no counter; under its guard.
    pub(super) fn append_held(
        &self,
        item: u64,
        header: Header,
        to: &mut Vec<u8>,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let wrong = Corruption { what: "a large item without one of its pieces", offset: item };
        if let Some(pieces) = Pieces::of(segment, item, header)? {
            return pieces
                .read_all(segment, || true, |words, bytes| append_out(words, bytes, to))
                .ok_or(wrong);
        }
        let words = u64::from(header.value_bytes).div_ceil(8);
        let words: &[Cell64] = segment.region.words(item + header.shape().value, words)?;
        append_out(words, header.value_bytes as usize, to);
        Ok(())
    }

    /// Bytes that the item at `item` takes, with all its pieces.
    pub(super) fn bytes_of(&self, item: u64, header: Header) -> Result<u64, Corruption> {
        let pieces = Pieces::of(&self.segment, item, header)?;
        Ok(header.shape().bytes + pieces.map_or(0, |pieces| pieces.bytes(&self.segment)))
    }
}
