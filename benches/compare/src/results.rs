//! What was measured.

use std::collections::BTreeMap;

use serde::Serialize;

use store_benches::stats::{median, median_ratio};

use crate::attach::Attached;
use crate::beside::Beside;
use crate::engine::{Figures, Memory};
use crate::engines::Kind;
use crate::limit::Limit;
use crate::scaling::Scaling;
use crate::side::Quantiles;
use crate::silent::Silent;
use crate::work::Work;

/// Everything.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// By size.
    pub(crate) sizes: Vec<Size>,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) beside: Vec<Beside>,
    pub(crate) silent: Option<Silent>,
    pub(crate) attached: Option<Attached>,
    /// What a clock that is read twice takes: in each latency of a single operation.
    pub(crate) clock_ns: u64,
}

/// Items of one number and size.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) items: u32,
    pub(crate) value_bytes: usize,
    /// Nanoseconds of each round.
    pub(crate) limits: BTreeMap<Limit, Vec<f64>>,
    /// Bytes of the memory that was read.
    pub(crate) limit_bytes: u64,
    pub(crate) engines: BTreeMap<Kind, Side>,
}

/// An engine at one size.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Side {
    pub(crate) works: BTreeMap<Work, Series>,
    pub(crate) memory: Option<Memory>,
    /// Of Cistern, before the rounds and after them.
    pub(crate) figures: Option<[Figures; 2]>,
}

/// One kind of work.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Series {
    /// Nanoseconds for each operation, by round.
    pub(crate) ns: Vec<f64>,
    /// What of the time the thread had a processor, by round.
    pub(crate) shares: Vec<f64>,
    /// Of single operations, by round.
    pub(crate) quantiles: Vec<Quantiles>,
}

impl Series {
    /// The median over rounds of each quantile.
    pub(crate) fn quantiles(&self) -> Option<[f64; 3]> {
        let of = |each: fn(&Quantiles) -> u64| {
            median(&self.quantiles.iter().map(|round| each(round) as f64).collect::<Vec<_>>())
        };
        (!self.quantiles.is_empty())
            .then(|| [of(|q| q.p50_ns), of(|q| q.p99_ns), of(|q| q.p999_ns)])
    }
}

impl Results {
    /// What of the time this store's turns, and hashbrown's, had a processor: the median.
    pub(crate) fn share(&self) -> Option<f64> {
        let alone = [Kind::Cistern, Kind::Hashbrown];
        let sides = self.sizes.iter().flat_map(|size| &size.engines);
        let series = sides
            .filter(|(kind, _)| alone.contains(kind))
            .flat_map(|(_, side)| side.works.values());
        let shares: Vec<_> = series.flat_map(|series| series.shares.iter().copied()).collect();
        (!shares.is_empty()).then(|| median(&shares))
    }

    /// The size with so many items of so many bytes.
    pub(crate) fn size(&self, items: u32, value_bytes: usize) -> Option<&Size> {
        self.sizes.iter().find(|size| size.items == items && size.value_bytes == value_bytes)
    }
}

impl Size {
    /// Nanoseconds by round.
    pub(crate) fn rounds(&self, kind: Kind, work: Work) -> Option<&[f64]> {
        Some(self.engines.get(&kind)?.works.get(&work)?.ns.as_slice())
    }

    /// The median over rounds.
    pub(crate) fn ns(&self, kind: Kind, work: Work) -> Option<f64> {
        self.rounds(kind, work).map(median)
    }

    /// The median over rounds.
    pub(crate) fn limit_ns(&self, limit: Limit) -> Option<f64> {
        self.limits.get(&limit).map(|rounds| median(rounds))
    }

    /// The median of the rounds' quotients.
    pub(crate) fn ratio(&self, ours: (Kind, Work), theirs: (Kind, Work)) -> Option<f64> {
        let (ours, theirs) = (self.rounds(ours.0, ours.1)?, self.rounds(theirs.0, theirs.1)?);
        Some(median_ratio(ours, theirs))
    }

    /// Whether the reads of plain memory are what a machine does: those that don't depend on each other
    /// take less than half of the others. A host that takes a guest's memory back makes both as slow.
    pub(crate) fn limits_are_sound(&self) -> bool {
        let of = |limit| self.limit_ns(limit);
        match (of(Limit::IndependentRead), of(Limit::DependentRead)) {
            (Some(independent), Some(dependent)) => 2.0 * independent < dependent,
            _ => true,
        }
    }

    /// Two dependent reads of memory, of a get of a peer. `None` where the reads were disturbed.
    pub(crate) fn two_reads(&self, peer: Kind) -> Option<f64> {
        if !self.limits_are_sound() {
            return None;
        }
        let reads = self.limits.get(&Limit::DependentRead)?;
        Some(2.0 * median_ratio(reads, self.rounds(peer, Work::Get)?))
    }

    /// The same to what the machine takes. `None` where that was disturbed.
    pub(crate) fn limit_ratio(&self, ours: (Kind, Work), limit: Limit) -> Option<f64> {
        if !self.limits_are_sound() {
            return None;
        }
        Some(median_ratio(self.rounds(ours.0, ours.1)?, self.limits.get(&limit)?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Limit, Series, Side, Size, Work};

    fn size(dependent: f64, independent: f64) -> Size {
        let works = [(Work::Get, Series { ns: vec![300.0], ..Series::default() })].into();
        let engines = [(Kind::Cistern, Side { works, ..Side::default() })].into();
        let limits =
            [(Limit::DependentRead, vec![dependent]), (Limit::IndependentRead, vec![independent])];
        Size { items: 1, value_bytes: 1, limits: limits.into(), limit_bytes: 64, engines }
    }

    #[test]
    fn nothing_is_compared_with_reads_that_were_disturbed() {
        let ours = (Kind::Cistern, Work::Get);
        let sound = size(150.0, 10.0);
        assert_eq!(sound.limit_ratio(ours, Limit::DependentRead), Some(2.0));
        assert_eq!(sound.two_reads(Kind::Cistern), Some(1.0));
        let disturbed = size(3000.0, 2700.0);
        assert_eq!(disturbed.limit_ratio(ours, Limit::DependentRead), None);
        assert_eq!(disturbed.two_reads(Kind::Cistern), None);
    }
}
