//! One stripe: its chains are walked, and links, slots, tags and its count put right.

use std::collections::{HashMap, HashSet};

use super::{Census, RepairReport};
use crate::arena::Place;
use crate::arena::pieces::Pieces;
use crate::arena::retire;
use crate::error::{Corruption, WriteError};
use crate::index::search::{Search, chain, find_slot};
use crate::index::{CHAIN_LINES_MAX, change, overflow};
use crate::layout::{ExtentState, Intent, IntentKind, LANES, LINK_LANE, Slot, TagWord, Where};
use crate::region::{Cell64, Shim};
use crate::store::guarded::Held;
use crate::store::sound::{Body, Head, Unsound};
use crate::store::{Session, Store};

/// A stamp beyond this one is a damaged word: no store lives for so long.
const STAMP_MAX: u64 = 1 << 62;

/// Overflow lines by the bucket that they say.
pub(super) type Lines = HashMap<u64, Vec<u64>>;

/// A key, with its namespace.
type Key = (u8, Vec<u8>);

/// What a slot turned out to be.
enum Finding {
    Sound(Head, Body),
    /// Sound, with hash bits that are not its key's.
    OtherBits(Head, Body),
    /// Sound, in a bucket that is not its key's.
    OtherBucket(Head, Body),
    Unsound(String),
}

