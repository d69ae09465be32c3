//! A child process one of whose system calls is refused: the kernel does not see it, the child is
//! told an error.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork, getpgid, pipe};

/// What is asked for where the part ends whose calls count: no process.
const NOBODY: i32 = i32::MAX;

/// Of this process.
static IS_TRACED: AtomicBool = AtomicBool::new(false);

/// Seconds after which a child is hung.
const HUNG: u32 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call answers this.
    Error(i32),
    /// The process is killed before it.
    Kill,
}

/// A system call, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(pub(crate) i64);

impl Call {
    /// The names of those that are treated alike.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            libc::SYS_openat => "openat",
            libc::SYS_memfd_create => "memfd_create",
            libc::SYS_fcntl => "fcntl",
            libc::SYS_pidfd_open => "pidfd_open",
            libc::SYS_fallocate => "fallocate",
            libc::SYS_ftruncate => "ftruncate",
            libc::SYS_flock => "flock",
            libc::SYS_read => "read",
            libc::SYS_pread64 => "pread64",
            libc::SYS_write => "write",
            libc::SYS_pwrite64 => "pwrite64",
            libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
            libc::SYS_shmget => "shmget",
            libc::SYS_shmat => "shmat",
            libc::SYS_semget => "semget",
            libc::SYS_semctl => "semctl",
            libc::SYS_semtimedop => "semtimedop",
            libc::SYS_getrandom => "getrandom",
            libc::SYS_mmap => "mmap",
            libc::SYS_madvise => "madvise",
            libc::SYS_mprotect => "mprotect",
            _ => "another",
        }
    }

    /// Whether it gives something back: then it is done, and its answer is false. (`close` does so in
    /// the kernel, too.)
    fn gives_back(self) -> bool {
        matches!(self.0, libc::SYS_close | libc::SYS_munmap | libc::SYS_shmdt)
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited,
    Killed,
    /// By another signal, or with a panic.
    Died(i32),
}

/// What came of a child.
pub(crate) struct Run {
    /// The call that was refused, if it came to it.
    pub(crate) call: Option<Call>,
    pub(crate) end: End,
    /// What the child reported.
    pub(crate) said: String,
}

/// In a child: from here on its calls count.
pub(crate) fn begin() {
    if !IS_TRACED.load(Ordering::Relaxed) {
        return;
    }
    raise(Signal::SIGSTOP).expect("stops");
}

/// In a child: from here on they don't.
pub(crate) fn end() {
    let _ = getpgid(Some(Pid::from_raw(NOBODY)));
}

/// A child that does `work`, which says what came of it, and its end of a pipe.
fn child(work: impl FnOnce() -> String, is_traced: bool) -> (Pid, OwnedFd) {
    let (from, to) = pipe().expect("a pipe");
    #[expect(unsafe_code, reason = "a child that has what this process has")]
    // SAFETY: the child uses the store and the pipe, and leaves by `_exit`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => (child, from),
        ForkResult::Child => {
            drop(from);
            alarm::set(HUNG);
            IS_TRACED.store(is_traced, Ordering::Relaxed);
            if is_traced {
                ptrace::traceme().expect("its parent traces it");
            }
            let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let code = i32::from(said.is_err());
            let _ = std::fs::File::from(to).write_all(said.unwrap_or_default().as_bytes());
            #[expect(unsafe_code, reason = "no destructors of the test harness in the child")]
            // SAFETY: ends the process at once.
            unsafe {
                libc::_exit(code)
            }
        }
    }
}

fn said(from: OwnedFd) -> String {
    let mut said = String::new();
    std::fs::File::from(from).read_to_string(&mut said).expect("text");
    said
}

/// What a child says that nobody disturbs.
pub(crate) fn plain(work: impl FnOnce() -> String) -> String {
    let (child, from) = child(work, false);
    let said = said(from);
    match waitpid(child, None).expect("wait") {
        WaitStatus::Exited(_, 0) => said,
        status => format!("{status:?} {said}"),
    }
}

/// How a child ended that is killed when `until` returns.
pub(crate) fn killed_after(work: impl FnOnce() -> String, until: impl FnOnce()) -> End {
    let (child, from) = child(work, false);
    until();
    let _ = kill(child, Signal::SIGKILL);
    drop(from);
    end_of(waitpid(child, None).expect("wait"))
}

fn end_of(status: WaitStatus) -> End {
    match status {
        WaitStatus::Exited(_, 0) => End::Exited,
        WaitStatus::Exited(_, code) => End::Died(code),
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => End::Killed,
        WaitStatus::Signaled(_, signal, _) => End::Died(signal as i32),
        status => panic!("{status:?}"),
    }
}

/// Runs `work` in a child; of the calls that count, that with this number is refused.
pub(crate) fn run(number: usize, fault: Fault, work: impl FnOnce() -> String) -> Run {
    let (child, from) = child(work, true);
    let call = match waitpid(child, None).expect("wait") {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => refused(child, number, fault),
        // It did not come to the part.
        ended => return Run { call: None, end: end_of(ended), said: said(from) },
    };
    // Before it is waited for: a report may be longer than a pipe.
    let said = said(from);
    Run { call, end: end_of(waitpid(child, None).expect("wait")), said }
}

/// Lets the child go on until the call was refused, or the part ended, and then alone.
fn refused(child: Pid, number: usize, fault: Fault) -> Option<Call> {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(child, options).expect("it is stopped");
    let next = || {
        ptrace::syscall(child, None).expect("it is stopped");
        let status = waitpid(child, None).expect("wait");
        assert!(matches!(status, WaitStatus::PtraceSyscall(_)), "in the part: {status:?}");
        ptrace::getregs(child).expect("it is stopped")
    };
    for count in 0.. {
        let mut registers = next();
        let call = Call(registers.orig_rax.cast_signed());
        let is_end = call.0 == libc::SYS_getpgid && registers.rdi as i32 == NOBODY;
        if is_end {
            ptrace::detach(child, None).expect("it is stopped");
            return None;
        }
        if count < number {
            next();
            continue;
        }
        let Fault::Error(errno) = fault else {
            kill(child, Signal::SIGKILL).expect("it is ours");
            return Some(call);
        };
        if !call.gives_back() {
            registers.orig_rax = u64::MAX;
            ptrace::setregs(child, registers).expect("it is stopped");
        }
        let mut registers = next();
        registers.rax = i64::from(-errno).cast_unsigned();
        ptrace::setregs(child, registers).expect("it is stopped");
        ptrace::detach(child, None).expect("it is stopped");
        return Some(call);
    }
    None
}
