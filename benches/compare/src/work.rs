//! The kinds of work, each a plain loop that is compiled for each engine.
//!
//! Each counts the bytes that it was given, which both keeps the work from being optimised away and
//! shows that every lookup was answered as it must be.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use store_benches::stats::Latencies;

use crate::engine::{BATCH, Engine, Setting};
use crate::workload::{ABSENT, Key, fill_value, key_of};

/// Of a mix, one operation in so many is a put.
const MIX: usize = 20;
/// By so much the shorter ones of values of two sizes are shorter.
const SHORTER: usize = 16;
/// Versions of a value, before they come round.
pub(crate) const VERSIONS: u32 = 1 << 16;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// One lookup after the other: which key comes next is known only when the last value is there, as
    /// where a program works with what it looked up.
    Get,
    /// Lookups that don't depend on each other: the processor overlaps as many as it can.
    GetIndependent,
    /// 32 keys in one call.
    GetMany,
    /// A key that was never put.
    Miss,
    /// Overwrites with a value of the same size.
    Put,
    /// Overwrites with a value that is 16 bytes shorter, then with one of the full size.
    Resize,
    /// 95 gets to 5 puts.
    Mix,
    /// Puts keys that never were.
    Insert,
}

impl Work {
    /// What is done at each number of items.
    pub(crate) const OF_TABLES: [Self; 6] =
        [Self::Get, Self::GetIndependent, Self::GetMany, Self::Miss, Self::Put, Self::Resize];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetIndependent => "get, independent",
            Self::GetMany => "get_many of 32, per key",
            Self::Miss => "miss",
            Self::Put => "put",
            Self::Resize => "put, another size",
            Self::Mix => "95 get, 5 put",
            Self::Insert => "insert",
        }
    }
}

/// An engine and what it is used with.
pub(crate) struct Worker<E> {
    pub(crate) engine: E,
    value_bytes: usize,
    /// Of the work that is next.
    keys: Vec<Key>,
    /// Where values are copied to, of one batch.
    buffer: Vec<u8>,
    value: Vec<u8>,
    /// Of the values put now.
    version: u32,
    /// The next number that was never put.
    next: u32,
}

impl<E: Engine> Worker<E> {
    pub(crate) fn new(engine: E, setting: &Setting) -> Self {
        Self {
            engine,
            value_bytes: setting.value_bytes,
            // More than a piece of timed work has, so that none takes memory.
            keys: Vec::with_capacity(4096),
            buffer: vec![0; setting.value_bytes * BATCH],
            value: vec![0; setting.value_bytes],
            version: 0,
            next: setting.items,
        }
    }

    /// Does the work once for each number; false if the engine can't.
    ///
    /// # Errors
    /// Those of the engine; an answer that was not as it must be.
    pub(crate) fn run(&mut self, work: Work, numbers: &[u32]) -> Result<bool> {
        self.make_keys(work, numbers);
        self.work(work, numbers)
    }

    /// Makes the keys of the work that is next: one for each number.
    pub(crate) fn make_keys(&mut self, work: Work, numbers: &[u32]) {
        self.keys.clear();
        match work {
            Work::Miss => self.keys.extend(numbers.iter().map(|number| key_of(ABSENT + number))),
            Work::Insert => {
                self.keys.extend((self.next..).take(numbers.len()).map(key_of));
            }
            _ => self.keys.extend(numbers.iter().map(|number| key_of(*number))),
        }
    }

    /// Does the work with the keys that were made for the numbers; false if the engine can't.
    ///
    /// # Errors
    /// Those of the engine; an answer that was not as it must be.
    pub(crate) fn work(&mut self, work: Work, numbers: &[u32]) -> Result<bool> {
        self.version = self.version.wrapping_add(1) % VERSIONS;
        let (bytes, hits) = match work {
            Work::Get => (self.get()?, numbers.len()),
            Work::GetIndependent => (self.get_independent()?, numbers.len()),
            Work::Miss => (self.get_independent()?, 0),
            Work::GetMany => match self.get_many()? {
                Some(bytes) => (bytes, numbers.len()),
                None => return Ok(false),
            },
            Work::Put => (self.put(numbers)?, 0),
            Work::Resize if !self.can_resize() => return Ok(false),
            Work::Resize => (self.resize(numbers)?, 0),
            Work::Mix => (self.mix(numbers)?, numbers.len() - numbers.len().div_ceil(MIX)),
            Work::Insert => (self.insert()?, 0),
        };
        ensure!(bytes == hits * self.value_bytes, "{work:?} found {bytes} bytes of {hits} items");
        Ok(true)
    }

