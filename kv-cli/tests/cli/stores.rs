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
fn group_and_items_that_mean_nothing_are_refused() {
    let store = Store::unmade();
    store.kv(["create", "--group", "4294967295"]).fails(2, "no change");
    store.kv(["create", "--items", "0"]).fails(2, "--items");
    store.kv(["get", "k"]).fails(3, "");
    store.kv(["create", "--size", "1MiB", "--items", "1"]).exits(0);
}

#[test]
fn small_stores_work_and_too_small_ones_say_what_is_enough() {
    for size in ["200KiB", "512KiB", "1000KiB"] {
        let store = Store::unmade();
        let made = store.kv(["create", "--size", size, "--format", "json"]).exits(0).json();
        assert!(made["extents"].as_u64().is_some_and(|extents| extents >= 8), "{made}");
        store.kv_with(["put", "k", "-"], &[b'v'; 5000]).exits(0);
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, [b'v'; 5000]);
        store.is_clean();
    }
    let store = Store::unmade();
    let refused = store.kv(["create", "--size", "10KiB"]).fails(2, "bytes is the least");
    let words: Vec<&str> = refused.stderr.split_whitespace().collect();
    let bytes = words.iter().position(|word| *word == "bytes").expect("a number of bytes");
    store.kv(["create", "--size", words[bytes - 1]]).exits(0);
    store.kv(["put", "k", "v"]).exits(0);
}

#[test]
fn limits_and_sizes_are_shown_to_the_byte() {
    let store = Store::unmade();
    let made = store.kv(["create", "--size", "16MiB"]).exits(0);
    let info = store.kv(["info"]).exits(0);
    let json = store.kv(["--format", "json", "info"]).exits(0).json();
    let size = json["segment_bytes"].as_u64().expect("a size");
    let grouped = |number: u64| {
        let (millions, rest) = (number / 1_000_000, number % 1_000_000);
        format!("{millions},{:03},{:03} bytes", rest / 1000, rest % 1000)
    };
    for text in [made.text(), info.text()] {
        let key = json["key_bytes_max"].as_u64().expect("a limit");
        assert!(text.contains(&format!("{},{:03} bytes", key / 1000, key % 1000)), "{text}");
        assert!(text.contains(&grouped(size)), "{text}");
    }
    let help = store.kv(["create", "--help"]).exits(0);
    assert!(help.text().contains("1M is") && help.text().contains("comes out smaller"));
}

#[test]
fn what_is_in_the_way_is_named_and_only_a_store_is_to_be_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let run = |path: &std::path::Path, args: &[&str]| {
        let mut command = bare();
        command.args(args).args(["--store", &format!("file:{}", path.display())]);
        finish(command, b"")
    };
    let foreign = |path: &std::path::Path, kind: &str| {
        let said = run(path, &["create"]).fails(1, kind).stderr;
        assert!(said.contains("exists already") && !said.contains("rm"), "{said}");
    };
    foreign(directory.path(), "a directory");
    run(directory.path(), &["get", "k"]).fails(6, "is a directory, no store");
    run(directory.path(), &["put", "k", "v"]).fails(6, "is a directory, no store");
    std::fs::write(place("notes"), "dear to me\n").expect("writes");
    foreign(&place("notes"), "a file of another kind");
    run(&place("store"), &["create", "--size", "1MiB"]).exits(0);
    run(&place("store"), &["put", "k", "v"]).exits(0);
    run(&place("store"), &["create"]).fails(1, "kv-cli rm");

    std::os::unix::fs::symlink("store", place("link")).expect("links");
    foreign(&place("link"), "a symbolic link");
    let target = std::fs::canonicalize(place("store")).expect("a path");
    for command in [&["get", "k"][..], &["put", "k", "w"], &["info"], &["rm", "--yes"]] {
        let said = run(&place("link"), command).fails(6, "symbolic link").stderr;
        assert!(said.contains(target.to_str().expect("text")), "{said}");
    }
    assert_eq!(run(&target, &["get", "k"]).exits(0).stdout, b"v");
}

