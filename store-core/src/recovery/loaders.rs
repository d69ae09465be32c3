//! Loader leases of dead clients: set free, since nothing was changed under them.

use super::liveness::is_dead;
use crate::error::Corruption;
use crate::layout::{LoaderLease, Segment};
use crate::region::Shim;
use crate::sync::{Owner, Turn};

/// Sets the leases of `dead` free; how many.
pub(crate) fn release<S: Shim>(segment: &Segment<S>, dead: Owner) -> Result<u32, Corruption> {
    let mut released = 0;
    for lease in 0..segment.geometry.loaders {
        released += u32::from(Turn::new(&segment.loader(lease)?.owner).free::<S>(dead));
    }
    Ok(released)
}

/// Sets a lease free if its owner is dead; whether it did. A few system calls if somebody has it.
pub(crate) fn free_if_dead<S: Shim>(segment: &Segment<S>, lease: &LoaderLease) -> bool {
    let turn = Turn::new(&lease.owner);
    turn.holder().is_some_and(|(_, owner)| is_dead(segment, owner) && turn.free::<S>(owner))
}
