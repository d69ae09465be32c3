//! One stripe: its chains are walked, and links, slots, tags and its count put right.

use std::collections::HashMap;

use super::slots::{Elsewhere, Finding, Keys};
use super::{Census, RepairReport};
use crate::error::{Corruption, WriteError};
use crate::index::search::{chain, find_slot};
use crate::index::{change, overflow};
use crate::layout::{LANES, Slot, TagWord, Where};
use crate::region::{Cell64, Shim};
use crate::store::guarded::Held;
use crate::store::sound::{Body, Head};
use crate::store::{Session, Store};

/// Overflow lines by the bucket that they say.
pub(super) type Lines = HashMap<u64, Vec<u64>>;

impl<S: Shim> Store<S> {
    /// The guard of a stripe that may be damaged: an intent that makes no sense is dropped, with an
    /// error to the first who meets it.
    pub(super) fn hold_damaged<'a>(
        &'a self,
        session: &'a Session,
        stripe: u32,
    ) -> Result<Held<'a, S>, WriteError> {
        let hold = || self.hold_within(session, stripe.into(), session.wait_limit());
        match hold() {
            Err(WriteError::Corruption(_)) => hold(),
            other => other,
        }
    }

    /// Mends a stripe, and counts its items.
    pub(super) fn mend_stripe(
        &self,
        session: &Session,
        stripe: u32,
        lines: &Lines,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let held = self.hold_damaged(session, stripe)?;
        let stripes = self.segment.geometry.stripes as usize;
        let buckets = || (u64::from(stripe)..self.segment.index_size().buckets()).step_by(stripes);
        let mut chains = Vec::new();
        for bucket in buckets() {
            chains.push((bucket, self.mend_links(bucket, &mut census.report)?));
        }
        let counted = held.record.items.load();
        let lanes = self.mend_count(&held, &chains, &mut census.report)?;
        let dropped_before = census.report.dropped;
        let mut elsewhere = Vec::new();
        for (bucket, chain) in &chains {
            self.mend_slots(&held, *bucket, chain, &mut elsewhere, census)?;
        }
        // What goes to a chain goes there when all of them are whole.
        for (at, slot, head, body) in elsewhere {
            if self.put_back(&held, &head, &body, census)? {
                self.drop_slot(&held, at, slot)?;
            } else {
                self.lose(&held, (at, slot), "the key is in its bucket already", census)?;
            }
        }
        for (bucket, chain) in &chains {
            for line in lines.get(bucket).into_iter().flatten() {
                if !chain.contains(line) {
                    self.put_back_line(&held, *bucket, *line, census)?;
                }
            }
        }
        for (bucket, chain) in &chains {
            if chain.len() > 1 {
                overflow::shorten(&self.segment, held.record, *bucket)?;
            }
        }
        self.mend_filter(stripe, &mut census.report)?;
        // A count beyond all lanes is damaged, and says nothing.
        if counted <= lanes {
            let dropped = census.report.dropped - dropped_before;
            census.report.missing += counted.saturating_sub(held.record.items.load() + dropped);
        }
        Ok(())
    }

    /// Sets the count of a stripe to the lanes that are used; how many lanes there are.
    fn mend_count(
        &self,
        held: &Held<'_, S>,
        chains: &[(u64, Vec<u64>)],
        report: &mut RepairReport,
    ) -> Result<u64, Corruption> {
        let (mut items, mut lanes) = (0, 0);
        for number in chains.iter().flat_map(|(_, lines)| lines) {
            let line = self.segment.line(*number)?;
            lanes += LANES as u64;
            items += (0..LANES).filter(|lane| line.slot(*lane).is_item()).count() as u64;
        }
        if held.record.items.load() != items {
            held.count_items(items);
            report.counts += 1;
        }
        Ok(lanes)
    }

    /// Looks at each slot of a chain: sound ones are counted, others dropped; and at the tags.
    fn mend_slots(
        &self,
        held: &Held<'_, S>,
        bucket: u64,
        lines: &[u64],
        elsewhere: &mut Vec<Elsewhere>,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let mut found = Vec::new();
        let mut tags = Vec::new();
        for number in lines {
            let line = segment.line(*number)?;
            let word = TagWord(line.tags.load());
            tags.push(word.0);
            for lane in (0..LANES).filter(|lane| line.slot(*lane).is_item()) {
                let (at, slot) = (Where { line: *number, lane }, line.slot(lane));
                let tag = word.tag(lane);
                found.push((at, slot, tag, self.examine(bucket, slot, tag, &mut census.report)?));
            }
        }
        // Of two with one key a lookup has found the first one that it saw; of those that it saw none
        // of, the one that was put last is the value.
        found.sort_by_key(|(_, _, tag, finding)| match finding {
            Finding::Sound(head, _) if *tag == TagWord::tag_of(head.hash) => 0,
            Finding::Sound(head, _) | Finding::OtherBits(head, _) => u64::MAX - head.stamp,
            Finding::OtherBucket(..) | Finding::Unsound(_) => u64::MAX,
        });
        let mut keys = Keys::new();
        for (at, slot, _, finding) in found {
            self.treat(held, (at, slot), finding, (&mut keys, elsewhere), census)?;
        }
        let mut scratch = Vec::new();
        for (number, tags) in lines.iter().zip(tags) {
            let line = segment.line(*number)?;
            for lane in 0..LANES {
                change::mend_tag(segment, Where { line: *number, lane }, &mut scratch)?;
            }
            // A tag without a slot is no damage: a crash may leave it.
            let mended = TagWord(line.tags.load());
            let differs =
                |lane| line.slot(lane).is_item() && mended.tag(lane) != TagWord(tags).tag(lane);
            let linked = mended.is_linked() != TagWord(tags).is_linked();
            census.report.tags += u64::from(linked || (0..LANES).any(differs));
        }
        Ok(())
    }

    /// Drops items that reach into another one: only a damaged length makes one do so. Looked for where
    /// extents count other units than those of their items.
    pub(super) fn drop_overlapping(
        &self,
        session: &Session,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let mut crowded = Vec::new();
        for (extent, units) in (0..).zip(&census.units) {
            crowded.push(*units != u64::from(segment.extent_word(extent)?.live));
        }
        if !crowded.contains(&true) {
            return Ok(());
        }
        let mut parts = Vec::new();
        for stripe in 0..segment.geometry.stripes {
            self.each_sound(session, stripe, |slot, head, body| {
                for part in body.parts.iter().filter(|part| crowded[part.extent as usize]) {
                    // It stands as long as the item does.
                    let generation = segment.generation(part.extent).map_or(0, Cell64::load);
                    parts.push((part.offset, part.units, generation, slot, head.hash));
                }
            })?;
        }
        parts.sort_unstable_by_key(|(offset, ..)| *offset);
        for pair in parts.windows(2) {
            let [(offset, units, generation, slot, hash), (next, _, its_generation, ..)] = *pair
            else {
                continue;
            };
            // Within one generation no byte is given out twice.
            if offset + 8 * units <= next || generation != its_generation {
                continue;
            }
            let held = self.hold_damaged(session, segment.geometry.stripe_of(hash))?;
            if let Some(at) = find_slot(segment, slot, hash)?
                && let Ok(head) = self.head_at(slot)
                && let Ok(body) = self.body_of(&head)
            {
                for part in &body.parts {
                    let units = &mut census.units[part.extent as usize];
                    *units = units.saturating_sub(part.units);
                }
                let items = &mut census.items[usize::from(head.header.namespace)];
                *items = items.saturating_sub(1);
                self.lose(&held, (at, slot), "the item reaches into another one", census)?;
            }
        }
        Ok(())
    }

    /// Units of every sound item of a stripe, by extent.
    pub(super) fn count_units(
        &self,
        session: &Session,
        stripe: u32,
        units: &mut [u64],
    ) -> Result<(), WriteError> {
        self.each_sound(session, stripe, |_, _, body| add(units, body))
    }

    /// Shows `see` every sound item of a stripe, under its guard.
    fn each_sound(
        &self,
        session: &Session,
        stripe: u32,
        mut see: impl FnMut(Slot, &Head, &Body),
    ) -> Result<(), WriteError> {
        let _held = self.hold_damaged(session, stripe)?;
        let stripes = self.segment.geometry.stripes as usize;
        for bucket in (u64::from(stripe)..self.segment.index_size().buckets()).step_by(stripes) {
            for number in chain(&self.segment, bucket) {
                let line = self.segment.line(number?)?;
                for slot in (0..LANES).map(|lane| line.slot(lane)).filter(|slot| slot.is_item()) {
                    if let Ok(head) = self.head_at(slot)
                        && let Ok(body) = self.body_of(&head)
                    {
                        see(slot, &head, &body);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Counts a sound item.
pub(super) fn count(census: &mut Census, head: &Head, body: &Body) {
    census.items[usize::from(head.header.namespace)] += 1;
    add(&mut census.units, body);
}

fn add(units: &mut [u64], body: &Body) {
    for part in &body.parts {
        units[part.extent as usize] += part.units;
    }
}
