//! A damaged segment is mended: afterwards `check` finds nothing, what was not damaged is there, and
//! what is lost is told.

mod image;

use std::sync::atomic::{AtomicBool, Ordering};

use store_core::{
    Condition, CreateOptions, NamespaceOptions, Plain, PutOptions, RepairError, RepairOptions,
    RepairReport, Store, WriteError, from_image, private_on_heap,
};
use store_testing::crash::kill_clients;
use store_testing::pair::{Model, Op, Pair, compare, geometries, key, value};
use store_testing::trace::{Logging, Stored, record};

use image::Image;

/// Whatever it costs.
const LOSSY: RepairOptions = RepairOptions::new().max_loss(u64::MAX);

/// Stores of each geometry, with values of all sizes.
fn pairs() -> impl Iterator<Item = Pair<Plain>> {
    geometries().into_iter().map(|options| {
        let mut pair = Pair::<Plain>::new(&options);
        for number in 0..48 {
            pair.apply(&Op::Put(number, usize::from(number) * 13));
        }
        for number in 0..10 {
            pair.apply(&Op::Incr(number + 38, 1));
            pair.apply(&Op::Delete(number * 3));
        }
        pair.apply(&Op::Put(5, 9000));
        pair.apply(&Op::Expire(7));
        pair.store.close_session(&pair.session).expect("a close");
        pair
    })
}

fn image_of(pair: &Pair<Plain>) -> Image {
    Image(pair.store.image().expect("an image"))
}

