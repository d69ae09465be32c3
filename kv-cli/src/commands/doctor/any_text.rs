//! The kernel, systemd and a container may say anything: it is read and judged all the same.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

use super::host::Host;
use super::{kernel, memory};

/// All that is read as text.
const FILES: [&str; 20] = [
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/shmmax",
    "proc/sys/kernel/shmall",
    "proc/sys/kernel/shmmni",
    "proc/sys/kernel/shm_rmid_forced",
    "proc/sys/kernel/sem",
    "proc/sys/kernel/random/boot_id",
    "proc/sys/vm/overcommit_memory",
    "proc/sys/vm/max_map_count",
    "proc/sysvipc/shm",
    "proc/sysvipc/sem",
    "proc/meminfo",
    "proc/self/limits",
    "proc/self/mountinfo",
    "proc/self/cgroup",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "etc/systemd/logind.conf",
    "etc/systemd/logind.conf.d/x.conf",
];

/// Text that looks like theirs, and is not.
const TEXT: &str = "(-?[0-9]{1,25}|18446744073709551615|[0-9.]{1,9}|Mem(Total|Available):|CommitLimit:|kB|Max (file size|open files)|unlimited|RemoveIPC=|yes|/dev/shm|/proc| - |tmpfs|huge=|hidepid=|0::/|memory|max|[\\[\\],:/]|\\PC|[ \t\n]){0,40}";

fn write(root: &Path, name: &str, text: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("makes it");
    fs::write(path, text).expect("writes");
}

fn host_of(texts: &[Vec<u8>]) -> Host {
    let folder = tempfile::tempdir().expect("a directory");
    let root = folder.path();
    fs::create_dir_all(root.join("run/systemd/seats")).expect("makes it");
    fs::create_dir_all(root.join("dev/shm")).expect("makes it");
    for (name, text) in FILES.iter().zip(texts) {
        write(root, name, text);
    }
    Host::read(root)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_the_kernel_says_is_judged(
        texts in vec(TEXT, FILES.len()),
        numbers in vec(any::<u64>(), 8),
    ) {
        let mut texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        // Sizes as large as they get, in lines that are understood.
        let rows = numbers.iter().map(|number| format!("0 1 600 {number}\n"));
        let rows = format!("key id perms size\n{}", rows.collect::<String>());
        for of_rows in [9, 10] {
            texts[of_rows] = rows.clone().into_bytes();
        }
        texts[5] = format!("{} {} {} {}", numbers[0], numbers[1], numbers[2], numbers[3]).into();
        texts[11] = format!("MemTotal: {} kB\nCommitLimit: {} kB\nCommitted_AS: {} kB\n", numbers[4], numbers[5], numbers[6]).into();
        for (file, number) in [1, 2, 3, 8, 16, 17].into_iter().zip(&numbers) {
            texts[file] = number.to_string().into();
        }
        let host = host_of(&texts);
        assert!(!memory::judge(&host).is_empty() && !kernel::judge(&host).is_empty());
    }

    #[test]
    fn whatever_stands_in_its_files_is_judged(texts in vec(TEXT, FILES.len())) {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let host = host_of(&texts);
        assert!(!memory::judge(&host).is_empty() && !kernel::judge(&host).is_empty());
    }

    #[test]
    fn what_is_no_text_is_judged(texts in vec(vec(any::<u8>(), 0..40), FILES.len())) {
        let host = host_of(&texts);
        assert!(!memory::judge(&host).is_empty() && !kernel::judge(&host).is_empty());
    }
}

/// What a machine with Linux 6.18 showed.
#[test]
fn what_a_kernel_showed_is_understood() {
    let folder = tempfile::tempdir().expect("a directory");
    let root = folder.path();
    let meminfo = "MemTotal:       24682416 kB\nMemFree:        10008312 kB\nMemAvailable:   \
                   22688968 kB\nBuffers:          107532 kB\nSwapCached:            0 kB\n\
                   SwapTotal:             0 kB\nCommitLimit:    12341208 kB\n\
                   Committed_AS:    3175272 kB\nHugePages_Total:       0\n";
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max file size             unlimited            unlimited            bytes     \n\
                  Max open files            1024                 524288               files     \n\
                  Max locked memory         8388608              8388608              bytes     \n\
                  Max address space         unlimited            unlimited            bytes     \n";
    let mounts = "24 23 0:22 / /proc rw,relatime - proc proc rw\n\
                  25 24 0:23 / /dev/shm rw,relatime shared:4 - tmpfs tmpfs rw,size=24682416k\n";
    for (name, text) in [
        ("proc/meminfo", meminfo),
        ("proc/self/limits", limits),
        ("proc/self/mountinfo", mounts),
        ("proc/self/cgroup", "9:name=systemd:/\n3:memory:/user\n0::/user.slice\n"),
        ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "1073741824\n"),
        ("proc/sys/kernel/osrelease", "6.18.44-fc-v445\n"),
        ("proc/sys/kernel/sem", "32000\t1024000000\t500\t32000\n"),
        ("proc/sysvipc/sem", "       key      semid perms      nsems   uid\n"),
        (
            "sys/kernel/mm/transparent_hugepage/shmem_enabled",
            "always within_size advise [never] deny force\n",
        ),
    ] {
        write(root, name, text.as_bytes());
    }
    fs::create_dir_all(root.join("dev/shm")).expect("makes it");
    let host = Host::read(root);
    assert_eq!((host.memory.total, host.memory.available), (24_682_416 << 10, 22_688_968 << 10));
    assert_eq!(
        (host.memory.commit_limit, host.memory.committed),
        (12_341_208 << 10, 3_175_272 << 10)
    );
    assert_eq!((host.memory.swap, host.kernel), (0, Some((6, 18))));
    assert_eq!((host.limits.file_bytes, host.limits.descriptors), (None, Some(1024)));
    assert_eq!((host.limits.locked_bytes, host.limits.address_bytes), (Some(8 << 20), None));
    let shm = host.shared_memory.expect("it is there");
    assert_eq!((shm.kind.as_str(), shm.huge_pages), ("tmpfs", None));
    assert_eq!(host.cgroup.map(|limit| limit.bytes), Some(1 << 30));
    assert_eq!(host.semaphores.map(|it| (it.sets_max, it.sets)), Some((32_000, 0)));
    assert_eq!((host.huge_pages.as_deref(), host.proc.hides), (Some("never"), false));
}
