//! What slots say together of words that many of them rest on: the generation of an extent, the record
//! of a namespace, the shift of the hash bits. One wrong word must not cost the items of all of them.
//!
//! A slot and an item vouch for each other if the 13 hash bits of the slot and its bucket are those of
//! the item's key. Nothing is stored here.

use std::collections::{BTreeMap, HashSet};

use super::slots::{Finding, Keys, sentence_of};
use super::stripe::Lines;
use crate::arena::pieces::{PieceHead, Pieces};
use crate::error::{Corruption, WriteError};
use crate::index::CHAIN_LINES_MAX;
use crate::layout::{LANES, LINK_LANE, Slot, Stamp, TagWord, Where};
use crate::region::{Cell64, Shim};
use crate::store::sound::Head;
use crate::store::{Session, Store};

/// Slots that are kept to look for the generation of a namespace.
const SAMPLES_MAX: usize = 32;

/// See the module.
pub(super) struct Evidence {
    pub(super) extents: Vec<OfExtent>,
    pub(super) namespaces: Vec<OfNamespace>,
    /// Slots that vouch for their items.
    vouching: u64,
    /// Those that would with other hash bits.
    other_bits: u64,
    /// Slots that lead to no sound item for a reason of their own.
    pub(super) unsound: u64,
    /// Why, as sentences; not of all.
    pub(super) sentences: Vec<String>,
}

/// What the slots say that lead into an extent and vouch for their items.
#[derive(Default, Clone)]
pub(super) struct OfExtent {
    /// How many are of its generation.
    pub(super) of_generation: u64,
    /// How many are of another one, by the bits of it that slots have.
    pub(super) of_others: BTreeMap<u64, u64>,
    /// Whether it has memory though it has no generation: looked at once.
    has_memory: Option<bool>,
}

impl OfExtent {
    /// Whether there are items in it.
    pub(super) fn holds_items(&self) -> bool {
        self.of_generation > 0 || !self.of_others.is_empty()
    }

    /// The generation that more slots have than have the extent's, and how many.
    pub(super) fn other_generation(&self) -> Option<(u64, u64)> {
        let (generation, slots) = self.of_others.iter().max_by_key(|(_, slots)| **slots)?;
        (*slots > self.of_generation).then_some((*generation, *slots))
    }
}

/// What the slots say whose items have the number of a namespace.
#[derive(Default, Clone)]
pub(super) struct OfNamespace {
    /// How many vouch for their items.
    pub(super) vouching: u64,
    /// How many do not: the generation in the record may be wrong, which is a part of the hash.
    pub(super) others: u64,
    /// Some of those.
    pub(super) samples: Vec<Sample>,
}

/// A slot, and the key of the item that it leads to.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) bucket: u64,
    pub(super) slot: Slot,
    pub(super) tag: u8,
    pub(super) key: Vec<u8>,
}

/// A slot, where it was found.
struct Lane {
    /// `None` in a line that is in no chain.
    bucket: Option<u64>,
    at: Where,
    slot: Slot,
    tag: u8,
}

impl Evidence {
    /// Whether hash bits are taken from another place of the hash than the geometry says.
    pub(super) fn denies_shift(&self) -> bool {
        self.other_bits > self.vouching
    }

    /// Counts a slot that vouches for what it leads to.
    fn count(&mut self, extent: u32, slot: Slot, stands: bool) {
        let of_extent = &mut self.extents[extent as usize];
        if stands {
            of_extent.of_generation += 1;
        } else {
            *of_extent.of_others.entry(slot.generation()).or_default() += 1;
        }
    }

    fn note_unsound(&mut self, sentence: impl FnOnce() -> String) {
        self.unsound += 1;
        if self.sentences.len() < super::SENTENCES_MAX {
            self.sentences.push(sentence());
        }
    }
}

impl<S: Shim> Store<S> {
    /// Looks at every slot, under one guard after the other.
    pub(super) fn gather(
        &self,
        session: &Session,
        orphans: &Lines,
        mut progress: impl FnMut(u64),
    ) -> Result<Evidence, WriteError> {
        let geometry = &self.segment.geometry;
        let mut evidence = Evidence {
            extents: vec![OfExtent::default(); geometry.extents as usize],
            namespaces: vec![OfNamespace::default(); 256],
            vouching: 0,
            other_bits: 0,
            unsound: 0,
            sentences: Vec::new(),
        };
        for stripe in 0..geometry.stripes {
            let _held = self.hold_damaged(session, stripe)?;
            let stripes = geometry.stripes as usize;
            let mut seen = HashSet::new();
            let buckets = || u64::from(stripe)..self.segment.index_size().buckets();
            for bucket in buckets().step_by(stripes) {
                let mut keys = Keys::new();
                for line in self.loose_chain(bucket) {
                    seen.insert(line);
                    self.weigh_line(Some(bucket), line, &mut keys, &mut evidence)?;
                }
            }
            for bucket in buckets().step_by(stripes) {
                for line in orphans.get(&bucket).into_iter().flatten() {
                    if seen.insert(*line) {
                        // What its chain has too is put back once.
                        self.weigh_line(None, *line, &mut Keys::new(), &mut evidence)?;
                    }
                }
            }
            progress(u64::from(stripe) + 1);
        }
        Ok(evidence)
    }

    /// The lines of a chain, as far as its links lead anywhere.
    fn loose_chain(&self, bucket: u64) -> Vec<u64> {
        let segment = &self.segment;
        let mut lines = Vec::new();
        let mut next = segment.bucket_line(bucket).ok();
        while let Some(number) = next
            && let Ok(line) = segment.line(number)
            && lines.len() < CHAIN_LINES_MAX
            && !lines.contains(&number)
        {
            lines.push(number);
            next = segment.linked_line(line.slot(LINK_LANE)).ok();
        }
        lines
    }

