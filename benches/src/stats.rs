//! Timings condensed: medians, and a histogram in nanoseconds.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The median; the mean of the middle two for an even number. Zero of nothing.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median over rounds of `ours[round] / peer[round]`: what disturbs one round disturbs both
/// engines in it, so this is steadier than the quotient of two medians.
pub fn median_ratio(ours: &[f64], peer: &[f64]) -> f64 {
    assert_eq!(ours.len(), peer.len(), "both engines run in every round");
    median(&ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect::<Vec<_>>())
}

/// `value` with `digits` decimals, for a readable last line.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Nanoseconds as a number that a quotient can be made of.
pub fn nanos_per(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_nanos() as f64 / count.max(1) as f64
}

/// Milliseconds with their fraction.
pub fn millis(elapsed: Duration) -> f64 {
    rounded(elapsed.as_secs_f64() * 1e3, 3)
}

/// How long single operations took.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// No operation yet. From 1 ns to 10 s, to three digits.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are in order"))
    }

    /// Counts one operation; longer than 10 s counts as 10 s.
    pub fn record(&mut self, elapsed: Duration) {
        self.0.saturating_record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The nanoseconds that `fraction` of the operations did not exceed.
    pub fn quantile_ns(&self, fraction: f64) -> u64 {
        self.0.value_at_quantile(fraction)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Latencies, median, median_ratio, rounded};
    use std::time::Duration;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn ratio_is_taken_round_by_round() {
        assert_eq!(median_ratio(&[1.0, 20.0, 3.0], &[2.0, 40.0, 3.0]), 0.5);
    }

    #[test]
    fn rounding_keeps_the_digits_asked_for() {
        assert_eq!(rounded(1.23456, 2), 1.23);
    }

    #[test]
    fn quantiles_stay_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for ns in 1..=1000 {
            latencies.record(Duration::from_nanos(ns));
        }
        assert!((499..=501).contains(&latencies.quantile_ns(0.5)));
        assert!((989..=991).contains(&latencies.quantile_ns(0.99)));
    }
}
