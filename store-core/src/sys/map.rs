//! Mappings: of a descriptor, of a System V segment, anonymous, or private to the process.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use super::pages::{HUGE_PAGE_BYTES, Pages};
use super::sysv::SharedSegment;

/// How often a range is asked to be made a huge page of that the kernel is at work on.
const COLLAPSE_TRIES: u32 = 3;

/// Memory that is mapped, or allocated, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Cleared once and for all by `protect`.
    writable: AtomicBool,
    /// Whether huge pages are asked for as memory is taken.
    asks_for_huge_pages: AtomicBool,
    pages: Pages,
    origin: Origin,
}

/// Whether other processes have the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Private,
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Mapped,
    Segment,
    Heap,
}

#[expect(unsafe_code, reason = "a mapping may be used from every thread")]
// SAFETY: the memory is reached through atomic words only; the mapping itself changes only in drop.
unsafe impl Send for Mapping {}
#[expect(unsafe_code, reason = "a mapping may be used from every thread")]
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes of `object`, whose memory comes in such pages, shared, where the kernel
    /// likes, on a 2 MiB boundary.
    #[expect(unsafe_code, reason = "mmap")]
    pub(crate) fn of_object(
        object: BorrowedFd<'_>,
        bytes: usize,
        writable: bool,
        pages: Pages,
    ) -> io::Result<Self> {
        let protection =
            if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let place = reserve(bytes, pages)?;
        // SAFETY: the fixed range was reserved just now by this function and nobody else has it.
        let mapped = unsafe {
            rustix::mm::mmap(
                place.as_ptr().cast(),
                bytes,
                protection,
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
                object,
                0,
            )
        };
        match mapped {
            Ok(_) => Ok(Self::over(place, bytes, writable, Origin::Mapped, pages)),
            Err(error) => {
                release(place, pages.round_up(bytes));
                Err(error.into())
            }
        }
    }

    /// Zeroed memory of this process alone, of such pages. Under Miri it comes from the heap.
    ///
    /// # Errors
    /// `ENOMEM` where the pool has not as many.
    pub(crate) fn private(bytes: usize, pages: Pages) -> io::Result<Self> {
        if cfg!(miri) {
            return Ok(Self::heap(bytes));
        }
        Self::of_nothing(bytes, pages, MapFlags::PRIVATE)
    }

    /// Zeroed memory of this process and of those that will be forked from it, of such pages.
    ///
    /// # Errors
    /// `ENOMEM` where the pool has not as many.
    pub(crate) fn anonymous(bytes: usize, pages: Pages) -> io::Result<Self> {
        Self::of_nothing(bytes, pages, MapFlags::SHARED)
    }

    #[expect(unsafe_code, reason = "mmap over a range reserved here")]
    fn of_nothing(bytes: usize, pages: Pages, sharing: MapFlags) -> io::Result<Self> {
        let place = reserve(bytes, pages)?;
        let of_pages = match pages.are_huge() {
            // Kept for it at once: a page that the pool lacks later would be a SIGBUS.
            true => MapFlags::HUGETLB,
            false => MapFlags::NORESERVE,
        };
        // SAFETY: the fixed range was reserved just now by this function and nobody else has it.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                place.as_ptr().cast(),
                pages.round_up(bytes),
                ProtFlags::READ | ProtFlags::WRITE,
                sharing | MapFlags::FIXED | of_pages,
            )
        };
        match mapped {
            Ok(_) => Ok(Self::over(place, bytes, true, Origin::Mapped, pages)),
            Err(error) => {
                release(place, pages.round_up(bytes));
                Err(error.into())
            }
        }
    }

    /// Attaches a System V segment, whole, on a 2 MiB boundary if one is to be had.
    ///
    /// # Errors
    /// Those of `shmat(2)`: `EACCES`; `EINVAL` or `EIDRM` if it is gone.
    #[expect(unsafe_code, reason = "shmat where nothing is mapped, and shmdt")]
    pub(crate) fn of_segment(segment: SharedSegment, writable: bool) -> io::Result<Self> {
        let flags = if writable { 0 } else { libc::SHM_RDONLY };
        for attempt in 0.. {
            let bytes = segment.status()?.bytes as usize;
            // Without SHM_REMAP the kernel replaces no mapping, so the place must be free again;
            // another thread may take it meanwhile.
            let place = reserve(bytes, Pages::HUGE)?;
            release(place, Pages::HUGE.round_up(bytes));
            let place = if attempt < 3 { place.as_ptr() } else { std::ptr::null_mut() };
            // SAFETY: a new mapping, which the kernel refuses where something is mapped already.
            let at = unsafe { libc::shmat(segment.id(), place.cast(), flags) };
            if at.addr() == usize::MAX {
                let error = io::Error::last_os_error();
                let taken = error.raw_os_error() == Some(libc::EINVAL);
                if taken && attempt < 3 && segment.status().is_ok() {
                    continue;
                }
                return Err(error);
            }
            // What is attached keeps its id and its length; before, the id may have been given to
            // another segment.
            let same = segment.status().is_ok_and(|status| status.bytes as usize == bytes);
            match NonNull::new(at.cast::<u8>()) {
                Some(base) if same => {
                    return Ok(Self::over(base, bytes, writable, Origin::Segment, Pages::SMALL));
                }
                _ => {
                    // SAFETY: attached just now, and nothing refers to it.
                    unsafe { libc::shmdt(at) };
                    if attempt >= 6 {
                        break;
                    }
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::EIDRM))
    }

    fn over(base: NonNull<u8>, bytes: usize, writable: bool, origin: Origin, pages: Pages) -> Self {
        let writable = AtomicBool::new(writable);
        Self { base, bytes, writable, asks_for_huge_pages: AtomicBool::new(false), pages, origin }
    }

    /// Zeroed memory from the allocator: for tests, and where there is no mmap.
    #[expect(unsafe_code, reason = "an aligned, zeroed allocation")]
    pub(crate) fn heap(bytes: usize) -> Self {
        let layout = heap_layout(bytes);
        // SAFETY: the layout's size is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Self::over(base, bytes, true, Origin::Heap, Pages::SMALL)
    }

    /// Asks the kernel for huge pages, now and as memory is taken. It may have none, or be told to
    /// give none.
    #[expect(unsafe_code, reason = "madvise")]
    pub(crate) fn ask_for_huge_pages(&self) {
        if self.origin == Origin::Heap {
            return;
        }
        self.asks_for_huge_pages.store(true, Ordering::Relaxed);
        // SAFETY: the range is this mapping, whole, and the advice changes no byte of it.
        let _ = unsafe {
            rustix::mm::madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxHugepage)
        };
    }

    /// Makes huge pages of those that a range touches (`MADV_COLLAPSE`, Linux 6.1), if they are asked
    /// for; what has no memory yet gets it. About 100 us for each that was none. What the kernel does
    /// not do is left as it is.
    #[expect(unsafe_code, reason = "madvise")]
    pub(crate) fn collapse(&self, offset: u64, bytes: u64) {
        if !self.asks_for_huge_pages.load(Ordering::Relaxed) {
            return;
        }
        let start = offset as usize / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        let end = ((offset + bytes) as usize).next_multiple_of(HUGE_PAGE_BYTES).min(self.bytes);
        for at in (start..end).step_by(HUGE_PAGE_BYTES) {
            if end - at < HUGE_PAGE_BYTES {
                break;
            }
            let first = self.base.as_ptr().wrapping_add(at);
            for _ in 0..COLLAPSE_TRIES {
                // SAFETY: the range lies within this mapping, and collapsing changes no byte of it.
                let done =
                    unsafe { libc::madvise(first.cast(), HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) };
                let is_busy = || io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
                if done == 0 || !is_busy() {
                    break;
                }
            }
        }
    }

    /// Gives a range its memory by writing to each page of it what it holds
    /// (`MADV_POPULATE_WRITE`, Linux 5.14), so that no store to it can fail later.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` where there is none left; `EINVAL` of an older kernel.
    #[expect(unsafe_code, reason = "madvise")]
    pub(crate) fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let page = rustix::param::page_size() as u64;
        let start = offset / page * page;
        let end = offset.saturating_add(bytes).next_multiple_of(page);
        if end > (self.bytes as u64).next_multiple_of(page) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let first = self.base.as_ptr().wrapping_add(start as usize);
        let length = (end - start) as usize;
        loop {
            // SAFETY: the range lies within this mapping (just checked), and populating changes no
            // byte of it.
            match unsafe { rustix::mm::madvise(first.cast(), length, Advice::LinuxPopulateWrite) } {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // What would be a SIGBUS: there is no memory for a page.
                Err(rustix::io::Errno::FAULT) => {
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                other => return Ok(other?),
            }
        }
    }

    /// Gives the pages that lie within a range back: they read as 0 then.
    ///
    /// # Errors
    /// `InvalidInput` out of bounds; those of `madvise(2)`.
    #[expect(unsafe_code, reason = "madvise, and zeros to memory from the allocator")]
    pub(crate) fn discard(&self, offset: u64, bytes: u64, sharing: Sharing) -> io::Result<()> {
        let end = offset.saturating_add(bytes);
        if end > self.bytes as u64 || !offset.is_multiple_of(8) || !bytes.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.origin == Origin::Heap {
            for at in (offset..end).step_by(8) {
                let word = self.base.as_ptr().wrapping_add(at as usize).cast::<u64>();
                // SAFETY: within the mapping and aligned (just checked; its base is a page); such
                // memory is reached through atomic words only.
                unsafe { AtomicU64::from_ptr(word) }.store(0, Ordering::Relaxed);
            }
            return Ok(());
        }
        let page = rustix::param::page_size() as u64;
        let (start, end) = (offset.next_multiple_of(page), end / page * page);
        if start >= end {
            return Ok(());
        }
        let first = self.base.as_ptr().wrapping_add(start as usize);
        let advice = match sharing {
            Sharing::Private => Advice::LinuxDontNeed,
            Sharing::Shared => Advice::LinuxRemove,
        };
        // SAFETY: the range lies within this mapping (just checked), whose bytes are atomic words,
        // valid for every bit pattern; zeros are one.
        Ok(unsafe { rustix::mm::madvise(first.cast(), (end - start) as usize, advice) }?)
    }

    /// Makes the mapping read-only in this process. A later store to it is a SIGSEGV.
    ///
    /// # Errors
    /// Those of `mprotect(2)`; `Unsupported` of memory from the allocator.
    #[expect(unsafe_code, reason = "mprotect")]
    pub(crate) fn protect(&self) -> io::Result<()> {
        if self.origin == Origin::Heap {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.writable.store(false, Ordering::Relaxed);
        // SAFETY: the range is this mapping, whole; it stays readable, which is all that references
        // to its atomic words need as long as nobody stores.
        unsafe {
            rustix::mm::mprotect(self.base.as_ptr().cast(), self.bytes, MprotectFlags::READ)?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Whether its pages are of the pool of huge ones, as `/proc/self/smaps` says.
    pub(crate) fn is_of_pool(&self) -> bool {
        smaps_bytes(self.address(), &["KernelPageSize"]) >= HUGE_PAGE_BYTES as u64
    }
}

/// Bytes of the mapping at `address` that huge pages serve now (`/proc/self/smaps`).
pub(crate) fn huge_page_bytes(address: usize) -> u64 {
    smaps_bytes(
        address,
        &["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb"],
    )
}

/// Bytes of the mapping at `address` that this process has in memory (`/proc/self/smaps`).
pub(crate) fn resident_bytes(address: usize) -> u64 {
    smaps_bytes(address, &["Rss", "Shared_Hugetlb", "Private_Hugetlb"])
}

fn smaps_bytes(address: usize, names: &[&str]) -> u64 {
    // The names of files may be any bytes.
    let Ok(smaps) = std::fs::read("/proc/self/smaps") else { return 0 };
    bytes_in(&String::from_utf8_lossy(&smaps), address, names)
}

/// The sum of some fields of the mapping that begins at an address.
fn bytes_in(smaps: &str, address: usize, names: &[&str]) -> u64 {
    let start = format!("{address:x}-");
    smaps
        .lines()
        .skip_while(|line| !line.starts_with(&start))
        .skip(1)
        .take_while(|line| !line.contains('-'))
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            names.contains(&name).then_some(kib.saturating_mul(1024))
        })
        .fold(0, u64::saturating_add)
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "the end of the mapping")]
    fn drop(&mut self) {
        match self.origin {
            // SAFETY: the range was mapped by this type and every borrow of it ends with it.
            Origin::Mapped => unsafe {
                let bytes = self.pages.round_up(self.bytes);
                let _ = rustix::mm::munmap(self.base.as_ptr().cast(), bytes);
            },
            // SAFETY: attached by this type at this address; every borrow of it ends with it.
            Origin::Segment => unsafe {
                libc::shmdt(self.base.as_ptr().cast());
            },
            // SAFETY: allocated by `heap` with this layout.
            Origin::Heap => unsafe {
                std::alloc::dealloc(self.base.as_ptr(), heap_layout(self.bytes));
            },
        }
    }
}

