//! Cistern: a key-value store in shared memory for the processes of one host.
//!
//! A [`Writer`] reads and writes, a [`Reader`] reads only: its mapping is `PROT_READ`, no method
//! of it writes, and read permission on the object is enough. A lookup makes no system call, takes
//! no lock and writes nothing.
//!
//! # An embedded cache
//! ```
//! use store_client::{CreateOptions, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Writer::private(&CreateOptions::new(16 << 20))?;
//! cache.put(b"session:4711", b"{\"user\":\"ada\"}")?;
//! assert_eq!(cache.get(b"session:4711")?.as_deref(), Some(&b"{\"user\":\"ada\"}"[..]));
//! assert_eq!(cache.get(b"session:4712")?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # One writes, others read
//! ```
//! use store_client::{CreateOptions, Reader, Spec, create, destroy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec: Spec = format!("posix:doc-{}", std::process::id()).parse()?;
//! let writer = create(&spec, &CreateOptions::new(16 << 20).permissions(0o644))?;
//! writer.put(b"EURUSD", b"1.0841")?;
//!
//! // In this or any other process of the host:
//! let reader = Reader::attach(&spec)?;
//! let mut price = [0; 32];
//! assert_eq!(reader.get_into(b"EURUSD", &mut price)?, Some(6));
//! assert_eq!(&price[..6], b"1.0841");
//! destroy(&spec)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! Both are off unless asked for.
//! - `serde`: `Reader::get_postcard` and `Writer::put_postcard`, for any type that serde knows.
//! - `zerocopy`: `Reader::get_zerocopy` and `Writer::put_zerocopy`, for types whose bytes are their
//!   value.

/// The README's example is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod cache;
mod leaks;
mod listing;
mod loads;
mod namespace;
mod permissions;
mod processes;
mod reader;
mod rewrite;
mod salvage;
mod sessions;
mod spec;
#[cfg(any(feature = "serde", feature = "zerocopy"))]
mod typed;
mod writer;

pub use cache::{Cache, CacheBuilder};
pub use leaks::{leaks, remove_leak};
pub use listing::{Listing, ListingState, list};
pub use permissions::{set_owner, set_permissions};
pub use reader::Reader;
pub use salvage::{Wreck, wreck};
pub use spec::{ParseSpecError, Spec};
#[cfg(any(feature = "serde", feature = "zerocopy"))]
pub use typed::TypedReadError;
#[cfg(feature = "serde")]
pub use typed::TypedWriteError;
pub use writer::{Pinned, Stored, Swapped, Writer, create, destroy, rename};

pub use store_core::{
    AttachError, Backing, Cause, CheckReport, ClientCounts, ClientInfo, ClientState, Corruption,
    CreateError, CreateOptions, Cursor, Entry, EvictionStats, ExtentInfo, ExtentUse, Fullness,
    Gone, GuardKind, HashKind, HeldGuard, HeldLease, Histograms, HugePages, Info, KeepError,
    LoadError, LoadOptions, Mode, NamespaceError, NamespaceInfo, NamespaceOptions, PinError,
    PutOptions, ReadError, Reaped, RepairError, RepairOptions, RepairReport, Salvaged, ScanPage,
    Sealing, SharedBytes, SizeClass, Stats, Survey, Trimmed, Ttl, Values, Version, WriteError,
    removed_when_detached,
};
