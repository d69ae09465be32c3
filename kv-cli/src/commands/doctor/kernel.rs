//! Judges the kernel: its limits, its version, what it shows, and what systemd does on it.

use super::finding::{Finding, Level};
use super::host::{Host, Semaphores, SystemV};
use super::{COMFORT, LEAST, PAGE_BYTES};
use crate::human::{count, size};

/// Semaphores of the guards of the largest store: a stripe each, the cleaners', and its identity.
const SEMAPHORES_MAX: u64 = 4096 + 4 + 11;

/// Users from this number on are people (`SYS_UID_MAX`): logind removes the objects of no others.
pub(super) const FIRST_PERSON: u32 = 1000;

/// 2024-01-01: no machine that has its time right is before it.
const EARLIEST_S: u64 = 1_704_067_200;

pub(super) fn judge(host: &Host) -> Vec<Finding> {
    let mut findings = system_v(host.system_v.as_ref());
    findings.push(semaphores(host.semaphores.as_ref()));
    findings.push(removes_ipc(host));
    findings.extend(limits(host));
    findings.extend([maps(host), version(host), proc(host), namespaces(host), clock(host)]);
    findings
}

fn system_v(found: Option<&SystemV>) -> Vec<Finding> {
    let Some(found) = found else {
        let why = "there can be no sysv: stores";
        return vec![Finding::note("System V shared memory", "not in this kernel", why)];
    };
    let refused = "a sysv: store that needs more is refused";
    let level = |left: u64| match left {
        left if left < LEAST => Level::Problem,
        left if left < COMFORT => Level::Warning,
        _ => Level::Ok,
    };
    let limit = |check, left: u64, text: String, mend: &str| match level(left) {
        Level::Ok => Finding::ok(check, text),
        level => Finding::of(level, check, text, refused, mend),
    };
    let pages_left = found.pages_max.saturating_sub(found.pages);
    // 0 is no limit but none at all.
    let all = format!("{} pages, {} used", count(found.pages_max), count(found.pages));
    let segments_left = found.segments_max.saturating_sub(found.segments);
    let segments = format!("{}, {} used", count(found.segments_max), count(found.segments));
    let check = "kernel.shmmni";
    let segments = match segments_left {
        0 => (Level::Problem, segments),
        1..16 => (Level::Warning, segments),
        _ => (Level::Ok, segments),
    };
    let forced = "kernel.shm_rmid_forced";
    vec![
        limit(
            "kernel.shmmax",
            found.bytes_max,
            size(found.bytes_max),
            "sysctl -w kernel.shmmax=18446744073692774399",
        ),
        limit(
            "kernel.shmall",
            pages_left.saturating_mul(PAGE_BYTES),
            all,
            "sysctl -w kernel.shmall=18446744073692774399, or kv-cli gc and ipcs -m",
        ),
        match segments {
            (Level::Ok, text) => Finding::ok(check, text),
            (level, text) => {
                let mend = "sysctl -w kernel.shmmni=32768, or kv-cli gc and ipcs -m";
                Finding::of(level, check, text, "each sysv: store is a segment", mend)
            }
        },
        match found.removed_when_detached {
            false => Finding::ok(forced, "0"),
            true => Finding::of(
                Level::Warning,
                forced,
                "1",
                "a sysv: store goes with its last detach, although nobody removed it",
                "sysctl -w kernel.shm_rmid_forced=0",
            ),
        },
    ]
}

