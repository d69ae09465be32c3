//! Doing everything to a store whose bytes may say anything: what it answers is of no interest, only
//! that it answers, and how much computing that takes.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use store_core::{Cursor, Store};

use crate::pair::key;

/// How long one operation on a small store may compute, whatever the bytes are. Without
/// optimisation it takes about ten times as long.
const CPU_TIME_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 10 });

/// Runs one operation, and panics if this thread was computing for too long. Time in which it
/// waited, or others had the processor, does not count; where a hypervisor took it away it does, so
/// it is tried three times.
pub fn bounded<T>(what: &str, operation: impl Fn() -> T) -> T {
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let start = cpu_time();
        let answer = operation();
        least = least.min(cpu_time() - start);
        if least <= CPU_TIME_MAX {
            return answer;
        }
    }
    panic!("{what} took {least:?} of processor time, {CPU_TIME_MAX:?} is the limit");
}

fn cpu_time() -> Duration {
    // Miri has no such clock.
    if cfg!(miri) {
        return Duration::ZERO;
    }
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock of the thread").into()
}

/// Reads all that there is to read.
pub fn read_everything(store: &Store) {
    let keys: Vec<Vec<u8>> = (0..48).map(key).collect();
    for key in &keys {
        let _ = bounded("get", || store.get(key));
        let _ = bounded("get_into", || store.get_into(key, &mut [0; 100]));
        let _ = bounded("get_entry", || store.get_entry(key));
        let _ = bounded("ttl", || store.ttl(key));
    }
    let _ = bounded("get_many", || store.get_many(&keys));
    let _ = store.len();
    let _ = bounded("stats", || store.stats());
    let _ = bounded("extents", || store.extents());
    let _ = bounded("namespaces", || store.namespaces());
    let _ = bounded("histograms", || store.histograms(|_, _| {}));
    let _ = bounded("check", || store.check(|_, _| {}));
    let mut cursor = Some(Cursor::START);
    for _ in 0..10_000 {
        let Some(at) = cursor else { break };
        cursor = bounded("scan", || store.scan(at, b"", 10)).ok().and_then(|page| page.next);
    }
}
