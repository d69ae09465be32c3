//! The first 4096 bytes: what the segment is, where everything is, and its few global words.
//!
//! Bytes 0..512 are written once by the creator, the format word last. The rest are words that
//! change, each on a line of its own.

use super::assert_offsets;
use super::cleaner::{CLEANERS_MAX, Cleaner};
use super::counts::Counts;
use crate::region::{Cell64, Shared};

/// Bytes of the superblock.
pub(crate) const SUPERBLOCK_BYTES: u64 = 4096;

/// Version of the format, the last byte of the format word.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// `CISTERN` and the version. Stored last, so a whole segment is known by it.
pub(crate) const FORMAT_WORD: u64 =
    u64::from_le_bytes([b'C', b'I', b'S', b'T', b'E', b'R', b'N', FORMAT_VERSION as u8]);

/// Items carry a checksum word.
pub(crate) const FEATURE_CHECKSUMS: u64 = 1;

/// `hash_kind` is not 1, so that programs which know no other refuse the segment by its features.
pub(crate) const FEATURE_OTHER_HASH: u64 = 2;

/// `guard_kind` is not 1; in `features_to_write`, since readers take no guard.
pub(crate) const FEATURE_OTHER_GUARD: u64 = 1;

/// `mode` is not 1; in `features_to_write`, since readers need not know what makes room.
pub(crate) const FEATURE_OTHER_MODE: u64 = 2;

/// Whoever commissions asks for huge pages; in `features_optional`, since nobody needs to.
pub(crate) const FEATURE_HUGE_PAGES: u64 = 1;

/// All memory is of the pool of huge pages; in `features_optional`, since it tells what was asked for.
pub(crate) const FEATURE_POOL: u64 = 2;

/// The features to write that this version knows.
pub(crate) const FEATURES_TO_WRITE_KNOWN: u64 = FEATURE_OTHER_GUARD | FEATURE_OTHER_MODE;

/// A put that does not fit is refused.
pub(crate) const MODE_STORE: u64 = 1;
/// Eviction makes room for a put that does not fit.
pub(crate) const MODE_CACHE: u64 = 2;

/// The guards are futex words that name their owner.
pub(crate) const GUARD_FUTEX: u64 = 1;
/// The guards are System V semaphores, with a word each that names the owner.
pub(crate) const GUARD_SYSTEM_V: u64 = 2;

/// The required features that this version knows.
pub(crate) const FEATURES_KNOWN: u64 = FEATURE_CHECKSUMS | FEATURE_OTHER_HASH;

/// State word: in use.
pub(crate) const STATE_LIVE: u64 = 0;
/// State word: destroyed; clients attach anew.
pub(crate) const STATE_RETIRED: u64 = 1;

/// Clean word of a file: its last writer closed, and all it stored is on the disk.
pub(crate) const CLEAN: u64 = 1;
/// Added to the clean word for each writer that opens.
pub(crate) const CLEAN_WRITER: u64 = 2;

