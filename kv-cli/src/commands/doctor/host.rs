//! What this host has for stores, as the kernel and systemd say it. Nothing is judged here.
//!
//! Everything is read beneath a directory that stands for `/`, so that tests can give another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, access};

use super::{cgroup, logind};

/// Namespaces that the kernel starts with (`include/linux/proc_ns.h`).
const FIRST_IPC: &str = "ipc:[4026531839]";
const FIRST_PID: &str = "pid:[4026531836]";

/// What was read; `None` where the kernel does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) uid: u32,
    /// Major and minor version.
    pub(super) kernel: Option<(u32, u32)>,
    pub(super) memory: Memory,
    pub(super) shared_memory: Option<SharedMemory>,
    pub(super) system_v: Option<SystemV>,
    pub(super) semaphores: Option<Semaphores>,
    /// The setting that is chosen of `shmem_enabled`.
    pub(super) huge_pages: Option<String>,
    /// What logind does with the objects of a user who logged out, if it runs.
    pub(super) removes_ipc: Option<bool>,
    pub(super) limits: Limits,
    pub(super) maps_max: Option<u64>,
    pub(super) cgroup: Option<cgroup::Limit>,
    pub(super) proc: Proc,
    pub(super) namespaces: Namespaces,
    /// Whether a container runtime left its mark.
    pub(super) in_container: bool,
    pub(super) boot_id: Option<String>,
    /// Seconds since 1970.
    pub(super) wall_clock_s: u64,
}

/// Of `/proc/meminfo`, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) swap: u64,
    pub(super) commit_limit: u64,
    pub(super) committed: u64,
    /// `vm.overcommit_memory`.
    pub(super) overcommit: u64,
}

/// The file system at `/dev/shm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharedMemory {
    pub(super) kind: String,
    /// Its `huge=` option.
    pub(super) huge_pages: Option<String>,
    pub(super) bytes: u64,
    pub(super) free: u64,
    /// 0: without a limit.
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
    /// Whether this user may make files there.
    pub(super) writable: bool,
}

/// Limits of System V segments, and what is used of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SystemV {
    pub(super) bytes_max: u64,
    pub(super) pages_max: u64,
    pub(super) segments_max: u64,
    pub(super) pages: u64,
    pub(super) segments: u64,
    pub(super) removed_when_detached: bool,
}

/// Limits of System V semaphores, and what is used of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Semaphores {
    pub(super) of_a_set_max: u64,
    pub(super) all_max: u64,
    pub(super) of_a_call_max: u64,
    pub(super) sets_max: u64,
    pub(super) all: u64,
    pub(super) sets: u64,
}

/// Soft limits of this process; `None`: unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) file_bytes: Option<u64>,
    pub(super) descriptors: Option<u64>,
    pub(super) locked_bytes: Option<u64>,
    pub(super) address_bytes: Option<u64>,
}

/// What `/proc` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Proc {
    /// Whether it is there and has the processes of this PID namespace.
    pub(super) is_own: bool,
    /// Whether it hides other users' processes.
    pub(super) hides: bool,
}

/// Whether this process is in the namespaces that the machine started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) first_ipc: bool,
    pub(super) first_pid: bool,
}

impl Host {
    /// Reads what there is beneath `root`. A file for each thing, some thirty in all.
    pub(super) fn read(root: &Path) -> Host {
        let root = Root(root);
        let mounts = root.text("proc/self/mountinfo").unwrap_or_default();
        let namespace = |name: &str| root.link(&format!("proc/self/ns/{name}"));
        Host {
            uid: Uid::effective().as_raw(),
            kernel: root.text("proc/sys/kernel/osrelease").and_then(|text| version(&text)),
            memory: memory(&root),
            shared_memory: shared_memory(&root, &mounts),
            system_v: system_v(&root),
            semaphores: semaphores(&root),
            huge_pages: root
                .text("sys/kernel/mm/transparent_hugepage/shmem_enabled")
                .and_then(|text| chosen(&text)),
            removes_ipc: logind::removes_ipc(&root),
            limits: limits(&root.text("proc/self/limits").unwrap_or_default()),
            maps_max: root.number("proc/sys/vm/max_map_count"),
            cgroup: cgroup::limit(&root),
            proc: Proc {
                is_own: root.link("proc/self") == Some(std::process::id().to_string()),
                hides: mount(&mounts, "/proc").is_some_and(|mount| hides(mount.options)),
            },
            namespaces: Namespaces {
                first_ipc: namespace("ipc").as_deref() == Some(FIRST_IPC),
                first_pid: namespace("pid").as_deref() == Some(FIRST_PID),
            },
            in_container: root.has(".dockerenv") || root.has("run/.containerenv"),
            boot_id: root.text("proc/sys/kernel/random/boot_id"),
            wall_clock_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs()),
        }
    }
}

