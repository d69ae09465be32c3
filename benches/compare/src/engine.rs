//! What a store is to this program.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::workload::{Key, fill_value, key_of};

/// Keys in one `get_many`.
pub(crate) const BATCH: usize = 32;

/// Where an engine is and what for. Of all processes that share one, the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// No other engine of the machine has it; files may be called so.
    pub(crate) name: String,
    /// A folder in `/dev/shm` of this run's own.
    pub(crate) folder: PathBuf,
    pub(crate) items: u32,
    pub(crate) value_bytes: usize,
    pub(crate) room: Room,
    /// Whether Cistern asks for huge pages.
    pub(crate) huge_pages: bool,
}

/// How much memory a Cistern store is given; the others take what they need.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Room {
    /// So much that the items are these hundredths of what there is for items.
    Live(u32),
    /// Little at first, and so much that it may grow to hold this many items.
    Grows(u32),
    /// All that it may take, in bytes.
    Bytes(u64),
}

impl Setting {
    /// What the items' keys and values are together.
    pub(crate) fn data_bytes(&self) -> u64 {
        u64::from(self.items) * (size_of::<Key>() + self.value_bytes) as u64
    }
}

/// What the items took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) bytes: u64,
    /// What was counted.
    pub(crate) counted: String,
}

/// A store of pairs of bytes. `get` copies the value out.
pub(crate) trait Engine: Sized + 'static {
    /// Whether a value may have another length than the one that it replaces.
    const RESIZES: bool = true;

    /// Makes it, empty.
    fn create(setting: &Setting) -> Result<Self>;

    /// Opens what another process made.
    fn attach(_setting: &Setting) -> Result<Self> {
        bail!("it is of one process")
    }

    /// The same store for another thread, to be made there; none if it is of one thread, or if
    /// processes share it.
    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        None
    }

    /// Copies the value into `buffer`; its length.
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>>;

    /// Puts, or overwrites.
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()>;

    /// Copies the values of many keys one behind the other, into `buffer` or memory of its own. None: it
    /// can't.
    fn get_many<'a>(
        &'a mut self,
        _keys: &[Key],
        _buffer: &'a mut [u8],
    ) -> Result<Option<&'a [u8]>> {
        Ok(None)
    }

    /// Puts the items with these numbers, as fast as it can.
    fn load(&mut self, numbers: Range<u32>, value_bytes: usize) -> Result<()> {
        let mut value = vec![0; value_bytes];
        for number in numbers {
            fill_value(&mut value, number, 0);
            self.put(&key_of(number), &value)?;
        }
        Ok(())
    }

    /// What it uses now, and what of it is counted.
    fn memory(&mut self) -> Result<Memory>;

    /// Keeps it, and what serves it, on one processor from now on, or (`None`) on any.
    fn stay_on(&mut self, _processor: Option<usize>) -> Result<()> {
        Ok(())
    }

    /// Figures of its own: of Cistern, what its statistics say.
    fn figures(&mut self) -> Result<Figures> {
        Ok(Figures::default())
    }
}

/// What Cistern's statistics say; zeros of other engines.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) live_bytes: u64,
    pub(crate) index_bytes: u64,
    /// Bytes that there are for items.
    pub(crate) arena_bytes: u64,
    /// Of these, bytes that are kept free for cleaning.
    pub(crate) reserve_bytes: u64,
    pub(crate) buckets: u64,
    /// Bytes of items that were put.
    pub(crate) put_bytes: u64,
    /// Bytes that cleaning moved, and extents that it emptied.
    pub(crate) moved_bytes: u64,
    pub(crate) emptied: u64,
    /// Of this process's mapping.
    pub(crate) huge_page_bytes: u64,
    /// Broken invariants that `check` found, if it was asked.
    pub(crate) violations: u64,
}

/// Memory of this process alone (`RssAnon`).
pub(crate) fn own_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("reading what is resident")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("the kernel tells no RssAnon")? << 10)
}
