//! The time by which what is salvaged expires.

use super::found::Found;
use super::wreck::Wreck;
use crate::sys::clock;

/// How far the segment's time may be from the wall clock, which somebody may have set, without any doubt.
const HOUR_MS: u64 = 3_600_000;

pub(super) struct Clock {
    /// What is added to the monotonic clock.
    pub(super) offset_ms: u64,
    /// Whether the wall clock stands in for that of the segment.
    pub(super) is_doubted: bool,
}

impl Wreck {
    /// The clock that the superblock tells, unless it makes no sense. The segment's time began as that of
    /// the wall clock when the store was made, so it is not earlier; and if it is later than the wall clock
    /// says and most items would have expired by it, it is rather the word that is wrong.
    pub(super) fn clock_for(&self, found: &[Found]) -> Clock {
        let (told, wall) = (Self::now_ms(self.clock_offset_ms), clock::wall_ms());
        let made = self.created_unix_ms();
        let is_before = told.saturating_add(HOUR_MS) < made && made <= wall.saturating_add(HOUR_MS);
        let expiries: Vec<u64> = found.iter().filter_map(|found| found.expiry).collect();
        let expired = expiries.iter().filter(|expiry| **expiry <= told).count();
        let is_after = told > wall.saturating_add(HOUR_MS) && expired > expiries.len() / 2;
        match is_before || is_after {
            false => Clock { offset_ms: self.clock_offset_ms, is_doubted: false },
            true => {
                let offset_ms = wall.wrapping_sub(clock::monotonic_coarse_ms());
                Clock { offset_ms, is_doubted: true }
            }
        }
    }
}
