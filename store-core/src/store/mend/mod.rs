//! `check --repair`: a store whose bytes were damaged is mended while others use it.
//!
//! First all slots are asked, and words that many of them deny are restored. Then slots are the truth: tags, links, counts, words of extents and numbers of namespaces follow from
//! them, and a slot that leads to no sound item is dropped. What no slot leads to is not looked for:
//! that would bring deleted keys back, which is what salvaging is for.
//!
//! One stripe after the other, each under its guard. Slots change as in any other write, with an
//! intent; each other store leaves what is damaged as damaged as it was, or mends it. So one that
//! was killed is followed like any other dead holder, and the next repair goes on.

mod chain;
mod evidence;
mod extents;
mod filter;
mod namespaces;
mod restore;
mod slots;
mod stripe;

use super::{Session, Store};
use stripe::Lines;

use crate::error::{Corruption, RepairError, WriteError};
use crate::index::search::find_slot;
use crate::layout::{ExtentState, LANES};
use crate::region::Shim;

/// Sentences that are kept about what was dropped; all of it is counted.
const SENTENCES_MAX: usize = 100;
/// How often all slots are asked: restored words lead to others.
const ROUNDS_MAX: u32 = 3;

/// What a repair may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairOptions {
    max_loss: u64,
    dry_run: bool,
}

impl RepairOptions {
    /// A repair that drops nothing.
    pub const fn new() -> Self {
        Self { max_loss: 0, dry_run: false }
    }

    /// Slots that it may drop because they lead to no sound item. If there are more, nothing is dropped
    /// at all. 0 unless told otherwise.
    pub const fn max_loss(mut self, slots: u64) -> Self {
        self.max_loss = slots;
        self
    }

    /// Only looks, and says what would be restored and dropped, but for items that reach into each other.
    /// All else that is broken follows from the slots. As any write does, it finishes what dead processes
    /// left, and it drops intents that make no sense.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// What a repair found and did. All zero for a store in which nothing was damaged, but for `items`, and for
/// what crashes left to be recounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Items that are there, in the end.
    pub items: u64,
    /// Slots that led to no sound item, or to a key that was there already, and were dropped: what is
    /// lost.
    pub dropped: u64,
    /// What was wrong with them, with their keys where these can be read, as sentences; at most 100.
    pub dropped_slots: Vec<String>,
    /// Items that stripes counted and that no slot leads to: slots that were wiped, or a wrong count.
    pub missing: u64,
    /// Words that the items of many slots rest on and that were restored as these slots say: the
    /// generation of an extent, the record of a namespace. As sentences.
    pub restored: Vec<String>,
    /// Lines whose tags did not fit their slots.
    pub tags: u64,
    /// Words of the filter that ruled out what is there.
    pub filters: u64,
    /// Slots with another hash than that of their key.
    pub slots: u64,
    /// Items that no lookup found any more, and that were put where one does: from behind a link that
    /// was lost, or out of another bucket.
    pub put_back: u64,
    /// Links that led to no line of their chain, and were cut.
    pub links: u64,
    /// Overflow lines that said another bucket, or that no chain had.
    pub lines: u64,
    /// Stripes that counted another number of items than they have.
    pub counts: u64,
    /// Namespaces that did.
    pub namespaces: u64,
    /// Entries of the directory of the index, and words of extents of it, that contradicted each other.
    pub directory: u64,
    /// Extents whose word denied what lies in them, or made no sense.
    pub extents: u64,
    /// Items that said that they are being overwritten, which nobody did.
    pub overwrites: u64,
    /// Times that the next stamp was raised above one that an item has.
    pub stamps: u64,
    /// Extents whose live bytes were counted anew.
    pub recounted: u64,
    /// Bytes by which these had counted too many or too few.
    pub recounted_bytes: u64,
    /// Extents that still count too much, since somebody wrote to them meanwhile: cleaning counts them anew.
    pub suspects: u64,
}

