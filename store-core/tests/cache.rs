//! Cache mode: a put always finds room, what is found is what was put last, and what is wanted
//! stays.

use proptest::prelude::{ProptestConfig, proptest};
use proptest::test_runner::FileFailurePersistence;
use store_core::{
    Condition, CreateOptions, Mode, Plain, PutOptions, Session, Store, private_on_heap,
};
use store_testing::cache::{Cache, Op, ops, tiny, turn_of};
use store_testing::crash::{Seen, Walk};
use store_testing::trace::Logging;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 200 },
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_found_was_put_last(which in 0..3_usize, sequence in proptest::collection::vec(ops(), 1..400)) {
        let mut cache = Cache::<Plain>::new(&tiny()[which]);
        for op in &sequence {
            cache.apply(op);
        }
        cache.verify();
    }
}

#[test]
fn what_is_hit_stays_while_others_pass() {
    let cache = Cache::<Plain>::new(&CreateOptions::new(1 << 20).items(4000).mode(Mode::Cache));
    let wanted = |number: u32| format!("wanted {number}").into_bytes();
    for number in 0..200 {
        cache.put(&wanted(number), &[1; 200]);
    }
    // Ten times what fits, and each of the wanted now and then.
    let mut missed = 0;
    for passer in 0..40_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
        let number = passer / 3 % 200;
        if cache.store.get(&wanted(number)).expect("a lookup").is_none() {
            missed += 1;
            cache.put(&wanted(number), &[1; 200]);
        }
    }
    // Of two with one byte for their marks, one is not marked.
    assert!(missed < 400, "{missed}");
    let eviction = cache.eviction();
    assert!(eviction.promoted >= 200 && eviction.evicted_small > 30_000, "{eviction:?}");
    // Once nobody asks for them they go, too.
    for passer in 0..400_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
        // Some come back while they are known, and fill the main queue.
        if passer % 4 == 0 {
            let ago = 1000 + passer.wrapping_mul(7919) % 2000;
            cache.put(&passer.saturating_sub(ago).to_le_bytes(), &[2; 200]);
        }
    }
    let left = (0..200).filter(|number| cache.store.contains(&wanted(*number)) == Ok(true)).count();
    assert_eq!(left, 0, "{:?}", cache.eviction());
    assert_eq!(cache.store.check(|_, _| {}).violations, Vec::<String>::new());
}

#[test]
fn who_comes_back_soon_is_remembered() {
    let cache = Cache::<Plain>::new(&CreateOptions::new(1 << 20).items(4000).mode(Mode::Cache));
    for passer in 0..8_000_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    let evicted = cache.eviction().evicted_small as u32;
    assert!(evicted > 3000);
    // The last ones that went, and those that went long ago.
    let soon = evicted - 500..evicted;
    for passer in soon.clone() {
        assert_eq!(cache.store.contains(&passer.to_le_bytes()), Ok(false));
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    let known = cache.eviction().came_back;
    assert!(known > 450, "{known} of 500");
    for passer in 0..100_u32 {
        cache.put(&passer.to_le_bytes(), &[2; 200]);
    }
    assert!(cache.eviction().came_back - known < 90);
}

/// Overwrites leave dead room, which is used before anything has to go.
#[test]
fn what_was_overwritten_goes_before_what_lives() {
    let mut cache = Cache::<Plain>::new(&CreateOptions::new(1 << 20).items(2000).mode(Mode::Cache));
    // Half of what fits.
    for turn in 0..40_000_usize {
        cache.apply(&Op::Put((turn * 7 % 250) as u8, 900 + turn % 400));
    }
    assert_eq!(cache.store.len(), 250, "{:?}", cache.eviction());
    assert_eq!(cache.eviction().evicted_bytes, 0);
    cache.verify();
}

#[test]
fn large_values_push_each_other_out() {
    let mut cache =
        Cache::<Plain>::new(&CreateOptions::new(2 << 20).extent_size(4 << 10).mode(Mode::Cache));
    for turn in 0..2_000_usize {
        cache.apply(&Op::Put((turn * 11 % 250) as u8, turn * 7919 % 60_000));
    }
    cache.verify();
    assert!(cache.store.len() > 30);
}

/// Writers that stand still have begun to empty extents, and in a small store few are chosen at a
/// time.
#[test]
fn what_others_began_to_empty_is_in_nobodys_way() {
    let options = CreateOptions::new(600 << 10).extent_size(4 << 10).items(1000).mode(Mode::Cache);
    let store: Store<Plain> = private_on_heap(&options, 3).expect("a tiny cache");
    let sessions: Vec<_> = (0..5).map(|_| store.open_session().expect("an entry")).collect();
    let mut random = 1_u64;
    let mut put = |session: &Session| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = ((random >> 33) % 2560).to_le_bytes();
        store.put(session, &key, &[1; 200], &PutOptions::new(), Condition::Always)
    };
    for turn in 0..5000 {
        put(&sessions[turn % 4]).expect("eviction makes room");
    }
    for _ in 0..10_000 {
        put(&sessions[4]).expect("eviction makes room");
    }
    assert_eq!(store.check(|_, _| {}).violations, [""; 0]);
}

/// Every prefix of the stores of an operation that evicts: nothing wrong is found afterwards, the
/// store is sound, and goes on.
#[test]
fn every_prefix_of_an_eviction_recovers() {
    let mut seen = Seen::default();
    for (number, options) in tiny().iter().enumerate() {
        let mut cache = Cache::<Logging>::new(options);
        for turn in 0..400 {
            cache.apply(&turn_of(turn));
            // Some are wanted.
            cache.apply(&Op::Get((turn * 3 % 40) as u8));
        }
        let turns = if cfg!(debug_assertions) { 14 } else { 150 };
        let mut walk = Walk::new("a cache", 1, number as u64);
        for turn in 400..400 + turns {
            assert!(walk.step(&mut cache, &turn_of(turn + number), &mut seen), "{:?}", seen.texts);
        }
        assert!(cache.eviction().evicted_bytes > 0);
    }
    assert!(seen.states() > 1500, "only {} states", seen.states());
    assert_eq!(seen.violations, 0, "{:#?}", seen.texts);
}
