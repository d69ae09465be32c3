//! Clocks: coarse monotonic time for expiry, wall-clock time for people, the boot id.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC_COARSE` in milliseconds: a few nanoseconds from the vDSO, one tick (4 ms) off.
#[inline]
pub(crate) fn monotonic_coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
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
