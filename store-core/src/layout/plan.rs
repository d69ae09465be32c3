//! What a new segment gets from its creator's options: counts of all parts, where they are, and what of
//! them has memory from the start.

use super::geometry::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, Geometry, NAMESPACES_MAX, PAGE_BYTES};
use super::ghost::GHOST_SET;
use super::heat::{HEAT_BYTES_MIN, HEAT_BYTES_PER_ITEM, HEAT_PERMISSIONS};
use super::line::Line;
use super::slot::Slot;
use super::superblock::SUPERBLOCK_BYTES;
use super::{ClientEntry, ExtentEntry, LoaderLease, NamespaceRecord, RedoRecord, Stripe};
use crate::config::{CreateOptions, HugePages, Mode};
use crate::error::CreateError;

/// A huge page.
const HUGE_PAGE_BYTES: u64 = crate::sys::pages::HUGE_PAGE_BYTES as u64;
/// Records of namespaces: one in 16 KiB of the store, within these bounds.
const NAMESPACES_MIN: u64 = 128;
/// Loader leases: one in 64 KiB of the store, within these bounds.
const LOADERS_MIN: u64 = 32;
const LOADERS_MAX: u64 = 1024;
/// So many semaphores of guards are in a set that any kernel takes.
const STRIPES_MAX: u64 = 4096;
const EXTENTS_MIN: u64 = 8;
const BUCKETS_MIN: u64 = 4;
/// Bytes of an item that the index is laid out for at first, if nothing else is said.
const PLANNED_ITEM_BYTES: u64 = 1024;
/// Bytes of an item that the marks and the ghost of cache mode are laid out for, likewise: they
/// don't grow.
const CACHED_ITEM_BYTES: u64 = 512;
/// The mean number of items in a bucket of 7 lanes that the planned items must not exceed: they
/// fit without growth.
const PLANNED_LOAD: f64 = 4.6;

/// A geometry and what of it is there from the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    /// Bytes from the superblock on that get memory at creation.
    pub(crate) committed_bytes: u64,
    /// Extents that these hold.
    pub(crate) extents_committed: u32,
    /// Buckets of the index at first; they fill the first extents, then comes one of overflow lines.
    pub(crate) buckets: u64,
}

fn refuse(option: &'static str, given: u64, rule: impl Into<String>) -> CreateError {
    CreateError::InvalidOption { option, given: given.to_string(), rule: rule.into() }
}

