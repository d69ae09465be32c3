//! Which processes map the objects of stores, as far as this process may look.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use store_core::{MEMFD_NAME, POSIX_DIRECTORY, POSIX_PREFIX};

/// The inode numbers of mapped stores, each with the number of processes that map it.
///
/// All objects of POSIX shared memory and of memfds are told apart by device and inode; two file
/// systems at `/dev/shm` in different mount namespaces may have the same inode, and differ in their
/// device.
pub(crate) fn mapped() -> HashMap<(u64, u64), u64> {
    let mut found = HashMap::new();
    let posix = format!("{POSIX_DIRECTORY}/{POSIX_PREFIX}");
    for process in processes() {
        // The names of files may be any bytes.
        let Ok(maps) = fs::read(process.join("maps")) else { continue };
        let maps = String::from_utf8_lossy(&maps);
        // A process may map one several times.
        let of_this: HashSet<(u64, u64)> = maps
            .lines()
            .filter(|line| line.contains(&posix) || line.contains("/memfd:"))
            .filter_map(identity)
            .collect();
        for identity in of_this {
            *found.entry(identity).or_insert(0) += 1;
        }
    }
    found
}

/// Device and inode in a line of `/proc/PID/maps`: range, protection, offset, device, inode, path.
fn identity(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let (major, minor) = words.next()?.split_once(':')?;
    let device = nix::sys::stat::makedev(
        u64::from_str_radix(major, 16).ok()?,
        u64::from_str_radix(minor, 16).ok()?,
    );
    Some((device, words.next()?.parse().ok()?))
}

/// A descriptor of a store's memfd: the process that has it, and its path in `/proc`.
pub(crate) struct HeldMemfd {
    pub(crate) pid: u32,
    pub(crate) path: PathBuf,
}

/// The memfds of stores that a process has a descriptor of, each once.
pub(crate) fn memfds() -> Vec<HeldMemfd> {
    let mut found = BTreeMap::new();
    for process in processes() {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        for path in descriptors.filter_map(|entry| Some(entry.ok()?.path())) {
            let Ok(shown) = fs::read_link(&path) else { continue };
            let name = shown.as_os_str().as_encoded_bytes();
            if name.strip_prefix(b"/memfd:").and_then(|name| name.strip_suffix(b" (deleted)"))
                != Some(MEMFD_NAME.as_bytes())
            {
                continue;
            }
            // Follows the link to the memfd itself.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            found.entry(metadata.ino()).or_insert(HeldMemfd { pid, path });
        }
    }
    found.into_values().collect()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_understood() {
        let line = "7f00-7f01 r--s 00000000 00:1a 1234   /dev/shm/cistern.x";
        assert_eq!(identity(line), Some((0x1a, 1234)));
        assert_eq!(identity("7f00-7f01 r--p"), None);
    }
}
