//! Reserving room for one item.

use std::ops::Deref;

use super::lease::{Lease, Wanted};
use super::place::{Place, reserve_in};
use super::{InFlight, NoRoom};
use crate::layout::{ExtentState, Segment, Shelf};
use crate::region::Shim;

/// A place, with the note that it is in flight: dropped after it was published or abandoned.
#[derive(Debug)]
pub(crate) struct Reserved<'a, S: Shim> {
    place: Place,
    in_flight: InFlight<'a, S>,
}

impl<'a, S: Shim> Reserved<'a, S> {
    pub(crate) fn new(place: Place, in_flight: InFlight<'a, S>) -> Self {
        Self { place, in_flight }
    }

    /// Says that it is a large item whose pieces are reserved from now on: its header is written,
    /// and its list is empty.
    pub(crate) fn name_pieces(&self) {
        self.in_flight.name_large(self.place.offset);
    }
}

impl<S: Shim> Deref for Reserved<'_, S> {
    type Target = Place;

    #[inline]
    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Where a reservation may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In an extent of one's own, or one that nobody owns.
    Own,
    /// There too, and in one that another client has open for such items.
    Alike,
    /// In any extent that has the room.
    Any,
    /// There too, and out of what is kept for cleaners, but for one extent: nothing more can be
    /// gained otherwise.
    Last,
}

/// Reserves `bytes` (a multiple of 8, at least 16) through `lease`, in an extent of `shelf`.
pub(crate) fn reserve<'a, S: Shim>(
    segment: &'a Segment<S>,
    lease: &Lease,
    (bytes, shelf): (u64, Shelf),
    reach: Reach,
) -> Result<Reserved<'a, S>, NoRoom> {
    let in_flight = InFlight::begin(segment, lease.owner())?;
    if bytes > segment.geometry.extent_bytes() {
        return Err(NoRoom::Full);
    }
    let units = (bytes / 8) as u32;
    // Each turn that fails has found a better extent or ends in `Full`; threads of one client may
    // fill a new one before this one gets to it, so the number of turns is bounded, not fixed.
    for _ in 0..1000 {
        if let Some(extent) = lease.current(shelf)
            && let Some(place) = reserve_in(segment, &in_flight, extent, ExtentState::Open, units)?
        {
            return Ok(Reserved::new(place, in_flight));
        }
        match lease.renew(segment, &in_flight, (units, shelf), reach)? {
            Wanted::Renewed => {}
            Wanted::Borrowed(place) => return Ok(Reserved::new(place, in_flight)),
        }
    }
    Err(NoRoom::Full)
}
