//! Commands that read and write in one step, deletes at a version, and many values at once.

use std::time::Duration;

use crate::harness::{Store, finish};

fn version(store: &Store, key: &str) -> String {
    let entry = store.kv(["--format", "json", "get", key]).exits(0).json();
    entry["version"].as_str().expect("a version").to_owned()
}

#[test]
fn take_gives_the_value_and_the_key_is_gone() {
    for store in Store::each() {
        store.kv(["put", "job", "resize\n"]).exits(0);
        assert_eq!(store.kv(["take", "job"]).exits(0).stdout, b"resize\n");
        store.kv(["take", "job"]).fails(1, "\"job\" is absent");
        store.kv(["exists", "job"]).exits(1);
        store.kv(["incr", "n", "7"]).exits(0);
        let json = store.kv(["--format", "json", "take", "n"]).exits(0).json();
        assert_eq!((json["key"].as_str(), json["value"].as_str()), (Some("n"), Some("7")));
        store.kv_with(["put", "bytes", "-"], b"\xff").exits(0);
        let json = store.kv(["--format", "json", "take", "bytes"]).exits(0).json();
        assert_eq!(json["value_b64"], "/w==");
        store.is_clean();
    }
}

#[test]
fn of_several_takers_one_gets_a_key() {
    let store = Store::posix();
    for number in 0..20 {
        let key = format!("job:{number}");
        store.kv(["put", &key, "x"]).exits(0);
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let command = store.command(["take", &key]);
                std::thread::spawn(move || finish(command, b""))
            })
            .collect();
        let mut codes: Vec<_> =
            takers.into_iter().map(|taker| taker.join().expect("ends").code).collect();
        codes.sort();
        assert_eq!(codes, [Some(0), Some(1), Some(1)]);
    }
}

#[test]
fn getset_gives_what_it_replaces() {
    for store in Store::each() {
        assert_eq!(store.kv(["getset", "leader", "a"]).exits(0).stdout, b"");
        assert_eq!(store.kv(["getset", "leader", "b", "--ttl", "1h"]).exits(0).stdout, b"a");
        assert_ne!(store.kv(["ttl", "leader"]).exits(0).text(), "never\n");
        let json = store.kv(["--format", "json", "getset", "leader", "c"]).exits(0).json();
        assert_eq!(json["value"], "b");
        assert_eq!(store.kv(["ttl", "leader"]).exits(0).text(), "never\n");
        let json = store.kv(["--format", "json", "getset", "new", "1"]).exits(0).json();
        assert!(json["value"].is_null(), "{json}");
        store.kv_with(["getset", "leader", "-"], b"from stdin").exits(0);
        assert_eq!(store.kv(["get", "leader"]).exits(0).stdout, b"from stdin");
        store.kv(["getset", "leader", "d", "--ttl-ms", "0"]).fails(8, "time to live");
        store.is_clean();
    }
}

#[test]
fn append_and_prepend_make_a_value_longer() {
    for store in Store::each() {
        store.kv(["append", "log", "b"]).exits(0);
        store.kv(["append", "log", "-c"]).exits(2);
        store.kv(["append", "--", "log", "-c"]).exits(0);
        store.kv_with(["prepend", "log", "-"], b"a\n").exits(0);
        assert_eq!(store.kv(["get", "log"]).exits(0).stdout, b"a\nb-c");
        let json = store.kv(["--format", "json", "append", "log", "def"]).exits(0).json();
        assert_eq!(json["value_bytes"], 8);
        assert_eq!(
            store.kv(["--format", "table", "append", "log", ""]).exits(0).text(),
            "8 bytes\n"
        );
        store.kv(["put", "log", "x", "--ttl", "1h"]).exits(0);
        store.kv(["append", "log", "y"]).exits(0);
        assert_ne!(store.kv(["ttl", "log"]).exits(0).text(), "never\n");
        store.kv(["incr", "n", "4"]).exits(0);
        store.kv(["append", "n", "2"]).exits(0);
        assert_eq!(store.kv(["incr", "n"]).exits(0).text(), "43\n");
        store.kv_with(["put", "big", "-"], &vec![1; 3 << 20]).exits(0);
        store.kv_with(["append", "big", "-"], &vec![1; 3 << 20]).fails(8, "limit");
        store.is_clean();
    }
}

#[test]
fn times_to_live_are_set_and_removed_without_the_value() {
    for store in Store::each() {
        store.kv(["expire", "k", "1s"]).fails(1, "absent");
        store.kv(["persist", "k"]).fails(1, "absent");
        store.kv(["put", "k", "v"]).exits(0);
        let before = version(&store, "k");
        store.kv(["persist", "k"]).exits(0);
        assert_eq!(version(&store, "k"), before, "there was none to remove");
        let json = store.kv(["--format", "json", "expire", "k", "1h"]).exits(0).json();
        assert_eq!(json["ttl_ms"], 3_600_000);
        assert_ne!(version(&store, "k"), before);
        let left: u64 = store.kv(["ttl", "k"]).exits(0).text().trim().parse().expect("a number");
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        let json = store.kv(["--format", "json", "persist", "k"]).exits(0).json();
        assert!(json["ttl_ms"].is_null() && json["key"] == "k", "{json}");
        assert_eq!(store.kv(["ttl", "k"]).exits(0).text(), "never\n");
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
        store.kv(["touch", "k", "100ms"]).exits(0);
        std::thread::sleep(Duration::from_millis(200));
        store.kv(["get", "k"]).fails(1, "absent");
        store.kv(["put", "k", "v"]).exits(0);
        store.kv(["expire", "k", "0s"]).fails(8, "time to live");
        store.is_clean();
    }
}

