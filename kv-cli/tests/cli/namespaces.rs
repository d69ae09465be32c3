//! Namespaces from the command line: each command for keys in one, and what they are.

use crate::harness::Store;

#[test]
fn keys_of_a_namespace_are_others_than_those_of_the_store() {
    for store in Store::each() {
        store.kv(["put", "k", "base"]).exits(0);
        for name in ["a", "b"] {
            store.kv(["namespace", "create", name]).exits(0);
            store.kv(["-n", name, "put", "k", name]).exits(0);
        }
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"base");
        assert_eq!(store.kv(["get", "k", "--namespace", "a"]).exits(0).stdout, b"a");
        assert_eq!(store.kv(["-n", "b", "scan"]).exits(0).lines(), ["k"]);
        store.kv(["-n", "a", "incr", "n", "5"]).exits(0);
        store.kv(["get", "n"]).fails(1, "absent");
        store.kv(["-n", "a", "del", "k"]).exits(0);
        store.kv(["-n", "a", "get", "k"]).fails(1, "absent");
        assert_eq!(store.kv(["-n", "b", "get", "k"]).exits(0).stdout, b"b");
        let dumped = store.kv(["-n", "b", "dump"]).exits(0);
        store.kv_with(["-n", "a", "load", "-"], &dumped.stdout).exits(0);
        assert_eq!(store.kv(["-n", "a", "get", "k"]).exits(0).stdout, b"b");
        store.is_clean();
    }
}

#[test]
fn clear_deletes_the_keys_of_one() {
    let store = Store::posix();
    store.kv(["namespace", "create", "a"]).exits(0);
    for key in ["x", "y", "z"] {
        store.kv(["put", key, "base"]).exits(0);
        store.kv(["-n", "a", "put", key, "a"]).exits(0);
    }
    store.kv(["-n", "a", "clear"]).fails(2, "--yes");
    assert_eq!(store.kv(["-n", "a", "clear", "--yes"]).exits(0).text(), "deleted 3 keys\n");
    assert_eq!(store.kv(["get", "x"]).exits(0).stdout, b"base");
    store.kv(["-n", "a", "put", "x", "a"]).exits(0);
    let json = store.kv(["clear", "--yes", "--format", "json"]).exits(0).json();
    assert_eq!(json["deleted"], 3);
    assert_eq!(store.kv(["-n", "a", "get", "x"]).exits(0).stdout, b"a");
    store.is_clean();
}

#[test]
fn a_default_time_to_live_is_that_of_puts_that_say_none() {
    let store = Store::posix();
    let create = ["namespace", "create", "sessions", "--default-ttl", "30m", "--format", "json"];
    assert_eq!(store.kv(create).exits(0).json()["default_ttl_ms"], 1_800_000);
    let ttl = |key: &str| store.kv(["-n", "sessions", "ttl", key]).exits(0).text().to_owned();
    store.kv(["-n", "sessions", "put", "k", "v"]).exits(0);
    assert_ne!(ttl("k"), "never\n");
    store.kv(["-n", "sessions", "put", "k", "v", "--for-ever"]).exits(0);
    assert_eq!(ttl("k"), "never\n");
    store.kv(["-n", "sessions", "get-or-run", "l", "--", "echo", "v"]).exits(0);
    assert_ne!(ttl("l"), "never\n");
    store.kv(["-n", "sessions", "get-or-run", "m", "--for-ever", "--", "echo", "v"]).exits(0);
    assert_eq!(ttl("m"), "never\n");
    // A dump says so, and a load knows it.
    let dumped = store.kv(["-n", "sessions", "dump"]).exits(0);
    store.kv(["-n", "sessions", "clear", "--yes"]).exits(0);
    store.kv_with(["-n", "sessions", "load", "-"], &dumped.stdout).exits(0);
    assert_eq!((ttl("k"), ttl("m")), ("never\n".to_owned(), "never\n".to_owned()));
    assert_ne!(ttl("l"), "never\n");
    store.kv(["namespace", "set", "sessions"]).fails(2, "--quota");
    store.kv(["namespace", "set", "sessions", "--default-ttl", "0"]).exits(0);
    store.kv(["-n", "sessions", "append", "new", "v"]).exits(0);
    assert_eq!(ttl("new"), "never\n");
    store.is_clean();
}

