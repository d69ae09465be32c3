//! Reclaiming items that have expired. They are misses at once; their bytes come back here, or
//! when their key is written again.

use std::sync::atomic::Ordering;

use super::{Session, Store};
use crate::error::{Corruption, WriteError};
use crate::index::search::chain;
use crate::layout::{LANES, Where, flags};
use crate::region::Shim;
use crate::sync::WaitLimit;

/// Buckets that a writer in need looks at before it says `Full`: well under a millisecond.
const BUCKETS_IN_NEED: u64 = 4096;

impl<S: Shim> Store<S> {
    /// Empties extents all of whose items have expired, 16 at most, and deletes the expired items of
    /// the next `buckets` buckets; how many. Each session goes round the index on its own. Takes a
    /// guard only where something has expired.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some items are deleted then.
    pub fn sweep(&self, session: &Session, buckets: u64) -> Result<u64, WriteError> {
        let mut swept = self.empty_what_is_over(session)?;
        let result = self.sweep_within(session, buckets, session.wait_limit(), &mut swept);
        self.tell_gone(session);
        result.map(|()| swept)
    }

    fn sweep_within(
        &self,
        session: &Session,
        buckets: u64,
        limit: WaitLimit,
        swept: &mut u64,
    ) -> Result<(), WriteError> {
        let all = self.segment.index_size().buckets().max(1);
        for _ in 0..buckets.min(all) {
            let bucket = session.sweep_position.fetch_add(1, Ordering::Relaxed) % all;
            if self.has_expired(bucket)? {
                *swept += self.sweep_bucket(session, bucket, limit)?;
            }
        }
        Ok(())
    }

    /// [`Store::sweep`] for a writer that found no room: waits for nobody, and what is in its way
    /// is not its answer.
    pub(super) fn sweep_in_need(&self, session: &Session) -> bool {
        let mut swept = 0;
        let _ = self.sweep_within(session, BUCKETS_IN_NEED, WaitLimit::Try, &mut swept);
        swept > 0
    }

    /// Whether some item of the bucket has expired. Without a guard, so no more than a hint.
    fn has_expired(&self, bucket: u64) -> Result<bool, Corruption> {
        Ok(self.next_expired(bucket).unwrap_or(None).is_some())
    }

    fn next_expired(
        &self,
        bucket: u64,
    ) -> Result<Option<crate::index::search::Standing>, Corruption> {
        for number in chain(&self.segment, bucket) {
            let number = number?;
            let line = self.segment.line(number)?;
            for lane in 0..LANES {
                let slot = line.slot(lane);
                if !self.segment.slot_stands(slot) {
                    continue;
                }
                let header = self.segment.header(slot.offset())?;
                if header.has(flags::EXPIRES) && self.is_expired(slot.offset(), header)? {
                    let at = Where { line: number, lane };
                    return Ok(Some(crate::index::search::Standing { at, slot, header }));
                }
            }
        }
        Ok(None)
    }

    fn sweep_bucket(
        &self,
        session: &Session,
        bucket: u64,
        limit: WaitLimit,
    ) -> Result<u64, WriteError> {
        let held = self.hold_within(session, bucket, limit)?;
        let mut swept = 0;
        while let Some(standing) = self.next_expired(bucket)? {
            self.remove_expired(&held, &standing)?;
            swept += 1;
        }
        Ok(swept)
    }
}
