//! Reading and writing single values and lists of keys.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::harness::Store;

#[test]
fn put_then_get_gives_the_same_bytes() {
    for store in Store::each() {
        store.kv(["put", "greeting", "hello"]).exits(0);
        let run = store.kv(["get", "greeting"]).exits(0);
        assert_eq!(run.stdout, b"hello", "no newline where no terminal is");
        store.kv(["put", "greeting", "hello, again"]).exits(0);
        assert_eq!(store.kv(["get", "greeting"]).exits(0).stdout, b"hello, again");
        store.kv(["put", "empty", ""]).exits(0);
        assert_eq!(store.kv(["get", "empty"]).exits(0).stdout, b"");
        store.kv(["get", "nothing"]).fails(1, "\"nothing\" is absent");
        store.is_clean();
    }
}

#[test]
fn any_bytes_are_a_key_and_a_value() {
    for store in Store::each() {
        let key = OsStr::from_bytes(b"\xff\xfe key\n\x01");
        let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        store.kv_with([OsStr::new("put"), key, OsStr::new("-")], &value).exits(0);
        assert_eq!(store.kv([OsStr::new("get"), key]).exits(0).stdout, value);
        let args = [OsStr::new("--format"), OsStr::new("json"), OsStr::new("get"), key];
        let json = store.kv(args).exits(0).json();
        assert_eq!(json["key_b64"], "//4ga2V5CgE=");
        assert!(json["value_b64"].is_string() && json.get("value").is_none());
        let odd = OsStr::from_bytes(b"\x80");
        store.kv([OsStr::new("put"), OsStr::new("k"), odd]).exits(0);
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"\x80");
    }
}

#[test]
fn values_that_look_like_options() {
    let store = Store::posix();
    store.kv(["put", "number", "-5"]).exits(0);
    assert_eq!(store.kv(["get", "number"]).exits(0).stdout, b"-5");
    store.kv(["put", "--", "--key", "--value"]).exits(0);
    assert_eq!(store.kv(["get", "--", "--key"]).exits(0).stdout, b"--value");
}

#[test]
fn add_and_replace_have_a_condition() {
    let store = Store::posix();
    store.kv(["replace", "k", "1"]).fails(1, "is absent");
    store.kv(["add", "k", "1"]).exits(0);
    store.kv(["add", "k", "2"]).fails(1, "is there already");
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"1");
    store.kv(["replace", "k", "3"]).exits(0);
    assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"3");
    let run = store.kv(["--format", "json", "put", "k", "4"]).exits(0);
    assert_eq!(run.json()["stored"], "replaced");
    let run = store.kv(["--format", "json", "put", "new", "4"]).exits(0);
    assert_eq!(run.json()["stored"], "inserted");
    let run = store.kv(["--format", "json", "add", "k", "5"]).fails(1, "there already");
    assert!(run.json()["stored"].is_null());
}

#[test]
fn cas_writes_only_at_the_version() {
    for store in Store::each() {
        store.kv(["put", "k", "one"]).exits(0);
        let entry = store.kv(["--format", "json", "get", "k"]).exits(0).json();
        let version = entry["version"].as_str().expect("a version").to_owned();
        assert_eq!((entry["key"].as_str(), entry["value"].as_str()), (Some("k"), Some("one")));
        assert!(entry["ttl_ms"].is_null());

        store.kv(["cas", "k", &version, "two"]).exits(0);
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"two");
        store.kv(["cas", "k", &version, "three"]).fails(1, &format!("not {version}"));
        assert_eq!(store.kv(["get", "k"]).exits(0).stdout, b"two");

        let run = store.kv(["--format", "json", "cas", "k", &version, "three"]).exits(1);
        let found = run.json()["found"].as_str().expect("the version found").to_owned();
        assert_eq!(run.json()["swapped"], false);
        store.kv(["cas", "k", &found, "-"]).exits(0);
        store.kv(["cas", "absent", &found, "x"]).fails(1, "is absent");
        store.kv(["cas", "k", "newest", "x"]).fails(2, "newest");

        store.kv_with(["put", "k", "-"], b"line 1\nline 2").exits(0);
        let run = store.kv(["get", "--with-version", "k"]).exits(0);
        let (version, value) = run.text().split_once('\n').expect("two parts");
        assert_eq!(value, "line 1\nline 2");
        store.kv(["cas", "k", version, "last"]).exits(0);
    }
}

