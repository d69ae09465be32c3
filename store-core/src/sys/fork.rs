//! Tells a child after `fork` from its parent, without a system call.
//!
//! One page of the process is marked `MADV_WIPEONFORK` (Linux 4.14): in a child it reads as zeros.
//! Whoever finds 0 writes a fresh number; handles remember the number they were made under.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The page, as the one word of it that is used.
struct Page(&'static AtomicU64);

static PAGE: OnceLock<Page> = OnceLock::new();

/// A number of this process: another one in each forked child. Costs one load.
#[inline]
pub(crate) fn process_mark() -> u64 {
    let word = PAGE.get_or_init(Page::map).0;
    match word.load(Ordering::Relaxed) {
        0 => set_mark(word),
        mark => mark,
    }
}

#[cold]
fn set_mark(word: &AtomicU64) -> u64 {
    let pid = u64::from(std::process::id());
    let fresh = ((pid << 40) ^ super::clock::monotonic_ns()) | 1;
    match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(found) => found,
    }
}

impl Page {
    #[expect(unsafe_code, reason = "a page that the kernel zeroes in forked children")]
    fn map() -> Self {
        static FALLBACK: AtomicU64 = AtomicU64::new(0);
        if cfg!(miri) {
            return Self(&FALLBACK);
        }
        // SAFETY: a new anonymous page at an address of the kernel's choice, never unmapped.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                4096,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::PRIVATE,
            )
        };
        let Ok(page) = page else { return Self(&FALLBACK) };
        // SAFETY: the page was mapped just now. Where the kernel is too old, forks go unnoticed.
        let _ = unsafe { rustix::mm::madvise(page, 4096, rustix::mm::Advice::LinuxWipeOnFork) };
        // SAFETY: page-aligned, zeroed, mapped until the process ends.
        Self(unsafe { &*page.cast::<AtomicU64>() })
    }
}
