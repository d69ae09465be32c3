//! Writes. The item is written outside of any guard; under the stripe's guard one store publishes
//! it. A put that returned is there; one that did not is wholly there or wholly absent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clean::Step;
use super::guarded::Held;
use super::large::{Room, Size};
use super::{Session, Store, Version};
use crate::arena::usage::{may_live, note_scattered};
use crate::arena::{NoRoom, Place, lease, retire};
use crate::error::{Corruption, WriteError};
use crate::index::lookup::{prefetch_bucket, prefetch_standing};
use crate::index::overflow;
use crate::index::search::{Standing, search};
use crate::layout::{Header, KEY_BYTES_MAX, LINK_LANE, LargeWord, WHOLE_VALUE_BYTES, flags};
use crate::region::{Cell64, Shim, copy_in};

/// Bytes that a put moves ahead of need for each of its own, at least. More if it costs more to free
/// as many bytes: looks at small items, mostly.
const CLEANING_PER_BYTE: u64 = 4;
const CLEANING_PER_BYTE_MAX: u64 = 64;
/// The most that is walked for a byte of a cache, if most of what is walked stays.
const EVICTION_PER_BYTE_MAX: u64 = 16;
/// What it pays besides, as if for bytes: a few items that are small, or dead.
const CLEANING_PER_PUT: u64 = 1 << 10;
/// What is done at once, rather than a little by each put.
const CLEANING_TOGETHER: u64 = 2 << 10;
/// What a put carries besides key and value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    pub(super) ttl: Option<Duration>,
    pub(super) for_ever: bool,
}

impl PutOptions {
    /// No time to live, or that which its namespace gives.
    pub fn new() -> Self {
        Self::default()
    }

    /// The item is a miss after this time, to within 10 ms. At least one millisecond.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self.for_ever = false;
        self
    }

    /// The item lives for ever, whatever its namespace says.
    pub fn for_ever(mut self) -> Self {
        self.ttl = None;
        self.for_ever = true;
        self
    }
}

/// When a put happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the key is absent (or expired).
    Absent,
    /// If the key is present.
    Present,
    /// If the key has this version.
    Version(Version),
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no such key.
    Inserted,
    /// The key had another value.
    Replaced,
    /// The condition is false, and nothing was changed; the version that stands, if the key does.
    Refused(Option<Version>),
}

/// What a delete that is tied to a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The key had the version, and is gone.
    Done,
    /// The key has another version, which is given, or is absent; nothing was changed.
    Refused(Option<Version>),
}

/// What is written as a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Counter(i64),
}

/// An item that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    pub(super) header: Header,
    pub(super) value: Value<'a>,
    /// The expiry word.
    pub(super) expiry: Option<u64>,
    /// How the value is divided, if it is.
    pub(super) large: Option<LargeWord>,
}

impl Item<'_> {
    /// What it takes of the arena.
    #[inline]
    pub(super) fn size(&self) -> Size {
        Size { head: self.header.shape().bytes, large: self.large }
    }
}

impl<S: Shim> Store<S> {
    /// Puts `value` under `key` if `condition` holds. One compare-and-swap to reserve, one guard,
    /// no system call unless the guard is contended or a new extent needs memory.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then.
    pub fn put(
        &self,
        session: &Session,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        let hash = self.segment.hasher.hash(key);
        prefetch_bucket(&self.segment, hash);
        self.segment.prefetch_stripe(hash);
        self.put_hashed(session, (key, hash), value, options, condition)
    }

    /// [`Store::put`] of a key whose hash is known.
    #[inline(always)]
    pub(super) fn put_hashed(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value: &[u8],
        options: &PutOptions,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        let expiry = self.expiry_with(options)?;
        if expiry.is_none()
            && let Some(outcome) = self.overwrite(session, (key, hash), value, condition)?
        {
            return Ok(outcome);
        }
        self.put_elsewhere(session, (key, hash), value, expiry, condition)
    }

