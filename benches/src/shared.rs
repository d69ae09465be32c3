//! Memory that this process shares with those that it forks: what one of them stored there outlives it.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::time::{ClockId, clock_gettime};
use zerocopy::FromZeros;

/// Makes a `T` of zeros that every process forked from now on shares. It is there until the last of
/// them ends.
///
/// # Errors
/// Those of `mmap(2)`; a `T` without bytes, or aligned to more than a page.
pub fn zeroed<T: FromZeros + Sync>() -> Result<&'static T> {
    let bytes = NonZeroUsize::new(size_of::<T>()).context("nothing to share")?;
    ensure!(align_of::<T>() <= 4096, "pages are aligned to 4096 bytes only");
    #[expect(unsafe_code, reason = "memory that forked processes share")]
    // SAFETY: a new mapping at an address of the kernel's choice.
    let mapped = unsafe {
        mmap_anonymous(
            None,
            bytes,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    };
    let mapped = mapped.context("mapping memory to share")?;
    #[expect(unsafe_code, reason = "the bytes just mapped, as what they are made for")]
    // SAFETY: aligned and as large as a `T`, for which zeros are a value; never unmapped. Others
    // change it only through the same shared reference, and a `T` is `Sync`.
    Ok(unsafe { mapped.cast::<T>().as_ref() })
}

/// Nanoseconds of the monotonic clock, which is the same in all processes; never 0.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has this clock");
    (now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{now_ns, zeroed};

    #[test]
    fn shared_memory_begins_as_zeros_and_keeps_what_is_stored() {
        let words = zeroed::<[AtomicU64; 700]>().expect("memory");
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        words[699].store(7, Ordering::Relaxed);
        assert_eq!(words[699].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now_ns();
        assert!(before > 0 && now_ns() >= before);
    }
}
