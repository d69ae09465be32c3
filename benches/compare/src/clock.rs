//! How long a turn took, and how much of that its thread had a processor.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use store_benches::stats::nanos_per;

/// What is told of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clock {
    /// From its beginning to its end.
    Wall,
    /// What of that its thread had a processor, in the program and in the kernel.
    Processor,
}

/// Nanoseconds for each operation, and the share of the time that the thread had a processor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) ns: f64,
    pub(crate) share: f64,
}

/// Adds up what it times.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    wall: Duration,
    processor: Duration,
}

impl Stopwatch {
    /// Times this, besides what was timed before.
    pub(crate) fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let (processor, start) = (on_processor(), Instant::now());
        let done = work();
        self.wall += start.elapsed();
        self.processor += on_processor().saturating_sub(processor);
        done
    }

    /// By the wall clock, of all that was timed.
    pub(crate) fn elapsed(&self) -> Duration {
        self.wall
    }

    /// For so many operations.
    pub(crate) fn took(&self, clock: Clock, operations: usize) -> Took {
        let told = match clock {
            Clock::Wall => self.wall,
            Clock::Processor => self.processor,
        };
        let share = self.processor.as_secs_f64() / self.wall.as_secs_f64().max(1e-9);
        Took { ns: nanos_per(told, operations), share: share.min(1.0) }
    }
}

/// What this thread had of any processor.
fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::{Clock, Stopwatch};

    #[test]
    fn who_sleeps_has_no_processor() {
        let mut watch = Stopwatch::default();
        watch.time(|| thread::sleep(Duration::from_millis(30)));
        let (wall, processor) = (watch.took(Clock::Wall, 1), watch.took(Clock::Processor, 1));
        assert!(wall.ns >= 30e6, "{wall:?}");
        assert!(processor.ns < 15e6 && processor.share < 0.5, "{processor:?}");
    }
}
