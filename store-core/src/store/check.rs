//! `check`: every invariant of a live store, without stopping it.
//!
//! A stripe that looks wrong is walked anew, since writers may have been at it; what is wrong the
//! last time is reported. An extent's live bytes are judged only if its word stood still.

use std::collections::HashSet;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::Store;
use super::sound::Unsound;
use crate::error::Corruption;
use crate::index::overflow;
use crate::index::search::chain;
use crate::layout::{ExtentState, ExtentWord, LANES, LINK_LANE, Slot, TagWord, Where};
use crate::recovery::{is_dead, state_of};
use crate::region::{Cell64, Shim};
use crate::sync::Turn;
use crate::sys::process::Liveness;

/// How often in a row the same must be wrong with a stripe whose guard is free to be believed.
const ALIKE_MIN: u32 = 3;
/// How many milliseconds a check waits in all for stripes that look wrong.
const PATIENCE_MS: u32 = 100;
/// How often an item is verified anew because it was overwritten meanwhile.
const OVERTAKEN_MAX: u32 = 100;
/// Violations that are kept as sentences; all are counted.
const SENTENCES_MAX: usize = 100;

/// What `check` looked at, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Buckets walked.
    pub buckets: u64,
    /// Overflow lines looked at.
    pub overflow_lines: u64,
    /// Items read.
    pub items: u64,
    /// Items whose checksum was verified.
    pub checksums: u64,
    /// Extents compared with their items.
    pub extents: u64,
    /// Stripes whose count was compared.
    pub stripes: u64,
    /// Loader leases looked at.
    pub leases: u64,
    /// Client entries looked at.
    pub clients: u64,
    /// Broken invariants, as sentences; at most 100.
    pub violations: Vec<String>,
    /// All broken invariants.
    pub violations_total: u64,
    /// What is harmless and will be put right: dead clients, bytes counted too often.
    pub notes: Vec<String>,
}

impl CheckReport {
    fn violation(&mut self, sentence: String) {
        self.violations_total += 1;
        if self.violations.len() < SENTENCES_MAX {
            self.violations.push(sentence);
        }
    }
}

/// What an extent was at some time.
pub(super) struct ExtentSeen {
    pub(super) word: u64,
    pub(super) generation: u64,
}

/// What a walk over one stripe found.
#[derive(Default)]
struct Walk {
    items: u64,
    checksums: u64,
    buckets: u64,
    /// Units of each item and each piece, by extent.
    units: Vec<(u32, u64)>,
    overflow_lines: Vec<u64>,
    problems: Vec<String>,
}

impl<S: Shim> Store<S> {
    /// Verifies every invariant that can be seen. `progress` is told (done, all) now and then.
    /// Reads the whole index and every item; about 100 ns an item, more with checksums.
    pub fn check(&self, mut progress: impl FnMut(u64, u64)) -> CheckReport {
        let mut report = CheckReport::default();
        let stripes = self.segment.geometry.stripes;
        if let Err(error) = self.check_size() {
            report.violation(error.to_string());
            return report;
        }
        self.check_directory(&mut report);
        let before = self.extents_before();
        let mut live = vec![0_u64; self.segment.geometry.extents as usize];
        let mut seen_lines = HashSet::new();
        let mut patience_ms = PATIENCE_MS;
        for stripe in 0..stripes {
            let walk = self.settled_walk(stripe, &mut patience_ms, &mut report);
            report.items += walk.items;
            report.checksums += walk.checksums;
            report.buckets += walk.buckets;
            report.stripes += 1;
            for (extent, units) in walk.units {
                live[extent as usize] += units;
            }
            seen_lines.extend(walk.overflow_lines);
            walk.problems.into_iter().for_each(|problem| report.violation(problem));
            progress(u64::from(stripe) + 1, stripes.into());
        }
        self.check_extents(&before, &live, &mut report);
        self.check_line_owners(&seen_lines, &mut report);
        for (_, wrong) in self.wrong_namespaces() {
            report.violation(wrong.sentence);
        }
        self.check_leases(&mut report);
        self.check_clients(&mut report);
        report
    }

    fn check_size(&self) -> Result<(), Corruption> {
        let buckets = self.segment.index_size().buckets();
        // It only grows.
        if buckets < self.segment.filter.count() {
            return Err(Corruption { what: "the number of buckets in use", offset: 512 });
        }
        self.segment.bucket_line(buckets - 1).map(|_| ())
    }