#[test]
fn a_quota_is_told_and_kept() {
    let store = Store::unmade();
    store.kv(["create", "--size", "8MiB", "--mode", "cache"]).exits(0);
    store.kv(["namespace", "create", "kept", "--mode", "store"]).fails(2, "needs a quota");
    store.kv(["namespace", "create", "big", "--quota", "1GiB"]).fails(2, "at most");
    let create = ["namespace", "create", "kept", "--mode", "store", "--quota", "1MiB"];
    store.kv(create).exits(0);
    store.kv(["namespace", "create", "cached", "--quota", "1MiB"]).exits(0);
    let lines: String = (0..20_000_u32)
        .map(|key| format!("{{\"key\":\"k{key}\",\"value\":\"{}\"}}\n", "v".repeat(200)))
        .collect();
    store.kv_with(["-n", "kept", "load", "-"], lines.as_bytes()).fails(5, "namespace set NAME");
    store.kv_with(["-n", "cached", "load", "-"], lines.as_bytes()).exits(0);
    store.kv_with(["load", "-"], lines.as_bytes()).exits(0);
    let list = store.kv(["namespace", "ls", "--format", "json"]).exits(0).json();
    let [kept, cached] = &list.as_array().expect("a list")[..] else { panic!("{list}") };
    assert_eq!((kept["mode"].as_str(), cached["mode"].as_str()), (Some("store"), Some("cache")));
    assert_eq!((kept["quota_bytes"].as_u64(), kept["evicted"].as_u64()), (Some(1 << 20), Some(0)));
    assert!(kept["items"].as_u64() > Some(3000), "{kept}");
    assert!(cached["evicted"].as_u64() > Some(10_000), "{cached}");
    store.kv(["namespace", "set", "kept", "--quota", "4MiB"]).exits(0);
    store.kv_with(["-n", "kept", "load", "-"], &lines.as_bytes()[..1 << 20]).fails(8, "line");
    let table = store.kv(["namespace", "ls"]).exits(0);
    assert!(
        table.text().contains("4.0 MiB") && table.text().contains("cached"),
        "{}",
        table.text()
    );
    store.is_clean();
}

#[test]
fn the_numbers_of_a_namespace_are_its_own() {
    let store = Store::posix();
    store.kv(["namespace", "create", "a"]).exits(0);
    store.kv(["put", "k", "v"]).exits(0);
    store.kv(["-n", "a", "put", "k", "v"]).exits(0);
    store.kv(["-n", "a", "put", "l", "v"]).exits(0);
    store.kv(["-n", "a", "del", "l"]).exits(0);
    // It looks the key up as a writer.
    store.kv(["-n", "a", "getset", "k", "w"]).exits(0);
    let json = store.kv(["-n", "a", "stats", "--format", "json"]).exits(0).json();
    assert_eq!(json["name"], "a");
    assert_eq!((json["items"].as_u64(), json["puts"].as_u64()), (Some(1), Some(3)), "{json}");
    assert_eq!(json["deletes"], 1, "{json}");
    let text = store.kv(["-n", "a", "stats"]).exits(0);
    assert!(text.text().contains("3 puts, 1 delete"), "{}", text.text());
    store.is_clean();
}

#[test]
fn what_is_wrong_with_a_name_is_said() {
    let store = Store::posix();
    store.kv(["-n", "absent", "get", "k"]).fails(3, "no namespace absent");
    store.kv(["namespace", "create", "with blank"]).fails(2, "letters, digits");
    store.kv(["namespace", "create", "a"]).exits(0);
    store.kv(["namespace", "create", "a"]).fails(1, "already");
    store.kv(["-n", "absent", "put", "k", "v"]).fails(3, "only a");
    store.kv(["namespace", "create", "c", "--mode", "cache"]).fails(2, "make it with mode cache");
    store.kv(["-n", "a", "check"]).fails(2, "leave --namespace out");
    store.kv(["namespace", "rm", "a"]).fails(2, "--yes");
    store.kv(["-n", "a", "put", "k", "v"]).exits(0);
    let json = store.kv(["namespace", "rm", "a", "--yes", "--format", "json"]).exits(0).json();
    assert_eq!(json["items"], 1);
    store.kv(["-n", "a", "get", "k"]).fails(3, "no namespace a");
    store.is_clean();
}
