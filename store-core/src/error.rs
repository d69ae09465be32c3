//! Errors, one enum for each family of operations.
//!
//! Each carries the numbers a person needs (what was found, what the limit is) and, where there is
//! one, the remedy. A miss is an `Option` and a lost compare-and-swap an outcome: neither is here.

use std::io;
use std::time::Duration;

/// The bytes of the segment break an invariant that a correct writer keeps.
///
/// Never a panic: shared bytes are input. `check` lists everything that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the segment is corrupt: {what} at offset {offset:#x}; a check of it lists all that is broken"
)]
pub struct Corruption {
    /// What is wrong, in a few words.
    pub what: &'static str,
    /// Where, in bytes from the superblock.
    pub offset: u64,
}

/// Why a lookup gave no answer. A key that is absent is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Writers changed the place that was read each of `attempts` times. Trying again is right.
    #[error("the key's bucket changed under each of {attempts} attempts to read it; try again")]
    Contended {
        /// How often the lookup was started anew.
        attempts: u32,
    },
    /// The caller's buffer is too small; nothing was written to it.
    #[error("the value has {needed} bytes, the buffer only {given}; give a buffer of {needed}")]
    BufferTooSmall {
        /// Length of the value in bytes.
        needed: usize,
        /// Length of the buffer in bytes.
        given: usize,
    },
    /// See [`Corruption`].
    #[error(transparent)]
    Corruption(#[from] Corruption),
}

/// The numbers behind a refused put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fullness {
    /// Bytes that the item needs: header, key, value, padding.
    pub needed: u64,
    /// Bytes of items that can be read.
    pub live: u64,
    /// How many of them there may be: what is beyond them is for cleaning, and for namespaces that were
    /// promised a part.
    pub limit: u64,
    /// Bytes of overwritten and deleted items that still share an extent with live ones.
    pub dead: u64,
    /// Bytes in extents that are free, or open with room left.
    pub free: u64,
    /// Bytes that are kept for cleaning.
    pub reserve: u64,
    /// The largest smaller item that there is room for at once, in bytes, header included. Cleaning
    /// may make more.
    pub largest: u64,
    /// Bytes of the whole arena at its present size, without the index.
    pub capacity: u64,
}

/// Why a repair was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// More slots lead to no sound item than may be dropped. None was.
    #[error(
        "slots that lead to no sound item: {slots}, and {limit} may be dropped; nothing was changed"
    )]
    WouldLose {
        /// How many there are.
        slots: u64,
        /// How many the options allow.
        limit: u64,
        /// What is wrong with them, as sentences; not of all.
        why: Vec<String>,
    },
    /// As of any write. `Corruption`: what slots don't tell is wrong, and nothing was dropped.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Corruption> for RepairError {
    fn from(error: Corruption) -> Self {
        Self::Write(error.into())
    }
}

