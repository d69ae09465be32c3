//! The words of extents: those of the index and its directory tell each other, those of items follow
//! from what slots lead to.

use super::RepairReport;
use super::evidence::Evidence;
use crate::arena::{in_flight, lease};
use crate::error::{Corruption, WriteError};
use crate::layout::{ExtentState, ExtentWord};
use crate::recovery::is_dead;
use crate::region::Shim;
use crate::store::check::ExtentSeen;
use crate::store::{Session, Store};

/// How often extents are counted anew that somebody writes to meanwhile.
const RECOUNTS_MAX: u32 = 3;

impl<S: Shim> Store<S> {
    /// Makes the directory of the index and the words of its extents agree: each extent that the index
    /// has in use is told by one of the two at least.
    ///
    /// Dies anywhere: the same, or one less that differs.
    pub(super) fn mend_directory(
        &self,
        evidence: &Evidence,
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let of_buckets =
            segment.index_size().buckets().div_ceil(1 << segment.geometry.line_shift());
        for number in 0..of_buckets {
            if !self.mend_entry(ExtentState::Buckets, number, evidence, report)? {
                let what = "an extent of buckets is lost";
                return Err(Corruption { what, offset: number });
            }
        }
        let mut number = 0;
        while number < segment.geometry.extents.into()
            && self.mend_entry(ExtentState::Overflow, number, evidence, report)?
        {
            number += 1;
        }
        let extents_of_lines = &segment.superblock().overflow_extents;
        let found = extents_of_lines.load();
        // One too few is what a crash may leave.
        if found != number && extents_of_lines.compare_exchange::<S>(found, number).is_ok() {
            report.directory += u64::from(found != number.wrapping_sub(1));
        }
        for extent in 0..segment.geometry.extents {
            let word = segment.extent_word(extent)?;
            let of_index = matches!(word.state, ExtentState::Buckets | ExtentState::Overflow);
            // With an owner somebody is about to enter it, unless there are items in it.
            let is_entered =
                word.owner.is_some() && !evidence.extents[extent as usize].holds_items();
            // Without a generation it waits until no slot leads there.
            let has_generation = segment.generation(extent)?.load() != 0;
            if of_index && has_generation && !is_entered && !self.is_listed(extent, word) {
                self.fill_from(extent, word, report)?;
            }
        }
        Ok(())
    }

    fn is_listed(&self, extent: u32, word: ExtentWord) -> bool {
        if !matches!(word.state, ExtentState::Buckets | ExtentState::Overflow) {
            return false;
        }
        let entry = self.segment.directory_entry(word.state, word.index_number());
        entry.is_ok_and(|entry| entry.load() == self.segment.first_line(extent))
    }

    /// Makes an entry of the directory lead to the extent that says it is that one, or the extent that it
    /// leads to say so; `false` if there is neither, or there are items in it.
    fn mend_entry(
        &self,
        state: ExtentState,
        number: u64,
        evidence: &Evidence,
        report: &mut RepairReport,
    ) -> Result<bool, Corruption> {
        let segment = &self.segment;
        let entry = segment.directory_entry(state, number)?;
        let found = entry.load();
        let leads_to = segment
            .geometry
            .extent_of(segment.line_offset(found))
            .filter(|extent| segment.first_line(*extent) == found);
        let holds_items = |extent: u32| evidence.extents[extent as usize].holds_items();
        let says_so = |extent: u32| {
            !holds_items(extent)
                && segment.extent_word(extent).is_ok_and(|word| {
                    word.state == state && word.index_number() == number && word.owner.is_none()
                })
        };
        if let Some(extent) = leads_to
            && segment.extent_word(extent)?.state == state
            && segment.extent_word(extent)?.index_number() == number
        {
            return self.give_generation(extent, report);
        }
        if let Some(extent) = (0..segment.geometry.extents).find(|extent| says_so(*extent)) {
            if entry.compare_exchange::<S>(found, segment.first_line(extent)).is_ok() {
                report.directory += 1;
            }
            return self.give_generation(extent, report);
        }
        let Some(extent) = leads_to else { return Ok(false) };
        if holds_items(extent) {
            // A stray entry. Where a bucket is lost, the repair ends here.
            if state == ExtentState::Overflow && entry.compare_exchange::<S>(found, 0).is_ok() {
                report.directory += 1;
            }
            return Ok(false);
        }
        let cell = &segment.extent(extent)?.word;
        let word = cell.load();
        if self.is_listed(extent, ExtentWord::of(word)) {
            // It is another one's.
            return Ok(false);
        }
        let right = ExtentWord::of_index(state, number, None);
        if cell.compare_exchange::<S>(word, right.word()).is_ok() {
            report.directory += 1;
        }
        self.give_generation(extent, report)
    }

