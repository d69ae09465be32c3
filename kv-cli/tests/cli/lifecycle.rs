//! What processes do with a store between its making and its end, on each backing, and whether the
//! kernel sees the same. `docs/LIFECYCLE.md` has a row for each of these.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use store_client::{Reader, Spec, Writer};

use crate::actor::Actor;
use crate::harness::{KV, Run, Store, finish, program_for_all, run_as};
use crate::kernel::{Object, mapped};

fn spec(store: &Store) -> Spec {
    store.spec.parse().expect("a spec")
}

/// The clients that the program shows: process ids with their states.
#[track_caller]
fn clients(store: &Store) -> Vec<(u64, String)> {
    let info = store.kv(["info", "--format", "json"]).exits(0).json();
    let clients = info["clients"].as_array().expect("a list");
    let client = |client: &serde_json::Value| {
        (client["pid"].as_u64().expect("a number"), client["state"].as_str().expect("text").into())
    };
    clients.iter().map(client).collect()
}

/// Expects that the kernel counts so many mappings, where it counts them. Who lists all stores, as
/// other tests do, attaches each for a moment.
#[track_caller]
fn counts(object: &Object, number: u32) {
    until("the kernel counts it", || object.attached().is_none_or(|attached| attached == number));
}

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "it never was so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn create_leaves_an_object_and_nobody_attached() {
    for store in Store::each() {
        let object = Object::of(&store);
        assert!(object.exists() && !object.is_locked(), "{object:?}");
        counts(&object, 0);
        assert_eq!(clients(&store), []);
    }
}

#[test]
fn two_processes_read_the_same_at_different_addresses() {
    for store in Store::each() {
        let object = Object::of(&store);
        let here = Reader::attach(&spec(&store)).expect("the store");
        let info = here.info().expect("info");
        let mut there = Actor::elsewhere(&store.spec, info.address, info.max_segment_bytes);
        assert_eq!(there.ask("put k from-there"), "done");
        assert_eq!(here.get(b"k").expect("a get").as_deref(), Some(&b"from-there"[..]));
        assert_eq!(there.ask("get k"), "from-there");
        let address: u64 = there.ask("address").parse().expect("a number");
        assert_ne!(address, info.address, "{}", store.spec);
        assert_eq!(object.mapped_by(there.pid()), Some(address));
        let own = std::process::id();
        until("it is mapped here", || object.mapped_by(own) == Some(info.address));
        counts(&object, 2);
        // Of a writer, where there is a descriptor: by it others tell whether it executed another
        // program.
        assert_eq!(object.is_locked(), !store.spec.starts_with("sysv:"), "{}", store.spec);
    }
}

#[test]
fn detach_ends_the_mapping_and_the_entry() {
    for store in Store::each() {
        let object = Object::of(&store);
        let mut actor = Actor::on(&store.spec);
        assert_eq!(clients(&store), [(actor.pid().into(), "alive".to_owned())]);
        assert_eq!(actor.ask("detach"), "done");
        assert_eq!(object.mapped_by(actor.pid()), None);
        counts(&object, 0);
        assert_eq!(clients(&store), []);
        assert!(object.exists());
    }
}

