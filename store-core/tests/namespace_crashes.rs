//! Every prefix of the stores of what is done to a namespace, applied to a copy of the segment: another
//! process recovers, and finds what was there before or after, or a removal that can be begun again.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;

use common::{contents, key, kill_clients};
use store_core::{
    Condition, CreateOptions, Mode, NamespaceError, NamespaceOptions, Plain, PutOptions, Session,
    Shim, Store, from_image, private_on_heap,
};

const EXTENT: u64 = 4 << 10;
const KEYS: u8 = 60;

thread_local! {
    /// Address, value and size of each store since the log was emptied.
    static LOG: RefCell<Vec<(usize, u64, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Logs each store.
struct Logging;

impl Shim for Logging {
    const OBSERVES: bool = true;

    fn before_store(address: usize, value: u64, bytes: usize) {
        LOG.with_borrow_mut(|log| log.push((address, value, bytes)));
    }
}

fn put<S: Shim>(place: &Store<S>, session: &Session, number: u8, byte: u8) {
    let (options, always) = (PutOptions::new(), Condition::Always);
    let value = vec![byte; 100 + usize::from(number)];
    place.put(session, &key(number), &value, &options, always).expect("room");
}

/// A store with keys of its own, and as many in a namespace with a quota and in one without.
fn image(mode: Mode) -> Vec<u8> {
    let options = CreateOptions::new(256 << 10).extent_size(EXTENT).items(400).mode(mode);
    let store: Store = private_on_heap(&options, 5).expect("a tiny store");
    let session = store.open_session().expect("an entry");
    let quota = NamespaceOptions::new().quota(10 * EXTENT);
    store.create_namespace(&session, "quota", &quota).expect("a record");
    store.create_namespace(&session, "none", &NamespaceOptions::new()).expect("a record");
    for number in 0..KEYS {
        put(&store, &session, number, 1);
        for name in ["quota", "none"] {
            put(&store.in_namespace(name).expect("it is there"), &session, number, 2);
        }
    }
    store.close_session(&session).expect("a close");
    store.image().expect("an image")
}

/// Does `act` to a copy of `image` and shows `look` each state that a crash in it can leave, once
/// another process has recovered; how many there are.
fn crash_in(
    image: &[u8],
    act: impl FnOnce(&Store<Logging>, &Session),
    look: impl Fn(&Store, &Session),
) -> usize {
    let writer: Store<Logging> = from_image(image).expect("a store");
    let address = writer.info().expect("info").address as usize;
    let session = writer.open_session().expect("an entry");
    let mut image = writer.image().expect("an image");
    LOG.take();
    act(&writer, &session);
    let stores = LOG.take();
    let mut seen = HashSet::new();
    for done in 0..=stores.len() {
        if done > 0 {
            let (at, value, bytes) = stores[done - 1];
            let at = at - address;
            image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        if !seen.insert(image.clone()) {
            continue;
        }
        let mut dead = image.clone();
        kill_clients(&mut dead);
        let store: Store<Plain> = from_image(&dead).expect("a store");
        let session = store.open_session().expect("an entry");
        store.reap(&session).expect("recovers");
        look(&store, &session);
        let report = store.check(|_, _| {});
        assert_eq!(report.violations, [""; 0], "after {done} of {} stores", stores.len());
    }
    seen.len()
}

fn assert_base_stands(store: &Store) {
    let found = contents(store);
    assert_eq!(found.len(), usize::from(KEYS));
    assert!(found.values().all(|value| value[0] == 1));
}

#[test]
fn one_is_made_or_not() {
    let image = image(Mode::Store);
    let options = NamespaceOptions::new().quota(9 * EXTENT);
    let states = crash_in(
        &image,
        |store, session| store.create_namespace(session, "new", &options).expect("a record"),
        |store, session| {
            let there = store.namespaces().expect("records").iter().any(|info| info.name == "new");
            match store.create_namespace(session, "new", &options) {
                Ok(()) => assert!(!there),
                Err(NamespaceError::Exists { .. }) => assert!(there),
                Err(error) => panic!("{error}"),
            }
            let place = store.in_namespace("new").expect("it is there now");
            put(&place, session, 1, 9);
            assert_eq!(contents(&place).len(), 1);
            assert_base_stands(store);
        },
    );
    assert!(states > 5, "{states}");
}

#[test]
fn a_removal_can_be_begun_again() {
    for (mode, name) in [(Mode::Store, "quota"), (Mode::Store, "none"), (Mode::Cache, "quota")] {
        let states = crash_in(
            &image(mode),
            |store, session| {
                let deleted = store.remove_namespace(session, name).expect("it is there");
                assert_eq!(deleted, u64::from(KEYS));
            },
            |store, session| {
                let infos = store.namespaces().expect("records");
                match infos.iter().find(|info| info.name == name) {
                    Some(info) if info.leaving => {
                        assert!(store.in_namespace(name).is_err());
                        store.remove_namespace(session, name).expect("it is begun again");
                    }
                    Some(_) => {
                        let place = store.in_namespace(name).expect("it is there");
                        assert_eq!(contents(&place).len(), usize::from(KEYS));
                    }
                    None => {}
                }
                if store.in_namespace(name).is_err() {
                    assert_eq!(store.len(), 2 * u64::from(KEYS));
                    store
                        .create_namespace(session, name, &NamespaceOptions::new())
                        .expect("the name is free");
                    let place = store.in_namespace(name).expect("it is there");
                    assert!(contents(&place).is_empty());
                }
                assert_base_stands(store);
            },
        );
        assert!(states > usize::from(KEYS), "{states}");
    }
}

#[test]
fn a_quota_is_the_old_one_or_the_new_one() {
    let bytes = |extents: u64| NamespaceOptions::new().quota(extents * EXTENT);
    crash_in(
        &image(Mode::Cache),
        |store, session| store.change_namespace(session, "quota", &bytes(14)).expect("room"),
        |store, _| {
            let info = &store.namespaces().expect("records")[0];
            let quota = info.quota_bytes.expect("it has one") / EXTENT;
            assert!(quota == 10 || quota == 14, "{quota}");
            let place = store.in_namespace("quota").expect("it is there");
            assert_eq!(contents(&place).len(), usize::from(KEYS));
            assert_base_stands(store);
        },
    );
}

#[test]
fn a_put_at_the_quota_is_done_or_not() {
    for mode in [Mode::Store, Mode::Cache] {
        let mut states = 0;
        for turn in 0..2_u8 {
            states += crash_in(
                &image(mode),
                |store, session| {
                    let place = store.in_namespace("quota").expect("it is there");
                    // Overwrites, so that at the quota extents are emptied.
                    for number in 0..3 * u16::from(KEYS) {
                        let number = (number * 7 + u16::from(turn)) % u16::from(KEYS);
                        put(&place, session, number as u8, 3);
                    }
                },
                |store, session| {
                    let place = store.in_namespace("quota").expect("it is there");
                    let found = contents(&place);
                    assert!(mode == Mode::Cache || found.len() == usize::from(KEYS));
                    assert!(found.values().all(|value| value[0] == 2 || value[0] == 3));
                    put(&place, session, 0, 4);
                    assert_base_stands(store);
                },
            );
        }
        assert!(states > 500, "{states}");
    }
}

#[test]
fn a_large_value_is_the_old_one_or_the_new_one() {
    let sized = |byte: u8| vec![byte; 2 * EXTENT as usize];
    for name in ["quota", "none"] {
        let replace = |store: &Store<Logging>, session: &Session| {
            let place = store.in_namespace(name).expect("it is there");
            for byte in [6, 7] {
                let (options, always) = (PutOptions::new(), Condition::Always);
                place.put(session, b"large", &sized(byte), &options, always).expect("room");
            }
        };
        let states = crash_in(&image(Mode::Store), replace, |store, _| {
            let place = store.in_namespace(name).expect("it is there");
            let found = place.get(b"large").expect("a lookup");
            assert!(found.is_none() || found == Some(sized(6)) || found == Some(sized(7)));
            assert_base_stands(store);
        });
        assert!(states > 2000, "{states}");
    }
}