/// Why a write was refused. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The key is longer than a key may be.
    #[error("the key has {len} bytes, the limit is {limit}; use a shorter key")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The value is larger than this store takes.
    #[error(
        "the value has {len} bytes, the limit of this store is {limit} (a quarter of its arena, \
         at most 4 GiB, and less if its extents are small); make the store larger or split the value"
    )]
    ValueTooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No room for the item.
    #[error(
        "the store is full: {} bytes are needed, there is room for an item of {}; of {} bytes {} are \
         live (at most {} may be), {} dead in extents that hold live items too, {} free, {} kept for \
         cleaning; delete keys, or dump the store and load it into a larger one",
        .0.needed, .0.largest, .0.capacity, .0.live, .0.limit, .0.dead, .0.free, .0.reserve
    )]
    Full(Box<Fullness>),
    /// The item does not fit into what its namespace may take.
    #[error(
        "the quota of namespace {namespace} is used up: {needed} bytes are needed, and all of its \
         {quota} are taken; delete keys of it, or give it a larger quota"
    )]
    QuotaFull {
        /// Its name.
        namespace: String,
        /// Bytes that the item takes.
        needed: u64,
        /// Bytes that the namespace may take.
        quota: u64,
    },
    /// The namespace was removed since this handle was opened.
    #[error(
        "namespace {namespace} was removed, or made anew, since it was opened: open the one of that \
         name"
    )]
    NamespaceGone {
        /// Its name, or that of the one which has its place now.
        namespace: String,
    },
    /// No room for one more key in its bucket, and no free extent for the index to grow.
    #[error(
        "the index is full: {items} items in {buckets} buckets, and no memory is free for more of \
         them; delete keys, or dump the store and load it into a larger one"
    )]
    IndexFull {
        /// Items in the store.
        items: u64,
        /// Buckets of the index.
        buckets: u64,
    },
    /// Another process holds the guard that this write needs, is alive, and does not move.
    #[error(
        "process {pid} has held a guard that this write needs for {} ms; is it stopped? continue it \
         (kill -CONT {pid}) or end it (kill -KILL {pid}): the next writer then repairs what it left",
        .waited.as_millis()
    )]
    Stuck {
        /// The holder's process id, as the store knows it.
        pid: u32,
        /// How long this write waited.
        waited: Duration,
    },
    /// The System V semaphores of the store's guards are gone, and there could be no new ones.
    #[error(
        "the semaphores of the guards of {name} were removed (ipcrm -s, or systemd's RemoveIPC), and \
         could not be made anew: {source}; the next write tries it again"
    )]
    GuardsRemoved {
        /// The store.
        name: String,
        /// Why not.
        source: Box<AttachError>,
    },
    /// The mapping may be written and the semaphores of the guards may not: a descriptor or a mapping
    /// was passed to another user.
    #[error(
        "no permission for writing {name}: its guards are semaphores that have its owner and mode; \
         ask its owner for a wider mode, or only read"
    )]
    GuardsDenied {
        /// The name of the store.
        name: String,
    },
    /// The kernel refuses a System V semaphore of the store's guards.
    #[error("a semaphore of the guards of {name} was refused: {source}")]
    Guard {
        /// The store.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// `incr` or `decr` of a value that is no decimal integer of 64 bits.
    #[error(
        "the value is not a whole number from {} to {}; `incr` and `decr` work on such values only",
        i64::MIN,
        i64::MAX
    )]
    NotANumber,
    /// `incr` or `decr` past the range of a signed 64-bit number.
    #[error("{current} changed by {delta} leaves the range {} to {}", i64::MIN, i64::MAX)]
    Overflow {
        /// The number that stands.
        current: i64,
        /// What should have been added to it.
        delta: i128,
    },
    /// A time to live of less than a millisecond, or one of more than a thousand years.
    #[error(
        "a time to live of {} is out of range: the shortest is 1 ms, the longest {limit} ms",
        if *.millis == 0 { "less than 1 ms".to_owned() } else { format!("{millis} ms") }
    )]
    InvalidTtl {
        /// What was asked for, in whole milliseconds.
        millis: u128,
        /// The longest that can be had, in milliseconds.
        limit: u64,
    },
    /// Writing was given up by another handle of the same registration.
    #[error("this process gave writing up (into_protected_reader): attach the store anew to write")]
    Closed,
    /// The store was destroyed since it was attached: nobody would find what is written now.
    #[error(
        "{name} was removed while it was attached; attach the one of that name, or make it anew"
    )]
    Retired {
        /// The store.
        name: String,
    },
    /// The lookup inside the write found no quiet moment.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// See [`Corruption`].
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// The process forked, and the child could not become a client of its own.
    #[error("this process is a fork and could not register as a client of its own: {0}")]
    Reattach(#[source] Box<AttachError>),
    /// Memory could not be given back.
    #[error(
        "memory of free extents could not be given back: {source}; sealed memfds, locked memory and \
         some file systems keep theirs"
    )]
    Trim {
        /// What the kernel said.
        source: io::Error,
    },
    /// The arena could not grow.
    #[error(
        "{name} could not grow within its maximum size: {source}; delete keys, free memory, or give \
         the file system that holds it more room (for /dev/shm: `mount -o remount,size=…`)"
    )]
    Grow {
        /// The store.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a namespace could not be had, made, changed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// There is no such one.
    #[error(
        "there is no namespace {name}{}; make it first (`kv-cli namespace create`)",
        if known.is_empty() { String::new() } else { format!(", only {}", known.join(", ")) }
    )]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is one of that name.
    #[error("there is a namespace {name} already; change it, or take another name")]
    Exists {
        /// Its name.
        name: String,
    },
    /// Not a name.
    #[error(
        "{name:?} is no name of a namespace: 1 to {limit} letters, digits, dots, colons, dashes and \
         underscores"
    )]
    InvalidName {
        /// What was given.
        name: String,
        /// The most bytes that a name may have.
        limit: usize,
    },
    /// The store has no record left for one more.
    #[error(
        "the store has {limit} namespaces, which is its limit; remove one, or make a larger store"
    )]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// Quotas together can't be more than there is.
    #[error(
        "a quota of {given} bytes can't be had: others have {of}, and at most {most} are left for it \
         (a quota takes 8 extents at least; smaller extents make smaller quotas)"
    )]
    InvalidQuota {
        /// What was asked for, in bytes.
        given: u64,
        /// The largest that could be had.
        most: u64,
        /// What others have.
        of: u64,
    },
    /// What is never evicted would take the room of all others.
    #[error("a namespace of mode store in a store of mode cache needs a quota")]
    NeedsQuota,
    /// There is nothing to evict by.
    #[error(
        "the store has mode store, and no tables for eviction; make it with mode cache: namespaces \
         of mode store can be in it"
    )]
    NoCacheMode,
    /// Its time to live is out of range, or the write did not work.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// See [`Corruption`].
    #[error(transparent)]
    Corruption(#[from] Corruption),
}

