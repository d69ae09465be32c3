//! Who this process is, and whether another one still lives.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::time_namespace;

/// How far two readings of one start time may differ, if the offset of a time namespace is no whole
/// number of ticks. No pid is given out again in that time.
const TICKS_OFF_MAX: u64 = 1;

/// What names a process beyond its pid, which the kernel gives out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`), without what a time
    /// namespace adds; 0 if unknown.
    pub(crate) start_time: u64,
    /// Inode of its PID namespace; 0 if unknown.
    pub(crate) pid_namespace: u64,
}

/// What can be said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    /// There is no such process.
    Dead,
    /// All its threads have ended, and nobody has waited for it yet.
    Zombie,
    /// It executed another program, and has nothing of the store any more.
    Executed,
    /// It belongs to another PID namespace: treated as alive.
    Foreign,
    /// The kernel does not say: treated as alive.
    Unknown,
}

impl Liveness {
    /// Whether it is gone for certain, as far as the store goes.
    pub(crate) fn is_dead(self) -> bool {
        matches!(self, Self::Dead | Self::Zombie | Self::Executed)
    }
}

/// This process.
///
/// # Errors
/// Those of `open(2)`, `read(2)` and `stat(2)` on files in `/proc`. Who goes on without it would be
/// taken for whoever has its pid later.
pub(crate) fn own_id() -> io::Result<ProcessId> {
    Ok(ProcessId {
        pid: std::process::id(),
        start_time: start_time("self")?.unwrap_or(0),
        pid_namespace: own_pid_namespace()?,
    })
}

/// Inode of this process's PID namespace; 0 where there is no `/proc`.
///
/// # Errors
/// Those of `stat(2)`.
pub(crate) fn own_pid_namespace() -> io::Result<u64> {
    namespace("/proc/self/ns/pid")
}

/// Inode of this process's IPC namespace, whose System V segments it sees; 0 where there is no
/// `/proc`.
///
/// # Errors
/// Those of `stat(2)`.
pub(crate) fn own_ipc_namespace() -> io::Result<u64> {
    namespace("/proc/self/ns/ipc")
}

fn namespace(path: &str) -> io::Result<u64> {
    Ok(if_there(fs::metadata(path))?.map_or(0, |found| found.ino()))
}

/// `None` for what is not there.
fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the process `id` names still lives, as seen from this PID namespace.
///
/// A zombie whose threads are all gone is dead; a leader that exited while threads run is not.
/// Never says of a process that lives that it is dead: `kill(pid, 0)` is not asked (it says ESRCH of a live
/// process of another namespace), and a start time that can't be read proves nothing.
pub(crate) fn liveness(id: &ProcessId) -> Liveness {
    // 0 of an entry: not filled in yet, and then of this namespace, since others are refused.
    let own = own_pid_namespace().unwrap_or(0);
    if own == 0 {
        return Liveness::Unknown;
    }
    if id.pid_namespace != 0 && id.pid_namespace != own {
        return Liveness::Foreign;
    }
    let Some(pid) = i32::try_from(id.pid).ok().and_then(Pid::from_raw) else {
        return Liveness::Dead;
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // Nobody, or a thread that leads no process (EINVAL, from Linux 6.9 on ENOENT): then the
        // process that had the number is gone.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
            return Liveness::Dead;
        }
        Err(_) => return Liveness::Unknown,
    };
    // The pid is pinned by the descriptor now, so the start time that is read belongs to it, or
    // to nobody.
    if id.start_time != 0
        && proc_is_own()
        && start_time(&id.pid.to_string())
            .unwrap_or(None)
            .is_some_and(|now| now.abs_diff(id.start_time) > TICKS_OFF_MAX)
    {
        return Liveness::Dead;
    }
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(1..) => Liveness::Zombie,
        Ok(0) => Liveness::Alive,
        Err(_) => Liveness::Unknown,
    }
}

