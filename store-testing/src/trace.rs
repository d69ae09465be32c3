//! A shim that logs each store to shared memory, and can leave out one rule.

use std::cell::{Cell, RefCell};

use store_core::{Mutation, Shim};

/// One store to the segment: of a word, or of the half of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Address in this process.
    pub address: usize,
    /// What is there then.
    pub value: u64,
    /// How many bytes of it: 8, or 4.
    pub bytes: usize,
}

thread_local! {
    static RECORDS: Cell<bool> = const { Cell::new(false) };
    static LOG: RefCell<Vec<Stored>> = const { RefCell::new(Vec::new()) };
    static LEFT_OUT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// The shim of stores whose stores to memory are logged while [`record`] runs, and which leave out
/// what [`leave_out`] says. Both are a thread's own.
#[derive(Debug, Clone, Copy)]
pub struct Logging;

impl Shim for Logging {
    const OBSERVES: bool = true;
    /// So that a short sequence overwrites values where they stand.
    const OVERWRITE_APART: i64 = 1;

    fn leaves_out(rule: Mutation) -> bool {
        LEFT_OUT.get() == Some(rule)
    }

    fn before_store(address: usize, value: u64, bytes: usize) {
        if RECORDS.get() {
            LOG.with_borrow_mut(|log| log.push(Stored { address, value, bytes }));
        }
    }
}

/// Does `act`, and gives the stores that it made, in order.
pub fn record<R>(act: impl FnOnce() -> R) -> (R, Vec<Stored>) {
    RECORDS.set(true);
    let result = act();
    RECORDS.set(false);
    (result, LOG.take())
}

/// From now on the stores of this thread leave out `rule`, or none.
pub fn leave_out(rule: Option<Mutation>) {
    LEFT_OUT.set(rule);
}
