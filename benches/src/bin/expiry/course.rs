//! Who puts, who looks up, who keeps the store in order, and what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use store_benches::progress;
use store_benches::records::key_of;
use store_client::{PutOptions, WriteError, Writer};

use super::TOLERANCE;

const SHORTEST: Duration = Duration::from_secs(1);
const VALUE: [u8; 104] = [5; 104];
/// Steady times that are watched, each as long as the longest time to live.
const STEADY_TIMES: u32 = 2;
/// How long a key that has expired is still looked up.
const AFTER: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);
const UPKEEP: Duration = Duration::from_millis(100);
/// Rounds of upkeep in which the whole index is swept.
const SWEEP_ROUNDS: u64 = 10;
const SAMPLE: Duration = Duration::from_secs(1);

pub(crate) struct Course<'a> {
    writer: &'a Writer,
    /// Puts in a second.
    rate: f64,
    longest: Duration,
    seed: u64,
    start: Instant,
    /// When each of the last keys was about to be put, and was put: nanoseconds since the start.
    times: Vec<[AtomicU64; 2]>,
    /// Keys that were put.
    put: AtomicU64,
    ended: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Put {
    pub(crate) done: u64,
    pub(crate) refused: u64,
}

#[derive(Default)]
pub(crate) struct Looked {
    pub(crate) lookups: u64,
    pub(crate) hits: u64,
    pub(crate) late: u64,
    /// The most that an item was served after its time, within the tolerance or not.
    pub(crate) latest: Duration,
    pub(crate) lost: u64,
}

pub(crate) struct Sample {
    pub(crate) items: u64,
    pub(crate) occupied_bytes: u64,
}

pub(crate) struct Seen {
    pub(crate) put: Put,
    pub(crate) looked: Looked,
    /// Of the steady time, one a second.
    pub(crate) samples: Vec<Sample>,
    pub(crate) seconds: f64,
}

impl<'a> Course<'a> {
    pub(crate) fn new(writer: &'a Writer, items: u32, longest_s: u32, seed: u64) -> Self {
        let longest = Duration::from_secs(longest_s.into());
        let mean = (SHORTEST + longest) / 2;
        let rate = f64::from(items) / mean.as_secs_f64();
        let kept = (rate * (longest + 2 * AFTER).as_secs_f64()) as usize;
        let times = (0..kept).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
        let (put, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { writer, rate, longest, seed, start: Instant::now(), times, put, ended }
    }

    pub(crate) fn run(mut self) -> Result<Seen> {
        let warm = self.longest + AFTER;
        let length = warm + STEADY_TIMES * self.longest;
        self.start = Instant::now();
        let bar = progress::bar(length.as_secs(), "seconds".into());
        scope(|scope| {
            let put = scope.spawn(|| self.keep_putting());
            let looked = scope.spawn(|| self.keep_looking());
            let upkeep = scope.spawn(|| self.keep_in_order());
            let mut samples = Vec::new();
            let mut watched = Ok(());
            while self.start.elapsed() < length && watched.is_ok() {
                sleep(SAMPLE);
                bar.set_position(self.start.elapsed().as_secs());
                watched = self.writer.stats().map(|stats| {
                    let occupied_bytes = stats.arena_bytes - stats.free_bytes - stats.reserve_bytes;
                    if self.start.elapsed() > warm {
                        samples.push(Sample { items: stats.items, occupied_bytes });
                    }
                });
            }
            self.ended.store(true, Ordering::Relaxed);
            bar.finish_and_clear();
            let seconds = self.start.elapsed().as_secs_f64();
            let put = put.join().expect("the putting thread ends")?;
            let looked = looked.join().expect("the looking thread ends")?;
            upkeep.join().expect("the upkeep ends")?;
            watched?;
            Ok(Seen { put, looked, samples, seconds })
        })
    }

    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn time_of(&self, number: u64) -> Duration {
        let spread = (self.longest - SHORTEST).as_millis() as u64 + 1;
        let mixed = (number ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        SHORTEST + Duration::from_millis(mixed % spread)
    }

    fn times(&self, number: u64) -> &[AtomicU64; 2] {
        &self.times[(number % self.times.len() as u64) as usize]
    }

    fn keep_putting(&self) -> Result<Put> {
        let mut seen = Put::default();
        while self.goes_on() {
            let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64;
            while self.put.load(Ordering::Relaxed) < due && self.goes_on() {
                let number = self.put.load(Ordering::Relaxed);
                let options = PutOptions::new().ttl(self.time_of(number));
                let [before, after] = self.times(number);
                // Nobody looks while it says nothing.
                after.store(0, Ordering::Release);
                before.store(self.now(), Ordering::Release);
                match self.writer.put_with(&key_of(number as u32), &VALUE, &options) {
                    Ok(_) => {
                        seen.done += 1;
                        after.store(self.now(), Ordering::Release);
                    }
                    Err(WriteError::Full(_)) => seen.refused += 1,
                    Err(error) => return Err(error.into()),
                }
                self.put.store(number + 1, Ordering::Release);
            }
            sleep(TICK);
        }
        Ok(seen)
    }

    fn keep_looking(&self) -> Result<Looked> {
        let mut seen = Looked::default();
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let back = (self.rate * (self.longest + AFTER).as_secs_f64()) as u64;
        let mut buffer = [0; VALUE.len()];
        while self.goes_on() {
            let put = self.put.load(Ordering::Acquire);
            if put == 0 {
                sleep(TICK);
                continue;
            }
            let number = rng.random_range(put.saturating_sub(back)..put);
            let [before, after] = self.times(number);
            let (was_put, asked) = (after.load(Ordering::Acquire), self.now());
            let found = self.writer.get_into(&key_of(number as u32), &mut buffer)?.is_some();
            let answered = self.now();
            let began = before.load(Ordering::Acquire);
            if was_put == 0 || after.load(Ordering::Acquire) != was_put {
                continue;
            }
            seen.lookups += 1;
            let time = self.time_of(number).as_nanos() as u64;
            let tolerance = TOLERANCE.as_nanos() as u64;
            if found {
                seen.hits += 1;
                let late = asked.saturating_sub(was_put + time);
                seen.latest = seen.latest.max(Duration::from_nanos(late));
                seen.late += u64::from(late > tolerance);
            } else {
                seen.lost += u64::from(answered + tolerance < began + time);
            }
        }
        Ok(seen)
    }

    /// What `store-server` does.
    fn keep_in_order(&self) -> Result<()> {
        while self.goes_on() {
            let stats = self.writer.stats()?;
            self.writer.sweep(stats.buckets / SWEEP_ROUNDS + 1)?;
            if stats.extents_free < stats.extents / 16 {
                self.writer.clean(1)?;
            }
            sleep(UPKEEP);
        }
        Ok(())
    }
}
