//! Names that lead to another store while one is made or removed, and what is left under them by
//! creators that died.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::Uid;
use store_client::{Listing, ListingState, Writer};

use crate::backings::{keyed_segment, registration, segment};
use crate::harness::{Run, Store, finish, program_for_all, run_as};
use crate::stopped::Stopper;

const CREATE: [&str; 5] = ["create", "--size", "4MiB", "--format", "json"];

fn object_path(store: &Store) -> String {
    format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"))
}

/// The segments that a process made.
fn made_by(pid: u32) -> Vec<i32> {
    let list = std::fs::read_to_string("/proc/sysvipc/shm").expect("System V shared memory");
    let words = |line: &str| -> Vec<i64> {
        line.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect()
    };
    let lines = list.lines().skip(1).map(words);
    lines.filter(|words| words[4] == i64::from(pid)).map(|words| words[1] as i32).collect()
}

fn remove_segment(id: i32) {
    let removed = Command::new("ipcrm").args(["-m", &id.to_string()]).status().expect("ipcrm");
    assert!(removed.success());
}

fn leak(found: impl Fn(&Listing) -> bool) -> Option<Listing> {
    store_client::leaks().expect("a list").into_iter().find(found)
}

#[test]
fn a_creator_has_what_it_made_and_not_what_the_name_leads_to_by_then() {
    let Some(stopper) = Stopper::new() else { return };
    let cases = [
        (Store::unmade(), ("fchmod", 1)),
        (Store::unmade_system_v(), ("shmat", 1)),
        (Store::unmade_keyed(), ("shmat", 1)),
    ];
    for (store, call) in cases {
        let creator = stopper.run(call, &store.spec, &CREATE);
        if store.spec.starts_with("posix:") {
            std::fs::remove_file(object_path(&store)).expect("it is ours");
        } else if let Some(found) = keyed_segment(&store.spec) {
            remove_segment(found.id);
        } else {
            std::fs::remove_file(registration(&store).expect("a registration").1).expect("ours");
        }
        store.kv(["create", "--size", "16MiB", "--format", "json"]).exits(0);
        store.kv(["put", "k", "precious"]).exits(0);
        let pid = creator.pid();
        let made = creator.goes_on().exits(0).json();
        assert!(made["max_size"].as_u64().is_some_and(|size| size <= 4 << 20), "{made}");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"precious");
        // Of the registered one the segment is left, since its registration was taken from it.
        for id in made_by(pid) {
            remove_segment(id);
        }
    }
}

#[test]
fn a_removal_that_was_stopped_leaves_the_next_store_alone() {
    let Some(stopper) = Stopper::new() else { return };
    // Each has its lock, and has not marked the store yet.
    let cases = [
        (Store::posix(), ("pread64", 1)),
        (Store::file(), ("pread64", 3)),
        (Store::registered(), ("shmat", 2)),
    ];
    for (store, at) in cases {
        let stopped = stopper.run(at, &store.spec, &["rm", "--yes"]);
        // The lock of the one that was stopped is passed over.
        store.kv(["rm", "--yes"]).exits(0);
        store.kv(CREATE).exits(0);
        store.kv(["put", "k", "precious"]).exits(0);
        let writer = Writer::attach(&store.spec.parse().expect("a spec")).expect("the store");
        stopped.goes_on().exits(0);
        assert!(!writer.is_retired());
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"precious");
    }
}

#[test]
fn what_a_creator_of_a_segment_left_is_removed_wherever_it_died() {
    let Some(stopper) = Stopper::new() else { return };
    // The last one gives it the mode of its store: the second call of that function.
    for at in [("shmget", 1), ("shmat", 1), ("shmctl", 1), ("shmctl", 2)] {
        for store in [Store::unmade_system_v(), Store::unmade_keyed()] {
            for by_name in [false, true] {
                let creator = stopper.run(at, &store.spec, &CREATE);
                let made = made_by(creator.pid());
                let [id] = made[..] else { panic!("segments {made:?}") };
                creator.dies();
                if by_name {
                    store.kv(["rm", "--yes"]).exits(0);
                }
                let by_id = format!("System V segment {id}");
                let of_it = |leak: &Listing| leak.name == store.spec || leak.name == by_id;
                while let Some(leak) = leak(of_it) {
                    store_client::remove_leak(&leak).expect("it is ours");
                }
                assert_eq!(segment(id), None, "{} after {at:?}", store.spec);
                store.kv(["rm", "--yes"]).fails(3, "");
                store.kv(CREATE).exits(0);
                store.kv(["rm", "--yes"]).exits(0);
            }
        }
    }
    // Between the registration and what it leads to.
    let store = Store::unmade_system_v();
    for at in [("shmat", 1), ("shmctl", 1)] {
        let creator = stopper.run(at, &store.spec, &CREATE);
        let (id, _) = registration(&store).expect("a registration");
        creator.dies();
        store.kv(["rm", "--yes"]).exits(0);
        assert_eq!(segment(id), None, "after {at:?}");
    }
}

