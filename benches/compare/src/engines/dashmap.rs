//! `dashmap`: a concurrent map of shards with a lock each.

use std::sync::Arc;

use anyhow::Result;
use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::workload::Key;

type Items = DashMap<Box<[u8]>, Box<[u8]>, RandomState>;

pub(crate) struct Map {
    map: Arc<Items>,
    before: u64,
}

impl Engine for Map {
    fn create(setting: &Setting) -> Result<Self> {
        let before = own_memory()?;
        let map = DashMap::with_capacity_and_hasher(setting.items as usize, RandomState::default());
        Ok(Self { map: Arc::new(map), before })
    }

    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        let (map, before) = (Arc::clone(&self.map), self.before);
        Some(Box::new(move || Self { map, before }))
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        Ok(self.map.get(key.as_slice()).map(|value| {
            buffer[..value.len()].copy_from_slice(&value);
            value.len()
        }))
    }

    /// What has the length of the old value takes its place, without an allocation.
    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        match self.map.get_mut(key.as_slice()) {
            Some(mut old) if old.len() == value.len() => {
                old.copy_from_slice(value);
                return Ok(());
            }
            _ => {}
        }
        self.map.insert(key.as_slice().into(), value.into());
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        let bytes = own_memory()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of RssAnon".into() })
    }
}