    /// [`Store::put_hashed`] of a value that is not written where the last one of its key stands.
    #[inline(never)]
    fn put_elsewhere(
        &self,
        session: &Session,
        (key, hash): (&[u8], u64),
        value: &[u8],
        expiry: Option<u64>,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        let share = self.segment.share_of(self.group());
        self.segment.ghost.prefetch(&self.segment.region, share, hash);
        let item = self.item((key, hash), Value::Bytes(value), expiry)?;
        if let Some(refusal) = self.refused_early(key, hash, condition)? {
            return Ok(refusal);
        }
        self.put_item(session, &item, condition)
    }

    /// Writes an item and publishes it if `condition` holds.
    pub(super) fn put_item(
        &self,
        session: &Session,
        item: &Item<'_>,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        // No room is made in what others have under its number.
        self.refuse_if_gone()?;
        // Meanwhile what was asked for comes, its bucket first of all.
        let group = self.group();
        let size = item.size();
        if session.lease(group).is_short() {
            self.clean_ahead_of(session, group, size.bytes());
        }
        self.refuse_if_too_large(session, size)?;
        let mut result = self.put_into(session, item, condition, (Room::Made, size));
        if let Err(WriteError::Full(_) | WriteError::QuotaFull { .. }) = result
            && let Some(scattered) = self.scattered(item)
            && size.bytes() <= may_live(&self.segment, self.group())?
        {
            result = self.put_into(session, &scattered, condition, (Room::Scattered, size));
        }
        if result.as_ref().is_ok_and(Published::published) {
            self.count_put(session, size.bytes());
        }
        self.tell_gone(session);
        result.map_err(|error| self.for_all_of(error, size))
    }

    /// Reserves room for an item, writes it there, and publishes it if `condition` holds. Notes what it
    /// takes more than `planned` where it is scattered.
    fn put_into(
        &self,
        session: &Session,
        item: &Item<'_>,
        condition: Condition,
        (room, planned): (Room, Size),
    ) -> Result<Outcome, WriteError> {
        let size = if room == Room::Scattered { item.size() } else { planned };
        let shelf = self.shelf_for(item);
        let place = self.reserve(session, size.head, shelf, room != Room::Scattered)?;
        // Its bucket was asked for before; it comes while the new one is written.
        prefetch_standing(&self.segment, item.hash);
        let written = self.write_all(session, &place, item, (shelf, room));
        if room == Room::Scattered && matches!(written, Ok(true)) {
            let bytes = self.bytes_of(place.offset, item.header)?;
            note_scattered(&self.segment, bytes.saturating_sub(planned.bytes()));
        }
        let result = match written {
            Ok(true) => self.with_lines(session, || {
                self.publish_if(&self.hold(session, item.hash)?, item, *place, condition)
            }),
            Ok(false) => Err(self.no_room(NoRoom::Full, size)),
            Err(error) => Err(error),
        };
        self.abandon_unless_published(item, *place, &result)?;
        result
    }

