//! `moka`: a concurrent cache (TinyLFU), with room for all that is put.

use std::sync::Arc;

use anyhow::Result;
use foldhash::fast::RandomState;
use moka::sync::Cache;

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::workload::Key;

pub(crate) struct Moka {
    cache: Cache<Box<[u8]>, Arc<[u8]>, RandomState>,
    before: u64,
}

impl Engine for Moka {
    fn create(setting: &Setting) -> Result<Self> {
        let before = own_memory()?;
        let cache = Cache::builder()
            .max_capacity(u64::from(setting.items) * 2)
            .initial_capacity(setting.items as usize)
            .build_with_hasher(RandomState::default());
        Ok(Self { cache, before })
    }

    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        let (cache, before) = (self.cache.clone(), self.before);
        Some(Box::new(move || Self { cache, before }))
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        Ok(self.cache.get(key.as_slice()).map(|value| {
            buffer[..value.len()].copy_from_slice(&value);
            value.len()
        }))
    }

    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.cache.insert(key.as_slice().into(), value.into());
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        self.cache.run_pending_tasks();
        let bytes = own_memory()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of RssAnon".into() })
    }
}
