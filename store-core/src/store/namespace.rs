//! Namespaces: making, changing and removing them, and the view of a store that is one of them.
//!
//! Records change under the guard of the first stripe, each by one store of its word at last, so
//! whoever dies on the way leaves the old record or the new one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::tally::Tally;
use super::{Session, Store};
use crate::arena::quota;
use crate::config::Mode;
use crate::error::{Corruption, NamespaceError, WriteError};
use crate::layout::{
    ExtentState, NAMESPACE_NAME_BYTES, NamespaceRecord, NamespaceState, NamespaceWord, Share,
};
use crate::region::Shim;

/// The fewest extents that a quota may be: those that are being filled and emptied at a time.
const QUOTA_EXTENTS_MIN: u32 = 8;
/// Extents that quotas leave to everybody else.
const EXTENTS_LEFT_MIN: u32 = 8;

/// What a namespace is to be. What is not said stays as it is; at first: no quota, no time to live,
/// the mode of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamespaceOptions {
    quota: Option<u64>,
    default_ttl: Option<Duration>,
    mode: Option<Mode>,
}

impl NamespaceOptions {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the arena that its items may take, with what overwritten and deleted ones leave until
    /// it is cleaned; rounded up to whole extents, 8 at least. They are its own: nobody else's items
    /// take them when they are needed, and none of its items goes for somebody else's. 0: no quota,
    /// it shares with all others that have none.
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }

    /// How long its items live that are written without a time to live; zero: for ever. Whole
    /// milliseconds. Items that are there keep theirs.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// [`Mode::Store`] in a store of cache mode: nothing of it is ever evicted, and a put that exceeds
    /// its quota is refused. A store of store mode has no place for [`Mode::Cache`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }
}

impl<S: Shim> Store<S> {
    /// Makes a namespace: keys of their own. As many as the store has records for: 255 from 4 MiB
    /// on. About a microsecond.
    ///
    /// # Errors
    /// `InvalidName`, `Exists`, `TooMany`; for what its options say `InvalidQuota`, `NeedsQuota`,
    /// `NoCacheMode`, `InvalidTtl`; `Stuck`.
    pub fn create_namespace(
        &self,
        session: &Session,
        name: &str,
        options: &NamespaceOptions,
    ) -> Result<(), NamespaceError> {
        let words = name_words(name)?;
        let _held = self.hold_within(session, 0, session.wait_limit())?;
        if self.find_namespace(name).is_some() {
            return Err(NamespaceError::Exists { name: name.to_owned() });
        }
        let free = self.records().find(|(_, record)| !record.is_taken());
        let Some((number, record)) = free else {
            let limit = self.segment.geometry.namespaces - 1;
            return Err(NamespaceError::TooMany { limit });
        };
        let before = NamespaceWord {
            state: NamespaceState::InUse,
            generation: record.state().generation.wrapping_add(1),
            evicts: self.segment.evicts,
            quota_extents: 0,
        };
        let (word, ttl) = self.changed(number, before, 0, options)?;
        for cell in record.counted() {
            cell.store::<S>(0);
        }
        for (cell, word) in record.name.iter().zip(words) {
            cell.store::<S>(word);
        }
        record.default_ttl_ms.store::<S>(ttl);
        self.share_out((number, word.quota_extents));
        // Dies before: the record is free as it was.
        record.word.store::<S>(word.word());
        Ok(())
    }

    /// Changes what its options say of a namespace. What is beyond a smaller quota goes as writes to
    /// it need room.
    ///
    /// # Errors
    /// `NotFound`; those of the options as in [`Store::create_namespace`]; `Stuck`.
    pub fn change_namespace(
        &self,
        session: &Session,
        name: &str,
        options: &NamespaceOptions,
    ) -> Result<(), NamespaceError> {
        let _held = self.hold_within(session, 0, session.wait_limit())?;
        let (number, record) = self.namespace_found(name, NamespaceState::InUse)?;
        let before = (record.state(), record.default_ttl_ms.load());
        let (word, ttl) = self.changed(number, before.0, before.1, options)?;
        record.default_ttl_ms.store::<S>(ttl);
        self.share_out((number, word.quota_extents));
        record.word.store::<S>(word.word());
        Ok(())
    }