#[test]
fn a_refused_removal_is_not_seen_by_those_who_use_the_store() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (_directory, program) = program_for_all();
    for store in [Store::posix(), Store::registered(), Store::keyed()] {
        store.kv(["chmod", "0666"]).exits(0);
        let writer = Writer::attach(&store.spec.parse().expect("a spec")).expect("the store");
        let (ended, seen) = (AtomicBool::new(false), AtomicBool::new(false));
        let runs = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    seen.fetch_or(writer.is_retired(), Ordering::Relaxed);
                }
            });
            let refused = |_| run_as(&program, 20_016, 20_016, &store.spec, &["rm", "--yes"]);
            let runs: Vec<Run> = (0..30).map(refused).collect();
            ended.store(true, Ordering::Relaxed);
            runs
        });
        for run in runs {
            run.fails(4, "no permission for removing");
        }
        assert!(!seen.into_inner(), "{} was marked for a moment", store.spec);
        drop(writer);
        store.kv(["rm", "--yes"]).exits(0);
    }
}

#[test]
fn gc_that_could_not_remove_all_says_so() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (_directory, program) = program_for_all();
    let store = Store::unmade();
    let path = object_path(&store);
    std::fs::write(&path, [0; 8192]).expect("writes");
    let gc = |args: &[&str]| run_as(&program, 20_015, 20_015, "posix:none", args);
    assert!(gc(&["gc", "--dry-run", "--format", "raw"]).exits(0).lines().contains(&&*store.spec));
    let run = gc(&["gc", "--yes", "--format", "raw"]).ends(4);
    assert!(run.stderr.contains(&format!("{} was left", store.spec)), "{run:?}");
    assert!(!run.lines().contains(&&*store.spec), "{run:?}");
    assert!(Path::new(&path).exists());
}

#[test]
fn root_removes_what_another_user_registered_and_left() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    const USER: u32 = 20_014;
    let Some(stopper) = Stopper::new() else { return };
    let store = Store::unmade_system_v();
    let creator = stopper.run_as(USER, ("shmctl", 1), &store.spec, &CREATE);
    let id = made_by(creator.pid())[0];
    creator.dies();
    let directory = format!("/dev/shm/cistern-{USER}");
    assert!(Path::new(&directory).exists());
    let leak = leak(|leak| leak.name == store.spec).expect("a leak");
    store_client::remove_leak(&leak).expect("root may");
    assert_eq!(segment(id), None);
    assert!(!Path::new(&directory).exists(), "it went with its last registration");
    let user = |args: &[&str]| run_as(stopper.program(), USER, USER, &store.spec, args);
    user(&CREATE).exits(0);
    assert!(Path::new(&directory).exists());
    user(&["rm", "--yes"]).exits(0);
    assert!(!Path::new(&directory).exists());
}

#[test]
fn a_segment_that_is_registered_in_another_user_namespace_is_no_leak() {
    const USER: u32 = 20_013;
    let (_directory, program) = program_for_all();
    let store = Store::unmade_system_v();
    let inside = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(&program).args(args);
        command.env("KV_STORE", &store.spec).env("NO_COLOR", "1").uid(USER).gid(USER);
        finish(command, b"")
    };
    let made = Uid::current().is_root().then(|| inside(&CREATE));
    if made.is_none_or(|made| made.code != Some(0)) {
        eprintln!("skipped: no user namespace can be made for another user");
        return;
    }
    let found = store_client::list()
        .expect("a list")
        .into_iter()
        .find(|found| found.owner_uid == USER && found.state == ListingState::RegisteredElsewhere);
    assert_eq!(inside(&["put", "k", "v"]).exits(0).stdout, b"");
    inside(&["rm", "--yes"]).exits(0);
    assert!(!found.expect("it is told").is_leaked());
}
