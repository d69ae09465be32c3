//! What the index leads to, and what that tells of words of the superblock: one that is damaged must not
//! cost what slots still lead to.

use std::collections::HashSet;

use super::found::{STAMP_LIMIT, Standing};
use super::wreck::Wreck;
use crate::error::Corruption;
use crate::layout::{ExtentState, LANES, Line, Slot, TagWord, flags, namespace_id};
use crate::region::Cell64;

/// How many times the segment's bytes may be read for keys: those that lie over each other are bytes made
/// for it.
const KEYS_FACTOR: u64 = 8;

/// See the module.
pub(super) struct Census {
    /// Offsets of all that looks like an item and has a slot, in order.
    pub(super) listed: Vec<u64>,
    /// Extents of the index.
    pub(super) index: HashSet<u64>,
    /// Whether each item must have a checksum.
    pub(super) checksums: bool,
    /// No item has a later stamp.
    pub(super) stamp_max: u64,
}

/// What slots of one kind of items say together.
#[derive(Default)]
struct Counted {
    with_checksum: u64,
    without_checksum: u64,
    stamp_max: u64,
}

/// The slot of a lane, and its tag.
type Claim = (Slot, u8);

impl Wreck {
    /// Reads the index, and the head and the key of each item that it leads to.
    pub(super) fn census(&self) -> Result<Census, Corruption> {
        let index = self.extents_of_index();
        let mut claims = Vec::new();
        let mut extents: Vec<u64> = index.iter().copied().collect();
        extents.sort_unstable();
        for extent in extents {
            self.claims_of(extent, &mut claims)?;
        }
        claims.sort_unstable_by_key(|(slot, _)| slot.offset());
        let (mut listed, mut counted) = (Vec::new(), Counted::default());
        let mut left = self.bytes().saturating_mul(KEYS_FACTOR);
        for claim in claims {
            // One lane is enough.
            if listed.last() != Some(&claim.0.offset())
                && self.holds(claim, &mut counted, &mut left)?
            {
                listed.push(claim.0.offset());
            }
        }
        let checksums = match (counted.with_checksum, counted.without_checksum) {
            (0, 0) => self.checksums_told,
            (with, without) => with > without,
        };
        let stamp_max = self.stamps_told.map_or(STAMP_LIMIT, |told| told.max(counted.stamp_max));
        Ok(Census { listed, index, checksums, stamp_max })
    }

    /// The extents that say that they are the index's, and those that the directory leads to.
    fn extents_of_index(&self) -> HashSet<u64> {
        let mut index: HashSet<u64> =
            (0..self.extents).filter(|extent| self.is_told_of_index(*extent)).collect();
        for line in self.directory() {
            let first = line.checked_mul(size_of::<Line>() as u64);
            let extent = first.and_then(|first| self.extent_of(first));
            index.extend(extent.filter(|extent| Some(self.extent_offset(*extent)) == first));
        }
        index
    }

    fn is_told_of_index(&self, extent: u64) -> bool {
        matches!(self.state(extent), Some(ExtentState::Buckets | ExtentState::Overflow))
    }

    /// The slots of all lines in an extent of the index.
    fn claims_of(&self, extent: u64, claims: &mut Vec<Claim>) -> Result<(), Corruption> {
        let lines = self.extent_bytes / size_of::<Line>() as u64;
        let first = self.extent_offset(extent);
        // The first eighth of an extent of overflow lines says whose they are.
        let owners = match self.state(extent) {
            Some(ExtentState::Overflow) => lines / 8,
            _ => 0,
        };
        for line in owners..lines {
            let is_free = owners > 0 && {
                let owner = first + 8 * (line - owners);
                self.region.view::<Cell64>(owner)?.load() == 0
            };
            if is_free {
                continue;
            }
            let line = self.region.view::<Line>(first + line * size_of::<Line>() as u64)?;
            let tags = TagWord(line.tags.load());
            let lanes = (0..LANES).map(|lane| (line.slot(lane), tags.tag(lane)));
            claims.extend(lanes.filter(|(slot, _)| slot.is_item()));
        }
        Ok(())
    }

    /// Whether a slot leads to an item: one of the present use of its extent, or one whose key has the
    /// hash that slot and tag say.
    fn holds(
        &self,
        (slot, tag): Claim,
        counted: &mut Counted,
        left: &mut u64,
    ) -> Result<bool, Corruption> {
        let offset = slot.offset();
        let Some(extent) = self.extent_of(offset) else { return Ok(false) };
        let room = self.extent_offset(extent) + self.extent_bytes - offset;
        if room < 16 {
            return Ok(false);
        }
        let Standing::Item(found) = self.look_at(offset, room, STAMP_LIMIT)? else {
            return Ok(false);
        };
        let bytes = 64 + u64::from(found.header.key_bytes);
        let is_of_key = match (self.hasher.as_ref(), left.checked_sub(bytes)) {
            (Some(hasher), Some(rest)) => {
                *left = rest;
                let namespace = found.header.namespace;
                let generation = self.namespace(namespace).map_or(0, |it| it.word.generation);
                let mix = hasher.mix_of(namespace_id(namespace, generation));
                let hash = hasher.bytes(&self.key(offset, found.header)?) ^ mix;
                let shift = self.slot_hash_shift;
                Some(tag == TagWord::tag_of(hash) && shift.is_none_or(|it| slot.may_be(hash, it)))
            }
            _ => None,
        };
        let is_of_extent =
            self.generation(extent).is_none_or(|generation| slot.is_of_generation(generation));
        if !is_of_extent && is_of_key != Some(true) {
            return Ok(false);
        }
        match found.header.has(flags::CHECKSUM) {
            true => counted.with_checksum += 1,
            false => counted.without_checksum += 1,
        }
        if is_of_key != Some(false) {
            counted.stamp_max = counted.stamp_max.max(found.stamp);
        }
        Ok(true)
    }
}
