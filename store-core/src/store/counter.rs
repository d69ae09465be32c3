//! Counters: values that are one signed 64-bit word, which changes in place under the guard and
//! reads as decimal text.

use super::guarded::Present;
use super::write::{Item, Value};
use super::{Session, Store, Version};
use crate::arena::Place;
use crate::error::{ReadError, WriteError};
use crate::index::search::{Standing, search};
use crate::layout::flags;
use crate::region::{Cell64, Shim};

/// How often an operation starts anew because the key changed its kind meanwhile.
const ATTEMPTS_MAX: u32 = 100;

impl<S: Shim> Store<S> {
    /// Adds `by` to the number under `key`, which is 0 if absent, and gives the sum. A value that
    /// reads as a decimal number becomes a counter; from then on it changes in place.
    ///
    /// # Errors
    /// `NotANumber`, `Overflow`, and those of [`Store::put`].
    pub fn add_to(&self, session: &Session, key: &[u8], by: i128) -> Result<i64, WriteError> {
        let hash = self.segment.hasher.hash(key);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(sum) = self.add_in_place(session, key, hash, by)? {
                self.count_put(session, 0);
                return Ok(sum);
            }
            // Absent, expired, or a text: a counter takes its place, with the expiry it has.
            let standing = self
                .look_up_hashed(key, hash, |item| self.expiry_word(item.item, item.header).ok())?;
            let expiry = match standing {
                Some(expiry) => expiry,
                None => self.expiry_of(None)?,
            };
            let fresh = standing.is_none();
            let item = self.item((key, hash), Value::Counter(0), expiry)?;
            let place = self.reserve(session, item.size().head, self.shelf_for(&item), true)?;
            let result = self
                .with_lines(session, || self.publish_counter(session, (&item, fresh), *place, by));
            self.abandon_unless_published(&item, *place, &result)?;
            let bytes = place.bytes;
            drop(place);
            self.tell_gone(session);
            if let Some(sum) = result? {
                self.count_put(session, bytes);
                return Ok(sum);
            }
        }
        Err(ReadError::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// Adds to a counter in place: one 8-byte store, under the guard. `None` if there is none.
    fn add_in_place(
        &self,
        session: &Session,
        key: &[u8],
        hash: u64,
        by: i128,
    ) -> Result<Option<i64>, WriteError> {
        let _held = self.hold(session, hash)?;
        let Some(present) = self.present(&search(&self.segment, key, hash)?)? else {
            return Ok(None);
        };
        let Some(current) = present.version.number else { return Ok(None) };
        let sum = added(current, by)?;
        let standing = present.standing;
        let offset = standing.slot.offset() + standing.header.shape().value;
        self.segment.region.view::<Cell64>(offset)?.store::<S>(sum as u64);
        Ok(Some(sum))
    }

    /// Puts a counter where a text stands, or, a fresh one, nothing or an expired item. `None` if that
    /// changed meanwhile, so that place or expiry don't fit any more.
    fn publish_counter(
        &self,
        session: &Session,
        (item, fresh): (&Item<'_>, bool),
        place: Place,
        by: i128,
    ) -> Result<Option<i64>, WriteError> {
        let Item { key, hash, header, expiry, .. } = *item;
        self.write_item(session, place, item)?;
        let held = self.hold(session, hash)?;
        let found = search(&self.segment, key, hash)?;
        let present = self.present(&found)?;
        self.note_if_expired(&held, &found, present.as_ref())?;
        let current = match present {
            None if fresh => 0,
            Some(Present { standing, version: Version { number: None, .. } }) if !fresh => {
                if self.expiry_word(standing.slot.offset(), standing.header)? != expiry {
                    return Ok(None);
                }
                self.number_of_text(&standing)?
            }
            _ => return Ok(None),
        };
        let sum = added(current, by)?;
        let value = place.offset + header.shape().value;
        self.segment.region.view::<Cell64>(value)?.store_unpublished::<S>(sum as u64);
        self.publish(&held, &found, hash, place)?;
        Ok(Some(sum))
    }

    /// The number that a value reads as, under the guard.
    fn number_of_text(&self, standing: &Standing) -> Result<i64, WriteError> {
        let bytes = standing.header.value_bytes as usize;
        // The longest is i64::MIN, 20 bytes.
        if bytes > 20 || standing.header.has(flags::LARGE) {
            return Err(WriteError::NotANumber);
        }
        let offset = standing.slot.offset() + standing.header.shape().value;
        let words = self.segment.region.words(offset, bytes.div_ceil(8) as u64)?;
        let mut text = [0; 20];
        crate::region::copy_out(words, &mut text[..bytes]);
        std::str::from_utf8(&text[..bytes])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(WriteError::NotANumber)
    }
}

fn added(current: i64, by: i128) -> Result<i64, WriteError> {
    i64::try_from(i128::from(current) + by).map_err(|_| WriteError::Overflow { current, delta: by })
}
