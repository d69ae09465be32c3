//! What differs between the kinds of memory that a store can be in: how it is found, removed,
//! passed on and given to others, and what is left of it.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;
use store_client::{CreateOptions, ListingState, Reader, Sealing, Spec, Writer};

use crate::harness::{KV, Run, Store, bare, finish, inheriting, program_for_all};

/// A line of `/proc/sysvipc/shm`, which `ipcs -m` shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) id: i32,
    mode: u32,
    pub(crate) attached: u32,
}

/// The segment with this id.
pub(crate) fn segment(id: i32) -> Option<Segment> {
    segments().into_iter().find_map(|(_, segment)| (segment.id == id).then_some(segment))
}

/// The segment with this key.
pub(crate) fn keyed_segment(spec: &str) -> Option<Segment> {
    let key = u32::from_str_radix(spec.strip_prefix("sysv:0x")?, 16).ok()?;
    segments().into_iter().find_map(|(found, segment)| (found == key).then_some(segment))
}

/// All segments, each with its key.
fn segments() -> Vec<(u32, Segment)> {
    let list = std::fs::read_to_string("/proc/sysvipc/shm").expect("System V shared memory");
    let segment = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mode = u32::from_str_radix(words[2], 8).expect("octal digits");
        let number = |index: usize| words[index].parse::<i64>().expect("a number");
        let attached = number(6) as u32;
        (number(0) as u32, Segment { id: number(1) as i32, mode, attached })
    };
    list.lines().skip(1).map(segment).collect()
}

/// The id in a registration, and its path.
pub(crate) fn registration(store: &Store) -> Option<(i32, String)> {
    let name = store.spec.strip_prefix("sysv:").expect("a registered store");
    let uid = Uid::effective();
    let places = [
        "/run/cistern".to_owned(),
        format!("/run/user/{uid}/cistern"),
        format!("/dev/shm/cistern-{uid}"),
    ];
    places.iter().find_map(|place| {
        let path = format!("{place}/{name}");
        let text = std::fs::read_to_string(&path).ok()?;
        let id = text.lines().find_map(|line| line.strip_prefix("id "))?;
        Some((id.parse().expect("a number"), path))
    })
}

#[track_caller]
fn state_of(store: &Store) -> Option<ListingState> {
    let listings = store_client::list().expect("a list");
    listings.into_iter().find(|one| one.name == store.spec).map(|one| one.state)
}

fn spec(store: &Store) -> Spec {
    store.spec.parse().expect("a spec")
}

#[test]
fn a_registered_segment_comes_and_goes_with_its_store() {
    let store = Store::unmade_system_v();
    store.kv(["get", "k"]).fails(3, "");
    store.kv(["create", "--size", "16MiB", "--permissions", "0640"]).exits(0);
    let (id, path) = registration(&store).expect("a registration");
    assert_eq!(segment(id), Some(Segment { id, mode: 0o640, attached: 0 }));
    store.kv(["create", "--size", "16MiB"]).fails(1, "exists already");
    store.kv(["put", "k", "v"]).exits(0);
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
    let info = store.kv(["--format", "json", "info"]).exits(0).json();
    assert_eq!(info["backing"], "System V shared memory");
    assert!(info["resident_bytes"].as_u64() >= info["segment_bytes"].as_u64(), "{info}");
    assert_eq!(state_of(&store), Some(ListingState::Ready));
    store.kv(["rm", "--yes"]).exits(0);
    assert_eq!(segment(id), None);
    assert!(!Path::new(&path).exists());
    store.kv(["rm", "--yes"]).fails(3, "");
}

#[test]
fn a_keyed_segment_comes_and_goes_with_its_store() {
    let store = Store::keyed();
    let Segment { id, mode, attached } = keyed_segment(&store.spec).expect("its segment");
    assert_eq!((mode, attached), (0o600, 0));
    store.kv(["chmod", "0644"]).exits(0);
    assert_eq!(segment(id).map(|segment| segment.mode), Some(0o644));
    store.kv(["create", "--size", "16MiB"]).fails(1, "exists already");
    store.kv(["rm", "--yes"]).exits(0);
    assert_eq!(segment(id), None);
    store.kv(["get", "k"]).fails(3, "");
}

