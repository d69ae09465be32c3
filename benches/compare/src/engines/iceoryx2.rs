//! The blackboard of `iceoryx2`: entries that are all there from the start, each with a value of one size.
//!
//! It finds an entry by comparing keys one after the other, and is not meant to do that for each access:
//! a process keeps a handle for each entry. So this keeps them in a map, and a get is a lookup there and a
//! read of the entry. To make and open as many entries takes the square of their number.

use std::ops::Range;

use anyhow::{Context, Result, anyhow, ensure};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use iceoryx2::config::Config;
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::reader::{EntryHandle, Reader};
use iceoryx2::port::writer::{EntryHandleMut, Writer};
use iceoryx2::prelude::{
    FileName, LogLevel, Path, SemanticString, ServiceName, ipc, set_log_level,
};
use iceoryx2::service::port_factory::blackboard::PortFactory;

use crate::engine::{Engine, Memory, Setting, own_memory};
use crate::place::shared_bytes;
use crate::workload::{Key, fill_value, key_of};

/// More take minutes to open.
pub(crate) const ITEMS_MAX: u32 = 10_000;
/// Its values are of one type.
const VALUE_BYTES: usize = 100;
type Value = [u8; VALUE_BYTES];

type Handles = (EntryHandle<ipc::Service, Key, Value>, EntryHandleMut<ipc::Service, Key, Value>);

pub(crate) struct Blackboard {
    // Dropped in this order: what was made last goes first.
    entries: HashMap<Key, Handles, RandomState>,
    _reader: Reader<ipc::Service, Key>,
    _writer: Writer<ipc::Service, Key>,
    _service: PortFactory<ipc::Service, Key>,
    _node: Node<ipc::Service>,
    prefix: String,
    before: u64,
}

/// What the names of its files in `/dev/shm` begin with.
fn prefix_of(setting: &Setting) -> String {
    format!("{}-", setting.name)
}

impl Engine for Blackboard {
    const RESIZES: bool = false;

    fn create(setting: &Setting) -> Result<Self> {
        ensure!(setting.value_bytes == VALUE_BYTES, "its values have {VALUE_BYTES} bytes here");
        ensure!(setting.items <= ITEMS_MAX, "more than {ITEMS_MAX} entries take minutes");
        let before = own_memory()?;
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let (prefix, folder) = (prefix_of(setting), setting.folder.join("iceoryx2"));
        config.global.prefix = FileName::new(prefix.as_bytes()).map_err(wrong)?;
        let folder = folder.to_str().context("a folder whose name is text")?;
        config.global.set_root_path(&Path::new(folder.as_bytes()).map_err(wrong)?);
        let node = NodeBuilder::new().config(&config).create::<ipc::Service>().map_err(wrong)?;
        let name = ServiceName::new(&setting.name).map_err(wrong)?;
        let mut builder = node.service_builder(&name).blackboard_creator::<Key>();
        for number in 0..setting.items {
            let mut value = [0; VALUE_BYTES];
            fill_value(&mut value, number, 0);
            builder = builder.add::<Value>(key_of(number), value);
        }
        let service = builder.create().map_err(wrong)?;
        let reader = service.reader_builder().create().map_err(wrong)?;
        let writer = service.writer_builder().create().map_err(wrong)?;
        let mut entries =
            HashMap::with_capacity_and_hasher(setting.items as usize, RandomState::default());
        for number in 0..setting.items {
            let key = key_of(number);
            let handles = (
                reader.entry::<Value>(&key).map_err(wrong)?,
                writer.entry::<Value>(&key).map_err(wrong)?,
            );
            entries.insert(key, handles);
        }
        Ok(Self {
            entries,
            _reader: reader,
            _writer: writer,
            _service: service,
            _node: node,
            prefix,
            before,
        })
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        Ok(self.entries.get(key).map(|(reading, _)| {
            buffer[..VALUE_BYTES].copy_from_slice(&*reading.get());
            VALUE_BYTES
        }))
    }

    #[inline]
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let (_, writing) = self.entries.get(key).context("entries can't be added")?;
        writing.update_with_copy(value.try_into()?);
        Ok(())
    }

    /// They are there from the start.
    fn load(&mut self, _numbers: Range<u32>, _value_bytes: usize) -> Result<()> {
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        let shared = shared_bytes(&self.prefix)?;
        let bytes = shared + own_memory()?.saturating_sub(self.before);
        let counted = "blocks of its segments, and growth of RssAnon (its handles)";
        Ok(Memory { bytes, counted: counted.into() })
    }
}

fn wrong(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}