/// Repairs an image. Afterwards nothing is broken, writes go on, each key has the value that it had
/// or none, and no more are gone than were said to be.
fn repaired(image: &Image, model: &Model, what: &str) -> RepairReport {
    let store: Store = from_image(&image.0).unwrap_or_else(|error| panic!("{what}: {error}"));
    let session = store.open_session().expect("an entry");
    let report =
        store.repair(&session, &LOSSY, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    let check = store.check(|_, _| {});
    assert_eq!(check.violations, [""; 0], "{what}: {report:?}");
    let mut gone = 0;
    for (key, value) in model {
        match store.get(key).unwrap_or_else(|error| panic!("{what}: {error}")) {
            Some(found) => assert_eq!(&found, value, "{what}: {key:?}"),
            None => gone += 1,
        }
    }
    assert!(gone <= report.dropped, "{what}: {gone} keys are gone: {report:?}");
    assert_eq!(store.len(), model.len() as u64 - gone, "{what}");
    assert_eq!(report.items, store.len());
    let mut again = store.repair(&session, &LOSSY, |_, _| {}).expect("it is mended");
    again.items = 0;
    assert_eq!(again, RepairReport::default(), "{what}: after {report:?}");
    for number in 0..48 {
        store.delete(&session, &key(number)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let value = value(number, 60, 3);
        let (options, always) = (PutOptions::new(), Condition::Always);
        store
            .put(&session, &key(number), &value, &options, always)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    while store.clean(&session, 8).unwrap_or_else(|error| panic!("{what}: {error}")) > 0 {}
    let check = store.check(|_, _| {});
    assert_eq!((check.violations, store.len()), (vec![], 48), "{what}");
    report
}

/// [`repaired`] where nothing may be lost.
fn repaired_whole(image: &Image, model: &Model, what: &str) -> RepairReport {
    let report = repaired(image, model, what);
    assert_eq!(report.dropped, 0, "{what}: {report:?}");
    report
}

/// Words that stand where another one should.
fn wrong_words(right: u64) -> [u64; 6] {
    [0, u64::MAX, right ^ 1 << 40, right ^ 1 << 3, right ^ 1 << 61, right.swap_bytes()]
}

#[test]
fn a_sound_store_stays_as_it_is() {
    for pair in pairs() {
        let image = image_of(&pair);
        let report = repaired_whole(&image, &pair.model, "sound");
        assert_eq!((report.tags, report.counts, report.extents, report.put_back), (0, 0, 0, 0));
        assert_eq!(report.recounted_bytes, 0);
    }
}

#[test]
fn tags_follow_the_slots() {
    for pair in pairs() {
        let image = image_of(&pair);
        let mut all = image.clone();
        for line in image.lines() {
            for tags in wrong_words(image.word(line)) {
                let mut image = image.clone();
                image.set(line, tags);
                repaired_whole(&image, &pair.model, &format!("tags {tags:#x} at {line:#x}"));
            }
            all.set(line, 0);
        }
        assert!(repaired_whole(&all, &pair.model, "all tags").tags > 0);
    }
}

#[test]
fn the_filter_follows_the_slots() {
    for pair in pairs() {
        let image = image_of(&pair);
        let mut all = image.clone();
        for at in image.filter() {
            for bits in wrong_words(image.word(at)) {
                let mut image = image.clone();
                image.set(at, bits);
                let report =
                    repaired_whole(&image, &pair.model, &format!("bits {bits:#x} at {at:#x}"));
                assert_eq!(report.filters > 0, image_of(&pair).word(at) & !bits != 0);
            }
            all.set(at, 0);
        }
        assert!(repaired_whole(&all, &pair.model, "the whole filter").filters > 0);
    }
}

/// Lookups miss what has a wrong tag, so that it is put anew: what was put then is the value.
#[test]
fn what_was_put_again_stands() {
    for pair in pairs() {
        let image = image_of(&pair);
        for line in image.lines() {
            let mut damaged = image.clone();
            let tags = damaged.word(line);
            damaged.set(line, tags ^ (tags & 0x007F_7F7F_7F7F_7F7F));
            let store: Store = from_image(&damaged.0).expect("a store");
            let session = store.open_session().expect("an entry");
            let mut model = pair.model.clone();
            for number in 0..48 {
                let (key, value) = (key(number), value(number, 100, 7777));
                let missed = store.get(&key).expect("a lookup").is_none();
                if missed && model.contains_key(&key) {
                    let (options, always) = (PutOptions::new(), Condition::Always);
                    if store.put(&session, &key, &value, &options, always).is_ok() {
                        model.insert(key, value);
                    }
                }
            }
            let report = store.repair(&session, &LOSSY, |_, _| {}).expect("it is mended");
            assert_eq!(store.check(|_, _| {}).violations, [""; 0], "{report:?}");
            if let Err(difference) = compare(&store, &model) {
                panic!("{difference}: {report:?}");
            }
        }
    }
}

#[test]
fn slots_that_lead_to_nothing_are_dropped() {
    for pair in pairs() {
        let image = image_of(&pair);
        for at in image.slots() {
            for slot in wrong_words(image.word(at)) {
                let mut image = image.clone();
                image.set(at, slot);
                let report = repaired_lossy(&image, &pair.model, &format!("{slot:#x} at {at:#x}"));
                assert!(report.dropped <= 1, "{report:?}");
            }
        }
    }
}

/// [`repaired`] where the slot of one key is gone without a trace, perhaps.
fn repaired_lossy(image: &Image, model: &Model, what: &str) -> RepairReport {
    let store: Store = from_image(&image.0).unwrap_or_else(|error| panic!("{what}: {error}"));
    let gone = |key: &&Vec<u8>| !matches!(store.get(key), Ok(Some(_)));
    let lost: Vec<_> = model.keys().filter(gone).cloned().collect();
    let mut left = model.clone();
    let session = store.open_session().expect("an entry");
    store.repair(&session, &LOSSY, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    for key in lost {
        if store.get(&key) == Ok(None) {
            left.remove(&key);
        }
    }
    assert!(left.len() + 1 >= model.len(), "{what}");
    repaired(image, &left, what)
}

#[test]
fn what_is_behind_a_lost_link_comes_back() {
    for pair in pairs() {
        let image = image_of(&pair);
        for at in image.links() {
            for link in wrong_words(image.word(at)) {
                let mut image = image.clone();
                image.set(at, link);
                let what = format!("link {link:#x} at {at:#x}");
                let report = repaired(&image, &pair.model, &what);
                // What looks like a slot, and is none, is dropped.
                assert!(report.dropped <= 1 && pair.model.len() as u64 == report.items, "{what}");
            }
        }
    }
}

#[test]
fn owners_of_lines_follow_the_chains() {
    for pair in pairs() {
        let image = image_of(&pair);
        for extent in image.extents_in(7) {
            let owners = image.extent(extent)..image.extent(extent) + image.extent_bytes() / 8;
            for at in owners.step_by(8).filter(|at| image.word(*at) != 0) {
                for owner in [0, 1, 2, 3, 5000, u64::MAX] {
                    let mut image = image.clone();
                    image.set(at, owner);
                    repaired_whole(&image, &pair.model, &format!("owner {owner} at {at:#x}"));
                }
            }
            let free = image.extent(extent) + image.extent_bytes() / 64 * 7 - 8;
            let mut image = image.clone();
            image.set(free, 1);
            assert_eq!(repaired_whole(&image, &pair.model, "a line nobody has").lines, 1);
        }
    }
}

/// Whose a line is its items say, and no owner word, whatever the stripe of that one is at.
#[test]
fn no_link_is_cut_for_a_wrong_owner() {
    for pair in pairs() {
        let image = image_of(&pair);
        let stripes: Vec<_> = image.stripes().collect();
        for link in image.links() {
            let line = (image.word(link) & ((1 << 35) - 1)) as usize;
            let extent = (64 * line - image.extent(0)) / image.extent_bytes();
            let within = line - image.extent(extent) / 64;
            let owner = image.extent(extent) + 8 * (within - image.extent_bytes() / 64 / 8);
            assert_ne!(image.word(owner), 0);
            let mut image = image.clone();
            for (number, stripe) in stripes.iter().enumerate() {
                // A living client is at each of the others, as far as their words tell.
                if number != (image.word(owner) as usize - 1) % stripes.len() {
                    image.set(stripe + 8, 0x303);
                }
            }
            image.set(owner, image.word(owner) % stripes.len() as u64 + 1);
            let report = repaired_whole(&image, &pair.model, &format!("owner of line {line}"));
            assert_eq!((report.links, report.put_back), (0, 0), "{report:?}");
        }
    }
}

#[test]
fn counts_follow_the_slots() {
    for pair in pairs() {
        let image = image_of(&pair);
        for stripe in image.stripes() {
            let mut image = image.clone();
            image.set(stripe + 48, 1000);
            let report = repaired_whole(&image, &pair.model, "a count");
            assert_eq!(report.counts, 1);
            for word in [1, 0x301, 0x302, 0x303, 0x304, 0x305, u64::MAX] {
                image.set(stripe + 8, word);
                repaired_whole(&image, &pair.model, "an intent of nobody");
            }
            // A client that there is not.
            image.set(stripe, u64::from(u32::MAX));
            repaired_whole(&image, &pair.model, "a guard of nobody");
        }
    }
}

#[test]
fn words_of_extents_follow_the_items() {
    for pair in pairs() {
        let image = image_of(&pair);
        let mut none = image.clone();
        for extent in 0..image.extents() {
            let at = image.extent_word(extent);
            let right = image.word(at);
            let states = (0..16).map(|state| right & u64::MAX >> 4 | state << 60);
            let units = 1_u64 << 18;
            let counts = [right & !((units - 1) << 18), right & !(units - 1), right ^ 5 << 18];
            for word in states.chain(counts).chain(wrong_words(right)) {
                // Without memory it is not touched.
                if image.word(image.generation(extent)) == 0 {
                    continue;
                }
                let mut image = image.clone();
                image.set(at, word);
                let what = format!("extent {extent}: {right:#x} is {word:#x}");
                repaired_whole(&image, &pair.model, &what);
            }
            if ![6, 7].contains(&(right >> 60)) {
                none.set(at, 0);
            }
        }
        repaired_whole(&none, &pair.model, "every extent says that it is free");
    }
}

#[test]
fn the_directory_follows_its_extents() {
    for pair in pairs() {
        let image = image_of(&pair);
        for state in [6, 7] {
            for (number, extent) in image.extents_in(state).into_iter().enumerate() {
                let entry = if state == 6 { number } else { image.extents() - 1 - number };
                let at = image.word(272) as usize + 8 * entry;
                assert_eq!(64 * image.word(at) as usize, image.extent(extent));
                for line in wrong_words(image.word(at)) {
                    let mut image = image.clone();
                    image.set(at, line);
                    let report = repaired_whole(&image, &pair.model, &format!("entry {line:#x}"));
                    assert!(report.directory > 0, "{report:?}");
                }
            }
        }
        for lines in [0, 2, u64::MAX] {
            let mut image = image.clone();
            image.set(840, lines);
            repaired_whole(&image, &pair.model, &format!("{lines} extents of lines"));
        }
    }
}

#[test]
fn a_stamp_that_was_never_given_out_is_given_out() {
    for pair in pairs() {
        let mut image = image_of(&pair);
        image.set(576, 0);
        let store: Store = from_image(&image.0).expect("a store");
        assert!(!store.check(|_, _| {}).violations.is_empty());
        assert!(repaired_whole(&image, &pair.model, "no stamps").stamps > 0);
    }
}

#[test]
fn a_wrong_number_of_buckets_loses_nothing() {
    for pair in pairs() {
        let image = image_of(&pair);
        for buckets in
            [0, 1, image.buckets() / 2, image.buckets() + 1, image.buckets() * 2, 1 << 38]
        {
            let mut image = image.clone();
            image.set(512, buckets as u64);
            let Ok(store) = from_image::<Plain>(&image.0) else { continue };
            let session = store.open_session().expect("an entry");
            match store.repair(&session, &LOSSY, |_, _| {}) {
                Ok(_) => {
                    compare(&store, &pair.model).expect("nothing is lost");
                    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
                }
                Err(RepairError::Write(WriteError::Corruption(_))) => {
                    image.set(512, image_of(&pair).word(512));
                    repaired_whole(&image, &pair.model, "with the right number");
                }
                Err(error) => panic!("{buckets} buckets: {error}"),
            }
        }
    }
}

#[test]
fn damaged_items_are_dropped_where_checksums_tell() {
    let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(500).checksums(true);
    let mut pair = Pair::<Plain>::new(&options);
    for number in 0..48 {
        pair.apply(&Op::Put(number, 200 + 100 * usize::from(number)));
    }
    let image = image_of(&pair);
    let mut dropped = 0;
    for at in image.slots() {
        let item = 8 * (image.word(at) & ((1 << 38) - 1)) as usize;
        for within in [8, 12, 16, 24, 40, 60] {
            let mut image = image.clone();
            image.0[item + within] ^= 4;
            let report = repaired_lossy(&image, &pair.model, &format!("item {item:#x} + {within}"));
            dropped += report.dropped;
        }
    }
    assert!(dropped > 48 * 4, "{dropped}");
}

#[test]
fn namespaces_are_counted_anew() {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10);
    let store: Store = private_on_heap(&options, 7).expect("a small store");
    let session = store.open_session().expect("an entry");
    store.create_namespace(&session, "own", &NamespaceOptions::new()).expect("a record");
    let own = store.in_namespace("own").expect("it was made");
    for number in 0..48 {
        let (options, always) = (PutOptions::new(), Condition::Always);
        own.put(&session, &key(number), &value(number, 300, 1), &options, always).expect("a put");
    }
    let mut image = Image(store.image().expect("an image"));
    let record = image.word(208) as usize + 128;
    assert_eq!(image.word(record + 64), 48);
    image.set(record + 64, 7);
    for line in image.lines() {
        image.set(line, 0);
    }
    let store: Store = from_image(&image.0).expect("a store");
    let session = store.open_session().expect("an entry");
    let report = store.repair(&session, &LOSSY, |_, _| {}).expect("it can be mended");
    assert_eq!((report.namespaces, report.dropped, report.items), (1, 0, 48));
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    let own = store.in_namespace("own").expect("it is there");
    for number in 0..48 {
        assert_eq!(own.get(&key(number)), Ok(Some(value(number, 300, 1))));
    }
    let infos = store.namespaces().expect("the records");
    assert!(infos.iter().any(|info| info.name == "own" && info.items == 48));
}

/// Slots say of which generation an extent is.
#[test]
fn generations_follow_the_slots() {
    for pair in pairs() {
        let image = image_of(&pair);
        for extent in 0..image.extents() {
            let at = image.generation(extent);
            if image.word(at) == 0 || image.word(image.extent_word(extent)) == 0 {
                continue;
            }
            for generation in wrong_words(image.word(at)) {
                let mut image = image.clone();
                image.set(at, generation);
                let what = format!("extent {extent} of generation {generation:#x}");
                repaired_whole(&image, &pair.model, &what);
            }
        }
        let mut none = image.clone();
        for extent in 0..image.extents() {
            none.set(image.generation(extent), 0);
        }
        let report = repaired_whole(&none, &pair.model, "no generations at all");
        assert!(!report.restored.is_empty(), "{report:?}");
    }
}

/// What lives in an extent speaks against a word that says it is the index's, or about to be used.
#[test]
fn an_owner_in_a_damaged_word_keeps_nobody_out() {
    for pair in pairs() {
        let image = image_of(&pair);
        for extent in image.extents_in(2).into_iter().chain(image.extents_in(3)) {
            for state in [1_u64, 6, 7] {
                // The first client, which is the one that will repair.
                let word = state << 60 | 1 << 48 | 1 << 37;
                let mut image = image.clone();
                image.set(image.extent_word(extent), word);
                repaired_whole(&image, &pair.model, &format!("extent {extent} is {word:#x}"));
            }
        }
    }
}

#[test]
fn a_stray_entry_of_the_directory_takes_no_items() {
    for pair in pairs() {
        let image = image_of(&pair);
        let lines = image.extents_in(7).len();
        for extent in image.extents_in(2).into_iter().chain(image.extents_in(3)) {
            let entry = image.word(272) as usize + 8 * (image.extents() - 1 - lines);
            let mut image = image.clone();
            image.set(entry, image.extent(extent) as u64 / 64);
            repaired_whole(&image, &pair.model, &format!("a stray entry to extent {extent}"));
        }
    }
}

#[test]
fn a_namespace_follows_its_items() {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10);
    let store: Store = private_on_heap(&options, 7).expect("a small store");
    let session = store.open_session().expect("an entry");
    store.create_namespace(&session, "own", &NamespaceOptions::new()).expect("a record");
    let own = store.in_namespace("own").expect("it was made");
    for number in 0..48 {
        let (options, always) = (PutOptions::new(), Condition::Always);
        own.put(&session, &key(number), &value(number, 300, 1), &options, always).expect("a put");
        store.put(&session, &key(number), b"none's", &options, always).expect("a put");
    }
    let image = Image(store.image().expect("an image"));
    let record = image.word(208) as usize + 128;
    let right = image.word(record);
    for word in [0, u64::MAX, right ^ 1 << 32, right ^ 1 << 33, right ^ 1 << 48, right ^ 5 << 60] {
        let mut image = image.clone();
        image.set(record, word);
        let store: Store = from_image(&image.0).expect("a store");
        let session = store.open_session().expect("an entry");
        let dry = store.repair(&session, &LOSSY.dry_run(true), |_, _| {}).expect("a look");
        let is_denied = dry.restored.len() == 1;
        assert_eq!(store.image().expect("an image")[record..record + 8], word.to_le_bytes());
        let report =
            store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("it is mended");
        assert_eq!((report.items, report.dropped), (96, 0), "{word:#x}: {report:?}");
        assert_eq!(
            (is_denied, dry.dropped),
            (!report.restored.is_empty(), 0),
            "{word:#x}: {dry:?}"
        );
        assert_eq!(store.check(|_, _| {}).violations, [""; 0], "{word:#x}");
        let name = "own";
        let own = store.in_namespace(name);
        if word >> 32 & 3 == 2 {
            // Somebody is about to remove it, for all that its word tells.
            assert!(own.is_err());
            continue;
        }
        let own = own.unwrap_or_else(|error| panic!("{word:#x}: {error}"));
        for number in 0..48 {
            assert_eq!(own.get(&key(number)), Ok(Some(value(number, 300, 1))), "{word:#x}");
        }
    }
}

/// What was not allowed is not dropped, not even a part of it.
#[test]
fn no_more_is_dropped_than_may_be() {
    for pair in pairs() {
        let image = image_of(&pair);
        let mut damaged = image.clone();
        for at in image.slots().into_iter().take(3) {
            damaged.set(at, image.word(at) ^ 1 << 39);
        }
        let store: Store = from_image(&damaged.0).expect("a store");
        let session = store.open_session().expect("an entry");
        let dry = store.repair(&session, &LOSSY.dry_run(true), |_, _| {}).expect("a look");
        assert_eq!(dry.dropped, 3, "{dry:?}");
        assert!(!dry.dropped_slots.is_empty());
        let before = image.slots().len();
        for limit in 0..3 {
            let options = RepairOptions::new().max_loss(limit);
            match store.repair(&session, &options, |_, _| {}) {
                Err(RepairError::WouldLose { slots: 3, limit: found, why }) => {
                    assert_eq!((found, why.is_empty()), (limit, false));
                }
                other => panic!("{limit}: {other:?}"),
            }
            let image = Image(store.image().expect("an image"));
            assert_eq!(image.slots().len(), before, "nothing was dropped");
        }
        let options = RepairOptions::new().max_loss(3);
        let report = store.repair(&session, &options, |_, _| {}).expect("it may");
        assert_eq!(report.dropped, 3, "{report:?}");
        assert!(report.dropped_slots.iter().all(|why| why.contains("another generation")));
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }
}

/// What a word hides is asked for as well.
#[test]
fn a_word_of_an_extent_hides_no_damaged_item() {
    let options = CreateOptions::new(256 << 10).extent_size(4 << 10).items(500).checksums(true);
    let mut pair = Pair::<Plain>::new(&options);
    for number in 0..48 {
        pair.apply(&Op::Put(number, 300));
    }
    let mut image = image_of(&pair);
    let slot = image.slots()[0];
    let item = 8 * (image.word(slot) & ((1 << 38) - 1)) as usize;
    image.0[item + 60] ^= 4;
    let extent = (item - image.extent(0)) / image.extent_bytes();
    image.set(image.extent_word(extent), 0);
    let store: Store = from_image(&image.0).expect("a store");
    let session = store.open_session().expect("an entry");
    match store.repair(&session, &RepairOptions::new(), |_, _| {}) {
        Err(RepairError::WouldLose { slots: 1, why, .. }) => {
            assert!(why[0].contains("checksum"), "{why:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(Image(store.image().expect("an image")).slots().len(), 48);
}

/// A copy of a slot costs nobody anything but who stood there; of two items with a key, one.
#[test]
fn a_key_that_is_there_twice_is_dropped_if_it_may_be() {
    for pair in pairs() {
        let image = image_of(&pair);
        let slots = image.slots();
        let beside = slots.windows(2).find(|pair| pair[0] / 64 == pair[1] / 64);
        let Some([one, other]) = beside else { continue };
        let mut damaged = image.clone();
        damaged.set(*other, image.word(*one));
        let store: Store = from_image(&damaged.0).expect("a store");
        let session = store.open_session().expect("an entry");
        let dry = store.repair(&session, &LOSSY.dry_run(true), |_, _| {}).expect("a look");
        let report =
            store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("nothing is lost");
        assert_eq!((dry.dropped, report.dropped, report.missing), (0, 0, 1), "{report:?}");
        assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    }
}

#[test]
fn a_namespace_has_what_one_can_have() {
    let options = CreateOptions::new(1 << 20).extent_size(4 << 10);
    let store: Store = private_on_heap(&options, 7).expect("a small store");
    let session = store.open_session().expect("an entry");
    store.create_namespace(&session, "own", &NamespaceOptions::new()).expect("a record");
    let own = store.in_namespace("own").expect("it was made");
    let (options, always) = (PutOptions::new(), Condition::Always);
    own.put(&session, &key(1), b"value", &options, always).expect("a put");
    let image = Image(store.image().expect("an image"));
    let record = image.word(208) as usize + 128;
    let cases = [
        (record, image.word(record) | 0xFFFF, "own"),
        (record, image.word(record) | 1 << 40, "own"),
        (record + 8, 1 << 60, "own"),
        (record + 56, 0x2000, "own"),
        (record + 32, 0, "recovered-1"),
        (record + 32, u64::from_le_bytes(*b"o n\0\0\0\0\0"), "recovered-1"),
    ];
    for (at, word, name) in cases {
        let mut image = image.clone();
        image.set(at, word);
        let store: Store = from_image(&image.0).expect("a store");
        let session = store.open_session().expect("an entry");
        assert_eq!(store.check(|_, _| {}).violations_total, 1, "{word:#x} at {at:#x}");
        let dry = store.repair(&session, &LOSSY.dry_run(true), |_, _| {}).expect("a look");
        let report = store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("a repair");
        assert_eq!((dry.restored.len(), report.restored.len()), (1, 1), "{report:?}");
        assert_eq!(store.check(|_, _| {}).violations, [""; 0], "{word:#x} at {at:#x}");
        let own = store.in_namespace(name).unwrap_or_else(|error| panic!("{error}: {report:?}"));
        assert_eq!(own.get(&key(1)), Ok(Some(b"value".to_vec())));
        own.put(&session, &key(2), b"another", &options, always).expect("a put");
    }
}

/// A slot that was wiped leaves nothing but a count.
#[test]
fn what_is_missing_is_told() {
    for pair in pairs() {
        let image = image_of(&pair);
        let mut damaged = image.clone();
        for at in image.slots().into_iter().take(2) {
            damaged.set(at, 0);
        }
        let store: Store = from_image(&damaged.0).expect("a store");
        let session = store.open_session().expect("an entry");
        let report = store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("a repair");
        assert_eq!((report.missing, report.dropped), (2, 0), "{report:?}");
    }
}

#[test]
fn a_wrong_shift_of_hash_bits_is_refused() {
    let mut refused = 0;
    for (pair, wrong) in pairs().map(|pair| (pair, -1)).chain(pairs().map(|pair| (pair, -3))) {
        let mut image = image_of(&pair);
        let shift = image.word(160);
        // A larger one is told at once: the filter would be larger, and reach into the next part.
        image.set(160, shift + 9);
        assert!(from_image::<Plain>(&image.0).is_err());
        image.set(160, shift.wrapping_add_signed(wrong));
        let Ok(store) = from_image::<Plain>(&image.0) else { continue };
        refused += 1;
        let session = store.open_session().expect("an entry");
        let before = store.image().expect("an image");
        match store.repair(&session, &LOSSY, |_, _| {}) {
            Err(RepairError::Write(WriteError::Corruption(error))) => assert_eq!(error.offset, 160),
            other => panic!("{other:?}"),
        }
        let slots = |bytes: Vec<u8>| Image(bytes).slots();
        assert_eq!(slots(store.image().expect("an image")), slots(before));
        image.set(160, shift);
        repaired_whole(&image, &pair.model, "with the right one");
    }
    assert!(refused > 0);
}

/// A damage of each kind at once, that costs no key.
fn damaged(image: &Image) -> Image {
    let mut damaged = image.clone();
    for line in image.lines() {
        damaged.set(line, 0x0123_4567_89AB_CDEF);
    }
    for stripe in image.stripes().step_by(3) {
        damaged.set(stripe + 48, 77);
    }
    for at in image.filter() {
        damaged.set(at, 0x0000_1111_0000_0000);
    }
    for (number, link) in image.links().into_iter().enumerate() {
        damaged.set(link, [u64::MAX, 0, 1 << 63 | 5][number % 3]);
    }
    let slots: Vec<_> =
        image.slots().into_iter().filter(|at| !image.links().contains(at)).collect();
    for at in slots.into_iter().step_by(5) {
        // A lane beside it, with the same item.
        let line = at / 64 * 64;
        if let Some(free) = (1..7).map(|lane| line + 8 * lane).find(|at| damaged.word(*at) == 0) {
            damaged.set(free, image.word(at));
        }
    }
    for extent in image.extents_in(3).into_iter().chain(image.extents_in(2)) {
        let at = image.extent_word(extent);
        damaged.set(at, [0, image.word(at) & !(0x3FFFF << 18), u64::MAX][extent % 3]);
    }
    for extent in image.extents_in(3).into_iter().step_by(2) {
        damaged.set(image.generation(extent), [0, 1 << 40 | 77][extent % 2]);
    }
    damaged.set(576, 1);
    damaged
}

/// Whoever repairs may be killed at any store; the next repair ends where it would have.
#[test]
fn a_repair_that_dies_is_done_again() {
    let mut states = 0;
    for pair in pairs() {
        let image = damaged(&image_of(&pair));
        let store: Store<Logging> = from_image(&image.0).expect("a store");
        let session = store.open_session().expect("an entry");
        let mut state = Image(store.image().expect("an image"));
        let address = store.info().expect("info").address as usize;
        let (whole, stores) = record(|| store.repair(&session, &LOSSY, |_, _| {}));
        let whole = whole.expect("it can be mended");
        compare(&store, &pair.model).expect("nothing is lost");
        assert!(whole.tags > 0 && whole.extents > 0 && whole.counts > 0, "{whole:?}");
        assert!(whole.filters > 0, "{whole:?}");
        for (done, Stored { address: at, value, bytes }) in stores.iter().enumerate() {
            let at = at - address;
            state.0[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..*bytes]);
            let mut state = state.clone();
            kill_clients(&mut state.0);
            let store: Store = from_image(&state.0).expect("a store");
            let what = format!("{} of {} stores", done + 1, stores.len());
            for (key, value) in &pair.model {
                let found = store.get(key).unwrap_or(None);
                assert!(found.is_none_or(|found| found == *value), "{what}: {key:?}");
            }
            let session = store.open_session().expect("an entry");
            let report = store.repair(&session, &LOSSY, |_, _| {}).expect(&what);
            assert_eq!(store.check(|_, _| {}).violations, [""; 0], "{what}: {report:?}");
            compare(&store, &pair.model).expect(&what);
            assert_eq!(store.len(), pair.model.len() as u64, "{what}");
            states += 1;
        }
    }
    assert!(states > 300, "{states}");
}

/// Words anywhere are wrong: a repair says that it can't, or a check finds nothing afterwards.
#[test]
fn whatever_was_damaged_a_check_finds_nothing() {
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 20) % below
    };
    let (mut mended, mut refused) = (0, 0);
    for pair in pairs() {
        let image = image_of(&pair);
        for turn in 0..300 {
            let mut damaged = image.clone();
            for _ in 0..1 << (turn % 8) {
                // From the number of buckets on.
                let at = 512 + 8 * next((image.0.len() as u64 - 512) / 8) as usize;
                let word = match next(4) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => image.word(at) ^ 1 << next(64),
                    _ => next(u64::MAX) << 20 ^ next(u64::MAX),
                };
                damaged.set(at, word);
            }
            let Ok(store) = from_image::<Plain>(&damaged.0) else { continue };
            let session = store.open_session().expect("an entry");
            match store.repair(&session, &LOSSY, |_, _| {}) {
                Ok(report) => {
                    let check = store.check(|_, _| {});
                    assert_eq!(check.violations, [""; 0], "turn {turn}: {report:?}");
                    mended += 1;
                }
                Err(RepairError::Write(WriteError::Corruption(_))) => refused += 1,
                Err(error) => panic!("turn {turn}: {error}"),
            }
        }
    }
    assert!(mended > 10 * refused, "{mended}, {refused} refused");
}

/// Writers and readers go on while a store is repaired again and again.
#[test]
fn a_repair_stops_nobody() {
    let options = CreateOptions::new(2 << 20).extent_size(4 << 10).items(2000);
    let store: Store = private_on_heap(&options, 7).expect("a small store");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2_u32 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let session = store.open_session().expect("an entry");
                let mut stands = vec![None; 1000];
                let mut random = u64::from(writer) + 1;
                for turn in 0_u32.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let number = (random >> 33) as u32 % 1000;
                    let key = (number * 2 + writer).to_le_bytes();
                    let got = store.get(&key).expect("no contention");
                    assert_eq!(got, stands[number as usize], "turn {turn}");
                    if random >> 60 < 5 {
                        let there = store.delete(&session, &key).expect("no guard is held");
                        assert_eq!(there, stands[number as usize].take().is_some());
                    } else {
                        let size = if random >> 58 & 3 == 0 { 1500 } else { turn as usize % 300 };
                        let value = vec![turn as u8; size];
                        let (options, always) = (PutOptions::new(), Condition::Always);
                        match store.put(&session, &key, &value, &options, always) {
                            Ok(_) => stands[number as usize] = Some(value),
                            Err(WriteError::Full(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                for (number, value) in stands.into_iter().enumerate() {
                    let key = (number as u32 * 2 + writer).to_le_bytes();
                    assert_eq!(store.get(&key).expect("no contention"), value);
                }
            });
        }
        let repair = || {
            let session = store.open_session().expect("an entry");
            for _ in 0..40 {
                let report = store.repair(&session, &LOSSY, |_, _| {}).expect("a repair");
                let lost = (report.dropped, report.missing, report.put_back, report.restored.len());
                let mended = (report.links, report.slots, report.counts, report.extents);
                assert_eq!((lost, mended), ((0, 0, 0, 0), (0, 0, 0, 0)), "{report:?}");
            }
        };
        // Two of them at once.
        let other = scope.spawn(repair);
        repair();
        other.join().expect("the other one");
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
    let session = store.open_session().expect("an entry");
    while store.clean(&session, 8).expect("cleaning") > 0 {}
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
}
