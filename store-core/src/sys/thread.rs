//! Threads, told apart by small numbers.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of the calling thread: 0 for the first one that asks, then 1, and so on.
#[inline]
pub(crate) fn number() -> usize {
    match NUMBER.get() {
        usize::MAX => new_number(),
        number => number,
    }
}

#[cold]
fn new_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}
