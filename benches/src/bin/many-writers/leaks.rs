//! Whether what the dead and gone had is to be had again.
//!
//! Counting extents says how many are open, not whether anybody can still use them; so the store
//! is emptied and one writer fills it: an extent that leaked is missing from what it can store.

use anyhow::{Context, Result};
use serde::Serialize;

use store_benches::records::{Stamp, fill};
use store_benches::stats::rounded;
use store_client::{Reader, Spec, WriteError, Writer};

/// Several to an extent, so that little of each extent stays unused.
const VALUE_BYTES: usize = 4000;

#[derive(Debug, Serialize)]
pub(crate) struct Leaks {
    /// Entries of the client table that are not free after reaping, but for this process's own.
    pub(crate) clients_left: usize,
    /// Extents that those have open.
    pub(crate) extents_owned_left: u32,
    extents_free: u32,
    extents_open: u32,
    extents_sealed: u32,
    /// How much of the arena one writer's items took once it was emptied.
    pub(crate) refill_percent: f64,
    refill_ended: &'static str,
    #[serde(skip)]
    pub(crate) violations: u64,
}

pub(crate) fn look_for(spec: &Spec, reader: &Reader) -> Result<Leaks> {
    let writer = Writer::attach(spec).context("attaching after all writers are gone")?;
    let reaped = writer.reap().context("reaping")?;
    eprintln!(
        "reaped {} clients, {} guards, {} extents",
        reaped.clients, reaped.guards, reaped.extents
    );
    let own = std::process::id();
    let clients = reader.info()?.clients;
    let others: Vec<_> = clients.iter().filter(|client| client.pid != own).collect();
    let stats = reader.stats()?;
    writer.clear().context("emptying the store")?;
    let (refilled, refill_ended) = refill(&writer)?;
    let checked = reader.check(|_, _| {});
    for violation in &checked.violations {
        eprintln!("check, filled again: {violation}");
    }
    Ok(Leaks {
        clients_left: others.len(),
        extents_owned_left: others.iter().map(|client| client.open_extents).sum(),
        extents_free: stats.extents_free,
        extents_open: stats.extents_open,
        extents_sealed: stats.extents_sealed,
        refill_percent: rounded(100.0 * refilled as f64 / stats.arena_bytes as f64, 1),
        refill_ended,
        violations: checked.violations_total,
    })
}

/// Puts items until there is no room; the bytes of their keys and values, and what ended it.
fn refill(writer: &Writer) -> Result<(usize, &'static str)> {
    let (mut value, mut bytes) = (Vec::new(), 0);
    for seq in 0.. {
        let key = format!("refill:{seq:08}").into_bytes();
        fill(&mut value, &key, Stamp { writer: 2, seq }, VALUE_BYTES);
        match writer.put(&key, &value) {
            Ok(_) => bytes += key.len() + value.len(),
            Err(WriteError::Full(_)) => return Ok((bytes, "full")),
            Err(WriteError::IndexFull { .. }) => return Ok((bytes, "index full")),
            Err(error) => return Err(error).context("filling the store again"),
        }
    }
    Ok((bytes, "out of numbers"))
}
