//! The hash table: buckets of one line each, overflow lines behind them.
//!
//! Readers use [`lookup`] and [`prefetch`] alone; writers, who hold the stripe's guard, find
//! places with [`search`] and change them with [`change`], [`overflow`] and [`filter`]. The index knows no
//! extents but by the generation that a reader validates.

pub(crate) mod change;
pub(crate) mod cursor;
pub(crate) mod filter;
pub(crate) mod lookup;
pub(crate) mod overflow;
pub(crate) mod search;
pub(crate) mod split;

/// The most lines of a chain, its bucket included: a bound for every walk, and with hostile keys
/// the end of what one bucket takes (199 items).
pub(crate) const CHAIN_LINES_MAX: usize = 33;
