//! What is asked of Cistern's hit ratios. The exact policies of the same run are the measure.

use serde::Serialize;

use store_benches::report::Outcome;
use store_benches::stats::rounded;

use crate::rows::{Cistern, Row};

/// Points (hundredths of a ratio) that full marks may stay below S3-FIFO, and below LRU.
const GAP_POINTS_MAX: f64 = 1.0;
const LRU_GAP_POINTS_MAX: f64 = 0.5;
/// Points that sampled marks may stay below S3-FIFO.
const SAMPLED_GAP_POINTS_MAX: f64 = 4.0;

#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) backing: String,
    pub(crate) guard: String,
    pub(crate) seed: u64,
    pub(crate) rows: Vec<Row>,
    /// Points below S3-FIFO, where they are most.
    pub(crate) worst_gap_points: f64,
    pub(crate) worst_sampled_gap_points: f64,
}

impl Row {
    /// Points that full marks stay below S3-FIFO.
    pub(crate) fn gap_points(&self) -> f64 {
        self.gap(|cistern| cistern.marks)
    }

    fn gap(&self, of: fn(&Cistern) -> f64) -> f64 {
        points(self.s3fifo, of(&self.cistern))
    }
}

/// How far `ratio` is below `measure`.
fn points(measure: f64, ratio: f64) -> f64 {
    rounded((measure - ratio) * 100.0, 3)
}

pub(crate) fn judge(backing: String, guard: String, seed: u64, rows: Vec<Row>) -> Outcome<Figures> {
    let failures = rows.iter().flat_map(|row| failures_of(row, &row.cistern)).collect();
    let worst = |gap: fn(&Cistern) -> f64| {
        rows.iter().map(|row| row.gap(gap)).fold(f64::NEG_INFINITY, f64::max)
    };
    let (worst_gap_points, worst_sampled_gap_points) =
        (worst(|cistern| cistern.marks), worst(|cistern| cistern.sampled));
    let figures =
        Figures { backing, guard, seed, rows, worst_gap_points, worst_sampled_gap_points };
    Outcome { figures, failures }
}

/// Why a row does not pass.
fn failures_of(row: &Row, cistern: &Cistern) -> Vec<String> {
    let mut row_outcome = Outcome::new(());
    let place = format!("{} at {}", row.trace, row.capacity);
    for (name, measure, ratio, limit) in [
        ("full marks stay", ("S3-FIFO", row.s3fifo), cistern.marks, GAP_POINTS_MAX),
        ("full marks stay", ("LRU", row.lru), cistern.marks, LRU_GAP_POINTS_MAX),
        ("sampled marks stay", ("S3-FIFO", row.s3fifo), cistern.sampled, SAMPLED_GAP_POINTS_MAX),
    ] {
        let gap = points(measure.1, ratio);
        row_outcome.require(gap <= limit, || {
            format!(
                "{place}: {name} {gap} points below {}, at most {limit} is asked for",
                measure.0
            )
        });
    }
    row_outcome.require(cistern.sampled > row.fifo, || {
        format!("{place}: sampled marks have {}, FIFO {}", cistern.sampled, row.fifo)
    });
    row_outcome.require(cistern.items_max <= row.capacity.into(), || {
        format!("{place}: Cistern had {} items, others {}", cistern.items_max, row.capacity)
    });
    row_outcome.failures
}

#[cfg(test)]
mod tests {
    use super::{Cistern, Row, judge};
    use store_benches::report::Outcome;

    fn judged(cistern: Cistern) -> Outcome<super::Figures> {
        let row = Row {
            trace: "T",
            capacity: 100,
            fifo: 0.3,
            lru: 0.405,
            s3fifo: 0.41,
            moka: 0.4,
            quick_cache: 0.4,
            cistern,
        };
        judge("posix".into(), "futex".into(), 1, vec![row])
    }

    fn cistern(marks: f64, sampled: f64, items_max: u64) -> Cistern {
        Cistern { marks, sampled, unmarked: 0.1, items_max }
    }

    #[test]
    fn the_limits_themselves_pass() {
        let outcome = judged(cistern(0.4, 0.37, 100));
        assert_eq!(outcome.failures, [""; 0]);
        assert_eq!(outcome.figures.worst_gap_points, 1.0);
        assert_eq!(outcome.figures.worst_sampled_gap_points, 4.0);
    }

    #[test]
    fn what_is_beyond_a_limit_is_told() {
        for (cistern, failures) in [
            (cistern(0.399, 0.37, 100), &["1.1 points below S3-FIFO", "0.6 points below LRU"][..]),
            (cistern(0.41, 0.369, 100), &["4.1 points below S3-FIFO"]),
            (cistern(0.41, 0.3, 100), &["11 points below S3-FIFO", "FIFO 0.3"]),
            (cistern(0.41, 0.41, 101), &["had 101 items, others 100"]),
        ] {
            let outcome = judged(cistern);
            assert_eq!(outcome.failures.len(), failures.len(), "{:?}", outcome.failures);
            for (told, expected) in outcome.failures.iter().zip(failures) {
                assert!(told.contains(expected), "{told}");
            }
        }
    }
}
