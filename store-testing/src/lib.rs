//! What the tests of the core and the programs of `store-benches` share: plain maps that say what a
//! store must hold, tiny stores that reach the corners, and the states that a crash can leave.
//!
//! [`pair`] does operations to a store and to a plain map, [`cache`] and [`tenants`] the same for
//! stores that evict and for namespaces. [`trace`] logs each store to the segment that an operation
//! makes; [`crash`] walks a sequence of operations and looks at what each prefix of them leaves, by
//! the judgement of one of the three. [`races`] lets threads race.
//! [`exercise`] does everything to a store whose bytes may say anything, in a bounded time.

pub mod cache;
pub mod crash;
pub mod exercise;
mod judge;
pub mod pair;
pub mod races;
pub mod tenants;
pub mod trace;
