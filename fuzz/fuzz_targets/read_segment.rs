//! A read-only client on a segment with arbitrary bytes: errors and misses, nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store_core::{Cursor, Plain, from_image};
use store_fuzz::{KEYS, NAMESPACES, changed_image, key};

fuzz_target!(|input: &[u8]| {
    // A few inputs are whole segments themselves.
    let image = if input.starts_with(b"CISTERN") { input.to_vec() } else { changed_image(input) };
    let Ok(store) = from_image::<Plain>(&image) else { return };
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).chain([b"counter".to_vec()]).collect();
    let mut buffer = [0; 500];
    for key in &keys {
        let _ = store.get(key);
        let _ = store.get_into(key, &mut buffer);
        let _ = store.get_entry(key);
        let _ = store.ttl(key);
    }
    let _ = store.get_many(&keys);
    let _ = (store.len(), store.stats(), store.extents(), store.histograms(|_, _| {}));
    let _ = store.check(|_, _| {});
    let _ = store.namespaces();
    for place in NAMESPACES.iter().filter_map(|name| store.in_namespace(name).ok()) {
        let _ = place.get_many(&keys);
        let _ = (place.len(), place.scan(Cursor::START, b"", 100));
    }
    let mut cursor = Some(Cursor::START);
    for _ in 0..100 {
        let Some(at) = cursor else { break };
        cursor = store.scan(at, b"", 10).ok().and_then(|page| page.next);
    }
});
