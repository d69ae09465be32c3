//! Operations that need the value that stands: it is copied outside of the guard, and under the
//! guard its version must still be the same; if it is not, the operation starts anew.

use super::write::{Deletion, Value};
use super::{Condition, Outcome, PutOptions, Session, Store, Ttl, Version};
use crate::error::{ReadError, WriteError};
use crate::region::Shim;

/// How often an operation starts anew because somebody else wrote the key meanwhile. Of writers
/// that meet at one key one always gets through, so it takes hundreds of them to use this up.
const ATTEMPTS_MAX: u32 = 1000;

/// What stands under a key, copied.
struct Current {
    /// The value's bytes; of a counter, its text.
    bytes: Vec<u8>,
    version: Version,
    expiry: Option<u64>,
}

impl Current {
    /// What a new item with the same value holds.
    fn value(&self) -> Value<'_> {
        match self.version.number {
            Some(number) => Value::Counter(number),
            None => Value::Bytes(&self.bytes),
        }
    }
}

/// The end of a value to which `append` and `prepend` add.
enum End {
    Front,
    Back,
}

impl<S: Shim> Store<S> {
    /// Deletes `key` and gives the value that was deleted. One lookup that copies the value, then
    /// a delete.
    ///
    /// # Errors
    /// `Stuck`, `Contended` or `Corruption`; the key was not deleted then.
    pub fn take(&self, session: &Session, key: &[u8]) -> Result<Option<Vec<u8>>, WriteError> {
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(|| {
            let Some(current) = self.current(key, hash)? else { return Ok(Some(None)) };
            let deleted = self.delete_at(session, key, hash, current.version)?;
            Ok((deleted == Deletion::Done).then_some(Some(current.bytes)))
        })
    }

    /// Puts `value` under `key` and gives the value that it replaced. The time to live is that of
    /// `options`.
    ///
    /// # Errors
    /// Those of [`Store::put`], and `Contended`; nothing was changed then.
    pub fn get_and_put(
        &self,
        session: &Session,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        let expiry = self.expiry_of(options.ttl)?;
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(|| {
            let current = self.current(key, hash)?;
            let value = Value::Bytes(value);
            let put = self.put_over(session, (key, hash), value, expiry, current.as_ref())?;
            Ok(put.then(|| current.map(|current| current.bytes)))
        })
    }

    /// Puts the value that stands with `bytes` behind it, as a new item; an absent key counts as
    /// an empty value. A counter reads as its text. The time to live stays. Gives the new length
    /// in bytes. Copies the whole value.
    ///
    /// # Errors
    /// Those of [`Store::put`] for the whole value, and `Contended`; nothing was changed then.
    pub fn append(&self, session: &Session, key: &[u8], bytes: &[u8]) -> Result<u64, WriteError> {
        self.extend(session, key, bytes, End::Back)
    }

    /// [`Store::append`], with `bytes` before the value that stands.
    ///
    /// # Errors
    /// As for [`Store::append`].
    pub fn prepend(&self, session: &Session, key: &[u8], bytes: &[u8]) -> Result<u64, WriteError> {
        self.extend(session, key, bytes, End::Front)
    }

    fn extend(
        &self,
        session: &Session,
        key: &[u8],
        bytes: &[u8],
        end: End,
    ) -> Result<u64, WriteError> {
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(|| {
            let current = self.current(key, hash)?;
            let (old, expiry) = match &current {
                Some(current) => (&current.bytes[..], current.expiry),
                None => (&b""[..], None),
            };
            let whole = match end {
                End::Front => [bytes, old].concat(),
                End::Back => [old, bytes].concat(),
            };
            let value = Value::Bytes(&whole);
            let put = self.put_over(session, (key, hash), value, expiry, current.as_ref())?;
            Ok(put.then_some(whole.len() as u64))
        })
    }

    /// Sets or removes the time to live of `key`; whether the key is there. The value stays, and a
    /// counter stays one, but they stand in a new item and so have a new version; copies the whole
    /// value. Nothing is written if a time to live is
    /// removed from a key that has none, and its version stays.
    ///
    /// # Errors
    /// Those of [`Store::put`], and `Contended`; nothing was changed then.
    pub fn set_ttl(&self, session: &Session, key: &[u8], ttl: Ttl) -> Result<bool, WriteError> {
        let expiry = self.expiry_of(match ttl {
            Ttl::Never => None,
            Ttl::Left(left) => Some(left),
        })?;
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(|| {
            let Some(current) = self.current(key, hash)? else { return Ok(Some(false)) };
            if current.expiry == expiry {
                return Ok(Some(true));
            }
            let value = current.value();
            let put = self.put_over(session, (key, hash), value, expiry, Some(&current))?;
            Ok(put.then_some(true))
        })
    }

    /// Does `attempt` until it says something else than that somebody came between.
    fn until_undisturbed<R>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<R>, WriteError>,
    ) -> Result<R, WriteError> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
        }
        Err(ReadError::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// What stands under a key, all of the same moment.
    fn current(&self, key: &[u8], hash: u64) -> Result<Option<Current>, ReadError> {
        self.look_up_hashed(key, hash, |item| {
            let (bytes, version) = self.versioned_value(item)?;
            let expiry = self.expiry_word(item.item, item.header).ok()?;
            Some(Current { bytes, version, expiry })
        })
    }

    /// Puts an item in the place of what stood when `current` was read; whether it still did.
    fn put_over(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value: Value<'_>,
        expiry: Option<u64>,
        current: Option<&Current>,
    ) -> Result<bool, WriteError> {
        let condition = match current {
            Some(current) => Condition::Version(current.version),
            None => Condition::Absent,
        };
        let header = self.header(key, value, expiry)?;
        let outcome = self.put_item(session, (key, hash), header, value, expiry, condition)?;
        Ok(!matches!(outcome, Outcome::Refused(_)))
    }
}
