//! What the bytes of a segment mean: one file for each kind of record, and [`Segment`], which
//! finds them. `docs/FORMAT.md` is the same in prose; a test holds the two together.

mod cleaner;
mod client;
mod counts;
mod extent;
mod filter;
#[cfg(test)]
mod format_doc;
mod geometry;
mod ghost;
mod heat;
mod item;
mod line;
mod loader;
mod namespace;
mod plan;
mod redo;
mod segment;
mod slot;
mod stripe;
mod superblock;

pub(crate) use cleaner::{CLEANERS_MAX, Cleaner, Victim};
pub(crate) use client::{
    ClientEntry, ClientState, ClientWord, IN_FLIGHT_WORDS, InFlightWord, PINS_MAX, PinWord,
};
pub(crate) use counts::{COUNTS, Counts};
pub(crate) use extent::{ExtentEntry, ExtentState, ExtentWord, Queue, Shelf, Stream};
pub(crate) use filter::Filter;
pub(crate) use geometry::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, Geometry, WHOLE_VALUE_BYTES};
pub(crate) use heat::{HEAT_PERMISSIONS, Heat};
pub(crate) use item::{
    Header, KEY_BYTES_MAX, LargeWord, PIECE_HEAD_BYTES, Stamp, flags, item_checksum,
};
pub(crate) use line::{LANES, LINK_LANE, Line, TagWord};
pub(crate) use loader::{LOADER_WINDOW, LoaderLease};
pub(crate) use namespace::{
    NAMESPACE_NAME_BYTES, NamespaceRecord, NamespaceState, NamespaceWord, Share,
};
pub(crate) use plan::Plan;
pub(crate) use redo::{REDO_WORDS, RedoRecord};
pub(crate) use segment::{Segment, Where, namespace_id};
pub(crate) use slot::Slot;
pub(crate) use stripe::{Intent, IntentKind, Stripe};
pub(crate) use superblock::{
    CLEAN, CLEAN_WRITER, FEATURE_CHECKSUMS, FEATURE_HUGE_PAGES, FEATURE_OTHER_GUARD,
    FEATURE_OTHER_HASH, FEATURE_OTHER_MODE, FEATURE_POOL, FEATURES_KNOWN, FEATURES_TO_WRITE_KNOWN,
    FORMAT_VERSION, FORMAT_WORD, GUARD_FUTEX, GUARD_SYSTEM_V, GuardSetWord, IndexSize, MODE_CACHE,
    MODE_STORE, STATE_LIVE, STATE_RETIRED, SUPERBLOCK_BYTES, ServerWord, Superblock,
    format_version_of,
};

/// Asserts at compile time where a field of a shared record stands.
macro_rules! assert_offsets {
    ($record:ty, $bytes:expr, { $($field:ident: $offset:expr),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$record>() == $bytes);
            $(assert!(core::mem::offset_of!($record, $field) == $offset);)+
        };
    };
}
pub(crate) use assert_offsets;
