//! `quick_cache`: a concurrent cache (CLOCK-Pro), with room for all that is put.

use std::sync::Arc;

use anyhow::Result;
use foldhash::fast::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::workload::Key;

type Values = Cache<Box<[u8]>, Arc<[u8]>, UnitWeighter, RandomState>;

pub(crate) struct QuickCache {
    cache: Arc<Values>,
    before: u64,
}

impl Engine for QuickCache {
    fn create(setting: &Setting) -> Result<Self> {
        let before = own_memory()?;
        let cache = Values::with(
            setting.items as usize,
            u64::from(setting.items) * 2,
            UnitWeighter,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        Ok(Self { cache: Arc::new(cache), before })
    }

    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        let (cache, before) = (Arc::clone(&self.cache), self.before);
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
        let bytes = own_memory()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of RssAnon".into() })
    }
}
