//! All that a store holds, condensed so that two moments can be compared.

use std::hash::BuildHasher;

use anyhow::{Context, Result};
use foldhash::fast::FixedState;

use store_client::{Cursor, Reader};

/// Keys of one page of a scan.
const PAGE: usize = 4096;

/// What one moment had: the same keys with the same values, of the same puts, give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    items: u64,
    live_bytes: u64,
    sum: u64,
}

impl Content {
    /// Reads everything. Nobody may write meanwhile.
    pub(crate) fn of(reader: &Reader) -> Result<Self> {
        let stats = reader.stats()?;
        let (mut items, mut sum) = (0, 0_u64);
        let mut cursor = Some(Cursor::START);
        while let Some(at) = cursor {
            let page = reader.scan(at, b"", PAGE)?;
            for key in page.keys {
                let entry = reader.get_entry(&key)?.context("a scanned key is gone")?;
                let one = FixedState::default().hash_one((key, entry.version, entry.value));
                // A sum, since cleaning and growth change the order of a scan.
                sum = sum.wrapping_add(one);
                items += 1;
            }
            cursor = page.next;
        }
        Ok(Self { items, live_bytes: stats.live_bytes, sum })
    }
}
