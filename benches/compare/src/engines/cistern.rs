//! This store.

use std::str::FromStr;

use anyhow::{Context, Result};

use store_client::{CreateOptions, HugePages, Reader, Spec, Values, Writer, create, destroy};

use crate::engine::{Engine, Figures, Memory, Room, Setting};
use crate::workload::{Key, fill_value, key_of};

/// What a store that grows has at first.
const FIRST_BYTES: u64 = 16 << 20;
/// Of a store with more items, the size is found by one with so many.
const SIZED_ITEMS: u64 = 500_000;

pub(crate) struct Cistern {
    /// Gets go through a mapping that can't be written, as those of a reading process.
    reader: Reader,
    writer: Writer,
    values: Values,
}

/// What it is found by.
pub(crate) fn spec(setting: &Setting) -> Result<Spec> {
    Ok(Spec::from_str(&format!("posix:{}", setting.name))?)
}

/// Bytes that one item takes of the arena.
fn item_bytes(value_bytes: usize) -> Result<u64> {
    let few = 16;
    let store = Writer::private(&CreateOptions::new(FIRST_BYTES))?;
    let mut value = vec![0; value_bytes];
    for number in 0..few {
        fill_value(&mut value, number, 0);
        store.put(&key_of(number), &value)?;
    }
    Ok(store.stats()?.live_bytes / u64::from(few))
}

fn options(setting: &Setting) -> Result<CreateOptions> {
    let items = u64::from(setting.items);
    match setting.room {
        Room::Bytes(bytes) => Ok(CreateOptions::new(bytes).items(items)),
        Room::Grows(items) => {
            let max = u64::from(items) * (item_bytes(setting.value_bytes)? + 32) * 5 / 4;
            Ok(CreateOptions::new(FIRST_BYTES).max_size(FIRST_BYTES + max))
        }
        Room::Live(percent) => {
            // What the index and the structures take is known when a store was made, and of a large one
            // as many times as much: by a power of two, as that is what a number of buckets is.
            let times = items.div_ceil(SIZED_ITEMS).next_power_of_two();
            let few = items / times;
            let wanted = few * item_bytes(setting.value_bytes)? * 100 / u64::from(percent);
            let mut bytes = wanted + few * 24 + FIRST_BYTES;
            for _ in 0..2 {
                let made = Writer::private(&CreateOptions::new(bytes).items(few))?.stats()?;
                bytes = (bytes + wanted).saturating_sub(made.arena_bytes);
            }
            Ok(CreateOptions::new(bytes * times).items(items))
        }
    }
}

impl Engine for Cistern {
    fn create(setting: &Setting) -> Result<Self> {
        let spec = spec(setting)?;
        let pages = if setting.huge_pages { HugePages::Transparent } else { HugePages::Default };
        let options = options(setting)?.huge_pages(pages);
        let writer = create(&spec, &options).context("creating a store")?;
        Ok(Self { reader: Reader::attach(&spec)?, writer, values: Values::new() })
    }

    fn attach(setting: &Setting) -> Result<Self> {
        let spec = spec(setting)?;
        let (reader, writer) = (Reader::attach(&spec)?, Writer::attach(&spec)?);
        Ok(Self { reader, writer, values: Values::new() })
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        Ok(self.reader.get_into(key, buffer)?)
    }

    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.writer.put(key, value)?;
        Ok(())
    }

    /// They lie one behind the other as those of every side, in memory of its own kind.
    #[inline]
    fn get_many<'a>(&'a mut self, keys: &[Key], _: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        self.reader.get_many_into(keys, &mut self.values)?;
        Ok(Some(self.values.bytes()))
    }

    fn memory(&mut self) -> Result<Memory> {
        let counted = "all memory that the kernel counts for the segment";
        Ok(Memory { bytes: self.reader.info()?.resident_bytes, counted: counted.into() })
    }

    fn figures(&mut self) -> Result<Figures> {
        let stats = self.writer.stats()?;
        Ok(Figures {
            live_bytes: stats.live_bytes,
            index_bytes: stats.index_bytes,
            arena_bytes: stats.arena_bytes,
            reserve_bytes: stats.reserve_bytes,
            buckets: stats.buckets,
            put_bytes: stats.counts.put_bytes,
            moved_bytes: stats.moved_bytes,
            emptied: stats.emptied,
            huge_page_bytes: self.reader.info()?.huge_page_bytes,
            violations: self.reader.check(|_, _| {}).violations_total,
        })
    }
}

/// Removes a store by its name.
pub(crate) fn remove(name: &str) -> Result<()> {
    Ok(destroy(&Spec::from_str(&format!("posix:{name}"))?)?)
}
