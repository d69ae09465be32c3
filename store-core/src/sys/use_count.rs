//! How many clients use a set of semaphores: one semaphore of it counts them.
//!
//! Each counts itself in and out with `SEM_UNDO`, so the kernel counts the dead out. A forked child
//! is not counted before it counts itself in; an executed program is, until it ends.

use std::io;

use super::semaphore::{SemaphoreSet, VALUE_MAX, operate};

/// Of a set whose last users are gone: nobody can count itself in any more.
const CLOSED: u16 = VALUE_MAX;

/// The semaphore of a set that counts its users. Made with the value 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UseCount {
    set: SemaphoreSet,
    number: u16,
}

impl UseCount {
    pub(crate) fn of(set: SemaphoreSet, number: u16) -> Self {
        Self { set, number }
    }

    /// Counts this process in; `false` if the set is gone or closed.
    ///
    /// # Errors
    /// Those of `semop(2)`: `EACCES` without write permission, `ENOMEM` or `ENOSPC` for the
    /// undoing.
    pub(crate) fn enter(self) -> io::Result<bool> {
        match operate(self.set.id(), &mut [self.step(1, libc::SEM_UNDO)], None) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ERANGE | libc::EINVAL | libc::EIDRM | libc::EFBIG) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Counts this process out, once for each time that it counted itself in.
    pub(crate) fn leave(self) {
        let flags = libc::SEM_UNDO | libc::IPC_NOWAIT;
        let _ = operate(self.set.id(), &mut [self.step(-1, flags)], None);
    }

    /// Whether it counts nobody, or was closed when it did.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EINVAL` or `EIDRM` if the set is gone.
    pub(crate) fn is_unused(self) -> io::Result<bool> {
        Ok(matches!(self.set.semaphore(self.number).value()?, 0 | CLOSED))
    }

    /// Whether nobody can count itself in any more.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EINVAL` or `EIDRM` if the set is gone.
    pub(crate) fn is_closed(self) -> io::Result<bool> {
        Ok(self.set.semaphore(self.number).value()? == CLOSED)
    }

    /// Removes the set if nobody uses it; whether it did. Who comes meanwhile is counted before,
    /// and keeps it, or finds it closed.
    ///
    /// # Errors
    /// Those of `semop(2)` and `semctl(2)`: `EPERM` for who neither owns nor made it; `EINVAL` or
    /// `EIDRM` if it is gone.
    pub(crate) fn remove_unused(self) -> io::Result<bool> {
        // In one step: it is 0, and as high as it can be.
        let close = &mut [self.step(0, libc::IPC_NOWAIT), self.step(CLOSED as i16, 0)];
        match operate(self.set.id(), close, None) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                // Whoever closed it may have died then.
                if !self.is_closed()? {
                    return Ok(false);
                }
            }
            other => other?,
        }
        self.set.remove().inspect_err(|_| {
            let open = &mut [self.step(-(CLOSED as i16), libc::IPC_NOWAIT)];
            let _ = operate(self.set.id(), open, None);
        })?;
        Ok(true)
    }

    fn step(self, change: i16, flags: libc::c_int) -> libc::sembuf {
        self.set.semaphore(self.number).step(change, flags)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    use super::*;
    use crate::sys::semaphore::Ownership;

    fn own() -> Ownership {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Ownership { uid, gid, permissions: 0o600 }
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_set_goes_when_nobody_uses_it() {
        let set = SemaphoreSet::create(&[7, 0], own()).expect("a set");
        let users = UseCount::of(set, 1);
        assert!(users.is_unused().expect("it is there"));
        assert!(users.enter().expect("it is open") && users.enter().expect("it is open"));
        users.leave();
        assert!(!users.is_unused().expect("it is there"));
        assert!(!users.remove_unused().expect("it is there"), "one uses it");
        users.leave();
        assert!(users.is_unused().expect("it is there"));

        // Closed by one that died before it removed it.
        operate(set.id(), &mut [users.step(CLOSED as i16, 0)], None).expect("it was 0");
        assert!(!users.enter().expect("it is there"));
        assert!(users.is_unused().expect("it is there"));
        assert!(users.remove_unused().expect("it is ours"));
        assert!(!users.enter().expect("it is gone"));
        assert!(users.remove_unused().is_err());
    }
    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn nobody_who_was_counted_in_loses_the_set() {
        let make = || SemaphoreSet::create(&[0], own()).expect("a set").id();
        let (id, done) = (AtomicI32::new(make()), AtomicBool::new(false));
        let users = || UseCount::of(SemaphoreSet::of_id(id.load(Ordering::SeqCst)), 0);
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                let mut removed = 0;
                while !done.load(Ordering::SeqCst) {
                    if users().remove_unused().expect("it is there and ours") {
                        id.store(make(), Ordering::SeqCst);
                        removed += 1;
                    }
                }
                removed
            });
            let come = || {
                for _ in 0..100_000 {
                    let users = users();
                    if users.enter().expect("it may") {
                        assert!(!users.is_unused().expect("it is there"));
                        users.leave();
                    }
                }
            };
            let clients = [scope.spawn(come), scope.spawn(come)];
            let ended = clients.map(|client| client.join());
            done.store(true, Ordering::SeqCst);
            assert!(remover.join().expect("no error") > 100);
            assert!(ended.iter().all(Result::is_ok), "a set went while it was used");
        });
        assert!(users().remove_unused().expect("it is ours"));
    }
}
