//! Judges the memory that stores can have: `/dev/shm`, the machine's, the control group's.

use super::finding::{Finding, Level};
use super::host::{Host, Memory, SharedMemory};
use super::{COMFORT, LEAST, MIB};
use crate::human::{count, size};

pub(super) fn judge(host: &Host) -> Vec<Finding> {
    let mut findings = shared_memory(host);
    findings.extend([available(&host.memory), swap(&host.memory), overcommit(&host.memory)]);
    findings.extend(cgroup(host));
    findings.push(huge_pages(host));
    findings
}

fn shared_memory(host: &Host) -> Vec<Finding> {
    let check = "/dev/shm";
    let Some(shm) = &host.shared_memory else {
        let why = "posix: stores are files there";
        let mend = "mkdir -m 1777 /dev/shm && mount -t tmpfs -o size=50% tmpfs /dev/shm";
        return vec![Finding::of(Level::Problem, check, "it is not there", why, mend)];
    };
    vec![shm_kind(shm), shm_room(shm, host.in_container), shm_inodes(shm)]
}

fn shm_kind(shm: &SharedMemory) -> Finding {
    let check = "/dev/shm kind";
    if !shm.writable {
        let why = "posix: stores are files there";
        let mend = "chmod 1777 /dev/shm, and mount -o remount,rw /dev/shm if it is read-only";
        let what = "this user may make no files there";
        return Finding::of(Level::Problem, check, what, why, mend);
    }
    match shm.kind.as_str() {
        "tmpfs" => Finding::ok(check, "tmpfs, open to this user"),
        kind => Finding::of(
            Level::Warning,
            check,
            format!("{kind}, no tmpfs"),
            "posix: stores are not in memory there: what is written to them goes to a disk",
            "mount -t tmpfs -o size=50% tmpfs /dev/shm",
        ),
    }
}

fn shm_room(shm: &SharedMemory, in_container: bool) -> Finding {
    let check = "/dev/shm room";
    let found = format!("{} of {} free", size(shm.free), size(shm.bytes));
    let mend = match in_container {
        true => "docker run --shm-size=4g … (Kubernetes: an emptyDir of medium Memory at /dev/shm)",
        false => "mount -o remount,size=4G /dev/shm, or kv-cli ls and kv-cli rm",
    };
    let level = match shm.free {
        free if free < LEAST => Level::Problem,
        // What Docker gives unless told otherwise.
        _ if shm.bytes <= 64 * MIB => Level::Warning,
        free if free < COMFORT => Level::Warning,
        _ => return Finding::ok(check, found),
    };
    let why = "posix: stores can't be made or can't grow beyond it, and puts into them are refused";
    Finding::of(level, check, found, why, mend)
}

fn shm_inodes(shm: &SharedMemory) -> Finding {
    let check = "/dev/shm files";
    if shm.inodes == 0 {
        return Finding::ok(check, "any number of them");
    }
    let found = format!("{} of {} free", count(shm.inodes_free), count(shm.inodes));
    let level = match shm.inodes_free {
        0 => Level::Problem,
        1..16 => Level::Warning,
        _ => return Finding::ok(check, found),
    };
    let why = "each posix: store and each registration of a sysv: store is a file there";
    Finding::of(level, check, found, why, "mount -o remount,nr_inodes=1000000 /dev/shm")
}

fn available(memory: &Memory) -> Finding {
    let check = "memory";
    let found = format!("{} of {} available", size(memory.available), size(memory.total));
    if memory.available >= COMFORT {
        return Finding::ok(check, found);
    }
    let why = "System V and anonymous stores that need more are refused, and the kernel ends \
               processes when there is none";
    Finding::of(Level::Warning, check, found, why, "kv-cli trim, kv-cli rm, or more memory")
}

fn swap(memory: &Memory) -> Finding {
    match memory.swap {
        0 => Finding::ok("swap", "none"),
        bytes => Finding::note(
            "swap",
            size(bytes),
            "what is not looked up for long may be swapped out; a lookup then waits for the disk",
        ),
    }
}

fn overcommit(memory: &Memory) -> Finding {
    let check = "vm.overcommit_memory";
    if memory.overcommit != 2 {
        return Finding::ok(check, memory.overcommit.to_string());
    }
    let left = memory.commit_limit.saturating_sub(memory.committed);
    let found = format!("2, with {} of {} left", size(left), size(memory.commit_limit));
    let why = "a System V or anonymous store counts with its largest size from the start, used or \
               not, and is refused beyond the limit";
    let mend = "sysctl -w vm.overcommit_ratio=95, or vm.overcommit_memory=0";
    let level = if left < COMFORT { Level::Warning } else { Level::Note };
    Finding::of(level, check, found, why, mend)
}

fn cgroup(host: &Host) -> Vec<Finding> {
    let check = "memory cgroup";
    let Some(limit) = host.cgroup.as_ref().filter(|limit| limit.bytes < host.memory.total) else {
        return vec![Finding::ok(check, "no limit below the machine's memory")];
    };
    let (used, all) = (size(limit.used), size(limit.bytes));
    let found = format!("{used} of {all} used in {}", limit.group);
    let why = "the memory of a store counts to the group that first wrote to it; beyond the limit \
               the kernel ends processes of that group";
    let mend = match host.in_container {
        true => "docker run --memory=8g …".to_owned(),
        false => "systemctl set-property UNIT MemoryMax=8G".to_owned(),
    };
    let left = limit.bytes.saturating_sub(limit.used);
    let level = if left < COMFORT.min(limit.bytes / 10) { Level::Warning } else { Level::Note };
    vec![Finding::of(level, check, found, why, mend)]
}

