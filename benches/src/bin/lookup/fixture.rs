//! The same items in a store and in a map, and the keys that a round asks for.

use std::str;

use anyhow::{Context, Result, ensure};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rand::RngExt;
use rand::rngs::SmallRng;

use store_benches::records::{Key, Stamp, fill, key_of};
use store_benches::scratch::{Backing, Scratch, StoreArgs};
use store_client::{CreateOptions, GuardKind, Reader, Writer};

pub(crate) const VALUE_BYTES: usize = 100;

pub(crate) type Peer = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

fn value_of(key: &Key, index: u32, value: &mut Vec<u8>) {
    fill(value, key, Stamp { writer: 0, seq: index }, VALUE_BYTES);
}

/// What one round looks up, laid out in the order it is asked for, so that both sides read their
/// keys from a stream and neither pays for finding them.
pub(crate) struct Probes {
    pub(crate) present: Vec<Key>,
    pub(crate) absent: Vec<Key>,
}

impl Probes {
    pub(crate) fn draw(fixture: &Fixture, lookups: usize, rng: &mut SmallRng) -> Self {
        let items = fixture.items;
        let indexes: Vec<u32> = (0..lookups).map(|_| rng.random_range(0..items)).collect();
        Self {
            present: indexes.iter().map(|&index| key_of(index)).collect(),
            // Mixing is one to one, so what lies behind the last item was never put.
            absent: indexes.iter().map(|&index| key_of(items + index)).collect(),
        }
    }
}

/// Both sides, loaded with the same items in the same order.
pub(crate) struct Fixture {
    pub(crate) items: u32,
    pub(crate) reader: Reader,
    pub(crate) peer: Peer,
    _scratch: Scratch,
}

impl Fixture {
    pub(crate) fn build(items: u32) -> Result<Self> {
        let size = 64 * 1024 * 1024 + u64::from(items) * 320;
        let options = CreateOptions::new(size).items(u64::from(items));
        let args = StoreArgs { backing: Backing::Posix, guard: GuardKind::Futex };
        let (scratch, writer) = Scratch::create("lookup", args, options)?;
        load_store(writer, items)?;
        let spec = scratch.spec().context("a store to attach")?;
        let reader = Reader::attach(spec).context("attaching to read")?;
        Ok(Self { items, reader, peer: load_peer(items), _scratch: scratch })
    }

    pub(crate) fn huge_page_bytes(&self) -> Result<u64> {
        Ok(self.reader.info()?.huge_page_bytes)
    }

    /// Every item byte for byte on both sides, and nothing beside them.
    pub(crate) fn verify_all(&self) -> Result<()> {
        let (mut buf, mut expected) = ([0_u8; VALUE_BYTES], Vec::new());
        for index in 0..self.items {
            let key = key_of(index);
            value_of(&key, index, &mut expected);
            let found = self.reader.get_into(&key, &mut buf)?.map(|len| &buf[..len]);
            let text = || str::from_utf8(&key).unwrap_or_default();
            ensure!(found == Some(&*expected), "the store has another value for {}", text());
            let found = self.peer.get(key.as_slice()).map(|value| &**value);
            ensure!(found == Some(&*expected), "the map has another value for {}", text());
        }
        let (ours, theirs) = (self.reader.len(), self.peer.len() as u64);
        ensure!(ours == u64::from(self.items), "the store says it has {ours} items");
        ensure!(theirs == u64::from(self.items), "the map says it has {theirs} items");
        Ok(())
    }
}

/// Takes the writer with it: from there on the process has only a mapping that can't be written.
fn load_store(writer: Writer, items: u32) -> Result<()> {
    let mut value = Vec::new();
    for index in 0..items {
        let key = key_of(index);
        value_of(&key, index, &mut value);
        writer.put(&key, &value).with_context(|| format!("putting item {index} of {items}"))?;
    }
    Ok(())
}

fn load_peer(items: u32) -> Peer {
    let mut peer = Peer::with_capacity_and_hasher(items as usize, RandomState::default());
    let mut value = Vec::new();
    for index in 0..items {
        let key = key_of(index);
        value_of(&key, index, &mut value);
        peer.insert(Box::from(key.as_slice()), Box::from(value.as_slice()));
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::{VALUE_BYTES, key_of, load_peer};

    #[test]
    fn the_map_holds_what_was_put() {
        let peer = load_peer(1000);
        assert_eq!(peer.len(), 1000);
        assert_eq!(peer[key_of(999).as_slice()].len(), VALUE_BYTES);
        assert!(!peer.contains_key(key_of(1000).as_slice()));
    }
}