impl<S: Shim> Store<S> {
    /// The overflow lines that somebody has, by bucket.
    pub(super) fn lines_by_bucket(&self) -> Lines {
        let mut lines = Lines::new();
        for (line, owner) in overflow::lines(&self.segment).flatten() {
            if let Some(bucket) = owner.checked_sub(1) {
                lines.entry(bucket).or_default().push(line);
            }
        }
        lines
    }

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
        self.mend_count(&held, &chains, &mut census.report)?;
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
        Ok(())
    }

    /// Walks a chain as far as its links make sense, and cuts it there. Gives its lines.
    fn mend_links(&self, bucket: u64, report: &mut RepairReport) -> Result<Vec<u64>, Corruption> {
        let segment = &self.segment;
        let mut lines = vec![segment.bucket_line(bucket)?];
        loop {
            let number = lines[lines.len() - 1];
            let line = segment.line(number)?;
            for lane in (0..LINK_LANE).filter(|lane| line.slot(*lane).is_link()) {
                change::remove(segment, Where { line: number, lane })?;
                report.links += 1;
            }
            let link = line.slot(LINK_LANE);
            if !link.is_link() {
                return Ok(lines);
            }
            match self.next_line(bucket, link, &lines, report)? {
                Some(next) => lines.push(next),
                None => {
                    // Dies after it: the control bit of a lane without a link, which readers look at
                    // for nothing. What is behind the link is not lost: its line says its bucket.
                    line.cell(LINK_LANE).store::<S>(0);
                    line.tags.store::<S>(TagWord(line.tags.load()).without_link().0);
                    overflow::bump_epoch(segment);
                    report.links += 1;
                    return Ok(lines);
                }
            }
        }
    }

    /// The line that a link leads to, if it is one of this chain, or can be.
    fn next_line(
        &self,
        bucket: u64,
        link: Slot,
        lines: &[u64],
        report: &mut RepairReport,
    ) -> Result<Option<u64>, Corruption> {
        let segment = &self.segment;
        let Ok(next) = segment.linked_line(link) else { return Ok(None) };
        let Some(extent) = segment.geometry.extent_of(segment.line_offset(next)) else {
            return Ok(None);
        };
        let of_index = segment.extent_word(extent)?.state == ExtentState::Overflow;
        if !of_index || lines.contains(&next) || lines.len() >= CHAIN_LINES_MAX {
            return Ok(None);
        }
        let Ok(owner) = segment.line_owner(next) else { return Ok(None) };
        let found = owner.load();
        if found == bucket + 1 {
            return Ok(Some(next));
        }
        let is_others = found != 0 && self.is_line_of(found - 1, next);
        if is_others || owner.compare_exchange::<S>(found, bucket + 1).is_err() {
            return Ok(None);
        }
        report.lines += 1;
        Ok(Some(next))
    }

    /// Whether a line is in the chain of this bucket, or somebody may be about to link it there.
    fn is_line_of(&self, bucket: u64, line: u64) -> bool {
        let segment = &self.segment;
        let stripe = segment.geometry.stripe_of(bucket);
        let is_armed = segment.stripe(stripe).is_ok_and(|record| record.armed());
        is_armed || chain(segment, bucket).any(|found| found.ok() == Some(line))
    }

    /// Sets the count of a stripe to the lanes that are used.
    fn mend_count(
        &self,
        held: &Held<'_, S>,
        chains: &[(u64, Vec<u64>)],
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let mut items = 0;
        for number in chains.iter().flat_map(|(_, lines)| lines) {
            let line = self.segment.line(*number)?;
            items += (0..LANES).filter(|lane| line.slot(*lane).is_item()).count() as u64;
        }
        if held.record.items.load() != items {
            held.count_items(items);
            report.counts += 1;
        }
        Ok(())
    }

    /// Looks at each slot of a chain: sound ones are counted, others dropped; and at the tags.
    fn mend_slots(
        &self,
        held: &Held<'_, S>,
        bucket: u64,
        lines: &[u64],
        elsewhere: &mut Vec<(Where, Slot, Head, Body)>,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let mut keys: HashSet<Key> = HashSet::new();
        let mut scratch = Vec::new();
        for number in lines {
            let line = segment.line(*number)?;
            let tags = line.tags.load();
            for lane in 0..LANES {
                let at = Where { line: *number, lane };
                let slot = line.slot(lane);
                if slot.is_item() {
                    let tag = TagWord(tags).tag(lane);
                    let finding = self.examine(bucket, slot, tag, &mut census.report)?;
                    self.treat(held, (at, slot), finding, (&mut keys, elsewhere), census)?;
                }
                change::mend_tag(segment, at, &mut scratch)?;
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

    /// Keeps, mends, notes or drops a slot, by what was found.
    fn treat(
        &self,
        held: &Held<'_, S>,
        (at, slot): (Where, Slot),
        finding: Finding,
        (keys, elsewhere): (&mut HashSet<Key>, &mut Vec<(Where, Slot, Head, Body)>),
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
            // A lookup finds the first one.
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
    fn examine(
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
        if !has_bucket && !(has_tag && has_bits && stripe_of(head.hash) == stripe_of(bucket)) {
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
    fn lose(
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
    fn drop_slot(&self, held: &Held<'_, S>, at: Where, slot: Slot) -> Result<(), WriteError> {
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
    fn put_back(
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

    /// Puts back what is in an overflow line that says a bucket and is not in its chain, and frees it.
    ///
    /// Dies before the end: some items are in the chain as well, and the next repair goes on.
    fn put_back_line(
        &self,
        held: &Held<'_, S>,
        bucket: u64,
        number: u64,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let is_linked = chain(segment, bucket).any(|line| line.ok() == Some(number));
        if segment.line_owner(number)?.load() != bucket + 1 || is_linked {
            return Ok(());
        }
        let line = segment.line(number)?;
        let slots = || (0..LANES).map(|lane| (lane, line.slot(lane))).filter(|(_, s)| s.is_item());
        let is_of_another = |head: Head| {
            let its = segment.index_size().bucket_of(head.hash);
            its != bucket && chain(segment, its).any(|line| line.ok() == Some(number))
        };
        if slots().any(|(_, slot)| self.head_at(slot).is_ok_and(is_of_another)) {
            // That chain takes it.
            return Ok(());
        }
        let tags = TagWord(line.tags.load());
        for (lane, slot) in slots() {
            match self.examine(bucket, slot, tags.tag(lane), &mut census.report)? {
                Finding::Sound(head, body)
                | Finding::OtherBits(head, body)
                | Finding::OtherBucket(head, body) => {
                    self.put_back(held, &head, &body, census)?;
                }
                Finding::Unsound(why) => {
                    let item = slot.offset();
                    let sentence = format!("line {number}, lane {lane}: {why} (item at {item:#x})");
                    census.report.note_dropped(sentence);
                }
            }
        }
        overflow::finish_unlink(segment, bucket, number)?;
        census.report.lines += 1;
        Ok(())
    }

    /// Frees overflow lines that say a bucket that there is not.
    pub(super) fn free_lines_of_no_bucket(
        &self,
        session: &Session,
        lines: &Lines,
        report: &mut RepairReport,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        for (bucket, lines) in lines {
            if *bucket < segment.index_size().buckets() {
                continue;
            }
            // Who splits has lines of a bucket that is not there yet, and this guard.
            let _held = self.hold_damaged(session, segment.geometry.stripe_of(*bucket))?;
            if *bucket < segment.index_size().buckets() {
                continue;
            }
            for line in lines {
                let freed = segment.line_owner(*line)?.compare_exchange::<S>(bucket + 1, 0);
                report.lines += u64::from(freed.is_ok());
            }
        }
        Ok(())
    }

    /// Drops items that reach into another one: only a damaged length makes one do so. Told by extents whose
    /// items have more units than are used.
    pub(super) fn drop_overlapping(
        &self,
        session: &Session,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let mut crowded = Vec::new();
        for (extent, units) in (0..).zip(&census.units) {
            crowded.push(*units > u64::from(segment.extent_word(extent)?.used));
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

fn count(census: &mut Census, head: &Head, body: &Body) {
    census.items[usize::from(head.header.namespace)] += 1;
    add(&mut census.units, body);
}

fn add(units: &mut [u64], body: &Body) {
    for part in &body.parts {
        units[part.extent as usize] += part.units;
    }
}