#[test]
fn an_object_of_posix_shared_memory_goes_with_its_store() {
    let store = Store::posix();
    let path = format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"));
    assert!(Path::new(&path).exists());
    let info = store.kv(["--format", "json", "info"]).exits(0).json();
    assert_eq!(info["backing"], "POSIX shared memory");
    store.kv(["rm", "--yes"]).exits(0);
    assert!(!Path::new(&path).exists());
}

#[test]
fn a_segment_that_is_removed_while_it_is_attached_stays_until_the_last_detach() {
    let store = Store::keyed();
    store.kv(["put", "k", "old"]).exits(0);
    let id = keyed_segment(&store.spec).expect("its segment").id;
    let old = Writer::attach(&spec(&store)).expect("the store");
    store.kv(["rm", "--yes"]).exits(0);
    let left = segment(id).expect("it stays");
    assert_eq!((left.mode & 0o1000, left.attached), (0o1000, 1));
    let listings = store_client::list().expect("a list");
    let removed = listings.iter().filter(|one| one.state == ListingState::Removed);
    assert!(removed.map(|one| &one.name).any(|name| name.contains(&id.to_string())));
    assert!(old.is_retired());

    store.kv(["create", "--size", "16MiB"]).exits(0);
    assert_ne!(keyed_segment(&store.spec).expect("a new one").id, id);
    store.kv(["put", "k", "new"]).exits(0);
    assert_eq!(old.get(b"k").expect("it works").as_deref(), Some(&b"old"[..]));
    old.put(b"k", b"unseen").expect_err("nobody would find it");
    let new = Reader::attach(&spec(&store)).expect("the new store");
    assert_eq!(new.get(b"k").expect("it works").as_deref(), Some(&b"new"[..]));
    assert!(!new.is_retired());
    drop(old);
    assert_eq!(segment(id), None, "it went with the last detach");
}

#[test]
fn a_registration_without_its_segment_is_told_and_replaced() {
    let store = Store::registered();
    let (id, path) = registration(&store).expect("a registration");
    let removed = Command::new("ipcrm").args(["-m", &id.to_string()]).status().expect("ipcrm");
    assert!(removed.success());
    store.kv(["get", "k"]).fails(3, "a segment that is gone");
    assert_eq!(state_of(&store), Some(ListingState::Stale));
    let shown = store.kv(["gc", "--dry-run"]).exits(0);
    assert!(shown.text().contains(&store.spec), "{shown:?}");
    // A new store takes its place.
    store.kv(["create", "--size", "16MiB"]).exits(0);
    store.kv(["put", "k", "v"]).exits(0);

    // An id of another boot says nothing.
    let text = std::fs::read_to_string(&path).expect("text");
    let boot = text.lines().find_map(|line| line.strip_prefix("boot ")).expect("a boot id");
    let other = text.replace(boot, "00000000-0000-4000-8000-000000000001");
    std::fs::write(&path, other).expect("writes");
    store.kv(["get", "k"]).fails(3, "an earlier boot");
    // Nor does that of another store.
    let uuid = text.lines().find_map(|line| line.strip_prefix("uuid ")).expect("an id");
    let other = text.replace(uuid, "00000000-0000-4000-8000-000000000001");
    std::fs::write(&path, other).expect("writes");
    store.kv(["get", "k"]).fails(3, "another store's");
    std::fs::write(&path, text).expect("writes");
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
}

