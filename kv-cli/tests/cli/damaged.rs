//! `check --repair` and `salvage`, on stores whose bytes were damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::actor::Actor;
use crate::harness::{Run, Store, bare, finish, program_for_all, run_as};

/// A file that holds a store, at rest.
struct Bytes(File);

impl Bytes {
    fn of(store: &Store) -> Bytes {
        Bytes::at(store.path())
    }

    fn at(path: impl AsRef<Path>) -> Bytes {
        Bytes(File::options().read(true).write(true).open(path).expect("the file"))
    }

    /// Of a store in POSIX shared memory.
    fn posix(store: &Store) -> Bytes {
        Bytes::at(format!("/dev/shm/cistern.{}", store.spec.trim_start_matches("posix:")))
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, at).expect("within the file");
        u64::from_le_bytes(word)
    }

    fn set(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_le_bytes(), at).expect("within the file");
    }

    fn clear(&self, at: u64, bytes: u64) {
        self.0.write_all_at(&vec![0; bytes as usize], at).expect("within the file");
    }

    fn extent_bytes(&self) -> u64 {
        self.word(256)
    }

    /// Offsets of the extents in a state.
    fn extents_in(&self, state: u64) -> Vec<u64> {
        let table = self.word(240);
        let all = 0..self.word(248);
        let is_in = |extent: &u64| self.word(table + 64 * extent) >> 60 == state;
        all.filter(is_in).map(|extent| self.word(304) + extent * self.extent_bytes()).collect()
    }

    /// Offsets of the buckets.
    fn buckets(&self) -> Vec<u64> {
        let first = 64 * self.word(self.word(272));
        (0..self.word(512) & ((1 << 40) - 1)).map(|bucket| first + 64 * bucket).collect()
    }
}

/// A store with values of each kind, and some that were deleted or overwritten.
fn filled() -> Store {
    let store = Store::file();
    let lines: String = (0..500)
        .map(|i| format!("{{\"key\":\"key{i}\",\"value\":\"{}\"}}\n", "v".repeat(i % 300)))
        .collect();
    store.kv_with(["load", "-"], lines.as_bytes()).ends(0);
    let large = "large ".repeat(40_000);
    store.kv_with(["put", "large", "-"], large.as_bytes()).exits(0);
    store.kv(["put", "soon", "gone", "--ttl", "1h"]).exits(0);
    store.kv(["incr", "count", "41"]).exits(0);
    store.kv(["put", "key7", "another"]).exits(0);
    store.kv(["del", "key1", "key2", "key3"]).exits(0);
    store.kv(["namespace", "create", "own", "--default-ttl", "2h"]).exits(0);
    store.kv(["-n", "own", "put", "key7", "of its own"]).exits(0);
    store
}

/// What `dump` says of a store: values by key.
fn dump(store: &Store, namespace: Option<&str>) -> BTreeMap<String, Value> {
    let args = namespace.map_or(vec!["dump"], |name| vec!["-n", name, "dump"]);
    let run = store.kv(args).exits(0);
    let entries = run.lines().into_iter().map(|line| {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let key = entry["key"].as_str().expect("a key").to_owned();
        (key, entry["value"].clone())
    });
    entries.collect()
}

/// A new store with what is saved of another one, and the report.
#[track_caller]
fn salvaged(source: &Store, more: &[&str]) -> (Store, Value) {
    let target = Store::unmade();
    let args = ["salvage", &source.spec, &target.spec, "--format", "json"];
    let mut command = bare();
    command.args(args).args(more);
    let report = finish(command, b"").ends(0).json();
    target.is_clean();
    (target, report)
}

