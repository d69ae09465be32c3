//! One process of `bench`: attaches, waits for the start, works until the time is up, reports.
//!
//! Between start and report the worker makes no system call of its own: the clock is read through
//! the vDSO, and nothing is written. So `strace -f -c` shows what the store does, not the bench.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use store_client::{ReadError, Reader, Spec, Writer};

use super::Work;
use super::keys::{self, Distribution, KEY_BYTES, Sequence};
use crate::exit::{Exit, Failure};
use crate::process;

/// Of small operations each 64th is timed by itself: reading the clock takes half as long as one.
const SAMPLE_EVERY: u64 = 64;

/// From this size on a write takes so long that each is timed, and the end is looked for each time.
const LARGE_VALUE_BYTES: u64 = 16 << 10;

/// Values longer than this are recorded as this: an hour.
const LONGEST_NANOS: u64 = 3_600_000_000_000;

/// What a worker is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) read_percent: u64,
    pub(super) keys: u64,
    pub(super) value_bytes: u64,
    pub(super) distribution: Distribution,
    pub(super) batch: usize,
    pub(super) millis: u64,
    pub(super) seed: u64,
    /// Which of the workers this is.
    pub(super) stream: u64,
    pub(super) timeout_ms: Option<u64>,
}

/// What a worker reports. The histogram goes as pairs of a value and its count.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) ops: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) puts: u64,
    pub(super) bad_values: u64,
    pub(super) contended: u64,
    pub(super) nanos: u64,
    pub(super) latencies: Vec<(u64, u64)>,
    /// What the store said when it was full; the work ended there.
    pub(super) full: Option<String>,
    /// A signal ended it before its time was up.
    pub(super) interrupted: bool,
}

/// An empty histogram of nanoseconds with three significant digits.
pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3)
        .map_err(|error| Failure::new(Exit::System, format!("histogram: {error}")))
}

/// Lookups need no more than a reader; writes need a writer, which reads as well.
enum Handle {
    Reader(Reader),
    Writer(Writer),
}

impl Handle {
    fn reader(&self) -> &Reader {
        match self {
            Handle::Reader(reader) => reader,
            Handle::Writer(writer) => writer,
        }
    }
}

/// Runs one task from attaching to the report.
pub(super) fn run(task: &Task, spec: &Spec) -> Result<(), Failure> {
    // Before "ready", so that no signal meets a worker that would die of it without a report.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::system("catching signals", &error))?;
    }
    let handle = match task.work.writes() {
        true => Handle::Writer(Writer::attach(spec)?.count_lookups()?),
        false => Handle::Reader(Reader::attach(spec)?),
    };
    if let (Handle::Writer(writer), Some(millis)) = (&handle, task.timeout_ms) {
        writer.set_guard_deadline(Duration::from_millis(millis))?;
    }
    let mut worker = Bench {
        task,
        sequence: Sequence::new(task.distribution, task.keys, task.seed, task.stream),
        report: Report::default(),
        value: vec![0; usize::try_from(task.value_bytes).unwrap_or(0)],
        stop: &stop,
        batch: Vec::with_capacity(task.batch),
        numbers: Vec::with_capacity(task.batch),
    };
    let mut latencies = histogram()?;
    process::report("ready")?;
    // All workers begin with the same byte; the end of the input says that the parent gave up.
    if !matches!(std::io::stdin().read(&mut [0; 1]), Ok(1)) {
        return Ok(());
    }
    let started = Instant::now();
    match worker.work(&handle, &mut latencies) {
        // What was measured until then is worth as much as before.
        Err(failure) if failure.exit == Exit::Full => {
            worker.report.nanos = started.elapsed().as_nanos() as u64;
            worker.report.full = failure.line();
        }
        result => result?,
    }
    let pairs = latencies.iter_recorded();
    worker.report.latencies =
        pairs.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect();
    process::report(worker.report)
}

struct Bench<'a> {
    task: &'a Task,
    sequence: Sequence,
    report: Report,
    value: Vec<u8>,
    stop: &'a AtomicBool,
    batch: Vec<[u8; KEY_BYTES]>,
    numbers: Vec<u64>,
}

