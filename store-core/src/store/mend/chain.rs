//! The chain of a bucket: its links, and lines that say the bucket and are in no chain.

use super::slots::{Finding, sentence_of};
use super::stripe::Lines;
use super::{Census, RepairReport};
use crate::error::{Corruption, WriteError};
use crate::index::search::chain;
use crate::index::{CHAIN_LINES_MAX, change, overflow};
use crate::layout::{ExtentState, LANES, LINK_LANE, Slot, TagWord, Where};
use crate::region::Shim;
use crate::store::guarded::Held;
use crate::store::sound::Head;
use crate::store::{Session, Store};

impl<S: Shim> Store<S> {
    /// The overflow lines that somebody has, by bucket: one that is in no chain by that of its items.
    pub(super) fn lines_by_bucket(&self) -> Lines {
        let mut lines = Lines::new();
        for (line, owner) in overflow::lines(&self.segment).flatten() {
            let Some(owner) = owner.checked_sub(1) else { continue };
            let is_linked = chain(&self.segment, owner).any(|linked| linked.ok() == Some(line));
            let by_items = || if is_linked { None } else { self.bucket_of_items(line) };
            lines.entry(by_items().unwrap_or(owner)).or_default().push(line);
        }
        lines
    }

    /// The bucket that the items of a line belong to, as the first one says that its slot vouches for.
    fn bucket_of_items(&self, number: u64) -> Option<u64> {
        let segment = &self.segment;
        let line = segment.line(number).ok()?;
        (0..LANES).find_map(|lane| {
            let slot = line.slot(lane);
            let head = self.head_at(slot).ok().filter(|_| slot.is_item())?;
            let vouches = slot.may_be(head.hash, segment.geometry.slot_hash_shift);
            vouches.then(|| segment.index_size().bucket_of(head.hash))
        })
    }

    /// Walks a chain as far as its links make sense, and cuts it there. Gives its lines.
    pub(super) fn mend_links(
        &self,
        bucket: u64,
        report: &mut RepairReport,
    ) -> Result<Vec<u64>, Corruption> {
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
        let is_others = match self.bucket_of_items(next) {
            Some(its) => its != bucket,
            None => found != 0 && self.is_line_of(found - 1, next),
        };
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

    /// Puts back what is in an overflow line that says a bucket and is not in its chain, and frees it.
    ///
    /// Dies before the end: some items are in the chain as well, and the next repair goes on.
    pub(super) fn put_back_line(
        &self,
        held: &Held<'_, S>,
        bucket: u64,
        number: u64,
        census: &mut Census,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let is_linked = chain(segment, bucket).any(|line| line.ok() == Some(number));
        if is_linked || !self.is_given_to(bucket, number, &mut census.report)? {
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
                    let head = self.head_at(slot).ok();
                    let key = head.as_ref().map(|head| &head.key[..]);
                    let at = Where { line: number, lane };
                    census.report.note_dropped(sentence_of(at, slot, &why, key));
                }
            }
        }
        overflow::finish_unlink(segment, bucket, number)?;
        census.report.lines += 1;
        Ok(())
    }

    /// Whether a line that is in no chain says this bucket, or says it from now on because its items do.
    fn is_given_to(
        &self,
        bucket: u64,
        number: u64,
        report: &mut RepairReport,
    ) -> Result<bool, Corruption> {
        let owner = self.segment.line_owner(number)?;
        let found = owner.load();
        if found == bucket + 1 {
            return Ok(true);
        }
        let is_taken = found == 0
            || self.bucket_of_items(number) != Some(bucket)
            || self.is_line_of(found - 1, number)
            || owner.compare_exchange::<S>(found, bucket + 1).is_err();
        report.lines += u64::from(!is_taken);
        Ok(!is_taken)
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
}
