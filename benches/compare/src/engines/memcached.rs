//! memcached: a server, here with one thread, asked over a Unix socket.

use std::ops::Range;

use anyhow::Result;

use store_benches::servers::{MEMCACHED, Memcached};

use crate::engine::{Engine, Memory, Setting};
use crate::served::Served;
use crate::workload::{Key, fill_value, key_of};

pub(crate) struct Client {
    connection: Memcached,
    served: Served,
    before: u64,
}

impl Engine for Client {
    fn create(setting: &Setting) -> Result<Self> {
        let served = Served::start(&MEMCACHED, setting)?;
        let mut connection = Memcached::new(served.connect()?)?;
        let before = connection.used_bytes()?;
        Ok(Self { connection, served, before })
    }

    fn attach(setting: &Setting) -> Result<Self> {
        let served = Served::find(&MEMCACHED, setting)?;
        Ok(Self { connection: Memcached::new(served.connect()?)?, served, before: 0 })
    }

    fn get(&mut self, key: &Key, buffer: &mut [u8]) -> Result<Option<usize>> {
        let mut found = None;
        self.connection.get(&[key], buffer, |_, len| found = Some(len))?;
        Ok(found)
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.connection.set(key, value)
    }

    fn get_many<'a>(&'a mut self, keys: &[Key], buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        let mut bytes = 0;
        self.connection.get(keys, buffer, |_, len| bytes += len)?;
        Ok(Some(&buffer[..bytes]))
    }

    /// Nobody waits for answers, but in the end for one that comes after all of them.
    fn load(&mut self, numbers: Range<u32>, value_bytes: usize) -> Result<()> {
        let mut value = vec![0; value_bytes];
        for number in numbers {
            fill_value(&mut value, number, 0);
            self.connection.send_set(&key_of(number), &value)?;
        }
        self.connection.items().map(|_| ())
    }

    fn memory(&mut self) -> Result<Memory> {
        let bytes = self.connection.used_bytes()?.saturating_sub(self.before);
        Ok(Memory { bytes, counted: "growth of slab pages and hash table".into() })
    }

    fn stay_on(&mut self, processor: Option<usize>) -> Result<()> {
        self.served.stay_on(processor)
    }
}