impl Plan {
    /// The layout for `options`.
    ///
    /// # Errors
    /// `InvalidOption`, with the rule, or `Unsupported`.
    pub(crate) fn of(options: &CreateOptions) -> Result<Self, CreateError> {
        let huge = options.huge_pages != HugePages::Default;
        Self::in_pages(options, if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES })
    }

    /// The layout for `options` in memory that comes in pages of this size.
    ///
    /// # Errors
    /// As of [`Plan::of`].
    pub(crate) fn in_pages(options: &CreateOptions, page_bytes: u64) -> Result<Self, CreateError> {
        let max_size = options.max_size.unwrap_or(options.size);
        if max_size < options.size {
            let rule = format!("it must not be below the size, {}", options.size);
            return Err(refuse("max-size", max_size, rule));
        }
        if max_size > Slot::SEGMENT_BYTES_MAX {
            return Err(refuse("size", max_size, "at most 2 TiB"));
        }
        if options.permissions & !0o777 != 0 {
            let given = format!("{:o}", options.permissions);
            let rule = "permissions are octal, from 0000 to 0777".to_owned();
            return Err(CreateError::InvalidOption { option: "permissions", given, rule });
        }
        if options.permissions & 0o600 != 0o600 {
            let given = format!("{:04o}", options.permissions);
            let rule = "the owner must be able to read and write: add 0600".to_owned();
            return Err(CreateError::InvalidOption { option: "permissions", given, rule });
        }
        if options.heat_permissions & !HEAT_PERMISSIONS != 0 {
            let given = format!("{:04o}", options.heat_permissions);
            let rule = "read and write bits only: at most 0666".to_owned();
            return Err(CreateError::InvalidOption { option: "heat-permissions", given, rule });
        }
        if options.heat_permissions != 0 && options.mode == Mode::Store {
            let given = format!("{:04o}", options.heat_permissions);
            let rule = "only a cache evicts: choose the mode `cache`, or leave it out".to_owned();
            return Err(CreateError::InvalidOption { option: "heat-permissions", given, rule });
        }
        if options.group == Some(u32::MAX) {
            let rule = "chown takes this number for no change; give the number of a group";
            return Err(refuse("group", u32::MAX.into(), rule));
        }
        if options.items == Some(0) {
            return Err(refuse("items", 0, "an index is laid out for at least 1 item"));
        }
        if let Some(items) = options.items.filter(|items| *items > 1 << 36) {
            return Err(refuse("items", items, "at most 2^36"));
        }
        let sizes = extent_sizes(options)?;
        let plan = sizes.clone().find_map(|extent_bytes| {
            Self::with(options, (options.size, max_size), extent_bytes, page_bytes).ok()
        });
        plan.ok_or_else(|| {
            let least =
                sizes.filter_map(|bytes| least_size(options, max_size, bytes, page_bytes)).min();
            too_small(options, least)
        })
    }

    /// The layout with extents of one size; an error with the bytes that it would take at least.
    fn with(
        options: &CreateOptions,
        (size, max_size): (u64, u64),
        extent_bytes: u64,
        page_bytes: u64,
    ) -> Result<Self, u64> {
        let items = options.items.unwrap_or(size / PLANNED_ITEM_BYTES).max(1);
        let in_an_extent = extent_bytes / size_of::<Line>() as u64;
        // If nothing is asked for, as many as the first extent has.
        let least = if options.items.is_some() { BUCKETS_MIN } else { in_an_extent };
        let buckets = ((items as f64 / PLANNED_LOAD) as u64 + 1).next_power_of_two().max(least);
        // As many at a time as fill pages.
        let step = (page_bytes / extent_bytes).max(1);
        let extents_min = (EXTENTS_MIN + buckets.div_ceil(in_an_extent) + 1).next_multiple_of(step);
        let mut geometry = Geometry::head(size, (items, buckets), extent_bytes, max_size);
        if options.mode == Mode::Cache {
            let items = options.items.unwrap_or(max_size / CACHED_ITEM_BYTES).max(1);
            geometry.heat_bytes =
                (items * HEAT_BYTES_PER_ITEM).next_power_of_two().max(HEAT_BYTES_MIN);
            // Sets of different fullness, so there are a few more than it holds.
            geometry.ghost_count = (items * 5 / 4).next_power_of_two().max(GHOST_SET);
        }
        // Each extent takes its bytes, its entry and its generation; alignment may cost one more.
        geometry.place_tables(0, page_bytes);
        let of_one = extent_bytes + size_of::<ExtentEntry>() as u64 + 8;
        let estimate = max_size.saturating_sub(geometry.arena_offset) / of_one;
        let mut extents = estimate.next_multiple_of(step).max(extents_min);
        loop {
            geometry.place_tables(extents.min(u32::MAX.into()) as u32, page_bytes);
            let room = max_size.saturating_sub(geometry.arena_offset) / extent_bytes;
            if room >= extents && extents >= extents_min {
                break;
            }
            extents = extents.saturating_sub(step);
            if extents < extents_min {
                return Err(geometry.arena_offset + extents_min * extent_bytes);
            }
        }
        geometry.segment_bytes = geometry.arena_offset + extents * extent_bytes;
        let committed = (size.saturating_sub(geometry.arena_offset) / extent_bytes).min(extents);
        let committed = committed / step * step;
        if committed < extents_min {
            return Err(geometry.arena_offset + extents_min * extent_bytes);
        }
        Ok(Self {
            geometry,
            committed_bytes: geometry.arena_offset + committed * extent_bytes,
            extents_committed: committed as u32,
            buckets,
        })
    }
}

/// The smallest size that holds the structures and some extents of one size; `None` where even the
/// largest store does not.
fn least_size(
    options: &CreateOptions,
    max_size: u64,
    extent_bytes: u64,
    page_bytes: u64,
) -> Option<u64> {
    let mut least = options.size;
    // A larger store has larger structures, so the answer moves, by less each time.
    while let Err(needed) =
        Plan::with(options, (least, max_size.max(least)), extent_bytes, page_bytes)
    {
        least = needed.max(least + 1).next_multiple_of(PAGE_BYTES);
        if least > Slot::SEGMENT_BYTES_MAX {
            return None;
        }
    }
    Some(least)
}

/// The refusal of a size, with the smallest one that would do.
fn too_small(options: &CreateOptions, least: Option<u64>) -> CreateError {
    let rule = match least {
        Some(least) => format!(
            "{least} bytes is the least for what is asked: choose a larger size, or fewer items, \
             a smaller max-size or smaller extents where these were chosen"
        ),
        None => "not even 2 TiB are enough for so many items: choose fewer".to_owned(),
    };
    refuse("size", options.size, rule)
}