#[test]
fn a_segment_without_its_registration_is_a_leak_when_nobody_has_it() {
    let store = Store::registered();
    let (id, path) = registration(&store).expect("a registration");
    let reader = Reader::attach(&spec(&store)).expect("the store");
    std::fs::remove_file(path).expect("it is ours");
    let name = format!("System V segment {id}");
    let found = || {
        let listings = store_client::list().expect("a list");
        listings.into_iter().find(|one| one.name == name).expect("it is listed")
    };
    assert_eq!(found().state, ListingState::Orphaned);
    assert!(!found().is_leaked(), "it is attached");
    let shown = store.kv(["gc", "--dry-run"]).exits(0);
    assert!(!shown.text().contains(&name), "{shown:?}");
    store_client::remove_leak(&found()).expect_err("it is attached");
    drop(reader);
    let leak = found();
    assert!(leak.is_leaked());
    let shown = store.kv(["gc", "--dry-run"]).exits(0);
    assert!(shown.text().contains(&name), "{shown:?}");
    store.kv(["gc"]).fails(2, "--yes");
    store_client::remove_leak(&leak).expect("it is ours");
    assert_eq!(segment(id), None);
}

#[test]
fn a_store_that_was_never_finished_is_a_leak() {
    let store = Store::unmade();
    let path = format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"));
    std::fs::write(&path, b"").expect("writes");
    store.kv(["get", "k"]).fails(6, "empty");
    assert_eq!(state_of(&store), Some(ListingState::Empty));
    std::fs::write(&path, [0; 8192]).expect("writes");
    store.kv(["get", "k"]).fails(6, "creator died");
    assert_eq!(state_of(&store), Some(ListingState::Abandoned));
    assert!(store.kv(["gc", "--dry-run"]).exits(0).text().contains(&store.spec));
    let leaks = store_client::leaks().expect("a list");
    let leak = leaks.iter().find(|one| one.name == store.spec).expect("a leak");
    store_client::remove_leak(leak).expect("it is ours");
    assert!(!Path::new(&path).exists());
    // What is a store by now is left alone.
    store.kv(["create", "--size", "16MiB"]).exits(0);
    store_client::remove_leak(leak).expect_err("it works");
    store.kv(["put", "k", "v"]).exits(0);
}

#[test]
fn a_segment_whose_creator_was_killed_is_a_leak() {
    let store = Store::keyed();
    store.kv(["rm", "--yes"]).exits(0);
    // Large enough that its memory is not there at once.
    let mut creator = store.command(["create", "--size", "1GiB"]).spawn().expect("starts");
    let found = || {
        let listed = store_client::list().expect("a list");
        listed.into_iter().find(|one| one.name == store.spec)
    };
    while found().is_none() {
        assert!(creator.try_wait().expect("wait").is_none(), "it ended too early");
    }
    creator.kill().expect("kill");
    creator.wait().expect("wait");
    let leak = found().expect("it stays");
    assert_eq!(leak.state, ListingState::Abandoned);
    store.kv(["get", "k"]).fails(6, "creator died");
    assert!(store.kv(["gc", "--dry-run"]).exits(0).text().contains(&store.spec));
    store_client::remove_leak(&leak).expect("it is ours");
    assert_eq!(keyed_segment(&store.spec), None);
}

#[test]
fn segments_of_other_programs_are_left_alone() {
    let made = Command::new("ipcmk").args(["-M", "8192"]).output().expect("ipcmk");
    let said = String::from_utf8_lossy(&made.stdout);
    let id: i32 = said.trim().rsplit(' ').next().expect("an id").parse().expect("a number");
    let key = segments().into_iter().find(|(_, one)| one.id == id).expect("its segment").0;
    let mut command = bare();
    command.args(["rm", "--yes", "--store", &format!("sysv:{key:#x}")]);
    let run = finish(command, b"");
    let listed = store_client::list().expect("a list");
    let stands = segment(id).is_some();
    let _ = Command::new("ipcrm").args(["-m", &id.to_string()]).status();
    run.fails(6, "was not removed");
    assert!(stands);
    assert!(listed.iter().all(|one| !one.name.contains(&format!("{key:#x}"))));
}

