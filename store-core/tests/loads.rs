//! A value is computed once, however callers meet; and not if the second look is left out.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use store_core::{CreateOptions, Mutation, Plain, Session, Shim, Store, private_on_heap};
use store_testing::races::loads::{computed_again, load};

thread_local! {
    /// What is done before the next store.
    static BETWEEN: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn between() {
    let taken = BETWEEN.with_borrow_mut(Option::take);
    if let Some(act) = taken {
        act();
    }
}

/// Lets somebody come between.
struct Interrupted;

impl Shim for Interrupted {
    const OBSERVES: bool = true;

    fn before_store(_: usize, _: u64, _: usize) {
        between();
    }
}

/// The same, and takes leases without looking for the value again.
struct LooksOnce;

impl Shim for LooksOnce {
    fn leaves_out(rule: Mutation) -> bool {
        rule == Mutation::SkipSecondLook
    }
    const OBSERVES: bool = true;

    fn before_store(_: usize, _: u64, _: usize) {
        between();
    }
}

/// A store and a session that stay until the test ends.
fn forever<S: Shim>() -> (&'static Store<S>, &'static Session) {
    let store: Store<S> = private_on_heap(&CreateOptions::new(1 << 20), 7).expect("a store");
    let store = Box::leak(Box::new(store));
    (store, Box::leak(Box::new(store.open_session().expect("a client entry"))))
}

/// One misses a key, and before it has taken the guard another one computes the value; how often it
/// was computed.
fn computed_when_interrupted<S: Shim>() -> u32 {
    let (store, session) = forever::<S>();
    let computed: &AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    BETWEEN.set(Some(Box::new(|| load(store, session, b"k", computed))));
    load(store, session, b"k", computed);
    computed.load(Ordering::Relaxed)
}

#[test]
fn threads_that_meet_at_each_key_compute_it_once() {
    assert_eq!(computed_again::<Plain>(Duration::ZERO), 0);
}

#[test]
fn who_comes_between_a_miss_and_a_lease_is_seen() {
    assert_eq!(computed_when_interrupted::<Interrupted>(), 1);
}

#[test]
fn negative_control_without_the_second_look() {
    assert_eq!(computed_when_interrupted::<LooksOnce>(), 2);
}
