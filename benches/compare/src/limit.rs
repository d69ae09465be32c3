//! What the machine itself takes: reads of memory as large as a store's, a system call, a switch from
//! one process to another. A process of its own, which does with its memory what it is told.

use std::hint::{black_box, spin_loop};
use std::io::{Read, Write, pipe};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::getppid;
use rustix::process::Pid;
use rustix::thread::{
    CpuSet, disable_transparent_huge_pages, sched_getaffinity, sched_setaffinity,
};
use serde::{Deserialize, Serialize};

use store_benches::forked::Child;
use store_benches::shared::now_ns;
use store_benches::worker::Parent;

use crate::clock::{Clock, Stopwatch, Took};
use crate::engine::BATCH;
use crate::lines::{LINE, Lines};
use crate::side::{Quantiles, Turn, Window, Worked};
use crate::workload::Distribution;

/// Reads between two looks at the clock.
const PIECE: usize = 1024;
/// Numbers of a window, before they come round.
const NUMBERS: usize = 1 << 19;

/// The memory, laid out as that of a store: an index, and items behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) path: PathBuf,
    pub(crate) items: u32,
    pub(crate) index_bytes: usize,
    /// Of each item.
    pub(crate) item_bytes: usize,
    /// From one item to the next.
    pub(crate) stride: usize,
    /// Of an item's value.
    pub(crate) value_bytes: usize,
}

impl Extent {
    pub(crate) fn bytes(&self) -> usize {
        self.index_bytes + self.items as usize * self.stride
    }

    /// Where an item begins.
    fn place(&self, item: u32) -> usize {
        self.index_bytes + item as usize * self.stride
    }
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// A line at a random place, whose number follows from the one before.
    DependentRead,
    /// Lines at random places.
    IndependentRead,
    /// For each of 32 keys a line of the index and the lines of an item, all asked for at once and then
    /// read; the time for one key.
    Prefetched,
    /// A line of the index, and then the value of an item copied; each follows from the one before.
    ReadAndCopy,
    /// `getppid`.
    SystemCall,
    /// From one process to another on the same processor, by a pipe.
    Switch,
}

