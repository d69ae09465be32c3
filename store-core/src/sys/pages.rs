//! The pages that memory comes in: the usual ones, or huge ones of the pool that an administrator reserves.

use std::io;

use rustix::fs::StatFs;

/// A page of the usual kind.
const PAGE_BYTES: usize = 4096;
/// A huge page. Mappings start at a multiple of it, so that such pages can serve them.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// What memory is taken in, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    bytes: usize,
}

impl Pages {
    pub(crate) const SMALL: Self = Self { bytes: PAGE_BYTES };
    /// Of the pool: 2 MiB, all of which must be had at once.
    pub(crate) const HUGE: Self = Self { bytes: HUGE_PAGE_BYTES };

    /// Those of a file system: huge on a hugetlbfs.
    pub(crate) fn of_file_system(status: &StatFs) -> Self {
        match usize::try_from(status.f_bsize) {
            Ok(bytes) if status.f_type == HUGETLBFS_MAGIC && bytes.is_power_of_two() => {
                Self { bytes: bytes.max(PAGE_BYTES) }
            }
            _ => Self::SMALL,
        }
    }

    pub(crate) fn are_huge(self) -> bool {
        self.bytes > PAGE_BYTES
    }

    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// The bytes of whole pages that hold so many.
    pub(crate) fn round_up(self, bytes: usize) -> usize {
        bytes.checked_next_multiple_of(self.bytes).unwrap_or(bytes)
    }
}

/// Bytes of huge pages of 2 MiB that the pool has left (`/proc/meminfo`).
///
/// # Errors
/// Those of reading it.
pub(crate) fn free_huge_bytes() -> io::Result<u64> {
    let text = std::fs::read("/proc/meminfo")?;
    Ok(free_huge_bytes_in(&String::from_utf8_lossy(&text)))
}

fn free_huge_bytes_in(meminfo: &str) -> u64 {
    let number = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let free = number("HugePages_Free:").unwrap_or(0);
    let kept = number("HugePages_Rsvd:").unwrap_or(0);
    free.saturating_sub(kept)
        .saturating_mul(number("Hugepagesize:").unwrap_or(0))
        .saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_pool_has_left_is_read() {
        let text = "MemFree: 5 kB\nHugePages_Total:      12\nHugePages_Free:       10\n\
                    HugePages_Rsvd:        3\nHugepagesize:       2048 kB\n";
        assert_eq!(free_huge_bytes_in(text), 7 << 21);
        assert_eq!(free_huge_bytes_in(""), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(HugePages_Free:|HugePages_Rsvd:|Hugepagesize:|[ \\n]|[0-9]{1,25}|.)*") {
            free_huge_bytes_in(&text);
        }
    }
}
