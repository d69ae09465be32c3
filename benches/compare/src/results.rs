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

    /// Two dependent reads of memory, of a get of a peer.
    pub(crate) fn two_reads(&self, peer: Kind) -> Option<f64> {
        let reads = self.limits.get(&Limit::DependentRead)?;
        Some(2.0 * median_ratio(reads, self.rounds(peer, Work::Get)?))
    }

    /// The same to what the machine takes.
    pub(crate) fn limit_ratio(&self, ours: (Kind, Work), limit: Limit) -> Option<f64> {
        Some(median_ratio(self.rounds(ours.0, ours.1)?, self.limits.get(&limit)?))
    }
}
