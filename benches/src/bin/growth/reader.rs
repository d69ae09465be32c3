//! The reading process: looks up keys that are there, and notes when it made how many lookups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use store_benches::worker::{Handle, Parent};
use store_client::Reader;

use crate::items::{Item, VALUE_BYTES_MAX};

/// Lookups between two looks at the clock.
pub(crate) const WINDOW: u32 = 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attached;

/// What it saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// When each window of lookups began and ended, by [`now_ns`].
    pub(crate) windows: Vec<(u64, u64)>,
    pub(crate) missed: u64,
    pub(crate) wrong: u64,
    pub(crate) errors: u64,
}

/// A clock that all processes share.
pub(crate) fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("reading the clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Reads until the parent says that it is over.
pub(crate) fn run(job: Job, store: Handle, parent: &mut Parent) -> Result<()> {
    let store = store.reader().context("attaching to read")?;
    parent.tell(&Attached)?;
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let told = scope.spawn(|| {
            let told = parent.await_go();
            over.store(true, Ordering::Relaxed);
            told
        });
        let seen = read(&store, SmallRng::seed_from_u64(job.seed), &over)?;
        told.join().expect("waiting for a line does not panic")?;
        anyhow::Ok(seen)
    })?;
    parent.tell(&seen)
}

fn read(store: &Reader, mut rng: SmallRng, over: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut buf = [0; VALUE_BYTES_MAX];
    while !over.load(Ordering::Relaxed) {
        // Keys are put in the order of their numbers, so all below this one are there.
        let items = u32::try_from(store.len())?;
        if items == 0 {
            thread::yield_now();
            continue;
        }
        let start = now_ns()?;
        for _ in 0..WINDOW {
            let item = Item::of(rng.random_range(0..items));
            match store.get_into(&item.key, &mut buf) {
                Ok(Some(len)) => seen.wrong += u64::from(&buf[..len] != item.value()),
                Ok(None) => seen.missed += 1,
                Err(_) => seen.errors += 1,
            }
        }
        seen.windows.push((start, now_ns()?));
    }
    Ok(seen)
}