    /// Compares the directory with the extents that say they are the index's.
    fn check_directory(&self, report: &mut CheckReport) {
        let segment = &self.segment;
        for extent in 0..segment.geometry.extents {
            let Ok(word) = segment.extent_word(extent) else { continue };
            if !matches!(word.state, ExtentState::Buckets | ExtentState::Overflow) {
                continue;
            }
            let entry = segment.directory_entry(word.state, word.index_number());
            // With an owner somebody is about to enter it, or died.
            if word.owner.is_none()
                && entry.is_ok_and(|entry| entry.load() != segment.first_line(extent))
            {
                report.violation(format!("extent {extent} is the index's, not in its directory"));
            }
        }
        let states = [
            (ExtentState::Buckets, self.buckets_extents()),
            (ExtentState::Overflow, overflow::extents_of_lines(segment)),
        ];
        for (state, count) in states {
            for number in 0..count {
                let line = segment.directory_entry(state, number).map_or(0, Cell64::load);
                let extent = segment.geometry.extent_of(segment.line_offset(line));
                let fits = extent.is_some_and(|extent| {
                    segment.extent_word(extent).is_ok_and(|word| {
                        word.state == state
                            && word.index_number() == number
                            && segment.first_line(extent) == line
                    })
                });
                if !fits {
                    report.violation(format!(
                        "entry {number} of the directory of {state:?} leads to none"
                    ));
                }
            }
        }
    }

    /// Extents of buckets, as far as the size word says: it may have changed since it was looked at.
    fn buckets_extents(&self) -> u64 {
        let geometry = &self.segment.geometry;
        let extents = self.segment.index_size().buckets().div_ceil(1 << geometry.line_shift());
        extents.min(geometry.extents.into())
    }

    /// The words and generations of all extents.
    pub(super) fn extents_before(&self) -> Vec<ExtentSeen> {
        let extents = 0..self.segment.geometry.extents;
        extents.map(|extent| self.extent_now(extent)).collect()
    }

    fn extent_now(&self, extent: u32) -> ExtentSeen {
        let word = self.extent_word_of(extent);
        // Pairs with the compare-and-swap and the store of the word: its generation is at least as new.
        fence(Ordering::Acquire);
        let generation = self.segment.generation(extent).map_or(0, Cell64::load);
        ExtentSeen { word, generation }
    }

    fn extent_word_of(&self, extent: u32) -> u64 {
        self.segment.extent(extent).map_or(0, |entry| entry.word.load())
    }

    /// Walks a stripe until it looks right, or wrong in the same way often enough.
    fn settled_walk(&self, stripe: u32, patience_ms: &mut u32, report: &mut CheckReport) -> Walk {
        let (mut alike, mut last) = (0, Vec::new());
        loop {
            let walk = self.walk_stripe(stripe).unwrap_or_else(|error| Walk {
                problems: vec![error.to_string()],
                ..Walk::default()
            });
            if walk.problems.is_empty() {
                return walk;
            }
            let holder = self
                .segment
                .stripe(stripe)
                .ok()
                .and_then(|record| self.segment.stripe_guard(stripe, record).holder());
            alike = if walk.problems == last { alike + 1 } else { 1 };
            let settled = holder.is_none() && alike == ALIKE_MIN;
            if !settled && *patience_ms > 0 {
                *patience_ms -= 1;
                last = walk.problems;
                std::thread::sleep(Duration::from_millis(1));
            } else if let Some((holder, _)) = holder {
                // Half of an operation: whoever takes the guard next repairs it.
                report.notes.push(format!(
                    "stripe {stripe} is in the middle of a write of process {}: {}",
                    self.pid_of(holder.client),
                    walk.problems.join("; ")
                ));
                return Walk { problems: Vec::new(), ..walk };
            } else {
                return walk;
            }
        }
    }

