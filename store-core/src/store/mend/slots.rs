//! One slot: what it leads to, and what becomes of it.

use std::collections::HashSet;

use super::stripe::count;
use super::{Census, RepairReport};
use crate::arena::Place;
use crate::arena::pieces::Pieces;
use crate::arena::retire;
use crate::error::{Corruption, WriteError};
use crate::index::change;
use crate::index::search::{Search, chain};
use crate::layout::{Intent, IntentKind, LANES, Slot, TagWord, Where};
use crate::region::Shim;
use crate::store::Store;
use crate::store::guarded::Held;
use crate::store::sound::{Body, Head, Unsound};

/// A stamp beyond this one is a damaged word: no store lives for so long.
const STAMP_MAX: u64 = 1 << 62;

/// A key, with its namespace.
pub(super) type Key = (u8, Vec<u8>);

/// A slot whose item belongs to another bucket.
pub(super) type Elsewhere = (Where, Slot, Head, Body);

/// What a slot turned out to be.
pub(super) enum Finding {
    Sound(Head, Body),
    /// Sound, with hash bits that are not its key's.
    OtherBits(Head, Body),
    /// Sound, in a bucket that is not its key's.
    OtherBucket(Head, Body),
    Unsound(String),
}

impl<S: Shim> Store<S> {
    /// Keeps, mends, notes or drops a slot, by what was found.
    pub(super) fn treat(
        &self,
        held: &Held<'_, S>,
        (at, slot): (Where, Slot),
        finding: Finding,
        (keys, elsewhere): (&mut HashSet<Key>, &mut Vec<Elsewhere>),
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let (head, body) = match finding {
            Finding::Unsound(why) => return self.lose(held, (at, slot), &why, census),
            Finding::OtherBucket(head, body) => {
                elsewhere.push((at, slot, head, body));
                return Ok(());
            }
            Finding::Sound(head, body) | Finding::OtherBits(head, body) => (head, body),
        };
        let key = (head.header.namespace, head.key.clone());
        if !keys.insert(key) {
            return self.lose(held, (at, slot), "the key is there already", census);
        }
        let right = self.slot_of(&head);
        if right != slot {
            // Lookups missed the item until here. Dies before: as it was.
            change::overwrite(&self.segment, at, right)?;
            census.report.slots += 1;
        }
        count(census, &head, &body);
        Ok(())
    }

    fn slot_of(&self, head: &Head) -> Slot {
        let shift = self.segment.geometry.slot_hash_shift;
        Slot::of_item(head.item, head.generation, head.hash, shift)
    }

    /// Finds out what a slot leads to.
    pub(super) fn examine(
        &self,
        bucket: u64,
        slot: Slot,
        tag: u8,
        report: &mut RepairReport,
    ) -> Result<Finding, Corruption> {
        let segment = &self.segment;
        let head = match self.head_at(slot) {
            Ok(head) => head,
            Err(why) => return Ok(Finding::Unsound(why)),
        };
        let has_tag = tag == TagWord::tag_of(head.hash);
        let has_bits = slot.may_be(head.hash, segment.geometry.slot_hash_shift);
        let has_bucket = segment.index_size().bucket_of(head.hash) == bucket;
        let stripe_of = |bucket| segment.geometry.stripe_of(bucket);
        if !has_tag && !has_bits {
            let why = "neither the tag nor the hash bits of the slot are the key's";
            return Ok(Finding::Unsound(why.to_owned()));
        }
        let is_movable = has_tag && has_bits && stripe_of(head.hash) == stripe_of(bucket);
        if !has_bucket && !is_movable {
            return Ok(Finding::Unsound("the key belongs to another bucket".to_owned()));
        }
        Ok(match self.body_if_sound(&head, report)? {
            Err(why) => Finding::Unsound(why),
            Ok(body) if !has_bucket => Finding::OtherBucket(head, body),
            Ok(body) if !has_bits => Finding::OtherBits(head, body),
            Ok(body) => Finding::Sound(head, body),
        })
    }

