//! Every prefix of the stores of an operation, applied to a copy of the segment: another process
//! recovers, and finds the state from before or from after. `crash-states` in `benches` does the same
//! from more start states, and far longer.

use store_core::{CreateOptions, Mutation, Plain, Store, WriteError, from_image};
use store_testing::crash::{Seen, Walk, each_prefix, kill_clients};
use store_testing::pair::{Op, Pair, contents, geometries, key, sequence, value};
use store_testing::trace::{Logging, leave_out, record};

/// Walks a sequence, looking at the crash states of each operation and of some recoveries; with `rule`
/// left out by those who die and by those who recover.
fn run(options: &CreateOptions, rule: Option<Mutation>, seed: u64, len: usize) -> (Seen, u64) {
    let mut seen = Seen::default();
    let mut pair = Pair::<Logging>::new(options);
    let mut walk = Walk::new("a store", 1, seed);
    leave_out(rule);
    for op in sequence(seed, len) {
        if !walk.step(&mut pair, &op, &mut seen) {
            break;
        }
    }
    leave_out(None);
    (seen, pair.store.info().expect("info").buckets)
}

#[test]
fn every_prefix_of_every_write_recovers() {
    let mut all = Seen::default();
    let len = if cfg!(debug_assertions) { 10 } else { 150 };
    for (number, options) in geometries().iter().enumerate() {
        let (seen, buckets) = run(options, None, 0x9E37_79B9 + number as u64, len);
        // Laid out for 8 items, and split on the way.
        assert!(number > 0 || buckets > 4);
        all.absorb(seen);
    }
    eprintln!("{} crash states: {:#?}", all.states(), all.counts);
    assert!(all.states() > 5_000, "only {} states", all.states());
    assert_eq!(all.violations, 0, "{:#?}", all.texts);
}

#[test]
fn every_prefix_of_a_rewrite_under_the_guard_recovers() {
    let (seen, _) = run(&geometries()[0], Some(Mutation::RewriteUnderGuard), 5, 40);
    assert!(seen.states() > 500, "only {} states", seen.states());
    assert_eq!(seen.violations, 0, "{:#?}", seen.texts);
}

#[test]
fn a_dead_loader_is_followed_without_a_reaper() {
    for options in &geometries() {
        let mut writer = Pair::<Logging>::new(options);
        let address = writer.store.info().expect("info").address as usize;
        let image = writer.store.image().expect("an image");
        let ((), stores) = record(|| writer.apply(&Op::Load(5, 100)));
        let mut leases = 0;
        each_prefix(image, address, &stores, |_, image, _| {
            let mut image = image.to_vec();
            kill_clients(&mut image);
            let store: Store = from_image(&image).expect("a store");
            leases += store.held_leases().expect("leases").len();
            // What stands is its value, or nothing.
            let found = contents(&store);
            assert!(found.is_empty() || found == writer.model);
            let mut pair = Pair::with_model(store, found);
            pair.apply(&Op::Load(5, 200));
            // A value that stood was read without a guard, so what else was left is still there.
            pair.store.reap(&pair.session).expect("reaps");
            pair.verify();
        });
        assert!(leases > 20, "{leases} states with a lease of a dead client");
    }
}

/// The harness sees each of these taken out.
#[test]
fn negative_controls() {
    for (rule, len) in [
        (Mutation::SkipRepair, 20),
        (Mutation::SkipRedoRecord, 60),
        (Mutation::SlotBeforeFilter, 0),
        (Mutation::LinkBeforeCopy, 0),
        (Mutation::ClearBeforeSize, 0),
    ] {
        let (seen, _) = run(&geometries()[0], Some(rule), 3, len);
        assert!(seen.violations > 0, "the harness does not need {rule:?}");
    }
}

#[test]
fn a_full_store_refuses_and_changes_nothing() {
    let mut pair = Pair::<Plain>::new(&geometries()[0]);
    for number in 0..48 {
        pair.apply(&Op::Put(number, 3000));
    }
    let image = pair.store.image().expect("an image");
    let big = value(1, 3500, 1);
    let mut refused = 0;
    for number in 0..48 {
        let key = key(number);
        let options = store_core::PutOptions::new();
        let condition = store_core::Condition::Always;
        match pair.store.put(&pair.session, &key, &big, &options, condition) {
            Err(WriteError::Full(full)) => {
                refused += 1;
                assert!(full.needed > 3500 && full.capacity > 0);
            }
            Ok(_) => {
                pair.model.insert(key, big.clone());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0 && !image.is_empty());
    pair.verify();
}
