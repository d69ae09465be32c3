//! Namespaces: keys of their own, a quota that is theirs, and nobody else's items in its way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use proptest::test_runner::FileFailurePersistence;
use store_core::{
    Condition, CreateOptions, Cursor, Mode, NamespaceError, NamespaceOptions, Outcome, PutOptions,
    ReadError, Session, Shim, Store, Ttl, WriteError, private_on_heap,
};
use store_testing::pair::{contents, key, value};

const EXTENT: u64 = 4 << 10;

fn store(size: u64, mode: Mode) -> (Store, Session) {
    let options = CreateOptions::new(size).extent_size(EXTENT).items(size / 400).mode(mode);
    let store: Store = private_on_heap(&options, 5).expect("a store");
    let session = store.open_session().expect("an entry");
    (store, session)
}

fn put(store: &Store, session: &Session, key: &[u8], value: &[u8]) -> Result<Outcome, WriteError> {
    store.put(session, key, value, &PutOptions::new(), Condition::Always)
}

fn namespace(store: &Store, session: &Session, name: &str, options: &NamespaceOptions) -> Store {
    store.create_namespace(session, name, options).expect("a namespace");
    store.in_namespace(name).expect("it is there")
}

fn assert_sound(store: &Store) {
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
}

#[test]
fn equal_keys_of_namespaces_are_different_keys() {
    let (store, session) = store(1 << 20, Mode::Store);
    let options = NamespaceOptions::new();
    let [a, b] = ["a", "b"].map(|name| namespace(&store, &session, name, &options));
    for (place, text) in [(&store, "none"), (&a, "of a"), (&b, "of b")] {
        for number in 0..100_u64 {
            put(place, &session, &key(number as u8), text.as_bytes()).expect("room");
        }
    }
    for (place, text) in [(&store, "none"), (&a, "of a"), (&b, "of b")] {
        assert_eq!(place.get(&key(7)), Ok(Some(text.as_bytes().to_vec())));
        assert_eq!(contents(place).len(), 100, "a scan shows its own");
        let keys: Vec<_> = (0..100).map(key).collect();
        let found = place.get_many(&keys).expect("no guard is held");
        assert!(found.iter().all(|found| found.as_deref() == Some(text.as_bytes())));
    }
    assert_eq!((store.len(), a.len(), b.len()), (300, 100, 100));
    assert!(a.delete(&session, &key(7)).expect("a delete"));
    assert_eq!(a.get(&key(7)), Ok(None));
    assert_eq!(b.get(&key(7)), Ok(Some(b"of b".to_vec())));
    assert_eq!(a.clear(&session).expect("no guard is held"), 99);
    assert_eq!((store.len(), a.len(), b.len()), (200, 0, 100));
    assert_eq!(store.clear(&session).expect("no guard is held"), 100);
    assert_eq!(contents(&b).len(), 100);
    assert_sound(&store);
}

#[test]
fn one_that_was_removed_is_gone_for_its_old_handles() {
    let (store, session) = store(1 << 20, Mode::Store);
    let old = namespace(&store, &session, "prices", &NamespaceOptions::new());
    put(&old, &session, b"k", b"old").expect("room");
    assert_eq!(store.remove_namespace(&session, "prices").expect("it is there"), 1);
    assert_eq!(old.get(b"k"), Ok(None));
    let written = put(&old, &session, b"k", b"late").map_err(|error| error.to_string());
    assert!(written.expect_err("it is gone").contains("prices was removed"));
    let new = namespace(&store, &session, "prices", &NamespaceOptions::new());
    assert_eq!(new.get(b"k"), Ok(None));
    put(&new, &session, b"k", b"new").expect("room");
    assert_eq!(old.get(b"k"), Ok(None), "another one has the name");
    assert!(matches!(put(&old, &session, b"k", b"late"), Err(WriteError::NamespaceGone { .. })));
    assert!(matches!(old.delete(&session, b"k"), Err(WriteError::NamespaceGone { .. })));
    assert_eq!(new.get(b"k"), Ok(Some(b"new".to_vec())));
    assert_eq!(store.len(), 1);
    assert_sound(&store);
}

