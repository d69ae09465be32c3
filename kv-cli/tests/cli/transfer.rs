//! `load`, `dump` and `scan`: many entries in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::Store;

#[track_caller]
fn load(store: &Store, args: &[&str], input: &[u8]) -> Value {
    let args = [&["load", "--format", "json"], args].concat();
    store.kv_with(args, input).exits(0).json()
}

/// The lines of a dump by key, and their times to live apart.
#[track_caller]
fn dumped(store: &Store) -> (BTreeMap<String, Value>, BTreeMap<String, u64>) {
    let (mut entries, mut ttls) = (BTreeMap::new(), BTreeMap::new());
    for line in store.kv(["dump"]).exits(0).lines() {
        let mut entry: Value = serde_json::from_str(line).expect("JSON");
        let members = entry.as_object_mut().expect("an object");
        let ttl = members.remove("ttl_ms").and_then(|ttl| ttl.as_u64());
        let key = members.get("key").or(members.get("key_b64")).expect("a key").to_string();
        if let Some(ttl) = ttl {
            ttls.insert(key.clone(), ttl);
        }
        entries.insert(key, entry);
    }
    (entries, ttls)
}

#[test]
fn json_that_is_no_string_is_stored_as_its_text() {
    let store = Store::posix();
    let values = ["5", "-1.50e3", "true", "null", "[1, 2]", r#"{"b":1, "a":"x"}"#];
    let lines: String =
        values.iter().map(|text| format!("{{\"key\":{text:?},\"value\":{text}}}\n")).collect();
    assert_eq!(load(&store, &[], lines.as_bytes())["stored"], 6);
    for text in values {
        assert_eq!(store.kv(["get", "--", text]).exits(0).stdout, text.as_bytes());
        assert_eq!(dumped(&store).0[&format!("{text:?}")]["value"], text);
    }
    assert_eq!(store.kv(["incr", "5"]).exits(0).text(), "6\n");
    assert!(
        store
            .kv(["load", "--help"])
            .exits(0)
            .text()
            .contains("stored as the text that stands there")
    );
}

#[test]
fn a_dump_loaded_elsewhere_is_the_same_store() {
    let (first, second) = (Store::posix(), Store::file());
    let mut lines = String::new();
    for number in 0..2000 {
        lines += &format!("{{\"key\":\"text-{number}\",\"value\":\"wert ü {number}\\n\"}}\n");
    }
    lines += "{\"key_b64\":\"/wD+\",\"value_b64\":\"AP8KDQ==\"}\n";
    lines += "{\"key\":\"short\",\"value\":\"v\",\"ttl_ms\":3600000}\n";
    lines += "{\"key\":\"\",\"value\":\"\"}\n";
    lines += "{\"key\":\"json\",\"value\":{\"a\": [1, 2.50]}}\n";
    let summary = load(&first, &[], lines.as_bytes());
    assert_eq!(summary["stored"], 2004, "{summary}");
    first.kv(["incr", "counter", "77"]).exits(0);
    first.kv(["put", "gone", "x"]).exits(0);
    first.kv(["del", "gone"]).exits(0);
    assert_eq!(first.kv(["get", "json"]).exits(0).stdout, b"{\"a\": [1, 2.50]}");

    let dump = first.kv(["dump"]).exits(0).stdout;
    assert_eq!(load(&second, &["-"], &dump)["stored"], 2005);
    let ((before, ttl_before), (after, ttl_after)) = (dumped(&first), dumped(&second));
    assert_eq!(before.len(), 2005);
    assert_eq!(before, after);
    assert_eq!(ttl_before.len(), 1);
    let (left, right) = (ttl_before["\"short\""], ttl_after["\"short\""]);
    assert!(left.abs_diff(right) < 60_000 && right <= 3_600_000, "{left} {right}");
    assert_eq!(second.kv(["incr", "counter"]).exits(0).text(), "78\n");
    // Loaded again it replaces.
    assert_eq!(load(&second, &[], &dump)["replaced"], 2005);
    second.is_clean();
}

#[test]
fn refused_lines_are_named_and_the_others_stored() {
    let store = Store::posix();
    let long_key = "k".repeat(65_536);
    let input = format!(
        "{{\"key\":\"a\",\"value\":\"1\"}}\n\nnot json\n{{\"key\":\"b\"}}\n\
         {{\"key\":\"{long_key}\",\"value\":\"\"}}\n{{\"key\":\"c\",\"value\":\"3\"}}\n\
         {{\"key\":\"d\",\"value\":\"4\",\"ttl_ms\":0}}\n"
    );
    let run = store
        .kv_with(["load", "--format", "json"], input.as_bytes())
        .fails(8, "4 lines were refused, the other 2 stored");
    let summary = run.json();
    assert_eq!((&summary["stored"], &summary["refused"]), (&2.into(), &4.into()));
    let reasons = summary["reasons"].as_array().expect("reasons");
    let lines: BTreeSet<u64> =
        reasons.iter().filter_map(|reason| reason["lines"][0].as_u64()).collect();
    assert_eq!(lines, BTreeSet::from([3, 4, 5, 7]), "{summary}");
    assert_eq!(store.kv(["scan"]).exits(0).lines().len(), 2);

    let run = store.kv_with(["load"], input.as_bytes()).exits(8);
    assert!(run.text().contains("0 stored, 2 replaced, 4 refused"), "{}", run.text());
    let strict = Store::posix();
    strict.kv_with(["load", "--strict"], input.as_bytes()).fails(8, "line 3");
    assert_eq!(strict.kv(["scan"]).exits(0).text(), "a\n");
}

#[test]
fn a_line_longer_than_any_legal_one_is_refused() {
    let store = Store::posix();
    let mut input = b"{\"key\":\"a\",\"value\":\"".to_vec();
    input.resize(3 << 20, b'x');
    input.extend_from_slice(b"\"}\n{\"key\":\"b\",\"value\":\"2\"}\n");
    let run = store.kv_with(["load", "--max-line", "1MiB", "--format", "json"], &input).exits(8);
    let summary = run.json();
    assert_eq!(summary["reasons"][0]["lines"][0], 1, "{summary}");
    assert_eq!(store.kv(["scan"]).exits(0).text(), "b\n");
}

#[test]
fn tables_of_values() {
    let store = Store::posix();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("words.csv");
    std::fs::write(&file, "id,key,value,ttl_ms\n1,a,\"x, \"\"y\"\"\nz\",\n2,b,w,60000\n")
        .expect("writes");
    let path = file.to_str().expect("text");
    assert_eq!(load(&store, &[path], b"")["stored"], 2);
    assert_eq!(store.kv(["get", "a"]).exits(0).stdout, b"x, \"y\"\nz");
    assert_eq!(store.kv(["ttl", "a"]).exits(0).text(), "never\n");
    assert_ne!(store.kv(["ttl", "b"]).exits(0).text(), "never\n");

    let tsv = ["--input-format", "tsv", "--no-header"];
    assert_eq!(load(&store, &tsv, b"c\t\"half\nd\tfull\n")["stored"], 2);
    assert_eq!(store.kv(["get", "c"]).exits(0).stdout, b"\"half");
    let named = ["--input-format", "csv", "--key-column", "w", "--value-column", "m"];
    assert_eq!(load(&store, &named, b"w,m\ne,5\n")["stored"], 1);
    let args = ["load", "--input-format", "csv"];
    store.kv_with(args, b"w,m\ne,5\n").fails(2, "--key-column");
    store.kv(["load", "/nonexistent.jsonl"]).fails(9, "/nonexistent.jsonl");
}

#[test]
fn quotes_in_the_wrong_place_are_refused_with_their_line() {
    let csv = ["load", "--input-format", "csv", "--format", "json"];
    let store = Store::posix();
    let input = b"key,value\na,1\nb,\"2\nc,3\nd,4\n";
    let run = store.kv_with(csv, input).fails(8, "1 line was refused, the other 1 stored");
    let reason = &run.json()["reasons"][0];
    assert_eq!(
        (&reason["reason"], &reason["lines"][0]),
        (&"a quote is not closed".into(), &3.into())
    );
    assert_eq!(store.kv(["scan"]).exits(0).text(), "a\n", "what stood before it is stored");

    let store = Store::posix();
    let input = b"key,value\r\na,\"x\r\n\"\"y\"\"\"\r\nra,\"x\"y\r\nb, \"1, 2\"\r\nc,3\r\n";
    let run = store.kv_with(csv, input).fails(8, "2 lines were refused, the other 2 stored");
    let summary = run.json();
    let lines: BTreeSet<u64> = summary["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .filter_map(|reason| reason["lines"][0].as_u64())
        .collect();
    assert_eq!(lines, BTreeSet::from([4, 5]), "{summary}");
    assert_eq!(store.kv(["get", "a"]).exits(0).stdout, b"x\r\n\"y\"");
    assert_eq!(store.kv(["get", "c"]).exits(0).stdout, b"3");
    store.kv(["exists", "ra"]).exits(1);
    let strict = [&csv[..], &["--strict"]].concat();
    store.kv_with(strict, b"key,value\nra,\"x\"y\n").fails(8, "line 2 was refused: text follows");
}

#[test]
fn a_header_with_one_name_twice_is_refused() {
    let store = Store::posix();
    let args = ["load", "--input-format", "csv"];
    store.kv_with(args, b"key,value,value\na,1,2\n").fails(8, "line 1, the header: two columns");
    store.kv_with(args, b"key,\"value\n").fails(8, "not closed");
    assert_eq!(store.kv(["scan"]).exits(0).text(), "");
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    for store in Store::each() {
        let value = "v".repeat(100_000);
        let mut input = String::new();
        for number in 0..400 {
            input += &format!("{{\"key\":\"k{number}\",\"value\":\"{value}\"}}\n");
        }
        let run = store.kv_with(["load", "--format", "json"], input.as_bytes()).exits(5);
        let stored = run.json()["stored"].as_u64().expect("a number");
        assert!((50..400).contains(&stored), "{stored}");
        assert!(run.stderr.contains(&format!("line {}", stored + 1)), "{}", run.stderr);
        assert_eq!(store.kv(["scan"]).exits(0).lines().len() as u64, stored);
        store.kv_with(["put", "one-more", "-"], &vec![b'x'; 1 << 20]).fails(5, "full");
        store.kv(["exists", "one-more"]).exits(1);
        assert_eq!(store.kv(["get", "k0"]).exits(0).stdout, value.as_bytes());
        store.is_clean();
        // What is deleted makes room.
        let keys: String = (0..stored).map(|number| format!("k{number}\n")).collect();
        store.kv_with(["del", "-"], keys.as_bytes()).exits(0);
        store.kv_with(["put", "one-more", "-"], &vec![b'x'; 1 << 20]).exits(0);
    }
}

/// A store with 20,000 short keys in two families.
fn populated() -> Store {
    let store = Store::posix();
    let line = |number: u32| {
        let family = if number.is_multiple_of(2) { "even" } else { "odd" };
        format!("{{\"key\":\"{family}:{number}\",\"value\":\"{number}\"}}\n")
    };
    let input: String = (0..20_000).map(line).collect();
    assert_eq!(load(&store, &[], input.as_bytes())["stored"], 20_000);
    store
}

#[test]
fn scan_shows_every_key_by_prefix_limit_and_cursor() {
    let store = populated();
    let all = store.kv(["scan"]).exits(0);
    let all: BTreeSet<&str> = all.text().lines().collect();
    assert_eq!(all.len(), 20_000);
    let even = store.kv(["scan", "--prefix", "even:"]).exits(0);
    assert_eq!(even.lines().len(), 10_000);
    assert!(even.lines().iter().all(|key| key.starts_with("even:")));
    assert_eq!(store.kv(["scan", "--limit", "10"]).exits(0).lines().len(), 10);
    assert_eq!(store.kv(["scan", "--limit", "0"]).exits(0).lines().len(), 0);
    let pairs = store.kv(["scan", "--values", "--limit", "50"]).exits(0);
    for line in pairs.lines() {
        let (key, value) = line.split_once('\t').expect("two columns");
        assert!(key.ends_with(&format!(":{value}")), "{line}");
    }

    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let args = ["--format", "json", "scan", "--limit", "3000", "--cursor", &cursor];
        let page = store.kv(args).exits(0).json();
        let keys = page["keys"].as_array().expect("keys").clone();
        seen.extend(keys.iter().map(|key| key["key"].as_str().expect("text").to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 20_000);
    assert!((2..=8).contains(&pages), "{pages}");
    store.kv(["scan", "--cursor", "here"]).fails(2, "here");
}

#[test]
fn whoever_has_enough_may_close_the_pipe() {
    let store = populated();
    for args in [&["scan"][..], &["dump"], &["--format", "json", "scan", "--values"]] {
        let mut child = store
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut head = vec![0; 10];
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_exact(&mut head).expect("reads");
        assert!(!output.fill_buf().expect("reads").is_empty());
        drop(output);
        let status = child.wait().expect("ends");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("reads");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}