    /// [`Store::put_item`] under the guard of the item's stripe; `None` if there is no room at once.
    pub(super) fn put_item_held(
        &self,
        session: &Session,
        held: &Held<'_, S>,
        item: &Item<'_>,
        condition: Condition,
    ) -> Result<Option<Outcome>, WriteError> {
        let (size, shelf) = (item.size(), self.shelf_for(item));
        let Some(place) = self.reserve_at_once(session, size.head, shelf)? else { return Ok(None) };
        let result = match self.write_all(session, &place, item, (shelf, Room::AtOnce)) {
            Ok(true) => self.publish_if(held, item, *place, condition).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        self.abandon_unless_published(item, *place, &result)?;
        if result.as_ref().is_ok_and(Published::published) {
            self.count_put(session, size.bytes());
        }
        result
    }

    /// Cleaning that puts pay for, in proportion to their own bytes: small ones together. What is in
    /// its way is no put's answer.
    #[cold]
    fn clean_ahead_of(&self, session: &Session, group: u8, bytes: u64) {
        let (owed, together) = if self.segment.group_evicts(group) {
            // Each put pays for itself, so that none pays for many.
            (session.pace.cost_of(bytes, EVICTION_PER_BYTE_MAX), 0)
        } else {
            let least = bytes.saturating_mul(CLEANING_PER_BYTE).saturating_add(CLEANING_PER_PUT);
            let owed = session.pace.cost_of(bytes, CLEANING_PER_BYTE_MAX).max(least);
            (owed, CLEANING_TOGETHER)
        };
        let before = session.cleaning_owed.fetch_add(owed, Ordering::Relaxed);
        if before.saturating_add(owed) < together {
            return;
        }
        let mut budget = session.cleaning_owed.swap(0, Ordering::Relaxed);
        loop {
            match self.clean_ahead(session, group, &mut budget) {
                // What is left is for the next one.
                Ok(Step::Working) => break,
                Ok(Step::Freed)
                    if budget > 0 && self.is_short_of_extents(group).unwrap_or(false) => {}
                _ => return session.lease(group).not_short(),
            }
        }
        session.cleaning_owed.fetch_add(budget.min(self.extent_bytes()), Ordering::Relaxed);
    }

    fn is_short_of_extents(&self, group: u8) -> Result<bool, Corruption> {
        lease::is_short_of_extents(&self.segment, group)
    }

    /// Deletes `key`; whether it was there.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn delete(&self, session: &Session, key: &[u8]) -> Result<bool, WriteError> {
        let hash = self.segment.hasher.hash(key);
        let held = self.hold(session, hash)?;
        let Some(standing) = search(&self.segment, key, hash)?.found else { return Ok(false) };
        let expired = self.is_expired(standing.slot.offset(), standing.header)?;
        if expired {
            self.remove_expired(&held, &standing)?;
        } else {
            self.remove(&held, &standing)?;
        }
        drop(held);
        self.count_deletes(session, u64::from(!expired));
        self.tell_gone(session);
        Ok(!expired)
    }

    /// Deletes `key` if it has the version `expected`. Costs what a delete does.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`.
    pub fn delete_if(
        &self,
        session: &Session,
        key: &[u8],
        expected: Version,
    ) -> Result<Deletion, WriteError> {
        self.delete_at(session, key, self.segment.hasher.hash(key), expected)
    }

    /// [`Store::delete_if`] of a key whose hash is known.
    pub(super) fn delete_at(
        &self,
        session: &Session,
        key: &[u8],
        hash: u64,
        expected: Version,
    ) -> Result<Deletion, WriteError> {
        self.delete_held(&self.hold(session, hash)?, key, hash, expected)
    }

    /// [`Store::delete_at`] under the guard of the key's stripe.
    pub(super) fn delete_held(
        &self,
        held: &Held<'_, S>,
        key: &[u8],
        hash: u64,
        expected: Version,
    ) -> Result<Deletion, WriteError> {
        match self.present(&search(&self.segment, key, hash)?)? {
            Some(present) if present.version == expected => {
                self.remove(held, &present.standing)?;
                self.count_deletes(held.session, 1);
                Ok(Deletion::Done)
            }
            other => Ok(Deletion::Refused(other.map(|present| present.version))),
        }
    }

    /// Deletes every key of its namespace that is there when it begins; how many it deleted. Keys
    /// put meanwhile may stay. Takes one guard after the other, never two.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some keys are deleted then. `NamespaceGone`.
    pub fn clear(&self, session: &Session) -> Result<u64, WriteError> {
        let stands = || self.segment.namespace_stands();
        let deleted = self.clear_namespace(session, self.segment.namespace, stands)?;
        self.refuse_if_gone()?;
        self.count_deletes(session, deleted);
        Ok(deleted)
    }

