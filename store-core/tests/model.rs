//! Sequences of operations against a plain map, over geometries that reach the corners.

use proptest::prelude::{ProptestConfig, proptest};
use proptest::test_runner::FileFailurePersistence;
use store_core::{Mutation, Plain, Shim, Store, from_image};
use store_testing::pair::{Op, Pair, geometries, ops, verify};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 300 },
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_is_a_map(which in 0..4_usize, sequence in proptest::collection::vec(ops(), 1..250)) {
        let mut pair = Pair::<Plain>::new(&geometries()[which]);
        for op in &sequence {
            pair.apply(op);
        }
        pair.verify();
        // The bytes alone are the store: another process sees the same.
        let copy: Store = from_image(&pair.store.image().expect("an image")).expect("a store");
        verify(&copy, &pair.model);
    }
}

/// Overwrites a few keys many times over: without reuse of extents the store would be full soon.
fn churn<S: Shim>() -> Pair<S> {
    let mut pair = Pair::<S>::new(&geometries()[0]);
    for turn in 0..5_000_usize {
        pair.apply(&Op::Put((turn % 7) as u8, turn * 37 % 900));
    }
    pair
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn extents_without_live_items_are_used_again() {
    let pair = churn::<Plain>();
    pair.verify();
    let stats = pair.store.stats().expect("stats");
    assert!(stats.live_bytes < 20_000, "{stats:?}");
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn overflow_lines_come_back() {
    let mut pair = Pair::<Plain>::new(&geometries()[0]);
    for round in 0..50 {
        for number in 0..48 {
            pair.apply(&Op::Put(number, 10));
        }
        pair.verify();
        for number in 0..48 {
            pair.apply(&Op::Delete((number + round) % 48));
        }
        assert_eq!(pair.store.stats().expect("stats").overflow_lines_used, 0);
    }
}

/// The harness would notice a store that forgets to count live bytes: it hands out memory that is
/// still in use.
struct ForgetsLiveBytes;

impl Shim for ForgetsLiveBytes {
    fn leaves_out(rule: Mutation) -> bool {
        rule == Mutation::SkipLiveBytes
    }
}

#[test]
#[should_panic]
#[cfg_attr(miri, ignore = "too long")]
fn negative_control_live_bytes() {
    churn::<ForgetsLiveBytes>().verify();
}