fn semaphores(found: Option<&Semaphores>) -> Finding {
    let check = "kernel.sem";
    let why = "stores with --guard sysv have a set of semaphores: up to 4,111, for one of 256 MiB \
               or more; others need none";
    let Some(found) = found else {
        return Finding::note(check, "no System V semaphores in this kernel", why);
    };
    let Semaphores { of_a_set_max, all_max, of_a_call_max, sets_max, all, sets } = found;
    let text = format!(
        "at most {} in a set, {} of {} used, {} of {} sets used",
        count(*of_a_set_max),
        count(*all),
        count(*all_max),
        count(*sets),
        count(*sets_max)
    );
    let used_up = sets >= sets_max || all_max.saturating_sub(*all) < 64 || *of_a_call_max < 2;
    let small = *of_a_set_max < SEMAPHORES_MAX || all_max.saturating_sub(*all) < SEMAPHORES_MAX;
    let mend = "sysctl -w kernel.sem='32000 1024000000 500 32000'";
    match (used_up, small) {
        (true, _) => Finding::of(Level::Warning, check, text, why, mend),
        (_, true) => Finding::of(Level::Note, check, text, why, mend),
        _ => Finding::ok(check, text),
    }
}

fn removes_ipc(host: &Host) -> Finding {
    let check = "systemd RemoveIPC";
    match host.removes_ipc {
        None => Finding::ok(check, "no logind runs here"),
        Some(false) => Finding::ok(check, "no"),
        Some(true) if host.uid < FIRST_PERSON => {
            Finding::ok(check, "yes, which is nothing to root and system users such as this one")
        }
        Some(true) => Finding::of(
            Level::Warning,
            check,
            "yes, and this user is no system user",
            "when the last session of this user ends, logind removes the posix: and sysv: stores \
             and the semaphores that the user owns",
            "loginctl enable-linger, or RemoveIPC=no in /etc/systemd/logind.conf.d/cistern.conf and \
             systemctl restart systemd-logind",
        ),
    }
}

fn limits(host: &Host) -> Vec<Finding> {
    let limits = &host.limits;
    let bytes = |check, found: Option<u64>, least: u64, why, mend: &str| match found {
        None => Finding::ok(check, "unlimited"),
        Some(found) if found < least => Finding::of(Level::Warning, check, size(found), why, mend),
        Some(found) => Finding::of(Level::Note, check, size(found), why, mend),
    };
    let check = "RLIMIT_NOFILE";
    let descriptors = match limits.descriptors {
        Some(found) if found < 64 => Finding::of(
            Level::Warning,
            check,
            count(found),
            "a handle on a store has up to three descriptors, and an attach opens some for a moment",
            "ulimit -n 1024 (systemd: LimitNOFILE=)",
        ),
        found => Finding::ok(check, found.map_or("unlimited".to_owned(), count)),
    };
    let locked = limits.locked_bytes.map_or("unlimited".to_owned(), size);
    vec![
        bytes(
            "RLIMIT_FSIZE",
            limits.file_bytes,
            COMFORT,
            "no posix:, file: or memfd store with a larger --max-size can be made",
            "ulimit -f unlimited (systemd: LimitFSIZE=infinity)",
        ),
        bytes(
            "RLIMIT_AS",
            limits.address_bytes,
            4 * COMFORT,
            "a mapping takes the addresses of a store's largest size, used or not",
            "ulimit -v unlimited (systemd: LimitAS=infinity)",
        ),
        descriptors,
        Finding::ok("RLIMIT_MEMLOCK", format!("{locked}; stores lock no memory")),
    ]
}

fn maps(host: &Host) -> Finding {
    let check = "vm.max_map_count";
    match host.maps_max {
        None => Finding::ok(check, "unknown"),
        Some(limit) if limit < 1024 => Finding::of(
            Level::Warning,
            check,
            count(limit),
            "each handle on a store is a mapping, or two, of all that its process may have",
            "sysctl -w vm.max_map_count=65530",
        ),
        Some(limit) => Finding::ok(check, count(limit)),
    }
}

fn version(host: &Host) -> Finding {
    let check = "kernel version";
    let mend = "a newer kernel";
    let Some((major, minor)) = host.kernel else { return Finding::ok(check, "unknown") };
    let found = format!("{major}.{minor}");
    match (major, minor) {
        it if it < (5, 3) => Finding::of(
            Level::Problem,
            check,
            found,
            "there is no pidfd_open before 5.3: a writer that died can't be told from one that \
             lives, and what it held is never taken over",
            mend,
        ),
        it if it < (5, 14) => Finding::of(
            Level::Warning,
            check,
            found,
            "there is no MADV_POPULATE_WRITE before 5.14: System V and anonymous stores can't be \
             made",
            mend,
        ),
        _ => Finding::ok(check, found),
    }
}

