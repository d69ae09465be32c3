//! Rounds at one size: all engines and the reads of plain memory take turns at each kind of work.
//!
//! In each round all are asked for the same numbers, and whoever comes first is another one, so that no
//! side always has what the one before left in the caches.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use crate::clock::Clock;
use crate::engine::{Figures, Room, Setting};
use crate::engines::Kind;
use crate::limit::{Extent, Limit, first_processor};
use crate::place::Place;
use crate::process::{EngineProcess, LimitProcess};
use crate::results::{Series, Side, Size};
use crate::side::Turn;
use crate::work::Work;
use crate::workload::{Distribution, KEY_BYTES};

/// So many tenths of the items are overwritten first: more than there is room for until the store cleans.
const CHURN_TENTHS: usize = 15;
/// Of an item beside key and value, where no store says it.
const BESIDE_BYTES: usize = 24;
const INDEX_BYTES_PER_ITEM: usize = 16;

/// What is measured at one size.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) items: u32,
    pub(crate) value_bytes: usize,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) works: Vec<Work>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) distribution: Distribution,
    pub(crate) rounds: u32,
    /// Operations of a turn, which ends when this time is over.
    pub(crate) operations: usize,
    pub(crate) within_ms: u64,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
}

/// All processes of one size.
pub(crate) struct Field {
    pub(crate) engines: Vec<EngineProcess>,
    pub(crate) limit: LimitProcess,
    pub(crate) size: Size,
    /// Where a server and its client stay.
    processor: usize,
}

impl Course {
    /// Steps of the progress bar.
    pub(crate) fn steps(&self) -> u64 {
        let turns = self.kinds.len() * self.works.len() + self.limits.len();
        2 * self.kinds.len() as u64 + u64::from(self.rounds) * turns as u64
    }

    fn setting(&self, place: &Place, kind: Kind) -> Setting {
        let name = kind.name().to_lowercase().replace(", ", "-").replace(' ', "-");
        let of = format!("{name}-{}-{}", self.items, self.value_bytes);
        Setting {
            name: place.name(&of),
            folder: place.folder().to_owned(),
            items: self.items,
            value_bytes: self.value_bytes,
            // Only puts need room to spare.
            room: Room::Live(if self.works.contains(&Work::Put) { 70 } else { 88 }),
            huge_pages: kind == Kind::CisternHuge,
        }
    }

    /// Starts all, has them load, and looks at every item.
    pub(crate) fn prepare(&self, place: &Place, bar: &ProgressBar) -> Result<Field> {
        let mut engines = Vec::new();
        let mut sides = BTreeMap::new();
        for kind in &self.kinds {
            bar.set_message(format!("{}: {} items", kind.name(), self.items));
            let mut process = EngineProcess::load(*kind, &self.setting(place, *kind))?;
            bar.inc(1);
            let memory = Some(process.memory()?);
            if kind.is_ours() && self.works.contains(&Work::Put) {
                process.churn(self.items as usize / 10 * CHURN_TENTHS)?;
            }
            process.verify(None)?;
            let figures = kind.is_ours().then(|| process.figures()).transpose()?;
            let figures = figures.map(|figures| [figures; 2]);
            sides.insert(*kind, Side { memory, figures, ..Side::default() });
            engines.push(process);
            bar.inc(1);
        }
        let figures = sides.get(&Kind::Cistern).and_then(|side| side.figures);
        let extent = self.extent(place, figures.map(|[before, _]| before));
        let limit = LimitProcess::make(&extent)?;
        let size = Size {
            items: self.items,
            value_bytes: self.value_bytes,
            limits: BTreeMap::new(),
            limit_bytes: extent.bytes() as u64,
            engines: sides,
        };
        let processor = first_processor()?;
        Ok(Field { engines, limit, size, processor })
    }