impl Bench<'_> {
    /// Calls the one step that the work consists of until the time is up.
    fn work(&mut self, handle: &Handle, latencies: &mut Histogram<u64>) -> Result<(), Failure> {
        let reader = handle.reader();
        match (self.task.work, handle) {
            (Work::Get, _) => self.repeat(latencies, |bench| bench.get(reader)),
            (Work::Miss, _) => self.repeat(latencies, |bench| bench.miss(reader)),
            (Work::MultiGet, _) => self.repeat(latencies, |bench| bench.multi_get(reader)),
            (Work::Put, Handle::Writer(writer)) => {
                self.repeat(latencies, |bench| bench.put(writer))
            }
            (Work::Mixed, Handle::Writer(writer)) => self.repeat(latencies, |bench| {
                match keys::below(100, bench.sequence.word()) < bench.task.read_percent {
                    true => bench.get(writer),
                    false => bench.put(writer),
                }
            }),
            (Work::Put | Work::Mixed, Handle::Reader(_)) => {
                Err(Failure::usage("this work writes, and needs a writer"))
            }
        }
    }

    fn repeat(
        &mut self,
        latencies: &mut Histogram<u64>,
        mut step: impl FnMut(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let slow = self.task.work.writes() && self.task.value_bytes >= LARGE_VALUE_BYTES;
        let every = if slow || self.task.work == Work::MultiGet { 1 } else { SAMPLE_EVERY };
        let limit = Duration::from_millis(self.task.millis);
        let start = Instant::now();
        loop {
            for _ in 1..every {
                step(self)?;
            }
            let before = Instant::now();
            step(self)?;
            let after = Instant::now();
            latencies.saturating_record((after - before).as_nanos() as u64);
            let elapsed = after - start;
            self.report.interrupted = self.stop.load(Relaxed);
            if elapsed >= limit || self.report.interrupted {
                self.report.nanos = elapsed.as_nanos() as u64;
                return Ok(());
            }
        }
    }

    #[inline(always)]
    fn get(&mut self, reader: &Reader) -> Result<(), Failure> {
        let number = self.sequence.next();
        let found = reader.get_with(&keys::key(number), |value| keys::is_whole(value, number));
        self.count(found)
    }

    #[inline(always)]
    fn miss(&mut self, reader: &Reader) -> Result<(), Failure> {
        // A value under a key that is never stored belongs to another key.
        let found = reader.get_with(&keys::absent_key(self.sequence.next()), |_| false);
        self.count(found)
    }

    #[inline(always)]
    fn count(&mut self, found: Result<Option<bool>, ReadError>) -> Result<(), Failure> {
        self.report.ops += 1;
        match found {
            Ok(Some(whole)) => {
                self.report.hits += 1;
                self.report.bad_values += u64::from(!whole);
            }
            Ok(None) => self.report.misses += 1,
            Err(ReadError::Contended { .. }) => self.report.contended += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn multi_get(&mut self, reader: &Reader) -> Result<(), Failure> {
        self.batch.clear();
        self.numbers.clear();
        for _ in 0..self.task.batch {
            let number = self.sequence.next();
            self.numbers.push(number);
            self.batch.push(keys::key(number));
        }
        let (report, numbers) = (&mut self.report, &self.numbers);
        let mut seen = (0, 0, 0);
        let result = reader.get_many_with(&self.batch, |position, value| match value {
            Some(value) => {
                seen.0 += 1;
                seen.2 += u64::from(!keys::is_whole(value, numbers[position]));
            }
            None => seen.1 += 1,
        });
        match result {
            Ok(()) => {
                report.ops += self.task.batch as u64;
                report.hits += seen.0;
                report.misses += seen.1;
            }
            // The batch is void, its calls too; only a bad value stays one.
            Err(ReadError::Contended { .. }) => report.contended += 1,
            Err(error) => return Err(error.into()),
        }
        report.bad_values += seen.2;
        Ok(())
    }

    fn put(&mut self, writer: &Writer) -> Result<(), Failure> {
        let number = self.sequence.next_put();
        let nonce = self.sequence.word();
        keys::fill(&mut self.value, number, nonce);
        writer.put(&keys::key(number), &self.value)?;
        self.report.ops += 1;
        self.report.puts += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_the_way_to_the_parent() {
        let mut sent = histogram().expect("valid bounds");
        for nanos in (1..100_000).step_by(7) {
            sent.saturating_record(nanos);
        }
        sent.saturating_record(u64::MAX);
        let mut received = histogram().expect("valid bounds");
        for step in sent.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
            received.saturating_record_n(value, count);
        }
        assert_eq!(received.len(), sent.len());
        for quantile in [0.1, 0.5, 0.99, 0.999, 1.0] {
            assert_eq!(received.value_at_quantile(quantile), sent.value_at_quantile(quantile));
        }
    }
}