#[test]
fn what_follows_from_the_slots_is_mended() {
    let store = filled();
    let before = (dump(&store, None), dump(&store, Some("own")));
    let bytes = Bytes::of(&store);
    for bucket in bytes.buckets() {
        bytes.set(bucket, 0x0123_4567_89AB_CDEF);
    }
    let table = bytes.word(240);
    for extent in
        (0..bytes.word(248)).filter(|e| [2, 3].contains(&(bytes.word(table + 64 * e) >> 60)))
    {
        bytes.set(table + 64 * extent, 0);
    }
    store.kv(["check"]).fails(6, "kv-cli check --repair mends what it can");
    let report = store.kv(["check", "--repair", "--format", "json"]).exits(0).json();
    assert_eq!((&report["clean"], &report["repair"]["dropped"]), (&true.into(), &0.into()));
    assert!(report["repair"]["tags"].as_u64() > Some(100), "{report}");
    assert!(report["repair"]["extents"].as_u64() > Some(0), "{report}");
    assert_eq!((dump(&store, None), dump(&store, Some("own"))), before);
    store.kv(["put", "after", "it"]).exits(0);
    let again = store.kv(["check", "--repair"]).exits(0);
    assert!(again.text().starts_with("nothing had to be mended\n"), "{again:?}");
    assert!(again.text().ends_with("clean\n"), "{again:?}");
}

#[test]
fn what_is_dropped_is_named() {
    let store = filled();
    let mut before = dump(&store, None);
    let bytes = Bytes::of(&store);
    let slots = bytes.buckets().into_iter().map(|bucket| bucket + 8);
    let slot = slots.into_iter().find(|at| bytes.word(*at) != 0).expect("an item");
    bytes.set(slot, bytes.word(slot) ^ 1 << 45);
    store.kv(["check"]).exits(6);
    let damaged = std::fs::read(store.path()).expect("the store");
    store.kv(["check", "--repair"]).fails(6, "--max-loss 1 drops them");
    let dry = store.kv(["check", "--repair", "--dry-run"]).exits(6);
    assert!(dry.text().contains("slots to be dropped"), "{dry:?}");
    assert_eq!(dump(&store, None).len(), 498 + 2 - 1, "nothing was done");
    assert_eq!(bytes.word(slot).to_le_bytes(), damaged[slot as usize..][..8]);
    store.kv(["check", "--max-loss", "1"]).fails(2, "--repair");
    let run = store.kv(["check", "--repair", "--max-loss", "1"]);
    let run = run.fails(6, "is sound again, but 1 item was lost");
    assert!(run.text().contains("slots dropped"), "{run:?}");
    assert!(run.text().contains("dropped: line "), "{run:?}");
    let after = dump(&store, None);
    before.retain(|key, value| after.get(key) == Some(value));
    assert_eq!(before, after);
    assert_eq!(after.len(), 498 + 2 - 1);
}

#[test]
fn a_damaged_version_is_saved_if_the_size_of_extents_is_told() {
    let store = filled();
    let before = dump(&store, None);
    let bytes = Bytes::of(&store);
    let size = bytes.extent_bytes().to_string();
    bytes.set(0, bytes.word(0) ^ 1 << 59);
    let target = Store::unmade();
    let mut command = bare();
    command.args(["salvage", &store.spec, &target.spec]);
    finish(command, b"").fails(6, "--source-extent-size");
    let (saved, _) = salvaged(&store, &["--source-extent-size", &size]);
    let saved = dump(&saved, None);
    assert!(before.iter().all(|(key, value)| saved.get(key) == Some(value)));
}

/// One wrong word does not cost what rests on it.
#[test]
fn a_generation_is_restored() {
    let store = filled();
    let before = (dump(&store, None), dump(&store, Some("own")));
    let bytes = Bytes::of(&store);
    let (extents, generations) = (bytes.word(240), bytes.word(264));
    let sealed = (0..bytes.word(248)).find(|e| bytes.word(extents + 64 * e) >> 60 == 3);
    bytes.set(generations + 8 * sealed.expect("a full extent"), 0);
    assert_ne!((dump(&store, None), dump(&store, Some("own"))), before);
    let run = store.kv(["check", "--repair"]).exits(0);
    assert!(run.text().contains("restored: extent "), "{run:?}");
    assert_eq!((dump(&store, None), dump(&store, Some("own"))), before);
}

