//! Who pins values, beside a writer that recycles extents as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store_core::{Condition, CreateOptions, PinError, PutOptions, Shim, Store, private_on_heap};

use super::readers::{KEYS, is_whole, value};

/// What was seen of pinned values.
#[derive(Debug, Default)]
pub struct Seen {
    /// Values that were pinned.
    pub pins: u64,
    /// Of these, those that changed while they were.
    pub changed: u64,
}

/// Two that pin and a writer for `limit`, or until a pinned value was seen to change.
pub fn race<S: Shim>(limit: Duration) -> Seen {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8);
    let store: Store<S> = private_on_heap(&options, 3).expect("a tiny store");
    let session = store.open_session().expect("a client entry");
    let put = |turn: u64| {
        let (key, options, always) = (turn % KEYS, PutOptions::new(), Condition::Always);
        // What is pinned can take the room for some of them.
        let _ = store.put(&session, &key.to_le_bytes(), &value(key, turn), &options, always);
    };
    (0..KEYS).for_each(put);
    let (pins, changed, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (store, pins, changed, stop) = (&store, &pins, &changed, &stop);
            scope.spawn(move || {
                let session = store.open_session().expect("a client entry");
                for turn in first * 7.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = turn % KEYS;
                    match store.get_pinned(&session, &key.to_le_bytes()) {
                        Ok(Some(pinned)) => {
                            pins.fetch_add(1, Ordering::Relaxed);
                            // So long that extents come round.
                            let (at_first, mut later) = (pinned.to_vec(), pinned.to_vec());
                            for _ in 0..turn % 64 {
                                later = pinned.to_vec();
                            }
                            if !is_whole(key, &at_first) || later != at_first {
                                changed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        Ok(None) | Err(PinError::Read(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                store.close_session(&session).expect("an end");
            });
        }
        let start = Instant::now();
        let mut turn = KEYS;
        while start.elapsed() < limit && changed.load(Ordering::Relaxed) == 0 {
            for _ in 0..100 {
                put(turn);
                turn += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    Seen { pins: pins.into_inner(), changed: changed.into_inner() }
}