#[test]
fn del_and_exists() {
    let store = Store::posix();
    for key in ["a", "b", "c"] {
        store.kv(["put", key, "x"]).exits(0);
    }
    store.kv(["exists", "a"]).exits(0);
    store.kv(["exists", "a", "b", "c"]).exits(0);
    assert_eq!(store.kv(["exists", "a", "z"]).exits(1).stderr, "");
    let json = store.kv(["--format", "json", "exists", "a", "z"]).exits(1).json();
    assert_eq!((&json[0]["exists"], &json[1]["exists"]), (&true.into(), &false.into()));
    store.kv(["del", "a", "z", "b"]).fails(1, "\"z\" is absent");
    store.kv(["exists", "a"]).exits(1);
    store.kv(["exists", "b"]).exits(1);
    store.kv(["exists", "c"]).exits(0);
    let json = store.kv(["--format", "json", "del", "c", "y", "z"]).fails(1, "2 keys").json();
    assert_eq!((&json["deleted"], &json["absent"]), (&1.into(), &2.into()));
}

#[test]
fn counters() {
    for store in Store::each() {
        assert_eq!(store.kv(["incr", "n"]).exits(0).text(), "1\n");
        assert_eq!(store.kv(["incr", "n", "41"]).exits(0).text(), "42\n");
        assert_eq!(store.kv(["incr", "n", "-50"]).exits(0).text(), "-8\n");
        assert_eq!(store.kv(["decr", "n"]).exits(0).text(), "-9\n");
        assert_eq!(store.kv(["decr", "n", "-10"]).exits(0).text(), "1\n");
        assert_eq!(store.kv(["get", "n"]).exits(0).stdout, b"1");
        assert_eq!(store.kv(["--format", "json", "incr", "n"]).exits(0).json()["value"], 2);

        store.kv(["put", "n", "9007199254740992"]).exits(0);
        let run = store.kv(["--format", "json", "incr", "n"]).exits(0);
        assert!(run.text().contains("\"value\":9007199254740993,"), "{}", run.text());
        assert_eq!(run.json()["value_text"], "9007199254740993");

        store.kv(["put", "n", "9223372036854775807"]).exits(0);
        store.kv(["incr", "n"]).fails(8, "9223372036854775807");
        assert_eq!(store.kv(["get", "n"]).exits(0).stdout, b"9223372036854775807");
        store.kv(["put", "n", "-9223372036854775808"]).exits(0);
        store.kv(["decr", "n"]).fails(8, "leaves the range");

        store.kv(["put", "text", "12 apples"]).exits(0);
        store.kv(["incr", "text"]).fails(8, "number");
        assert_eq!(store.kv(["get", "text"]).exits(0).stdout, b"12 apples");
        store.is_clean();
    }
}

#[test]
fn a_counter_can_be_swapped_at_its_version() {
    let store = Store::posix();
    store.kv(["incr", "n", "5"]).exits(0);
    let version = |store: &Store| {
        let entry = store.kv(["--format", "json", "get", "n"]).exits(0).json();
        entry["version"].as_str().expect("a version").to_owned()
    };
    let before = version(&store);
    store.kv(["incr", "n"]).exits(0);
    store.kv(["cas", "n", &before, "0"]).fails(1, "stands at version");
    store.kv(["cas", "n", &version(&store), "0"]).exits(0);
    assert_eq!(store.kv(["incr", "n"]).exits(0).text(), "1\n");
}

