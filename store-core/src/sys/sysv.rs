//! System V shared memory: segments by id, found by key.
//!
//! A segment is made with a mode of its own and given that of its store afterwards. After `IPC_RMID` an id goes on until the last detach, but its key is free at once.

use std::fs;
use std::io;
use std::ptr;

use super::pages::Pages;
use super::semaphore::Ownership;

/// What `shmctl(IPC_STAT)` says, as far as it is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) bytes: u64,
    pub(crate) ownership: Ownership,
    /// The process that made it, as this PID namespace names it; 0 if it is of another one.
    pub(crate) creator_pid: u32,
    /// Who made it.
    pub(crate) creator_uid: u32,
}

/// The mode that segments are made with: that of the owner alone, since there is no right to
/// execute. It comes with the segment, in one call, so a segment of zeros that still has it is one
/// whose maker did not get further.
const NEW: u32 = 0o711;

impl Status {
    /// Whether it has the mode that it was made with.
    pub(crate) fn is_new(&self) -> bool {
        self.ownership.permissions == NEW
    }
}

/// A segment, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedSegment {
    id: i32,
}

impl SharedSegment {
    /// The segment with this id, if there is one.
    pub(crate) fn of_id(id: i32) -> Self {
        Self { id }
    }

    /// Makes a segment for its owner, whose memory is taken when it is touched, huge pages at once: under a
    /// key that nobody has, or without a key.
    ///
    /// # Errors
    /// Those of `shmget(2)`: `EEXIST`; `ENOMEM` where the pool has not as many huge pages, `EPERM` for who may
    /// not have them; `EINVAL` beyond `kernel.shmmax`; `ENOSPC` beyond
    /// `kernel.shmmni` segments.
    #[expect(unsafe_code, reason = "shmget")]
    pub(crate) fn create(key: Option<u32>, bytes: usize, pages: Pages) -> io::Result<Self> {
        let of_pages = if pages.are_huge() { libc::SHM_HUGETLB } else { libc::SHM_NORESERVE };
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | of_pages | NEW as i32;
        // SAFETY: takes numbers only.
        let id = unsafe { libc::shmget(key.map_or(libc::IPC_PRIVATE, key_of), bytes, flags) };
        answer(id).map(|id| Self { id })
    }

    /// The segment that has the key now.
    ///
    /// # Errors
    /// Those of `shmget(2)`: `ENOENT`.
    #[expect(unsafe_code, reason = "shmget")]
    pub(crate) fn find(key: u32) -> io::Result<Self> {
        // SAFETY: takes numbers only.
        answer(unsafe { libc::shmget(key_of(key), 0, 0) }).map(|id| Self { id })
    }

    pub(crate) fn id(self) -> i32 {
        self.id
    }

    /// What the kernel says of it. Needs read permission.
    ///
    /// # Errors
    /// Those of `shmctl(2)`: `EINVAL` or `EIDRM` if it is gone, `EACCES`.
    pub(crate) fn status(self) -> io::Result<Status> {
        let data = self.data()?;
        Ok(Status {
            bytes: data.shm_segsz as u64,
            ownership: Ownership {
                uid: data.shm_perm.uid,
                gid: data.shm_perm.gid,
                permissions: u32::from(data.shm_perm.mode) & 0o777,
            },
            creator_pid: u32::try_from(data.shm_cpid).unwrap_or(0),
            creator_uid: data.shm_perm.cuid,
        })
    }

    /// Sets what is given of owner, group and permission bits. For its owner or maker.
    ///
    /// # Errors
    /// Those of `shmctl(2)`: `EPERM`.
    #[expect(unsafe_code, reason = "shmctl")]
    pub(crate) fn set(
        self,
        uid: Option<u32>,
        gid: Option<u32>,
        permissions: Option<u32>,
    ) -> io::Result<()> {
        let mut data = self.data()?;
        if let Some(uid) = uid {
            data.shm_perm.uid = uid;
        }
        if let Some(gid) = gid {
            data.shm_perm.gid = gid;
        }
        if let Some(permissions) = permissions {
            // The type is that of the libc: 16 or 32 bits.
            data.shm_perm.mode = (permissions & 0o777) as _;
        }
        // SAFETY: IPC_SET reads the structure, which lives until the call returns.
        answer(unsafe { libc::shmctl(self.id, libc::IPC_SET, &raw mut data) }).map(drop)
    }

    /// Removes it: at once if nobody has it attached, else with the last detach.
    ///
    /// # Errors
    /// Those of `shmctl(2)`: `EPERM`; `EINVAL` or `EIDRM` if it is gone.
    #[expect(unsafe_code, reason = "shmctl")]
    pub(crate) fn remove(self) -> io::Result<()> {
        // SAFETY: IPC_RMID reads no structure.
        answer(unsafe { libc::shmctl(self.id, libc::IPC_RMID, ptr::null_mut()) }).map(drop)
    }