    /// Gives an extent of the index a generation if its own was lost: without one nobody looks at it.
    fn give_generation(&self, extent: u32, report: &mut RepairReport) -> Result<bool, Corruption> {
        let segment = &self.segment;
        let cell = segment.generation(extent)?;
        if cell.load() != 0 {
            return Ok(true);
        }
        let offset = segment.geometry.extent_offset(extent);
        let what = "an extent of the index for which there is no memory";
        let lost = Corruption { what, offset: extent.into() };
        segment.region.commission(offset, segment.geometry.extent_bytes()).map_err(|_| lost)?;
        if cell.compare_exchange::<S>(0, 1).is_ok() {
            report.directory += 1;
        }
        Ok(true)
    }

    /// Words that make no sense by themselves, of the extents that have a generation, or of those that
    /// have none: these become free, so no slot may lead there any more.
    pub(super) fn mend_extent_words(
        &self,
        has_generation: bool,
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        for extent in 0..segment.geometry.extents {
            if (segment.generation(extent)?.load() != 0) != has_generation {
                continue;
            }
            let word = segment.extent_word(extent)?;
            let makes_sense = match word.state {
                ExtentState::Free => segment.extent(extent)?.word.load() == 0,
                ExtentState::Claimed => word.owner.is_some(),
                ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation => {
                    word.used <= segment.geometry.extent_units()
                        && word.live <= word.used
                        && has_generation
                }
                ExtentState::Pinned => has_generation,
                ExtentState::Buckets | ExtentState::Overflow => {
                    has_generation || word.owner.is_some() || self.is_listed(extent, word)
                }
                ExtentState::Unknown => false,
            };
            if !makes_sense {
                self.fill_from(extent, word, report)?;
            }
        }
        Ok(())
    }

    /// Says of an extent, in which something lies against its word, that it takes no more items and
    /// that all of it may live; it is counted anew. `false` if it is the index's. Under the guard of a slot
    /// that leads there: so nobody is preparing it, whatever its word says.
    pub(super) fn fill_extent(
        &self,
        extent: u32,
        report: &mut RepairReport,
    ) -> Result<bool, Corruption> {
        let word = self.segment.extent_word(extent)?;
        if self.is_listed(extent, word) {
            return Ok(false);
        }
        self.fill_from(extent, word, report)?;
        Ok(true)
    }

    /// The word of an extent that takes no more items and of which all may live.
    pub(super) fn full_word(&self) -> ExtentWord {
        let all = self.segment.geometry.extent_units();
        let state = ExtentState::Sealed;
        ExtentWord { state, owner: None, suspect: true, live: all, used: all }
    }

    /// Dies before: as it was. After: too much counts as live. Without a generation the extent is free, so
    /// no slot may lead there.
    fn fill_from(
        &self,
        extent: u32,
        from: ExtentWord,
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let segment = &self.segment;
        let cell = &segment.extent(extent)?.word;
        let found = cell.load();
        if ExtentWord::of(found) != from {
            // Somebody else was faster.
            return Ok(());
        }
        let has_generation = segment.generation(extent)?.load() != 0;
        let next = if has_generation { self.full_word() } else { ExtentWord::FREE };
        if cell.compare_exchange::<S>(found, next.word()).is_ok() {
            report.extents += 1;
        }
        Ok(())
    }

