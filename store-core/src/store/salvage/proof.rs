//! What shows that an item is whole, when it is found and again when it is put.

use std::hash::BuildHasher;
use std::sync::atomic::{Ordering, fence};

use super::found::{Found, Pieces};
use super::survey::Survey;
use super::wreck::Wreck;
use crate::error::Corruption;
use crate::layout::{PIECE_HEAD_BYTES, RedoRecord, Stamp, flags, item_checksum};
use crate::region::Cell64;

/// Of an item.
type KeyAndValue = (Vec<u8>, Vec<u8>);

/// What an item is whole by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is not.
    None,
    /// It has the shape of one, and all its pieces.
    Shape,
    /// Its checksum.
    Checksum,
}

impl Wreck {
    /// What shows that an item is whole, and how many bytes its pieces have. `left` as in
    /// [`pieces_of`](Self::pieces_of).
    pub(super) fn proof_of(
        &self,
        found: &Found,
        key: &[u8],
        checksums: bool,
        left: &mut u64,
    ) -> Result<(Proof, u64), Corruption> {
        let Found { item, header, .. } = *found;
        if checksums && !header.has(flags::CHECKSUM) {
            return Ok((Proof::None, 0));
        }
        let (value, large_bytes) = if header.has(flags::LARGE) {
            let Some(Pieces { value, .. }) = self.pieces_of(item, header, left)? else {
                return Ok((Proof::None, 0));
            };
            let bytes = value.len() as u64;
            (value, bytes)
        } else if header.has(flags::CHECKSUM) && !header.has(flags::COUNTER) {
            (self.copy(found.value_at(), header.value_bytes as usize)?, 0)
        } else {
            (Vec::new(), 0)
        };
        let proof = match self.checksum_holds(found, key, &value)? {
            Some(true) => Proof::Checksum,
            Some(false) => Proof::None,
            None => Proof::Shape,
        };
        Ok((proof, large_bytes))
    }

    /// Key and value of an item as it reads; `None` if it is not the one that was found any more: what was
    /// stored into its place meanwhile, or is not whole by now.
    pub(super) fn item(
        &self,
        found: &Found,
        survey: &Survey,
    ) -> Result<Option<KeyAndValue>, Corruption> {
        let Found { item, header, .. } = *found;
        let key = self.key(item, header)?;
        let value_at = found.value_at();
        let mut extents = vec![self.extent_of(item)];
        let value = if header.has(flags::COUNTER) {
            self.region.view::<Cell64>(value_at)?.load().cast_signed().to_string().into_bytes()
        } else if header.has(flags::LARGE) {
            let heads = u64::from(header.value_bytes) / 8 * PIECE_HEAD_BYTES;
            let mut left = found.large_bytes + heads;
            let Some(pieces) = self.pieces_of(item, header, &mut left)? else { return Ok(None) };
            extents.extend(pieces.extents.into_iter().map(Some));
            pieces.value
        } else {
            self.copy(value_at, header.value_bytes as usize)?
        };
        // Pairs with the fence between a new generation and the first byte of a new use: what was copied
        // before this is of the old one if that still stands.
        fence(Ordering::Acquire);
        let is_as_before = |extent: Option<u64>| {
            extent.is_some_and(|extent| {
                survey.generations.get(extent as usize).copied()
                    == Some(self.generation(extent).unwrap_or(0))
            })
        };
        let [stamp, word] = self.region.view::<[Cell64; 2]>(item)?;
        let is_same = Stamp(stamp.load()).number() == found.stamp
            && match found.redo {
                None => word.load() == header.word(),
                Some(record) => self.region.view::<RedoRecord>(record)?.stamp.load() == found.stamp,
            }
            && survey.key_hashes.hash_one(&key) == found.key_hash
            && extents.into_iter().all(is_as_before)
            && self.checksum_holds(found, &key, &value)? != Some(false);
        Ok(is_same.then_some((key, value)))
    }

    /// Whether an item's checksum is that of its key and value; `None` if that can't be told.
    fn checksum_holds(
        &self,
        found: &Found,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<bool>, Corruption> {
        let Found { header, expiry, .. } = *found;
        let Some(hasher) = self.hasher.as_ref().filter(|_| header.has(flags::CHECKSUM)) else {
            return Ok(None);
        };
        let value = if header.has(flags::COUNTER) { &[] } else { value };
        let stored = self.region.view::<Cell64>(found.checksum_at())?.load();
        Ok(Some(item_checksum(hasher, header, expiry, (key, value)) == stored))
    }
}