/// The version in `word` if it is a format word of any version.
pub(crate) fn format_version_of(word: u64) -> Option<u32> {
    let [name @ .., version] = word.to_le_bytes();
    (name == *b"CISTERN").then_some(u32::from(version))
}

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Superblock {
    // Line 0: identity.
    pub(crate) format: Cell64,
    pub(crate) features_required: Cell64,
    pub(crate) features_to_write: Cell64,
    pub(crate) features_optional: Cell64,
    pub(crate) uuid: [Cell64; 2],
    pub(crate) created_unix_ms: Cell64,
    pub(crate) segment_bytes: Cell64,
    // Lines 1 to 2: kinds and hash.
    pub(crate) mode: Cell64,
    pub(crate) guard_kind: Cell64,
    pub(crate) hash_kind: Cell64,
    pub(crate) hash_check: Cell64,
    pub(crate) hash_secrets: [Cell64; 8],
    pub(crate) slot_hash_shift: Cell64,
    pub(crate) planned_items: Cell64,
    pub(crate) reserved_kinds: [Cell64; 2],
    // Lines 3 to 5: geometry.
    pub(crate) clients_offset: Cell64,
    pub(crate) clients_count: Cell64,
    pub(crate) namespaces_offset: Cell64,
    pub(crate) namespaces_count: Cell64,
    pub(crate) stripes_offset: Cell64,
    pub(crate) stripes_count: Cell64,
    pub(crate) extents_offset: Cell64,
    pub(crate) extents_max: Cell64,
    pub(crate) extent_bytes: Cell64,
    pub(crate) generations_offset: Cell64,
    pub(crate) directory_offset: Cell64,
    pub(crate) redo_offset: Cell64,
    pub(crate) filter_offset: Cell64,
    pub(crate) reserved_index: Cell64,
    pub(crate) arena_offset: Cell64,
    pub(crate) loaders_offset: Cell64,
    pub(crate) loaders_count: Cell64,
    pub(crate) heat_offset: Cell64,
    pub(crate) heat_bytes: Cell64,
    pub(crate) ghost_offset: Cell64,
    pub(crate) ghost_count: Cell64,
    /// Permission bits of the marks of readers; 0: they mark nothing.
    pub(crate) heat_permissions: Cell64,
    pub(crate) reserved_geometry: [Cell64; 18],
    // Line 8: the size word of the index, see [`IndexSize`].
    pub(crate) index_size: Cell64,
    pub(crate) pad_index: [Cell64; 7],
    // Line 9: the next block of stamps.
    pub(crate) next_stamp: Cell64,
    pub(crate) pad_stamp: [Cell64; 7],
    // Line 10: the clock.
    pub(crate) clock_offset_ms: Cell64,
    pub(crate) boot_id: [Cell64; 2],
    /// See [`GuardSetWord`].
    pub(crate) guard_set: Cell64,
    /// The segment's time when the last writer of a file closed it; 0: not told.
    pub(crate) closed_ms: Cell64,
    pub(crate) pad_clock: [Cell64; 3],
    // Line 11: state of the whole.
    pub(crate) state: Cell64,
    pub(crate) clean: Cell64,
    /// See [`ServerWord`].
    pub(crate) server: Cell64,
    pub(crate) pad_state: [Cell64; 5],
    // Line 12: where to look first; hints, any value will do.
    pub(crate) lease_hint: Cell64,
    pub(crate) orphan_hint: Cell64,
    /// Client entries from this one on never had a pin.
    pub(crate) pinners: Cell64,
    pub(crate) pad_hints: [Cell64; 5],
    // Line 13: growth of the index; nothing here but what can be counted anew.
    /// Items, near: each stripe adds what it counts in steps.
    pub(crate) items_near: Cell64,
    /// Extents of overflow lines, perhaps one too few.
    pub(crate) overflow_extents: Cell64,
    pub(crate) pad_growth: [Cell64; 6],
    // Lines 14 to 17: the places of cleaners.
    pub(crate) cleaners: [Cleaner; CLEANERS_MAX],
    /// Line 18: counts of the clients that are gone.
    pub(crate) counts: Counts,
    /// Line 19: of cache mode.
    pub(crate) next_sequence: Cell64,
    pub(crate) ghost_clock: Cell64,
    pub(crate) evicted: [Cell64; 2],
    pub(crate) evicted_bytes: Cell64,
    pub(crate) promoted: Cell64,
    pub(crate) came_back: Cell64,
    /// Where readers mark, laid out as [`GuardSetWord`].
    pub(crate) heat_object: Cell64,
    /// Line 20: items that were dropped since their time was over.
    pub(crate) expired: Cell64,
    /// Bytes that large items take because they were put where there was little room: so much more
    /// may live. A hint.
    pub(crate) scattered_bytes: Cell64,
    pub(crate) reserved: [Cell64; 350],
}

#[expect(unsafe_code, reason = "the contract of Shared, asserted below")]
// SAFETY: repr(C), every field is a Cell64, an array of them or of Cleaner, or Counts, so no padding (asserted).
unsafe impl Shared for Superblock {}

assert_offsets!(Superblock, SUPERBLOCK_BYTES as usize, {
    format: 0,
    features_required: 8,
    features_to_write: 16,
    features_optional: 24,
    uuid: 32,
    created_unix_ms: 48,
    segment_bytes: 56,
    mode: 64,
    guard_kind: 72,
    hash_kind: 80,
    hash_check: 88,
    hash_secrets: 96,
    slot_hash_shift: 160,
    planned_items: 168,
    clients_offset: 192,
    clients_count: 200,
    namespaces_offset: 208,
    namespaces_count: 216,
    stripes_offset: 224,
    stripes_count: 232,
    extents_offset: 240,
    extents_max: 248,
    extent_bytes: 256,
    generations_offset: 264,
    directory_offset: 272,
    redo_offset: 280,
    filter_offset: 288,
    arena_offset: 304,
    loaders_offset: 312,
    loaders_count: 320,
    heat_offset: 328,
    heat_bytes: 336,
    ghost_offset: 344,
    ghost_count: 352,
    heat_permissions: 360,
    index_size: 512,
    next_stamp: 576,
    clock_offset_ms: 640,
    boot_id: 648,
    guard_set: 664,
    closed_ms: 672,
    state: 704,
    clean: 712,
    server: 720,
    lease_hint: 768,
    orphan_hint: 776,
    pinners: 784,
    items_near: 832,
    overflow_extents: 840,
    cleaners: 896,
    counts: 1152,
    next_sequence: 1216,
    ghost_clock: 1224,
    evicted: 1232,
    evicted_bytes: 1248,
    promoted: 1256,
    came_back: 1264,
    heat_object: 1272,
    expired: 1280,
    scattered_bytes: 1288,
    reserved: 1296,
});

