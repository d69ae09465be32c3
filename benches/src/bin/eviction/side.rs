//! A store into which keys are put that never were: one that evicts, or one that has room.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use store_benches::records::{Key, key_of};
use store_benches::scratch::{Scratch, StoreArgs};
use store_benches::stats::{Latencies, nanos_per};
use store_client::{CreateOptions, Writer};

/// Of the keys put last so many must be there: far fewer than the small queue has.
const LAST: usize = 1000;

pub(crate) struct Side {
    _scratch: Scratch,
    writer: Writer,
    next: u32,
    /// The keys of a turn, made before the clock runs.
    keys: Vec<Key>,
    value: Vec<u8>,
}

impl Side {
    pub(crate) fn create(
        name: &str,
        store: StoreArgs,
        options: CreateOptions,
        value_bytes: usize,
    ) -> Result<Self> {
        let (scratch, writer) = Scratch::create(name, store, options)?;
        Ok(Self {
            _scratch: scratch,
            writer,
            next: 0,
            keys: Vec::new(),
            value: vec![7; value_bytes],
        })
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    fn draw(&mut self, count: u32) -> Result<()> {
        let end = self.next.checked_add(count).context("more keys than there are numbers")?;
        self.keys.clear();
        self.keys.extend((self.next..end).map(key_of));
        self.next = end;
        Ok(())
    }

    /// Puts `count` new keys; nanoseconds for each.
    pub(crate) fn put(&mut self, count: u32) -> Result<f64> {
        self.draw(count)?;
        let start = Instant::now();
        for key in &self.keys {
            self.writer.put(key, &self.value)?;
        }
        Ok(nanos_per(start.elapsed(), self.keys.len()))
    }

    /// Puts `count` new keys, each timed, the clock included.
    pub(crate) fn put_timed(&mut self, count: u32) -> Result<Latencies> {
        self.draw(count)?;
        let mut latencies = Latencies::new();
        for key in &self.keys {
            let start = Instant::now();
            let put = self.writer.put(key, &self.value);
            latencies.record(start.elapsed());
            put?;
        }
        Ok(latencies)
    }

    /// How many of the keys put last are absent, or have another value.
    pub(crate) fn lost(&self) -> Result<u64> {
        let mut lost = 0;
        for key in self.keys.iter().rev().take(LAST) {
            let stands = self.writer.get_with(key, |value| value == self.value)?;
            lost += u64::from(stands != Some(true));
        }
        Ok(lost)
    }

    /// Makes room for the next turn: memory and index stay as they are.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.writer.clear()?;
        ensure!(self.writer.is_empty(), "{} items are left of none", self.writer.len());
        Ok(())
    }
}
