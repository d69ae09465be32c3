//! What this process may do to objects, asked before anything is changed. Where it can't be told the
//! answer is yes, and the kernel's own comes with the call.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::semaphore::Ownership;

/// Bits of a capability set, see `capabilities(7)`.
const CAP_FOWNER: u32 = 3;
const CAP_SYS_ADMIN: u32 = 21;

/// The bit of a directory whose files only their owners remove.
const STICKY: u32 = 0o1000;

/// Whether it may remove the name of an object of this owner from a directory.
pub(crate) fn may_unlink(directory: &Path, owner: u32) -> bool {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    if let Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) =
        accessat(CWD, directory, access, AtFlags::EACCESS)
    {
        return false;
    }
    let Ok(directory) = fs::metadata(directory) else { return true };
    let own = Uid::effective().as_raw();
    directory.mode() & STICKY == 0
        || [owner, directory.uid()].contains(&own)
        || has_capability(CAP_FOWNER)
}

/// Whether it may remove a System V object of this owner and this maker.
pub(crate) fn may_remove(ownership: Ownership, creator_uid: u32) -> bool {
    let own = Uid::effective().as_raw();
    [ownership.uid, creator_uid].contains(&own) || has_capability(CAP_SYS_ADMIN)
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    bits.is_none_or(|bits| bits >> number & 1 == 1)
}
