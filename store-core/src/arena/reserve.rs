//! Reserving room for one item.

use super::lease::{Lease, Wanted};
use super::place::{Place, reserve_in};
use super::{NoRoom, run};
use crate::layout::Segment;
use crate::region::Shim;

/// Reserves `bytes` (a multiple of 8, at least 16) through `lease`. Outside of any guard.
pub(crate) fn reserve<S: Shim>(
    segment: &Segment<S>,
    lease: &Lease,
    bytes: u64,
) -> Result<Place, NoRoom> {
    if bytes > segment.geometry.extent_bytes() {
        return run::reserve(segment, lease, bytes);
    }
    let units = (bytes / 8) as u32;
    // Each turn that fails has found a better extent or ends in `Full`; threads of one client may
    // fill a new one before this one gets to it, so the number of turns is bounded, not fixed.
    for _ in 0..1000 {
        if let Some(extent) = lease.current()
            && let Some(place) = reserve_in(segment, extent, units)?
        {
            return Ok(place);
        }
        match lease.renew(segment, units)? {
            Wanted::Renewed => {}
            Wanted::Borrowed(place) => return Ok(place),
        }
    }
    Err(NoRoom::Full)
}