#[test]
fn files_that_look_like_the_beginning_of_a_store_are_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in [("empty", &b""[..]), ("zeros", &[0; 9000])] {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        let mut command = bare();
        command.args(["rm", "--yes", "--store", &format!("file:{}", path.display())]);
        finish(command, b"").fails(6, "was not removed");
        assert_eq!(std::fs::read(&path).expect("reads"), bytes);
    }
    // One whose creator died after it took the length.
    let path = directory.path().join("begun");
    let mut bytes = [0; 9000];
    bytes[56..64].copy_from_slice(&9000_u64.to_le_bytes());
    std::fs::write(&path, bytes).expect("writes");
    let mut command = bare();
    command.args(["rm", "--yes", "--store", &format!("file:{}", path.display())]);
    finish(command, b"").exits(0);
    assert!(!path.exists());
}

/// Runs the program with a descriptor as its number 3.
fn with_descriptor(descriptor: OwnedFd, args: &[&str]) -> Run {
    Run::of(inheriting(Path::new(KV), descriptor, args))
}

#[test]
fn a_memfd_is_passed_to_a_child() {
    let writer =
        Writer::memfd(&CreateOptions::new(4 << 20), Sealing::SharedWriters).expect("a store");
    writer.put(b"k", b"v").expect("a put");
    let pass = || {
        let descriptor = writer.descriptor().expect("a memfd has one");
        descriptor.try_clone_to_owned().expect("dup")
    };
    assert_eq!(with_descriptor(pass(), &["get", "k"]).exits(0).stdout, b"v");
    with_descriptor(pass(), &["put", "k", "from the child"]).exits(0);
    assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"from the child"[..]));
    let info = with_descriptor(pass(), &["--format", "json", "info"]).exits(0).json();
    assert_eq!(info["backing"], "memfd");
    assert_eq!(info["seals"], serde_json::json!(["seal", "shrink", "grow"]));
    assert_eq!(info["read_only_for_good"], false);
    with_descriptor(pass(), &["rm", "--yes"]).fails(2, "by a descriptor");
    with_descriptor(pass(), &["chmod", "0640"]).exits(0);
    let name = format!("memfd of process {}", std::process::id());
    let listed = store_client::list().expect("a list");
    assert!(listed.iter().any(|one| one.name == name && one.permissions == 0o640));
}

#[test]
fn a_sealed_memfd_refuses_writers() {
    let writer =
        Writer::memfd(&CreateOptions::new(4 << 20), Sealing::ReadOnlyForOthers).expect("a store");
    writer.put(b"k", b"v").expect("a put");
    let descriptor = writer.descriptor().expect("a memfd has one");
    let kept = descriptor.try_clone_to_owned().expect("dup");
    let pass = || kept.try_clone().expect("dup");
    assert_eq!(with_descriptor(pass(), &["get", "k"]).exits(0).stdout, b"v");
    with_descriptor(pass(), &["put", "k", "w"]).fails(4, "is sealed");
    writer.put(b"k", b"still").expect("its maker writes");
    assert_eq!(with_descriptor(pass(), &["get", "k"]).exits(0).stdout, b"still");
    assert!(!with_descriptor(pass(), &["info"]).exits(0).text().contains("for good"));
    drop(writer);
    assert_eq!(with_descriptor(pass(), &["get", "k"]).exits(0).stdout, b"still");
    let info = with_descriptor(pass(), &["info"]).exits(0);
    assert!(info.text().contains("future-write; read-only for good"), "{info:?}");
}

