//! Mappings: of a descriptor, or private to the process.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// Mappings start at such an address, so that huge pages can serve them.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory that is mapped, or allocated, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Whole words in it: `bytes / 8`, which the read path needs each time.
    words: usize,
    writable: bool,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Mapped,
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
            Ok(_) => {
                Ok(Self { base: place, bytes, words: bytes / 8, writable, origin: Origin::Mapped })
            }
            Err(error) => {
                // SAFETY: the reservation is ours and nothing refers to it.
                let _ = unsafe { rustix::mm::munmap(place.as_ptr().cast(), bytes) };
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
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
            )?;
        }
        Ok(Self { base: place, bytes, words: bytes / 8, writable: true, origin: Origin::Mapped })
    }

    /// Zeroed memory from the allocator: for tests, and where there is no mmap.
    #[expect(unsafe_code, reason = "an aligned, zeroed allocation")]
    pub(crate) fn heap(bytes: usize) -> Self {
        let layout = heap_layout(bytes);
        // SAFETY: the layout's size is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Self { base, bytes, words: bytes / 8, writable: true, origin: Origin::Heap }
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline(always)]
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    pub(crate) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }
}

/// Bytes of the mapping at `address` that huge pages serve now (`/proc/self/smaps`).
pub(crate) fn huge_page_bytes(address: usize) -> u64 {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return 0 };
    let start = format!("{address:x}-");
    smaps
        .lines()
        .skip_while(|line| !line.starts_with(&start))
        .skip(1)
        .take_while(|line| !line.contains('-'))
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let huge = matches!(name, "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped");
            let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            huge.then_some(kib * 1024)
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
            // SAFETY: allocated by `heap` with this layout.
            Origin::Heap => unsafe {
                std::alloc::dealloc(self.base.as_ptr(), heap_layout(self.bytes));
            },
        }
    }
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
    // SAFETY: head and tail lie within the mapping made above, outside of what is handed out.
    unsafe {
        if place > start {
            rustix::mm::munmap(start as *mut _, place - start)?;
        }
        if start + padded > end {
            rustix::mm::munmap(end as *mut _, start + padded - end)?;
        }
    }
    NonNull::new(place as *mut u8).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
