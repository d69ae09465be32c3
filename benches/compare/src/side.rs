//! A process that has one engine, and does with it what it is told.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::disable_transparent_huge_pages;
use serde::{Deserialize, Serialize};

use store_benches::shared::now_ns;
use store_benches::stats::Latencies;
use store_benches::worker::Parent;

use crate::clock::{Clock, Stopwatch, Took};
use crate::engine::{Engine, Figures, Memory, Setting};
use crate::work::{VERSIONS, Work, Worker};
use crate::workload::{Distribution, key_of, verify};

/// Operations between two looks at the clock.
const PIECE: usize = 1024;
/// The same in a window, which others share.
const WINDOW_PIECE: usize = 64;
/// Of the operations of a turn, so many are done before the clock runs, to warm caches: one in eight.
const WARM_PART: usize = 8;
/// Puts of a churn that are drawn at a time.
const CHURN_PIECE: usize = 1 << 20;
/// Makes the seed of what warms another one than that of what is timed.
const WARM: u64 = 0x5eed;

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Puts all items.
    Load,
    /// Overwrites so many items at random, so that a store has used its room up and cleans.
    Churn(usize),
    /// Looks at all items, or at this many drawn from a seed.
    Verify(Option<(usize, u64)>),
    /// Tells what it takes.
    Memory,
    /// Tells statistics.
    Figures,
    /// Stays on one processor, or goes where it likes.
    StayOn(Option<usize>),
    /// Does as many operations as are drawn, or as fit.
    Time(Turn),
    /// Times each operation by itself.
    Sample(Turn),
    /// Works from one moment to another, beside others.
    Window(Window),
    /// Ends.
    Quit,
}

/// Work of one engine before another has its turn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) work: Work,
    pub(crate) distribution: Distribution,
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    /// It ends then, however many were done.
    pub(crate) within_ms: u64,
    pub(crate) clock: Clock,
}

/// Work at the same time as others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) work: Work,
    pub(crate) seed: u64,
    /// By [`now_ns`].
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
    /// Whether each operation is timed.
    pub(crate) timed: bool,
    /// Threads of this process that do it.
    pub(crate) threads: usize,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Ready,
    Done,
    Memory(Memory),
    Figures(Figures),
    /// The engine can't do this work.
    Cannot,
    Timed(Took),
    Sampled(Quantiles),
    Worked(Worked),
    /// It went wrong: the engine is of no use any more.
    Failed(String),
}

/// Of operations that were timed one by one, the clock included.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
}

impl Quantiles {
    pub(crate) fn of(latencies: &Latencies) -> Self {
        Self {
            p50_ns: latencies.quantile_ns(0.5),
            p99_ns: latencies.quantile_ns(0.99),
            p999_ns: latencies.quantile_ns(0.999),
        }
    }
}

/// What was done in a window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Worked {
    pub(crate) operations: u64,
    /// How long it really took.
    pub(crate) ns: u64,
    pub(crate) quantiles: Quantiles,
}

impl Worked {
    /// Operations in a second.
    pub(crate) fn per_s(&self) -> f64 {
        self.operations as f64 * 1e9 / self.ns.max(1) as f64
    }
}

