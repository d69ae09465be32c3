//! Callers that meet at a key that is missing.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use store_core::{CreateOptions, LoadOptions, Session, Shim, Store, private_on_heap};

const THREADS: usize = 4;
const KEYS: u32 = 1000;

/// Asks for a value, and computes it where it is missing.
pub fn load<S: Shim>(store: &Store<S>, session: &Session, key: &[u8], computed: &AtomicU32) {
    let options = LoadOptions::new().wait(Duration::from_secs(60));
    let value = store.get_or_insert_with(session, key, &options, || {
        computed.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(key.to_vec())
    });
    assert_eq!(value.expect("a value"), key);
}

/// Threads that meet at one key after the other, for `limit` or until one was computed twice, but 1000
/// keys at least. How many were computed again.
pub fn computed_again<S: Shim>(limit: Duration) -> u32 {
    let start = Instant::now();
    loop {
        let store: Store<S> = private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
        let session = store.open_session().expect("a client entry");
        let (computed, barrier) = (AtomicU32::new(0), Barrier::new(THREADS));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for number in 0..KEYS {
                        barrier.wait();
                        load(&store, &session, &number.to_le_bytes(), &computed);
                    }
                });
            }
        });
        let again = computed.into_inner() - KEYS;
        if again > 0 || start.elapsed() >= limit {
            return again;
        }
    }
}