fn proc(host: &Host) -> Finding {
    let check = "/proc";
    if !host.proc.is_own {
        return Finding::of(
            Level::Warning,
            check,
            "not there, or that of another PID namespace",
            "who writes, who died and what the limits are is read from it; without it some of the \
             dead count as alive",
            "mount -t proc proc /proc",
        );
    }
    match host.proc.hides {
        false => Finding::ok(check, "mounted, and hides nobody"),
        true => Finding::of(
            Level::Note,
            check,
            "mounted with hidepid",
            "other users' processes are not seen: `attached` leaves them out, and one that executed \
             another program counts as a client of its sysv: store until it ends",
            "mount -o remount,hidepid=0 /proc",
        ),
    }
}

fn namespaces(host: &Host) -> Finding {
    let check = "namespaces";
    let own = match (host.namespaces.first_pid, host.namespaces.first_ipc) {
        (true, true) => return Finding::ok(check, "those of the machine"),
        (false, true) => "a PID namespace of its own",
        (true, false) => "an IPC namespace of its own",
        (false, false) => "PID and IPC namespaces of its own",
    };
    Finding::of(
        Level::Note,
        check,
        own,
        "all writers of a store must be of one PID namespace, and of one IPC namespace for sysv: \
         stores and semaphores; readers of posix: and file: stores need not",
        "docker run --pid=container:NAME --ipc=container:NAME … (shareProcessNamespace in a pod)",
    )
}

