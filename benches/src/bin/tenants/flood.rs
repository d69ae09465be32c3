//! A process that puts new keys as fast as it can, and looks each up as often as makes it seem wanted,
//! until it is killed.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use store_benches::records::{LEN_MIN, Stamp, fill, mix};
use store_benches::worker::{Handle, Parent};
use store_client::WriteError;

/// Values as a tenant has them, on average.
const VALUE_BYTES: u64 = 500;
/// Lookups of each key: as many as take an item from the small queue to the main queue.
const LOOKUPS: u32 = 2;
/// Puts until it says that it is at full speed.
const WARM_PUTS: u64 = 20_000;

/// Where a flood goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Into the keys without a namespace if it is none.
    pub(crate) namespace: Option<String>,
    pub(crate) seed: u64,
}

/// Told once it is at full speed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flowing;

pub(crate) fn run(job: Job, store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.writer().context("attaching to write")?;
    let keys = match &job.namespace {
        Some(name) => &store.namespace(name)?,
        None => &store,
    };
    let mut value = Vec::new();
    for number in 0_u64.. {
        let key = mix(job.seed << 40 | number).to_le_bytes();
        let len = (mix(number) % (2 * VALUE_BYTES)).max(LEN_MIN as u64) as usize;
        fill(&mut value, &key, Stamp { writer: 1, seq: number as u32 }, len);
        match keys.put(&key, &value) {
            Ok(_) | Err(WriteError::Full(_) | WriteError::QuotaFull { .. }) => {}
            Err(error) => return Err(error).context("a put of the flood"),
        }
        for _ in 0..LOOKUPS {
            keys.contains(&key)?;
        }
        if number == WARM_PUTS {
            parent.tell(&Flowing)?;
        }
    }
    Ok(())
}