/// Whether `/proc` has the processes of this PID namespace: one of another namespace, which a
/// container without a mount of its own sees, has other processes under the same numbers.
pub(super) fn proc_is_own() -> bool {
    let own = fs::read_link("/proc/self");
    own.is_ok_and(|own| own.to_str() == Some(&std::process::id().to_string()))
}

/// When a process started, in ticks since boot, without what this process's time namespace adds.
///
/// # Errors
/// Those of `open(2)` and `read(2)`, but for `ENOENT`.
fn start_time(who: &str) -> io::Result<Option<u64>> {
    let Some(offsets) = time_namespace::own_offsets()? else { return Ok(None) };
    let stat = if_there(fs::read(format!("/proc/{who}/stat")))?;
    let shown = stat.and_then(|stat| start_shown(&stat));
    Ok(shown.and_then(|shown| without_offset(shown, offsets.boot_ns)))
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold blanks and parentheses, and bytes that
/// are no text: a long name is cut, in the middle of a letter, too.
fn start_shown(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Ticks since boot of what is shown with an offset.
fn without_offset(shown: u64, offset_ns: i128) -> Option<u64> {
    let tick_ns = 1_000_000_000 / i128::from(rustix::param::clock_ticks_per_second());
    u64::try_from((i128::from(shown) * tick_ns - offset_ns).div_euclid(tick_ns)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::sys::kernel_text;

    #[test]
    fn start_times_are_the_same_in_each_time_namespace() {
        let tick_ns = 1_000_000_000 / i128::from(rustix::param::clock_ticks_per_second());
        for offset_ns in [0, 7 * tick_ns, -7 * tick_ns, 3, tick_ns - 1, -3, 5 * tick_ns / 2] {
            for start_ns in [1000 * tick_ns, 1000 * tick_ns + 1, 1001 * tick_ns - 1] {
                let shown =
                    u64::try_from((start_ns + offset_ns).div_euclid(tick_ns)).expect("later");
                let found = without_offset(shown, offset_ns).expect("after boot");
                let off = 1000 - found;
                assert!(off <= u64::from(offset_ns % tick_ns != 0), "{offset_ns} {start_ns}");
            }
        }
        assert_eq!(without_offset(5, 6 * tick_ns), None);
    }

    #[test]
    fn a_name_may_be_any_bytes() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in [&b"cat"[..], b") S 1 (", b"sch\xc3", b"a\nb"] {
            let stat = [b"77 (", name, b") ", fields.as_bytes()].concat();
            assert_eq!(start_shown(&stat), Some(4711));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_answered(stat in vec(any::<u8>(), 0..200), text in kernel_text()) {
            let _ = (start_shown(&stat), start_shown(text.as_bytes()));
            let shown = text.len() as u64;
            for offset_ns in [i128::MAX >> 1, i128::from(i64::MIN) * 1_000_000_000] {
                let _ = (without_offset(u64::MAX, offset_ns), without_offset(shown, offset_ns));
            }
        }
    }

    #[test]
    fn this_process_lives_and_a_reaped_child_does_not() {
        let own = own_id().expect("/proc");
        assert_eq!(liveness(&own), Liveness::Alive);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let id = ProcessId {
            pid: child.id(),
            start_time: start_time(&child.id().to_string()).expect("/proc").expect("its stat"),
            ..own
        };
        assert_eq!(liveness(&id), Liveness::Alive);
        assert_eq!(liveness(&ProcessId { start_time: 1, ..id }), Liveness::Dead);
        assert_eq!(liveness(&ProcessId { pid_namespace: 1, ..id }), Liveness::Foreign);
        child.kill().expect("kill");
        // A zombie is dead, and so is nobody.
        while liveness(&id) == Liveness::Alive {
            std::thread::yield_now();
        }
        assert_eq!(liveness(&id), Liveness::Zombie);
        child.wait().expect("wait");
        assert_eq!(liveness(&id), Liveness::Dead);
    }
}
