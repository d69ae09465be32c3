//! Values that are computed when they are missing, once for all processes.

use std::convert::Infallible;

use store_core::{LoadError, LoadOptions};

use crate::writer::Writer;

impl Writer {
    /// The value of `key`; if there is none, what `load` gives, which is stored. Of all threads
    /// and processes that miss a key at the same time, one calls `load` and the others wait for
    /// its value, up to [`LoadOptions::wait`].
    ///
    /// If `load` fails, panics or its process dies, another caller computes. A process that is
    /// stopped is not robbed: the others are refused at their deadline and told its id, or are
    /// given the [stale value](LoadOptions::stale) if they ask for it and there is one. What others
    /// put under the key while `load` runs stays, and is the answer.
    ///
    /// `load` runs under no guard and may use the store, also for other keys that are computed. It
    /// must not return in a child that it forked.
    ///
    /// A hit costs what a get does and writes nothing; with [`LoadOptions::stale`], what
    /// [`Reader::get_entry`](crate::Reader::get_entry) does. A miss takes the guard of the key
    /// twice.
    ///
    /// ```
    /// use std::time::Duration;
    /// use store_client::{CreateOptions, LoadOptions, Writer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Writer::private(&CreateOptions::new(4 << 20))?;
    /// let options = LoadOptions::new()
    ///     .ttl(Duration::from_secs(60))
    ///     .stale(Duration::from_secs(10))
    ///     .wait(Duration::from_secs(2));
    /// let page = cache.get_or_insert_with(b"page:7", &options, || {
    ///     std::fs::read("/proc/version") // once a minute in all processes
    /// })?;
    /// assert_eq!(cache.get(b"page:7")?, Some(page));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Limits
    /// It saves work, and is no lock. `load` is called more than once for a key if eight other keys
    /// that share its leases are being computed (a store has one lease in 64 KiB, 32 to 4096), and
    /// if it asks for its own key and there is no stale value. A delete does not keep a value that is being computed from being
    /// stored. Keys whose `load`s wait for each other wait until their deadlines.
    ///
    /// # Errors
    /// `Failed` with the error of `load`; `Busy` at the deadline; `NotStored` with the value, if
    /// the store refused it; `Store` with what was refused before anything was computed.
    pub fn get_or_insert_with<E>(
        &self,
        key: &[u8],
        options: &LoadOptions,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        self.store.get_or_insert_with(self.session()?, key, options, load)
    }

    /// [`Writer::get_or_insert_with`] for a value that can always be computed, and that lives until
    /// it is deleted. Waits 5 s for another's value.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Writer::private(&CreateOptions::new(4 << 20))?;
    /// assert_eq!(cache.get_or_load(b"6 x 7", || (6 * 7).to_string().into_bytes())?, b"42");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Writer::get_or_insert_with`], but for `Failed`.
    pub fn get_or_load(
        &self,
        key: &[u8],
        load: impl FnOnce() -> Vec<u8>,
    ) -> Result<Vec<u8>, LoadError<Infallible>> {
        self.get_or_insert_with(key, &LoadOptions::new(), || Ok(load()))
    }
}
