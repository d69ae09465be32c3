//! Limits that are reached in earnest: of the process, of the file system, of System V IPC.

use nix::sys::resource::{Resource, setrlimit};
use store_client::{CreateError, GuardKind, Reader, create, destroy};

use crate::place::{self, Place};
use crate::subject::{Kind, Scene, Subject};
use crate::{alone, traced};

#[test]
fn limits_of_a_process() {
    alone("limits::helper_process");
}

#[test]
#[ignore = "a program for another test"]
fn helper_process() {
    place::make();
    let named = [Kind::Posix, Kind::File, Kind::SysvName, Kind::SysvKey];
    for kind in named.into_iter().chain([Kind::Memfd, Kind::Anonymous]) {
        let subject = Subject::new(kind, GuardKind::Futex, Scene::Create);
        let limited = |resource: Resource, limit: u64| {
            let said = traced::plain(|| {
                setrlimit(resource, limit, limit).expect("it may");
                subject.work()
            });
            let after = Place::now(&subject);
            let is_clear = said.lines().all(|line| subject.is_clear(line, None));
            assert!(!said.is_empty() && is_clear, "{kind:?}, {resource:?} {limit}: {said}");
            if said == "done\n" {
                assert_eq!(traced::plain(|| subject.verify(true)), "done\n");
            } else {
                assert!(after.is_empty(), "{kind:?}, {resource:?} {limit}: {said} {after:?}");
            }
            said
        };
        for limit in [0, 8, 100, 4096, 1 << 20] {
            let said = limited(Resource::RLIMIT_FSIZE, limit);
            let has_file = !matches!(kind, Kind::SysvKey | Kind::Anonymous | Kind::SysvName);
            assert_eq!(said.contains("FileSizeLimit"), has_file, "{kind:?} {limit}: {said}");
        }
        // What has no name in a file system needs one descriptor at a time.
        let refused = (4..24).filter(|limit| limited(Resource::RLIMIT_NOFILE, *limit) != "done\n");
        let refused: Vec<u64> = refused.collect();
        let needs_few = matches!(kind, Kind::SysvKey | Kind::Anonymous);
        assert_eq!(refused.is_empty(), needs_few, "{kind:?}: {refused:?}");
        assert!(!refused.contains(&23), "{kind:?}: {refused:?}");
        let own = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let pages: u64 = own.split(' ').next().expect("a size").parse().expect("a number");
        let said = limited(Resource::RLIMIT_AS, pages * 4096 + (4 << 20));
        assert!(said.contains("ENOMEM") || said.contains("os error 12"), "{kind:?}: {said}");
    }
}

#[test]
fn a_small_file_system() {
    alone("limits::helper_file_system");
}

#[test]
#[ignore = "a program for another test"]
fn helper_file_system() {
    place::make();
    let subject = Subject::new(Kind::Posix, GuardKind::Futex, Scene::Create);
    let spec = subject.spec().expect("it has a name");
    place::mount_memory("/dev/shm", "size=512k");
    for _ in 0..3 {
        let refused = create(spec, &subject.options()).expect_err("no room");
        assert!(matches!(refused, CreateError::NoRoom { .. }), "{refused}");
        assert!(Place::now(&subject).is_empty());
    }
    // Without an inode there is no file; the root takes one.
    place::mount_memory("/dev/shm", "nr_inodes=1");
    let refused = create(spec, &subject.options()).expect_err("no inode");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    let name = Subject::new(Kind::SysvName, GuardKind::Futex, Scene::Create);
    place::mount_memory("/run", "nr_inodes=1");
    let refused = create(name.spec().expect("a name"), &name.options()).expect_err("no inode");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert!(Place::now(&subject).is_empty());

    place::mount_memory("/dev/shm", "size=2m");
    let writer = create(spec, &subject.options()).expect("a store");
    let mut refused = 0;
    for key in 0..100_u32 {
        refused += u32::from(writer.put(&key.to_le_bytes(), &[7; 60_000]).is_err());
    }
    assert!(refused > 50, "{refused}");
    assert_eq!(writer.check(|_, _| {}).violations, Vec::<String>::new());
    assert!(Reader::attach(spec).expect("it is there").get(&0_u32.to_le_bytes()).is_ok());
    place::mount_memory_again("/dev/shm", "size=32m");
    writer.put(b"k", &[7; 60_000]).expect("there is room now");
    destroy(spec).expect("it is ours");
}

#[test]
fn limits_of_system_v() {
    alone("limits::helper_system_v");
}

/// Sets a limit of this IPC namespace.
fn set(limit: &str, value: &str) {
    std::fs::write(format!("/proc/sys/kernel/{limit}"), value).expect("root may");
}

#[test]
#[ignore = "a program for another test"]
fn helper_system_v() {
    place::make();
    for kind in [Kind::SysvName, Kind::SysvKey] {
        let subject = Subject::new(kind, GuardKind::Futex, Scene::Create);
        let spec = subject.spec().expect("it has a name");
        for (limit, value, usual) in
            [("shmmni", "0", "4096"), ("shmall", "3", "1000000"), ("shmmax", "4096", "1000000000")]
        {
            set(limit, value);
            let refused = create(spec, &subject.options()).expect_err("beyond it");
            assert!(matches!(refused, CreateError::Limit { .. }), "{refused}");
            assert!(refused.to_string().contains(limit), "{refused}");
            assert!(Place::now(&subject).is_empty(), "{limit}");
            set(limit, usual);
        }
        drop(create(spec, &subject.options()).expect("a store"));
        destroy(spec).expect("it is ours");
    }
    for kind in [Kind::Posix, Kind::SysvName, Kind::Memfd, Kind::Anonymous] {
        let subject = Subject::new(kind, GuardKind::SystemV, Scene::Create);
        for (limits, name) in
            [("9 9999 9 9", "SEMMSL"), ("9999 9 9 9", "SEMMNS"), ("999 99999 9 0", "SEMMNI")]
        {
            set("sem", limits);
            let said = traced::plain(|| subject.work());
            assert!(said.contains("GuardLimit") && said.contains(name), "{kind:?}: {said}");
            assert!(Place::now(&subject).is_empty(), "{limits}: {:?}", Place::now(&subject));
        }
        set("sem", "32000 1024000000 500 32000");
    }
}
