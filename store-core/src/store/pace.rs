//! How much a put cleans or evicts ahead of need: what freeing as many bytes as it takes has cost
//! lately, so that the work comes a little at a time and none has to wait for a whole extent.

use std::sync::atomic::{AtomicU64, Ordering};

/// Of bytes that puts take, so many quarters are to be freed at the same time.
const QUARTERS: u64 = 5;
/// The cost after which what was seen counts half.
const COST_MAX: u64 = 1 << 20;

/// What was paid lately, in the unit that the budgets are in, and the bytes that it freed. Near, if
/// threads note it at once.
#[derive(Debug, Default)]
pub(super) struct Pace {
    cost: AtomicU64,
    freed: AtomicU64,
}

impl Pace {
    /// Notes what a look at an item cost, and the bytes that are free by it.
    pub(super) fn note(&self, cost: u64, freed: u64) {
        let cost = self.cost.load(Ordering::Relaxed) + cost;
        let freed = self.freed.load(Ordering::Relaxed) + freed;
        let halved = u32::from(cost > COST_MAX);
        self.cost.store(cost >> halved, Ordering::Relaxed);
        self.freed.store(freed >> halved, Ordering::Relaxed);
    }

    /// What a put of so many bytes is to pay, so that a little more than these are freed: at most
    /// `most` for each of them.
    pub(super) fn cost_of(&self, bytes: u64, most: u64) -> u64 {
        let cost = self.cost.load(Ordering::Relaxed).max(1);
        let freed = self.freed.load(Ordering::Relaxed).max(1);
        let paced = bytes.saturating_mul(QUARTERS) / 4;
        let most = paced.saturating_mul(most);
        (u128::from(paced) * u128::from(cost) / u128::from(freed)).min(most.into()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_pays_what_its_bytes_cost_lately() {
        let pace = Pace::default();
        assert_eq!(pace.cost_of(1000, 16), 1250, "before anything is known");
        for _ in 0..100_000 {
            pace.note(400, 0);
            pace.note(100, 100);
        }
        let cost = pace.cost_of(1000, 16);
        assert!((6000..6500).contains(&cost), "{cost}");
        assert_eq!(pace.cost_of(1000, 4), 5000, "at most");
        for _ in 0..100_000 {
            pace.note(100, 100);
        }
        assert_eq!(pace.cost_of(1000, 16), 1250, "what was long ago does not count");
    }
}
