//! Redis (or Valkey): a server of one thread, asked over a Unix socket.

use std::ops::Range;

use anyhow::Result;

use store_benches::servers::{REDIS, Redis};

use crate::engine::{Engine, Memory, Setting};
use crate::served::Served;
use crate::workload::{Key, fill_value, key_of};

pub(crate) struct Client {
    connection: Redis,
    served: Served,
    before: u64,
}

impl Engine for Client {
    fn create(setting: &Setting) -> Result<Self> {
        let served = Served::start(&REDIS, setting)?;
        let mut connection = Redis::new(served.connect()?)?;
        let before = connection.used_bytes()?;
        Ok(Self { connection, served, before })
    }

    fn attach(setting: &Setting) -> Result<Self> {
        let served = Served::find(&REDIS, setting)?;
        Ok(Self { connection: Redis::new(served.connect()?)?, served, before: 0 })
    }

    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        self.connection.get(key, buffer)
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.connection.set(key, value)
    }

    fn get_many<'a>(&'a mut self, keys: &[Key], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        let mut bytes = 0;
        self.connection.get_many(keys, buffer, |_, len| bytes += len)?;
        Ok(Some(&buffer[..bytes]))
    }

    /// Many are sent before the first is answered.
    fn load(&mut self, numbers: Range<u32>, value_bytes: usize) -> Result<()> {
        let mut value = vec![0; value_bytes];
        for number in numbers {
            fill_value(&mut value, number, 0);
            self.connection.send_set(&key_of(number), &value)?;
        }
        self.connection.settle()
    }

    fn memory(&mut self) -> Result<Memory> {
        let bytes = self.connection.used_bytes()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of `used_memory`".into() })
    }

    fn stay_on(&mut self, processor: Option<usize>) -> Result<()> {
        self.served.stay_on(processor)
    }
}
