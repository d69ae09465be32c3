//! Lookups: no system call, no lock, nothing written.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{Ordering, fence};

use super::{Store, Ttl, Values};
use crate::arena::pieces::Pieces;
use crate::error::{Corruption, ReadError};
use crate::index::lookup::{self, Located, Spot, prefetch_item, prefetch_line};
use crate::layout::{Header, flags};
use crate::region::{Cell64, Shim, append_out, copy_out};

/// Keys whose lookups are overlapped: enough to keep a core's line fill buffers busy.
pub(super) const BATCH: usize = 32;
/// Lines of an item that a batch prefetches. Longer values are read by the hardware's own
/// prefetcher, which follows the first ones.
const PREFETCH_LINES: u64 = 3;

/// What names the state of a key: the stamp of its item and, for a counter, its number. Another
/// put, however alike its value, gives another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    pub(super) stamp: u64,
    pub(super) number: Option<i64>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => write!(f, "{}", self.stamp),
            Some(number) => write!(f, "{}:{number}", self.stamp),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is no version: a number, or NUMBER:NUMBER for a counter");
        let (stamp, number) = match text.split_once(':') {
            None => (text, None),
            Some((stamp, number)) => (stamp, Some(number.parse().map_err(wrong)?)),
        };
        Ok(Self { stamp: stamp.parse().map_err(wrong)?, number })
    }
}

/// A value with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value's bytes.
    pub value: Vec<u8>,
    /// What `compare_and_swap` compares.
    pub version: Version,
    /// How long it still lives.
    pub ttl: Ttl,
}

/// Text of a counter, on the stack.
struct Decimal {
    bytes: [u8; 20],
    len: usize,
}

impl Decimal {
    fn of(number: i64) -> Self {
        let mut bytes = [0; 20];
        let mut rest = &mut bytes[..];
        // 20 bytes hold every i64 with its sign.
        let _ = write!(rest, "{number}");
        let len = 20 - rest.len();
        Self { bytes, len }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

thread_local! {
    /// Where values are copied for closures; taken out while a closure runs, so that it may look
    /// up keys itself.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the values of a batch go.
trait NextValue {
    /// What the value of the next key is appended to.
    fn next_value(&mut self) -> &mut Vec<u8>;
}

impl NextValue for Values {
    #[inline(always)]
    fn next_value(&mut self) -> &mut Vec<u8> {
        self.end()
    }
}

/// Has one value at a time.
struct Scratch<'a>(&'a mut Vec<u8>);

impl NextValue for Scratch<'_> {
    #[inline(always)]
    fn next_value(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0
    }
}

/// The length that a value has and a buffer lacks.
struct TooSmall(usize);

impl<S: Shim> Store<S> {
    /// The value of `key`, copied into new memory.
    ///
    /// # Errors
    /// `Contended` or `Corruption`, never because the key is absent.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut value = Vec::new();
        let found = self.fetch(key, self.segment.hasher.hash(key), &mut value)?;
        Ok(found.then_some(value))
    }

    /// Appends the value of `key` to `to`, and marks a hit; whether there is one.
    #[inline(always)]
    fn fetch(&self, key: &[u8], hash: u64, to: &mut Vec<u8>) -> Result<bool, ReadError> {
        self.fetch_at(lookup::spot(&self.segment, hash), key, hash, to)
    }

    /// [`Store::fetch`] of a key whose slot was spotted.
    #[inline(always)]
    fn fetch_at(
        &self,
        spot: Spot<'_>,
        key: &[u8],
        hash: u64,
        to: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let found = self.copy_at(spot, key, hash, to)?;
        if found {
            self.mark(hash);
        }
        Ok(found)
    }

    #[inline(always)]
    fn copy_at(
        &self,
        spot: Spot<'_>,
        key: &[u8],
        hash: u64,
        to: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let start = to.len();
        let hit = match spot {
            Spot::Missing => return Ok(false),
            Spot::Unclear => None,
            Spot::Slot(cell, slot) => lookup::inspect(&self.segment, (cell, slot), key),
        };
        if let Some(hit) = hit
            // A length is believed before memory is allocated for it, not after.
            && (hit.value_bytes <= to.capacity() - start || hit.stands::<S>())
        {
            append_out(hit.value, hit.value_bytes, to);
            if hit.stands::<S>() {
                return Ok(true);
            }
        }
        to.truncate(start);
        self.fetch_anyhow(key, hash, to)
    }