#[test]
fn what_can_not_be_is_refused_with_a_reason() {
    let (store, session) = store(1 << 20, Mode::Store);
    let create = |name: &str, options: NamespaceOptions| {
        store.create_namespace(&session, name, &options).map_err(|error| error.to_string())
    };
    let new = NamespaceOptions::new;
    assert_eq!(create("ok", new()), Ok(()));
    let long = "x".repeat(33);
    let refused = [
        ("ok", new(), "already"),
        ("", new(), "no name"),
        ("with blank", new(), "no name"),
        (&long, new(), "no name"),
        ("large", new().quota(1 << 40), "at most"),
        ("cache", new().mode(Mode::Cache), "mode store"),
        ("ttl", new().default_ttl(Duration::from_nanos(1)), "out of range"),
    ];
    for (name, options, says) in refused {
        let error = create(name, options).expect_err(name);
        assert!(error.contains(says), "{name}: {error}");
    }
    assert!(matches!(
        store.in_namespace("absent"),
        Err(NamespaceError::NotFound { known, .. }) if known == ["ok"]
    ));
    let mut made = 1;
    let limit = loop {
        match store.create_namespace(&session, &format!("n{made}"), &new()) {
            Ok(()) => made += 1,
            Err(NamespaceError::TooMany { limit }) => break limit,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((made, limit), (127, 127), "one record is that of the keys without one");
    assert_eq!(store.namespaces().expect("records").len(), 127);
    let info = store.info().expect("info");
    assert_eq!((info.namespaces, info.namespaces_max), (127, 127));
    let (large, _) = self::store(4 << 20, Mode::Store);
    assert_eq!(large.info().expect("info").namespaces_max, 255);
    let (cache, session) = self::store(1 << 20, Mode::Cache);
    let error = cache.create_namespace(&session, "kept", &new().mode(Mode::Store));
    assert!(matches!(error, Err(NamespaceError::NeedsQuota)));
}

#[test]
fn its_time_to_live_is_what_a_put_has_that_says_none() {
    let (store, session) = store(1 << 20, Mode::Store);
    let options = NamespaceOptions::new().default_ttl(Duration::from_secs(60));
    let sessions = namespace(&store, &session, "sessions", &options);
    put(&sessions, &session, b"k", b"v").expect("room");
    let left = |key: &[u8]| sessions.ttl(key).expect("no guard is held").expect("it is there");
    assert!(matches!(left(b"k"), Ttl::Left(left) if left > Duration::from_secs(59)));
    sessions.add_to(&session, b"n", 1).expect("a counter");
    assert!(matches!(left(b"n"), Ttl::Left(_)));
    let always = Condition::Always;
    let short = PutOptions::new().ttl(Duration::from_secs(5));
    sessions.put(&session, b"k", b"v", &short, always).expect("room");
    assert!(matches!(left(b"k"), Ttl::Left(left) if left <= Duration::from_secs(5)));
    sessions.put(&session, b"k", b"v", &PutOptions::new().for_ever(), always).expect("room");
    assert_eq!(left(b"k"), Ttl::Never);
    assert!(sessions.set_ttl(&session, b"n", Ttl::Never).expect("it is there"));
    assert_eq!(left(b"n"), Ttl::Never);
    let none = NamespaceOptions::new().default_ttl(Duration::ZERO);
    store.change_namespace(&session, "sessions", &none).expect("it is there");
    put(&sessions, &session, b"k", b"v").expect("room");
    assert_eq!(left(b"k"), Ttl::Never);
}

/// Puts until there is no room; how many went in.
fn fill(place: &Store, session: &Session) -> (u64, WriteError) {
    for number in 0_u64.. {
        if let Err(error) = put(place, session, &number.to_le_bytes(), &[1; 200]) {
            return (number, error);
        }
    }
    unreachable!("a store of finite size");
}

#[test]
fn a_quota_is_kept_for_it_and_is_no_more_than_it_gets() {
    let (store, session) = store(1 << 20, Mode::Store);
    let quota = 40 * EXTENT;
    let kept = namespace(&store, &session, "kept", &NamespaceOptions::new().quota(quota));
    let (others, error) = fill(&store, &session);
    assert!(matches!(error, WriteError::Full(_)), "{error}");
    let (own, error) = fill(&kept, &session);
    // The index grew, and has what was left of it.
    assert!(is_full(&error), "{error}");
    // 232 bytes each: 16 of header, 8 of key.
    let bytes = own * 224;
    assert!(bytes > quota * 8 / 10 && bytes <= quota, "{bytes} of {quota}");
    for round in 0..2000_u64 {
        let gone = (round % own).to_le_bytes();
        assert!(kept.delete(&session, &gone).expect("no guard is held"));
        put(&kept, &session, &gone, &[2; 200]).expect("as much was deleted");
    }
    let info = &store.namespaces().expect("records")[0];
    assert_eq!((info.items, info.quota_bytes), (own, Some(quota)));
    // A cleaner's destination comes on top while it is filled.
    assert!(info.extent_bytes.is_some_and(|bytes| bytes <= quota + 2 * EXTENT), "{info:?}");
    assert_eq!(store.len(), own + others);
    assert_sound(&store);
    let more = NamespaceOptions::new().quota(quota * 100);
    assert!(matches!(
        store.change_namespace(&session, "kept", &more),
        Err(NamespaceError::InvalidQuota { .. })
    ));
    for number in 0..others {
        store.delete(&session, &number.to_le_bytes()).expect("no guard is held");
    }
    store
        .change_namespace(&session, "kept", &NamespaceOptions::new().quota(2 * quota))
        .expect("there is as much");
    let (more, _) = fill(&kept, &session);
    assert!(more > own * 19 / 10, "{more} of twice {own}");
    assert_sound(&store);
}

#[test]
fn a_flood_takes_nothing_of_a_namespace_with_a_quota() {
    let (store, session) = store(1 << 20, Mode::Cache);
    let quota = NamespaceOptions::new().quota(30 * EXTENT);
    let cached = namespace(&store, &session, "cached", &quota);
    let kept = namespace(&store, &session, "kept", &quota.mode(Mode::Store));
    let flood = namespace(&store, &session, "flood", &quota);
    let pooled = namespace(&store, &session, "pooled", &NamespaceOptions::new());
    let own = 20 * EXTENT / 224;
    for place in [&cached, &kept] {
        for number in 0..own {
            put(place, &session, &number.to_le_bytes(), &[3; 200]).expect("room");
        }
    }
    for number in 0..20_000_u64 {
        for place in [&flood, &pooled, &store] {
            put(place, &session, &number.to_le_bytes(), &[4; 200]).expect("eviction makes room");
        }
    }
    for place in [&cached, &kept] {
        for number in 0..own {
            assert!(place.contains(&number.to_le_bytes()).expect("no guard is held"), "{number}");
        }
    }
    let infos = store.namespaces().expect("records");
    let [of_cached, of_kept, of_flood, of_pooled] = &infos[..] else { panic!("{infos:?}") };
    assert_eq!((of_cached.evicted, of_kept.evicted), (0, 0));
    assert!(of_flood.evicted > 19_000 && of_pooled.evicted > 15_000, "{infos:?}");
    assert!(of_flood.extent_bytes <= Some(32 * EXTENT), "{of_flood:?}");
    // The pool had what nobody else has taken.
    assert!(store.len() > own * 2 + (1 << 20) / 2 / 300, "{}", store.len());
    let (filled, error) = fill(&kept, &session);
    assert!(matches!(error, WriteError::QuotaFull { .. }), "{error}");
    assert!(filled >= own, "{filled}");
    // Its own flood evicts its own, and it gets back what the pool had borrowed.
    for number in 0..20_000_u64 {
        put(&cached, &session, &number.to_le_bytes(), &[5; 200]).expect("eviction makes room");
    }
    assert!(cached.len() * 224 > 24 * EXTENT, "{} items", cached.len());
    assert_sound(&store);
}

/// Items that were written before their namespace got a quota move to its extents when theirs are
/// emptied.
#[test]
fn a_quota_can_be_given_and_taken_later() {
    let (store, session) = store(1 << 20, Mode::Cache);
    let place = namespace(&store, &session, "late", &NamespaceOptions::new());
    let own = 8 * EXTENT / 224;
    for number in 0..own {
        put(&place, &session, &number.to_le_bytes(), &[3; 200]).expect("room");
    }
    let quota = NamespaceOptions::new().quota(30 * EXTENT);
    store.change_namespace(&session, "late", &quota).expect("there is as much");
    for number in 0..20_000_u64 {
        put(&store, &session, &number.to_le_bytes(), &[4; 200]).expect("eviction makes room");
    }
    for number in 0..own {
        assert!(place.contains(&number.to_le_bytes()).expect("no guard is held"), "{number}");
    }
    assert_sound(&store);
    store.change_namespace(&session, "late", &NamespaceOptions::new().quota(0)).expect("it is");
    for number in 0..20_000_u64 {
        put(&store, &session, &(number << 32).to_le_bytes(), &[4; 200]).expect("eviction");
    }
    let info = &store.namespaces().expect("records")[0];
    assert_eq!((info.quota_bytes, info.extent_bytes), (None, None), "it shares again");
    assert_sound(&store);
}

#[test]
fn a_listener_is_told_whose_item_went() {
    let (store, session) = store(1 << 20, Mode::Store);
    let place = namespace(&store, &session, "n", &NamespaceOptions::new());
    let gone = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&gone);
    assert!(session.listen(move |item| told.lock().expect("one thread").push(item)));
    let soon = PutOptions::new().ttl(Duration::from_millis(1));
    for place in [&store, &place] {
        place.put(&session, b"k", b"v", &soon, Condition::Always).expect("room");
    }
    std::thread::sleep(Duration::from_millis(30));
    store.sweep(&session, u64::MAX).expect("no guard is held");
    let gone = gone.lock().expect("one thread");
    let mut names: Vec<_> = gone.iter().map(|item| item.namespace.as_deref()).collect();
    names.sort();
    assert_eq!(names, [None, Some("n")]);
    assert_eq!(store.namespaces().expect("records")[0].expired, 1);
    assert_eq!(store.len() + place.len(), 0);
    assert_sound(&store);
}

/// Whatever is free is more than is looked at at once, and kept for the namespace.
#[test]
fn others_have_what_a_large_quota_leaves() {
    let (store, session) = store(4 << 20, Mode::Store);
    let quota = NamespaceOptions::new().quota(200 * EXTENT);
    namespace(&store, &session, "large", &quota);
    let (filled, _) = fill(&store, &session);
    assert!(filled * 224 > 600 * EXTENT, "{filled} of nearly 800 extents");
    assert_sound(&store);
}

/// A handle of a namespace whose number another one has by now.
#[test]
fn an_old_handle_does_nothing_to_who_has_its_number() {
    let (store, session) = store(1 << 20, Mode::Store);
    let late = store.open_session().expect("an entry");
    let old = namespace(&store, &session, "old", &NamespaceOptions::new());
    store.remove_namespace(&session, "old").expect("it is there");
    let new = namespace(&store, &session, "new", &NamespaceOptions::new());
    let (filled, _) = fill(&new, &session);
    for number in (0..filled).step_by(3) {
        new.delete(&session, &number.to_le_bytes()).expect("no guard is held");
    }
    let is_gone = |error| matches!(error, WriteError::NamespaceGone { .. });
    for number in 0..400_u64 {
        // Those that come first would clean.
        let error = put(&old, &late, &number.to_le_bytes(), &[8; 1000]).expect_err("it is gone");
        assert!(is_gone(error));
    }
    assert!(old.clear(&late).is_err_and(is_gone));
    assert_eq!((old.len(), contents(&old).len()), (0, 0));
    for number in (0..filled).filter(|number| number % 3 != 0) {
        assert_eq!(new.get(&number.to_le_bytes()), Ok(Some(vec![1; 200])), "{number}");
    }
    assert_sound(&store);
}

/// Others have borrowed all that it has not taken.
#[test]
fn the_last_extent_of_a_quota_can_be_had() {
    let (store, session) = store(1 << 20, Mode::Cache);
    let quota = NamespaceOptions::new().quota(20 * EXTENT).mode(Mode::Store);
    let kept = namespace(&store, &session, "kept", &quota);
    for number in 0..10_000_u64 {
        put(&store, &session, &number.to_le_bytes(), &[4; 300]).expect("eviction makes room");
    }
    let (filled, error) = fill(&kept, &session);
    assert!(matches!(error, WriteError::QuotaFull { .. }), "{error}");
    assert_eq!(filled, 20 * (EXTENT / 224), "extents are filled");
    assert_sound(&store);
}

/// A namespace that has not used up its quota, where nobody has anything to give: what is dead in
/// its own extents is room.
#[test]
fn own_dead_bytes_are_room_below_the_quota() {
    let options = CreateOptions::new(1 << 20).extent_size(EXTENT).items(64).mode(Mode::Cache);
    let store: Store = private_on_heap(&options, 5).expect("a store");
    let session = store.open_session().expect("an entry");
    let tried = NamespaceOptions::new().quota(1 << 40);
    let most = match store.create_namespace(&session, "tried", &tried) {
        Err(NamespaceError::InvalidQuota { most, .. }) => most / EXTENT,
        other => panic!("{other:?}"),
    };
    let quota = |extents: u64| NamespaceOptions::new().quota(extents * EXTENT);
    let kept = quota(most / 2).mode(Mode::Store);
    let kept = namespace(&store, &session, "kept", &kept);
    let cached = namespace(&store, &session, "cached", &quota(most - most / 2));
    // Their index takes what quotas have left.
    for number in 0..20_000_u64 {
        put(&cached, &session, &number.to_le_bytes(), &[1; 8]).expect("eviction makes room");
    }
    let put = |number: u64| put(&kept, &session, &number.to_le_bytes(), &[1; 8]);
    let filled = (0..).find(|number| put(*number).is_err()).expect("it fills up");
    for number in (0..filled).step_by(2) {
        kept.delete(&session, &number.to_le_bytes()).expect("no guard is held");
    }
    for number in filled + 1..filled + filled / 3 {
        put(number).expect("more was deleted");
    }
    assert_sound(&store);
}

/// At its quota a large value takes the room of several extents of its own, and none of others'.
#[test]
fn a_large_value_evicts_within_its_quota() {
    let (store, session) = store(1 << 20, Mode::Cache);
    let quota = NamespaceOptions::new().quota(16 * EXTENT);
    let cached = namespace(&store, &session, "cached", &quota);
    for number in 0..200_u64 {
        put(&cached, &session, &number.to_le_bytes(), &[1; 300]).expect("eviction makes room");
    }
    for number in 0..400_u64 {
        put(&store, &session, &number.to_le_bytes(), &[1; 300]).expect("room");
    }
    for number in 1000..1020_u64 {
        let large = vec![2; 3 * EXTENT as usize];
        put(&cached, &session, &number.to_le_bytes(), &large).expect("eviction makes room");
    }
    for number in 0..400_u64 {
        assert!(store.contains(&number.to_le_bytes()).expect("no guard is held"), "{number}");
    }
    assert_sound(&store);
}

type Deed = Option<(usize, Box<dyn FnOnce()>)>;

thread_local! {
    /// What happens before a store, and how many stores until then.
    static DEED: RefCell<Deed> = const { RefCell::new(None) };
}

struct Interrupted;

impl Shim for Interrupted {
    const OBSERVES: bool = true;

    fn before_store(_: usize, _: u64, _: usize) {
        let due = DEED.with_borrow_mut(|deed| match deed {
            Some((0, _)) => deed.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some((_, deed)) = due {
            deed();
        }
    }
}

/// Whoever removes it stands still; another one goes on with it, and its number is another's when
/// the first one wakes up.
#[test]
fn a_removal_that_stood_still_takes_nothing_of_who_has_the_number() {
    let mut made = 0;
    for stores in 0..400 {
        let options = CreateOptions::new(160 << 10).extent_size(EXTENT).items(100);
        let store: Store<Interrupted> = private_on_heap(&options, 5).expect("a store");
        let store = Rc::new(store);
        let session = store.open_session().expect("an entry");
        let new = NamespaceOptions::new();
        let fill = |store: &Store<Interrupted>, session: &Session, name: &str| {
            let place = store.in_namespace(name).expect("it was made");
            for number in 0..10_u64 {
                let (options, always) = (PutOptions::new(), Condition::Always);
                let key = number.to_le_bytes();
                place.put(session, &key, b"value", &options, always).expect("room");
            }
        };
        store.create_namespace(&session, "old", &new).expect("a namespace");
        fill(&store, &session, "old");
        let deed = {
            let store = Rc::clone(&store);
            move || {
                let other = store.open_session().expect("an entry");
                other.set_guard_deadline(Duration::ZERO);
                // Refused while the first one holds a guard.
                if store.remove_namespace(&other, "old").is_ok()
                    && store.create_namespace(&other, "new", &NamespaceOptions::new()).is_ok()
                {
                    fill(&store, &other, "new");
                }
            }
        };
        DEED.set(Some((stores, Box::new(deed))));
        let _ = store.remove_namespace(&session, "old");
        DEED.set(None);
        if let Ok(place) = store.in_namespace("new") {
            assert_eq!(place.len(), 10, "after {stores} stores");
            made += 1;
        }
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }
    assert!(made > 20, "{made}");
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8, usize),
    Delete(u8, u8),
    Append(u8, u8, usize),
    Clear(u8),
    Clean,
    Remake(u8),
    Quota(u8, u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let place = || 0..4_u8;
    let size = || prop_oneof![9 => 0..900_usize, 2 => 3000..4100_usize, 1 => 4100..9000_usize];
    prop_oneof![
        30 => (place(), 0..120_u8, size()).prop_map(|(at, key, size)| Op::Put(at, key, size)),
        6 => (place(), 0..120_u8).prop_map(|(at, key)| Op::Delete(at, key)),
        4 => (place(), 0..120_u8, size()).prop_map(|(at, key, size)| Op::Append(at, key, size)),
        1 => place().prop_map(Op::Clear),
        1 => Just(Op::Clean),
        1 => (1..4_u8).prop_map(Op::Remake),
        2 => (1..4_u8, 0..16_u64).prop_map(|(at, extents)| Op::Quota(at, extents)),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Four places: the keys without a namespace, and three with one. In store mode each holds what a
/// map would, in cache mode no more than that.
fn against_maps(mode: Mode, ops: &[Op]) {
    let (store, session) = store(400 << 10, mode);
    let options = NamespaceOptions::new();
    let mut places = vec![
        store
            .in_namespace("none")
            .err()
            .map_or_else(|| panic!("there is no such one"), |_| None::<Store>),
    ];
    for name in ["n1", "n2", "n3"] {
        places.push(Some(namespace(&store, &session, name, &options)));
    }
    let mut models = vec![Model::new(); 4];
    for (turn, op) in ops.iter().enumerate() {
        let at = |number: u8| places[usize::from(number)].as_ref().unwrap_or(&store);
        let model = |number: u8| usize::from(number);
        match op {
            Op::Put(number, k, size) => {
                let (key, value) = (key(*k), value(*k, *size, turn));
                match put(at(*number), &session, &key, &value) {
                    Ok(_) => drop(models[model(*number)].insert(key, value)),
                    Err(error) => assert!(is_full(&error), "{error}"),
                }
            }
            Op::Append(number, k, size) => {
                let (key, more) = (key(*k), value(*k, *size, turn));
                match at(*number).append(&session, &key, &more) {
                    Ok(_) => {
                        let now = at(*number).get(&key).expect("no guard is held");
                        let was = models[model(*number)].get(&key).cloned().unwrap_or_default();
                        let whole = [was, more.clone()].concat();
                        match now {
                            Some(now) if mode == Mode::Cache && now == more => {
                                models[model(*number)].insert(key, more);
                            }
                            Some(now) => {
                                assert_eq!(now, whole);
                                models[model(*number)].insert(key, whole);
                            }
                            None => assert_eq!(mode, Mode::Cache),
                        }
                    }
                    Err(error) => assert!(is_full(&error), "{error}"),
                }
            }
            Op::Delete(number, k) => {
                let was = models[model(*number)].remove(&key(*k)).is_some();
                let deleted = at(*number).delete(&session, &key(*k)).expect("no guard is held");
                assert!(deleted == was || mode == Mode::Cache && was);
            }
            Op::Clear(number) => {
                at(*number).clear(&session).expect("no guard is held");
                models[model(*number)].clear();
            }
            Op::Clean => drop(store.clean(&session, 3).expect("no guard is held")),
            Op::Remake(number) => {
                let name = format!("n{number}");
                store.remove_namespace(&session, &name).expect("it is there");
                models[model(*number)].clear();
                places[usize::from(*number)] =
                    Some(namespace(&store, &session, &name, &NamespaceOptions::new()));
            }
            Op::Quota(number, extents) => {
                let quota = NamespaceOptions::new().quota(extents * EXTENT);
                match store.change_namespace(&session, &format!("n{number}"), &quota) {
                    Ok(()) | Err(NamespaceError::InvalidQuota { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    for (place, model) in places.iter().zip(&models) {
        let found = contents(place.as_ref().unwrap_or(&store));
        match mode {
            Mode::Store => assert_eq!(&found, model),
            _ => assert!(found.iter().all(|(key, value)| model.get(key) == Some(value))),
        }
        if let Some(place) = place {
            assert_eq!(place.len(), found.len() as u64);
        }
    }
    assert_sound(&store);
}

fn is_full(error: &WriteError) -> bool {
    matches!(
        error,
        WriteError::Full(_) | WriteError::QuotaFull { .. } | WriteError::ValueTooLarge { .. }
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn namespaces_are_as_so_many_maps(ops in proptest::collection::vec(ops(), 1..700)) {
        against_maps(Mode::Store, &ops);
    }

    #[test]
    fn namespaces_of_a_cache_hold_nothing_else(ops in proptest::collection::vec(ops(), 1..700)) {
        against_maps(Mode::Cache, &ops);
    }
}

#[test]
fn a_page_of_a_scan_has_keys_of_one_namespace() -> Result<(), ReadError> {
    let (store, session) = store(1 << 20, Mode::Store);
    let place = namespace(&store, &session, "n", &NamespaceOptions::new());
    for number in 0..200_u8 {
        put(&store, &session, &key(number), b"base").expect("room");
    }
    put(&place, &session, b"only", b"one").expect("room");
    let mut keys = Vec::new();
    let mut cursor = Some(Cursor::START);
    while let Some(from) = cursor {
        let page = place.scan(from, b"", 10)?;
        keys.extend(page.keys);
        cursor = page.next;
    }
    assert_eq!(keys, [b"only".to_vec()]);
    Ok(())
}