#[test]
fn del_at_a_version() {
    let store = Store::posix();
    store.kv(["put", "k", "1"]).exits(0);
    let old = version(&store, "k");
    store.kv(["put", "k", "2"]).exits(0);
    let new = version(&store, "k");
    store.kv(["del", "--if-version", &old, "k"]).fails(1, &format!("stands at version {new}"));
    let run = store.kv(["--format", "json", "del", "--if-version", &old, "k"]).exits(1);
    assert_eq!((&run.json()["deleted"], &run.json()["found"]), (&0.into(), &new.clone().into()));
    let run = store.kv(["--format", "json", "del", "--if-version", &new, "k"]).exits(0);
    assert_eq!(run.json(), serde_json::json!({ "deleted": 1, "absent": 0 }));
    store.kv(["del", "--if-version", &new, "k"]).fails(1, "\"k\" is absent");
    store.kv(["del", "--if-version", &new, "k", "l"]).fails(2, "a single key");
    store.kv(["del", "--if-version", &new, "-"]).fails(2, "a single key");
}

#[test]
fn many_values_at_once() {
    for store in Store::each() {
        store.kv(["mput", "a", "1", "b", "-2"]).exits(0);
        assert_eq!(store.kv(["--format", "raw", "mget", "a", "b"]).exits(0).text(), "1\n-2\n");
        let json = store.kv(["--format", "json", "mput", "b", "3", "c", "4"]).exits(0).json();
        assert_eq!(json, serde_json::json!({ "inserted": 1, "replaced": 1, "refused": 0 }));
        let lines: String = (0..1_500)
            .map(|n| match n % 3 {
                0 => format!("{{\"key\":\"k{n}\",\"value\":\"v{n}\",\"ttl_ms\":3600000}}\n"),
                _ => format!("{{\"key\":\"k{n}\",\"value\":\"v{n}\"}}\n"),
            })
            .collect();
        let run = store.kv_with(["--format", "json", "mput", "-"], lines.as_bytes()).exits(0);
        assert_eq!(run.json()["inserted"], 1_500);
        assert_eq!(store.kv(["get", "k1499"]).exits(0).stdout, b"v1499");
        assert_eq!(store.kv(["ttl", "k1"]).exits(0).text(), "never\n");
        assert_ne!(store.kv(["ttl", "k3"]).exits(0).text(), "never\n");
        store.kv(["mput", "--ttl", "1h", "d", "5"]).exits(0);
        assert_ne!(store.kv(["ttl", "d"]).exits(0).text(), "never\n");
        store.is_clean();
    }
}

#[test]
fn what_is_refused_of_many_does_not_keep_the_others() {
    let store = Store::posix();
    let long = "x".repeat(70_000);
    let json = ["--format", "json", "mput", "a", "1", &long, "2", "b", "3"];
    let run = store.kv(json).fails(8, "limit");
    assert_eq!(run.json(), serde_json::json!({ "inserted": 2, "replaced": 0, "refused": 1 }));
    assert_eq!(store.kv(["get", "b"]).exits(0).stdout, b"3");
    let input = "nonsense\n{\"key\":\"c\",\"value\":\"4\"}\n{\"key\":\"d\"}\n";
    store.kv_with(["mput", "-"], input.as_bytes()).fails(8, "2 were not stored, first: line 1");
    assert_eq!(store.kv(["get", "c"]).exits(0).stdout, b"4");
    // A full store ends it.
    let value = "y".repeat(100_000);
    let lines: String =
        (0..400).map(|n| format!("{{\"key\":\"f{n}\",\"value\":\"{value}\"}}\n")).collect();
    let run = store.kv_with(["--format", "json", "mput", "-"], lines.as_bytes()).fails(5, "full");
    let (inserted, refused) = (&run.json()["inserted"], &run.json()["refused"]);
    assert!(inserted.as_u64() > Some(100) && refused.as_u64() < Some(100), "{run:?}");
    store.is_clean();
}

#[test]
fn the_hash_is_chosen_at_creation() {
    let store = Store::unmade();
    let args = ["--format", "json", "create", "--size", "16MiB", "--hash", "siphash"];
    assert_eq!(store.kv(args).exits(0).json()["hash"], "siphash-1-3");
    store.kv(["put", "k", "v"]).exits(0);
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"v");
    assert_eq!(store.kv(["--format", "json", "info"]).exits(0).json()["hash"], "siphash-1-3");
    store.is_clean();
    let other = Store::posix();
    assert_eq!(other.kv(["--format", "json", "info"]).exits(0).json()["hash"], "rapidhash v3");
}
