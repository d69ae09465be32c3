//! The handle that reads and writes.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use store_core::{
    Access, AttachError, Condition, CreateError, CreateOptions, Deletion, Gone, KeepError, Outcome,
    PinError, PutOptions, Reaped, RepairError, RepairOptions, RepairReport, Sealing, Session,
    Store, Trimmed, Version, WriteError,
};

use crate::reader::Reader;
use crate::sessions::Sessions;
use crate::spec::Spec;

/// A value in place: see [`Writer::get_pinned`].
pub type Pinned<'a> = store_core::Pinned<'a, store_core::Plain>;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// There was no such key.
    Inserted,
    /// The key had another value.
    Replaced,
}

/// What a write that is tied to a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// The key had the version, and has the new value now or is deleted.
    Done,
    /// The key has this version instead.
    Changed(Version),
    /// There is no such key.
    Absent,
}

/// Reads (see [`Reader`], which it derefs to) and writes a store.
///
/// Any number of threads may share one by reference. After `fork` the child may go on with its
/// parent's handle: it notices, and registers as a client of its own. Dropping it detaches.
///
/// It counts what it puts and deletes, and its lookups if it is [asked to](Writer::count_lookups).
#[derive(Debug)]
pub struct Writer {
    reader: Reader,
    sessions: Arc<Sessions>,
}

impl Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// Makes a store and attaches it.
///
/// # Errors
/// See [`CreateError`]; nothing is left behind then.
pub fn create(spec: &Spec, options: &CreateOptions) -> Result<Writer, CreateError> {
    let store = store_core::create(&spec.object(), options)?;
    Writer::over(store).map_err(|error| {
        let _ = destroy(spec);
        error.into()
    })
}

/// Removes a store by name. Who has it attached keeps a mapping that works and that nobody else
/// will find ([`Reader::is_retired`] tells). Removes what was never finished too, and whatever has
/// the name of a store in POSIX shared memory.
///
/// # Errors
/// `NotFound`; `NotRemovable`; `NotAStore` or `NotAFile` for what is somebody else's; `Unsupported`
/// for a descriptor; `System`.
pub fn destroy(spec: &Spec) -> Result<(), AttachError> {
    store_core::destroy(&spec.object())
}

/// Gives a store another name of the same kind, which nobody has, in one step. Who has it attached goes on.
///
/// # Errors
/// `Exists`; `PermissionDenied`; `Unsupported` for keys, descriptors and names of two kinds; `System`, also
/// where a file would have to go to another file system.
pub fn rename(from: &Spec, to: &Spec) -> Result<(), CreateError> {
    store_core::rename(&from.object(), &to.object())
}

impl Writer {
    /// Has `tell` called for each item that this writer drops because it expired, or to make room in
    /// cache mode; after the operation that did it, on its thread, so it may use the store, and a
    /// panic in it goes through that operation. Items that other processes drop are theirs to
    /// tell; what is deleted or overwritten is nobody's. Costs a copy of each such item. `false` if
    /// somebody listens already.
    ///
    /// # Errors
    /// Those of a first write in a forked child.
    pub fn listen(&self, tell: impl Fn(Gone) + Send + Sync + 'static) -> Result<bool, WriteError> {
        Ok(self.session()?.listen(tell))
    }

