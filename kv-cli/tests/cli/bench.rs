//! `bench`: real processes, verified values, numbers that fit together.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
fn puts_at_random_never_fill_a_store() {
    let _quiet = quiet();
    let store = Store::posix();
    let zipf = ["--work", "put", "--keys", "40000", "--distribution", "zipf", "--seconds", "1"];
    let results = bench(&store, &zipf);
    assert!(results["puts"].as_u64().is_some_and(|puts| puts > 100_000), "{results}");
    store.is_clean();
}

#[test]
fn killed_writers_take_no_memory_with_them() {
    let _quiet = quiet();
    let store = Store::unmade();
    store.kv(["create", "--size", "4MiB"]).exits(0);
    let work = ["bench", "--work", "put", "--keys", "5000", "--value-bytes", "100"];
    for round in 0..100 {
        let mut child = store
            .command([&work[..], &["--seconds", "50"]].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_millis(20 + round % 7));
        let group = Pid::from_raw(-(child.id() as i32));
        kill(group, Signal::SIGKILL).expect("the whole group");
        child.wait().expect("ends");
    }
    bench(&store, &[&work[1..], &["--seconds", "1"]].concat());
    store.is_clean();
}

#[test]
fn an_interrupted_bench_shows_what_it_measured() {
    let _quiet = quiet();
    // Ctrl-C reaches all processes of the terminal, `kill` the first alone.
    for whole_group in [false, true] {
        let store = Store::posix();
        let args =
            ["bench", "--work", "put", "--keys", "100", "--processes", "2", "--seconds", "50"];
        let child = store
            .command([&args[..], &["--format", "json"]].concat())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let parent = child.id();
        let until = Instant::now() + Duration::from_secs(20);
        let working = || {
            let info = store.kv(["--format", "json", "info"]).exits(0).json();
            let clients = info["clients"].as_array().expect("a list").clone();
            clients.iter().filter(|client| client["pid"] != parent).count() == 2
        };
        while !working() {
            assert!(Instant::now() < until, "the workers never came");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(500));
        let pid = parent.cast_signed();
        let signalled = Pid::from_raw(if whole_group { -pid } else { pid });
        kill(signalled, Signal::SIGINT).expect("sends");
        let output = child.wait_with_output().expect("ends");
        assert!(Instant::now() < until + Duration::from_secs(20), "it took its time");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted after"), "{said}");
        let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(results["interrupted"], true);
        assert!(results["puts"].as_u64().is_some_and(|puts| puts > 100), "{results}");
        assert!(results["seconds"].as_f64().is_some_and(|s| s > 0.1 && s < 30.0), "{results}");
        store.is_clean();
    }
}

#[test]
fn an_interrupted_fill_measured_nothing() {
    let store = Store::posix();
    let args = ["bench", "--keys", "4000000000", "--value-bytes", "16"];
    let child =
        store.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    while store.kv(["exists", "bench:00000000000000"]).code != Some(0) {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("sends");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // Full, if the store was faster than this test.
    assert!(matches!(output.status.code(), Some(130 | 5)), "{said}");
    assert!(said.contains("before anything was measured") || said.contains("full"), "{said}");
    assert!(output.stdout.is_empty());
}
