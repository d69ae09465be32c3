//! Threads that race, and what they see that must not be: over a store with a shim of the caller's, which
//! may leave out a rule.

pub mod chains;
pub mod loads;
pub mod pins;
pub mod readers;
