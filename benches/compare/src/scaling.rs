//! How much more several processes do than one: lookups of each engine that several can use at once, a mix
//! of this store's, and reads of plain memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;

use store_benches::stats::median;

use crate::engines::{Kind, Reach};
use crate::process::{EngineProcess, LimitProcess, Part, read_together, together};
use crate::rounds::Field;
use crate::side::Worked;
use crate::work::Work;

/// Operations per second of all together, by number of processes and round.
pub(crate) type Line = BTreeMap<usize, Vec<f64>>;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Scaling {
    pub(crate) gets: BTreeMap<Kind, Line>,
    /// 95 gets to 5 puts, this store's.
    pub(crate) mix: Line,
    /// Dependent reads of plain memory.
    pub(crate) reads: Line,
}

impl Scaling {
    /// What `line` has with two, of what it has with one: by round.
    fn with_two(line: &Line) -> Option<Vec<f64>> {
        let (one, two) = (line.get(&1)?, line.get(&2)?);
        Some(one.iter().zip(two).map(|(one, two)| two / one).collect())
    }

    /// How the mix of two processes scales, of how plain reads do.
    pub(crate) fn mix_of_reads(&self) -> Option<f64> {
        let (mix, reads) = (Self::with_two(&self.mix)?, Self::with_two(&self.reads)?);
        Some(median(&mix.iter().zip(&reads).map(|(mix, reads)| mix / reads).collect::<Vec<_>>()))
    }
}

/// Windows of one measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) rounds: u32,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

/// An engine's processes; of an engine of threads one, which has several of them.
struct Crew<'a> {
    kind: Kind,
    processes: Vec<&'a mut EngineProcess>,
}

impl Crew<'_> {
    fn per_s(&mut self, count: usize, work: Work, windows: &Windows, round: u32) -> Result<f64> {
        let threads = if self.kind.reach() == Reach::Threads { count } else { 1 };
        let part = Part { work, timed: false, threads };
        let mut parts: Vec<_> =
            self.processes.iter_mut().take(count).map(|process| (&mut **process, part)).collect();
        let seed = windows.seed + u64::from(round) * 100_000;
        let worked = together(&mut parts, seed, windows.length);
        let worked = worked.with_context(|| format!("{count} of {}", self.kind.name()))?;
        Ok(worked.iter().map(Worked::per_s).sum())
    }
}

/// Measures all engines of a size.
pub(crate) fn measure(
    field: &mut Field,
    counts: &[usize],
    windows: &Windows,
    bar: &ProgressBar,
) -> Result<Scaling> {
    let most = counts.iter().copied().max().unwrap_or(1);
    let mut others = Vec::new();
    for process in &field.engines {
        let more = if process.kind.reach() == Reach::Processes { most - 1 } else { 0 };
        others.push((0..more).map(|_| process.another()).collect::<Result<Vec<_>>>()?);
    }
    let mut crews: Vec<_> = field
        .engines
        .iter_mut()
        .zip(&mut others)
        .map(|(first, others)| Crew {
            kind: first.kind,
            processes: std::iter::once(first).chain(others).collect(),
        })
        .filter(|crew| crew.kind.reach() != Reach::Alone)
        .collect();
    let mut readers = vec![];
    for _ in 0..most {
        readers.push(field.limit.another()?);
    }
    let mut scaling = Scaling::default();
    for round in 0..windows.rounds {
        bar.set_message(format!("several processes, round {}", round + 1));
        for count in counts {
            reads(&mut scaling.reads, &mut readers[..*count], windows, round)?;
            for crew in &mut crews {
                let per_s = crew.per_s(*count, Work::Get, windows, round)?;
                scaling.gets.entry(crew.kind).or_default().entry(*count).or_default().push(per_s);
                if crew.kind == Kind::Cistern {
                    let per_s = crew.per_s(*count, Work::Mix, windows, round)?;
                    scaling.mix.entry(*count).or_default().push(per_s);
                }
                bar.inc(1);
            }
        }
    }
    drop(crews);
    others.into_iter().flatten().try_for_each(EngineProcess::quit)?;
    readers.into_iter().try_for_each(LimitProcess::quit)?;
    Ok(scaling)
}

fn reads(
    line: &mut Line,
    readers: &mut [LimitProcess],
    windows: &Windows,
    round: u32,
) -> Result<()> {
    let count = readers.len();
    let worked = read_together(readers, windows.seed + u64::from(round), windows.length)?;
    line.entry(count).or_default().push(worked.iter().map(Worked::per_s).sum());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Line, Scaling};

    #[test]
    fn scaling_is_of_that_of_reads() {
        let line = |one: f64, two: f64| Line::from([(1, vec![one; 3]), (2, vec![two; 3])]);
        let scaling =
            Scaling { mix: line(10.0, 18.0), reads: line(100.0, 200.0), ..Scaling::default() };
        assert_eq!(scaling.mix_of_reads(), Some(0.9));
    }
}
