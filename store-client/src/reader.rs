//! The handle that reads.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use store_core::{
    Access, AttachError, CheckReport, Corruption, Cursor, Entry, ExtentInfo, HeldGuard, Histograms,
    Info, ReadError, ScanPage, Stats, Store, Tally, Ttl, Values, attach,
};

use crate::spec::Spec;

/// Reads a store. Its mapping is `PROT_READ` (unless it was got from a [`Writer`](crate::Writer)),
/// and it needs no more than read permission. Any number of threads may share one, by reference or
/// by clone; a forked child goes on using its parent's. Detached when the last clone is dropped.
#[derive(Debug)]
pub struct Reader {
    pub(crate) store: Arc<Store>,
    /// Where a writer's handle counts its lookups. Others have nowhere to tell what they count.
    pub(crate) tally: Option<Arc<Tally>>,
}

impl Clone for Reader {
    /// A handle that only reads, and counts nothing.
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), tally: None }
    }
}

impl Reader {
    /// Counts lookups, if this is a writer's handle.
    #[inline]
    pub(crate) fn count(&self, hits: u64, misses: u64) {
        if let Some(tally) = &self.tally {
            self.store.count_lookups(tally, hits, misses);
        }
        if let Some(tally) = self.store.namespace_tally() {
            self.store.count_lookups(tally, hits, misses);
        }
    }

    /// [`Reader::count`] of one lookup.
    #[inline]
    fn counted<T, E>(&self, found: Result<Option<T>, E>) -> Result<Option<T>, E> {
        if let Ok(found) = &found {
            self.count(found.is_some().into(), found.is_none().into());
        }
        found
    }