    fn walk_stripe(&self, stripe: u32) -> Result<Walk, Corruption> {
        let record = self.segment.stripe(stripe)?;
        let count_before = record.items.load();
        let mut walk = Walk::default();
        let buckets = self.segment.index_size().buckets();
        let mut bucket = u64::from(stripe);
        while bucket < buckets {
            self.walk_bucket(bucket, &mut walk)?;
            walk.buckets += 1;
            bucket += u64::from(self.segment.geometry.stripes);
        }
        let count = record.items.load();
        if count != walk.items {
            walk.problems.push(format!(
                "stripe {stripe} counts {count} items ({count_before} before), its buckets hold {}",
                walk.items
            ));
        }
        if record.armed() {
            walk.problems.push(format!("the intent of stripe {stripe} is armed"));
        }
        Ok(walk)
    }

    fn walk_bucket(&self, bucket: u64, walk: &mut Walk) -> Result<(), Corruption> {
        let mut keys = HashSet::new();
        for (at, number) in chain(&self.segment, bucket).enumerate() {
            let number = number?;
            let line = self.segment.line(number)?;
            let tags = TagWord(line.tags.load());
            if at > 0 {
                walk.overflow_lines.push(number);
                let owner = self.segment.line_owner(number)?.load();
                if owner != bucket + 1 {
                    walk.problems.push(format!(
                        "overflow line {number} is in the chain of bucket {bucket} and belongs \
                         to {owner} - 1"
                    ));
                }
            }
            if tags.is_linked() != line.slot(LINK_LANE).is_link() {
                walk.problems.push(format!("the control byte of line {number} and lane 6 differ"));
            }
            for lane in 0..LANES {
                let at = Where { line: number, lane };
                let slot = line.slot(lane);
                if slot.is_item() {
                    let tag = tags.tag(lane);
                    let walked =
                        self.undisturbed(slot, || self.walk_item(bucket, at, slot, tag, walk));
                    match walked {
                        Ok(key) => {
                            if !keys.insert(key) {
                                walk.problems.push(format!("bucket {bucket} has a key twice"));
                            }
                        }
                        Err(problem) => walk.problems.push(problem),
                    }
                }
            }
        }
        Ok(())
    }

    /// Has an item verified, once more where it was overwritten meanwhile.
    fn undisturbed<R>(
        &self,
        slot: Slot,
        mut verify: impl FnMut() -> Result<R, String>,
    ) -> Result<R, String> {
        // Where nothing has memory nothing is read.
        let stamp = || match self.segment.slot_stands(slot) {
            true => self.segment.stamp(slot.offset()).ok(),
            false => None,
        };
        for _ in 1..OVERTAKEN_MAX {
            let before = stamp();
            // Pairs with the Release store of the stamp: the bytes are at least as new.
            fence(Ordering::Acquire);
            let verified = verify();
            // Pairs with the Release fence of `store::overwrite`: what was half written shows in the stamp.
            fence(Ordering::Acquire);
            if verified.is_ok() || stamp() == before {
                return verified;
            }
        }
        verify()
    }

    /// Verifies one item, adds it to the walk and gives its key.
    fn walk_item(
        &self,
        bucket: u64,
        at: Where,
        slot: Slot,
        tag: u8,
        walk: &mut Walk,
    ) -> Result<(u8, Vec<u8>), String> {
        let segment = &self.segment;
        let sentence = |what: &str| {
            format!("line {}, lane {}: {what} (item at {:#x})", at.line, at.lane, slot.offset())
        };
        let wrong = |what: &str| Err(sentence(what));
        let head = self.head_at(slot).map_err(|what| sentence(&what))?;
        if segment.index_size().bucket_of(head.hash) != bucket {
            return wrong("the key belongs to another bucket");
        }
        if !slot.may_be(head.hash, segment.geometry.slot_hash_shift) {
            return wrong("the hash bits of the slot are not the key's");
        }
        if segment.filter.rules_out(head.hash) {
            return wrong("the filter rules the key out");
        }
        if tag != TagWord::tag_of(head.hash) {
            return wrong("the tag is not the key's");
        }
        if head.is_overwritten {
            return wrong("the item says that it is being overwritten");
        }
        // After the stamp: what was given out meanwhile is seen.
        if head.stamp > segment.superblock().next_stamp.load() {
            return wrong("the item's stamp was never given out");
        }
        let body = self.body_of(&head).map_err(|unsound| match unsound {
            Unsound::Item(what) => sentence(&what),
            Unsound::Extent(_, what) => sentence(what),
        })?;
        walk.items += 1;
        walk.checksums += u64::from(body.checksum);
        walk.units.extend(body.parts.iter().map(|part| (part.extent, part.units)));
        Ok((head.header.namespace, head.key))
    }

