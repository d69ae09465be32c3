//! What is whole in a damaged segment goes into a new store, and nothing else does.

use std::path::PathBuf;
use std::time::Duration;

use store_core::{
    AttachError, Condition, CreateOptions, Mode, NamespaceOptions, ObjectName, Plain, PutOptions,
    Salvaged, Store, Survey, Wreck, private_on_heap,
};
use store_testing::pair::{Model, Op, Pair, contents, geometries};
use tempfile::TempDir;

/// Bytes in a file.
struct Place {
    _directory: TempDir,
    path: PathBuf,
}

impl Place {
    fn of(image: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("wreck");
        std::fs::write(&path, image).expect("a file");
        Self { _directory: directory, path }
    }

    fn wreck(&self) -> Result<Wreck, AttachError> {
        Wreck::open(&ObjectName::File(self.path.clone()), None)
    }
}

/// A new store with what was saved.
fn salvaged(image: &[u8]) -> (Store, Survey, Salvaged) {
    let wreck = Place::of(image).wreck().expect("a wreck");
    let survey = wreck.survey(|_, _| {}).expect("within bounds");
    let store: Store = private_on_heap(&CreateOptions::new(4 << 20), 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let salvaged = store.salvage(&session, &wreck, &survey, |_, _| {}).expect("there is room");
    store.close_session(&session).expect("a close");
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    (store, survey, salvaged)
}

fn pair(options: &CreateOptions) -> Pair<Plain> {
    let mut pair = Pair::<Plain>::new(options);
    for number in 0..48 {
        pair.apply(&Op::Put(number, usize::from(number) * 13));
    }
    for number in 0..10 {
        // What is no number would leave a counter that was never published.
        pair.apply(&Op::PutText(number + 38, 41));
        pair.apply(&Op::Incr(number + 38, 1));
        pair.apply(&Op::Put(number * 2, 77));
    }
    pair.apply(&Op::Put(5, 9000));
    pair
}

#[test]
fn a_sound_store_is_saved_as_it_is() {
    for options in geometries() {
        let mut pair = pair(&options);
        // Items lie where cleaning moved them, and where they were.
        pair.apply(&Op::Clean);
        let (store, survey, salvaged) = salvaged(&pair.store.image().expect("an image"));
        assert_eq!(contents(&store), pair.model);
        assert_eq!((salvaged.items, salvaged.unlisted, salvaged.refused), (48, 0, 0));
        assert!(survey.superseded >= 10, "{survey:?}");
    }
}

#[test]
fn the_newest_version_is_saved_if_one_client_wrote_it() {
    for options in geometries() {
        let pair = pair(&options);
        let mut image = pair.store.image().expect("an image");
        // The table of extents: what is the index's is not known any more.
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
        let (at, extents) = (word(240) as usize, word(248) as usize);
        image[at..at + 64 * extents].fill(0);
        let (store, survey, salvaged) = salvaged(&image);
        assert_eq!(survey.slots, 0);
        let saved = contents(&store);
        for (key, value) in &pair.model {
            assert_eq!(saved.get(key), Some(value));
        }
        assert_eq!(salvaged.unlisted, salvaged.items);
    }
}

#[test]
fn what_expired_does_not_come_back() {
    let store: Store = private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let put = |key: &[u8], options: &PutOptions| {
        store.put(&session, key, b"value", options, Condition::Always).expect("a put");
    };
    put(b"stays", &PutOptions::new());
    put(b"goes", &PutOptions::new());
    put(b"goes", &PutOptions::new().ttl(Duration::from_millis(1)));
    put(b"later", &PutOptions::new().ttl(Duration::from_secs(3600)));
    std::thread::sleep(Duration::from_millis(30));
    let (saved, survey, _) = salvaged(&store.image().expect("an image"));
    assert_eq!(survey.expired, 1);
    let expected = [&b"stays"[..], b"later"].map(|key| (key.to_vec(), b"value".to_vec()));
    assert_eq!(contents(&saved), Model::from(expected));
    assert!(matches!(saved.ttl(b"later"), Ok(Some(store_core::Ttl::Left(_)))));
}

#[test]
fn namespaces_are_made_anew() {
    let options = CreateOptions::new(2 << 20).mode(Mode::Cache);
    let store: Store = private_on_heap(&options, 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let ttl = NamespaceOptions::new().default_ttl(Duration::from_secs(3600));
    let quota = ttl.quota(200 << 10).mode(Mode::Store);
    for (name, options) in [("ttl", ttl), ("quota", quota), ("gone", ttl)] {
        store.create_namespace(&session, name, &options).expect("a record");
        let place = store.in_namespace(name).expect("it was made");
        let (options, always) = (PutOptions::new(), Condition::Always);
        place.put(&session, b"key", name.as_bytes(), &options, always).expect("a put");
        place.put(&session, b"ever", b"", &options.for_ever(), always).expect("a put");
    }
    store.remove_namespace(&session, "gone").expect("it is there");
    let (saved, _, salvaged) = salvaged(&store.image().expect("an image"));
    assert_eq!((salvaged.items, salvaged.removed), (4, 2));
    assert_eq!(salvaged.namespaces.len(), 2, "{salvaged:?}");
    for name in ["ttl", "quota"] {
        let place = saved.in_namespace(name).expect("it is made anew");
        assert_eq!(place.get(b"key"), Ok(Some(name.as_bytes().to_vec())));
        assert!(matches!(place.ttl(b"key"), Ok(Some(store_core::Ttl::Left(_)))));
        assert_eq!(place.ttl(b"ever"), Ok(Some(store_core::Ttl::Never)));
    }
    assert!(saved.in_namespace("gone").is_err());
}

#[test]
fn a_truncated_store_gives_what_is_left() {
    let options = CreateOptions::new(160 << 10).extent_size(4 << 10).items(8);
    let pair = pair(&options);
    let mut image = pair.store.image().expect("an image");
    image.truncate(image.len() / 8 * 7 + 100);
    let wreck = Place::of(&image).wreck().expect("its superblock is there");
    let survey = wreck.survey(|_, _| {}).expect("within bounds");
    assert!(survey.items() > 10, "{survey:?}");
    image.truncate(3000);
    let wreck = Place::of(&image).wreck();
    assert!(matches!(wreck, Err(AttachError::Truncated { .. })), "{wreck:?}");
}

/// Whatever the bytes are: items or an error, no panic, no loop without end.
#[test]
fn hostile_bytes_give_something_or_an_error() {
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random >> 16
    };
    for options in geometries() {
        let image = pair(&options).store.image().expect("an image");
        for turn in 0..120 {
            let mut image = image.clone();
            let area = if turn % 2 == 0 { 512 } else { image.len() };
            for _ in 0..1 << (turn % 9) {
                let at = next() as usize % (area / 8) * 8;
                let word = match next() % 4 {
                    0 => 0,
                    1 => u64::MAX,
                    2 => next() << 20,
                    _ => {
                        u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes")) ^ next()
                    }
                };
                image[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            let Ok(wreck) = Place::of(&image).wreck() else { continue };
            let survey = wreck.survey(|_, _| {}).expect("within bounds");
            let store: Store = private_on_heap(&CreateOptions::new(4 << 20), 7).expect("a store");
            let session = store.open_session().expect("an entry");
            let _ = store.salvage(&session, &wreck, &survey, |_, _| {});
            assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
        }
    }
}
