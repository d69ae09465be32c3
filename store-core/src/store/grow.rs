//! Growth of the index, paid for by the writes that need it: each one that finds the index fuller
//! than it should be splits a few buckets, outside of any guard of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Session, Store};
use crate::arena::index_extent;
use crate::error::{Corruption, WriteError};
use crate::index::overflow;
use crate::index::split::{Splitting, split};
use crate::layout::{ExtentState, IndexSize};
use crate::region::Shim;
use crate::sync::WaitLimit;

/// Buckets that one write splits at most. In a large store nothing of a split is in cache: it takes
/// some microseconds, for the keys of its items are read.
const SPLITS_MAX: u32 = 4;
/// How often it is tried to add overflow lines for one write; others may be faster.
const LINES_ROUNDS: u32 = 4;
/// The mean number of items in a bucket of 7 lanes above which the index grows, in tenths. With
/// more, chains get long while a doubling is half done; with less, memory is wasted: at 70 an item
/// takes about 15 bytes of index. Whoever wants speed rather than memory lays the index out at
/// creation, for 4.6 at most.
pub(super) const LOAD_TENTHS: u64 = 70;

/// What a session has noticed about the index. Hints: any value will do.
#[derive(Debug)]
pub(super) struct Growth {
    /// It may hold more items than it should. True at first: there are clients that write once.
    pub(super) due: AtomicBool,
    /// Overflow lines get short.
    pub(super) crowded: AtomicBool,
}

impl Growth {
    pub(super) fn new() -> Self {
        Self { due: AtomicBool::new(true), crowded: AtomicBool::new(false) }
    }
}

impl<S: Shim> Store<S> {
    /// Lets the index grow if this session noticed that it should. Two loads if not. What keeps it
    /// from growing is no error of a write: chains get longer, and the next one tries again.
    #[inline]
    pub(super) fn grow_if_due(&self, session: &Session) {
        let growth = &session.growth;
        if growth.crowded.load(Ordering::Relaxed) {
            growth.crowded.store(false, Ordering::Relaxed);
            let _ = self.add_overflow_lines(session);
        }
        if growth.due.load(Ordering::Relaxed) {
            growth.due.store(false, Ordering::Relaxed);
            let _ = self.grow(session);
        }
    }

    /// Does `publish`, again if there was no overflow line and some can be had.
    #[inline(always)]
    pub(super) fn with_lines<T>(
        &self,
        session: &Session,
        mut publish: impl FnMut() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        match publish() {
            Err(full @ WriteError::IndexFull { .. }) => {
                self.with_more_lines(session, full, publish)
            }
            other => other,
        }
    }

    /// [`Store::with_lines`] after one that found none, and was refused as `full`.
    #[cold]
    fn with_more_lines<T>(
        &self,
        session: &Session,
        mut full: WriteError,
        mut publish: impl FnMut() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        for _ in 0..LINES_ROUNDS {
            let crowded = session.growth.crowded.swap(false, Ordering::Relaxed);
            if !crowded || !self.add_overflow_lines(session)? {
                break;
            }
            match publish() {
                Err(again @ WriteError::IndexFull { .. }) => full = again,
                other => return other,
            }
        }
        Err(full)
    }

    #[cold]
    fn grow(&self, session: &Session) -> Result<(), WriteError> {
        let mut scratch = Vec::new();
        for _ in 0..SPLITS_MAX {
            let size = self.segment.index_size();
            if !self.is_too_full(size) {
                return Ok(());
            }
            let (old, new) = size.next_split();
            let extent = new >> self.segment.geometry.line_shift();
            if !self.index_extent(session, ExtentState::Buckets, extent)? {
                return Ok(());
            }
            // Whoever has it may be splitting.
            let Ok(held) = self.hold_within(session, old, WaitLimit::Try) else { return Ok(()) };
            if self.segment.index_size().next_split() != (old, new) {
                continue;
            }
            match split(&self.segment, held.record, (old, new), &mut scratch)? {
                Splitting::Done => {}
                Splitting::NoLine => {
                    session.growth.crowded.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
            drop(held);
            if new.is_multiple_of(u64::from(self.segment.geometry.stripes)) {
                self.count_anew();
            }
        }
        // The next write goes on.
        session.growth.due.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there are more items than the buckets should have.
    fn is_too_full(&self, size: IndexSize) -> bool {
        let near = self.segment.superblock().items_near.load();
        let items = near.saturating_add(self.not_added());
        items.saturating_mul(10) > size.buckets().saturating_mul(LOAD_TENTHS)
    }

    /// Mends what crashes left of the near count.
    pub(super) fn count_anew(&self) {
        let near = self.len().saturating_sub(self.not_added());
        self.segment.superblock().items_near.store::<S>(near);
    }

    /// What stripes have counted and not added to the near count yet, on average.
    fn not_added(&self) -> u64 {
        let geometry = &self.segment.geometry;
        u64::from(geometry.stripes) * (geometry.counted_step() - 1) / 2
    }

    /// Takes an extent for overflow lines, cleaned first if it must be; whether there is one.
    #[cold]
    fn add_overflow_lines(&self, session: &Session) -> Result<bool, WriteError> {
        // Others may take what was cleaned.
        for _ in 0..LINES_ROUNDS {
            let number = overflow::extents_of_lines(&self.segment);
            if self.index_extent(session, ExtentState::Overflow, number)? {
                return Ok(true);
            }
            if !self.until_unstuck(session, || self.clean_in_need(session, 0, false))? {
                break;
            }
        }
        Ok(false)
    }

    fn index_extent(
        &self,
        session: &Session,
        state: ExtentState,
        number: u64,
    ) -> Result<bool, Corruption> {
        match index_extent::take(&self.segment, session.owner(), state, number) {
            Ok(taken) => Ok(taken),
            Err(crate::arena::NoRoom::Corruption(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}
