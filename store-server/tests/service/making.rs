//! How the server makes a store, and what it says of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use store_client::{CreateOptions, Reader, create};

use crate::harness::{Name, Server, program, refused};

#[test]
fn every_option_reaches_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let store = name.0.to_string();
        let args = [
            "--store",
            &store,
            "--size",
            "8MiB",
            "--max-size",
            "16MiB",
            "--items",
            "12345",
            "--extent-size",
            "64KiB",
            "--mode",
            "store",
            "--hash",
            "siphash",
            "--checksums=true",
            "--permissions",
            "0640",
            "--group",
            "0",
            "--owner",
            "root",
            "--remove",
            "--format",
            "json",
            "--interval-ms",
            "20",
        ];
        if !Uid::effective().is_root() {
            eprintln!("skipped: only root gives a store to root");
            return;
        }
        let mut server = Server::start(program().args(args));
        let line = server.line();
        assert!(line.starts_with(r#"{"event":"made","#), "{line}");
        let made: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(made["event"], "made");
        assert_eq!(made["store"], store);
        assert_eq!(made["planned_items"], 12345);
        assert_eq!(made["extent_size"], 64 << 10);
        assert_eq!((&made["hash"], &made["checksums"]), (&"siphash-1-3".into(), &true.into()));
        let ready = server.says(r#"{"event":"ready""#);
        let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
        assert_eq!(ready["pid"], server.pid());
        let info = Reader::attach(&name.0).expect("the store").info().expect("info");
        assert!(info.max_segment_bytes > info.segment_bytes);
        assert_eq!((info.planned_items, info.checksums), (12345, true));
        if let Some(path) = store.strip_prefix("file:") {
            let metadata = std::fs::metadata(path).expect("a file");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
        }
        assert_eq!(server.end(Signal::SIGTERM), Some(0));
        server.says(r#"{"event":"removed""#);
    }
}

#[test]
fn a_store_is_given_to_another_user_and_still_locked() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root gives a store away");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for name in Name::each(directory.path()) {
        let store = name.0.to_string();
        let _server = Server::keeping(&name, &["--owner", "65534", "--permissions", "0600"]);
        let listed = store_client::list().expect("a list");
        if let Some(found) = listed.iter().find(|one| one.name == store) {
            assert_eq!((found.owner_uid, found.permissions), (65534, 0o600));
        }
        refused(&["--store", &store], 7);
    }
}

#[test]
fn a_store_that_is_there_is_kept_as_it_is() {
    let name = Name::posix();
    let writer = create(&name.0, &CreateOptions::new(8 << 20)).expect("a store");
    writer.put(b"k", b"v").expect("a put");
    let store = name.0.to_string();
    let mut server = Server::start(program().args(["--store", &store, "--size", "4MiB"]));
    assert!(server.line().contains("is there already"));
    assert!(server.line().ends_with("1 items"));
    assert_eq!(server.line(), "ready");
}

#[test]
fn exit_codes_tell_why_it_does_not_start() {
    let absent = Name::posix().0.to_string();
    let foreign = format!("file:{}", std::env::temp_dir().display());
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--no-such-option"], 2, "no-such-option"),
        (&["--store", "nonsense"], 2, "posix:NAME"),
        (&["--store", "memfd:x", "--size", "4MiB"], 2, "can't hand its descriptor out yet"),
        (&["--store", "fd:0", "--size", "4MiB"], 2, "--size: a descriptor has its store already"),
        (&["--store", "sysv:x-not-there"], 3, "--size"),
        (&["--store", &absent, "--size", "1KiB"], 2, "--size is 1024"),
        (&["--store", &absent, "--items", "5"], 2, "--items is for a store that is made"),
        (&["--store", &absent], 3, "; size (--size) makes one"),
        (&["--store", &foreign, "--size", "4MiB"], 6, "is a directory, no store"),
        (&["--store", "file:/dev/null/x", "--size", "4MiB"], 9, "Not a directory"),
    ];
    for (args, code, part) in cases {
        let said = refused(args, code);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
