//! Cistern's core: a key-value store on the bytes of a shared memory segment.
//!
//! Everything that is done to those bytes is here: create, attach, look up, write, recover, check.
//! There is no server and no name service; programs use the crate `store-client`, which adds
//! names, handles and what a process needs across `fork`.
//!
//! # Goals
//! - A lookup makes no system call, takes no lock and writes nothing: read permission is enough.
//! - Whatever the bytes are, the answer is an error or a miss, never undefined behaviour, a panic
//!   or an endless loop.
//! - A process may be killed at any instruction; the next one repairs what it left and goes on.
//!
//! # Non-goals
//! - Protection against who may write the segment: whoever has write permission is trusted with
//!   the data.
//! - More than one host.
//!
//! # Layers
//! A module imports only from those before it: `error`, `config`, `hash` · `sys` · `region` ·
//! `sync` · `layout` · `index`, `arena` · `recovery` · `store`. `docs/DESIGN.md` has the
//! invariants, `docs/FORMAT.md` the bytes.
//!
//! ```
//! use store_core::{Condition, CreateOptions, Outcome, Plain, PutOptions, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store: Store<Plain> = store_core::private(&CreateOptions::new(4 << 20))?;
//! let session = store.open_session()?;
//! let put = store.put(&session, b"city", b"Basel", &PutOptions::new(), Condition::Always)?;
//! assert_eq!(put, Outcome::Inserted);
//! assert_eq!(store.get(b"city")?.as_deref(), Some(&b"Basel"[..]));
//! store.close_session(&session)?;
//! # Ok(())
//! # }
//! ```

#[cfg(not(target_endian = "little"))]
compile_error!("the format is little-endian, and so must the machine be");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("segments are mapped whole, which takes 64-bit addresses");

mod arena;
mod config;
mod error;
mod hash;
mod index;
mod layout;
mod recovery;
mod region;
mod store;
mod sync;
mod sys;

pub use config::{CreateOptions, GuardKind, HashKind, HugePages, Mode};
pub use error::{
    AttachError, Corruption, CreateError, Fullness, KeepError, LoadError, NamespaceError, PinError,
    ReadError, RepairError, WriteError,
};
pub use recovery::Reaped;
pub use region::{Mutation, Plain, SharedBytes, Shim};
pub use store::{
    Access, Cause, CheckReport, ClientCounts, ClientInfo, ClientState, Condition, Cursor, Deletion,
    Entry, EvictionStats, ExtentInfo, ExtentUse, Gone, HeldGuard, HeldLease, Histograms, Info,
    LoadOptions, NamespaceInfo, NamespaceOptions, ObjectName, Outcome, Pinned, PutOptions,
    Registered, RepairOptions, RepairReport, Salvaged, ScanPage, Session, SizeClass, Stats, Store,
    Survey, Tally, Trimmed, Ttl, UnusedSemaphores, Values, Version, Wreck, anonymous, attach,
    create, destroy, from_image, memfd, private, private_on_heap, registered_elsewhere,
    registrations, remove_orphan, remove_unused_semaphores, rename, set_owner, set_permissions,
    unused_semaphores,
};
pub use sys::holder::Backing;
pub use sys::object::{MEMFD_NAME, POSIX_DIRECTORY, POSIX_PREFIX, Sealing};
#[cfg(interleave)]
pub use sys::step::{Step, at_each_step};
pub use sys::sysv::{ListedSegment, list as list_segments, removed_when_detached};
