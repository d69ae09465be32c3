//! Cistern's cache mode: a store sized so that it holds no more items than are counted for the others.

use anyhow::{Context, Result};

use store_benches::records::key_of;
use store_benches::scratch::{Scratch, StoreArgs};
use store_client::{CreateOptions, Mode, Reader, Writer};

use crate::subject::{Played, Subject};

/// With a key of 16 bytes and a header of 16, an item is 256 bytes: 16 fill an extent of 4 KiB.
const VALUE: [u8; 224] = [7; 224];
const ITEM_BYTES: u64 = 256;
/// Items from which on extents are larger: fewer of them to look through.
const LARGE: u32 = 40_000;
/// A play with at least this share of the items that are allowed will do.
const SHARE_MIN: f64 = 0.985;
/// What a size that does not fit is changed to give.
const SHARE_AIM: f64 = 0.994;
const PLAYS_MAX: u32 = 6;

/// What a reader's lookups leave behind for the eviction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Marks {
    /// Each hit is marked: readers may write the store.
    Full,
    /// Some hits are: readers may write the heat, and nothing else.
    Sampled,
    /// None is: readers may write nothing.
    None,
}

struct Cistern {
    writer: Writer,
    /// Who looks up; the writer if there is none.
    reader: Option<Reader>,
    buffer: [u8; VALUE.len()],
    _scratch: Scratch,
}

impl Cistern {
    fn open(store: StoreArgs, marks: Marks, capacity: u32, bytes: u64) -> Result<Self> {
        let options = CreateOptions::new(bytes)
            .mode(Mode::Cache)
            .items(capacity.into())
            .extent_size(if capacity < LARGE { 4 << 10 } else { 16 << 10 });
        let options = match marks {
            Marks::Sampled => options.heat_permissions(0o666),
            Marks::Full | Marks::None => options,
        };
        let (scratch, writer) = Scratch::create("hit-ratio", store, options)?;
        let reader = match marks {
            Marks::Full => None,
            Marks::Sampled | Marks::None => {
                let spec =
                    scratch.spec().context("readers of their own need a store with a name")?;
                Some(Reader::attach(spec)?)
            }
        };
        Ok(Self { writer, reader, buffer: [0; VALUE.len()], _scratch: scratch })
    }
}

impl Subject for Cistern {
    fn request(&mut self, key: u32) -> Result<bool> {
        let key = key_of(key);
        let found = match &self.reader {
            Some(reader) => reader.get_into(&key, &mut self.buffer)?,
            None => self.writer.get_into(&key, &mut self.buffer)?,
        };
        if found.is_none() {
            self.writer.put(&key, &VALUE)?;
        }
        Ok(found.is_some())
    }

    fn items(&self) -> Result<u64> {
        Ok(self.writer.len())
    }
}

/// Plays to a store that never has more than `capacity` items, and hardly less: what it had says how
/// large the next one is, from `bytes` on, which stay for the next row's marks.
pub(crate) fn fitted(
    (store, marks, capacity): (StoreArgs, Marks, u32),
    bytes: &mut u64,
    mut play: impl FnMut(&mut dyn Subject) -> Result<Played>,
) -> Result<Played> {
    let mut best: Option<Played> = None;
    for _ in 0..PLAYS_MAX {
        let mut subject = Cistern::open(store, marks, capacity, *bytes)?;
        let played = play(&mut subject)?;
        let share = played.items_max as f64 / f64::from(capacity);
        let fits = share <= 1.0;
        if fits && best.as_ref().is_none_or(|best| best.items_max < played.items_max) {
            best = Some(played);
        }
        if fits && share >= SHARE_MIN {
            break;
        }
        *bytes = (*bytes as f64 * SHARE_AIM / share) as u64;
    }
    best.context("no size gave as many items as are allowed")
}

/// Where [`fitted`] begins.
pub(crate) fn first_guess(capacity: u32) -> u64 {
    u64::from(capacity) * ITEM_BYTES * 115 / 100 + (64 << 10)
}
