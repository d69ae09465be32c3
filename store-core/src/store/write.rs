//! Writes. The item is written outside of any guard; under the stripe's guard one store publishes
//! it. A put that returned is there; one that did not is wholly there or wholly absent.

use std::time::Duration;

use super::{Session, Store, Version};
use crate::arena::{NoRoom, Place, reserve, retire, run, usage::Usage};
use crate::error::{Corruption, Fullness, WriteError};
use crate::index::search::{Search, Standing, search};
use crate::index::{CHAIN_LINES_MAX, change, overflow};
use crate::layout::{
    Header, Intent, IntentKind, KEY_BYTES_MAX, LINK_LANE, Segment, Slot, Stripe, TagWord, flags,
};
use crate::recovery::{is_dead, repair_stripe};
use crate::region::{Cell64, Shim, copy_in};
use crate::sync::{Acquired, Guard, Owner, WaitLimit};

/// How often an operation starts anew because the key changed its kind meanwhile.
const ATTEMPTS_MAX: u32 = 100;

/// What a put carries besides key and value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    ttl: Option<Duration>,
}

impl PutOptions {
    /// No time to live.
    pub fn new() -> Self {
        Self::default()
    }

    /// The item is a miss after this time, to within 10 ms. At least one millisecond.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
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

/// What is written as a value.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Counter(i64),
}

/// A stripe's guard, given back when dropped.
pub(super) struct Held<'a, S: Shim> {
    segment: &'a Segment<S>,
    stripe: u32,
    record: &'a Stripe,
    owner: Owner,
}

impl<S: Shim> Drop for Held<'_, S> {
    fn drop(&mut self) {
        Guard::new(&self.record.guard).release::<S>();
    }
}

