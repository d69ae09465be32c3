//! A place where an explorer of interleavings may let another thread run: before each access to
//! shared memory. There only with `--cfg interleave`; in every other build it compiles to nothing.

#[cfg(interleave)]
thread_local! {
    static STEP: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
}

/// From now on `step` is called before each access of this thread to shared memory.
#[cfg(interleave)]
pub fn before_each_access(step: fn()) {
    STEP.set(Some(step));
}

#[inline(always)]
pub(crate) fn step() {
    #[cfg(interleave)]
    if let Some(step) = STEP.get() {
        step();
    }
}
