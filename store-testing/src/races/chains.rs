//! Readers beside a writer that splits buckets, and links and unlinks overflow lines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store_core::{
    Condition, CreateOptions, PutOptions, ReadError, Session, Shim, Store, private_on_heap,
};

fn key(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn put<S: Shim>(store: &Store<S>, session: &Session, number: u32) {
    let (options, always) = (PutOptions::new(), Condition::Always);
    store.put(session, &key(number), &[number as u8; 24], &options, always).expect("room");
}

/// Keys that stand throughout.
const STANDING: u32 = 300;

/// Ends the readers, also if the writer panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two readers of keys that stand, and a writer whose keys come and go around them, for `limit` or
/// until a key was missed. How many were.
pub fn missed<S: Shim>(limit: Duration, grows: bool) -> u64 {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10).items(8);
    let start = Instant::now();
    let missed = AtomicU64::new(0);
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < limit && missed.load(Ordering::Relaxed) == 0 {
        rounds += 1;
        let store: Store<S> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        for number in 0..STANDING {
            put(&store, &session, number);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (store, missed, stop) = (&store, &missed, &stop);
                scope.spawn(move || {
                    let mut number = reader * 100;
                    while !stop.load(Ordering::Relaxed) {
                        number = (number + 1) % STANDING;
                        match store.contains(&key(number)) {
                            Ok(true) | Err(ReadError::Contended { .. }) => {}
                            Ok(false) => drop(missed.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            let _stop = Stop(&stop);
            if grows {
                (STANDING..6000).for_each(|number| put(&store, &session, number));
            } else {
                for number in STANDING..30_000 {
                    put(&store, &session, number);
                    let gone = number.saturating_sub(100).max(STANDING);
                    if gone < number {
                        store.delete(&session, &key(gone)).expect("a delete");
                    }
                }
            }
        });
    }
    missed.into_inner()
}
