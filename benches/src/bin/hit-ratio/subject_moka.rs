//! The crate `moka`, its synchronous cache with its own policy (TinyLFU in front of LRU).
//!
//! It evicts for a few dozen puts at once, so it has that many items too many meanwhile, which its
//! count leaves out. Evicting at each put costs it a point or two.

use anyhow::Result;
use foldhash::fast::FixedState;
use moka::sync::Cache;

use crate::subject::Subject;

pub(crate) struct Moka(Cache<u32, (), FixedState>);

impl Moka {
    pub(crate) fn new(capacity: u32, seed: u64) -> Self {
        let builder = Cache::builder().max_capacity(capacity.into());
        Self(builder.build_with_hasher(FixedState::with_seed(seed)))
    }
}

impl Subject for Moka {
    fn request(&mut self, key: u32) -> Result<bool> {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, ());
        }
        Ok(hit)
    }

    fn items(&self) -> Result<u64> {
        Ok(self.0.entry_count())
    }
}
