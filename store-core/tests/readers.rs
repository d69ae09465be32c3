//! Readers beside a writer that recycles extents as fast as it can: no torn or foreign value, no
//! miss of a key that is always there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use store_core::{Mutation, Plain, Shim};
use store_testing::races::readers::{overwrites, race};

#[test]
fn readers_see_whole_values_only() {
    let seen = race::<Plain>(Duration::from_millis(if cfg!(miri) { 50 } else { 3000 }));
    assert!(seen.reads.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.torn.load(Ordering::Relaxed), 0, "{seen:?}");
    assert_eq!(seen.missed.load(Ordering::Relaxed), 0, "{seen:?}");
    assert_eq!(seen.backwards.load(Ordering::Relaxed), 0, "{seen:?}");
}

/// Believes what it read without looking at generation or stamp again. Nearly all that one of them sees the
/// other one sees too.
struct Believes;

impl Shim for Believes {
    fn leaves_out(rule: Mutation) -> bool {
        matches!(rule, Mutation::SkipGenerationCheck | Mutation::SkipStampCheck)
    }
}

/// Recycles extents without bumping their generation; and believes what it read without looking at the stamp
/// again.
struct Recycles;

impl Shim for Recycles {
    fn leaves_out(rule: Mutation) -> bool {
        matches!(rule, Mutation::SkipGenerationBump | Mutation::SkipStampCheck)
    }
}

/// Overwrites values where they stand, as soon as they can be.
struct Hasty;

impl Shim for Hasty {
    const OVERWRITE_APART: i64 = 1;
}

/// The same, and believes what it read without looking at the stamp again.
struct HastyBelieves;

impl Shim for HastyBelieves {
    const OVERWRITE_APART: i64 = 1;

    fn leaves_out(rule: Mutation) -> bool {
        rule == Mutation::SkipStampCheck
    }
}

#[test]
fn readers_see_whole_values_where_these_are_overwritten() {
    let seen = overwrites::<Hasty>(Duration::from_millis(if cfg!(miri) { 50 } else { 3000 }));
    assert!(seen.reads.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.wrong(), 0, "{seen:?}");
}

#[test]
fn negative_control_stamp_check() {
    let seen = overwrites::<HastyBelieves>(Duration::from_secs(30));
    assert!(seen.torn.load(Ordering::Relaxed) > 0, "the harness does not need the check: {seen:?}");
}

#[test]
fn negative_control_without_a_second_look() {
    let seen = race::<Believes>(Duration::from_secs(30));
    assert!(seen.torn.load(Ordering::Relaxed) > 0, "the harness does not need the check: {seen:?}");
}

#[test]
fn negative_control_generation_bump() {
    let seen = race::<Recycles>(Duration::from_secs(30));
    assert!(seen.torn.load(Ordering::Relaxed) > 0, "the harness does not need the bump: {seen:?}");
}