/// Why a value could not be pinned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The client has as many values pinned as it may.
    #[error(
        "this process has {limit} values pinned, which is the limit; drop one, or copy the value"
    )]
    TooMany {
        /// The limit for all threads of a process together.
        limit: usize,
    },
    /// A counter changes in place, so it has no bytes that would stay.
    #[error("the value is a counter, which changes in place; copy it")]
    Counter,
    /// The lookup found no quiet moment.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// See [`Corruption`].
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// The guard of the key could not be had.
    #[error(transparent)]
    Guard(Box<WriteError>),
    /// The process forked, and the child could not become a client of its own.
    #[error(transparent)]
    Reattach(Box<WriteError>),
}

/// Why a client can't be the server of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// Another one is.
    #[error(
        "process {pid} keeps this store already, and a store has one server; end that one first, \
         or leave the store to it"
    )]
    Kept {
        /// Its process id, as the store knows it.
        pid: u32,
    },
    /// See [`Corruption`].
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// The process forked, and the child could not become a client of its own.
    #[error(transparent)]
    Reattach(Box<WriteError>),
}

/// Why `get_or_insert_with` gave no value. `E` is the error of the closure that computes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The closure failed; nothing was stored, and the next caller computes.
    #[error("the value could not be computed: {0}")]
    Failed(E),
    /// Another process has been computing the value, and is alive.
    #[error(
        "process {pid} has been computing the value of this key, and was waited for {} ms; if it is \
         stopped, continue it (kill -CONT {pid}) or end it (kill -KILL {pid}): another one then \
         computes it; else wait longer",
        .waited.as_millis()
    )]
    Busy {
        /// Its process id, as the store knows it; this process's own if it is another thread.
        pid: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The value was computed and could not be stored.
    #[error("the value was computed and not stored: {source}")]
    NotStored {
        /// The value.
        value: Vec<u8>,
        /// Why it was refused.
        source: WriteError,
    },
    /// The store refused before anything was computed.
    #[error(transparent)]
    Store(#[from] WriteError),
}

impl<E> From<ReadError> for LoadError<E> {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

impl<E> From<Corruption> for LoadError<E> {
    fn from(error: Corruption) -> Self {
        Self::Store(error.into())
    }
}

/// Why a store could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is one of that name.
    #[error("{name} exists already; attach it, destroy it first, or choose another name")]
    Exists {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// Something that is no store has the name.
    #[error("{name} exists already, and is {kind}, no store; choose another name")]
    Occupied {
        /// The name, as the operating system knows it.
        name: String,
        /// What has it, such as `a directory`.
        kind: &'static str,
    },
    /// No permission to make it there.
    #[error("no permission to create {name}: {source}")]
    PermissionDenied {
        /// The name, as the operating system knows it.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An option is out of range.
    #[error("{option} of {given} is refused: {rule}")]
    InvalidOption {
        /// Which option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        rule: String,
    },
    /// There is no room for it: on its file system, or in memory.
    #[error(
        "no room for the {needed} bytes of {name} ({free} free): make a smaller store or free \
         some (for /dev/shm: `mount -o remount,size=…`)"
    )]
    NoRoom {
        /// The name, as the operating system knows it.
        name: String,
        /// Bytes that the store takes from the start.
        needed: u64,
        /// Bytes free there.
        free: u64,
    },
    /// The pool of huge pages has not as many.
    #[error(
        "{name} needs {needed} bytes of huge pages, and the pool has {free} left: raise vm.nr_hugepages \
         (a page is 2 MiB), make a smaller store, or ask for transparent ones"
    )]
    NoHugePages {
        /// The name, as the operating system knows it.
        name: String,
        /// Bytes that the store takes.
        needed: u64,
        /// Bytes that are left in the pool.
        free: u64,
    },
    /// This process may make no file that is so long (`RLIMIT_FSIZE`).
    #[error(
        "{name} would have {needed} bytes, and this process may make files of {limit} at most \
         (RLIMIT_FSIZE): raise that (ulimit -f, LimitFSIZE= of systemd), or make a smaller store, or \
         one at sysv:NAME"
    )]
    FileSizeLimit {
        /// The name, as the operating system knows it.
        name: String,
        /// Its largest size in bytes.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The kernel's limits for System V shared memory forbid it.
    #[error(
        "the kernel's limit for System V shared memory forbids {name}: kernel.{limit} is {value}; \
         raise it (sysctl), remove segments (ipcs -m), or use posix:NAME"
    )]
    Limit {
        /// The name of the store.
        name: String,
        /// The limit, as in `/proc/sys/kernel`.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// This version can't do that.
    #[error("{what} is not supported by this version: {remedy}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A system call failed.
    #[error("{call} failed for {name}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What it was about.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The store was made and then could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Why a store could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is none of that name.
    #[error("there is no store {name}; make it, or look at the name again")]
    NotFound {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// The name is a symbolic link.
    #[error("{name} is a symbolic link, and links are not followed; name its target, {target}")]
    SymbolicLink {
        /// The name, as the operating system knows it.
        name: String,
        /// Where the link leads.
        target: String,
    },
    /// No permission.
    #[error(
        "no permission to open {name} for {access}: ask its owner for a wider mode, or attach \
         it read-only"
    )]
    PermissionDenied {
        /// The name, as the operating system knows it.
        name: String,
        /// `reading` or `writing`.
        access: &'static str,
    },
    /// The bytes are no store.
    #[error("{name} is no Cistern store (found {found:#018x} where the format word belongs)")]
    NotAStore {
        /// The name, as the operating system knows it.
        name: String,
        /// The word that was found.
        found: u64,
    },
    /// Something that can hold no store has the name.
    #[error("{name} is {kind}, no store")]
    NotAFile {
        /// The name, as the operating system knows it.
        name: String,
        /// What has it, such as `a directory`.
        kind: &'static str,
    },
    /// It has no bytes at all.
    #[error(
        "{name} is empty, so no store is in it: its creator died at once, it was truncated to nothing, \
         or it was never meant for one"
    )]
    Empty {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// Its creator died, or still works, before the store was whole.
    #[error(
        "{name} was never finished: its creator {}; destroy it and make it anew",
        if *.creator_alive { "is still at work, or stopped" } else { "died" }
    )]
    Unfinished {
        /// The name, as the operating system knows it.
        name: String,
        /// Whether the creator still holds its lock.
        creator_alive: bool,
    },
    /// It was a whole store, and its format word is lost: it holds what clients put.
    #[error(
        "{name} was damaged: it has been in use, but the word that says that it is a store is gone; \
         save what is whole (kv-cli salvage) before it is removed"
    )]
    Damaged {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// Another version of the format.
    #[error("{name} has format version {found}, this program reads version {supported}")]
    OtherVersion {
        /// The name, as the operating system knows it.
        name: String,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        supported: u32,
    },
    /// The store uses features that this version does not know.
    #[error("{name} needs features {unknown:#x} that this version lacks; use a newer one")]
    UnknownFeatures {
        /// The name, as the operating system knows it.
        name: String,
        /// The bits that are unknown.
        unknown: u64,
    },
    /// The object is shorter than the store it holds.
    #[error(
        "{name} is truncated: it has {found} bytes and needs {expected}; {}make it anew",
        if *found < crate::layout::SUPERBLOCK_BYTES { "remove it and " } else {
            "save what is left of it (kv-cli salvage), then remove it and "
        }
    )]
    Truncated {
        /// The name, as the operating system knows it.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// What the superblock asks for.
        expected: u64,
    },
    /// Where its items are can't be told from its superblock.
    #[error(
        "nothing in {name} tells where items would be; if it is a store, its superblock is lost: say how \
         large its extents are (`info` shows it of a store of the same size and options)"
    )]
    NoGeometry {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// The superblock contradicts itself.
    #[error(transparent)]
    Corruption(#[from] Corruption),
    /// It was destroyed, and perhaps made anew under the same name.
    #[error("{name} was destroyed while it was being attached; attach again")]
    Retired {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// Every place in its client table is taken by a living process.
    #[error(
        "{name} has {limit} clients that write, the most it takes; end one, only read, or make it \
         anew with a larger size: it takes one for each 64 KiB, at least 32 and at most 1024"
    )]
    TooManyClients {
        /// How many it takes.
        limit: u32,
        /// The name, as the operating system knows it.
        name: String,
    },
    /// A process of another PID namespace writes to it.
    #[error(
        "{name} is written by process {pid} of another PID namespace, and neither could tell \
         whether the other lives: attach read-only, or share one PID namespace"
    )]
    ForeignPidNamespace {
        /// The name, as the operating system knows it.
        name: String,
        /// The process, in its own namespace.
        pid: u32,
    },
    /// The file was last used before a reboot and not closed cleanly.
    #[error(
        "{name} was not closed before the machine went down, so its pages may be of different \
         ages; save what is whole (kv-cli salvage), or remove it (kv-cli rm) and load it anew from a \
         dump (kv-cli load)"
    )]
    UncleanReboot {
        /// The name, as the operating system knows it.
        name: String,
    },
    /// Its registration leads to no store, or to another one.
    #[error(
        "{name} is registered for {why}: the store is gone; `kv-cli create` makes it anew, \
         `kv-cli rm` removes the registration"
    )]
    Stale {
        /// The name of the store.
        name: String,
        /// What the registration leads to.
        why: &'static str,
    },
    /// Its registration is of another IPC namespace.
    #[error(
        "{name} is registered by a process of another IPC namespace, whose System V segments \
         can't be seen from here; remove its registration by hand if that namespace is gone"
    )]
    ForeignIpcNamespace {
        /// The name of the store.
        name: String,
    },
    /// The kernel's limits for System V semaphores forbid its guards.
    #[error(
        "the kernel's limit for System V semaphores forbids the guards of {name}: {limit} is {value} \
         (kernel.sem); raise it (sysctl), remove sets (ipcs -s), or use futex guards"
    )]
    GuardLimit {
        /// The name of the store.
        name: String,
        /// The limit, as in `semget(2)`.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// The semaphores of its guards are of another IPC namespace.
    #[error(
        "the guards of {name} are System V semaphores of another IPC namespace: attach it \
         read-only, share one IPC namespace, or use a store with futex guards"
    )]
    ForeignGuards {
        /// The name of the store.
        name: String,
    },
    /// Its memfd is sealed: only the mappings that stand write.
    #[error("{name} is sealed: nobody can attach it for writing any more; attach it read-only")]
    Sealed {
        /// The name of the store.
        name: String,
    },
    /// Somebody has it attached.
    #[error("{name} is attached by a process and was left alone")]
    InUse {
        /// The name of the store.
        name: String,
    },
    /// Who may write a store may not therefore remove it.
    #[error(
        "no permission for removing {name}: its owner may, and of a file whoever may write its \
         directory"
    )]
    NotRemovable {
        /// The name of the store.
        name: String,
    },
    /// Owner and mode are its owner's to change.
    #[error(
        "no permission to change owner or mode of {name}: its owner may set its mode and give it \
         to a group of theirs, root may do all"
    )]
    NotOwner {
        /// The name of the store.
        name: String,
    },
    /// This version can't do that.
    #[error("{what} is not supported by this version: {remedy}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A system call failed.
    #[error("{call} failed for {name}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What it was about.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}
