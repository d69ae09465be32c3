//! A writer and its recovery on a segment with arbitrary bytes: errors, nothing else.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use store_core::{Condition, NamespaceOptions, Plain, PutOptions, RepairOptions, from_image};
use store_fuzz::{KEYS, NAMESPACES, bounded, bounded_put, changed_image, key};

fuzz_target!(|input: &[u8]| {
    let Ok(store) = from_image::<Plain>(&changed_image(input)) else { return };
    let Ok(session) = bounded("open_session", || store.open_session()) else { return };
    session.set_guard_deadline(Duration::from_millis(1));
    let (none, always) = (PutOptions::new(), Condition::Always);
    let _ = bounded("reap", || store.reap(&session));
    for number in 0..KEYS {
        let key = key(number);
        let _ = bounded_put("put", || store.put(&session, &key, &[7; 60], &none, always));
        let present = Condition::Present;
        let _ = bounded_put("put, large", || store.put(&session, &key, &[8; 6000], &none, present));
        let _ = bounded("add_to", || store.add_to(&session, &key, 3));
        let _ = bounded("delete", || store.delete(&session, &key));
    }
    for name in NAMESPACES {
        if let Ok(place) = store.in_namespace(name) {
            for number in 0..KEYS {
                let key = key(number);
                let _ = bounded_put("put", || place.put(&session, &key, &[7; 90], &none, always));
                let _ = bounded("delete", || place.delete(&session, &key));
            }
        }
        let quota =
            NamespaceOptions::new().quota(u64::from(input.first().copied().unwrap_or(0)) << 11);
        let _ = bounded("change_namespace", || store.change_namespace(&session, name, &quota));
        let _ = bounded("create_namespace", || store.create_namespace(&session, "new", &quota));
    }
    let _ = bounded("remove_namespace", || store.remove_namespace(&session, NAMESPACES[0]));
    let _ = bounded("sweep", || store.sweep(&session, 10));
    let _ = bounded("add_to", || store.add_to(&session, b"counter", 3));
    let _ = bounded("clean", || store.clean(&session, 3));
    let _ = store.repair(&session, &RepairOptions::new().max_loss(u64::MAX), |_, _| {});
    let _ = bounded("get_pinned", || {
        let pinned = store.get_pinned(&session, &key(1)).ok()??;
        Some(pinned.to_vec())
    });
    let _ = bounded("clear", || store.clear(&session));
    let _ = bounded("close_session", || store.close_session(&session));
});
