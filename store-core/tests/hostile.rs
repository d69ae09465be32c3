//! A segment with arbitrary bytes gives errors and misses: no panic, no loop without end, no
//! access outside of it.

use std::time::Duration;

use store_core::{
    Condition, CreateOptions, Cursor, LoadOptions, Mode, NamespaceOptions, Plain, PutOptions,
    RepairOptions, Session, Store, from_image, private_on_heap,
};
use store_testing::exercise::{bounded, read_everything};
use store_testing::pair::{Op, Pair, geometries, key};

/// Of the images of caches.
const NAMESPACES: [&str; 2] = ["quota", "none"];

fn images() -> Vec<Vec<u8>> {
    // A cache is full, so that each put evicts.
    let caches = [
        CreateOptions::new(160 << 10).extent_size(4 << 10).items(60).mode(Mode::Cache),
        CreateOptions::new(160 << 10).extent_size(8 << 10).items(8).mode(Mode::Cache),
    ];
    let caches = caches.iter().map(|options| {
        let store: Store = private_on_heap(options, 7).expect("a tiny store");
        let session = store.open_session().expect("a client entry");
        for number in 0..400_u32 {
            let (options, always) = (PutOptions::new(), Condition::Always);
            let key = key((number * 7 % 200) as u8);
            let value = vec![3; number as usize * 131 % if number % 9 == 0 { 9000 } else { 1500 }];
            store.put(&session, &key, &value, &options, always).expect("eviction makes room");
            let _ = store.get(&self::key((number % 20) as u8));
        }
        // Where there is room for a quota it has extents of its own.
        let quota = NamespaceOptions::new().quota(32 << 10);
        let _ = store.create_namespace(&session, "quota", &quota);
        store.create_namespace(&session, "none", &NamespaceOptions::new()).expect("a record");
        for place in NAMESPACES.iter().filter_map(|name| store.in_namespace(name).ok()) {
            for number in 0..100_u8 {
                let (options, always) = (PutOptions::new(), Condition::Always);
                place.put(&session, &key(number), &[4; 300], &options, always).expect("a put");
            }
        }
        store.image().expect("an image")
    });
    geometries()
        .iter()
        .map(|options| {
            let mut pair = Pair::<Plain>::new(options);
            for number in 0..48 {
                pair.apply(&Op::Put(number, usize::from(number) * 11));
                pair.apply(&Op::Incr(number / 2 + 24, 1));
            }
            pair.apply(&Op::Put(3, 9000));
            pair.store.image().expect("an image")
        })
        .chain(caches)
        .chain(with_namespaces())
        .collect()
}

/// Nearly full, with namespaces of each kind.
fn with_namespaces() -> [Vec<u8>; 2] {
    [Mode::Store, Mode::Cache].map(|mode| {
        let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(300).mode(mode);
        let store: Store = private_on_heap(&options, 7).expect("a tiny store");
        let session = store.open_session().expect("a client entry");
        let quota = NamespaceOptions::new().quota(8 << 12).mode(Mode::Store);
        let ttl = NamespaceOptions::new().default_ttl(Duration::from_secs(3600));
        for (name, options) in [("kept", quota), ("own", quota.mode(mode)), ("pooled", ttl)] {
            store.create_namespace(&session, name, &options).expect("there is as much");
            let place = store.in_namespace(name).expect("it was made");
            for number in 0..60_u8 {
                let value = vec![number; usize::from(number) * 53 % 700];
                let (options, always) = (PutOptions::new(), Condition::Always);
                let _ = place.put(&session, &key(number), &value, &options, always);
            }
        }
        store.image().expect("an image")
    })
}

/// Does everything there is to a store; what it answers is of no interest here.
fn exercise(image: &[u8]) {
    let Ok(store) = from_image::<Plain>(image) else { return };
    read_everything(&store);
    let _ = store.info();
    let Ok(session) = store.open_session() else { return };
    session.set_guard_deadline(Duration::from_millis(1));
    for number in 0..12 {
        let (key, options) = (key(number), PutOptions::new());
        let _ = store.put(&session, &key, &[7; 50], &options, Condition::Always);
        let _ = store.put(&session, &key, &[8; 5000], &options, Condition::Present);
        let _ = store.add_to(&session, &key, 5);
        let _ = store.delete(&session, &key);
        let options = LoadOptions::new().wait(Duration::ZERO);
        let _ = store.get_or_insert_with(&session, &key, &options, || Ok::<_, ()>(vec![9; 60]));
        let _ = store.delete(&session, &key);
    }
    for name in NAMESPACES {
        if let Ok(place) = store.in_namespace(name) {
            read_everything(&place);
            for number in 0..12 {
                let (key, options) = (key(number), PutOptions::new());
                let _ = place.put(&session, &key, &[7; 50], &options, Condition::Always);
                let _ = place.put(&session, &key, &[8; 5000], &options, Condition::Present);
                let _ = place.delete(&session, &key);
            }
        }
        let quota = NamespaceOptions::new().quota(40 << 10);
        let _ = store.change_namespace(&session, name, &quota);
        let _ = store.create_namespace(&session, "new", &quota);
        let _ = store.remove_namespace(&session, name);
    }
    exercise_namespaces(&store, &session);
    let _ = store.reap(&session);
    let _ = store.repair(&session, &RepairOptions::new().max_loss(u64::MAX), |_, _| {});
    let _ = store.clean(&session, 3);
    let _ = store.trim(&session, 0, |_, _| {});
    if let Ok(Some(pinned)) = store.get_pinned(&session, &key(1)) {
        let _ = pinned.to_vec();
    }
    let _ = store.clear(&session);
    read_everything(&store);
    let _ = store.close_session(&session);
}

