//! What a refused system call leaves behind: nothing, and a clear error.
//!
//! Each call that making, attaching and growing a store needs is refused once, in a process that is
//! traced (`traced`), on each kind of memory. All of it happens in namespaces of its own, with a
//! `/dev/shm`, a `/run` and System V objects that nobody else uses (`place`), so that what is left
//! can be told exactly.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod limits;
mod place;
mod rounds;
mod subject;
mod traced;

use std::collections::BTreeSet;
use std::process::Command;

use nix::libc::{EACCES, EINTR, EMFILE, ENOMEM, ENOSPC, EPERM};
use store_client::GuardKind;

use crate::place::Place;
use crate::subject::{Kind, Scene, Subject};
use crate::traced::{Call, End, Fault, Run};

/// Set: each call is refused in each way. Else in the one that suits it, and with `EINTR`.
const ALL: &str = "CISTERN_TEST_ALL_FAULTS";

/// Runs one of the helpers below as the only program of some namespaces.
#[track_caller]
fn alone(helper: &str) {
    let unshared = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--ipc", "--propagation", "private"]);
        command
    };
    let may = unshared().args(["mount", "-t", "tmpfs", "none", "/run"]).output();
    if !may.is_ok_and(|may| may.status.success()) {
        eprintln!("skipped: this user can't unshare mount and IPC namespaces (root can)");
        return;
    }
    let output = unshared()
        .arg(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture", helper])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said.lines().filter(|line| line.starts_with("faults: ")).for_each(|line| eprintln!("{line}"));
}