    /// Deletes all items of a namespace, and then the namespace; how many items there were. Writes to
    /// it are refused from the moment on that this begins. One that was stopped halfway can be
    /// begun again. Takes one guard of the store after the other.
    ///
    /// # Errors
    /// `NotFound`; `Stuck` or `Corruption`: it is left to be removed again then.
    pub fn remove_namespace(&self, session: &Session, name: &str) -> Result<u64, NamespaceError> {
        let hold = || self.hold_within(session, 0, session.wait_limit());
        let held = hold()?;
        let (number, record) = self
            .namespace_found(name, NamespaceState::InUse)
            .or_else(|_| self.namespace_found(name, NamespaceState::Leaving))?;
        let leaving = NamespaceWord { state: NamespaceState::Leaving, ..record.state() };
        record.word.store::<S>(leaving.word());
        drop(held);
        // Who writes looks at the record under the guard of his stripe, and this passes them all.
        for stripe in 0..self.segment.geometry.stripes {
            drop(self.hold_within(session, stripe.into(), session.wait_limit())?);
        }
        let deleted = self.clear_namespace(session, number, || record.state() == leaving)?;
        let _held = hold()?;
        if record.state() == leaving {
            let free = NamespaceWord {
                state: NamespaceState::Free,
                quota_extents: 0,
                evicts: false,
                ..leaving
            };
            record.word.store::<S>(free.word());
            self.share_out((number, 0));
        }
        Ok(deleted)
    }

