//! Mappings: of a descriptor, of a System V segment, anonymous, or private to the process.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use super::sysv::SharedSegment;

/// Mappings start at such an address, so that huge pages can serve them.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory that is mapped, or allocated, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Cleared once and for all by `protect`.
    writable: AtomicBool,
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
    /// Maps `bytes` bytes of `object`, shared, where the kernel likes, on a 2 MiB boundary.
    #[expect(unsafe_code, reason = "mmap")]
    pub(crate) fn of_object(
        object: BorrowedFd<'_>,
        bytes: usize,
        writable: bool,
    ) -> io::Result<Self> {
        let protection =
            if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let place = reserve(bytes)?;
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
            Ok(_) => Ok(Self::over(place, bytes, writable, Origin::Mapped)),
            Err(error) => {
                release(place, bytes);
                Err(error.into())
            }
        }
    }

    /// Zeroed memory of this process alone. Under Miri it comes from the heap.
    #[expect(unsafe_code, reason = "mprotect of a range reserved here")]
    pub(crate) fn private(bytes: usize) -> io::Result<Self> {
        if cfg!(miri) {
            return Ok(Self::heap(bytes));
        }
        let place = reserve(bytes)?;
        // SAFETY: the range is ours, anonymous, and nothing refers to it.
        unsafe {
            rustix::mm::mprotect(
                place.as_ptr().cast(),
                bytes,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )?;
        }
        Ok(Self::over(place, bytes, true, Origin::Mapped))
    }

    /// Zeroed memory of this process and of those that will be forked from it.
    #[expect(unsafe_code, reason = "mmap over a range reserved here")]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let place = reserve(bytes)?;
        // SAFETY: the fixed range was reserved just now by this function and nobody else has it.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                place.as_ptr().cast(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
            )
        };
        match mapped {
            Ok(_) => Ok(Self::over(place, bytes, true, Origin::Mapped)),
            Err(error) => {
                release(place, bytes);
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
            let place = reserve(bytes)?;
            release(place, bytes);
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
                    return Ok(Self::over(base, bytes, writable, Origin::Segment));
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

    fn over(base: NonNull<u8>, bytes: usize, writable: bool, origin: Origin) -> Self {
        Self { base, bytes, writable: AtomicBool::new(writable), origin }
    }

    /// Zeroed memory from the allocator: for tests, and where there is no mmap.
    #[expect(unsafe_code, reason = "an aligned, zeroed allocation")]
    pub(crate) fn heap(bytes: usize) -> Self {
        let layout = heap_layout(bytes);
        // SAFETY: the layout's size is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Self::over(base, bytes, true, Origin::Heap)
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
}

/// Bytes of the mapping at `address` that huge pages serve now (`/proc/self/smaps`).
pub(crate) fn huge_page_bytes(address: usize) -> u64 {
    smaps_bytes(address, &["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"])
}

/// Bytes of the mapping at `address` that this process has in memory (`/proc/self/smaps`).
pub(crate) fn resident_bytes(address: usize) -> u64 {
    smaps_bytes(address, &["Rss"])
}

fn smaps_bytes(address: usize, names: &[&str]) -> u64 {
    // The names of files may be any bytes.
    let Ok(smaps) = std::fs::read("/proc/self/smaps") else { return 0 };
    let smaps = String::from_utf8_lossy(&smaps);
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
        .sum()
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "the end of the mapping")]
    fn drop(&mut self) {
        match self.origin {
            // SAFETY: the range was mapped by this type and every borrow of it ends with it.
            Origin::Mapped => unsafe {
                let _ = rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes);
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

/// Reserves address space: `bytes` at a multiple of 2 MiB (of a page, where that is all there is).
#[expect(unsafe_code, reason = "mmap and munmap of fresh anonymous memory")]
fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
    let padded = bytes.checked_add(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            padded,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?
    } as usize;
    let place = start.next_multiple_of(HUGE_PAGE_BYTES);
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
