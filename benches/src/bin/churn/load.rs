//! The load: puts whose sizes drift, deletes that keep the live bytes where they are to be.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use store_benches::stats::{Latencies, rounded};
use store_client::{WriteError, Writer};

/// The smallest and the largest value.
const VALUE_BYTES_MIN: f64 = 16.0;
const VALUE_BYTES_MAX: f64 = 256.0 * 1024.0;
/// Upper bounds of the size classes.
const CLASSES: [usize; 6] = [64, 512, 4 << 10, 32 << 10, 128 << 10, 256 << 10];

/// What puts of one size class took.
#[derive(Debug, Serialize)]
pub(crate) struct Class {
    /// Values of at most so many bytes.
    bytes: usize,
    puts: u64,
    p50_ns: u64,
    p999_ns: u64,
    pub(crate) p999_to_median: f64,
}

/// A key that stands: its number and the length of its value.
#[derive(Clone, Copy)]
struct Standing {
    number: u64,
    bytes: usize,
}

pub(crate) struct Load<'a> {
    writer: &'a Writer,
    random: StdRng,
    standing: Vec<Standing>,
    live: u64,
    live_max: u64,
    next: u64,
    spent: Duration,
    latencies: Vec<(Latencies, u64)>,
    pub(crate) puts: u64,
    pub(crate) deletes: u64,
    pub(crate) full: u64,
    pub(crate) full_small: u64,
    /// Bytes of items put.
    pub(crate) bytes: u64,
}

/// Bytes of an item in the arena, as the format has it.
fn item_bytes(value: usize) -> u64 {
    16 + 8 + (value as u64).next_multiple_of(8)
}

/// A value that tells which one it is.
fn value(number: u64, bytes: usize) -> Vec<u8> {
    let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..bytes).map(|at| word[at % 8] ^ (at / 8) as u8).collect()
}

impl<'a> Load<'a> {
    pub(crate) fn new(writer: &'a Writer, seed: u64) -> Self {
        Self {
            writer,
            random: StdRng::seed_from_u64(seed),
            standing: Vec::new(),
            live: 0,
            live_max: 0,
            next: 0,
            spent: Duration::ZERO,
            latencies: CLASSES.iter().map(|_| (Latencies::new(), 0)).collect(),
            puts: 0,
            deletes: 0,
            full: 0,
            full_small: 0,
            bytes: 0,
        }
    }

    /// Puts small values until `percent` of what the index leaves of the arena lives, which gives
    /// as many items, and as large an index, as there will ever be; the bytes of the arena then.
    pub(crate) fn fill(&mut self, percent: u64) -> Result<u64> {
        loop {
            let arena = self.writer.stats()?.arena_bytes;
            self.live_max = arena / 100 * percent;
            if self.live + arena / 1000 > self.live_max {
                return Ok(arena);
            }
            for _ in 0..1000 {
                self.put_one(0.0)?;
            }
        }
    }

    /// Puts `bytes` bytes: small values first, then larger ones, then small ones again.
    pub(crate) fn turn(&mut self, bytes: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes {
            let phase = 1.0 - (2.0 * done as f64 / bytes as f64 - 1.0).abs();
            done += self.put_one(phase)?;
        }
        Ok(())
    }

    /// A value whose size is near what the phase says (0: the smallest, 1: the largest).
    fn put_one(&mut self, phase: f64) -> Result<u64> {
        let span = (VALUE_BYTES_MAX / VALUE_BYTES_MIN).ln();
        let center = phase + self.random.random_range(-0.15..0.15);
        let size = (VALUE_BYTES_MIN * (span * center.clamp(0.0, 1.0)).exp()) as usize;
        // A third of the puts overwrite a key that stands.
        let over = (!self.standing.is_empty() && self.random.random_range(0..3) == 0)
            .then(|| self.random.random_range(0..self.standing.len()));
        let need = item_bytes(size);
        while self.live + item_bytes(size) > self.live_max {
            self.delete_one()?;
        }
        let over = over.filter(|at| *at < self.standing.len());
        let number = match over {
            Some(at) => self.standing[at].number,
            None => {
                self.next += 1;
                self.next
            }
        };
        let bytes = value(number, size);
        let start = Instant::now();
        let put = self.writer.put(&number.to_le_bytes(), &bytes);
        let spent = start.elapsed();
        self.spent += spent;
        match put {
            Ok(_) => {}
            Err(WriteError::Full(full)) => {
                if self.full < 3 || need < 4096 && self.full_small < 3 {
                    self.full_small += u64::from(need < 4096);
                    println!("refused: {full:?}, {:?}", self.writer.stats());
                }
                self.full += 1;
                return Ok(need);
            }
            Err(error) => bail!(error),
        }
        self.puts += 1;
        self.bytes += need;
        let class = CLASSES.iter().position(|most| size <= *most).unwrap_or(CLASSES.len() - 1);
        self.latencies[class].0.record(spent);
        self.latencies[class].1 += 1;
        let standing = Standing { number, bytes: size };
        match over {
            Some(at) => {
                self.live -= item_bytes(self.standing[at].bytes);
                self.standing[at] = standing;
            }
            None => self.standing.push(standing),
        }
        self.live += item_bytes(size);
        Ok(need)
    }

    fn delete_one(&mut self) -> Result<()> {
        let at = self.random.random_range(0..self.standing.len());
        let gone = self.standing.swap_remove(at);
        if !self.writer.delete(&gone.number.to_le_bytes())? {
            bail!("key {} was lost", gone.number);
        }
        self.live -= item_bytes(gone.bytes);
        self.deletes += 1;
        Ok(())
    }

    /// Reads every key that stands; how many are not what was put.
    pub(crate) fn verify(&self) -> Result<u64> {
        let mut wrong = 0;
        for standing in &self.standing {
            let found = self.writer.get(&standing.number.to_le_bytes())?;
            wrong += u64::from(found != Some(value(standing.number, standing.bytes)));
        }
        Ok(wrong)
    }

    pub(crate) fn mib_per_s(&self) -> f64 {
        rounded(self.bytes as f64 / f64::from(1 << 20) / self.spent.as_secs_f64().max(1e-9), 1)
    }

    pub(crate) fn classes(&self) -> Vec<Class> {
        let of = |(bytes, (latencies, puts)): (&usize, &(Latencies, u64))| {
            let (p50, p999) = (latencies.quantile_ns(0.5), latencies.quantile_ns(0.999));
            Class {
                bytes: *bytes,
                puts: *puts,
                p50_ns: p50,
                p999_ns: p999,
                p999_to_median: rounded(p999 as f64 / p50.max(1) as f64, 1),
            }
        };
        CLASSES.iter().zip(&self.latencies).map(of).collect()
    }
}
