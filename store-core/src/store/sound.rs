//! What makes an item sound: what `check` verifies of each one, and a repair keeps.

use super::Store;
use crate::arena::pieces::{PieceHead, Pieces};
use crate::error::Corruption;
use crate::layout::{ExtentState, Header, PIECE_HEAD_BYTES, Slot, flags};
use crate::region::{Cell64, Shim};

/// What a slot leads to, as far as header and key tell.
pub(super) struct Head {
    pub(super) item: u64,
    pub(super) extent: u32,
    pub(super) generation: u64,
    pub(super) header: Header,
    pub(super) key: Vec<u8>,
    pub(super) hash: u64,
    pub(super) stamp: u64,
    /// Whether it says that it is being overwritten.
    pub(super) is_overwritten: bool,
}

/// Where an item or a piece lies.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) extent: u32,
    pub(super) offset: u64,
    pub(super) units: u64,
}

/// What is behind the head of a sound item.
pub(super) struct Body {
    /// The item and each piece.
    pub(super) parts: Vec<Part>,
    /// Whether a checksum was verified.
    pub(super) checksum: bool,
}

/// Why an item is not sound behind its head.
pub(super) enum Unsound {
    /// The item itself.
    Item(String),
    /// The word of this extent denies that there is an item where there is one.
    Extent(u32, &'static str),
}

impl From<Corruption> for Unsound {
    fn from(error: Corruption) -> Self {
        Self::Item(error.to_string())
    }
}

impl<S: Shim> Store<S> {
    /// The head of the item at a slot; why there is none. Believed under the guard of the slot.
    pub(super) fn head_at(&self, slot: Slot) -> Result<Head, String> {
        let segment = &self.segment;
        let wrong = |what: &str| Err(what.to_owned());
        let item = slot.offset();
        let Some(extent) = segment.geometry.extent_of(item) else {
            return wrong("the slot leads out of the arena");
        };
        let generation = segment.generation(extent).map_or(0, Cell64::load);
        if generation == 0 || !slot.is_of_generation(generation) {
            return wrong("the slot is of another generation than its extent");
        }
        let head = self.head_of(item, extent, generation)?;
        let namespace = head.header.namespace;
        if namespace != 0
            && segment.namespace_record(namespace).is_none_or(|record| !record.is_taken())
        {
            return wrong("the item is of a namespace that there is not");
        }
        Ok(head)
    }

    /// What looks like the head of an item in an extent, whatever generation and whatever namespaces there
    /// are.
    pub(super) fn head_of(&self, item: u64, extent: u32, generation: u64) -> Result<Head, String> {
        let segment = &self.segment;
        let broken = |error: Corruption| error.to_string();
        let wrong = |what: &str| Err(what.to_owned());
        let header = segment.header(item).map_err(broken)?;
        if header.flags & !flags::KNOWN != 0 || header.has(flags::PIECE) {
            return wrong("the item has flags that this version does not know");
        }
        if header.shape().bytes > segment.geometry.head_bytes_max() {
            return wrong("the item is larger than an item may be");
        }
        let stamp = segment.stamp(item).map_err(broken)?;
        if stamp.number() == 0 {
            return wrong("the item has no stamp");
        }
        let mut key = Vec::new();
        segment.copy_key(item, header, &mut key).map_err(broken)?;
        let hash = segment.hash_in(header.namespace, &key);
        let is_overwritten = stamp.is_overwritten();
        let stamp = stamp.number();
        Ok(Head { item, extent, generation, header, key, hash, stamp, is_overwritten })
    }

    /// Verifies what is behind the head of an item.
    pub(super) fn body_of(&self, head: &Head) -> Result<Body, Unsound> {
        self.body_if(head, true)
    }

    /// Verifies what is behind the head of an item, whatever the words of its extents say.
    pub(super) fn body_whatever_extents(&self, head: &Head) -> Result<Body, Unsound> {
        self.body_if(head, false)
    }

    fn body_if(&self, head: &Head, by_words: bool) -> Result<Body, Unsound> {
        let bytes = head.header.shape().bytes;
        self.check_extent_of(head.extent, head.item, bytes, by_words)?;
        let mut parts = vec![Part { extent: head.extent, offset: head.item, units: bytes / 8 }];
        self.check_pieces(head, &mut parts, by_words)?;
        let checksum = head.header.has(flags::CHECKSUM);
        if checksum && !self.checksum_holds(head)? {
            return Err(Unsound::Item("the checksum is not the item's".to_owned()));
        }
        Ok(Body { parts, checksum })
    }

    /// Verifies the pieces of an item, if it has some, and adds them.
    fn check_pieces(
        &self,
        head: &Head,
        parts: &mut Vec<Part>,
        by_words: bool,
    ) -> Result<(), Unsound> {
        let segment = &self.segment;
        let Some(pieces) = Pieces::of(segment, head.item, head.header)? else {
            return Ok(());
        };
        let mut all = 0;
        for (number, slot) in (0..).zip(pieces.slots()) {
            let piece = slot.offset();
            let wrong =
                |what: &str| Err(Unsound::Item(format!("piece {number} at {piece:#x}: {what}")));
            let Some(extent) = segment.geometry.extent_of(piece) else {
                return wrong("it leads out of the arena");
            };
            if !segment.slot_stands(slot) {
                return wrong("it is of another generation than its extent");
            }
            let header = segment.header(piece)?;
            let bytes = header.shape().bytes;
            if segment.stamp(piece)?.number() != head.stamp
                || header.flags != flags::PIECE
                || header.namespace != head.header.namespace
                || bytes < PIECE_HEAD_BYTES
                || PieceHead::of(segment, piece)? != (PieceHead { hash: head.hash, number })
            {
                return wrong("it is no such piece of this item");
            }
            self.check_extent_of(extent, piece, bytes, by_words)?;
            parts.push(Part { extent, offset: piece, units: bytes / 8 });
        }
        for (_, bytes) in pieces.places(segment) {
            all += bytes;
        }
        if all != pieces.large.len {
            let what = format!("its pieces have {all} bytes of {}", pieces.large.len);
            return Err(Unsound::Item(what));
        }
        Ok(())
    }

    /// Whether the item lies within its extent, and within what that says is used.
    fn check_extent_of(
        &self,
        extent: u32,
        item: u64,
        bytes: u64,
        by_words: bool,
    ) -> Result<(), Unsound> {
        let geometry = &self.segment.geometry;
        let word = self.segment.extent_word(extent)?;
        let end = item - geometry.extent_offset(extent) + bytes;
        if end > geometry.extent_bytes() {
            return Err(Unsound::Item("the item reaches beyond its extent".to_owned()));
        }
        if !by_words {
            return Ok(());
        }
        match word.state {
            ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation
                if end <= u64::from(word.used) * 8 =>
            {
                Ok(())
            }
            ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation => {
                let what = "the item reaches beyond what is used of its extent";
                Err(Unsound::Extent(extent, what))
            }
            _ => Err(Unsound::Extent(extent, "the extent holds no items")),
        }
    }

    fn checksum_holds(&self, head: &Head) -> Result<bool, Corruption> {
        let Head { item, header, .. } = *head;
        let mut value = Vec::new();
        if !header.has(flags::COUNTER) {
            self.append_held(item, header, &mut value)?;
        }
        let stored = self.segment.region.view::<Cell64>(item + header.shape().checksum)?.load();
        let expiry = self.expiry_word(item, header)?;
        Ok(self.segment.checksum(header, expiry, &head.key, &value) == stored)
    }
}