/// Refuses each call of each scene on one kind of memory, with one kind of guards.
fn refuse_each_call(kind: Kind, guard: GuardKind) {
    let (mut wrong, mut sets, mut last) = (Vec::new(), BTreeSet::new(), None);
    for scene in [Scene::Create, Scene::Attach, Scene::Grow] {
        if scene == Scene::Attach && kind == Kind::Anonymous {
            continue;
        }
        let subject = Subject::new(kind, guard, scene);
        let (mut runs, mut number) = (0, 0);
        loop {
            let mut call = None;
            // It is known which one it is once it was refused in the first way.
            for way in 0.. {
                let Some(fault) = nth_fault(call, way) else { break };
                let (refused, seen) = refuse(&subject, number, fault, &mut sets);
                wrong.extend(seen.err());
                let Some(refused) = refused else { break };
                call = Some(refused);
                runs += 1;
            }
            if call.is_none() {
                break;
            }
            number += 1;
        }
        println!("faults: {subject:?}: {} calls, {runs} runs", number);
        assert!(number > subject.calls_at_least(), "{subject:?}: only {number} calls");
        last = Some(subject);
    }
    collect_sets(&last.expect("there are scenes"), &sets);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The ways in which a call is refused.
fn nth_fault(call: Option<Call>, way: usize) -> Option<Fault> {
    let Some(call) = call else { return Some(Fault::Error(EINTR)) };
    let suited: &[i32] = if std::env::var_os(ALL).is_some() {
        &[EACCES, EMFILE, ENOMEM, ENOSPC]
    } else {
        match call.name() {
            "openat" | "memfd_create" | "fcntl" | "pidfd_open" => &[EMFILE],
            "fallocate" | "ftruncate" | "pwrite64" | "write" | "mkdir" => &[ENOSPC],
            // As a filter does.
            "getrandom" => &[EPERM],
            "shmget" | "semget" => &[ENOSPC, ENOMEM],
            "mmap" | "madvise" | "mprotect" | "shmat" | "semtimedop" => &[ENOMEM],
            _ => &[EACCES],
        }
    };
    match way.checked_sub(1)? {
        way if way < suited.len() => Some(Fault::Error(suited[way])),
        way if way == suited.len() => Some(Fault::Kill),
        _ => None,
    }
}

/// Refuses call `number` of a scene, and looks at what came of it. `None`: there are fewer calls.
/// Sets of semaphores that may stay are added to those that did.
fn refuse(
    subject: &Subject,
    number: usize,
    fault: Fault,
    sets: &mut BTreeSet<String>,
) -> (Option<Call>, Result<(), String>) {
    subject.prepare();
    let before = Place::now(subject);
    let Run { call, end, said } = traced::run(number, fault, || subject.work());
    let seen = look(subject, &before, fault, &Run { call, end, said: said.clone() });
    let new: Vec<String> =
        Place::now(subject).semaphores.into_iter().filter(|set| !sets.contains(set)).collect();
    let seen = seen.and_then(|()| match new.is_empty() || may_leave_a_set(call, fault) {
        true => Ok(()),
        false => Err(format!("semaphores {new:?} are left")),
    });
    if fault == Fault::Kill && call.map(Call::name) == Some("semctl") {
        // Between the calls that make a set it has no mark yet, by which `gc` knows it.
        place::remove_sets(&new);
    } else if seen.is_ok() {
        sets.extend(new);
    }
    let seen = seen.map_err(|wrong| {
        // The next one begins with nothing.
        Place::now(subject).clear();
        sets.clear();
        let call = call.map_or("none", Call::name);
        format!("{subject:?}, call {number} ({call}) {fault:?}: {wrong}; {end:?}: {said}")
    });
    (call, seen)
}

fn look(subject: &Subject, before: &Place, fault: Fault, run: &Run) -> Result<(), String> {
    let &Run { call, end, ref said } = run;
    let wanted = match fault {
        Fault::Kill if call.is_some() => End::Killed,
        _ => End::Exited,
    };
    if end != wanted {
        return Err("it ended in another way".to_owned());
    }
    let verdict = if end == End::Exited {
        if said.is_empty()
            || !said.lines().all(|line| subject.is_clear(line, call.map(|call| (fault, call))))
        {
            return Err("it does not say what it should".to_owned());
        }
        let succeeded = said == "done\n" || said.starts_with(subject::MADE);
        let after = Place::now(subject);
        if !succeeded && after.without_sets() != before.without_sets() {
            return Err(format!("there was {before:?}, there is {after:?}"));
        }
        traced::plain(|| subject.verify(succeeded))
    } else {
        traced::plain(|| subject.verify_after_a_kill())
    };
    if verdict != "done\n" {
        return Err(format!("then: {verdict}"));
    }
    let left = Place::now(subject).without_sets();
    if left.is_empty() { Ok(()) } else { Err(format!("left: {left:?}")) }
}

/// Whether a set of semaphores may stay when this call was refused, until `gc` finds that nobody uses
/// it: the last one that does could not remove it.
fn may_leave_a_set(call: Option<Call>, fault: Fault) -> bool {
    fault == Fault::Kill || matches!(call.map(Call::name), Some("semtimedop" | "semctl"))
}

/// Expects that `gc` finds the sets, and removes them.
fn collect_sets(subject: &Subject, sets: &BTreeSet<String>) {
    if sets.is_empty() {
        return;
    }
    // Young ones are passed over.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(traced::plain(subject::remove_leaks), "done\n");
    let left = Place::now(subject).semaphores;
    assert!(left.is_empty(), "{left:?} of {sets:?} are left");
}

macro_rules! on_each {
    ($($test:ident, $helper:ident: $kind:expr, $guard:expr;)*) => {$(
        #[test]
        fn $test() {
            alone(stringify!($helper));
        }

        #[test]
        #[ignore = "a program for another test"]
        fn $helper() {
            place::make();
            refuse_each_call($kind, $guard);
        }
    )*};
}

on_each! {
    posix_shared_memory, helper_posix: Kind::Posix, GuardKind::Futex;
    a_file, helper_file: Kind::File, GuardKind::Futex;
    system_v_by_name, helper_sysv_name: Kind::SysvName, GuardKind::Futex;
    system_v_by_key, helper_sysv_key: Kind::SysvKey, GuardKind::Futex;
    a_memfd, helper_memfd: Kind::Memfd, GuardKind::Futex;
    anonymous_memory, helper_anonymous: Kind::Anonymous, GuardKind::Futex;
    posix_shared_memory_with_semaphores, helper_posix_semaphores: Kind::Posix, GuardKind::SystemV;
    a_file_with_semaphores, helper_file_semaphores: Kind::File, GuardKind::SystemV;
    anonymous_memory_with_semaphores, helper_anonymous_semaphores: Kind::Anonymous, GuardKind::SystemV;
    system_v_by_name_with_semaphores, helper_sysv_semaphores: Kind::SysvName, GuardKind::SystemV;
    a_memfd_with_semaphores, helper_memfd_semaphores: Kind::Memfd, GuardKind::SystemV;
}