    /// As much memory as the store's arena and index have, with the items as far apart as there.
    fn extent(&self, place: &Place, figures: Option<Figures>) -> Extent {
        let items = self.items as usize;
        let (index_bytes, item_bytes, arena_bytes) = match figures {
            Some(figures) => (
                figures.index_bytes as usize,
                figures.live_bytes as usize / items,
                figures.arena_bytes as usize,
            ),
            None => {
                let item = KEY_BYTES + self.value_bytes + BESIDE_BYTES;
                (INDEX_BYTES_PER_ITEM * items, item, item * items)
            }
        };
        // Items are aligned to eight bytes.
        let stride = (arena_bytes / items / 8 * 8).max(item_bytes);
        let path = place.folder().join(format!("lines-{}-{}", self.items, self.value_bytes));
        let (items, value_bytes) = (self.items, self.value_bytes);
        Extent { path, items, index_bytes, item_bytes, stride, value_bytes }
    }
}

impl Field {
    /// All rounds.
    pub(crate) fn run(&mut self, course: &Course, bar: &ProgressBar) -> Result<()> {
        for round in 0..course.rounds {
            bar.set_message(format!("{} items, round {}", course.items, round + 1));
            let first = round as usize % self.engines.len().max(1);
            for (number, work) in (0..).zip(&course.works) {
                let turn = course.turn(*work, u64::from(round) * 100 + number);
                for place in order(self.engines.len(), first, round) {
                    self.take_turn(place, &turn)?;
                    bar.inc(1);
                }
            }
            for (number, limit) in (50..).zip(&course.limits) {
                let turn = course.turn(Work::Get, u64::from(round) * 100 + number);
                let took = self.limit.time(*limit, &turn)?;
                self.size.limits.entry(*limit).or_default().push(took.ns);
                bar.inc(1);
            }
        }
        Ok(())
    }

    fn take_turn(&mut self, place: usize, turn: &Turn) -> Result<()> {
        let process = &mut self.engines[place];
        let served = matches!(process.kind, Kind::Redis | Kind::Memcached);
        if served {
            process.stay_on(Some(self.processor))?;
        }
        // What a server does is another process's time.
        let clock = if served { Clock::Wall } else { turn.clock };
        if let Some(took) = process.time(&Turn { clock, ..*turn })? {
            let side = self.size.engines.entry(process.kind).or_default();
            let series: &mut Series = side.works.entry(turn.work).or_default();
            series.ns.push(took.ns);
            series.shares.push(took.share);
            if turn.work != Work::GetMany {
                let sampled = Turn { operations: turn.operations / 8, ..*turn };
                series.quantiles.push(process.sample(&sampled)?);
            }
        }
        if served {
            process.stay_on(None)?;
        }
        Ok(())
    }

    /// Looks at items once more, ends all processes, and hands out what was measured.
    pub(crate) fn finish(mut self, course: &Course) -> Result<Size> {
        for mut process in self.engines {
            let few = (course.items as usize / 10).clamp(1, 100_000);
            process.verify(Some((few, course.seed))).context("after the rounds")?;
            if process.kind.is_ours() {
                let last = process.figures()?;
                ensure!(last.violations == 0, "{} invariants are broken", last.violations);
                let side = self.size.engines.entry(process.kind).or_default();
                side.figures = side.figures.map(|[first, _]| [first, last]);
            }
            process.quit()?;
        }
        self.limit.quit()?;
        Ok(self.size)
    }
}

impl Course {
    fn turn(&self, work: Work, number: u64) -> Turn {
        Turn {
            work,
            distribution: self.distribution,
            seed: self.seed.wrapping_mul(1_000_003) + number,
            operations: self.operations,
            within_ms: self.within_ms,
            clock: self.clock,
        }
    }
}

/// Another one first in each round, and every second round the other way round.
fn order(count: usize, first: usize, round: u32) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).map(|place| (first + place) % count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn each_has_its_turn_and_somebody_else_begins() {
        let orders: Vec<_> = (0..3).map(|round| order(3, round as usize % 3, round)).collect();
        assert_eq!(orders, [vec![0, 1, 2], vec![0, 2, 1], vec![2, 0, 1]]);
    }
}