#[test]
fn times_to_live() {
    for store in Store::each() {
        store.kv(["put", "k", "v"]).exits(0);
        assert_eq!(store.kv(["ttl", "k"]).exits(0).text(), "never\n");
        assert!(store.kv(["--format", "json", "ttl", "k"]).exits(0).json()["ttl_ms"].is_null());

        store.kv(["put", "k", "v", "--ttl", "1h"]).exits(0);
        let left: u64 = store.kv(["ttl", "k"]).exits(0).text().trim().parse().expect("a number");
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        let left = store.kv(["--format", "json", "ttl", "k"]).exits(0).json();
        assert!(left["ttl_ms"].as_u64().is_some_and(|left| left <= 3_600_000));
        store.kv(["replace", "k", "w"]).exits(0);
        assert_eq!(store.kv(["ttl", "k"]).exits(0).text(), "never\n");

        store.kv(["put", "short", "v", "--ttl-ms", "150"]).exits(0);
        std::thread::sleep(Duration::from_millis(300));
        store.kv(["get", "short"]).fails(1, "absent");
        store.kv(["ttl", "short"]).fails(1, "absent");
        store.kv(["exists", "short"]).exits(1);
        store.kv(["add", "short", "again"]).exits(0);
        store.kv(["put", "k", "v", "--ttl-ms", "0"]).fails(8, "time to live");
        store.kv(["put", "k", "v", "--ttl", "1ns"]).fails(8, "the shortest is 1 ms");
        let said = store.kv(["put", "k", "v", "--ttl", "0.9ms"]).fails(8, "less than 1 ms").stderr;
        assert!(!said.contains(" 0 ms"), "{said}");
        store.kv(["put", "k", "v", "--ttl", "1ms"]).exits(0);
        store.is_clean();
    }
}

#[test]
fn many_keys_at_once() {
    let store = Store::posix();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        store.kv(["put", key, value]).exits(0);
    }
    let lines = store.kv(["mget", "a", "c"]).exits(0);
    assert_eq!(lines.text(), "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"c\",\"value\":\"3\"}\n");
    let run = store.kv(["--format", "json", "mget", "a", "z", "b"]).fails(1, "\"z\" is absent");
    let json = run.json();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    assert!(json[1]["value"].is_null());
    assert_eq!(json[2]["value"], "2");
    let run = store.kv_with(["--format", "raw", "mget", "-"], b"a\n\nb\nc\n").exits(0);
    assert_eq!(run.text(), "1\n2\n3\n");
    assert!(store.kv(["--format", "table", "mget", "a"]).exits(0).text().contains("key"));
}

#[test]
fn nul_separated_keys_go_from_command_to_command() {
    let store = Store::posix();
    let keys = ["plain", "two\nlines", " spaces ", "tab\t"];
    for key in keys {
        store.kv(["put", key, "x\ny"]).exits(0);
    }
    let scanned = store.kv(["scan", "-0"]).exits(0).stdout;
    let mut found: Vec<&[u8]> =
        scanned.strip_suffix(b"\0").expect("ends in NUL").split(|byte| *byte == 0).collect();
    found.sort_unstable();
    let mut expected: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let values = store.kv_with(["--format", "raw", "mget", "-0", "-"], &scanned).exits(0).stdout;
    assert_eq!(values, b"x\ny\0".repeat(4));
    store.kv_with(["exists", "-0", "-"], &scanned).exits(0);
    store.kv_with(["del", "-0", "-"], &scanned).exits(0);
    assert_eq!(store.kv(["scan"]).exits(0).stdout, b"");
}

#[test]
fn keys_and_values_beyond_the_limits() {
    for store in Store::each() {
        let info = store.kv(["--format", "json", "info"]).exits(0).json();
        let limit = info["key_bytes_max"].as_u64().expect("a limit") as usize;
        let longest = "k".repeat(limit);
        store.kv(["put", &longest, "v"]).exits(0);
        assert_eq!(store.kv(["get", &longest]).exits(0).stdout, b"v");
        let longer = "k".repeat(limit + 64);
        store.kv(["put", &longer, "v"]).fails(8, "the limit is");
        let list = [longest.as_bytes(), b"\n", longer.as_bytes(), b"\n"].concat();
        store.kv_with(["exists", "-"], &list).fails(8, "key 2");

        let limit = info["value_bytes_max"].as_u64().expect("a limit") as usize;
        let value = vec![b'v'; limit + 1];
        store.kv_with(["put", "big", "-"], &value).fails(8, "limit");
        store.kv(["exists", "big"]).exits(1);
        store.is_clean();
    }
}
