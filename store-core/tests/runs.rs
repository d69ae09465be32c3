//! Values larger than an extent: what their last extents have left is used, again and again.

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

/// A third of the arena in values of an extent and a fifth.
fn with_large_values() -> (Store<Plain>, Session) {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10).items(4000);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    for number in 0..70 {
        put(&store, &session, &format!("large {number}"), 4900).expect("room");
    }
    (store, session)
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn small_values_fill_the_rest_of_a_large_one() {
    let (store, session) = with_large_values();
    let mut small = 0;
    while put(&store, &session, &format!("small {small}"), 300).is_ok() {
        small += 1;
    }
    assert!(live_percent(&store) >= 85, "{:?}", store.stats());
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    // What is freed by a large value takes another one.
    for number in 0..70 {
        let key = format!("large {number}");
        store.delete(&session, key.as_bytes()).expect("a delete");
        put(&store, &session, &key, 4900).expect("its own room");
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn rests_that_are_emptied_are_filled_anew() {
    let (store, session) = with_large_values();
    let small = (store.stats().expect("stats").arena_bytes / 2 / 340) as usize;
    // Twenty times over, while the large ones stay.
    for turn in 0..20 * small {
        let key = format!("small {}", turn * 7919 % small);
        put(&store, &session, &key, 280 + turn % 40)
            .unwrap_or_else(|error| panic!("{turn}: {error}"));
    }
    assert!(live_percent(&store) >= 78, "{:?}", store.stats());
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    let all: Vec<u8> = (0..4900).map(|at| (at ^ 4900) as u8).collect();
    for number in 0..70 {
        assert_eq!(
            store.get(format!("large {number}").as_bytes()).as_ref(),
            Ok(&Some(all.clone()))
        );
    }
    store.clear(&session).expect("a clear");
    store.clean(&session, 1000).expect("cleaning");
    assert_eq!(store.stats().expect("stats").live_bytes, 0);
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

/// Large values may take what is kept for cleaners; small ones that are deleted are room all the same.
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn what_is_deleted_is_room_after_large_values_took_the_reserve() {
    let options = CreateOptions::new(2_000_000).extent_size(4 << 10);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut small = 0;
    while put(&store, &session, &format!("small {small}"), 300).is_ok() {
        small += 1;
    }
    let mut large = 0;
    while put(&store, &session, &format!("large {large}"), 12_000).is_ok() {
        large += 1;
    }
    assert!(large > 0);
    for number in 0..small {
        let key = format!("small {number}");
        assert!(store.delete(&session, key.as_bytes()).expect("a delete"));
        put(&store, &session, &key, 300).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

/// An extent with the end of a large value is not free when what lies behind that was moved out of it:
/// so the last free one is not taken for that.
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn the_end_of_a_large_value_costs_no_free_extent() {
    let options = CreateOptions::new(360 << 10).extent_size(8 << 10).items(3000);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut standing: Vec<u64> = Vec::new();
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    let mut refused = 0;
    for number in 0..20_000_u64 {
        let len = if below(8) == 0 { 8190 } else { below(8000) as usize };
        if put(&store, &session, &number.to_string(), len).is_ok() {
            standing.push(number);
        } else {
            refused += 1;
            let stats = store.stats().expect("stats");
            assert!(stats.extents_free > 0, "{number}: {stats:?}");
            let key = standing.swap_remove(below(standing.len() as u64) as usize);
            assert!(store.delete(&session, key.to_string().as_bytes()).expect("a delete"));
        }
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}
