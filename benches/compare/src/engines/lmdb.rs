//! LMDB, by `heed`: a B+ tree in a mapped file on tmpfs.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use crate::engine::{Engine, Memory, Setting};
use crate::workload::{Key, fill_value, key_of};

/// Address space beside what the items are.
const SPARE_BYTES: u64 = 1 << 30;

pub(crate) struct Lmdb {
    env: Env,
    items: Database<Bytes, Bytes>,
    path: PathBuf,
}

fn open(setting: &Setting) -> Result<Lmdb> {
    let path = setting.folder.join(format!("{}.lmdb", setting.name));
    fs::create_dir_all(&path).context("making a folder")?;
    let size = (SPARE_BYTES + 8 * setting.data_bytes()).next_multiple_of(1 << 20);
    let mut options = EnvOpenOptions::new();
    options.map_size(size as usize);
    #[expect(unsafe_code, reason = "a mapping that others could change")]
    // SAFETY: nothing is durable here, which these flags are about; and the file is this run's own, whose
    // processes go through LMDB.
    let env = unsafe {
        options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
        options.open(&path)
    };
    let env = env.context("opening an environment")?;
    let mut write = env.write_txn()?;
    let items = env.create_database(&mut write, None)?;
    write.commit()?;
    Ok(Lmdb { env, items, path })
}

impl Engine for Lmdb {
    fn create(setting: &Setting) -> Result<Self> {
        open(setting)
    }

    fn attach(setting: &Setting) -> Result<Self> {
        open(setting)
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        let read = self.env.read_txn()?;
        Ok(self.items.get(&read, key)?.map(|value| {
            buffer[..value.len()].copy_from_slice(value);
            value.len()
        }))
    }

    fn get_many<'a>(&'a mut self, keys: &[Key], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        let read = self.env.read_txn()?;
        let mut bytes = 0;
        for key in keys {
            if let Some(value) = self.items.get(&read, key)? {
                buffer[bytes..bytes + value.len()].copy_from_slice(value);
                bytes += value.len();
            }
        }
        Ok(Some(&buffer[..bytes]))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let mut write = self.env.write_txn()?;
        self.items.put(&mut write, key, value)?;
        Ok(write.commit()?)
    }

    /// One transaction.
    fn load(&mut self, numbers: Range<u32>, value_bytes: usize) -> Result<()> {
        let mut write = self.env.write_txn()?;
        let mut value = vec![0; value_bytes];
        for number in numbers {
            fill_value(&mut value, number, 0);
            self.items.put(&mut write, &key_of(number), &value)?;
        }
        Ok(write.commit()?)
    }

    fn memory(&mut self) -> Result<Memory> {
        let file = self.path.join("data.mdb").metadata().context("asking for a file's size")?;
        Ok(Memory { bytes: file.blocks() * 512, counted: "blocks of its file".into() })
    }
}
