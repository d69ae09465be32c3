//! Counts of clients that are gone: they go from the client's entry to the superblock.

use crate::error::Corruption;
use crate::layout::Segment;
use crate::region::Shim;

/// Adds what is counted in an entry to the sums of those that are gone. Whoever takes a number off
/// the entry adds it, so of several that do this at once none adds twice.
///
/// Dies between the two: that number is lost.
pub(crate) fn bequeath<S: Shim>(segment: &Segment<S>, client: u32) -> Result<(), Corruption> {
    let from = segment.client(client)?.counters.cells();
    for (from, to) in from.into_iter().zip(segment.superblock().counts.cells()) {
        let mut found = from.load();
        while found != 0 {
            match from.compare_exchange::<S>(found, 0) {
                Ok(()) => {
                    to.fetch_add::<S>(found);
                    break;
                }
                Err(now) => found = now,
            }
        }
    }
    Ok(())
}
