//! What looks like an item, and the pieces of a large one.

use super::wreck::Wreck;
use crate::error::Corruption;
use crate::layout::{Header, LargeWord, PIECE_HEAD_BYTES, RedoRecord, Slot, Stamp, flags};
use crate::region::Cell64;

/// Stamps are far smaller.
pub(super) const STAMP_LIMIT: u64 = 1 << 62;

/// An item, where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) item: u64,
    pub(super) header: Header,
    pub(super) stamp: u64,
    /// In the segment's time.
    pub(super) expiry: Option<u64>,
    /// Whether a slot of the index leads to it.
    pub(super) is_listed: bool,
    /// Of a large item: bytes of its value, which lie elsewhere.
    pub(super) large_bytes: u64,
    /// A hash of the key, by which it is known again.
    pub(super) key_hash: u64,
    /// Of an item whose writer died while it overwrote it: offset of the record that says what it is.
    pub(super) redo: Option<u64>,
}

impl Found {
    /// Whether it is taken rather than another one of its key. Stamps are in order where one client wrote
    /// both.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        (self.is_listed, self.stamp) > (other.is_listed, other.stamp)
    }

    /// Where its value is.
    pub(super) fn value_at(&self) -> u64 {
        match self.redo {
            Some(record) => record + core::mem::offset_of!(RedoRecord, value) as u64,
            None => self.item + self.header.shape().value,
        }
    }

    /// Where its checksum is, if it has one.
    pub(super) fn checksum_at(&self) -> u64 {
        match self.redo {
            Some(record) => record + core::mem::offset_of!(RedoRecord, checksum) as u64,
            None => self.item + self.header.shape().checksum,
        }
    }

    /// What it takes of an arena.
    pub(super) fn bytes(&self) -> u64 {
        self.header.shape().bytes + self.large_bytes
    }

    pub(super) fn is_large(&self) -> bool {
        self.header.has(flags::LARGE)
    }
}

/// What stands at a place.
pub(super) enum Standing {
    Item(Found),
    /// A part of one, of so many bytes.
    Piece(u64),
    Nothing,
}

/// A large value that was put together.
pub(super) struct Pieces {
    pub(super) value: Vec<u8>,
    /// The extents that it lies in.
    pub(super) extents: Vec<u64>,
}

impl Wreck {
    /// What the words at an offset look like, with at most `room` bytes and no later stamp than
    /// `stamp_max`.
    pub(super) fn look_at(
        &self,
        offset: u64,
        room: u64,
        stamp_max: u64,
    ) -> Result<Standing, Corruption> {
        let [stamp, word] = self.region.view::<[Cell64; 2]>(offset)?;
        let (stamp, stored) = (Stamp(stamp.load()), Header::of(word.load()));
        let record = stamp.is_overwritten().then(|| self.redo_of(stamp.number(), stored)).flatten();
        let header = record.map_or(stored, |(_, header)| header);
        let is_torn = stamp.is_overwritten() && record.is_none();
        let stamp = stamp.number();
        let shape = header.shape();
        let is_known = header.flags & !flags::KNOWN == 0;
        if stamp == 0 || stamp > stamp_max || !is_known || shape.bytes > room {
            return Ok(Standing::Nothing);
        }
        if header.has(flags::PIECE) {
            let is_piece = header.flags == flags::PIECE
                && header.key_bytes == 0
                && shape.bytes > PIECE_HEAD_BYTES;
            return Ok(if is_piece { Standing::Piece(shape.bytes) } else { Standing::Nothing });
        }
        let is_large = header.has(flags::LARGE);
        let value = header.value_bytes;
        if header.has(flags::COUNTER) && (is_large || value != 8)
            || is_large && (value < 16 || !value.is_multiple_of(8))
            || shape.bytes > self.extent_bytes / 2
            // Half the old value, half the new one, perhaps: unless a checksum tells.
            || is_torn && !header.has(flags::CHECKSUM)
        {
            return Ok(Standing::Nothing);
        }
        let expiry = match header.has(flags::EXPIRES) {
            true => Some(self.region.view::<Cell64>(offset + shape.expiry)?.load()),
            false => None,
        };
        Ok(Standing::Item(Found {
            item: offset,
            header,
            stamp,
            expiry,
            is_listed: false,
            large_bytes: 0,
            key_hash: 0,
            redo: record.map(|(record, _)| record),
        }))
    }

    /// The value of a large item, if each piece in its list is there, with its stamp and number. What is
    /// read of pieces is taken from `left`, and no more than that is read.
    pub(super) fn pieces_of(
        &self,
        item: u64,
        header: Header,
        left: &mut u64,
    ) -> Result<Option<Pieces>, Corruption> {
        let words = u64::from(header.value_bytes) / 8;
        let [first, cells @ ..] = self.region.words(item + header.shape().value, words)? else {
            return Ok(None);
        };
        let stamp = Stamp(self.region.view::<Cell64>(item)?.load()).number();
        let large = LargeWord::of(first.load());
        if large.piece_units == 0
            || large.len > self.extents * self.extent_bytes
            || large.count() > cells.len() as u64
        {
            return Ok(None);
        }
        let mut pieces = Pieces { value: Vec::new(), extents: Vec::new() };
        let value = &mut pieces.value;
        for (number, cell) in (0..).zip(cells) {
            let missing = large.len - value.len() as u64;
            if missing == 0 {
                break;
            }
            let piece = Slot(cell.load()).offset();
            let Some(extent) = self.extent_of(piece) else { return Ok(None) };
            let end = self.extent_offset(extent) + self.extent_bytes;
            if end - piece < PIECE_HEAD_BYTES {
                return Ok(None);
            }
            let [its_stamp, its_header, _, its_number] = self.region.view::<[Cell64; 4]>(piece)?;
            let its_header = Header::of(its_header.load());
            let bytes = u64::from(its_header.value_bytes).saturating_sub(PIECE_HEAD_BYTES - 16);
            if its_stamp.load() != stamp
                || its_header.flags != flags::PIECE
                || its_header.namespace != header.namespace
                || its_number.load() != number
                || bytes == 0
                || bytes > missing
                || PIECE_HEAD_BYTES + bytes > end - piece
            {
                return Ok(None);
            }
            let Some(rest) = left.checked_sub(PIECE_HEAD_BYTES + bytes) else { return Ok(None) };
            *left = rest;
            value.extend(self.copy(piece + PIECE_HEAD_BYTES, bytes as usize)?);
            pieces.extents.push(extent);
        }
        Ok((pieces.value.len() as u64 == large.len).then_some(pieces))
    }
}
