//! The index grows and shortens its chains under readers and writers, and nobody misses a key.

use std::collections::HashSet;
use std::time::Duration;

use store_core::{
    Condition, CreateOptions, Cursor, Mutation, Plain, PutOptions, Session, Shim, Store,
    WriteError, private_on_heap,
};
use store_testing::races::chains::missed;

fn key(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn put<S: Shim>(store: &Store<S>, session: &Session, number: u32) -> Result<(), WriteError> {
    let value = [number as u8; 24];
    let options = PutOptions::new();
    store.put(session, &key(number), &value, &options, Condition::Always).map(drop)
}

fn small(size: u64) -> CreateOptions {
    CreateOptions::new(size).extent_size(4 << 10).items(8)
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn an_index_for_eight_items_grows_to_those_that_fit() {
    let store: Store<Plain> = private_on_heap(&small(4 << 20), 3).expect("a store");
    let session = store.open_session().expect("an entry");
    let mut items = 0;
    while put(&store, &session, items).is_ok() {
        items += 1;
    }
    // 48 bytes of arena each, and about 16 of index.
    assert!(items > 50_000, "{items}");
    let stats = store.stats().expect("stats");
    let per_bucket = f64::from(items) / stats.buckets as f64;
    assert!((5.5..8.0).contains(&per_bucket), "{stats:?}");
    assert!(stats.index_bytes / u64::from(items) <= 20, "{stats:?}");
    for number in 0..items {
        assert_eq!(store.get(&key(number)), Ok(Some(vec![number as u8; 24])), "{number}");
    }
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
    for number in 0..items {
        assert!(store.delete(&session, &key(number)).expect("a delete"), "{number}");
    }
    assert_eq!(store.stats().expect("stats").overflow_lines_used, 0);
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_constant_number_of_items_keeps_a_constant_number_of_lines() {
    let store: Store<Plain> = private_on_heap(&small(4 << 20), 3).expect("a store");
    let session = store.open_session().expect("an entry");
    const ITEMS: u32 = 10_000;
    let mut lines = Vec::new();
    for turn in 0..30 {
        for number in turn * ITEMS..(turn + 1) * ITEMS {
            put(&store, &session, number).expect("room");
            if turn > 0 {
                store.delete(&session, &key(number - ITEMS)).expect("a delete");
            }
        }
        lines.push(store.stats().expect("stats").overflow_lines_used);
    }
    assert!(lines[29] <= lines[1] + lines[1] / 5, "{lines:?}");
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn clients_that_write_once_let_it_grow() {
    let store: Store<Plain> = private_on_heap(&small(1 << 20), 3).expect("a store");
    for number in 0..2000 {
        let session = store.open_session().expect("an entry");
        put(&store, &session, number).expect("room");
        store.close_session(&session).expect("an end");
    }
    assert!(store.stats().expect("stats").buckets > 250);
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_scan_sees_what_stands_while_it_grows() {
    let store: Store<Plain> = private_on_heap(&small(4 << 20), 3).expect("a store");
    let session = store.open_session().expect("an entry");
    for number in 0..500 {
        put(&store, &session, number).expect("room");
    }
    let (mut seen, mut next, mut more) = (HashSet::new(), Some(Cursor::START), 500..40_000);
    while let Some(cursor) = next {
        let page = store.scan(cursor, b"", 7).expect("a page");
        seen.extend(page.keys);
        next = page.next;
        more.by_ref().take(40).for_each(|number| put(&store, &session, number).expect("room"));
    }
    for number in 0..500 {
        assert!(seen.contains(&key(number)[..]), "{number}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn no_reader_misses_a_key_that_stands() {
    assert_eq!(missed::<Plain>(Duration::from_secs(2), true), 0);
    assert_eq!(missed::<Plain>(Duration::from_secs(2), false), 0);
}

/// Clears the old bucket too early.
struct ClearsEarly;

impl Shim for ClearsEarly {
    fn leaves_out(rule: Mutation) -> bool {
        rule == Mutation::ClearBeforeSize
    }
}

/// Tells no reader that a chain was changed.
struct TellsNobody;

impl Shim for TellsNobody {
    fn leaves_out(rule: Mutation) -> bool {
        rule == Mutation::SkipEpochBump
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn negative_control_size_before_clear() {
    assert!(missed::<ClearsEarly>(Duration::from_secs(60), true) > 0);
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn negative_control_epoch() {
    assert!(missed::<TellsNobody>(Duration::from_secs(60), false) > 0);
}

/// What is kept free is a part of the largest size, and far more than the store has at first: it is not
/// taken from that, nor asked for before it is needed.
#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_small_store_of_a_large_size_grows_as_it_is_filled() {
    let options = CreateOptions::new(2 << 20).max_size(64 << 20).extent_size(4 << 10).items(100);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
    let session = store.open_session().expect("an entry");
    for number in 0..20_000_u32 {
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(&session, &number.to_le_bytes(), &[5; 60], &options, always).expect("it grows");
    }
    let stats = store.stats().expect("stats");
    let used = stats.live_bytes + stats.index_bytes;
    assert!(stats.arena_bytes < used * 5 / 4 + (2 << 20), "{stats:?}");
    assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
}
