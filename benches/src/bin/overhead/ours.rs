//! Cistern's side, from its own statistics.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use store_benches::stats::rounded;
use store_client::{CreateOptions, Writer};

use crate::peer::Workload;

/// Bytes of the store for each item: somewhat more than half of it is then in use.
const STORE_BYTES_PER_ITEM: u64 = 256;

/// What the bytes of an item that are neither key nor value are.
#[derive(Serialize)]
pub(crate) struct Parts {
    /// The item's header, and what fills it up to 8 bytes.
    pub(crate) header_and_padding_per_item: f64,
    /// Extents of buckets and of overflow lines.
    pub(crate) index_per_item: f64,
    /// Superblock, clients, leases, stripes, extent table.
    pub(crate) tables_per_item: f64,
    buckets: u64,
    buckets_at_first: u64,
    overflow_lines_used: u64,
}

pub(crate) struct Overhead {
    pub(crate) bytes_per_item: f64,
    pub(crate) parts: Parts,
}

pub(crate) fn options(workload: &Workload) -> CreateOptions {
    CreateOptions::new(u64::from(workload.items) * STORE_BYTES_PER_ITEM)
}

pub(crate) fn measure(writer: &Writer, workload: &Workload) -> Result<Overhead> {
    let buckets_at_first = writer.stats()?.buckets;
    workload.each(|key, value| {
        writer.put(key, value).context("putting an item")?;
        Ok(())
    })?;
    let stats = writer.stats()?;
    ensure!(stats.items == u64::from(workload.items), "the store has {} items", stats.items);
    let per_item = |bytes: u64| bytes as f64 / f64::from(workload.items);
    let tables = stats.structure_bytes - stats.index_bytes;
    Ok(Overhead {
        bytes_per_item: workload.beside_data(stats.live_bytes + stats.structure_bytes),
        parts: Parts {
            header_and_padding_per_item: rounded(workload.beside_data(stats.live_bytes), 2),
            index_per_item: rounded(per_item(stats.index_bytes), 2),
            tables_per_item: rounded(per_item(tables), 2),
            buckets: stats.buckets,
            buckets_at_first,
            overflow_lines_used: stats.overflow_lines_used,
        },
    })
}
