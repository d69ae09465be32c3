//! `redb`: a B+ tree in a file on tmpfs, which one process has open.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::workload::{Key, fill_value, key_of};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");
/// Bytes for its cache of pages beside what the items are.
const CACHE_BYTES: u64 = 64 << 20;

pub(crate) struct Redb {
    database: Arc<Database>,
    path: PathBuf,
    before: u64,
}

impl Engine for Redb {
    fn create(setting: &Setting) -> Result<Self> {
        let before = own_memory()?;
        let path = setting.folder.join(format!("{}.redb", setting.name));
        let cache = CACHE_BYTES + 4 * setting.data_bytes();
        let database = Database::builder().set_cache_size(cache as usize).create(&path)?;
        Ok(Self { database: Arc::new(database), path, before })
    }

    fn share(&self) -> Option<Box<dyn FnOnce() -> Self + Send>> {
        let (database, path) = (Arc::clone(&self.database), self.path.clone());
        let before = self.before;
        Some(Box::new(move || Self { database, path, before }))
    }

    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_slice())?.map(|value| {
            let value = value.value();
            buffer[..value.len()].copy_from_slice(value);
            value.len()
        }))
    }

    fn get_many<'a>(&'a mut self, keys: &[Key], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut bytes = 0;
        for key in keys {
            if let Some(value) = table.get(key.as_slice())? {
                let value = value.value();
                buffer[bytes..bytes + value.len()].copy_from_slice(value);
                bytes += value.len();
            }
        }
        Ok(Some(&buffer[..bytes]))
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::None)?;
        write.open_table(TABLE)?.insert(key.as_slice(), value)?;
        Ok(write.commit()?)
    }

    /// One transaction.
    fn load(&mut self, numbers: Range<u32>, value_bytes: usize) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            let mut value = vec![0; value_bytes];
            for number in numbers {
                fill_value(&mut value, number, 0);
                table.insert(key_of(number).as_slice(), value.as_slice())?;
            }
        }
        Ok(write.commit()?)
    }

    fn memory(&mut self) -> Result<Memory> {
        let file = self.path.metadata().context("asking for the size of a database")?;
        let cache = own_memory()?.saturating_sub(self.before);
        let counted = "blocks of its file, and growth of RssAnon (its cache of pages)";
        Ok(Memory { bytes: file.blocks() * 512 + cache, counted: counted.into() })
    }
}