    /// The store as the keys of a namespace: every operation on it is on these. Shares the mapping,
    /// and the sessions. When the namespace is removed, reads through it find nothing, and writes
    /// say `NamespaceGone`, whoever has the name by then.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn in_namespace(&self, name: &str) -> Result<Self, NamespaceError> {
        let (number, record) = self.namespace_found(name, NamespaceState::InUse)?;
        let reader_heat = OnceLock::new();
        if let Some(heat) = self.reader_heat.get() {
            let _ = reader_heat.set(Arc::clone(heat));
        }
        Ok(Self {
            segment: self.segment.in_namespace(number, record.state().generation),
            name: self.name.clone(),
            clock_offset_ms: self.clock_offset_ms,
            reader_heat,
            tally: self.is_writable().then(|| Arc::new(Tally::of_namespace(number))),
        })
    }

    /// The group that shares extents with the namespace that is meant.
    #[inline]
    pub(super) fn group(&self) -> u8 {
        self.segment.group_of(self.segment.namespace)
    }

    /// The time to live of what is written without one.
    #[inline]
    pub(super) fn default_ttl(&self) -> Option<Duration> {
        match self.segment.namespace {
            0 => None,
            namespace => {
                let millis = self.segment.namespace_record(namespace)?.default_ttl_ms.load();
                (millis > 0).then(|| Duration::from_millis(millis))
            }
        }
    }

    /// The name of the namespace that is meant, for errors.
    pub(super) fn namespace_name(&self) -> String {
        self.segment.namespace_record(self.segment.namespace).map_or_else(String::new, name_of)
    }

    /// What a put is told that exceeds the quota of its namespace.
    pub(super) fn quota_full(&self, needed: u64) -> Option<WriteError> {
        let group = self.group();
        let needed_extents = needed.div_ceil(self.segment.geometry.extent_bytes()).max(1);
        let left = quota::left(&self.segment, group).ok()??;
        let quota = u64::from(self.segment.quota_of(group)) << self.segment.geometry.extent_shift;
        (u64::from(left) < needed_extents).then(|| WriteError::QuotaFull {
            namespace: self.namespace_name(),
            needed,
            quota,
        })
    }

    /// Adds to the near count of a namespace's items.
    #[inline]
    pub(super) fn count_namespaced(&self, namespace: u8, by: u64) {
        if namespace != 0
            && let Some(record) = self.segment.namespace_record(namespace)
        {
            record.items.fetch_add::<S>(by);
        }
    }

    /// Counts an item whose time was over.
    pub(super) fn count_expired(&self, namespace: u8) {
        self.segment.superblock().expired.fetch_add::<S>(1);
        if namespace != 0
            && let Some(record) = self.segment.namespace_record(namespace)
        {
            record.expired.fetch_add::<S>(1);
        }
    }

    /// Every record but that of the keys without a namespace.
    pub(super) fn records(&self) -> impl Iterator<Item = (u8, &NamespaceRecord)> {
        let numbers = 1..self.segment.geometry.namespaces.min(256);
        numbers
            .filter_map(|number| Some((number as u8, self.segment.namespace_record(number as u8)?)))
    }

    fn find_namespace(&self, name: &str) -> Option<(u8, &NamespaceRecord)> {
        self.records().find(|(_, record)| record.is_taken() && name_of(record) == name)
    }

    fn namespace_found(
        &self,
        name: &str,
        state: NamespaceState,
    ) -> Result<(u8, &NamespaceRecord), NamespaceError> {
        self.find_namespace(name).filter(|(_, record)| record.state().state == state).ok_or_else(
            || NamespaceError::NotFound {
                name: name.to_owned(),
                known: self
                    .records()
                    .filter(|(_, record)| record.state().state == NamespaceState::InUse)
                    .map(|(_, record)| name_of(record))
                    .collect(),
            },
        )
    }

    /// A record's word and time to live, changed by options.
    fn changed(
        &self,
        number: u8,
        before: NamespaceWord,
        ttl_before: u64,
        options: &NamespaceOptions,
    ) -> Result<(NamespaceWord, u64), NamespaceError> {
        let evicts = match options.mode {
            None => before.evicts,
            Some(Mode::Store) => false,
            Some(Mode::Cache) if self.segment.evicts => true,
            Some(Mode::Cache) => return Err(NamespaceError::NoCacheMode),
        };
        let quota_extents = match options.quota {
            None => before.quota_extents,
            Some(bytes) => self.quota_extents(number, bytes)?,
        };
        if self.segment.evicts && !evicts && quota_extents == 0 {
            return Err(NamespaceError::NeedsQuota);
        }
        let ttl = match options.default_ttl {
            None => ttl_before,
            Some(Duration::ZERO) => 0,
            Some(ttl) => {
                self.expiry_after(Some(ttl))?;
                ttl.as_millis() as u64
            }
        };
        Ok((NamespaceWord { evicts, quota_extents, ..before }, ttl))
    }

    /// A quota in extents, if there is as much that no other one has.
    fn quota_extents(&self, number: u8, bytes: u64) -> Result<u32, NamespaceError> {
        if bytes == 0 {
            return Ok(0);
        }
        let geometry = &self.segment.geometry;
        let others: u64 = self
            .records()
            .filter(|(other, record)| *other != number && record.is_taken())
            .map(|(_, record)| u64::from(record.state().quota_extents))
            .sum();
        let index = self.index_extents()?;
        let kept = others + index + u64::from(EXTENTS_LEFT_MIN + self.segment.kept_extents());
        let most = u64::from(geometry.extents).saturating_sub(kept);
        let extents = bytes.div_ceil(geometry.extent_bytes()).max(QUOTA_EXTENTS_MIN.into());
        if extents > most {
            return Err(NamespaceError::InvalidQuota {
                given: bytes,
                most: if most < QUOTA_EXTENTS_MIN.into() {
                    0
                } else {
                    most << geometry.extent_shift
                },
                of: others << geometry.extent_shift,
            });
        }
        Ok(extents as u32)
    }

    fn index_extents(&self) -> Result<u64, Corruption> {
        let mut index = 0;
        for extent in 0..self.segment.geometry.extents {
            let state = self.segment.extent_word(extent)?.state;
            index += u64::from(matches!(state, ExtentState::Buckets | ExtentState::Overflow));
        }
        Ok(index)
    }

    /// Gives each namespace with a quota its part of heat and ghost, one after the other behind that
    /// of all others. What is marked and remembered for those whose part moves is lost.
    fn share_out(&self, (changed, quota): (u8, u32)) {
        let extents = u64::from(self.segment.geometry.extents);
        let quota_of = |number: u8, record: &NamespaceRecord| {
            let word = record.state();
            match word.state {
                _ if number == changed => quota,
                NamespaceState::Free => 0,
                _ => word.quota_extents,
            }
        };
        let parts = |quota: u32| Share::PARTS * u64::from(quota) / extents;
        let taken: u64 = self.records().map(|(number, r)| parts(quota_of(number, r))).sum();
        let mut next = Share::PARTS.saturating_sub(taken).max(1);
        if let Some(record) = self.segment.namespace_record(0) {
            let share = if taken == 0 { Share::ALL } else { Share::new(0, next) };
            record.share.store::<S>(share.0);
        }
        for (number, record) in self.records() {
            let own = parts(quota_of(number, record));
            let share = if own == 0 { Share::ALL } else { Share::new(next, own) };
            if record.share.load() != share.0 {
                record.share.store::<S>(share.0);
            }
            next += own;
        }
    }
}

/// The name in a record.
pub(super) fn name_of(record: &NamespaceRecord) -> String {
    let bytes: Vec<u8> = record.name.iter().flat_map(|word| word.load().to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// The words of a name.
pub(super) fn name_words(name: &str) -> Result<[u64; NAMESPACE_NAME_BYTES / 8], NamespaceError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if name.is_empty() || name.len() > NAMESPACE_NAME_BYTES || !name.bytes().all(known) {
        let limit = NAMESPACE_NAME_BYTES;
        return Err(NamespaceError::InvalidName { name: name.to_owned(), limit });
    }
    let mut bytes = [0; NAMESPACE_NAME_BYTES];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let mut words = [0; NAMESPACE_NAME_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Ok(words)
}
