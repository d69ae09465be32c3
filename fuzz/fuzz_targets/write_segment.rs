//! A writer and its recovery on a segment with arbitrary bytes: errors, nothing else.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use store_core::{Condition, Plain, PutOptions, from_image};
use store_fuzz::{KEYS, changed_image, key};

fuzz_target!(|input: &[u8]| {
    let Ok(store) = from_image::<Plain>(&changed_image(input)) else { return };
    let Ok(session) = store.open_session() else { return };
    session.set_guard_deadline(Duration::from_millis(1));
    let none = PutOptions::new();
    let _ = store.reap(&session);
    for number in 0..KEYS {
        let key = key(number);
        let _ = store.put(&session, &key, &[7; 60], &none, Condition::Always);
        let _ = store.put(&session, &key, &[8; 6000], &none, Condition::Present);
        let _ = store.add_to(&session, &key, 3);
        let _ = store.delete(&session, &key);
    }
    let _ = store.add_to(&session, b"counter", 3);
    let _ = store.clean(&session, 3);
    if let Ok(Some(pinned)) = store.get_pinned(&session, &key(1)) {
        let _ = pinned.to_vec();
    }
    let _ = store.clear(&session);
    let _ = store.close_session(&session);
});