#[test]
fn a_descriptor_of_a_named_store_is_as_good() {
    let store = Store::file();
    store.kv(["put", "k", "v"]).exits(0);
    let read_only = || OwnedFd::from(std::fs::File::open(store.path()).expect("opens"));
    assert_eq!(with_descriptor(read_only(), &["get", "k"]).exits(0).stdout, b"v");
    with_descriptor(read_only(), &["put", "k", "w"]).fails(4, "writing");
    let text = OwnedFd::from(std::fs::File::open("/etc/hostname").expect("opens"));
    with_descriptor(text, &["get", "k"]).fails(6, "");
    let nothing = OwnedFd::from(std::fs::File::open("/dev/null").expect("opens"));
    with_descriptor(nothing, &["get", "k"]).fails(6, "");
}

#[test]
fn other_users_have_what_the_mode_and_the_owner_give_them() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (_directory, program) = program_for_all();
    // The directories above a file may be closed to others.
    for store in [Store::posix(), Store::registered(), Store::keyed()] {
        let as_nobody = |args: &[&str]| {
            let mut command = Command::new(&program);
            command.uid(65_534).gid(65_534).env("KV_STORE", &store.spec).args(args);
            finish(command, b"")
        };
        store.kv(["put", "k", "v"]).exits(0);
        as_nobody(&["get", "k"]).fails(4, "permission");
        as_nobody(&["chmod", "0666"]).fails(4, "permission");
        store.kv(["chmod", "0644"]).exits(0);
        assert_eq!(as_nobody(&["get", "k"]).exits(0).stdout, b"v");
        as_nobody(&["put", "k", "w"]).fails(4, "permission");
        as_nobody(&["chmod", "0666"]).fails(4, "permission");
        as_nobody(&["chown", "65534"]).fails(4, "permission");
        as_nobody(&["rm", "--yes"]).fails(4, "for removing");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
        store.kv(["chown", ":65534"]).exits(0);
        store.kv(["chmod", "0660"]).exits(0);
        as_nobody(&["put", "k", "of the group"]).exits(0);
        // Writing is not removing.
        as_nobody(&["rm", "--yes"]).fails(4, "for removing");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"of the group");
        store.kv(["chown", "65534:65534"]).exits(0);
        store.kv(["chmod", "0600"]).exits(0);
        as_nobody(&["put", "k", "w"]).exits(0);
        as_nobody(&["chmod", "0640"]).exits(0);
        // System V lets an owner give a segment away.
        if store.spec.starts_with("posix:") {
            as_nobody(&["chown", "0"]).fails(4, "permission");
        }
        as_nobody(&["rm", "--yes"]).exits(0);
        store.kv(["get", "k"]).fails(3, "");
    }
}

#[test]
fn a_user_has_a_registry_of_its_own() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (_directory, program) = program_for_all();
    let store = Store::unmade_system_v();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.uid(65_534).gid(65_534).env("KV_STORE", &store.spec).args(args);
        finish(command, b"")
    };
    as_nobody(&["create", "--size", "4MiB"]).exits(0);
    as_nobody(&["put", "k", "v"]).exits(0);
    let path = format!("/dev/shm/cistern-65534/{}", store.spec.trim_start_matches("sysv:"));
    assert!(Path::new(&path).exists());
    // Another user does not find it by name, and does not take it for a leak.
    store.kv(["get", "k"]).fails(3, "");
    // Other tests leave leaks of their own meanwhile.
    assert!(!store.kv(["gc", "--dry-run"]).exits(0).text().contains(&store.spec));
    let listed = store_client::list().expect("a list");
    assert!(listed.iter().any(|one| one.name == store.spec && one.owner_uid == 65_534));
    as_nobody(&["rm", "--yes"]).exits(0);
    assert!(!Path::new(&path).exists());
    let _ = std::fs::remove_dir("/dev/shm/cistern-65534");
}

/// Runs shell commands in an IPC namespace of their own, where `$0` is the program.
fn in_namespace(script: &str, store: &Store) -> Run {
    let mut command = Command::new("unshare");
    command.args(["--ipc", "sh", "-c", script, KV]);
    command.env("KV_STORE", &store.spec).env("NO_COLOR", "1");
    finish(command, b"")
}