fn clock(host: &Host) -> Finding {
    let check = "boot id and clock";
    if host.boot_id.is_none() {
        return Finding::of(
            Level::Warning,
            check,
            "/proc/sys/kernel/random/boot_id can't be read",
            "it tells a file: store that was in use when the machine went down, and a registration \
             of an earlier boot",
            "mount -t proc proc /proc",
        );
    }
    match host.wall_clock_s {
        now if now < EARLIEST_S => Finding::of(
            Level::Warning,
            check,
            format!("it is {}", crate::human::date(now * 1000)),
            "a file: store goes by this clock from one boot to the next: when it is set right, \
             times to live have a wrong end",
            "timedatectl set-ntp true",
        ),
        _ => Finding::ok(check, "readable"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::{Limits, Namespaces, Proc};
    use super::*;

    fn good() -> Host {
        let system_v = SystemV {
            bytes_max: u64::MAX,
            pages_max: u64::MAX,
            segments_max: 4096,
            ..SystemV::default()
        };
        let semaphores = Semaphores {
            of_a_set_max: 32_000,
            all_max: 1_024_000_000,
            of_a_call_max: 500,
            sets_max: 32_000,
            ..Semaphores::default()
        };
        Host {
            uid: 1000,
            kernel: Some((6, 1)),
            system_v: Some(system_v),
            semaphores: Some(semaphores),
            removes_ipc: Some(false),
            limits: Limits { descriptors: Some(1024), ..Limits::default() },
            maps_max: Some(65_530),
            proc: Proc { is_own: true, hides: false },
            namespaces: Namespaces { first_ipc: true, first_pid: true },
            boot_id: Some("x".to_owned()),
            wall_clock_s: EARLIEST_S,
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

    #[test]
    fn a_good_host_is_told_as_good() {
        assert!(judge(&good()).iter().all(|one| one.level == Level::Ok), "{:?}", judge(&good()));
    }

    #[test]
    fn limits_of_segments_are_judged() {
        let limit = |check, change: fn(&mut SystemV)| {
            level_of(check, |host| change(host.system_v.as_mut().expect("it is there")))
        };
        assert_eq!(limit("kernel.shmmax", |it| it.bytes_max = LEAST - 1), Level::Problem);
        assert_eq!(limit("kernel.shmmax", |it| it.bytes_max = 32 << 20), Level::Warning);
        let used_up = |it: &mut SystemV| (it.pages, it.pages_max) = (1000, 1000);
        assert_eq!(limit("kernel.shmall", used_up), Level::Problem);
        assert_eq!(limit("kernel.shmall", |it| it.pages_max = 10_000), Level::Warning);
        assert_eq!(limit("kernel.shmmni", |it| it.segments = 4096), Level::Problem);
        assert_eq!(limit("kernel.shmmni", |it| it.segments = 4090), Level::Warning);
        let check = "kernel.shm_rmid_forced";
        assert_eq!(limit(check, |it| it.removed_when_detached = true), Level::Warning);
        assert_eq!(level_of("System V shared memory", |host| host.system_v = None), Level::Note);
    }

    #[test]
    fn limits_of_semaphores_are_judged() {
        let limit = |change: fn(&mut Semaphores)| {
            level_of("kernel.sem", |host| change(host.semaphores.as_mut().expect("it is there")))
        };
        assert_eq!(limit(|it| it.sets = 32_000), Level::Warning);
        assert_eq!(limit(|it| it.all = it.all_max), Level::Warning);
        assert_eq!(limit(|it| it.of_a_call_max = 1), Level::Warning);
        assert_eq!(limit(|it| it.of_a_set_max = 250), Level::Note);
    }

    #[test]
    fn remove_ipc_concerns_people_only() {
        let set = |uid| move |host: &mut Host| (host.uid, host.removes_ipc) = (uid, Some(true));
        assert_eq!(level_of("systemd RemoveIPC", set(FIRST_PERSON)), Level::Warning);
        assert_eq!(level_of("systemd RemoveIPC", set(FIRST_PERSON - 1)), Level::Ok);
        assert_eq!(level_of("systemd RemoveIPC", set(0)), Level::Ok);
        assert_eq!(level_of("systemd RemoveIPC", |host| host.removes_ipc = None), Level::Ok);
    }

    #[test]
    fn limits_of_the_process_are_judged() {
        let file = |bytes| level_of("RLIMIT_FSIZE", |host| host.limits.file_bytes = Some(bytes));
        assert_eq!((file(COMFORT - 1), file(COMFORT)), (Level::Warning, Level::Note));
        let all = |bytes| level_of("RLIMIT_AS", |host| host.limits.address_bytes = Some(bytes));
        assert_eq!((all(COMFORT), all(8 * COMFORT)), (Level::Warning, Level::Note));
        let few = |host: &mut Host| host.limits.descriptors = Some(20);
        assert_eq!(level_of("RLIMIT_NOFILE", few), Level::Warning);
        assert_eq!(level_of("vm.max_map_count", |host| host.maps_max = Some(100)), Level::Warning);
    }

    #[test]
    fn what_the_kernel_can_and_shows_is_judged() {
        let of = |version| level_of("kernel version", |host| host.kernel = Some(version));
        assert_eq!((of((4, 19)), of((5, 2)), of((5, 3))), {
            (Level::Problem, Level::Problem, Level::Warning)
        });
        assert_eq!((of((5, 13)), of((5, 14)), of((6, 0))), {
            (Level::Warning, Level::Ok, Level::Ok)
        });
        assert_eq!(level_of("/proc", |host| host.proc.is_own = false), Level::Warning);
        assert_eq!(level_of("/proc", |host| host.proc.hides = true), Level::Note);
        assert_eq!(level_of("namespaces", |host| host.namespaces.first_ipc = false), Level::Note);
        assert_eq!(level_of("boot id and clock", |host| host.boot_id = None), Level::Warning);
        assert_eq!(level_of("boot id and clock", |host| host.wall_clock_s = 0), Level::Warning);
    }
}
