//! One slot: what it leads to, and what becomes of it.

use std::collections::HashMap;

use super::stripe::count;
use super::{Census, RepairReport};
use crate::arena::Place;
use crate::arena::pieces::Pieces;
use crate::arena::retire;
use crate::error::{Corruption, WriteError};
use crate::index::change;
use crate::index::search::{Search, chain};
use crate::layout::{Intent, IntentKind, LANES, Slot, TagWord, Where, flags};
use crate::recovery::redo;
use crate::region::{Cell64, Shim};
use crate::store::Store;
use crate::store::guarded::Held;
use crate::store::quoted::quoted;
use crate::store::sound::{Body, Head, Unsound};

/// A stamp beyond this one is a damaged word: no store lives for so long.
const STAMP_MAX: u64 = 1 << 62;

/// Where the item of a key of a bucket is, by namespace and key.
pub(super) type Keys = HashMap<(u8, Vec<u8>), u64>;

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

/// What a slot leads to, if the words of extents say so.
pub(super) struct Judged {
    pub(super) finding: Finding,
    /// The extent whose word denies that there is an item where there is one.
    denied_by: Option<u32>,
}

impl From<Finding> for Judged {
    fn from(finding: Finding) -> Self {
        Self { finding, denied_by: None }
    }
}

/// What is wrong with a slot, with the key of the item that it leads to.
pub(super) fn sentence_of(at: Where, slot: Slot, why: &str, key: Option<&[u8]>) -> String {
    let Where { line, lane } = at;
    let key = key.map_or_else(String::new, |key| format!(", key {}", quoted(key)));
    format!("line {line}, lane {lane}: {why} (item at {:#x}{key})", slot.offset())
}

impl<S: Shim> Store<S> {
    /// Keeps, mends, notes or drops a slot, by what was found.
    pub(super) fn treat(
        &self,
        held: &Held<'_, S>,
        (at, slot): (Where, Slot),
        finding: Finding,
        (keys, elsewhere): (&mut Keys, &mut Vec<Elsewhere>),
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
        match keys.get(&key) {
            // A copy of the slot that is kept.
            Some(item) if *item == head.item => return self.drop_slot(held, at, slot),
            Some(_) => return self.lose(held, (at, slot), "the key is there already", census),
            None => keys.insert(key, head.item),
        };
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

    /// Finds out what a slot leads to. What an extent's word denies is there all the same, and no stamp
    /// that an item has is given out again.
    pub(super) fn examine(
        &self,
        bucket: u64,
        slot: Slot,
        tag: u8,
        report: &mut RepairReport,
    ) -> Result<Finding, Corruption> {
        self.finish_overwrite(bucket, (slot, tag), report)?;
        // Each extent that has a part of the item once at most.
        for _ in 0..=self.segment.geometry.extents {
            let judged = self.judge(bucket, slot, tag)?;
            if let Finding::Sound(head, _)
            | Finding::OtherBits(head, _)
            | Finding::OtherBucket(head, _) = &judged.finding
            {
                self.raise_stamps(head.stamp, report);
            }
            match judged.denied_by {
                Some(extent) if self.fill_extent(extent, report)? => {}
                Some(_) => {
                    let why = "it lies in an extent of the index";
                    return Ok(Finding::Unsound(why.to_owned()));
                }
                None => return Ok(judged.finding),
            }
        }
        Ok(Finding::Unsound("its extents change all the time".to_owned()))
    }

    /// An item that says that it is being overwritten, which nobody does who could be the guard's holder,
    /// is what its redo record says, or else what it is.
    fn finish_overwrite(
        &self,
        bucket: u64,
        (slot, tag): (Slot, u8),
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let geometry = &segment.geometry;
        let item = slot.offset();
        if !segment.slot_stands(slot) {
            return Ok(());
        }
        let Ok(stamp) = segment.stamp(item) else { return Ok(()) };
        let Ok(Head { hash, is_overwritten: true, .. }) = self.head_at(slot) else { return Ok(()) };
        // What a damaged slot leads into is not to be changed: it must be one that could be kept.
        let vouches = tag == TagWord::tag_of(hash) || slot.may_be(hash, geometry.slot_hash_shift);
        if geometry.stripe_of(hash) != geometry.stripe_of(bucket) || !vouches {
            return Ok(());
        }
        if !redo(segment, geometry.stripe_of(hash), slot)? {
            segment.region.view::<Cell64>(item)?.store::<S>(stamp.number());
        }
        report.overwrites += 1;
        Ok(())
    }

    /// Makes sure that no stamp is given out again.
    fn raise_stamps(&self, stamp: u64, report: &mut RepairReport) {
        let next_stamp = &self.segment.superblock().next_stamp;
        // Who writes takes whole blocks of them.
        let least = stamp.next_multiple_of(4096);
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
    }

    /// What a slot leads to, as it stands.
    pub(super) fn judge(&self, bucket: u64, slot: Slot, tag: u8) -> Result<Judged, Corruption> {
        let segment = &self.segment;
        let unsound = |why: &str| Ok(Judged::from(Finding::Unsound(why.to_owned())));
        let head = match self.head_at(slot) {
            Ok(head) => head,
            Err(why) => return unsound(&why),
        };
        let has_tag = tag == TagWord::tag_of(head.hash);
        let has_bits = slot.may_be(head.hash, segment.geometry.slot_hash_shift);
        let has_bucket = segment.index_size().bucket_of(head.hash) == bucket;
        let stripe_of = |bucket| segment.geometry.stripe_of(bucket);
        if head.stamp > STAMP_MAX {
            return unsound("the item's stamp was never given out");
        }
        let is_verified = has_bucket && head.header.has(flags::CHECKSUM);
        if !has_tag && !has_bits && !is_verified {
            return unsound("neither the tag nor the hash bits of the slot are the key's");
        }
        let is_movable = has_tag && has_bits && stripe_of(head.hash) == stripe_of(bucket);
        if !has_bucket && !is_movable {
            return unsound("the key belongs to another bucket");
        }
        let (body, denied_by) = match self.body_of(&head) {
            Err(Unsound::Extent(extent, _)) => (self.body_whatever_extents(&head), Some(extent)),
            body => (body, None),
        };
        let body = match body {
            Ok(body) => body,
            Err(Unsound::Item(why)) => return unsound(&why),
            Err(Unsound::Extent(_, why)) => return unsound(why),
        };
        let finding = if !has_bucket {
            Finding::OtherBucket(head, body)
        } else if !has_bits {
            Finding::OtherBits(head, body)
        } else {
            Finding::Sound(head, body)
        };
        Ok(Judged { finding, denied_by })
    }

    /// Drops a slot that leads to nothing that could be read, and says so.
    pub(super) fn lose(
        &self,
        held: &Held<'_, S>,
        (at, slot): (Where, Slot),
        why: &str,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let head = self.head_at(slot).ok();
        let key = head.as_ref().map(|head| &head.key[..]);
        census.report.note_dropped(sentence_of(at, slot, why, key));
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
