//! What is whole in a damaged segment goes into a new store, and nothing else does.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use store_core::{
    AttachError, Condition, CreateOptions, Mode, NamespaceOptions, ObjectName, Plain, PutOptions,
    Salvaged, Store, Survey, Wreck, from_image, private_on_heap,
};
use store_testing::crash::each_prefix;
use store_testing::pair::{Model, Op, Pair, contents, geometries};
use store_testing::trace::{Logging, record};
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
    let (store, salvaged) = saved(&wreck, &survey);
    (store, survey, salvaged)
}

fn saved(wreck: &Wreck, survey: &Survey) -> (Store, Salvaged) {
    let store: Store = private_on_heap(&CreateOptions::new(4 << 20), 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let salvaged = store.salvage(&session, wreck, survey, |_, _| {}).expect("there is room");
    store.close_session(&session).expect("a close");
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    (store, salvaged)
}

fn word(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"))
}

fn set(image: &mut [u8], at: usize, word: u64) {
    image[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

// Where the superblock has its words (docs/FORMAT.md).
const FEATURES_REQUIRED: usize = 8;
const CREATED: usize = 48;
const HASH_KIND: usize = 80;
const SLOT_HASH_SHIFT: usize = 160;
const NAMESPACES: usize = 208;
const EXTENTS: usize = 240;
const EXTENTS_MAX: usize = 248;
const EXTENT_BYTES: usize = 256;
const GENERATIONS: usize = 264;
const DIRECTORY: usize = 272;
const ARENA: usize = 304;
const NEXT_STAMP: usize = 576;
const CLOCK_OFFSET: usize = 640;

/// Extents in one of some states, with the places of their words and generations.
fn extents_in(image: &[u8], states: &[u64]) -> Vec<(usize, usize, usize)> {
    let (table, generations) = (word(image, EXTENTS) as usize, word(image, GENERATIONS) as usize);
    let all = 0..word(image, EXTENTS_MAX) as usize;
    let places = all.map(|extent| (extent, table + 64 * extent, generations + 8 * extent));
    let is_in = |at: usize| states.contains(&(word(image, at) >> 60));
    places.filter(|(_, at, _)| is_in(*at)).collect()
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
        // The table of extents and the directory: what is the index's is not known any more.
        let extents = word(&image, EXTENTS_MAX) as usize;
        for (table, bytes) in [(EXTENTS, 64), (DIRECTORY, 8)] {
            let at = word(&image, table) as usize;
            image[at..at + bytes * extents].fill(0);
        }
        let (store, survey, salvaged) = salvaged(&image);
        assert_eq!(survey.slots, 0);
        let saved = contents(&store);
        for (key, value) in &pair.model {
            assert_eq!(saved.get(key), Some(value));
        }
        assert_eq!(salvaged.unlisted, salvaged.items);
    }
}

/// The places of words each of which alone is damaged, and what they are set to.
fn single_words(image: &[u8]) -> Vec<(&'static str, usize, u64)> {
    let features = word(image, FEATURES_REQUIRED);
    let mut words = vec![
        ("next stamp", NEXT_STAMP, 4096),
        ("next stamp", NEXT_STAMP, 1),
        ("next stamp", NEXT_STAMP, u64::MAX),
        ("features", FEATURES_REQUIRED, features ^ 1),
        ("features", FEATURES_REQUIRED, features ^ 1 << 40),
        ("features", FEATURES_REQUIRED, u64::MAX),
        ("hash kind", HASH_KIND, 9),
        ("shift", SLOT_HASH_SHIFT, 49),
        ("shift", SLOT_HASH_SHIFT, u64::MAX),
        ("clock", CLOCK_OFFSET, 1 << 62),
        ("clock", CLOCK_OFFSET, 0),
    ];
    for (extent, state, generation) in extents_in(image, &[2, 3, 4]) {
        words.push(("generation", generation, 0));
        words.push(("generation", generation, word(image, generation) + 1));
        for of_index in [6, 7] {
            words.push(("state", state, of_index << 60 | extent as u64));
        }
    }
    for (extent, state, generation) in extents_in(image, &[6, 7]) {
        words.extend([("state of index", state, 0), ("state of index", state, 3 << 60)]);
        words.push(("generation of index", generation, 0));
        words.push(("directory", word(image, DIRECTORY) as usize + 8 * extent, 0));
    }
    words
}

#[test]
fn one_damaged_word_costs_nothing_that_the_index_leads_to() {
    for checksums in [false, true] {
        for options in geometries() {
            let pair = pair(&options.checksums(checksums));
            let image = pair.store.image().expect("an image");
            for (what, at, value) in single_words(&image) {
                let mut image = image.clone();
                set(&mut image, at, value);
                let (store, survey, salvaged) = salvaged(&image);
                let what = format!("{what} at {at} of {value:#x}: {survey:?} {salvaged:?}");
                assert_eq!(contents(&store), pair.model, "{what}");
                assert_eq!((salvaged.unlisted, survey.verified), (0, checksums), "{what}");
            }
        }
    }
}

#[test]
fn a_clock_that_makes_no_sense_expires_nothing() {
    let store: Store = private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let hour = PutOptions::new().ttl(Duration::from_secs(3600));
    for number in 0..20_u8 {
        store.put(&session, &[number], b"value", &hour, Condition::Always).expect("a put");
    }
    let image = store.image().expect("an image");
    let told = word(&image, CLOCK_OFFSET);
    assert!(!salvaged(&image).1.clock_doubted);
    for offset in [0, told >> 1, told + (1 << 40), 1 << 62, u64::MAX] {
        let mut image = image.clone();
        set(&mut image, CLOCK_OFFSET, offset);
        let (saved, survey, _) = salvaged(&image);
        assert!(survey.clock_doubted, "{offset:#x}: {survey:?}");
        for number in 0..20_u8 {
            let Ok(Some(store_core::Ttl::Left(left))) = saved.ttl(&[number]) else {
                panic!("{offset:#x}: key {number} is gone, or lives for ever");
            };
            assert!(left.as_secs().abs_diff(3600) < 60, "{offset:#x}: {left:?}");
        }
    }
    // What its age is measured by alone says nothing.
    let mut image = image;
    set(&mut image, CREATED, u64::MAX);
    assert_eq!(salvaged(&image).2.items, 20);
}

#[test]
fn a_namespace_that_the_index_leads_to_was_not_removed() {
    let store: Store = private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let (options, always) = (PutOptions::new(), Condition::Always);
    store.create_namespace(&session, "own", &NamespaceOptions::new()).expect("a record");
    let place = store.in_namespace("own").expect("it was made");
    place.put(&session, b"key", b"value", &options, always).expect("a put");
    let image = store.image().expect("an image");
    let at = word(&image, NAMESPACES) as usize + 128;
    let found = word(&image, at);
    for state in [0, 2 << 32, 3 << 32] {
        for word in [found & !(3 << 32) | state, state] {
            let mut image = image.clone();
            set(&mut image, at, word);
            let (saved, _, salvaged) = salvaged(&image);
            assert_eq!((salvaged.items, salvaged.removed), (1, 0), "{word:#x}");
            let place = saved.in_namespace("own").expect("it is made anew");
            assert_eq!(place.get(b"key"), Ok(Some(b"value".to_vec())));
        }
    }
}

#[test]
fn what_changed_since_the_survey_is_left_out() {
    for options in geometries() {
        let pair = pair(&options);
        let image = pair.store.image().expect("an image");
        let place = Place::of(&image);
        let (wreck, whole) = (place.wreck().expect("a wreck"), pair.model.len() as u64);
        let survey = wreck.survey(|_, _| {}).expect("within bounds");
        let file = std::fs::File::options().write(true).open(&place.path).expect("the file");
        let write = |at: usize, word: u64| {
            file.write_all_at(&word.to_le_bytes(), at as u64).expect("within the file");
        };
        // One extent is used anew, though its bytes still stand.
        let (_, _, generation) = extents_in(&image, &[2, 3, 4])[0];
        write(generation, word(&image, generation) + 1);
        let (store, of_generation) = saved(&wreck, &survey);
        assert!(of_generation.changed > 0, "{of_generation:?}");
        assert_eq!(of_generation.items + of_generation.changed, whole);
        let saved_of = |store: &Store| {
            let saved = contents(store);
            assert!(saved.iter().all(|(key, value)| pair.model.get(key) == Some(value)));
        };
        saved_of(&store);
        write(generation, word(&image, generation));
        assert_eq!(saved(&wreck, &survey).1.changed, 0);

        // Another key, another stamp, another length in the place of items.
        let key = pair.model.keys().max().expect("a key").clone();
        let items: Vec<usize> = (word(&image, ARENA) as usize..image.len() - 40)
            .step_by(8)
            .filter(|at| image[at + 16..].starts_with(&key))
            .collect();
        assert!(!items.is_empty());
        for (offset, change) in [(16, 1), (0, 1), (8, 1)] {
            for at in items.iter().map(|at| at + offset) {
                write(at, word(&image, at) ^ change);
            }
            let (store, changed) = saved(&wreck, &survey);
            assert_eq!(changed.changed, 1, "{offset}");
            saved_of(&store);
            for at in items.iter().map(|at| at + offset) {
                write(at, word(&image, at));
            }
        }
    }
}

/// Heads of large items that were made to have the pieces of one.
#[test]
fn pieces_are_one_items_own() {
    let options = CreateOptions::new(16 << 20).extent_size(64 << 10);
    let store: Store = private_on_heap(&options, 7).expect("a store");
    let session = store.open_session().expect("an entry");
    let value = vec![7; 3 << 20];
    let (options, always) = (PutOptions::new(), Condition::Always);
    store.put(&session, b"large", &value, &options, always).expect("a put");
    let mut image = store.image().expect("an image");
    let arena = word(&image, ARENA) as usize;
    let extent_bytes = word(&image, EXTENT_BYTES) as usize;
    let head = (arena..image.len()).step_by(8).find(|at| {
        image[at + 15] == 8 && image.get(at + 16..).is_some_and(|key| key.starts_with(b"large"))
    });
    let head = head.expect("its head");
    let bytes = 24 + (word(&image, head + 8) as u32) as usize;
    let head = image[head..head + bytes].to_vec();
    let mut made = 0_u32;
    for (extent, ..) in extents_in(&image, &[0]) {
        let at = arena + extent * extent_bytes;
        for copy in image[at..at + extent_bytes].chunks_exact_mut(bytes) {
            copy.copy_from_slice(&head);
            copy[16..20].copy_from_slice(&made.to_le_bytes());
            made += 1;
        }
    }
    assert!(made > 4000, "{made}");
    let wreck = Place::of(&image).wreck().expect("a wreck");
    let begun = Instant::now();
    let survey = wreck.survey(|_, _| {}).expect("within bounds");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(survey.items(), 1, "{survey:?}");
    let target: Store = private_on_heap(&CreateOptions::new(16 << 20), 7).expect("a store");
    let session = target.open_session().expect("an entry");
    target.salvage(&session, &wreck, &survey, |_, _| {}).expect("there is room");
    assert_eq!(target.get(b"large"), Ok(Some(value)), "the one that the index leads to");
}

#[test]
fn no_item_without_a_key_is_made_of_arbitrary_words() {
    let put = |checksums| {
        let options = CreateOptions::new(1 << 20).checksums(checksums);
        let store: Store = private_on_heap(&options, 7).expect("a store");
        let session = store.open_session().expect("an entry");
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(&session, b"", b"its value", &options, always).expect("a put");
        store.image().expect("an image")
    };
    for checksums in [false, true] {
        let image = put(checksums);
        let (store, ..) = salvaged(&image);
        assert_eq!(contents(&store).len(), 1, "one that the index leads to is saved");

        let mut image = image;
        let (arena, extent_bytes) = (word(&image, ARENA), word(&image, EXTENT_BYTES));
        // Small numbers in the place of a stamp and a header.
        let (extent, ..) = extents_in(&image, &[0])[0];
        let at = (arena + extent as u64 * extent_bytes) as usize;
        set(&mut image, at, 4097 + 9);
        set(&mut image, at + 8, 100);
        for table in [EXTENTS, DIRECTORY] {
            let (at, bytes) = (word(&image, table) as usize, if table == EXTENTS { 64 } else { 8 });
            let extents = word(&image, EXTENTS_MAX) as usize;
            image[at..at + bytes * extents].fill(0);
        }
        let (store, ..) = salvaged(&image);
        let found = contents(&store);
        assert_eq!(found.len(), usize::from(checksums), "{found:?}: only a checksum proves it");
    }
}

#[test]
fn what_is_no_store_is_told_so() {
    for bytes in [&b"root:x:0:0:root:/root:/bin/bash\n"[..], b"x", &[b'x'; 100_000]] {
        let wreck = Place::of(bytes).wreck();
        assert!(matches!(wreck, Err(AttachError::NotAStore { .. })), "{wreck:?}");
    }
    let wreck = Place::of(&[0; 100_000]).wreck();
    assert!(
        matches!(wreck, Err(AttachError::NoGeometry { .. })),
        "it may have been one: {wreck:?}"
    );
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

/// A wreck whose writer died while it overwrote a value where it stands: saved is the old value or the new
/// one, and the new one from where on readers see it.
#[test]
fn what_was_half_overwritten_is_saved_whole() {
    for options in &geometries()[..2] {
        let mut pair = Pair::<Logging>::new(options);
        (0..8).for_each(|number| pair.apply(&Op::Put(number, 150)));
        // From now on it looks for what it can overwrite.
        pair.apply(&Op::Overwrite(4));
        let (image, before) = (pair.store.image().expect("an image"), pair.model.clone());
        let address = pair.store.info().expect("info").address as usize;
        let ((), stores) = record(|| pair.apply(&Op::Overwrite(3)));
        let mut half_written = 0;
        each_prefix(image, address, &stores, |_, image, _| {
            let read: Store = from_image(image).expect("a store");
            let expected = contents(&read);
            assert!(expected == before || expected == pair.model);
            let (store, survey, _) = salvaged(image);
            assert_eq!((contents(&store), survey.torn), (expected, 0));
            half_written += u32::from(read.check(|_, _| {}).notes.join("").contains("overwritten"));
        });
        assert!(half_written > 15, "{half_written} states with half a value");
    }
}