/// Does all that there is to namespaces, whatever their records say.
fn exercise_namespaces(store: &Store, session: &Session) {
    for info in store.namespaces().unwrap_or_default() {
        let Ok(place) = store.in_namespace(&info.name) else { continue };
        let (options, always) = (PutOptions::new(), Condition::Always);
        for number in 0..4 {
            let key = key(number);
            let _ = place.put(session, &key, &[7; 50], &options, always);
            let _ = place.put(session, &key, &[8; 5000], &options, Condition::Present);
            let _ = place.add_to(session, &key, 5);
            let _ = place.get(&key);
            let _ = place.ttl(&key);
        }
        let _ = (place.len(), place.scan(Cursor::START, b"", 100));
        let quota = NamespaceOptions::new().quota(10 << 12);
        let _ = store.change_namespace(session, &info.name, &quota);
        let _ = place.put(session, &key(9), &[7; 50], &options, always);
    }
    let _ = store.create_namespace(session, "new", &NamespaceOptions::new().quota(8 << 12));
    let _ = store.remove_namespace(session, "own");
}

fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[test]
fn flipped_bits_of_the_structures_are_answered() {
    let rounds = if cfg!(miri) { 2 } else { 400 };
    for (number, image) in images().iter().enumerate() {
        let arena = u64::from_le_bytes(image[304..312].try_into().expect("8 bytes"));
        let mut next = random(number as u64 + 1);
        for _ in 0..rounds {
            let mut image = image.clone();
            for _ in 0..=next(3) {
                // The superblock's fields are few: they get half of the flips.
                let byte = if next(2) == 0 { next(1024) } else { next(arena) };
                image[byte as usize] ^= 1 << next(8);
            }
            exercise(&image);
        }
    }
}

#[test]
fn random_words_anywhere_are_answered() {
    let rounds = if cfg!(miri) { 2 } else { 400 };
    for (number, image) in images().iter().enumerate() {
        let mut next = random(number as u64 + 77);
        for _ in 0..rounds {
            let mut image = image.clone();
            for _ in 0..=next(200) {
                let at = next(image.len() as u64 / 8) as usize * 8;
                let value = match next(4) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => next(1 << 20),
                    _ => next(u64::MAX),
                };
                // Without a superblock nothing is attached: let it stand most of the time.
                if at >= 512 || next(20) == 0 {
                    image[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
            exercise(&image);
        }
    }
}

#[test]
fn every_byte_of_the_identity_matters_or_does_no_harm() {
    let image = &images()[0];
    for byte in 0..512 {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut image = image.clone();
            image[byte] = value;
            exercise(&image);
        }
    }
}

#[test]
fn a_truncated_image_is_refused() {
    let image = &images()[0];
    for len in [0, 1, 7, 8, 63, 64, 4095, 4096, image.len() / 2, image.len() - 1] {
        assert!(from_image::<Plain>(&image[..len]).is_err(), "{len} bytes");
    }
}

/// Records of namespaces, and the words of the extent table that name them.
#[test]
fn hostile_namespaces_are_answered() {
    let rounds = if cfg!(miri) { 2 } else { 100 };
    for (number, image) in with_namespaces().iter().enumerate() {
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
        let records = word(208);
        let extents = word(240);
        let mut next = random(number as u64 + 5);
        for _ in 0..rounds {
            let mut image = image.clone();
            for _ in 0..=next(12) {
                let record = records + next(6) * 128;
                let (at, value) = match next(8) {
                    0 => (record, u64::MAX >> next(64)),
                    1 => (record, next(8) << 32 | next(80) | next(4) << 48),
                    2 => (record + next(16) * 8, next(u64::MAX)),
                    3 => (record + 8, u64::MAX),
                    4 => (record + 16, next(3) << 32 | next(1 << 17)),
                    5 => (216, [0, 1, 2, 256, 257, u64::MAX][next(6) as usize]),
                    _ => (extents + next(60) * 64 + 16, next(10) << 16 | next(6) << 8 | next(2)),
                };
                image[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
            }
            exercise(&image);
        }
    }
}

/// The bits of an owner's generation say nothing where there is no owner.
#[test]
fn a_free_extent_with_stray_bits_is_not_claimed_over_and_over() {
    let mut image = with_namespaces()[0].clone();
    let word = |image: &[u8], at: usize| {
        u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"))
    };
    let (extents, count) = (word(&image, 240) as usize, word(&image, 248) as usize);
    let free = (0..count).map(|extent| extents + extent * 64).filter(|at| word(&image, *at) == 0);
    for at in free.collect::<Vec<_>>() {
        image[at..at + 8].copy_from_slice(&(1_u64 << 37).to_le_bytes());
    }
    let store = from_image::<Plain>(&image).expect("the rest is as it was");
    let session = store.open_session().expect("a client entry");
    assert_eq!(store.stats().expect("stats").extents_free, 0);
    let (options, always) = (PutOptions::new(), Condition::Always);
    for number in 0..12 {
        let _ = bounded("put", || store.put(&session, &key(number), &[8; 6000], &options, always));
    }
}
