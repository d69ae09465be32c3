//! `bench`: real processes, verified values, numbers that fit together.

use serde_json::Value;

use crate::harness::{Store, quiet};

#[track_caller]
fn bench(store: &Store, args: &[&str]) -> Value {
    let common = ["bench", "--format", "json", "--seconds", "300ms", "--keys", "2000"];
    let results = store.kv([&common, args].concat()).exits(0).json();
    let number = |name: &str| results[name].as_f64().unwrap_or_else(|| panic!("{name}: {results}"));
    assert!(number("ops") > 100.0, "{results}");
    assert!(number("ns_per_op") > 0.0);
    assert!(number("p50_ns") > 0.0 && number("p50_ns") <= number("p99_ns"));
    assert!(number("p99_ns") <= number("p999_ns"));
    assert_eq!(number("bad_values"), 0.0, "{results}");
    let sum = number("hits") + number("misses") + number("puts") + number("contended");
    assert_eq!(number("ops"), sum, "{results}");
    results
}

#[test]
fn works_over_several_processes() {
    let _quiet = quiet();
    for store in Store::each() {
        let results = bench(&store, &["--processes", "2", "--seconds", "1"]);
        assert_eq!(results["hits"], results["ops"]);
        assert_eq!(results["processes"], 2);
        assert!(results["seconds"].as_f64().is_some_and(|s| (0.9..5.0).contains(&s)), "{results}");
        // The keys stay.
        store.kv(["exists", "bench:00000000000000", "bench:00000000001999"]).exits(0);
        assert_eq!(store.kv(["get", "bench:00000000000000"]).exits(0).stdout.len(), 100);

        let results = bench(&store, &["--work", "multi-get", "--batch", "32"]);
        assert_eq!(results["hits"], results["ops"]);
        let results = bench(&store, &["--work", "miss"]);
        assert_eq!(results["misses"], results["ops"]);
        let results = bench(&store, &["--work", "put", "--processes", "2"]);
        assert_eq!(results["puts"], results["ops"]);
        let mixed = ["--work", "mixed", "--processes", "2", "--read-percent", "50"];
        let results = bench(&store, &[&mixed[..], &["--distribution", "zipf"]].concat());
        let share = results["hits"].as_f64().expect("hits") / results["ops"].as_f64().expect("ops");
        assert!((0.4..0.6).contains(&share), "{results}");
        store.is_clean();
    }
}

#[test]
fn read_only_needs_the_keys_and_finds_bad_values() {
    let _quiet = quiet();
    let store = Store::posix();
    let read_only = ["--read-only", "--keys", "50", "--seconds", "300ms"];
    let args = [&["bench"], &read_only[..]].concat();
    store.kv(args.clone()).fails(1, "bench:00000000000000");
    bench(&store, &["--keys", "50", "--value-bytes", "333"]);
    let results = bench(&store, &read_only);
    assert_eq!(results["value_bytes"], 333);
    assert_eq!(results["hits"], results["ops"]);
    let table = store.kv(args.clone()).exits(0);
    assert!(table.text().contains("p99.9"), "{}", table.text());

    store.kv(["put", "bench:00000000000007", &"x".repeat(333)]).exits(0);
    store.kv(args.clone()).fails(6, "not what was put");
    store.kv(["del", "bench:00000000000049"]).exits(0);
    store.kv(args).fails(1, "bench:00000000000049");
}

#[test]
fn a_store_too_small_for_the_keys_is_full() {
    let store = Store::posix();
    let args = ["bench", "--keys", "10000", "--value-bytes", "10000", "--seconds", "300ms"];
    store.kv(args).fails(5, "full");
    let args = ["bench", "--keys", "1", "--value-bytes", "1000000000", "--seconds", "300ms"];
    store.kv(args).fails(8, "limit");
    store.is_clean();
}

#[test]
fn puts_in_rounds_never_fill_a_store() {
    let _quiet = quiet();
    let store = Store::posix();
    for processes in ["1", "3"] {
        let args = ["--work", "put", "--keys", "20000", "--seconds", "1", "--processes", processes];
        let results = bench(&store, &args);
        // Many times what the store holds.
        assert!(results["puts"].as_u64().is_some_and(|puts| puts > 200_000), "{results}");
    }
    store.is_clean();
}

#[test]
fn a_store_filled_by_puts_at_random_has_room_again() {
    let _quiet = quiet();
    let store = Store::posix();
    let zipf = ["bench", "--work", "put", "--keys", "40000", "--distribution", "zipf"];
    let run = store.kv([&zipf[..], &["--format", "json"]].concat()).fails(5, "room again");
    let results = run.json();
    assert!(results["puts"].as_u64().is_some_and(|puts| puts > 10_000), "{results}");
    store.kv(["put", "k", "v"]).exits(0);
    let read = store.kv(["bench", "--read-only", "--keys", "40000", "--seconds", "300ms"]);
    read.exits(0);
    store.is_clean();
}
