//! The filter word of a bucket, made of its items anew: what takes off the bits of those that are gone.

use super::search::chain;
use crate::error::Corruption;
use crate::layout::{Filter, Segment, Slot};
use crate::region::Shim;

/// Sets the word of `bucket` to what its items ask for, if the filter serves at all. Under the guard of its
/// stripe. What it rests on is checked elsewhere: where a chain makes no sense, bits stay.
///
/// Dies before the store: bits of an item that is gone, until the next removal.
pub(crate) fn renew<S: Shim>(segment: &Segment<S>, bucket: u64) {
    let filter = &segment.filter;
    if filter.serves(segment.index_size().buckets())
        && let Ok(bits) = asked_for(segment, bucket, filter.load(bucket))
    {
        filter.set::<S>(bucket, bits);
    }
}

/// The bits of all items that have the word of `bucket`; fewer if these have all of `enough`.
///
/// # Errors
/// `Corruption` where a chain makes no sense, or there are fewer buckets than there were at first.
pub(crate) fn asked_for<S: Shim>(
    segment: &Segment<S>,
    bucket: u64,
    enough: u32,
) -> Result<u32, Corruption> {
    let (words, buckets) = (segment.filter.count(), segment.index_size().buckets());
    if buckets < words {
        return Err(Corruption { what: "the number of buckets in use", offset: 512 });
    }
    let mut bits = 0;
    for bucket in (bucket & (words - 1)..buckets).step_by(words as usize) {
        for line in chain(segment, bucket) {
            for cell in segment.line(line?)?.cells() {
                let slot = Slot(cell.load());
                if slot.is_item() {
                    bits |= Filter::bits_of_slot(slot);
                }
            }
            if bits & enough == enough {
                return Ok(bits);
            }
        }
    }
    Ok(bits)
}
