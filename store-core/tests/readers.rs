//! Readers beside a writer that recycles extents as fast as it can: no torn or foreign value, no
//! miss of a key that is always there.

use std::cell::Cell;
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

/// Believes what it read without looking at generation or stamp again: leaves out now the one check, now
/// the other, and so at times both. Nearly all that one of them sees the other one sees too.
struct Believes;

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(1) };
}

/// One of two, by chance.
fn one_of(rules: [Mutation; 2]) -> Option<Mutation> {
    // A linear congruential generator.
    let asked = ASKED.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    ASKED.set(asked);
    Some(rules[(asked >> 31) as usize])
}

impl Shim for Believes {
    fn mutation() -> Option<Mutation> {
        one_of([Mutation::SkipGenerationCheck, Mutation::SkipStampCheck])
    }
}

/// Recycles extents without bumping their generation, at times; and believes what it read without looking
/// at the stamp again, at times.
struct Recycles;

impl Shim for Recycles {
    fn mutation() -> Option<Mutation> {
        one_of([Mutation::SkipGenerationBump, Mutation::SkipStampCheck])
    }
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
