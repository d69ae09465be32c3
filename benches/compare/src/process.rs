//! The processes of a run, seen from the program: each has an engine, or memory to read.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use store_benches::shared::now_ns;
use store_benches::worker::{PATIENCE, Worker};

use crate::clock::Took;
use crate::engine::{Figures, Memory, Setting};
use crate::engines::Kind;
use crate::limit::{Extent, Limit, LimitAnswer, LimitCommand};
use crate::run::Job;
use crate::side::{Answer, Command, Quantiles, Turn, Window, Worked};
use crate::work::Work;

/// How long loading may take, on a machine that is busy.
const LOADING: Duration = Duration::from_secs(1800);
/// From when a window is announced until it begins: in between each process draws its numbers.
const ANNOUNCED_NS: u64 = 60_000_000;

/// A process with an engine.
#[derive(Debug)]
pub(crate) struct EngineProcess {
    pub(crate) kind: Kind,
    pub(crate) setting: Setting,
    worker: Worker,
}

impl EngineProcess {
    /// Starts one that makes its engine, and loads the items.
    pub(crate) fn load(kind: Kind, setting: &Setting) -> Result<Self> {
        let mut process = Self::start(kind, setting, false)?;
        match process.ask(&Command::Load, LOADING)? {
            Answer::Done => Ok(process),
            other => process.unexpected(&other),
        }
    }

