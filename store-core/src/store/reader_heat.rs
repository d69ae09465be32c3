//! Marks of readers, in cache mode: a System V segment beside the store, laid out as the heat, that
//! clients may write which may not write the store. Nobody can change its length, so that whoever
//! scribbles in it costs hit ratio and nothing else.
//!
//! Writers make it when they open, and it is marked for removal at once: it lives as long as
//! somebody has it attached, and nobody needs to clean up behind it. A reader that opens while no
//! writer has it marks nothing.

use std::cell::Cell;
use std::sync::Arc;

use super::Store;
use crate::layout::{GuardSetWord, HEAT_PERMISSIONS, Heat, Share};
use crate::region::{Cell64, Region, Shim};
use crate::sys::holder::{Backing, Holder};
use crate::sys::map::Mapping;
use crate::sys::pages::Pages;
use crate::sys::process::own_ipc_namespace;
use crate::sys::sysv::SharedSegment;

/// The first word of such a segment; the store's uuid follows.
const MAGIC: u64 = u64::from_le_bytes(*b"CISHEAT\x01");
/// Bytes before the marks.
const HEAD_BYTES: u64 = 64;
/// A reader marks one hit in so many, for so many.
const SAMPLED: u32 = 4;
const SAMPLE_HITS: u8 = 2;

thread_local! {
    static DICE: Cell<u32> = const { Cell::new(0x9E37_79B9) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct ReaderHeat {
    pub(super) heat: Heat,
    /// Behind the marks, which point into it: fields are dropped in order.
    region: Region,
}

impl ReaderHeat {
    /// Marks some of the hits.
    #[inline]
    pub(super) fn sample(&self, share: Share, hash: u64) {
        let dice = DICE.with(|dice| {
            let mut next = dice.get();
            next ^= next << 13;
            next ^= next >> 17;
            next ^= next << 5;
            dice.set(next);
            next
        });
        if dice.is_multiple_of(SAMPLED) && self.region.writable() {
            self.heat.add(share, hash, SAMPLE_HITS);
        }
    }
}

impl<S: Shim> Store<S> {
    /// Whether readers may mark what they look up, and this process has found where.
    pub fn has_reader_heat(&self) -> bool {
        self.reader_heat.get().is_some()
    }

    /// Finds where readers mark, if there is such a place and this process may use it. Without it
    /// all goes on, unmarked.
    pub(super) fn find_reader_heat(&self) {
        let superblock = self.segment.superblock();
        if superblock.heat_permissions.load() == 0 || self.reader_heat.get().is_some() {
            return;
        }
        if let Some(found) = self.reader_heat_at(superblock.heat_object.load()) {
            let _ = self.reader_heat.set(Arc::new(found));
        }
    }

    /// [`Store::find_reader_heat`] of a writer, which makes the place where there is none.
    pub(super) fn open_reader_heat(&self) {
        if self.segment.region.holder().backing() == Backing::Private {
            return;
        }
        self.find_reader_heat();
        let superblock = self.segment.superblock();
        let permissions = superblock.heat_permissions.load() as u32 & HEAT_PERMISSIONS;
        if permissions == 0 || self.reader_heat.get().is_some() {
            return;
        }
        let found = superblock.heat_object.load();
        let Ok(namespace) = own_ipc_namespace().map(|inode| inode as u32) else { return };
        // One of another namespace may be in use there.
        if GuardSetWord::of(found).is_some_and(|word| word.ipc_namespace != namespace) {
            return;
        }
        let Some((made, id)) = self.make_reader_heat(permissions) else { return };
        let word = GuardSetWord { id, ipc_namespace: namespace }.word();
        let won = superblock.heat_object.compare_exchange::<S>(found, word);
        let heat = match won {
            Ok(()) => Some(made),
            // Another writer was faster.
            Err(now) => self.reader_heat_at(now),
        };
        if let Some(heat) = heat {
            let _ = self.reader_heat.set(Arc::new(heat));
        }
    }

    fn make_reader_heat(&self, permissions: u32) -> Option<(ReaderHeat, i32)> {
        let bytes = HEAD_BYTES + self.segment.geometry.heat_bytes;
        let segment = SharedSegment::create(None, bytes as usize, Pages::SMALL).ok()?;
        let mapping = Mapping::of_segment(segment, true);
        let allowed = segment.set(None, None, Some(permissions));
        // From here on it goes with the last one that has it.
        segment.remove().ok()?;
        allowed.ok()?;
        let region = Region::of(mapping.ok()?, Holder::SystemV(segment));
        for (cell, word) in region.words(0, 3).ok()?.iter().zip(self.head()) {
            cell.store::<S>(word);
        }
        Some((self.over_reader_heat(region)?, segment.id()))
    }

    /// What the head of the segment says.
    fn head(&self) -> [u64; 3] {
        let uuid = &self.segment.superblock().uuid;
        [MAGIC, uuid[0].load(), uuid[1].load()]
    }

    /// The place that a word of the superblock names, if it is this store's.
    fn reader_heat_at(&self, word: u64) -> Option<ReaderHeat> {
        let word = GuardSetWord::of(word)?;
        if own_ipc_namespace().ok()? as u32 != word.ipc_namespace {
            return None;
        }
        let segment = SharedSegment::of_id(word.id);
        let mapping = Mapping::of_segment(segment, true)
            .or_else(|_| Mapping::of_segment(segment, false))
            .ok()?;
        let region = Region::of(mapping, Holder::SystemV(segment));
        let head = region.words(0, 3).ok()?.iter().map(Cell64::load);
        head.eq(self.head()).then(|| self.over_reader_heat(region))?
    }

    fn over_reader_heat(&self, region: Region) -> Option<ReaderHeat> {
        let marks = region.table(HEAD_BYTES, self.segment.geometry.heat_bytes).ok()?;
        Some(ReaderHeat { heat: Heat::new(marks), region })
    }

    /// How often `hash` was hit, as far as it was marked.
    pub(super) fn hits(&self, group: u8, hash: u64) -> u8 {
        let share = self.segment.share_of(group);
        let of_readers = self.reader_heat.get().map_or(0, |readers| readers.heat.hits(share, hash));
        self.segment.heat.hits(share, hash).max(of_readers)
    }

    /// Sets the hits of `hash`.
    pub(super) fn set_hits(&self, group: u8, hash: u64, hits: u8) {
        let share = self.segment.share_of(group);
        self.segment.heat.set(share, hash, hits);
        if let Some(readers) = self.reader_heat.get() {
            readers.heat.set(share, hash, hits);
        }
    }
}
