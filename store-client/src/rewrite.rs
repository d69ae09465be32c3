//! Writes that depend on the value that stands: one step for everybody else.

use std::time::Duration;

use store_core::{PutOptions, Ttl, WriteError};

use crate::writer::Writer;

/// Each copies the value that stands outside of the guard and writes only if it still stands: of
/// writers that meet at one key one gets through, the others begin anew. After 1000 turns they
/// say `Contended`; nothing was changed then.
impl Writer {
    /// Deletes `key` and gives the value that was deleted: of all that take a key at the same
    /// time, one gets each value. Copies the value once.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// store.put(b"job:7", b"resize photo.jpg")?;
    /// assert_eq!(store.take(b"job:7")?.as_deref(), Some(&b"resize photo.jpg"[..]));
    /// assert_eq!(store.take(b"job:7")?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Stuck`, `Read` with `Contended`, or `Corruption`.
    pub fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>, WriteError> {
        self.store.take(self.session()?, key)
    }

    /// Puts `value` under `key`, with the time to live of `options` (not that of the old value),
    /// and gives the value that it replaced. Costs a get and a put.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn get_and_put(
        &self,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        self.store.get_and_put(self.session()?, key, value, options)
    }

    /// Adds `bytes` at the end of the value and gives its new length in bytes. An absent key
    /// counts as an empty value without a time to live; a counter reads as its text, and is none
    /// any more. The time to live stays.
    ///
    /// The whole value is written anew: appending many times to a long value costs its length each
    /// time, and as much room until the old ones are reclaimed.
    ///
    /// ```
    /// # use store_client::{CreateOptions, Writer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Writer::private(&CreateOptions::new(4 << 20))?;
    /// assert_eq!(store.append(b"log", b"start;")?, 6);
    /// assert_eq!(store.append(b"log", b"stop;")?, 11);
    /// assert_eq!(store.get(b"log")?.as_deref(), Some(&b"start;stop;"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ValueTooLarge` for the whole value; see [`WriteError`].
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<u64, WriteError> {
        self.store.append(self.session()?, key, bytes)
    }

    /// [`Writer::append`] at the beginning of the value.
    ///
    /// # Errors
    /// As for [`Writer::append`].
    pub fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<u64, WriteError> {
        self.store.prepend(self.session()?, key, bytes)
    }

    /// Gives `key` a time to live from now on, whatever it had; whether the key is there. The
    /// value stays and a counter stays one, but the item is written anew: it costs a get and a
    /// put, and the key has a new [`Version`](crate::Version).
    ///
    /// # Errors
    /// `InvalidTtl` below 1 ms or above about a thousand years; see [`WriteError`].
    pub fn expire(&self, key: &[u8], ttl: Duration) -> Result<bool, WriteError> {
        self.store.set_ttl(self.session()?, key, Ttl::Left(ttl))
    }

    /// Removes the time to live of `key`; whether the key is there. As [`Writer::expire`], but a
    /// key that has no time to live is not written, and keeps its version.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn persist(&self, key: &[u8]) -> Result<bool, WriteError> {
        self.store.set_ttl(self.session()?, key, Ttl::Never)
    }
}
