//! Writes to the keys that all write: what stands there must be whole, and sums must come out.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;

use store_core::{Condition, PutOptions, Ttl};

use crate::content::{RECORDS_MAX, read, shared_counter, shared_key};
use crate::ledger::{COUNTERS, State};
use crate::stores::Keys;
use crate::worker::Living;

/// Keys that all write.
pub(crate) const SHARED_KEYS: usize = 6;

impl Living<'_> {
    pub(crate) fn write_shared(&mut self) -> Result<()> {
        if self.rng.random_ratio(1, 4) {
            return self.add_to_shared();
        }
        let index = self.rng.random_range(0..SHARED_KEYS);
        let key = shared_key(index);
        let keys = self.worker.stores.of(index);
        let (store, session) = (keys.store, self.session);
        let options = PutOptions::new();
        match self.rng.random_range(0..16) {
            which @ 0..6 => {
                let condition = match which {
                    0 => Condition::Absent,
                    1 => Condition::Present,
                    _ => Condition::Always,
                };
                self.fresh(&key, false);
                self.allowed(store.put(session, &key, &self.value, &options, condition))?;
            }
            6..8 => {
                self.fresh(&key, false);
                if let Some(entry) = store.get_entry(&key)? {
                    self.whole(&key, &entry.value);
                    let version = Condition::Version(entry.version);
                    self.allowed(store.put(session, &key, &self.value, &options, version))?;
                }
            }
            8..11 => self.append_to_shared(keys, &key)?,
            11 => {
                self.allowed(store.delete(session, &key))?;
            }
            12 => {
                let taken = self.allowed(store.take(session, &key))?;
                self.whole_if_any(&key, taken.flatten());
            }
            13 => {
                self.fresh(&key, false);
                let put = store.get_and_put(session, &key, &self.value, &options);
                let before = self.allowed(put)?;
                self.whole_if_any(&key, before.flatten());
            }
            14 => {
                let ttl = Duration::from_millis(self.rng.random_range(1..50));
                self.allowed(store.set_ttl(session, &key, Ttl::Left(ttl)))?;
            }
            _ => self.whole_if_any(&key, store.get(&key)?),
        }
        Ok(())
    }

    fn append_to_shared(&mut self, keys: Keys<'_>, key: &[u8]) -> Result<()> {
        if let Some(value) = keys.store.get(key)?
            && let Some(State::Record { appended, .. }) = self.whole(key, &value)
            && appended + 1 >= RECORDS_MAX
        {
            return self.allowed(keys.store.delete(self.session, key)).map(drop);
        }
        self.fresh(key, true);
        self.allowed(keys.store.append(self.session, key, &self.value)).map(drop)
    }

    fn add_to_shared(&mut self) -> Result<()> {
        let index = self.rng.random_range(0..COUNTERS);
        let by = self.rng.random_range(1..=9_u64);
        let keys = self.worker.stores.of(index);
        self.slot.begin_adding(index, by);
        let added = keys.store.add_to(self.session, &shared_counter(index), by.into());
        let acknowledged = self.allowed(added)?.is_some();
        self.slot.end_adding(index, acknowledged);
        Ok(())
    }

    fn whole_if_any(&self, key: &[u8], value: Option<Vec<u8>>) {
        if let Some(value) = value {
            self.whole(key, &value);
        }
    }

    fn whole(&self, key: &[u8], value: &[u8]) -> Option<State> {
        read(key, value).inspect_err(|torn| self.complain(key, torn)).ok()
    }
}