/// The item that has a key under its guard, and whether it has expired.
#[derive(Clone, Copy)]
struct Present {
    standing: Standing,
    version: Version,
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
        let expiry = self.expiry_of(options.ttl)?;
        let hash = self.segment.hasher.hash(key);
        crate::index::lookup::prefetch_bucket(&self.segment, hash);
        let shape = self.header(key, Value::Bytes(value), expiry)?;
        if let Some(refusal) = self.refused_early(key, hash, condition)? {
            return Ok(refusal);
        }
        let place = self.reserve(session, shape)?;
        let result = self
            .write_item(session, place, shape, key, Value::Bytes(value), expiry)
            .and_then(|()| self.publish_if(session, key, hash, place, condition));
        self.abandon_unless_published(session, place, &result)?;
        result
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
        self.remove(&held, &standing)?;
        Ok(!expired)
    }

    /// Adds `by` to the number under `key`, which is 0 if absent, and gives the sum. A value that
    /// reads as a decimal number becomes a counter; from then on it changes in place.
    ///
    /// # Errors
    /// `NotANumber`, `Overflow`, and those of [`Store::put`].
    pub fn add_to(&self, session: &Session, key: &[u8], by: i128) -> Result<i64, WriteError> {
        let hash = self.segment.hasher.hash(key);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(sum) = self.add_in_place(session, key, hash, by)? {
                return Ok(sum);
            }
            // Absent, expired, or a text: a counter takes its place, with the expiry it has.
            let expiry = self
                .look_up_hashed(key, hash, |item| self.expiry_word(item.item, item.header).ok())?
                .flatten();
            let shape = self.header(key, Value::Counter(0), expiry)?;
            let place = self.reserve(session, shape)?;
            let result = self.publish_counter(session, key, hash, (place, shape), expiry, by);
            self.abandon_unless_published(session, place, &result)?;
            if let Some(sum) = result? {
                return Ok(sum);
            }
        }
        Err(crate::error::ReadError::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// Deletes every key that is there when it begins; how many it deleted. Keys put meanwhile may
    /// stay. Takes one guard after the other, never two.
    ///
    /// # Errors
    /// `Stuck` or `Corruption`; some keys are deleted then.
    pub fn clear(&self, session: &Session) -> Result<u64, WriteError> {
        let mut deleted = 0;
        for bucket in 0..self.segment.index_size().buckets().min(self.segment.geometry.buckets) {
            if !self.bucket_in_use(bucket)? {
                continue;
            }
            let held = self.hold(session, bucket)?;
            while let Some(standing) = self.first_in_bucket(bucket)? {
                self.remove(&held, &standing)?;
                deleted += 1;
            }
            // A crash may have left an empty line at the end of the chain.
            overflow::unlink_vacant_tail(&self.segment, held.record, bucket)?;
        }
        Ok(deleted)
    }

    fn bucket_in_use(&self, bucket: u64) -> Result<bool, Corruption> {
        Ok(!self.segment.line(bucket)?.is_vacant())
    }

    /// The first item in the chain of `bucket`.
    fn first_in_bucket(&self, bucket: u64) -> Result<Option<Standing>, Corruption> {
        for number in crate::index::search::chain(&self.segment, bucket) {
            let number = number?;
            let line = self.segment.line(number)?;
            for lane in 0..=LINK_LANE {
                let slot = line.slot(lane);
                if self.segment.slot_stands(slot) {
                    let at = crate::layout::Where { line: number, lane };
                    let header = self.segment.header(slot.offset())?;
                    return Ok(Some(Standing { at, slot, header }));
                }
            }
        }
        Ok(None)
    }

    /// The header of an item, if this store takes such a one.
    fn header(
        &self,
        key: &[u8],
        value: Value<'_>,
        expiry: Option<u64>,
    ) -> Result<Header, WriteError> {
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
        let empty = Header { value_bytes: 0, key_bytes, namespace: 0, flags };
        let room = self.segment.geometry.item_bytes_max();
        let overhead = empty.shape().bytes;
        if overhead >= room {
            let limit = room.saturating_sub(64) as usize;
            return Err(WriteError::KeyTooLong { len: key.len(), limit });
        }
        let limit = (room - overhead).min(u32::MAX.into());
        match u32::try_from(len) {
            Ok(value_bytes) if len <= limit => Ok(Header { value_bytes, ..empty }),
            _ => Err(WriteError::ValueTooLarge { len, limit }),
        }
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

    /// Room for an item; if there is none, the dead are reaped and some expired items deleted.
    fn reserve(&self, session: &Session, header: Header) -> Result<Place, WriteError> {
        self.assert_usable(session);
        let bytes = header.shape().bytes;
        let mut result = reserve::reserve(&self.segment, &session.lease, bytes);
        if matches!(result, Err(NoRoom::Full))
            && (self.reap_in_need(session)? | self.sweep_in_need(session))
        {
            result = reserve::reserve(&self.segment, &session.lease, bytes);
        }
        result.map_err(|error| match error {
            NoRoom::Grow(source) => WriteError::Grow { source },
            NoRoom::Corruption(error) => error.into(),
            NoRoom::Full => match Usage::of(&self.segment) {
                Ok(usage) => WriteError::Full(Fullness {
                    needed: bytes,
                    live: usage.live_bytes,
                    dead: usage.dead_bytes,
                    free: usage.free_bytes,
                    capacity: usage.capacity_bytes,
                }),
                Err(error) => error.into(),
            },
        })
    }

    fn abandon_unless_published<T: Published>(
        &self,
        session: &Session,
        place: Place,
        result: &Result<T, WriteError>,
    ) -> Result<(), Corruption> {
        // An error after publication can only be `Corruption`: then the item may be reachable,
        // and bytes counted too often are harmless where bytes counted too seldom are not.
        match result {
            Ok(done) if done.published() => Ok(()),
            Err(WriteError::Corruption(_)) => Ok(()),
            _ => retire::abandon(&self.segment, place, session.owner()),
        }
    }

    /// Writes a whole item to a reserved place that nobody else can reach.
    fn write_item(
        &self,
        session: &Session,
        place: Place,
        header: Header,
        key: &[u8],
        value: Value<'_>,
        expiry: Option<u64>,
    ) -> Result<(), WriteError> {
        let region = &self.segment.region;
        let shape = header.shape();
        let [stamp_cell, header_cell] = region.view::<[Cell64; 2]>(place.offset)?;
        stamp_cell.store_unpublished::<S>(self.stamp(session)?);
        header_cell.store_unpublished::<S>(header.word());
        if let Some(expiry) = expiry {
            region.view::<Cell64>(place.offset + shape.expiry)?.store_unpublished::<S>(expiry);
        }
        let key_words = (shape.value - shape.key) / 8;
        copy_in::<S>(key, region.words(place.offset + shape.key, key_words)?);
        let value_words =
            region.words(place.offset + shape.value, (shape.bytes - shape.value) / 8)?;
        let summed = match value {
            Value::Bytes(bytes) => {
                copy_in::<S>(bytes, value_words);
                bytes
            }
            Value::Counter(number) => {
                copy_in::<S>(&number.to_le_bytes(), value_words);
                // It changes in place, so the sum leaves it out.
                &[]
            }
        };
        if header.has(flags::CHECKSUM) {
            let sum = self.segment.checksum(header, expiry, key, summed);
            region.view::<Cell64>(place.offset + shape.checksum)?.store_unpublished::<S>(sum);
        }
        Ok(())
    }

    /// Publishes the item at `place` under `key` if `condition` holds.
    fn publish_if(
        &self,
        session: &Session,
        key: &[u8],
        hash: u64,
        place: Place,
        condition: Condition,
    ) -> Result<Outcome, WriteError> {
        let held = self.hold(session, hash)?;
        let found = search(&self.segment, key, hash)?;
        let present = self.present(&found)?;
        let version = present.map(|present| present.version);
        if !holds(condition, version) {
            return Ok(Outcome::Refused(version));
        }
        self.publish(&held, &found, hash, place)?;
        Ok(if present.is_some() { Outcome::Replaced } else { Outcome::Inserted })
    }

    /// What stands under the key that was searched, if it has not expired.
    fn present(&self, found: &Search) -> Result<Option<Present>, Corruption> {
        let Some(standing) = found.found else { return Ok(None) };
        let item = standing.slot.offset();
        if self.is_expired(item, standing.header)? {
            return Ok(None);
        }
        let stamp = self.segment.stamp(item)?;
        let number = self.number(item, standing.header)?;
        Ok(Some(Present { standing, version: Version { stamp, number } }))
    }

    /// Makes the item at `place` the one of its key: one store of the slot.
    fn publish(
        &self,
        held: &Held<'_, S>,
        found: &Search,
        hash: u64,
        place: Place,
    ) -> Result<(), WriteError> {
        let segment = &self.segment;
        let shift = segment.geometry.slot_hash_shift;
        let new = Slot::of_item(place.offset, place.generation, hash, shift);
        let tag = TagWord::tag_of(hash);
        let items = held.record.items.load();
        match (found.found, found.free) {
            (Some(standing), _) => {
                held.arm_swap(&standing, new);
                change::overwrite(segment, standing.at, new)?;
                self.settle_if_run(held.owner, place)?;
                // Dies before: the old item's extent counts too much; the intent tells.
                retire::retire(segment, standing.slot)?;
            }
            (None, Some(at)) => {
                held.record.arm::<S>(&Intent {
                    kind: IntentKind::Swap,
                    items_before: items,
                    cell: segment.slot_offset(at),
                    old: Slot::EMPTY,
                    new,
                    line: 0,
                });
                change::insert(segment, at, new, tag)?;
                self.settle_if_run(held.owner, place)?;
                held.record.items.store::<S>(items.wrapping_add(1));
            }
            (None, None) => {
                let room = found.lines < CHAIN_LINES_MAX;
                let linked = if room {
                    overflow::link(segment, held.record, found.bucket, found.tail, new, tag)?
                } else {
                    None
                };
                if linked.is_none() {
                    return Err(WriteError::IndexFull {
                        items: self.len(),
                        planned: segment.geometry.planned_items,
                    });
                }
                self.settle_if_run(held.owner, place)?;
                held.record.items.store::<S>(items.wrapping_add(1));
            }
        }
        held.record.disarm::<S>();
        Ok(())
    }

    /// A run that was just published lives on without its writer.
    fn settle_if_run(&self, owner: Owner, place: Place) -> Result<(), Corruption> {
        if place.bytes > self.segment.geometry.extent_bytes()
            && let Some(head) = self.segment.geometry.extent_of(place.offset)
        {
            run::settle(&self.segment, head, Some(owner))?;
        }
        Ok(())
    }

    /// Unpublishes an item and gives its bytes back.
    pub(super) fn remove(&self, held: &Held<'_, S>, standing: &Standing) -> Result<(), Corruption> {
        let segment = &self.segment;
        let items = held.record.items.load();
        held.arm_swap(standing, Slot::EMPTY);
        change::remove(segment, standing.at)?;
        held.record.items.store::<S>(items.saturating_sub(1));
        retire::retire(segment, standing.slot)?;
        held.record.disarm::<S>();
        let bucket = overflow::bucket_of_line(segment, standing.at.line)?;
        if segment.line(bucket)?.slot(LINK_LANE).is_link() {
            overflow::unlink_vacant_tail(segment, held.record, bucket)?;
        }
        Ok(())
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

    /// Puts a counter where nothing, an expired item or a text stands. `None` if that changed
    /// meanwhile, so that place or expiry don't fit any more.
    fn publish_counter(
        &self,
        session: &Session,
        key: &[u8],
        hash: u64,
        (place, header): (Place, Header),
        expiry: Option<u64>,
        by: i128,
    ) -> Result<Option<i64>, WriteError> {
        self.write_item(session, place, header, key, Value::Counter(0), expiry)?;
        let held = self.hold(session, hash)?;
        let found = search(&self.segment, key, hash)?;
        let current = match self.present(&found)? {
            None if expiry.is_none() => 0,
            Some(Present { standing, version: Version { number: None, .. } }) => {
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
        if bytes > 20 {
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

    /// Takes the guard of the stripe of `hash` (or of a bucket), and repairs what a dead holder
    /// left.
    pub(super) fn hold(&self, session: &Session, hash: u64) -> Result<Held<'_, S>, WriteError> {
        self.hold_within(session, hash, session.wait_limit())
    }

    /// [`Store::hold`] with a limit of its own.
    pub(super) fn hold_within(
        &self,
        session: &Session,
        hash: u64,
        limit: WaitLimit,
    ) -> Result<Held<'_, S>, WriteError> {
        self.assert_usable(session);
        let segment = &self.segment;
        let stripe = segment.geometry.stripe_of(hash);
        let record = segment.stripe(stripe)?;
        let acquired = Guard::new(&record.guard)
            .acquire::<S>(session.owner(), limit, |owner| is_dead(segment, owner))
            .map_err(|blocked| WriteError::Stuck {
                pid: self.pid_of(blocked.holder.client),
                waited: blocked.waited,
            })?;
        let held = Held { segment, stripe, record, owner: session.owner() };
        // An intent without a dead holder: somebody met corruption halfway and gave up.
        if acquired == Acquired::TakenOver || record.armed() {
            repair_stripe(held.segment, held.stripe)?;
        }
        Ok(held)
    }
}

/// What a write answered: whether its item can be reached now.
trait Published {
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

impl<S: Shim> Held<'_, S> {
    fn arm_swap(&self, standing: &Standing, new: Slot) {
        let bytes = standing.header.shape().bytes;
        let old_is_run = bytes > self.segment.geometry.extent_bytes();
        self.record.arm::<S>(&Intent {
            kind: IntentKind::Swap,
            items_before: self.record.items.load(),
            cell: self.segment.slot_offset(standing.at),
            old: standing.slot,
            new,
            line: old_is_run.into(),
        });
    }
}

fn holds(condition: Condition, version: Option<Version>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => version.is_none(),
        Condition::Present => version.is_some(),
        Condition::Version(expected) => version == Some(expected),
    }
}

fn added(current: i64, by: i128) -> Result<i64, WriteError> {
    i64::try_from(i128::from(current) + by).map_err(|_| WriteError::Overflow { current, delta: by })
}