    /// Attaches a store for reading and writing.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(spec: &Spec) -> Result<Self, AttachError> {
        Self::over(store_core::attach(&spec.object(), Access::ReadWrite)?)
    }

    /// A private store of this process: no name, no server, gone when it is dropped. Memory is
    /// taken as it is used.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn private(options: &CreateOptions) -> Result<Self, CreateError> {
        Ok(Self::over(store_core::private(options)?)?)
    }

    /// A store in a memfd, which has no name: [`Reader::descriptor`] gives what other processes
    /// attach as `fd:N`, inherited or received over a Unix socket. It is gone with the last
    /// mapping and descriptor.
    ///
    /// Whoever has the descriptor of [`Sealing::SharedWriters`] may write. The same user can make
    /// a writable one of a read-only one (`/proc/self/fd`), other users can't (mode 0600). With
    /// [`Sealing::ReadOnlyForOthers`] nobody else can, ever: only this handle writes, and those of
    /// children that are forked with it. When they are gone the store is read-only for good.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use store_client::{CreateOptions, Reader, Sealing, Spec, Writer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let writer = Writer::memfd(&CreateOptions::new(4 << 20), Sealing::ReadOnlyForOthers)?;
    /// writer.put(b"k", b"v")?;
    /// let descriptor = writer.descriptor().expect("a memfd has one").as_raw_fd();
    /// let reader = Reader::attach(&Spec::Fd(descriptor))?;
    /// assert_eq!(reader.get(b"k")?.as_deref(), Some(&b"v"[..]));
    /// assert!(Writer::attach(&Spec::Fd(descriptor)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn memfd(options: &CreateOptions, sealing: Sealing) -> Result<Self, CreateError> {
        Ok(Self::over(store_core::memfd(options, sealing)?)?)
    }

    /// A store in shared anonymous memory, for this process and the workers that it forks: each
    /// goes on with its copy of the handle and becomes a client of its own. It is gone with the
    /// last of them. A worker that shall only read calls [`Writer::into_protected_reader`].
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn anonymous(options: &CreateOptions) -> Result<Self, CreateError> {
        Ok(Self::over(store_core::anonymous(options)?)?)
    }

    /// Gives writing up: closes this client and makes the mapping read-only in this process, for
    /// all readers of this handle too. It guards against stray stores; a program that wants to
    /// can undo it with `mprotect`. A few system calls.
    ///
    /// # Errors
    /// `System` where `mprotect(2)` fails.
    pub fn into_protected_reader(self) -> Result<Reader, AttachError> {
        // A session of this process, or none: a worker may never have written.
        self.reader.store.protect(self.sessions.last())?;
        Ok(self.reader.clone())
    }

    fn over(store: Store) -> Result<Self, AttachError> {
        let store = Arc::new(store);
        let sessions = Arc::new(Sessions::open(&store)?);
        Ok(Self { reader: Reader { store, tally: None }, sessions })
    }

    /// Another handle of the same registration, on a view of the same store.
    pub(crate) fn on(&self, store: Arc<Store>) -> Self {
        Self { reader: Reader { store, tally: None }, sessions: Arc::clone(&self.sessions) }
    }

    /// Makes this client the server of the store, until the handle is dropped or the process ends: of
    /// those that ask, one is told so. It changes nothing for other clients. A server that is
    /// stopped still is it; a forked child is not.
    ///
    /// # Errors
    /// `Kept` with the process of the server that there is.
    pub fn keep(&self) -> Result<(), KeepError> {
        let session = self.session().map_err(|error| KeepError::Reattach(Box::new(error)))?;
        self.reader.store.keep(session)
    }

    /// Counts the lookups of this handle too, hits and misses, from now on; a clone of its reader
    /// counts nothing. They are told in the store ([`Stats::counts`](crate::Stats::counts)) every
    /// 1024 of a kind and when the handle is dropped. A lookup in cache takes about 1 ns longer,
    /// independent lookups in a loop up to a tenth. A forked child's lookups are not counted.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Writer::private(&CreateOptions::new(4 << 20))?.count_lookups()?;
    /// cache.get(b"absent")?;
    /// assert_eq!(cache.stats()?.clients_counting_lookups, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Reattach` in a forked child that can't become a client; `Corruption`.
    pub fn count_lookups(mut self) -> Result<Self, WriteError> {
        let session = self.session()?;
        self.reader.store.begin_counting_lookups(session)?;
        self.reader.tally = Some(Arc::clone(session.tally()));
        Ok(self)
    }

    /// Adds what this writer has counted to what [`Reader::stats`] shows, which it does by itself only
    /// now and then.
    ///
    /// # Errors
    /// `Reattach` in a forked child that can't become a client; `Corruption`.
    pub fn tell_counts(&self) -> Result<(), WriteError> {
        Ok(self.reader.store.tell_counts(self.session()?)?)
    }

    /// A handle on the same mapping that can only read. Its lookups are not counted.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Puts `value` under `key`, whatever was there.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Stored, WriteError> {
        self.put_with(key, value, &PutOptions::new())
    }

    /// [`Writer::put`] with a time to live.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put_with(
        &self,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
    ) -> Result<Stored, WriteError> {
        Ok(stored(self.put_if(key, value, options, Condition::Always)?))
    }

    /// Puts `value` under `key` if the key is absent; whether it did.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn add(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<bool, WriteError> {
        let outcome = self.put_if(key, value, options, Condition::Absent)?;
        Ok(!matches!(outcome, Outcome::Refused(_)))
    }

    /// Puts `value` under `key` if the key is present; whether it did.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn replace(
        &self,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
    ) -> Result<bool, WriteError> {
        let outcome = self.put_if(key, value, options, Condition::Present)?;
        Ok(!matches!(outcome, Outcome::Refused(_)))
    }

    /// Puts `value` under `key` if nobody has written the key since `expected` was read
    /// ([`Reader::get_entry`]).
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Version,
        value: &[u8],
        options: &PutOptions,
    ) -> Result<Swapped, WriteError> {
        Ok(match self.put_if(key, value, options, Condition::Version(expected))? {
            Outcome::Refused(Some(found)) => Swapped::Changed(found),
            Outcome::Refused(None) => Swapped::Absent,
            Outcome::Inserted | Outcome::Replaced => Swapped::Done,
        })
    }

    /// Puts each value under its key, one after the other, and says for each what came of it, in
    /// the order of the items. Cheaper than one `put` after the other where the index is larger
    /// than the processor's cache, since cache misses overlap.
    ///
    /// It is not one step: others see some of the keys before the rest, and a key that is refused
    /// does not keep the others from being put. Of a key that occurs twice the last value stays.
    /// Each put waits for its guard up to the [deadline](Writer::set_guard_deadline).
    ///
    /// ```
    /// # use store_client::{CreateOptions, PutOptions, Stored, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// let prices = [("EURUSD", "1.0841"), ("EURCHF", "0.9374")];
    /// for stored in store.put_many(&prices, &PutOptions::new())? {
    ///     assert_eq!(stored?, Stored::Inserted);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Reattach` in a forked child that can't become a client; then nothing was put. In the list,
    /// those of [`Writer::put`], each about its own key.
    pub fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        items: &[(K, V)],
        options: &PutOptions,
    ) -> Result<Vec<Result<Stored, WriteError>>, WriteError> {
        let outcomes = self.reader.store.put_many(self.session()?, items, options);
        Ok(outcomes.into_iter().map(|outcome| outcome.map(stored)).collect())
    }

    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        self.reader.store.put(self.session()?, key, value, options, condition)
    }

    /// The value of `key` in place, without a copy: for large values that are looked at in part, or
    /// often. It stays as it is until it is dropped, also if the key is overwritten or deleted
    /// meanwhile, and holds its memory back. A process has at most 8 at a time. Takes the guard of a key
    /// that is there, up to the deadline.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// let writer = Writer::private(&CreateOptions::new(4 << 20))?;
    /// writer.put(b"page", b"<html>...</html>")?;
    /// let page = writer.get_pinned(b"page")?.expect("it was put");
    /// writer.delete(b"page")?;
    /// let mut start = [0; 6];
    /// assert_eq!(page.read_at(0, &mut start), 6);
    /// assert_eq!((&start, page.len()), (b"<html>", 16));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn get_pinned(&self, key: &[u8]) -> Result<Option<Pinned<'_>>, PinError> {
        let session = self.session().map_err(|error| PinError::Reattach(Box::new(error)))?;
        self.reader.store.get_pinned(session, key)
    }

    /// Deletes `key`; whether it was there.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn delete(&self, key: &[u8]) -> Result<bool, WriteError> {
        self.reader.store.delete(self.session()?, key)
    }

    /// Deletes `key` if nobody has written it since `expected` was read
    /// ([`Reader::get_entry`]). Costs what a delete does.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn delete_if(&self, key: &[u8], expected: Version) -> Result<Swapped, WriteError> {
        Ok(match self.reader.store.delete_if(self.session()?, key, expected)? {
            Deletion::Done => Swapped::Done,
            Deletion::Refused(Some(found)) => Swapped::Changed(found),
            Deletion::Refused(None) => Swapped::Absent,
        })
    }

    /// Adds `by` to the number under `key` and gives the sum. An absent key counts as 0; a value
    /// that is decimal text becomes a counter, which changes in place and reads back as text. The
    /// time to live stays.
    ///
    /// # Errors
    /// `NotANumber`; `Overflow` past a signed 64-bit number; see [`WriteError`].
    pub fn incr(&self, key: &[u8], by: i64) -> Result<i64, WriteError> {
        self.reader.store.add_to(self.session()?, key, i128::from(by))
    }

    /// Subtracts `by` from the number under `key`, as [`Writer::incr`] adds.
    ///
    /// # Errors
    /// As for [`Writer::incr`].
    pub fn decr(&self, key: &[u8], by: i64) -> Result<i64, WriteError> {
        self.reader.store.add_to(self.session()?, key, -i128::from(by))
    }

    /// Deletes every key that is there when it begins; how many. Others read and write meanwhile.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some keys are deleted then.
    pub fn clear(&self) -> Result<u64, WriteError> {
        self.reader.store.clear(self.session()?)
    }

    /// Sets how long a write waits for a guard that a living process holds before it gives up with
    /// `Stuck`; 5 s unless set. A guard of a dead process is taken over within milliseconds.
    ///
    /// # Errors
    /// `Reattach` in a forked child that can't become a client.
    pub fn set_guard_deadline(&self, deadline: Duration) -> Result<(), WriteError> {
        self.session()?.set_guard_deadline(deadline);
        Ok(())
    }

    /// Looks for clients that died, repairs and gives back the guards that they held, hands their
    /// memory on and frees their entries. Writers do it as far as they need it; a service calls it
    /// now and then.
    ///
    /// # Errors
    /// `Corruption` where the segment's bytes make no sense.
    pub fn reap(&self) -> Result<Reaped, WriteError> {
        Ok(self.reader.store.reap(self.session()?)?)
    }

    /// Empties up to `extents` extents whose items were overwritten or deleted, those with the most
    /// to gain first; how many it did. What lives in them moves, readers and writers go on. Writers
    /// that find no room do it themselves; a service does it ahead of need. Moves less than an
    /// extent's bytes for each.
    ///
    /// # Errors
    /// `Stuck` if processes that are stopped hold every place for cleaning; `Corruption`.
    pub fn clean(&self, extents: u32) -> Result<u32, WriteError> {
        self.reader.store.clean(self.session()?, extents)
    }

    /// Gives the memory of free extents back to the kernel, but for `keep` bytes of them and what
    /// cleaning needs; [clean](Writer::clean) before, so that more is free. The store takes it again
    /// as it grows. A system call for each extent; `progress` is told (done, all).
    ///
    /// Only for moments at which somebody wants it: a reader that is stopped from before an extent
    /// became free until after it was given back touches what has no memory. It answers right all
    /// the same, but takes a page again, and on a file system that is full that is a SIGBUS.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// let trimmed = store.trim(1 << 20, |_, _| {})?;
    /// assert!(trimmed.bytes > 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Trim` where the kernel refuses, and for a sealed memfd.
    pub fn trim(&self, keep: u64, progress: impl FnMut(u64, u64)) -> Result<Trimmed, WriteError> {
        self.reader.store.trim(self.session()?, keep, progress)
    }

    /// Deletes the expired items of the next `buckets` buckets; how many. Expired items are misses
    /// at once; this gives their memory back. Writers that find no room do some of it, a service
    /// does it now and then.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn sweep(&self, buckets: u64) -> Result<u64, WriteError> {
        self.reader.store.sweep(self.session()?, buckets)
    }

    /// Mends what [`Reader::check`] finds broken, while others read and write: tags, links, counts and live
    /// bytes follow from the slots. Slots that lead to no sound item are dropped, as many as the options
    /// allow, and the report names them. Afterwards a check finds nothing. About 1.2 us an item, more with
    /// checksums; `progress` is told (done, all). Whoever writes waits for as long as one stripe takes.
    ///
    /// ```
    /// # use store_client::{CreateOptions, RepairOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// store.put(b"key", b"value")?;
    /// let report = store.repair(&RepairOptions::new(), |_, _| {})?;
    /// assert_eq!((report.items, report.dropped), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `WouldLose`: more slots would be dropped. `Corruption` for what slots don't tell (the number of buckets,
    /// a lost extent of the index). Nothing was dropped then. `Stuck`; `IndexFull`: what was mended until
    /// then stays so.
    pub fn repair(
        &self,
        options: &RepairOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<RepairReport, RepairError> {
        self.reader.store.repair(self.session()?, options, progress)
    }

    /// This process's session: after a fork, the child's own.
    #[inline]
    pub(crate) fn session(&self) -> Result<&Session, WriteError> {
        self.sessions.session()
    }
}

/// What a put without a condition did.
fn stored(outcome: Outcome) -> Stored {
    match outcome {
        Outcome::Inserted => Stored::Inserted,
        Outcome::Replaced | Outcome::Refused(_) => Stored::Replaced,
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What is not told is lost, and nothing else.
        let _ = self.reader.store.tell_namespace();
    }
}