fn huge_pages(host: &Host) -> Finding {
    let check = "huge pages";
    let shmem = host.huge_pages.as_deref().unwrap_or("unknown");
    let posix = host.shared_memory.as_ref().and_then(|shm| shm.huge_pages.as_deref());
    let posix = posix.unwrap_or("never");
    let found = format!("{shmem} for System V, memfd and anonymous stores, {posix} for posix:");
    let had = |setting: &str| matches!(setting, "always" | "within_size" | "force");
    if shmem == "deny" || !had(shmem) || !(had(posix) || shmem == "force") {
        let why = "with pages of 4 KiB a lookup in a large store waits longer for the translation \
                   of addresses; a store that is made with `--huge-pages transparent` asks for huge \
                   ones, and gets them from Linux 6.1 on whatever is set here";
        let mend = "kv-cli create --huge-pages transparent …; or for all: echo within_size > /sys/kernel/mm/transparent_hugepage/shmem_enabled; mount -o \
                    remount,huge=within_size /dev/shm";
        return Finding::of(Level::Note, check, found, why, mend);
    }
    Finding::ok(check, found)
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::Limit;
    use super::*;

    fn good() -> Host {
        let shm = SharedMemory {
            kind: "tmpfs".to_owned(),
            huge_pages: Some("within_size".to_owned()),
            bytes: 8 << 30,
            free: 7 << 30,
            inodes: 1_000_000,
            inodes_free: 999_999,
            writable: true,
        };
        let memory = Memory { total: 16 << 30, available: 8 << 30, ..Memory::default() };
        Host {
            memory,
            shared_memory: Some(shm),
            huge_pages: Some("within_size".to_owned()),
            ..Host::default()
        }
    }

    #[track_caller]
    fn level_of(check: &str, change: impl FnOnce(&mut Host)) -> Level {
        let mut host = good();
        change(&mut host);
        let findings = judge(&host);
        let one = findings.iter().find(|one| one.check == check);
        let one = one.unwrap_or_else(|| panic!("no {check} in {findings:?}"));
        assert_eq!(one.level == Level::Ok, one.why.is_none(), "{one:?}");
        one.level
    }

    #[track_caller]
    fn shm(check: &str, change: impl FnOnce(&mut SharedMemory)) -> Level {
        level_of(check, |host| change(host.shared_memory.as_mut().expect("it is there")))
    }

    #[test]
    fn a_good_host_is_told_as_good() {
        assert!(judge(&good()).iter().all(|one| one.level == Level::Ok), "{:?}", judge(&good()));
    }

    #[test]
    fn shared_memory_is_judged() {
        assert_eq!(level_of("/dev/shm", |host| host.shared_memory = None), Level::Problem);
        assert_eq!(shm("/dev/shm kind", |shm| shm.writable = false), Level::Problem);
        assert_eq!(shm("/dev/shm kind", |shm| shm.kind = "ext4".to_owned()), Level::Warning);
        assert_eq!(shm("/dev/shm room", |shm| shm.free = LEAST - 1), Level::Problem);
        assert_eq!(shm("/dev/shm room", |shm| shm.free = COMFORT - 1), Level::Warning);
        assert_eq!(shm("/dev/shm room", |shm| shm.bytes = 64 * MIB), Level::Warning, "Docker");
        assert_eq!(shm("/dev/shm files", |shm| shm.inodes_free = 0), Level::Problem);
        assert_eq!(shm("/dev/shm files", |shm| shm.inodes_free = 15), Level::Warning);
        let no_limit = |shm: &mut SharedMemory| (shm.inodes, shm.inodes_free) = (0, 0);
        assert_eq!(shm("/dev/shm files", no_limit), Level::Ok);
    }

    #[test]
    fn the_mend_is_that_of_the_place() {
        let mut host = good();
        host.shared_memory.as_mut().expect("it is there").free = 0;
        for (in_container, word) in [(true, "--shm-size"), (false, "remount")] {
            host.in_container = in_container;
            let findings = judge(&host);
            let room = findings.iter().find(|one| one.check == "/dev/shm room").expect("it is");
            assert!(room.mend.as_ref().is_some_and(|mend| mend.contains(word)), "{room:?}");
        }
    }

    #[test]
    fn memory_is_judged() {
        assert_eq!(level_of("memory", |host| host.memory.available = 1), Level::Warning);
        assert_eq!(level_of("swap", |host| host.memory.swap = 1), Level::Note);
        let check = "vm.overcommit_memory";
        let strict = |left| {
            move |host: &mut Host| {
                host.memory.overcommit = 2;
                host.memory.commit_limit = left;
            }
        };
        assert_eq!(level_of(check, strict(COMFORT - 1)), Level::Warning);
        assert_eq!(level_of(check, strict(COMFORT)), Level::Note);
        let check = "memory cgroup";
        let group = |bytes, used| {
            move |host: &mut Host| {
                host.cgroup = Some(Limit { bytes, used, group: "/x".to_owned() });
            }
        };
        assert_eq!(level_of(check, group(32 << 30, 31 << 30)), Level::Ok, "beyond the machine");
        assert_eq!(level_of(check, group(1 << 30, 0)), Level::Note);
        assert_eq!(level_of(check, group(1 << 30, (1 << 30) - MIB)), Level::Warning);
    }

    #[test]
    fn huge_pages_need_both_settings() {
        let check = "huge pages";
        for setting in ["never", "advise", "deny"] {
            let set = |host: &mut Host| host.huge_pages = Some(setting.to_owned());
            assert_eq!(level_of(check, set), Level::Note);
        }
        assert_eq!(shm(check, |shm| shm.huge_pages = None), Level::Note);
        let force = |host: &mut Host| {
            host.huge_pages = Some("force".to_owned());
            host.shared_memory.as_mut().expect("it is there").huge_pages = None;
        };
        assert_eq!(level_of(check, force), Level::Ok);
    }
}
