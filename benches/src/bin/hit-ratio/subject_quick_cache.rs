//! The crate `quick_cache`: CLOCK-Pro with a ghost.
//!
//! One shard: as many as the machine has cores for would make the figures another machine's, and
//! cost it some of its hits.

use anyhow::Result;
use foldhash::fast::FixedState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use crate::subject::Subject;

pub(crate) struct QuickCache(Cache<u32, (), UnitWeighter, FixedState>);

impl QuickCache {
    pub(crate) fn new(capacity: u32, seed: u64) -> Result<Self> {
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(capacity as usize)
            .weight_capacity(capacity.into())
            .build()?;
        let hashes = FixedState::with_seed(seed);
        Ok(Self(Cache::with_options(options, UnitWeighter, hashes, DefaultLifecycle::default())))
    }
}

impl Subject for QuickCache {
    fn request(&mut self, key: u32) -> Result<bool> {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, ());
        }
        Ok(hit)
    }

    fn items(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }
}
