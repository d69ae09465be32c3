//! Processes that are forked and do not execute anything: a hundred times cheaper than a program that
//! is started, for runs that kill many.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// A forked process, seen from its parent. Dropping it kills and reaps it, and it never outlives the
/// parent.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Readable once it has ended.
    descriptor: OwnedFd,
    reaped: bool,
}

impl Child {
    /// Forks a process that does `work` and then ends, with exit status 0 if it is done. The
    /// parent must have one thread only.
    ///
    /// # Errors
    /// Those of `fork(2)` and `pidfd_open(2)`; more than one thread.
    pub fn start(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let parent = process::id();
        #[expect(unsafe_code, reason = "forking thousands of processes")]
        // SAFETY: there is no other thread (see `ensure_one_thread`), so the child may do whatever
        // this process might.
        match unsafe { fork() }.context("forking a process")? {
            ForkResult::Parent { child } => {
                let pid = rustix::process::Pid::from_raw(child.as_raw()).context("its id")?;
                // It is this process's child and was not waited for, so the id is still its own.
                let descriptor = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
                Ok(Self { pid: child, descriptor, reaped: false })
            }
            ForkResult::Child => {
                let child = move || -> Result<()> {
                    prctl::set_pdeathsig(Signal::SIGKILL).context("ending with the parent")?;
                    ensure!(parent == parent_id(), "the parent has ended already");
                    work()
                };
                let done = panic::catch_unwind(AssertUnwindSafe(child))
                    .unwrap_or_else(|_| Err(anyhow!("panicked, see above")));
                if let Err(error) = &done {
                    eprintln!("process {}: {error:#}", process::id());
                }
                process::exit(i32::from(done.is_err()))
            }
        }
    }

    /// Its process id, as the kernel and the store know it.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("sending {signal} to {}", self.pid))
    }

    /// Waits until it stands still by a signal.
    pub fn await_stop(&self) -> Result<()> {
        match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            status => Err(anyhow!("process {} should have stopped, but: {status:?}", self.pid)),
        }
    }

    /// Waits for its end.
    pub fn reap(mut self) -> Result<WaitStatus> {
        let status = waitpid(self.pid, None).context("waiting for a process")?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Its process id may be somebody else's by now.
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Refuses to go on in a process that has other threads: what they hold at a fork stays held.
///
/// # Errors
/// If there are any, or `/proc` can't be read.
pub fn ensure_one_thread() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("counting threads")?.count();
    ensure!(threads == 1, "{threads} threads: what others hold at a fork stays held");
    Ok(())
}

/// Waits until one of the processes has ended, or for so long; says of each whether it has.
///
/// # Errors
/// Those of `poll(2)`.
pub fn wait_for_end<'a>(
    children: impl Iterator<Item = &'a Child>,
    within: Duration,
) -> Result<Vec<bool>> {
    let mut watched: Vec<_> =
        children.map(|child| PollFd::new(&child.descriptor, PollFlags::IN)).collect();
    let within = Timespec::try_from(within).context("a time to wait")?;
    poll(&mut watched, Some(&within)).context("waiting for processes")?;
    Ok(watched.iter().map(|child| child.revents().contains(PollFlags::IN)).collect())
}
