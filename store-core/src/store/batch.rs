//! Puts of many keys at once: their cache misses overlap.

use super::read::BATCH;
use super::{Condition, Outcome, PutOptions, Session, Store};
use crate::error::WriteError;
use crate::index::lookup::{prefetch_bucket, prefetch_standing};
use crate::region::Shim;

impl<S: Shim> Store<S> {
    /// Puts each value under its key, one after the other, and says for each what came of it, in
    /// the order of the items. Not one step as a whole: others see some of the keys before the
    /// rest, and one that is refused does not keep the others from being put. Of a key that occurs
    /// twice the last value stays. Each put waits up to the guard's deadline.
    ///
    /// The cache misses on index and old items overlap within batches of 32.
    pub fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        session: &Session,
        items: &[(K, V)],
        options: &PutOptions,
    ) -> Vec<Result<Outcome, WriteError>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for batch in items.chunks(BATCH) {
            let mut hashes = [0; BATCH];
            for (hash, (key, _)) in hashes.iter_mut().zip(batch) {
                *hash = self.segment.hasher.hash(key.as_ref());
                prefetch_bucket(&self.segment, *hash);
            }
            for hash in &hashes[..batch.len()] {
                // The old item's header and key, which the search under the guard looks at.
                prefetch_standing(&self.segment, *hash);
            }
            for ((key, value), hash) in batch.iter().zip(hashes) {
                let (key, value) = (key.as_ref(), value.as_ref());
                outcomes.push(self.put_hashed(
                    session,
                    (key, hash),
                    value,
                    options,
                    Condition::Always,
                ));
            }
        }
        outcomes
    }
}
