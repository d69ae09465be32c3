//! Values in pieces: they leave little unused, take what others gave back wherever it is, and stay whole.

use store_core::{
    Condition, CreateOptions, Plain, PutOptions, Session, Store, WriteError, private_on_heap,
};

fn put(store: &Store<Plain>, session: &Session, key: &str, len: usize) -> Result<(), WriteError> {
    let value: Vec<u8> = (0..len).map(|at| (at ^ len) as u8).collect();
    let options = PutOptions::new();
    store.put(session, key.as_bytes(), &value, &options, Condition::Always).map(drop)
}

fn live_percent(store: &Store<Plain>) -> u64 {
    let stats = store.stats().expect("stats");
    stats.live_bytes * 100 / stats.arena_bytes
}

/// A sequence of numbers that look random.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    }
}

/// Fills a store with values whose lengths `len` gives, by way of overwriting and deleting, until one
/// is refused; then deletes one after the other and puts one of its length, a thousand times.
fn what_is_deleted_is_room(extent_bytes: u64, size: u64, mut len: impl FnMut(u64) -> usize) {
    let options = CreateOptions::new(size).extent_size(extent_bytes);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut random = numbers(size ^ extent_bytes);
    let mut lens = Vec::new();
    loop {
        let next = len(lens.len() as u64);
        match put(&store, &session, &lens.len().to_string(), next) {
            Ok(()) => lens.push(next),
            Err(WriteError::Full(_)) => break,
            // Of values of a few bytes the index may be what finds no room.
            Err(WriteError::IndexFull { .. }) if next < 16 => break,
            Err(error) => panic!("{error}"),
        }
        if random(4) == 0 {
            let again = random(lens.len() as u64) as usize;
            if put(&store, &session, &again.to_string(), lens[again]).is_err() {
                break;
            }
        }
    }
    assert!(live_percent(&store) >= 85, "{:?}", store.stats());
    for turn in 0..1000 {
        let at = random(lens.len() as u64) as usize;
        let key = at.to_string();
        assert!(store.delete(&session, key.as_bytes()).expect("a delete"));
        put(&store, &session, &key, lens[at])
            .unwrap_or_else(|error| panic!("turn {turn}, {} bytes: {error}", lens[at]));
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    for (at, len) in lens.iter().enumerate() {
        let value: Vec<u8> = (0..*len).map(|at| (at ^ len) as u8).collect();
        assert_eq!(store.get(at.to_string().as_bytes()), Ok(Some(value)), "{at}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_full_store_takes_what_was_deleted_whatever_its_length() {
    for len in [440, 520, 700, 2100, 3900, 4050, 4200, 8200, 12_000, 34_000, 100_000] {
        what_is_deleted_is_room(4 << 10, 1 << 20, |_| len);
    }
    for len in [34_000, 8_300, 70_000, 900_000] {
        what_is_deleted_is_room(16 << 10, 16 << 20, |_| len);
    }
    for len in [131_072, 196_708, 327_680] {
        // And smaller ones into what is left.
        what_is_deleted_is_room(64 << 10, 4 << 20, |nth| match nth {
            0..10 => len,
            _ => 30_000 / (nth as usize - 9) + 1,
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_full_store_of_all_lengths_takes_what_was_deleted() {
    for seed in 0..4 {
        let mut random = numbers(seed);
        what_is_deleted_is_room(4 << 10, 1 << 20, |_| {
            let most = [200, 2000, 10_000, 60_000][random(4) as usize];
            random(most) as usize
        });
    }
    // Small ones first, which lie everywhere, and then large ones.
    let mut random = numbers(9);
    what_is_deleted_is_room(4 << 10, 2 << 20, |nth| match nth {
        0..3000 => random(400) as usize,
        _ => 20_000 + random(40_000) as usize,
    });
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_refusal_tells_the_largest_room() {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10).items(4000);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut small = 0;
    while put(&store, &session, &format!("small {small}"), 300).is_ok() {
        small += 1;
    }
    let refused = |len| match put(&store, &session, "large", len) {
        Err(WriteError::Full(full)) => full,
        other => panic!("{other:?}"),
    };
    let full = refused(40_000);
    assert!(full.needed > 40_000 && full.largest < 40_000 && full.reserve > 0, "{full:?}");
    // Some pieces are free, and a large value would take more than those.
    for number in 0..small / 8 {
        store.delete(&session, format!("small {number}").as_bytes()).expect("a delete");
    }
    let full = refused(230_000);
    assert!(full.largest > 40_000, "{full:?}");
    // Header and key take 24 bytes.
    put(&store, &session, "large", full.largest as usize - 24).expect("so it said");
    store.delete(&session, b"large").expect("a delete");
    for number in (0..small).step_by(2) {
        store.delete(&session, format!("small {number}").as_bytes()).expect("a delete");
    }
    // A quarter of the store, from many pieces.
    put(&store, &session, "large", 220_000).expect("room can be made");
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

/// Large values take the last room; small ones that are deleted are room all the same.
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn what_is_deleted_is_room_after_large_values_took_the_last() {
    let options = CreateOptions::new(2_000_000).extent_size(4 << 10);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut small = 0;
    while put(&store, &session, &format!("small {small}"), 300).is_ok() {
        small += 1;
    }
    let mut large = 0;
    while put(&store, &session, &format!("large {large}"), 7000).is_ok() {
        large += 1;
    }
    for number in 0..small {
        let key = format!("small {number}");
        assert!(store.delete(&session, key.as_bytes()).expect("a delete"));
        put(&store, &session, &key, 300).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn the_limit_is_the_same_for_writers_who_come_and_go() {
    for extent_bytes in [64 << 10, 1 << 20] {
        let options = CreateOptions::new(16 << 20).extent_size(extent_bytes);
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let put_alone = |key: &str| {
            let session = store.open_session().expect("an entry");
            let outcome = put(&store, &session, key, 400);
            store.close_session(&session).expect("it ends");
            outcome
        };
        let count = (0..100_000).take_while(|nth| put_alone(&nth.to_string()).is_ok()).count();
        for nth in 0..10 {
            let error = put_alone(&format!("more {nth}")).expect_err("it is full");
            let WriteError::Full(full) = error else { panic!("{error}") };
            assert!(full.live <= full.limit && full.largest < full.needed, "{full:?}");
            assert!(full.live + full.needed > full.limit, "{full:?}");
        }
        let session = store.open_session().expect("an entry");
        for nth in (0..count).step_by(31) {
            let key = nth.to_string();
            assert!(store.delete(&session, key.as_bytes()).expect("a delete"));
            put_alone(&key).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn the_limit_is_the_same_for_several_writers() {
    let options = CreateOptions::new(16 << 20).extent_size(64 << 10);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let sessions = [(); 6].map(|()| store.open_session().expect("an entry"));
    let mut random = numbers(5);
    let mut put_by_one = |key: &str| put(&store, &sessions[random(6) as usize], key, 400);
    let count = (0..100_000).take_while(|nth| put_by_one(&nth.to_string()).is_ok()).count();
    for nth in 0..100 {
        let Err(WriteError::Full(full)) = put_by_one(&format!("more {nth}")) else { continue };
        // What the others had open is theirs: less than an item each.
        assert!(full.live <= full.limit + 6 * full.needed, "{full:?}");
    }
    for nth in (0..count).step_by(31) {
        let key = nth.to_string();
        assert!(store.delete(&sessions[0], key.as_bytes()).expect("a delete"));
        put_by_one(&key).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}
