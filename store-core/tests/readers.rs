//! Readers beside a writer that recycles extents as fast as it can: no torn or foreign value, no
//! miss of a key that is always there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use store_core::{Mutation, Plain, Shim};
use store_testing::races::readers::race;

#[test]
fn readers_see_whole_values_only() {
    let seen = race::<Plain>(Duration::from_millis(if cfg!(miri) { 50 } else { 3000 }));
    assert!(seen.reads.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.torn.load(Ordering::Relaxed), 0, "{seen:?}");
    assert_eq!(seen.missed.load(Ordering::Relaxed), 0, "{seen:?}");
    assert_eq!(seen.backwards.load(Ordering::Relaxed), 0, "{seen:?}");
}

/// Believes what it read without looking at the generation again.
struct Believes;

impl Shim for Believes {
    fn mutation() -> Option<Mutation> {
        Some(Mutation::SkipGenerationCheck)
    }
}

/// Recycles extents without bumping their generation.
struct Recycles;

impl Shim for Recycles {
    fn mutation() -> Option<Mutation> {
        Some(Mutation::SkipGenerationBump)
    }
}

#[test]
fn negative_control_generation_check() {
    let seen = race::<Believes>(Duration::from_secs(30));
    assert!(seen.torn.load(Ordering::Relaxed) > 0, "the harness does not need the check: {seen:?}");
}

#[test]
fn negative_control_generation_bump() {
    let seen = race::<Recycles>(Duration::from_secs(30));
    assert!(seen.torn.load(Ordering::Relaxed) > 0, "the harness does not need the bump: {seen:?}");
}