    /// What is behind a head that a slot leads to; why it is not sound. What an extent's word denies is
    /// there all the same.
    fn body_if_sound(
        &self,
        head: &Head,
        report: &mut RepairReport,
    ) -> Result<Result<Body, String>, Corruption> {
        if head.stamp > STAMP_MAX {
            return Ok(Err("the item's stamp was never given out".to_owned()));
        }
        let next_stamp = &self.segment.superblock().next_stamp;
        // Who writes takes whole blocks of them.
        let least = head.stamp.next_multiple_of(4096);
        let mut found = next_stamp.load();
        while found < least {
            match next_stamp.compare_exchange::<S>(found, least) {
                Ok(()) => {
                    report.stamps += 1;
                    break;
                }
                Err(now) => found = now,
            }
        }
        // Each extent that has a part of the item once at most.
        for _ in 0..=self.segment.geometry.extents {
            match self.body_of(head) {
                Ok(body) => return Ok(Ok(body)),
                Err(Unsound::Item(why)) => return Ok(Err(why)),
                Err(Unsound::Extent(extent, why)) => {
                    if !self.fill_extent(extent, report)? {
                        return Ok(Err(why.to_owned()));
                    }
                }
            }
        }
        Ok(Err("its extents change all the time".to_owned()))
    }

    /// Drops a slot that leads to nothing that could be read, and says so.
    pub(super) fn lose(
        &self,
        held: &Held<'_, S>,
        (at, slot): (Where, Slot),
        why: &str,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let Where { line, lane } = at;
        let item = slot.offset();
        let sentence = format!("line {line}, lane {lane}: {why} (item at {item:#x})");
        census.report.note_dropped(sentence);
        self.drop_slot(held, at, slot)
    }

    /// Empties a lane. What it led to may count as live, or not: it is counted anew.
    ///
    /// Dies anywhere: as in a delete.
    pub(super) fn drop_slot(
        &self,
        held: &Held<'_, S>,
        at: Where,
        slot: Slot,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let items = held.record.items.load();
        held.record.arm::<S>(&Intent {
            kind: IntentKind::Swap,
            items_before: items,
            cell: segment.slot_offset(at),
            old: slot,
            new: Slot::EMPTY,
            line: 1,
        });
        change::remove(segment, at)?;
        held.count_items(items.saturating_sub(1));
        if segment.slot_stands(slot)
            && let Ok(header) = segment.header(slot.offset())
            && let Ok(Some(pieces)) = Pieces::of(segment, slot.offset(), header)
        {
            pieces.mark_suspect(segment)?;
        }
        retire::mark_suspect(segment, slot.offset())?;
        held.record.disarm::<S>();
        Ok(())
    }

    /// Publishes an item that no lookup found, unless its key is there; whether it did.
    pub(super) fn put_back(
        &self,
        held: &Held<'_, S>,
        head: &Head,
        body: &Body,
        census: &mut Census,
    ) -> Result<bool, WriteError> {
        let segment = &self.segment;
        let bucket = segment.index_size().bucket_of(head.hash);
        let mut found = Search { bucket, found: None, free: None, tail: 0, lines: 0 };
        for number in chain(segment, bucket) {
            let number = number?;
            let line = segment.line(number)?;
            found.tail = number;
            found.lines += 1;
            for lane in 0..LANES {
                let slot = line.slot(lane);
                let at = Where { line: number, lane };
                if slot.is_empty() && found.free.is_none() {
                    found.free = Some(at);
                }
                let has_key = |other: Head| {
                    other.header.namespace == head.header.namespace && other.key == head.key
                };
                if slot.may_be(head.hash, segment.geometry.slot_hash_shift)
                    && slot.is_item()
                    && self.head_at(slot).is_ok_and(has_key)
                {
                    return Ok(false);
                }
            }
        }
        let place = Place { offset: head.item, bytes: 0, generation: head.generation };
        self.publish(held, &found, head.hash, place)?;
        census.report.put_back += 1;
        count(census, head, body);
        Ok(true)
    }
}