/// Processes repair one store at once, and some are killed.
#[test]
fn who_repairs_may_be_killed() {
    for round in 0..8 {
        let store = filled();
        let before = (dump(&store, None), dump(&store, Some("own")));
        let bytes = Bytes::of(&store);
        for bucket in bytes.buckets() {
            bytes.set(bucket, 0x0123_4567_89AB_CDEF);
        }
        let (extents, generations) = (bytes.word(240), bytes.word(264));
        for extent in (0..bytes.word(248)).filter(|e| bytes.word(extents + 64 * e) >> 60 == 3) {
            bytes.set(generations + 8 * extent, extent % 2);
        }
        let repair = || {
            let mut command = store.command(["check", "--repair"]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("kv-cli")
        };
        let mut repairs = [repair(), repair(), repair()];
        for (number, child) in repairs.iter_mut().enumerate() {
            std::thread::sleep(Duration::from_micros(700 * (round + 1) * (number as u64 + 1)));
            if number < 2 {
                child.kill().expect("a living child");
            }
        }
        for child in &mut repairs {
            child.wait().expect("it ends");
        }
        store.kv(["check", "--repair"]).exits(0);
        assert_eq!((dump(&store, None), dump(&store, Some("own"))), before, "round {round}");
    }
}

#[test]
fn what_slots_do_not_tell_is_refused() {
    let store = filled();
    Bytes::of(&store).set(512, Bytes::of(&store).word(512) / 2);
    store.kv(["check", "--repair"]).fails(6, "kv-cli salvage saves");
}

#[test]
fn a_repair_needs_the_right_to_write() {
    let (_directory, program) = program_for_all();
    let store = Store::posix();
    store.kv(["chmod", "0644"]).exits(0);
    run_as(&program, 65_534, 65_534, &store.spec, &["check"]).exits(0);
    run_as(&program, 65_534, 65_534, &store.spec, &["check", "--repair"]).fails(4, "writing");
}

#[test]
fn what_the_index_leads_to_is_saved_without_the_superblock() {
    let store = filled();
    let (before, own) = (dump(&store, None), dump(&store, Some("own")));
    let bytes = Bytes::of(&store);
    // Everything in it that changes.
    bytes.clear(512, 4096 - 512);
    store.kv(["get", "key7"]).exits(6);
    let (target, report) = salvaged(&store, &[]);
    let mut after = dump(&target, None);
    for deleted in ["key1", "key2", "key3"] {
        after.remove(deleted);
    }
    assert_eq!(after, before, "{report}");
    assert_eq!(dump(&target, Some("own")), own);
    assert_eq!(report["unlisted"], 3, "{report}");
    assert_eq!(report["verified"], true);
    let ttl: u64 = target.kv(["ttl", "soon"]).exits(0).text().trim().parse().expect("a number");
    assert!((3_000_000..=3_600_000).contains(&ttl), "{ttl} ms");
}

#[test]
fn a_store_of_each_backing_is_saved() {
    for store in Store::each() {
        store.kv(["put", "key", "value"]).exits(0);
        let (target, report) = salvaged(&store, &["--mode", "cache", "--size", "8MiB"]);
        assert_eq!(report["items"], 1, "{report}");
        assert_eq!(target.kv(["get", "key", "--format", "raw"]).exits(0).text(), "value");
        assert_eq!(target.kv(["info", "--format", "json"]).exits(0).json()["mode"], "cache");
    }
}

#[test]
fn a_file_that_was_not_closed_before_a_reboot_is_saved() {
    let store = filled();
    let before = dump(&store, None);
    let bytes = Bytes::of(&store);
    // Another boot, and no mark of the last writer that closed.
    bytes.set(648, 1);
    bytes.set(712, bytes.word(712) & !1);
    store.kv(["get", "key7"]).fails(6, "kv-cli salvage");
    let (target, _) = salvaged(&store, &[]);
    let mut after = dump(&target, None);
    after.retain(|key, _| !["key1", "key2", "key3"].contains(&key.as_str()));
    assert_eq!(after, before);
}

#[test]
fn what_is_whole_is_saved_without_the_index() {
    let store = filled();
    let (before, own) = (dump(&store, None), dump(&store, Some("own")));
    let bytes = Bytes::of(&store);
    for extent in [6, 7].into_iter().flat_map(|state| bytes.extents_in(state)) {
        bytes.clear(extent, bytes.extent_bytes());
    }
    let (target, report) = salvaged(&store, &[]);
    assert_eq!(report["slots"], 0, "{report}");
    let after = dump(&target, None);
    for (key, value) in &before {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    assert_eq!(after.len(), before.len() + 3, "{report}");
    assert_eq!(dump(&target, Some("own")), own);
}

#[test]
fn torn_items_stay_behind() {
    let store = filled();
    let before = dump(&store, None);
    let bytes = Bytes::of(&store);
    let mut torn = 0;
    for bucket in bytes.buckets() {
        let slot = bytes.word(bucket + 8);
        if slot != 0 && slot >> 63 == 0 && torn < 5 {
            // Its key.
            let at = 8 * (slot & ((1 << 38) - 1)) + 24;
            bytes.set(at, bytes.word(at) ^ 1);
            torn += 1;
        }
    }
    assert_eq!(torn, 5);
    let (target, report) = salvaged(&store, &[]);
    assert!(report["torn"].as_u64() >= Some(5), "{report}");
    let after = dump(&target, None);
    assert!(after.iter().all(|(key, value)| {
        before.get(key) == Some(value) || ["key1", "key2", "key3", "key7"].contains(&key.as_str())
    }));
    assert!(after.len() >= before.len() - 5, "{report}");
}

#[test]
fn a_store_without_a_superblock_needs_the_size_of_its_extents() {
    let store = filled();
    let before = dump(&store, None);
    let bytes = Bytes::of(&store);
    let extent_bytes = bytes.extent_bytes().to_string();
    bytes.clear(0, 4096);
    let target = Store::unmade();
    let run = |more: &[&str]| {
        let mut command = bare();
        command.args(["salvage", &store.spec, &target.spec]).args(more);
        finish(command, b"")
    };
    run(&[]).fails(6, "--source-extent-size");
    for size in ["3000", "2KiB", "2MiB"] {
        run(&["--source-extent-size", size]).fails(2, "power of two from 4 KiB to 1 MiB");
    }
    let run = run(&["--source-extent-size", &extent_bytes]).ends(0);
    assert!(run.stderr.contains("no checksums that can be verified"), "{run:?}");
    let after = dump(&target, None);
    for (key, value) in before.iter().filter(|(key, _)| *key != "key7") {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    // What lies before the extents looks like no item: what is there more was deleted.
    let deleted = ["key1", "key2", "key3"];
    assert!(after.keys().all(|key| before.contains_key(key) || deleted.contains(&&**key)));
    assert_eq!(dump(&target, Some("salvaged-1")).len(), 1);
}

#[test]
fn a_number_in_a_value_is_not_where_the_arena_begins() {
    let store = filled();
    let bytes = Bytes::of(&store);
    let (arena, size) = (bytes.word(304), bytes.extent_bytes());
    for number in 0..128 {
        // The address of an extent behind it, at each alignment.
        let line = (arena + (10 + number / 4) * size) / 64;
        let key = format!("number{number:03}");
        let value = [&b"padding"[..(number % 8) as usize], &line.to_le_bytes()[..]].concat();
        store.kv_with(["put", &key, "-"], &value).exits(0);
    }
    let before = dump(&store, None);
    bytes.clear(0, arena);
    let (target, _) = salvaged(&store, &["--source-extent-size", &size.to_string()]);
    let after = dump(&target, None);
    for (key, value) in before.iter().filter(|(key, _)| *key != "key7") {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
}

#[test]
fn salvage_makes_a_new_store_or_none() {
    let (source, target) = (filled(), Store::posix());
    let run = |source: &str, target: &str| {
        let mut command = bare();
        command.args(["salvage", source, target]);
        finish(command, b"")
    };
    run(&source.spec, &target.spec).fails(1, "exists");
    let unmade = Store::unmade();
    run(&unmade.spec, &unmade.spec).exits(3);
    run(&target.spec, &unmade.spec).fails(6, "no whole item");
    unmade.kv(["info"]).exits(3);
    source.kv(["salvage", "--store", "posix:x", "a", "b"]).fails(2, "leave --store out");
}

/// A run of `salvage` without a store of its own.
#[track_caller]
fn salvage(args: &[&str]) -> Run {
    let mut command = bare();
    command.arg("salvage").args(args);
    finish(command, b"")
}

#[test]
fn a_store_that_lost_its_format_word_is_no_leak() {
    for word in [0, 77] {
        for store in [Store::posix(), Store::file()] {
            store.kv(["put", "key", "value"]).exits(0);
            let is_posix = store.spec.starts_with("posix:");
            let bytes = if is_posix { Bytes::posix(&store) } else { Bytes::of(&store) };
            bytes.set(0, word);
            for command in [&["get", "key"][..], &["put", "key", "v"], &["info"]] {
                let said = store.kv(command).fails(6, "kv-cli salvage").stderr;
                assert!(!said.contains("make it anew"), "{said}");
            }
            let leaks = store.kv(["gc", "--dry-run"]).exits(0);
            assert!(!leaks.text().contains(&store.spec), "{leaks:?}");
            let (target, report) = salvaged(&store, &[]);
            assert_eq!(report["items"], 1, "{report}");
            assert_eq!(target.kv(["get", "key", "--format", "raw"]).exits(0).text(), "value");
        }
    }
}

#[test]
fn a_store_without_its_superblock_is_no_leak() {
    let store = Store::posix();
    store.kv(["put", "key", "value"]).exits(0);
    let bytes = Bytes::posix(&store);
    let extent_bytes = bytes.extent_bytes().to_string();
    bytes.clear(0, 4096);
    store.kv(["get", "key"]).fails(6, "kv-cli salvage");
    let leaks = store.kv(["gc", "--dry-run"]).exits(0);
    assert!(!leaks.text().contains(&store.spec), "{leaks:?}");
    let (target, _) = salvaged(&store, &["--source-extent-size", &extent_bytes]);
    assert_eq!(target.kv(["get", "key", "--format", "raw"]).exits(0).text(), "value");
}

#[test]
fn what_is_left_of_a_truncated_store_is_advised_to_be_saved() {
    let store = filled();
    let bytes = Bytes::of(&store);
    bytes.0.set_len(bytes.word(56) - (1 << 20)).expect("cuts");
    let said = store.kv(["get", "key7"]).fails(6, "truncated").stderr;
    let (save, remove) = (said.find("kv-cli salvage"), said.find("remove"));
    assert!(save.is_some() && save < remove, "{said}");
    let (_, report) = salvaged(&store, &[]);
    assert!(report["items"].as_u64() > Some(400), "{report}");
    bytes.0.set_len(100).expect("cuts");
    let said = store.kv(["get", "key7"]).fails(6, "truncated").stderr;
    assert!(!said.contains("kv-cli salvage"), "there is nothing left: {said}");
}

#[test]
fn nobody_is_advised_to_remove_what_is_no_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "root:x:0:0:root:/root:/bin/bash\n";
    for (name, bytes) in [
        ("short", text.repeat(40)),
        ("long", text.repeat(1000)),
        ("zeros", "\0".repeat(9000)),
        ("zeros-first", format!("{}{}", "\0".repeat(512), text.repeat(1000))),
        ("empty", String::new()),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        let spec = format!("file:{}", path.display());
        let target = Store::unmade();
        for command in
            [&["get", "k"][..], &["put", "k", "v"], &["info"], &["check"], &["salvage", &spec]]
        {
            let is_salvage = command[0] == "salvage";
            let mut run = bare();
            run.args(command);
            run.args(if is_salvage {
                [target.spec.as_str(), "--in-use"]
            } else {
                ["--store", &spec]
            });
            let said = finish(run, b"").fails(6, name).stderr;
            let advice = ["destroy", "make it anew", "remove it", "kv-cli salvage)"];
            assert!(advice.iter().all(|advice| !said.contains(advice)), "{command:?}: {said}");
            let told = ["no Cistern store", "no store", "if it is a store"];
            assert!(told.iter().any(|told| said.contains(told)), "{command:?}: {said}");
        }
        target.kv(["info"]).exits(3);
    }
}

#[test]
fn a_source_that_somebody_writes_to_is_refused() {
    let store = Store::posix();
    let mut writer = Actor::on(&store.spec);
    store.kv(["put", "key", "value"]).exits(0);
    let target = Store::unmade();
    let run = salvage(&[&store.spec, &target.spec]).fails(4, "--in-use");
    assert!(run.stderr.contains(&format!("process {}", writer.pid())), "{run:?}");
    target.kv(["info"]).exits(3);
    salvage(&[&store.spec, &target.spec, "--in-use"]).ends(0);
    target.kv(["rm", "--yes"]).exits(0);
    // One that was killed writes nothing any more.
    writer.kill();
    salvage(&[&store.spec, &target.spec]).ends(0);
    assert_eq!(target.kv(["get", "key", "--format", "raw"]).exits(0).text(), "value");
}

#[test]
fn a_store_has_its_name_when_it_is_whole() {
    let source = filled();
    for number in 0..8 {
        source.kv_with(["put", &format!("more{number}"), "-"], &[b'm'; 100_000]).exits(0);
    }
    for target in [Store::unmade(), Store::unmade_system_v()] {
        let part = format!("{}.salvaging", target.spec);
        // As one that was killed leaves it.
        let of_part = |command: &[&str]| {
            let mut run = bare();
            run.args(command).args(["--store", &part]);
            finish(run, b"")
        };
        of_part(&["create", "--size", "1MiB"]).exits(0);
        let run = salvage(&[&source.spec, &target.spec]);
        run.fails(1, &format!("kv-cli rm --store {part}"));
        target.kv(["info"]).exits(3);
        of_part(&["rm", "--yes"]).exits(0);
        // One that does not take all leaves nothing.
        salvage(&[&source.spec, &target.spec, "--size", "700KiB"]).fails(5, "larger --size");
        target.kv(["info"]).exits(3);
        of_part(&["info"]).exits(3);
        salvage(&[&source.spec, &target.spec]).ends(0);
        of_part(&["info"]).exits(3);
        assert_eq!(dump(&target, None)["key9"], "v".repeat(9));
        target.is_clean();
        salvage(&[&source.spec, &target.spec]).fails(1, "exists");
    }
    let target = Store::unmade_keyed();
    salvage(&[&source.spec, &target.spec, "--permissions", "0640"]).ends(0);
    assert_eq!(dump(&target, None)["key9"], "v".repeat(9));
    let listed = store_client::list().expect("a list");
    let listed = listed.iter().find(|one| one.name == target.spec).expect("it is there");
    assert_eq!(listed.permissions, 0o640);
}

#[test]
fn a_new_store_is_made_like_its_source() {
    let source = Store::unmade();
    let like =
        ["--hash", "siphash", "--guard", "sysv", "--mode", "cache", "--extent-size", "32KiB"];
    let size = ["create", "--size", "16MiB", "--permissions", "0644"];
    source.kv(size.into_iter().chain(like)).exits(0);
    source.kv(["put", "key", "value"]).exits(0);
    let (target, _) = salvaged(&source, &[]);
    let told = |store: &Store| {
        let info = store.kv(["info", "--format", "json"]).exits(0).json();
        let listed = store_client::list().expect("a list");
        let permissions = listed.iter().find(|one| one.name == store.spec).map(|it| it.permissions);
        let said = ["mode", "hash", "guard", "extent_bytes"].map(|name| info[name].clone());
        assert!(said.iter().all(|one| !one.is_null()), "{info}");
        (said, permissions)
    };
    assert_eq!(told(&target), told(&source));
    let other = ["--hash", "rapidhash", "--guard", "futex", "--mode", "store", "--extent-size"];
    let other: Vec<&str> = other.into_iter().chain(["64KiB", "--permissions", "0600"]).collect();
    let (target, _) = salvaged(&source, &other);
    let (info, permissions) = told(&target);
    assert_eq!(permissions, Some(0o600));
    let (of_source, _) = told(&source);
    assert!(info.iter().zip(&of_source).all(|(one, other)| one != other), "{info:?}");
}
