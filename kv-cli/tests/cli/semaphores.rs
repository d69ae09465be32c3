//! What is left of guards that are System V semaphores, and what `gc` makes of it.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use store_client::{AttachError, Listing, Writer};

use crate::actor::Actor;
use crate::harness::{KV, Store, finish};

/// Offset in the superblock, as `docs/FORMAT.md` has it.
const GUARD_SET: u64 = 664;

/// The id in the word at an offset of a file.
fn id_at(path: &str, offset: u64) -> i32 {
    let mut word = [0; 4];
    let file = std::fs::File::open(path).expect("opens");
    file.read_exact_at(&mut word, offset).expect("reads");
    i32::try_from(u32::from_le_bytes(word)).expect("an id") - 1
}

/// The set of the store that a process has mapped.
fn set_of(actor: &mut Actor) -> i32 {
    let address: u64 = actor.ask("address").parse().expect("a number");
    id_at(&format!("/proc/{}/mem", actor.pid()), address + GUARD_SET)
}

/// Whether the kernel has a set with this id.
pub(crate) fn stands(id: i32) -> bool {
    let list = std::fs::read_to_string("/proc/sysvipc/sem").expect("System V semaphores");
    list.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some(&id.to_string()))
}

fn leak(id: i32) -> Option<Listing> {
    let name = format!("System V semaphores {id}");
    store_client::leaks().expect("a list").into_iter().find(|leak| leak.name == name)
}

/// Waits until a set counts as a leak.
#[track_caller]
fn leaked(id: i32) -> Listing {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(leak) = leak(id) {
            return leak;
        }
        assert!(Instant::now() < deadline, "it never counted as a leak");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a set that was made by now is old enough to be told as a leak.
fn grow_old() {
    std::thread::sleep(Duration::from_secs(4));
}

#[test]
fn semaphores_of_killed_clients_are_a_leak() {
    let mut families = ["memfd sysv", "anonymous sysv"].map(|store| {
        let mut maker = Actor::on(store);
        assert_eq!(maker.ask("put k v"), "done");
        let child: u32 = maker.ask("fork").parse().expect("a process id");
        let set = set_of(&mut maker);
        (maker, child, set)
    });
    grow_old();
    for (maker, _, set) in &mut families {
        assert!(leak(*set).is_none(), "two use it");
        maker.kill();
        assert!(leak(*set).is_none(), "the child uses it");
    }
    let shown = Store::unmade().kv(["gc", "--dry-run", "--format", "raw"]).exits(0);
    for (_, child, set) in families {
        let name = format!("System V semaphores {set}");
        assert!(!shown.lines().contains(&name.as_str()), "{shown:?}");
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL).expect("it lives");
        let leak = leaked(set);
        let shown = Store::unmade().kv(["gc", "--dry-run", "--format", "raw"]).exits(0);
        assert!(shown.lines().contains(&leak.name.as_str()), "{shown:?}");
        assert!(stands(set), "it was only shown");
        store_client::remove_leak(&leak).expect("it is ours");
        assert!(!stands(set));
        let again = store_client::remove_leak(&leak).expect_err("it is gone");
        assert!(matches!(again, AttachError::NotFound { .. }), "{again}");
    }
}

#[test]
fn semaphores_of_a_store_are_a_leak_once_it_has_no_name() {
    let store = Store::unmade();
    store.kv(["create", "--size", "4MiB", "--guard", "sysv", "--format", "json"]).exits(0);
    let path = format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:"));
    let first = id_at(&path, GUARD_SET);
    grow_old();
    assert!(stands(first) && leak(first).is_none(), "its store is listed");

    // As if its maker had died before it stored the id.
    let file = std::fs::File::options().write(true).open(&path).expect("opens");
    file.write_all_at(&[0; 8], GUARD_SET).expect("writes");
    let mut actor = Actor::on(&store.spec);
    assert_eq!(actor.ask("put k v"), "done");
    let second = set_of(&mut actor);
    assert_ne!(first, second);
    store_client::remove_leak(&leaked(first)).expect("it is ours");
    assert!(!stands(first) && stands(second));

    // Removed by who does not know that it is a store.
    std::fs::remove_file(&path).expect("it is ours");
    grow_old();
    assert!(leak(second).is_none(), "somebody uses it");
    actor.kill();
    store_client::remove_leak(&leaked(second)).expect("it is ours");
    assert!(!stands(second));
}

#[test]
fn semaphores_that_are_used_again_are_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = format!("{}/store", directory.path().display());
    let spec = format!("file:{path}");
    let mut create = crate::harness::bare();
    create.args(["--store", &spec, "create", "--size", "4MiB", "--guard", "sysv"]);
    finish(create, b"").exits(0);
    assert!(!stands(id_at(&path, GUARD_SET)), "they went with the last client of the file");
    let mut actor = Actor::on(&spec);
    assert_eq!(actor.ask("put k v"), "done");
    let set = set_of(&mut actor);
    actor.kill();
    let leak = leaked(set);
    let writer = Writer::attach(&spec.parse().expect("a spec")).expect("the store");
    assert_eq!(id_at(&path, GUARD_SET), set);
    let refused = store_client::remove_leak(&leak).expect_err("it is used");
    assert!(matches!(refused, AttachError::InUse { .. }), "{refused}");
    writer.put(b"k", b"w").expect("a put");
    drop(writer);
    assert!(!stands(set));
}

#[test]
fn gc_removes_semaphores_that_nobody_uses() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can make an IPC namespace");
        return;
    }
    // In a namespace of its own, so that no other test's leaks are met.
    let (used, left) = (Store::unmade(), Store::unmade());
    let script = format!(
        "set -e; export KV_STORE={}; \"$0\" create --size 4MiB --guard sysv --format json >/dev/null
         \"$0\" --store {} create --size 4MiB --guard sysv --format json >/dev/null
         rm /dev/shm/cistern.{}; ipcmk -S 12 >/dev/null; ipcs -s | grep -c 0x; sleep 4
         \"$0\" gc --dry-run --format jsonl; \"$0\" ls --format raw
         \"$0\" gc --yes --format jsonl; ipcs -s | grep -c 0x; \"$0\" put k v",
        used.spec,
        left.spec,
        left.spec.trim_start_matches("posix:"),
    );
    let mut command = Command::new("unshare");
    command.args(["--ipc", "sh", "-c", &script, KV]).env("NO_COLOR", "1");
    let run = finish(command, b"").exits(0);
    let lines = run.lines();
    let ours = |line: &&&str| line.contains("System V semaphores");
    let told: Vec<&&str> = lines.iter().filter(ours).collect();
    assert_eq!((lines[0], told.len()), ("3", 3), "{run:?}");
    assert!(
        told[0].contains("\"removed\":false") && told[2].contains("\"removed\":true"),
        "{run:?}"
    );
    assert_eq!(lines.last(), Some(&"2"), "{run:?}");
}