    fn check_extents(&self, before: &[ExtentSeen], live: &[u64], report: &mut CheckReport) {
        let geometry = &self.segment.geometry;
        let mut over = 0;
        for (extent, before) in before.iter().enumerate() {
            let now = self.extent_now(extent as u32);
            report.extents += 1;
            let word = ExtentWord::of(now.word);
            if word.state == ExtentState::Unknown {
                report.violation(format!("extent {extent} has no state of this version"));
            }
            let judged = matches!(
                word.state,
                ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation
            );
            if !judged {
                continue;
            }
            if word.used > geometry.extent_units() || word.live > word.used {
                report.violation(format!(
                    "extent {extent} says {} units live of {} used",
                    word.live, word.used
                ));
            }
            // One that was filled anew may have the word that it had.
            if (now.word, now.generation) != (before.word, before.generation) {
                continue;
            }
            let units = live[extent];
            if units > u64::from(word.live) {
                report.violation(format!(
                    "extent {extent} says {} units live, its items have {units}",
                    word.live
                ));
            }
            over += u64::from(word.live).saturating_sub(units) * 8;
        }
        if over > 0 {
            report.notes.push(format!(
                "{over} bytes are counted live and are not (writes in progress, or left by crashes)"
            ));
        }
    }

    fn check_line_owners(&self, seen: &HashSet<u64>, report: &mut CheckReport) {
        for line in overflow::lines(&self.segment) {
            report.overflow_lines += 1;
            let Ok((overflow, owner)) = line else { continue };
            if owner == 0 || seen.contains(&overflow) {
                continue;
            }
            // A writer may have linked it since its bucket was walked, or be about to.
            let linked = chain(&self.segment, owner - 1).any(|line| line.ok() == Some(overflow));
            let stripe = self.segment.geometry.stripe_of(owner - 1);
            let busy = self.segment.stripe(stripe).is_ok_and(|record| {
                record.armed() || self.segment.stripe_guard(stripe, record).holder().is_some()
            });
            if !linked && !busy {
                let bucket = owner - 1;
                report.violation(format!(
                    "overflow line {overflow} belongs to bucket {bucket} and is not in its chain"
                ));
            }
        }
    }

    fn check_leases(&self, report: &mut CheckReport) {
        let mut dead = 0;
        for lease in 0..self.segment.geometry.loaders {
            report.leases += 1;
            let Ok(record) = self.segment.loader(lease) else { continue };
            let holder = Turn::new(&record.owner).holder();
            dead += u32::from(holder.is_some_and(|(_, owner)| is_dead(&self.segment, owner)));
        }
        if dead > 0 {
            report.notes.push(format!("{dead} loader leases are held by dead clients"));
        }
    }

    fn check_clients(&self, report: &mut CheckReport) {
        let mut dead = 0;
        for client in 0..self.segment.geometry.clients {
            report.clients += 1;
            dead += u32::from(state_of(&self.segment, client).is_some_and(Liveness::is_dead));
        }
        if dead > 0 {
            report.notes.push(format!("{dead} clients are dead and not reaped yet"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, Store, private_on_heap};

    /// Extents that are emptied and filled by other items have the words that they had.
    #[test]
    fn what_was_filled_anew_is_not_judged() {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(400);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        let put_from = |first: u32| {
            store.clear(&session).expect("a clear");
            for key in (first..first + 400).map(|key| (key % 400).to_le_bytes()) {
                let (options, always) = (PutOptions::new(), Condition::Always);
                store.put(&session, &key, &[7; 300], &options, always).expect("a put");
            }
        };
        put_from(0);
        let before = store.extents_before();
        let mut turn = 0;
        let report = store.check(|_, _| {
            turn += 1;
            if turn % 16 == 0 {
                put_from(turn * 37);
            }
        });
        let after = store.extents_before();
        let refilled = before.iter().zip(&after).filter(|(before, after)| {
            before.word == after.word && before.generation != after.generation
        });
        assert!(refilled.count() > 0, "the test needs a word that came back");
        assert_eq!(report.violations, Vec::<String>::new());
    }
}
