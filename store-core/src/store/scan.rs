//! Walking over the keys, page by page.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{Ordering, fence};

use super::Store;
use crate::error::{Corruption, ReadError};
use crate::index::{CHAIN_LINES_MAX, cursor};
use crate::layout::{Header, LANES, LINK_LANE, Slot};
use crate::region::Shim;

/// How often a bucket that changes is walked anew.
const ATTEMPTS_MAX: u32 = 1000;
/// Turns of the processor's pause between two walks, at most.
const PAUSE_MAX: u32 = 64;
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
        let walked = self.quiet_walk(at, |bucket| {
            keys.truncate(before);
            self.walk_chain(bucket, |slot, reload| {
                match self.key_of(slot, reload)? {
                    None => return Ok(false),
                    Some(Some(key)) if key.starts_with(prefix) => keys.push(key),
                    Some(_) => {}
                }
                Ok(true)
            })
        });
        if walked.is_err() {
            keys.truncate(before);
        }
        walked.map(|(_, next)| next)
    }

    /// Has `walk` walk the bucket at a cursor until nothing changed under it, which it tells by
    /// `None`; gives what it answered and the cursor of the next bucket. An error is believed as an
    /// answer is: while the size word stands, no line of the chain became another chain's.
    pub(super) fn quiet_walk<R>(
        &self,
        at: u64,
        mut walk: impl FnMut(u64) -> Result<Option<R>, ReadError>,
    ) -> Result<(R, Option<u64>), ReadError> {
        let mut failure = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let size = self.segment.index_size();
            // Pairs with the Release store that publishes a new size.
            fence(Ordering::Acquire);
            let bucket = size.bucket_of(at);
            let walked = walk(bucket);
            fence(Ordering::Acquire);
            let stands = self.segment.index_size() == size;
            match walked {
                Ok(Some(answer)) if stands => {
                    return Ok((answer, cursor::following(size, bucket)));
                }
                Err(error) if stands => return Err(error),
                Err(error) => failure = Some(error),
                Ok(_) => failure = None,
            }
            for _ in 0..attempt.min(PAUSE_MAX) {
                std::hint::spin_loop();
            }
        }
        Err(failure.unwrap_or(ReadError::Contended { attempts: ATTEMPTS_MAX }))
    }

    /// Shows `visit` each item's slot of a chain, with what reads that slot again; how many lines
    /// it has. `None` once `visit` says `false`: a slot changed under it.
    pub(super) fn walk_chain(
        &self,
        bucket: u64,
        mut visit: impl FnMut(Slot, &dyn Fn() -> Slot) -> Result<bool, ReadError>,
    ) -> Result<Option<usize>, ReadError> {
        let mut next = Some(self.segment.bucket_line(bucket)?);
        for lines in 0..CHAIN_LINES_MAX {
            let Some(number) = next.take() else { return Ok(Some(lines)) };
            let line = self.segment.line(number)?;
            for lane in 0..LANES {
                // Read once: lane 6 may turn from an item into a link, behind which that item is.
                let slot = line.slot(lane);
                if slot.is_link() && lane == LINK_LANE {
                    next = Some(self.segment.linked_line(slot)?);
                    // Pairs with the Release store of the link.
                    fence(Ordering::Acquire);
                }
                if slot.is_item() && !visit(slot, &|| line.slot(lane))? {
                    return Ok(None);
                }
            }
        }
        match next {
            None => Ok(Some(CHAIN_LINES_MAX)),
            Some(_) => {
                let what = "a chain of overflow lines without end";
                Err(Corruption { what, offset: bucket }.into())
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
        let read = self.read_item(slot, reload, |item, header| {
            let mut key = Vec::new();
            self.segment.copy_key(item, header, &mut key)?;
            let shown = self.segment.is_meant(header.namespace);
            Ok((shown && !self.is_expired(item, header)?).then_some(key))
        })?;
        Ok(read.map(Option::flatten))
    }

    /// What `read` says of the item at `slot`, `Some(None)` if the lane is empty after all; `None`
    /// if the bytes were recycled meanwhile.
    #[expect(clippy::option_option, reason = "changed, absent and present are three answers")]
    pub(super) fn read_item<R>(
        &self,
        slot: Slot,
        reload: impl Fn() -> Slot,
        read: impl FnOnce(u64, Header) -> Result<R, Corruption>,
    ) -> Result<Option<Option<R>>, ReadError> {
        let segment = &self.segment;
        let item = slot.offset();
        let Some(extent) = segment.geometry.extent_of(item) else {
            let what = "a slot that leads out of the arena";
            return Err(Corruption { what, offset: item }.into());
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
        // What makes no sense is believed no sooner than what does.
        let answer = segment.header(item).and_then(|header| read(item, header));
        fence(Ordering::Acquire);
        if generation.load() != before {
            return Ok(None);
        }
        Ok(Some(Some(answer?)))
    }
}
