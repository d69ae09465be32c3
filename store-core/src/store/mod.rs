//! The whole: a mapped store, and the operations on it. This layer composes the others.

mod ahead;
mod attach;
mod batch;
mod check;
mod clean;
mod clean_mark;
mod counter;
mod create;
mod destroy;
mod evict;
mod eviction_stats;
mod expiry;
mod expiry_groups;
mod extents;
mod grow;
mod guard_set;
mod guarded;
mod histogram;
mod info;
mod large;
mod listener;
mod loader;
mod mend;
mod name;
mod namespace;
mod namespace_list;
mod orphans;
mod overwrite;
mod pace;
mod permissions;
mod pinned;
mod quoted;
mod read;
mod reader_heat;
mod remains;
mod rename;
mod rewrite;
mod room;
mod salvage;
mod scan;
mod server;
mod session;
mod sound;
mod sweep;
mod tally;
mod trim;
mod unnamed;
mod values;
mod victim;
mod walk;
mod write;

use std::sync::{Arc, OnceLock};

use crate::layout::Segment;
use crate::region::{Plain, Shim};
use reader_heat::ReaderHeat;

pub use attach::{Access, attach};
pub use check::CheckReport;
pub use create::{create, from_image, private, private_on_heap};
pub use destroy::destroy;
pub use eviction_stats::EvictionStats;
pub use expiry::Ttl;
pub use extents::{ExtentInfo, ExtentUse};
pub use histogram::{Histograms, SizeClass};
pub use info::{ClientInfo, ClientState, HeldGuard, HeldLease, Info, Stats};
pub use listener::{Cause, Gone};
pub use loader::LoadOptions;
pub use mend::{RepairOptions, RepairReport};
pub use name::ObjectName;
pub use namespace::NamespaceOptions;
pub use namespace_list::NamespaceInfo;
pub use orphans::{
    Registered, UnusedSemaphores, registered_elsewhere, registrations, remove_orphan,
    remove_unused_semaphores, unused_semaphores,
};
pub use permissions::{set_owner, set_permissions};
pub use pinned::Pinned;
pub use read::{Entry, Version};
pub use rename::rename;
pub use salvage::{Salvaged, Survey, Wreck};
pub use scan::{Cursor, ScanPage};
pub use session::Session;
pub use tally::{ClientCounts, Tally};
pub use trim::Trimmed;
pub use unnamed::{anonymous, memfd};
pub use values::Values;
pub use write::{Condition, Deletion, Outcome, PutOptions};

/// A mapped store. Reads need nothing else; writes need a [`Session`], which only a writable
/// mapping gives.
///
/// `S` is the shim that sees every store to shared memory; it is [`Plain`] everywhere but in tests.
#[derive(Debug)]
pub struct Store<S: Shim = Plain> {
    segment: Segment<S>,
    /// Its name, for people and errors.
    name: String,
    /// Added to the monotonic clock to get the segment's time. Copied once: it changes only with
    /// a reboot, which no mapping outlives.
    clock_offset_ms: u64,
    /// Where readers mark what they look up, once it was found.
    reader_heat: OnceLock<Arc<ReaderHeat>>,
    /// What is counted for its namespace.
    tally: Option<Arc<Tally>>,
}
