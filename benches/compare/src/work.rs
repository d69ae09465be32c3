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
use crate::workload::{ABSENT, KEY_BYTES, Key, fill_value, key_of};

/// Of a mix, one operation in so many is a put.
const MIX: usize = 20;
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
    /// 95 gets to 5 puts.
    Mix,
    /// Puts keys that never were.
    Insert,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetIndependent => "get, independent",
            Self::GetMany => "get_many of 32, per key",
            Self::Miss => "miss",
            Self::Put => "put",
            Self::Mix => "95 get, 5 put",
            Self::Insert => "insert",
        }
    }
}

/// An engine and what it is used with.
pub(crate) struct Worker<E> {
    pub(crate) engine: E,
    value_bytes: usize,
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
        self.version = self.version.wrapping_add(1) % VERSIONS;
        let (bytes, hits) = match work {
            Work::Get => (self.get(numbers)?, numbers.len()),
            Work::GetIndependent => (self.get_independent(numbers)?, numbers.len()),
            Work::Miss => (self.miss(numbers)?, 0),
            Work::GetMany => match self.get_many(numbers)? {
                Some(bytes) => (bytes, numbers.len()),
                None => return Ok(false),
            },
            Work::Put => (self.put(numbers)?, 0),
            Work::Mix => (self.mix(numbers)?, numbers.len() - numbers.len().div_ceil(MIX)),
            Work::Insert => (self.insert(numbers.len())?, 0),
        };
        ensure!(bytes == hits * self.value_bytes, "{work:?} found {bytes} bytes of {hits} items");
        Ok(true)
    }

    #[inline(never)]
    fn get(&mut self, numbers: &[u32]) -> Result<usize> {
        let (mut bytes, nothing) = (0, black_box(0_u8));
        let buffer = &mut self.buffer[..self.value_bytes];
        let last = buffer.len() - 1;
        for at in 0..numbers.len() {
            // `nothing` is 0, which the compiler must not know.
            let number = numbers[at ^ usize::from(buffer[last] & nothing)];
            if let Some(len) = self.engine.get(&key_of(number), buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    #[inline(never)]
    fn get_independent(&mut self, numbers: &[u32]) -> Result<usize> {
        let (mut bytes, buffer) = (0, &mut self.buffer[..self.value_bytes]);
        for number in numbers {
            if let Some(len) = self.engine.get(&key_of(*number), buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    /// Nothing depends on what is not there, so the processor goes on with the next one.
    #[inline(never)]
    fn miss(&mut self, numbers: &[u32]) -> Result<usize> {
        let (mut bytes, buffer) = (0, &mut self.buffer[..self.value_bytes]);
        for number in numbers {
            if let Some(len) = self.engine.get(&key_of(ABSENT + number), buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    #[inline(never)]
    fn get_many(&mut self, numbers: &[u32]) -> Result<Option<usize>> {
        let (mut bytes, mut keys) = (0, [[0; KEY_BYTES]; BATCH]);
        for batch in numbers.chunks(BATCH) {
            for (key, number) in keys.iter_mut().zip(batch) {
                *key = key_of(*number);
            }
            match self.engine.get_many(&keys[..batch.len()], &mut self.buffer)? {
                Some(found) => bytes += found,
                None => return Ok(None),
            }
            black_box(&mut self.buffer);
        }
        Ok(Some(bytes))
    }

    #[inline(never)]
    fn put(&mut self, numbers: &[u32]) -> Result<usize> {
        for number in numbers {
            fill_value(&mut self.value, *number, self.version);
            self.engine.put(&key_of(*number), &self.value)?;
        }
        Ok(0)
    }

    #[inline(never)]
    fn mix(&mut self, numbers: &[u32]) -> Result<usize> {
        let (mut bytes, nothing) = (0, black_box(0_u8));
        let buffer = &mut self.buffer[..self.value_bytes];
        let last = buffer.len() - 1;
        for at in 0..numbers.len() {
            let number = numbers[at ^ usize::from(buffer[last] & nothing)];
            if at.is_multiple_of(MIX) {
                fill_value(&mut self.value, number, self.version);
                self.engine.put(&key_of(number), &self.value)?;
            } else if let Some(len) = self.engine.get(&key_of(number), buffer)? {
                bytes += len;
                black_box(&mut *buffer);
            }
        }
        Ok(bytes)
    }

    #[inline(never)]
    fn insert(&mut self, count: usize) -> Result<usize> {
        for _ in 0..count {
            fill_value(&mut self.value, self.next, 0);
            self.engine.put(&key_of(self.next), &self.value)?;
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
                Work::Put => (key_of(*number), true),
                Work::Mix => (key_of(*number), at.is_multiple_of(MIX)),
                Work::Insert => {
                    self.next += 1;
                    (key_of(self.next - 1), true)
                }
            };
            let value = if work == Work::Insert { self.next - 1 } else { *number };
            if puts {
                fill_value(&mut self.value, value, self.version);
                let start = Instant::now();
                let put = self.engine.put(&key, &self.value);
                latencies.record(start.elapsed());
                put?;
            } else {
                let start = Instant::now();
                let found = self.engine.get(&key, &mut self.buffer[..length]);
                latencies.record(start.elapsed());
                let expected = (work != Work::Miss).then_some(length);
                let found = found?;
                ensure!(found == expected, "item {number}: found {found:?} bytes");
                black_box(&mut self.buffer);
            }
        }
        Ok(())
    }
}
