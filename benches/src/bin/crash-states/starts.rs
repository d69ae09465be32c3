//! The start states, and the operations from there.

use anyhow::Result;

use store_core::{CreateOptions, Mode};
use store_testing::cache::{self, Cache};
use store_testing::crash::{Live, Seen, Walk};
use store_testing::pair::{self, Pair, geometries};
use store_testing::tenants::{self, Tenants};
use store_testing::trace::Logging;

use crate::ended;

/// Recoveries of each operation that die, too.
const RECOVERIES: u32 = 1;
/// Keys of a store that is filled, and the bytes of each value.
const FILLED_KEYS: u8 = 30;
const FILLED_BYTES: usize = 2500;
/// Keys that get as much again, once memory was given back.
const AGAIN_KEYS: u8 = 4;

/// Where a walk starts.
pub(crate) enum Start {
    /// An empty store.
    Store(&'static str, CreateOptions),
    /// One that has used up most of the memory that it has so far, and grows soon.
    Filled(&'static str, CreateOptions),
    /// A cache that is full.
    Cache(&'static str, CreateOptions),
    /// A store with namespaces.
    Namespaces(&'static str, Mode),
    /// No store at all: it is made, and destroyed.
    Nothing,
}

/// All of them.
pub(crate) fn all() -> Vec<Start> {
    let stores = [
        "store of few buckets",
        "store with checksums",
        "store of large extents",
        "store that grows",
    ];
    let caches = ["small cache", "cache with checksums", "cache that grows"];
    let stores =
        stores.into_iter().zip(geometries()).map(|(name, options)| Start::Store(name, options));
    let caches =
        caches.into_iter().zip(cache::tiny()).map(|(name, options)| Start::Cache(name, options));
    let namespaces = [
        Start::Namespaces("store with namespaces", Mode::Store),
        Start::Namespaces("cache with namespaces", Mode::Cache),
    ];
    let [.., growing] = geometries();
    let filled = [Start::Filled("store that is full", growing)];
    stores.chain(filled).chain(caches).chain(namespaces).chain([Start::Nothing]).collect()
}

impl Start {
    /// Walks through the operations that `seed` gives.
    pub(crate) fn walk(&self, seed: u64) -> Result<Seen> {
        match self {
            Self::Store(name, options) => {
                let pair = Pair::<Logging>::new(options);
                Ok(walk(name, seed, pair, pair::sequence(seed, 40).into_iter()))
            }
            Self::Filled(name, options) => {
                let mut pair = Pair::<Logging>::new(options);
                (0..FILLED_KEYS).for_each(|key| pair.apply(&pair::Op::Put(key, FILLED_BYTES)));
                let ops = (FILLED_KEYS..48).map(|key| pair::Op::Put(key, FILLED_BYTES));
                let emptied = (0..FILLED_KEYS)
                    .map(pair::Op::Delete)
                    .chain([pair::Op::Clean, pair::Op::Trim(60)]);
                let again = (0..AGAIN_KEYS)
                    .map(|key| pair::Op::Append(key, FILLED_BYTES + (seed % 500) as usize));
                Ok(walk(name, seed, pair, ops.chain(emptied).chain(again)))
            }
            Self::Cache(name, options) => {
                let mut cache = Cache::<Logging>::new(options);
                let first = (seed % 1000) as usize;
                for turn in first..first + 400 {
                    cache.apply(&cache::turn_of(turn));
                    // Some are wanted.
                    cache.apply(&cache::Op::Get((turn * 3 % 40) as u8));
                }
                let ops = (first + 400..first + 420).map(cache::turn_of);
                Ok(walk(name, seed, cache, ops))
            }
            Self::Namespaces(name, mode) => {
                Ok(walk(name, seed, Tenants::new(*mode), tenants::sequence(seed, 40)))
            }
            Self::Nothing => ended::made_and_destroyed(seed),
        }
    }
}

fn walk<L: Live>(name: &str, seed: u64, mut live: L, ops: impl Iterator<Item = L::Op>) -> Seen {
    let mut seen = Seen::default();
    let mut walk = Walk::new(name, RECOVERIES, seed);
    for op in ops {
        if !walk.step(&mut live, &op, &mut seen) || seen.violations > 0 {
            break;
        }
    }
    seen
}
