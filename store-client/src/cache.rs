//! A cache inside one program, with the manners of one: capacity, time to live, time to idle, a
//! listener, a hit ratio.

use std::fmt;
use std::time::{Duration, Instant};

use store_core::{
    CreateError, CreateOptions, Entry, Gone, LoadError, Mode, PutOptions, ReadError, Stats, Ttl,
    WriteError,
};

use crate::writer::{Stored, Writer};

/// An item that was looked up is given its whole time to idle again once so much of it has passed:
/// one part in so many.
const IDLE_PART: u32 = 16;
/// Bytes before each value, where it has both a time to live and one to idle: when it ends anyhow,
/// in milliseconds since the cache was made.
const END_BYTES: usize = 8;

/// A cache of this process: a private store in cache mode, used by all its threads.
///
/// ```
/// use std::time::Duration;
/// use store_client::Cache;
///
/// let cache = Cache::builder(64 << 20).time_to_live(Duration::from_secs(60)).build()?;
/// cache.insert(b"page:7", b"<html>")?;
/// assert_eq!(cache.get(b"page:7")?.as_deref(), Some(&b"<html>"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cache {
    writer: Writer,
    to_live: Option<Duration>,
    to_idle: Option<Duration>,
    made: Instant,
}

/// How a [`Cache`] is made.
pub struct CacheBuilder {
    options: CreateOptions,
    to_live: Option<Duration>,
    to_idle: Option<Duration>,
    listener: Option<Box<dyn Fn(Gone) + Send + Sync>>,
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("options", &self.options)
            .field("to_live", &self.to_live)
            .field("to_idle", &self.to_idle)
            .finish_non_exhaustive()
    }
}

impl CacheBuilder {
    /// How many items are expected, so that index, marks and memory of what went suit them. If not
    /// given, one for each 512 bytes.
    #[must_use]
    pub fn items(mut self, items: u64) -> Self {
        self.options = self.options.items(items);
        self
    }

    /// An item is a miss after this time, however often it is looked up. At least one millisecond.
    #[must_use]
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.to_live = Some(time);
        self
    }

    /// An item is a miss once nobody looked it up for this time, to within a sixteenth of it. At
    /// least 16 milliseconds. Costs a write of the item now and then, at most sixteen in that time.
    #[must_use]
    pub fn time_to_idle(mut self, time: Duration) -> Self {
        self.to_idle = Some(time);
        self
    }

    /// Is told what was evicted or has expired, with its value, once its room is taken back; on the
    /// thread whose operation did that, after it. It may use the cache.
    #[must_use]
    pub fn eviction_listener(mut self, tell: impl Fn(Gone) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(tell));
        self
    }

    /// Makes the cache. Its memory is taken as it is used.
    ///
    /// # Errors
    /// See [`CreateError`]; `InvalidOption` for a time that is too short.
    pub fn build(self) -> Result<Cache, CreateError> {
        let least = |option, time: Option<Duration>, least: u64| match time {
            Some(time) if time < Duration::from_millis(least) => Err(CreateError::InvalidOption {
                option,
                given: format!("{time:?}"),
                rule: format!("at least {least} ms"),
            }),
            _ => Ok(()),
        };
        least("time-to-live", self.to_live, 1)?;
        least("time-to-idle", self.to_idle, IDLE_PART.into())?;
        let writer = Writer::private(&self.options)?.count_lookups().map_err(not_registered)?;
        let (to_live, to_idle) = (self.to_live, self.to_idle);
        if let Some(tell) = self.listener {
            let has_end = to_live.is_some() && to_idle.is_some();
            let strip = move |mut gone: Gone| {
                if has_end && gone.value.len() >= END_BYTES {
                    gone.value.drain(..END_BYTES);
                }
                tell(gone);
            };
            writer.listen(strip).map_err(not_registered)?;
        }
        Ok(Cache { writer, to_live, to_idle, made: Instant::now() })
    }
}

/// A session that was just opened is there.
fn not_registered(error: WriteError) -> CreateError {
    let source = std::io::Error::other(error);
    CreateError::System { call: "attach", name: "a private store".to_owned(), source }
}

