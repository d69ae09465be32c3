//! Clocks: coarse monotonic time for expiry, wall-clock time for people, the boot id.

use std::io;
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
    // A failure may pass (no free descriptor), so it is not remembered. A child is mostly in the
    // namespace of its parent.
    try_namespace_offset(mark).unwrap_or_else(|_| OFFSET_MS.load(Ordering::Relaxed))
}

fn try_namespace_offset(mark: u64) -> io::Result<u64> {
    let offsets = time_namespace::own_offsets()?;
    let offset_ms = offsets.unwrap_or_default().monotonic_ns.div_euclid(1_000_000) as u64;
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
    OFFSET_IS_OF.store(mark, Ordering::Release);
    Ok(offset_ms)
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

/// The id of this boot of the machine (`/proc/sys/kernel/random/boot_id`); 0 where there is none.
/// Read once: it does not change while a process lives.
pub(crate) fn boot_id() -> u128 {
    read_boot_id().unwrap_or(0)
}

fn read_boot_id() -> io::Result<u128> {
    static BOOT_ID: OnceLock<u128> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(*id);
    }
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => {
            let id = uuid::Uuid::parse_str(text.trim()).map_or(0, |id| id.as_u128());
            Ok(*BOOT_ID.get_or_init(|| id))
        }
        // There is no `/proc`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        // It may pass (no free descriptor), so it is not remembered.
        Err(error) => Err(error),
    }
}

/// Reads what takes a descriptor: later calls of this process have it, and can't fail. Who goes on
/// without it would take a store for one of another boot, and its times for others.
///
/// # Errors
/// Those of `open(2)` and `read(2)` on files in `/proc`; none where there is no `/proc`.
pub(crate) fn prepare() -> io::Result<()> {
    read_boot_id()?;
    let mark = fork::process_mark();
    if OFFSET_IS_OF.load(Ordering::Acquire) != mark {
        try_namespace_offset(mark)?;
    }
    Ok(())
}