    fn weigh_line(
        &self,
        bucket: Option<u64>,
        number: u64,
        keys: &mut Keys,
        evidence: &mut Evidence,
    ) -> Result<(), Corruption> {
        // The directory may have led astray.
        let Ok(line) = self.segment.line(number) else { return Ok(()) };
        let tags = TagWord(line.tags.load());
        for lane in (0..LANES).filter(|lane| line.slot(*lane).is_item()) {
            let (at, tag) = (Where { line: number, lane }, tags.tag(lane));
            self.weigh(&Lane { bucket, at, slot: line.slot(lane), tag }, keys, evidence)?;
        }
        Ok(())
    }

    fn weigh(
        &self,
        lane: &Lane,
        keys: &mut Keys,
        evidence: &mut Evidence,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let Lane { bucket, at, slot, tag } = *lane;
        let head = match self.head_whatever_generation(slot, evidence) {
            Ok(head) => head,
            Err(why) => {
                evidence.note_unsound(|| sentence_of(at, slot, &why, None));
                return Ok(());
            }
        };
        let its_bucket = segment.index_size().bucket_of(head.hash);
        // In a line that is in no chain each item is where it belongs.
        let bucket = bucket.unwrap_or(its_bucket);
        let is_here = bucket == its_bucket;
        let has_tag = tag == TagWord::tag_of(head.hash);
        let has_bits = slot.may_be(head.hash, segment.geometry.slot_hash_shift);
        // The tags of a whole line are one word.
        let vouches = is_here && has_bits;
        evidence.vouching += u64::from(vouches);
        evidence.other_bits += u64::from(is_here && has_tag && !has_bits);
        let stands = segment.slot_stands(slot);
        // Whether it is lost for the sake of a generation is known when all were asked.
        if vouches {
            evidence.count(head.extent, slot, stands);
            let pieces_stand = self.weigh_pieces(&head, evidence);
            if !stands || !pieces_stand {
                return Ok(());
            }
        }
        let namespace = head.header.namespace;
        let of_namespace = &mut evidence.namespaces[usize::from(namespace)];
        if namespace != 0 && vouches {
            of_namespace.vouching += 1;
            if !self.has_namespace(namespace) {
                return Ok(());
            }
        }
        let finding = match stands {
            true => self.judge(bucket, slot, tag)?.finding,
            false => Finding::Unsound("the slot is of another generation than its extent".into()),
        };
        let why = match finding {
            Finding::Unsound(why) => why,
            Finding::OtherBucket(..) => return Ok(()),
            Finding::Sound(..) | Finding::OtherBits(..) => {
                let known = keys.insert((namespace, head.key.clone()), head.item);
                if known.is_some_and(|item| item != head.item) {
                    let why = "the key is there twice";
                    evidence.note_unsound(|| sentence_of(at, slot, why, Some(&head.key)));
                }
                return Ok(());
            }
        };
        if namespace != 0 && !vouches && stands {
            of_namespace.others += 1;
            if of_namespace.samples.len() < SAMPLES_MAX {
                of_namespace.samples.push(Sample { bucket, slot, tag, key: head.key });
            }
            return Ok(());
        }
        evidence.note_unsound(|| sentence_of(at, slot, &why, Some(&head.key)));
        Ok(())
    }

    /// The head of the item at a slot, whatever generation its extent has.
    fn head_whatever_generation(
        &self,
        slot: Slot,
        evidence: &mut Evidence,
    ) -> Result<Head, String> {
        let segment = &self.segment;
        let geometry = &segment.geometry;
        let Some(extent) = geometry.extent_of(slot.offset()) else {
            return Err("the slot leads out of the arena".to_owned());
        };
        let generation = segment.generation(extent).map_or(0, Cell64::load);
        if generation == 0 && !self.has_memory(extent, evidence) {
            return Err("the extent of the slot has no memory".to_owned());
        }
        self.head_of(slot.offset(), extent, generation)
    }

    /// Counts the pieces of an item that vouches for itself; whether all are of their extent's generation.
    fn weigh_pieces(&self, head: &Head, evidence: &mut Evidence) -> bool {
        let segment = &self.segment;
        let mut all_stand = true;
        let Ok(Some(pieces)) = Pieces::of(segment, head.item, head.header) else { return true };
        for (number, slot) in (0..).zip(pieces.slots()) {
            let piece = slot.offset();
            let Some(extent) = segment.geometry.extent_of(piece) else { continue };
            let stands = segment.slot_stands(slot);
            let is_piece = (stands || self.has_memory(extent, evidence))
                && segment.stamp(piece).map(Stamp::number) == Ok(head.stamp)
                && PieceHead::of(segment, piece) == Ok(PieceHead { hash: head.hash, number });
            if is_piece {
                evidence.count(extent, slot, stands);
                all_stand &= stands;
            }
        }
        all_stand
    }

    /// Whether an extent can be read: what has no memory must not be.
    fn has_memory(&self, extent: u32, evidence: &mut Evidence) -> bool {
        let segment = &self.segment;
        if segment.generation(extent).is_ok_and(|generation| generation.load() != 0) {
            return true;
        }
        let of_extent = &mut evidence.extents[extent as usize];
        *of_extent.has_memory.get_or_insert_with(|| {
            let offset = segment.geometry.extent_offset(extent);
            segment.region.commission(offset, segment.geometry.extent_bytes()).is_ok()
        })
    }

    fn has_namespace(&self, namespace: u8) -> bool {
        self.segment.namespace_record(namespace).is_some_and(|record| record.is_taken())
    }
}
