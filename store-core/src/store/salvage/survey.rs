//! A walk over all extents for what is whole.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::census::Census;
use super::found::{Found, Standing};
use super::proof::Proof;
use super::wreck::Wreck;
use crate::error::Corruption;

/// How many times an extent's bytes are read before the rest of it is given up.
const READ_FACTOR: u64 = 64;

/// How many times the segment's bytes are read for the pieces of large items. Those of a sound store are
/// read once, and again for each copy of the item that cleaning left behind.
const PIECES_FACTOR: u64 = 8;

/// What a wreck holds: of each key the item that is to be saved.
#[derive(Debug)]
#[non_exhaustive]
pub struct Survey {
    /// Extents that were looked through.
    pub extents: u64,
    /// Items that were whole, with those that are not to be saved.
    pub whole: u64,
    /// Items whose key has a better one: one that the index leads to, or that has a later stamp.
    pub superseded: u64,
    /// Keys whose item had expired.
    pub expired: u64,
    /// What looked like an item and was not whole: its checksum is another, or a piece is missing or
    /// another item's.
    pub torn: u64,
    /// Bytes of keys and values that are to be saved, with what they take besides.
    pub bytes: u64,
    /// Slots of the index that led to something; 0: the index could not be read.
    pub slots: u64,
    /// Whether items have checksums that could be verified: else a torn one looks whole.
    pub verified: bool,
    /// Whether the clock of the segment makes no sense, so that the wall clock says what has expired.
    pub clock_doubted: bool,
    /// What is added to the monotonic clock to get the segment's time.
    pub(super) clock_offset_ms: u64,
    /// Generations of the extents when the survey began: an extent that has another one is used anew.
    pub(super) generations: Vec<u64>,
    /// Makes the hashes that keys are known again by.
    pub(super) key_hashes: RandomState,
    /// For each namespace whether a slot leads to an item of it.
    listed_namespaces: Vec<bool>,
    found: Vec<Found>,
}

impl Survey {
    /// Items to be saved, one for each key.
    pub fn items(&self) -> u64 {
        self.found.len() as u64
    }

    pub(super) fn found(&self) -> &[Found] {
        &self.found
    }

    /// Whether the index leads to an item of a namespace.
    pub(super) fn leads_into(&self, namespace: u8) -> bool {
        self.listed_namespaces.get(usize::from(namespace)) == Some(&true)
    }
}

/// The items found so far, by namespace and key.
type Keys = HashMap<(u8, Vec<u8>), Found>;

impl Wreck {
    /// Looks through all extents but those of the index for items that are whole, whatever state they are
    /// in. Of several with one key the one that a slot leads to is kept, else the one with the latest
    /// stamp, which is the newest if one client wrote them. What expired is left out. What slots lead to is
    /// believed rather than a word of the superblock that contradicts it. `progress` is told
    /// (done, all) extents.
    ///
    /// Reads the whole segment, and keeps each key in memory. Where items lie over each other or have
    /// the same pieces, as in bytes that were made for it, it reads 80 times the segment at most.
    ///
    /// # Errors
    /// `Corruption`: a range that leaves the segment, which does not come about.
    pub fn survey(&self, mut progress: impl FnMut(u64, u64)) -> Result<Survey, Corruption> {
        let generations = (0..self.extents).map(|it| self.generation(it).unwrap_or(0)).collect();
        let mut walk = Walk::new(self, self.census()?, generations);
        walk.listed()?;
        for extent in self.extents_with_memory() {
            if !walk.census.index.contains(&extent) {
                walk.extent(extent)?;
            }
            progress(extent + 1, self.extents);
        }
        Ok(walk.end())
    }

    /// All extents but those that never had memory, or gave it back: to read them would take some.
    fn extents_with_memory(&self) -> impl Iterator<Item = u64> {
        let has = |extent: &u64| self.generation(*extent) != Some(0);
        // A table of zeros tells nothing.
        let is_told = (0..self.extents).any(|extent| has(&extent));
        (0..self.extents).filter(move |extent| !is_told || has(extent))
    }
}

struct Walk<'a> {
    wreck: &'a Wreck,
    census: Census,
    survey: Survey,
    keys: Keys,
    /// Of each item that a slot leads to its bytes, or 0 if it is not whole.
    seen: HashMap<u64, u64>,
    /// Bytes that may still be read of pieces.
    pieces_left: u64,
}

impl<'a> Walk<'a> {
    fn new(wreck: &'a Wreck, census: Census, generations: Vec<u64>) -> Self {
        let survey = Survey {
            extents: 0,
            whole: 0,
            superseded: 0,
            expired: 0,
            torn: 0,
            bytes: 0,
            slots: census.listed.len() as u64,
            verified: census.checksums && wreck.hasher.is_some(),
            clock_doubted: false,
            clock_offset_ms: 0,
            generations,
            key_hashes: RandomState::new(),
            listed_namespaces: vec![false; 256],
            found: Vec::new(),
        };
        let pieces_left = wreck.bytes().saturating_mul(PIECES_FACTOR);
        Self { wreck, census, survey, keys: Keys::new(), seen: HashMap::new(), pieces_left }
    }