#[test]
fn exec_ends_the_mapping_and_the_entry_is_reaped() {
    for store in Store::each() {
        let object = Object::of(&store);
        let mut actor = Actor::on(&store.spec);
        assert_eq!(actor.ask("put k v"), "done");
        actor.tell("exec");
        let name = format!("/proc/{}/comm", actor.pid());
        until("it is another program", || {
            std::fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
        });
        assert_eq!(object.mapped_by(actor.pid()), None);
        counts(&object, 0);
        assert_eq!(clients(&store), [(actor.pid().into(), "exec'ed".to_owned())]);
        let writer = Writer::attach(&spec(&store)).expect("the store");
        assert_eq!(writer.reap().expect("reaps").clients, 1);
        assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn a_forked_child_is_a_client_of_its_own() {
    for store in Store::each() {
        let object = Object::of(&store);
        let mut parent = Actor::on(&store.spec);
        assert_eq!(parent.ask("put k v"), "done");
        let child: u32 = parent.ask("fork").parse().expect("a process id");
        let both = [parent.pid(), child].map(|pid| (u64::from(pid), "alive".to_owned()));
        assert_eq!(clients(&store), both);
        assert_eq!(object.mapped_by(child), object.mapped_by(parent.pid()));
        counts(&object, 2);
        assert_eq!(parent.ask("get child"), child.to_string());
        assert_eq!(parent.ask("bury"), "done");
        assert_eq!(object.mapped_by(child), None);
        counts(&object, 1);
        // The child's death harms nobody: its entry is reaped, the parent goes on.
        assert_eq!(parent.ask("reap"), "1");
        assert_eq!(parent.ask("put k w"), "done");
        assert_eq!(clients(&store), [(parent.pid().into(), "alive".to_owned())]);
        store.is_clean();
    }
}

#[test]
fn the_end_of_a_process_ends_its_mapping_and_its_entry_is_reaped() {
    for store in Store::each() {
        for killed in [false, true] {
            let object = Object::of(&store);
            let mut actor = Actor::on(&store.spec);
            assert_eq!(actor.ask("put k v"), "done");
            if killed {
                actor.kill();
            } else {
                actor.tell("exit");
                actor.ended();
            }
            assert_eq!(object.mapped_by(actor.pid()), None);
            counts(&object, 0);
            assert!(object.exists() && !object.is_locked());
            assert_eq!(clients(&store), [(actor.pid().into(), "dead".to_owned())]);
            let writer = Writer::attach(&spec(&store)).expect("the store");
            assert_eq!(writer.reap().expect("reaps").clients, 1);
            assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
            drop(writer);
            assert_eq!(clients(&store), []);
            store.is_clean();
        }
    }
}

#[test]
fn a_store_that_is_deleted_while_it_is_attached_goes_with_its_last_mapping() {
    for store in Store::each() {
        let old = Object::of(&store);
        let mut actor = Actor::on(&store.spec);
        assert_eq!(actor.ask("put k old"), "done");
        store.kv(["rm", "--yes"]).exits(0);
        assert!(old.mapped_by(actor.pid()).is_some(), "mappings go on");
        assert_eq!(actor.ask("get k"), "old");
        let refused = actor.ask("put k unseen");
        assert!(refused.contains("was removed while it was attached"), "{refused}");
        store.kv(["get", "k"]).fails(3, "");
        counts(&old, 1);

        // The name is free, and what is made under it is another store.
        store.kv(["create", "--size", "16MiB", "--format", "json"]).exits(0);
        let new = Object::of(&store);
        store.kv(["put", "k", "new"]).exits(0);
        assert_eq!(actor.ask("get k"), "old");
        assert_eq!(new.mapped_by(actor.pid()), None);
        let reader = Reader::attach(&spec(&store)).expect("the new store");
        assert_eq!(reader.get(b"k").expect("a get").as_deref(), Some(&b"new"[..]));
        counts(&old, 1);
        counts(&new, 1);

        assert_eq!(actor.ask("detach"), "done");
        assert_eq!(old.mapped_by(actor.pid()), None);
        until("it is gone", || !old.exists());
        assert!(new.exists());
    }
}

#[test]
fn a_memfd_lives_as_long_as_somebody_has_it() {
    const NAME: &str = "/memfd:cistern";
    let mut maker = Actor::on("memfd");
    assert_eq!(maker.ask("put k v"), "done");
    let descriptor = format!("/proc/{}/fd/{}", maker.pid(), maker.ask("descriptor"));
    let address: u64 = maker.ask("address").parse().expect("a number");
    let mut other = Actor::elsewhere(&descriptor, address, 4 << 20);
    assert_eq!(other.ask("get k"), "v");
    let elsewhere: u64 = other.ask("address").parse().expect("a number");
    assert_ne!(address, elsewhere);
    assert_eq!(mapped(maker.pid(), NAME, None), Some(address));
    assert_eq!(mapped(other.pid(), NAME, None), Some(elsewhere));

    let child: u32 = maker.ask("fork").parse().expect("a process id");
    assert_eq!(other.ask("clients"), "3");
    assert_eq!(mapped(child, NAME, None), Some(address));
    assert_eq!(maker.ask("bury"), "done");
    assert_eq!(other.ask("reap"), "1");
    // The end of its maker takes nothing from the others.
    maker.kill();
    assert_eq!(other.ask("reap"), "1");
    assert_eq!(other.ask("get k"), "v");
    assert_eq!(other.ask("put k w"), "done");
    let again = format!("/proc/{}/fd/{}", other.pid(), other.ask("descriptor"));
    let mut third = Actor::on(&again);
    assert_eq!(third.ask("get k"), "w");
    third.tell("exec");
    until("it is mapped no more", || mapped(third.pid(), NAME, None).is_none());
    third.kill();
    assert_eq!(other.ask("reap"), "1");
    assert_eq!(other.ask("detach"), "done");
    assert_eq!(mapped(other.pid(), NAME, None), None);
}

#[test]
fn anonymous_memory_lives_as_long_as_its_family() {
    // The name that the kernel gives to such memory.
    const NAME: &str = "/dev/zero";
    let mut maker = Actor::on("anonymous");
    let address: u64 = maker.ask("address").parse().expect("a number");
    let child: u32 = maker.ask("fork").parse().expect("a process id");
    assert_eq!(maker.ask("get child"), child.to_string());
    assert_eq!(maker.ask("clients"), "2");
    // A fork maps it where its parent does, and nobody else can map it at all.
    assert_eq!(mapped(maker.pid(), NAME, None), Some(address));
    assert_eq!(mapped(child, NAME, None), Some(address));
    assert_eq!(maker.ask("bury"), "done");
    assert_eq!(maker.ask("reap"), "1");
    assert_eq!(maker.ask("put k v"), "done");
    // A child outlives its maker's mapping, with the store.
    let child: u32 = maker.ask("fork").parse().expect("a process id");
    maker.tell("exec");
    until("it is mapped no more", || mapped(maker.pid(), NAME, None).is_none());
    assert_eq!(mapped(child, NAME, None), Some(address));
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL).expect("it lives");
}

#[test]
fn owner_group_and_others_have_what_the_mode_gives_each() {
    const OWNER: u32 = 20_001;
    const GROUP: u32 = 20_002;
    const OTHER: u32 = 20_003;
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (directory, program) = program_for_all();
    let file = format!("file:{}/store.kv", directory.path().display());
    let posix = Store::unmade();
    let registered = Store::unmade_system_v();
    let keyed = Store::keyed();
    keyed.kv(["rm", "--yes"]).exits(0);
    // What may be done, of reading and writing: by the owner, by its group, by others.
    let modes = [
        ("0640", ["rw", "r", ""]),
        ("0660", ["rw", "rw", ""]),
        ("0604", ["rw", "", "r"]),
        ("0666", ["rw", "rw", "rw"]),
        ("0600", ["rw", "", ""]),
    ];
    for spec in [&posix.spec, &registered.spec, &keyed.spec, &file] {
        let root = |args: &[&str]| run_as(&program, 0, 0, spec, args).ends(0);
        root(&["create", "--size", "4MiB"]);
        root(&["put", "k", "v"]);
        root(&["chown", &format!("{OWNER}:{GROUP}")]);
        for (mode, rights) in modes {
            root(&["chmod", mode]);
            let users = [(OWNER, OWNER), (OTHER, GROUP), (OTHER, OTHER)];
            for ((uid, gid), rights) in users.into_iter().zip(rights) {
                let user = |args: &[&str]| run_as(&program, uid, gid, spec, args);
                match rights.contains('r') {
                    true => assert_eq!(user(&["get", "k"]).exits(0).stdout, b"v"),
                    false => drop(user(&["get", "k"]).fails(4, "permission")),
                }
                match rights.contains('w') {
                    true => drop(user(&["put", "k", "v"]).exits(0)),
                    false => drop(user(&["put", "k", "w"]).fails(4, "permission")),
                }
            }
        }
        root(&["rm", "--yes"]);
    }
}

/// The program in a PID namespace of its own.
fn in_pid_namespace(store: &Store, args: &[&str]) -> Run {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", KV]).args(args);
    command.env("KV_STORE", &store.spec).env("NO_COLOR", "1");
    finish(command, b"")
}

#[test]
fn a_writer_of_another_pid_namespace_is_refused_and_a_reader_is_not() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can make a PID namespace");
        return;
    }
    for store in Store::each() {
        let object = Object::of(&store);
        let mut actor = Actor::on(&store.spec);
        assert_eq!(actor.ask("put k v"), "done");
        let refused =
            in_pid_namespace(&store, &["put", "k", "w"]).fails(4, "another PID namespace");
        assert!(refused.stderr.contains(&format!("process {}", actor.pid())), "{refused:?}");
        assert!(refused.stderr.contains("attach read-only"), "{refused:?}");
        assert_eq!(in_pid_namespace(&store, &["get", "k"]).exits(0).stdout, b"v");
        counts(&object, 1);
        assert_eq!(actor.ask("put k still"), "done");
        // Once the first one is gone the other namespace may write.
        assert_eq!(actor.ask("detach"), "done");
        in_pid_namespace(&store, &["put", "k", "w"]).exits(0);
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"w");
    }
}