/// A directory that stands for `/`.
pub(super) struct Root<'a>(pub(super) &'a Path);

impl Root<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// A file's text, without blanks around it.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        Some(fs::read_to_string(self.path(name)).ok()?.trim().to_owned())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn link(&self, name: &str) -> Option<String> {
        fs::read_link(self.path(name)).ok()?.into_os_string().into_string().ok()
    }

    /// The lines of a list of the kernel without its header, as numbers; what is none is 0.
    fn rows(&self, name: &str) -> Vec<Vec<u64>> {
        let numbers = |line: &str| {
            line.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0)).collect()
        };
        self.text(name).unwrap_or_default().lines().skip(1).map(numbers).collect()
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|byte: char| !byte.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn memory(root: &Root<'_>) -> Memory {
    let text = root.text("proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    Memory {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        swap: bytes("SwapTotal"),
        commit_limit: bytes("CommitLimit"),
        committed: bytes("Committed_AS"),
        overcommit: root.number("proc/sys/vm/overcommit_memory").unwrap_or(0),
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    kind: &'a str,
    /// Those of the file system.
    options: &'a str,
}

/// What is mounted at a path: the last of several is on top.
fn mount<'a>(mountinfo: &'a str, path: &str) -> Option<Mount<'a>> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(path))?;
    let mut words = line.split_once(" - ")?.1.split(' ');
    Some(Mount { kind: words.next()?, options: words.nth(1)? })
}

fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn hides(options: &str) -> bool {
    option(options, "hidepid").is_some_and(|value| !matches!(value, "0" | "off"))
}