    /// [`Store::fetch`] where a glance did not tell.
    #[cold]
    #[inline(never)]
    fn fetch_anyhow(&self, key: &[u8], hash: u64, to: &mut Vec<u8>) -> Result<bool, ReadError> {
        let start = to.len();
        let found = self.look_up_hashed(key, hash, |item| {
            to.truncate(start);
            self.append_value(item, to)
        });
        if !matches!(found, Ok(Some(()))) {
            to.truncate(start);
        }
        Ok(found?.is_some())
    }

    /// Copies the value of `key` into `buffer` and gives its length. Allocates nothing.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length that is needed; `Contended`; `Corruption`.
    #[inline]
    pub fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let hash = self.segment.hasher.hash(key);
        let found = self.copy_into(key, hash, buffer)?;
        if found.is_some() {
            self.mark(hash);
        }
        Ok(found)
    }

    #[inline(always)]
    fn copy_into(
        &self,
        key: &[u8],
        hash: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, ReadError> {
        match lookup::spot(&self.segment, hash) {
            Spot::Missing => return Ok(None),
            Spot::Slot(cell, slot) => {
                if let Some(hit) = lookup::inspect(&self.segment, (cell, slot), key)
                    && let Some(to) = buffer.get_mut(..hit.value_bytes)
                {
                    copy_out(hit.value, to);
                    if hit.stands::<S>() {
                        return Ok(Some(hit.value_bytes));
                    }
                }
            }
            Spot::Unclear => {}
        }
        self.get_into_anyhow(key, hash, buffer)
    }

    /// [`Store::get_into`] where a glance did not tell.
    #[cold]
    #[inline(never)]
    fn get_into_anyhow(
        &self,
        key: &[u8],
        hash: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, ReadError> {
        let given = buffer.len();
        match self.look_up_hashed(key, hash, |item| self.copy_value(item, buffer))? {
            None => Ok(None),
            Some(Ok(len)) => Ok(Some(len)),
            Some(Err(TooSmall(needed))) => Err(ReadError::BufferTooSmall { needed, given }),
        }
    }

    /// Calls `f` with a private copy of the value. No allocation once a thread has seen its
    /// largest value.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn get_with<R>(
        &self,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, ReadError> {
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let found = self.fetch(key, self.segment.hasher.hash(key), &mut scratch);
        let answer = found.map(|found| found.then(|| f(&scratch)));
        SCRATCH.replace(scratch);
        answer
    }

    /// The value of `key` with its version and time to live.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        let hash = self.segment.hasher.hash(key);
        let found = self.look_up_hashed(key, hash, |item| {
            let (value, version) = self.versioned_value(item)?;
            let ttl = self.ttl_left(self.expiry_word(item.item, item.header).ok()?);
            Some(Entry { value, version, ttl })
        })?;
        if found.is_some() {
            self.mark(hash);
        }
        Ok(found)
    }

    /// The value and the version of an item that was located, of the same moment.
    pub(super) fn versioned_value(&self, item: &Located<'_>) -> Option<(Vec<u8>, Version)> {
        let mut value = Vec::new();
        let version = self.version(item)?;
        match version.number {
            // The number is read once, and stands in both.
            Some(number) => value.extend_from_slice(Decimal::of(number).text()),
            None => self.append_value(item, &mut value)?,
        }
        Some((value, version))
    }

    /// The version of an item that was located.
    pub(super) fn version(&self, item: &Located<'_>) -> Option<Version> {
        let number = self.number(item.item, item.header).ok()?;
        Some(Version { stamp: item.stamp(), number })
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        Ok(self.look_up(key, |_| Some(()))?.is_some())
    }

    /// How long `key` still lives.
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn ttl(&self, key: &[u8]) -> Result<Option<Ttl>, ReadError> {
        self.look_up(key, |item| {
            Some(self.ttl_left(self.expiry_word(item.item, item.header).ok()?))
        })
    }

    /// Looks many keys up at once and calls `f` with the number of each and a private copy of its
    /// value. The cache misses of a batch overlap, which makes a key several times as cheap as a
    /// lookup of its own.
    ///
    /// # Errors
    /// `Contended` or `Corruption`; `f` may have been called for some of the keys then.
    pub fn get_many_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), ReadError> {
        let mut scratch = SCRATCH.take();
        let (mut number, mut values) = (0, Scratch(&mut scratch));
        let outcome = self.get_each(keys, &mut values, |Scratch(scratch), found| {
            f(number, found.then_some(scratch));
            number += 1;
        });
        SCRATCH.replace(scratch);
        outcome
    }

    /// Replaces `values` by copies of the values of many keys, in the order of the keys. Allocates
    /// nothing once `values` has held as much. See [`Store::get_many_with`].
    ///
    /// # Errors
    /// `Contended` or `Corruption`; `values` then has those of the first keys.
    pub fn get_many_into<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        values: &mut Values,
    ) -> Result<(), ReadError> {
        values.clear();
        values.reserve(keys.len());
        self.get_each(keys, values, Values::note)
    }

    /// Three passes over each batch: all buckets are asked for, then all items, then each key is
    /// finished. Of the few whose bucket has more than one line the second one is asked for, too, and what it
    /// leads to: [`lookup`] finds all of it there.
    #[inline(always)]
    fn get_each<K: AsRef<[u8]>, V: NextValue>(
        &self,
        keys: &[K],
        values: &mut V,
        mut note: impl FnMut(&mut V, bool),
    ) -> Result<(), ReadError> {
        let share = self.segment.share_of(self.group());
        let mut hashes = [0; BATCH];
        let mut lines = [None; BATCH];
        let mut spots = [Spot::Unclear; BATCH];
        for keys in keys.chunks(BATCH) {
            let size = self.segment.index_size();
            // Pairs with the Release store that publishes a new size.
            fence(Ordering::Acquire);
            for ((key, hash), line) in keys.iter().zip(&mut hashes).zip(&mut lines) {
                *hash = self.segment.hasher.hash(key.as_ref());
                *line = lookup::bucket(&self.segment, size, *hash);
                if let Some(line) = line {
                    prefetch_line(line);
                }
            }
            let ask_for = |slot, hash| {
                prefetch_item(&self.segment, slot, PREFETCH_LINES);
                self.segment.heat.prefetch(&self.segment.region, share, hash);
            };
            let (mut linked, mut linked_count) = ([0; BATCH], 0);
            let batch = spots.iter_mut().zip(&mut lines).zip(&hashes).take(keys.len());
            for (number, ((spot, line), hash)) in batch.enumerate() {
                let Some(first) = *line else {
                    *spot = Spot::Unclear;
                    continue;
                };
                *spot = lookup::spot_in(&self.segment, size, first, *hash);
                match *spot {
                    Spot::Slot(_, slot) => ask_for(slot, *hash),
                    Spot::Missing => {}
                    Spot::Unclear => {
                        *line = lookup::linked(&self.segment, first);
                        line.inspect(|line| prefetch_line(line));
                        linked[linked_count] = number;
                        linked_count += 1;
                    }
                }
            }
            // What stands there is no answer: the line may be another bucket's by the time it counts.
            for number in &linked[..linked_count] {
                let hash = hashes[*number];
                if let Some(line) = lines[*number]
                    && let Spot::Slot(_, slot) = lookup::spot_in(&self.segment, size, line, hash)
                {
                    ask_for(slot, hash);
                }
            }
            for ((key, hash), spot) in keys.iter().zip(&hashes).zip(&spots) {
                let found = self.fetch_at(*spot, key.as_ref(), *hash, values.next_value())?;
                note(values, found);
            }
        }
        Ok(())
    }

    /// The values of many keys, in the order of the keys. See [`Store::get_many_with`].
    ///
    /// # Errors
    /// `Contended` or `Corruption`.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let mut values = Vec::with_capacity(keys.len());
        self.get_many_with(keys, |_, value| values.push(value.map(<[u8]>::to_vec)))?;
        Ok(values)
    }

    /// A lookup that treats an expired item as absent.
    #[inline(always)]
    pub(super) fn look_up<'a, R>(
        &'a self,
        key: &[u8],
        take: impl FnMut(&Located<'a>) -> Option<R>,
    ) -> Result<Option<R>, ReadError> {
        self.look_up_hashed(key, self.segment.hasher.hash(key), take)
    }

    #[inline(always)]
    pub(super) fn look_up_hashed<'a, R>(
        &'a self,
        key: &[u8],
        hash: u64,
        mut take: impl FnMut(&Located<'a>) -> Option<R>,
    ) -> Result<Option<R>, ReadError> {
        let found = lookup::lookup(&self.segment, key, hash, |item| {
            if item.special && self.is_expired(item.item, item.header).ok()? {
                return Some(None);
            }
            take(item).map(Some)
        })?;
        Ok(found.flatten())
    }

    /// The words of a value, bounds checked.
    #[inline(always)]
    fn value_words(&self, item: &Located<'_>) -> Option<&[Cell64]> {
        let words = u64::from(item.header.value_bytes).div_ceil(8);
        self.segment.region.words(item.value_at, words).ok()
    }

    /// The number of a counter; `None` for any other value. One load.
    #[inline(always)]
    pub(super) fn number(&self, item: u64, header: Header) -> Result<Option<i64>, Corruption> {
        if !header.has(flags::COUNTER) {
            return Ok(None);
        }
        let cell = self.segment.region.view::<Cell64>(item + header.shape().value)?;
        Ok(Some(cell.load() as i64))
    }

    #[inline(always)]
    fn append_value(&self, item: &Located<'_>, to: &mut Vec<u8>) -> Option<()> {
        if item.special {
            if let Some(number) = self.number(item.item, item.header).ok()? {
                to.extend_from_slice(Decimal::of(number).text());
                return Some(());
            }
            if item.header.has(flags::LARGE) {
                return self.append_pieces(item, to);
            }
        }
        let words = self.value_words(item)?;
        let bytes = item.header.value_bytes as usize;
        // A length is believed before memory is allocated for it, not after.
        if bytes > to.capacity() - to.len() && !item.stands::<S>() {
            return None;
        }
        append_out(words, bytes, to);
        Some(())
    }

    /// The pieces of a large item that was located, if its list makes sense.
    fn pieces(&self, item: &Located<'_>) -> Option<Pieces<'_>> {
        Pieces::of(&self.segment, item.item, item.header).ok()?
    }

    #[cold]
    fn append_pieces(&self, item: &Located<'_>, to: &mut Vec<u8>) -> Option<()> {
        let pieces = self.pieces(item)?;
        // A length is believed before memory is allocated for it, not after.
        let bytes = pieces.large.len as usize;
        if bytes > to.capacity() - to.len() && !item.stands::<S>() {
            return None;
        }
        to.reserve(bytes);
        pieces.read_all(
            &self.segment,
            || item.is_published(),
            |words, bytes| {
                append_out(words, bytes, to);
            },
        )
    }

    #[cold]
    fn copy_pieces(&self, item: &Located<'_>, to: &mut [u8]) -> Option<Result<usize, TooSmall>> {
        let pieces = self.pieces(item)?;
        let needed = pieces.large.len as usize;
        let Some(to) = to.get_mut(..needed) else { return Some(Err(TooSmall(needed))) };
        let mut rest = to;
        pieces.read_all(
            &self.segment,
            || item.is_published(),
            |words, bytes| {
                let (piece, behind) = std::mem::take(&mut rest).split_at_mut(bytes);
                copy_out(words, piece);
                rest = behind;
            },
        )?;
        Some(Ok(needed))
    }

    #[inline(always)]
    fn copy_value(&self, item: &Located<'_>, to: &mut [u8]) -> Option<Result<usize, TooSmall>> {
        if item.special {
            if let Some(number) = self.number(item.item, item.header).ok()? {
                let decimal = Decimal::of(number);
                let needed = decimal.text().len();
                let Some(to) = to.get_mut(..needed) else { return Some(Err(TooSmall(needed))) };
                to.copy_from_slice(decimal.text());
                return Some(Ok(needed));
            }
            if item.header.has(flags::LARGE) {
                return self.copy_pieces(item, to);
            }
        }
        let words = self.value_words(item)?;
        let needed = item.header.value_bytes as usize;
        let Some(to) = to.get_mut(..needed) else { return Some(Err(TooSmall(needed))) };
        copy_out(words, to);
        Some(Ok(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_text() {
        for number in [0, -1, 7, i64::MIN, i64::MAX] {
            assert_eq!(Decimal::of(number).text(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn versions_survive_the_round_trip() {
        for version in
            [Version { stamp: 7, number: None }, Version { stamp: u64::MAX, number: Some(-3) }]
        {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert!("".parse::<Version>().is_err() && "1:".parse::<Version>().is_err());
    }
}