    /// Compares what extents count with the units of their items. One that counts too little takes no more
    /// items, and all that is used of it counts; it is suspect, and so is one that counts too much and
    /// that nobody wrote to meanwhile. Where somebody did, it may be suspect for nothing.
    pub(super) fn doubt_counts(
        &self,
        before: &[ExtentSeen],
        units: &[u64],
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        for (extent, (before, units)) in (0..).zip(before.iter().zip(units)) {
            // One that was emptied and filled anew meanwhile may have the same word.
            if !self.is_as_before(extent, before)? {
                continue;
            }
            let before = &before.word;
            let cell = &self.segment.extent(extent)?.word;
            let mut found = cell.load_acquire();
            loop {
                let word = ExtentWord::of(found);
                let live = u64::from(word.live);
                let next = match word.state {
                    ExtentState::Open | ExtentState::Sealed | ExtentState::Relocation
                        if *units > live =>
                    {
                        let state = ExtentState::Sealed;
                        ExtentWord { state, owner: None, suspect: true, live: word.used, ..word }
                    }
                    ExtentState::Open | ExtentState::Sealed
                        if *units < live && found == *before && word.owner.is_none() =>
                    {
                        ExtentWord { suspect: true, ..word }
                    }
                    _ => break,
                };
                if next == word {
                    break;
                }
                match cell.compare_exchange::<S>(found, next.word()) {
                    Ok(()) => {
                        // A delete since they were counted is no damage.
                        report.extents += u64::from(*units > live && found == *before);
                        break;
                    }
                    Err(now) => found = now,
                }
            }
        }
        Ok(())
    }

    /// Counts what lives in suspect extents, by a walk under every guard. As in cleaning, nothing will be
    /// published in one that is sealed and that no living client names; and as long as its word stands,
    /// nothing was retired. `progress` is told stripes.
    pub(super) fn recount(
        &self,
        session: &Session,
        before: &[ExtentSeen],
        report: &mut RepairReport,
        mut progress: impl FnMut(u64),
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let mut suspects = 0;
        for _ in 0..RECOUNTS_MAX {
            let words = self.sealed_suspects()?;
            suspects = words.len();
            if suspects == 0 {
                break;
            }
            let mut units = vec![0; segment.geometry.extents as usize];
            for stripe in 0..segment.geometry.stripes {
                self.count_units(session, stripe, &mut units)?;
                progress(u64::from(stripe) + 1);
            }
            for (extent, found) in words {
                let word = ExtentWord::of(found);
                let live = units[extent as usize] as u32;
                if live > word.used {
                    continue;
                }
                let right = lease::sealed(ExtentWord { live, suspect: false, ..word });
                let cell = &segment.extent(extent)?.word;
                if cell.compare_exchange::<S>(found, right.word()).is_ok() {
                    suspects -= 1;
                    let before = &before[extent as usize];
                    if self.is_as_before(extent, before)? {
                        report.recounted += 1;
                        let counted = ExtentWord::of(before.word).live;
                        report.recounted_bytes += 8 * u64::from(counted.abs_diff(live));
                    }
                }
            }
            if suspects == 0 {
                break;
            }
        }
        report.suspects = suspects as u64;
        Ok(())
    }

    /// Whether an extent has not been filled anew.
    fn is_as_before(&self, extent: u32, before: &ExtentSeen) -> Result<bool, Corruption> {
        Ok(self.segment.generation(extent)?.load() == before.generation)
    }

    /// Seals the suspect extents that can be, and gives those in which nothing will be published, each
    /// with its word.
    fn sealed_suspects(&self) -> Result<Vec<(u32, u64)>, Corruption> {
        let segment = &self.segment;
        let mut suspects = Vec::new();
        for extent in 0..segment.geometry.extents {
            let cell = &segment.extent(extent)?.word;
            let found = cell.load_acquire();
            let word = ExtentWord::of(found);
            let is_sealed = match word.state {
                ExtentState::Sealed => word.suspect,
                ExtentState::Open => {
                    let next = lease::sealed(word).word();
                    word.suspect
                        && word.owner.is_none()
                        && cell.compare_exchange::<S>(found, next).is_ok()
                }
                _ => false,
            };
            if is_sealed && !in_flight::may_publish(segment, extent, |o| is_dead(segment, o))? {
                // Read before the walk, and after the look at who publishes.
                let now = cell.load_acquire();
                let state = ExtentWord::of(now).state;
                if state == ExtentState::Sealed {
                    suspects.push((extent, now));
                }
            }
        }
        Ok(suspects)
    }
}