/// The extent sizes to be tried: the one asked for, or the one that suits the size, and smaller
/// ones for a store that is too small for eight of them.
fn extent_sizes(options: &CreateOptions) -> Result<impl Iterator<Item = u64> + Clone, CreateError> {
    let suitable = || {
        // Those of a store that grows far are larger, so that their table stays short.
        let grown = (options.max_size.unwrap_or(0) / 8192).min(options.size / 64);
        (options.size / 512).max(grown).clamp(64 << 10, EXTENT_BYTES_MAX).next_power_of_two()
    };
    let (smallest, largest) = match options.extent_size {
        Some(bytes) => (bytes, bytes),
        None => (EXTENT_BYTES_MIN, suitable()),
    };
    if !largest.is_power_of_two() || !(EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&largest) {
        let rule = format!("a power of two from {EXTENT_BYTES_MIN} to {EXTENT_BYTES_MAX} bytes");
        return Err(refuse("extent-size", largest, rule));
    }
    let halved = move |bytes: &u64| Some(bytes / 2).filter(|half| *half >= smallest);
    Ok(std::iter::successors(Some(largest), halved))
}

/// Stripes of a store of `size` bytes, a power of two: one in 64 KiB, from 1024 on one in a MiB. With their
/// redo records they take 320 bytes each, and many more writers than there are processors don't meet.
fn stripes_for(size: u64) -> u64 {
    let few = (size >> 16).next_power_of_two().clamp(64, 1024);
    few.max((size >> 20).next_power_of_two().min(STRIPES_MAX))
}

impl Geometry {
    /// The counts that don't depend on the number of extents.
    fn head(size: u64, (items, buckets): (u64, u64), extent_bytes: u64, max_size: u64) -> Self {
        // A bucket and what it is split into have one stripe, so there are no more than buckets.
        let stripes = stripes_for(size).min(buckets);
        Self {
            segment_bytes: max_size,
            clients_offset: SUPERBLOCK_BYTES,
            clients: (size >> 16).clamp(32, 1024) as u32,
            namespaces_offset: 0,
            namespaces: (size >> 14).clamp(NAMESPACES_MIN, NAMESPACES_MAX) as u32,
            loaders_offset: 0,
            loaders: (size >> 16).clamp(LOADERS_MIN, LOADERS_MAX).next_power_of_two() as u32,
            stripes_offset: 0,
            stripes: stripes as u32,
            redo_offset: 0,
            extents_offset: 0,
            extents: 0,
            extent_shift: extent_bytes.trailing_zeros(),
            generations_offset: 0,
            directory_offset: 0,
            filter_offset: 0,
            heat_offset: 0,
            heat_bytes: 0,
            ghost_offset: 0,
            ghost_count: 0,
            arena_offset: 0,
            slot_hash_shift: buckets.trailing_zeros(),
            planned_items: items,
        }
    }

