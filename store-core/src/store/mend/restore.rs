//! Words that the slots deny are set to what these say: the generation of an extent, the record of a
//! namespace. Before anything is dropped, so that no slot is for the sake of one such word.

use super::evidence::{Evidence, OfNamespace, Sample};
use crate::error::{Corruption, WriteError};
use crate::layout::{NamespaceRecord, NamespaceState, Slot, TagWord};
use crate::region::Shim;
use crate::store::namespace::name_of;
use crate::store::{Session, Store};

/// How often an extent's word is set that others change meanwhile.
const TRIES_MAX: u32 = 64;

/// A word, and what it is to be.
pub(super) enum Restoration {
    /// The bits of it that slots have.
    Generation {
        extent: u32,
        found: u64,
        generation: u64,
        slots: u64,
    },
    Namespace {
        number: u8,
        name: String,
        generation: u16,
        slots: u64,
    },
}

impl std::fmt::Display for Restoration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generation { extent, found, generation, slots } => write!(
                f,
                "extent {extent} is of generation {generation}, as its slots say ({slots}); it said {found}"
            ),
            Self::Namespace { number, name, generation, slots } => write!(
                f,
                "namespace {number}, {name:?}, is in use with generation {generation}, as its slots say \
                 ({slots})"
            ),
        }
    }
}

impl<S: Shim> Store<S> {
    /// What is to be restored. What can't be counts as unsound.
    pub(super) fn decide(&self, evidence: &mut Evidence) -> Vec<Restoration> {
        let mut restorations = Vec::new();
        let (mut lost, mut sentences) = (0, Vec::new());
        for (extent, of_extent) in (0..).zip(&evidence.extents) {
            let found = self.segment.generation(extent).map_or(0, |cell| cell.load());
            let chosen = of_extent.other_generation();
            if let Some((generation, slots)) = chosen {
                restorations.push(Restoration::Generation { extent, found, generation, slots });
            }
            let all: u64 = of_extent.of_others.values().sum();
            // Those of the extent's generation are few then, and not lost for certain.
            let others = all - chosen.map_or(0, |(_, slots)| slots);
            if others > 0 {
                lost += others;
                sentences.push(format!(
                    "slots of another generation than extent {extent}, which is of {found}: {others}"
                ));
            }
        }
        for (number, of_namespace) in (0..=255).zip(&evidence.namespaces).skip(1) {
            let is_taken = self.is_taken(number);
            let denied = if is_taken { 0 } else { of_namespace.vouching } + of_namespace.others;
            if denied == 0 {
                continue;
            }
            match self.namespace_told(number, of_namespace) {
                Some(restoration) => restorations.push(restoration),
                None => {
                    lost += denied;
                    sentences.push(format!(
                        "with items of namespace {number}, which is not there or has other hashes: {denied} \
                         slots"
                    ));
                }
            }
        }
        evidence.unsound += lost;
        evidence.sentences.extend(sentences);
        restorations
    }

    fn is_taken(&self, number: u8) -> bool {
        self.segment.namespace_record(number).is_some_and(|record| record.is_taken())
    }

    /// What the record of a namespace should say, if most of its slots agree on that and it does not.
    fn namespace_told(&self, number: u8, told: &OfNamespace) -> Option<Restoration> {
        let record = self.segment.namespace_record(number)?;
        let name = name_of(record);
        let is_free = !record.is_taken();
        let has_name = |other: &NamespaceRecord| other.is_taken() && name_of(other) == name;
        if name.is_empty() || is_free && self.records().any(|(_, other)| has_name(other)) {
            return None;
        }
        let generation = record.state().generation;
        if told.vouching >= told.others {
            let slots = told.vouching;
            return is_free.then_some(Restoration::Namespace { number, name, generation, slots });
        }
        let vouching = |generation| {
            let of_sample = |sample: &&Sample| {
                let hash = self.segment.hash_with(number, generation, &sample.key);
                self.vouches(sample, hash)
            };
            told.samples.iter().filter(of_sample).count()
        };
        // One in 2^20 samples would by chance.
        let generation =
            (0..=u16::MAX).find(|generation| vouching(*generation) * 2 > told.samples.len())?;
        Some(Restoration::Namespace { number, name, generation, slots: told.others })
    }

    fn vouches(&self, sample: &Sample, hash: u64) -> bool {
        let segment = &self.segment;
        sample.tag == TagWord::tag_of(hash)
            && sample.slot.may_be(hash, segment.geometry.slot_hash_shift)
            && segment.index_size().bucket_of(hash) == sample.bucket
    }

    /// Restores a word.
    ///
    /// Dies anywhere: the word is as it was, or restored.
    pub(super) fn restore(
        &self,
        session: &Session,
        restoration: &Restoration,
    ) -> Result<(), WriteError> {
        match *restoration {
            Restoration::Generation { extent, generation, .. } => {
                Ok(self.restore_generation(extent, generation)?)
            }
            Restoration::Namespace { number, generation, .. } => {
                self.restore_namespace(session, number, generation)
            }
        }
    }

    /// Its word first: nobody takes the extent, which may have said that it is free. What lives in it is
    /// counted anew.
    fn restore_generation(&self, extent: u32, generation: u64) -> Result<(), Corruption> {
        let segment = &self.segment;
        let cell = segment.generation(extent)?;
        let found = cell.load();
        let word = &segment.extent(extent)?.word;
        let is_set = (0..TRIES_MAX).any(|_| {
            let before = word.load();
            word.compare_exchange::<S>(before, self.full_word().word()).is_ok()
        });
        // 0 is no generation.
        let whole = if generation == 0 { Slot::GENERATIONS } else { generation };
        if !is_set || cell.compare_exchange::<S>(found, whole).is_err() {
            let what = "the generation of an extent, which others change";
            return Err(Corruption { what, offset: extent.into() });
        }
        Ok(())
    }

    fn restore_namespace(
        &self,
        session: &Session,
        number: u8,
        generation: u16,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        // Records change under it.
        let _held = self.hold_damaged(session, 0)?;
        let Some(record) = segment.namespace_record(number) else { return Ok(()) };
        let mut word = record.state();
        word.generation = generation;
        if word.state == NamespaceState::Free {
            word.state = NamespaceState::InUse;
        }
        if word.quota_extents > segment.geometry.extents {
            word.quota_extents = 0;
        }
        if word.quota_extents == 0 {
            word.evicts = segment.evicts;
        }
        record.word.store::<S>(word.word());
        Ok(())
    }
}