    /// Looks at what slots lead to, wherever that is.
    fn listed(&mut self) -> Result<(), Corruption> {
        let (mut extent, mut read) = (None, 0);
        for item in std::mem::take(&mut self.census.listed) {
            let its_extent = self.wreck.extent_of(item);
            if its_extent != extent {
                (extent, read) = (its_extent, 0);
            }
            let Some(extent) = extent else { continue };
            let end = self.wreck.extent_offset(extent) + self.wreck.extent_bytes;
            let standing = self.wreck.look_at(item, end - item, self.census.stamp_max)?;
            if let Standing::Item(found) = standing
                && read < READ_FACTOR * self.wreck.extent_bytes
            {
                let bytes = found.header.shape().bytes;
                read += bytes;
                let is_whole = self.weigh(Found { is_listed: true, ..found })?;
                self.seen.insert(item, if is_whole { bytes } else { 0 });
            }
        }
        Ok(())
    }

    fn extent(&mut self, extent: u64) -> Result<(), Corruption> {
        self.survey.extents += 1;
        let extent_bytes = self.wreck.extent_bytes;
        let mut at = self.wreck.extent_offset(extent);
        let end = at + extent_bytes;
        let mut read = 0;
        // Items that lie over each other are bytes made for it.
        while at + 16 <= end && read < READ_FACTOR * extent_bytes {
            // A whole one may begin within one that is not.
            if let Some(bytes) = self.seen.get(&at) {
                at += (*bytes).max(8);
                continue;
            }
            match self.wreck.look_at(at, end - at, self.census.stamp_max)? {
                Standing::Item(found) => {
                    let bytes = found.header.shape().bytes;
                    read += bytes;
                    at += if self.weigh(found)? { bytes } else { 8 };
                }
                Standing::Piece(bytes) => at += bytes,
                Standing::Nothing => at += 8,
            }
        }
        Ok(())
    }

    /// Keeps an item if it is whole, and unless there is a better one with its key; whether it is whole.
    fn weigh(&mut self, mut found: Found) -> Result<bool, Corruption> {
        let key = self.wreck.key(found.item, found.header)?;
        let mut left = self.pieces_left;
        let (proof, large_bytes) =
            self.wreck.proof_of(&found, &key, self.census.checksums, &mut left)?;
        self.pieces_left = left;
        // Any two words, the second of them small, look like an item without a key.
        if key.is_empty() && !found.is_listed && proof != Proof::Checksum {
            return Ok(false);
        }
        if proof == Proof::None {
            self.survey.torn += 1;
            return Ok(false);
        }
        self.survey.whole += 1;
        if found.is_listed
            && let Some(listed) =
                self.survey.listed_namespaces.get_mut(usize::from(found.header.namespace))
        {
            *listed = true;
        }
        found.large_bytes = large_bytes;
        found.key_hash = self.survey.key_hashes.hash_one(&key);
        match self.keys.entry((found.header.namespace, key)) {
            Entry::Vacant(entry) => {
                entry.insert(found);
            }
            Entry::Occupied(mut entry) => {
                self.survey.superseded += 1;
                if found.is_better_than(entry.get()) {
                    entry.insert(found);
                }
            }
        }
        Ok(true)
    }

    fn end(self) -> Survey {
        let Self { wreck, mut survey, keys, .. } = self;
        let mut found: Vec<Found> = keys.into_values().collect();
        let clock = wreck.clock_for(&found);
        (survey.clock_offset_ms, survey.clock_doubted) = (clock.offset_ms, clock.is_doubted);
        let (all, now) = (found.len(), Wreck::now_ms(clock.offset_ms));
        // Not before: what one that expired had replaced must not come back.
        found.retain(|found| found.expiry.is_none_or(|expiry| expiry > now));
        survey.expired = (all - found.len()) as u64;
        survey.torn += leave_out_sharers(&mut found);
        // As they lie, for the sake of the disk.
        found.sort_unstable_by_key(|found| found.item);
        survey.bytes = found.iter().map(Found::bytes).fold(0, u64::saturating_add);
        survey.found = found;
        survey
    }
}

/// Leaves out all but one of large items that have the same stamp, and so may have the same pieces; how
/// many these were.
fn leave_out_sharers(found: &mut Vec<Found>) -> u64 {
    let before = found.len();
    found.sort_unstable_by_key(|found| (!found.is_listed, found.item));
    let mut stamps = HashSet::new();
    found.retain(|found| !found.is_large() || stamps.insert(found.stamp));
    (before - found.len()) as u64
}