    /// Sets the offsets, one part after the other, each at a multiple of a line, the arena at a page.
    fn place_tables(&mut self, extents: u32, page_bytes: u64) {
        self.extents = extents;
        let mut end = self.clients_offset;
        let mut place = |count: u64, bytes: u64| {
            let start = end;
            end = (start + count * bytes).next_multiple_of(64);
            start
        };
        self.clients_offset = place(self.clients.into(), size_of::<ClientEntry>() as u64);
        self.namespaces_offset = place(self.namespaces.into(), size_of::<NamespaceRecord>() as u64);
        self.loaders_offset = place(self.loaders.into(), size_of::<LoaderLease>() as u64);
        self.stripes_offset = place(self.stripes.into(), size_of::<Stripe>() as u64);
        self.redo_offset = place(self.stripes.into(), size_of::<RedoRecord>() as u64);
        self.extents_offset = place(extents.into(), size_of::<ExtentEntry>() as u64);
        self.generations_offset = place(extents.into(), 8);
        self.directory_offset = place(extents.into(), 8);
        self.filter_offset = place(self.filter_words(), 4);
        self.heat_offset = place(self.heat_bytes, 1);
        self.ghost_offset = place(self.ghost_count, 4);
        self.arena_offset = end.next_multiple_of(page_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_fit_and_use_what_they_are_given() {
        for size in [1 << 20, 3 << 20, 64 << 20, 1 << 30, 5 << 30, 64 << 30] {
            let plan = Plan::of(&CreateOptions::new(size)).expect("a plan");
            let geometry = plan.geometry;
            assert_eq!(geometry.validate_places(size), Ok(()));
            assert!(geometry.segment_bytes <= size);
            assert!(geometry.arena_bytes() * 100 >= size * 78, "{size}: {geometry:?}");
            assert_eq!(plan.extents_committed, geometry.extents);
        }
        let plan = Plan::of(&CreateOptions::new(64 << 20)).expect("a plan");
        assert_eq!(plan.geometry.extent_bytes(), 128 << 10);
        assert!(plan.geometry.extents > 480);
    }

    #[test]
    fn whole_huge_pages_are_filled() {
        for size in [8 << 20, 100 << 20, (1 << 30) + 5000] {
            let options = CreateOptions::new(size).huge_pages(HugePages::Transparent);
            let Plan { geometry, committed_bytes, .. } = Plan::of(&options).expect("a plan");
            for bytes in [geometry.arena_offset, geometry.segment_bytes, committed_bytes] {
                assert!(bytes.is_multiple_of(HUGE_PAGE_BYTES), "{bytes}");
            }
            assert!(geometry.segment_bytes <= size && size - geometry.segment_bytes < 4 << 20);
            assert_eq!(geometry.validate_places(size), Ok(()));
        }
        let error = Plan::of(&CreateOptions::new(1 << 20).huge_pages(HugePages::Reserved));
        assert!(error.expect_err("refused").to_string().contains("4194304 bytes is the least"));
    }

    #[test]
    fn extents_shrink_with_the_size_unless_they_were_chosen() {
        for size in (128 << 10..2 << 20).step_by(12_345) {
            let plan = Plan::of(&CreateOptions::new(size)).expect("a plan");
            assert_eq!(plan.geometry.validate_places(size), Ok(()));
            assert!(u64::from(plan.geometry.extents) >= EXTENTS_MIN, "{size}");
        }
        assert!(Plan::of(&CreateOptions::new(512 << 10).extent_size(64 << 10)).is_err());
    }

    #[test]
    fn a_size_too_small_is_refused_with_the_least_that_does() {
        let cases = [
            CreateOptions::new(1),
            CreateOptions::new(70_000),
            CreateOptions::new(1 << 20).extent_size(1 << 20),
            CreateOptions::new(1 << 20).items(1_000_000),
            CreateOptions::new(1 << 20).max_size(1 << 30),
            CreateOptions::new(1 << 20).max_size(1 << 21).items(1_000_000),
        ];
        for options in cases {
            let error = Plan::of(&options).expect_err("refused").to_string();
            let least = error.split_once("refused: ").and_then(|(_, rule)| rule.split_once(' '));
            let least: u64 = least.and_then(|(least, _)| least.parse().ok()).expect("a number");
            let with = |size| {
                let max_size = options.max_size.map(|max_size| max_size.max(size));
                Plan::of(&CreateOptions { size, max_size, ..options.clone() })
            };
            assert!(with(least).is_ok(), "{error}");
            // Not much less: a larger store may have larger extents, and so fewer of them.
            assert!(with(least - least / 50).is_err(), "{options:?} {error}");
        }
        let error = Plan::of(&CreateOptions::new(1 << 20).items(1 << 36)).expect_err("refused");
        assert!(error.to_string().contains("fewer items"), "{error}");
    }

    #[test]
    fn a_reserve_is_planned_but_not_committed() {
        let options = CreateOptions::new(16 << 20).max_size(64 << 20);
        let plan = Plan::of(&options).expect("a plan");
        assert!(plan.committed_bytes <= 16 << 20);
        assert!(plan.extents_committed < plan.geometry.extents);
    }

    #[test]
    fn options_out_of_range_are_refused_with_the_rule() {
        let refused = |options: CreateOptions| {
            Plan::of(&options).err().map(|error| error.to_string()).expect("refused")
        };
        assert!(refused(CreateOptions::new(1000)).contains("choose a larger size"));
        assert!(refused(CreateOptions::new(1 << 24).max_size(1 << 20)).contains("max-size"));
        assert!(refused(CreateOptions::new(1 << 24).extent_size(5000)).contains("power of two"));
        assert!(refused(CreateOptions::new(1 << 24).permissions(0o1777)).contains("octal"));
        for closed_to_owner in [0, 0o044, 0o466, 0o266] {
            let options = CreateOptions::new(1 << 24).permissions(closed_to_owner);
            assert!(refused(options).contains("add 0600"));
        }
        assert!(refused(CreateOptions::new(1 << 43)).contains("2 TiB"));
        assert!(refused(CreateOptions::new(1 << 24).items(1 << 40)).contains("items"));
        assert!(refused(CreateOptions::new(1 << 24).items(0)).contains("at least 1"));
        assert!(refused(CreateOptions::new(1 << 24).group(u32::MAX)).contains("no change"));
    }
}
