//! Readers beside a writer that recycles extents as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store_core::{Condition, CreateOptions, PutOptions, ReadError, Shim, Store, private_on_heap};

/// Bytes of short values.
const SHORT_BYTES: usize = 200;
/// Keys that there are.
pub(super) const KEYS: u64 = 16;

/// A value that tells its key in every word, and is the same in all of them.
pub(super) fn value(key: u64, turn: u64) -> Vec<u8> {
    let words = 60 + (turn % 60) as usize;
    (0..words).flat_map(|_| (key << 48 | turn & 0xFFFF_FFFF).to_le_bytes()).collect()
}

pub(super) fn is_whole(key: u64, value: &[u8]) -> bool {
    let words = value.as_chunks::<8>().0;
    !words.is_empty()
        && words.iter().all(|word| word == &words[0])
        && u64::from_le_bytes(words[0]) >> 48 == key
}

/// What readers saw beside a writer.
#[derive(Debug, Default)]
pub struct Seen {
    /// Lookups.
    pub reads: AtomicU64,
    /// Values that were not one value.
    pub torn: AtomicU64,
    /// Keys that stood and were not found.
    pub missed: AtomicU64,
    /// Values older than one that the reader had seen.
    pub backwards: AtomicU64,
}

impl Seen {
    /// All that must not be seen.
    pub fn wrong(&self) -> u64 {
        [&self.torn, &self.missed, &self.backwards]
            .map(|it| it.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

/// Two readers and a writer for `limit`, or until a torn value was seen. The values are of many lengths.
pub fn race<S: Shim>(limit: Duration) -> Seen {
    race_of::<S>(limit, value)
}

/// The same with short values of one length, which are overwritten where they stand.
pub fn overwrites<S: Shim>(limit: Duration) -> Seen {
    race_of::<S>(limit, |key, turn| value(key, turn)[..SHORT_BYTES].to_vec())
}

fn race_of<S: Shim>(limit: Duration, value: fn(u64, u64) -> Vec<u8>) -> Seen {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8);
    let store: Store<S> = private_on_heap(&options, 3).expect("a tiny store");
    let session = store.open_session().expect("a client entry");
    let put = |key: u64, turn: u64| {
        let options = PutOptions::new();
        store
            .put(&session, &key.to_le_bytes(), &value(key, turn), &options, Condition::Always)
            .expect("a put")
    };
    for key in 0..KEYS {
        put(key, 0);
    }
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (store, seen, stop) = (&store, &seen, &stop);
            scope.spawn(move || read(store, reader, seen, stop));
        }
        let start = Instant::now();
        let mut turn = 1;
        while start.elapsed() < limit && seen.torn.load(Ordering::Relaxed) == 0 {
            for _ in 0..100 {
                put(turn % KEYS, turn);
                turn += 1;
                // A key that comes and goes, in whichever lane is free.
                let other = [b'x', (turn % 5) as u8];
                let _ =
                    store.put(&session, &other, b"short", &PutOptions::new(), Condition::Always);
                store.delete(&session, &other).expect("a delete");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    seen
}

fn read<S: Shim>(store: &Store<S>, reader: u64, seen: &Seen, stop: &AtomicBool) {
    let mut last = [0; KEYS as usize];
    let mut turn = reader * 7;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let key = turn % KEYS;
        seen.reads.fetch_add(1, Ordering::Relaxed);
        match store.get_with(&key.to_le_bytes(), |value| {
            let whole = is_whole(key, value);
            (whole, value.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
        }) {
            Ok(Some((true, at))) => {
                let backwards = u64::from(at < last[key as usize]);
                seen.backwards.fetch_add(backwards, Ordering::Relaxed);
                last[key as usize] = at;
            }
            Ok(Some((false, _))) => {
                seen.torn.fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => {
                seen.missed.fetch_add(1, Ordering::Relaxed);
            }
            Err(ReadError::Contended { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
