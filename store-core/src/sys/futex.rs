//! The process-shared futex (`futex(2)`, without `FUTEX_PRIVATE_FLAG`).

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex;

use super::step;

/// Waits until `word` is woken, or no longer `expected`, or `limit` passed. Wakes may be spurious.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    if step::wait() {
        return;
    }
    let limit = futex::Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // Every outcome (woken, changed, timed out, interrupted) is answered alike: look again.
    let _ = futex::wait(word, futex::Flags::empty(), expected, Some(&limit));
}

/// Wakes every waiter.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// Wakes one waiter.
pub(crate) fn wake_one(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}
