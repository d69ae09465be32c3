//! The engines, one in each file.

#[cfg(boost)]
mod boost;
mod cistern;
mod dashmap;
mod hashbrown;
mod iceoryx2;
mod lmdb;
mod memcached;
mod moka;
mod papaya;
mod quick_cache;
mod redb;
mod redis;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use store_benches::servers::{MEMCACHED, REDIS};
use store_benches::worker::Parent;

use crate::engine::Setting;
use crate::side;

pub(crate) use cistern::{Cistern, remove as remove_store, spec as spec_of};
pub(crate) use iceoryx2::ITEMS_MAX as ICEORYX2_ITEMS_MAX;

/// Which engine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Cistern,
    #[value(name = "cistern_huge")]
    CisternHuge,
    Hashbrown,
    Papaya,
    Dashmap,
    Moka,
    #[value(name = "quick_cache")]
    QuickCache,
    Boost,
    Lmdb,
    Redb,
    Iceoryx2,
    Memcached,
    Redis,
}

/// Who can use one engine at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One thread.
    Alone,
    /// The threads of one process.
    Threads,
    /// Processes.
    Processes,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Cistern,
        Self::CisternHuge,
        Self::Hashbrown,
        Self::Papaya,
        Self::Dashmap,
        Self::Moka,
        Self::QuickCache,
        Self::Boost,
        Self::Lmdb,
        Self::Redb,
        Self::Iceoryx2,
        Self::Memcached,
        Self::Redis,
    ];

    /// As reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cistern => "Cistern",
            Self::CisternHuge => "Cistern, 2 MiB pages",
            Self::Hashbrown => "hashbrown",
            Self::Papaya => "papaya",
            Self::Dashmap => "dashmap",
            Self::Moka => "moka",
            Self::QuickCache => "quick_cache",
            Self::Boost => "Boost.Interprocess",
            Self::Lmdb => "LMDB",
            Self::Redb => "redb",
            Self::Iceoryx2 => "iceoryx2",
            Self::Memcached => "memcached",
            Self::Redis => "Redis",
        }
    }

    /// What of it is measured.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Cistern => {
                "a POSIX segment; `get_into` through a read-only mapping, `put` of a writer; rapidhash v3"
            }
            Self::CisternHuge => "the same with `HugePages::Transparent`",
            Self::Hashbrown => {
                "`HashMap<Box<[u8]>, Box<[u8]>>` of one thread, laid out for its items; foldhash"
            }
            Self::Papaya => "`HashMap<Box<[u8]>, Box<[u8]>>`, a pin for each operation; foldhash",
            Self::Dashmap => "`DashMap<Box<[u8]>, Box<[u8]>>`; foldhash",
            Self::Moka => "`sync::Cache<Box<[u8]>, Arc<[u8]>>` that has room for all; foldhash",
            Self::QuickCache => {
                "`sync::Cache<Box<[u8]>, Arc<[u8]>>` that has room for all; foldhash"
            }
            Self::Boost => {
                "`boost::unordered_map<array<char, 20>, vector<char>>` in a `managed_shared_memory`, \
                 under an `interprocess_sharable_mutex`; a multiplying hash of three words"
            }
            Self::Lmdb => {
                "heed, a file on tmpfs, WRITEMAP and NOSYNC; a transaction for each operation, and one for \
                 each `get_many`; a B+ tree"
            }
            Self::Redb => {
                "a file on tmpfs, Durability::None; a transaction for each operation, and one for each \
                 `get_many`; a B+ tree"
            }
            Self::Iceoryx2 => {
                "a blackboard; a process keeps a handle for each entry in a hashbrown map (foldhash)"
            }
            Self::Memcached => {
                "text protocol over a Unix socket, one thread, one request at a time"
            }
            Self::Redis => "RESP over a Unix socket, no persistence, one request at a time",
        }
    }

    pub(crate) fn reach(self) -> Reach {
        match self {
            // What several processes do with it is measured with the usual pages.
            Self::Hashbrown | Self::CisternHuge => Reach::Alone,
            Self::Papaya | Self::Dashmap | Self::Moka | Self::QuickCache | Self::Redb => {
                Reach::Threads
            }
            // Another process would open all its entries once more, which takes as long as making them.
            Self::Iceoryx2 => Reach::Alone,
            Self::Cistern | Self::Boost | Self::Lmdb | Self::Memcached | Self::Redis => {
                Reach::Processes
            }
        }
    }

    /// Whether it is this store, with whatever pages.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Cistern | Self::CisternHuge)
    }

    /// Why it can't be measured here, if it can't.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::Boost if !cfg!(boost) => Some("no Boost headers when this was built"),
            Self::Memcached if MEMCACHED.find().is_none() => Some("no `memcached` in PATH"),
            Self::Redis if REDIS.find().is_none() => {
                Some("no `redis-server` or `valkey-server` in PATH")
            }
            _ => None,
        }
    }

    /// Does a worker's work with it.
    pub(crate) fn serve(self, setting: &Setting, attach: bool, parent: &mut Parent) -> Result<()> {
        match self {
            Self::Cistern | Self::CisternHuge => side::serve::<Cistern>(setting, attach, parent),
            Self::Hashbrown => side::serve::<hashbrown::Map>(setting, attach, parent),
            Self::Papaya => side::serve::<papaya::Map>(setting, attach, parent),
            Self::Dashmap => side::serve::<dashmap::Map>(setting, attach, parent),
            Self::Moka => side::serve::<moka::Moka>(setting, attach, parent),
            Self::QuickCache => side::serve::<quick_cache::QuickCache>(setting, attach, parent),
            #[cfg(boost)]
            Self::Boost => side::serve::<boost::Boost>(setting, attach, parent),
            #[cfg(not(boost))]
            Self::Boost => anyhow::bail!("built without Boost"),
            Self::Lmdb => side::serve::<lmdb::Lmdb>(setting, attach, parent),
            Self::Redb => side::serve::<redb::Redb>(setting, attach, parent),
            Self::Iceoryx2 => side::serve::<iceoryx2::Blackboard>(setting, attach, parent),
            Self::Memcached => side::serve::<memcached::Client>(setting, attach, parent),
            Self::Redis => side::serve::<redis::Client>(setting, attach, parent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process;

    use store_benches::records::mix;

    use super::{Cistern, dashmap, hashbrown, iceoryx2, lmdb, moka, papaya, quick_cache, redb};
    use crate::engine::{Engine, Room, Setting};
    use crate::workload::{ABSENT, fill_value, key_of, verify};

    const ITEMS: u32 = 500;
    const BYTES: usize = 100;

    /// Puts, overwrites and looks up, by one key and by many.
    fn behaves<E: Engine>(name: &str) {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in shared memory");
        let name = format!("bench-compare-test-{}-{name}", process::id());
        let setting = Setting {
            name: name.clone(),
            folder: folder.path().to_owned(),
            items: ITEMS,
            value_bytes: BYTES,
            room: Room::Live(50),
            huge_pages: false,
        };
        let mut engine = E::create(&setting).expect("an engine");
        engine.load(0..ITEMS, BYTES).expect("room for the items");
        let mut value = vec![0; BYTES];
        for number in (0..ITEMS).filter(|number| number % 3 == 0) {
            fill_value(&mut value, number, 1);
            engine.put(&key_of(number), &value).expect("room for another version");
        }
        let mut buffer = vec![0; BYTES];
        for number in 0..ITEMS {
            let found = engine.get(&key_of(number), &mut buffer).expect("a lookup");
            assert_eq!(found, Some(BYTES), "item {number}");
            verify(number, &buffer, BYTES, 2).expect("what was put");
            assert_eq!(buffer[4], u8::from(number % 3 == 0), "the last version");
        }
        assert_eq!(engine.get(&key_of(ABSENT), &mut buffer).expect("a lookup"), None);
        let numbers: Vec<_> = (0..32).map(|at| mix(at) as u32 % ITEMS).collect();
        let keys: Vec<_> = numbers.iter().copied().map(key_of).collect();
        let mut values = vec![0; 32 * BYTES];
        if let Some(values) = engine.get_many(&keys, &mut values).expect("lookups") {
            assert_eq!(values.len(), 32 * BYTES);
            for (number, value) in numbers.iter().zip(values.chunks(BYTES)) {
                verify(*number, value, BYTES, 2).expect("what was put, in the order of the keys");
            }
        }
        engine.memory().expect("what it takes");
        drop(engine);
        let _ = super::remove_store(&name);
        let left = fs::read_dir("/dev/shm").expect("shared memory").flatten();
        let ours = left.filter(|file| file.file_name().to_string_lossy().starts_with(&name));
        for file in ours {
            fs::remove_file(file.path()).expect("what the engine left");
        }
    }

    #[test]
    fn engines_give_back_what_was_put() {
        behaves::<Cistern>("cistern");
        behaves::<hashbrown::Map>("hashbrown");
        behaves::<papaya::Map>("papaya");
        behaves::<dashmap::Map>("dashmap");
        behaves::<moka::Moka>("moka");
        behaves::<quick_cache::QuickCache>("quick_cache");
        behaves::<lmdb::Lmdb>("lmdb");
        behaves::<redb::Redb>("redb");
        #[cfg(boost)]
        behaves::<super::boost::Boost>("boost");
    }

    #[test]
    fn so_does_a_blackboard() {
        behaves::<iceoryx2::Blackboard>("iceoryx2");
    }
}
