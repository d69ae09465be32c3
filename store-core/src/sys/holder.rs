//! What holds a segment's memory, and how it is given more of it.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Uid};

use super::map::{Mapping, Sharing, resident_bytes};
use super::object::Object;
use super::semaphore::Ownership;
use super::sysv::SharedSegment;

/// The kinds of memory that a store can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// A POSIX shared memory object.
    Posix,
    /// A System V shared memory segment.
    SystemV,
    /// A file.
    File,
    /// A memfd, known by its descriptors only.
    Memfd,
    /// Anonymous memory, shared with the processes forked from its maker.
    Anonymous,
    /// Memory of one process.
    Private,
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posix => "POSIX shared memory",
            Self::SystemV => "System V shared memory",
            Self::File => "file",
            Self::Memfd => "memfd",
            Self::Anonymous => "shared anonymous memory",
            Self::Private => "private memory",
        })
    }
}

/// What is mapped.
#[derive(Debug)]
pub(crate) enum Holder {
    /// Memory of this process, taken as it is touched.
    Private,
    /// Memory of this process and those forked from it.
    Anonymous,
    /// A kernel object with a descriptor.
    Object(Object),
    /// A System V segment.
    SystemV(SharedSegment),
}

impl Holder {
    /// Gives a range of the mapping its memory, so that no store to it can fail later.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` where there is none left.
    pub(crate) fn commission(&self, mapping: &Mapping, offset: u64, bytes: u64) -> io::Result<()> {
        match self {
            Self::Private => Ok(()),
            Self::Object(object) => object.commission(offset, bytes),
            // Such memory has no limit of its own: the kernel would end some process instead. Pages of the
            // pool were kept for it when it was made.
            Self::Anonymous | Self::SystemV(_)
                if available_memory().is_some_and(|free| free < bytes) && !mapping.is_of_pool() =>
            {
                Err(io::Error::from_raw_os_error(libc::ENOMEM))
            }
            Self::Anonymous | Self::SystemV(_) => mapping.populate(offset, bytes),
        }
    }

    /// Gives the memory of a range back; it reads as 0 then.
    ///
    /// # Errors
    /// `EOPNOTSUPP` of a file system that can't, `EPERM` of a sealed memfd, `EINVAL` of locked
    /// memory.
    pub(crate) fn discard(&self, mapping: &Mapping, offset: u64, bytes: u64) -> io::Result<()> {
        match self {
            Self::Object(object) => object.discard(offset, bytes),
            Self::Private => mapping.discard(offset, bytes, Sharing::Private),
            Self::Anonymous | Self::SystemV(_) => mapping.discard(offset, bytes, Sharing::Shared),
        }
    }

    /// Bytes of memory or disk that it takes now; 0 for private memory.
    pub(crate) fn resident_bytes(&self, mapping: &Mapping) -> u64 {
        match self {
            Self::Private => 0,
            Self::Anonymous => resident_bytes(mapping.address()),
            Self::Object(object) => object.resident_bytes(),
            Self::SystemV(segment) => segment.resident_bytes(),
        }
    }

    pub(crate) fn backing(&self) -> Backing {
        match self {
            Self::Private => Backing::Private,
            Self::Anonymous => Backing::Anonymous,
            Self::Object(object) => object.backing(),
            Self::SystemV(_) => Backing::SystemV,
        }
    }

    /// Whose it is, and who else may use it.
    ///
    /// # Errors
    /// Those of `fstat(2)` and `shmctl(2)`.
    pub(crate) fn ownership(&self) -> io::Result<Ownership> {
        match self {
            Self::Private | Self::Anonymous => Ok(Ownership {
                uid: Uid::effective().as_raw(),
                gid: Gid::effective().as_raw(),
                permissions: 0o600,
            }),
            Self::Object(object) => {
                let metadata = object.metadata()?;
                Ok(Ownership {
                    uid: metadata.uid(),
                    gid: metadata.gid(),
                    permissions: metadata.mode() & 0o777,
                })
            }
            Self::SystemV(segment) => Ok(segment.status()?.ownership),
        }
    }

    /// The object, if it has a descriptor.
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}

/// Bytes of memory that the machine could give out (`MemAvailable`), if it says.
pub(crate) fn available_memory() -> Option<u64> {
    available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;
    use crate::sys::kernel_text;

    proptest! {
        #[test]
        fn whatever_meminfo_says_is_answered(text in kernel_text(), number: u64) {
            let _ = available_in(&text);
            let text = format!("MemAvailable: {number} kB\n{text}");
            assert_eq!(available_in(&text), Some(number.saturating_mul(1024)));
        }
    }

    #[test]
    fn what_could_be_given_out_is_read() {
        let text = "MemTotal:       24682416 kB\nMemAvailable:   22688968 kB\nBuffers: 107532 kB\n";
        assert_eq!(available_in(text), Some(22_688_968 << 10));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
    }
}
