//! Stores as a whole: made, listed, described, checked, removed; and those that are broken.

use std::os::unix::process::CommandExt;

use nix::unistd::Uid;

use crate::harness::{Store, bare, finish, program_for_all};

#[test]
fn create_says_what_it_made_and_only_once() {
    let store = Store::unmade();
    let run = store.kv(["create", "--size", "16MiB", "--permissions", "0640"]).exits(0);
    assert!(run.text().contains(&store.spec) && run.text().contains("0640"), "{}", run.text());
    store.kv(["put", "k", "v"]).exits(0);
    store.kv(["create", "--size", "16MiB"]).fails(1, "exists already");
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");

    let other = Store::unmade();
    let args = ["create", "--size", "32MiB", "--items", "1000", "--format", "json"];
    let made = other.kv(args).exits(0).json();
    assert_eq!(made["permissions"], "0600");
    assert_eq!(made["mode"], "store");
    assert!(made["size"].as_u64().is_some_and(|size| size <= 32 << 20), "{made}");
    assert!(made["extents"].as_u64().is_some_and(|extents| extents > 0), "{made}");
}

#[test]
fn refused_options_make_no_store() {
    let store = Store::unmade();
    store.kv(["create", "--size", "1"]).fails(2, "");
    store.kv(["create", "--group", "no-such-group-here"]).fails(2, "no-such-group-here");
    store.kv(["get", "k"]).fails(3, "");
}

#[test]
fn rm_asks_or_needs_yes() {
    for store in Store::each() {
        store.kv(["put", "k", "v"]).exits(0);
        store.kv(["rm"]).fails(2, "--yes");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
        store.kv(["rm", "--yes"]).exits(0);
        store.kv(["get", "k"]).fails(3, "kv-cli create");
        store.kv(["rm", "--yes"]).fails(3, "");
    }
}

#[test]
fn ls_shows_posix_stores() {
    let store = Store::posix();
    let names = store.kv(["--format", "raw", "ls"]).exits(0);
    assert!(names.lines().contains(&store.spec.as_str()));
    let rows = store.kv(["--format", "json", "ls"]).exits(0).json();
    let rows = rows.as_array().expect("an array");
    let row = rows.iter().find(|row| row["store"] == store.spec.as_str()).expect("its row");
    assert_eq!(row["permissions"], "0600");
    assert_eq!(row["state"], "ready");
    assert_eq!(row["uid"], Uid::current().as_raw());
    assert!(row["size"].as_u64().is_some_and(|size| size > 0));
    let table = store.kv(["ls"]).exits(0);
    assert!(table.text().contains("resident") && table.text().contains(&store.spec));
    // It needs no store of its own.
    let mut command = bare();
    command.env("KV_STORE", "nonsense").args(["ls"]);
    finish(command, b"").exits(0);
}

#[test]
fn info_stats_and_check() {
    for store in Store::each() {
        for number in 0..100 {
            store.kv(["put", &format!("key-{number}"), "value"]).exits(0);
        }
        store.kv(["del", "key-0"]).exits(0);
        let info = store.kv(["--format", "json", "info"]).exits(0).json();
        assert_eq!(info["key_bytes_max"], 65_535);
        assert_eq!(info["mode"], "store");
        assert!(info["created"].as_str().is_some_and(|date| date.starts_with("20")));
        let stats = store.kv(["--format", "json", "stats"]).exits(0).json();
        assert_eq!(stats["items"], 99);
        assert!(stats["live_bytes"].as_u64().is_some_and(|bytes| bytes >= 99 * 10));
        let check = store.kv(["--format", "json", "check"]).exits(0).json();
        assert_eq!((&check["clean"], &check["items"]), (&true.into(), &99.into()));
        assert!(store.kv(["info"]).exits(0).text().contains("buckets"));
        assert!(store.kv(["stats"]).exits(0).text().contains("99"));
        assert!(store.kv(["check"]).exits(0).text().ends_with("clean\n"));
    }
}

#[test]
fn formats_that_make_no_sense_are_wrong_usage() {
    let store = Store::posix();
    store.kv(["--format", "raw", "stats"]).fails(2, "raw");
    store.kv(["--format", "table", "dump"]).fails(2, "table");
}