fn shared_memory(root: &Root<'_>, mounts: &str) -> Option<SharedMemory> {
    let path = root.path("dev/shm");
    let found = statvfs(&path).ok()?;
    let mounted = mount(mounts, "/dev/shm");
    Some(SharedMemory {
        kind: mounted.as_ref().map_or_else(|| "a directory".to_owned(), |it| it.kind.to_owned()),
        huge_pages: mounted.and_then(|it| option(it.options, "huge").map(str::to_owned)),
        bytes: found.blocks() * found.fragment_size(),
        free: found.blocks_available() * found.fragment_size(),
        inodes: found.files(),
        inodes_free: found.files_available(),
        writable: access(&path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
    })
}

fn system_v(root: &Root<'_>) -> Option<SystemV> {
    let limit = |name: &str| root.number(&format!("proc/sys/kernel/{name}"));
    // key shmid perms size …
    let sizes: Vec<u64> =
        root.rows("proc/sysvipc/shm").iter().filter_map(|row| row.get(3).copied()).collect();
    Some(SystemV {
        bytes_max: limit("shmmax")?,
        pages_max: limit("shmall")?,
        segments_max: limit("shmmni")?,
        pages: sum(sizes.iter().map(|bytes| bytes.div_ceil(super::PAGE_BYTES))),
        segments: sizes.len() as u64,
        removed_when_detached: limit("shm_rmid_forced") == Some(1),
    })
}

fn semaphores(root: &Root<'_>) -> Option<Semaphores> {
    let text = root.text("proc/sys/kernel/sem")?;
    let limits: Vec<u64> =
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [of_a_set_max, all_max, of_a_call_max, sets_max] = limits[..] else { return None };
    // key semid perms nsems …
    let sets: Vec<u64> =
        root.rows("proc/sysvipc/sem").iter().filter_map(|row| row.get(3).copied()).collect();
    let (all, sets) = (sum(sets.iter().copied()), sets.len() as u64);
    Some(Semaphores { of_a_set_max, all_max, of_a_call_max, sets_max, all, sets })
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// Lines of a name, the soft and the hard limit, and mostly a unit.
fn limits(text: &str) -> Limits {
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Limits {
        file_bytes: soft("Max file size"),
        descriptors: soft("Max open files"),
        locked_bytes: soft("Max locked memory"),
        address_bytes: soft("Max address space"),
    }
}

/// The room of the file system that a path is on: bytes free, and its permissions and owner.
pub(super) fn room(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// Owner and permission bits of a file.
pub(super) fn ownership(path: &Path) -> Option<(u32, u32)> {
    let found = fs::metadata(path).ok()?;
    Some((found.uid(), found.mode() & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("makes it");
        fs::write(path, text).expect("writes");
    }

    #[test]
    fn what_the_kernel_shows_is_understood() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = folder.path();
        write(root, "proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
        write(root, "proc/sys/kernel/shmmax", "33554432\n");
        write(root, "proc/sys/kernel/shmall", "100\n");
        write(root, "proc/sys/kernel/shmmni", "7\n");
        write(root, "proc/sys/kernel/shm_rmid_forced", "1\n");
        write(root, "proc/sysvipc/shm", "key shmid perms size\n 0 1 1600 8193\n -5 2 600 1\n");
        write(root, "proc/sys/kernel/sem", "250\t32000\t32\t128\n");
        write(root, "proc/sysvipc/sem", "key semid perms nsems\n 0 1 600 80\n 0 2 600 20\n");
        write(root, "proc/meminfo", "MemTotal:  2048 kB\nSwapTotal:    4 kB\nCommitLimit: 9 kB\n");
        write(root, "proc/sys/vm/overcommit_memory", "2\n");
        let huge = "sys/kernel/mm/transparent_hugepage/shmem_enabled";
        write(root, huge, "always within_size advise [never] deny force\n");
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax file size   4096  unlimited  bytes\n\
                      Max open files  1024  4096  files\nMax address space unlimited unlimited bytes";
        write(root, "proc/self/limits", limits);
        let mounts = "22 1 0:21 / /proc rw,relatime - proc proc rw,hidepid=invisible\n\
                      25 1 0:23 / /dev/shm rw - ext4 /dev/x rw\n\
                      30 25 0:27 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k,huge=advise\n";
        write(root, "proc/self/mountinfo", mounts);
        write(root, ".dockerenv", "");
        fs::create_dir_all(root.join("dev/shm")).expect("makes it");
        fs::create_dir_all(root.join("proc/self/ns")).expect("makes it");
        std::os::unix::fs::symlink(FIRST_IPC, root.join("proc/self/ns/ipc")).expect("a link");
        std::os::unix::fs::symlink("pid:[4026532000]", root.join("proc/self/ns/pid")).expect("it");

        let host = Host::read(root);
        assert_eq!(host.kernel, Some((6, 1)));
        let system_v = SystemV {
            bytes_max: 32 << 20,
            pages_max: 100,
            segments_max: 7,
            pages: 4,
            segments: 2,
            removed_when_detached: true,
        };
        assert_eq!(host.system_v, Some(system_v));
        let semaphores = Semaphores {
            of_a_set_max: 250,
            all_max: 32_000,
            of_a_call_max: 32,
            sets_max: 128,
            all: 100,
            sets: 2,
        };
        assert_eq!(host.semaphores, Some(semaphores));
        assert_eq!((host.memory.total, host.memory.swap), (2 << 20, 4096));
        assert_eq!((host.memory.overcommit, host.memory.commit_limit), (2, 9216));
        assert_eq!(host.huge_pages.as_deref(), Some("never"));
        assert_eq!(host.limits.file_bytes, Some(4096));
        assert_eq!((host.limits.descriptors, host.limits.address_bytes), (Some(1024), None));
        let shm = host.shared_memory.expect("it is there");
        assert_eq!((shm.kind.as_str(), shm.huge_pages.as_deref()), ("tmpfs", Some("advise")));
        assert!(shm.writable);
        assert_eq!(host.proc, Proc { is_own: false, hides: true });
        assert_eq!(host.namespaces, Namespaces { first_ipc: true, first_pid: false });
        assert!(host.in_container && host.boot_id.is_none() && host.removes_ipc.is_none());
    }

    #[test]
    fn an_empty_root_has_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let host = Host::read(folder.path());
        assert_eq!(host.shared_memory, None);
        assert_eq!((host.system_v, host.semaphores, host.cgroup), (None, None, None));
    }
}