#[test]
fn limits_of_the_kernel_are_told() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can make an IPC namespace");
        return;
    }
    let store = Store::unmade_system_v();
    let set = |limit: &str, value: u32| {
        let script = format!("echo {value} > /proc/sys/kernel/{limit}; exec \"$0\" create");
        in_namespace(&script, &store)
    };
    set("shmmni", 0).fails(5, "kernel.shmmni is 0");
    set("shmmax", 4096).fails(5, "kernel.shmmax is 4096");
    set("shmall", 1).fails(5, "kernel.shmall is 1");
    assert_eq!(registration(&store), None, "nothing is left behind");

    let script = "echo 1 > /proc/sys/kernel/shm_rmid_forced; exec \"$0\" create --size 4MiB";
    let run = in_namespace(script, &store).ends(0);
    assert!(run.stderr.contains("shm_rmid_forced is 1"), "{run:?}");
    // Its namespace is gone by now, but nobody can tell that from here.
    store.kv(["get", "k"]).fails(4, "another IPC namespace");
    store.kv(["create"]).fails(1, "exists already");
    store.kv(["rm", "--yes"]).fails(4, "by hand");
    assert_eq!(state_of(&store), Some(ListingState::OtherNamespace));
    std::fs::remove_file(registration(&store).expect("a registration").1).expect("it is ours");
}

/// A store that may grow to more than its file system has takes what there is, and names what lacks.
#[test]
fn a_store_on_a_full_file_system_says_so() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    for (bytes, puts) in [(30_000, 90), (300_000, 8)] {
        let script = format!(
            "mount -t tmpfs -o size=4m tmpfs /dev/shm && cd /dev/shm || exit 99
             \"$0\" create --size 1MiB --max-size 64MiB >/dev/null || exit 98
             value=$(head -c {bytes} /dev/zero | tr '\\0' x); i=0
             while printf %s \"$value\" | \"$0\" put k$i - 2>refused; do
                 i=$((i + 1)); test $i -lt 1000 || exit 97; done
             \"$0\" check >/dev/null || exit 96
             echo $i; cat refused"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, KV]);
        command.env("KV_STORE", "posix:full").env("NO_COLOR", "1");
        let run = finish(command, b"").exits(0);
        let lines = run.lines();
        assert!(lines[0].parse::<u32>().expect("a number") >= puts, "{run:?}");
        assert!(lines[1].contains("/dev/shm/cistern.full could not grow"), "{run:?}");
        assert!(lines[1].contains("No space left") && lines[1].contains("remount"), "{run:?}");
    }
}

#[test]
fn gc_removes_what_nobody_can_use() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can make an IPC namespace");
        return;
    }
    // In a namespace of its own, so that no other test's leaks are met.
    let store = Store::unmade_system_v();
    let name = store.spec.trim_start_matches("sysv:");
    let script = format!(
        "\"$0\" --store sysv:0x77 create --size 4MiB --format json && \
         \"$0\" create --size 4MiB --format json && rm /run/cistern/{name} && \
         \"$0\" gc --yes --format json && \"$0\" --store sysv:0x77 put k v && ipcs -m | grep -c 0x"
    );
    let run = in_namespace(&script, &store).exits(0);
    let lines = run.lines();
    assert!(lines[2].contains("orphaned") && lines[2].contains("\"removed\":true"), "{run:?}");
    assert_eq!(lines[3], "1", "the store that works is left alone");
}

#[test]
fn owners_are_named_as_chown_names_them() {
    let store = Store::posix();
    store.kv(["chown", ""]).fails(2, "user:group");
    store.kv(["chown", ":"]).fails(2, "user:group");
    store.kv(["chown", "no-such-user-here"]).fails(2, "no-such-user-here");
    store.kv(["chmod", "0999"]).fails(2, "octal");
    let own = Uid::current().to_string();
    let changed = store.kv(["--format", "json", "chown", &own]).exits(0).json();
    assert_eq!(changed["uid"], Uid::current().as_raw());
}