impl Cache {
    /// A cache that takes `bytes` of memory at most, of which what holds no items (tables, index,
    /// room to move items in) is about a tenth.
    pub fn builder(bytes: u64) -> CacheBuilder {
        CacheBuilder {
            options: CreateOptions::new(bytes).mode(Mode::Cache),
            to_live: None,
            to_idle: None,
            listener: None,
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// `Contended` or `Corruption`; a miss is `None`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(to_idle) = self.to_idle else { return self.writer.get(key) };
        let entry = self.writer.get_entry(key)?;
        Ok(entry.map(|entry| self.used(key, entry, to_idle)))
    }

    /// The value of an entry that was looked up, which lives the longer for it.
    fn used(&self, key: &[u8], entry: Entry, to_idle: Duration) -> Vec<u8> {
        let (end, value) = self.parts(entry.value);
        if let Ttl::Left(left) = entry.ttl
            && left < to_idle - to_idle / IDLE_PART
            && let Some(time) = self.time_left(end, to_idle)
            && time > left
        {
            // That it was deleted or evicted meanwhile is no error of a lookup, nor is a full store.
            let _ = self.writer.expire(key, time);
        }
        value
    }

    /// Whether `key` is there; no lookup that keeps it.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        self.writer.contains(key)
    }

    /// Puts `value` under `key`.
    ///
    /// # Errors
    /// `KeyTooLong`, `ValueTooLarge`, `Stuck`, `Corruption`; `Full` only where no extent can be had,
    /// for all that lives in them is pinned.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<Stored, WriteError> {
        match self.end() {
            None => self.writer.put_with(key, value, &self.options()),
            Some(end) => {
                let value = [&end.to_le_bytes(), value].concat();
                self.writer.put_with(key, &value, &self.options())
            }
        }
    }

    /// The value of `key`; if it is missing, what `load` computes: one thread does, the others wait.
    ///
    /// # Errors
    /// What `load` fails with, and those of [`Cache::insert`].
    pub fn get_or_insert_with<E>(
        &self,
        key: &[u8],
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        if let Some(to_idle) = self.to_idle
            && let Some(entry) = self.writer.store.get_entry(key)?
        {
            self.writer.count(1, 0);
            return Ok(self.used(key, entry, to_idle));
        }
        // Counts the lookup, hit or miss.
        let mut options = store_core::LoadOptions::new();
        if let Some(time) = self.first_time() {
            options = options.ttl(time);
        }
        let found = self.writer.get_or_insert_with(key, &options, || {
            let value = load()?;
            Ok(match self.end() {
                None => value,
                Some(end) => [&end.to_le_bytes()[..], &value].concat(),
            })
        })?;
        Ok(self.parts(found).1)
    }

    /// Deletes `key`; whether it was there. The listener is not told.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn remove(&self, key: &[u8]) -> Result<bool, WriteError> {
        self.writer.delete(key)
    }

    /// Deletes everything; how many items. The listener is not told.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some are deleted then.
    pub fn clear(&self) -> Result<u64, WriteError> {
        self.writer.clear()
    }

    /// Takes the room of items that have expired back, which happens otherwise when it is needed;
    /// how many. Looks at the whole index.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn sweep(&self) -> Result<u64, WriteError> {
        self.writer.sweep(u64::MAX)
    }

    /// Items that it holds, expired ones among them until their room is taken back.
    pub fn len(&self) -> u64 {
        self.writer.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hits, misses, what went and what lives: `stats.counts.hit_ratio()`, `stats.eviction`.
    ///
    /// # Errors
    /// `Corruption`; `Reattach` in a forked child that can't become a client.
    pub fn stats(&self) -> Result<Stats, WriteError> {
        self.writer.tell_counts()?;
        Ok(self.writer.stats()?)
    }

    /// The store that it is.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// How long an item lives if nobody looks it up.
    fn first_time(&self) -> Option<Duration> {
        match (self.to_live, self.to_idle) {
            (Some(live), Some(idle)) => Some(live.min(idle)),
            (live, idle) => live.or(idle),
        }
    }

    fn options(&self) -> PutOptions {
        let options = PutOptions::new();
        self.first_time().map_or(options, |time| options.ttl(time))
    }

    /// When an item that is put now ends, if that must be kept with it.
    fn end(&self) -> Option<u64> {
        let live = self.to_live.filter(|_| self.to_idle.is_some())?;
        Some(self.now_ms().saturating_add(u64::try_from(live.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A value as it is stored: when it ends, and what was put.
    fn parts(&self, mut stored: Vec<u8>) -> (Option<u64>, Vec<u8>) {
        if self.to_live.is_none() || self.to_idle.is_none() {
            return (None, stored);
        }
        let end = stored.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        stored.drain(..END_BYTES.min(stored.len()));
        (end, stored)
    }

    /// How long an item may idle from now on, that ends at `end` anyhow; `None` if that has passed.
    fn time_left(&self, end: Option<u64>, to_idle: Duration) -> Option<Duration> {
        let Some(end) = end else { return Some(to_idle) };
        let left = end.checked_sub(self.now_ms()).filter(|left| *left > 0)?;
        Some(to_idle.min(Duration::from_millis(left)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