/// Serves until it is told to quit.
pub(crate) fn serve<E: Engine>(setting: &Setting, attach: bool, parent: &mut Parent) -> Result<()> {
    // Whatever the machine's settings are, all sides have the same pages, but for who asks for others.
    if !setting.huge_pages {
        disable_transparent_huge_pages(true).context("asking for small pages")?;
    }
    let engine = if attach { E::attach(setting) } else { E::create(setting) };
    let mut side = Side { worker: Worker::new(engine?, setting), setting };
    parent.tell(&Answer::Ready)?;
    while let Some(command) = parent.hear()? {
        if matches!(command, Command::Quit) {
            break;
        }
        let answer = side.obey(&command);
        parent.tell(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

struct Side<'a, E> {
    worker: Worker<E>,
    setting: &'a Setting,
}

impl<E: Engine> Side<'_, E> {
    fn obey(&mut self, command: &Command) -> Result<Answer> {
        match command {
            Command::Load => {
                self.worker.engine.load(0..self.setting.items, self.setting.value_bytes)?;
                Ok(Answer::Done)
            }
            Command::Churn(puts) => {
                for first in (0..*puts).step_by(CHURN_PIECE) {
                    let count = CHURN_PIECE.min(puts - first);
                    let numbers =
                        Distribution::Uniform.draw(self.setting.items, count, first as u64);
                    self.worker.run(Work::Resize, &numbers)?;
                }
                Ok(Answer::Done)
            }
            Command::Verify(sample) => self.verify(*sample).map(|()| Answer::Done),
            Command::Memory => Ok(Answer::Memory(self.worker.engine.memory()?)),
            Command::Figures => Ok(Answer::Figures(self.worker.engine.figures()?)),
            Command::StayOn(processor) => {
                self.worker.engine.stay_on(*processor)?;
                Ok(Answer::Done)
            }
            Command::Time(turn) => self.time(turn),
            Command::Sample(turn) => self.sample(turn),
            Command::Window(window) => self.window(window).map(Answer::Worked),
            Command::Quit => Ok(Answer::Done),
        }
    }

    /// Refuses an engine that has lost an item, or has what was never put.
    fn verify(&mut self, sample: Option<(usize, u64)>) -> Result<()> {
        let (items, bytes) = (self.setting.items, self.setting.value_bytes);
        let mut buffer = vec![0; bytes];
        let mut look_at = |number| {
            let found = self.worker.engine.get(&key_of(number), &mut buffer)?;
            let len = found.with_context(|| format!("item {number} of {items} is absent"))?;
            verify(number, &buffer[..len], bytes, VERSIONS)
        };
        match sample {
            None => (0..items).try_for_each(look_at),
            Some((count, seed)) => Distribution::Uniform
                .draw(items, count, seed)
                .into_iter()
                .try_for_each(&mut look_at),
        }
    }

    fn time(&mut self, turn: &Turn) -> Result<Answer> {
        let items = self.setting.items;
        let within = Duration::from_millis(turn.within_ms);
        let warm = turn.distribution.draw(items, turn.operations / WARM_PART, turn.seed ^ WARM);
        let start = Instant::now();
        for piece in warm.chunks(PIECE) {
            if start.elapsed() > within / WARM_PART as u32 {
                break;
            }
            if !self.worker.run(turn.work, piece)? {
                return Ok(Answer::Cannot);
            }
        }
        let numbers = turn.distribution.draw(items, turn.operations, turn.seed);
        let (mut done, mut watch) = (0, Stopwatch::default());
        for piece in numbers.chunks(PIECE) {
            // What looks a key up has it; how long it takes to make one says nothing of a store.
            self.worker.make_keys(turn.work, piece);
            watch.time(|| self.worker.work(turn.work, piece))?;
            done += piece.len();
            if watch.elapsed() > within {
                break;
            }
        }
        Ok(Answer::Timed(watch.took(turn.clock, done)))
    }

    fn sample(&mut self, turn: &Turn) -> Result<Answer> {
        let numbers = turn.distribution.draw(self.setting.items, turn.operations, turn.seed);
        let mut latencies = Latencies::new();
        let within = Duration::from_millis(turn.within_ms);
        let start = Instant::now();
        for piece in numbers.chunks(PIECE) {
            self.worker.run_timed(turn.work, piece, &mut latencies)?;
            if start.elapsed() > within {
                break;
            }
        }
        Ok(Answer::Sampled(Quantiles::of(&latencies)))
    }

    fn window(&mut self, window: &Window) -> Result<Worked> {
        let others = 1..window.threads;
        if others.is_empty() {
            return work_in(&mut self.worker, self.setting, window);
        }
        let setting = self.setting;
        let shared: Vec<_> = others.filter_map(|_| self.worker.engine.share()).collect();
        ensure!(shared.len() + 1 == window.threads, "it is not for several threads");
        let parts = thread::scope(|scope| {
            let threads: Vec<_> = (1..)
                .zip(shared)
                .map(|(number, share)| {
                    let window = Window { seed: window.seed + number, ..*window };
                    scope.spawn(move || {
                        work_in(&mut Worker::new(share(), setting), setting, &window)
                    })
                })
                .collect();
            let mut parts = vec![work_in(&mut self.worker, setting, window)];
            for thread in threads {
                match thread.join() {
                    Ok(part) => parts.push(part),
                    Err(_) => bail!("a thread panicked"),
                }
            }
            Ok(parts)
        })?;
        let parts: Vec<Worked> = parts.into_iter().collect::<Result<_>>()?;
        let longest = parts.iter().map(|part| part.ns).max().unwrap_or(1);
        let per_s: f64 = parts.iter().map(Worked::per_s).sum();
        Ok(Worked {
            operations: (per_s * longest as f64 / 1e9) as u64,
            ns: longest,
            quantiles: parts[0].quantiles,
        })
    }
}

/// Works from one moment to another, over numbers that come round.
fn work_in<E: Engine>(
    worker: &mut Worker<E>,
    setting: &Setting,
    window: &Window,
) -> Result<Worked> {
    let numbers = Distribution::Uniform.draw(setting.items, NUMBERS, window.seed);
    // Whoever is late on a busy machine works for a shorter time, and is told so.
    while now_ns() < window.from_ns {
        spin_loop();
    }
    let (mut latencies, mut operations) = (Latencies::new(), 0);
    let from = now_ns();
    let mut until = from;
    for piece in numbers.chunks(WINDOW_PIECE).cycle() {
        if window.timed {
            worker.run_timed(window.work, piece, &mut latencies)?;
        } else {
            worker.run(window.work, piece)?;
        }
        operations += piece.len() as u64;
        until = now_ns();
        if until >= window.until_ns {
            break;
        }
    }
    Ok(Worked { operations, ns: until - from, quantiles: Quantiles::of(&latencies) })
}

/// Numbers of a window, before they come round.
const NUMBERS: usize = 1 << 19;

/// Times to read the clock twice: what each operation that is timed by itself has in its figure.
pub(crate) fn clock_ns() -> u64 {
    let mut clock = Latencies::new();
    for _ in 0..100_000 {
        let start = Instant::now();
        clock.record(black_box(start.elapsed()).max(Duration::from_nanos(1)));
    }
    clock.quantile_ns(0.5)
}
