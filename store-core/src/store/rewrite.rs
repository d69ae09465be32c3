//! Operations that need the value that stands: it is copied outside of the guard, and under the
//! guard its version must still be the same; if it is not, the operation starts anew. One that
//! somebody is faster than again and again does all of it under the guard.

use super::guarded::Held;
use super::write::{Deletion, Item, Value};
use super::{Condition, Outcome, PutOptions, Session, Store, Ttl, Version};
use crate::error::{ReadError, WriteError};
use crate::layout::{Header, LargeWord, Shelf};
use crate::region::{Mutation, Shim, mutated};

/// How often an operation is tried apart from the guard: the others work on meanwhile.
const ATTEMPTS_APART: u32 = 16;
/// How often it is tried at all. Under the guard it is started anew only if there is no room at
/// once, and others take what was made.
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

/// What an attempt came to.
enum Attempt<R> {
    Done(R),
    /// Somebody else wrote the key meanwhile.
    Disturbed,
    /// There is no room at once for such an item, and none is made under a guard.
    NoRoom((Header, Option<LargeWord>), Shelf),
}

impl<R> Attempt<R> {
    fn map<T>(self, f: impl FnOnce(R) -> T) -> Attempt<T> {
        match self {
            Self::Done(done) => Attempt::Done(f(done)),
            Self::Disturbed => Attempt::Disturbed,
            Self::NoRoom(item, shelf) => Attempt::NoRoom(item, shelf),
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
        self.until_undisturbed(session, hash, |held| {
            let Some(current) = self.current(key, hash)? else { return Ok(Attempt::Done(None)) };
            let deleted = match held {
                None => self.delete_at(session, key, hash, current.version)?,
                Some(held) => self.delete_held(held, key, hash, current.version)?,
            };
            Ok(match deleted {
                Deletion::Done => Attempt::Done(Some(current.bytes)),
                Deletion::Refused(_) => Attempt::Disturbed,
            })
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
        let expiry = self.expiry_with(options)?;
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(session, hash, |held| {
            let current = self.current(key, hash)?;
            let item = self.item((key, hash), Value::Bytes(value), expiry)?;
            let put = self.put_over(session, held, &item, current.as_ref())?;
            Ok(put.map(|()| current.map(|current| current.bytes)))
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
        self.until_undisturbed(session, hash, |held| {
            let current = self.current(key, hash)?;
            let (old, expiry) = match &current {
                Some(current) => (&current.bytes[..], current.expiry),
                None => (&b""[..], self.expiry_of(None)?),
            };
            let whole = match end {
                End::Front => [bytes, old].concat(),
                End::Back => [old, bytes].concat(),
            };
            let item = self.item((key, hash), Value::Bytes(&whole), expiry)?;
            let put = self.put_over(session, held, &item, current.as_ref())?;
            Ok(put.map(|()| whole.len() as u64))
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
        let expiry = self.expiry_after(match ttl {
            Ttl::Never => None,
            Ttl::Left(left) => Some(left),
        })?;
        let hash = self.segment.hasher.hash(key);
        self.until_undisturbed(session, hash, |held| {
            let Some(current) = self.current(key, hash)? else { return Ok(Attempt::Done(false)) };
            if current.expiry == expiry {
                return Ok(Attempt::Done(true));
            }
            let item = self.item((key, hash), current.value(), expiry)?;
            Ok(self.put_over(session, held, &item, Some(&current))?.map(|()| true))
        })
    }

    /// Does `attempt` until it is done: apart from the guard of `hash` at first, then under it.
    fn until_undisturbed<R>(
        &self,
        session: &Session,
        hash: u64,
        mut attempt: impl FnMut(Option<&Held<'_, S>>) -> Result<Attempt<R>, WriteError>,
    ) -> Result<R, WriteError> {
        for number in 0..ATTEMPTS_MAX {
            let apart = number < ATTEMPTS_APART && !mutated::<S>(Mutation::RewriteUnderGuard);
            let result = if apart {
                attempt(None)?
            } else {
                self.with_lines(session, || attempt(Some(&self.hold(session, hash)?)))?
            };
            match result {
                Attempt::Done(done) => return Ok(done),
                Attempt::Disturbed => {}
                Attempt::NoRoom(item, shelf) => self.make_room(session, item, shelf)?,
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

    /// Puts an item in the place of what stood when `current` was read, if it still does; under
    /// the guard it does.
    fn put_over(
        &self,
        session: &Session,
        held: Option<&Held<'_, S>>,
        item: &Item<'_>,
        current: Option<&Current>,
    ) -> Result<Attempt<()>, WriteError> {
        let condition = match current {
            Some(current) => Condition::Version(current.version),
            None => Condition::Absent,
        };
        let outcome = match held {
            None => Some(self.put_item(session, item, condition)?),
            Some(held) => self.put_item_held(session, held, item, condition)?,
        };
        Ok(match outcome {
            None => Attempt::NoRoom((item.header, item.large), self.shelf_for(item)),
            Some(Outcome::Refused(_)) => Attempt::Disturbed,
            Some(Outcome::Inserted | Outcome::Replaced) => Attempt::Done(()),
        })
    }
}