#[test]
fn broken_files_are_refused() {
    let store = Store::file();
    store.kv(["put", "k", "v"]).exits(0);
    let whole = std::fs::read(store.path()).expect("reads");
    let write = |bytes: &[u8]| std::fs::write(store.path(), bytes).expect("writes");

    write(&whole[..whole.len() / 2]);
    store.kv(["get", "k"]).fails(6, "");
    store.kv(["put", "k", "w"]).fails(6, "");
    let after = std::fs::read(store.path()).expect("reads");
    assert!(after == whole[..whole.len() / 2], "a refused store is not changed");

    write(&[b'x'; 1 << 20]);
    store.kv(["get", "k"]).fails(6, "");
    write(b"");
    store.kv(["get", "k"]).fails(6, "");
    write(b"key,value\n");
    store.kv(["get", "k"]).fails(6, "");

    write(&whole);
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
}

#[test]
fn another_format_version_is_refused_and_left_alone() {
    let store = Store::file();
    store.kv(["put", "k", "v"]).exits(0);
    let mut bytes = std::fs::read(store.path()).expect("reads");
    assert_eq!(&bytes[..8], b"CISTERN\x01");
    bytes[7] = 9;
    std::fs::write(store.path(), &bytes).expect("writes");
    let commands: [&[&str]; 8] = [
        &["get", "k"],
        &["put", "k", "w"],
        &["del", "k"],
        &["scan"],
        &["dump"],
        &["info"],
        &["check"],
        &["bench", "--seconds", "1"],
    ];
    for command in commands {
        store.kv(command).fails(6, "has format version 9, this program reads version 1");
    }
    assert!(std::fs::read(store.path()).expect("reads") == bytes, "it is as it was");
    // It can be removed all the same.
    store.kv(["rm", "--yes"]).exits(0);
    assert!(!store.path().exists());
}

#[test]
fn a_file_that_is_no_store_is_not_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let notes = directory.path().join("notes.txt");
    std::fs::write(&notes, "dear to me\n").expect("writes");
    for path in [notes.as_path(), directory.path()] {
        let mut command = bare();
        command.args(["rm", "--yes", "--store", &format!("file:{}", path.display())]);
        finish(command, b"").fails(6, "was not removed");
    }
    assert_eq!(std::fs::read(&notes).expect("reads"), b"dear to me\n");
    // Nor does `create` write over it.
    let mut command = bare();
    command.args(["create", "--store", &format!("file:{}", notes.display())]);
    finish(command, b"").fails(1, "exists already");
    assert_eq!(std::fs::read(&notes).expect("reads"), b"dear to me\n");
}

#[test]
fn what_this_version_lacks_is_refused_by_name() {
    for args in [&["create"][..], &["rm", "--yes"]] {
        let mut command = bare();
        command.env("KV_STORE", "fd:999").args(args);
        finish(command, b"").fails(2, "not supported by this version");
    }
    let store = Store::unmade();
    store.kv(["create", "--mode", "cache"]).fails(2, "--mode store");
    store.kv(["info"]).fails(3, "");
}

#[test]
fn readers_of_another_user_read_and_do_not_write() {
    if !Uid::current().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let store = Store::unmade();
    store.kv(["create", "--size", "16MiB", "--permissions", "0644"]).exits(0);
    store.kv(["put", "k", "v"]).exits(0);
    let secret = Store::posix();
    secret.kv(["put", "k", "v"]).exits(0);

    let (_directory, program) = program_for_all();
    let as_nobody = |store: &Store, args: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.uid(65_534).gid(65_534).env("KV_STORE", &store.spec).args(args);
        finish(command, b"")
    };
    assert_eq!(as_nobody(&store, &["get", "k"]).exits(0).stdout, b"v");
    as_nobody(&store, &["stats"]).exits(0);
    as_nobody(&store, &["put", "k", "w"]).fails(4, "permission");
    as_nobody(&store, &["del", "k"]).fails(4, "permission");
    as_nobody(&store, &["bench", "--seconds", "1"]).fails(4, "permission");
    as_nobody(&secret, &["get", "k"]).fails(4, "permission");
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
}
