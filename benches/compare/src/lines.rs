//! Memory that is read without a store: as much as a store of this size takes, in the same kind of pages.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::slice;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

/// What the processor moves at once.
pub(crate) const LINE: usize = 64;
const PAGE: usize = 4096;

/// Bytes of a file on tmpfs, mapped to be read only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    bytes: &'static [u8],
}

impl Lines {
    /// Makes a file of so many bytes.
    pub(crate) fn make(path: &Path, bytes: usize) -> Result<()> {
        let mut file = File::create(path).context("making memory to read")?;
        // Not zeros, and different in each line: so that no page of it is like another.
        let mut block = vec![0_u8; 1 << 20];
        let mut left = bytes.next_multiple_of(PAGE);
        while left > 0 {
            for (number, line) in block.chunks_exact_mut(LINE).enumerate() {
                line[..8].copy_from_slice(&((left + number) as u64).to_le_bytes());
            }
            let len = left.min(block.len());
            file.write_all(&block[..len]).context("making memory to read")?;
            left -= len;
        }
        Ok(())
    }

    /// Maps what was made, and touches each page. It stays mapped until the process ends.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).open(path).context("opening memory to read")?;
        let len = file.metadata()?.len() as usize;
        let size = NonZeroUsize::new(len).context("no memory to read")?;
        #[expect(unsafe_code, reason = "a mapping as the store has one")]
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapped =
            unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) };
        let mapped = mapped.context("mapping memory to read")?;
        #[expect(unsafe_code, reason = "the bytes just mapped")]
        // SAFETY: as many bytes as the file has, never unmapped. The file is this run's own, nobody
        // writes to it or shortens it once it is made.
        let bytes = unsafe { slice::from_raw_parts(mapped.cast::<u8>().as_ptr(), len) };
        black_box(bytes.chunks(PAGE).fold(0_u64, |sum, page| sum + u64::from(page[0])));
        Ok(Self { bytes })
    }

    /// How many lines there are.
    pub(crate) fn count(self) -> u32 {
        (self.bytes.len() / LINE) as u32
    }

    /// The first word of a line.
    #[inline]
    pub(crate) fn word(self, line: u32) -> u64 {
        let at = line as usize * LINE;
        let word: [u8; 8] = self.bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(word)
    }

    /// So many bytes from there.
    #[inline]
    pub(crate) fn at(self, offset: usize, len: usize) -> &'static [u8] {
        &self.bytes[offset..offset + len]
    }

    /// Asks the processor for the line at `offset`, and does not wait.
    #[inline]
    pub(crate) fn ask_for(self, offset: usize) {
        let address = self.bytes[offset..].as_ptr();
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "the standard library has no safe prefetch")]
        // SAFETY: a hint, which may be given for any address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
        #[cfg(target_arch = "aarch64")]
        #[expect(unsafe_code, reason = "the standard library has no prefetch for this processor")]
        // SAFETY: a hint, which may be given for any address; it reads and changes nothing.
        unsafe {
            use std::arch::asm;
            asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly));
        }
    }
}
