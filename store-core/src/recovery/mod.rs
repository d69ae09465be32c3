//! Crashes are ordinary: the next one to need a dead client's guard repairs what it left; whoever
//! reaps the client releases everything else that names it.
//!
//! The slot word is the only truth. Each step of a repair can be redone, so a repairer that dies
//! is followed like any other dead holder.

mod counts;
mod liveness;
mod loaders;
mod reap;
mod redo;
mod repair;

pub(crate) use counts::bequeath;
pub(crate) use liveness::{is_dead, state_of, state_of_entry};
pub(crate) use loaders::free_if_dead;
pub use reap::Reaped;
pub(crate) use reap::{reap, release};
pub(crate) use redo::redo;
pub(crate) use repair::repair_stripe;
