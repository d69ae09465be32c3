//! What the targets share: a small whole segment, and the changes that an input makes to it.

use std::sync::OnceLock;

use store_core::{
    Condition, CreateOptions, Mode, NamespaceOptions, Plain, PutOptions, Store, private_on_heap,
};

/// Number of keys that the targets use.
pub const KEYS: u8 = 24;

/// Namespaces of the small store; the first one where there is room for its quota.
pub const NAMESPACES: [&str; 2] = ["quota", "none"];

/// The bytes of a key.
pub fn key(number: u8) -> Vec<u8> {
    vec![number % KEYS; usize::from(number % KEYS) + 1]
}

/// A store of 160 KiB with chains, a counter, a run of extents and items that expire; a cache is full
/// besides, so that each put evicts.
pub fn small_store(mode: Mode) -> Store {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8).mode(mode);
    let store: Store<Plain> = private_on_heap(&options, 7).expect("a small store");
    let session = store.open_session().expect("a client entry");
    let soon = PutOptions::new().ttl(std::time::Duration::from_secs(3600));
    for number in 0..KEYS {
        let value = vec![number; usize::from(number) * 20];
        let options = if number % 5 == 0 { soon } else { PutOptions::new() };
        store.put(&session, &key(number), &value, &options, Condition::Always).expect("a put");
    }
    store.add_to(&session, b"counter", 5).expect("a counter");
    store.put(&session, &key(1), &[1; 9000], &soon, Condition::Always).expect("a run");
    let filled = if mode == Mode::Cache { 300_u32 } else { 0 };
    for number in 0..filled {
        let (key, value) = (number.to_le_bytes(), vec![2; number as usize * 37 % 900]);
        store.put(&session, &key, &value, &soon, Condition::Always).expect("eviction makes room");
        store.get(&(number % 20).to_le_bytes()).expect("a lookup");
    }
    // Where there is room for a quota it has extents of its own.
    let quota = NamespaceOptions::new().quota(32 << 10);
    let _ = store.create_namespace(&session, NAMESPACES[0], &quota);
    store.create_namespace(&session, NAMESPACES[1], &NamespaceOptions::new()).expect("a record");
    for place in NAMESPACES.iter().filter_map(|name| store.in_namespace(name).ok()) {
        for number in 0..KEYS {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let _ = place.put(&session, &key(number), &[4; 200], &options, always);
        }
    }
    store.close_session(&session).expect("a close");
    store
}

/// The image of [`small_store`] with the changes that `input` asks for: three bytes of place and
/// one that says how, then eight of value. Of an odd length: that of a cache.
pub fn changed_image(input: &[u8]) -> Vec<u8> {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let image_of = |mode| small_store(mode).image().expect("an image");
    let images = IMAGES.get_or_init(|| [Mode::Store, Mode::Cache].map(image_of));
    let mut image = images[input.len() % 2].clone();
    let words = image.len() / 8;
    for change in input.as_chunks::<12>().0 {
        let [a, b, c, how, value @ ..] = *change;
        let place = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        // Most changes go to the structures, which come first.
        let word = if how & 1 == 0 { place % words } else { place % 2048 } * 8;
        let old = u64::from_le_bytes(image[word..word + 8].try_into().expect("8 bytes"));
        let value = u64::from_le_bytes(value);
        let new = match how >> 1 & 3 {
            0 => value,
            1 => old ^ 1 << (value & 63),
            2 => old.wrapping_add(value as i8 as u64),
            _ => old & !0xFFFF | value & 0xFFFF,
        };
        image[word..word + 8].copy_from_slice(&new.to_le_bytes());
    }
    image
}
