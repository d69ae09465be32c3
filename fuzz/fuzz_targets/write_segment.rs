//! A writer and its recovery on a segment with arbitrary bytes: errors, nothing else.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use store_core::{Condition, NamespaceOptions, Plain, PutOptions, from_image};
use store_fuzz::{KEYS, NAMESPACES, changed_image, key};

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
    for name in NAMESPACES {
        if let Ok(place) = store.in_namespace(name) {
            for number in 0..KEYS {
                let _ = place.put(&session, &key(number), &[7; 90], &none, Condition::Always);
                let _ = place.delete(&session, &key(number));
            }
        }
        let quota =
            NamespaceOptions::new().quota(u64::from(input.first().copied().unwrap_or(0)) << 11);
        let _ = store.change_namespace(&session, name, &quota);
        let _ = store.create_namespace(&session, "new", &quota);
    }
    let _ = store.remove_namespace(&session, NAMESPACES[0]);
    let _ = store.sweep(&session, 10);
    let _ = store.add_to(&session, b"counter", 3);
    let _ = store.clean(&session, 3);
    let _ = store.repair(&session, |_, _| {});
    if let Ok(Some(pinned)) = store.get_pinned(&session, &key(1)) {
        let _ = pinned.to_vec();
    }
    let _ = store.clear(&session);
    let _ = store.close_session(&session);
});
