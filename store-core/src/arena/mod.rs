//! The arena: a log in extents. Items are reserved, written and published by writers; space comes
//! back extent by extent, when the last live item of a sealed one is gone.
//!
//! Invariants. Live units are added at reservation, before anybody can reach the item, and
//! subtracted only after it was unpublished or abandoned: a crash leaves an over-count, never a
//! returned put in an extent that looks empty. The generation is bumped between the last use of
//! an extent and the first overwritten byte.

pub(crate) mod in_flight;
pub(crate) mod index_extent;
pub(crate) mod lease;
pub(crate) mod pieces;
pub(crate) mod pin;
mod place;
pub(crate) mod quota;
pub(crate) mod relocation;
pub(crate) mod reserve;
pub(crate) mod retire;
pub(crate) mod trim;
pub(crate) mod usage;

pub(crate) use in_flight::InFlight;
pub(crate) use lease::Lease;
pub(crate) use place::Place;

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// Nothing large enough is free.
    Full,
    /// There is room up to the maximum size, but the file system has none.
    Grow(std::io::Error),
    /// See [`crate::error::Corruption`].
    Corruption(crate::error::Corruption),
}

impl From<crate::error::Corruption> for NoRoom {
    fn from(error: crate::error::Corruption) -> Self {
        Self::Corruption(error)
    }
}
