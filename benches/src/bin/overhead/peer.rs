//! A server that is given the same items, and asked for its memory before and after.

use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};

use store_benches::progress;
use store_benches::records::{Key, Stamp, fill, key_of};
use store_benches::servers::{MEMCACHED, Memcached, Program, REDIS, Redis};
use store_benches::worker::{PATIENCE, Worker};

pub(crate) const KEY_BYTES: usize = size_of::<Key>();
pub(crate) const VALUE_BYTES: usize = 100;

/// The items that every side is given.
pub(crate) struct Workload {
    pub(crate) items: u32,
}

impl Workload {
    pub(crate) fn each(&self, mut put: impl FnMut(&Key, &[u8]) -> Result<()>) -> Result<()> {
        let bar = progress::bar(self.items.into(), "items".into());
        let mut value = Vec::new();
        for index in 0..self.items {
            let key = key_of(index);
            fill(&mut value, &key, Stamp { writer: 0, seq: index }, VALUE_BYTES);
            put(&key, &value)?;
            if index.is_multiple_of(1024) {
                bar.set_position(index.into());
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What is left of `bytes` for each item without keys and values.
    pub(crate) fn beside_data(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(self.items) - (KEY_BYTES + VALUE_BYTES) as f64
    }
}

/// Bytes that the items took of memcached; none if the machine has no memcached.
pub(crate) fn memcached(workload: &Workload) -> Result<Option<u64>> {
    measure(&MEMCACHED, workload, |stream| {
        let mut client = Memcached::new(stream)?;
        let before = client.used_bytes()?;
        workload.each(|key, value| client.send_set(key, value))?;
        let items = client.items()?;
        ensure!(items == u64::from(workload.items), "it has {items} items");
        Ok(client.used_bytes()? - before)
    })
}

/// The same of Redis.
pub(crate) fn redis(workload: &Workload) -> Result<Option<u64>> {
    measure(&REDIS, workload, |stream| {
        let mut client = Redis::new(stream)?;
        let before = client.used_bytes()?;
        workload.each(|key, value| client.send_set(key, value))?;
        client.settle()?;
        let items = client.items()?;
        ensure!(items == u64::from(workload.items), "it has {items} items");
        Ok(client.used_bytes()? - before)
    })
}

fn measure(
    program: &Program,
    workload: &Workload,
    load: impl FnOnce(UnixStream) -> Result<u64>,
) -> Result<Option<u64>> {
    let Some(file) = program.find() else { return Ok(None) };
    let directory = tempfile::tempdir().context("making a temporary directory")?;
    let mib = 64 + (u64::from(workload.items) >> 11);
    let server = program.server(file, directory.path(), mib);
    let mut running = Worker::spawn_alone(&server)?;
    let bytes = load(server.connect()?).context(program.name)?;
    running.kill()?;
    running.reap(PATIENCE)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn what_is_beside_keys_and_values() {
        assert_eq!(Workload { items: 10 }.beside_data(1500), 34.0);
    }

    #[test]
    fn every_item_is_given_once() {
        let mut keys = Vec::new();
        let put = |key: &[u8; 16], value: &[u8]| {
            assert_eq!(value.len(), super::VALUE_BYTES);
            keys.push(*key);
            Ok(())
        };
        Workload { items: 100 }.each(put).expect("nothing fails");
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100);
    }
}
