//! Whether a process still has a program's memory: a process that calls `exec` keeps its pid and
//! its start time, and nothing that it had mapped.
//!
//! `/proc/PID/maps` lists what is mapped. Where the store is an object with a descriptor, each client
//! also locks a byte of it (an open file description lock, through a descriptor of its own that
//! `exec` closes). A forked child inherits the lock, so that a byte which is locked proves nothing
//! but that somebody lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::lock::reopen;
use super::process::proc_is_own;

/// The first of the bytes that are locked: beyond the end of every store.
const FIRST_BYTE: i64 = 1 << 50;

/// A byte that is locked until this is dropped, the process ends, or it executes a program. A
/// child that is forked meanwhile keeps it locked too.
#[derive(Debug)]
pub(crate) struct PresenceLock {
    _file: File,
}

impl PresenceLock {
    /// Locks byte `number` of the object behind a descriptor.
    ///
    /// # Errors
    /// `EAGAIN` if somebody has it locked; those of `open(2)` and `fcntl(2)`.
    pub(crate) fn take(descriptor: BorrowedFd<'_>, number: u32) -> io::Result<Self> {
        let file = reopen(descriptor, true)?;
        let mut lock = byte(number);
        control(&file, libc::F_OFD_SETLK, &mut lock)?;
        Ok(Self { _file: file })
    }
}

/// Whether nobody has byte `number` locked.
///
/// # Errors
/// Those of `open(2)` and `fcntl(2)`.
pub(crate) fn is_free(descriptor: BorrowedFd<'_>, number: u32) -> io::Result<bool> {
    let mut lock = byte(number);
    // Of a description that holds no lock: one of its own is no conflict.
    control(&reopen(descriptor, false)?, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type == libc::F_UNLCK as libc::c_short)
}

fn byte(number: u32) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: FIRST_BYTE + i64::from(number),
        l_len: 1,
        l_pid: 0,
    }
}

#[expect(unsafe_code, reason = "fcntl with a lock")]
fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the structure lives until the call returns.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What is mapped somewhere, as `/proc/PID/maps` shows it: device and inode. The inode of a System V
/// segment is its id; shared anonymous memory has one of its own. Another object may show the same
/// (a segment of another IPC namespace), so that who maps it can be taken for one that stayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedObject(String);

impl MappedObject {
    /// What this process has mapped at an address. (`fstat` names another device on some file
    /// systems.)
    pub(crate) fn at(address: usize) -> Option<Self> {
        maps_of("self")?.lines().find_map(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            let from = usize::from_str_radix(from, 16).ok()?;
            let to = usize::from_str_radix(to, 16).ok()?;
            (from <= address && address < to).then(|| Self::of_line(line))?
        })
    }

    /// Whether a process has it mapped; `None` where the kernel does not say. What is mapped all the
    /// while that the list is read is in it.
    pub(crate) fn is_mapped_by(&self, pid: u32) -> Option<bool> {
        if !proc_is_own() {
            return None;
        }
        let maps = maps_of(&pid.to_string())?;
        // Empty for a process that is about to end, and for one of the kernel.
        (!maps.is_empty())
            .then(|| maps.lines().any(|line| Self::of_line(line).as_ref() == Some(self)))
    }

    /// One line: addresses permissions offset device inode name. `None` for anonymous memory.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(3);
        let (device, inode) = (words.next()?, words.next()?);
        (inode != "0").then(|| Self(format!("{device} {inode}")))
    }
}

/// What a process has mapped. The names of files may be any bytes.
fn maps_of(process: &str) -> Option<String> {
    let maps = std::fs::read(format!("/proc/{process}/maps")).ok()?;
    Some(String::from_utf8_lossy(&maps).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_byte_is_locked_until_it_is_dropped() {
        let file = tempfile::tempfile().expect("a file");
        let lock = PresenceLock::take(file.as_fd(), 7).expect("nobody has it");
        assert!(!is_free(file.as_fd(), 7).expect("fcntl"));
        assert!(is_free(file.as_fd(), 8).expect("fcntl"));
        assert!(PresenceLock::take(file.as_fd(), 7).is_err());
        // Another descriptor of the file that is closed takes no lock away.
        drop(reopen(file.as_fd(), false).expect("it opens"));
        assert!(!is_free(file.as_fd(), 7).expect("fcntl"));
        drop(lock);
        assert!(is_free(file.as_fd(), 7).expect("fcntl"));
    }
}
