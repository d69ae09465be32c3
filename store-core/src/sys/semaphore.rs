//! Sets of System V semaphores, by id.
//!
//! Every operation of a taker is with `SEM_UNDO`: when its process ends, however that comes, the
//! kernel gives back what it took. It says nothing of it. The undoing follows the process, not the
//! thread; a forked child inherits none of it, an executed program all. `SETVAL` and `SETALL`
//! forget it, so values are set before anybody else knows the id, and never again.

use std::io;
use std::time::{Duration, Instant};

use super::sysv::answer;

/// Values a semaphore can have (`SEMVMX`).
pub(crate) const VALUE_MAX: u16 = 32_767;

/// A set, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SemaphoreSet {
    id: i32,
}

/// One semaphore of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Semaphore {
    set: SemaphoreSet,
    number: u16,
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) permissions: u32,
}

/// A limit of the kernel for semaphores, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
}

impl SemaphoreSet {
    /// The set with this id, if there is one.
    pub(crate) fn of_id(id: i32) -> Self {
        Self { id }
    }

    pub(crate) fn id(self) -> i32 {
        self.id
    }

    /// Makes a set without a key, with these values and of this owner and mode. Nobody can find it
    /// before it is told the id, so there is no moment at which it could be met half made.
    ///
    /// # Errors
    /// Those of `semget(2)`: `EINVAL` beyond `SEMMSL` semaphores; `ENOSPC` beyond `SEMMNI` sets or
    /// `SEMMNS` semaphores. See [`limit_of`].
    pub(crate) fn create(values: &[u16], ownership: Ownership) -> io::Result<Self> {
        let set = Self::get(values.len())?;
        set.set_all(values).and_then(|()| set.set(ownership)).inspect_err(|_| {
            let _ = set.remove();
        })?;
        Ok(set)
    }

    #[expect(unsafe_code, reason = "semget")]
    fn get(count: usize) -> io::Result<Self> {
        let count = libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX);
        // SAFETY: takes numbers only.
        answer(unsafe { libc::semget(libc::IPC_PRIVATE, count, libc::IPC_CREAT | 0o600) })
            .map(|id| Self { id })
    }

    #[expect(unsafe_code, reason = "semctl")]
    fn set_all(self, values: &[u16]) -> io::Result<()> {
        // SAFETY: SETALL reads as many values as the set has, which was made with that many.
        answer(unsafe { libc::semctl(self.id, 0, libc::SETALL, values.as_ptr()) }).map(drop)
    }

    /// Sets owner, group and permission bits. For its owner or maker.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EPERM`; `EINVAL` or `EIDRM` if it is gone.
    #[expect(unsafe_code, reason = "semctl")]
    pub(crate) fn set(self, ownership: Ownership) -> io::Result<()> {
        let mut data = self.data()?;
        data.sem_perm.uid = ownership.uid;
        data.sem_perm.gid = ownership.gid;
        // The type is that of the libc: 16 or 32 bits.
        data.sem_perm.mode = (ownership.permissions & 0o777) as _;
        // SAFETY: IPC_SET reads the structure, which lives until the call returns.
        answer(unsafe { libc::semctl(self.id, 0, libc::IPC_SET, &raw mut data) }).map(drop)
    }

    /// How many semaphores it has. Needs read permission.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EINVAL` or `EIDRM` if it is gone, `EACCES`.
    pub(crate) fn count(self) -> io::Result<usize> {
        Ok(usize::try_from(self.data()?.sem_nsems).unwrap_or(usize::MAX))
    }

    #[expect(unsafe_code, reason = "semctl")]
    fn data(self) -> io::Result<libc::semid_ds> {
        let mut data = std::mem::MaybeUninit::zeroed();
        // SAFETY: IPC_STAT fills the structure in; zeros are valid for it too.
        answer(unsafe { libc::semctl(self.id, 0, libc::IPC_STAT, data.as_mut_ptr()) })?;
        // SAFETY: filled in by the call, which did not fail.
        Ok(unsafe { data.assume_init() })
    }

    /// Removes it at once; who waits on one of its semaphores gets `EIDRM`.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EPERM`; `EINVAL` or `EIDRM` if it is gone.
    #[expect(unsafe_code, reason = "semctl")]
    pub(crate) fn remove(self) -> io::Result<()> {
        // SAFETY: IPC_RMID reads no argument.
        answer(unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) }).map(drop)
    }

    pub(crate) fn semaphore(self, number: u16) -> Semaphore {
        Semaphore { set: self, number }
    }
}

