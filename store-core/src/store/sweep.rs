//! Reclaiming items that have expired. They are misses at once; their bytes come back here, or
//! when their key is written again.

use std::sync::atomic::Ordering;

use super::{Session, Store};
use crate::error::{Corruption, WriteError};
use crate::index::search::chain;
use crate::layout::{LANES, Where, flags};
use crate::region::Shim;

/// Buckets that a writer in need looks at before it says `Full`: well under a millisecond.
const BUCKETS_IN_NEED: u64 = 4096;

impl<S: Shim> Store<S> {
    /// Deletes the expired items of the next `buckets` buckets; how many. Each session goes round
    /// the index on its own. Takes a guard only where something has expired.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some items are deleted then.
    pub fn sweep(&self, session: &Session, buckets: u64) -> Result<u64, WriteError> {
        let all = self.segment.index_size().buckets().min(self.segment.geometry.buckets);
        let mut swept = 0;
        for _ in 0..buckets.min(all) {
            let bucket = session.sweep_position.fetch_add(1, Ordering::Relaxed) % all;
            if self.has_expired(bucket)? {
                swept += self.sweep_bucket(session, bucket)?;
            }
        }
        Ok(swept)
    }

    /// [`Store::sweep`] for a writer that found no room.
    pub(super) fn sweep_in_need(&self, session: &Session) -> Result<bool, WriteError> {
        Ok(self.sweep(session, BUCKETS_IN_NEED)? > 0)
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
                if !slot.is_item() {
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

    fn sweep_bucket(&self, session: &Session, bucket: u64) -> Result<u64, WriteError> {
        let held = self.hold(session, bucket)?;
        let mut swept = 0;
        while let Some(standing) = self.next_expired(bucket)? {
            self.remove(&held, &standing)?;
            swept += 1;
        }
        Ok(swept)
    }
}