    /// Attaches a store. A handful of system calls; waits up to 2 s for a creator at work.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(spec: &Spec) -> Result<Self, AttachError> {
        let store = Arc::new(attach(&spec.object(), Access::ReadOnly)?);
        Ok(Self { store, tally: None })
    }

    /// The value of `key`, copied into new memory.
    ///
    /// # Errors
    /// `Contended` or `Corruption`; a miss is `None`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.counted(self.store.get(key))
    }

    /// Copies the value of `key` into `buffer` and gives its length in bytes. Allocates nothing.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length that is needed; `Contended`; `Corruption`.
    #[inline]
    pub fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, ReadError> {
        self.counted(self.store.get_into(key, buffer))
    }

    /// Calls `f` with a private copy of the value; no allocation once a thread has seen its
    /// largest value.
    ///
    /// # Errors
    /// `Contended` or `Corruption`; `f` is not called then, nor on a miss.
    pub fn get_with<R>(
        &self,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, ReadError> {
        self.counted(self.store.get_with(key, f))
    }

    /// The value with its version (for [`compare_and_swap`](crate::Writer::compare_and_swap)) and
    /// its time to live, all of the same moment.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.counted(self.store.get_entry(key))
    }

    /// The values of many keys, in the order of the keys. Their cache misses overlap, which makes
    /// a key several times as cheap as one `get` after the other.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let values = self.store.get_many(keys)?;
        let hits = values.iter().flatten().count();
        self.count(hits as u64, (values.len() - hits) as u64);
        Ok(values)
    }

    /// [`Reader::get_many`] without allocation: `f` gets the number of each key, in order, and a
    /// private copy of its value.
    ///
    /// # Errors
    /// `Contended` or `Corruption`; `f` may have been called for the first keys then.
    pub fn get_many_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), ReadError> {
        let mut hits = 0;
        self.store.get_many_with(keys, |number, value| {
            hits += u64::from(value.is_some());
            f(number, value);
        })?;
        self.count(hits, keys.len() as u64 - hits);
        Ok(())
    }

    /// [`Reader::get_many`] into memory that is used again: `values` is replaced by copies of the
    /// values, in the order of the keys. Allocates nothing once it has held as much; the cheapest way
    /// to have many values at once.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Values, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// store.put(b"EURUSD", b"1.0841")?;
    /// let mut values = Values::new();
    /// store.get_many_into(&["EURUSD", "EURXXX"], &mut values)?;
    /// assert_eq!(values.get(0), Some(&b"1.0841"[..]));
    /// assert_eq!(values.get(1), None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Contended` or `Corruption`; `values` then has those of the first keys.
    pub fn get_many_into<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        values: &mut Values,
    ) -> Result<(), ReadError> {
        self.store.get_many_into(keys, values)?;
        self.count(values.found() as u64, (values.len() - values.found()) as u64);
        Ok(())
    }

    /// Whether it marks some of what it looks up, so that eviction knows
    /// ([`CreateOptions::heat_permissions`](crate::CreateOptions::heat_permissions)). A writer marks
    /// all that it looks up.
    pub fn marks_lookups(&self) -> bool {
        self.store.has_reader_heat()
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        let found = self.store.contains(key)?;
        self.count(found.into(), (!found).into());
        Ok(found)
    }

    /// How long `key` still lives; `None` if it is absent.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn ttl(&self, key: &[u8]) -> Result<Option<Ttl>, ReadError> {
        self.counted(self.store.ttl(key))
    }

    /// About `limit` keys with `prefix`, from `cursor` on: whole buckets are visited, so a page may
    /// hold some more, or none although more pages follow. A key that stands throughout a scan is
    /// seen at least once.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Cursor, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// for name in ["a:1", "a:2", "b:1"] {
    ///     store.put(name.as_bytes(), b"")?;
    /// }
    /// let (mut keys, mut cursor) = (Vec::new(), Some(Cursor::START));
    /// while let Some(at) = cursor {
    ///     let page = store.scan(at, b"a:", 100)?;
    ///     keys.extend(page.keys);
    ///     cursor = page.next;
    /// }
    /// keys.sort();
    /// assert_eq!(keys, [b"a:1", b"a:2"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn scan(&self, cursor: Cursor, prefix: &[u8], limit: usize) -> Result<ScanPage, ReadError> {
        self.store.scan(cursor, prefix, limit)
    }

    /// Items in the store, those of all namespaces; of a [namespace](Reader::namespace) its own.
    /// Expired ones count until they are swept, though no scan shows them.
    pub fn len(&self) -> u64 {
        self.store.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Whether the store was destroyed since it was attached. The mapping goes on working, but
    /// whoever attaches the name now gets another store, or none: attach anew. One load.
    pub fn is_retired(&self) -> bool {
        self.store.is_retired()
    }

    /// The descriptor of the object that holds the store, to pass on; none of System V and
    /// anonymous memory. Closed with the last clone of the handle; `try_clone_to_owned` gives one
    /// that is not. It has the access that the handle was attached with.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.store.descriptor()
    }

    /// What the store is, and who writes to it.
    ///
    /// # Errors
    /// `Corruption` where its bytes make no sense.
    pub fn info(&self) -> Result<Info, Corruption> {
        self.store.info()
    }

    /// What the store holds.
    ///
    /// # Errors
    /// `Corruption` where its bytes make no sense.
    pub fn stats(&self) -> Result<Stats, Corruption> {
        self.store.stats()
    }

    /// The extents of the arena, in the order of their numbers: what each is used for, and how much
    /// of it lives. Reads one line of memory for each.
    ///
    /// # Errors
    /// `Corruption` where its bytes make no sense.
    pub fn extents(&self) -> Result<Vec<ExtentInfo>, Corruption> {
        self.store.extents()
    }

    /// How long the chains of the index are, and how large the items. Reads the whole index and a
    /// word of each item: about 0.2 s for a million; others go on meanwhile. `progress` is told
    /// (done, all) in buckets.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn histograms(&self, progress: impl FnMut(u64, u64)) -> Result<Histograms, ReadError> {
        self.store.histograms(progress)
    }

    /// Verifies every invariant, without stopping anybody; `progress` is told (done, all).
    pub fn check(&self, progress: impl FnMut(u64, u64)) -> CheckReport {
        self.store.check(progress)
    }

    /// The guards that are held at this moment, and by whom.
    ///
    /// # Errors
    /// `Corruption` where the stripes are out of bounds.
    pub fn held_guards(&self) -> Result<Vec<HeldGuard>, Corruption> {
        self.store.held_guards()
    }
}