    /// Bytes of it that are in memory or swapped out; 0 where `/proc/sysvipc` is missing.
    pub(crate) fn resident_bytes(self) -> u64 {
        let listed = list().unwrap_or_default();
        listed.iter().find(|listed| listed.id == self.id).map_or(0, |listed| listed.resident)
    }

    #[expect(unsafe_code, reason = "shmctl")]
    fn data(self) -> io::Result<libc::shmid_ds> {
        let mut data = std::mem::MaybeUninit::zeroed();
        // SAFETY: IPC_STAT fills the structure in; zeros are valid for it too.
        answer(unsafe { libc::shmctl(self.id, libc::IPC_STAT, data.as_mut_ptr()) })?;
        // SAFETY: filled in by the call, which did not fail.
        Ok(unsafe { data.assume_init() })
    }
}

/// A segment of this IPC namespace as `/proc/sysvipc/shm` lists it, which everybody may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSegment {
    /// Its key; 0: it has none, or lost it when it was removed.
    pub key: u32,
    /// Its id.
    pub id: i32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Who made it.
    pub creator_uid: u32,
    /// Its permission bits.
    pub permissions: u32,
    /// Its length.
    pub bytes: u64,
    /// Bytes of it that are in memory or swapped out.
    pub resident: u64,
    /// How often it is attached.
    pub attached: u64,
    /// Whether it was removed and goes with its last detach.
    pub removed: bool,
}

/// Mode bit of a segment that was removed while it was attached.
const SHM_DEST: u32 = 0o1000;

/// All segments of this IPC namespace; none where the kernel has no System V shared memory.
///
/// # Errors
/// Where `/proc/sysvipc/shm` can't be read.
pub fn list() -> io::Result<Vec<ListedSegment>> {
    match fs::read_to_string("/proc/sysvipc/shm") {
        Ok(text) => Ok(text.lines().skip(1).filter_map(listed).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// One line: key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap.
fn listed(line: &str) -> Option<ListedSegment> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse::<u64>().ok();
    let mode = u32::from_str_radix(words.get(2)?, 8).ok()?;
    let bytes = number(3)?;
    let resident = number(14).unwrap_or(0).saturating_add(number(15).unwrap_or(0));
    Some(ListedSegment {
        // Printed with a sign.
        key: words.first()?.parse::<i64>().ok()? as u32,
        id: words.get(1)?.parse().ok()?,
        permissions: mode & 0o777,
        removed: mode & SHM_DEST != 0,
        bytes,
        attached: number(6)?,
        uid: number(7)? as u32,
        gid: number(8)? as u32,
        creator_uid: number(9)? as u32,
        // Of huge pages some kernels count each as 512 of them.
        resident: resident.min(bytes.checked_next_multiple_of(4096).unwrap_or(bytes)),
    })
}

/// Whether the kernel removes segments as soon as nobody has them attached
/// (`kernel.shm_rmid_forced`): then no store outlives its processes.
pub fn removed_when_detached() -> bool {
    limit("shm_rmid_forced") == Some(1)
}

/// The number in `/proc/sys/kernel/NAME`.
pub(crate) fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

fn key_of(key: u32) -> libc::key_t {
    key.cast_signed()
}

pub(super) fn answer(number: libc::c_int) -> io::Result<libc::c_int> {
    if number == -1 { Err(io::Error::last_os_error()) } else { Ok(number) }
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

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "-2147483648 32769 1644 67108964 16543 16544 2 5 6 7 8 1 0 1 4194304 4096";
        let listed = listed(line).expect("a segment");
        assert_eq!((listed.key, listed.id, listed.permissions), (0x8000_0000, 32_769, 0o644));
        assert!(listed.removed);
        assert_eq!((listed.bytes, listed.attached, listed.resident), (67_108_964, 2, 4_198_400));
        assert_eq!((listed.uid, listed.gid, listed.creator_uid), (5, 6, 7));
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_segment_is_made_and_removed() {
        let made = SharedSegment::create(None, 10_000, Pages::SMALL).expect("a segment");
        assert!(made.status().expect("it is there").is_new());
        made.set(None, None, Some(0o640)).expect("it is ours");
        let status = made.status().expect("it is there");
        assert_eq!((status.bytes, status.creator_pid), (10_000, std::process::id()));
        assert!(!status.is_new());
        let found = list().expect("the list").into_iter().find(|one| one.id == made.id());
        assert_eq!(found.map(|one| (one.permissions, one.removed)), Some((0o640, false)));
        made.remove().expect("it is ours");
        let gone = made.status().expect_err("it is gone").raw_os_error();
        assert!(matches!(gone, Some(libc::EINVAL | libc::EIDRM)));
    }
}