impl Limit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DependentRead => "read of a line, dependent",
            Self::IndependentRead => "read of a line, independent",
            Self::Prefetched => "lines of 32 keys asked for at once, per key",
            Self::ReadAndCopy => "read of a line, then copy of a value",
            Self::SystemCall => "system call (getppid)",
            Self::Switch => "switch of processes (a pipe, one processor)",
        }
    }
}

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LimitCommand {
    Time(Limit, Turn),
    Window(Window),
    Quit,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LimitAnswer {
    Ready,
    Timed(Took),
    Worked(Worked),
    Failed(String),
}

/// Serves until it is told to quit. Whoever `makes` the memory does so first.
pub(crate) fn serve(extent: &Extent, makes: bool, parent: &mut Parent) -> Result<()> {
    disable_transparent_huge_pages(true).context("asking for small pages")?;
    if makes {
        Lines::make(&extent.path, extent.bytes())?;
    }
    let lines = Lines::map(&extent.path)?;
    parent.tell(&LimitAnswer::Ready)?;
    while let Some(command) = parent.hear()? {
        let answer = match command {
            LimitCommand::Quit => break,
            LimitCommand::Time(limit, turn) => {
                time(limit, lines, extent, &turn).map(LimitAnswer::Timed)
            }
            LimitCommand::Window(window) => read_in(lines, &window).map(LimitAnswer::Worked),
        };
        parent.tell(&answer.unwrap_or_else(|error| LimitAnswer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

fn time(limit: Limit, lines: Lines, extent: &Extent, turn: &Turn) -> Result<Took> {
    let draw = |below| turn.distribution.draw(below, turn.operations, turn.seed);
    match limit {
        Limit::DependentRead => Ok(pieces(&draw(lines.count()), turn, |piece| {
            black_box(dependent(lines, piece));
        })),
        Limit::IndependentRead => Ok(pieces(&draw(lines.count()), turn, |piece| {
            black_box(piece.iter().fold(0, |sum: u64, line| sum.wrapping_add(lines.word(*line))));
        })),
        Limit::Prefetched => Ok(pieces(&draw(extent.items), turn, |piece| {
            piece.chunks(BATCH).for_each(|batch| prefetched(lines, extent, batch));
        })),
        Limit::ReadAndCopy => {
            let mut buffer = vec![0; extent.value_bytes];
            Ok(pieces(&draw(extent.items), turn, |piece| copies(lines, extent, piece, &mut buffer)))
        }
        Limit::SystemCall => Ok(pieces(&vec![0; turn.operations], turn, |piece| {
            piece.iter().for_each(|_| {
                black_box(getppid());
            });
        })),
        Limit::Switch => switch(turn.operations),
    }
}

/// Works with all numbers, or until the turn is over.
fn pieces(numbers: &[u32], turn: &Turn, mut work: impl FnMut(&[u32])) -> Took {
    let within = Duration::from_millis(turn.within_ms);
    let (mut done, mut watch) = (0, Stopwatch::default());
    for piece in numbers.chunks(PIECE) {
        watch.time(|| work(piece));
        done += piece.len();
        if watch.elapsed() > within {
            break;
        }
    }
    watch.took(turn.clock, done)
}

#[inline(never)]
fn dependent(lines: Lines, numbers: &[u32]) -> u64 {
    let (mut word, nothing) = (0, black_box(0_u64));
    for at in 0..numbers.len() {
        word = lines.word(numbers[at ^ (word & nothing) as usize]);
    }
    word
}

/// Where the line of the index lies that an item is found by.
fn bucket(extent: &Extent, item: u32) -> usize {
    let buckets = (extent.index_bytes / LINE).max(1) as u64;
    // Any spreading does: neighbours in memory are none in the index.
    (u64::from(item) * 0x9e37_79b1 % buckets) as usize * LINE
}

#[inline(never)]
fn prefetched(lines: Lines, extent: &Extent, items: &[u32]) {
    let item_lines = |place: usize| {
        let first = place / LINE * LINE;
        (first..place + extent.item_bytes).step_by(LINE)
    };
    for item in items {
        lines.ask_for(bucket(extent, *item));
        item_lines(extent.place(*item)).for_each(|line| lines.ask_for(line));
    }
    let mut sum = 0_u64;
    for item in items {
        sum = sum.wrapping_add(lines.word((bucket(extent, *item) / LINE) as u32));
        for line in item_lines(extent.place(*item)) {
            sum = sum.wrapping_add(lines.word((line / LINE) as u32));
        }
    }
    black_box(sum);
}

#[inline(never)]
fn copies(lines: Lines, extent: &Extent, items: &[u32], buffer: &mut [u8]) {
    let nothing = black_box(0_u8);
    let last = buffer.len() - 1;
    for at in 0..items.len() {
        let item = items[at ^ usize::from(buffer[last] & nothing)];
        let word = lines.word((bucket(extent, item) / LINE) as u32);
        let place = extent.place(item) + (word & u64::from(nothing)) as usize;
        buffer.copy_from_slice(lines.at(place, buffer.len()));
        black_box(&mut *buffer);
    }
}

/// Dependent reads from one moment to another.
fn read_in(lines: Lines, window: &Window) -> Result<Worked> {
    let numbers = Distribution::Uniform.draw(lines.count(), NUMBERS, window.seed);
    // Whoever is late on a busy machine works for a shorter time, and is told so.
    while now_ns() < window.from_ns {
        spin_loop();
    }
    let from = now_ns();
    let (mut operations, mut until) = (0, from);
    for piece in numbers.chunks(64).cycle() {
        black_box(dependent(lines, piece));
        operations += piece.len() as u64;
        until = now_ns();
        if until >= window.until_ns {
            break;
        }
    }
    Ok(Worked { operations, ns: until - from, quantiles: Quantiles::default() })
}

/// A byte goes to another process and back, on one processor: each way is a switch, a write and a read.
fn switch(count: usize) -> Result<Took> {
    let here = sched_getaffinity(None).context("asking where this process may run")?;
    stay_on(None, first_processor()?)?;
    let ((there, mut ours), (mut back, theirs)) = (pipe()?, pipe()?);
    let child = Child::start(move || {
        let (mut there, mut theirs, mut byte) = (there, theirs, [0]);
        while there.read(&mut byte)? == 1 {
            theirs.write_all(&byte)?;
            if byte[0] == 1 {
                break;
            }
        }
        Ok(())
    })?;
    let mut byte = [0];
    let count = count.min(20_000);
    let mut watch = Stopwatch::default();
    watch.time(|| {
        (0..count).try_for_each(|_| {
            ours.write_all(&byte)?;
            back.read_exact(&mut byte)
        })
    })?;
    // Half of the time the other process has the processor.
    let took = watch.took(Clock::Wall, 2 * count);
    ours.write_all(&[1])?;
    child.reap()?;
    sched_setaffinity(None, &here).context("going where this process likes")?;
    if count == 0 {
        bail!("no switch was asked for");
    }
    Ok(took)
}

/// Keeps a process (`None`: this one) on one processor.
pub(crate) fn stay_on(process: Option<Pid>, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(process, &set).context("keeping a process on one processor")
}

/// The first processor that this process may run on.
pub(crate) fn first_processor() -> Result<usize> {
    let here = sched_getaffinity(None).context("asking where this process may run")?;
    let first = (0..CpuSet::MAX_CPU).find(|processor| here.is_set(*processor));
    first.context("no processor to run on")
}