    /// Deletes every key of a namespace, as long as `stands` says that the number is still its.
    pub(super) fn clear_namespace(
        &self,
        session: &Session,
        namespace: u8,
        stands: impl Fn() -> bool,
    ) -> Result<u64, WriteError> {
        let mut deleted = 0;
        let mut buckets = 0..;
        // Asked anew each time: what a split takes out of a bucket ahead goes to one behind it.
        while let Some(bucket) =
            buckets.next().filter(|at| *at < self.segment.index_size().buckets())
        {
            if !self.bucket_in_use(bucket)? {
                continue;
            }
            let held = self.hold_within(session, bucket, session.wait_limit())?;
            // Under the guard: who has the number next writes nothing here before it is given back.
            if !stands() {
                break;
            }
            while let Some(standing) = self.first_in_bucket(bucket, namespace)? {
                self.remove(&held, &standing)?;
                deleted += 1;
            }
            // A crash may have left an empty line at the end of the chain.
            overflow::shorten(&self.segment, held.record, bucket)?;
        }
        Ok(deleted)
    }

    fn bucket_in_use(&self, bucket: u64) -> Result<bool, Corruption> {
        Ok(!self.segment.line(self.segment.bucket_line(bucket)?)?.is_vacant())
    }

    /// The first item of a namespace in the chain of `bucket`.
    fn first_in_bucket(&self, bucket: u64, namespace: u8) -> Result<Option<Standing>, Corruption> {
        for number in crate::index::search::chain(&self.segment, bucket) {
            let number = number?;
            let line = self.segment.line(number)?;
            for lane in 0..=LINK_LANE {
                let slot = line.slot(lane);
                if self.segment.slot_stands(slot) {
                    let at = crate::layout::Where { line: number, lane };
                    let header = self.segment.header(slot.offset())?;
                    if header.namespace == namespace {
                        return Ok(Some(Standing { at, slot, header }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// An item, if this store takes such a one.
    #[inline]
    pub(super) fn item<'a>(
        &self,
        (key, hash): (&'a [u8], u64),
        value: Value<'a>,
        expiry: Option<u64>,
    ) -> Result<Item<'a>, WriteError> {
        let (header, large) = self.header(key, value, expiry)?;
        Ok(Item { key, hash, header, value, expiry, large })
    }

    #[inline(always)]
    fn header(
        &self,
        key: &[u8],
        value: Value<'_>,
        expiry: Option<u64>,
    ) -> Result<(Header, Option<LargeWord>), WriteError> {
        let Ok(key_bytes) = u16::try_from(key.len()) else {
            return Err(WriteError::KeyTooLong { len: key.len(), limit: KEY_BYTES_MAX });
        };
        let (len, counter) = match value {
            Value::Bytes(bytes) => (bytes.len() as u64, 0),
            Value::Counter(_) => (8, flags::COUNTER),
        };
        let flags = counter
            | if expiry.is_some() { flags::EXPIRES } else { 0 }
            | if self.segment.checksums { flags::CHECKSUM } else { 0 };
        let empty = Header { value_bytes: 0, key_bytes, namespace: self.segment.namespace, flags };
        let geometry = &self.segment.geometry;
        let head = empty.shape();
        if head.bytes + WHOLE_VALUE_BYTES > geometry.head_bytes_max() {
            let limit = geometry.head_bytes_max() - WHOLE_VALUE_BYTES - head.key;
            return Err(WriteError::KeyTooLong { len: key.len(), limit: limit as usize });
        }
        if len <= WHOLE_VALUE_BYTES || head.bytes + len <= geometry.whole_bytes_max() {
            return Ok((Header { value_bytes: len as u32, ..empty }, None));
        }
        let large = u32::try_from(len).ok().and_then(|_| geometry.divide(head.bytes, len));
        let Some(large) = large else {
            let limit = geometry.value_bytes_max(head.bytes);
            return Err(WriteError::ValueTooLarge { len, limit });
        };
        let value_bytes = 8 + 8 * large.count() as u32;
        Ok((Header { value_bytes, flags: flags | flags::LARGE, ..empty }, Some(large)))
    }

    /// The answer of a condition that is false already, before anything is written for it.
    fn refused_early(
        &self,
        key: &[u8],
        hash: u64,
        condition: Condition,
    ) -> Result<Option<Outcome>, WriteError> {
        if condition == Condition::Always {
            return Ok(None);
        }
        let version = self.look_up_hashed(key, hash, |item| self.version(item))?;
        Ok((!holds(condition, version)).then_some(Outcome::Refused(version)))
    }

    #[inline]
    pub(super) fn abandon_unless_published<T: Published>(
        &self,
        item: &Item<'_>,
        place: Place,
        result: &Result<T, WriteError>,
    ) -> Result<(), Corruption> {
        // An error after publication can only be `Corruption`: then the item may be reachable,
        // and bytes counted too often are harmless where bytes counted too seldom are not.
        match result {
            Ok(done) if done.published() => Ok(()),
            Err(WriteError::Corruption(_)) => Ok(()),
            _ => {
                self.abandon_pieces(place.offset, item.header)?;
                retire::abandon(&self.segment, place)
            }
        }
    }

    /// Writes a whole item to a reserved place that nobody else can reach.
    #[inline]
    pub(super) fn write_item(
        &self,
        session: &Session,
        place: Place,
        item: &Item<'_>,
    ) -> Result<(), WriteError> {
        let shape = item.header.shape();
        let words = (shape.bytes - shape.value) / 8;
        let words = self.segment.region.words(place.offset + shape.value, words)?;
        let summed = match item.value {
            Value::Bytes(bytes) => {
                copy_in::<S>(bytes, words);
                bytes
            }
            Value::Counter(number) => {
                copy_in::<S>(&number.to_le_bytes(), words);
                // It changes in place, so the sum leaves it out.
                &[]
            }
        };
        self.write_head(session, place, item, summed).map(drop)
    }

    /// Writes all of an item but its value, of which the checksum takes `summed`; its stamp.
    #[inline(always)]
    pub(super) fn write_head(
        &self,
        session: &Session,
        place: Place,
        item: &Item<'_>,
        summed: &[u8],
    ) -> Result<u64, WriteError> {
        let Item { key, header, expiry, .. } = *item;
        self.note_expiry(place.offset, expiry)?;
        let region = &self.segment.region;
        let shape = header.shape();
        let stamp = self.stamp(session)?;
        let [stamp_cell, header_cell] = region.view::<[Cell64; 2]>(place.offset)?;
        stamp_cell.store_unpublished::<S>(stamp);
        header_cell.store_unpublished::<S>(header.word());
        if let Some(expiry) = expiry {
            region.view::<Cell64>(place.offset + shape.expiry)?.store_unpublished::<S>(expiry);
        }
        let key_words = (shape.value - shape.key) / 8;
        copy_in::<S>(key, region.words(place.offset + shape.key, key_words)?);
        if header.has(flags::CHECKSUM) {
            let sum = self.segment.checksum(header, expiry, key, summed);
            region.view::<Cell64>(place.offset + shape.checksum)?.store_unpublished::<S>(sum);
        }
        Ok(stamp)
    }

    /// Publishes the item that was written to `place` if `condition` holds.
    #[inline(always)]
    fn publish_if(
        &self,
        held: &Held<'_, S>,
        item: &Item<'_>,
        place: Place,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        let found = search(&self.segment, item.key, item.hash)?;
        let present = self.present(&found)?;
        let version = present.map(|present| present.version);
        if !holds(condition, version) {
            return Ok(Outcome::Refused(version));
        }
        self.note_if_expired(held, &found, present.as_ref())?;
        if found.found.is_some_and(|standing| item.header.fits_in(standing.header)) {
            held.session.note_fit(true);
        }
        self.publish(held, &found, item.hash, place)?;
        Ok(if present.is_some() { Outcome::Replaced } else { Outcome::Inserted })
    }
}

/// What a write answered: whether its item can be reached now.
pub(super) trait Published {
    fn published(&self) -> bool;
}

impl Published for Outcome {
    fn published(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl Published for Option<i64> {
    fn published(&self) -> bool {
        self.is_some()
    }
}

impl Published for Option<Outcome> {
    fn published(&self) -> bool {
        self.as_ref().is_some_and(Published::published)
    }
}

pub(super) fn holds(condition: Condition, version: Option<Version>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => version.is_none(),
        Condition::Present => version.is_some(),
        Condition::Version(expected) => version == Some(expected),
    }
}