/// Gives a reservation back.
#[expect(unsafe_code, reason = "munmap of a range reserved here")]
fn release(place: NonNull<u8>, bytes: usize) {
    // SAFETY: the callers reserved the range themselves and nothing refers to it.
    let _ = unsafe { rustix::mm::munmap(place.as_ptr().cast(), bytes) };
}

fn heap_layout(bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(bytes.max(4096), 4096).expect("a size below isize::MAX")
}

/// Reserves address space for `bytes` in whole pages, at a multiple of a huge page.
#[expect(unsafe_code, reason = "mmap and munmap of fresh anonymous memory")]
fn reserve(bytes: usize, pages: Pages) -> io::Result<NonNull<u8>> {
    let bytes = pages.round_up(bytes);
    let alignment = pages.bytes().max(HUGE_PAGE_BYTES);
    let padded = bytes.checked_add(alignment).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            padded,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?
    } as usize;
    let place = start.next_multiple_of(alignment);
    let end = (place + bytes).next_multiple_of(4096);
    let trim = |from: usize, to: usize| match to.checked_sub(from) {
        None | Some(0) => Ok(()),
        // SAFETY: head and tail lie within the mapping made above, outside of what is handed out.
        Some(bytes) => unsafe { rustix::mm::munmap(from as *mut _, bytes) },
    };
    trim(start, place).and_then(|()| trim(end, start + padded)).inspect_err(|_| {
        // It would have been one mapping more (`vm.max_map_count`); what is left is one less.
        // SAFETY: the mapping made above, which is handed to nobody.
        let _ = unsafe { rustix::mm::munmap(start as *mut _, padded) };
    })?;
    NonNull::new(place as *mut u8).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::sys::kernel_text;

    proptest! {
        #[test]
        fn whatever_smaps_says_is_answered(text in kernel_text(), numbers in any::<[u64; 4]>()) {
            bytes_in(&text, 0, &["Rss"]);
            let lines = numbers.map(|number| format!("Rss: {number} kB\n")).concat();
            let sum = bytes_in(&format!("10-20 r--p\n{lines}{text}"), 0x10, &["Rss"]);
            assert!(numbers.iter().all(|number| sum >= *number));
        }
    }

    /// What Linux 6.18 showed, shortened.
    const SMAPS: &str = "\
56365af30000-56365af33000 r--p 00000000 fe:00 247749                     /usr/bin/sed
Size:                 12 kB
Rss:                  12 kB
AnonHugePages:         0 kB
VmFlags: rd mr mw me
7f0000000000-7f0000400000 rw-s 00000000 00:17 5                          /dev/shm/cistern.x-y
Size:               4096 kB
KernelPageSize:        4 kB
Rss:                2052 kB
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh mr mw me ms sd
7f0000400000-7f0000401000 rw-s 00000000 00:17 5                          /dev/shm/cistern.x-y
Rss:                   4 kB
ShmemPmdMapped:        4 kB
";

    #[test]
    fn the_fields_of_one_mapping_are_summed() {
        let of = |address, names: &[&str]| bytes_in(SMAPS, address, names);
        let huge = ["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"];
        assert_eq!(of(0x7F00_0000_0000, &["Rss"]), 2052 << 10);
        assert_eq!(of(0x7F00_0000_0000, &huge), 2 << 20);
        assert_eq!((of(0x5636_5AF3_0000, &["Rss"]), of(0x5636_5AF3_0000, &huge)), (12 << 10, 0));
        assert_eq!(of(0x7F00_0000_1000, &["Rss"]), 0, "no mapping begins there");
    }
}
