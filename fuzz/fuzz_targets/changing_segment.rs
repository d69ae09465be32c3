//! Clients of a segment whose words change while they use it: errors, misses and wrong values,
//! nothing else, and each in a bounded time.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use store_core::{Access, Condition, Plain, PutOptions, Store, attach};
use store_fuzz::changing::ChangingSegment;
use store_fuzz::{KEYS, bounded, bounded_put, key, read};

fuzz_target!(|input: &[u8]| {
    ChangingSegment::with(input, |segment| {
        if let Ok(store) = attach::<Plain>(&segment.name(), Access::ReadOnly) {
            read(&store);
        }
        if let Ok(store) = attach::<Plain>(&segment.name(), Access::ReadWrite) {
            pin(&store);
        }
    });
});

/// What only a writer may do: it reads in place, and puts what it read.
fn pin(store: &Store) {
    let Ok(session) = bounded("open_session", || store.open_session()) else { return };
    session.set_guard_deadline(Duration::from_millis(1));
    for number in 0..KEYS {
        let key = key(number);
        let value = bounded("get_pinned", || {
            let pinned = store.get_pinned(&session, &key).ok()??;
            Some(pinned.to_vec())
        });
        if let Some(value) = value {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let _ = bounded_put("put", || store.put(&session, &key, &value, &options, always));
        }
    }
    let _ = bounded("reap", || store.reap(&session));
    let _ = bounded("close_session", || store.close_session(&session));
}