#[test]
fn an_empty_object_is_called_empty_and_can_be_removed() {
    let store = Store::unmade();
    let name = store.spec.strip_prefix("posix:").expect("a name");
    let path = format!("/dev/shm/cistern.{name}");
    store.kv(["create", "--size", "1MiB"]).exits(0);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(0))
        .expect("cuts");
    for command in [&["get", "k"][..], &["put", "k", "v"], &["info"]] {
        let said = store.kv(command).fails(6, "is empty").stderr;
        assert!(said.contains("kv-cli rm") && !said.contains("never finished"), "{said}");
    }
    let rows = store.kv(["--format", "json", "ls"]).exits(0).json();
    let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["store"] == store.spec));
    assert_eq!(row.expect("its row")["state"], "empty");
    store.kv(["create"]).fails(1, "kv-cli rm");
    store.kv(["rm", "--yes"]).exits(0);
    store.kv(["create", "--size", "1MiB"]).exits(0);
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
        assert!(info["key_bytes_max"].as_u64().is_some_and(|bytes| bytes > 30_000));
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
fn stats_tell_how_much_more_goes_in() {
    for bytes in [40_000, 3_000, 150_000] {
        let store = Store::unmade();
        store.kv(["create", "--size", "4MiB"]).exits(0);
        let line = |number: u32| {
            format!("{{\"key\":\"k{number:05}\",\"value\":\"{}\"}}\n", "v".repeat(bytes))
        };
        store.kv_with(["load"], line(0).as_bytes()).exits(0);
        let stats = store.kv(["--format", "json", "stats"]).exits(0).json();
        let room = stats["room_items"].as_u64().expect("a number");
        assert!(store.kv(["stats"]).exits(0).text().contains("room for about"), "{stats}");
        let input: String = (1..5_000).map(line).collect();
        let loaded = store.kv_with(["load", "--format", "json"], input.as_bytes()).exits(5).json();
        let stored = loaded["stored"].as_u64().expect("a number");
        assert!(stored.abs_diff(room) <= 1 + room / 50, "{bytes}: {room} were said, {stored} fit");
        // Bytes are free still, but no piece is large enough.
        let stats = store.kv(["--format", "json", "stats"]).exits(0).json();
        assert_eq!(stats["room_items"], 0, "{stats}");
        assert!(store.kv(["stats"]).exits(0).text().contains("no room for another"));
    }
    let store = Store::unmade();
    store.kv(["create", "--size", "1MiB", "--items", "10"]).exits(0);
    store.kv(["put", "k0", "v"]).exits(0);
    // Its index was laid out for ten, and grows in the same memory: less and less as that fills up.
    let room = store.kv(["--format", "json", "stats"]).exits(0).json()["room_items"].clone();
    let room = room.as_u64().expect("a number");
    let input: String =
        (1..50_000).map(|number| format!("{{\"key\":\"k{number}\",\"value\":\"v\"}}\n")).collect();
    let loaded = store.kv_with(["load", "--format", "json"], input.as_bytes()).exits(5).json();
    let stored = loaded["stored"].as_u64().expect("a number");
    assert!(stored.abs_diff(room) <= room / 6, "{room} were said, {stored} fit");
    assert!(store.kv(["stats", "--help"]).exits(0).text().contains("expired"));
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
}

/// Ten times what fits: nothing is refused, what is there is right, and stats say what went.
#[test]
fn a_cache_makes_room_by_itself() {
    let store = Store::unmade();
    store.kv(["create", "--heat-permissions", "0666"]).fails(2, "choose the mode `cache`");
    let create = ["create", "--mode", "cache", "--size", "1MiB", "--heat-permissions", "0666"];
    store.kv(create).exits(0);
    let value = "v".repeat(1000);
    let line = |n| format!("{{\"key\":\"key {n}\",\"value\":\"{value}\"}}\n");
    let lines: String = (0..10_000).map(line).collect();
    store.kv_with(["load", "-"], lines.as_bytes()).exits(0);
    let stats = store.kv(["stats", "--format", "json"]).json();
    let items = stats["items"].as_u64().expect("a number");
    assert!((500..1100).contains(&items), "{items}");
    let gone = stats["eviction"]["evicted_small"].as_u64().expect("a number");
    assert_eq!(gone + items, 10_000);
    assert_eq!(store.kv(["get", "key 9999"]).exits(0).stdout, value.as_bytes());
    store.kv(["get", "key 0"]).exits(1);
    assert!(store.kv(["stats"]).exits(0).text().contains("evicted"));
    store.kv(["check"]).exits(0);
    let info = store.kv(["info", "--format", "json"]).json();
    assert_eq!((&info["mode"], &info["heat_permissions"]), (&"cache".into(), &"0666".into()));
}

#[test]
fn a_store_is_not_made_closed_to_its_owner() {
    let store = Store::unmade();
    for mode in ["0", "0044", "0400", "0200"] {
        store.kv(["create", "--permissions", mode]).fails(2, "add 0600");
    }
    store.kv(["info"]).fails(3, "");
    store.kv(["create", "--size", "16MiB", "--permissions", "0604"]).exits(0);
    store.kv(["chmod", "0400"]).exits(0);
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
