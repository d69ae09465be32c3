//! Walking over the keys, page by page.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{Ordering, fence};

use super::Store;
use crate::error::ReadError;
use crate::index::{CHAIN_LINES_MAX, cursor};
use crate::layout::{LANES, LINK_LANE, Slot};
use crate::region::Shim;

/// How often a bucket that changes is walked anew.
const ATTEMPTS_MAX: u32 = 1000;
/// Buckets that one page visits at most, so that a page of a prefix that nothing has ends too.
const BUCKETS_MAX: usize = 100_000;

/// Where a scan goes on. It stands for a place in the order of hashes, so it stays good while
/// keys come and go and the index grows, and may be kept as long as one likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor(u64);

impl Cursor {
    /// The beginning.
    pub const START: Self = Self(0);
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is no cursor: a number from a scan"))
    }
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanPage {
    /// The keys, in no order.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl<S: Shim> Store<S> {
    /// Keys with `prefix` from `from` on, about `limit` of them: whole buckets are visited, so a
    /// page may have some more, and fewer or none where few keys have the prefix. A key that
    /// stands throughout a scan is seen at least once; one that comes or goes may be.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn scan(&self, from: Cursor, prefix: &[u8], limit: usize) -> Result<ScanPage, ReadError> {
        let mut page = ScanPage { keys: Vec::new(), next: Some(from) };
        let mut visited = 0;
        while let Some(Cursor(at)) = page.next {
            if page.keys.len() >= limit.max(1) || visited == BUCKETS_MAX {
                break;
            }
            page.next = self.scan_bucket(at, prefix, &mut page.keys)?.map(Cursor);
            visited += 1;
        }
        Ok(page)
    }

    /// Adds the keys of the bucket at `cursor`, and gives the cursor of the next one.
    fn scan_bucket(
        &self,
        at: u64,
        prefix: &[u8],
        keys: &mut Vec<Vec<u8>>,
    ) -> Result<Option<u64>, ReadError> {
        let before = keys.len();
        let mut failure = None;
        for attempt in 1..=ATTEMPTS_MAX {
            keys.truncate(before);
            let size = self.segment.index_size();
            // Pairs with the Release store that publishes a new size.
            fence(Ordering::Acquire);
            let bucket = size.bucket_of(at);
            match self.bucket_keys(bucket, prefix, keys) {
                Ok(true) => {
                    fence(Ordering::Acquire);
                    if self.segment.index_size() == size {
                        return Ok(cursor::following(size, bucket));
                    }
                    failure = None;
                }
                Ok(false) => failure = None,
                Err(error) => failure = Some(error),
            }
            for _ in 0..attempt {
                std::hint::spin_loop();
            }
        }
        keys.truncate(before);
        Err(failure.unwrap_or(ReadError::Contended { attempts: ATTEMPTS_MAX }))
    }

    /// Adds the keys of one chain; `false` if a slot changed under the walk.
    fn bucket_keys(
        &self,
        bucket: u64,
        prefix: &[u8],
        keys: &mut Vec<Vec<u8>>,
    ) -> Result<bool, ReadError> {
        let mut next = Some(self.segment.bucket_line(bucket)?);
        for _ in 0..CHAIN_LINES_MAX {
            let Some(number) = next.take() else { return Ok(true) };
            let line = self.segment.line(number)?;
            for lane in 0..LANES {
                // Read once: lane 6 may turn from an item into a link, behind which that item is.
                let slot = line.slot(lane);
                if slot.is_link() && lane == LINK_LANE {
                    next = Some(self.segment.linked_line(slot)?);
                    // Pairs with the Release store of the link.
                    fence(Ordering::Acquire);
                }
                if !slot.is_item() {
                    continue;
                }
                match self.key_of(slot, || line.slot(lane))? {
                    None => return Ok(false),
                    Some(Some(key)) if key.starts_with(prefix) => keys.push(key),
                    Some(_) => {}
                }
            }
        }
        match next {
            None => Ok(true),
            Some(_) => {
                let what = "a chain of overflow lines without end";
                Err(crate::error::Corruption { what, offset: bucket }.into())
            }
        }
    }

    /// The key of the item at `slot`, `Some(None)` if it has expired or the lane is empty after
    /// all; `None` if the bytes were recycled meanwhile.
    #[expect(clippy::option_option, reason = "changed, absent and present are three answers")]
    fn key_of(
        &self,
        slot: Slot,
        reload: impl Fn() -> Slot,
    ) -> Result<Option<Option<Vec<u8>>>, ReadError> {
        let segment = &self.segment;
        let item = slot.offset();
        let Some(extent) = segment.geometry.extent_of(item) else {
            let what = "a slot that leads out of the arena";
            return Err(crate::error::Corruption { what, offset: item }.into());
        };
        // The same steps as in `index::lookup`.
        fence(Ordering::Acquire);
        let generation = segment.generation(extent)?;
        let before = generation.load();
        fence(Ordering::Acquire);
        if reload() != slot {
            return Ok(None);
        }
        if before == 0 || !slot.is_of_generation(before) {
            return Ok(Some(None));
        }
        let header = segment.header(item)?;
        let mut key = Vec::new();
        let copied = segment.copy_key(item, header, &mut key);
        let expired = self.is_expired(item, header);
        fence(Ordering::Acquire);
        if generation.load() != before {
            return Ok(None);
        }
        copied?;
        Ok(Some(if expired? { None } else { Some(key) }))
    }
}
