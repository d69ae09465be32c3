//! How much of what is measured in a run.

use std::time::Duration;

use crate::Args;
use crate::clock::Clock;
use crate::engine::Room;
use crate::engines::{ICEORYX2_ITEMS_MAX, Kind};
use crate::limit::Limit;
use crate::rounds::Course;
use crate::scaling::Windows;
use crate::work::Work;
use crate::workload::Distribution;

pub(crate) const LARGE_VALUE_BYTES: usize = 4096;
pub(crate) const TINY_VALUE_BYTES: usize = 8;
/// Beyond this many items, those that take longest to load are left out.
const ITEMS_OF_ALL_MAX: u32 = 2_000_000;

/// Numbers of items, rounds and times.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What the rows with goals are about: 10 k, 1 M and 10 M, or less in a quick run.
    pub(crate) small: u32,
    pub(crate) medium: u32,
    pub(crate) large: u32,
    /// Items of 4 KiB.
    pub(crate) large_values: u32,
    /// Items of 8 bytes: fewer, and more.
    pub(crate) tiny_values: [u32; 2],
    /// Numbers of items of 100 bytes, or what was asked for.
    pub(crate) items: Vec<u32>,
    pub(crate) silent_puts: u32,
    pub(crate) attaches: u32,
    pub(crate) rounds: u32,
    pub(crate) operations: usize,
    pub(crate) turn_ms: u64,
    window: Duration,
    value_bytes: usize,
    distribution: Distribution,
    kinds: Vec<Kind>,
    seed: u64,
    pub(crate) clock: Clock,
    pub(crate) with_large: bool,
    quick: bool,
}

impl Plan {
    pub(crate) fn of(args: &Args) -> Self {
        let quick = args.quick;
        let of = |full, short| if quick { short } else { full };
        let (small, medium, large) =
            (of(10_000, 2000), of(1_000_000, 30_000), of(10_000_000, 100_000));
        let usual =
            if quick { vec![small, medium, large] } else { vec![small, 100_000, medium, large] };
        Self {
            small,
            medium,
            large,
            large_values: of(100_000, 2000),
            tiny_values: [of(10_000_000, 100_000), of(100_000_000, 400_000)],
            items: args.items.clone().unwrap_or(usual),
            silent_puts: of(2_000_000, 60_000),
            attaches: of(301, 51),
            rounds: args.rounds.unwrap_or(of(7, 2)),
            operations: if quick { 1 << 14 } else { 1 << 20 },
            turn_ms: if quick { 15 } else { 250 },
            window: Duration::from_millis(if quick { 40 } else { 300 }),
            value_bytes: args.value_bytes,
            distribution: args.distribution,
            kinds: args.kinds(),
            seed: args.seed,
            clock: args.clock,
            with_large: args.large,
            quick,
        }
    }

    /// Whether the goals are about this run.
    pub(crate) fn is_judged(&self) -> bool {
        !self.quick && self.value_bytes == 100 && self.distribution == Distribution::Uniform
    }

    fn course(&self, items: u32, value_bytes: usize) -> Course {
        Course {
            items,
            value_bytes,
            kinds: Vec::new(),
            works: vec![Work::Get],
            limits: vec![Limit::DependentRead],
            distribution: self.distribution,
            rounds: self.rounds,
            operations: self.operations,
            within_ms: self.turn_ms,
            clock: self.clock,
            seed: self.seed,
        }
    }

    /// Each number of items.
    pub(crate) fn courses(&self) -> Vec<Course> {
        let all = self.items.iter().map(|items| {
            let of_all = *items <= ITEMS_OF_ALL_MAX && (!self.quick || *items != self.large);
            let kinds = self.kinds.iter().copied().filter(|kind| match kind {
                Kind::Iceoryx2 => *items <= ICEORYX2_ITEMS_MAX && self.value_bytes == 100,
                Kind::Cistern | Kind::Hashbrown => true,
                Kind::CisternHuge => *items == self.large,
                _ => of_all,
            });
            let mut course = Course {
                kinds: kinds.collect(),
                works: Work::OF_TABLES.to_vec(),
                limits: vec![Limit::DependentRead, Limit::IndependentRead, Limit::Prefetched],
                ..self.course(*items, self.value_bytes)
            };
            if *items == self.medium {
                course.limits.extend([Limit::SystemCall, Limit::Switch]);
            }
            course
        });
        all.collect()
    }

    /// Values of 4 KiB.
    pub(crate) fn large_value_course(&self) -> Course {
        Course {
            kinds: self.asked_for(&[Kind::Cistern, Kind::Hashbrown]),
            limits: vec![Limit::DependentRead, Limit::ReadAndCopy],
            distribution: Distribution::Uniform,
            ..self.course(self.large_values, LARGE_VALUE_BYTES)
        }
    }

    /// Very many very small items, and fewer of them.
    pub(crate) fn tiny_value_courses(&self) -> Vec<Course> {
        let course = |items| Course {
            kinds: self.asked_for(&[Kind::Cistern]),
            distribution: Distribution::Uniform,
            ..self.course(items, TINY_VALUE_BYTES)
        };
        if self.with_large { self.tiny_values.map(course).into() } else { Vec::new() }
    }

    fn asked_for(&self, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|kind| self.kinds.contains(kind)).collect()
    }

    /// What several processes do at once.
    pub(crate) fn windows(&self) -> Windows {
        Windows { rounds: self.rounds, length: self.window, seed: self.seed }
    }

    /// Three times as many: a p99.9 is that of a window which nothing else disturbed, or it says nothing.
    pub(crate) fn windows_of_tails(&self) -> Windows {
        Windows { rounds: 3 * self.rounds, ..self.windows() }
    }

    /// A store that is made as anybody makes one, and grows as it is filled.
    pub(crate) fn grown(&self) -> Room {
        Room::Grows(self.medium * 2)
    }
}
