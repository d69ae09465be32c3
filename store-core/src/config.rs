//! What a creator may choose.

use std::fmt;
use std::str::FromStr;

/// What happens when the arena is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// A put that does not fit is refused with `Full`; nothing is ever dropped.
    #[default]
    Store,
    /// Eviction makes room: what was hit least, and longest ago, goes. A program that knows store
    /// mode only can read such a store.
    Cache,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "store" => Ok(Self::Store),
            "cache" => Ok(Self::Cache),
            _ => Err(format!("{text:?} is no mode: `store` or `cache`")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::Cache => "cache",
        })
    }
}

/// The function that spreads keys over the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HashKind {
    /// rapidhash v3: about 3 ns for a key of 16 bytes.
    #[default]
    Rapidhash,
    /// SipHash-1-3 with a random key of 128 bits: about twice the time, for keys that come from
    /// people who may choose them so that they meet in one bucket. Its key can be read by whoever
    /// may read the store.
    Siphash,
}

impl FromStr for HashKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rapidhash" => Ok(Self::Rapidhash),
            "siphash" => Ok(Self::Siphash),
            _ => Err(format!("{text:?} is no hash function: `rapidhash` or `siphash`")),
        }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rapidhash => "rapidhash",
            Self::Siphash => "siphash",
        })
    }
}

/// What the guards of writers are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GuardKind {
    /// Words in the store, and a futex when they are contended: no system call to take or give back
    /// one that is free.
    #[default]
    Futex,
    /// System V semaphores: the kernel gives back what a dead process held, at two system calls for
    /// each write. They are of one IPC namespace, and count against the limits in
    /// `/proc/sys/kernel/sem`. Programs that know futexes only can read such a store.
    SystemV,
}

impl FromStr for GuardKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "futex" => Ok(Self::Futex),
            "sysv" => Ok(Self::SystemV),
            _ => Err(format!("{text:?} is no kind of guard: `futex` or `sysv`")),
        }
    }
}

impl fmt::Display for GuardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Futex => "futex",
            Self::SystemV => "sysv",
        })
    }
}

/// Pages of 2 MiB, with which a random lookup in a large store costs the processor fewer steps of address
/// translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HugePages {
    /// What the kernel gives of itself.
    #[default]
    Default,
    /// Asked of the kernel as memory is taken (`MADV_HUGEPAGE`, and `MADV_COLLAPSE`, Linux 6.1, which works
    /// also where `shmem_enabled` is `never`). It may have none; what was got is in `Info::huge_page_bytes`.
    Transparent,
    /// Of the pool that the administrator has reserved (`vm.nr_hugepages`): all of the store, or it is not
    /// made. For System V segments, memfds, anonymous and private memory; a file has them if it is made
    /// on a hugetlbfs mount.
    Reserved,
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Transparent => "transparent",
            Self::Reserved => "reserved",
        })
    }
}

impl FromStr for HugePages {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "default" => Ok(Self::Default),
            "transparent" => Ok(Self::Transparent),
            "reserved" => Ok(Self::Reserved),
            _ => Err(format!("unknown huge pages `{name}`: use default, transparent or reserved")),
        }
    }
}

/// How a store is made. All sizes in bytes.
///
/// ```
/// use store_core::CreateOptions;
/// let options = CreateOptions::new(64 << 20).items(500_000).permissions(0o640);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    pub(crate) size: u64,
    pub(crate) max_size: Option<u64>,
    pub(crate) extent_size: Option<u64>,
    pub(crate) items: Option<u64>,
    pub(crate) mode: Mode,
    pub(crate) permissions: u32,
    pub(crate) heat_permissions: u32,
    pub(crate) group: Option<u32>,
    pub(crate) checksums: Option<bool>,
    pub(crate) hash: HashKind,
    pub(crate) guard: GuardKind,
    pub(crate) huge_pages: HugePages,
}

impl CreateOptions {
    /// A store that takes `size` bytes of memory, structures included, from the start, less what
    /// does not fill an extent. At least about 100 KiB.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            max_size: None,
            extent_size: None,
            items: None,
            mode: Mode::Store,
            permissions: 0o600,
            heat_permissions: 0,
            group: None,
            checksums: None,
            hash: HashKind::Rapidhash,
            guard: GuardKind::Futex,
            huge_pages: HugePages::Default,
        }
    }

    /// The size up to which the arena may grow; address space is reserved for it at once, memory
    /// is taken as needed. As large as `size` if not given. At most 2 TiB.
    pub fn max_size(mut self, max_size: u64) -> Self {
        self.max_size = Some(max_size);
        self
    }

    /// The unit of the arena: a power of two from 4 KiB to 1 MiB. If not given, a 512th of the
    /// size, between 64 KiB and 1 MiB, or smaller where a small store needs it; up to a 64th of it
    /// where it may grow to many times its size.
    pub fn extent_size(mut self, extent_size: u64) -> Self {
        self.extent_size = Some(extent_size);
        self
    }

    /// How many items the index is laid out for at first, at least 1. If not given, one for each KiB
    /// of `size`. It grows as items come, which costs each insert about a fifth of a split bucket; to
    /// know the number spares that.
    pub fn items(mut self, items: u64) -> Self {
        self.items = Some(items);
        self
    }

    /// What happens when the arena is full.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Unix permission bits of the object, whatever the umask; 0o600 if not given. Read permission
    /// is enough to read, write permission lets a process change everything. Its owner has both.
    pub fn permissions(mut self, permissions: u32) -> Self {
        self.permissions = permissions;
        self
    }

    /// In cache mode: permission bits of a place beside the store where readers mark some of what they
    /// look up, so that eviction knows; 0o666 lets every reader. Whoever may write there can spoil
    /// the hit ratio, and nothing else. Readers mark nothing if not given, or 0.
    pub fn heat_permissions(mut self, permissions: u32) -> Self {
        self.heat_permissions = permissions;
        self
    }

    /// The group that the object is given to, by number.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Whether each item carries a checksum, which `check` verifies, and no lookup: 8 bytes and a hash of the
    /// value for each put. On for files if not given, off elsewhere.
    pub fn checksums(mut self, checksums: bool) -> Self {
        self.checksums = Some(checksums);
        self
    }

    /// The hash function of the keys; rapidhash if not given. Programs that know rapidhash only
    /// refuse a store with another one.
    pub fn hash(mut self, hash: HashKind) -> Self {
        self.hash = hash;
        self
    }

    /// What the guards of writers are made of; futexes if not given. A private store has futexes
    /// whatever is asked for: nobody outlives its process.
    pub fn guard(mut self, guard: GuardKind) -> Self {
        self.guard = guard;
        self
    }

    /// Pages of 2 MiB. If they are asked for, structures and arena begin and end with whole ones, which
    /// may take up to 2 MiB more.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.huge_pages = huge_pages;
        self
    }
}
