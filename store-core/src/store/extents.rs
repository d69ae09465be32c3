//! The extents one by one: what each is for, and how much of it lives.

use std::fmt;

use super::Store;
use crate::error::Corruption;
use crate::layout::{ClientWord, ExtentState, ExtentWord};
use crate::region::Shim;
use crate::sync::Owner;

/// What an extent is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtentUse {
    /// It holds nothing, and whoever needs it takes it.
    Free,
    /// It holds nothing and has no memory: never yet, or not since it was trimmed.
    NoMemory,
    /// A client prepares it.
    Claimed,
    /// It takes items.
    Open,
    /// It takes no more items.
    Sealed,
    /// It takes the items that cleaning moves.
    Relocation,
    /// It holds nothing, and is free when nobody reads it in place any more.
    Pinned,
    /// Buckets of the index.
    Buckets,
    /// Overflow lines of the index.
    OverflowLines,
    /// A state that this version does not know.
    Unknown,
}

impl ExtentUse {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Sealed,
        Self::Relocation,
        Self::Buckets,
        Self::OverflowLines,
        Self::Claimed,
        Self::Pinned,
        Self::Free,
        Self::NoMemory,
        Self::Unknown,
    ];

    /// Whether it holds nothing that lives and nothing of the index.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Free | Self::NoMemory | Self::Claimed | Self::Pinned)
    }
}

impl fmt::Display for ExtentUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Free => "free",
            Self::NoMemory => "no memory",
            Self::Claimed => "claimed",
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Relocation => "relocation",
            Self::Pinned => "pinned",
            Self::Buckets => "buckets",
            Self::OverflowLines => "overflow lines",
            Self::Unknown => "unknown",
        })
    }
}

/// One extent, as it was when it was looked at. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtentInfo {
    /// Which: they lie in the arena in the order of their numbers.
    pub number: u32,
    /// What it is used for.
    pub state: ExtentUse,
    /// Bytes of items that can be read, or may still be published. Of the index: all of it.
    pub live_bytes: u64,
    /// Bytes that were given out, dead ones included; the rest takes items if it is open.
    pub used_bytes: u64,
    /// The entry of the client whose it is, if it is somebody's.
    pub client: Option<u32>,
    /// The process id in that entry; 0 if the entry has another client by now.
    pub pid: u32,
    /// A crash may have left `live_bytes` too high.
    pub suspect: bool,
}

impl<S: Shim> Store<S> {
    /// The extents in the order of their numbers. One line of memory is read for each; the store
    /// goes on meanwhile, so they are not of one moment.
    ///
    /// # Errors
    /// `Corruption` where the table is out of bounds.
    pub fn extents(&self) -> Result<Vec<ExtentInfo>, Corruption> {
        (0..self.segment.geometry.extents).map(|extent| self.extent_info(extent)).collect()
    }

    fn extent_info(&self, number: u32) -> Result<ExtentInfo, Corruption> {
        let extent_bytes = self.segment.geometry.extent_bytes();
        let word = self.segment.extent_word(number)?;
        let (state, live, used) = match word.state {
            ExtentState::Free if self.segment.generation(number)?.load() == 0 => {
                (ExtentUse::NoMemory, 0, 0)
            }
            ExtentState::Free => (ExtentUse::Free, 0, 0),
            ExtentState::Claimed => (ExtentUse::Claimed, 0, 0),
            ExtentState::Pinned => (ExtentUse::Pinned, 0, 0),
            ExtentState::Open => (ExtentUse::Open, bytes(word.live), bytes(word.used)),
            ExtentState::Relocation => (ExtentUse::Relocation, bytes(word.live), bytes(word.used)),
            ExtentState::Sealed => (ExtentUse::Sealed, bytes(word.live), extent_bytes),
            ExtentState::Buckets => (ExtentUse::Buckets, extent_bytes, extent_bytes),
            ExtentState::Overflow => (ExtentUse::OverflowLines, extent_bytes, extent_bytes),
            ExtentState::Unknown => (ExtentUse::Unknown, 0, extent_bytes),
        };
        let (client, pid) = match word.owner {
            Some(owner) => (Some(owner.client), self.pid_of_owner(owner)),
            None => (None, 0),
        };
        Ok(ExtentInfo {
            number,
            state,
            // What hostile bytes say may be more than there is.
            live_bytes: live.min(extent_bytes),
            used_bytes: used.min(extent_bytes),
            client,
            pid,
            suspect: word.suspect,
        })
    }

    /// The process id of the client that an extent names.
    fn pid_of_owner(&self, owner: Owner) -> u32 {
        let Ok(entry) = self.segment.client(owner.client) else { return 0 };
        let now = ClientWord::of(entry.word.load());
        let theirs = ExtentWord::kept(Owner::new(owner.client, now.generation)) == owner;
        if theirs { now.pid } else { 0 }
    }
}

fn bytes(units: u32) -> u64 {
    u64::from(units) * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, private_on_heap};

    #[test]
    fn every_extent_is_what_stats_count_it_as() {
        let options =
            CreateOptions::new(160 << 10).max_size(400 << 10).extent_size(4 << 10).items(20);
        let store: Store<Plain> = private_on_heap(&options, 7).expect("a store");
        let session = store.open_session().expect("an entry");
        for key in 0..30_u32 {
            let value = vec![1; if key == 7 { 9000 } else { 400 }];
            let (options, always) = (PutOptions::new(), Condition::Always);
            store.put(&session, &key.to_le_bytes(), &value, &options, always).expect("a put");
        }
        let extents = store.extents().expect("extents");
        let stats = store.stats().expect("stats");
        let count = |state| extents.iter().filter(|extent| extent.state == state).count() as u32;
        assert_eq!(extents.len() as u32, stats.extents);
        assert_eq!(count(ExtentUse::Free), stats.extents_free);
        assert_eq!(count(ExtentUse::NoMemory), stats.extents_uncommissioned);
        assert_eq!(count(ExtentUse::Open), stats.extents_open);
        assert_eq!(count(ExtentUse::Sealed), stats.extents_sealed);
        assert!(count(ExtentUse::NoMemory) > 0 && count(ExtentUse::Sealed) > 0);
        let index = count(ExtentUse::Buckets) + count(ExtentUse::OverflowLines);
        assert_eq!(index, stats.extents_index);
        let of_items = extents.iter().filter(|extent| {
            !matches!(extent.state, ExtentUse::Buckets | ExtentUse::OverflowLines)
        });
        assert_eq!(of_items.map(|extent| extent.live_bytes).sum::<u64>(), stats.live_bytes);
        let owned = extents.iter().find(|extent| extent.client.is_some()).expect("a lease");
        assert_eq!((owned.state, owned.pid), (ExtentUse::Open, std::process::id()));
    }
}