    #[inline(never)]
    fn get(&mut self) -> Result<usize> {
        let (mut bytes, nothing) = (0, black_box(0_u8));
        let buffer = &mut self.buffer[..self.value_bytes];
        let last = buffer.len() - 1;
        for at in 0..self.keys.len() {
            // `nothing` is 0, which the compiler must not know.
            let key = &self.keys[at ^ usize::from(buffer[last] & nothing)];
            if let Some(len) = self.engine.get(key, buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    /// Also of keys that are absent: nothing depends on what is not there, so the processor goes on with
    /// the next one.
    #[inline(never)]
    fn get_independent(&mut self) -> Result<usize> {
        let (mut bytes, buffer) = (0, &mut self.buffer[..self.value_bytes]);
        for key in &self.keys {
            if let Some(len) = self.engine.get(key, buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    #[inline(never)]
    fn get_many(&mut self) -> Result<Option<usize>> {
        let mut bytes = 0;
        for batch in self.keys.chunks(BATCH) {
            match self.engine.get_many(batch, &mut self.buffer)? {
                Some(values) => bytes += black_box(values).len(),
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    #[inline(never)]
    fn put(&mut self, numbers: &[u32]) -> Result<usize> {
        for (number, key) in numbers.iter().zip(&self.keys) {
            fill_value(&mut self.value, *number, self.version);
            self.engine.put(key, &self.value)?;
        }
        Ok(0)
    }

    /// Whether values can be shorter, and still say whose they are.
    fn can_resize(&self) -> bool {
        E::RESIZES && self.value_bytes >= SHORTER + 8
    }

    /// Half of the numbers twice.
    #[inline(never)]
    fn resize(&mut self, numbers: &[u32]) -> Result<usize> {
        for length in [self.value_bytes - SHORTER, self.value_bytes] {
            let value = &mut self.value[..length];
            for (number, key) in numbers[..numbers.len() / 2].iter().zip(&self.keys) {
                fill_value(value, *number, self.version);
                self.engine.put(key, value)?;
            }
        }
        Ok(0)
    }

    #[inline(never)]
    fn mix(&mut self, numbers: &[u32]) -> Result<usize> {
        let (mut bytes, nothing) = (0, black_box(0_u8));
        let buffer = &mut self.buffer[..self.value_bytes];
        let last = buffer.len() - 1;
        for at in 0..numbers.len() {
            let at = at ^ usize::from(buffer[last] & nothing);
            let key = &self.keys[at];
            if at.is_multiple_of(MIX) {
                fill_value(&mut self.value, numbers[at], self.version);
                self.engine.put(key, &self.value)?;
            } else if let Some(len) = self.engine.get(key, buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    #[inline(never)]
    fn insert(&mut self) -> Result<usize> {
        for key in &self.keys {
            fill_value(&mut self.value, self.next, 0);
            self.engine.put(key, &self.value)?;
            self.next += 1;
        }
        Ok(0)
    }

    /// The same, each operation by itself under the clock. Not of batches.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub(crate) fn run_timed(
        &mut self,
        work: Work,
        numbers: &[u32],
        latencies: &mut Latencies,
    ) -> Result<()> {
        self.version = self.version.wrapping_add(1) % VERSIONS;
        let length = self.value_bytes;
        for (at, number) in numbers.iter().enumerate() {
            let (key, puts): (Key, bool) = match work {
                Work::Get | Work::GetIndependent | Work::GetMany => (key_of(*number), false),
                Work::Miss => (key_of(ABSENT + number), false),
                Work::Put | Work::Resize => (key_of(*number), true),
                Work::Mix => (key_of(*number), at.is_multiple_of(MIX)),
                Work::Insert => {
                    self.next += 1;
                    (key_of(self.next - 1), true)
                }
            };
            let value = if work == Work::Insert { self.next - 1 } else { *number };
            if puts {
                let shorter = (work == Work::Resize).then(|| length - SHORTER);
                for length in shorter.into_iter().chain([length]) {
                    let value_now = &mut self.value[..length];
                    fill_value(value_now, value, self.version);
                    let start = Instant::now();
                    let put = self.engine.put(&key, value_now);
                    latencies.record(start.elapsed());
                    put?;
                }
            } else {
                let start = Instant::now();
                let found = self.engine.get(&key, &mut self.buffer[..length]);
                latencies.record(start.elapsed());
                let found = found?;
                let is_right = match found {
                    // Another process may be at [`Work::Resize`].
                    Some(found) => found == length || found + SHORTER == length,
                    None => work == Work::Miss,
                };
                ensure!(is_right, "item {number}: found {found:?} bytes");
                black_box(&mut self.buffer);
            }
        }
        Ok(())
    }
}
