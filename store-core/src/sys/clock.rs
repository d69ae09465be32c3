//! Clocks: coarse monotonic time for expiry, wall-clock time for people, the boot id.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use super::{fork, time_namespace};

/// `CLOCK_MONOTONIC_COARSE` in milliseconds, without what a time namespace adds: a few nanoseconds
/// from the vDSO, one tick (4 ms) off.
#[inline]
pub(crate) fn monotonic_coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let shown = now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000;
    shown.wrapping_sub(namespace_offset_ms())
}

/// What [`namespace_offset_ms`] found, and for which process.
static OFFSET_MS: AtomicU64 = AtomicU64::new(0);
static OFFSET_IS_OF: AtomicU64 = AtomicU64::new(0);

/// What the time namespace adds to the monotonic clock, modulo 2^64; 0 where it can't be told. Read
/// once in a process: a child after `fork` may be in another one.
#[inline]
fn namespace_offset_ms() -> u64 {
    let mark = fork::process_mark();
    // Pairs with the Release store behind the offset.
    if OFFSET_IS_OF.load(Ordering::Acquire) == mark {
        return OFFSET_MS.load(Ordering::Relaxed);
    }
    read_namespace_offset(mark)
}

#[cold]
fn read_namespace_offset(mark: u64) -> u64 {
    // A failure may pass (no free descriptor), so it is not remembered.
    let Ok(offsets) = time_namespace::own_offsets() else { return 0 };
    let offset_ms = offsets.unwrap_or_default().monotonic_ns.div_euclid(1_000_000) as u64;
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
    OFFSET_IS_OF.store(mark, Ordering::Release);
    offset_ms
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.max(0) as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The id of this boot of the machine (`/proc/sys/kernel/random/boot_id`); 0 where it can't be
/// read. Read once: it does not change while a process lives.
pub(crate) fn boot_id() -> u128 {
    static BOOT_ID: OnceLock<u128> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return *id;
    }
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok());
    // A failure may pass (no free descriptor), so it is not remembered.
    read.map_or(0, |id| *BOOT_ID.get_or_init(|| id.as_u128()))
}