/// A set of this IPC namespace as `/proc/sysvipc/sem` lists it, which everybody may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedSet {
    /// Its key; 0: it has none.
    pub(crate) key: u32,
    pub(crate) id: i32,
    pub(crate) count: usize,
    pub(crate) ownership: Ownership,
    /// When it was made, or its values or its owner were set last, in seconds since 1970.
    pub(crate) changed_unix_s: u64,
}

/// All sets of this IPC namespace; none where the kernel has no System V semaphores.
///
/// # Errors
/// Where `/proc/sysvipc/sem` can't be read.
pub(crate) fn list() -> io::Result<Vec<ListedSet>> {
    match std::fs::read_to_string("/proc/sysvipc/sem") {
        Ok(text) => Ok(text.lines().skip(1).filter_map(listed).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// One line: key semid perms nsems uid gid cuid cgid otime ctime.
fn listed(line: &str) -> Option<ListedSet> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse::<u64>().ok();
    let permissions = u32::from_str_radix(words.get(2)?, 8).ok()? & 0o777;
    Some(ListedSet {
        // Printed with a sign.
        key: words.first()?.parse::<i64>().ok()? as u32,
        id: words.get(1)?.parse().ok()?,
        count: number(3)? as usize,
        ownership: Ownership { uid: number(4)? as u32, gid: number(5)? as u32, permissions },
        changed_unix_s: number(9)?,
    })
}

/// What the kernel's refusal to make a set means, if it is a limit.
pub(crate) fn limit_of(error: &io::Error) -> Option<Limit> {
    let text = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
    let (semmsl, semmns) = (numbers.next()?, numbers.next()?);
    let semmni = numbers.nth(1)?;
    let sets = list().map_or(0, |sets| sets.len() as u64);
    match error.raw_os_error()? {
        libc::EINVAL => Some(Limit { name: "SEMMSL", value: semmsl }),
        libc::ENOSPC if sets >= semmni => Some(Limit { name: "SEMMNI", value: semmni }),
        libc::ENOSPC => Some(Limit { name: "SEMMNS", value: semmns }),
        _ => None,
    }
}

impl Semaphore {
    /// Takes one, waiting for it; `false` if none was to be had in that time.
    ///
    /// # Errors
    /// Those of `semop(2)`: `EIDRM` or `EINVAL` if the set is gone, `EACCES` without write
    /// permission, `ENOMEM` for the undoing, `ERANGE` if it can count no further.
    pub(crate) fn take(self, limit: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let (flags, wait) = match left {
                Duration::ZERO => (libc::IPC_NOWAIT, None),
                left => (0, Some(left)),
            };
            match operate(self.set.id, &mut [self.step(-1, libc::SEM_UNDO | flags)], wait) {
                Ok(()) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(false),
                    // A signal: with what is left of the time.
                    Some(libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Gives one back. It can't fail but for a set that is gone: what was taken left room for it.
    pub(crate) fn give(self) {
        let _ = operate(self.set.id, &mut [self.step(1, libc::SEM_UNDO)], None);
    }

    /// Gives back what this process took, and takes it away for good: one step, in which nobody
    /// else gets it.
    pub(crate) fn drop_taken(self) {
        let steps = &mut [self.step(1, libc::SEM_UNDO), self.step(-1, libc::IPC_NOWAIT)];
        let _ = operate(self.set.id, steps, None);
    }

    /// Its value.
    ///
    /// # Errors
    /// Those of `semctl(2)`: `EINVAL` or `EIDRM` if the set is gone.
    #[expect(unsafe_code, reason = "semctl")]
    pub(crate) fn value(self) -> io::Result<u16> {
        // SAFETY: GETVAL reads no argument.
        let value = answer(unsafe { libc::semctl(self.set.id, self.number.into(), libc::GETVAL) })?;
        Ok(u16::try_from(value).unwrap_or(VALUE_MAX))
    }

    /// Whether somebody waits for it, as far as the kernel says.
    #[expect(unsafe_code, reason = "semctl")]
    pub(crate) fn has_waiters(self) -> bool {
        // SAFETY: GETNCNT reads no argument.
        unsafe { libc::semctl(self.set.id, self.number.into(), libc::GETNCNT) > 0 }
    }

    pub(super) fn step(self, change: i16, flags: libc::c_int) -> libc::sembuf {
        libc::sembuf { sem_num: self.number, sem_op: change, sem_flg: flags as i16 }
    }
}

/// `semtimedop(2)`, which the C library has, and the crate `libc` has not.
#[expect(unsafe_code, reason = "semtimedop")]
pub(super) fn operate(
    id: i32,
    steps: &mut [libc::sembuf],
    limit: Option<Duration>,
) -> io::Result<()> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: the steps and the time live until the call returns; the kernel reads them only.
        let done = unsafe {
            libc::syscall(libc::SYS_semtimedop, id, steps.as_mut_ptr(), steps.len(), limit)
        };
        match (done != -1).then_some(()).ok_or_else(io::Error::last_os_error) {
            // A signal. Who waits for a time goes on with what is left of it.
            Err(error) if limit.is_null() && error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::sys::kernel_text;

    proptest! {
        #[test]
        fn whatever_a_line_says_is_answered(text in kernel_text(), numbers in any::<[u64; 16]>()) {
            let _ = listed(&text);
            let line = numbers.map(|number| (number >> (number % 64)).to_string()).join(" ");
            let _ = listed(&line);
        }
    }

    fn own() -> Ownership {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Ownership { uid, gid, permissions: 0o600 }
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn what_is_taken_is_waited_for_and_given_back() {
        let set = SemaphoreSet::create(&[1, 7], own()).expect("a set");
        assert_eq!(set.count().expect("it is there"), 2);
        let semaphore = set.semaphore(0);
        assert!(semaphore.take(Duration::ZERO).expect("it is there"));
        let start = Instant::now();
        assert!(!semaphore.take(Duration::from_millis(20)).expect("it is there"));
        assert!(start.elapsed() >= Duration::from_millis(20));
        semaphore.give();
        assert_eq!(semaphore.value().expect("it is there"), 1);
        assert!(semaphore.take(Duration::ZERO).expect("it is there"));
        semaphore.drop_taken();
        assert_eq!(semaphore.value().expect("it is there"), 0);
        assert_eq!(set.semaphore(1).value().expect("it is there"), 7);
        set.remove().expect("it is ours");
        let gone = semaphore.take(Duration::ZERO).expect_err("it is gone").raw_os_error();
        assert!(matches!(gone, Some(libc::EINVAL | libc::EIDRM)));
    }

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "-2147483648 32769 640 42 5 6 7 8 0 1795000000";
        let ownership = Ownership { uid: 5, gid: 6, permissions: 0o640 };
        let expected = ListedSet {
            key: 0x8000_0000,
            id: 32_769,
            count: 42,
            ownership,
            changed_unix_s: 1_795_000_000,
        };
        assert_eq!(listed(line), Some(expected));
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_limit_is_named() {
        let refused = SemaphoreSet::create(&[0; 100_000], own()).expect_err("SEMMSL");
        let limit = limit_of(&refused).expect("a limit");
        assert_eq!(limit.name, "SEMMSL");
        assert!(limit.value > 0);
    }
}
