//! A walk over all extents for what is whole.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::found::{Found, Standing};
use super::wreck::Wreck;
use crate::error::Corruption;
use crate::layout::{ExtentState, LANES, Line, Slot};
use crate::region::Cell64;

/// How many times an extent's bytes are read before the rest of it is given up.
const READ_FACTOR: u64 = 64;

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
    /// What looked like an item and was not whole: its checksum is another, or a piece is missing.
    pub torn: u64,
    /// Bytes of keys and values that are to be saved, with what they take besides.
    pub bytes: u64,
    /// Slots of the index that led to something; 0: the index could not be read.
    pub slots: u64,
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
}

/// The items found so far, by namespace and key.
type Keys = HashMap<(u8, Vec<u8>), Found>;

impl Wreck {
    /// Looks through all extents but those of the index for items that are whole, whatever state they are
    /// in. Of several with one key the one that a slot leads to is kept, else the one with the latest
    /// stamp, which is the newest if one client wrote them. What expired is left out. `progress` is told
    /// (done, all) extents.
    ///
    /// Reads the whole segment, and keeps each key in memory.
    ///
    /// # Errors
    /// `Corruption`: a range that leaves the segment, which does not come about.
    pub fn survey(&self, mut progress: impl FnMut(u64, u64)) -> Result<Survey, Corruption> {
        let listed = self.listed()?;
        let mut survey = Survey {
            extents: 0,
            whole: 0,
            superseded: 0,
            expired: 0,
            torn: 0,
            bytes: 0,
            slots: listed.len() as u64,
            found: Vec::new(),
        };
        let mut keys = Keys::new();
        for extent in self.extents_with_memory() {
            if !self.is_of_index(extent) {
                self.survey_extent(extent, &listed, &mut keys, &mut survey)?;
                survey.extents += 1;
            }
            progress(extent + 1, self.extents);
        }
        let now = self.now_ms();
        let all = keys.len() as u64;
        // Not before: what one that expired had replaced must not come back.
        let is_fresh = |found: &Found| found.expiry.is_none_or(|expiry| expiry > now);
        survey.found = keys.into_values().filter(is_fresh).collect();
        survey.expired = all - survey.items();
        // As they lie, for the sake of the disk.
        survey.found.sort_unstable_by_key(|found| found.item);
        Ok(survey)
    }

    /// All extents but those that never had memory, or gave it back: to read them would take some.
    fn extents_with_memory(&self) -> impl Iterator<Item = u64> {
        let has = |extent: &u64| self.generation(*extent) != Some(0);
        // A table of zeros tells nothing.
        let is_told = (0..self.extents).any(|extent| has(&extent));
        (0..self.extents).filter(move |extent| !is_told || has(extent))
    }

    fn is_of_index(&self, extent: u64) -> bool {
        matches!(self.state(extent), Some(ExtentState::Buckets | ExtentState::Overflow))
    }

    /// Offsets of all items that a slot leads to, as far as the index can be found.
    fn listed(&self) -> Result<HashSet<u64>, Corruption> {
        let mut listed = HashSet::new();
        let lines = self.extent_bytes / size_of::<Line>() as u64;
        for extent in self.extents_with_memory() {
            let first = self.arena_offset + extent * self.extent_bytes;
            // The first eighth of an extent of overflow lines says whose they are.
            let owners = match self.state(extent) {
                Some(ExtentState::Buckets) => 0,
                Some(ExtentState::Overflow) => lines / 8,
                _ => continue,
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
                let slots = (0..LANES).map(|lane| line.slot(lane));
                listed.extend(slots.filter(|slot| self.stands(*slot)).map(Slot::offset));
            }
        }
        Ok(listed)
    }

    /// Whether a slot leads to an item of the present use of its extent, as far as can be told.
    fn stands(&self, slot: Slot) -> bool {
        slot.is_item()
            && self.extent_of(slot.offset()).is_some_and(|extent| {
                self.generation(extent).is_none_or(|generation| slot.is_of_generation(generation))
            })
    }

    fn survey_extent(
        &self,
        extent: u64,
        listed: &HashSet<u64>,
        keys: &mut Keys,
        survey: &mut Survey,
    ) -> Result<(), Corruption> {
        let mut at = self.arena_offset + extent * self.extent_bytes;
        let end = at + self.extent_bytes;
        let mut read = 0;
        // Items that lie over each other are bytes made for it.
        while at + 16 <= end && read < READ_FACTOR * self.extent_bytes {
            let mut found = match self.look_at(at, end - at)? {
                Standing::Item(found) => found,
                Standing::Piece(bytes) => {
                    at += bytes;
                    continue;
                }
                Standing::Nothing => {
                    at += 8;
                    continue;
                }
            };
            found.is_listed = listed.contains(&at);
            let key = self.key(at, found.header)?;
            let bytes = found.header.shape().bytes;
            read += bytes;
            // Any two words of which one is 0 look like an item without key and value.
            let is_nothing = key.is_empty() && found.header.value_bytes == 0 && !found.is_listed;
            if is_nothing || !self.is_whole(&found, &key)? {
                survey.torn += u64::from(!is_nothing);
                // A whole one may begin within it.
                at += 8;
                continue;
            }
            at += bytes;
            survey.whole += 1;
            self.take(found, key, keys, survey)?;
        }
        Ok(())
    }

    /// Keeps an item, unless there is a better one with its key.
    fn take(
        &self,
        found: Found,
        key: Vec<u8>,
        keys: &mut Keys,
        survey: &mut Survey,
    ) -> Result<(), Corruption> {
        match keys.entry((found.header.namespace, key)) {
            Entry::Vacant(entry) => {
                survey.bytes += self.bytes_of(&found)?;
                entry.insert(found);
            }
            Entry::Occupied(mut entry) => {
                survey.superseded += 1;
                if found.is_better_than(entry.get()) {
                    let before = self.bytes_of(entry.get())?;
                    survey.bytes = survey.bytes + self.bytes_of(&found)? - before;
                    entry.insert(found);
                }
            }
        }
        Ok(())
    }

    /// What an item took of the arena.
    fn bytes_of(&self, found: &Found) -> Result<u64, Corruption> {
        let pieces = match found.header.has(crate::layout::flags::LARGE) {
            true => self.pieces_of(found.item, found.header)?.map_or(0, |value| value.len()),
            false => 0,
        };
        Ok(found.header.shape().bytes + pieces as u64)
    }
}
