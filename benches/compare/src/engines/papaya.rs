//! `papaya`: a concurrent map without locks, made for reads.

use std::sync::Arc;

use anyhow::Result;
use foldhash::fast::RandomState;
use papaya::HashMap;

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::workload::Key;

type Items = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

pub(crate) struct Map {
    map: Arc<Items>,
    before: u64,
}

impl Engine for Map {
    fn create(setting: &Setting) -> Result<Self> {
        let before = own_memory()?;
        let map = HashMap::with_capacity_and_hasher(setting.items as usize, RandomState::default());
        Ok(Self { map: Arc::new(map), before })
    }

    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        let (map, before) = (Arc::clone(&self.map), self.before);
        Some(Box::new(move || Self { map, before }))
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        let pin = self.map.pin();
        Ok(pin.get(key.as_slice()).map(|value| {
            buffer[..value.len()].copy_from_slice(value);
            value.len()
        }))
    }

    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.map.pin().insert(key.as_slice().into(), value.into());
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        let bytes = own_memory()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of RssAnon".into() })
    }
}
