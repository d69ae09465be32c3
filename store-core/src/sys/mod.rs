//! What the core needs of the operating system: one file for each facility, nothing of the store.

pub(crate) mod clock;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod holder;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod object;
pub(crate) mod pages;
pub(crate) mod presence;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod registry;
pub(crate) mod rights;
pub(crate) mod semaphore;
pub(crate) mod step;
pub(crate) mod sysv;
pub(crate) mod thread;
mod time_namespace;
pub(crate) mod use_count;

/// Text that looks like what the kernel shows, and is not.
#[cfg(test)]
fn kernel_text() -> impl proptest::strategy::Strategy<Value = String> {
    "(-?[0-9]{1,25}|[0-9a-f]{2,17}|[A-Za-z_]{1,12}:?|kB|id|uuid|boot|ipc|monotonic|boottime|\\PC|[ \t\n():-]){0,60}"
}

/// Asks the processor for a cache line; no fault, whatever the address.
#[inline(always)]
#[expect(unsafe_code, reason = "a prefetch is an intrinsic of the architecture")]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: PREFETCHT0 is part of x86-64 and never faults (Intel SDM, volume 2).
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: PRFM is a hint and never faults (Arm ARM, C6.2).
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}