    /// Starts one that opens what this one made.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::start(self.kind, &self.setting, true)
    }

    fn start(kind: Kind, setting: &Setting, attach: bool) -> Result<Self> {
        let job = Job::Engine { kind, setting: setting.clone(), attach };
        let mut process =
            Self { kind, setting: setting.clone(), worker: Worker::spawn_alone(&job)? };
        match process.worker.receive(LOADING).with_context(|| kind.name())? {
            Answer::Ready => Ok(process),
            other => process.unexpected(&other),
        }
    }

    fn ask(&mut self, command: &Command, within: Duration) -> Result<Answer> {
        self.worker.tell(command)?;
        self.answer(within)
    }

    fn answer(&mut self, within: Duration) -> Result<Answer> {
        match self.worker.receive(within).with_context(|| self.kind.name())? {
            Answer::Failed(error) => bail!("{}: {error}", self.kind.name()),
            answer => Ok(answer),
        }
    }

    fn unexpected<T>(&self, answer: &Answer) -> Result<T> {
        bail!("{} answered {answer:?}", self.kind.name())
    }

    /// Overwrites so many items at random.
    pub(crate) fn churn(&mut self, puts: usize) -> Result<()> {
        match self.ask(&Command::Churn(puts), LOADING)? {
            Answer::Done => Ok(()),
            other => self.unexpected(&other),
        }
    }

    /// Looks at every item, or at some that are drawn.
    pub(crate) fn verify(&mut self, sample: Option<(usize, u64)>) -> Result<()> {
        match self.ask(&Command::Verify(sample), LOADING)? {
            Answer::Done => Ok(()),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn memory(&mut self) -> Result<Memory> {
        match self.ask(&Command::Memory, PATIENCE)? {
            Answer::Memory(memory) => Ok(memory),
            other => self.unexpected(&other),
        }
    }

    /// Statistics; the store is checked for them.
    pub(crate) fn figures(&mut self) -> Result<Figures> {
        match self.ask(&Command::Figures, LOADING)? {
            Answer::Figures(figures) => Ok(figures),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn stay_on(&mut self, processor: Option<usize>) -> Result<()> {
        match self.ask(&Command::StayOn(processor), PATIENCE)? {
            Answer::Done => Ok(()),
            other => self.unexpected(&other),
        }
    }

    /// Nanoseconds for each operation; none if the engine can't do it.
    pub(crate) fn time(&mut self, turn: &Turn) -> Result<Option<Took>> {
        match self.ask(&Command::Time(*turn), PATIENCE)? {
            Answer::Timed(took) => Ok(Some(took)),
            Answer::Cannot => Ok(None),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn sample(&mut self, turn: &Turn) -> Result<Quantiles> {
        match self.ask(&Command::Sample(*turn), PATIENCE)? {
            Answer::Sampled(quantiles) => Ok(quantiles),
            other => self.unexpected(&other),
        }
    }

    fn announce(&mut self, window: &Window) -> Result<()> {
        self.worker.tell(&Command::Window(*window))
    }

    fn worked(&mut self) -> Result<Worked> {
        match self.answer(PATIENCE)? {
            Answer::Worked(worked) => Ok(worked),
            other => self.unexpected(&other),
        }
    }

    /// Ends it; its engine is gone then.
    pub(crate) fn quit(mut self) -> Result<()> {
        self.worker.tell(&Command::Quit)?;
        self.worker.finish().with_context(|| self.kind.name())
    }
}

/// What a process does in a window, and whether each of its operations is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) work: Work,
    pub(crate) timed: bool,
    pub(crate) threads: usize,
}

/// A window that begins soon and is that long.
fn window(part: Part, seed: u64, from_ns: u64, length: Duration) -> Window {
    Window {
        work: part.work,
        seed,
        from_ns,
        until_ns: from_ns + length.as_nanos() as u64,
        timed: part.timed,
        threads: part.threads,
    }
}

/// Has several processes work at the same time; what each did.
pub(crate) fn together(
    processes: &mut [(&mut EngineProcess, Part)],
    seed: u64,
    length: Duration,
) -> Result<Vec<Worked>> {
    let from_ns = now_ns() + ANNOUNCED_NS;
    for (number, (process, part)) in (0..).zip(&mut *processes) {
        process.announce(&window(*part, seed + number * 1000, from_ns, length))?;
    }
    processes.iter_mut().map(|(process, _)| process.worked()).collect()
}

/// A process with memory to read.
#[derive(Debug)]
pub(crate) struct LimitProcess {
    extent: Extent,
    worker: Worker,
}

impl LimitProcess {
    /// Starts one that makes its memory.
    pub(crate) fn make(extent: &Extent) -> Result<Self> {
        Self::start(extent, true)
    }

    /// Starts one that maps the same memory.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::start(&self.extent, false)
    }

    fn start(extent: &Extent, makes: bool) -> Result<Self> {
        let job = Job::Limit { extent: extent.clone(), makes };
        let mut worker = Worker::spawn_alone(&job)?;
        let answer: LimitAnswer = worker.receive(LOADING)?;
        ensure!(matches!(answer, LimitAnswer::Ready), "a reader answered {answer:?}");
        Ok(Self { extent: extent.clone(), worker })
    }

    /// Nanoseconds for each operation.
    pub(crate) fn time(&mut self, limit: Limit, turn: &Turn) -> Result<Took> {
        self.worker.tell(&LimitCommand::Time(limit, *turn))?;
        match self.worker.receive(PATIENCE)? {
            LimitAnswer::Timed(took) => Ok(took),
            other => bail!("a reader answered {other:?}"),
        }
    }

    /// Ends it.
    pub(crate) fn quit(mut self) -> Result<()> {
        self.worker.tell(&LimitCommand::Quit)?;
        self.worker.finish()
    }
}

/// Has several processes read at the same time; what each did.
pub(crate) fn read_together(
    processes: &mut [LimitProcess],
    seed: u64,
    length: Duration,
) -> Result<Vec<Worked>> {
    let from_ns = now_ns() + ANNOUNCED_NS;
    let part = Part { work: Work::Get, timed: false, threads: 1 };
    for (number, process) in (0..).zip(&mut *processes) {
        let window = window(part, seed + number * 1000, from_ns, length);
        process.worker.tell(&LimitCommand::Window(window))?;
    }
    let worked = processes.iter_mut().map(|process| match process.worker.receive(PATIENCE)? {
        LimitAnswer::Worked(worked) => Ok(worked),
        other => bail!("a reader answered {other:?}"),
    });
    worked.collect()
}