impl RepairReport {
    fn note_dropped(&mut self, sentence: String) {
        self.dropped += 1;
        if self.dropped_slots.len() < SENTENCES_MAX {
            self.dropped_slots.push(sentence);
        }
    }
}

/// What a repair counts on its way.
struct Census {
    report: RepairReport,
    /// Units of items and pieces, by extent.
    units: Vec<u64>,
    /// Items by namespace.
    items: [u64; 256],
}

impl<S: Shim> Store<S> {
    /// Mends what [`Store::check`] finds broken, while others read and write: rebuilds tags, links,
    /// counts and live bytes from the slots, and drops slots that lead to no sound item, as many as the
    /// options allow. Afterwards `check` finds nothing. `progress` is told (done, all) now and then.
    ///
    /// Reads the whole index and every item twice, under one guard after the other, and once more where
    /// words were restored or live bytes were wrong: about 1.2 us an item, more with checksums. Writers of a
    /// stripe wait for as long as that takes for its items.
    ///
    /// # Errors
    /// `WouldLose`: more slots would be dropped than the options allow, and none was. `Corruption` for what
    /// slots don't tell: the number of buckets, or an extent of the index that nothing leads to. Nothing
    /// was dropped then; what can be read is salvaged into a new store. `Stuck` if a living process does not
    /// give a guard back, `IndexFull` if there is no line for what is to be put back: what was mended
    /// until then stays so.
    ///
    /// Dies anywhere: see the module.
    pub fn repair(
        &self,
        session: &Session,
        options: &RepairOptions,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<RepairReport, RepairError> {
        self.assert_usable(session);
        let segment = &self.segment;
        let stripes = u64::from(segment.geometry.stripes);
        // What crashes left is no damage.
        let _ = self.reap(session);
        let mut census = Census {
            report: RepairReport::default(),
            units: vec![0; segment.geometry.extents as usize],
            items: [0; 256],
        };
        self.refuse_if_size_is_wrong()?;
        let all = 3 * stripes;
        let orphans =
            self.restore_words(session, options, &mut census.report, |done| progress(done, all))?;
        if options.dry_run {
            return Ok(census.report);
        }
        self.refuse_if_buckets_are_missing(session)?;
        let words_before = self.extents_before();
        self.mend_namespaces(session, &mut census.report)?;
        self.mend_extent_words(true, &mut census.report)?;
        let counted_before = self.namespaced_counts();
        for stripe in 0..segment.geometry.stripes {
            self.mend_stripe(session, stripe, &orphans, &mut census)?;
            progress(stripes + u64::from(stripe) + 1, all);
        }
        self.free_lines_of_no_bucket(session, &orphans, &mut census.report)?;
        self.mend_extent_words(false, &mut census.report)?;
        self.drop_overlapping(session, &mut census)?;
        self.doubt_counts(&words_before, &census.units, &mut census.report)?;
        let progress = |done| progress(2 * stripes + done, all);
        self.recount(session, &words_before, &mut census.report, progress)?;
        self.mend_namespaced_counts(counted_before, &mut census);
        self.count_anew();
        census.report.items = self.len();
        Ok(census.report)
    }

    /// Restores words that many slots rest on, and refuses if more would be lost all the same than may be. Gives
    /// the lines that somebody has.
    fn restore_words(
        &self,
        session: &Session,
        options: &RepairOptions,
        report: &mut RepairReport,
        mut progress: impl FnMut(u64),
    ) -> Result<Lines, RepairError> {
        let mut round = 0;
        loop {
            round += 1;
            let orphans = self.lines_by_bucket();
            let mut evidence = self.gather(session, &orphans, &mut progress)?;
            if evidence.denies_shift() {
                let what = "the shift of the hash bits in slots, which most of them deny";
                return Err(Corruption { what, offset: 160 }.into());
            }
            let restorations = self.decide(&mut evidence);
            report.restored.extend(restorations.iter().map(ToString::to_string));
            if options.dry_run {
                let wrong = self.wrong_namespaces().into_iter().map(|(_, wrong)| wrong.sentence);
                report.restored.extend(wrong);
                report.dropped = evidence.unsound;
                report.dropped_slots = evidence.sentences;
                return Ok(orphans);
            }
            for restoration in &restorations {
                self.restore(session, restoration)?;
            }
            let mended_before = report.directory;
            self.mend_directory(&evidence, report)?;
            let is_settled = restorations.is_empty() && report.directory == mended_before;
            if !is_settled && round < ROUNDS_MAX {
                continue;
            }
            let (slots, limit) = (evidence.unsound, options.max_loss);
            if slots > limit {
                return Err(RepairError::WouldLose { slots, limit, why: evidence.sentences });
            }
            return Ok(orphans);
        }
    }

    /// The counts of items that namespaces have.
    fn namespaced_counts(&self) -> [u64; 256] {
        let mut counts = [0; 256];
        for (number, record) in self.records() {
            counts[usize::from(number)] = record.items.load();
        }
        counts
    }

    /// Sets the counts of namespaces that nobody wrote to meanwhile.
    fn mend_namespaced_counts(&self, before: [u64; 256], census: &mut Census) {
        for (number, record) in self.records() {
            let (before, now) = (before[usize::from(number)], census.items[usize::from(number)]);
            // Where it changed meanwhile it is near, as always.
            if record.is_taken()
                && before != now
                && record.items.compare_exchange::<S>(before, now).is_ok()
            {
                census.report.namespaces += 1;
            }
        }
    }

    /// Whether the number of buckets can be: slots don't tell it.
    fn refuse_if_size_is_wrong(&self) -> Result<(), Corruption> {
        let buckets = self.segment.index_size().buckets();
        let entries = u64::from(self.segment.geometry.extents);
        let most = entries << self.segment.geometry.line_shift();
        if buckets < self.segment.filter.count() || buckets > most {
            let what = "the number of buckets in use, which no repair can tell";
            return Err(Corruption { what, offset: 512 });
        }
        Ok(())
    }

    /// Finds items in buckets behind the last one that no other has: then the number of buckets is too
    /// small, and a repair would only make sure that they are lost.
    fn refuse_if_buckets_are_missing(&self, session: &Session) -> Result<(), WriteError> {
        let segment = &self.segment;
        let shift = segment.geometry.line_shift();
        let start = segment.index_size().buckets();
        for bucket in start..u64::from(segment.geometry.extents) << shift {
            if segment.directory_entry(ExtentState::Buckets, bucket >> shift)?.load() == 0 {
                break;
            }
            if !self.holds_lost_items(bucket) {
                continue;
            }
            // Somebody may be splitting, or was and died.
            let _held = self.hold_damaged(session, segment.geometry.stripe_of(bucket))?;
            if bucket >= segment.index_size().buckets() && self.holds_lost_items(bucket) {
                let what = "the number of buckets in use: there are items behind them";
                return Err(Corruption { what, offset: 512 }.into());
            }
        }
        Ok(())
    }

    /// Whether a bucket behind the last one has an item that belongs there, and nowhere before.
    fn holds_lost_items(&self, bucket: u64) -> bool {
        let segment = &self.segment;
        let line = segment.bucket_line(bucket).and_then(|line| segment.line(line));
        let Ok(line) = line else { return false };
        let mask = u64::MAX >> bucket.leading_zeros();
        (0..LANES).map(|lane| line.slot(lane)).any(|slot| {
            slot.is_item()
                && self.head_at(slot).is_ok_and(|head| {
                    head.hash & mask == bucket
                        && slot.may_be(head.hash, segment.geometry.slot_hash_shift)
                        && !matches!(find_slot(segment, slot, head.hash), Ok(Some(_)))
                })
        })
    }
}
