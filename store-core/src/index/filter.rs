//! The filter word of a bucket, made of its items anew: what takes off the bits of those that are gone.

use super::search::chain;
use crate::error::Corruption;
use crate::layout::{Filter, Segment, Slot};
use crate::region::Shim;

/// Buckets of one word that are walked after a removal. Where the index has grown by more, bits stay: nearly
/// all of the word's are set by then.
const BUCKETS_WALKED: u64 = 4;

/// Sets the word of `bucket` to what its items ask for, unless that takes too long. Under the guard of its
/// stripe. What it rests on is checked elsewhere: where a chain makes no sense, bits stay.
///
/// Dies before the store: bits of an item that is gone, until the next removal.
pub(crate) fn renew<S: Shim>(segment: &Segment<S>, bucket: u64) {
    let buckets = segment.index_size().buckets();
    if buckets <= segment.filter.count() * BUCKETS_WALKED
        && let Ok(bits) = asked_for(segment, bucket)
    {
        segment.filter.set::<S>(bucket, bits);
    }
}

/// The bits of all items that have the word of `bucket`.
pub(crate) fn asked_for<S: Shim>(segment: &Segment<S>, bucket: u64) -> Result<u32, Corruption> {
    let first = bucket & (segment.filter.count() - 1);
    let mut bits = 0;
    for bucket in (first..segment.index_size().buckets()).step_by(segment.filter.count() as usize) {
        for line in chain(segment, bucket) {
            for cell in segment.line(line?)?.cells() {
                let slot = Slot(cell.load());
                if slot.is_item() {
                    bits |= Filter::bits_of_slot(slot);
                }
            }
        }
    }
    Ok(bits)
}
