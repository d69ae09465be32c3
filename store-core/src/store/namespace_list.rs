//! What the namespaces of a store are, and what they hold: for people.

use std::time::Duration;

use super::namespace::name_of;
use super::{ClientCounts, Store};
use crate::arena::quota;
use crate::config::Mode;
use crate::error::Corruption;
use crate::layout::NamespaceState;
use crate::region::Shim;

/// A namespace. The store goes on meanwhile, so sums are near.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// Its number, from 1 on: that of its items.
    pub number: u8,
    /// Whether eviction makes room in it.
    pub mode: Mode,
    /// Bytes that its items may take; `None`: it shares with all others that have no quota.
    pub quota_bytes: Option<u64>,
    /// Bytes of the extents that it has, if it has a quota.
    pub extent_bytes: Option<u64>,
    /// How long items live that are written without a time to live; `None`: for ever.
    pub default_ttl: Option<Duration>,
    /// Items in it. Each kill of a process can leave it off by one.
    pub items: u64,
    /// What its clients counted. Lookups of handles that may write are counted, those of readers are
    /// not.
    pub counts: ClientCounts,
    /// Items that went to make room.
    pub evicted: u64,
    /// Items that were dropped because their time was over.
    pub expired: u64,
    /// It is being removed, or whoever removed it was stopped: remove it again.
    pub leaving: bool,
}

impl<S: Shim> Store<S> {
    /// The namespaces, in the order of their numbers. Looks through the extents once for each that
    /// has a quota.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>, Corruption> {
        let mut found = Vec::new();
        for (number, record) in self.records() {
            let word = record.state();
            if word.state == NamespaceState::Free {
                continue;
            }
            let shift = self.segment.geometry.extent_shift;
            let has_quota = word.quota_extents > 0;
            let extents = match has_quota {
                true => Some(quota::extents_of(&self.segment, number)?),
                false => None,
            };
            let ttl = record.default_ttl_ms.load();
            found.push(NamespaceInfo {
                name: name_of(record),
                number,
                mode: if word.evicts { Mode::Cache } else { Mode::Store },
                quota_bytes: has_quota.then(|| u64::from(word.quota_extents) << shift),
                extent_bytes: extents.map(|extents| u64::from(extents) << shift),
                default_ttl: (ttl > 0).then(|| Duration::from_millis(ttl)),
                items: record.items.load(),
                counts: ClientCounts::of_cells(record.told()),
                evicted: record.evicted.load(),
                expired: record.expired.load(),
                leaving: word.state == NamespaceState::Leaving,
            });
        }
        Ok(found)
    }
}