/// Where the semaphores of the guards are, if the guards are of that kind.
///
/// ```text
/// 63                      32 31          0
/// inode of the IPC namespace | id + 1     |      0 = none were made yet
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardSetWord {
    pub(crate) id: i32,
    /// The low 32 bits of its inode; 0: unknown.
    pub(crate) ipc_namespace: u32,
}

impl GuardSetWord {
    pub(crate) fn of(word: u64) -> Option<Self> {
        let id = i32::try_from((word as u32).checked_sub(1)?).ok()?;
        Some(Self { id, ipc_namespace: (word >> 32) as u32 })
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.ipc_namespace) << 32 | (u64::from(self.id.cast_unsigned()) + 1)
    }
}

/// Which client is the store's server.
///
/// ```text
/// 63       32 31           0
/// generation | client + 1   |      0 = none ever was
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerWord {
    pub(crate) client: u32,
    /// That of the client's entry, whole.
    pub(crate) generation: u32,
}

impl ServerWord {
    pub(crate) fn of(word: u64) -> Option<Self> {
        let client = (word as u32).checked_sub(1)?;
        Some(Self { client, generation: (word >> 32) as u32 })
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.generation) << 32 | (u64::from(self.client) + 1)
    }
}

/// The size word of the index: buckets in use, and an epoch that tells a reader that a line was
/// unlinked while it looked.
///
/// ```text
/// 63        40 39                       0
/// epoch (24)  | buckets in use (40)      |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexSize(pub(crate) u64);

impl IndexSize {
    const BUCKET_BITS: u32 = 40;
    /// Added to bump the epoch.
    pub(crate) const EPOCH_ONE: u64 = 1 << Self::BUCKET_BITS;

    /// Buckets in use.
    #[inline(always)]
    pub(crate) fn buckets(self) -> u64 {
        self.0 & (Self::EPOCH_ONE - 1)
    }

    /// The bucket that is split next, and the one that is made by it.
    pub(crate) fn next_split(self) -> (u64, u64) {
        let buckets = self.buckets().max(1);
        (buckets - (1 << buckets.ilog2()), buckets)
    }

    /// The bucket of `hash` by linear hashing: with as many low bits as the number of buckets
    /// needs, or one less if that bucket is not there yet. For no bucket at all: bucket 0.
    #[inline(always)]
    pub(crate) fn bucket_of(self, hash: u64) -> u64 {
        let buckets = self.buckets();
        if buckets <= 1 {
            return 0;
        }
        let mask = u64::MAX >> (buckets - 1).leading_zeros();
        let bucket = hash & mask;
        if bucket < buckets { bucket } else { bucket & (mask >> 1) }
    }

    /// Whether a miss of `hash` that was seen with the size `before` stands: the bucket is the same,
    /// so it was not split, or the key stayed in it, and nothing in it was moved or unlinked.
    #[inline(always)]
    pub(crate) fn same_bucket(self, before: Self, hash: u64) -> bool {
        self == before
            || self.0 >> Self::BUCKET_BITS == before.0 >> Self::BUCKET_BITS
                && self.bucket_of(hash) == before.bucket_of(hash)
    }

    /// The mask of hash bits that choose `bucket`: what a cursor must know of it.
    pub(crate) fn mask_of(self, bucket: u64) -> u64 {
        let buckets = self.buckets();
        if buckets <= 1 {
            return 0;
        }
        let mask = u64::MAX >> (buckets - 1).leading_zeros();
        let half = mask >> 1;
        // Split already: itself in the upper half, or its twin there exists.
        if bucket > half || bucket + half + 1 < buckets { mask } else { half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_hashing_reaches_every_bucket_and_no_other() {
        for buckets in 1..200 {
            let size = IndexSize(buckets | (7 * IndexSize::EPOCH_ONE));
            let mut seen = vec![false; buckets as usize];
            for hash in 0..1024_u64 {
                let bucket = size.bucket_of(hash);
                seen[bucket as usize] = true;
                assert_eq!(hash & size.mask_of(bucket), bucket & size.mask_of(bucket));
                // A bucket and the one it was split from agree in the low bits.
                let half = (buckets + 1).next_power_of_two() / 2;
                assert_eq!(hash % half.max(1) % 8.min(half), bucket % 8.min(half));
            }
            assert!(seen.iter().all(|seen| *seen), "{buckets} buckets");
        }
    }

    #[test]
    fn the_format_word_tells_its_version() {
        assert_eq!(format_version_of(FORMAT_WORD), Some(FORMAT_VERSION));
        assert_eq!(format_version_of(0), None);
        assert_eq!(format_version_of(FORMAT_WORD + (1 << 56)), Some(FORMAT_VERSION + 1));
    }
}
