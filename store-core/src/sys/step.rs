//! Where an explorer of interleavings may let another thread run: before each access to shared memory,
//! and where one would wait for another. There only with `--cfg interleave`; in every other build it
//! compiles to nothing.

/// Why another thread may run.
#[cfg(interleave)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An access to shared memory comes next.
    Access,
    /// Nothing comes next before another thread has done something.
    Wait,
}

#[cfg(interleave)]
thread_local! {
    static HOOK: std::cell::Cell<fn(Step)> = const { std::cell::Cell::new(|_| {}) };
}

/// From now on `hook` is called at each step of this thread.
#[cfg(interleave)]
pub fn at_each_step(hook: fn(Step)) {
    HOOK.set(hook);
}

#[inline(always)]
pub(crate) fn access() {
    #[cfg(interleave)]
    HOOK.get()(Step::Access);
}

/// Whether this was all the waiting that there is to do.
#[inline(always)]
pub(crate) fn wait() -> bool {
    #[cfg(interleave)]
    HOOK.get()(Step::Wait);
    cfg!(interleave)
}
